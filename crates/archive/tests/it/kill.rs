//! A process that archives is killed with SIGKILL, again and again, while another records.
//!
//! The child is this test binary, asked for the one test `kill::child`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tapedeck_archive::{Archive, Keep, Options};

use crate::rig::*;

const DIR: &str = "TAPEDECK_ARCHIVE_CHILD";
const CYCLES: u64 = 32;

fn busy() -> Options {
    Options {
        range_records: 60,
        range_age: Duration::from_millis(30),
        publish_every: Duration::from_millis(5),
        tidy_every: Duration::from_millis(10),
        keep: Keep::everything(),
        ..Options::default()
    }
}

/// Not a test: the process that is killed. It ends by itself only when its standard input does.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let _archive = Archive::follow(&storage(), &dir.join("tape"), None, &dir.join("archive"), busy()).unwrap();
    println!("following");
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn killed_again_and_again_the_archive_loses_and_doubles_nothing() {
    let mut rig = Rig::new();
    let mut recorded = 0;
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut killed_at = Vec::new();
    for cycle in 0..CYCLES {
        let mut child = start(rig.dir.path());
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Not before the child has done something in this cycle, and then at a random moment.
        let state = rig.archive().join(".state");
        let before = committed(&state);
        let until = Instant::now() + Duration::from_secs(60);
        let mut kill_at = None;
        while kill_at.is_none_or(|at| Instant::now() < at) {
            assert!(Instant::now() < until, "the child archived nothing in cycle {cycle}");
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself in cycle {cycle}");
            // Days go by, so that there are past ones to compact, and late records for them.
            let day = (recorded / 200) as i64 - i64::from(recorded % 7 == 0);
            rig.record(&ticks(recorded, 20, NOON + day.max(0) * DAY_NS));
            recorded += 20;
            if kill_at.is_none() && committed(&state) > before {
                kill_at = Some(Instant::now() + Duration::from_micros(random % 250_000));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let on_tape = rig.on_tape();
        let found = in_folder(&rig.archive());
        killed_at.push(found.len());
        let mut seqs = BTreeMap::new();
        for record in &found {
            let times: &mut u32 = seqs.entry(record.seq).or_default();
            *times += 1;
            assert_eq!(*times, 1, "seq {} is in the archive twice after cycle {cycle}", record.seq);
            assert_eq!(record, &on_tape[record.seq as usize - 1], "cycle {cycle}");
        }
    }
    let mut archiver = rig.archiver();
    archiver.catch_up().unwrap();
    archiver.close_range().unwrap();
    archiver.house().tidy(&|| false).unwrap();
    println!("{recorded} records; rows at each kill: {killed_at:?}");
    assert!(in_folder(&rig.archive()) == rig.on_tape(), "the archive and the tape differ");
    assert!(in_snapshot(&archiver.snapshots().newest()) == rig.on_tape());
}

/// Up to where the archive says that it is complete.
fn committed(state: &Path) -> u64 {
    let file = names(state).into_iter().next().map(|name| state.join(name));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    text.split("\"committed\":").nth(1).and_then(|rest| rest.trim_end_matches('}').parse().ok()).unwrap_or_default()
}
