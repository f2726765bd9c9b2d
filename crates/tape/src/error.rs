//! What can go wrong, one variant per thing that a caller does differently.

use std::io;
use std::path::{Path, PathBuf};

/// Why the tape refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused. What was asked has not happened and may be asked again.
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The disk is full. Nothing is lost: the same call succeeds when there is space again.
    #[error("the disk is full: no room for {need_bytes} bytes in {}", dir.display())]
    Full { dir: PathBuf, need_bytes: u64 },
    /// Another writer holds the tape.
    #[error("{} is held by another writer{}", path.display(), pid.map(|pid| format!(", process {pid}")).unwrap_or_default())]
    Locked { path: PathBuf, pid: Option<u32> },
    /// More than one record, or one append, may hold.
    #[error("{what} of {bytes} bytes is more than the {limit_bytes} that the tape takes")]
    TooLarge { what: &'static str, bytes: u64, limit_bytes: u64 },
    /// The disk failed again while the tape was recovering from a first failure: recording has stopped for good.
    #[error("recording has stopped: {action} failed after an earlier failure of the disk")]
    Poisoned { action: &'static str, source: io::Error },
    /// Written by a later program. It is neither read nor repaired.
    #[error("{} has format {version}; this program knows up to {known}", path.display())]
    NewerFormat { path: PathBuf, version: u32, known: u32 },
    /// The folder holds no tape.
    #[error("no tape in {}", dir.display())]
    NoTape { dir: PathBuf },
    /// A name that cannot be a cursor's.
    #[error("{name:?} cannot be the name of a cursor: 1 to 80 bytes are needed")]
    BadName { name: String },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}

/// True for errors that mean "no space": on the device, in the quota, or for more names.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
