//! What was sent, document by document, and what stands there.

use rusqlite::{Connection, OptionalExtension as _, params};
use tapedeck_market::UnixNanos;

use super::{Figures, Letter, Number, Reached, State, way};
use crate::sync::source::Span;
use crate::sync::{Document, Id};

impl State {
    /// Of these documents, which say something else than what was confirmed (by place); with `newest`, none that is older than that.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn changed(&self, table: Number, documents: &[Document], newest: bool) -> anyhow::Result<Vec<usize>> {
        // One transaction: each statement of its own would lock the file anew.
        let _all = self.db.unchecked_transaction()?;
        let mut known =
            self.db.prepare_cached("SELECT digest, time_ns FROM sent WHERE tbl = ?1 AND id = ?2 AND NOT gone")?;
        let mut changed = Vec::new();
        for (at, document) in documents.iter().enumerate() {
            let known: Option<(i64, i64)> = known
                .query_row(params![table.0, document.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let stands = known.is_some_and(|(digest, time_ns)| {
                digest == document.digest().0 as i64 || newest && time_ns > document.time_ns
            });
            if !stands {
                changed.push(at);
            }
        }
        Ok(changed)
    }

    /// What is known of a document; `None`: it was never sent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn known(&self, table: Number, id: Id) -> anyhow::Result<Option<Known>> {
        let sql = "SELECT gone FROM sent WHERE tbl = ?1 AND id = ?2";
        let gone =
            self.db.prepare_cached(sql)?.query_row(params![table.0, id.as_str()], |row| row.get(0)).optional()?;
        Ok(gone.map(|gone: i64| match gone {
            0 => Known::Sent,
            1 => Known::Gone,
            _ => Known::Refused,
        }))
    }

    /// Notes what is about to be sent.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn take_off<'a>(
        &mut self,
        table: Number,
        documents: impl IntoIterator<Item = &'a Document>,
    ) -> anyhow::Result<()> {
        let change = self.db.transaction()?;
        {
            let mut put =
                change.prepare_cached("INSERT OR REPLACE INTO flying (tbl, id, digest) VALUES (?1, ?2, ?3)")?;
            for document in documents {
                put.execute(params![table.0, document.id.as_str(), document.digest().0 as i64])?;
            }
        }
        change.commit()?;
        Ok(())
    }

    /// Of these documents, which were sent as they are without an answer (by place): they may be there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn in_flight(&self, table: Number, documents: &[Document], of: &[usize]) -> anyhow::Result<Vec<usize>> {
        let _all = self.db.unchecked_transaction()?;
        let any = "SELECT EXISTS (SELECT 1 FROM flying WHERE tbl = ?1)";
        if !self.db.prepare_cached(any)?.query_row(params![table.0], |row| row.get(0))? {
            return Ok(Vec::new());
        }
        let mut noted = self.db.prepare_cached("SELECT digest FROM flying WHERE tbl = ?1 AND id = ?2")?;
        let mut found = Vec::new();
        for at in of {
            let Some(document) = documents.get(*at) else { continue };
            let digest: Option<i64> =
                noted.query_row(params![table.0, document.id.as_str()], |row| row.get(0)).optional()?;
            found.extend((digest == Some(document.digest().0 as i64)).then_some(*at));
        }
        Ok(found)
    }

    /// What the target has confirmed, what was refused, and the figures: all or nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn confirm<'a>(
        &mut self,
        table: Number,
        confirmed: impl IntoIterator<Item = &'a Document>,
        refused: &[Letter],
        figures: Figures,
        now: UnixNanos,
    ) -> anyhow::Result<()> {
        self.settle(table, confirmed, refused, figures, None, now)
    }

    /// The same, and how far the look is by that.
    ///
    /// # Errors
    /// As of [`State::confirm`].
    pub fn settle<'a>(
        &mut self,
        table: Number,
        confirmed: impl IntoIterator<Item = &'a Document>,
        refused: &[Letter],
        figures: Figures,
        at: Option<Reached>,
        now: UnixNanos,
    ) -> anyhow::Result<()> {
        let change = self.db.transaction()?;
        let mut newest = None;
        let mut counts = Counts::default();
        {
            let standing = Standing::new(&change, table)?;
            let mut put = change
                .prepare_cached("INSERT OR REPLACE INTO sent (tbl, id, time_ns, digest) VALUES (?1, ?2, ?3, ?4)")?;
            let mut alive = change.prepare_cached("DELETE FROM dead WHERE tbl = ?1 AND id = ?2")?;
            let mut landed = change.prepare_cached("DELETE FROM flying WHERE tbl = ?1 AND id = ?2")?;
            for document in confirmed {
                let id = document.id.as_str();
                counts.leave(standing.of(id)?);
                put.execute(params![table.0, id, document.time_ns, document.digest().0 as i64])?;
                landed.execute(params![table.0, id])?;
                counts.synced += 1;
                counts.failed -= alive.execute(params![table.0, id])? as i64;
                newest = newest.max(Some(document.time_ns));
            }
            let mut bury = change.prepare_cached(
                "INSERT OR REPLACE INTO dead (tbl, id, time_ns, key, rule, reason, document, at_ns)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            // What is at the target is not what the source says: a good version will be sent whatever it says.
            let mut stale = change.prepare_cached("UPDATE sent SET gone = 2 WHERE tbl = ?1 AND id = ?2")?;
            for letter in refused {
                let Letter { id, key, rule, reason, document, time_ns, at_ns } = letter;
                counts.leave(standing.of(id)?);
                counts.failed -= alive.execute(params![table.0, id])? as i64;
                bury.execute(params![table.0, id, time_ns, key, rule, reason, document, at_ns])?;
                counts.failed += 1;
                stale.execute(params![table.0, id])?;
                landed.execute(params![table.0, id])?;
            }
        }
        let wrote = figures.sent > 0 || figures.removed > 0;
        change.execute(
            "UPDATE tables SET seen = seen + ?2, sent = sent + ?3, unchanged = unchanged + ?4, removed = removed + ?5,
                 busy_ms = busy_ms + ?6, newest_ns = max(coalesce(newest_ns, ?7), coalesce(?7, newest_ns)),
                 last_ns = CASE WHEN ?8 THEN ?9 ELSE last_ns END,
                 synced = synced + ?10, failed = failed + ?11, gone = gone + ?12, doubled = doubled + ?13
             WHERE number = ?1",
            params![
                table.0,
                figures.seen as i64,
                figures.sent as i64,
                figures.unchanged as i64,
                figures.removed as i64,
                figures.busy_ms as i64,
                newest,
                wrote,
                now.0,
                counts.synced,
                counts.failed,
                counts.gone,
                figures.doubled as i64
            ],
        )?;
        if let Some(at) = at {
            way::reach(&change, table, at)?;
        }
        change.commit()?;
        Ok(())
    }

    /// What lies in a stretch, behind `after`, in order of time and id, at most so many. What has no time lies in none, but for that
    /// from 0 to 1, where it is alone.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn within(&self, table: Number, span: Span, after: Option<&Lies>, most: u32) -> anyhow::Result<Vec<Lies>> {
        let mut known = self.db.prepare_cached(
            "SELECT id, time_ns, 0 FROM sent
                 WHERE tbl = ?1 AND NOT gone AND (time_ns, id) > (?2, ?3) AND time_ns < ?4 AND (time_ns = 0) = ?5
             UNION ALL SELECT id, time_ns, 1 FROM dead
                 WHERE tbl = ?1 AND (time_ns, id) > (?2, ?3) AND time_ns < ?4 AND (time_ns = 0) = ?5
             ORDER BY 2, 1 LIMIT ?6",
        )?;
        let timeless = span == TIMELESS;
        let (from_ns, id) =
            after.map_or((span.from_ns.unwrap_or(i64::MIN), ""), |last| (last.time_ns, last.id.as_str()));
        let bounds = params![table.0, from_ns, id, span.to_ns.unwrap_or(i64::MAX), timeless, most];
        let rows = known.query_map(bounds, |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
        let mut found = Vec::new();
        for row in rows {
            let (id, time_ns, dead) = row?;
            found.extend(Id::parse(&id).map(|id| Lies { id, time_ns, dead }));
        }
        Ok(found)
    }

    /// Forgets documents that were taken away at the target.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget<'a>(&mut self, table: Number, ids: impl IntoIterator<Item = &'a Id>) -> anyhow::Result<()> {
        let change = self.db.transaction()?;
        let mut counts = Counts::default();
        {
            let standing = Standing::new(&change, table)?;
            let mut sent = change.prepare_cached("DELETE FROM sent WHERE tbl = ?1 AND id = ?2")?;
            let mut dead = change.prepare_cached("DELETE FROM dead WHERE tbl = ?1 AND id = ?2")?;
            for id in ids {
                counts.leave(standing.of(id.as_str())?);
                sent.execute(params![table.0, id.as_str()])?;
                counts.failed -= dead.execute(params![table.0, id.as_str()])? as i64;
            }
        }
        counts.add(&change, table)?;
        change.commit()?;
        Ok(())
    }

    /// Notes that these are no more at the source: documents are at the target still, dead letters are forgotten.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_gone<'a>(&mut self, table: Number, ids: impl IntoIterator<Item = &'a Id>) -> anyhow::Result<()> {
        let change = self.db.transaction()?;
        let mut counts = Counts::default();
        {
            let standing = Standing::new(&change, table)?;
            let mut gone = change.prepare_cached("UPDATE sent SET gone = 1 WHERE tbl = ?1 AND id = ?2")?;
            let mut dead = change.prepare_cached("DELETE FROM dead WHERE tbl = ?1 AND id = ?2")?;
            for id in ids {
                counts.leave(standing.of(id.as_str())?);
                counts.gone += gone.execute(params![table.0, id.as_str()])? as i64;
                counts.failed -= dead.execute(params![table.0, id.as_str()])? as i64;
            }
        }
        counts.add(&change, table)?;
        change.commit()?;
        Ok(())
    }

    /// Documents that are gone at the source, or older than a time: ids, at most so many, without the first `but`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn surplus(
        &self,
        table: Number,
        before_ns: Option<i64>,
        gone: bool,
        (most, but): (u32, u64),
    ) -> anyhow::Result<Vec<Id>> {
        let mut found = self.db.prepare_cached(
            "SELECT id FROM sent WHERE tbl = ?1 AND ((?2 AND gone = 1) OR (time_ns <> 0 AND time_ns < ?3)) ORDER BY id LIMIT ?4 OFFSET ?5",
        )?;
        let asked = params![table.0, gone, before_ns.unwrap_or(i64::MIN), most, but as i64];
        let rows = found.query_map(asked, |row| row.get::<_, String>(0))?;
        let mut ids = Vec::new();
        for row in rows {
            ids.extend(Id::parse(&row?));
        }
        Ok(ids)
    }

    /// Whether anything was ever sent or refused of a table.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn knows_any(&self, table: Number) -> anyhow::Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sent WHERE tbl = ?1) OR EXISTS (SELECT 1 FROM dead WHERE tbl = ?1)";
        Ok(self.db.query_row(sql, [table.0], |row| row.get(0))?)
    }

    /// The counts as the rows have them, for tests of those that are kept.
    #[cfg(test)]
    pub(in crate::sync) fn counted(&self) -> (i64, i64, i64) {
        let one = |sql| self.db.query_row(sql, [], |row| row.get(0)).expect("counted");
        (
            one("SELECT count(*) FROM sent WHERE gone = 0"),
            one("SELECT count(*) FROM dead"),
            one("SELECT count(*) FROM sent WHERE gone = 1"),
        )
    }
}

/// The stretch of what has no time.
pub const TIMELESS: Span = Span { from_ns: Some(0), to_ns: Some(1) };

/// A document, or a dead letter, and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lies {
    pub id: Id,
    pub time_ns: i64,
    pub dead: bool,
}

/// What is known of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Sent,
    /// The source has it no more.
    Gone,
    /// The source has a version that was refused.
    Refused,
}

/// How the counts of a table change: kept beside it, because counting millions of rows takes a second.
#[derive(Debug, Default)]
struct Counts {
    synced: i64,
    failed: i64,
    gone: i64,
}

impl Counts {
    /// A document is no more what it was.
    fn leave(&mut self, was: Option<i64>) {
        match was {
            Some(0) => self.synced -= 1,
            Some(1) => self.gone -= 1,
            _ => {}
        }
    }

    fn add(&self, change: &Connection, table: Number) -> rusqlite::Result<()> {
        let Counts { synced, failed, gone } = self;
        change.execute(
            "UPDATE tables SET synced = synced + ?2, failed = failed + ?3, gone = gone + ?4 WHERE number = ?1",
            params![table.0, synced, failed, gone],
        )?;
        Ok(())
    }
}

/// What is known of documents at the target.
struct Standing<'a> {
    table: Number,
    known: std::cell::RefCell<rusqlite::CachedStatement<'a>>,
}

impl<'a> Standing<'a> {
    fn new(change: &'a Connection, table: Number) -> rusqlite::Result<Self> {
        let known = change.prepare_cached("SELECT gone FROM sent WHERE tbl = ?1 AND id = ?2")?;
        Ok(Standing { table, known: std::cell::RefCell::new(known) })
    }

    /// As in the file; `None`: it is not there.
    fn of(&self, id: &str) -> rusqlite::Result<Option<i64>> {
        self.known.borrow_mut().query_row(params![self.table.0, id], |row| row.get(0)).optional()
    }
}
