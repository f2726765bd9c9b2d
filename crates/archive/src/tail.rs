//! Rows of one table that are in no file yet.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use tapedeck_market::{Record, Uuid};

use crate::rows::{Rows, schema};
use tapedeck_tables::Table;

/// Batches of this many rows are left as they are: joining them again would cost more than it saves.
const JOINED_ROWS: usize = 32_768;

/// What was read of one table since the last range was closed.
#[derive(Debug)]
pub(crate) struct TableTail {
    table: Table,
    rows: Rows,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl TableTail {
    pub(crate) fn new(table: Table, tape_id: Uuid) -> TableTail {
        TableTail { table, rows: Rows::new(table, tape_id), batches: Vec::new(), bytes: 0 }
    }

    pub(crate) fn push(&mut self, record: &Record) {
        self.rows.push(record);
    }

    /// Numbers that went to `exact`, ever.
    pub(crate) fn inexact(&self) -> u64 {
        self.rows.inexact()
    }

    /// Makes a batch of what was pushed; says whether there was anything.
    ///
    /// Small batches are joined as they come, each at least twice as large as the one behind it, so that there are few of
    /// them and each row is copied a few times only.
    pub(crate) fn flush(&mut self) -> bool {
        if self.rows.is_empty() {
            return false;
        }
        self.batches.push(self.rows.finish());
        while let [.., before, last] = self.batches.as_slice() {
            if before.num_rows() >= JOINED_ROWS || before.num_rows() >= 2 * last.num_rows() {
                break;
            }
            let Ok(joined) = concat_batches(&schema(self.table), [before, last]) else { break };
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(joined);
        }
        self.measure();
        true
    }

    pub(crate) fn batches(&self) -> Arc<Vec<RecordBatch>> {
        Arc::new(self.batches.clone())
    }

    /// Bytes of the batches in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands out everything, and begins again. What was pushed since the last [`TableTail::flush`] stays.
    pub(crate) fn take(&mut self) -> Vec<RecordBatch> {
        self.bytes = 0;
        self.rows.forget_words();
        std::mem::take(&mut self.batches)
    }

    /// Takes back what was handed out: it could not be written.
    pub(crate) fn take_back(&mut self, mut batches: Vec<RecordBatch>) {
        batches.append(&mut self.batches);
        self.batches = batches;
        self.measure();
    }

    fn measure(&mut self) {
        self.bytes = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Body, Event, Flags, Status, UnixNanos};

    use super::*;
    use crate::rows::records;

    fn status(seq: u64) -> Record {
        let body = Body::Status(Status { topic: "t".into(), state: seq.to_string().into(), detail: Vec::new() });
        let event = Event {
            source: format!("s{}", seq % 7).into(),
            venue: "v".into(),
            symbol: "".into(),
            ts_event: None,
            ts_recv: UnixNanos(1),
            flags: Flags::NONE,
            origin: None,
            body,
        };
        Record { seq, event }
    }

    #[test]
    fn a_tail_of_many_small_batches_stays_few_and_in_order() {
        let mut tail = TableTail::new(Table::Status, Uuid::nil());
        for seq in 1..=1000 {
            tail.push(&status(seq));
            assert!(tail.flush());
        }
        assert!(!tail.flush());
        let batches = tail.batches();
        assert!(batches.len() <= 11, "{} batches of 1000 rows", batches.len());
        let read: Vec<Record> = batches.iter().flat_map(|batch| records(Table::Status, batch).unwrap()).collect();
        assert_eq!(read, (1..=1000).map(status).collect::<Vec<_>>());
        let taken = tail.take();
        assert_eq!((tail.batches().len(), tail.bytes()), (0, 0));
        tail.push(&status(1001));
        tail.flush();
        tail.take_back(taken);
        let batches = tail.batches();
        let read: Vec<Record> = batches.iter().flat_map(|batch| records(Table::Status, batch).unwrap()).collect();
        assert_eq!(read, (1..=1001).map(status).collect::<Vec<_>>());
    }
}
