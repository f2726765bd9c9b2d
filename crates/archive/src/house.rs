//! Old days: fewer and larger files, and in the end none.
//!
//! The present is the day of the newest archived record, never later than today's: a pause in recording ages nothing, and a
//! tape of the past is not old the moment it is read. Days before it get no more rows, but for what is recorded late, which
//! only makes them due again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tapedeck_market::{UnixNanos, Uuid};

use crate::archiver::describe;
use crate::day::Day;
use crate::error::Error;
use crate::file::{Facts, decode, encode};
use crate::folder::{FileName, Folder, order};
use crate::keep::Keep;
use crate::rows::schema;
use crate::snapshot::{ArchiveFile, Snapshot, Snapshots};
use crate::status::Board;
use tapedeck_tables::Table;

/// Compacted files hold up to this before compression.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;
/// Rows in memory take about this, twice while they are sorted: 16 bytes a column, whether there is a value or not.
const GROUP_MEMORY_BYTES: u64 = 96 * 1024 * 1024;
const COLUMN_BYTES: u64 = 16;

/// Compacts and removes old days.
#[derive(Debug)]
pub struct House {
    folder: Arc<Folder>,
    snapshots: Arc<Snapshots>,
    board: Arc<Board>,
    keep: Keep,
}

/// What was tidied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Days of a table that were given fewer files.
    pub compacted: u64,
    /// Days of a table that were removed.
    pub removed: u64,
}

impl House {
    pub(crate) fn new(folder: Arc<Folder>, snapshots: Arc<Snapshots>, board: Arc<Board>, keep: Keep) -> House {
        House { folder, snapshots, board, keep }
    }

    /// Removes what is too old or too much, then compacts what is left of past days. Folders that were replaced are emptied by
    /// the next call, so that nobody is interrupted in listing one.
    ///
    /// # Errors
    /// The first failure: [`Error::Io`], [`Error::Parquet`]. Whatever was done until then is done, and the rest is tried next
    /// time.
    pub fn tidy(&self, stop: &dyn Fn() -> bool) -> Result<Tidied, Error> {
        let mut tidied = Tidied::default();
        let done = self.tidy_all(stop, &mut tidied);
        let newest = self.snapshots.newest();
        self.board.update(|status| {
            status.compacted_days += tidied.compacted;
            status.removed_days += tidied.removed;
            status.untidy = done.as_ref().err().map(|error| describe(error));
            status.describe(&newest);
        });
        done.map(|()| tidied)
    }

    fn tidy_all(&self, stop: &dyn Fn() -> bool, tidied: &mut Tidied) -> Result<(), Error> {
        self.folder.sweep()?;
        let Some(present) = present(&self.snapshots.newest()) else { return Ok(()) };
        for (table, day) in self.expired(present) {
            self.remove(table, day)?;
            tidied.removed += 1;
        }
        if !self.folder.has_links() {
            return Ok(());
        }
        for table in Table::ALL {
            let days: BTreeSet<Day> =
                self.files(table).iter().map(|file| file.day).filter(|day| *day < present).collect();
            for day in days {
                if stop() {
                    return Err(Error::Stopped);
                }
                if self.compact(table, day, stop)? {
                    tidied.compacted += 1;
                }
            }
        }
        Ok(())
    }

    fn expired(&self, present: Day) -> Vec<(Table, Day)> {
        let mut bytes: BTreeMap<(Day, Table), u64> = BTreeMap::new();
        for table in Table::ALL {
            for file in self.files(table).iter() {
                *bytes.entry((file.day, table)).or_default() += file.bytes;
            }
        }
        let mut total: u64 = bytes.values().sum();
        let mut expired = Vec::new();
        for ((day, table), bytes) in bytes {
            let old = self.keep.first_day(table, present).is_some_and(|first| day < first);
            let much = self.keep.max_bytes.is_some_and(|max| total > max) && day < present;
            if old || much {
                total -= bytes;
                expired.push((table, day));
            }
        }
        expired
    }

    fn remove(&self, table: Table, day: Day) -> Result<(), Error> {
        self.folder.remove_day(table, day, || {
            self.snapshots.publish(|snapshot| {
                let files = Arc::make_mut(&mut snapshot.tables[table.index()].files);
                self.folder.retire(files.iter().filter(|file| file.day == day));
                files.retain(|file| file.day != day);
            });
        })?;
        tracing::info!(table = table.name(), day = %day, "day removed from the archive");
        Ok(())
    }

    fn compact(&self, table: Table, day: Day, stop: &dyn Fn() -> bool) -> Result<bool, Error> {
        let of_day =
            || -> Vec<Arc<ArchiveFile>> { self.files(table).iter().filter(|file| file.day == day).cloned().collect() };
        let before = of_day();
        let groups = plan(table, &before);
        if groups.len() == before.len() {
            return Ok(false);
        }
        let mut replacement = self.folder.begin_replacement(table, day)?;
        let mut kept = Vec::new();
        for group in groups {
            if stop() {
                return Err(Error::Stopped);
            }
            match group.as_slice() {
                [one] => {
                    self.folder.keep(&mut replacement, one)?;
                    kept.push(Arc::clone(one));
                }
                many => {
                    let (name, bytes, facts) = self.merge(table, many)?;
                    self.folder.add(&mut replacement, name, &bytes, facts)?;
                }
            }
        }
        let is_kept = |file: &Arc<ArchiveFile>| kept.iter().any(|kept| Arc::ptr_eq(kept, file));
        let still = || {
            let now = of_day();
            now.len() == before.len() && now.iter().zip(&before).all(|(now, before)| Arc::ptr_eq(now, before))
        };
        let files_before = before.len();
        let replaced = self.folder.replace(replacement, still, |new| {
            self.snapshots.publish(|snapshot| {
                let files = Arc::make_mut(&mut snapshot.tables[table.index()].files);
                self.folder.retire(files.iter().filter(|file| file.day == day && !is_kept(file)));
                files.retain(|file| file.day != day);
                files.extend(new);
                files.sort_by_key(|file| order(file));
            });
        })?;
        if replaced {
            tracing::info!(table = table.name(), day = %day, files = files_before, "day compacted");
        }
        Ok(replaced)
    }

    /// Several files as one.
    fn merge(&self, table: Table, files: &[Arc<ArchiveFile>]) -> Result<(FileName, Vec<u8>, Facts), Error> {
        let mut batches = Vec::new();
        for file in files {
            batches.extend(decode(table, file.public_path(), self.folder.read(file)?)?);
        }
        let (first, last) = (&files[0], &files[files.len() - 1]);
        let name = FileName { tape_id: first.tape_id, from_seq: first.from_seq, to_seq: last.to_seq };
        let (bytes, facts) = encode(table, &batches, name.tape_id, (name.from_seq, name.to_seq))
            .map_err(Error::parquet("encoding", first.public_path()))?;
        Ok((name, bytes, facts))
    }

    fn files(&self, table: Table) -> Arc<Vec<Arc<ArchiveFile>>> {
        Arc::clone(&self.snapshots.newest().table(table).files)
    }
}

/// The day of the newest record in a file; `None` when there is none.
fn present(snapshot: &Snapshot) -> Option<Day> {
    let files = Table::ALL.into_iter().flat_map(|table| snapshot.table(table).files.iter());
    let ours = files.filter(|file| file.tape_id == snapshot.tape_id);
    // Of the last range, the latest day: a clock that was wrong once is not believed for ever.
    let newest = ours.max_by_key(|file| (file.to_seq, file.day))?;
    Some(newest.day.min(Day::of(UnixNanos::now().0)))
}

/// Neighbours of one tape, as many as make a file of the right size.
fn plan(table: Table, files: &[Arc<ArchiveFile>]) -> Vec<Vec<Arc<ArchiveFile>>> {
    let rows_max = GROUP_MEMORY_BYTES / (COLUMN_BYTES * schema(table).fields().len() as u64);
    let mut groups: Vec<Vec<Arc<ArchiveFile>>> = Vec::new();
    let (mut bytes, mut rows, mut tape) = (0, 0, Uuid::nil());
    for file in files {
        let joins = file.tape_id == tape && bytes + file.plain_bytes <= GROUP_BYTES && rows + file.rows <= rows_max;
        match groups.last_mut().filter(|_| joins) {
            Some(group) => group.push(Arc::clone(file)),
            None => {
                groups.push(vec![Arc::clone(file)]);
                (bytes, rows, tape) = (0, 0, file.tape_id);
            }
        }
        bytes += file.plain_bytes;
        rows += file.rows;
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn file(tape: u128, from_seq: u64, rows: u64, plain_bytes: u64) -> Arc<ArchiveFile> {
        Arc::new(ArchiveFile {
            table: Table::Trades,
            day: Day(0),
            tape_id: Uuid::from_u128(tape),
            from_seq,
            to_seq: from_seq + rows,
            rows,
            bytes: plain_bytes / 3,
            plain_bytes,
            ts_recv: None,
            ts_event: None,
            symbols: None,
            public: "x".into(),
            path: "x".into(),
            link: Mutex::default(),
        })
    }

    fn sizes(files: &[Arc<ArchiveFile>]) -> Vec<usize> {
        plan(Table::Trades, files).iter().map(Vec::len).collect()
    }

    #[test]
    fn neighbours_of_one_tape_are_joined_until_the_file_is_large_enough() {
        const MIB: u64 = 1024 * 1024;
        let many: Vec<_> = (0..40).map(|nth| file(1, nth * 100, 100, MIB)).collect();
        assert_eq!(sizes(&many), [16, 16, 8]);
        let wide: Vec<_> = (0..4).map(|nth| file(1, nth * 300_000, 150_000, 1)).collect();
        assert_eq!(sizes(&wide), [2, 2], "their rows would take too much memory");
        assert_eq!(sizes(&[file(1, 0, 1, 1), file(2, 0, 1, 1), file(2, 5, 1, 1)]), [1, 2]);
        assert_eq!(sizes(&[file(1, 0, 1, 20 * MIB), file(1, 5, 1, MIB), file(1, 9, 1, 15 * MIB)]), [1, 2]);
        assert_eq!(sizes(&[]), [] as [usize; 0]);
        let joined = [file(1, 0, 1600, 16 * MIB), file(1, 1600, 1600, 16 * MIB), file(1, 3200, 800, 8 * MIB)];
        assert_eq!(sizes(&joined), [1, 1, 1], "what was joined is left alone");
    }
}
