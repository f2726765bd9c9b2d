//! Recorded frames on the wire.
//!
//! The recordings lie in the folder that `TAPEDECK_FIXTURES` names; without it these tests say so
//! and prove nothing, and fail where `TAPEDECK_REQUIRE_ALL` forbids that.

use std::io::Read as _;
use std::path::PathBuf;

use tapedeck_testkit::FakeKraken;
use tapedeck_testkit::kraken::Speed;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Books, Client, json};

const BOOK: &str = "ws_v2_book_btcusd_d10_20260719T1754.jsonl.gz";
const HOLE: &str = "ws_v2_book_btcusd_d10_20260720T0339_with_hole.jsonl";

fn recording(name: &str) -> Option<(PathBuf, Vec<String>)> {
    let Some(folder) = std::env::var_os("TAPEDECK_FIXTURES") else {
        crate::skipped::skipped("TAPEDECK_FIXTURES is not set: nothing was replayed");
        return None;
    };
    let path = PathBuf::from(folder).join("kraken").join(name);
    let bytes = std::fs::read(&path).unwrap();
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    Some((path, text.lines().map(str::to_owned).collect()))
}

#[tokio::test]
async fn a_recording_arrives_byte_for_byte() {
    let Some((path, lines)) = recording(BOOK) else { return };
    let fake = FakeKraken::builder().frames(path, Speed::Max).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.send(r#"{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":10}}"#).await;
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(client.text().await, *line, "line {}", n + 1);
    }
}

#[tokio::test]
async fn the_recorded_ack_answers_the_request_that_was_made() {
    let Some((path, _)) = recording(BOOK) else { return };
    let fake = FakeKraken::builder().frames(path, Speed::Max).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("book", &["BTC/USD"], r#","depth":25"#).await;
    assert_eq!(json(&client.until(&["success"]).await)["error"], "Subscription depth not supported");
    client.subscribe("book", &["BTC/USD"], r#","depth":10"#).await;
    let ack = json(&client.until(&["success"]).await);
    assert_eq!((&ack["req_id"], &ack["time_in"]), (&7.into(), &"2026-07-19T17:54:39.614696Z".into()));
}

#[tokio::test]
async fn the_recording_with_a_hole_ends_when_its_symbol_is_subscribed_again() {
    let Some((path, lines)) = recording(HOLE) else { return };
    // At a pace that leaves something to end.
    let fake = FakeKraken::builder().frames(path, Speed::Times(200.0)).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("book", &["BTC/USD"], r#","depth":10"#).await;
    let (mut books, mut seen) = (Books::of_depth(10), 0);
    let broken = loop {
        let text = client.text().await;
        seen += 1;
        if text.starts_with(r#"{"channel":"book""#) && !books.apply(&text) {
            break text;
        }
    };
    assert_eq!((seen, &broken), (51, &lines[50]), "the frame behind the hole");
    client.send(r#"{"method":"unsubscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":10}}"#).await;
    client.subscribe("book", &["BTC/USD"], r#","depth":10"#).await;
    client.until(&[r#""success":true"#, r#""req_id":7"#]).await;
    for _ in 0..3 {
        assert_eq!(client.text().await, r#"{"channel":"heartbeat"}"#, "nothing comes but heartbeats");
    }
}

#[tokio::test]
async fn books_of_the_recording_are_those_of_its_oracle() {
    #[derive(serde::Deserialize)]
    struct Oracle {
        checkpoints: Vec<Checkpoint>,
    }
    #[derive(serde::Deserialize)]
    struct Checkpoint {
        after_messages: usize,
        books: std::collections::HashMap<String, Sides>,
    }
    #[derive(serde::Deserialize)]
    struct Sides {
        bids: Vec<(String, String)>,
        asks: Vec<(String, String)>,
    }
    let Some((path, lines)) = recording(BOOK) else { return };
    let oracle = path.with_file_name(BOOK.replace(".jsonl.gz", ".oracle.json"));
    let oracle: Oracle = serde_json::from_str(&std::fs::read_to_string(oracle).unwrap()).unwrap();
    let fake = FakeKraken::builder().frames(path, Speed::Max).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("book", &["BTC/USD"], r#","depth":10"#).await;
    let mut books = Books::of_depth(10);
    for n in 1..=lines.len() {
        let text = client.text().await;
        assert!(!text.starts_with(r#"{"channel":"book""#) || books.apply(&text), "line {n}");
        if let Some(want) = oracle.checkpoints.iter().find(|checkpoint| checkpoint.after_messages == n) {
            let want = &want.books["BTC/USD"];
            assert_eq!(books.levels("BTC/USD"), [want.bids.clone(), want.asks.clone()], "line {n}");
        }
    }
    assert_eq!(oracle.checkpoints.len(), 4);
}

#[tokio::test]
async fn original_timing_is_kept_within_what_a_busy_machine_allows() {
    let Some((path, _)) = recording(BOOK) else { return };
    // 122 s at sixty times the pace.
    let fake = FakeKraken::builder().frames(path, Speed::Times(60.0)).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("book", &["BTC/USD"], r#","depth":10"#).await;
    let begin = std::time::Instant::now();
    let (mut books, mut messages) = (Books::of_depth(10), 0);
    while messages < 1_254 {
        let text = client.text().await;
        if text.starts_with(r#"{"channel":"book""#) {
            messages += 1;
            assert!(books.apply(&text), "book message {messages}");
        }
    }
    assert!(begin.elapsed().as_millis() > 1_900, "all was there after {:?}", begin.elapsed());
}

#[tokio::test]
async fn instruments_of_a_recording_have_its_precisions() {
    let Some((path, _)) = recording("ws_v2_book_ethbtc_d10_20260826_first_frames.jsonl") else { return };
    let fake = FakeKraken::builder().frames(path, Speed::Max).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.send(r#"{"method":"subscribe","params":{"channel":"instrument"}}"#).await;
    let pairs = json(&client.until(&["\"pairs\""]).await)["data"]["pairs"].clone();
    assert_eq!(pairs.as_array().unwrap().len(), 1);
    let pair = &pairs[0];
    assert_eq!(
        (&pair["symbol"], &pair["price_precision"], &pair["qty_precision"]),
        (&"ETH/BTC".into(), &6.into(), &8.into())
    );
}

#[tokio::test]
async fn flat_out_checksums_hold_and_ids_go_on_over_many_laps() {
    let fake = FakeKraken::builder().pairs(3).flat_out().start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    let symbols = ["BTC/USD", "ETH/USD", "EUR/USD"];
    client.subscribe("book", &symbols, r#","depth":10"#).await;
    client.subscribe("trade", &symbols, "").await;
    client.subscribe("ticker", &symbols, "").await;
    let mut books = Books::of_depth(10);
    let mut last = std::collections::HashMap::new();
    let mut data = 0;
    while data < 60_000 {
        let Message::Text(text) = client.next().await.unwrap() else { continue };
        data += 1;
        if text.starts_with(r#"{"channel":"book""#) {
            assert!(books.apply(&text), "message {data}: {text}");
        } else if text.starts_with(r#"{"channel":"trade","type":"update""#) {
            for trade in json(&text)["data"].as_array().unwrap() {
                let id = trade["trade_id"].as_u64().unwrap();
                if let Some(before) = last.insert(trade["symbol"].to_string(), id) {
                    assert_eq!(id, before + 1, "{text}");
                }
            }
        }
    }
}
