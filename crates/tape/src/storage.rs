//! Where a tape's bytes live: the real file system ([`Disk`]), or a model that fails on purpose.
//!
//! The trait is as small as the tape's needs, and every call of it can be made to fail: whatever
//! the tape does to a disk it does through here.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file system as the tape sees it. Paths are relative to nothing: they are used as given.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Opens a file for reading and writing; creates it when `create` is set and it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens a file for reading only.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;
    /// Names of the plain files in a folder, unordered.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes creations, removals and renames in the folder survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the writer's lock on a file, or says that another holds it (`WouldBlock`). Dropping the guard releases it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// A bug to commit on purpose. Only the model answers `true`: the suite must catch each.
    fn flaw(&self, _flaw: Flaw) -> bool {
        false
    }
}

/// An open file. All positions are absolute; there is no shared offset.
pub trait StorageFile: fmt::Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes some of the bytes and says how many: a short write is an ordinary answer.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize>;
    /// fdatasync: what was written before it survives a power cut once it returns `Ok`.
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn len_bytes(&self) -> io::Result<u64>;
}

/// Bugs that tapes really had, switched on at run time in the model to prove that the tests see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// Syncs return without syncing (a switch inside the model itself).
    NoSync,
    /// The CRC leaves the length out.
    CrcWithoutLength,
    /// A cursor is written before the work is confirmed.
    CursorBeforeConfirm,
    /// A segment is removed before the cursor that allows it is synced.
    UnlinkBeforeCursorSync,
    /// A failed fsync is tried again on the same file, and believed.
    RetryAfterEio,
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;
