//! Readers that wait, in the writer's process and in another one; checkpoints; cursors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::*;
use crate::cursor::MAX_STATE_BYTES;
use crate::model::{Call, Failure, Fault, Model};
use crate::segment::{DATA_START, HEAD_BYTES, frame_bytes};
use crate::{Cursor, Error, Woken, cursors};

/// Long enough for any machine; no test waits for it to pass.
const LONG: Duration = Duration::from_secs(60);

/// A reader in a thread of its own, following until the writer is gone; each item comes through the channel.
fn follow(mut reader: Reader) -> mpsc::Receiver<Got> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            for got in drain(&mut reader) {
                if send.send(got).is_err() {
                    return;
                }
            }
            if reader.wait(LONG).unwrap() == Woken::WriterGone {
                return;
            }
        }
    });
    receive
}

#[test]
fn a_waiting_reader_is_woken_by_a_commit_here_and_in_another_process() {
    let bench = Bench::new();
    let (mut log, _) = bench.open();
    let here = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Begin, log.tail()).unwrap();
    // A reader opened without the tail knows no more than one of another process.
    let (here, there) = (follow(here), follow(bench.reader(Start::Begin)));
    for seq in 1..=200 {
        let text = seq.to_string();
        append(&mut log, &[&text]);
        log.commit().unwrap();
        let expected = Got::Record(seq, text);
        assert_eq!(here.recv_timeout(LONG).unwrap(), expected);
        assert_eq!(there.recv_timeout(LONG).unwrap(), expected);
    }
    log.close().unwrap();
    assert!(here.recv_timeout(LONG).is_err() && there.recv_timeout(LONG).is_err(), "both saw the writer go");
}

#[test]
fn a_reader_follows_from_one_writer_to_the_next() {
    let bench = Bench::new().with(&["one"]);
    let mut reader = bench.reader(Start::Begin);
    assert_eq!(drain(&mut reader), records(1, &["one"]));
    assert_eq!(reader.wait(Duration::ZERO).unwrap(), Woken::WriterGone);
    for (seq, text) in [(2, "two"), (3, "three")] {
        let (mut log, _) = bench.open();
        append(&mut log, &[text]);
        log.commit().unwrap();
        while reader.wait(LONG).unwrap() != Woken::More {}
        assert_eq!(drain(&mut reader), records(seq, &[text]));
        assert_eq!(reader.wait(Duration::from_millis(1)).unwrap(), Woken::Timeout);
        drop(log);
        assert_eq!(reader.wait(LONG).unwrap(), Woken::WriterGone);
    }
}

#[test]
fn without_a_socket_a_reader_looks_from_time_to_time() {
    let mut bench = Bench::new();
    // Longer than an address of a socket may be.
    bench.dir = bench.dir.join("d".repeat(120));
    let (mut log, _) = bench.open();
    assert!(matches!(log.take_notes()[..], [crate::Note::NoSocket { .. }]));
    let mut reader = bench.reader(Start::Begin);
    append(&mut log, &["one"]);
    log.commit().unwrap();
    assert_eq!(reader.wait(LONG).unwrap(), Woken::More);
    assert_eq!(drain(&mut reader), records(1, &["one"]));
    drop(log);
    assert_eq!(reader.wait(LONG).unwrap(), Woken::WriterGone);
}

#[test]
fn a_reader_whose_socket_is_gone_believes_a_living_writers_hint_and_not_its_records() {
    let mut bench = Bench::new();
    bench.options.mode = crate::Mode::Os;
    let (mut log, _) = bench.open();
    append(&mut log, &["one"]);
    log.sync().unwrap();
    let mut reader = bench.reader(Start::Begin);
    assert_eq!(drain(&mut reader), records(1, &["one"]));
    // Handed to the system, and not synced.
    append(&mut log, &["two"]);
    log.bell = None;
    assert_eq!(reader.wait(Duration::from_millis(1)).unwrap(), Woken::Timeout);
    assert_eq!(drain(&mut reader), []);
    log.sync().unwrap();
    assert_eq!(reader.wait(LONG).unwrap(), Woken::More);
    assert_eq!(drain(&mut reader), records(2, &["two"]));
    drop(log);
    assert_eq!(reader.wait(LONG).unwrap(), Woken::WriterGone);
}

#[test]
fn a_writer_that_dies_does_not_leave_a_socket_in_the_way() {
    let bench = Bench::new();
    let (log, _) = bench.open();
    drop(log);
    drop(std::os::unix::net::UnixListener::bind(bench.dir.join("wake.sock")).unwrap());
    let (mut log, _) = bench.open();
    assert!(log.take_notes().is_empty());
    append(&mut log, &["one"]);
    log.commit().unwrap();
}

#[test]
fn watchers_hear_each_advance() {
    let bench = Bench::new();
    let (mut log, _) = bench.open();
    let heard = Arc::new(AtomicU64::new(0));
    let ear = Arc::clone(&heard);
    log.tail().on_advance(Box::new(move |seq| ear.store(seq, Ordering::SeqCst)));
    append(&mut log, &["one"]);
    append(&mut log, &["two"]);
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    log.commit().unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}

#[test]
fn in_os_mode_readers_are_behind_by_a_sync_and_never_past_it() {
    let (model, mut bench) = (Model::new(1), Bench::new());
    bench.storage = Arc::new(model.clone());
    bench.dir = "/tape".into();
    bench.options.mode = crate::Mode::Os;
    // No roll comes between.
    bench.options.segment_bytes = 64 * 1024 * 1024;
    let (mut log, _) = bench.open();
    let syncs = model.count(Call::Sync);
    let began = Instant::now();
    let mut reader = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Begin, log.tail()).unwrap();
    while log.durable_seq() == 0 {
        append(&mut log, &["x"]);
        log.commit().unwrap();
        assert_eq!(drain(&mut reader).len() as u64, log.durable_seq());
    }
    assert_eq!(model.count(Call::Sync), syncs + 1, "one sync for all of them");
    assert!(began.elapsed() >= Duration::from_millis(90), "{:?}", began.elapsed());
    append(&mut log, &["last"]);
    assert_eq!(log.sync().unwrap(), log.next_seq() - 1);
}

#[test]
fn each_segment_begins_with_the_checkpoint_it_was_given() {
    let bench = Bench::new();
    let (mut log, _) = bench.open();
    let text = "x".repeat(1000);
    let mut asked = Vec::new();
    for seq in 1..=200_u64 {
        let mut state = || {
            asked.push(seq);
            vec![format!("state before {seq}").into_bytes(), b"and more".to_vec()]
        };
        log.append(&[Entry { ts_recv: 1, payload: text.as_bytes() }], &mut state).unwrap();
    }
    log.commit().unwrap();
    assert!(asked.len() > 3 && asked[0] == 1, "{asked:?}");
    let mut reader = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Checkpoint, log.tail()).unwrap();
    let last = *asked.last().unwrap();
    let expected = [format!("state before {last}").into_bytes(), b"and more".to_vec()];
    assert_eq!(reader.checkpoint(), expected);
    assert_eq!(drain(&mut reader).len() as u64, 201 - last);
    assert_eq!(bench.read(Start::Begin).len(), 200, "checkpoints are not records");
    // After a crash the checkpoint is found behind the new, empty segment.
    drop(log);
    let (log, _) = bench.open();
    let reader = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Checkpoint, log.tail()).unwrap();
    assert_eq!(reader.checkpoint(), expected);
}

#[test]
fn a_takeover_is_followed_by_a_checkpoint() {
    let model = Model::new(1);
    let mut bench = Bench::new();
    bench.storage = Arc::new(model.clone());
    bench.dir = "/tape".into();
    let (mut log, _) = bench.open();
    append(&mut log, &["one"]);
    model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
    log.commit().unwrap();
    log.append(&[Entry { ts_recv: 1, payload: b"two" }], &mut || vec![b"state".to_vec()]).unwrap();
    log.commit().unwrap();
    let mut reader = Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Begin, log.tail()).unwrap();
    assert_eq!(drain(&mut reader), records(1, &["one", "two"]));
    assert_eq!(reader.checkpoint(), [b"state".to_vec()]);
}

#[test]
fn a_flipped_bit_in_a_checkpoint_sends_a_reader_to_the_one_before() {
    let bench = Bench::new();
    let part = b"part".as_slice();
    for nth in ["one", "two"] {
        let (mut log, _) = bench.open();
        let mut state = || vec![nth.as_bytes().to_vec(), part.to_vec(), part.to_vec()];
        log.append(&[Entry { ts_recv: 1, payload: nth.as_bytes() }], &mut state).unwrap();
        log.commit().unwrap();
    }
    let begin = || {
        let mut reader = bench.reader(Start::Checkpoint);
        (reader.checkpoint().to_vec(), drain(&mut reader))
    };
    let state = |nth: &str| vec![nth.as_bytes().to_vec(), part.to_vec(), part.to_vec()];
    assert_eq!(begin(), (state("two"), records(2, &["two"])));
    let whole = std::fs::read(bench.segment_path(2)).unwrap();
    for nth in 0..3 {
        let payload = DATA_START + nth * frame_bytes(4) + HEAD_BYTES as u64;
        flip(&bench.segment_path(2), payload);
        assert_eq!(begin(), (state("one"), records(1, &["one", "two"])), "record {nth} of the checkpoint");
        std::fs::write(bench.segment_path(2), &whole).unwrap();
    }
    // Where there is no other, the records there are.
    for id in [1, 2] {
        flip(&bench.segment_path(id), DATA_START + HEAD_BYTES as u64);
    }
    assert_eq!(begin().1, records(1, &["one", "two"]));
}

#[test]
fn a_cursor_stands_where_it_was_committed() {
    let bench = Bench::new();
    let tape_id = Uuid::from_u128(1);
    let open = |name: &str, last_seq| Cursor::open(&*bench.storage, &bench.dir, name, tape_id, last_seq).unwrap();
    let mut cursor = open("influx main/é", 100);
    assert!(cursor.is_new());
    for seq in 1..=20 {
        cursor.commit(seq, format!("state {seq}").as_bytes()).unwrap();
        let again = open("influx main/é", 100);
        assert_eq!((again.seq(), again.state(), again.is_new()), (seq, format!("state {seq}").as_bytes(), false));
    }
    let listed = cursors::list(&*bench.storage, &bench.dir).unwrap();
    assert_eq!(
        listed.iter().map(|listed| (listed.name.as_str(), listed.seq)).collect::<Vec<_>>(),
        [("influx main/é", 20)]
    );
    let clamped = open("influx main/é", 12);
    assert_eq!((clamped.seq(), clamped.clamped_from()), (12, Some(20)), "the disk lost what it had confirmed");
    let foreign = Cursor::open(&*bench.storage, &bench.dir, "influx main/é", Uuid::from_u128(2), 100).unwrap();
    assert!(foreign.is_new() && foreign.seq() == 0, "the cursor of another tape");
    for name in ["", &"x".repeat(81)] {
        let refused = Cursor::open(&*bench.storage, &bench.dir, name, tape_id, 1);
        assert!(matches!(refused, Err(Error::BadName { .. })), "{name:?}");
    }
}

#[test]
fn a_slot_that_nothing_could_follow_is_damage_even_with_a_right_checksum() {
    let bench = Bench::new();
    let tape_id = Uuid::from_u128(1);
    let open = || Cursor::open(&*bench.storage, &bench.dir, "c", tape_id, 100).unwrap();
    open().commit(7, b"seven").unwrap();
    let path = bench.dir.join("cursors/c");
    let mut bytes = std::fs::read(&path).unwrap();
    // A copy of the slot, in the other place, with the last generation of all.
    let mut slot = bytes[..64 + 5].to_vec();
    slot[16..24].fill(0xff);
    let covered = [&slot[..48], &slot[56..60], &slot[64..]].concat();
    slot[60..64].copy_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    bytes.resize(1024 * 1024, 0);
    bytes.extend_from_slice(&slot);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(open().seq(), 7);
    open().commit(8, b"eight").unwrap();
    assert_eq!(open().seq(), 8);
}

#[test]
fn a_cursor_survives_any_torn_write_of_one_slot() {
    let bench = Bench::new();
    let tape_id = Uuid::from_u128(1);
    let open = || Cursor::open(&*bench.storage, &bench.dir, "c", tape_id, 100).unwrap();
    let mut cursor = open();
    cursor.commit(7, b"seven").unwrap();
    cursor.commit(8, b"eight").unwrap();
    let path = bench.dir.join("cursors/c");
    let whole = std::fs::read(&path).unwrap();
    // The second commit lies in the second slot.
    for byte in (0..69).map(|at| 1024 * 1024 + at) {
        flip(&path, byte);
        // The note that the slot is synced says nothing about its content: damaged, it is made again.
        let left: (u64, &[u8]) = if (48..56).contains(&(byte % 1024)) { (8, b"eight") } else { (7, b"seven") };
        assert_eq!((open().seq(), open().state()), left, "byte {byte}");
        open().commit(9, b"nine").unwrap();
        assert_eq!(open().seq(), 9);
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(open().seq(), 8);
    let refused = cursor.commit(9, &vec![0; MAX_STATE_BYTES + 1]);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    cursor.commit(9, &vec![1; MAX_STATE_BYTES]).unwrap();
    assert_eq!(open().state().len(), MAX_STATE_BYTES);
}

#[test]
fn a_cursor_that_could_not_be_synced_stands_where_it_stood_after_any_crash() {
    for seed in 0..30 {
        let model = Model::new(seed);
        let dir = Path::new("/tape");
        let tape_id = Uuid::from_u128(1);
        model.create_dir_all(dir).unwrap();
        let mut cursor = Cursor::open(&model, dir, "c", tape_id, 100).unwrap();
        cursor.commit(5, b"").unwrap();
        model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
        assert!(cursor.commit(6, b"").is_err());
        assert_eq!(cursor.seq(), 5);
        let seq = Cursor::open(&model.crash(seed), dir, "c", tape_id, 100).unwrap().seq();
        assert!(seq == 5 || seq == 6, "seed {seed}: {seq}");
        cursor.commit(7, b"").unwrap();
        assert_eq!(Cursor::open(&model.crash(seed), dir, "c", tape_id, 100).unwrap().seq(), 7, "seed {seed}");
    }
}

#[test]
fn the_next_segment_is_made_in_the_background() {
    let mut bench = Bench::new();
    bench.options.allocation = crate::Allocation::Background;
    bench.options.segment_bytes = 4 * 1024 * 1024;
    let (mut log, _) = bench.open();
    let text = "x".repeat(64 * 1024);
    for _ in 0..200 {
        append(&mut log, &[&text]);
        log.commit().unwrap();
    }
    log.maker.allocator.settle();
    assert_eq!(std::fs::metadata(bench.dir.join("ahead")).unwrap().len(), 4 * 1024 * 1024);
    assert!(log.take_notes().is_empty());
    assert_eq!(bench.read(Start::Begin).len(), 200);
    log.close().unwrap();
    let (log, opening) = bench.open();
    assert_eq!(opening.last_seq, 200);
    assert_eq!(
        std::fs::metadata(bench.segment_path(log.segment.id)).unwrap().len(),
        4 * 1024 * 1024,
        "what lay ahead is used"
    );
}

/// Appends records of a kilobyte, each with its own state before it where one is asked for.
fn stated(log: &mut Log, count: u64) {
    for _ in 0..count {
        let seq = log.next_seq();
        let text = format!("{seq:0>1000}");
        let mut state = || vec![format!("state before {seq}").into_bytes(), b"and more".to_vec()];
        log.append(&[Entry { ts_recv: 1, payload: text.as_bytes() }], &mut state).unwrap();
    }
    log.commit().unwrap();
}

#[test]
fn the_state_comes_again_every_so_many_bytes_and_readers_begin_there() {
    let mut bench = Bench::new();
    bench.options = Options { segment_bytes: 1024 * 1024, checkpoint_bytes: 20_000, ..bench.options };
    let (mut log, _) = bench.open();
    stated(&mut log, 500);
    let begin = |mut reader: Reader| {
        let state = reader.checkpoint().to_vec();
        let Some(Item::Record(first)) = reader.next().unwrap() else { panic!("no record behind the checkpoint") };
        let first = first.seq;
        assert_eq!(state, [format!("state before {first}").into_bytes(), b"and more".to_vec()]);
        assert_eq!(drain(&mut reader).len() as u64, 500 - first);
        first
    };
    let here =
        |log: &Log| Reader::open_with(Arc::clone(&bench.storage), &bench.dir, Start::Checkpoint, log.tail()).unwrap();
    let first = begin(here(&log));
    assert!(first > 480, "{first}");
    // After a kill: for a process that only looks, for the one that records again, and when that one is killed at once.
    drop(log);
    assert_eq!(begin(bench.reader(Start::Checkpoint)), first);
    let (log, _) = bench.open();
    assert_eq!(begin(here(&log)), first);
    drop(log);
    let (log, _) = bench.open();
    assert_eq!(begin(here(&log)), first);
    drop(log);
    // A damaged one sends them to the one before it, not to the beginning.
    let bytes = std::fs::read(bench.segment_path(1)).unwrap();
    let wanted = format!("state before {first}").into_bytes();
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    flip(&bench.segment_path(1), at as u64);
    let before = begin(bench.reader(Start::Checkpoint));
    assert!(before < first && before > 460, "{before}");
}

#[test]
fn a_user_that_asks_for_it_finds_the_state_before_the_next_record() {
    let bench = Bench::new();
    let (mut log, _) = bench.open();
    stated(&mut log, 20);
    log.checkpoint_next();
    stated(&mut log, 1);
    log.close().unwrap();
    let mut reader = bench.reader(Start::Checkpoint);
    assert_eq!(reader.checkpoint()[0], b"state before 21");
    assert_eq!(drain(&mut reader).len(), 1);
}

#[test]
fn any_seq_is_found_over_damaged_and_missing_segments_and_few_are_opened_for_it() {
    let model = Model::new(1);
    let mut bench = Bench::new();
    bench.storage = Arc::new(model.clone());
    bench.dir = "/tape".into();
    bench.options.segment_bytes = 16 * 1024;
    let (mut log, _) = bench.open();
    stated(&mut log, 400);
    assert!(log.segment.id > 25, "{}", log.segment.id);
    let path = |id| bench.dir.join(crate::segment::file_name(id));
    model.remove(&path(5)).unwrap();
    for at in [20, 532] {
        model.flip(&path(9), at, 1).unwrap();
    }
    let whole = bench.read(Start::Begin);
    for seq in 1..=400 {
        let got = bench.read(Start::Seq(seq));
        let expected = whole.iter().filter_map(|got| match got {
            Got::Record(at, _) => (*at >= seq).then(|| got.clone()),
            Got::Hole(from, to) => (*to >= seq).then(|| Got::Hole(seq.max(*from), *to)),
        });
        assert_eq!(got, expected.collect::<Vec<_>>(), "from {seq}");
    }
    let calls = |start| {
        let before = model.count(Call::OpenRead);
        drop(bench.reader(start));
        model.count(Call::OpenRead) - before
    };
    assert!(calls(Start::Begin) < 10, "{}", calls(Start::Begin));
    assert!(calls(Start::Seq(1)) < 16, "{}", calls(Start::Seq(1)));
}
