//! Every recording, against what betfairlightweight and a second implementation made of it (the `.oracle.json` beside each).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ring::digest;
use serde_json::Value;
use tapedeck::sources::betfair::line::{Changes, Ctx, Message, parse};
use tapedeck::sources::betfair::markets::{Joiner, Markets};
use tapedeck_market::odds::{Market, Runner};
use tapedeck_market::{Body, Decimal, Event, LevelPriceSize, Odds, PriceSize, UnixNanos};

/// Behind the newest of the recordings.
pub(crate) const AT: UnixNanos = UnixNanos(1_785_000_000_000_000_000);

pub(crate) fn ctx() -> Ctx {
    Ctx { source: "b".into(), venue: "betfair".into() }
}

/// A recording of the folder; `None`, said aloud, where there is none.
pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("TAPEDECK_FIXTURES").map(|dir| PathBuf::from(dir).join("betfair"));
    match dir {
        Some(dir) if dir.is_dir() => Some(dir.join(name)),
        _ => {
            crate::skipped::skipped("TAPEDECK_FIXTURES is not set");
            None
        }
    }
}

/// The recordings that have an oracle.
pub(crate) const RECORDINGS: [&str; 10] = [
    "live/1.185781277.bz2",
    "recorded/1.197931750.gz",
    "recorded/1.197931751.gz",
    "historic/BASIC-1.132153978.gz",
    "historic/1-166564490.bz2",
    "historic/1-180305278.bz2",
    "historic/29788105.gz",
    "historic/1.145405534.bz2",
    "historic/1.214555872.bz2",
    "historic/1.230478683.bz2",
];

pub(crate) fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    let mut text = String::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text),
        Some("bz2") => bzip2::read::MultiBzDecoder::new(&bytes[..]).read_to_string(&mut text),
        _ => (&bytes[..]).read_to_string(&mut text),
    }
    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text
}

pub(crate) fn oracle(path: &Path) -> Value {
    let name = format!("{}.oracle.json", path.display());
    serde_json::from_str(&text(Path::new(&name))).expect("an oracle")
}

/// The markets that events make, and their definitions.
#[derive(Default)]
pub(crate) struct Rebuilt {
    pub(crate) markets: BTreeMap<String, (Market, Value)>,
}

impl Rebuilt {
    pub(crate) fn apply(&mut self, event: &Event) {
        let market = self.markets.entry(event.symbol.to_string()).or_default();
        match &event.body {
            Body::Odds(odds) => market.0.apply(odds),
            Body::Instrument(instrument) => {
                market.1 = serde_json::from_str(instrument.raw.as_ref().expect("a definition")).expect("JSON");
                // The oracle counts whoever is defined, also without a price.
                for runner in market.1["runners"].as_array().expect("runners") {
                    let handicap = runner["hc"].to_string().parse().unwrap_or(Decimal::ZERO);
                    let selection = runner["id"].as_i64().expect("an id");
                    market.0.apply(&Odds { selection, handicap, ..Odds::default() });
                }
            }
            _ => {}
        }
    }

    /// Compares with the oracle's facts of one moment.
    pub(crate) fn assert_same(&self, want: &Value, what: &str) {
        for (id, want) in want["markets"].as_object().expect("markets") {
            let (market, definition) = &self.markets[id];
            assert_eq!(digest_of(market), want["ladder_digest"], "{what}: {id}");
            assert_eq!(definition["status"], want["status"], "{what}: {id}");
            assert_eq!(definition["inPlay"], want["in_play"], "{what}: {id}");
            assert_eq!(definition["version"], want["version"], "{what}: {id}");
            let volume = market.volume().map(|volume| volume.0.to_f64());
            assert_eq!(
                volume.filter(|volume| *volume != 0.0),
                want["market_tv"].as_f64().filter(|v| *v != 0.0),
                "{what}: {id}"
            );
            for (key, want) in want["runners"].as_object().expect("runners") {
                let (selection, handicap) = key.split_once(':').expect("a key");
                let runner = market.runner(selection.parse().unwrap(), handicap.parse().unwrap());
                let none = Runner::default();
                let runner = runner.unwrap_or(&none);
                let last = runner.last.map(|last| last.0.to_f64());
                assert_eq!(last, want["ltp"].as_f64(), "{what}: {id} {key}");
                let volume = runner.volume.map(|volume| volume.0.to_f64());
                assert_eq!(
                    volume.filter(|v| *v != 0.0),
                    want["tv"].as_f64().filter(|v| *v != 0.0),
                    "{what}: {id} {key}"
                );
                let levels = |name: &str| want[name].as_u64().expect("a count") as usize;
                assert_eq!(runner.available_to_back.len(), levels("atb_levels"), "{what}: {id} {key}");
                assert_eq!(runner.available_to_lay.len(), levels("atl_levels"), "{what}: {id} {key}");
                assert_eq!(runner.traded.len(), levels("trd_levels"), "{what}: {id} {key}");
            }
        }
    }

    /// Compares with what became of the markets.
    pub(crate) fn assert_settled(&self, want: &Value, what: &str) {
        for (id, want) in want["final"].as_object().expect("markets") {
            let definition = &self.markets[id].1;
            assert_eq!(definition["status"], want["status"], "{what}");
            assert_eq!(definition["marketType"], want["market_type"], "{what}");
            assert_eq!(definition["bspReconciled"], want["bsp_reconciled"], "{what}");
            let of = |status: &str| -> Vec<i64> {
                let runners = definition["runners"].as_array().expect("runners").iter();
                let mut ids: Vec<i64> = runners
                    .filter(|runner| runner["status"] == status)
                    .filter_map(|runner| runner["id"].as_i64())
                    .collect();
                ids.sort_unstable();
                ids
            };
            let named = |name: &str| -> Vec<i64> {
                let mut ids: Vec<i64> = want[name].as_array().expect("ids").iter().filter_map(Value::as_i64).collect();
                ids.sort_unstable();
                ids
            };
            assert_eq!((of("WINNER"), of("REMOVED")), (named("winners"), named("removed")), "{what}");
        }
    }
}

/// In hundredths; nothing here has more decimals than noise.
fn hundredths(number: Decimal) -> i64 {
    (number.to_f64() * 100.0).round() as i64
}

/// The oracle's digest of a market's ladders.
pub(crate) fn digest_of(market: &Market) -> String {
    let side = |side: &[PriceSize]| {
        let rungs = side.iter().map(|rung| format!("{}={}", hundredths(rung.price.0), hundredths(rung.size.0)));
        rungs.collect::<Vec<_>>().join(",")
    };
    let mut text = String::new();
    for runner in market.runners() {
        let last = runner.last.map_or_else(|| "-".to_owned(), |last| hundredths(last.0).to_string());
        writeln!(
            text,
            "{}|{}|B:{}|L:{}|T:{}|ltp={last}",
            runner.selection,
            hundredths(runner.handicap),
            side(&runner.available_to_back),
            side(&runner.available_to_lay),
            side(&runner.traded)
        )
        .unwrap();
    }
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Best levels as the venue sums them: sizes from the best price on until there is at least one unit, shown at the price
/// where that was reached; what is left at the end at the worst price.
pub(crate) fn rolled_up(ladder: &[PriceSize]) -> Vec<(i64, i64)> {
    let (mut levels, mut sum, mut worst) = (Vec::new(), 0, 0);
    for rung in ladder {
        sum += hundredths(rung.size.0);
        worst = hundredths(rung.price.0);
        if sum >= 100 {
            levels.push((worst, sum));
            sum = 0;
        }
    }
    if sum > 0 {
        levels.push((worst, sum));
    }
    levels
}

fn levels(best: &[LevelPriceSize]) -> Vec<(i64, i64)> {
    best.iter().map(|level| (hundredths(level.price.0), hundredths(level.size.0))).collect()
}

/// States in which the server's best levels were told, and in which they are what its ladder sums up to.
pub(crate) fn agreeing(before: &[Event], market: &Market) -> (u64, u64) {
    let (mut told, mut same) = (0, 0);
    for event in before {
        let Body::Odds(odds) = &event.body else { continue };
        let Some(runner) = market.runner(odds.selection, odds.handicap) else { continue };
        for (sent, best, ladder) in [
            (!odds.best_to_back.is_empty(), &runner.best_to_back, &runner.available_to_back),
            (!odds.best_to_lay.is_empty(), &runner.best_to_lay, &runner.available_to_lay),
        ] {
            if sent {
                told += 1;
                let mut want = rolled_up(ladder);
                want.truncate(10);
                same += u64::from(levels(best) == want);
            }
        }
    }
    (told, same)
}

pub(crate) fn changes(line: &str) -> Changes {
    match parse(line.as_bytes(), AT, &ctx()) {
        Ok(Message::Markets(changes) | Message::Orders(changes)) => changes,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn every_recording_becomes_the_ladders_that_others_made_of_it() {
    let (mut states, mut agreed) = (0, 0);
    for name in RECORDINGS {
        let Some(path) = fixture(name) else { return };
        let (text, want) = (text(&path), oracle(&path));
        let mut rebuilt = Rebuilt::default();
        let (mut known, mut joiner) = (Markets::default(), Joiner::default());
        let (mut messages, mut runner_changes, mut definitions, mut images) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut checkpoints = want["checkpoints"].as_array().expect("checkpoints").iter().peekable();
        let (mut initial_clk, mut clk) = (None, None);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let changes = joiner.take(changes(line), line.len()).expect("no pieces").expect("whole");
            let mut changes = changes;
            assert_eq!(
                (known.judge(&mut changes), &changes.odd[..], &changes.unknown[..]),
                (0, &[][..], &[][..]),
                "{line}"
            );
            messages += 1;
            (initial_clk, clk) = (changes.initial_clk.clone().or(initial_clk), changes.clk.clone().or(clk));
            for event in &changes.events {
                rebuilt.apply(event);
                match &event.body {
                    Body::Odds(odds) if odds.selection != 0 => runner_changes += 1,
                    Body::Odds(odds) => images += u64::from(odds.image),
                    Body::Instrument(_) => definitions += 1,
                    _ => {}
                }
            }
            if name.starts_with("live/") {
                let market = &rebuilt.markets["1.185781277"].0;
                let (told, same) = agreeing(&changes.events, market);
                (states, agreed) = (states + told, agreed + same);
            }
            if let Some(checkpoint) = checkpoints.next_if(|checkpoint| checkpoint["after_messages"] == messages) {
                rebuilt.assert_same(checkpoint, &format!("{name} after {messages} messages"));
            }
        }
        assert!(checkpoints.next().is_none(), "{name}: {messages} messages");
        assert_eq!(want["messages"], messages, "{name}");
        assert_eq!(want["runner_changes"], runner_changes, "{name}");
        assert_eq!(want["market_definitions"], definitions, "{name}");
        assert_eq!(want["images"], images, "{name}");
        assert_eq!(want["last_clk"].as_str(), clk.as_deref(), "{name}");
        assert_eq!(want["initial_clk"].as_str(), initial_clk.as_deref(), "{name}");
        rebuilt.assert_settled(&want, name);
    }
    println!("{agreed} of {states} best ladders of the server are what its ladders sum up to");
    assert_eq!((agreed, states), (23_924, 23_929));
}
