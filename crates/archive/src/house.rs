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
use crate::file::{decode, encode};
use crate::folder::{FileName, Folder, Part, Piece, order};
use crate::keep::Keep;
use crate::snapshot::{ArchiveFile, Snapshot, Snapshots};
use crate::status::Board;
use crate::table::Table;

/// Compacted files hold up to this: sorting one takes about ten times its bytes in memory.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;
const GROUP_ROWS: u64 = 1_048_576;

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
                if self.compact(table, day)? {
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

    fn compact(&self, table: Table, day: Day) -> Result<bool, Error> {
        let of_day =
            || -> Vec<Arc<ArchiveFile>> { self.files(table).iter().filter(|file| file.day == day).cloned().collect() };
        let before = of_day();
        let groups = plan(&before);
        if groups.len() == before.len() {
            return Ok(false);
        }
        let mut pieces = Vec::with_capacity(groups.len());
        for group in groups {
            pieces.push(match group.as_slice() {
                [one] => Piece::Kept(Arc::clone(one)),
                many => Piece::New(self.merge(table, day, many)?),
            });
        }
        let kept: Vec<Arc<ArchiveFile>> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Kept(file) => Some(Arc::clone(file)),
                Piece::New(_) => None,
            })
            .collect();
        let is_kept = |file: &Arc<ArchiveFile>| kept.iter().any(|kept| Arc::ptr_eq(kept, file));
        let still = || {
            let now = of_day();
            now.len() == before.len() && now.iter().zip(&before).all(|(now, before)| Arc::ptr_eq(now, before))
        };
        let files_before = before.len();
        let replaced = self.folder.replace((table, day), pieces, still, |new| {
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
    fn merge(&self, table: Table, day: Day, files: &[Arc<ArchiveFile>]) -> Result<Part, Error> {
        let mut batches = Vec::new();
        for file in files {
            batches.extend(decode(table, file.public_path(), self.folder.read(file)?)?);
        }
        let (first, last) = (&files[0], &files[files.len() - 1]);
        let name = FileName { tape_id: first.tape_id, from_seq: first.from_seq, to_seq: last.to_seq };
        let (bytes, facts) = encode(table, &batches, name.tape_id, (name.from_seq, name.to_seq))
            .map_err(Error::parquet("encoding", first.public_path()))?;
        Ok(Part { table, day, name, bytes, facts })
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
fn plan(files: &[Arc<ArchiveFile>]) -> Vec<Vec<Arc<ArchiveFile>>> {
    let mut groups: Vec<Vec<Arc<ArchiveFile>>> = Vec::new();
    let (mut bytes, mut rows, mut tape) = (0, 0, Uuid::nil());
    for file in files {
        let joins = file.tape_id == tape && bytes + file.plain_bytes <= GROUP_BYTES && rows + file.rows <= GROUP_ROWS;
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
