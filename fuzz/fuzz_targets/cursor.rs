//! Any bytes in a cursor's file are a cursor or none; it opens, moves, and is found where it was put.
//!
//! Input: one byte of switches, then the first slot; after [`SPLIT`] bytes the second. The checksums
//! are made right on request, because no fuzzer guesses a CRC.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tapedeck_tape::model::Model;
use tapedeck_tape::storage::Storage as _;
use tapedeck_tape::{Cursor, cursors};
use uuid::Uuid;

const DIR: &str = "/tape";
const NAME: &str = "reader";
const SLOT_BYTES: u64 = 1024 * 1024;
const SPLIT: usize = 128;
const TAPE: Uuid = Uuid::from_u128(7);

fuzz_target!(|input: &[u8]| {
    let Some((&switches, bytes)) = input.split_first() else { return };
    let model = Model::new(1);
    let dir = Path::new(DIR);
    let folder = dir.join("cursors");
    model.create_dir_all(&folder).expect("the model works");
    let file = model.open(&folder.join(NAME), true).expect("the model works");
    let (first, second) = bytes.split_at(bytes.len().min(SPLIT));
    for (nth, slot) in [(0, first), (1, second)] {
        let slot = if switches & 1 == 0 { slot.to_vec() } else { signed(slot) };
        file.write_at(&slot, nth * SLOT_BYTES).expect("the model works");
    }
    if switches & 2 != 0 {
        file.set_len(SLOT_BYTES + second.len() as u64).expect("the model works");
    }

    let last_seq = u64::from(switches) << 8;
    let mut cursor = match Cursor::open(&model, dir, NAME, TAPE, last_seq) {
        Ok(cursor) => cursor,
        Err(_) => return,
    };
    assert!(cursor.seq() <= last_seq, "{} is beyond {last_seq}", cursor.seq());
    let state = cursor.state().to_vec();
    let want = (last_seq.saturating_sub(1), [&state[..state.len().min(64)], b"more"].concat());
    cursor.commit(want.0, &want.1).expect("the model works");
    let again = Cursor::open(&model, dir, NAME, TAPE, last_seq).expect("a cursor that was committed");
    assert_eq!((again.seq(), again.state()), (want.0, &want.1[..]));
    assert_eq!(cursors::list(&model, dir).expect("a list").len(), 1);
});

/// The slot with its checksum made right, if it has one. Its generation is one that a writer could
/// come to: behind 2^64 - 2 commits there is no place for another.
fn signed(slot: &[u8]) -> Vec<u8> {
    let mut slot = slot.to_vec();
    if slot.len() >= 64 {
        slot[23] &= 0x7f;
        let len = u32::from_le_bytes([slot[12], slot[13], slot[14], slot[15]]) as usize;
        let state = slot.get(64..64 + len.min(slot.len())).unwrap_or_default();
        // Without the place at 48, which is written later.
        let crc = [&slot[56..60], state]
            .iter()
            .fold(crc32c::crc32c(&slot[..48]), |crc, part| crc32c::crc32c_append(crc, part));
        slot[60..64].copy_from_slice(&crc.to_le_bytes());
    }
    slot
}
