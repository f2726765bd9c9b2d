//! The archive follows the tape: every record is seen, once, and stays.

use std::time::{Duration, Instant};

use tapedeck_archive::{Archive, Archiver, Options, Table};
use tapedeck_market::*;
use tapedeck_tape::cursors;

use crate::rig::*;

#[test]
fn what_is_on_the_tape_is_in_the_snapshot_before_and_after_it_is_in_files() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 500, NOON));
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    let snapshots = archiver.snapshots();
    let before = snapshots.newest();
    assert_eq!((before.cut_seq, before.archived_seq), (500, 0));
    assert_eq!(in_snapshot(&before), rig.on_tape());
    assert!(listing(&rig.archive()).is_empty());

    archiver.close_range().unwrap();
    rig.record(&ticks(501, 20, NOON + 1));
    archiver.catch_up().unwrap();
    let after = snapshots.newest();
    assert_eq!((after.cut_seq, after.archived_seq), (520, 500));
    assert_eq!(in_snapshot(&after), rig.on_tape());
    assert_eq!(in_snapshot(&before), rig.on_tape()[..500], "an older snapshot does not change");
    assert_eq!(in_folder(&rig.archive()), rig.on_tape()[..500]);
    let listed = listing(&rig.archive());
    let id = rig.log.tape_id();
    let name = format!("{id}-1-500.parquet");
    let day = "date=2026-07-19".to_owned();
    assert_eq!(listed, [(Table::Trades, day.clone(), name.clone()), (Table::Quotes, day, name)]);
    let listed = cursors::list(&*storage(), &rig.tape()).unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].seq), ("store", 500));
}

#[test]
fn a_new_process_goes_on_where_the_files_end() {
    let mut rig = Rig::new();
    for round in 0..4_u64 {
        rig.record(&ticks(1 + round * 100, 100, NOON + round as i64 * 1_000_000_000));
        let mut archiver = rig.archiver();
        archiver.catch_up().unwrap();
        assert_eq!(in_snapshot(&archiver.snapshots().newest()), rig.on_tape(), "round {round}");
        if round % 2 == 0 {
            archiver.close_range().unwrap();
        }
    }
    assert_eq!(in_folder(&rig.archive()), rig.on_tape()[..300]);
}

#[test]
fn ranges_end_by_records_and_nothing_is_in_two_of_them() {
    let mut rig = Rig::new();
    rig.options.range_records = 1000;
    let events = ticks(1, 20_000, NOON);
    rig.record(&events);
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    let snapshot = archiver.snapshots().newest();
    assert!(snapshot.archived_seq > 10_000, "{}", snapshot.archived_seq);
    assert!(snapshot.table(Table::Trades).files.len() > 2);
    assert_eq!(in_snapshot(&snapshot), rig.on_tape());
}

#[test]
fn a_range_over_midnight_is_two_days() {
    let mut rig = Rig::new();
    let midnight = (NOON / DAY_NS + 1) * DAY_NS;
    rig.record(&ticks(1, 100, midnight - 50 * 1_000_000));
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    let days: Vec<String> = names(&rig.archive().join("trades"));
    assert_eq!(days, ["date=2026-07-19", "date=2026-07-20"]);
    for record in in_folder(&rig.archive()) {
        let day = if record.event.ts_recv.0 < midnight { "date=2026-07-19" } else { "date=2026-07-20" };
        assert_eq!(day, if record.seq <= 50 { "date=2026-07-19" } else { "date=2026-07-20" });
    }
    let snapshot = archiver.snapshots().newest();
    let files = &snapshot.table(Table::Trades).files;
    assert!(files.iter().all(|file| file.ts_recv.is_some_and(|(low, high)| low / DAY_NS == high / DAY_NS)));
    assert_eq!(in_snapshot(&snapshot), rig.on_tape());
}

#[test]
fn what_cannot_be_decoded_is_a_row_and_counted() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 3, NOON));
    let entry = tapedeck_tape::Entry { ts_recv: NOON + 7, payload: b"no event" };
    rig.log.append(&[entry], &mut Vec::new).unwrap();
    rig.log.commit().unwrap();
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    let found = in_snapshot(&archiver.snapshots().newest());
    assert_eq!(found.len(), 4);
    let expected = Raw { format: "undecodable".into(), frame: b"no event".to_vec() };
    assert_eq!(found[3].event.body, Body::Raw(expected));
    assert_eq!(found[3].event.ts_recv, UnixNanos(NOON + 7));
    assert_eq!(archiver.status().undecodable, 1);
}

#[test]
fn two_archives_in_one_folder_are_refused() {
    let rig = Rig::new();
    let _first = rig.archiver();
    let second = rig.archiver_on(std::sync::Arc::new(tapedeck_archive::disk::RealDisk));
    assert!(matches!(second, Err(tapedeck_archive::Error::Locked { .. })), "{second:?}");
}

#[test]
fn a_dropped_cursor_doubles_nothing() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 100, NOON));
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    drop(archiver);
    assert!(cursors::drop(&*storage(), &rig.tape(), "store").unwrap());
    rig.record(&ticks(101, 10, NOON + DAY_NS / 4));
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    assert_eq!(in_folder(&rig.archive()), rig.on_tape());
}

#[test]
fn an_archive_that_was_thrown_away_is_built_again() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 100, NOON));
    let build = |rig: &Rig| {
        let mut archiver = rig.archiver();
        archiver.catch_up().unwrap();
        archiver.close_range().unwrap();
    };
    build(&rig);
    std::fs::remove_dir_all(rig.archive()).unwrap();
    build(&rig);
    assert_eq!(in_folder(&rig.archive()), rig.on_tape());
}

#[test]
fn a_snapshot_shows_a_record_at_once_and_wakes_who_waits() {
    let mut rig = Rig::new();
    rig.options = Options { publish_every: Duration::from_millis(20), ..Options::default() };
    rig.record(&ticks(1, 10, NOON));
    let archive =
        Archive::follow(&storage(), &rig.tape(), Some(rig.log.tail()), &rig.archive(), rig.options.clone()).unwrap();
    let snapshots = archive.snapshots();
    for round in 0..20 {
        rig.record(&ticks(11 + round * 5, 5, NOON + 1_000_000_000));
        let wanted = rig.log.durable_seq();
        let seen = snapshots.wait_for(wanted, Duration::from_secs(20));
        assert_eq!(seen.cut_seq, wanted);
        assert_eq!(in_snapshot(&seen).len() as u64, wanted);
    }
    archive.stop().unwrap();
}

#[test]
fn a_range_closes_by_time() {
    let mut rig = Rig::new();
    rig.options.range_age = Duration::from_millis(50);
    rig.record(&ticks(1, 10, NOON));
    let archive =
        Archive::follow(&storage(), &rig.tape(), Some(rig.log.tail()), &rig.archive(), rig.options.clone()).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while archive.snapshot().archived_seq < 10 {
        assert!(Instant::now() < until, "{:?}", archive.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!archive.has_ended());
    archive.stop().unwrap();
    assert_eq!(in_folder(&rig.archive()), rig.on_tape());
}

#[test]
fn rows_that_take_much_memory_end_a_range_early() {
    let mut rig = Rig::new();
    rig.options.tail_bytes = 256 * 1024;
    rig.record(&ticks(1, 12_000, NOON));
    let mut archiver: Archiver = rig.archiver();
    let until = Instant::now() + Duration::from_secs(60);
    while archiver.snapshots().newest().cut_seq < 12_000 {
        archiver.turn().unwrap();
        assert!(Instant::now() < until, "{:?}", archiver.status());
        assert!(archiver.status().tail_bytes <= 2 * 1024 * 1024, "{:?}", archiver.status());
    }
    let snapshot = archiver.snapshots().newest();
    assert!(snapshot.archived_seq > 0);
    assert_eq!(in_snapshot(&snapshot), rig.on_tape());
}

/// A disk that confirmed records and did not keep them: the tape gives their seqs to others.
#[test]
fn files_of_records_that_the_tape_has_lost_are_set_aside() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 40, NOON));
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    let kept = rig.dir.path().join("kept");
    copy(&rig.tape(), &kept);
    rig.record(&ticks(41, 30, NOON));
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    drop(archiver);
    // The power is cut, and the tape is what it was.
    let Rig { dir, log, options } = rig;
    drop(log);
    std::fs::remove_dir_all(dir.path().join("tape")).unwrap();
    copy(&kept, &dir.path().join("tape"));
    let log = open_log(&dir.path().join("tape"));
    let mut rig = Rig { dir, log, options };
    let mut archiver = rig.archiver();
    assert_eq!(archiver.status().set_aside, 2);
    rig.record(&ticks(900, 50, NOON));
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    assert_eq!(in_snapshot(&archiver.snapshots().newest()), rig.on_tape());
    assert_eq!(in_folder(&rig.archive()), rig.on_tape());
    assert_eq!(names(&rig.archive().join(".aside")).len(), 2, "nothing is thrown away");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else if name != "wake.sock" {
            std::fs::copy(from, to).unwrap();
        }
    }
}
