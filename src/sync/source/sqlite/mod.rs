//! A SQLite file, such as the predecessor of the sync read.
//!
//! ```text
//! size and time of FILE and FILE-wal as in the mark? nothing happened
//!   └► rows summed up day by day, compared with the sums in the mark ─► days that differ ─► rows
//! ```
//!
//! SQLite keeps no log that could be asked. Other programs write to the file meanwhile: it is opened for reading, anew for each
//! question (it may be another file by then), read in pages so that nobody is locked out for long, and waited for where
//! somebody else has locked it.

mod file;
mod table;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::file::State;
use self::table::Table;
use super::sums::{Split, Summing, Sums};
use super::{By, Day, Mark, News, Source, Span, Wanted};
use crate::sync::{Class, Row, Schema, Trouble};

const DAY_NS: i64 = 86_400_000_000_000;
/// Rows handed on at once.
const CHUNK: usize = 2_048;

/// A file.
#[derive(Clone, Debug)]
pub struct SqliteFile {
    path: PathBuf,
    /// How long a lock of somebody else is waited for.
    patience: Duration,
}

/// What is remembered of a table between two looks.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    file: State,
    columns: u64,
    split: Split,
    days: Sums,
}

impl SqliteFile {
    #[must_use]
    pub fn new(path: &Path, patience: Duration) -> Self {
        SqliteFile { path: path.to_owned(), patience }
    }

    /// Does what blocks on a thread for it, with a connection of its own.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &SqliteFile) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let file = self.clone();
        let doing = tokio::task::spawn_blocking(move || work(&file::open(&file.path, file.patience)?, &file));
        doing.await.unwrap_or_else(|error| Err(Trouble::new(Class::Server, format!("reading SQLite: {error}"))))
    }

    /// As of [`Source::news`].
    fn look(&self, db: &Connection, name: &str, mark: Option<&Mark>) -> Result<News, Trouble> {
        // Before anything is read: what is written meanwhile is news of the next look.
        let now = State::of(&self.path);
        let known = mark.and_then(|mark| serde_json::from_value::<Known>(mark.0.clone()).ok());
        if let (Some(known), Some(mark)) = (&known, mark)
            && known.file.is_still(&now)
        {
            let mark = mark.clone();
            return Ok(News { spans: Vec::new(), mark, by: By::Gate, removed: false, columns: false });
        }
        let table = Table::find(db, name)?;
        let columns = table.schema.fingerprint();
        let same = known.filter(|known| known.columns == columns);
        let mut summing = Summing::new(table.newest(db)?, same.as_ref().map(|known| known.split));
        table.each(db, |time_ns, digest| summing.add(time_ns, digest))?;
        let spans = match &same {
            None => vec![Span::default()],
            Some(known) => summing.changes(&known.days, known.split),
        };
        // Without a time there is one stretch, and no way to ask for it but whole.
        let spans = if table.schema.time.is_none() && !spans.is_empty() { vec![Span::default()] } else { spans };
        let by = if same.is_some() { By::Days } else { By::Beginning };
        let again = mark.is_some() && same.is_none();
        let (split, days) = summing.finish();
        let mark = Known { file: now, columns, split, days };
        let mark = Mark(serde_json::to_value(mark).unwrap_or_default());
        let removed = again || (by == By::Days && !spans.is_empty());
        Ok(News { removed, spans, mark, by, columns: same.is_none() })
    }
}

/// A question that is given up goes on, on its thread, up to the next chunk of rows.
#[async_trait]
impl Source for SqliteFile {
    async fn hello(&mut self) -> Result<String, Trouble> {
        self.with(|db, _| {
            file::tables(db)?;
            Ok(format!("SQLite {}", rusqlite::version()))
        })
        .await
    }

    async fn tables(&mut self) -> Result<Vec<String>, Trouble> {
        self.with(|db, _| file::tables(db)).await
    }

    async fn schema(&mut self, table: &str) -> Result<Schema, Trouble> {
        let table = table.to_owned();
        self.with(move |db, _| Ok(Table::find(db, &table)?.schema)).await
    }

    async fn news(&mut self, table: &str, mark: Option<&Mark>) -> Result<News, Trouble> {
        let (table, mark) = (table.to_owned(), mark.cloned());
        self.with(move |db, file| file.look(db, &table, mark.as_ref())).await
    }

    async fn rows(&mut self, wanted: &Wanted<'_>, out: mpsc::Sender<Vec<Row>>) -> Result<u64, Trouble> {
        let (name, schema, span) = (wanted.table.to_owned(), wanted.schema.clone(), wanted.span);
        let limit = wanted.limit.unwrap_or(u64::MAX);
        self.with(move |db, _| {
            let table = Table::find(db, &name)?.with(schema);
            let (mut sent, mut chunk) = (0, Vec::new());
            let mut send = |chunk: &mut Vec<Row>| {
                let rows = std::mem::take(chunk);
                let count = rows.len() as u64;
                let listening = rows.is_empty() || out.blocking_send(rows).is_ok();
                sent += if listening { count } else { 0 };
                listening
            };
            table.rows(db, span, limit, |row| {
                chunk.push(row);
                chunk.len() < CHUNK || send(&mut chunk)
            })?;
            send(&mut chunk);
            Ok(sent)
        })
        .await
    }

    async fn days(&mut self, table: &str, span: Span) -> Result<Vec<Day>, Trouble> {
        let name = table.to_owned();
        self.with(move |db, _| {
            let mut days = std::collections::BTreeMap::new();
            Table::find(db, &name)?.times(db, |_, time_ns| {
                if table::within(span, time_ns) {
                    *days.entry(time_ns.unwrap_or_default().div_euclid(DAY_NS)).or_default() += 1;
                }
            })?;
            let start = |day: i64| day.saturating_mul(DAY_NS);
            Ok(days.into_iter().map(|(day, rows)| Day { start_ns: start(day), rows }).collect())
        })
        .await
    }
}
