//! Real files: a disk that is really full, a second process that wants to write, and one that reads along.
//!
//! Other processes are this test binary again, told by an environment variable what to be.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Allocation, Error, Item, Log, Options, Reader, Retention, Start, Woken};

use crate::rig::{self, Made, chain};

/// What the child process is: the folder of the tape follows in `TAPEDECK_TORTURE_DIR`.
const ROLE: &str = "TAPEDECK_TORTURE_ROLE";
const DIR: &str = "TAPEDECK_TORTURE_DIR";
/// Much longer than anything here takes: only a test that hangs comes to it.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, allocation: Allocation::Inline, ..Options::default() }
}

fn open(dir: &Path, segment_bytes: u64) -> Result<(Log, u64), Error> {
    Log::open(Arc::new(Disk), dir, options(segment_bytes)).map(|(log, opening)| (log, opening.last_seq))
}

/// Starts this test binary as another process that plays a role.
fn spawn(role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "disk::another_process", "--nocapture"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what the other process does.
#[test]
fn another_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else { return };
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "hold" => hold(&dir),
        "read" => read_along(&dir),
        other => panic!("no role {other:?}"),
    }
}

/// Holds the tape until its input ends.
fn hold(dir: &Path) {
    let _log = open(dir, 1024 * 1024).unwrap();
    say("held");
    let _ = std::io::stdin().lines().next();
}

/// Reads along until the writer is gone, and tells each seq, how it was woken, and what it saw at the end.
fn read_along(dir: &Path) {
    let mut reader = Reader::open(Arc::new(Disk), dir, Start::Begin).unwrap();
    say("reading");
    let mut writer_lives = true;
    loop {
        while let Some(item) = reader.next().unwrap() {
            match item {
                Item::Record(record) => {
                    let made = Made::new(record.seq, 50 + record.seq as usize % 100);
                    assert!(record.payload == made.payload(), "seq {} is not what was written", record.seq);
                    say(&format!("seq {}", record.seq));
                }
                Item::Hole(hole) => panic!("{hole:?}"),
            }
        }
        if !writer_lives {
            break;
        }
        match reader.wait(PATIENCE).unwrap() {
            Woken::More => {}
            Woken::WriterGone => writer_lives = false,
            Woken::Timeout => panic!("nobody woke the reader"),
        }
    }
    say("gone");
}

/// A line of its own, in spite of what the test harness prints around it.
fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{word}").unwrap();
    out.flush().unwrap();
}

/// The next thing that the child says; `None` when it has ended.
fn heard(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<String> {
    lines.find_map(|line| line.unwrap().strip_prefix('@').map(str::to_owned))
}

#[test]
fn a_second_process_is_refused_the_tape_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("hold", dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(heard(&mut lines).as_deref(), Some("held"));
    match open(dir.path(), 1024 * 1024) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(child.id()), "the message names the holder"),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    open(dir.path(), 1024 * 1024).unwrap();
}

#[test]
fn a_reader_in_another_process_sees_exactly_what_is_durable_and_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), 64 * 1024).unwrap();
    let mut made = 0;
    let mut append = |log: &mut Log| {
        made += 1;
        rig::append(log, &[Made::new(made, 50 + made as usize % 100)]).unwrap();
    };
    append(&mut log);
    log.commit().unwrap();
    let mut child = spawn("read", dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(heard(&mut lines).as_deref(), Some("reading"));
    assert_eq!(heard(&mut lines).as_deref(), Some("seq 1"));
    let mut waits = Vec::new();
    for round in 0..1000 {
        append(&mut log);
        append(&mut log);
        let durable = log.commit().unwrap();
        let committed = Instant::now();
        // What is appended and not committed must not show: were it told, it would come before the next round's.
        for seq in durable - 1..=durable {
            assert_eq!(heard(&mut lines), Some(format!("seq {seq}")), "round {round}");
        }
        waits.push(committed.elapsed());
    }
    append(&mut log);
    log.close().unwrap();
    assert_eq!(heard(&mut lines).as_deref(), Some("seq 2002"));
    assert_eq!(heard(&mut lines).as_deref(), Some("gone"));
    assert!(child.wait().unwrap().success());
    waits.sort();
    let median = waits[waits.len() / 2];
    println!("1,000 wakings: median {median:?}, slowest {:?}", waits[waits.len() - 1]);
    // A reader that looked every 50 ms would be 25 ms late as often as not.
    assert!(median < Duration::from_millis(20), "the median of the wakings took {median:?}");
}

/// A file system of its own in memory, as small as asked.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: this user may not mount.
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(at).output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(SmallDisk(at.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        crate::skipped::skipped(&format!("mounting was refused: {why}"));
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_really_full_stops_the_log_and_space_starts_it_again_without_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(root.path(), 3 * 1024 * 1024) else { return };
    let ballast = root.path().join("ballast");
    fs::write(&ballast, vec![1; 1024 * 1024]).unwrap();
    let dir = root.path().join("tape");
    let (mut log, _) = open(&dir, 512 * 1024).unwrap();
    let mut made = 0;
    let mut append = |log: &mut Log| {
        let record = Made::new(made + 1, 10_000);
        rig::append(log, &[record]).map(|_| made += 1)
    };
    let full = loop {
        match append(&mut log) {
            Ok(()) => log.commit().unwrap(),
            Err(error) => break error,
        };
        assert!(log.durable_seq() < 1000, "the disk does not fill");
    };
    assert!(matches!(full, Error::Full { .. }), "{}", chain(&full));
    let durable = log.durable_seq();
    assert!(durable >= 50, "only {durable} records were taken before");
    for _ in 0..3 {
        assert!(matches!(append(&mut log), Err(Error::Full { .. })), "and it stays full");
    }
    fs::remove_file(&ballast).unwrap();
    append(&mut log).unwrap();
    assert_eq!(log.commit().unwrap(), durable + 1);
    drop(log);
    let (log, last_seq) = open(&dir, 512 * 1024).unwrap();
    assert_eq!(last_seq, durable + 1);
    let mut reader = Reader::open_with(Arc::new(Disk), &dir, Start::Begin, log.tail()).unwrap();
    for seq in 1..=last_seq {
        match reader.next().unwrap() {
            Some(Item::Record(record)) if record.seq == seq => {
                assert!(record.payload == Made::new(seq, 10_000).payload(), "seq {seq}");
            }
            other => panic!("{other:?} came instead of {seq}"),
        }
    }
}

#[test]
fn on_a_disk_that_is_really_full_the_oldest_segments_make_room_while_recording_and_at_the_opening() {
    let root = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(root.path(), 4 * 1024 * 1024) else { return };
    let dir = root.path().join("tape");
    let policy = Retention::default();
    let (mut log, _) = open(&dir, 512 * 1024).unwrap();
    let append = |log: &mut Log, seq: u64| {
        let mut dropped = 0;
        while let Err(error) = rig::append(log, &[Made::new(seq, 10_000)]) {
            assert!(matches!(error, Error::Full { .. }), "{}", chain(&error));
            dropped += log.drop_oldest(&policy).unwrap().segments;
        }
        assert_eq!(log.commit().unwrap(), seq);
        dropped
    };
    let dropped: u64 = (1..=1_000).map(|seq| append(&mut log, seq)).sum();
    assert!(dropped > 5, "ten megabytes on four: {dropped} segments went");
    log.close().unwrap();
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("ahead") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let mut ballast = fs::File::create(root.path().join("ballast")).unwrap();
    while ballast.write_all(&[1; 4096]).is_ok() {}
    assert!(matches!(open(&dir, 512 * 1024), Err(Error::Full { .. })));
    let (mut log, opening) = Log::open_dropping_oldest(Arc::new(Disk), &dir, options(512 * 1024), &policy).unwrap();
    assert_eq!(opening.last_seq, 1_000);
    for seq in 1_001..=1_100 {
        append(&mut log, seq);
    }
    let mut reader = Reader::open_with(Arc::new(Disk), &dir, Start::Begin, log.tail()).unwrap();
    for seq in log.extent().unwrap().first_seq..=1_100 {
        match reader.next().unwrap() {
            Some(Item::Record(record)) if record.seq == seq => {
                assert!(record.payload == Made::new(seq, 10_000).payload(), "seq {seq}");
            }
            other => panic!("{other:?} came instead of {seq}"),
        }
    }
}
