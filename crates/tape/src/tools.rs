//! `tape info | verify | dump | repair`: the tape as it lies there. All but `repair` only read, and are safe on a tape that is
//! being written: they end where it is durable.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::alloc::is_ahead;
use crate::error::Error;
use crate::folder::{self, SegmentFile};
use crate::log::Mode;
use crate::reader::{Reader, Start};
use crate::recover::{self, QUARANTINE_NAME, UNFINISHED_SUFFIX};
use crate::scan::{Hole, Step, Walk};
use crate::segment::{self, Check, DATA_START, HEADER_BYTES, Head, Header, HeaderRead, RecordKind};
use crate::storage::Storage;
use crate::tail::Durable;

/// A tape from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub tape_id: Uuid,
    /// Openings for writing so far.
    pub incarnation: u64,
    pub first_seq: u64,
    /// 0 = empty.
    pub last_seq: u64,
    /// Records that can be read.
    pub records: u64,
    /// Bytes on disk of all segments, and of the files kept ahead.
    pub bytes: u64,
    pub segments: Vec<SegmentInfo>,
    pub holes: Vec<Hole>,
    /// How the living writer confirms records; `None` when there is none.
    pub mode: Option<Mode>,
    /// Damaged bytes that were set aside, by file.
    pub quarantined: Vec<(PathBuf, u64)>,
}

/// One segment from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub id: u64,
    pub first_seq: u64,
    /// Below `first_seq` when it holds no record.
    pub last_seq: u64,
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was begun, ns since the epoch.
    pub created_ns: i64,
    pub incarnation: u64,
    pub compressed: bool,
    /// Whether reading may start here with the user's state at hand.
    pub checkpoint: bool,
}

/// What checking a tape found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub segments: u64,
    pub records: u64,
    pub bytes: u64,
    pub damages: Vec<Damage>,
    pub holes: Vec<Hole>,
    /// Segments of whose two headers at least one is damaged.
    pub damaged_headers: Vec<u64>,
}

impl Report {
    /// Whether every record is there and every byte is what was written.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damages.is_empty() && self.holes.is_empty() && self.damaged_headers.is_empty()
    }
}

/// Bytes of a segment that should be records and are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub segment: u64,
    /// Positions in the segment.
    pub bytes: Range<u64>,
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub segments_done: u64,
    pub segments: u64,
    pub bytes_done: u64,
}

/// A record, or damage, with its place in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dumped<'a> {
    Record {
        segment: u64,
        position: u64,
        kind: RecordKind,
        seq: u64,
        ts_recv: i64,
        /// Further records of the same append follow.
        more: bool,
        payload: &'a [u8],
    },
    Damage(Damage),
    Hole(Hole),
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Copies of damaged bytes.
    pub quarantined: Vec<PathBuf>,
    /// Segments of which one header was restored from the other.
    pub headers: Vec<u64>,
    /// Unfinished files that nobody will finish.
    pub removed: Vec<PathBuf>,
}

/// Looks at a tape. Reads all of it: what can be read is known in no other way.
///
/// # Errors
/// [`Error::NoTape`], [`Error::NewerFormat`], [`Error::Io`].
pub fn info(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Info, Error> {
    let reader = Reader::open(Arc::clone(storage), dir, Start::End)?;
    let mut info = Info {
        tape_id: Uuid::nil(),
        incarnation: 0,
        first_seq: 1,
        last_seq: reader.durable_seq(),
        records: 0,
        bytes: 0,
        segments: Vec::new(),
        holes: Vec::new(),
        mode: reader.writer_mode(),
        quarantined: Vec::new(),
    };
    let mut missing = Missing::default();
    for_each_segment(&**storage, dir, reader.durable(), |file, walk| {
        let header = &file.header;
        missing.reach(header.first_seq);
        if info.segments.is_empty() {
            info.first_seq = header.first_seq;
        }
        if !header.tape_id.is_nil() {
            info.tape_id = header.tape_id;
            info.incarnation = header.incarnation;
        }
        let mut described = SegmentInfo {
            id: file.id,
            first_seq: header.first_seq,
            last_seq: header.first_seq.saturating_sub(1),
            records: 0,
            bytes: size(&**storage, &file.path),
            created_ns: header.created_ns,
            incarnation: header.incarnation,
            compressed: file.is_packed(),
            checkpoint: false,
        };
        loop {
            match walk.step() {
                Step::Frame(frame) if frame.head.kind == RecordKind::Checkpoint => {
                    missing.pass(&frame.head);
                    described.checkpoint |= frame.head.seq == header.first_seq;
                }
                Step::Frame(frame) => {
                    missing.pass(&frame.head);
                    described.records += 1;
                    described.last_seq = frame.head.seq;
                }
                Step::Damage(_) => {}
                Step::End => break,
            }
        }
        info.bytes += described.bytes;
        info.records += described.records;
        info.segments.push(described);
        Ok(ControlFlow::Continue(()))
    })?;
    missing.reach(reader.durable_seq() + 1);
    info.holes = missing.holes;
    for name in storage.list(dir).unwrap_or_default().iter().filter(|name| is_ahead(name)) {
        info.bytes += size(&**storage, &dir.join(name));
    }
    let folder = dir.join(QUARANTINE_NAME);
    for name in storage.list(&folder).unwrap_or_default() {
        let path = folder.join(name);
        info.quarantined.push((path.clone(), size(&**storage, &path)));
    }
    info.quarantined.sort();
    Ok(info)
}

/// The tape's id; nil when no header of a segment can be read. Reads one header, as a rule.
///
/// # Errors
/// [`Error::NoTape`], [`Error::NewerFormat`], [`Error::Io`].
pub fn id(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Uuid, Error> {
    let reader = Reader::open(Arc::clone(storage), dir, Start::End)?;
    let mut id = Uuid::nil();
    for_each_segment(&**storage, dir, reader.durable(), |file, _| {
        id = file.header.tape_id;
        Ok(if id.is_nil() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(id)
}

/// Checks every byte that should be a record.
///
/// # Errors
/// [`Error::NoTape`], [`Error::NewerFormat`], [`Error::Io`]. Damage is not an error but the report.
pub fn verify(storage: &Arc<dyn Storage>, dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Report, Error> {
    let reader = Reader::open(Arc::clone(storage), dir, Start::End)?;
    let segments = folder::list(&**storage, dir)?.len() as u64;
    let mut report = Report::default();
    let mut missing = Missing::default();
    for_each_segment(&**storage, dir, reader.durable(), |file, walk| {
        missing.reach(file.header.first_seq);
        if headers(file).contains(&None) {
            report.damaged_headers.push(file.id);
        }
        loop {
            match walk.step() {
                Step::Frame(frame) => {
                    missing.pass(&frame.head);
                    report.records += u64::from(frame.head.kind == RecordKind::Event);
                }
                Step::Damage(bytes) => report.damages.push(Damage { segment: file.id, bytes }),
                Step::End => break,
            }
        }
        report.segments += 1;
        report.bytes += walk.position();
        progress(Progress { segments_done: report.segments, segments, bytes_done: report.bytes });
        Ok(ControlFlow::Continue(()))
    })?;
    missing.reach(reader.durable_seq() + 1);
    report.holes = missing.holes;
    Ok(report)
}

/// Gives every record from `from_seq` on to `each`, with its place, until it breaks.
///
/// # Errors
/// [`Error::NoTape`], [`Error::NewerFormat`], [`Error::Io`].
pub fn dump(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    from_seq: u64,
    each: &mut dyn FnMut(Dumped<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let reader = Reader::open(Arc::clone(storage), dir, Start::End)?;
    // From the beginning nothing is missed that retention let go.
    let mut missing = Missing { next_seq: (from_seq > 1).then_some(from_seq), ..Missing::default() };
    let mut broken = false;
    for_each_segment(&**storage, dir, reader.durable(), |file, walk| {
        while !broken && walk.seq_end() > from_seq {
            let step = walk.step();
            let hole = match &step {
                Step::Frame(frame) if frame.head.seq < from_seq => continue,
                Step::Frame(frame) => missing.pass(&frame.head),
                Step::Damage(_) => None,
                Step::End => break,
            };
            broken = hole.is_some_and(|hole| each(Dumped::Hole(hole)).is_break())
                || match step {
                    Step::Frame(frame) => each(Dumped::Record {
                        segment: file.id,
                        position: frame.position,
                        kind: frame.head.kind,
                        seq: frame.head.seq,
                        ts_recv: frame.head.ts_recv,
                        more: frame.head.more,
                        payload: walk.payload(&frame),
                    })
                    .is_break(),
                    Step::Damage(bytes) => each(Dumped::Damage(Damage { segment: file.id, bytes })).is_break(),
                    Step::End => true,
                };
        }
        Ok(if broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if !broken && let Some(hole) = missing.reach(reader.durable_seq() + 1) {
        let _ = each(Dumped::Hole(hole));
    }
    Ok(())
}

/// Secures the evidence of damage in sealed segments: copies damaged bytes to `quarantine/`, restores a header from its other copy,
/// and removes unfinished files when no writer lives. Records are never rewritten: a hole stays a hole.
///
/// # Errors
/// [`Error::NoTape`], [`Error::NewerFormat`], [`Error::Io`].
pub fn repair(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Repaired, Error> {
    let reader = Reader::open(Arc::clone(storage), dir, Start::End)?;
    let durable = reader.durable();
    let mut repaired = Repaired::default();
    for_each_segment(&**storage, dir, durable, |file, walk| {
        if file.id == durable.segment {
            return Ok(ControlFlow::Break(()));
        }
        if restore_header(&**storage, file)? {
            repaired.headers.push(file.id);
        }
        loop {
            match walk.step() {
                Step::Frame(_) => {}
                Step::Damage(bytes) => {
                    let copied = recover::quarantine(&**storage, dir, file, bytes);
                    let copied = copied.map_err(Error::io("copying from", &file.path))?;
                    repaired.quarantined.push(copied);
                }
                Step::End => return Ok(ControlFlow::Continue(())),
            }
        }
    })?;
    // Held: what is unfinished now has no maker. A living writer removes such files itself when it opens.
    if let Ok(_lock) = storage.lock(&dir.join(recover::LOCK_NAME)) {
        for name in storage.list(dir).map_err(Error::io("listing", dir))? {
            if name.ends_with(UNFINISHED_SUFFIX) {
                let path = dir.join(name);
                storage.remove(&path).map_err(Error::io("removing", &path))?;
                repaired.removed.push(path);
            }
        }
    }
    Ok(repaired)
}

/// Walks through the segments up to the durable end, oldest first.
fn for_each_segment(
    storage: &dyn Storage,
    dir: &Path,
    durable: Durable,
    mut each: impl FnMut(&SegmentFile, &mut Walk) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let check = Check::of(storage);
    let mut next = folder::open_next(storage, dir, 0, check)?;
    while let Some(file) = next.filter(|file| file.id <= durable.segment) {
        next = folder::open_next(storage, dir, file.id + 1, check)?;
        let mut walk = if file.id == durable.segment {
            Walk::new(&file, durable.position, u64::MAX, check)
        } else {
            let seq_end = next.as_ref().map_or(u64::MAX, |next| next.header.first_seq);
            Walk::new(&file, file.len_bytes, seq_end, check)
        };
        if each(&file, &mut walk)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Follows the seqs, and keeps what is missing between them.
#[derive(Debug, Default)]
struct Missing {
    next_seq: Option<u64>,
    holes: Vec<Hole>,
}

impl Missing {
    /// The next record to be there is `seq`. Says what is missing before it.
    fn reach(&mut self, seq: u64) -> Option<Hole> {
        let next_seq = *self.next_seq.get_or_insert(seq);
        self.next_seq = Some(next_seq.max(seq));
        let hole = (next_seq < seq).then(|| Hole { from_seq: next_seq, to_seq: seq - 1 });
        self.holes.extend(hole);
        hole
    }

    /// As [`Missing::reach`]; the record is passed then.
    fn pass(&mut self, head: &Head) -> Option<Hole> {
        let hole = self.reach(head.seq);
        if head.kind == RecordKind::Event {
            self.next_seq = Some(head.seq + 1);
        }
        hole
    }
}

/// The two copies of a header; `None` for a damaged one.
fn headers(file: &SegmentFile) -> [Option<Header>; 2] {
    let mut bytes = [0; DATA_START as usize];
    folder::read(&*file.bytes, &mut bytes, 0);
    let (first, second) = bytes.split_at(HEADER_BYTES);
    [first, second].map(|copy| match Header::decode(copy) {
        HeaderRead::Valid(header) => Some(header),
        _ => None,
    })
}

fn restore_header(storage: &dyn Storage, file: &SegmentFile) -> Result<bool, Error> {
    let (whole, at) = match headers(file) {
        [Some(header), None] => (header, HEADER_BYTES as u64),
        [None, Some(header)] => (header, 0),
        _ => return Ok(false),
    };
    if file.is_packed() {
        return Ok(false);
    }
    let to = storage.open(&file.path, false).map_err(Error::io("opening", &file.path))?;
    folder::write_all(&*to, &whole.encode(), at)
        .and_then(|()| to.sync_data())
        .map_err(Error::io("restoring the header of", &file.path))?;
    Ok(true)
}

fn size(storage: &dyn Storage, path: &Path) -> u64 {
    storage.open_read(path).and_then(|file| file.len_bytes()).unwrap_or(0)
}

impl SegmentFile {
    fn is_packed(&self) -> bool {
        self.path.file_name().is_some_and(|name| *name == *segment::packed_name(self.id))
    }
}
