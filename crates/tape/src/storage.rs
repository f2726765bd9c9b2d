//! Where a tape's bytes live: the real file system ([`Disk`]), or a model that fails on purpose.
//!
//! The trait is as small as the tape's needs, and every call of it can be made to fail: whatever
//! the tape does to a disk it does through here.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
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
    /// The same with the length of each, in bytes. A file that goes meanwhile is left out.
    fn sizes(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let len = |name: &String| self.open_read(&dir.join(name)).and_then(|file| file.len_bytes()).ok();
        Ok(self.list(dir)?.into_iter().filter_map(|name| len(&name).map(|len| (name, len))).collect())
    }
    /// Creates a folder and its missing parents. Unlike a file's, a folder's name needs no [`Storage::sync_dir`]:
    /// it survives a power cut once this returns `Ok`.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes creations, removals and renames in the folder survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the writer's lock on a file, or says that another holds it (`WouldBlock`). Dropping the guard releases it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Whether paths mean the same to every process, so that a socket may stand among them.
    fn is_shared(&self) -> bool {
        false
    }
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

/// The real file system. Files and folders it makes are for their owner only: own orders may be on a tape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

impl Storage for Disk {
    fn is_shared(&self) -> bool {
        true
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create(create).mode(FILE_MODE).open(path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(DiskFile(File::open(path)?)))
    }

    /// Names that are not UTF-8 are not ours and are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sizes(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut sizes = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && let Ok(about) = entry.metadata()
            {
                sizes.push((name, about.len()));
            }
        }
        Ok(sizes)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            dir.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()).collect();
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
        for folder in missing {
            self.sync_dir(parent(folder))?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The folder a path lies in; the working folder for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        loop {
            match self.0.write_at(buf, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    /// Once, whatever it answers: a second call after a failure would say `Ok` of bytes that are lost.
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_where_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = Disk.open(&dir.path().join("a"), true).unwrap();
        assert_eq!(file.write_at(b"tape", 6).unwrap(), 4);
        file.sync_data().unwrap();
        let mut buf = [1; 16];
        assert_eq!(file.read_at(&mut buf, 4).unwrap(), 6, "only what is there is read");
        assert_eq!(&buf[..6], b"\0\0tape");
        file.set_len(8).unwrap();
        assert_eq!(file.len_bytes().unwrap(), 8);
    }

    #[test]
    fn a_missing_file_is_created_only_when_asked_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert_eq!(Disk.open(&path, false).unwrap_err().kind(), io::ErrorKind::NotFound);
        Disk.open(&path, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        Disk.open(&path, false).unwrap();
    }

    #[test]
    fn only_plain_files_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        Disk.create_dir_all(&dir.path().join("folder/below")).unwrap();
        Disk.open(&dir.path().join("b"), true).unwrap();
        Disk.open(&dir.path().join("a"), true).unwrap();
        Disk.rename(&dir.path().join("a"), &dir.path().join("c")).unwrap();
        Disk.sync_dir(dir.path()).unwrap();
        let mut names = Disk.list(dir.path()).unwrap();
        names.sort();
        assert_eq!(names, ["b", "c"]);
        let mut sizes = Disk.sizes(dir.path()).unwrap();
        sizes.sort();
        assert_eq!(sizes, [("b".to_owned(), 0), ("c".to_owned(), 0)]);
        Disk.remove(&dir.path().join("b")).unwrap();
        assert_eq!(Disk.list(dir.path()).unwrap(), ["c"]);
    }

    #[test]
    fn a_lock_is_refused_while_held_and_free_once_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Disk.lock(&path).unwrap();
        assert_eq!(Disk.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        Disk.lock(&path).unwrap();
    }
}
