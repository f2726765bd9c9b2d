//! The reader of the tape that fills the archive.
//!
//! ```text
//! tape ──► rows of 16 tables (the tail, which queries see) ──► a range is full ──► files ──► state ──► snapshot ──► cursor
//! ```
//!
//! A range ends after so many records, so long a time, or when its rows take too much memory. Until its files are in place its
//! records are only read again after a crash: the archive's state says where to go on, and what lies behind that is removed
//! first (`folder.rs`). The cursor follows; it only tells the tape what may go.
//!
//! The files are written by a thread of their own, while the next range is read and shown: a slow disk makes nothing late.
//!
//! Nothing is lost when the disk is full: the range stays open, is tried again, and grows; when it is twice as large as it
//! should be, reading stops, and the tape holds the rest.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tapedeck_market::{Record, UnixNanos, Uuid, wire};
use tapedeck_tape::storage::Storage;
use tapedeck_tape::{Cursor, Item, Reader, Start, Tail, Woken, tools};

use crate::disk::Disk;
use crate::error::Error;
use crate::folder::{FileName, Folder};
use crate::house::House;
use crate::keep::Keep;
use crate::range::{Range, write};
use crate::snapshot::{Snapshot, Snapshots, TableView};
use crate::stand_in::{missing, undecodable};
use crate::status::{Board, Status};
use crate::tail::TableTail;
use tapedeck_tables::Table;

/// Records that are read before anything else is looked at.
const TURN_RECORDS: usize = 4096;
/// The longest wait: whoever stops the archive waits for it.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// How often a reading that is blocked looks whether it still is.
const BLOCKED_WAIT: Duration = Duration::from_millis(5);
/// A disk that refuses is asked again after this, then after twice that …
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// … but at least this often.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A disk that fails, rather than is full, is given up after so many tries.
const FAILURES_MAX: u32 = 5;
/// How long a tape that seems shorter than the archive is waited for: a writer that is just opening shows its end late.
const SHORT_TAPE_WAIT: Duration = Duration::from_secs(2);

/// How the archive is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the cursor. Default `store`.
    pub cursor: String,
    /// Where a new archive begins. Default: at the oldest record.
    pub start: Start,
    /// A range is closed after so many records. Default 100,000.
    pub range_records: u64,
    /// A range is closed after this long. Default 5 min.
    pub range_age: Duration,
    /// A range is closed when its rows take so many bytes of memory. Default 64 MiB.
    pub tail_bytes: usize,
    /// New rows are shown at most this often. Default 100 ms.
    pub publish_every: Duration,
    pub keep: Keep,
    /// Old days are compacted and removed this often. Default 10 min.
    pub tidy_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cursor: "store".to_owned(),
            start: Start::Begin,
            range_records: 100_000,
            range_age: Duration::from_secs(300),
            tail_bytes: 64 * 1024 * 1024,
            publish_every: Duration::from_millis(100),
            keep: Keep::default(),
            tidy_every: Duration::from_secs(600),
        }
    }
}

/// The archive's writer. It does nothing by itself: [`crate::Archive`] drives it on threads.
#[derive(Debug)]
pub struct Archiver {
    reader: Reader,
    cursor: Cursor,
    folder: Arc<Folder>,
    snapshots: Arc<Snapshots>,
    board: Arc<Board>,
    options: Options,
    tape_id: Uuid,
    tails: Vec<TableTail>,
    range: Range,
    closing: Option<Closing>,
    /// Records behind the last published snapshot.
    unpublished: u64,
    published_at: Instant,
    last_ts_recv: UnixNanos,
    trouble: Option<Trouble>,
}

/// A range that is being written to files.
#[derive(Debug)]
struct Closing {
    range: Range,
    /// Its rows, by table: until they are in files they are here.
    tables: Arc<Vec<Vec<RecordBatch>>>,
    bytes: usize,
    work: JoinHandle<Result<u64, Error>>,
}

/// A range could not be closed.
#[derive(Debug)]
struct Trouble {
    retry_at: Instant,
    wait: Duration,
    failures: u32,
}

impl Archiver {
    /// Takes the archive in `dir` for the tape in `tape_dir`. `tail` is the writer's, in the writer's own process.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Tape`], [`Error::Io`], [`Error::NotOurs`].
    pub fn open(
        storage: &Arc<dyn Storage>,
        tape_dir: &Path,
        tail: Option<Arc<Tail>>,
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<Archiver, Error> {
        let tape_id = tools::id(storage, tape_dir)?;
        let (folder, mut found) = Folder::open(disk, dir, tape_id)?;
        let open = |start| match &tail {
            Some(tail) => Reader::open_with(Arc::clone(storage), tape_dir, start, Arc::clone(tail)),
            None => Reader::open(Arc::clone(storage), tape_dir, start),
        };
        let board = Board::new(tape_id);
        let (reader, committed) = match found.committed {
            None => {
                let reader = open(options.start)?;
                let committed = reader.seq().saturating_sub(1);
                (reader, committed)
            }
            Some(committed) => {
                let mut reader = open(Start::Seq(committed + 1))?;
                let last_seq = last_seq(&mut reader, committed)?;
                if last_seq < committed {
                    tracing::error!(
                        archived = committed,
                        seq = last_seq,
                        "the tape has lost records that are in the archive"
                    );
                    let aside = folder.set_aside(&mut found.files, last_seq)?;
                    board.update(|status| status.set_aside = aside);
                    reader = open(Start::Seq(last_seq + 1))?;
                }
                (reader, committed.min(last_seq))
            }
        };
        // Before the first file: what is behind this is unfinished, should we be killed now.
        folder.write_state(committed)?;
        for (path, error) in &found.unreadable {
            tracing::warn!(path = %path.display(), error = %error, "file of the archive left out: it cannot be read");
        }
        let mut cursor = Cursor::open(&**storage, tape_dir, &options.cursor, tape_id, reader.durable_seq())?;
        if cursor.seq() != committed || cursor.is_new() {
            cursor.commit(committed, &[])?;
        }
        let snapshots = Arc::new(Snapshots::new(first_snapshot(tape_id, committed, found.files)));
        board.update(|status| {
            status.leftovers = found.leftovers;
            status.unreadable = found.unreadable.len() as u64;
            status.read_seq = committed;
        });
        let archiver = Archiver {
            reader,
            cursor,
            folder: Arc::new(folder),
            snapshots,
            board,
            options,
            tape_id,
            tails: Table::ALL.map(|table| TableTail::new(table, tape_id)).into(),
            range: Range::after(committed),
            closing: None,
            unpublished: 0,
            published_at: Instant::now(),
            last_ts_recv: UnixNanos::now(),
            trouble: None,
        };
        archiver.show_files();
        Ok(archiver)
    }

    #[must_use]
    pub fn snapshots(&self) -> Arc<Snapshots> {
        Arc::clone(&self.snapshots)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.board.status()
    }

    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Who compacts and removes old days.
    #[must_use]
    pub fn house(&self) -> House {
        let (folder, snapshots, board) = (&self.folder, &self.snapshots, &self.board);
        House::new(Arc::clone(folder), Arc::clone(snapshots), Arc::clone(board), self.options.keep.clone())
    }

    /// Reads on, publishes and closes what is due, and waits a moment when there is nothing to do. Call it again and again.
    ///
    /// # Errors
    /// [`Error::Tape`], [`Error::Parquet`], or [`Error::Io`] when the disk failed again and again. The archive holds what it
    /// held, and can be opened again.
    pub fn turn(&mut self) -> Result<(), Error> {
        let at_end = self.read_some()?;
        if self.unpublished > 0 && self.published_at.elapsed() >= self.options.publish_every {
            self.publish();
        }
        if self.closing.as_ref().is_some_and(|closing| closing.work.is_finished()) {
            let closed = self.finish_close();
            self.judge(closed)?;
        }
        if self.closing.is_none() && self.is_due() {
            let begun = self.begin_close();
            self.judge(begun)?;
        }
        if at_end {
            self.wait()?;
        }
        Ok(())
    }

    /// Reads all that is durable now, and publishes it.
    ///
    /// # Errors
    /// As [`Archiver::turn`].
    pub fn catch_up(&mut self) -> Result<(), Error> {
        loop {
            let at_end = self.read_some()?;
            if self.is_due() {
                self.close_range()?;
            }
            if at_end {
                break;
            }
        }
        self.publish();
        Ok(())
    }

    /// Makes files of what was read, now.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Parquet`]: nothing has happened; the range is open still.
    pub fn close_range(&mut self) -> Result<(), Error> {
        self.finish_close()?;
        self.begin_close()?;
        self.finish_close()
    }

    /// Hands the range to a thread that writes it, and opens the next.
    fn begin_close(&mut self) -> Result<(), Error> {
        if self.range.is_empty() {
            return Ok(());
        }
        self.publish();
        let bytes = self.tail_bytes();
        let tables: Arc<Vec<Vec<RecordBatch>>> = Arc::new(self.tails.iter_mut().map(TableTail::take).collect());
        self.snapshots.publish(|snapshot| {
            snapshot.closing = std::mem::replace(&mut snapshot.open, std::array::from_fn(|_| Arc::default()));
        });
        let (from_seq, to_seq) = (self.range.from_seq, self.range.to_seq);
        let range = std::mem::replace(&mut self.range, Range::after(to_seq));
        let name = FileName { tape_id: self.tape_id, from_seq, to_seq };
        let (folder, snapshots) = (Arc::clone(&self.folder), Arc::clone(&self.snapshots));
        let spawned = {
            let tables = Arc::clone(&tables);
            thread::Builder::new()
                .name("archive-write".to_owned())
                .spawn(move || write(&folder, &snapshots, name, &tables))
        };
        match spawned {
            Ok(work) => {
                self.closing = Some(Closing { range, tables, bytes, work });
                Ok(())
            }
            Err(error) => {
                self.reopen(range, tables);
                Err(Error::io("starting a thread", Path::new("archive-write"))(error))
            }
        }
    }

    /// Waits for the files of the range that is being written, if there is one.
    fn finish_close(&mut self) -> Result<(), Error> {
        let Some(Closing { range, tables, work, .. }) = self.closing.take() else { return Ok(()) };
        let written = work.join().unwrap_or_else(|_| {
            Err(Error::NotOurs { what: "the thread that writes the archive's files panicked".to_owned() })
        });
        let files = match written {
            Ok(files) => files,
            Err(error) => {
                self.reopen(range, tables);
                return Err(error);
            }
        };
        self.board.update(|status| {
            status.ranges += 1;
            status.written_files += files;
        });
        self.show_files();
        // It follows with the next range: until then the tape only keeps more than it must.
        if let Err(error) = self.cursor.commit(range.to_seq, &[]) {
            tracing::warn!(seq = range.to_seq, error = describe(&error), "the archive's cursor could not follow");
        }
        tracing::debug!(seq = range.to_seq, files, "range archived");
        Ok(())
    }

    /// A range that could not be written and what was read since are one range again.
    fn reopen(&mut self, range: Range, tables: Arc<Vec<Vec<RecordBatch>>>) {
        self.range.from_seq = range.from_seq;
        self.range.records += range.records;
        self.range.opened_at = range.opened_at;
        let tables = Arc::try_unwrap(tables).unwrap_or_else(|shared| shared.to_vec());
        for (tail, batches) in self.tails.iter_mut().zip(tables) {
            tail.take_back(batches);
            tail.flush();
        }
        let (tails, cut_seq) = (&self.tails, self.range.to_seq);
        self.snapshots.publish(|snapshot| {
            snapshot.cut_seq = cut_seq;
            for (at, tail) in tails.iter().enumerate() {
                snapshot.closing[at] = Arc::default();
                snapshot.open[at] = tail.batches();
                snapshot.join_tail(at);
            }
        });
    }

    /// Takes records in until there are no more, or enough for a turn or a range; says whether there is nothing to do.
    fn read_some(&mut self) -> Result<bool, Error> {
        for _ in 0..TURN_RECORDS {
            if self.is_blocked() {
                return Ok(true);
            }
            if self.trouble.is_none() && self.range.records >= self.options.range_records {
                return Ok(false);
            }
            let (record, to_seq) = match self.reader.next()? {
                None => return Ok(true),
                Some(Item::Record(raw)) => {
                    let event = wire::decode(raw.payload).unwrap_or_else(|_| {
                        self.board.update(|status| status.undecodable += 1);
                        undecodable(raw.payload, UnixNanos(raw.ts_recv))
                    });
                    self.last_ts_recv = event.ts_recv;
                    (Record { seq: raw.seq, event }, raw.seq)
                }
                Some(Item::Hole(hole)) => {
                    self.board.update(|status| status.holes += 1);
                    (Record { seq: hole.from_seq, event: missing(hole, self.last_ts_recv) }, hole.to_seq)
                }
            };
            self.tails[Table::of(&record.event.body).index()].push(&record);
            if self.range.records == 0 {
                self.range.opened_at = Some(Instant::now());
            }
            self.range.records += 1;
            self.range.to_seq = to_seq;
            self.unpublished += 1;
        }
        Ok(false)
    }

    /// Shows what was read.
    fn publish(&mut self) {
        self.published_at = Instant::now();
        self.unpublished = 0;
        let cut_seq = self.range.to_seq;
        let changed: Vec<usize> =
            self.tails.iter_mut().enumerate().filter_map(|(at, tail)| tail.flush().then_some(at)).collect();
        let tails = &self.tails;
        self.snapshots.publish(|snapshot| {
            snapshot.cut_seq = cut_seq;
            for at in changed {
                snapshot.open[at] = tails[at].batches();
                snapshot.join_tail(at);
            }
        });
        self.show();
    }

    fn show(&self) {
        let tail_bytes = self.tail_bytes() as u64;
        let inexact = self.tails.iter().map(TableTail::inexact).sum();
        self.board.update(|status| {
            status.read_seq = self.range.to_seq;
            status.durable_seq = self.reader.durable_seq();
            status.tail_records = self.range.records;
            status.tail_bytes = tail_bytes;
            status.inexact = inexact;
        });
    }

    fn show_files(&self) {
        let newest = self.snapshots.newest();
        self.board.update(|status| status.describe(&newest));
        self.show();
    }

    fn is_due(&self) -> bool {
        if self.range.is_empty() {
            return false;
        }
        match &self.trouble {
            Some(trouble) => Instant::now() >= trouble.retry_at,
            None => {
                self.range.records >= self.options.range_records
                    || self.open_bytes() >= self.options.tail_bytes
                    || self.range.opened_at.is_some_and(|at| at.elapsed() >= self.options.range_age)
            }
        }
    }

    /// Nothing more can be taken in: a range that cannot be closed has grown to twice its size, or the one before it is not
    /// written yet.
    fn is_blocked(&self) -> bool {
        let full = self.range.records >= self.options.range_records;
        self.range.records >= 2 * self.options.range_records
            || self.tail_bytes() >= 2 * self.options.tail_bytes
            || (full && self.trouble.is_none() && self.closing.is_some())
    }

    fn tail_bytes(&self) -> usize {
        let closing = self.closing.as_ref().map_or(0, |closing| closing.bytes);
        closing + self.open_bytes()
    }

    fn open_bytes(&self) -> usize {
        self.tails.iter().map(TableTail::bytes).sum()
    }

    /// Decides what a range that could not be written means.
    fn judge(&mut self, closed: Result<(), Error>) -> Result<(), Error> {
        let error = match closed {
            Ok(()) => {
                if self.closing.is_none() && self.trouble.take().is_some() {
                    tracing::info!(seq = self.range.to_seq, "archiving again");
                    self.board.update(|status| status.waiting = None);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let (wait, failures) = match &self.trouble {
            Some(trouble) => ((2 * trouble.wait).min(RETRY_MAX), trouble.failures),
            None => (RETRY_FIRST, 0),
        };
        let failures = if error.is_full() { failures } else { failures + 1 };
        if failures >= FAILURES_MAX || !matches!(error, Error::Io { .. }) {
            return Err(error);
        }
        let words = describe(&error);
        tracing::warn!(error = words, wait_ms = wait.as_millis(), "archiving waits; the tape keeps the records");
        self.board.update(|status| status.waiting = Some(words));
        self.trouble = Some(Trouble { retry_at: Instant::now() + wait, wait, failures });
        Ok(())
    }

    /// Until there is more to read, or something else is due.
    fn wait(&mut self) -> Result<(), Error> {
        let mut left = WAIT_MAX;
        if self.unpublished > 0 {
            left = left.min(self.options.publish_every.saturating_sub(self.published_at.elapsed()));
        }
        if let (Some(at), None) = (self.range.opened_at, &self.closing) {
            left = left.min(self.options.range_age.saturating_sub(at.elapsed()));
        }
        if let (Some(trouble), None) = (&self.trouble, &self.closing) {
            left = WAIT_MAX.min(trouble.retry_at.saturating_duration_since(Instant::now()));
        }
        if left.is_zero() {
            return Ok(());
        }
        // It must not be woken by what it cannot take.
        if self.is_blocked() {
            thread::sleep(left.min(BLOCKED_WAIT));
        } else if self.reader.wait(left)? == Woken::WriterGone {
            thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        // The next one must find the folder free.
        if let Some(closing) = self.closing.take() {
            let _ = closing.work.join();
        }
    }
}

/// The last seq of the tape, which may be shown a little late.
fn last_seq(reader: &mut Reader, committed: u64) -> Result<u64, Error> {
    let until = Instant::now() + SHORT_TAPE_WAIT;
    while reader.durable_seq() < committed && Instant::now() < until {
        // It stands behind `committed`: being woken means that there is more than that.
        reader.wait(WAIT_MAX)?;
    }
    Ok(reader.durable_seq())
}

fn first_snapshot(tape_id: Uuid, committed: u64, files: Vec<Arc<crate::snapshot::ArchiveFile>>) -> Snapshot {
    let mut of_table: [Vec<_>; Table::COUNT] = std::array::from_fn(|_| Vec::new());
    for file in files {
        of_table[file.table.index()].push(file);
    }
    let tables = of_table.map(|files| TableView { files: Arc::new(files), tail: Arc::default() });
    let empty = || std::array::from_fn(|_| Arc::default());
    let (cut_seq, archived_seq) = (committed, committed);
    Snapshot { tape_id, generation: 0, cut_seq, archived_seq, tables, closing: empty(), open: empty() }
}

/// An error with its causes.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}
