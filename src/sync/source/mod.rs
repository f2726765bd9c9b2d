//! Where rows come from: what is new there, and the rows themselves.

mod config;
mod missing;
mod questdb;
mod spans;
mod sqlite;
mod sums;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::config::Config;
pub use self::questdb::QuestDb;
pub use self::sqlite::SqliteFile;
use super::{Row, Schema, Trouble};

/// A database whose tables are followed.
#[async_trait]
pub trait Source: Send {
    /// Who it is, for people: product and version.
    ///
    /// # Errors
    /// It cannot be reached, or does not let us in.
    async fn hello(&mut self) -> Result<String, Trouble>;

    /// Names of the tables there are.
    ///
    /// # Errors
    /// As of [`Source::hello`].
    async fn tables(&mut self) -> Result<Vec<String>, Trouble>;

    /// Columns of a table as they are now.
    ///
    /// # Errors
    /// As of [`Source::hello`]; [`super::Class::Setup`]: there is no such table, and which ones there are.
    async fn schema(&mut self, table: &str) -> Result<Schema, Trouble>;

    /// What happened to a table since `mark`; without one, everything that there is. Costs one small question where nothing did.
    ///
    /// # Errors
    /// As of [`Source::schema`].
    async fn news(&mut self, table: &str, mark: Option<&Mark>) -> Result<News, Trouble>;

    /// Time of the oldest row by the table's own clock, ns since 1970. `None`: it has no clock or no row, or its news say what is gone.
    ///
    /// # Errors
    /// As of [`Source::tables`].
    async fn oldest(&mut self, _table: &str) -> Result<Option<i64>, Trouble> {
        Ok(None)
    }

    /// The rows of a stretch of time, in order of time where the table has one, sent in chunks of at most a few thousand. Ends
    /// early, without an error, when nobody listens any more.
    ///
    /// # Errors
    /// As of [`Source::schema`]; some chunks may have been sent.
    async fn rows(&mut self, wanted: &Wanted<'_>, out: mpsc::Sender<Vec<Row>>) -> Result<u64, Trouble>;

    /// Rows a day (UTC) within a stretch, for progress and for [`super`]'s verify; days without rows are left out.
    ///
    /// # Errors
    /// As of [`Source::schema`].
    async fn days(&mut self, table: &str, span: Span) -> Result<Vec<Day>, Trouble>;
}

/// Which rows.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub table: &'a str,
    /// As [`Source::schema`] said; rows have their values in this order.
    pub schema: &'a Schema,
    pub span: Span,
    /// At most so many.
    pub limit: Option<u64>,
}

/// A stretch of time by the designated timestamp: from, inclusive, to, exclusive, in ns since 1970; `None` is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
}

/// What a source remembers of a table between two looks; its own words, kept by us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub serde_json::Value);

/// What is new in a table.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// Stretches to read again: apart from each other, in order; none: nothing happened.
    pub spans: Vec<Span>,
    /// The mark once those are read and written.
    pub mark: Mark,
    /// How this is known; shown by `--debug`, counted in status.
    pub by: By,
    /// Rows were taken away, or may have been: what is gone in [`News::spans`] must be looked for.
    pub removed: bool,
    /// The table is another one, or has other columns; also at the first look.
    pub columns: bool,
}

/// How news is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// First look.
    Beginning,
    /// The gate said that nothing happened.
    Gate,
    /// The transaction log gave ranges.
    Log,
    /// The log has it that something happened, not where.
    LogWithoutRange,
    /// The log has a hole, or tells no ranges: overlap and checksums of days.
    Days,
}

/// Rows of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// Start of the day, ns since 1970, UTC.
    pub start_ns: i64,
    pub rows: u64,
}
