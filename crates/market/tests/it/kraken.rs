//! The book against Kraken's own recordings: every checksum, and the states that another
//! implementation reached.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tapedeck_market::{Book, BookUpdate, Level};

/// A recording, or `None` (with a printed line) where there are none.
fn fixture(name: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("TAPEDECK_FIXTURES") else {
        crate::skipped::skipped(&format!("TAPEDECK_FIXTURES is not set, so there is no {name}"));
        return None;
    };
    let path = PathBuf::from(folder).join("kraken").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
    } else {
        text = String::from_utf8(bytes).expect("UTF-8");
    }
    Some(text)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[derive(Deserialize)]
struct Frame<'a> {
    channel: Option<&'a str>,
    r#type: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BookData<'a> {
    symbol: &'a str,
    #[serde(borrow)]
    bids: Vec<Entry<'a>>,
    #[serde(borrow)]
    asks: Vec<Entry<'a>>,
    checksum: u32,
}

/// Bare numbers, kept as the text they are.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

fn level(price: &str, size: &str) -> Level {
    Level { price: price.parse().expect("a price"), size: size.parse().expect("a size"), orders: None }
}

fn v2_levels(entries: &[Entry<'_>]) -> Vec<Level> {
    entries.iter().map(|entry| level(entry.price.get(), entry.qty.get())).collect()
}

fn digits(value: &Value) -> &str {
    value.as_str().expect("a number as text")
}

fn v1_levels(levels: Option<&Value>) -> Vec<Level> {
    let levels = levels.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    levels.iter().map(|entry| level(digits(&entry[0]), digits(&entry[1]))).collect()
}

/// Books by symbol, how many checksums held, and the frames (from 1) where one did not.
#[derive(Default)]
struct Replay {
    books: BTreeMap<String, Book>,
    held: usize,
    broken: Vec<usize>,
}

impl Replay {
    fn apply(&mut self, frame: usize, symbol: &str, update: &BookUpdate, depth: usize) {
        let book = self.books.entry(symbol.to_owned()).or_insert_with(|| Book::new(Some(depth)));
        book.apply(update);
        match update.checksum {
            Some(want) if book.kraken_checksum() == want => self.held += 1,
            Some(_) => self.broken.push(frame),
            None => {}
        }
    }

    fn v2(&mut self, number: usize, frame: &str) {
        let frame: Frame<'_> = serde_json::from_str(frame).expect("a frame");
        let (Some("book"), Some(data)) = (frame.channel, frame.data) else {
            return;
        };
        let books: Vec<BookData<'_>> = serde_json::from_str(data.get()).expect("book data");
        for data in books {
            let update = BookUpdate {
                snapshot: frame.r#type == Some("snapshot"),
                bids: v2_levels(&data.bids),
                asks: v2_levels(&data.asks),
                checksum: Some(data.checksum),
                depth: None,
            };
            self.apply(number, data.symbol, &update, 10);
        }
    }

    fn v1(&mut self, number: usize, frame: &str) {
        let frame = json(frame);
        // [channel id, payload, payload?, "book-1000", pair]; events are objects.
        let Some([_, payloads @ .., _, pair]) = frame.as_array().map(Vec::as_slice) else {
            return;
        };
        let first = |key: &str| payloads.iter().find_map(|payload| payload.get(key));
        let snapshot = first("as").is_some();
        let update = BookUpdate {
            snapshot,
            bids: v1_levels(first(if snapshot { "bs" } else { "b" })),
            asks: v1_levels(first(if snapshot { "as" } else { "a" })),
            checksum: first("c").map(|c| digits(c).parse().expect("a checksum")),
            depth: None,
        };
        self.apply(number, pair.as_str().expect("a pair"), &update, 1_000);
    }

    /// Compares the books with those the oracle held at this point.
    fn check_state(&self, checkpoint: &Value) {
        for (symbol, want) in checkpoint["books"].as_object().expect("books") {
            let book = &self.books[symbol];
            for (side, levels, held) in [("bids", book.bids(), "bids_held"), ("asks", book.asks(), "asks_held")] {
                let want_levels = want[side].as_array().expect("levels");
                let got: Vec<[String; 2]> =
                    levels.iter().take(want_levels.len()).map(|l| [l.price.to_string(), l.size.to_string()]).collect();
                let wanted: Vec<[String; 2]> =
                    want_levels.iter().map(|pair| [digits(&pair[0]).to_owned(), digits(&pair[1]).to_owned()]).collect();
                assert_eq!(got, wanted, "{side} of {symbol}");
                if let Some(count) = want.get(held) {
                    assert_eq!(levels.len() as u64, count.as_u64().expect("a count"), "{held} of {symbol}");
                }
            }
            if let Some(checksum) = want.get("checksum") {
                assert_eq!(Some(u64::from(book.kraken_checksum())), checksum.as_u64(), "checksum of {symbol}");
            }
        }
    }

    /// Feeds every frame and stops at the oracle's checkpoints; returns how many there were.
    fn run<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a str>,
        oracle: &Value,
        feed: fn(&mut Self, usize, &str),
    ) -> usize {
        let checkpoints = oracle["checkpoints"].as_array().expect("checkpoints");
        let mut checked = 0;
        for (number, frame) in (1..).zip(frames) {
            feed(self, number, frame);
            for checkpoint in checkpoints.iter().filter(|c| c["after_messages"] == number) {
                self.check_state(checkpoint);
                checked += 1;
            }
        }
        assert_eq!(checked, checkpoints.len(), "checkpoints met");
        checked
    }
}

#[test]
fn every_v2_checksum_of_the_recording_holds() {
    let name = "ws_v2_book_btcusd_d10_20260719T1754";
    let Some(frames) = fixture(&format!("{name}.jsonl.gz")) else { return };
    let oracle = json(&fixture(&format!("{name}.oracle.json")).expect("the oracle lies beside it"));
    let mut replay = Replay::default();
    replay.run(frames.lines(), &oracle, Replay::v2);
    assert_eq!((replay.held, &replay.broken[..]), (1_254, &[][..]));
}

#[test]
fn the_recording_with_a_hole_breaks_at_frame_51() {
    let name = "ws_v2_book_btcusd_d10_20260720T0339_with_hole";
    let Some(frames) = fixture(&format!("{name}.jsonl")) else { return };
    let oracle = json(&fixture(&format!("{name}.oracle.json")).expect("the oracle lies beside it"));
    let mut replay = Replay::default();
    replay.run(frames.lines(), &oracle, Replay::v2);
    assert_eq!((replay.held, replay.broken.len()), (41, 17));
    assert_eq!(replay.broken.first(), Some(&51));
}

#[test]
fn every_v1_checksum_of_the_recording_holds() {
    let name = "ws_v1_book1000_10pairs_20210417";
    let Some(lines) = fixture(&format!("{name}.txt.gz")) else { return };
    let oracle = json(&fixture(&format!("{name}.oracle.json")).expect("the oracle lies beside it"));
    // `<receive time>: <frame>`; lines without are the recorder's own.
    let frames = lines.lines().filter_map(|line| line.split_once(": ")).filter(|(time, _)| time.parse::<f64>().is_ok());
    let frames = frames.map(|(_, frame)| frame);
    let mut replay = Replay::default();
    replay.run(frames, &oracle, Replay::v1);
    assert_eq!((replay.held, &replay.broken[..]), (4_269, &[][..]));
}
