//! A file that appears whole, and replaces nothing that nobody said it should.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

/// Until it appears it lies under another name in the same folder, and goes with this value.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    force: bool,
    written: Written,
}

#[derive(Debug)]
enum Written {
    Beside(NamedTempFile),
    /// A pipe, a device: there is nothing to replace.
    InPlace(File),
}

impl NewFile {
    /// # Errors
    /// There is a file and `force` is not said, or none can be made there.
    pub(crate) fn of(path: &Path, force: bool) -> anyhow::Result<Self> {
        let making = || format!("making {}", path.display());
        let written = match path.metadata() {
            Ok(there) if !there.is_file() => {
                Written::InPlace(File::options().write(true).open(path).with_context(making)?)
            }
            Ok(_) if !force => bail!("{} exists already: --force writes over it", path.display()),
            _ => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let mut builder = tempfile::Builder::new();
                // As any new file: the process's mask takes away what is not wanted.
                builder.prefix(".").suffix(".part").permissions(Permissions::from_mode(0o666));
                Written::Beside(builder.tempfile_in(folder.unwrap_or(Path::new("."))).with_context(making)?)
            }
        };
        Ok(NewFile { path: path.to_owned(), force, written })
    }

    pub(crate) fn as_file(&self) -> &File {
        match &self.written {
            Written::Beside(file) => file.as_file(),
            Written::InPlace(file) => file,
        }
    }

    /// # Errors
    /// It cannot be put in its place; or another file has come there meanwhile.
    pub(crate) fn appear(self) -> anyhow::Result<()> {
        let NewFile { path, force, written } = self;
        let Written::Beside(file) = written else { return Ok(()) };
        let put = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
        match put {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{} exists by now: --force writes over it", path.display())
            }
            Err(error) => Err(error.error).with_context(|| format!("making {}", path.display())),
        }
    }
}
