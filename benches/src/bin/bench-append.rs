//! Durable appends of 200 B records in groups, beside a bare zero-filled file, okaywal and SQLite.
//!
//! One operation is one group: written, synced, readers told. The bare file is the limit: the same
//! bytes (with our framing's share left out) and one fdatasync.

use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use tapedeck_benches::{Side, compare, each, probe};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Log, Options};

const RECORD: [u8; 200] = [0x5a; 200];
const BARE_BYTES: u64 = 256 << 20;

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    for group in [1_usize, 64, 512, 4_096] {
        let dir = home.path().join(group.to_string());
        std::fs::create_dir(&dir)?;
        let stage = format!("append 200 B, {group} a sync");
        let peers = vec![okaywal(&dir, group)?, bare(&dir, group)?, sqlite(&dir, group)?];
        compare(&stage, ours(&dir, group)?, peers, Some(200 * group as u64));
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

fn ours(dir: &Path, group: usize) -> anyhow::Result<Side<'static>> {
    let dir = dir.join("tape");
    let (mut log, _) = Log::open(Arc::new(Disk), &dir, Options::default())?;
    let retention = tapedeck_tape::Retention { keep_bytes: Some(512 << 20), ..Default::default() };
    let mut appended = 0_u64;
    Ok(each("tapedeck", move || {
        for _ in 0..group {
            let entry = Entry { ts_recv: 1, payload: black_box(&RECORD) };
            log.append(&[entry], &mut Vec::new).expect("appending");
        }
        appended += group as u64;
        // As the recorder does every 15 s: it keeps the disk from filling and segments to recycle.
        if appended > 500_000 {
            appended = 0;
            log.retain(&retention, 2).expect("retaining");
        }
        log.commit().expect("syncing")
    }))
}

fn bare(dir: &Path, group: usize) -> io::Result<Side<'static>> {
    let file = std::fs::File::create(dir.join("bare"))?;
    let zeros = vec![0; 1 << 20];
    for mib in 0..BARE_BYTES >> 20 {
        file.write_all_at(&zeros, mib << 20)?;
    }
    file.sync_all()?;
    let bytes = RECORD.repeat(group);
    let mut at = 0;
    Ok(each("bare file", move || {
        if at + bytes.len() as u64 > BARE_BYTES {
            at = 0;
        }
        file.write_all_at(black_box(&bytes), at).expect("writing");
        at += bytes.len() as u64;
        file.sync_data().expect("syncing");
    }))
}

#[derive(Debug)]
struct Forget;

impl okaywal::LogManager for Forget {
    fn recover(&mut self, _: &mut okaywal::Entry<'_>) -> io::Result<()> {
        Ok(())
    }
    fn checkpoint_to(
        &mut self,
        _: okaywal::EntryId,
        _: &mut okaywal::SegmentReader,
        _: &okaywal::WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

fn okaywal(dir: &Path, group: usize) -> io::Result<Side<'static>> {
    let log = okaywal::WriteAheadLog::recover(dir.join("okaywal"), Forget)?;
    Ok(each("okaywal", move || {
        let mut entry = log.begin_entry().expect("beginning");
        for _ in 0..group {
            entry.write_chunk(black_box(&RECORD)).expect("writing");
        }
        entry.commit().expect("syncing")
    }))
}

fn sqlite(dir: &Path, group: usize) -> anyhow::Result<Side<'static>> {
    let db = rusqlite::Connection::open(dir.join("sqlite"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute("CREATE TABLE tape (seq INTEGER PRIMARY KEY, ts INTEGER, payload BLOB)", [])?;
    Ok(each("SQLite FULL", move || {
        let tx = db.unchecked_transaction().expect("beginning");
        {
            let mut insert = tx.prepare_cached("INSERT INTO tape (ts, payload) VALUES (1, ?1)").expect("preparing");
            for _ in 0..group {
                insert.execute([black_box(&RECORD[..])]).expect("inserting");
            }
        }
        tx.commit().expect("syncing");
    }))
}
