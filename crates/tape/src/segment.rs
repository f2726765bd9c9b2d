//! The bytes of a segment.
//!
//! ```text
//! segment <id, 20 digits>.seg, id from 1, each id used at most once in the life of a tape
//! ┌──────────────┬──────────────┬────────┬────────┬─────────────────────────────┐
//! │ header 512 B │ its copy     │ record │ record │ … zeros, or bytes of an     │
//! │              │ at 512       │ @1024  │        │ earlier life of the file    │
//! └──────────────┴──────────────┴────────┴────────┴─────────────────────────────┘
//! header, little-endian           record: a head of 32 bytes, payload, zeros up to a multiple of 8
//!   0  magic "TAPEDECK"             0  u32  CRC32C of (segment id, position, all that follows)
//!   8  u32  format version          4  u32  length of the payload, ≤ 16 MiB
//!  12  u32  flags: 1 = recycled     8  u64  seq
//!  16  16 B tape id                16  i64  receive time, ns
//!  32  u64  segment id             24  u8   kind: 1 event, 2 checkpoint
//!  40  u64  seq of the first record 25 u8   flags: 1 = more records of the same append follow
//!  48  i64  created, wall ns       26  6 B  zero
//!  56  u64  incarnation            32  payload
//!  64  i64  receive time of the last record before this segment; the least i64 = none
//!  72  zeros
//! 508  u32  CRC32C of 0..508
//! ```
//!
//! - The two headers lie in two sectors, so that no single torn or damaged sector takes both. When both
//!   are gone the records still speak for the segment.
//! - The checksum comes first in a record, so that it covers one unbroken run of bytes, its padding too: there is
//!   no bit in a record that may flip unseen. Segment id and position are part of it without being stored: bytes of
//!   a file's earlier life, and bytes written to the wrong place, are not records.
//! - A checkpoint carries the seq of the record after it and has none of its own.
//! - Records of segment N with a seq that a later segment begins with, or above, are void: after a failed
//!   fsync the same seqs are appended again in the next segment.
//! - Of the header, the places of magic, version and checksum are the same in every version.

use uuid::Uuid;

/// The version this program writes.
pub const FORMAT_VERSION: u32 = 1;
/// The longest payload of one record.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;
/// One copy of the header.
pub(crate) const HEADER_BYTES: usize = 512;
/// Where records begin.
pub(crate) const DATA_START: u64 = 2 * HEADER_BYTES as u64;
/// The head of a record, before its payload.
pub(crate) const HEAD_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"TAPEDECK";
const FLAG_RECYCLED: u32 = 1;
const FLAG_MORE: u8 = 1;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub tape_id: Uuid,
    pub segment: u64,
    pub first_seq: u64,
    pub created_ns: i64,
    pub incarnation: u64,
    /// Receive time of the last record before this segment, ns.
    pub last_ts_before: Option<i64>,
    /// The file had an earlier life, or is not known to be zero behind its records.
    pub recycled: bool,
}

/// What a header's bytes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderRead {
    Valid(Header),
    Newer(u32),
    /// Damaged, or never written.
    None,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let flags = if self.recycled { FLAG_RECYCLED } else { 0 };
        out[12..16].copy_from_slice(&flags.to_le_bytes());
        out[16..32].copy_from_slice(self.tape_id.as_bytes());
        out[32..40].copy_from_slice(&self.segment.to_le_bytes());
        out[40..48].copy_from_slice(&self.first_seq.to_le_bytes());
        out[48..56].copy_from_slice(&self.created_ns.to_le_bytes());
        out[56..64].copy_from_slice(&self.incarnation.to_le_bytes());
        out[64..72].copy_from_slice(&self.last_ts_before.unwrap_or(i64::MIN).to_le_bytes());
        let crc = crc32c::crc32c(&out[..508]);
        out[508..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header from the first bytes of a file: the first copy, or else the second.
    pub(crate) fn decode(start: &[u8]) -> HeaderRead {
        start
            .chunks_exact(HEADER_BYTES)
            .take(2)
            .map(Self::decode_copy)
            .find(|read| *read != HeaderRead::None)
            .unwrap_or(HeaderRead::None)
    }

    fn decode_copy(bytes: &[u8]) -> HeaderRead {
        if bytes[0..8] != MAGIC || crc32c::crc32c(&bytes[..508]) != u32_at(bytes, 508) {
            return HeaderRead::None;
        }
        let version = u32_at(bytes, 8);
        if version > FORMAT_VERSION {
            return HeaderRead::Newer(version);
        }
        if !is_seq(u64_at(bytes, 40)) {
            return HeaderRead::None;
        }
        let mut tape_id = [0; 16];
        tape_id.copy_from_slice(&bytes[16..32]);
        HeaderRead::Valid(Header {
            tape_id: Uuid::from_bytes(tape_id),
            segment: u64_at(bytes, 32),
            first_seq: u64_at(bytes, 40),
            created_ns: i64::from_le_bytes(array_at(bytes, 48)),
            incarnation: u64_at(bytes, 56),
            last_ts_before: Some(i64::from_le_bytes(array_at(bytes, 64))).filter(|ts| *ts != i64::MIN),
            recycled: u32_at(bytes, 12) & FLAG_RECYCLED != 0,
        })
    }
}

/// What a record is to the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A record of the tape's user.
    Event,
    /// The user's state before the record that follows.
    Checkpoint,
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub len: u32,
    pub seq: u64,
    pub ts_recv: i64,
    pub kind: RecordKind,
    /// Further records of the same append follow.
    pub more: bool,
}

impl Head {
    /// Bytes of the whole record.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.len as usize)
    }

    /// Reads a head that could be one. The checksum is not looked at.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Head> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        // Kind, flags and the zeros in one look: almost everything that is not a head fails here.
        let (kind, more) = match u64_at(head, 24) {
            0x0001 => (RecordKind::Event, false),
            0x0101 => (RecordKind::Event, true),
            0x0002 => (RecordKind::Checkpoint, false),
            0x0102 => (RecordKind::Checkpoint, true),
            _ => return None,
        };
        let len = u32_at(head, 4);
        if len as usize > MAX_PAYLOAD_BYTES || !is_seq(u64_at(head, 8)) {
            return None;
        }
        Some(Head { len, seq: u64_at(head, 8), ts_recv: i64::from_le_bytes(array_at(head, 16)), kind, more })
    }
}

/// Whether a record could have this seq, and one could follow it: what readers calculate with cannot overflow.
const fn is_seq(seq: u64) -> bool {
    seq != 0 && seq != u64::MAX
}

/// Bytes that a record with a payload of `len` takes.
pub(crate) const fn frame_bytes(len: usize) -> u64 {
    (HEAD_BYTES + len.next_multiple_of(8)) as u64
}

/// How records are checked. The one way, but for the bug that the model can switch on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Check {
    pub without_length: bool,
}

impl Check {
    pub(crate) fn of(storage: &dyn crate::storage::Storage) -> Self {
        Check { without_length: storage.flaw(crate::storage::Flaw::CrcWithoutLength) }
    }

    fn crc(self, segment: u64, position: u64, frame: &[u8]) -> u32 {
        let mut place = [0; 16];
        place[..8].copy_from_slice(&segment.to_le_bytes());
        place[8..].copy_from_slice(&position.to_le_bytes());
        let covered = if self.without_length { &frame[8..] } else { &frame[4..] };
        crc32c::crc32c_append(crc32c::crc32c(&place), covered)
    }

    /// Whether a whole frame is what was written at that place.
    pub(crate) fn holds(self, segment: u64, position: u64, frame: &[u8]) -> bool {
        u32_at(frame, 0) == self.crc(segment, position, frame)
    }

    /// Appends a frame to `out`; it will be written at `position` of `segment`.
    pub(crate) fn push(self, out: &mut Vec<u8>, segment: u64, position: u64, head: Head, payload: &[u8]) {
        debug_assert_eq!(head.len as usize, payload.len());
        let start = out.len();
        let kind = match head.kind {
            RecordKind::Event => 1,
            RecordKind::Checkpoint => 2,
        };
        let mut bytes = [0; HEAD_BYTES];
        bytes[4..8].copy_from_slice(&head.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&head.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&head.ts_recv.to_le_bytes());
        bytes[24] = kind;
        bytes[25] = if head.more { FLAG_MORE } else { 0 };
        out.extend_from_slice(&bytes);
        out.extend_from_slice(payload);
        let padding = payload.len().next_multiple_of(8) - payload.len();
        out.extend_from_slice(&[0; 8][..padding]);
        let crc = self.crc(segment, position, &out[start..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The file name of a segment.
pub(crate) fn file_name(segment: u64) -> String {
    format!("{segment:020}.seg")
}

/// The file name of a compressed segment.
pub(crate) fn packed_name(segment: u64) -> String {
    format!("{segment:020}.zst")
}

/// Reads a segment's id back from a file name; the flag says whether it is the compressed form.
pub(crate) fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (digits, packed) = match name.strip_suffix(".seg") {
        Some(digits) => (digits, false),
        None => (name.strip_suffix(".zst")?, true),
    };
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|id| *id > 0).map(|id| (id, packed))
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            tape_id: Uuid::from_u128(7),
            segment: 3,
            first_seq: 41,
            created_ns: -5,
            incarnation: 2,
            last_ts_before: Some(11),
            recycled: true,
        }
    }

    #[test]
    fn a_header_is_read_from_either_copy() {
        let mut both = [header().encode(), header().encode()].concat();
        assert_eq!(Header::decode(&both), HeaderRead::Valid(header()));
        both[20] ^= 1;
        assert_eq!(Header::decode(&both), HeaderRead::Valid(header()));
        both[HEADER_BYTES + 20] ^= 1;
        assert_eq!(Header::decode(&both), HeaderRead::None);
    }

    #[test]
    fn a_header_of_a_later_version_is_told_from_a_damaged_one() {
        let mut bytes = header().encode();
        bytes[8] = 9;
        assert_eq!(Header::decode(&bytes), HeaderRead::None);
        let crc = crc32c::crc32c(&bytes[..508]);
        bytes[508..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), HeaderRead::Newer(9));
    }

    #[test]
    fn a_seq_that_no_record_has_is_damage_even_with_a_right_checksum() {
        let mut frame = Vec::new();
        for seq in [0, u64::MAX] {
            assert_eq!(Header::decode(&Header { first_seq: seq, ..header() }.encode()), HeaderRead::None, "{seq}");
            let head = Head { len: 0, seq, ts_recv: 77, kind: RecordKind::Event, more: false };
            frame.clear();
            Check::default().push(&mut frame, 4, 1024, head, b"");
            assert_eq!(Head::parse(&frame), None, "{seq}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_seen() {
        let check = Check::default();
        let head = Head { len: 5, seq: 9, ts_recv: 77, kind: RecordKind::Event, more: true };
        let mut frame = Vec::new();
        check.push(&mut frame, 4, 1024, head, b"hello");
        assert_eq!(frame.len() as u64, head.frame_bytes());
        assert_eq!(Head::parse(&frame), Some(head));
        assert!(check.holds(4, 1024, &frame));
        for bit in 0..frame.len() * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(!check.holds(4, 1024, &frame), "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_record_is_valid_only_in_its_own_place() {
        let check = Check::default();
        let head = Head { len: 3, seq: 9, ts_recv: 77, kind: RecordKind::Event, more: false };
        let mut frame = Vec::new();
        check.push(&mut frame, 4, 1024, head, b"abc");
        assert!(!check.holds(5, 1024, &frame), "in another segment");
        assert!(!check.holds(4, 1032, &frame), "at another position");
        assert_eq!(Head::parse(&[0; 64]), None, "zeros");
    }

    #[test]
    fn only_names_of_segments_are_read_as_such() {
        assert_eq!(parse_name(&file_name(12)), Some((12, false)));
        assert_eq!(parse_name(&packed_name(12)), Some((12, true)));
        for name in ["12.seg", "lock", "00000000000000000000.seg", "+0000000000000000012.seg", "ahead"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
