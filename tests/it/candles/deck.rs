//! Candles of a whole deck: killed at random moments, stopped in order, its state lost, its config changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tapedeck::candles::{CANDLES, Maker, Recipe};
use tapedeck::config::Candles;
use tapedeck_market::{Candle, CandleFlags, Event, Record, UnixNanos};
use tapedeck_testkit::kraken::{FakeKraken, Handle};

use super::{Bucket, Recorded, statements};
use crate::kill::{Dice, seed};
use crate::support::{Deck, records, tapedeck};

const PAIRS: [&str; 3] = ["BTC/USD", "ETH/USD", "ETH/BTC"];
const TABLE: &str = "intervals = ['1s', '7s', '1m']\nlateness = '500ms'\n";
/// The kill comes so long after the start, at most.
const LATEST_KILL_MS: u64 = 1_000;

fn config(venue: &Handle, table: &str) -> String {
    format!(
        "[tape]\nsegment = \"1 MiB\"\n[candles]\n{table}[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = {PAIRS:?}\nchannels = [\"trade\", \"ticker\"]\n",
        venue.ws_url(),
        venue.rest_url(),
    )
}

fn recipe(table: &str) -> Recipe {
    toml::from_str::<Candles>(table).unwrap().recipe().unwrap()
}

/// What candles said, on the tape.
fn said(records: &[Record]) -> Vec<Event> {
    records.iter().filter(|record| record.event.source == CANDLES).map(|record| record.event.clone()).collect()
}

/// The record up to which a deck that was stopped in order had made candles.
fn made_until(tape: &Path, recipe: &Recipe) -> u64 {
    let state = std::fs::read(tape.join("state/candles")).unwrap();
    Maker::resume(recipe.clone(), &state[16..]).expect("the state of a deck that was stopped in order").1
}

/// What an uninterrupted run says about these records.
fn uninterrupted(recipe: &Recipe, records: &[Record], until: u64) -> BTreeMap<Bucket, Vec<Candle>> {
    let mut maker = Maker::new(recipe.clone());
    let mut past = Recorded { records, first: 0 };
    let mut said = Vec::new();
    for record in records.iter().take_while(|record| record.seq <= until) {
        maker.record(record.seq, &record.event, &mut past).unwrap();
        said.extend(maker.take_said(UnixNanos::EPOCH));
    }
    maker.pause(until, &mut past).unwrap();
    said.extend(maker.take_said(UnixNanos::EPOCH));
    statements(&said)
}

/// The last word on a bucket, but for how often it was spoken.
fn last_word(all: &BTreeMap<Bucket, Vec<Candle>>) -> BTreeMap<&Bucket, Candle> {
    let last = |candles: &Vec<Candle>| {
        let last = candles.last().unwrap();
        Candle { revision: 0, flags: CandleFlags(last.flags.0 & !CandleFlags::REVISED.0), ..last.clone() }
    };
    all.iter().map(|(bucket, candles)| (bucket, last(candles))).collect()
}

/// The candles on the tape are those of a run that nobody interrupted.
fn assert_as_uninterrupted(tape: &Path, recipe: &Recipe) -> BTreeMap<Bucket, Vec<Candle>> {
    let records = records(tape);
    // Each identity once, revisions dense: `statements` sees to it.
    let got = statements(&said(&records));
    let want = uninterrupted(recipe, &records, made_until(tape, recipe));
    let (got_last, want_last) = (last_word(&got), last_word(&want));
    for (bucket, want) in &want_last {
        assert_eq!(got_last.get(bucket), Some(want), "{bucket:?}: {:#?}", got.get(*bucket));
    }
    assert_eq!(got_last.len(), want_last.len());
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candles_of_a_deck_that_is_killed_again_and_again_are_those_of_an_uninterrupted_run() {
    let seed = seed();
    let venue = FakeKraken::builder().pairs(PAIRS).seed(seed).rate(1_000).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_owned();
    tokio::task::spawn_blocking(move || {
        let mut dice = Dice(seed);
        let text = config(&venue, TABLE);
        let deck = Deck::start(&path, &text);
        deck.until("candles", |status| emitted(status) > 3);
        let (file, tape) = (deck.config.clone(), deck.dir.clone());
        deck.signal(Signal::KILL);
        deck.wait();
        for cycle in 0..24 {
            let deck = Deck::run(&file, &tape, &[]);
            std::thread::sleep(Duration::from_millis(dice.below(LATEST_KILL_MS)));
            // Stopped in order, what is open is stated as partial and goes on.
            deck.signal(if dice.below(6) == 0 { Signal::TERM } else { Signal::KILL });
            deck.wait();
            if cycle % 8 == 3 {
                // A state that is lost, or was torn: everything is made again, and nothing twice.
                let state = tape.join("state/candles");
                if let Ok(bytes) = std::fs::read(&state) {
                    std::fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
                }
            }
        }
        let deck = Deck::run(&file, &tape, &[]);
        deck.until("candles again", |status| emitted(status) > 3);
        deck.stop();

        let got = assert_as_uninterrupted(&tape, &recipe(TABLE));
        let all: Vec<&Candle> = got.values().flatten().collect();
        let with = |flag: CandleFlags| all.iter().filter(|candle| candle.flags.contains(flag)).count();
        eprintln!(
            "{} statements on {} buckets: {} complete, {} with a gap, {} partial",
            all.len(),
            got.len(),
            with(CandleFlags::COMPLETE),
            with(CandleFlags::GAP),
            with(CandleFlags::PARTIAL)
        );
        assert!(with(CandleFlags::GAP) > 10, "each kill leaves its mark on the candles of that moment");
        assert!(with(CandleFlags::PARTIAL) >= 3, "what was open at the end");

        // A further interval: what was there stays as it is, the rest is made of the whole tape.
        let table = TABLE.replace("'1m'", "'1m', '30s'");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("'1m'", "'1m', '30s'")).unwrap();
        let deck = Deck::run(&file, &tape, &["--only", "candles"]);
        deck.until("the end of the tape", |status| {
            status.services.first().is_some_and(|service| {
                service.detail.get("lag_records").and_then(serde_json::Value::as_u64) == Some(0)
                    && service.detail.get("seq").and_then(serde_json::Value::as_u64) > Some(1)
            })
        });
        deck.stop();
        let more = assert_as_uninterrupted(&tape, &recipe(&table));
        let of_interval = |ns: i64| more.keys().filter(|(_, interval, _)| *interval == ns).count();
        assert!(of_interval(30 * super::SECOND) > 0);

        the_verb_prints_them(&file, &more);
    })
    .await
    .unwrap();
}

fn emitted(status: &tapedeck::status::Status) -> u64 {
    let of = |name: &str| status.services.first()?.detail.get(name)?.as_u64();
    of("outputs").unwrap_or(0)
}

fn the_verb_prints_them(file: &Path, all: &BTreeMap<Bucket, Vec<Candle>>) {
    let run = |args: &[&str]| {
        let out = tapedeck().args(args).arg("-c").arg(file).current_dir(file.parent().unwrap()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines
    };
    let of = |all: &BTreeMap<Bucket, Vec<Candle>>| -> Vec<Candle> {
        let wanted = all.iter().filter(|((symbol, interval, _), _)| symbol == "BTC/USD" && *interval == super::SECOND);
        wanted.map(|(_, candles)| candles.last().unwrap().clone()).collect()
    };
    let want = of(all);
    let got = run(&["candles", "BTC/USD", "1s", "--json"]);
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got["start"].as_i64(), Some(want.start.0));
        assert_eq!(got["close"].as_str(), Some(want.close.to_string().as_str()));
        assert_eq!(got["revision"].as_u64(), Some(u64::from(want.revision)));
    }
    let computed = run(&["candles", "BTC/USD", "1s", "--json", "--compute"]);
    let starts = |lines: &[serde_json::Value]| lines.iter().map(|line| line["start"].as_i64()).collect::<Vec<_>>();
    assert_eq!(starts(&computed), starts(&got));
    let every = run(&["candles", "BTC/USD", "1s", "--json", "--all"]);
    assert!(every.len() >= got.len());
}
