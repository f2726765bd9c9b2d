//! The segments of a tape as files in its folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::error::Error;
use crate::scan::Walk;
use crate::segment::{self, Check, DATA_START, Header, HeaderRead};
use crate::storage::{Storage, StorageFile};

/// Unreadable bytes are given up in pieces of this size.
const PAGE_BYTES: usize = 4096;

/// One segment, open for reading.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub id: u64,
    pub header: Header,
    pub len_bytes: u64,
    pub path: PathBuf,
    pub bytes: Arc<dyn StorageFile>,
}

/// Ids of all files that are named like segments, ascending. Some may turn out to be unused.
pub(crate) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<u64>, Error> {
    Ok(forms(storage, dir)?.into_keys().collect())
}

/// The forms in which each segment is there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Forms {
    pub raw: bool,
    pub packed: bool,
}

pub(crate) fn forms(storage: &dyn Storage, dir: &Path) -> Result<BTreeMap<u64, Forms>, Error> {
    let mut found: BTreeMap<u64, Forms> = BTreeMap::new();
    for name in storage.list(dir).map_err(Error::io("listing", dir))? {
        if let Some((id, packed)) = segment::parse_name(&name) {
            let forms = found.entry(id).or_default();
            forms.packed |= packed;
            forms.raw |= !packed;
        }
    }
    Ok(found)
}

/// What a file that is named like a segment turned out to be.
enum Found {
    Segment(SegmentFile),
    /// Gone, or never used.
    Nothing,
    /// The disk refuses to read it: nobody knows what it holds.
    Refused(PathBuf),
}

/// Opens a segment in whichever form it is there. `None`: it is gone, was never used, or cannot be read.
pub(crate) fn open(storage: &dyn Storage, dir: &Path, id: u64, check: Check) -> Result<Option<SegmentFile>, Error> {
    Ok(match look(storage, dir, id, check)? {
        Found::Segment(file) => Some(file),
        Found::Nothing | Found::Refused(_) => None,
    })
}

/// As [`open`], for a writer: what cannot be read must not be taken for what was never used.
pub(crate) fn open_surely(
    storage: &dyn Storage,
    dir: &Path,
    id: u64,
    check: Check,
) -> Result<Option<SegmentFile>, Error> {
    match look(storage, dir, id, check)? {
        Found::Segment(file) => Ok(Some(file)),
        Found::Nothing => Ok(None),
        Found::Refused(path) => Err(Error::io("reading", &path)(io::Error::other("the disk refuses to read it"))),
    }
}

fn look(storage: &dyn Storage, dir: &Path, id: u64, check: Check) -> Result<Found, Error> {
    let path = dir.join(segment::file_name(id));
    match storage.open_read(&path) {
        Ok(bytes) => describe(bytes, path, id, check),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = dir.join(segment::packed_name(id));
            match storage.open_read(&path) {
                Ok(packed) => match crate::compress::Packed::open(Arc::clone(&packed)) {
                    Some(bytes) => describe(Arc::new(bytes), path, id, check),
                    None if read(&*packed, &mut [0], 0).1 > 0 => Ok(Found::Refused(path)),
                    None => Ok(Found::Nothing),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
                Err(error) => Err(Error::io("opening", &path)(error)),
            }
        }
        Err(error) => Err(Error::io("opening", &path)(error)),
    }
}

/// The first segment in use with an id of at least `from`.
pub(crate) fn open_next(
    storage: &dyn Storage,
    dir: &Path,
    from: u64,
    check: Check,
) -> Result<Option<SegmentFile>, Error> {
    for id in list(storage, dir)?.into_iter().filter(|id| *id >= from) {
        if let Some(file) = open(storage, dir, id, check)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn describe(bytes: Arc<dyn StorageFile>, path: PathBuf, id: u64, check: Check) -> Result<Found, Error> {
    let len_bytes = bytes.len_bytes().map_err(Error::io("measuring", &path))?;
    let mut start = [0; DATA_START as usize];
    let (_, refused_before) = read(&*bytes, &mut start, 0);
    let header = match Header::decode(&start) {
        HeaderRead::Valid(header) if header.segment == id => header,
        HeaderRead::Valid(_) => return Ok(Found::Nothing),
        HeaderRead::Newer(version) => {
            return Err(Error::NewerFormat { path, version, known: segment::FORMAT_VERSION });
        }
        // The records speak for a segment whose headers are gone.
        HeaderRead::None => match Walk::first_record(&bytes, id, len_bytes, check) {
            Some(first) => Header {
                tape_id: Uuid::nil(),
                segment: id,
                first_seq: first.seq,
                created_ns: first.ts_recv,
                incarnation: 0,
                last_ts_before: None,
                recycled: true,
            },
            None if refused_before > 0 => return Ok(Found::Refused(path)),
            None => return Ok(Found::Nothing),
        },
    };
    Ok(Found::Segment(SegmentFile { id, header, len_bytes, path, bytes }))
}

/// Fills `buf` from `at`; returns how many bytes the file had, and the position behind the last one that could not be read,
/// or 0. Those that could not are zeros then: what the disk refuses is damage, not the end.
pub(crate) fn read(file: &dyn StorageFile, buf: &mut [u8], at: u64) -> (usize, u64) {
    if let Ok(read) = read_twice(file, buf, at) {
        return (read, 0);
    }
    let mut refused_before = 0;
    let mut done = 0;
    while done < buf.len() {
        let here = at + done as u64;
        let page = (PAGE_BYTES - (here % PAGE_BYTES as u64) as usize).min(buf.len() - done);
        let piece = &mut buf[done..done + page];
        match read_twice(file, piece, here) {
            Ok(read) => {
                done += read;
                if read < page {
                    break;
                }
            }
            Err(_) => {
                let left = file.len_bytes().unwrap_or(u64::MAX).saturating_sub(here);
                let lost = page.min(usize::try_from(left).unwrap_or(usize::MAX));
                piece[..lost].fill(0);
                refused_before = here + lost as u64;
                done += lost;
                if lost < page {
                    break;
                }
            }
        }
    }
    (done, refused_before)
}

/// Reads, and tries once more after an error: an interrupted transfer is not yet a bad sector.
pub(crate) fn read_twice(file: &dyn StorageFile, buf: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(buf, at).or_else(|_| file.read_at(buf, at))
}

/// Writes all of `bytes`, continuing where a short write stopped.
pub(crate) fn write_all(file: &dyn StorageFile, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                bytes = &bytes[written..];
                at += written as u64;
            }
        }
    }
    Ok(())
}
