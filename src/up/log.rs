//! What processes of others say: a file each, 10 MB and five old ones, as the deck's own log.
//!
//! A process writes into its file itself, so that nothing is lost when the supervisor is killed. A file that has grown too
//! large is therefore copied and emptied under it; a line that comes between the two may be lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file is numbered when it has this size.
const FILE_BYTES: u64 = 10_000_000;
const OLD_FILES: u32 = 5;
/// As much of the end is read for the last lines.
const TAIL_BYTES: u64 = 256 * 1024;

/// Opens a log for a process that is about to start, and says where its lines will begin.
///
/// # Errors
/// It cannot be opened.
pub fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    turn(path).with_context(|| format!("making room in {}", path.display()))?;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let from = file.metadata().map_or(0, |metadata| metadata.len());
    Ok((file, from))
}

/// Numbers the file if it is too large, and empties it.
///
/// # Errors
/// The disk does not let us.
pub fn turn(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path).map_or(0, |metadata| metadata.len()) < FILE_BYTES {
        return Ok(());
    }
    let numbered = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    for n in (1..OLD_FILES).rev() {
        match std::fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::copy(path, numbered(1))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// The last lines of a log from `from` on.
#[must_use]
pub fn last_lines(path: &Path, from: u64, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        // Emptied since: what there is, is of this life.
        let from = if from > len { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(len.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = crate::logs::redact(&read().unwrap_or_default()).into_owned();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let plain = |line: &&str| line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
    lines[lines.len().saturating_sub(count)..].iter().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_are_those_of_this_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert!(last_lines(&path, 0, 3).is_empty());
        std::fs::write(&path, "old\n").unwrap();
        let (mut file, from) = open(&path).unwrap();
        assert_eq!(from, 4);
        file.write_all(b"one\n\ntwo\x1b\nthree").unwrap();
        assert_eq!(last_lines(&path, from, 2), ["two", "three"]);
        assert_eq!(last_lines(&path, from, 9), ["one", "two", "three"]);
        assert_eq!(last_lines(&path, 1_000, 1), ["three"], "emptied since");
    }

    #[test]
    fn a_full_log_is_emptied_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let (mut file, _) = open(&path).unwrap();
        let much = vec![b'x'; usize::try_from(FILE_BYTES).unwrap()];
        for _ in 0..7 {
            file.write_all(&much).unwrap();
            turn(&path).unwrap();
        }
        file.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after\n");
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 6, "it and five old ones");
    }
}
