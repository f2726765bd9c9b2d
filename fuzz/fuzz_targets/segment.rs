//! Any bytes in a segment's place: reading ends, seqs only rise, and what a changed segment still
//! delivers is what was written. A tape over such bytes opens for writing and goes on.
//!
//! Input: one byte of switches, then either the whole file, or changes of a good segment as
//! (position u16, byte). The checksums are made right on request, because no fuzzer guesses a CRC.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use tapedeck_tape::model::Model;
use tapedeck_tape::{Allocation, Entry, Item, Log, Options, Reader, Start};

const DIR: &str = "/tape";
const HEADER_BYTES: usize = 512;
const HEAD_BYTES: usize = 32;
/// More items than any input here can hold.
const ITEMS_MAX: usize = 100_000;

const WHOLE: u8 = 1;
const SIGN: u8 = 2;
const PACKED: u8 = 4;
const WRITE: u8 = 8;
const SECOND: u8 = 16;

/// A segment as the log writes it.
struct Good {
    bytes: Vec<u8>,
    records: BTreeMap<u64, Vec<u8>>,
}

fn options() -> Options {
    Options { segment_bytes: 1, allocation: Allocation::Inline, ..Options::default() }
}

fn name(segment: u64, packed: bool) -> PathBuf {
    Path::new(DIR).join(format!("{segment:020}.{}", if packed { "zst" } else { "seg" }))
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let model = Model::new(1);
        let (mut log, _) = Log::open(Arc::new(model.clone()), Path::new(DIR), options()).expect("a new tape");
        let mut records = BTreeMap::new();
        for append in 0..12_u8 {
            let payloads: Vec<Vec<u8>> =
                (0..=append % 3).map(|n| vec![append ^ n; usize::from(append * 7 + n)]).collect();
            let entries: Vec<Entry<'_>> = payloads.iter().map(|payload| Entry { ts_recv: 1_000, payload }).collect();
            let first = log.append(&entries, &mut || vec![b"checkpoint".to_vec()]).expect("room");
            records.extend((first..).zip(payloads));
        }
        log.close().expect("the model works");
        let mut bytes = model.bytes(&name(1, false)).expect("the first segment");
        bytes.truncate(4096);
        Good { bytes, records }
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((&switches, rest)) = input.split_first() else { return };
    let on = |switch: u8| switches & switch != 0;
    let good = good();
    let segment = if on(SECOND) { 2 } else { 1 };
    let mut bytes = if on(WHOLE) { rest.to_vec() } else { changed(&good.bytes, rest) };
    if on(SIGN) {
        sign(&mut bytes, segment);
    }
    let model = Model::new(1);
    if on(SECOND) {
        model.put(&name(1, false), &good.bytes);
    }
    model.put(&name(segment, on(PACKED)), &bytes);

    // With the checksums as they were, what is still delivered must be what was written.
    let known = (!on(SIGN)).then_some(&good.records);
    read(&model, known);
    if on(WRITE) {
        write(&model);
    }
});

fn changed(good: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}

/// Makes the checksums of both headers and of whatever looks like a record right.
fn sign(bytes: &mut [u8], segment: u64) {
    for copy in bytes.chunks_exact_mut(HEADER_BYTES).take(2) {
        let crc = crc32c::crc32c(&copy[..508]);
        copy[508..].copy_from_slice(&crc.to_le_bytes());
    }
    let mut at = 2 * HEADER_BYTES;
    while let Some(head) = bytes.get(at..at + HEAD_BYTES) {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let end = at.saturating_add(HEAD_BYTES).saturating_add(len.next_multiple_of(8));
        let is_head = matches!(head[24], 1 | 2) && end <= bytes.len();
        if !is_head {
            at += 8;
            continue;
        }
        let mut place = [0; 16];
        place[..8].copy_from_slice(&segment.to_le_bytes());
        place[8..].copy_from_slice(&(at as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&place), &bytes[at + 4..end]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// Reads everything; returns the last seq.
fn read(model: &Model, known: Option<&BTreeMap<u64, Vec<u8>>>) -> u64 {
    let Ok(mut reader) = Reader::open(Arc::new(model.clone()), Path::new(DIR), Start::Begin) else { return 0 };
    let mut last = 0;
    for items in 0.. {
        assert!(items < ITEMS_MAX, "reading does not end");
        match reader.next() {
            Ok(Some(Item::Record(record))) => {
                assert!(record.seq > last, "{} behind {last}", record.seq);
                if let Some(payload) = known.and_then(|known| known.get(&record.seq)) {
                    assert_eq!(record.payload, payload, "record {}", record.seq);
                }
                last = record.seq;
            }
            Ok(Some(Item::Hole(hole))) => {
                assert!(hole.from_seq > last && hole.to_seq >= hole.from_seq, "{hole:?} behind {last}");
                last = hole.to_seq;
            }
            Ok(None) | Err(_) => break,
        }
    }
    last
}

/// Opens the tape for writing, appends, and finds it again.
fn write(model: &Model) {
    let Ok((mut log, opening)) = Log::open(Arc::new(model.clone()), Path::new(DIR), options()) else { return };
    let entry = Entry { ts_recv: 2_000, payload: b"after" };
    let Ok(seq) = log.append(&[entry], &mut Vec::new) else { return };
    assert!(seq > opening.last_seq, "{seq} was used before: {opening:?}");
    log.close().expect("the model works");
    let Ok(mut reader) = Reader::open(Arc::new(model.clone()), Path::new(DIR), Start::Seq(seq)) else {
        panic!("a tape that was written cannot be read");
    };
    match reader.next() {
        Ok(Some(Item::Record(record))) => assert_eq!((record.seq, record.payload), (seq, &b"after"[..])),
        other => panic!("{seq} was appended, but {other:?} came"),
    }
}
