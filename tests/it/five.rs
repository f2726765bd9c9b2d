//! Several venues in one deck, each failing alone; and all of them killed, in any order, with the deck.
//!
//! The oracle is what each fake handed to its sockets: it stands on the tape, or inside a gap of its subscription.
//! `TAPEDECK_FIVE_CYCLES` says how often something is killed, `TAPEDECK_KILL_SEED` repeats a run.

mod venues;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tapedeck_market::{Body, Gap, GapCause, GapState, Record};

use self::venues::{Entry, NAMES, Venue, of_record};
use crate::deck::blocking;
use crate::support::{Deck, free_address, gaps, records, until};

/// Clocks of the venues tell seconds or milliseconds, and a fake notes what it sends a little before it is sent.
const SLACK_NS: i64 = 1_500_000_000;

async fn all() -> BTreeMap<&'static str, Venue> {
    let mut venues = BTreeMap::new();
    for name in NAMES {
        venues.insert(name, Venue::start(name, [free_address(), free_address()], &HashMap::new()).await);
    }
    venues
}

fn config(venues: &BTreeMap<&'static str, Venue>) -> String {
    venues.values().map(Venue::table).collect()
}

/// Whether every session of every table delivers.
fn all_live(status: &tapedeck::status::Status) -> bool {
    let tables = status.sources.iter().filter(|source| !source.name.contains('/'));
    let (mut count, mut live) = (0, 0);
    for source in tables {
        count += 1;
        live += usize::from(source.live > 0 && source.gaps_open == 0);
    }
    count == NAMES.len() && live == count
}

/// Gaps that were opened, by the table of their source.
fn gaps_by_source(dir: &Path) -> BTreeMap<String, usize> {
    let mut by_source = BTreeMap::new();
    for record in records(dir) {
        if matches!(&record.event.body, Body::Gap(gap) if gap.state == GapState::Open) {
            let table = record.event.source.split('/').next().unwrap_or_default().to_owned();
            *by_source.entry(table).or_default() += 1;
        }
    }
    by_source
}

fn events(deck: &Deck) -> BTreeMap<String, u64> {
    deck.status().sources.iter().map(|source| (source.name.clone(), source.events)).collect()
}

/// Waits until every table but one has recorded so much more, while that one does not deliver.
fn others_go_on(deck: &Deck, victim: &str) {
    let before = events(deck);
    let others = |now: &BTreeMap<String, u64>| {
        let tables = now.iter().filter(|(name, _)| !name.contains('/') && *name != victim);
        tables.map(|(name, count)| count - before.get(name).copied().unwrap_or(0)).min()
    };
    // A deck that has just begun does not list them all yet.
    let listed = |now: &BTreeMap<String, u64>| NAMES.iter().all(|name| now.contains_key(*name));
    until("the others", || {
        let now = events(deck);
        (listed(&now) && others(&now) >= Some(20)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_that_dies_stalls_or_refuses_costs_the_others_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut venues = all().await;
    let (path, text) = (home.path().to_owned(), config(&venues));
    let mut deck = blocking(move || {
        let deck = Deck::start(&path, &text);
        deck.until("all five", all_live);
        deck
    })
    .await;
    for victim in NAMES {
        for how in ["half-open for 3s", "kill"] {
            let before = gaps_by_source(&deck.dir);
            let address = venues[victim].address;
            if how == "kill" {
                // Nobody listens: every attempt to connect is refused.
                venues.remove(victim).unwrap().stop().await;
            } else {
                venues[victim].inject(how);
            }
            deck = blocking(move || {
                others_go_on(&deck, victim);
                deck
            })
            .await;
            if how == "kill" {
                venues.insert(victim, Venue::start(victim, address, &HashMap::new()).await);
            }
            deck = blocking(move || {
                deck.until("all five again", all_live);
                deck
            })
            .await;
            let after = gaps_by_source(&deck.dir);
            for other in NAMES.iter().filter(|other| **other != victim) {
                let of = |gaps: &BTreeMap<String, usize>| gaps.get(*other).copied().unwrap_or(0);
                assert_eq!(of(&before), of(&after), "{victim}: {how}: a gap of {other}");
            }
        }
    }
    blocking(move || deck.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_five_venues_records_them_all() {
    let (home, venues) = (tempfile::tempdir().unwrap(), all().await);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/five-venues.toml");
    let mut text = std::fs::read_to_string(example).unwrap().replace("dir = \"./five-venues\"", "");
    for (port, venue, which) in [
        (8090, "kraken", 0),
        (8092, "oanda", 0),
        (8093, "kite", 0),
        (8094, "betfair", 0),
        (8095, "betfair", 1),
        (8096, "x", 0),
    ] {
        let written = format!("127.0.0.1:{port}");
        assert!(text.contains(&written), "{written}");
        text = text.replace(&written, &venues[venue].address[which].to_string());
    }
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &text);
        deck.until("all five", all_live);
        others_go_on(&deck, "");
        deck.stop();
    })
    .await;
    for venue in venues.into_values() {
        venue.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_five_venues_sent_is_on_the_tape_or_in_a_gap_however_they_and_the_deck_are_killed() {
    let ci = std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cycles = number("TAPEDECK_FIVE_CYCLES").unwrap_or(if ci { 100 } else { 12 });
    let seed = number("TAPEDECK_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("TAPEDECK_KILL_SEED={seed}\nfive venues: {cycles} kills");
    let mut state = seed;
    let mut dice = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let home = tempfile::tempdir().unwrap();
    let mut venues = all().await;
    let (path, text) = (home.path().to_owned(), config(&venues));
    let first = text.clone();
    let mut deck = blocking(move || {
        let deck = Deck::start(&path, &first);
        deck.until("all five", all_live);
        deck
    })
    .await;
    let (mut sent, mut ids) = (Vec::new(), HashMap::new());
    for _ in 0..cycles {
        tokio::time::sleep(Duration::from_millis(100 + dice(500))).await;
        if dice(2) == 0 {
            let (path, text) = (home.path().to_owned(), text.clone());
            deck = blocking(move || {
                deck.signal(Signal::KILL);
                deck.wait();
                Deck::start(&path, &text)
            })
            .await;
        } else {
            let victim = NAMES[usize::try_from(dice(NAMES.len() as u64)).unwrap()];
            let address = venues[victim].address;
            let venue = venues.remove(victim).unwrap();
            sent.extend(venue.sent());
            ids.extend(venue.last_trade_ids());
            venue.stop().await;
            venues.insert(victim, Venue::start(victim, address, &ids).await);
        }
    }
    let dir = deck.dir.clone();
    blocking(move || {
        // What was killed last may not have been missed yet: everybody speaks again first.
        others_go_on(&deck, "");
        deck.until("all five, in the end", all_live);
        trades_have_their_last_word(&deck);
        deck.stop();
    })
    .await;
    for venue in venues.into_values() {
        sent.extend(venue.sent());
        venue.stop().await;
    }
    judge(&dir, &sent, cycles);
}

/// The last word on each gap, with its symbol.
fn last_words(all: &[Record]) -> Vec<(String, Gap)> {
    let last: BTreeMap<u64, (String, Gap)> =
        gaps(all).into_iter().map(|(symbol, gap)| (gap.id, (symbol, gap))).collect();
    last.into_values().collect()
}

/// Waits until each hole of trades is repaired, or given up because the venue that had them is dead.
fn trades_have_their_last_word(deck: &Deck) {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        let words = last_words(&records(&deck.dir));
        let trades = words.iter().filter(|(_, gap)| gap.channel == "trade");
        let left = trades.filter(|(_, gap)| matches!(gap.state, GapState::Open | GapState::Closed)).count();
        if left == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{left} holes without a last word: {:#?}", deck.status());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Each entry is on the tape, or lies in a gap; and no trade, post or order is there twice.
fn judge(dir: &Path, sent: &[Entry], cycles: u64) {
    let all = records(dir);
    let (mut there, mut once) = (HashSet::new(), HashSet::new());
    for record in &all {
        if let Some(entry) = of_record(&record.event) {
            assert!(
                !entry.once || once.insert((entry.venue, entry.symbol.clone(), entry.key.clone())),
                "twice: {entry:?}"
            );
            there.insert((entry.venue, entry.symbol, entry.key));
        }
    }
    // The last word on each gap, by symbol and channel.
    let mut spans: HashMap<(String, String), Vec<(i64, i64)>> = HashMap::new();
    let mut repaired = 0;
    for (symbol, gap) in last_words(&all) {
        // Nothing of it is missing, so it excuses nothing; of single prices the venues keep candles alone.
        if gap.channel == "trade" && gap.state == GapState::Repaired && gap.missing == Some(0) {
            repaired += 1;
            continue;
        }
        assert!(gap.state != GapState::Open || gap.cause == GapCause::Down, "{symbol}: {gap:?} is open");
        let to = gap.to.map_or(i64::MAX, |to| to.0);
        spans.entry((symbol, gap.channel.to_string())).or_default().push((gap.from.0, to));
    }
    let end = all.iter().map(|record| record.event.ts_recv.0).max().unwrap_or(0);
    let (mut missing, mut found) = (0_u64, BTreeMap::<&str, u64>::new());
    for entry in sent {
        if there.contains(&(entry.venue, entry.symbol.clone(), entry.key.clone())) {
            *found.entry(entry.venue).or_default() += 1;
            continue;
        }
        // Sent while the deck was stopping: nothing is promised of it.
        if entry.at_ns + SLACK_NS >= end {
            continue;
        }
        missing += 1;
        let excuses = spans.get(&(entry.symbol.clone(), entry.channel.to_owned()));
        let excused = excuses
            .into_iter()
            .flatten()
            .any(|(from, to)| from - SLACK_NS <= entry.at_ns && entry.at_ns <= to.saturating_add(SLACK_NS));
        assert!(excused, "{entry:?} is missing, and no gap says so: {excuses:?}");
    }
    eprintln!("{cycles} kills: on the tape {found:?}, in gaps {missing}, holes of trades repaired {repaired}");
    assert!(repaired > 0, "no hole was repaired");
    assert!(
        found.len() == NAMES.len() && found.values().all(|count| *count > cycles),
        "too little to prove anything: {found:?}"
    );
}
