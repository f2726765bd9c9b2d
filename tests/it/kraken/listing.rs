//! A venue that lists, delists and closes, played by hand: what the fake market never does.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tapedeck::intake::{Intake, Resume};
use tapedeck_market::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::desk::{Desk, events_of, is_live, sessions};

struct Venue(WebSocketStream<TcpStream>);

impl Venue {
    /// Waits for a request that is `wanted`, granting everything on the way.
    async fn until(&mut self, method: &str, channel: &str, symbol: &str) {
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            while let Some(message) = self.0.next().await {
                let Message::Text(text) = message.expect("a frame") else { continue };
                let request: Value = serde_json::from_str(&text).expect("json");
                if self.grant(&request).await == (method.to_owned(), channel.to_owned()) && names(&request, symbol) {
                    return;
                }
            }
            panic!("the client left");
        });
        found.await.unwrap_or_else(|_| panic!("no {method} of {channel} {symbol}"));
    }

    async fn grant(&mut self, request: &Value) -> (String, String) {
        let (method, channel) = (&request["method"], &request["params"]["channel"]);
        let symbols = request["params"]["symbol"].as_array().cloned().unwrap_or_else(|| vec![Value::Null]);
        for symbol in symbols {
            let mut result = json!({ "channel": channel });
            if !symbol.is_null() {
                result["symbol"] = symbol;
            }
            let req_id = &request["req_id"];
            self.say(json!({ "method": method, "result": result, "success": true, "req_id": req_id })).await;
        }
        (method.as_str().unwrap_or_default().to_owned(), channel.as_str().unwrap_or_default().to_owned())
    }

    async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("a listener");
    }

    async fn list(&mut self, kind: &str, pairs: &[(&str, &str)]) {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(symbol, status)| json!({ "symbol": symbol, "status": status, "price_precision": 2, "qty_precision": 8 }))
            .collect();
        self.say(json!({ "channel": "instrument", "type": kind, "data": { "assets": [], "pairs": pairs } })).await;
    }
}

fn names(request: &Value, symbol: &str) -> bool {
    symbol.is_empty() || request["params"]["symbol"].as_array().is_some_and(|symbols| symbols.contains(&symbol.into()))
}

/// A source connected to a venue played by hand.
async fn connect(table: &str) -> (Venue, Desk) {
    connect_knowing(table, &[]).await
}

/// The same, where the tape knows subscriptions of an earlier run, as (symbol, channel).
async fn connect_knowing(table: &str, known: &[(&str, &str)]) -> (Venue, Desk) {
    let subscriptions = known.iter().map(|(symbol, channel)| ((*symbol).into(), (*channel).into())).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/v2", listener.local_addr().expect("an address"));
    // Nobody answers REST there: old names go by rule.
    let table = format!("url = '{url}'\nrest_url = 'http://127.0.0.1:1'\n{table}");
    let desk = Desk::of(sessions(&table).remove(0), Resume { subscriptions, ..Resume::default() });
    let (socket, _) = listener.accept().await.expect("a client");
    (Venue(tokio_tungstenite::accept_async(socket).await.expect("an upgrade")), desk)
}

#[tokio::test]
async fn what_the_venue_lists_and_delists_is_followed() {
    let (mut venue, mut desk) = connect("pairs = ['*/USD']\nchannels = ['trade']").await;
    venue.until("subscribe", "instrument", "").await;
    venue.list("snapshot", &[("AAA/USD", "online"), ("BBB/USD", "delisted"), ("CCC/EUR", "online")]).await;
    venue.until("subscribe", "trade", "AAA/USD").await;
    venue.list("update", &[("DDD/USD", "post_only"), ("AAA/USD", "delisted")]).await;
    venue.until("unsubscribe", "trade", "AAA/USD").await;
    venue.until("subscribe", "trade", "DDD/USD").await;
    desk.until("the new one", |message| is_live(message, "DDD/USD", "trade")).await;
    let forgotten = |message: &Intake| matches!(message, Intake::Unsubscribed { symbol, .. } if symbol == "AAA/USD");
    assert_eq!(desk.count(forgotten), 1);
    let covered = |event: &&tapedeck_market::Event| matches!(event.body, Body::Instrument(_));
    let mut listed: Vec<_> = desk.events().filter(covered).map(|event| event.symbol.to_string()).collect();
    listed.sort();
    assert_eq!(listed, ["AAA/USD", "AAA/USD", "BBB/USD", "DDD/USD"], "each state once, and only of what is wanted");
}

fn ended(desk: &Desk) -> Vec<String> {
    let name = |message: &Intake| match message {
        Intake::Unsubscribed { symbol, channel, .. } => Some(format!("{symbol} {channel}")),
        _ => None,
    };
    let mut ended: Vec<_> = desk.said.iter().filter_map(name).collect();
    ended.sort();
    // To end what has ended is nothing.
    ended.dedup();
    ended
}

fn is_instrument(event: &tapedeck_market::Event) -> bool {
    matches!(event.body, Body::Instrument(_))
}

#[tokio::test]
async fn what_the_tape_knows_and_nobody_wants_any_more_is_ended() {
    let known = [
        ("", "instrument"),
        ("", "executions"),
        ("AAA/USD", "trade"),
        ("AAA/USD", "book"),
        ("GONE/USD", "trade"),
        ("LEFT/EUR", "trade"),
        ("LEFT/EUR", "ohlc-5"),
        ("LEFT/EUR", "ticker"),
    ];
    let table = "pairs = ['*/USD']\nchannels = ['trade', 'ticker', 'executions']\nticker = 'rest'";
    let (mut venue, mut desk) = connect_knowing(table, &known).await;
    venue.until("subscribe", "instrument", "").await;
    assert_eq!(ended(&desk), [""; 0], "before the list nothing is certain");
    venue.list("snapshot", &[("AAA/USD", "online"), ("LEFT/EUR", "online"), ("GONE/USD", "delisted")]).await;
    desk.until_events("the list", 2, is_instrument).await;
    // Tickers and own orders are other sessions' part.
    assert_eq!(ended(&desk), ["AAA/USD book", "GONE/USD trade", "LEFT/EUR ohlc-5", "LEFT/EUR trade"]);
}

#[tokio::test]
async fn a_refusal_of_what_was_live_before_ends_nothing_while_the_venue_lists_it() {
    let known = [("AAA/USD", "trade"), ("OLD/USD", "trade")];
    let table = "pairs = ['AAA/USD', 'OLD/USD', 'BAD/USD']\nchannels = ['trade']";
    let (mut venue, mut desk) = connect_knowing(table, &known).await;
    for symbol in ["AAA/USD", "OLD/USD", "BAD/USD"] {
        let error = format!("Currency pair not supported {symbol}");
        let refusal = json!({ "method": "subscribe", "symbol": symbol, "success": false, "error": error, "req_id": 2 });
        if symbol == "AAA/USD" {
            let Some(Ok(_)) = venue.0.next().await else { panic!("no request of the list") };
            let Some(Ok(Message::Text(text))) = venue.0.next().await else { panic!("no request of trades") };
            assert!(text.contains("\"req_id\":2") && text.contains("BAD/USD"), "{text}");
        }
        venue.say(refusal).await;
    }
    desk.until("the new one's end", |message| matches!(message, Intake::Unsubscribed { .. })).await;
    assert_eq!(ended(&desk), ["BAD/USD trade"], "what was never live has nothing to lose");
    venue.list("snapshot", &[("AAA/USD", "online")]).await;
    desk.until_events("the list", 1, is_instrument).await;
    assert_eq!(ended(&desk), ["BAD/USD trade", "OLD/USD trade"], "the list knows it no more");
}

#[tokio::test]
async fn symbols_nobody_asked_for_open_no_book_and_no_hole() {
    let (mut venue, mut desk) = connect("pairs = ['AAA/USD']\nchannels = ['trade', 'book']").await;
    venue.until("subscribe", "book", "AAA/USD").await;
    let book = json!({ "symbol": "EVIL/USD", "bids": [], "asks": [], "checksum": 0 });
    venue.say(json!({ "channel": "book", "type": "snapshot", "data": [book] })).await;
    for trade_id in [1, 9] {
        let item = json!({ "symbol": "EVIL/USD", "side": "buy", "price": 1.5, "qty": 2, "trade_id": trade_id });
        venue.say(json!({ "channel": "trade", "type": "update", "data": [item] })).await;
    }
    let item = json!({ "symbol": "AAA/USD", "side": "buy", "price": 1.5, "qty": 2, "trade_id": "7".repeat(65) });
    venue.say(json!({ "channel": "trade", "type": "update", "data": [item] })).await;
    desk.until_events("the refused id", 1, |event| matches!(event.body, Body::Raw(_))).await;
    let news = |m: &Intake| match m {
        Intake::Live { symbol, .. } => symbol == "EVIL/USD",
        m => matches!(m, Intake::Holes { .. } | Intake::Lost { .. }),
    };
    assert_eq!(desk.count(news), 0, "{}", desk.summary());
    assert_eq!(desk.events().filter(|event| event.symbol == "EVIL/USD").count(), 3, "recorded all the same");
}

#[tokio::test]
async fn the_same_list_again_is_not_said_again() {
    let (mut venue, mut desk) = connect("pairs = ['AAA/USD']\nchannels = ['trade']").await;
    venue.until("subscribe", "trade", "AAA/USD").await;
    for _ in 0..3 {
        venue.list("snapshot", &[("AAA/USD", "online")]).await;
    }
    let mark = json!({ "channel": "status", "type": "update", "data": [{ "system": "online" }] });
    venue.say(mark).await;
    desk.until_events("the mark", 1, |event| matches!(event.body, Body::Status(_))).await;
    assert_eq!(desk.events().filter(|event| matches!(event.body, Body::Instrument(_))).count(), 1);
}

#[tokio::test]
async fn with_keep_raw_a_frame_lies_beside_its_events() {
    let (mut venue, mut desk) = connect("pairs = ['AAA/USD']\nchannels = ['trade']\nkeep_raw = true").await;
    venue.until("subscribe", "trade", "AAA/USD").await;
    let item = json!({ "symbol": "AAA/USD", "side": "buy", "price": 1.5, "qty": 2, "trade_id": 7 });
    let frame = json!({ "channel": "trade", "type": "update", "data": [item] });
    venue.say(frame.clone()).await;
    let is_trade = |message: &Intake| events_of(message).iter().any(|event| matches!(event.body, Body::Trade(_)));
    let append = events_of(desk.until("the trade", is_trade).await);
    let Body::Raw(raw) = &append[0].body else { panic!("{append:?}") };
    assert_eq!((raw.format.as_str(), raw.frame.as_slice()), ("text", frame.to_string().as_bytes()));
    assert_eq!(append.len(), 2, "one append");
}

#[tokio::test]
async fn a_huge_message_nobody_knows_is_kept_up_to_one_mebibyte() {
    let (mut venue, mut desk) = connect("pairs = ['AAA/USD']\nchannels = ['trade']").await;
    venue.until("subscribe", "trade", "AAA/USD").await;
    venue.say(json!({ "channel": "of_tomorrow", "type": "update", "data": "x".repeat(3 << 20) })).await;
    desk.until_events("the frame", 1, |event| matches!(&event.body, Body::Raw(raw) if raw.frame.len() == 1 << 20))
        .await;
    let huge = json!({ "channel": "of_tomorrow", "type": "update", "data": "x".repeat(5 << 20) }).to_string();
    // The client leaves before it has read all of it.
    let _ = venue.0.send(Message::text(huge)).await;
    let ended = desk.drain().await;
    assert!(ended.contains("reading the feed"), "a message no venue sends ends the session: {ended}");
}

#[tokio::test]
async fn a_close_says_why() {
    let (mut venue, mut desk) = connect("pairs = ['AAA/USD']").await;
    venue.until("subscribe", "trade", "AAA/USD").await;
    let code = tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode::Restart;
    let close = tokio_tungstenite::tungstenite::protocol::CloseFrame { code, reason: "new version".into() };
    venue.0.send(Message::Close(Some(close))).await.expect("a listener");
    let ended = desk.drain().await;
    assert!(ended.contains("1012") && ended.contains("new version"), "{ended}");
}
