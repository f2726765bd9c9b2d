//! The tape, played again: order, waits, pauses, seeks, and a venue whose market it is.

mod venue;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tapedeck::replay::{Command, Playback, Player, Range, Speed, Summary, Target};
use tapedeck_market::{Body, Event, Flags, Price, Record, Size, Trade, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Log, Options, Start};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::tapedeck;

const BEGIN: i64 = 1_784_483_680;

/// A tape of trades received at these moments, in milliseconds after the beginning.
fn tape(dir: &Path, arrivals_ms: &[i64]) {
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let (mut log, _) = Log::open(Arc::new(Disk), dir, options).unwrap();
    for (n, ms) in arrivals_ms.iter().enumerate() {
        let ts_recv = UnixNanos(BEGIN * 1_000_000_000 + ms * 1_000_000);
        let trade = Trade {
            price: Price("62807.1".parse().unwrap()),
            size: Size("0.5".parse().unwrap()),
            side: None,
            id: Some(n.to_string().into()),
        };
        let event = Event {
            source: "k".into(),
            venue: "kraken".into(),
            symbol: if n % 2 == 0 { "BTC/USD" } else { "ETH/USD" }.into(),
            ts_event: None,
            ts_recv,
            flags: Flags::NONE,
            origin: None,
            body: Body::Trade(trade),
        };
        let mut payload = Vec::new();
        wire::encode(&event, &mut payload);
        log.append(&[Entry { ts_recv: ts_recv.0, payload: &payload }], &mut Vec::new).unwrap();
    }
    log.commit().unwrap();
}

fn whole() -> Range {
    Range { from: Start::Begin, until_seq: None, until_time: None }
}

/// Notes what is played and when; gives a command behind chosen records.
#[derive(Default)]
struct Noted {
    played: Vec<(u64, Duration)>,
    began: Option<Instant>,
    flags: Vec<Flags>,
    /// (how many records were played, what is asked then)
    script: Vec<(usize, Command)>,
    commands: Option<mpsc::Sender<Command>>,
}

impl Target for Noted {
    fn play(&mut self, record: &Record) -> anyhow::Result<()> {
        let began = *self.began.get_or_insert_with(Instant::now);
        self.played.push((record.seq, began.elapsed()));
        self.flags.push(record.event.flags);
        let due = self.script.iter().filter(|(after, _)| *after == self.played.len());
        for (_, command) in due {
            self.commands.as_ref().unwrap().try_send(*command).unwrap();
        }
        Ok(())
    }
}

async fn play(dir: &Path, range: Range, speed: Speed, script: &[(usize, Command)]) -> (Noted, Summary) {
    let playback = Playback::open(dir, range, Box::new(|_| true)).unwrap();
    let (commands, asked) = mpsc::channel(16);
    let mut noted = Noted { script: script.to_vec(), commands: Some(commands), ..Noted::default() };
    let mut tell = |_: &_| {};
    let player = Player::new(playback, speed, asked, CancellationToken::new(), &mut tell);
    let summary = player.run(&mut noted).await.unwrap();
    (noted, summary)
}

fn at_ms(noted: &Noted) -> Vec<(u64, u128)> {
    noted.played.iter().map(|(seq, at)| (*seq, at.as_millis())).collect()
}

#[tokio::test(start_paused = true)]
async fn order_and_waits_are_kept_at_every_speed() {
    let home = tempfile::tempdir().unwrap();
    let arrivals = [0, 0, 1_000, 1_000, 5_000, 4_000, 65_000, 3_665_000];
    tape(home.path(), &arrivals);
    for (speed, times) in [(Speed::Times(1.0), 1.0), (Speed::Times(20.0), 20.0), (Speed::Times(0.1), 0.1)] {
        let (noted, summary) = play(home.path(), whole(), speed, &[]).await;
        // The clock was set back between the fifth and the sixth: no wait, and from there on as recorded.
        let places = [0, 0, 1_000, 1_000, 5_000, 5_000, 66_000, 3_666_000];
        let wanted: Vec<(u64, u128)> =
            places.iter().enumerate().map(|(n, ms)| (n as u64 + 1, (f64::from(*ms) / times).round() as u128)).collect();
        assert_eq!(at_ms(&noted), wanted, "{speed}");
        assert_eq!(summary, Summary { records: 8, missing: 0, stopped: false });
        assert!(noted.flags.iter().all(|flags| flags.contains(Flags::REPLAYED)));
    }
    let (noted, _) = play(home.path(), whole(), Speed::Max, &[]).await;
    assert_eq!(at_ms(&noted), (1..=8).map(|seq| (seq, 0)).collect::<Vec<_>>(), "as fast as it goes: no wait at all");
}

#[tokio::test(start_paused = true)]
async fn a_range_ends_where_it_is_told_and_a_filter_keeps_the_waits() {
    let home = tempfile::tempdir().unwrap();
    let arrivals: Vec<i64> = (0..100).map(|n| n * 1_000).collect();
    tape(home.path(), &arrivals);
    let time = |secs: i64| UnixNanos::from_secs(BEGIN + secs);
    let range = Range { from: Start::Time(time(10).0), until_seq: None, until_time: Some(time(15)) };
    let (noted, _) = play(home.path(), range, Speed::Times(1.0), &[]).await;
    assert_eq!(at_ms(&noted), [(11, 0), (12, 1_000), (13, 2_000), (14, 3_000), (15, 4_000)]);
    let range = Range { from: Start::Seq(98), until_seq: Some(99), until_time: None };
    let (noted, _) = play(home.path(), range, Speed::Max, &[]).await;
    assert_eq!(at_ms(&noted), [(98, 0), (99, 0)]);

    let playback = Playback::open(home.path(), whole(), Box::new(|event| event.symbol == "ETH/USD")).unwrap();
    let (_commands, asked) = mpsc::channel(1);
    let (mut noted, mut tell) = (Noted::default(), |_: &_| {});
    let player = Player::new(playback, Speed::Times(1.0), asked, CancellationToken::new(), &mut tell);
    player.run(&mut noted).await.unwrap();
    let wanted: Vec<(u64, u128)> = (0..50).map(|n| (2 * n + 2, u128::from(n) * 2_000)).collect();
    assert_eq!(at_ms(&noted), wanted);
}

#[tokio::test(start_paused = true)]
async fn arrows_go_ten_seconds_of_the_recording_and_never_out_of_the_range() {
    let home = tempfile::tempdir().unwrap();
    let arrivals: Vec<i64> = (0..60).map(|n| n * 1_000).collect();
    tape(home.path(), &arrivals);
    let seqs = |noted: &Noted| noted.played.iter().map(|(seq, _)| *seq).collect::<Vec<u64>>();
    let ten = Speed::Times(10.0);
    // Behind the fifth the sixth is waited for: ten seconds from there is the sixteenth.
    let (noted, _) = play(home.path(), whole(), ten, &[(5, Command::Seek(10))]).await;
    assert_eq!(seqs(&noted), (1..=5).chain(16..=60).collect::<Vec<_>>());
    let (at_jump, behind) = (noted.played[4].1, noted.played[5].1);
    assert_eq!(at_jump, behind, "a jump is not waited for");
    let (noted, _) = play(home.path(), whole(), ten, &[(30, Command::Seek(-10))]).await;
    assert_eq!(seqs(&noted), (1..=30).chain(21..=60).collect::<Vec<_>>());
    let range = Range { from: Start::Seq(11), ..whole() };
    let (noted, _) = play(home.path(), range, ten, &[(3, Command::Seek(-100))]).await;
    assert_eq!(seqs(&noted), (11..=13).chain(11..=60).collect::<Vec<_>>());
    let (noted, summary) = play(home.path(), whole(), ten, &[(3, Command::Seek(1_000))]).await;
    assert_eq!((seqs(&noted), summary.records), (vec![1, 2, 3], 3));
}

#[tokio::test(start_paused = true)]
async fn a_pause_lasts_until_it_is_ended_and_the_speed_can_be_changed() {
    let home = tempfile::tempdir().unwrap();
    tape(home.path(), &[0, 10_000, 20_000, 30_000]);
    let playback = Playback::open(home.path(), whole(), Box::new(|_| true)).unwrap();
    let (commands, asked) = mpsc::channel(16);
    let played: Arc<Mutex<Vec<(u64, u128)>>> = Arc::default();
    let began = Instant::now();
    struct Kept(Arc<Mutex<Vec<(u64, u128)>>>, Instant);
    impl Target for Kept {
        fn play(&mut self, record: &Record) -> anyhow::Result<()> {
            self.0.lock().unwrap().push((record.seq, self.1.elapsed().as_millis()));
            Ok(())
        }
    }
    let kept = played.clone();
    let running = tokio::spawn(async move {
        let mut tell = |_: &_| {};
        let player = Player::new(playback, Speed::Times(1.0), asked, CancellationToken::new(), &mut tell);
        player.run(&mut Kept(kept, began)).await.unwrap()
    });
    let asked_at = async |after_ms: u64, command| {
        tokio::time::sleep_until(began + Duration::from_millis(after_ms)).await;
        commands.send(command).await.unwrap();
    };
    asked_at(4_000, Command::Pause).await;
    asked_at(64_000, Command::Pause).await;
    // At 75 s five of the ten seconds to the third are left: at twice the speed 2.5.
    asked_at(75_000, Command::Faster).await;
    asked_at(78_500, Command::Quit).await;
    let summary = running.await.unwrap();
    assert_eq!(*played.lock().unwrap(), [(1, 0), (2, 70_000), (3, 77_500)]);
    assert_eq!(summary, Summary { records: 3, missing: 0, stopped: true });
}

#[test]
fn the_verb_prints_what_tail_prints_marked_as_replayed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("tape");
    std::fs::create_dir(&dir).unwrap();
    let arrivals: Vec<i64> = (0..2_000).map(|n| n * 10).collect();
    tape(&dir, &arrivals);
    let ask = |args: &[&str]| {
        let out = tapedeck().args(args).arg("--dir").arg(&dir).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (tail, _) = ask(&["tail", "--json", "--from", "begin", "--until", "now"]);
    let (replay, told) = ask(&["replay", "--speed", "max", "--to", "stdout"]);
    let marked: Vec<serde_json::Value> = replay.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut plain: Vec<serde_json::Value> = tail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((marked.len(), plain.len()), (2_000, 2_000));
    for (marked, plain) in marked.iter().zip(&mut plain) {
        plain["flags"] = serde_json::json!(["replayed"]);
        assert_eq!(marked, plain);
    }
    assert!(told.contains("2000 records played"), "{told}");
    let (some, _) = ask(&["replay", "--speed", "max", "--symbol", "ETH/*", "--from", "1001", "--to", "1010"]);
    assert_eq!(some.lines().count(), 5);
}
