//! What the archive tells about itself.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tapedeck_market::Uuid;

use crate::snapshot::Snapshot;
use tapedeck_tables::Table;

/// How the archive stands. Counters are since start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub tape_id: String,
    /// The last durable seq of the tape, as far as is known.
    pub durable_seq: u64,
    /// The last seq that was read.
    pub read_seq: u64,
    /// The last seq that is in a file.
    pub archived_seq: u64,
    /// Files, with their rows and bytes, over all tables.
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Records and bytes in memory, in no file yet.
    pub tail_records: u64,
    pub tail_bytes: u64,
    /// Ranges closed, and files written for them.
    pub ranges: u64,
    pub written_files: u64,
    /// Days that were given fewer, larger files.
    pub compacted_days: u64,
    /// Days that retention took away.
    pub removed_days: u64,
    /// Files of an unfinished range, removed at start.
    pub leftovers: u64,
    /// Files that cannot be read.
    pub unreadable: u64,
    /// Files whose records the tape has lost.
    pub set_aside: u64,
    /// Holes of the tape, each a row of `tape`.
    pub holes: u64,
    /// Records that could not be decoded, each a row of `raw`.
    pub undecodable: u64,
    /// Numbers that no column holds exactly, each in `exact`.
    pub inexact: u64,
    /// Why nothing is archived just now.
    pub waiting: Option<String>,
    /// Why days could not be compacted or removed.
    pub untidy: Option<String>,
}

impl Status {
    pub(crate) fn describe(&mut self, snapshot: &Snapshot) {
        self.archived_seq = snapshot.archived_seq;
        (self.files, self.rows, self.bytes) = (0, 0, 0);
        for table in Table::ALL {
            for file in snapshot.table(table).files.iter() {
                self.files += 1;
                self.rows += file.rows;
                self.bytes += file.bytes;
            }
        }
    }
}

/// Where the threads of the archive write what others read.
#[derive(Debug)]
pub(crate) struct Board(Mutex<Status>);

impl Board {
    pub(crate) fn new(tape_id: Uuid) -> Arc<Board> {
        Arc::new(Board(Mutex::new(Status { tape_id: tape_id.to_string(), ..Status::default() })))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
