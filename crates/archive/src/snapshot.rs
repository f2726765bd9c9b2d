//! What a query reads: files and the rows that are in none yet, as of one record.
//!
//! A [`Snapshot`] never changes. When a range becomes files, those files and the shorter tail appear in one step, so that no
//! record is in both or in neither. The paths in it stay readable as long as it is held, whatever compaction and retention do
//! meanwhile: they are links of the archive's own (`folder.rs`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tapedeck_market::{SmolStr, Uuid};

use crate::day::Day;
use crate::disk::Disk;
use tapedeck_tables::Table;

/// A Parquet file of the archive.
pub struct ArchiveFile {
    pub table: Table,
    /// UTC day of `ts_recv` of all its rows.
    pub day: Day,
    pub tape_id: Uuid,
    /// The seqs that it covers, both included: every row of its table, day and tape with such a seq is in it.
    pub from_seq: u64,
    pub to_seq: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Bytes of its columns before compression.
    pub plain_bytes: u64,
    /// The least and greatest `ts_recv` and `ts_event`, ns; `None` when there is no such time in it.
    pub ts_recv: Option<(i64, i64)>,
    pub ts_event: Option<(i64, i64)>,
    /// Its symbols in order; `None` when they are too many to be listed.
    pub symbols: Option<Vec<SmolStr>>,
    /// Where foreign readers find it.
    pub(crate) public: PathBuf,
    pub(crate) path: PathBuf,
    /// Removed when the last snapshot that holds this file is gone.
    pub(crate) link: Mutex<Option<Arc<dyn Disk>>>,
}

impl ArchiveFile {
    /// Where to read it. It stays there until this file is dropped.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name for people: where polars and DuckDB find it. Compaction and retention take it away from there.
    #[must_use]
    pub fn public_path(&self) -> &Path {
        &self.public
    }

    /// Lets its link go with the last snapshot that holds it.
    pub(crate) fn retire(&self, disk: Arc<dyn Disk>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(disk);
    }
}

impl Drop for ArchiveFile {
    fn drop(&mut self) {
        if let Some(disk) = self.link.get_mut().unwrap_or_else(PoisonError::into_inner).take()
            && self.path != self.public
        {
            // Left behind it only takes space until the next start.
            let _ = disk.remove(&self.path);
        }
    }
}

impl fmt::Debug for ArchiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveFile").field("public", &self.public).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// One table of a [`Snapshot`].
#[derive(Clone, Debug, Default)]
pub struct TableView {
    /// By day, then by seq.
    pub files: Arc<Vec<Arc<ArchiveFile>>>,
    /// Rows that are in no file yet, by seq.
    pub tail: Arc<Vec<RecordBatch>>,
}

impl TableView {
    #[must_use]
    pub fn file_rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    #[must_use]
    pub fn tail_rows(&self) -> u64 {
        self.tail.iter().map(|batch| batch.num_rows() as u64).sum()
    }
}

/// Everything that was recorded up to one record.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub tape_id: Uuid,
    /// Counts the snapshots since start.
    pub generation: u64,
    /// Every record up to this seq is in it, and none above.
    pub cut_seq: u64,
    /// Every record up to this seq is in files.
    pub archived_seq: u64,
    pub(crate) tables: [TableView; Table::COUNT],
    /// The two parts of each tail: of the range that is being written to files, and of the one behind it.
    pub(crate) closing: [Arc<Vec<RecordBatch>>; Table::COUNT],
    pub(crate) open: [Arc<Vec<RecordBatch>>; Table::COUNT],
}

impl Snapshot {
    #[must_use]
    pub fn table(&self, table: Table) -> &TableView {
        &self.tables[table.index()]
    }

    /// Puts a table's tail together after one of its parts has changed.
    pub(crate) fn join_tail(&mut self, at: usize) {
        let (closing, open) = (&self.closing[at], &self.open[at]);
        self.tables[at].tail = match (closing.is_empty(), open.is_empty()) {
            (true, _) => Arc::clone(open),
            (_, true) => Arc::clone(closing),
            _ => Arc::new(closing.iter().chain(open.iter()).cloned().collect()),
        };
    }
}

type Watcher = Box<dyn Fn(u64) + Send + Sync>;

/// The newest snapshot, and those who wait for it.
pub struct Snapshots {
    newest: Mutex<Arc<Snapshot>>,
    published: Condvar,
    watchers: Mutex<Vec<Watcher>>,
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("cut_seq", &self.newest().cut_seq).finish_non_exhaustive()
    }
}

impl Snapshots {
    pub(crate) fn new(first: Snapshot) -> Snapshots {
        Snapshots { newest: Mutex::new(Arc::new(first)), published: Condvar::new(), watchers: Mutex::new(Vec::new()) }
    }

    #[must_use]
    pub fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock())
    }

    /// Waits for a snapshot that holds `seq`; the newest one there is when `timeout` is over.
    pub fn wait_for(&self, seq: u64, timeout: Duration) -> Arc<Snapshot> {
        let until = Instant::now().checked_add(timeout);
        let mut newest = self.lock();
        while newest.cut_seq < seq {
            let left = until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            newest = self.published.wait_timeout(newest, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Arc::clone(&newest)
    }

    /// Calls `watcher` with the cut's seq after each publication, on the archive's thread: it must be quick. This is the
    /// bridge for programs that do not wait on threads.
    pub fn on_publish(&self, watcher: Watcher) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    /// Makes the next snapshot from the newest one, in one step.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let cut_seq = {
            let mut newest = self.lock();
            let mut next = Snapshot::clone(&newest);
            change(&mut next);
            next.generation += 1;
            let cut_seq = next.cut_seq;
            *newest = Arc::new(next);
            cut_seq
        };
        self.published.notify_all();
        for watcher in self.watchers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher(cut_seq);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
