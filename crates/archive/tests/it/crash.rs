//! The archive is killed, or the power is cut, at every call to the disk. Afterwards every record is in it once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tapedeck_archive::{Archiver, Error, Options, Snapshot, Table, records};
use tapedeck_market::Record;

use crate::model::ModelDisk;
use crate::rig::*;

const DIR: &str = "/archive";

/// A tape over three days, with events that come late.
fn tape() -> Rig {
    let mut rig = Rig::new();
    for (nth, day) in [0, 0, 1, 0, 1, 2, 0, 3].into_iter().enumerate() {
        rig.record(&ticks(1 + nth as u64 * 10, 10, NOON + day * DAY_NS));
    }
    rig
}

/// Archives the tape in ranges of ten records, and compacts its past days; until the disk is gone.
fn work(rig: &Rig, disk: &Arc<ModelDisk>) -> Result<(), Error> {
    let archiver = archive(rig, disk)?;
    let house = archiver.house();
    house.tidy(&|| false)?;
    house.tidy(&|| false)?;
    Ok(())
}

fn archive(rig: &Rig, disk: &Arc<ModelDisk>) -> Result<Archiver, Error> {
    let options = Options { range_records: 10, ..rig.options.clone() };
    let mut archiver =
        Archiver::open(&storage(), &rig.tape(), Some(rig.log.tail()), Arc::clone(disk) as _, Path::new(DIR), options)?;
    archiver.catch_up()?;
    archiver.close_range()?;
    Ok(archiver)
}

fn archived(disk: &ModelDisk) -> Vec<Record> {
    let mut found = Vec::new();
    for table in Table::ALL {
        for (path, bytes) in disk.files(&format!("{DIR}/{table}")) {
            assert_eq!(path.extension().unwrap(), "parquet");
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            found.extend(reader.flat_map(|batch| records(table, &batch.unwrap()).unwrap()));
        }
    }
    found.sort_by_key(|record| record.seq);
    found
}

/// The disks that a crash may leave.
fn outcomes(disk: &ModelDisk, seed: u64) -> Vec<Arc<ModelDisk>> {
    let cut = |nth| disk.after_power_cut(1 + seed * 8 + nth);
    vec![disk.after_kill(), cut(0), cut(1)]
}

#[test]
fn killed_or_unplugged_at_any_call_the_archive_holds_every_record_once() {
    let rig = tape();
    let wanted = rig.on_tape();
    let whole = ModelDisk::new();
    work(&rig, &whole).unwrap();
    assert_eq!(archived(&whole), wanted);
    let calls = whole.calls();
    assert!(calls > 100, "{calls}");
    // One call in eleven in an ordinary run; `make torture` takes them all.
    let step = if std::env::var_os("TAPEDECK_TORTURE_SCALE").is_some() { 1 } else { 11 };
    for call in (1..=calls).step_by(step) {
        let disk = ModelDisk::new();
        disk.crash_at(call, call % 2 == 0);
        // Near the end the last call may be one whose failure nobody needs to hear of.
        let _ = work(&rig, &disk);
        for (nth, left) in outcomes(&disk, call).into_iter().enumerate() {
            let seqs: Vec<u64> = archived(&left).iter().map(|record| record.seq).collect();
            assert!(seqs.is_sorted_by(|a, b| a < b), "twice, before the restart: call {call}, outcome {nth}: {seqs:?}");
            work(&rig, &left).unwrap();
            let found = archived(&left);
            assert!(found == wanted, "call {call}, outcome {nth}: {} of {}", found.len(), wanted.len());
        }
    }
}

/// The control: a bug that costs files in a power cut only.
#[test]
fn a_folder_that_is_not_synced_is_found_out() {
    let rig = tape();
    let wanted = rig.on_tape();
    let caught = (0..20).any(|seed| {
        let disk = ModelDisk::new();
        disk.forget_to_sync("/date=");
        archive(&rig, &disk).unwrap();
        let left = disk.after_power_cut(seed);
        archive(&rig, &left).unwrap();
        archived(&left) != wanted
    });
    assert!(caught, "nothing was lost although no day's folder was ever synced");
}

#[test]
fn a_full_disk_stops_nothing_but_the_files_and_is_told() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 60, NOON));
    let disk = ModelDisk::new();
    let options = Options { range_records: 40, publish_every: Duration::ZERO, ..rig.options.clone() };
    let tail = Some(rig.log.tail());
    let mut archiver =
        Archiver::open(&storage(), &rig.tape(), tail, Arc::clone(&disk) as _, Path::new(DIR), options).unwrap();
    disk.set_full(true);
    let until = Instant::now() + Duration::from_secs(60);
    let turn = |archiver: &mut Archiver| {
        archiver.turn().unwrap();
        assert!(Instant::now() < until, "{:?}", archiver.status());
    };
    while archiver.status().waiting.is_none() {
        turn(&mut archiver);
    }
    let waiting = archiver.status().waiting.unwrap_or_default();
    assert!(waiting.contains("writing /archive/.work"), "{waiting}");
    // The range grows to twice its size, and no further.
    rig.record(&ticks(100, 50, NOON));
    rig.record(&ticks(200, 50, NOON));
    while archiver.snapshots().newest().cut_seq < 80 {
        turn(&mut archiver);
        let snapshot = archiver.snapshots().newest();
        assert_eq!(snapshot.archived_seq, 0);
        assert_eq!(in_snapshot(&snapshot).len() as u64, snapshot.cut_seq, "what was read is shown, once");
    }
    for _ in 0..3 {
        turn(&mut archiver);
        assert_eq!(archiver.snapshots().newest().cut_seq, 80, "and then the tape keeps the rest");
    }
    disk.set_full(false);
    while archiver.snapshots().newest().cut_seq < 160 {
        turn(&mut archiver);
    }
    archiver.close_range().unwrap();
    assert_eq!(archiver.snapshots().newest().archived_seq, 160);
    assert_eq!(archived(&disk), rig.on_tape());
}

/// While files are written, what comes in is shown; when they are there, nothing is there twice.
#[test]
fn a_slow_disk_makes_nothing_late() {
    let mut rig = Rig::new();
    rig.record(&ticks(1, 60, NOON));
    let disk = ModelDisk::new();
    let options = Options { range_records: 40, publish_every: Duration::ZERO, ..rig.options.clone() };
    let tail = Some(rig.log.tail());
    let mut archiver =
        Archiver::open(&storage(), &rig.tape(), tail, Arc::clone(&disk) as _, Path::new(DIR), options).unwrap();
    let held = disk.hold();
    let until = Instant::now() + Duration::from_secs(60);
    while archiver.snapshots().newest().cut_seq < 60 {
        archiver.turn().unwrap();
        assert!(Instant::now() < until, "{:?}", archiver.status());
    }
    let snapshot = archiver.snapshots().newest();
    assert_eq!(snapshot.archived_seq, 0, "the disk has not answered yet");
    assert_eq!(in_snapshot(&snapshot), rig.on_tape());
    drop(held);
    while archiver.status().ranges < 1 {
        archiver.turn().unwrap();
        assert!(Instant::now() < until, "{:?}", archiver.status());
    }
    let snapshot = archiver.snapshots().newest();
    assert_eq!((snapshot.cut_seq, snapshot.archived_seq), (60, 40));
    let in_tail: Vec<u64> = snapshot_tail(&snapshot).iter().map(|record| record.seq).collect();
    assert_eq!(in_tail, (41..=60).collect::<Vec<u64>>());
    assert_eq!(archived(&disk), rig.on_tape()[..40]);
}

fn snapshot_tail(snapshot: &Snapshot) -> Vec<Record> {
    let batches =
        Table::ALL.into_iter().flat_map(|table| snapshot.table(table).tail.iter().map(move |batch| (table, batch)));
    let mut found: Vec<Record> = batches.flat_map(|(table, batch)| records(table, batch).unwrap()).collect();
    found.sort_by_key(|record| record.seq);
    found
}
