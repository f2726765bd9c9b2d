//! Crashes, damage and failing disks.

use super::*;
use crate::model::{Call, Failure, Fault, Model};
use crate::segment::{DATA_START, frame_bytes};
use crate::storage::Flaw;
use crate::{Error, Note};

/// A tape on the model.
fn modelled(options: impl FnOnce(&mut Options)) -> (Model, Bench) {
    let model = Model::new(1);
    let mut bench = Bench::new();
    bench.storage = Arc::new(model.clone());
    bench.dir = "/tape".into();
    options(&mut bench.options);
    (model, bench)
}

/// The same tape after a power cut.
fn after_crash(model: &Model, bench: &Bench, seed: u64) -> Bench {
    let mut other = Bench::new();
    other.storage = Arc::new(model.crash(seed));
    other.dir = bench.dir.clone();
    other.options = bench.options.clone();
    other
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let bench = Bench::new().with(&["one", "two", "three"]);
    let path = bench.segment_path(1);
    let whole = std::fs::read(&path).unwrap();
    let two_end = DATA_START + 2 * frame_bytes(3);
    let three_end = two_end + frame_bytes(5);
    for len in two_end..=three_end {
        let cut = Bench::new();
        std::fs::create_dir_all(&cut.dir).unwrap();
        std::fs::write(cut.segment_path(1), &whole[..len as usize]).unwrap();
        let (mut log, opening) = cut.open();
        let last = if len == three_end { 3 } else { 2 };
        assert_eq!(opening.last_seq, last, "cut at byte {len}");
        let torn = opening.torn.as_ref();
        assert_eq!(torn.is_some(), len > two_end && len < three_end, "cut at byte {len}: {torn:?}");
        if let Some(torn) = torn {
            let kept = std::fs::read(torn.quarantined.as_ref().unwrap()).unwrap();
            assert!(whole[two_end as usize..len as usize].starts_with(&kept), "cut at byte {len}");
        }
        assert_eq!(append(&mut log, &["next"]), last + 1);
        log.commit().unwrap();
        let got = cut.read(Start::Begin);
        assert_eq!(got[..2], records(1, &["one", "two"]));
        assert_eq!(got.last(), Some(&Got::Record(last + 1, "next".into())));
        assert_eq!(got.len() as u64, last + 1, "cut at byte {len}");
    }
}

#[test]
fn a_torn_tail_that_cannot_be_copied_is_reported_all_the_same() {
    let bench = Bench::new().with(&["one", "two"]);
    let path = bench.segment_path(1);
    let bytes = std::fs::read(&path).unwrap();
    let torn_at = DATA_START + frame_bytes(3);
    std::fs::write(&path, &bytes[..torn_at as usize + 33]).unwrap();
    std::fs::write(bench.dir.join("quarantine"), b"in the way").unwrap();
    let (_log, opening) = bench.open();
    assert_eq!(opening.torn, Some(crate::TornTail { bytes: 33, quarantined: None }));
    assert_eq!(bench.read(Start::Begin), records(1, &["one"]));
}

#[test]
fn an_append_of_several_records_is_there_whole_or_not_at_all() {
    let bench = Bench::new();
    let (mut log, _) = bench.open();
    append(&mut log, &["one"]);
    append(&mut log, &["two", "three", "four"]);
    log.commit().unwrap();
    drop(log);
    let path = bench.segment_path(1);
    let bytes = std::fs::read(&path).unwrap();
    let last_at = DATA_START + 2 * frame_bytes(3) + frame_bytes(5);
    std::fs::write(&path, &bytes[..last_at as usize + 20]).unwrap();
    let (_log, opening) = bench.open();
    assert_eq!(opening.last_seq, 1);
    assert!(opening.torn.is_some_and(|torn| torn.bytes > frame_bytes(3)));
    assert_eq!(bench.read(Start::Begin), records(1, &["one"]));
}

#[test]
fn damage_below_the_end_is_a_hole_and_never_the_end() {
    let texts = ["one", "two", "three", "four"];
    for (nth, text) in texts.iter().enumerate().take(3) {
        let bench = Bench::new().with(&texts);
        let at = DATA_START + texts[..nth].iter().map(|text| frame_bytes(text.len())).sum::<u64>();
        for byte in [at, at + 5, at + 9, at + 24, at + 33, at + frame_bytes(text.len()) - 1] {
            flip(&bench.segment_path(1), byte);
            let mut expected = records(1, &texts);
            expected[nth] = Got::Hole(nth as u64 + 1, nth as u64 + 1);
            assert_eq!(bench.read(Start::Begin), expected, "byte {byte}");
            flip(&bench.segment_path(1), byte);
        }
        flip(&bench.segment_path(1), at);
        let (_log, opening) = bench.open();
        assert_eq!((opening.last_seq, opening.holes.len()), (4, 1));
    }
}

#[test]
fn a_segment_that_is_gone_or_cut_short_is_a_hole_up_to_the_next() {
    let bench = Bench::new();
    for texts in [["one", "two"], ["three", "four"], ["five", "six"]] {
        let (mut log, _) = bench.open();
        append(&mut log, &texts[..1]);
        append(&mut log, &texts[1..]);
        log.close().unwrap();
    }
    let second = bench.segment_path(2);
    let bytes = std::fs::read(&second).unwrap();
    std::fs::write(&second, &bytes[..bytes.len() - 3]).unwrap();
    let all = |three: Got, four: Option<Got>| {
        let mut got = records(1, &["one", "two"]);
        got.push(three);
        got.extend(four);
        got.extend(records(5, &["five", "six"]));
        got
    };
    assert_eq!(bench.read(Start::Begin), all(Got::Record(3, "three".into()), Some(Got::Hole(4, 4))));
    std::fs::remove_file(&second).unwrap();
    assert_eq!(bench.read(Start::Begin), all(Got::Hole(3, 4), None));
    assert_eq!(bench.read(Start::Seq(4))[0], Got::Hole(4, 4));
}

#[test]
fn a_segment_without_headers_is_known_by_its_records() {
    let bench = Bench::new().with(&["one", "two"]);
    let (log, _) = bench.open();
    log.close().unwrap();
    flip(&bench.segment_path(1), 3);
    flip(&bench.segment_path(1), 515);
    assert_eq!(bench.read(Start::Begin), records(1, &["one", "two"]));
    let (_log, opening) = bench.open();
    assert_eq!((opening.last_seq, opening.incarnation, opening.new), (2, 3, false));
}

#[test]
fn unreadable_sectors_are_a_hole_and_the_rest_is_served() {
    let (model, bench) = modelled(|_| {});
    let (mut log, _) = bench.open();
    let text = "x".repeat(4000);
    for _ in 0..8 {
        append(&mut log, &[&text]);
    }
    log.commit().unwrap();
    model.make_unreadable(&bench.segment_path(1), 12_288..12_800).unwrap();
    let got = bench.read(Start::Begin);
    let holes: Vec<_> = got.iter().filter(|got| matches!(got, Got::Hole(..))).collect();
    assert_eq!(holes.len(), 1, "{holes:?}");
    assert!(got.len() >= 7, "{}", got.len());
}

#[test]
fn old_bytes_of_a_recycled_file_are_never_records() {
    let (model, bench) = modelled(|_| {});
    let (mut log, _) = bench.open();
    append(&mut log, &["one"]);
    log.commit().unwrap();
    let first = model.bytes(&bench.segment_path(1)).unwrap();
    drop(log);
    // The bytes of segment 1 lie ahead, and become segment 2 and 3.
    for seq in 2..4 {
        model.put(&bench.dir.join("ahead"), &first);
        let (mut log, opening) = bench.open();
        assert_eq!((opening.last_seq, opening.torn), (seq - 1, None));
        append(&mut log, &["again"]);
        log.commit().unwrap();
    }
    let expected = [records(1, &["one"]), records(2, &["again", "again"])].concat();
    assert_eq!(bench.read(Start::Begin), expected);
}

#[test]
fn a_failed_fsync_moves_what_was_not_synced_to_a_new_segment() {
    let (model, bench) = modelled(|_| {});
    let (mut log, _) = bench.open();
    append(&mut log, &["one"]);
    log.commit().unwrap();
    let mut reader = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Begin, log.tail()).unwrap();
    assert_eq!(drain(&mut reader), records(1, &["one"]));
    append(&mut log, &["two"]);
    append(&mut log, &["three"]);
    model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
    assert_eq!(log.commit().unwrap(), 3);
    let notes = log.take_notes();
    assert!(matches!(notes[..], [Note::Poisoned { segment: 1, .. }]), "{notes:?}");
    assert_eq!(log.segment.id, 2);
    assert_eq!(append(&mut log, &["four"]), 4);
    log.commit().unwrap();
    assert_eq!(drain(&mut reader), records(2, &["two", "three", "four"]), "the reader crossed over");
    for seed in 0..20 {
        let bench = after_crash(&model, &bench, seed);
        assert_eq!(bench.read(Start::Begin), records(1, &["one", "two", "three", "four"]), "seed {seed}");
    }
}

#[test]
fn a_second_failure_stops_recording_and_says_so() {
    let (model, bench) = modelled(|_| {});
    let (mut log, _) = bench.open();
    append(&mut log, &["one"]);
    log.commit().unwrap();
    append(&mut log, &["two"]);
    model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: true });
    assert!(matches!(log.commit(), Err(Error::Poisoned { .. })));
    model.heal();
    assert!(matches!(log.commit(), Err(Error::Poisoned { .. })), "for good");
    let refused = log.append(&[Entry { ts_recv: 0, payload: b"x" }], &mut Vec::new);
    assert!(matches!(refused, Err(Error::Poisoned { .. })));
    drop(log);
    let (mut log, opening) = bench.open();
    assert!(opening.last_seq >= 1);
    append(&mut log, &["next"]);
    log.commit().unwrap();
}

#[test]
fn believing_a_second_fsync_loses_records_and_the_flaw_shows_it() {
    let lost = |flawed: bool| {
        let (model, bench) = modelled(|_| {});
        if flawed {
            model.commit_flaw(Flaw::RetryAfterEio);
        }
        let (mut log, _) = bench.open();
        append(&mut log, &["one"]);
        model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
        assert_eq!(log.commit().unwrap(), 1);
        (0..20).any(|seed| after_crash(&model, &bench, seed).read(Start::Begin) != records(1, &["one"]))
    };
    assert!(!lost(false));
    assert!(lost(true));
}

#[test]
fn a_full_disk_refuses_an_append_and_takes_it_later() {
    let (model, bench) = modelled(|_| {});
    let (mut log, _) = bench.open();
    let text = "x".repeat(1000);
    // One segment is always ahead: the disk may fill up at any moment and this much still fits.
    model.set_capacity(Some(model.used()));
    let mut taken = 0;
    let refused = loop {
        match log.append(&[Entry { ts_recv: 1, payload: text.as_bytes() }], &mut Vec::new) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        log.commit().unwrap();
    };
    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    assert!(taken > 60, "more than one segment: {taken}");
    assert_eq!(log.commit().unwrap(), taken);
    assert!(log.take_notes().iter().any(|note| matches!(note, Note::NothingAhead { .. })));
    let refused = log.append(&[Entry { ts_recv: 1, payload: b"small" }], &mut Vec::new);
    assert!(matches!(refused, Err(Error::Full { .. })), "order is kept: nothing overtakes what was refused");
    model.set_capacity(None);
    assert_eq!(append(&mut log, &[&text]), taken + 1, "without a restart");
    log.commit().unwrap();
    assert_eq!(bench.read(Start::Begin).len() as u64, taken + 1);
}

#[test]
fn a_segment_that_cannot_be_begun_voids_nothing() {
    // Each call of a roll fails once or for ever; then a crash. What was committed is there.
    for for_ever in [false, true] {
        for nth in 180..250 {
            let (model, bench) = modelled(|_| {});
            let (mut log, _) = bench.open();
            let text = "x".repeat(1000);
            let mut committed = 0;
            model.fail(Fault { call: None, nth, failure: Failure::Eio, for_ever });
            for _ in 0..100 {
                let _ = log.append(&[Entry { ts_recv: 1, payload: text.as_bytes() }], &mut Vec::new);
                if let Ok(durable) = log.commit() {
                    committed = durable;
                }
            }
            model.heal();
            for seed in 0..3 {
                let got = after_crash(&model, &bench, seed).read(Start::Begin);
                assert!(got.iter().all(|got| matches!(got, Got::Record(..))), "call {nth}, seed {seed}");
                assert!(got.len() as u64 >= committed, "call {nth}, seed {seed}: {} of {committed}", got.len());
            }
        }
    }
}

#[test]
fn a_last_segment_that_cannot_be_synced_is_replaced_when_the_tape_is_opened() {
    for seed in 0..20 {
        let (model, bench) = modelled(|options| options.mode = crate::Mode::Os);
        let (mut log, _) = bench.open();
        append(&mut log, &["one"]);
        append(&mut log, &["two", "three"]);
        let killed = model.fork();
        drop(log);
        let mut after = Bench::new();
        after.storage = Arc::new(killed.clone());
        after.dir = bench.dir.clone();
        after.options = bench.options.clone();
        killed.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
        let (mut log, opening) = after.open();
        assert_eq!(opening.last_seq, 3);
        assert!(matches!(log.take_notes()[..], [Note::Poisoned { segment: 1, .. }]));
        drop(log);
        let crashed = after_crash(&killed, &after, seed);
        assert_eq!(crashed.read(Start::Begin), records(1, &["one", "two", "three"]), "seed {seed}");
    }
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_tape() {
    let bench = Bench::new();
    let (log, _) = bench.open();
    let refused = Log::open(Arc::clone(&bench.storage), &bench.dir, bench.options.clone());
    let Err(Error::Locked { pid, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(pid, Some(std::process::id()));
    drop(log);
    bench.open();
}

#[test]
fn a_tape_of_a_later_version_is_refused_and_left_alone() {
    let bench = Bench::new().with(&["one"]);
    let path = bench.segment_path(1);
    let mut bytes = std::fs::read(&path).unwrap();
    for at in [0, 512] {
        bytes[at + 8] = 2;
        let crc = crc32c::crc32c(&bytes[at..at + 508]);
        bytes[at + 508..at + 512].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&path, &bytes).unwrap();
    let opened = Log::open(Arc::clone(&bench.storage), &bench.dir, bench.options.clone());
    assert!(matches!(opened, Err(Error::NewerFormat { version: 2, .. })), "{opened:?}");
    let read = Reader::open(Arc::clone(&bench.storage), &bench.dir, Start::Begin);
    assert!(matches!(read, Err(Error::NewerFormat { .. })), "{read:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn too_large_a_record_is_refused_and_the_largest_is_taken() {
    let bench = Bench::new();
    let (mut log, _) = bench.open();
    let largest = vec![7; crate::MAX_PAYLOAD_BYTES + 1];
    let refused = log.append(&[Entry { ts_recv: 1, payload: &largest }], &mut Vec::new);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    log.append(&[Entry { ts_recv: 1, payload: &largest[1..] }], &mut Vec::new).unwrap();
    append(&mut log, &["small"]);
    log.commit().unwrap();
    let mut reader = bench.reader(Start::Begin);
    assert!(matches!(reader.next().unwrap(), Some(Item::Record(record)) if record.payload == &largest[1..]));
    assert_eq!(drain(&mut reader), records(2, &["small"]));
}

#[test]
fn a_seq_that_a_reader_has_seen_is_never_given_to_another_record() {
    // The writer dies after an append that it never synced; a reader without a writer sees it; then the power goes.
    for seed in 0..50 {
        let (model, bench) = modelled(|options| options.mode = crate::Mode::Os);
        let (mut log, _) = bench.open();
        append(&mut log, &["one"]);
        let killed = model.fork();
        let mut seen = Bench::new();
        seen.storage = Arc::new(killed.clone());
        seen.dir = bench.dir.clone();
        seen.options = bench.options.clone();
        let before = seen.read(Start::Begin);
        let after = after_crash(&killed, &seen, seed);
        let (mut log, opening) = after.open();
        assert_eq!(opening.last_seq, before.len() as u64, "seed {seed}");
        append(&mut log, &["next"]);
        log.sync().unwrap();
        assert_eq!(after.read(Start::Begin)[..before.len()], before, "seed {seed}");
    }
}

#[test]
fn on_a_nearly_full_disk_small_segments_are_made_ahead() {
    let (model, bench) = modelled(|options| options.segment_bytes = 8 * 1024 * 1024);
    let (mut log, _) = bench.open();
    let text = "x".repeat(1024 * 1024);
    model.set_capacity(Some(model.used() + 3 * 1024 * 1024));
    // What was made at the opening is used up, and there is no room for as much again.
    for _ in 0..9 {
        append(&mut log, &[&text]);
        log.commit().unwrap();
    }
    let ahead = model.bytes(&bench.dir.join("ahead")).unwrap().len();
    assert_eq!(ahead, 1024 * 1024);
    assert!(log.take_notes().is_empty(), "nothing to say: a segment is ahead");
    assert_eq!(bench.read(Start::Begin).len(), 9);
}
