//! The password of the SQL server: made once, kept for its owner only.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Its file in the deck's folder.
pub const FILE: &str = "sql.password";

/// 144 bits: nobody types it twice, and nobody guesses it.
const RANDOM_BYTES: usize = 18;

/// Reads the password of a deck, or makes one at the first start.
///
/// # Errors
/// The file cannot be read or written, or others may read it.
pub fn read_or_make(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join(FILE);
    match read(&path) {
        Ok(Some(password)) => return Ok(password),
        Ok(None) => {}
        Err(error) => return Err(error),
    }
    let mut random = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let password = URL_SAFE_NO_PAD.encode(random);
    let write = |path: &PathBuf| -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{password}")?;
        file.sync_all()
    };
    match write(&path) {
        Ok(()) => Ok(password),
        // Somebody was quicker; theirs is the password.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(&path)?.with_context(|| format!("{} is empty: remove it", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("writing {}", path.display())),
    }
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mode = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("others may read {}: chmod 600 it, or remove it and a new one is made", path.display());
    }
    let password = text.trim();
    if password.is_empty() {
        bail!("{} is empty: remove it, and a new one is made", path.display());
    }
    Ok(Some(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let made = read_or_make(dir.path()).unwrap();
        assert_eq!(made.len(), 24);
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(dir.path()).unwrap(), made);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_or_make(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
