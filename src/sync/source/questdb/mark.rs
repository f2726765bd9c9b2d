//! What is remembered of a table between two looks.

use serde::{Deserialize, Serialize};

use super::log::Place;
use super::table::{Log, Table};
use crate::sync::Mark;
use crate::sync::source::sums::{Split, Sums};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The server's number of the table: one that is dropped and made anew has another.
    pub table: i64,
    /// Of names and types of all columns.
    pub columns: u64,
    pub at: At,
    /// Where the log tells no ranges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<Summed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum At {
    Txn { txn: i64, at_us: Option<i64> },
    Written { rows: Option<i64>, written: Option<i64>, last: Option<i64> },
}

/// What the table held when it was last summed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summed {
    /// When that was, ms since 1970.
    pub at_ms: i64,
    /// Something happened since then, and was looked for among the newest rows only.
    pub stale: bool,
    /// Time of the newest row that was there at the last look.
    pub newest_ns: Option<i64>,
    pub split: Split,
    pub days: Sums,
}

impl Known {
    /// A mark of ours; `None`: of another source or version, so that everything is read again.
    pub(super) fn of(mark: &Mark) -> Option<Known> {
        serde_json::from_value(mark.0.clone()).ok()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(serde_json::to_value(self).unwrap_or_default())
    }
}

impl At {
    pub(super) fn of(table: &Table) -> At {
        match table.log {
            Log::Wal { txn } => At::Txn { txn, at_us: None },
            Log::None { rows, written, last } => At::Written { rows, written, last },
        }
    }

    pub(super) fn place(&self) -> Option<Place> {
        match *self {
            At::Txn { txn, at_us } => Some(Place { txn, at_us }),
            At::Written { .. } => None,
        }
    }

    /// Whether nothing happened in between.
    pub(super) fn is_still(&self, now: &At) -> bool {
        match (self, now) {
            (At::Txn { txn, .. }, At::Txn { txn: now, .. }) => txn == now,
            (one, other) => one == other,
        }
    }
}
