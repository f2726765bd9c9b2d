//! What a store can be asked beside taking records: its newest ticks, its candles, and how long it keeps what.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tapedeck_market::UnixNanos;

/// A question of `tapedeck latest` or `tapedeck candles --sink`.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// The newest tick of each instrument, or of one.
    Latest { symbol: Option<String> },
    /// The newest candles of an instrument, oldest first.
    Candles { symbol: String, interval: Duration, from: Option<UnixNanos>, to: Option<UnixNanos> },
    /// How many candles there are, of each instrument and interval.
    CandleCounts,
}

/// Rows under headings, as a store or a policy has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    #[must_use]
    pub fn new(columns: &[&'static str]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// An object for each row; what is not known is left out.
    #[must_use]
    pub fn objects(&self) -> Vec<Map<String, Value>> {
        let object = |row: &Vec<Value>| {
            let members = self.columns.iter().zip(row).filter(|(_, value)| !value.is_null());
            members.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        };
        self.rows.iter().map(object).collect()
    }

    /// Its cells as text.
    #[must_use]
    pub fn cells(&self) -> Vec<Vec<String>> {
        let cell = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.rows.iter().map(|row| row.iter().map(cell).collect()).collect()
    }
}

/// A store that keeps its data by policies, as `tapedeck retention` shows and changes them.
#[async_trait]
pub trait Retention: Send {
    /// Makes the policies of the config that are missing, and alters those that differ from it.
    ///
    /// # Errors
    /// The store cannot be reached, or does not let us. What was done until then stays.
    async fn create(&mut self) -> anyhow::Result<Table>;

    /// The policies that there are, and what goes to them.
    ///
    /// # Errors
    /// As of [`Retention::create`].
    async fn list(&mut self) -> anyhow::Result<Table>;

    /// What each policy holds.
    ///
    /// # Errors
    /// As of [`Retention::create`].
    async fn stats(&mut self) -> anyhow::Result<Table>;

    /// What is older than its policy keeps, or than `older_than`; removed only with `remove`.
    ///
    /// # Errors
    /// As of [`Retention::create`].
    async fn cleanup(&mut self, older_than: Option<Duration>, remove: bool) -> anyhow::Result<Table>;
}
