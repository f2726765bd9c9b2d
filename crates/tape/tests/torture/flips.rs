//! Every bit of a segment of 64 KiB flipped, one at a time, as a disk does that ages: 524,288 readings of it when it is sealed, and
//! as many when it is the last. No record is delivered wrong, at most the one that was hit is missing, and a hole says so; at the
//! very end, where nothing tells damage from a torn append, that append is missing instead.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use tapedeck_tape::model::{Model, Rng};
use tapedeck_tape::{Allocation, Options};

use crate::rig::{self, MAX_APPEND, Made, Rig, Verdict, chain, dir, ensure};
use tapedeck_tape::{Reader, Start};

const SEGMENT_BYTES: u64 = 64 * 1024;

/// A tape whose first segment is full to the last append that fits, and is the last one, or is followed by another.
fn tape(sealed: bool) -> (Rig, PathBuf) {
    let options = Options { segment_bytes: SEGMENT_BYTES, allocation: Allocation::Inline, ..Options::default() };
    let mut rig = Rig::new(Model::new(1), options);
    let mut log = rig.reopen().unwrap().unwrap();
    let mut rng = Rng::new(3);
    let path = rig::files(&rig.model, ".seg").remove(0);
    let in_one_segment = |rig: &Rig| rig::files(&rig.model, ".seg").len() == 1;
    while in_one_segment(&rig) {
        let records: Vec<Made> = (0..1 + rng.below(MAX_APPEND))
            .map(|_| Made::new(rng.bits(), [8, 150, 200, 1200][rng.below(4) as usize] + rng.below(20) as usize))
            .collect();
        let before = rig.model.fork();
        rig::append(&mut log, &records).unwrap();
        log.sync().unwrap();
        if !sealed && !in_one_segment(&rig) {
            rig.model = before;
            break;
        }
        rig.facts.appended(&records);
    }
    let end = rig.facts.next_seq() - 1;
    rig.facts.acknowledged(end).unwrap();
    rig.facts.take_all();
    if sealed {
        // The one behind it is cut to its end, so that it costs nothing to look at.
        log.close().unwrap();
    }
    rig.model = rig.model.fork();
    (rig, path)
}

/// Flips the bits of these bytes one by one and lets a reader look at each.
fn read_with_flips(rig: &Rig, path: &Path, bytes: Range<u64>) -> Verdict {
    let mut rig = rig.on(rig.model.fork());
    for at in bytes {
        for bit in 0..8 {
            rig.model.flip(path, at, bit).unwrap();
            let verdict = Reader::open(rig.storage(), &dir(), Start::Begin)
                .map_err(|error| chain(&error))
                .and_then(|mut reader| rig.check_flipped(&mut reader));
            verdict.map_err(|what| format!("byte {at}, bit {bit}: {what}"))?;
            rig.model.flip(path, at, bit).unwrap();
        }
    }
    Ok(())
}

/// … and lets a writer open the tape with it.
fn open_with_flips(rig: &Rig, path: &Path, bytes: Range<u64>) -> Verdict {
    for at in bytes {
        // Every byte, and each bit of its eight neighbours: what a writer does with damage does not hang on the bit.
        let bit = (at % 8) as u8;
        let mut rig = rig.on(rig.model.fork());
        rig.model.flip(path, at, bit).unwrap();
        let what = |what: String| format!("byte {at}, bit {bit}: {what}");
        let mut log = rig.open_flipped().map_err(what)?;
        let next_seq = log.next_seq();
        ensure!(next_seq + MAX_APPEND > rig.facts.acked, "byte {at}, bit {bit}: the log goes on at {next_seq}");
        rig::append(&mut log, &[Made::new(5, 5)]).and_then(|_| log.sync()).map_err(|error| what(chain(&error)))?;
    }
    Ok(())
}

/// Does the work on all processors.
fn shared_out(work: impl Fn(Range<u64>) -> Verdict + Sync) {
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let pieces = 64;
    let verdict: Verdict = thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads)
            .map(|nth| {
                scope.spawn(move || {
                    let piece = SEGMENT_BYTES / pieces;
                    (0..pieces)
                        .filter(|number| number % threads == nth)
                        .try_for_each(|number| work(number * piece..(number + 1) * piece))
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap())
    });
    if let Err(what) = verdict {
        panic!("{what}");
    }
}

#[test]
fn no_flipped_bit_of_a_sealed_segment_costs_more_than_its_record() {
    let (rig, path) = tape(true);
    shared_out(|bytes| read_with_flips(&rig, &path, bytes));
}

#[test]
fn no_flipped_bit_of_the_last_segment_costs_more_than_its_record_or_the_last_append() {
    let (rig, path) = tape(false);
    shared_out(|bytes| read_with_flips(&rig, &path, bytes));
}

#[test]
fn a_writer_opens_a_tape_whatever_byte_of_its_last_segment_is_damaged() {
    let (rig, path) = tape(false);
    shared_out(|bytes| open_with_flips(&rig, &path, bytes));
}
