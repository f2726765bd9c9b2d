//! Each fault as it is seen on the wire, and in the sent log.

use std::time::{Duration, Instant};

use tapedeck_testkit::kraken::{Channel, Delivery, Fault, Scheduled};
use tapedeck_testkit::{FakeKraken, Handle};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};

use super::client::{Books, Client, json};

fn fault(text: &str) -> Fault {
    text.parse().unwrap()
}

/// A venue of two busy pairs, and a client of one of its channels.
async fn listening(channel: &str) -> (Handle, Client) {
    let fake = FakeKraken::builder().pairs(2).rate(2_000).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe(channel, &["BTC/USD", "ETH/USD"], "").await;
    client.until(&["\"type\":\"snapshot\"", "ETH/USD"]).await;
    (fake, client)
}

/// Reads until the connection ends, and how it did.
async fn end_of(client: &mut Client) -> Error {
    loop {
        match client.next().await {
            Ok(Message::Close(Some(frame))) => panic!("a close frame: {frame:?}"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

async fn trade_ids(client: &mut Client, symbol: &str, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let text = client.until(&["\"channel\":\"trade\",\"type\":\"update\"", symbol]).await;
        ids.extend(json(&text)["data"].as_array().unwrap().iter().map(|trade| trade["trade_id"].as_u64().unwrap()));
    }
    ids
}

#[tokio::test]
async fn a_cut_is_a_reset() {
    for how in ["cut", "cut mid-frame"] {
        let (fake, mut client) = listening("trade").await;
        fake.inject(fault(how));
        let error = end_of(&mut client).await;
        let reset = match &error {
            Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => true,
            _ => false,
        };
        assert!(reset, "{how}: {error:?}");
        assert_eq!(fake.sessions(), 1);
    }
}

#[tokio::test]
async fn a_close_has_its_code_and_reason() {
    let (fake, mut client) = listening("trade").await;
    fake.inject(fault("close 1013 come back later"));
    loop {
        if let Message::Close(frame) = client.next().await.unwrap() {
            let frame = frame.unwrap();
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1_013, "come back later"));
            break;
        }
    }
}

#[tokio::test]
async fn a_half_open_connection_is_silent_and_lasts() {
    let (fake, mut client) = listening("trade").await;
    fake.inject(fault("half-open for 2s"));
    // What was on its way arrives; then there is a pause that no heartbeat breaks.
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    while begin.elapsed() < Duration::from_secs(3) {
        let before = Instant::now();
        client.text().await;
        longest = longest.max(before.elapsed());
    }
    assert!(longest > Duration::from_millis(1_500), "the longest pause was {longest:?}");
    client.send(r#"{"method":"ping","req_id":1}"#).await;
    client.until(&["pong"]).await;
}

#[tokio::test]
async fn a_slow_drip_still_delivers_whole_frames() {
    let (fake, mut client) = listening("book").await;
    fake.inject(fault("slow-drip for 500ms"));
    for _ in 0..20 {
        json(&client.text().await);
    }
}

#[tokio::test]
async fn a_stalled_symbol_is_silent_until_it_is_subscribed_again() {
    let (fake, mut client) = listening("trade").await;
    fake.inject(fault("stall BTC/USD trade"));
    fake.inject(fault("burst 3000"));
    let log = fake.log();
    let stalled = || log.entries().iter().filter(|sent| sent.delivered == Delivery::Stalled).count();
    trade_ids(&mut client, "ETH/USD", 200).await;
    let kept_back = stalled();
    assert!(kept_back > 100, "{kept_back} items were kept back");
    assert!(log.entries().iter().all(|sent| sent.delivered != Delivery::Stalled || &*sent.symbol == "BTC/USD"));
    client.subscribe("trade", &["BTC/USD"], "").await;
    client.until(&["\"type\":\"snapshot\"", "BTC/USD"]).await;
    trade_ids(&mut client, "BTC/USD", 20).await;
}

#[tokio::test]
async fn a_corrupt_level_breaks_the_checksum_of_its_symbol_alone() {
    let (fake, mut client) = listening("ticker").await;
    client.subscribe("book", &["BTC/USD", "ETH/USD"], r#","depth":10"#).await;
    let mut books = Books::of_depth(10);
    let mut next_book = async || {
        let text = client.until(&["\"channel\":\"book\"", "\"data\""]).await;
        (books.apply(&text), text)
    };
    for _ in 0..20 {
        assert!(next_book().await.0);
    }
    fake.inject(fault("corrupt BTC/USD"));
    let broken = loop {
        let (fine, text) = next_book().await;
        if !fine {
            break text;
        }
    };
    assert!(broken.contains("BTC/USD"), "{broken}");
    let corrupted: Vec<_> =
        fake.log().entries().into_iter().filter(|sent| sent.delivered == Delivery::Corrupted).collect();
    assert_eq!(corrupted.len(), 1);
    assert!(broken.contains(corrupted[0].item.get()), "the log has the text that was sent");
}

#[tokio::test]
async fn the_kth_trade_is_lost() {
    let (fake, mut client) = listening("trade").await;
    let before = *trade_ids(&mut client, "BTC/USD", 5).await.last().unwrap();
    fake.inject(fault("drop BTC/USD 3"));
    let mut ids = vec![before];
    ids.extend(trade_ids(&mut client, "BTC/USD", 200).await);
    let holes: Vec<_> = ids.windows(2).filter(|two| two[1] != two[0] + 1).collect();
    assert_eq!(holes.len(), 1, "{holes:?}");
    assert_eq!(holes[0][1], holes[0][0] + 2, "one trade is missing");
    let dropped: Vec<_> = fake.log().entries().into_iter().filter(|sent| sent.delivered == Delivery::Dropped).collect();
    assert_eq!(dropped.iter().map(|sent| sent.trade_id).collect::<Vec<_>>(), [Some(holes[0][0] + 1)]);
}

#[tokio::test]
async fn a_trade_message_comes_twice_or_late() {
    let (fake, mut client) = listening("trade").await;
    trade_ids(&mut client, "BTC/USD", 5).await;
    fake.inject(fault("duplicate BTC/USD"));
    let ids = trade_ids(&mut client, "BTC/USD", 100).await;
    let unique: std::collections::BTreeSet<u64> = ids.iter().copied().collect();
    assert!(unique.len() < ids.len(), "{ids:?}");
    fake.inject(fault("reorder BTC/USD"));
    let ids = trade_ids(&mut client, "BTC/USD", 100).await;
    assert!(ids.windows(2).any(|two| two[1] < two[0]), "{ids:?}");
    let delivered = |how| fake.log().entries().iter().filter(|sent| sent.delivered == how).count();
    assert!(delivered(Delivery::Duplicate) > 0 && delivered(Delivery::Reordered) > 0);
}

#[tokio::test]
async fn garbage_comes_as_asked_and_the_session_goes_on() {
    let (fake, mut client) = listening("trade").await;
    for (kind, part) in [
        ("json", r#""data":[{"symbol":"BTC/US"#),
        ("channel", r#"{"channel":"weather""#),
        ("field", r#""mood":"#),
        ("number", "1e400"),
    ] {
        fake.inject(fault(&format!("garbage {kind}")));
        client.until(&[part]).await;
    }
    fake.inject(fault("garbage empty"));
    while !client.text().await.is_empty() {}
    fake.inject(fault("garbage binary"));
    while !matches!(client.next().await.unwrap(), Message::Binary(_)) {}
    trade_ids(&mut client, "BTC/USD", 5).await;
    fake.inject(fault("garbage utf8"));
    assert!(matches!(end_of(&mut client).await, Error::Utf8(_)), "a strict client ends it");
}

#[tokio::test]
async fn an_oversized_frame_has_its_size() {
    let (fake, mut client) = listening("trade").await;
    fake.inject(fault("oversized 3"));
    loop {
        let text = client.text().await;
        if text.len() > 1_000_000 {
            assert_eq!(text.len(), 3 * 1024 * 1024);
            break;
        }
    }
}

#[tokio::test]
async fn the_clock_of_the_venue_jumps() {
    let (fake, mut client) = listening("trade").await;
    fake.inject(fault("clock 1970"));
    client.until(&["\"timestamp\":\"1970-01-01T00:00:00.000000Z\""]).await;
    fake.inject(fault("clock 2099-01-01T00:00:00Z"));
    client.until(&["\"timestamp\":\"2099-01-01"]).await;
    fake.inject(Fault::Heal);
    let update = json(&client.until(&["\"type\":\"update\"", "timestamp\":\"20"]).await);
    assert!(update["data"][0]["timestamp"].is_string());
}

#[tokio::test]
async fn a_refusal_has_its_reason_and_its_end() {
    let refuse = "refuse BTC/USD book x1: Subscription depth not supported";
    let fake = FakeKraken::builder().fault(fault(refuse)).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("book", &["BTC/USD"], "").await;
    let refusal = json(&client.until(&["success"]).await);
    assert_eq!((&refusal["success"], &refusal["error"]), (&false.into(), &"Subscription depth not supported".into()));
    client.subscribe("book", &["BTC/USD"], "").await;
    client.until(&["\"success\":true"]).await;
    client.until(&["\"type\":\"snapshot\""]).await;
}

#[tokio::test]
async fn a_silenced_subscription_is_acknowledged_and_heartbeats_go_on() {
    let silence = "ack-then-silence BTC/USD trade x1";
    let fake = FakeKraken::builder().pairs(2).rate(2_000).fault(fault(silence)).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("trade", &["BTC/USD"], "").await;
    client.until(&["\"success\":true", "BTC/USD"]).await;
    // The second is a second after the first.
    for _ in 0..2 {
        assert_eq!(client.text().await, r#"{"channel":"heartbeat"}"#);
    }
    client.subscribe("trade", &["BTC/USD"], "").await;
    trade_ids(&mut client, "BTC/USD", 5).await;
    let log = fake.log().entries();
    assert!(log.iter().any(|sent| sent.delivered == Delivery::Silenced && sent.channel == Channel::Trade.name()));
}

#[tokio::test]
async fn too_many_requests_are_answered_in_the_gateways_own_shape() {
    let fake = FakeKraken::builder().fault(Fault::RateLimit { per_second: 3 }).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    for _ in 0..10 {
        client.send(r#"{"method":"ping"}"#).await;
    }
    assert_eq!(client.until(&["Exceeded"]).await, r#"{"Error":"Exceeded msg rate"}"#);
}

#[tokio::test]
async fn maintenance_is_told_to_who_is_there_and_to_who_comes() {
    let (fake, mut client) = listening("trade").await;
    fake.inject(fault("status maintenance"));
    client.until(&["\"channel\":\"status\"", "\"system\":\"maintenance\""]).await;
    assert!(Client::connect(&fake).await.text().await.contains("maintenance"));
}

#[tokio::test]
async fn listings_are_told_and_a_new_pair_can_be_subscribed() {
    let (fake, mut client) = listening("trade").await;
    client.send(r#"{"method":"subscribe","params":{"channel":"instrument"}}"#).await;
    client.until(&["instrument", "snapshot\",\"data"]).await;
    fake.inject(fault("list NEW/EUR"));
    let update = json(&client.until(&["instrument", "\"type\":\"update\""]).await);
    let pairs = update["data"]["pairs"].as_array().unwrap();
    assert_eq!((pairs.len(), &pairs[0]["symbol"], &pairs[0]["status"]), (1, &"NEW/EUR".into(), &"online".into()));
    client.subscribe("trade", &["NEW/EUR"], "").await;
    trade_ids(&mut client, "NEW/EUR", 3).await;
    fake.inject(fault("delist NEW/EUR"));
    let update = client.until(&["instrument", "\"type\":\"update\""]).await;
    assert!(update.contains("delisted"), "{update}");
    client.subscribe("book", &["NEW/EUR"], "").await;
    assert!(client.until(&["success"]).await.contains("Currency pair not supported NEW/EUR"));
}

#[tokio::test]
async fn a_script_strikes_at_its_times_after_the_first_subscription() {
    let scheduled = |text: &str| text.parse::<Scheduled>().unwrap();
    let fake = FakeKraken::builder()
        .rate(1_000)
        .fault(scheduled("at 300ms garbage channel"))
        .fault(scheduled("at 600ms cut"))
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("trade", &["BTC/USD"], "").await;
    let begin = Instant::now();
    client.until(&["weather"]).await;
    let (garbage, _) = (begin.elapsed(), end_of(&mut client).await);
    let cut = begin.elapsed();
    assert!(garbage.as_millis() >= 290 && cut.as_millis() >= 590, "{garbage:?}, {cut:?}");
}

#[tokio::test]
async fn the_log_has_every_item_in_the_order_of_the_wire_digit_for_digit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sent.ndjson");
    let fake = FakeKraken::builder().pairs(2).rate(5_000).log_to(&path).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    for channel in ["book", "trade", "ticker"] {
        client.subscribe(channel, &["BTC/USD", "ETH/USD"], "").await;
    }
    let mut items = Vec::new();
    while items.len() < 2_000 {
        #[derive(serde::Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            data: Vec<&'a serde_json::value::RawValue>,
        }
        let text = client.until(&["\"data\"", "\"symbol\""]).await;
        let frame: Data<'_> = serde_json::from_str(&text).unwrap();
        items.extend(frame.data.iter().map(|item| item.get().to_owned()));
    }
    drop(client);
    fake.stop().await;
    #[derive(serde::Deserialize)]
    struct Line {
        conn: u64,
        n: u64,
        #[serde(rename = "type")]
        kind: String,
        delivered: String,
        item: Box<serde_json::value::RawValue>,
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().zip(1..).all(|(line, n)| line.n == n && line.conn == 1 && line.delivered == "sent"));
    let logged = lines.iter().filter(|line| line.kind == "snapshot" || line.kind == "update");
    let logged = logged.map(|line| line.item.get()).filter(|item| item.contains("\"symbol\""));
    for (n, (sent, seen)) in logged.zip(&items).enumerate() {
        assert_eq!(sent, seen, "item {n}");
    }
}
