//! What is remembered between two runs: marks, what was sent, dead letters, figures. One SQLite file under one lock.
//!
//! A document that was confirmed has its digest here, so that it is sent again only when it says something else. The mark of
//! a table is written after all that lies before it, in the same file: a crash in between costs reading again, nothing more.
//! What is about to be sent is noted before, so that an answer that never came is asked for and not sent anew.
//!
//! All of a table is bound to the source and the target that it was made between ([`Ends`]): with another target nothing was sent, with
//! another source no mark is worth anything.

mod documents;
mod layout;
mod letters;
mod table;
#[cfg(test)]
mod tests;
mod way;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::Connection;
use tapedeck_market::UnixNanos;

pub use documents::{Known, Lies, TIMELESS};
pub use letters::Letter;
pub use table::{Anew, Ends};
pub use way::{Reached, Way};

use super::source::Mark;

/// Name of the file in the folder.
const FILE: &str = "state.db";
const LOCK: &str = "lock";
/// What SQLite may hold of it in memory, KiB.
const CACHE_KIB: i64 = 8 << 10;
/// What its log holds before it is taken over into the file, in pages of 4 KiB: each time is a sync of its own.
const LOG_PAGES: i64 = 8_000;
/// Documents and keys of rows are in it: for its owner only.
const OWNERS: u32 = 0o600;
const OWNERS_FOLDER: u32 = 0o700;

/// The file, ours alone while it is open for writing.
#[derive(Debug)]
pub struct State {
    db: Connection,
    /// Held as long as we live; `None` when only read.
    _lock: Option<File>,
}

/// Another process has the folder.
#[derive(Debug, thiserror::Error)]
#[error("another sync works in {}", .0.display())]
pub struct Taken(pub PathBuf);

/// A table in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(i64);

/// What became of rows since the last time this was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub seen: u64,
    pub sent: u64,
    pub unchanged: u64,
    /// Rows with the key of another one, of which only the last is at the target.
    pub doubled: u64,
    pub removed: u64,
    pub busy_ms: u64,
}

impl Figures {
    pub fn add(&mut self, other: Figures) {
        self.seen += other.seen;
        self.sent += other.sent;
        self.unchanged += other.unchanged;
        self.doubled += other.doubled;
        self.removed += other.removed;
        self.busy_ms += other.busy_ms;
    }
}

/// A table as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct TableState {
    pub name: String,
    pub collection: String,
    pub mark: Option<Mark>,
    /// Documents that are at the target as the source has them.
    pub synced: u64,
    /// Dead letters.
    pub failed: u64,
    /// Documents at the target that the source has no more.
    pub gone: u64,
    pub total: Figures,
    /// Looks.
    pub polls: u64,
    pub newest: Option<UnixNanos>,
    pub last: Option<UnixNanos>,
    pub looked: Option<UnixNanos>,
    /// The last look that ended well: up to then the target has what the source had.
    pub good: Option<UnixNanos>,
    pub trouble: Option<String>,
}

impl TableState {
    /// Share of its rows that are at the target: what was refused counts against it.
    #[must_use]
    pub fn success_ratio(&self) -> f64 {
        success_ratio(self.synced, self.failed)
    }

    /// Rows looked at in a second of work.
    #[must_use]
    pub fn rate(&self) -> f64 {
        rate(self.total.seen, self.total.busy_ms)
    }

    /// Since the last look that ended well.
    #[must_use]
    pub fn lag_seconds(&self, now: UnixNanos) -> Option<f64> {
        self.good.map(|at| (now.0 - at.0) as f64 / 1e9)
    }
}

/// Share of rows that are at the target.
#[must_use]
pub fn success_ratio(synced: u64, failed: u64) -> f64 {
    let all = synced + failed;
    if all == 0 { 1.0 } else { synced as f64 / all as f64 }
}

/// Of so many in so long, how many a second.
#[must_use]
pub fn rate(count: u64, busy_ms: u64) -> f64 {
    if busy_ms > 0 { count as f64 * 1e3 / busy_ms as f64 } else { 0.0 }
}

impl State {
    /// Opens the folder for writing; makes it where it is not there yet.
    ///
    /// # Errors
    /// [`Taken`], or the folder cannot be used; nothing is ever taken from a file that is not ours.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let making = || format!("making {}", dir.display());
        DirBuilder::new().recursive(true).mode(OWNERS_FOLDER).create(dir).with_context(making)?;
        let path = dir.join(LOCK);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(OWNERS);
        let mut lock = options.open(&path).with_context(|| format!("making {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => bail!(Taken(dir.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => return Err(error).context("locking the folder of the sync"),
        }
        // For people, and for who wants to know what it uses.
        lock.set_len(0)?;
        lock.write_all(std::process::id().to_string().as_bytes())?;
        let path = dir.join(FILE);
        // Made by us, because SQLite would let everybody read it; its log beside it takes over the rights.
        let file = options.open(&path).with_context(|| format!("opening {}", path.display()))?;
        file.set_permissions(Permissions::from_mode(OWNERS))
            .with_context(|| format!("keeping others out of {}", path.display()))?;
        drop(file);
        let db = Connection::open(&path).with_context(|| format!("opening {}", path.display()))?;
        // FULL: what is marked as done stays so over a power cut.
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        layout::make(&db).with_context(|| path.display().to_string())?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(State { db, _lock: Some(lock) })
    }

    /// Opens it for reading only, also while another process writes; `None` where there is nothing yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).with_context(|| format!("opening {}", path.display()))?;
        Ok(Some(State { db, _lock: None }))
    }

    /// Whether a process works in the folder now.
    #[must_use]
    pub fn is_taken(dir: &Path) -> bool {
        let Ok(lock) = File::open(dir.join(LOCK)) else { return false };
        matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
    }

    /// Number of the process that works in the folder now.
    #[must_use]
    pub fn taken_by(dir: &Path) -> Option<u32> {
        let mut lock = File::open(dir.join(LOCK)).ok().filter(|_| State::is_taken(dir))?;
        let mut text = String::new();
        lock.rewind().ok()?;
        lock.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// All tables, in the order in which they came.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tables(&self) -> anyhow::Result<Vec<TableState>> {
        let mut all = self.db.prepare_cached(
            "SELECT name, collection, mark, seen, sent, unchanged, doubled, removed, busy_ms, gone, polls, newest_ns, last_ns,
                 looked_ns, trouble, synced, failed, good_ns
             FROM tables ORDER BY number",
        )?;
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let rows = all.query_map([], |row| {
            let mark: Option<String> = row.get(2)?;
            Ok(TableState {
                name: row.get(0)?,
                collection: row.get(1)?,
                mark: mark.and_then(|text| serde_json::from_str(&text).ok()),
                total: Figures {
                    seen: count(row.get(3)?),
                    sent: count(row.get(4)?),
                    unchanged: count(row.get(5)?),
                    doubled: count(row.get(6)?),
                    removed: count(row.get(7)?),
                    busy_ms: count(row.get(8)?),
                },
                gone: count(row.get(9)?),
                polls: count(row.get(10)?),
                newest: row.get::<_, Option<i64>>(11)?.map(UnixNanos),
                last: row.get::<_, Option<i64>>(12)?.map(UnixNanos),
                looked: row.get::<_, Option<i64>>(13)?.map(UnixNanos),
                trouble: row.get(14)?,
                synced: count(row.get(15)?),
                failed: count(row.get(16)?),
                good: row.get::<_, Option<i64>>(17)?.map(UnixNanos),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
