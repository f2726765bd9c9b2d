//! A QuestDB, over its PostgreSQL protocol.
//!
//! ```text
//! tables() ─► txn as in the mark? nothing happened
//!          └► wal_transactions(t) since the mark ─► stretches of time ─► SELECT … in pages ─► rows
//!                      └─ tells no ranges: all rows summed up day by day, compared with the sums in the mark
//! ```
//!
//! What the server takes is committed to a log first and can be read a moment later: a mark is the last transaction that could
//! be read (`table_txn`), never one that was only taken.

mod columns;
mod failure;
mod log;
mod mark;
mod names;
mod news;
mod pages;
mod session;
mod table;

use async_trait::async_trait;
use tokio::sync::mpsc;

use self::columns::{Reader, int, text, tick_ns};
use self::news::{Look, Patience};
use self::pages::Pages;
use self::session::Session;
use self::table::Table;
use super::{Config, Day, Mark, News, Source, Span, Wanted};
use crate::sync::{Row, Schema, Trouble};

/// Rows handed on at once.
const CHUNK: usize = 2_048;

/// Host, port and database of an address; `None` where it is none.
pub(super) fn identity(config: &Config) -> Option<String> {
    Session::new(config).ok().map(|session| session.identity())
}

/// A QuestDB; connects when it is asked something, and again when the connection has ended.
pub struct QuestDb {
    session: Session,
    patience: Patience,
}

impl std::fmt::Debug for QuestDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuestDb").field("at", &self.session.shown()).finish_non_exhaustive()
    }
}

impl QuestDb {
    /// The one that the config names; nothing is connected yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(config: &Config) -> anyhow::Result<QuestDb> {
        let patience = Patience { overlap: config.overlap.0, sum_every: config.sum_every.0 };
        Ok(QuestDb { session: Session::new(config)?, patience })
    }
}

/// Questions may be given up at any time: the connection goes on with the next one.
#[async_trait]
impl Source for QuestDb {
    async fn hello(&mut self) -> Result<String, Trouble> {
        let rows = self.session.ask("SELECT build()").await?;
        let build = rows.first().and_then(|row| text(row, 0)).unwrap_or_default();
        // "Build Information: QuestDB 9.3.4, JDK 17.0.19, Commit Hash …"
        let product = build.split([':', ',']).find(|part| part.contains("QuestDB"));
        Ok(product.map_or(build.as_str(), str::trim).to_owned())
    }

    async fn tables(&mut self) -> Result<Vec<String>, Trouble> {
        table::names(&mut self.session).await
    }

    async fn schema(&mut self, table: &str) -> Result<Schema, Trouble> {
        let table = Table::find(&mut self.session, table).await?;
        table::schema(&mut self.session, &table).await
    }

    async fn news(&mut self, table: &str, mark: Option<&Mark>) -> Result<News, Trouble> {
        Look { session: &mut self.session, patience: self.patience }.news(table, mark).await
    }

    async fn oldest(&mut self, table: &str) -> Result<Option<i64>, Trouble> {
        let table = Table::find(&mut self.session, table).await?;
        let schema = table::schema(&mut self.session, &table).await?;
        table::edge(&mut self.session, &table, &schema, "min").await
    }

    async fn rows(&mut self, wanted: &Wanted<'_>, out: mpsc::Sender<Vec<Row>>) -> Result<u64, Trouble> {
        let table = Table::find(&mut self.session, wanted.table).await?;
        let reader = Reader::new(wanted.schema);
        let mut pages = Pages::new(&table.name, wanted.schema, &reader, wanted.span);
        let mut left = wanted.limit.unwrap_or(u64::MAX);
        let mut sent = 0;
        while left > 0
            && let Some(page) = pages.next(&mut self.session).await?
        {
            let page = &page[..page.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            left -= page.len() as u64;
            for chunk in page.chunks(CHUNK) {
                let rows: Vec<Row> = chunk.iter().map(|row| reader.values(row)).collect::<Result<_, _>>()?;
                if out.send(rows).await.is_err() {
                    return Ok(sent);
                }
                sent += chunk.len() as u64;
            }
        }
        Ok(sent)
    }

    async fn days(&mut self, table: &str, span: Span) -> Result<Vec<Day>, Trouble> {
        let table = Table::find(&mut self.session, table).await?;
        let schema = table::schema(&mut self.session, &table).await?;
        let name = names::quoted(&table.name);
        let Some(time) = schema.time.and_then(|at| schema.columns.get(at)) else {
            let rows = self.session.ask(&format!("SELECT count() FROM {name}")).await?;
            let rows = rows.first().and_then(|row| int(row, 0)).unwrap_or_default();
            return Ok(if rows == 0 { Vec::new() } else { vec![Day { start_ns: 0, rows: rows.unsigned_abs() }] });
        };
        let (tick_ns, time) = (tick_ns(&schema), names::quoted(&time.name));
        let bounds = pages::bounds(&time, span, tick_ns);
        let sql =
            format!("SELECT timestamp_floor('d', {time})::long d, count() FROM {name}{bounds} GROUP BY d ORDER BY d");
        let day = |row: &tokio_postgres::Row| {
            let start_ns = int(row, 0)?.checked_mul(tick_ns)?;
            Some(Day { start_ns, rows: int(row, 1)?.unsigned_abs() })
        };
        Ok(self.session.ask(&sql).await?.iter().filter_map(day).collect())
    }
}
