//! What the exploration found, each as short as it can be told.

use std::time::Duration;

use tapedeck_tape::model::{Call, Failure, Fault, Model};
use tapedeck_tape::{Allocation, Error, Item, Log, Options, Reader, Start, Woken};

use crate::rig::{self, Made, Rig, dir};

fn options() -> Options {
    Options { segment_bytes: 16 * 1024, allocation: Allocation::Inline, ..Options::default() }
}

/// A tape, and the log that is open on it.
fn open() -> (Rig, Log) {
    let mut rig = Rig::new(Model::new(1), options());
    let log = rig.reopen().unwrap().unwrap();
    (rig, log)
}

fn append(rig: &mut Rig, log: &mut Log, len: usize) -> Result<(), Error> {
    let made = [Made::new(len as u64, len)];
    rig::append(log, &made)?;
    rig.facts.appended(&made);
    Ok(())
}

fn commit(rig: &mut Rig, log: &mut Log) {
    let seq = log.sync().unwrap();
    rig.facts.acknowledged(seq).unwrap();
}

fn check_after_crashes(rig: &Rig) {
    for seed in 0..500 {
        let mut crashed = rig.on(rig.model.crash(seed));
        if let Err(what) = crashed.reopen() {
            panic!("crash {seed}: {what}");
        }
    }
}

/// The header of a segment that was not reached said that the one before it ended there, and a power cut could leave it.
#[test]
fn a_segment_that_could_not_be_begun_voids_nothing_of_the_one_before() {
    let (mut rig, mut log) = open();
    append(&mut rig, &mut log, 10_000).unwrap();
    commit(&mut rig, &mut log);
    rig.model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Enospc, for_ever: false });
    let error = append(&mut rig, &mut log, 9_000).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    append(&mut rig, &mut log, 100).unwrap();
    commit(&mut rig, &mut log);
    check_after_crashes(&rig);
}

/// Learning that the tape had gone on into the next segment, a reader forgot what was left for it in this one.
#[test]
fn a_reader_that_waited_through_a_roll_has_the_rest_of_the_segment_to_read() {
    let (mut rig, mut log) = open();
    append(&mut rig, &mut log, 100).unwrap();
    commit(&mut rig, &mut log);
    let mut reader = Reader::open_with(rig.storage(), &dir(), Start::Begin, log.tail()).unwrap();
    assert!(matches!(reader.next().unwrap(), Some(Item::Record(record)) if record.seq == 1));
    assert_eq!(reader.next().unwrap(), None);
    append(&mut rig, &mut log, 200).unwrap();
    append(&mut rig, &mut log, 15_000).unwrap();
    commit(&mut rig, &mut log);
    assert_eq!(reader.wait(Duration::ZERO).unwrap(), Woken::More);
    let seqs: Vec<u64> = std::iter::from_fn(|| match reader.next().unwrap() {
        Some(Item::Record(record)) => Some(record.seq),
        Some(Item::Hole(hole)) => panic!("{hole:?}"),
        None => None,
    })
    .collect();
    assert_eq!(seqs, [2, 3]);
}

/// After a failed fsync the slot could still be read, the next fsync said `Ok`, and segments went that the cursor came back for.
#[test]
fn a_cursor_whose_sync_failed_lets_no_segment_go() {
    let (mut rig, mut log) = open();
    for len in [12_000, 12_001, 12_002, 12_003] {
        append(&mut rig, &mut log, len).unwrap();
        commit(&mut rig, &mut log);
    }
    rig.facts.delivered = 4;
    let mut cursor = rig::open_cursor(&rig, &log).unwrap();
    rig.facts.committing(1);
    cursor.commit(1, b"").unwrap();
    rig.facts.committed(1);
    rig.model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
    rig.facts.committing(3);
    cursor.commit(3, b"").unwrap_err();
    let retained = log.retain(&rig::retention(0), 0).unwrap();
    assert_eq!((retained.first_seq, retained.held_by.as_deref()), (2, Some(rig::SINK)));
    rig.facts.retain_allowed();
    check_after_crashes(&rig);
}

#[test]
fn a_cursor_that_is_committed_again_after_a_failed_sync_is_durable() {
    let (mut rig, mut log) = open();
    for len in [100, 101] {
        append(&mut rig, &mut log, len).unwrap();
        commit(&mut rig, &mut log);
    }
    rig.facts.delivered = 2;
    let mut cursor = rig::open_cursor(&rig, &log).unwrap();
    rig.model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
    cursor.commit(1, b"1").unwrap_err();
    cursor.commit(2, b"2").unwrap();
    rig.facts.committing(2);
    rig.facts.committed(2);
    check_after_crashes(&rig);
}
