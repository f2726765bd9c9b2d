//! What a store really holds, beside what the tape says it should.
//!
//! ```text
//! tape ─► rows that should be there ─► sums a series and minute ─┐
//! store ───────────────────────────── sums a series and minute ─┴─► those that differ ─► row by row ─► repair
//! ```
//!
//! Of a long tape one window of hours after the other (`books`), so that memory does not grow with it.
//!
//! A store answers three questions ([`Audit`]); the comparison ([`reconcile`]) is the same for all.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use tapedeck_market::{Record, SmolStr, Uuid, Value};

mod books;
mod reconcile;
mod repair;
mod rows;
pub mod weight;
mod window;

pub use reconcile::{Difference, Outcome, Progress, Scope, What, reconcile};

const MINUTE_NS: i64 = 60_000_000_000;

/// A store that can say what it holds.
#[async_trait]
pub trait Audit: Send {
    /// The rows that a record is in the store; none when it has no place for it, or refuses it.
    fn expect(&mut self, tape: Uuid, record: &Record, rows: &mut Vec<Row>);

    /// What it holds in those minutes (numbers of minutes since the epoch) of a table, by series and minute.
    ///
    /// # Errors
    /// As of [`super::Sink::write`].
    async fn totals(
        &mut self,
        tape: Uuid,
        table: &str,
        minutes: Range<i64>,
    ) -> Result<Vec<(Cell, Amount)>, super::SinkError>;

    /// The rows of a table within these times (ns since the epoch, whole seconds) that have these tags, with further ones or without.
    ///
    /// # Errors
    /// As of [`super::Sink::write`].
    async fn rows(
        &mut self,
        tape: Uuid,
        table: &str,
        tags: &[(SmolStr, SmolStr)],
        times: Range<i64>,
    ) -> Result<Vec<Row>, super::SinkError>;

    /// Rows that it holds wrongly, each with the seq of the record that will be delivered in its place, for a store that leaves what
    /// is there as it is: it removes them in the step that writes those records.
    fn make_way(&mut self, rows: Vec<(u64, Row)>) {
        let _ = rows;
    }
}

/// A minute of a series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    pub series: Series,
    /// Minutes since the epoch, of the time under which the store keeps a row.
    pub minute: i64,
}

impl Cell {
    /// All of its minute, ns since the epoch.
    #[must_use]
    pub fn times(&self) -> Range<i64> {
        span_of(&(self.minute..self.minute.saturating_add(1)))
    }
}

/// What a store keeps together: the rows of an instrument, say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    pub table: SmolStr,
    /// Sorted by name.
    pub tags: Vec<(SmolStr, SmolStr)>,
}

/// A row of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub series: Series,
    /// Under which the store keeps it, ns since the epoch.
    pub time: i64,
    /// What keeps rows of a series and time apart there; 0 where nothing does.
    pub apart: u64,
    /// Its record's, where the store keeps it.
    pub seq: Option<u64>,
    pub fields: BTreeMap<SmolStr, Value>,
    /// What it adds to the sums.
    pub amount: Amount,
    pub second: Second,
}

/// What a second row of the same series, time and `apart` does to the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Second {
    /// Its fields take the place of the first's; the store cannot keep both.
    #[default]
    Collides,
    /// The same, by plan: a candle that was revised.
    Revises,
    /// It takes the whole place, by plan.
    Replaces,
}

impl Row {
    #[must_use]
    pub fn cell(&self) -> Cell {
        Cell { series: self.series.clone(), minute: minute_of(self.time) }
    }
}

/// Sums over rows: what can be compared without fetching them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    /// Values that are there, of all fields.
    pub values: u64,
    /// Sum of the seqs, wrapping.
    pub seqs: u64,
    /// Sum of all other numbers but nanoseconds, and of their absolutes: within how much rounding it is the same.
    pub sum: f64,
    pub size: f64,
}

impl Amount {
    /// Of all fields, but those that do not count.
    #[must_use]
    pub fn of(seq: Option<u64>, fields: &BTreeMap<SmolStr, Value>) -> Amount {
        let mut amount = Amount { values: fields.len() as u64, seqs: seq.unwrap_or(0), ..Amount::default() };
        for (name, value) in fields {
            if let Some(value) = number(value).filter(|_| counts(name)) {
                amount.sum += value;
                amount.size += value.abs();
            }
        }
        amount
    }

    pub fn add(&mut self, other: Amount) {
        self.values += other.values;
        self.seqs = self.seqs.wrapping_add(other.seqs);
        self.sum += other.sum;
        self.size += other.size;
    }

    /// Whether both can be of the same rows. Doubles that are added in another order differ in their last digits.
    #[must_use]
    pub fn is_like(&self, other: &Amount) -> bool {
        let tolerance = 1e-12 * self.size.max(1.0);
        self.values == other.values && self.seqs == other.seqs && (self.sum - other.sum).abs() <= tolerance
    }
}

/// Whether the values of a field are added up. The seqs are, on their own; nanoseconds since the epoch leave no digit for
/// anything else.
#[must_use]
pub fn counts(field: &str) -> bool {
    field != "seq" && !field.ends_with("_ns")
}

#[must_use]
pub fn minute_of(time: i64) -> i64 {
    time.div_euclid(MINUTE_NS)
}

/// From the beginning of the first minute to the end of the last one, ns, as far as there is such a time.
#[must_use]
pub fn span_of(minutes: &Range<i64>) -> Range<i64> {
    minutes.start.saturating_mul(MINUTE_NS)..minutes.end.saturating_mul(MINUTE_NS)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::UInt(value) => Some(*value as f64),
        Value::Decimal(value) => Some(value.to_f64()),
        Value::Float(value) => Some(*value),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

/// Whether a store that took the one would give back the other: a double may stand for a decimal, as far as it goes.
#[must_use]
pub fn is_same(expected: &Value, held: &Value) -> bool {
    match (expected, held) {
        (Value::Text(expected), Value::Text(held)) => expected == held,
        (Value::Bool(expected), Value::Bool(held)) => expected == held,
        (Value::Decimal(expected), Value::Decimal(held)) => expected == held,
        (Value::Int(expected), Value::Int(held)) => expected == held,
        (Value::UInt(expected), Value::UInt(held)) => expected == held,
        (Value::Int(one), Value::UInt(other)) | (Value::UInt(other), Value::Int(one)) => {
            u64::try_from(*one).is_ok_and(|one| one == *other)
        }
        _ => number(expected).zip(number(held)).is_some_and(|(expected, held)| expected.total_cmp(&held).is_eq()),
    }
}
