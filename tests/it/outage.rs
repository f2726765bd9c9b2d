//! A store that was away for a day: what waited for it is delivered while live events flow, in bounded memory, each once.
//!
//! ```text
//! tape, written beforehand: 24 h at 500 a second ──► deck ──► store: away, then there
//! points over HTTP, all the while ─────────────────►
//! ```
//!
//! `TAPEDECK_OUTAGE_SCALE` is the share of those 43.2 million records: 1 is all of them, and its run is one alone on the machine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapedeck_market::{Body, Event, Flags, Price, Side, Size, SmolStr, Trade, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Allocation, Entry, Log, Options};

use crate::servers::asking::post;
use crate::servers::{Influx1, Postgres, Questdb, Server};
use crate::support::{Deck, free_address, until};

const DAY_NS: i64 = 86_400_000_000_000;
const DAY_RECORDS: f64 = 43_200_000.0;
/// What is measured in a run of all tests.
const USUAL_SCALE: f64 = 0.05;
/// A sink's usual batch: what is live and waits is never much more.
const BATCH: u64 = 5_000;
/// Live points come in lots of so many, ten lots a second.
const LOT: u64 = 50;
/// QuestDB's sink makes the lines of a batch by table, beside those that are sent: 10.7 MiB were measured.
const GROWTH_MIB: [(&str, u64); 3] = [("influx", 10), ("postgres", 10), ("questdb", 14)];
/// Beside other tests the threads of a deck take turns, and the allocator keeps more for each: 11.5 MiB for PostgreSQL with
/// four others at work. Still a small part of the backlog, which is what must not be held.
const CROWD: u64 = 3;

/// What a store has: how many trades, how many different ones, the sum of their prices; then of live points how many, and their sum.
type Held = [u64; 5];

/// Writes trades of the last 24 hours; how many, and the sum of their prices.
fn day(dir: &Path, scale: f64) -> (u64, u64) {
    let count = (DAY_RECORDS * scale) as u64;
    std::fs::create_dir_all(dir).unwrap();
    let (mut log, _) = Log::open(
        Arc::new(Disk),
        dir,
        Options { allocation: Allocation::None, mode: tapedeck_tape::Mode::Os, ..Options::default() },
    )
    .unwrap();
    let begin = UnixNanos::now().0 - DAY_NS;
    let each = DAY_NS / i64::try_from(count).unwrap();
    let symbols = ["BTC/USD", "ETH/USD", "ETH/BTC", "XRP/USD"].map(SmolStr::new);
    let (mut sum, mut payloads) = (0, Vec::new());
    let mut next = 0;
    while next < count {
        payloads.clear();
        let to = (next + 1_000).min(count);
        for n in next..to {
            let price = n % 1_000 + 1;
            sum += price;
            // No time is one of whole microseconds: those bear a part of the seq.
            let time = UnixNanos((begin + i64::try_from(n).unwrap() * each) | 1);
            let trade = Trade {
                price: Price(price.to_string().parse().unwrap()),
                size: Size("0.25".parse().unwrap()),
                side: Some(if n % 2 == 0 { Side::Buy } else { Side::Sell }),
                id: Some(n.to_string().into()),
            };
            let event = Event {
                source: "test".into(),
                venue: "test".into(),
                symbol: symbols[usize::try_from(n % 4).unwrap()].clone(),
                ts_event: Some(time),
                ts_recv: time,
                flags: Flags::NONE,
                origin: None,
                body: Body::Trade(trade),
            };
            let mut payload = Vec::new();
            wire::encode(&event, &mut payload);
            payloads.push((time.0, payload));
        }
        let entries: Vec<Entry<'_>> =
            payloads.iter().map(|(ts_recv, payload)| Entry { ts_recv: *ts_recv, payload }).collect();
        log.append(&entries, &mut Vec::new).unwrap();
        next = to;
    }
    log.commit().unwrap();
    (count, sum)
}

/// Points that come all the while, until it is dropped.
struct Live {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Live {
    fn start(http: SocketAddr) -> Live {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let from = counted.load(Ordering::Relaxed);
                let now = UnixNanos::now().0;
                let lines: String = (from..from + LOT)
                    .map(|n| format!("live,host=a v={n} {}\n", now + i64::try_from(n % LOT).unwrap()))
                    .collect();
                assert_eq!(post(http.port(), "/write?db=any", &[], &lines).status, 204);
                counted.fetch_add(LOT, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Live { stop, sent, thread: Some(thread) }
    }

    /// How many were sent.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// What the status says of the sink.
fn shown(deck: &Deck) -> (String, impl Fn(&str) -> u64 + use<>) {
    let status = deck.status();
    let sink = status.services.into_iter().find(|service| service.name == "away");
    let (state, detail) = sink.map(|sink| (sink.state, sink.detail)).unwrap_or_default();
    (state, move |key: &str| detail.get(key).and_then(Value::as_u64).unwrap_or_default())
}

/// Resident bytes of a process.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn outage(name: &str, server: &Server, sink: &str, held: &dyn Fn() -> Option<Held>) {
    // One after the other: what is measured is a deck's memory, and two cores are few.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = std::env::var("TAPEDECK_OUTAGE_SCALE").ok();
    let scale = asked.as_ref().map_or(USUAL_SCALE, |scale| scale.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let (count, sum) = day(&home.path().join("tape"), scale);
    let http = free_address();
    let config = format!(
        "[http]\nlisten = \"{http}\"\n[source.points]\nkind = \"http\"\n[sink.away]\nevents = [\"trade\", \"point\"]\n{sink}"
    );
    server.stop();
    let deck = Deck::start(home.path(), &config);
    // Records that no deck wrote have no state beside them: it reads them all first.
    let begun = Instant::now();
    while !shown(&deck).0.starts_with("unavailable") {
        assert!(begun.elapsed() < Duration::from_secs(600), "waited for the outage\n{}", deck.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let live = Live::start(http);
    until("live points", || (deck.status().events > 10 * LOT).then_some(()));
    assert!(shown(&deck).1("lag_records") > count, "all of it waits");
    let before = resident(deck.pid());

    server.restart();
    until("the store to be found", || (shown(&deck).1("delivered") > 0).then_some(()));
    let (begun, sent_before) = (Instant::now(), live.sent.load(Ordering::Relaxed));
    let (mut most_resident, mut most_live, mut most_lag_ms, mut looks) = (before, 0, 0, 0);
    let (mut left, mut moved) = (u64::MAX, Instant::now());
    loop {
        let (state, detail) = shown(&deck);
        most_resident = most_resident.max(resident(deck.pid()));
        let backlog = detail("backlog_records");
        if backlog < left {
            (left, moved) = (backlog, Instant::now());
        }
        assert!(moved.elapsed() < Duration::from_secs(60), "{state}: {backlog} records are left\n{}", deck.log());
        // At its end, what overtook the backlog is read once more, and counts as waiting until then.
        if backlog > 0 && deck.log().contains("beside the backlog") {
            // A few lots more may be on their way while the status is put together.
            most_live = most_live.max(detail("lag_records").saturating_sub(backlog));
            most_lag_ms = most_lag_ms.max(detail("lag_ms"));
            looks += 1;
        }
        if detail("lag_records") < BATCH && backlog == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (took, beside) = (begun.elapsed(), live.sent.load(Ordering::Relaxed) - sent_before);
    let sent = live.end();
    until("what was live last", || (shown(&deck).1("lag_records") == 0).then_some(()));
    most_resident = most_resident.max(resident(deck.pid()));
    let grown = most_resident - before;
    eprintln!(
        "{name}: a backlog of {count} records in {:.1} s, {:.0} a second, {beside} live ones beside it; at most {most_live} of these \
         waited, up to {most_lag_ms} ms; resident {:.1} MiB before, {:.1} MiB more at most",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        before as f64 / 1_048_576.0,
        grown as f64 / 1_048_576.0
    );
    assert!(looks > 0, "it was never seen at work");
    // Not how fast, which is the machine's affair: of each, how much in the same time.
    assert!(count >= 10 * beside, "{count} of the backlog while {beside} live ones came");
    assert!(most_live <= 2 * BATCH, "{most_live} live records waited");
    assert!(most_lag_ms < 30_000, "live records waited for {most_lag_ms} ms");
    deck.stop();
    let want = [count, count, sum, sent, (0..sent).sum()];
    let found = until("the store to show it", || held().filter(|held| held[0] >= count && held[3] >= sent));
    assert_eq!(found, want, "each once");
    let alone = GROWTH_MIB.iter().find(|(of, _)| *of == name).unwrap().1 << 20;
    let most = if asked.is_some() { alone } else { alone * CROWD };
    assert!(grown < most, "{grown} bytes more while the backlog was delivered");
}

#[test]
fn a_day_without_influxdb_is_made_up_for_beside_what_is_live() {
    let Some(server) = Influx1::private() else { return };
    let sink = format!("kind = \"influx\"\nurl = \"{}\"\ndatabase = \"day\"\n", server.url());
    outage("influx", &server, &sink, &|| {
        let row = |statement: &str| -> Option<Vec<u64>> {
            let found = server.query("day", statement);
            let row = found["series"][0]["values"][0].as_array()?.clone();
            row.iter().skip(1).map(|value| Some(value.as_f64()? as u64)).collect()
        };
        // A point is one seq: of different ones there are as many as of all.
        let trades = row("SELECT COUNT(price), COUNT(seq), SUM(price) FROM test_trade")?;
        let live = row("SELECT COUNT(v), SUM(v) FROM live")?;
        [trades, live].concat().try_into().ok()
    });
}

#[test]
fn a_day_without_postgresql_is_made_up_for_beside_what_is_live() {
    let Some(server) = Postgres::private() else { return };
    let database = server.fresh_database();
    let sink = format!("kind = \"postgres\"\ndsn = \"{}\"\n", database.dsn);
    outage("postgres", &server, &sink, &|| {
        let trades = "SELECT count(*), count(DISTINCT seq), sum(price)::bigint FROM tapedeck.trades";
        let live = "SELECT count(*), sum(value)::bigint FROM tapedeck.points";
        let found = server.psql(&database.dsn, &format!("SELECT * FROM ({trades}) t, ({live}) l"));
        let numbers: Option<Vec<u64>> = found.split('|').map(|number| number.parse().ok()).collect();
        numbers?.try_into().ok()
    });
}

#[test]
fn a_day_without_questdb_is_made_up_for_beside_what_is_live() {
    let Some(server) = Questdb::private() else { return };
    let sink = format!("kind = \"questdb\"\nurl = \"{}\"\n", server.url());
    outage("questdb", &server, &sink, &|| {
        let row = |sql: &str| -> Option<Vec<u64>> {
            let reply = server.exec(sql);
            let answer: Value = serde_json::from_str(&reply.body).ok()?;
            let row = answer["dataset"][0].as_array()?.clone();
            row.iter().map(|value| Some(value.as_f64()? as u64)).collect()
        };
        let trades = row("SELECT count(), count_distinct(seq), sum(price::double) FROM trades")?;
        let live = row("SELECT count(), sum(v) FROM live")?;
        [trades, live].concat().try_into().ok()
    });
}
