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

/// Opens a segment in whichever form it is there. `None`: it is gone, or was never used.
pub(crate) fn open(storage: &dyn Storage, dir: &Path, id: u64, check: Check) -> Result<Option<SegmentFile>, Error> {
    let path = dir.join(segment::file_name(id));
    match storage.open_read(&path) {
        Ok(bytes) => describe(bytes, path, id, check),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = dir.join(segment::packed_name(id));
            match storage.open_read(&path) {
                Ok(packed) => match crate::compress::Packed::open(packed) {
                    Some(bytes) => describe(Arc::new(bytes), path, id, check),
                    None => Ok(None),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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

fn describe(bytes: Arc<dyn StorageFile>, path: PathBuf, id: u64, check: Check) -> Result<Option<SegmentFile>, Error> {
    let len_bytes = bytes.len_bytes().map_err(Error::io("measuring", &path))?;
    let mut start = [0; DATA_START as usize];
    read(&*bytes, &mut start, 0);
    let header = match Header::decode(&start) {
        HeaderRead::Valid(header) if header.segment == id => header,
        HeaderRead::Valid(_) => return Ok(None),
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
            None => return Ok(None),
        },
    };
    Ok(Some(SegmentFile { id, header, len_bytes, path, bytes }))
}

/// Fills `buf` from `at`; returns how many bytes the file had, and how many of them could not be read.
/// Those are zeros then: what the disk refuses is damage, not the end.
pub(crate) fn read(file: &dyn StorageFile, buf: &mut [u8], at: u64) -> (usize, u64) {
    // A second try: an interrupted transfer is not yet a bad sector.
    if let Ok(read) = file.read_at(buf, at).or_else(|_| file.read_at(buf, at)) {
        return (read, 0);
    }
    let mut unreadable = 0;
    let mut done = 0;
    while done < buf.len() {
        let here = at + done as u64;
        let page = (PAGE_BYTES - (here % PAGE_BYTES as u64) as usize).min(buf.len() - done);
        let piece = &mut buf[done..done + page];
        match file.read_at(piece, here).or_else(|_| file.read_at(piece, here)) {
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
                unreadable += lost as u64;
                done += lost;
                if lost < page {
                    break;
                }
            }
        }
    }
    (done, unreadable)
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
