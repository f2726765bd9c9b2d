//! What is new in a table: the gate, then the log, then, where the log does not say, sums.
//!
//! The mark is always taken before anything is read: what is committed while rows are read lies behind the mark, and is news of
//! the next look even where the rows have it already.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::columns::{self, Reader};
use super::log::{Entry, Place, Reading, Verdict};
use super::mark::{At, Known, Summed};
use super::names;
use super::pages::Pages;
use super::session::Session;
use super::table::{self, Log, Table};
use crate::sync::source::sums::{self, Summing};
use crate::sync::{By, Mark, News, Schema, Span, Trouble};

/// How the newest rows are read again where the log does not say which are new.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub overlap: Duration,
    pub sum_every: Duration,
}

/// A look at a table.
pub(super) struct Look<'a> {
    pub session: &'a mut Session,
    pub patience: Patience,
}

impl Look<'_> {
    /// As of [`crate::sync::Source::news`].
    pub(super) async fn news(&mut self, name: &str, mark: Option<&Mark>) -> Result<News, Trouble> {
        let known = mark.and_then(Known::of);
        let table = match Table::find(self.session, name).await {
            Ok(table) => table,
            Err(trouble) => return Err(self.renamed(trouble, known.as_ref()).await),
        };
        let now = At::of(&table);
        let Some(known) = known else { return self.beginning(&table, mark.is_some()).await };
        if known.table != table.id {
            return self.beginning(&table, true).await;
        }
        if known.at.is_still(&now) {
            let due = known.sums.as_ref().is_some_and(|sums| sums.stale && self.is_due(sums));
            if due {
                return self.by_sums(&table, &known, known.at.clone(), false).await;
            }
            table.lives(self.session).await?;
            let mark = known.mark();
            return Ok(News { spans: Vec::new(), mark, by: By::Gate, removed: false, columns: false });
        }
        match (known.at.place(), table.log) {
            (Some(place), Log::Wal { txn }) if txn > place.txn => self.by_log(&table, &known, place, txn).await,
            // Fewer transactions than there were: a copy of an older day was put back.
            (Some(_), Log::Wal { .. }) => self.beginning(&table, true).await,
            (None, Log::None { .. }) => self.by_sums(&table, &known, now, false).await,
            // It has become a table with a log, or without one.
            _ => self.beginning(&table, true).await,
        }
    }

    /// Where a table is no more: whether it has another name now.
    async fn renamed(&mut self, trouble: Trouble, known: Option<&Known>) -> Trouble {
        let Some(known) = known.filter(|_| trouble.class == crate::sync::Class::Setup) else { return trouble };
        match table::name_of(self.session, known.table).await {
            Ok(Some(name)) => trouble.fix(format!("it is called `{name}` now")),
            _ => trouble,
        }
    }

    async fn beginning(&mut self, table: &Table, again: bool) -> Result<News, Trouble> {
        let (at, ranges) = match table.log {
            Log::Wal { txn } => self.newest(table, txn).await?,
            Log::None { .. } => (At::of(table), false),
        };
        let schema = table::schema(self.session, table).await?;
        let sums = if ranges { None } else { Some(self.sum(table, &schema, None).await?.1) };
        let mark = Known { table: table.id, columns: schema.fingerprint(), at, sums }.mark();
        // A caller may have looked at the columns before this, or at those of another table.
        Ok(News { spans: vec![Span::default()], mark, by: By::Beginning, removed: again, columns: true })
    }

    /// The place of a transaction in the log, and whether the log tells ranges.
    async fn newest(&mut self, table: &Table, txn: i64) -> Result<(At, bool), Trouble> {
        let mut reading = Reading::since(Place { txn: txn - 1, at_us: None });
        if txn > 0 {
            self.read(table, txn, txn, &mut reading).await?;
        }
        let at = At::Txn { txn, at_us: reading.place.at_us };
        // A table that was only changed so far, or not at all, may turn out to tell none: the first change says so then.
        Ok((at, !matches!(reading.finish(txn), Verdict::NoRanges)))
    }

    async fn by_log(&mut self, table: &Table, known: &Known, since: Place, upto: i64) -> Result<News, Trouble> {
        let mut reading = Reading::since(since);
        self.read(table, since.txn, upto, &mut reading).await?;
        let (place, changed) = (reading.place, reading.columns);
        let at = At::Txn { txn: upto, at_us: place.at_us.filter(|_| place.txn == upto) };
        let (spans, by, removed) = match reading.finish(upto) {
            Verdict::OtherLog => return self.beginning(table, true).await,
            Verdict::NoRanges => return self.by_sums(table, known, at, changed).await,
            Verdict::Hole if known.sums.is_some() => return self.by_sums(table, known, at, changed).await,
            Verdict::Hole => (vec![Span::default()], By::Days, true),
            Verdict::All => (vec![Span::default()], By::LogWithoutRange, true),
            Verdict::Ranges(spans) => (spans, By::Log, false),
        };
        let schema = table::schema(self.session, table).await?;
        let columns = schema.fingerprint();
        let mark = Known { table: table.id, columns, at, sums: None }.mark();
        Ok(News { spans, mark, by, removed, columns: changed || columns != known.columns })
    }

    /// Reads the log from a transaction to another one, both included.
    async fn read(&mut self, table: &Table, from: i64, upto: i64, reading: &mut Reading) -> Result<(), Trouble> {
        let sql = format!(
            "SELECT sequencerTxn, timestamp::long, walId, minTimestamp::long, maxTimestamp::long, alterCommandType \
             FROM wal_transactions({}) WHERE sequencerTxn >= {from} AND sequencerTxn <= {upto} ORDER BY sequencerTxn",
            names::text(&table.name)
        );
        let add = |row: tokio_postgres::Row| {
            let int = |at| columns::int(&row, at);
            reading.add(Entry {
                txn: int(0).unwrap_or_default(),
                at_us: int(1),
                wal: int(2).unwrap_or(-1),
                min_us: int(3),
                max_us: int(4),
                deed: int(5).unwrap_or(-1),
            });
        };
        match self.session.each(&sql, add).await {
            // The part that it begins with was purged: rows are missing, as the reading finds.
            Err(trouble) if trouble.text.contains("_txn_parts") => Ok(()),
            done => done,
        }
    }

    /// By the newest rows, or, when it is time, by all of them.
    async fn by_sums(&mut self, table: &Table, known: &Known, at: At, changed: bool) -> Result<News, Trouble> {
        let schema = table::schema(self.session, table).await?;
        let columns = schema.fingerprint();
        let changed = changed || columns != known.columns;
        let known_sums = known.sums.as_ref().filter(|_| columns == known.columns);
        let with = |sums, spans, removed| {
            let mark = Known { table: table.id, columns, at: at.clone(), sums: Some(sums) }.mark();
            News { spans, mark, by: By::Days, removed, columns: changed }
        };
        let Some(known_sums) = known_sums else {
            let sums = self.sum(table, &schema, None).await?.1;
            return Ok(with(sums, vec![Span::default()], true));
        };
        if self.is_due(known_sums) {
            let (spans, sums) = self.sum(table, &schema, Some(known_sums)).await?;
            return Ok(with(sums, spans, true));
        }
        let newest_ns = self.newest_row(table, &schema).await?;
        let overlap = i64::try_from(self.patience.overlap.as_nanos()).unwrap_or(i64::MAX);
        let from_ns = known_sums.newest_ns.map(|newest| newest.saturating_sub(overlap));
        let sums = Summed { stale: true, newest_ns, ..known_sums.clone() };
        Ok(with(sums, vec![Span { from_ns, to_ns: None }], false))
    }

    fn is_due(&self, sums: &Summed) -> bool {
        let every_ms = i64::try_from(self.patience.sum_every.as_millis()).unwrap_or(i64::MAX);
        // A clock that was put back is no reason to wait.
        now_ms() < sums.at_ms || now_ms() >= sums.at_ms.saturating_add(every_ms)
    }

    /// Sums all rows up, and where they differ from what is known.
    async fn sum(
        &mut self,
        table: &Table,
        schema: &Schema,
        known: Option<&Summed>,
    ) -> Result<(Vec<Span>, Summed), Trouble> {
        let at_ms = now_ms();
        let newest_ns = self.newest_row(table, schema).await?;
        let reader = Reader::new(schema);
        let mut summing = Summing::new(newest_ns, known.map(|known| known.split));
        let mut pages = Pages::new(&table.name, schema, &reader, Span::default());
        let tick_ns = columns::tick_ns(schema);
        while let Some(rows) = pages.next(self.session).await? {
            for row in &rows {
                let time = schema.time.and_then(|at| columns::int(row, at)?.checked_mul(tick_ns));
                summing.add(time, sums::digest((0..row.len()).map(|at| columns::raw(row, at))));
            }
        }
        let spans = known.map(|known| summing.changes(&known.days, known.split)).unwrap_or_default();
        // Without a clock there is one stretch, and no way to ask for it but whole.
        let spans = if schema.time.is_none() && !spans.is_empty() { vec![Span::default()] } else { spans };
        let (split, days) = summing.finish();
        Ok((spans, Summed { at_ms, stale: false, newest_ns, split, days }))
    }

    async fn newest_row(&mut self, table: &Table, schema: &Schema) -> Result<Option<i64>, Trouble> {
        table::edge(self.session, table, schema, "max").await
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
