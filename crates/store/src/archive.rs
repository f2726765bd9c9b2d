//! The archive's snapshots as the engine wants them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use tapedeck_archive::{ArchiveFile, Snapshots, Table as Kind, schema};

use crate::snapshot::{File, Held, Snapshot, Source, Table};

/// The tables of an archive that is being written, or that was opened for one query.
pub struct Archive {
    snapshots: Arc<Snapshots>,
    /// The cut that was made last, for statements between two publications.
    made: Mutex<Option<Made>>,
}

struct Made {
    generation: u64,
    /// The archive's own lists of files, by table: the same list needs no second look.
    lists: Vec<Arc<Vec<Arc<ArchiveFile>>>>,
    snapshot: Arc<Snapshot>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("snapshots", &self.snapshots).finish_non_exhaustive()
    }
}

impl Archive {
    #[must_use]
    pub fn new(snapshots: Arc<Snapshots>) -> Self {
        Archive { snapshots, made: Mutex::new(None) }
    }
}

impl Source for Archive {
    fn tables(&self) -> Vec<(&'static str, SchemaRef)> {
        Kind::ALL.into_iter().map(|table| (table.name(), schema(table))).collect()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let newest = self.snapshots.newest();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref()
            && made.generation == newest.generation
        {
            return Arc::clone(&made.snapshot);
        }
        let mut snapshot = Snapshot { held: Some(Held(Arc::clone(&newest) as _)), ..Snapshot::default() };
        let mut lists = Vec::with_capacity(Kind::COUNT);
        for (at, table) in Kind::ALL.into_iter().enumerate() {
            let view = newest.table(table);
            let before = made.as_ref().filter(|made| Arc::ptr_eq(&made.lists[at], &view.files));
            let files = match before.map(|made| made.snapshot.table(table.name())) {
                Some(before) => before.files,
                None => Arc::new(view.files.iter().map(|known| file(known)).collect()),
            };
            snapshot.tables.insert(table.name(), Table { files, tail: Arc::clone(&view.tail) });
            lists.push(Arc::clone(&view.files));
        }
        let snapshot = Arc::new(snapshot);
        *made = Some(Made { generation: newest.generation, lists, snapshot: Arc::clone(&snapshot) });
        snapshot
    }
}

fn file(known: &ArchiveFile) -> File {
    let schema = schema(known.table);
    let mut statistics = Statistics::new_unknown(&schema);
    statistics.num_rows = Precision::Exact(usize::try_from(known.rows).unwrap_or(usize::MAX));
    statistics.total_byte_size = Precision::Inexact(usize::try_from(known.plain_bytes).unwrap_or(usize::MAX));
    let mut tell = |name: &str, set: &dyn Fn(&mut ColumnStatistics)| {
        if let Ok(at) = schema.index_of(name) {
            set(&mut statistics.column_statistics[at]);
        }
    };
    let instant = |ns: i64| ScalarValue::TimestampNanosecond(Some(ns), None);
    for (name, bounds) in [("ts_recv", known.ts_recv), ("ts_event", known.ts_event)] {
        if let Some((least, greatest)) = bounds {
            tell(name, &|stats| {
                stats.min_value = Precision::Exact(instant(least));
                stats.max_value = Precision::Exact(instant(greatest));
            });
        }
    }
    let seq = |seq: u64| ScalarValue::Int64(Some(i64::try_from(seq).unwrap_or(i64::MAX)));
    tell("seq", &|stats| {
        // The range that the file covers; its own rows may begin later and end sooner.
        stats.min_value = Precision::Inexact(seq(known.from_seq));
        stats.max_value = Precision::Inexact(seq(known.to_seq));
    });
    let symbols = known.symbols.as_ref().map(|symbols| symbols.iter().map(ToString::to_string).collect());
    let path = std::path::absolute(known.path()).unwrap_or_else(|_| known.path().to_owned());
    File { path, len_bytes: known.bytes, statistics: Arc::new(statistics), symbols }
}
