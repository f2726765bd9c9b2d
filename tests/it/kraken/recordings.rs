//! Recorded frames against what two independent books made of them (the `.oracle.json` beside each).

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value;
use tapedeck::sources::kraken::books::{Books, Policy, Verdict};
use tapedeck::sources::kraken::message::{Ctx, Message};
use tapedeck::sources::kraken::names::{Names, modern};
use tapedeck::sources::kraken::{parse, v1};
use tapedeck_market::{Body, Book, Event, SmolStr, UnixNanos};

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

fn ctx() -> Ctx {
    Ctx { source: SmolStr::new_static("kraken"), venue: SmolStr::new_static("kraken") }
}

/// The folder of recordings; `None`, said aloud, where there is none.
pub(crate) fn fixtures() -> Option<PathBuf> {
    let dir = std::env::var_os("TAPEDECK_FIXTURES").map(|dir| PathBuf::from(dir).join("kraken"));
    match dir {
        Some(dir) if dir.is_dir() => Some(dir),
        _ => {
            crate::skipped::skipped("TAPEDECK_FIXTURES is not set");
            None
        }
    }
}

pub(crate) fn text(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("gzip text");
        text
    } else {
        String::from_utf8(bytes).expect("text")
    }
}

fn oracle(dir: &std::path::Path, name: &str) -> Value {
    serde_json::from_str(&text(&dir.join(name))).expect("an oracle")
}

fn events(message: Message) -> Vec<Event> {
    match message {
        Message::Events(events) => events,
        _ => Vec::new(),
    }
}

/// Compares with the oracle, which writes the best levels of each side and how many there are.
fn assert_same(book: &Book, want: &Value, what: &str) {
    for (side, levels) in [("bids", book.bids()), ("asks", book.asks())] {
        let best = want[side].as_array().expect("levels").len();
        let got: Vec<_> = levels
            .iter()
            .take(best)
            .map(|level| Value::from(vec![level.price.to_string(), level.size.to_string()]))
            .collect();
        assert_eq!(Value::from(got), want[side], "{side} of {what}");
        assert_eq!(levels.len() as u64, want[format!("{side}_held")].as_u64().expect("a count"), "{side} of {what}");
    }
    assert_eq!(u64::from(book.kraken_checksum()), want["checksum"].as_u64().expect("a checksum"), "{what}");
}

/// What a recording's checksums said.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    agreed: u64,
    broken: u64,
    /// Message number, from 1, of the first break.
    first_broken: Option<u64>,
}

/// Runs recorded frames through parser and books and compares the books at the oracle's checkpoints.
fn replay<'a>(
    frames: impl Iterator<Item = &'a str>,
    depth: u32,
    parse: impl Fn(&str) -> Message,
    oracle: &Value,
) -> Tally {
    let mut books = Books::new(depth, Policy::Strict);
    let mut seen: BTreeMap<SmolStr, ()> = BTreeMap::new();
    let mut tally = Tally::default();
    let checkpoints: HashMap<u64, &Value> = oracle["checkpoints"]
        .as_array()
        .expect("checkpoints")
        .iter()
        .map(|checkpoint| (checkpoint["after_messages"].as_u64().expect("a number"), &checkpoint["books"]))
        .collect();
    for (number, frame) in (1_u64..).zip(frames) {
        for event in events(parse(frame)) {
            let Body::Book(update) = &event.body else { continue };
            seen.insert(event.symbol.clone(), ());
            match books.apply(&event.symbol, update, event.ts_recv) {
                Verdict::Fresh if update.checksum.is_none() => {}
                Verdict::Fresh | Verdict::Whole => tally.agreed += 1,
                Verdict::Broken { .. } => {
                    tally.broken += 1;
                    tally.first_broken.get_or_insert(number);
                }
                Verdict::Adrift => {}
                Verdict::Suspect { .. } => panic!("strict books are never suspect"),
            }
        }
        if let Some(want) = checkpoints.get(&number).filter(|_| tally.broken == 0) {
            let want = want.as_object().expect("books by symbol");
            assert_eq!(want.len(), seen.len(), "after message {number}");
            for (symbol, want) in want {
                let got = books.get(symbol).unwrap_or_else(|| panic!("no book of {symbol} after message {number}"));
                assert_same(got, want, &format!("{symbol} after message {number}"));
            }
        }
    }
    tally
}

fn v2(frame: &str) -> Message {
    parse::parse(frame.as_bytes(), AT, &ctx()).unwrap_or_else(|error| panic!("{error}: {frame}"))
}

#[test]
fn every_checksum_of_the_v2_recording_agrees_and_the_books_are_the_oracles() {
    let Some(dir) = fixtures() else { return };
    let name = "ws_v2_book_btcusd_d10_20260719T1754";
    let frames = text(&dir.join(format!("{name}.jsonl.gz")));
    let tally = replay(frames.lines(), 10, v2, &oracle(&dir, &format!("{name}.oracle.json")));
    assert_eq!(tally, Tally { agreed: 1_254, broken: 0, first_broken: None });
}

#[test]
fn the_general_reader_finds_the_same_as_the_fast_one_in_the_recording() {
    let Some(dir) = fixtures() else { return };
    for name in ["ws_v2_book_btcusd_d10_20260719T1754.jsonl.gz", "ws_v2_book_ethbtc_d10_20260826_first_frames.jsonl"] {
        for frame in text(&dir.join(name)).lines() {
            let general = parse::parse_any_order(frame.as_bytes(), AT, &ctx());
            assert_eq!(
                format!("{:?}", Ok::<_, tapedeck::sources::kraken::message::ParseError>(v2(frame))),
                format!("{general:?}")
            );
        }
    }
}

#[test]
fn the_recording_with_a_hole_breaks_at_frame_51() {
    let Some(dir) = fixtures() else { return };
    let name = "ws_v2_book_btcusd_d10_20260720T0339_with_hole";
    let frames = text(&dir.join(format!("{name}.jsonl")));
    let tally = replay(frames.lines(), 10, v2, &oracle(&dir, &format!("{name}.oracle.json")));
    // After the break nothing is held that could break again.
    assert_eq!(tally, Tally { agreed: 41, broken: 1, first_broken: Some(51) });
}

#[test]
fn prices_below_one_keep_their_leading_zeros_out_of_the_checksum() {
    let Some(dir) = fixtures() else { return };
    let frames = text(&dir.join("ws_v2_book_ethbtc_d10_20260826_first_frames.jsonl"));
    let tally = replay(frames.lines(), 10, v2, &serde_json::json!({ "checkpoints": [] }));
    assert_eq!(tally, Tally { agreed: 2, broken: 0, first_broken: None });
}

/// Received lines of a v1 recording: `<epoch s>: <json>`.
fn received(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (time, frame) = line.split_once(": ")?;
        time.bytes().all(|b| b.is_ascii_digit() || b == b'.').then_some(frame)
    })
}

fn v1(frame: &str) -> Message {
    v1::parse(frame.as_bytes(), AT, &ctx()).unwrap_or_else(|error| panic!("{error}: {frame}"))
}

#[test]
fn every_checksum_of_the_v1_recording_agrees_and_the_books_are_the_oracles() {
    let Some(dir) = fixtures() else { return };
    let name = "ws_v1_book1000_10pairs_20210417";
    let frames = text(&dir.join(format!("{name}.txt.gz")));
    let tally = replay(received(&frames), 1_000, v1, &oracle(&dir, &format!("{name}.oracle.json")));
    assert_eq!(tally, Tally { agreed: 4_269, broken: 0, first_broken: None });
}

#[test]
fn v1_tickers_and_trades_are_the_oracles() {
    let Some(dir) = fixtures() else { return };
    for channel in ["ticker", "trade"] {
        let name = format!("ws_v1_{channel}_10pairs_20210417");
        let oracle = oracle(&dir, &format!("{name}.oracle.json"));
        let frames = text(&dir.join(format!("{name}.txt.gz")));
        let got: Vec<Vec<Event>> =
            received(&frames).map(|frame| events(v1(frame))).filter(|events| !events.iter().all(is_status)).collect();
        let want = oracle["data_messages"].as_array().expect("messages");
        assert_eq!(received(&frames).count() as u64, oracle["messages"].as_u64().expect("a count"));
        assert_eq!(got.len(), want.len(), "{channel}");
        for (got, want) in got.iter().zip(want) {
            let symbol = want[3].as_str().expect("a pair");
            assert!(got.iter().all(|event| event.symbol == symbol), "{want}");
            let digits: Vec<String> = got.iter().flat_map(numbers).collect();
            let mut expected = Vec::new();
            flatten(&want[1], &mut expected);
            for number in digits {
                assert!(expected.contains(&number), "{number} is not in {want}");
            }
        }
    }
}

fn is_status(event: &Event) -> bool {
    matches!(event.body, Body::Status(_))
}

/// The numbers of a trade or ticker as text.
fn numbers(event: &Event) -> Vec<String> {
    match &event.body {
        Body::Trade(trade) => vec![trade.price.to_string(), trade.size.to_string()],
        Body::Ticker(ticker) => {
            let mut numbers = Vec::new();
            for stats in [&ticker.today, &ticker.day] {
                numbers
                    .extend([stats.vwap, stats.low, stats.high, stats.open].map(|p| p.expect("a price").to_string()));
                numbers.push(stats.volume.expect("a volume").to_string());
                numbers.push(stats.trades.expect("a count").to_string());
            }
            numbers.extend([ticker.bid, ticker.ask, ticker.last].map(|p| p.expect("a price").to_string()));
            let sizes =
                [ticker.bid_size, ticker.bid_whole_lots, ticker.ask_size, ticker.ask_whole_lots, ticker.last_size];
            numbers.extend(sizes.map(|s| s.expect("a size").to_string()));
            assert_eq!(numbers.len(), 20, "the predecessors' tick has twenty numbers but the name");
            numbers
        }
        other => panic!("{other:?}"),
    }
}

fn flatten(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, out)),
        Value::Object(fields) => fields.values().for_each(|item| flatten(item, out)),
        Value::String(text) => out.push(text.clone()),
        other => out.push(other.to_string()),
    }
}

#[test]
fn every_pair_of_the_instrument_snapshot_is_read_with_its_precisions() {
    let Some(dir) = fixtures() else { return };
    let frame = text(&dir.join("ws_v2_instrument_snapshot.json.gz"));
    let pairs = serde_json::from_str::<Value>(&frame).expect("json")["data"]["pairs"].as_array().expect("pairs").len();
    let events = events(v2(&frame));
    assert_eq!(events.len(), pairs);
    for event in &events {
        let Body::Instrument(pair) = &event.body else { panic!("{event:?}") };
        assert!(pair.price_precision.is_some() && pair.size_precision.is_some(), "{event:?}");
        assert!(pair.price_increment.is_some() && pair.size_increment.is_some(), "{event:?}");
        assert!(pair.status.is_some() && pair.base.is_some() && pair.quote.is_some(), "{event:?}");
    }
}

#[test]
fn the_rule_and_the_asset_list_agree_on_every_old_name() {
    let Some(dir) = fixtures() else { return };
    let list = text(&dir.join("rest_assetpairs_20210417.json.gz"));
    let list: Value = serde_json::from_str(&list).expect("json");
    let names = Names::from_asset_pairs(&list["result"].to_string()).expect("an asset list");
    let mut checked = 0;
    for (rest, pair) in list["result"].as_object().expect("pairs") {
        if rest.ends_with(".d") {
            continue;
        }
        let wsname = pair["wsname"].as_str().expect("a wsname");
        let symbol = names.symbol(rest);
        assert_eq!(names.symbol(wsname), symbol, "{rest}");
        assert_eq!(modern(rest), Some(symbol), "{rest}");
        checked += 1;
    }
    assert!(checked > 250, "{checked}");
}
