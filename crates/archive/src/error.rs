//! What can go wrong, one variant per thing that a caller does differently.

use std::io;
use std::path::{Path, PathBuf};

/// Why the archive refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused. What was asked has not happened and may be asked again.
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Another process keeps the archive.
    #[error("the archive in {} is kept by another process", dir.display())]
    Locked { dir: PathBuf },
    /// Parquet or Arrow refused: a damaged file, or a bug.
    #[error("{action} {}", path.display())]
    Parquet { action: &'static str, path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    /// Not a file or batch of this program's.
    #[error("{what}")]
    NotOurs { what: String },
    #[error("reading the tape")]
    Tape(#[from] tapedeck_tape::Error),
    /// A caller asked to stop.
    #[error("stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    pub(crate) fn parquet<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Parquet { action, path, source: source.into() }
    }

    /// Whether there is no space: on the device, in the quota, or for more names.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            )
        };
        match self {
            Error::Io { source, .. } => full(source),
            _ => false,
        }
    }
}
