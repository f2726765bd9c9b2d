//! Walking through the records of a segment, over whatever happened to its bytes.
//!
//! A record that does not check is not the end: the walk looks for the next place, in steps of 8 bytes, where a record
//! stands that checks and whose seq is possible there. What lies between is damage. The checksum covers segment and
//! position, so a false find is a matter of 2⁻³².

use std::ops::Range;
use std::sync::Arc;

use crate::folder::{self, SegmentFile};
use crate::segment::{Check, DATA_START, HEAD_BYTES, Head, RecordKind};
use crate::storage::StorageFile;
use crate::tail::Place;

/// Bytes read at once: large enough to make the call's price vanish, small enough for the second-level cache.
const READ_BYTES: usize = 256 * 1024;

/// Seqs that should be on the tape and cannot be read. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hole {
    pub from_seq: u64,
    pub to_seq: u64,
}

/// A record found by a walk; its payload lies in the walk's buffer until the next step.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub head: Head,
    pub position: u64,
    pub payload: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Step {
    Frame(Frame),
    /// Bytes that are no record, up to the next record or the end.
    Damage(Range<u64>),
    End,
}

/// A walk through one segment.
#[derive(Debug)]
pub(crate) struct Walk {
    segment: u64,
    bytes: Arc<dyn StorageFile>,
    check: Check,
    /// What was read last; `filled` bytes of it, from `at` of the file on.
    buf: Vec<u8>,
    at: u64,
    filled: usize,
    pos: u64,
    end: u64,
    last_seq: u64,
    /// Seqs from here on are void.
    seq_end: u64,
    /// All bytes that the disk refused to read so far lie before this position.
    refused_before: u64,
}

impl Walk {
    /// A walk from the first record to `end`, a position in the file.
    pub(crate) fn new(file: &SegmentFile, end: u64, seq_end: u64, check: Check) -> Self {
        Walk {
            segment: file.id,
            bytes: Arc::clone(&file.bytes),
            check,
            buf: Vec::new(),
            at: 0,
            filled: 0,
            pos: DATA_START,
            end,
            last_seq: file.header.first_seq.saturating_sub(1),
            seq_end,
            refused_before: 0,
        }
    }

    /// The first record of a segment whose headers say nothing.
    pub(crate) fn first_record(bytes: &Arc<dyn StorageFile>, segment: u64, len: u64, check: Check) -> Option<Head> {
        let mut walk = Walk {
            segment,
            bytes: Arc::clone(bytes),
            check,
            buf: Vec::new(),
            at: 0,
            filled: 0,
            pos: DATA_START,
            end: len,
            last_seq: 0,
            seq_end: u64::MAX,
            refused_before: 0,
        };
        match walk.record_at(DATA_START) {
            Some(frame) => Some(frame.head),
            None => walk.find(DATA_START, u64::MAX).map(|frame| frame.head),
        }
    }

    /// Goes on with another segment in the same buffer.
    pub(crate) fn enter(&mut self, file: &SegmentFile, end: u64, seq_end: u64) {
        let mut buf = std::mem::take(&mut self.buf);
        // A record of many megabytes made it large.
        buf.truncate(READ_BYTES);
        buf.shrink_to(READ_BYTES);
        *self = Walk { buf, ..Walk::new(file, end, seq_end, self.check) };
    }

    /// The walk may go on to `end`, and no seq from `seq_end` on counts.
    pub(crate) fn extend(&mut self, end: u64, seq_end: u64) {
        self.end = end;
        self.seq_end = seq_end;
    }

    /// Goes on behind a record that is known to end at `pos`.
    pub(crate) fn skip_to(&mut self, pos: u64, last_seq: u64) {
        self.pos = pos;
        self.last_seq = last_seq;
    }

    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// Where the next record is expected.
    pub(crate) fn position(&self) -> u64 {
        self.pos
    }

    /// Seq of the last record passed.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Length of the segment's bytes by now.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.bytes.len_bytes().unwrap_or(0)
    }

    /// How far the walk may go.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Seqs from here on are not in this segment.
    pub(crate) fn seq_end(&self) -> u64 {
        self.seq_end
    }

    pub(crate) fn payload(&self, frame: &Frame) -> &[u8] {
        &self.buf[frame.payload.clone()]
    }

    /// The next record, or what stands in its place.
    pub(crate) fn step(&mut self) -> Step {
        if self.last_seq.saturating_add(1) >= self.seq_end || self.pos + HEAD_BYTES as u64 > self.end {
            return Step::End;
        }
        if let Some(frame) = self.record_at(self.pos) {
            return self.pass(frame);
        }
        let from = self.pos;
        self.pos = self.find(from, 1).map_or(self.end, |frame| frame.position);
        Step::Damage(from..self.pos)
    }

    fn pass(&mut self, frame: Frame) -> Step {
        if frame.head.seq >= self.seq_end {
            return Step::End;
        }
        self.pos = frame.position + frame.head.frame_bytes();
        if frame.head.kind == RecordKind::Event {
            self.last_seq = frame.head.seq;
        }
        Step::Frame(frame)
    }

    /// The record at a position, if one stands there.
    fn record_at(&mut self, pos: u64) -> Option<Frame> {
        let offset = self.load(pos, HEAD_BYTES)?;
        let head = Head::parse(&self.buf[offset..])?;
        let len = usize::try_from(head.frame_bytes()).ok()?;
        if head.seq <= self.last_seq || pos + head.frame_bytes() > self.end {
            return None;
        }
        let offset = self.load(pos, len)?;
        if !self.check.holds(self.segment, pos, &self.buf[offset..offset + len]) {
            return None;
        }
        let payload = offset + HEAD_BYTES;
        Some(Frame { head, position: pos, payload: payload..payload + head.len as usize })
    }

    /// The first record behind `from`. No more seqs can have been lost on the way than heads fit into it, and `slack`.
    fn find(&mut self, from: u64, slack: u64) -> Option<Frame> {
        let mut pos = from + 8;
        loop {
            let offset = self.load(pos, HEAD_BYTES)?;
            let window = &self.buf[offset..self.filled];
            let possible = |at: usize, head: Head| {
                let lost = slack.saturating_add((pos - from + at as u64) / HEAD_BYTES as u64);
                head.seq > self.last_seq && head.seq - self.last_seq <= lost
            };
            let candidate = (0..=window.len() - HEAD_BYTES)
                .step_by(8)
                .find(|at| Head::parse(&window[*at..]).is_some_and(|head| possible(*at, head)));
            match candidate {
                Some(at) => {
                    pos += at as u64;
                    if let Some(frame) = self.record_at(pos) {
                        return Some(frame);
                    }
                    pos += 8;
                }
                None => pos += ((window.len() - HEAD_BYTES) / 8 * 8 + 8) as u64,
            }
        }
    }

    /// Makes sure that `need` bytes from `pos` are in the buffer and says where. `None`: the file, or the end, is before that.
    fn load(&mut self, pos: u64, need: usize) -> Option<usize> {
        if pos + need as u64 > self.end {
            return None;
        }
        if pos < self.at || pos > self.at + self.filled as u64 {
            self.at = pos;
            self.filled = 0;
        }
        let offset = (pos - self.at) as usize;
        if offset + need <= self.filled {
            return Some(offset);
        }
        self.buf.copy_within(offset..self.filled, 0);
        self.filled -= offset;
        self.at = pos;
        let behind = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let size = need.max(READ_BYTES.min(behind));
        if self.buf.len() < size {
            self.buf.resize(size, 0);
        }
        let from = self.at + self.filled as u64;
        let want = (self.buf.len() - self.filled).min(usize::try_from(self.end - from).unwrap_or(usize::MAX));
        let (read, refused_before) = folder::read(&*self.bytes, &mut self.buf[self.filled..self.filled + want], from);
        self.filled += read;
        self.refused_before = self.refused_before.max(refused_before);
        (need <= self.filled).then_some(0)
    }
}

/// Whether the records of a segment stand behind a whole checkpoint: nothing is damaged before the first of them.
pub(crate) fn begins_with_checkpoint(file: &SegmentFile, end: u64, seq_end: u64, check: Check) -> bool {
    is_checkpoint(&mut Walk::new(file, end, seq_end, check))
}

/// The last whole checkpoint of a segment that stands before a record.
pub(crate) fn last_checkpoint(file: &SegmentFile, end: u64, seq_end: u64, check: Check) -> Option<Place> {
    let mut walk = Walk::new(file, end, seq_end, check);
    let mut checkpoints = Checkpoints::default();
    loop {
        match walk.step() {
            Step::Frame(frame) => checkpoints.pass(file.id, &frame),
            Step::Damage(_) => checkpoints.spoil(),
            Step::End => return checkpoints.whole,
        }
    }
}

/// Whether a whole checkpoint stands at a place in a segment.
pub(crate) fn is_checkpoint_at(file: &SegmentFile, place: Place, end: u64, check: Check) -> bool {
    let mut walk = Walk::new(file, end, u64::MAX, check);
    walk.skip_to(place.position, place.seq - 1);
    is_checkpoint(&mut walk) && walk.last_seq() == place.seq
}

fn is_checkpoint(walk: &mut Walk) -> bool {
    let mut stated = false;
    loop {
        match walk.step() {
            Step::Frame(frame) if frame.head.kind == RecordKind::Checkpoint => stated = true,
            Step::Frame(_) => return stated,
            Step::Damage(_) | Step::End => return false,
        }
    }
}

/// What the last segment of a tape holds, when nobody says where it ends.
#[derive(Debug)]
pub(crate) struct LastScan {
    /// Behind the last whole append.
    pub end: u64,
    pub last_seq: u64,
    pub last_ts_recv: Option<i64>,
    pub holes: Vec<Hole>,
    /// Bytes behind the end that were meant to be records.
    pub torn: Option<Range<u64>>,
    /// So many records at most may stand behind the end where the disk refused to read.
    pub hidden: u64,
    /// The last whole checkpoint.
    pub checkpoint: Option<Place>,
}

/// Scans a segment that was being written.
///
/// The end is behind the last record that closes an append. Before it, damage is damage, and leaves a hole: whether such
/// bytes were ever synced cannot be known, and a record that may have been acknowledged is not thrown away.
pub(crate) fn scan_last(file: &SegmentFile, check: Check) -> LastScan {
    let mut walk = Walk::new(file, file.len_bytes, u64::MAX, check);
    let mut scan = LastScan {
        end: DATA_START.min(file.len_bytes),
        last_seq: walk.last_seq(),
        last_ts_recv: None,
        holes: Vec::new(),
        torn: None,
        hidden: 0,
        checkpoint: None,
    };
    let mut checkpoint = Checkpoints::default();
    let mut open_holes = Vec::new();
    let mut expected = walk.last_seq() + 1;
    loop {
        match walk.step() {
            Step::Frame(frame) => {
                if frame.head.seq > expected {
                    open_holes.push(Hole { from_seq: expected, to_seq: frame.head.seq - 1 });
                    expected = frame.head.seq;
                }
                if frame.head.kind == RecordKind::Event {
                    expected = frame.head.seq + 1;
                }
                checkpoint.pass(file.id, &frame);
                if !frame.head.more {
                    scan.checkpoint = checkpoint.whole;
                    scan.end = walk.position();
                    scan.last_seq = expected - 1;
                    scan.last_ts_recv = Some(frame.head.ts_recv);
                    scan.holes.append(&mut open_holes);
                }
            }
            Step::Damage(_) => checkpoint.spoil(),
            Step::End => break,
        }
    }
    if walk.refused_before > scan.end {
        scan.hidden = (walk.refused_before - scan.end).div_ceil(HEAD_BYTES as u64);
        return scan;
    }
    let torn_end = if file.header.recycled {
        end_of_begun(file, scan.end, scan.last_seq + 1)
    } else {
        end_of_nonzero(file, scan.end)
    };
    scan.torn = (torn_end > scan.end).then_some(scan.end..torn_end);
    scan
}

/// Sees whole checkpoints go by.
#[derive(Default)]
struct Checkpoints {
    /// The one whose records are going by.
    begun: Option<Place>,
    /// Damage went by since the last record that is none of a checkpoint: it may have been the first of one.
    spoilt: bool,
    /// The last one that stands before a record.
    whole: Option<Place>,
}

impl Checkpoints {
    fn pass(&mut self, segment: u64, frame: &Frame) {
        let seq = frame.head.seq;
        if frame.head.kind == RecordKind::Checkpoint {
            if !self.spoilt && self.begun.is_none_or(|begun| begun.seq != seq) {
                self.begun = Some(Place { segment, position: frame.position, seq });
            }
            return;
        }
        if let Some(begun) = self.begun.take().filter(|begun| begun.seq == seq) {
            self.whole = Some(begun);
        }
        self.spoilt = false;
    }

    fn spoil(&mut self) {
        (self.begun, self.spoilt) = (None, true);
    }
}

/// In a file with an earlier life only heads with the right seq tell a begun append from old bytes.
fn end_of_begun(file: &SegmentFile, from: u64, next_seq: u64) -> u64 {
    let mut pos = from;
    let mut expected = next_seq;
    let mut bytes = [0; HEAD_BYTES];
    while pos + HEAD_BYTES as u64 <= file.len_bytes {
        folder::read(&*file.bytes, &mut bytes, pos);
        match Head::parse(&bytes) {
            Some(head) if head.seq == expected => {
                pos += head.frame_bytes();
                expected += u64::from(head.kind == RecordKind::Event);
            }
            _ => break,
        }
    }
    pos.min(file.len_bytes)
}

fn end_of_nonzero(file: &SegmentFile, from: u64) -> u64 {
    let behind = usize::try_from(file.len_bytes.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut buf = vec![0; READ_BYTES.min(behind)];
    let zeros = vec![0; buf.len()];
    let mut end = from;
    let mut pos = from;
    loop {
        let want = buf.len().min(usize::try_from(file.len_bytes.saturating_sub(pos)).unwrap_or(usize::MAX));
        let (read, _) = folder::read(&*file.bytes, &mut buf[..want], pos);
        if read == 0 {
            return end;
        }
        // Almost all of it is zeros, as a rule, and comparing is many times as fast as looking for a byte.
        if buf[..read] != zeros[..read]
            && let Some(last) = buf[..read].iter().rposition(|byte| *byte != 0)
        {
            end = pos + last as u64 + 1;
        }
        pos += read as u64;
    }
}
