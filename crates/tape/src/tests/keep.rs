//! Retention, compression and the tools.

use std::ops::ControlFlow;
use std::time::Duration;

use super::*;
use crate::model::{Call, Failure, Fault, Model};
use crate::tools::{self, Dumped};
use crate::{Cursor, Retention, cursors};

/// Segments of 64 KiB hold 60 of these.
const TEXT_BYTES: usize = 1000;

fn filled(bench: &Bench, count: u64) -> Log {
    let (mut log, _) = bench.open();
    for seq in 1..=count {
        append(&mut log, &[&text(seq)]);
    }
    log.commit().unwrap();
    log
}

fn text(seq: u64) -> String {
    format!("{seq:0>width$}", width = TEXT_BYTES)
}

fn all(from: u64, to: u64) -> Vec<Got> {
    (from..=to).map(|seq| Got::Record(seq, text(seq))).collect()
}

#[test]
fn retention_by_bytes_lets_the_oldest_segments_go_and_recycles_one() {
    let bench = Bench::new();
    let mut log = filled(&bench, 500);
    std::fs::remove_file(bench.dir.join("ahead")).unwrap();
    drop(log);
    (log, _) = bench.open();
    append(&mut log, &[&text(501)]);
    log.commit().unwrap();
    let policy = Retention { keep_bytes: Some(256 * 1024), ..Retention::default() };
    let retained = log.retain(&policy, 0).unwrap();
    assert!(retained.segments >= 4, "{retained:?}");
    let first = retained.first_seq;
    assert_eq!(bench.read(Start::Begin), all(first, 501));
    assert_eq!(bench.read(Start::Seq(1))[0], Got::Hole(1, first - 1), "who comes too late is told");
    // The recycled file carries on, and nothing of its earlier life is read.
    for seq in 502..=700 {
        append(&mut log, &[&text(seq)]);
    }
    log.commit().unwrap();
    assert_eq!(bench.read(Start::Begin), all(first, 700));
    drop(log);
    let (_log, opening) = bench.open();
    assert_eq!((opening.last_seq, opening.torn), (700, None));
    assert_eq!(bench.read(Start::Begin), all(first, 700));
}

#[test]
fn retention_by_age_keeps_what_is_young_enough() {
    let bench = Bench::new();
    let mut log = filled(&bench, 300);
    let policy = Retention { keep_age: Some(Duration::from_secs(3600)), ..Retention::default() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    assert_eq!(log.retain(&policy, now).unwrap().segments, 0);
    let retained = log.retain(&policy, now + 3_700_000_000_000).unwrap();
    assert!(retained.segments >= 4, "{retained:?}");
    assert_eq!(bench.read(Start::Begin), all(retained.first_seq, 300));
}

#[test]
fn a_required_reader_holds_what_it_has_not_read_and_another_does_not() {
    let bench = Bench::new();
    let mut log = filled(&bench, 300);
    let everything = |required: &[&str]| Retention {
        keep_bytes: Some(0),
        required: required.iter().map(|name| (*name).to_owned()).collect(),
        ..Retention::default()
    };
    let retained = log.retain(&everything(&["influx"]), 0).unwrap();
    assert_eq!((retained.segments, retained.held_by.as_deref()), (0, Some("influx")), "it has not even begun");
    let mut influx = Cursor::open(&*bench.storage, &bench.dir, "influx", log.tape_id(), 300).unwrap();
    let mut other = Cursor::open(&*bench.storage, &bench.dir, "other", log.tape_id(), 300).unwrap();
    influx.commit(150, b"").unwrap();
    other.commit(1, b"").unwrap();
    let retained = log.retain(&everything(&["influx"]), 0).unwrap();
    assert!(retained.segments > 0 && retained.first_seq <= 151, "{retained:?}");
    assert_eq!(bench.read(Start::Seq(151)), all(151, 300));
    let retained = log.retain(&everything(&[]), 0).unwrap();
    assert!(retained.first_seq > 151 && retained.held_by.is_none(), "{retained:?}");
    let names: Vec<_> =
        cursors::list(&*bench.storage, &bench.dir).unwrap().into_iter().map(|c| (c.name, c.seq)).collect();
    assert_eq!(names, [("influx".to_owned(), 150), ("other".to_owned(), 1)]);
    assert!(cursors::drop(&*bench.storage, &bench.dir, "other").unwrap());
    assert!(!cursors::drop(&*bench.storage, &bench.dir, "other").unwrap());
}

#[test]
fn a_reader_that_has_never_begun_may_hold_nothing_and_one_that_has_tells_how_much_it_holds() {
    let bench = Bench::new();
    let mut log = filled(&bench, 300);
    let policy =
        Retention { keep_bytes: Some(128 * 1024), once_begun: vec!["store".to_owned()], ..Retention::default() };
    let retained = log.retain(&policy, 0).unwrap();
    assert!(retained.segments > 0 && retained.held_by.is_none(), "{retained:?}");
    let mut store = Cursor::open(&*bench.storage, &bench.dir, "store", log.tape_id(), 300).unwrap();
    store.commit(retained.first_seq, b"").unwrap();
    let policy = Retention { keep_bytes: Some(0), ..policy };
    let held = log.retain(&policy, 0).unwrap();
    assert_eq!((held.segments, held.held_by.as_deref()), (0, Some("store")));
    store.commit(300, b"").unwrap();
    let gone = log.retain(&policy, 0).unwrap();
    assert_eq!(gone.held_by, None);
    assert_eq!(held.held_bytes, gone.bytes, "what it held is what goes when it holds it no more");
}

#[test]
fn one_segment_goes_at_a_time_to_make_room() {
    let bench = Bench::new();
    let mut log = filled(&bench, 300);
    assert_eq!(log.drop_oldest(&Retention::default()).unwrap().segments, 1);
    let policy = Retention { required: vec!["slow".into()], ..Retention::default() };
    let held = log.drop_oldest(&policy).unwrap();
    assert_eq!((held.segments, held.held_by.as_deref()), (0, Some("slow")));
}

#[test]
fn the_newest_sealed_segment_stays_until_the_next_durably_begins_with_a_checkpoint() {
    let bench = Bench::new();
    drop(filled(&bench, 10));
    let (mut log, _) = bench.open();
    let everything = Retention { keep_bytes: Some(0), ..Retention::default() };
    assert_eq!(log.retain(&everything, 0).unwrap().segments, 0);
    log.append(&[Entry { ts_recv: 1, payload: b"x" }], &mut || vec![b"state".to_vec()]).unwrap();
    assert_eq!(log.retain(&everything, 0).unwrap().segments, 0, "a power cut may take it");
    log.commit().unwrap();
    assert_eq!(log.retain(&everything, 0).unwrap().segments, 1);
}

#[test]
fn what_a_takeover_needs_of_the_segment_before_it_stays() {
    let model = Model::new(1);
    let mut bench = Bench::new();
    bench.storage = Arc::new(model.clone());
    bench.dir = "/tape".into();
    let everything = Retention { keep_bytes: Some(0), ..Retention::default() };
    let state = |log: &mut Log, text: &str| {
        log.append(&[Entry { ts_recv: 1, payload: b"x" }], &mut || vec![text.as_bytes().to_vec()]).unwrap();
    };
    let (mut log, _) = bench.open();
    state(&mut log, "first");
    log.commit().unwrap();
    state(&mut log, "unused");
    model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
    log.commit().unwrap();
    // The segment that took over begins with a record; its checkpoint comes behind that. Readers begin there; should it be
    // damaged, they need the one before.
    state(&mut log, "in the middle");
    log.commit().unwrap();
    assert_eq!(log.retain(&everything, 0).unwrap().segments, 0);
    let checkpoint = |log: &Log| {
        let storage = Arc::clone(&bench.storage);
        Reader::open_with(storage, &bench.dir, Start::Checkpoint, log.tail()).unwrap().checkpoint().to_vec()
    };
    assert_eq!(checkpoint(&log), [b"in the middle".to_vec()]);
    // Nor does a later opening take it for one.
    drop(log);
    let (mut log, _) = bench.open();
    assert_eq!(log.retain(&everything, 0).unwrap().segments, 0);
    assert_eq!(checkpoint(&log), [b"in the middle".to_vec()]);
    state(&mut log, "whole");
    log.commit().unwrap();
    assert_eq!(log.retain(&everything, 0).unwrap().segments, 2);
    assert_eq!(checkpoint(&log), [b"whole".to_vec()]);
}

#[test]
fn compressed_segments_are_read_like_any_other() {
    let mut bench = Bench::new();
    bench.options.compress = true;
    let mut log = filled(&bench, 300);
    assert!(log.take_notes().is_empty());
    let info = tools::info(&bench.storage, &bench.dir).unwrap();
    let compressed = info.segments.iter().filter(|segment| segment.compressed).count();
    assert_eq!(compressed, info.segments.len() - 1);
    assert!(info.segments[0].bytes < 20_000, "{:?}", info.segments[0]);
    assert_eq!(bench.read(Start::Begin), all(1, 300));
    assert_eq!(bench.read(Start::Seq(100)), all(100, 300));
    // A segment is compressed while it is read: the reader goes on in what it has open, or finds the other form.
    drop(log);
    (log, _) = bench.open();
    assert_eq!(bench.read(Start::Begin), all(1, 300));
    assert!(log.take_notes().is_empty());
}

#[test]
fn a_damaged_block_of_a_compressed_segment_is_a_hole_and_either_table_will_do() {
    let mut bench = Bench::new();
    bench.options.compress = true;
    bench.options.segment_bytes = 256 * 1024;
    drop(filled(&bench, 600));
    let path = bench.dir.join(crate::segment::packed_name(1));
    let whole = std::fs::read(&path).unwrap();
    flip(&path, 20);
    assert_eq!(bench.read(Start::Begin), all(1, 600), "the first table is damaged");
    flip(&path, 20);
    flip(&path, whole.len() as u64 / 2);
    let got = bench.read(Start::Begin);
    let holes: Vec<_> = got.iter().filter(|got| matches!(got, Got::Hole(..))).collect();
    assert_eq!(holes.len(), 1, "{holes:?}");
    let Got::Hole(from, to) = holes[0] else { unreachable!() };
    assert!(to - from < 70, "one block of 64 KiB: {holes:?}");
}

#[test]
fn info_and_verify_count_what_is_there_and_what_is_not() {
    let bench = Bench::new();
    let log = filled(&bench, 300);
    let info = tools::info(&bench.storage, &bench.dir).unwrap();
    assert_eq!((info.tape_id, info.first_seq, info.last_seq, info.records), (log.tape_id(), 1, 300, 300));
    assert_eq!((info.mode, info.holes.len()), (Some(crate::Mode::Group), 0));
    assert!(tools::verify(&bench.storage, &bench.dir, &mut |_| {}).unwrap().is_clean());

    flip(&bench.segment_path(2), 30_000);
    flip(&bench.segment_path(3), 40);
    let mut heard = 0;
    let report = tools::verify(&bench.storage, &bench.dir, &mut |_| heard += 1).unwrap();
    assert_eq!((report.records, report.damages.len(), report.holes.len()), (299, 1, 1), "{report:?}");
    assert_eq!(report.damaged_headers, [3]);
    assert_eq!(heard, report.segments);
    assert_eq!(tools::info(&bench.storage, &bench.dir).unwrap().holes, report.holes);

    let repaired = tools::repair(&bench.storage, &bench.dir).unwrap();
    assert_eq!((repaired.headers.as_slice(), repaired.quarantined.len()), ([3].as_slice(), 1));
    let report = tools::verify(&bench.storage, &bench.dir, &mut |_| {}).unwrap();
    assert_eq!((report.damaged_headers.len(), report.holes.len()), (0, 1), "a hole stays a hole");
    drop(log);
    assert_eq!(tools::info(&bench.storage, &bench.dir).unwrap().mode, None, "no writer, no mode");
}

#[test]
fn a_dump_gives_places_damage_and_holes() {
    let bench = Bench::new().with(&["one", "two", "three"]);
    flip(&bench.segment_path(1), 1024 + 40 + 32);
    let mut lines = Vec::new();
    tools::dump(&bench.storage, &bench.dir, 1, &mut |dumped| {
        lines.push(match dumped {
            Dumped::Record { seq, position, .. } => format!("{seq} at {position}"),
            Dumped::Damage(damage) => format!("damage {:?}", damage.bytes),
            Dumped::Hole(hole) => format!("hole {}..={}", hole.from_seq, hole.to_seq),
        });
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(lines, ["1 at 1024", "damage 1064..1104", "hole 2..=2", "3 at 1104"]);
}

/// A record of the length of `text`, behind a checkpoint where one is wanted.
fn stated(log: &mut Log) {
    let text = text(log.next_seq());
    log.append(&[Entry { ts_recv: 1, payload: text.as_bytes() }], &mut || vec![b"state".to_vec()]).unwrap();
    log.commit().unwrap();
}

fn named(bench: &Bench, start: &str) -> Vec<String> {
    let mut names = bench.storage.list(&bench.dir).unwrap();
    names.retain(|name| name.starts_with(start));
    names
}

#[test]
fn segments_that_were_set_free_are_written_before_any_zeros_are() {
    let (model, bench) = modelled();
    let (mut log, _) = bench.open();
    for _ in 0..600 {
        stated(&mut log);
    }
    let everything = Retention { keep_bytes: Some(0), ..Retention::default() };
    let retained = log.retain(&everything, 0).unwrap();
    assert!(retained.segments > 5, "{retained:?}");
    assert_eq!(named(&bench, "ahead-").len(), 2, "two are kept, the others removed");
    for left in [1, 0] {
        let (id, writes) = (log.segment.id, model.count(Call::Write));
        while log.segment.id == id {
            stated(&mut log);
        }
        assert_eq!(named(&bench, "ahead-").len(), left);
        let header =
            crate::folder::open(&*bench.storage, &bench.dir, log.segment.id, log.check).unwrap().unwrap().header;
        assert!(header.recycled);
        let appended = log.next_seq();
        assert!(model.count(Call::Write) - writes < 2 * appended, "{appended}");
    }
    let first = retained.first_seq;
    assert_eq!(bench.read(Start::Begin), all(first, log.durable_seq()));
    // A crash leaves them to be used by the next life.
    assert_eq!(log.retain(&everything, 0).unwrap().segments, 2);
    drop(log);
    let (log, _) = bench.open();
    assert_eq!(named(&bench, "ahead-").len(), 1);
    assert!(log.segment.capacity < 64 * 1024, "it was cut to its end: {}", log.segment.capacity);
}

fn modelled() -> (Model, Bench) {
    let (model, mut bench) = (Model::new(1), Bench::new());
    bench.storage = Arc::new(model.clone());
    bench.dir = "/tape".into();
    (model, bench)
}

#[test]
fn a_new_tape_has_little_ahead_and_a_fast_one_takes_what_is_filled() {
    let mut bench = Bench::new();
    bench.options = Options { allocation: Allocation::Background, ..Options::default() };
    let (mut log, _) = bench.open();
    log.maker.allocator.settle();
    assert_eq!(log.extent().unwrap().bytes, 5 * 1024 * 1024, "one megabyte to write to, four ahead");
    let big = "x".repeat(256 * 1024);
    for _ in 0..160 {
        append(&mut log, &[&big]);
        log.commit().unwrap();
    }
    assert!(log.take_notes().is_empty());
    assert!(log.segment.id < 20, "one megabyte at a time: {}", log.segment.id);
    assert_eq!(bench.read(Start::Begin).len(), 160);
}

#[test]
fn the_extent_is_what_the_tools_count_and_costs_no_call() {
    let (model, bench) = modelled();
    let (mut log, _) = bench.open();
    for _ in 0..200 {
        stated(&mut log);
    }
    log.extent().unwrap();
    let everything = Retention { keep_bytes: Some(200 * 1024), ..Retention::default() };
    for _ in 0..200 {
        stated(&mut log);
    }
    log.retain(&everything, 0).unwrap();
    let calls = model.calls();
    let extent = log.extent().unwrap();
    log.retain(&everything, 0).unwrap();
    assert_eq!(model.calls() - calls, 0);
    let info = tools::info(&bench.storage, &bench.dir).unwrap();
    assert_eq!((extent.first_seq, extent.segments, extent.bytes), (info.first_seq, info.segments.len(), info.bytes));
}

#[test]
fn a_tape_that_cannot_be_opened_for_a_full_disk_gives_up_its_oldest_when_told_to() {
    let (model, bench) = modelled();
    let (mut log, _) = bench.open();
    for _ in 0..300 {
        stated(&mut log);
    }
    drop(log);
    model.remove(&bench.dir.join("ahead")).unwrap();
    model.set_capacity(Some(model.used()));
    let open = |required: &[&str]| {
        let required = required.iter().map(|name| (*name).to_owned()).collect();
        let policy = Retention { required, ..Retention::default() };
        Log::open_dropping_oldest(Arc::clone(&bench.storage), &bench.dir, bench.options.clone(), &policy)
    };
    let refused = Log::open(Arc::clone(&bench.storage), &bench.dir, bench.options.clone());
    assert!(matches!(refused, Err(crate::Error::Full { .. })), "{refused:?}");
    let refused = open(&["slow"]);
    assert!(matches!(refused, Err(crate::Error::Full { .. })), "{refused:?}");
    assert_eq!(bench.read(Start::Begin), all(1, 300), "nothing went");
    let (mut log, opening) = open(&[]).unwrap();
    assert!(opening.first_seq > 1 && opening.first_seq < 100, "{opening:?}");
    assert_eq!(opening.last_seq, 300);
    assert!(log.take_notes().iter().any(|note| matches!(note, crate::Note::DroppedOldest)));
    // And so it goes on: each segment for the oldest.
    let mut dropped = 0;
    for seq in 301..=500_u64 {
        let payload = text(seq);
        let entry = [Entry { ts_recv: 1, payload: payload.as_bytes() }];
        while let Err(error) = log.append(&entry, &mut || vec![b"state".to_vec()]) {
            assert!(matches!(error, crate::Error::Full { .. }), "{error}");
            assert_eq!(log.drop_oldest(&Retention::default()).unwrap().segments, 1);
            dropped += 1;
        }
        log.commit().unwrap();
    }
    assert!(dropped > 1, "{dropped}");
    let first = log.extent().unwrap().first_seq;
    assert_eq!(bench.read(Start::Begin), all(first, 500));
}
