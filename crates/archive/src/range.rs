//! A range of the tape, and how it becomes files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use arrow::array::{Array as _, AsArray as _, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampNanosecondType;

use crate::day::Day;
use crate::error::Error;
use crate::file::encode;
use crate::folder::{FileName, Folder, Part, order};
use crate::snapshot::Snapshots;
use tapedeck_tables::Table;

/// The records that the next files will hold.
#[derive(Debug)]
pub(crate) struct Range {
    pub from_seq: u64,
    /// The last seq that was read; `from_seq - 1` when the range is empty.
    pub to_seq: u64,
    pub records: u64,
    pub opened_at: Option<Instant>,
}

impl Range {
    pub(crate) fn after(seq: u64) -> Range {
        Range { from_seq: seq + 1, to_seq: seq, records: 0, opened_at: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.to_seq < self.from_seq
    }
}

/// Makes a range's rows files, a table and a day each, and swaps them for the rows; says how many.
pub(crate) fn write(
    folder: &Folder,
    snapshots: &Snapshots,
    name: FileName,
    tables: &[Vec<RecordBatch>],
) -> Result<u64, Error> {
    let mut parts = Vec::new();
    for (table, batches) in Table::ALL.into_iter().zip(tables) {
        for (day, batches) in by_day(batches) {
            let (bytes, facts) = encode(table, &batches, name.tape_id, (name.from_seq, name.to_seq))
                .map_err(Error::parquet("encoding", Path::new(table.name())))?;
            parts.push(Part { table, day, name, bytes, facts });
        }
    }
    let count = parts.len() as u64;
    folder.commit(parts, name.to_seq, |files| {
        snapshots.publish(|snapshot| {
            snapshot.archived_seq = name.to_seq;
            for at in 0..Table::COUNT {
                snapshot.closing[at] = Default::default();
                snapshot.join_tail(at);
            }
            for file in files {
                let files = std::sync::Arc::make_mut(&mut snapshot.tables[file.table.index()].files);
                let at = files.partition_point(|known| order(known) < order(&file));
                files.insert(at, file);
            }
        });
    })?;
    Ok(count)
}

/// Parts batches by the UTC day of `ts_recv`.
fn by_day(batches: &[RecordBatch]) -> Vec<(Day, Vec<RecordBatch>)> {
    let mut days: BTreeMap<Day, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches {
        let times =
            batch.column_by_name("ts_recv").and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
        let Some(times) = times.filter(|times| !times.is_empty()) else { continue };
        let day = |row: usize| Day::of(times.value(row));
        let first = day(0);
        if (1..times.len()).all(|row| day(row) == first) {
            days.entry(first).or_default().push(batch.clone());
            continue;
        }
        let mut rows: BTreeMap<Day, Vec<u32>> = BTreeMap::new();
        for row in 0..times.len() {
            rows.entry(day(row)).or_default().push(row as u32);
        }
        for (day, rows) in rows {
            if let Ok(part) = take_record_batch(batch, &UInt32Array::from(rows)) {
                days.entry(day).or_default().push(part);
            }
        }
    }
    days.into_iter().collect()
}
