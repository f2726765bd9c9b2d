//! tape A → a venue made of it → a deck → tape B: the same market.

use std::process::{Child, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tapedeck::replay::venue::Venue;
use tapedeck::replay::{Playback, Player, Range, Speed};
use tapedeck_market::{Body, Record, UnixNanos};
use tapedeck_tape::Start;
use tapedeck_testkit::kraken::FakeKraken;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::support::{Deck, free_port, records, tapedeck, until};

/// What the market did, per channel: symbol, venue time, body.
fn market(records: &[Record]) -> [Vec<(String, Option<UnixNanos>, Body)>; 3] {
    let of = |wanted: fn(&Body) -> bool| {
        let events = records.iter().map(|record| &record.event).filter(|event| wanted(&event.body));
        events.map(|event| (event.symbol.to_string(), event.ts_event, event.body.clone())).collect()
    };
    [
        of(|body| matches!(body, Body::Trade(_))),
        of(|body| matches!(body, Body::Ticker(_))),
        of(|body| matches!(body, Body::Book(_))),
    ]
}

/// Ends a child when the test does.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn source(url: &str) -> String {
    format!("[source.k]\nkind = \"kraken\"\nurl = {url:?}\npairs = [\"BTC/USD\", \"ETH/USD\"]\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_that_records_a_replay_has_the_same_trades_tickers_and_books() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(2_000).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let (path, config) =
        (home.path().to_owned(), format!("{}rest_url = {:?}\n", source(&venue.ws_url()), venue.rest_url()));
    let first = tokio::task::spawn_blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("some thousand events", |status| status.tape.durable_seq > 5_000);
        let dir = deck.dir.clone();
        deck.stop();
        dir
    })
    .await
    .unwrap();
    drop(venue);
    let original = market(&records(&first));
    assert!(original.iter().all(|events| events.len() > 500), "{:?}", original.each_ref().map(Vec::len));

    let again = tempfile::tempdir().unwrap();
    let path = again.path().to_owned();
    let copied = tokio::task::spawn_blocking(move || {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut replay = tapedeck();
        replay.args(["replay", "--to", "venue", "--speed", "max", "--listen", &listen, "--dir"]).arg(&first);
        let mut replay = Ends(replay.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deck = Deck::start(&path, &source(&format!("ws://{listen}/v2")));
        let status = until("the end of the replay", || replay.0.try_wait().unwrap());
        assert!(status.success(), "{status}");
        // What was sent is recorded when the deck has seen the end of the connection.
        deck.until("the end of the connection", |status| status.sources[0].state.starts_with("lost"));
        let dir = deck.dir.clone();
        deck.stop();
        records(&dir)
    })
    .await
    .unwrap();
    let copy = market(&copied);
    for (what, (original, copy)) in ["trades", "tickers", "books"].into_iter().zip(original.iter().zip(&copy)) {
        for (n, (original, copy)) in original.iter().zip(copy).enumerate() {
            assert_eq!(original, copy, "{what} {n}");
        }
        assert_eq!(original.len(), copy.len(), "{what}");
    }
    assert!(!copied.iter().any(|record| matches!(&record.event.body, Body::Raw(_))), "a frame was refused");
}

/// Asks the venue, and gives what comes until `enough` says so.
async fn client(url: &str, ask: &[Value], enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for ask in ask {
        socket.send(Message::Text(ask.to_string().into())).await.unwrap();
    }
    let mut got = Vec::new();
    while !enough(&got) {
        let message = tokio::time::timeout(Duration::from_secs(60), socket.next()).await;
        let Ok(Some(Ok(Message::Text(text)))) = message else { panic!("{message:?} after {got:#?}") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["channel"] != "heartbeat" {
            got.push(frame);
        }
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_subscribes_in_the_middle_gets_the_book_as_it_is_then_and_what_is_not_there_is_refused() {
    let fake = FakeKraken::builder().pairs(["BTC/USD"]).rate(500).start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        "[source.k]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = [\"BTC/USD\"]\n",
        fake.ws_url(),
        fake.rest_url()
    );
    let path = home.path().to_owned();
    let dir = tokio::task::spawn_blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("some hundred events", |status| status.tape.durable_seq > 800);
        let dir = deck.dir.clone();
        deck.stop();
        dir
    })
    .await
    .unwrap();
    let middle = records(&dir)[500].seq;
    let range = Range { from: Start::Seq(middle), until_seq: None, until_time: None };
    let playback = Playback::open(&dir, range, Box::new(|_| true)).unwrap();
    let mut venue = Venue::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = venue.url();
    let (_commands, asked) = mpsc::channel(1);
    let playing = tokio::spawn(async move {
        let mut tell = |_: &_| {};
        let player = Player::new(playback, Speed::Max, asked, CancellationToken::new(), &mut tell);
        player.run(&mut venue).await.unwrap();
        venue.end().await;
    });
    let subscribe = |params: Value, id: u32| json!({ "method": "subscribe", "params": params, "req_id": id });
    let ask = [
        subscribe(json!({ "channel": "book", "symbol": ["BTC/USD"], "depth": 10 }), 1),
        subscribe(json!({ "channel": "book", "symbol": ["BTC/USD"], "depth": 25 }), 2),
        subscribe(json!({ "channel": "trade", "symbol": ["NO/SUCH"] }), 3),
        subscribe(json!({ "channel": "instrument" }), 4),
        json!({ "method": "ping", "req_id": 5 }),
    ];
    let books = |got: &[Value]| got.iter().filter(|frame| frame["channel"] == "book").count();
    let got = client(&url, &ask, |got| books(got) > 50).await;
    let answer = |id: u32| got.iter().find(|frame| frame["req_id"] == id).unwrap();
    assert_eq!(answer(1)["result"], json!({ "channel": "book", "symbol": "BTC/USD", "depth": 10, "snapshot": true }));
    assert_eq!(answer(2)["error"], "Subscription depth not supported: recorded with 10");
    assert_eq!(answer(3)["error"], "Currency pair not supported NO/SUCH");
    assert_eq!(answer(5)["method"], "pong");
    let list = got.iter().find(|frame| frame["channel"] == "instrument").unwrap();
    assert!(list["data"]["pairs"].as_array().unwrap().iter().any(|pair| pair["symbol"] == "BTC/USD"), "{list}");
    // Snapshot and changes together keep the venue's checksums: the source's own book says so.
    let ctx = tapedeck::sources::kraken::message::Ctx { source: "k".into(), venue: "kraken".into() };
    let mut book = tapedeck_market::Book::new(Some(10));
    let frames: Vec<&Value> = got.iter().filter(|frame| frame["channel"] == "book").collect();
    assert_eq!(frames[0]["type"], "snapshot");
    for frame in frames {
        let text = frame.to_string();
        let Ok(tapedeck::sources::kraken::message::Message::Events(events)) =
            tapedeck::sources::kraken::parse::parse(text.as_bytes(), UnixNanos::now(), &ctx)
        else {
            panic!("{frame}");
        };
        for event in events {
            let Body::Book(update) = &event.body else { panic!("{event:?}") };
            book.apply(update);
            assert!(!book.is_empty());
        }
    }
    playing.abort();
}
