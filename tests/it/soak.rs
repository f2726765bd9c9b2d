//! Hours of trouble in minutes: a fault every few seconds, and the ledger has exactly these, and nothing grows.
//!
//! ```text
//! fake Kraken: cut · close · wrong checksum · lost trade      each noted, with the cause it must have
//! the deck:    bus killed, a subscriber that comes and goes   no gap
//! ```
//!
//! `TAPEDECK_SOAK_SECONDS` is how long; 1800 is the soak itself, alone on the machine. `TAPEDECK_SOAK_EVERY`: seconds between faults.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tapedeck_market::GapState;
use tapedeck_testkit::kraken::{FakeKraken, Fault};

use crate::deck::{blocking, source};
use crate::support::{Deck, free_offset, gaps, records, until};

/// What is done to a deck, and the cause under which its ledger must have that; none where nothing is lost.
const TROUBLES: [(&str, Option<&str>); 5] = [
    ("cut", Some("session")),
    ("corrupt ETH/USD x1", Some("checksum")),
    ("drop BTC/USD 1", Some("sequence")),
    ("close 1001", Some("session")),
    ("the bus is killed", None),
];
/// A run alone on the machine: memory stays within so many hundredths of what it was once all was warm.
const GROWTH_PERCENT: u64 = 5;
/// In a run of all tests, where the threads of a deck take turns and the allocator keeps more for each.
const CROWD_BYTES: u64 = 8 << 20;

struct Sample {
    rss: u64,
    files: usize,
}

/// The deck and its bus.
fn sample(deck: &Deck) -> Sample {
    let files = std::fs::read_dir(format!("/proc/{}/fd", deck.pid())).unwrap().count();
    Sample { rss: deck.status().rss_bytes, files }
}

/// Gaps of each cause that were opened; `None` while one is open.
fn opened(deck: &Deck) -> Option<BTreeMap<String, u64>> {
    let status = deck.status();
    if status.gaps_open > 0
        || !status.sources.iter().all(|source| source.live > 0 && source.live == source.subscriptions)
    {
        return None;
    }
    Some(status.gaps.iter().map(|gaps| (gaps.cause.clone(), gaps.opened)).collect())
}

fn restarts(deck: &Deck) -> Option<u64> {
    deck.status()
        .services
        .iter()
        .find(|service| service.name == "bus")
        .filter(|bus| bus.state == "running")
        .map(|bus| bus.restarts)
}

fn bus_pid(deck: &Deck) -> Option<i32> {
    // Children are listed with the thread that started them.
    let threads = std::fs::read_dir(format!("/proc/{}/task", deck.pid())).ok()?.flatten();
    let children: String =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"bus")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_for_a_long_time_are_all_in_the_ledger_and_nothing_grows() {
    let ci = std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let alone = number("TAPEDECK_SOAK_SECONDS");
    let lasts = Duration::from_secs(alone.unwrap_or(if ci { 180 } else { 20 }));
    let every = Duration::from_secs(number("TAPEDECK_SOAK_EVERY").unwrap_or(if alone.is_some() { 20 } else { 2 }));
    let home = tempfile::tempdir().unwrap();
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(200).start().await.unwrap();
    let config = format!(
        "{}channels = [\"ticker\", \"book\", \"trade\"]\n[bus]\nport_offset = {}\n[candles]\nintervals = [\"1s\"]\n",
        source(&venue),
        free_offset()
    );
    let path = home.path().to_owned();
    let (deck, mut was) = blocking(move || {
        let deck = Deck::start(&path, &config);
        let was = until("all subscriptions", || opened(&deck));
        (deck, was)
    })
    .await;
    let dir = deck.dir.clone();
    let began = Instant::now();
    let mut deck = deck;
    let mut noted: BTreeMap<String, u64> = BTreeMap::new();
    let mut warm: Option<Sample> = None;
    let (mut most, mut done) = (Sample { rss: 0, files: 0 }, 0_u32);
    // Two rounds of everything make it warm.
    while began.elapsed() < lasts || done < 3 * TROUBLES.len() as u32 {
        let (words, cause) = TROUBLES[done as usize % TROUBLES.len()];
        let next = Instant::now() + every;
        if cause.is_some() {
            venue.inject(words.parse::<Fault>().unwrap());
        }
        let before = was.clone();
        (deck, was) = blocking(move || {
            let was = match cause {
                Some(cause) => until(words, || {
                    opened(&deck).filter(|now| now.get(cause).unwrap_or(&0) > before.get(cause).unwrap_or(&0))
                }),
                None => {
                    let lives = until("the bus", || restarts(&deck));
                    let pid = until("its process", || bus_pid(&deck));
                    rustix::process::kill_process(
                        rustix::process::Pid::from_raw(pid).unwrap(),
                        rustix::process::Signal::KILL,
                    )
                    .unwrap();
                    until("the bus again", || restarts(&deck).filter(|now| *now > lives));
                    until("all subscriptions", || opened(&deck))
                }
            };
            (deck, was)
        })
        .await;
        // What the fault added, and that it added nothing else.
        for (kind, count) in &was {
            let added = count - noted.get(kind).copied().unwrap_or(0);
            assert!(added == 0 || Some(kind.as_str()) == cause, "{words}: {added} gaps of {kind}");
            noted.insert(kind.clone(), *count);
        }
        done += 1;
        if done as usize >= 2 * TROUBLES.len() {
            let now = sample(&deck);
            if warm.is_none() {
                warm = Some(now);
            } else {
                most = Sample { rss: most.rss.max(now.rss), files: most.files.max(now.files) };
            }
        }
        tokio::time::sleep_until(next.into()).await;
    }
    let warm = warm.unwrap();
    eprintln!(
        "{done} faults in {} s; resident {} KiB, then at most {}; files {}, then at most {}",
        began.elapsed().as_secs(),
        warm.rss >> 10,
        most.rss >> 10,
        warm.files,
        most.files
    );
    blocking(move || deck.stop()).await;
    // The ledger on the tape, which is what counts.
    let all = gaps(&records(&dir));
    let mut on_tape: BTreeMap<String, u64> = BTreeMap::new();
    for (_, gap) in all.iter().filter(|(_, gap)| gap.state == GapState::Open) {
        *on_tape.entry(gap.cause.name().to_owned()).or_default() += 1;
    }
    // The deck's own end is a gap, too.
    on_tape.remove("down");
    noted.remove("down");
    noted.retain(|_, count| *count > 0);
    assert_eq!(on_tape, noted);
    assert!(most.files <= warm.files + 8, "open files: {}, then {}", warm.files, most.files);
    let allowed = warm.rss * GROWTH_PERCENT / 100 + if alone.is_some() { 0 } else { CROWD_BYTES };
    assert!(most.rss <= warm.rss + allowed, "resident: {} KiB, then {} KiB", warm.rss >> 10, most.rss >> 10);
}
