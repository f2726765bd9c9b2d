//! Old days are compacted, under the eyes of readers, and removed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tapedeck_archive::{Archiver, Keep, Table, Tidied, records};
use tapedeck_market::*;

use crate::rig::*;

fn close(archiver: &mut Archiver) {
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
}

fn tidy(archiver: &Archiver) -> Tidied {
    archiver.house().tidy(&|| false).unwrap()
}

#[test]
fn the_files_of_a_past_day_become_one_and_hold_the_same() {
    let mut rig = Rig::new();
    let mut archiver = rig.archiver();
    for nth in 0..10_u64 {
        rig.record(&ticks(1 + nth * 50, 50, NOON + nth as i64 * 1_000_000_000));
        close(&mut archiver);
    }
    assert_eq!(tidy(&archiver), Tidied::default(), "today is left alone");
    rig.record(&ticks(1000, 5, NOON + DAY_NS));
    close(&mut archiver);
    let before = archiver.snapshots().newest();
    assert_eq!(tidy(&archiver), Tidied { compacted: 2, removed: 0 });
    let after = archiver.snapshots().newest();
    assert_eq!(names(&rig.archive().join("trades/date=2026-07-19")), [format!("{}-1-500.parquet", rig.log.tape_id())]);
    assert_eq!(after.table(Table::Trades).files.len(), 2);
    for snapshot in [&before, &after] {
        assert_eq!(in_snapshot(snapshot), rig.on_tape(), "both snapshots can be read");
    }
    assert_eq!(in_folder(&rig.archive()), rig.on_tape());
    assert_eq!(tidy(&archiver), Tidied::default(), "there is nothing more to do");
    assert_eq!(in_snapshot(&before), rig.on_tape(), "even when the old folder is gone");
    drop(before);
    let files: usize = Table::ALL.iter().map(|table| after.table(*table).files.len()).sum();
    assert_eq!(names(&rig.archive().join(".files")).len(), files, "no second name outlives its last reader");
    assert!(names(&rig.archive().join(".work")).is_empty());
}

#[test]
fn an_archive_with_compacted_days_opens_as_it_was_closed() {
    let mut rig = Rig::new();
    let mut archiver = rig.archiver();
    for (nth, day) in [0, 0, 1, 0, 2].into_iter().enumerate() {
        rig.record(&ticks(1 + nth as u64 * 20, 20, NOON + day * DAY_NS));
        close(&mut archiver);
    }
    assert!(tidy(&archiver).compacted > 0);
    let before = archiver.snapshots().newest();
    let describe = |snapshot: &tapedeck_archive::Snapshot| {
        let files =
            Table::ALL.into_iter().flat_map(|table| snapshot.table(table).files.iter().cloned().collect::<Vec<_>>());
        files
            .map(|file| {
                (file.public_path().to_path_buf(), file.rows, file.ts_recv, file.ts_event, file.symbols.clone())
            })
            .collect::<Vec<_>>()
    };
    let described = describe(&before);
    drop((archiver, before));
    let archiver = rig.archiver();
    assert_eq!(describe(&archiver.snapshots().newest()), described);
    assert_eq!(in_snapshot(&archiver.snapshots().newest()), rig.on_tape());
}

/// What a foreign reader does: lists the folder, then opens each file by its name.
fn read_as_foreigners_do(day: &Path) -> io::Result<BTreeSet<u64>> {
    let mut seqs = BTreeSet::new();
    for name in std::fs::read_dir(day)? {
        let file = std::fs::File::open(name?.path())?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for batch in reader {
            for record in records(Table::Trades, &batch.unwrap()).unwrap() {
                assert!(seqs.insert(record.seq), "seq {} is there twice", record.seq);
            }
        }
    }
    Ok(seqs)
}

#[test]
fn a_reader_of_the_folder_sees_the_old_files_or_the_new_ones_while_days_are_compacted() {
    let mut rig = Rig::new();
    let mut archiver = rig.archiver();
    let only_trades =
        |from: u64, count: u64, at: i64| -> Vec<Event> { (from..from + count).map(|nth| trade(nth, at)).collect() };
    rig.record(&only_trades(1, 10, NOON));
    close(&mut archiver);
    let day = rig.archive().join("trades/date=2026-07-19");
    let (done, least) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(10)));
    let reader = {
        let (done, least, day) = (Arc::clone(&done), Arc::clone(&least), day.clone());
        std::thread::spawn(move || {
            let (mut read, mut again) = (0, 0);
            while !done.load(Ordering::Relaxed) || read == 0 {
                let wanted = least.load(Ordering::SeqCst);
                match read_as_foreigners_do(&day) {
                    Ok(seqs) => {
                        read += 1;
                        assert!(seqs.len() as u64 >= wanted, "{} of {wanted}", seqs.len());
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => again += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (read, again)
        })
    };
    // Late records of the past day make it due again and again; those of the next day say that it is past.
    let mut rows = 10;
    for round in 0..25_u64 {
        for part in 0..4 {
            rig.record(&only_trades(100 + round * 10 + part, 5, NOON + 1 + round as i64));
            close(&mut archiver);
            rows += 5;
            least.store(rows, Ordering::SeqCst);
        }
        rig.record(&only_trades(5000 + round, 1, NOON + DAY_NS));
        close(&mut archiver);
        assert_eq!(tidy(&archiver).compacted, 1, "round {round}");
        assert_eq!(names(&day).len(), 1);
        assert_eq!(in_snapshot(&archiver.snapshots().newest()).len(), rig.on_tape().len());
    }
    done.store(true, Ordering::Relaxed);
    let (read, again) = reader.join().unwrap();
    println!("{read} readings, {again} times asked to list again");
    assert_eq!(read_as_foreigners_do(&day).unwrap().len() as u64, rows);
}

#[test]
fn days_go_by_the_policy_of_their_table() {
    let mut rig = Rig::new();
    let mut keep = Keep::default();
    keep.set("high_frequency", Some(2)).unwrap();
    keep.set("default", Some(4)).unwrap();
    rig.options.keep = keep;
    let mut archiver = rig.archiver();
    for day in 0..7 {
        let at = NOON + day * DAY_NS;
        let book = BookUpdate { snapshot: true, ..BookUpdate::default() };
        let status = Status { topic: "venue".into(), state: "online".into(), detail: Vec::new() };
        rig.record(&[
            trade(day as u64, at),
            event("BTC/USD", at, Body::Book(book)),
            event("", at, Body::Status(status)),
        ]);
        close(&mut archiver);
    }
    let held = archiver.snapshots().newest();
    assert_eq!(tidy(&archiver), Tidied { compacted: 0, removed: 2 + 4 });
    let days = |table: &str| names(&rig.archive().join(table));
    assert_eq!(days("trades"), (21..=25).map(|day| format!("date=2026-07-{day}")).collect::<Vec<_>>());
    assert_eq!(days("books"), (23..=25).map(|day| format!("date=2026-07-{day}")).collect::<Vec<_>>());
    assert_eq!(days("status").len(), 7);
    assert_eq!(in_snapshot(&held), rig.on_tape(), "a query that runs ends as it began");
    let after = archiver.snapshots().newest();
    assert_eq!(in_snapshot(&after).len(), 5 + 3 + 7);
    drop((held, after, archiver));
    let archiver = rig.archiver();
    assert_eq!(in_snapshot(&archiver.snapshots().newest()).len(), 5 + 3 + 7, "what went does not come back");
}

#[test]
fn too_many_bytes_cost_the_oldest_days_but_never_the_newest() {
    let mut rig = Rig::new();
    let mut archiver = rig.archiver();
    for day in 0..5 {
        rig.record(&ticks(1 + day as u64 * 50, 50, NOON + day * DAY_NS));
        close(&mut archiver);
    }
    let snapshot = archiver.snapshots().newest();
    let of_day = |nth: usize| -> u64 {
        [Table::Trades, Table::Quotes].iter().map(|table| snapshot.table(*table).files[nth].bytes).sum()
    };
    let max_bytes = of_day(3) + of_day(4);
    drop(archiver);
    rig.options.keep.max_bytes = Some(max_bytes);
    let archiver = rig.archiver();
    assert_eq!(tidy(&archiver).removed, 6);
    assert_eq!(names(&rig.archive().join("trades")), ["date=2026-07-22", "date=2026-07-23"]);
    drop(archiver);
    rig.options.keep.max_bytes = Some(1);
    let archiver = rig.archiver();
    assert_eq!(tidy(&archiver).removed, 2);
    assert_eq!(names(&rig.archive().join("trades")), ["date=2026-07-23"]);
}

#[test]
fn a_damaged_file_is_left_out_and_counted() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 50, NOON));
    let mut archiver = rig.archiver();
    close(&mut archiver);
    drop(archiver);
    let (table, day, name) = listing(&rig.archive()).remove(1);
    assert_eq!(table, Table::Quotes);
    std::fs::write(rig.archive().join("quotes").join(day).join(name), b"PAR1 nothing PAR1").unwrap();
    let mut archiver = rig.archiver();
    rig.record(&ticks(51, 50, NOON));
    archiver.catch_up().unwrap();
    assert_eq!(archiver.status().unreadable, 1);
    let found = in_snapshot(&archiver.snapshots().newest());
    assert_eq!(found.iter().filter(|record| Table::of(&record.event.body) == Table::Trades).count(), 75);
    assert!(archiver.house().tidy(&|| false).is_ok());
}

#[test]
fn the_archive_tidies_by_itself() {
    let mut rig = Rig::new();
    rig.options.tidy_every = Duration::from_millis(20);
    rig.options.range_records = 10;
    let archive = tapedeck_archive::Archive::follow(
        &storage(),
        &rig.tape(),
        Some(rig.log.tail()),
        &rig.archive(),
        rig.options.clone(),
    )
    .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(60);
    let wait = |what: &dyn Fn() -> bool| {
        while !what() {
            assert!(std::time::Instant::now() < until, "{:?}", archive.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for nth in 0..5_u64 {
        rig.record(&ticks(1 + nth * 10, 10, NOON));
        wait(&|| archive.snapshot().archived_seq >= (nth + 1) * 10);
    }
    rig.record(&ticks(100, 10, NOON + DAY_NS));
    wait(&|| archive.status().compacted_days >= 2);
    assert_eq!(in_folder(&rig.archive()), rig.on_tape());
    archive.stop().unwrap();
}
