//! Hours of trouble in minutes: a fault every few seconds. The ledger has exactly what each of them cost, the store has
//! what the tape has, and nothing grows.
//!
//! ```text
//! fake Kraken ──cut · closed · half-open · wrong book · lost, late, doubled trades · garbage · burst──► deck
//!                       bus killed ── a subscriber that does not read ── a store that answers 503 ──►
//! ```
//!
//! `TAPEDECK_SOAK_SECONDS` is how long; 1800 is the soak itself, alone on the machine, and is judged as one that is alone.
//! `TAPEDECK_SOAK_EVERY`: seconds from one fault to the next.

mod ledger;

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tapedeck::status::{Service, Status};
use tapedeck_testkit::kraken::{FakeKraken, Handle};

use crate::deck::{blocking, source};
use crate::kill::number;
use crate::reconcile::{counts, reconcile};
use crate::servers::Influx1;
use crate::servers::gate::Gate;
use crate::support::{Deck, free_offset, tapedeck, until};
use ledger::{Cost, Ledger, Venue};

/// Ticker, book and trades of two pairs, and the list of instruments.
const STREAMS: usize = 7;
const SERVICES: [&str; 3] = ["bus", "candles", "influx"];

struct Trouble {
    deed: Deed,
    /// What the ledger must have of it, beside holes in trade ids: those follow from what the venue sent.
    cost: Cost,
    /// Whether it was felt, by the status before and the one now.
    felt: fn(&Status, &Status) -> bool,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    /// In the words of the fake venue.
    Venue(&'static str),
    KillTheBus,
    /// Connected, and frozen.
    SlowSubscriber,
    StoreAway,
}

const TROUBLES: [Trouble; 15] = [
    Trouble { deed: Deed::Venue("cut"), cost: Cost::Session, felt: session_lost },
    Trouble { deed: Deed::Venue("corrupt ETH/USD x1"), cost: Cost::Book("ETH/USD"), felt: book_broken },
    Trouble { deed: Deed::Venue("drop BTC/USD 1"), cost: Cost::Nothing, felt: ids_missing },
    Trouble { deed: Deed::KillTheBus, cost: Cost::Nothing, felt: bus_restarted },
    Trouble { deed: Deed::Venue("close 1001"), cost: Cost::Session, felt: session_lost },
    Trouble { deed: Deed::Venue("reorder ETH/USD x1"), cost: Cost::Nothing, felt: ids_missing },
    Trouble { deed: Deed::SlowSubscriber, cost: Cost::Nothing, felt: events_came },
    Trouble { deed: Deed::Venue("half-open for 12s"), cost: Cost::Silence, felt: session_lost },
    Trouble { deed: Deed::Venue("garbage json"), cost: Cost::Nothing, felt: rejected },
    Trouble { deed: Deed::StoreAway, cost: Cost::Nothing, felt: events_came },
    Trouble { deed: Deed::Venue("cut mid-frame"), cost: Cost::Session, felt: session_lost },
    Trouble { deed: Deed::Venue("corrupt BTC/USD x1"), cost: Cost::Book("BTC/USD"), felt: book_broken },
    Trouble { deed: Deed::Venue("duplicate BTC/USD x3"), cost: Cost::Nothing, felt: doubled },
    Trouble { deed: Deed::Venue("burst 1000"), cost: Cost::Nothing, felt: events_came },
    Trouble { deed: Deed::Venue("close 1013 come back later"), cost: Cost::Session, felt: session_lost },
];

/// After so many rounds of all troubles everything was used often enough to be as large as it gets.
const WARM_ROUNDS: usize = 2;
const LEAST_ROUNDS: usize = 3;
/// A run alone on the machine: memory stays within so many hundredths of what it was when all was warm.
const GROWTH_PERCENT: u64 = 5;
/// Beside other tests the threads of a deck take turns, and the allocator keeps more for each.
const CROWD_BYTES: u64 = 8 << 20;
/// Threads for work that blocks are made when two such works meet, and take turns then, so that none of them is idle for
/// long enough to end; readers that stand in different segments hold a file each, and the next segment is opened ahead. What
/// leaks at one kind of fault is one more a round.
const TURNS: u64 = 2;

fn opened(status: &Status, causes: &[&str]) -> u64 {
    status.gaps.iter().filter(|gaps| causes.contains(&gaps.cause.as_str())).map(|gaps| gaps.opened).sum()
}

fn session_lost(before: &Status, now: &Status) -> bool {
    let gaps = |status| opened(status, &["session", "stall"]);
    now.sources[0].sessions > before.sources[0].sessions && gaps(now) >= gaps(before) + STREAMS as u64
}

fn book_broken(before: &Status, now: &Status) -> bool {
    opened(now, &["checksum"]) > opened(before, &["checksum"])
}

fn ids_missing(before: &Status, now: &Status) -> bool {
    opened(now, &["sequence"]) > opened(before, &["sequence"])
}

fn bus_restarted(before: &Status, now: &Status) -> bool {
    let [before, now] = [before, now].map(|status| service(status, "bus"));
    now.restarts > before.restarts && now.detail["pid"] != before.detail["pid"]
}

fn events_came(before: &Status, now: &Status) -> bool {
    now.events > before.events + 500
}

fn rejected(before: &Status, now: &Status) -> bool {
    now.sources[0].rejects > before.sources[0].rejects
}

fn doubled(before: &Status, now: &Status) -> bool {
    now.duplicates > before.duplicates
}

fn service<'a>(status: &'a Status, name: &str) -> &'a Service {
    status.services.iter().find(|service| service.name == name).unwrap_or_else(|| panic!("no {name}: {status:#?}"))
}

/// Everything is as if nothing had ever been.
fn healthy(status: &Status) -> bool {
    let live = |source: &tapedeck::status::Source| {
        source.state == "live" && source.live == STREAMS && source.subscriptions == STREAMS
    };
    let runs = |name: &&str| status.services.iter().any(|one| one.name == **name && one.state == "running");
    let delivered = |service: &Service| service.detail.get("backlog_records").is_none_or(|left| *left == 0);
    status.gaps_open == 0
        && status.sources.first().is_some_and(live)
        && SERVICES.iter().all(runs)
        && status.services.iter().all(delivered)
}

/// What grows where something leaks.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    rss: u64,
    files: u64,
    threads: u64,
    children: usize,
}

impl Held {
    fn of(status: &Status) -> Held {
        Held {
            rss: status.rss_bytes,
            files: status.process.open_fds,
            threads: status.process.threads,
            children: children(status.pid),
        }
    }

    fn or_more(self, other: Held) -> Held {
        Held {
            rss: self.rss.max(other.rss),
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
            children: self.children.max(other.children),
        }
    }
}

/// Zombies included. They are listed with the thread that started them.
fn children(pid: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.map(|list| list.split_whitespace().count()).sum()
}

struct Soak {
    deck: Deck,
    venue: Handle,
    gate: Gate,
    ledger: Ledger,
    told: Venue,
}

impl Soak {
    fn new(home: &std::path::Path, venue: Handle, store: &Influx1) -> Soak {
        let gate = Gate::closed(store.port());
        gate.open();
        let config = format!(
            "[tape]\nsegment = \"4 MiB\"\n[deck]\nlongest_wait = \"1s\"\n{}\
             [bus]\nport_offset = {}\nhigh_water = 2000\n[candles]\nintervals = [\"1s\"]\n\
             [sink.influx]\nkind = \"influx\"\nurl = \"http://127.0.0.1:{}\"\ndatabase = \"{}\"\nbatch_wait = \"50ms\"\n",
            source(&venue),
            free_offset(),
            gate.port,
            store.fresh_database()
        );
        let deck = Deck::start(home, &config);
        deck.until("everything", |status| healthy(status) && status.events > 200);
        let ledger = Ledger::of(&deck.dir);
        Soak { deck, venue, gate, ledger, told: Venue::default() }
    }

    /// Does it, and waits until it was felt and all is well again. What the deck then holds.
    fn strike(&mut self, trouble: &Trouble) -> Held {
        let before = self.deck.until("a good beginning", healthy);
        self.ledger.begin(format!("{:?}", trouble.deed), trouble.cost);
        let mut done: Option<Child> = None;
        match trouble.deed {
            Deed::Venue(words) => self.venue.inject(words.parse().unwrap()),
            Deed::KillTheBus => {
                let pid = service(&before, "bus").detail["pid"].as_i64().unwrap();
                let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                kill_process(pid, Signal::KILL).unwrap();
            }
            Deed::SlowSubscriber => done = Some(self.slow_subscriber()),
            Deed::StoreAway => {
                let refused = self.gate.refused();
                self.gate.close();
                until("the store to be missed", || (self.gate.refused() > refused).then_some(()));
            }
        }
        let felt = format!("{:?} to be felt", trouble.deed);
        self.deck.until(&felt, |status| (trouble.felt)(&before, status));
        self.gate.open();
        if let Some(mut child) = done {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.deck.until(&format!("all to be well behind {:?}", trouble.deed), healthy);
        // A trade of each pair behind it: whatever the venue sends at the beginning of a session is on the tape then.
        let ledger = &mut self.ledger;
        until("trades behind it", || ledger.flows().then_some(()));
        self.told.hear(&self.venue.log());
        Held::of(&self.deck.status())
    }

    /// One that hears everything, until it is frozen.
    fn slow_subscriber(&self) -> Child {
        let before = subscriptions(&self.deck.status());
        let mut tap: Command = tapedeck();
        tap.args(["tap", "kraken", "-c"]).arg(&self.deck.config);
        let tap = tap.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.deck.until("the subscriber", |status| subscriptions(status) > before);
        kill_process(Pid::from_child(&tap), Signal::STOP).unwrap();
        tap
    }
}

fn subscriptions(status: &Status) -> u64 {
    service(status, "bus").detail.get("subscriptions").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_for_a_long_time_are_in_the_ledger_as_they_were_and_nothing_grows() {
    let Some(store) = Influx1::shared() else { return };
    let ci = std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some();
    let alone = number("TAPEDECK_SOAK_SECONDS");
    let lasts = Duration::from_secs(alone.unwrap_or(if ci { 180 } else { 0 }));
    let every = number("TAPEDECK_SOAK_EVERY").unwrap_or(if alone.is_some() { 20 } else { 2 });
    let every = Duration::from_secs(every);
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(200).start().await.unwrap();
    blocking(move || {
        let home = tempfile::tempdir().unwrap();
        let mut soak = Soak::new(home.path(), venue, store);
        let begun = Instant::now();
        let (mut warm, mut most, mut done) = (Held::default(), Held::default(), 0);
        let mut table = String::new();
        while begun.elapsed() < lasts || done < LEAST_ROUNDS * TROUBLES.len() {
            let next = Instant::now() + every;
            let held = soak.strike(&TROUBLES[done % TROUBLES.len()]);
            done += 1;
            match done.div_ceil(TROUBLES.len()) {
                round if round < WARM_ROUNDS => {}
                WARM_ROUNDS => warm = warm.or_more(held),
                _ => most = most.or_more(held),
            }
            if done % TROUBLES.len() == 0 {
                let (round, seconds) = (done / TROUBLES.len(), begun.elapsed().as_secs());
                writeln!(table, "round {round} after {seconds} s: {} KiB, {held:?}", held.rss >> 10).unwrap();
            }
            // Not for luck: the faults come at this pace.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        eprint!("{table}");
        eprintln!(
            "{done} faults in {} s; resident {} KiB when warm, then at most {} KiB; {warm:?}, then {most:?}",
            begun.elapsed().as_secs(),
            warm.rss >> 10,
            most.rss >> 10
        );
        // What is open for a moment is none that leaks.
        soak.deck.until("no more open files than when it was warm", |status| {
            let held = Held::of(status);
            held.files <= warm.files + TURNS && held.children == 1 && held.threads <= warm.threads + TURNS
        });
        let config = soak.deck.config.clone();
        soak.deck.stop();
        soak.told.hear(&soak.venue.log());
        soak.ledger.read();
        eprintln!("{}", soak.ledger.judge(&soak.told));
        let (code, found) = reconcile(&config, "influx", &[]);
        assert_eq!((code, counts(&found)), (0, [0; 4]), "the store has what the tape has: {found}");
        assert!(found["rows"].as_u64().unwrap() > 1_000, "{found}");

        let allowed = warm.rss * GROWTH_PERCENT / 100 + if alone.is_some() { 0 } else { CROWD_BYTES };
        assert!(
            most.rss <= warm.rss + allowed,
            "resident: {} KiB, then {} KiB\n{table}",
            warm.rss >> 10,
            most.rss >> 10
        );
    })
    .await;
}
