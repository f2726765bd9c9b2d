//! The archive on disk.
//!
//! ```text
//! <dir>/<table>/date=<UTC day of ts_recv>/<tape id>-<from seq>-<to seq>.parquet    what people read
//! <dir>/.state/<tape id>     {"version":1,"committed":N}: every record of that tape up to N is in the files
//! <dir>/.files/<n>.parquet   a second name of each file, for our own readers; made anew at each start
//! <dir>/.work/               what is being made or taken away; emptied at each start
//! <dir>/.aside/              files whose records the tape has lost and numbered anew (a disk that lied)
//! <dir>/lock                 held by the one process that keeps the archive
//! ```
//!
//! Invariants:
//! - A file appears whole: it is written in `.work`, synced, and renamed.
//! - `committed` moves when the files of all tables up to it are durable. A file that begins behind it belongs to a range that
//!   was not finished; it is removed before anything else is written, and the range is written again from the tape. So every
//!   record is in the archive exactly once, wherever the process was killed.
//! - The files of a past day are replaced by larger ones by exchanging two folders, in one step of the file system. A reader
//!   that lists the folder finds the old files or the new ones, never both and never none: the old folder stays whole for
//!   whoever is in the middle of listing it, until the next sweep. One that has listed before and opens after is told that its
//!   file is gone, and lists again.
//! - Our own readers open the names in `.files`, which go when the last snapshot that knows them does.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tapedeck_market::Uuid;

use crate::day::Day;
use crate::disk::Disk;
use crate::error::Error;
use crate::file::{Facts, facts_of};
use crate::snapshot::ArchiveFile;
use tapedeck_tables::Table;

const STATE: &str = ".state";
const FILES: &str = ".files";
const WORK: &str = ".work";
const ASIDE: &str = ".aside";
const STATE_VERSION: u32 = 1;

/// Who the rows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileName {
    pub tape_id: Uuid,
    pub from_seq: u64,
    pub to_seq: u64,
}

impl FileName {
    pub(crate) fn text(self) -> String {
        format!("{}-{}-{}.parquet", self.tape_id, self.from_seq, self.to_seq)
    }

    pub(crate) fn parse(name: &str) -> Option<FileName> {
        let mut parts = name.strip_suffix(".parquet")?.rsplitn(3, '-');
        let to_seq = parts.next()?.parse().ok()?;
        let from_seq = parts.next()?.parse().ok()?;
        let tape_id = Uuid::parse_str(parts.next()?).ok()?;
        let parsed = FileName { tape_id, from_seq, to_seq };
        (parsed.text() == name).then_some(parsed)
    }
}

/// A file that is to be.
#[derive(Debug)]
pub(crate) struct Part {
    pub table: Table,
    pub day: Day,
    pub name: FileName,
    pub bytes: Vec<u8>,
    pub facts: Facts,
}

/// One of the files that take the place of a day's.
#[derive(Debug)]
enum Piece {
    Kept(Arc<ArchiveFile>),
    New { name: FileName, bytes: u64, facts: Facts },
}

/// The files that are to take the place of a day's, as far as they are written.
#[derive(Debug)]
pub(crate) struct Replacement {
    table: Table,
    day: Day,
    work: PathBuf,
    pieces: Vec<Piece>,
}

/// What was found when the archive was opened.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub files: Vec<Arc<ArchiveFile>>,
    /// `None`: this tape has never been archived here.
    pub committed: Option<u64>,
    /// Files of an unfinished range, removed.
    pub leftovers: u64,
    /// Files that cannot be read, left alone.
    pub unreadable: Vec<(PathBuf, Error)>,
}

/// The archive's folder, held by this process.
#[derive(Debug)]
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    tape_id: Uuid,
    next: AtomicU64,
    /// The file system knows second names; without them days are not compacted.
    links: AtomicBool,
    /// Files of a commit that failed half way, to be removed before the next.
    stale: Mutex<Vec<PathBuf>>,
    committed: AtomicU64,
    /// Folders that were taken out of sight, and may still be being listed by somebody.
    retired: Mutex<Vec<PathBuf>>,
    /// Held while names in the tables' folders change.
    hands: Mutex<()>,
    _lock: Box<dyn Guard>,
}

trait Guard: std::fmt::Debug + Send + Sync {}

struct Held(#[expect(dead_code, reason = "dropping it releases the lock")] Box<dyn Send + Sync>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Guard for Held {}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    committed: u64,
}

impl Folder {
    /// Takes the archive, and clears away what a killed process left.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Io`], [`Error::NotOurs`] for a state of a later version.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, tape_id: Uuid) -> Result<(Folder, Found), Error> {
        disk.create_dir(dir).map_err(Error::io("creating", dir))?;
        let lock = disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_path_buf() },
            _ => Error::io("locking", dir)(error),
        })?;
        let folder = Folder {
            disk,
            dir: dir.to_path_buf(),
            tape_id,
            next: AtomicU64::new(1),
            links: AtomicBool::new(true),
            stale: Mutex::default(),
            committed: AtomicU64::new(0),
            retired: Mutex::default(),
            hands: Mutex::default(),
            _lock: Box::new(Held(lock)),
        };
        for name in [WORK, FILES] {
            let path = dir.join(name);
            folder.disk.remove_dir(&path).map_err(Error::io("emptying", &path))?;
            folder.disk.create_dir(&path).map_err(Error::io("creating", &path))?;
        }
        let states = dir.join(STATE);
        folder.disk.create_dir(&states).map_err(Error::io("creating", &states))?;
        let found = folder.look()?;
        Ok((folder, found))
    }

    /// Every record up to `committed` is in the files from now on.
    pub(crate) fn write_state(&self, committed: u64) -> Result<(), Error> {
        let path = self.state_path();
        let work = self.work_path();
        let state = serde_json::to_vec(&State { version: STATE_VERSION, committed }).unwrap_or_default();
        self.disk.write(&work, &state).map_err(Error::io("writing", &work))?;
        self.disk.rename(&work, &path).map_err(Error::io("renaming", &path))?;
        let states = self.dir.join(STATE);
        self.disk.sync_dir(&states).map_err(Error::io("syncing", &states))?;
        self.committed.store(committed, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a range's files durable, all of them, then says so in the state, then to `publish`. After an error the archive
    /// holds the range not at all, or holds files of it that the next commit, or the next start, removes.
    pub(crate) fn commit(
        &self,
        parts: Vec<Part>,
        committed: u64,
        publish: impl FnOnce(Vec<Arc<ArchiveFile>>),
    ) -> Result<(), Error> {
        let _hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_stale()?;
        let done = self.place(&parts).and_then(|()| self.write_state(committed));
        if let Err(error) = done {
            let paths = parts.iter().map(|part| self.path_of(part));
            self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
            return Err(error);
        }
        let take_in = |part: Part| {
            let bytes = part.bytes.len() as u64;
            self.take_in(self.path_of(&part), part.table, part.day, part.name, bytes, part.facts)
        };
        publish(parts.into_iter().map(take_in).collect());
        Ok(())
    }

    /// Begins to give a day of a table other files.
    pub(crate) fn begin_replacement(&self, table: Table, day: Day) -> Result<Replacement, Error> {
        let work = self.work_path();
        self.disk.create_dir(&work).map_err(Error::io("creating", &work))?;
        // Whatever comes of it, what lies there in the end is nobody's.
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(work.clone());
        Ok(Replacement { table, day, work, pieces: Vec::new() })
    }

    /// A file of the day stays.
    pub(crate) fn keep(&self, replacement: &mut Replacement, file: &Arc<ArchiveFile>) -> Result<(), Error> {
        let path = replacement.work.join(file_name(&file.public));
        self.disk.link(&file.path, &path).map_err(Error::io("linking", &path))?;
        replacement.pieces.push(Piece::Kept(Arc::clone(file)));
        Ok(())
    }

    /// A file takes the place of others.
    pub(crate) fn add(
        &self,
        replacement: &mut Replacement,
        name: FileName,
        bytes: &[u8],
        facts: Facts,
    ) -> Result<(), Error> {
        let path = replacement.work.join(name.text());
        self.disk.write(&path, bytes).map_err(Error::io("writing", &path))?;
        replacement.pieces.push(Piece::New { name, bytes: bytes.len() as u64, facts });
        Ok(())
    }

    /// Puts the replacement in its place. `still` is asked, when nothing can change any more, whether the day's files are
    /// still those that the new ones were made of; when they are not, nothing is done. Says whether it was.
    pub(crate) fn replace(
        &self,
        replacement: Replacement,
        still: impl FnOnce() -> bool,
        publish: impl FnOnce(Vec<Arc<ArchiveFile>>),
    ) -> Result<bool, Error> {
        let Replacement { table, day, work, pieces } = replacement;
        self.disk.sync_dir(&work).map_err(Error::io("syncing", &work))?;
        let _hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        if !still() {
            return Ok(false);
        }
        let path = self.day_path(table, day);
        self.disk.exchange(&work, &path).map_err(Error::io("exchanging", &path))?;
        for dir in [self.table_path(table), self.dir.join(WORK)] {
            self.disk.sync_dir(&dir).map_err(Error::io("syncing", &dir))?;
        }
        let files = pieces.into_iter().map(|piece| match piece {
            Piece::Kept(file) => file,
            Piece::New { name, bytes, facts } => self.take_in(path.join(name.text()), table, day, name, bytes, facts),
        });
        publish(files.collect());
        Ok(true)
    }

    /// Takes a day of a table away. `publish` is called when it is out of the readers' sight.
    pub(crate) fn remove_day(&self, table: Table, day: Day, publish: impl FnOnce()) -> Result<(), Error> {
        let (path, work) = (self.day_path(table, day), self.work_path());
        {
            let _hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
            match self.disk.rename(&path, &work) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                answer => answer.map_err(Error::io("removing", &path))?,
            }
            publish();
        }
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(work);
        let table = self.table_path(table);
        self.disk.sync_dir(&table).map_err(Error::io("syncing", &table))
    }

    /// Removes the folders that were out of sight already when this was called last.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let retired = std::mem::take(&mut *self.retired.lock().unwrap_or_else(PoisonError::into_inner));
        for dir in retired {
            self.disk.remove_dir(&dir).map_err(Error::io("removing", &dir))?;
        }
        Ok(())
    }

    /// Puts the files behind `last_seq` out of sight: the tape lost their records, and gives their seqs to others.
    pub(crate) fn set_aside(&self, files: &mut Vec<Arc<ArchiveFile>>, last_seq: u64) -> Result<u64, Error> {
        let aside = self.dir.join(ASIDE);
        self.disk.create_dir(&aside).map_err(Error::io("creating", &aside))?;
        let lost = |file: &Arc<ArchiveFile>| file.tape_id == self.tape_id && file.from_seq > last_seq;
        let mut touched = BTreeSet::from([aside.clone()]);
        for file in files.iter().filter(|file| lost(file)) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let to = aside.join(format!("{}-{}-{number}-{}", file.table, file.day, file_name(&file.public)));
            self.disk.rename(&file.public, &to).map_err(Error::io("setting aside", &file.public))?;
            file.retire(Arc::clone(&self.disk));
            touched.insert(self.day_path(file.table, file.day));
        }
        for dir in touched {
            self.disk.sync_dir(&dir).map_err(Error::io("syncing", &dir))?;
        }
        let before = files.len();
        files.retain(|file| !lost(file));
        Ok((before - files.len()) as u64)
    }

    pub(crate) fn read(&self, file: &ArchiveFile) -> Result<bytes::Bytes, Error> {
        self.disk.read(&file.path).map_err(Error::io("reading", &file.public))
    }

    /// Lets the own name of files go that are no longer part of the archive.
    pub(crate) fn retire<'a>(&self, files: impl IntoIterator<Item = &'a Arc<ArchiveFile>>) {
        for file in files {
            file.retire(Arc::clone(&self.disk));
        }
    }

    /// Whether days can be compacted here.
    pub(crate) fn has_links(&self) -> bool {
        self.links.load(Ordering::Relaxed)
    }

    fn look(&self) -> Result<Found, Error> {
        let mut found = Found { committed: self.read_state()?, ..Found::default() };
        let mut leftovers = Vec::new();
        for table in Table::ALL {
            for day in self.list(&self.table_path(table))?.into_iter().filter(|name| name.is_dir) {
                let Some(day) = day.name.strip_prefix("date=").and_then(|day| day.parse().ok()) else { continue };
                let dir = self.day_path(table, day);
                for name in self.list(&dir)? {
                    let Some(named) = FileName::parse(&name.name) else { continue };
                    let path = dir.join(&name.name);
                    let ours = named.tape_id == self.tape_id;
                    if ours && found.committed.is_some_and(|committed| named.from_seq > committed) {
                        leftovers.push(path);
                        continue;
                    }
                    match self.look_at(table, day, named, path.clone()) {
                        Ok(file) => found.files.push(file),
                        Err(error) => found.unreadable.push((path, error)),
                    }
                }
            }
        }
        found.leftovers = leftovers.len() as u64;
        self.remove_files(&leftovers)?;
        found.files.sort_by_key(|file| order(file));
        if found.committed.is_none() {
            // Files without a state: it was lost, and they are believed.
            let ours = found.files.iter().filter(|file| file.tape_id == self.tape_id);
            found.committed = ours.map(|file| file.to_seq).max();
        }
        self.committed.store(found.committed.unwrap_or_default(), Ordering::Relaxed);
        Ok(found)
    }

    fn look_at(&self, table: Table, day: Day, name: FileName, path: PathBuf) -> Result<Arc<ArchiveFile>, Error> {
        // A damaged file must cost itself only.
        let (facts, bytes) = catch_unwind(AssertUnwindSafe(|| facts_of(&*self.disk, &path)))
            .unwrap_or_else(|_| Err(Error::NotOurs { what: format!("{} is no Parquet file", path.display()) }))?;
        Ok(self.take_in(path, table, day, name, bytes, facts))
    }

    /// Describes a file that is in its place, and gives it a name of our own.
    fn take_in(
        &self,
        public: PathBuf,
        table: Table,
        day: Day,
        name: FileName,
        bytes: u64,
        facts: Facts,
    ) -> Arc<ArchiveFile> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let own = self.dir.join(FILES).join(format!("{number}.parquet"));
        let path = match self.disk.link(&public, &own) {
            Ok(()) => own,
            Err(error) => {
                if self.links.swap(false, Ordering::Relaxed) {
                    tracing::warn!(error = %error, "no second names on this file system: past days are not compacted");
                }
                public.clone()
            }
        };
        Arc::new(ArchiveFile {
            table,
            day,
            tape_id: name.tape_id,
            from_seq: name.from_seq,
            to_seq: name.to_seq,
            rows: facts.rows,
            bytes,
            plain_bytes: facts.plain_bytes,
            ts_recv: facts.ts_recv,
            ts_event: facts.ts_event,
            symbols: facts.symbols,
            public,
            path,
            link: Mutex::default(),
        })
    }

    fn place(&self, parts: &[Part]) -> Result<(), Error> {
        let mut ready = Vec::with_capacity(parts.len());
        for part in parts {
            let work = self.work_path();
            self.disk.write(&work, &part.bytes).map_err(Error::io("writing", &work))?;
            ready.push((work, part));
        }
        let mut touched = BTreeSet::new();
        for (work, part) in ready {
            let (dir, path) = (self.day_path(part.table, part.day), self.path_of(part));
            self.disk.create_dir(&dir).map_err(Error::io("creating", &dir))?;
            self.disk.rename(&work, &path).map_err(Error::io("renaming", &path))?;
            touched.insert(dir);
        }
        for dir in touched {
            self.disk.sync_dir(&dir).map_err(Error::io("syncing", &dir))?;
        }
        Ok(())
    }

    fn remove_stale(&self) -> Result<(), Error> {
        let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
        if stale.is_empty() {
            return Ok(());
        }
        // The state may have been written all the same, and must not speak for files that are gone.
        self.write_state(self.committed.load(Ordering::Relaxed))?;
        self.remove_files(&stale)?;
        stale.clear();
        Ok(())
    }

    /// Removes files, durably. Those that are gone already are no error.
    fn remove_files(&self, paths: &[PathBuf]) -> Result<(), Error> {
        let mut touched = BTreeSet::new();
        for path in paths {
            match self.disk.remove(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                answer => answer.map_err(Error::io("removing", path))?,
            }
            touched.extend(path.parent());
        }
        for dir in touched {
            self.disk.sync_dir(dir).map_err(Error::io("syncing", dir))?;
        }
        Ok(())
    }

    fn read_state(&self) -> Result<Option<u64>, Error> {
        let path = self.state_path();
        let bytes = match self.disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("reading", &path)(error)),
        };
        match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.version <= STATE_VERSION => Ok(Some(state.committed)),
            _ => Err(Error::NotOurs { what: format!("{} is not a state that this version knows", path.display()) }),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<crate::disk::Name>, Error> {
        self.disk.list(dir).map_err(Error::io("listing", dir))
    }

    fn path_of(&self, part: &Part) -> PathBuf {
        self.day_path(part.table, part.day).join(part.name.text())
    }

    fn table_path(&self, table: Table) -> PathBuf {
        self.dir.join(table.name())
    }

    fn day_path(&self, table: Table, day: Day) -> PathBuf {
        self.table_path(table).join(format!("date={day}"))
    }

    fn state_path(&self) -> PathBuf {
        self.dir.join(STATE).join(self.tape_id.to_string())
    }

    fn work_path(&self) -> PathBuf {
        self.dir.join(WORK).join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// By day, then by seq.
pub(crate) fn order(file: &ArchiveFile) -> (Day, Uuid, u64) {
    (file.day, file.tape_id, file.from_seq)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_tape_and_range_and_nothing_else_is_one() {
        let name = FileName { tape_id: Uuid::from_u128(0xabc), from_seq: 1, to_seq: u64::MAX };
        assert_eq!(name.text(), "00000000-0000-0000-0000-000000000abc-1-18446744073709551615.parquet");
        assert_eq!(FileName::parse(&name.text()), Some(name));
        for other in ["x.parquet", "1-2.parquet", "00000000-0000-0000-0000-000000000abc-01-2.parquet", ""] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }
}
