//! Opening for writing: what an earlier life left behind is put in order, and nothing of it is believed but the records.
//!
//! 1. The lock. A second writer is refused.
//! 2. The last segment in use is scanned. Its end is behind the last whole append.
//! 3. What is accepted is synced before any reader sees it, so that a seq once delivered is never given to another record.
//!    A segment that cannot be synced is replaced by a copy: checksums hold in any file of the same name.
//! 4. A torn tail is copied to `quarantine/` and cut off. Should that fail, it stays: the next segment begins with
//!    the seq behind the last accepted one, which makes the tail void.
//!    Where the disk refuses to read behind the end, nothing is cut, and as many seqs are passed over as records may stand there.
//! 5. The log begins a new segment. Bytes that were once accepted are never changed.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::alloc::{AHEAD_NAME, is_ahead};
use crate::error::Error;
use crate::folder::{self, SegmentFile};
use crate::log::{Note, Opening, TornTail};
use crate::scan::{Hole, LastScan, scan_last};
use crate::segment::{self, Check, DATA_START, Header, HeaderRead};
use crate::storage::{Storage, StorageFile};
use crate::tail::{Hint, Place};

pub(crate) const LOCK_NAME: &str = "lock";
pub(crate) const QUARANTINE_NAME: &str = "quarantine";
/// Files that were being made when their maker died.
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";
/// A reader that looks whether a writer lives holds the lock for an instant: a writer asks more than once.
const LOCK_TRIES: u32 = 5;
const LOCK_REST: Duration = Duration::from_millis(5);
const COPY_BYTES: usize = 64 * 1024;

/// What the log goes on with.
pub(crate) struct Recovered {
    pub lock: Box<dyn Send + Sync>,
    pub next_id: u64,
    /// The last segment, when it holds no record: to be removed when the next one stands.
    pub empty: Option<PathBuf>,
    pub note: Option<Note>,
    /// The last whole checkpoint, if it is in the last segment in use.
    pub checkpoint: Option<Place>,
}

/// Puts a tape in order for a new writer.
///
/// # Errors
/// [`Error::Locked`], [`Error::NewerFormat`], [`Error::Io`].
pub(crate) fn recover(storage: &dyn Storage, dir: &Path) -> Result<(Recovered, Opening), Error> {
    storage.create_dir_all(dir).map_err(Error::io("creating", dir))?;
    let lock = take_lock(storage, dir)?;
    remove_unfinished(storage, dir)?;
    let check = Check::of(storage);
    let ids = folder::list(storage, dir)?;
    let next_id = ids.last().copied().max(id_ahead(storage, dir)).unwrap_or(0) + 1;
    let mut behind = ids.iter().rev().copied();
    let mut unused = Vec::new();
    let last = loop {
        let Some(id) = behind.next() else { break None };
        match folder::open_surely(storage, dir, id, check)? {
            Some(file) => break Some(file),
            None => unused.push(id),
        }
    };
    for id in unused {
        put_away(storage, dir, id);
    }
    let Some(last) = last else {
        let opening = Opening {
            tape_id: Uuid::new_v4(),
            incarnation: 1,
            first_seq: 1,
            last_seq: 0,
            torn: None,
            holes: Vec::new(),
            last_ts_recv: None,
            new: true,
        };
        return Ok((Recovered { lock, next_id, empty: None, note: None, checkpoint: None }, opening));
    };

    let mut scan = scan_last(&last, check);
    let Settled { torn, note } = settle(storage, dir, &last, &scan)?;
    let (tape_id, incarnation) = identity(storage, dir, &ids, check)?;
    let first_seq = match folder::open_next(storage, dir, 0, check)? {
        Some(first) => first.header.first_seq,
        None => last.header.first_seq,
    };
    if scan.hidden > 0 {
        // Records may stand where the disk refuses to read, and somebody may have read them: their seqs are passed over.
        scan.holes.push(Hole { from_seq: scan.last_seq + 1, to_seq: scan.last_seq + scan.hidden });
        scan.last_seq += scan.hidden;
    }
    let empty = scan.last_ts_recv.is_none() && scan.holes.is_empty();
    let last_ts_recv = scan.last_ts_recv.or(last.header.last_ts_before);
    let opening = Opening {
        tape_id,
        incarnation: incarnation + 1,
        first_seq,
        last_seq: scan.last_seq,
        torn,
        holes: scan.holes,
        last_ts_recv,
        new: false,
    };
    let (empty, checkpoint) = (empty.then_some(last.path), scan.checkpoint);
    Ok((Recovered { lock, next_id, empty, note, checkpoint }, opening))
}

fn take_lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn Send + Sync>, Error> {
    let path = dir.join(LOCK_NAME);
    for tried in 1.. {
        match storage.lock(&path) {
            Ok(lock) => {
                // For the message of the next one that asks.
                if let Ok(file) = storage.open(&path, true) {
                    let pid = std::process::id().to_string();
                    let _ = file.set_len(0).and_then(|()| folder::write_all(&*file, pid.as_bytes(), 0));
                }
                return Ok(lock);
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Error::io("locking", &path)(error)),
            Err(_) if tried < LOCK_TRIES => std::thread::sleep(LOCK_REST),
            Err(_) => break,
        }
    }
    let pid = storage.open_read(&path).ok().and_then(|file| {
        let mut text = [0; 16];
        let read = file.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..read]).ok()?.parse().ok()
    });
    Err(Error::Locked { path, pid })
}

fn remove_unfinished(storage: &dyn Storage, dir: &Path) -> Result<(), Error> {
    for name in storage.list(dir).map_err(Error::io("listing", dir))? {
        if name.ends_with(UNFINISHED_SUFFIX) {
            let path = dir.join(name);
            storage.remove(&path).map_err(Error::io("removing", &path))?;
        }
    }
    Ok(())
}

/// The highest id in the headers of the files that are kept ahead. One may have been a segment whose name a power cut took
/// back; under that id it would still pass for one.
fn id_ahead(storage: &dyn Storage, dir: &Path) -> Option<u64> {
    let id = |name: &String| {
        let file = storage.open_read(&dir.join(name)).ok()?;
        let mut start = [0; DATA_START as usize];
        folder::read(&*file, &mut start, 0);
        match Header::decode(&start) {
            HeaderRead::Valid(header) => Some(header.segment),
            _ => None,
        }
    };
    storage.list(dir).ok()?.iter().filter(|name| is_ahead(name)).filter_map(id).max()
}

/// A file named like a segment that never became one: it waits for the next one to begin. If it holds anything that is not
/// accounted for, it is evidence.
fn put_away(storage: &dyn Storage, dir: &Path, id: u64) {
    let path = dir.join(segment::file_name(id));
    let Ok(file) = storage.open_read(&path) else { return };
    let mut start = [0; DATA_START as usize];
    folder::read(&*file, &mut start, 0);
    let harmless = start.iter().all(|byte| *byte == 0) || matches!(Header::decode(&start), HeaderRead::Valid(_));
    let ahead = dir.join(AHEAD_NAME);
    let _ = if !harmless {
        let quarantine = dir.join(QUARANTINE_NAME);
        storage
            .create_dir_all(&quarantine)
            .and_then(|()| storage.rename(&path, &quarantine.join(segment::file_name(id))))
    } else if storage.open_read(&ahead).is_err() {
        storage.rename(&path, &ahead)
    } else {
        storage.remove(&path)
    };
}

/// What settling the last segment took.
#[derive(Debug, Default)]
struct Settled {
    torn: Option<TornTail>,
    note: Option<Note>,
}

/// Syncs what was accepted of the last segment, and cuts off the rest.
fn settle(storage: &dyn Storage, dir: &Path, last: &SegmentFile, scan: &LastScan) -> Result<Settled, Error> {
    if last.path != dir.join(segment::file_name(last.id)) {
        // Compressed: it was sealed, and what it holds is synced.
        return Ok(Settled::default());
    }
    let file = storage.open(&last.path, false).map_err(Error::io("opening", &last.path))?;
    let torn = scan.torn.as_ref().map(|range| TornTail {
        bytes: range.end - range.start,
        quarantined: quarantine(storage, dir, last, range.clone()).ok(),
    });
    let synced = write_again(storage, dir, last, &*file, scan.end).and_then(|()| file.sync_data());
    if let Err(error) = synced {
        // A second sync of the same file would prove nothing, and a tape must open: another file takes its place.
        replace(storage, dir, last, scan.end).map_err(Error::io("replacing", &last.path))?;
        return Ok(Settled { torn, note: Some(Note::Poisoned { segment: last.id, action: "syncing", error }) });
    }
    let kept = torn.as_ref().is_none_or(|torn| torn.quarantined.is_some());
    if scan.hidden == 0 && kept {
        let _ = file.set_len(scan.end).and_then(|()| file.sync_data());
    }
    storage.sync_dir(dir).map_err(Error::io("syncing", dir))?;
    Ok(Settled { torn, note: None })
}

/// Writes the same bytes to the same place, as far as they are not known to be synced. After an fsync that failed in an earlier
/// life the system calls its pages clean although the disk does not have them; only a write makes the next fsync true.
fn write_again(
    storage: &dyn Storage,
    dir: &Path,
    last: &SegmentFile,
    file: &dyn StorageFile,
    end: u64,
) -> io::Result<()> {
    let hinted = Hint::open(storage, dir).and_then(|hint| hint.read());
    let known = hinted.filter(|hinted| hinted.tape_id == last.header.tape_id && hinted.durable.segment == last.id);
    let synced = known.map_or(DATA_START, |hinted| hinted.durable.position);
    let mut at = synced.max(DATA_START);
    let mut buf = vec![0; COPY_BYTES];
    while at < end {
        let want = buf.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        // What cannot be read is left alone: zeros in its place would make the damage true.
        if let Ok(read) = folder::read_twice(file, &mut buf[..want], at) {
            folder::write_all(file, &buf[..read], at)?;
        }
        at += want as u64;
    }
    Ok(())
}

/// Puts a synced copy of what was accepted in the place of a segment that cannot be synced. What cannot be read is zeros in it:
/// the hole stays a hole.
fn replace(storage: &dyn Storage, dir: &Path, last: &SegmentFile, end: u64) -> io::Result<()> {
    let unfinished = dir.join(format!("{}{UNFINISHED_SUFFIX}", segment::file_name(last.id)));
    let copy = storage.open(&unfinished, true)?;
    copy_bytes(&*last.bytes, 0..end, &*copy)?;
    storage.rename(&unfinished, &last.path)?;
    storage.sync_dir(dir)
}

/// Copies a range of a file to the beginning of another, and syncs that.
fn copy_bytes(from: &dyn StorageFile, range: Range<u64>, to: &dyn StorageFile) -> io::Result<()> {
    let mut buf = vec![0; COPY_BYTES];
    let mut at = range.start;
    while at < range.end {
        let want = buf.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
        let (read, _) = folder::read(from, &mut buf[..want], at);
        if read == 0 {
            break;
        }
        folder::write_all(to, &buf[..read], at - range.start)?;
        at += read as u64;
    }
    to.sync_data()
}

/// Copies a range of a segment to `quarantine/<segment>-<from>-<to>.bin`.
pub(crate) fn quarantine(
    storage: &dyn Storage,
    dir: &Path,
    from: &SegmentFile,
    range: Range<u64>,
) -> io::Result<PathBuf> {
    let folder = dir.join(QUARANTINE_NAME);
    storage.create_dir_all(&folder)?;
    let path = folder.join(format!("{:020}-{}-{}.bin", from.id, range.start, range.end));
    let copy = storage.open(&path, true)?;
    copy_bytes(&*from.bytes, range, &*copy)?;
    storage.sync_dir(&folder)?;
    Ok(path)
}

/// Tape id and incarnation, from the last segment whose header is whole.
fn identity(storage: &dyn Storage, dir: &Path, ids: &[u64], check: Check) -> Result<(Uuid, u64), Error> {
    for id in ids.iter().rev() {
        if let Some(file) = folder::open(storage, dir, *id, check)?
            && !file.header.tape_id.is_nil()
        {
            return Ok((file.header.tape_id, file.header.incarnation));
        }
    }
    Ok((Uuid::new_v4(), 0))
}
