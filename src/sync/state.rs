//! What is remembered between two runs: marks, what was sent, dead letters, figures. One SQLite file under one lock.
//!
//! A document that was confirmed has its digest here, so that it is sent again only when it says something else. The mark of
//! a table is written after all that lies before it, in the same file: a crash in between costs reading again, nothing more.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use tapedeck_market::UnixNanos;

use super::source::{Mark, Span};
use super::{Digest, Document, Id};

/// Name of the file in the folder.
const FILE: &str = "state.db";
const LOCK: &str = "lock";
/// Layout of the file.
const VERSION: i64 = 1;
/// What SQLite may hold of it in memory, KiB.
const CACHE_KIB: i64 = 8 << 10;

const LAYOUT: &str = "
CREATE TABLE tables (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, mark TEXT, shape INTEGER,
    seen INTEGER NOT NULL DEFAULT 0, sent INTEGER NOT NULL DEFAULT 0, unchanged INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0, synced INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0, rehearsed INTEGER, busy_ms INTEGER NOT NULL DEFAULT 0,
    newest_ns INTEGER, last_ns INTEGER, looked_ns INTEGER, trouble TEXT
);
CREATE TABLE sent (
    tbl INTEGER NOT NULL, id TEXT NOT NULL, time_ns INTEGER NOT NULL, digest INTEGER NOT NULL,
    -- 1: the source has it no more; 2: the source has what was refused.
    gone INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (tbl, id)
) WITHOUT ROWID;
CREATE INDEX sent_by_time ON sent (tbl, time_ns, id);
CREATE TABLE dead (
    tbl INTEGER NOT NULL, id TEXT NOT NULL, time_ns INTEGER NOT NULL, key TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL,
    document TEXT, at_ns INTEGER NOT NULL, PRIMARY KEY (tbl, id)
) WITHOUT ROWID;
CREATE INDEX dead_by_time ON dead (tbl, time_ns, id);
";

/// The file, ours alone while it is open for writing.
#[derive(Debug)]
pub struct State {
    db: Connection,
    /// Held as long as we live; `None` when only read.
    _lock: Option<File>,
}

/// Another process has the folder.
#[derive(Debug, thiserror::Error)]
#[error("another sync works in {}", .0.display())]
pub struct Taken(pub PathBuf);

/// A table in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(i64);

/// A row or document that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Letter {
    pub id: String,
    /// As people know the row.
    pub key: String,
    /// What it breaks, in words that many rows share.
    pub rule: String,
    /// With the values, or in the target's words.
    pub reason: String,
    /// What was to be written, where it came so far.
    pub document: Option<String>,
    pub time_ns: i64,
    pub at_ns: i64,
}

/// What became of rows since the last time this was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub seen: u64,
    pub sent: u64,
    pub unchanged: u64,
    pub removed: u64,
    pub busy_ms: u64,
}

/// A table as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct TableState {
    pub name: String,
    pub collection: String,
    pub mark: Option<Mark>,
    /// Documents that are at the target as the source has them.
    pub synced: u64,
    /// Dead letters.
    pub failed: u64,
    /// Documents at the target that the source has no more.
    pub gone: u64,
    pub total: Figures,
    pub newest: Option<UnixNanos>,
    pub last: Option<UnixNanos>,
    pub looked: Option<UnixNanos>,
    pub trouble: Option<String>,
}

impl State {
    /// Opens the folder for writing; makes it where it is not there yet.
    ///
    /// # Errors
    /// [`Taken`], or the folder cannot be used; nothing is ever taken from a file that is not ours.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let lock = File::create(dir.join(LOCK)).with_context(|| format!("making {}", dir.join(LOCK).display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(Taken(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(error).context("locking the folder of the sync"),
        }
        let path = dir.join(FILE);
        let db = Connection::open(&path).with_context(|| format!("opening {}", path.display()))?;
        // FULL: what is marked as done stays so over a power cut.
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            0 => db.execute_batch(&format!("BEGIN; {LAYOUT} PRAGMA user_version = {VERSION}; COMMIT;"))?,
            VERSION => {}
            other => bail!(
                "{} is of layout {other}, this version knows {VERSION}: it was written by a newer one",
                path.display()
            ),
        }
        db.set_prepared_statement_cache_capacity(32);
        Ok(State { db, _lock: Some(lock) })
    }

    /// Opens it for reading only, also while another process writes; `None` where there is nothing yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).with_context(|| format!("opening {}", path.display()))?;
        Ok(Some(State { db, _lock: None }))
    }

    /// Whether a process works in the folder now.
    #[must_use]
    pub fn is_taken(dir: &Path) -> bool {
        let Ok(lock) = File::open(dir.join(LOCK)) else { return false };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The table's place, made where it is new. Another collection than last time begins anew: nothing of it was sent there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn table(&mut self, name: &str, collection: &str) -> anyhow::Result<Number> {
        let known: Option<(i64, String)> = self
            .db
            .query_row("SELECT number, collection FROM tables WHERE name = ?1", [name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        match known {
            Some((number, known)) if known == collection => Ok(Number(number)),
            Some((number, _)) => {
                let change = self.db.transaction()?;
                for emptied in [
                    "DELETE FROM sent WHERE tbl = ?1",
                    "DELETE FROM dead WHERE tbl = ?1",
                    "DELETE FROM tables WHERE number = ?1",
                ] {
                    change.execute(emptied, [number])?;
                }
                change.commit()?;
                self.table(name, collection)
            }
            None => {
                self.db.execute("INSERT INTO tables (name, collection) VALUES (?1, ?2)", [name, collection])?;
                Ok(Number(self.db.last_insert_rowid()))
            }
        }
    }

    /// The mark of a table, and the shape of the mapping under which it was made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn mark(&self, table: Number) -> anyhow::Result<(Option<Mark>, Option<Digest>)> {
        let (mark, shape): (Option<String>, Option<i64>) =
            self.db.query_row("SELECT mark, shape FROM tables WHERE number = ?1", [table.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let mark = mark.map(|text| serde_json::from_str(&text)).transpose().context("a mark")?;
        Ok((mark, shape.map(|shape| Digest(shape as u64))))
    }

    /// Moves the mark: everything before it is at the target, or among the dead letters.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_mark(&mut self, table: Number, mark: &Mark, shape: Digest) -> anyhow::Result<()> {
        let text = serde_json::to_string(mark)?;
        self.db.execute(
            "UPDATE tables SET mark = ?2, shape = ?3, trouble = NULL WHERE number = ?1",
            params![table.0, text, shape.0 as i64],
        )?;
        Ok(())
    }

    /// Forgets the mark, so that the next look reads everything.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget_mark(&mut self, table: Number) -> anyhow::Result<()> {
        self.db.execute("UPDATE tables SET mark = NULL WHERE number = ?1", [table.0])?;
        Ok(())
    }

    /// Of these documents, which say something else than what was confirmed (by place).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn changed(&self, table: Number, documents: &[Document]) -> anyhow::Result<Vec<usize>> {
        let mut known = self.db.prepare_cached("SELECT digest FROM sent WHERE tbl = ?1 AND id = ?2 AND NOT gone")?;
        let mut changed = Vec::new();
        for (at, document) in documents.iter().enumerate() {
            let digest: Option<i64> =
                known.query_row(params![table.0, document.id.as_str()], |row| row.get(0)).optional()?;
            if digest != Some(document.digest().0 as i64) {
                changed.push(at);
            }
        }
        Ok(changed)
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
        let change = self.db.transaction()?;
        let mut newest = None;
        let mut counts = Counts::default();
        {
            let standing = Standing::new(&change, table)?;
            let mut put = change
                .prepare_cached("INSERT OR REPLACE INTO sent (tbl, id, time_ns, digest) VALUES (?1, ?2, ?3, ?4)")?;
            let mut alive = change.prepare_cached("DELETE FROM dead WHERE tbl = ?1 AND id = ?2")?;
            for document in confirmed {
                let id = document.id.as_str();
                counts.leave(standing.of(id)?);
                put.execute(params![table.0, id, document.time_ns, document.digest().0 as i64])?;
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
            }
        }
        let wrote = figures.sent > 0 || figures.removed > 0;
        change.execute(
            "UPDATE tables SET seen = seen + ?2, sent = sent + ?3, unchanged = unchanged + ?4, removed = removed + ?5,
                 busy_ms = busy_ms + ?6, newest_ns = max(coalesce(newest_ns, ?7), coalesce(?7, newest_ns)),
                 last_ns = CASE WHEN ?8 THEN ?9 ELSE last_ns END,
                 synced = synced + ?10, failed = failed + ?11, gone = gone + ?12
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
                counts.gone
            ],
        )?;
        change.commit()?;
        Ok(())
    }

    /// What lies in a stretch, from one id on, in order of time and id: id, time, and whether it is a dead letter.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn within(&self, table: Number, span: Span) -> anyhow::Result<Vec<(Id, bool)>> {
        let mut known = self.db.prepare_cached(
            "SELECT id, 0 FROM sent WHERE tbl = ?1 AND NOT gone AND time_ns >= ?2 AND time_ns < ?3
             UNION ALL SELECT id, 1 FROM dead WHERE tbl = ?1 AND time_ns >= ?2 AND time_ns < ?3",
        )?;
        let bounds = params![table.0, span.from_ns.unwrap_or(i64::MIN), span.to_ns.unwrap_or(i64::MAX)];
        let rows = known.query_map(bounds, |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
        let mut found = Vec::new();
        for row in rows {
            let (id, dead) = row?;
            found.extend(Id::parse(&id).map(|id| (id, dead)));
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

    /// Documents that are gone at the source, or older than a time: ids, at most so many.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn surplus(&self, table: Number, before_ns: Option<i64>, gone: bool, most: u32) -> anyhow::Result<Vec<Id>> {
        let mut found = self.db.prepare_cached(
            "SELECT id FROM sent WHERE tbl = ?1 AND ((?2 AND gone = 1) OR (time_ns <> 0 AND time_ns < ?3)) LIMIT ?4",
        )?;
        let rows = found
            .query_map(params![table.0, gone, before_ns.unwrap_or(i64::MIN), most], |row| row.get::<_, String>(0))?;
        let mut ids = Vec::new();
        for row in rows {
            ids.extend(Id::parse(&row?));
        }
        Ok(ids)
    }

    /// How many documents a mirror would take away when somebody last looked; `None`: nobody has.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rehearsed(&self, table: Number) -> anyhow::Result<Option<u64>> {
        let seen: Option<i64> =
            self.db.query_row("SELECT rehearsed FROM tables WHERE number = ?1", [table.0], |row| row.get(0))?;
        Ok(seen.map(i64::unsigned_abs))
    }

    /// Notes how many somebody has seen, or that it begins anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_rehearsed(&mut self, table: Number, seen: Option<u64>) -> anyhow::Result<()> {
        let seen = seen.map(|seen| i64::try_from(seen).unwrap_or(i64::MAX));
        self.db.execute("UPDATE tables SET rehearsed = ?2 WHERE number = ?1", params![table.0, seen])?;
        Ok(())
    }

    /// How many documents are at the target as the source has them, and how many the source has no more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn standing(&self, table: Number) -> anyhow::Result<(u64, u64)> {
        let counts = self.db.query_row("SELECT synced, gone FROM tables WHERE number = ?1", [table.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
        Ok((counts.0.unsigned_abs(), counts.1.unsigned_abs()))
    }

    /// The last look at a table, and what went wrong with it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn looked(&mut self, table: Number, at: UnixNanos, trouble: Option<&str>) -> anyhow::Result<()> {
        self.db.execute(
            "UPDATE tables SET looked_ns = ?2, trouble = ?3 WHERE number = ?1",
            params![table.0, at.0, trouble],
        )?;
        Ok(())
    }

    /// All tables, in the order in which they came.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tables(&self) -> anyhow::Result<Vec<TableState>> {
        let mut all = self.db.prepare_cached(
            "SELECT name, collection, mark, seen, sent, unchanged, removed, gone, busy_ms, newest_ns, last_ns, looked_ns, trouble,
                 synced, failed
             FROM tables ORDER BY number",
        )?;
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let rows = all.query_map([], |row| {
            let mark: Option<String> = row.get(2)?;
            Ok(TableState {
                name: row.get(0)?,
                collection: row.get(1)?,
                mark: mark.and_then(|text| serde_json::from_str(&text).ok()),
                total: Figures {
                    seen: count(row.get(3)?),
                    sent: count(row.get(4)?),
                    unchanged: count(row.get(5)?),
                    removed: count(row.get(6)?),
                    busy_ms: count(row.get(8)?),
                },
                gone: count(row.get(7)?),
                newest: row.get::<_, Option<i64>>(9)?.map(UnixNanos),
                last: row.get::<_, Option<i64>>(10)?.map(UnixNanos),
                looked: row.get::<_, Option<i64>>(11)?.map(UnixNanos),
                trouble: row.get(12)?,
                synced: count(row.get(13)?),
                failed: count(row.get(14)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The counts as the rows have them, for tests of those that are kept.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (i64, i64, i64) {
        let one = |sql| self.db.query_row(sql, [], |row| row.get(0)).expect("counted");
        (
            one("SELECT count(*) FROM sent WHERE gone = 0"),
            one("SELECT count(*) FROM dead"),
            one("SELECT count(*) FROM sent WHERE gone = 1"),
        )
    }

    /// Dead letters of a table, in order of time, at most so many.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn letters(&self, table: &str, most: u32) -> anyhow::Result<Vec<Letter>> {
        let mut all = self.db.prepare_cached(
            "SELECT id, key, rule, reason, document, time_ns, at_ns FROM dead
             WHERE tbl = (SELECT number FROM tables WHERE name = ?1) ORDER BY time_ns, id LIMIT ?2",
        )?;
        let rows = all.query_map(params![table, most], |row| {
            Ok(Letter {
                id: row.get(0)?,
                key: row.get(1)?,
                rule: row.get(2)?,
                reason: row.get(3)?,
                document: row.get(4)?,
                time_ns: row.get(5)?,
                at_ns: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Dead letters of a table by rule, most first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reasons(&self, table: &str) -> anyhow::Result<Vec<(String, u64)>> {
        let mut all = self.db.prepare_cached(
            "SELECT rule, count(*) FROM dead WHERE tbl = (SELECT number FROM tables WHERE name = ?1)
             GROUP BY rule ORDER BY 2 DESC, 1",
        )?;
        let rows = all.query_map([table], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixNanos = UnixNanos(1_767_312_000_000_000_000);

    fn document(key: &str, price: f64, time_ns: i64) -> Document {
        let serde_json::Value::Object(body) = json!({"key": key, "price": price}) else { unreachable!() };
        Document { id: Id::of([key]), body, time_ns }
    }

    fn letter(key: &str) -> Letter {
        Letter {
            id: Id::of([key]).to_string(),
            key: key.into(),
            rule: "price is below 0".into(),
            reason: "price is below 0: -1".into(),
            document: None,
            time_ns: 7,
            at_ns: NOW.0,
        }
    }

    #[test]
    fn what_was_confirmed_is_not_changed_until_it_says_something_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::open(folder.path()).expect("opened");
        let table = state.table("t", "c").expect("made");
        let documents = [document("a", 1.0, 1), document("b", 2.0, 2)];
        assert_eq!(state.changed(table, &documents).expect("asked"), [0, 1]);
        let figures = Figures { seen: 2, sent: 2, ..Figures::default() };
        state.confirm(table, &documents, &[], figures, NOW).expect("kept");
        drop(state);
        let state = State::open(folder.path()).expect("opened again");
        let again = [document("a", 1.0, 1), document("b", 2.5, 2)];
        assert_eq!(state.changed(table, &again).expect("asked"), [1]);
        let shown = &state.tables().expect("asked")[0];
        assert_eq!((shown.synced, shown.failed, shown.newest, shown.total.sent), (2, 0, Some(UnixNanos(2)), 2));
    }

    #[test]
    fn what_is_refused_is_a_dead_letter_until_a_good_version_is_confirmed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::open(folder.path()).expect("opened");
        let table = state.table("t", "c").expect("made");
        let good = document("a", 1.0, 7);
        state.confirm(table, [&good], &[], Figures::default(), NOW).expect("kept");
        state.confirm(table, [], &[letter("a"), letter("b")], Figures::default(), NOW).expect("kept");
        assert_eq!(
            state.changed(table, std::slice::from_ref(&good)).expect("asked"),
            [0],
            "the target has an old version"
        );
        assert_eq!(state.reasons("t").expect("asked"), [("price is below 0".to_owned(), 2)]);
        state.confirm(table, [&good], &[], Figures::default(), NOW).expect("kept");
        assert_eq!(state.letters("t", 10).expect("asked"), [letter("b")]);
        let span = Span { from_ns: Some(7), to_ns: Some(8) };
        assert_eq!(state.within(table, span).expect("asked"), [(good.id, false), (Id::of(["b"]), true)]);
        state.set_gone(table, &[good.id]).expect("noted");
        assert_eq!(state.surplus(table, None, true, 9).expect("asked"), [good.id]);
        assert_eq!(state.changed(table, std::slice::from_ref(&good)).expect("asked"), [0], "it came back");
        state.forget(table, &[good.id, Id::of(["b"])]).expect("forgotten");
        assert_eq!(state.within(table, Span::default()).expect("asked"), []);
    }

    #[test]
    fn a_mark_comes_back_and_another_collection_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::open(folder.path()).expect("opened");
        let table = state.table("t", "c").expect("made");
        let mark = Mark(json!({"txn": 7}));
        state.set_mark(table, &mark, Digest(u64::MAX)).expect("kept");
        state.confirm(table, [&document("a", 1.0, 1)], &[], Figures::default(), NOW).expect("kept");
        assert_eq!(state.mark(table).expect("asked"), (Some(mark), Some(Digest(u64::MAX))));
        assert_eq!(state.table("t", "c").expect("known"), table);
        let other = state.table("t", "d").expect("made");
        assert_eq!(state.mark(other).expect("asked"), (None, None));
        assert_eq!(state.tables().expect("asked").iter().map(|table| table.synced).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn one_works_in_a_folder_and_others_may_look() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(State::look(folder.path()).expect("nothing yet").is_none());
        let mut state = State::open(folder.path()).expect("opened");
        state.table("t", "c").expect("made");
        assert!(State::open(folder.path()).expect_err("taken").is::<Taken>());
        assert!(State::is_taken(folder.path()));
        let seen = State::look(folder.path()).expect("readable").expect("there");
        assert_eq!(seen.tables().expect("asked").len(), 1);
        drop((state, seen));
        assert!(!State::is_taken(folder.path()));
    }
}
