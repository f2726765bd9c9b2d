//! The generated market on the wire.

use std::collections::HashMap;

use tapedeck_testkit::FakeKraken;

use super::client::{Books, Client, json};

#[tokio::test]
async fn a_connection_begins_with_a_status_whose_id_fits_no_float() {
    let fake = FakeKraken::builder().start().await.unwrap();
    let status = json(&Client::connect(&fake).await.text().await);
    assert_eq!(status["channel"], "status");
    let id = status["data"][0]["connection_id"].as_u64().unwrap();
    assert!(id > 1 << 53, "{id}");
}

#[tokio::test]
async fn checksums_hold_at_every_depth() {
    let fake = FakeKraken::builder().pairs(["BTC/USD", "ETH/BTC", "SHIB/USD"]).rate(20_000).start().await.unwrap();
    for depth in [10, 25, 100, 500, 1_000] {
        let mut client = Client::connect(&fake).await;
        let mut books = Books::of_depth(depth);
        client.subscribe("book", &["BTC/USD", "ETH/BTC", "SHIB/USD"], &format!(r#","depth":{depth}"#)).await;
        for n in 0..3_000 {
            let text = client.until(&[r#""channel":"book""#, r#""data""#]).await;
            assert!(books.apply(&text), "depth {depth}, book message {n}: {text}");
        }
    }
}

#[tokio::test]
async fn each_symbol_is_acknowledged_once_with_the_request_id_before_its_data() {
    let fake = FakeKraken::builder().pairs(3).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("ticker", &["BTC/USD", "NO/SUCH", "EUR/USD"], "").await;
    let mut answers = Vec::new();
    while answers.len() < 3 {
        let text = client.text().await;
        assert!(!text.contains("\"type\":\"snapshot\""), "data before the acks: {text}");
        if text.contains("subscribe") {
            let answer = json(&text);
            assert_eq!(answer["req_id"], 7, "{text}");
            answers
                .push((answer["success"].as_bool().unwrap(), answer["result"]["symbol"].as_str().map(str::to_owned)));
        }
    }
    let named = |symbol: &str| (true, Some(symbol.to_owned()));
    assert_eq!(answers, [named("BTC/USD"), (false, None), named("EUR/USD")]);
    client.until(&["\"channel\":\"ticker\",\"type\":\"snapshot\"", "BTC/USD"]).await;
}

#[tokio::test]
async fn a_depth_that_is_not_offered_is_refused_without_a_result() {
    let fake = FakeKraken::builder().start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.send(r#"{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":27}}"#).await;
    let refusal = json(&client.until(&["success"]).await);
    assert_eq!(refusal["error"], "Subscription depth not supported");
    assert!(refusal.get("result").is_none() && refusal.get("req_id").is_none(), "{refusal}");
}

#[tokio::test]
async fn trade_ids_go_on_without_a_hole_and_the_market_lives_while_nobody_looks() {
    let fake = FakeKraken::builder().pairs(2).rate(5_000).start().await.unwrap();
    let ids = |text: &str| -> Vec<u64> {
        let data = json(text);
        data["data"].as_array().unwrap().iter().map(|trade| trade["trade_id"].as_u64().unwrap()).collect()
    };
    let mut last = 0;
    {
        let mut client = Client::connect(&fake).await;
        client.subscribe("trade", &["BTC/USD"], "").await;
        let snapshot = ids(&client.until(&["\"channel\":\"trade\",\"type\":\"snapshot\""]).await);
        assert_eq!(snapshot.len(), 50, "a snapshot has the last fifty");
        let mut seen = snapshot;
        while seen.len() < 500 {
            seen.extend(ids(&client.until(&["\"channel\":\"trade\",\"type\":\"update\""]).await));
        }
        assert!(seen.windows(2).all(|two| two[1] == two[0] + 1), "{seen:?}");
        last = seen.last().copied().unwrap_or(last);
    }
    // Until more than a snapshot's worth has passed.
    loop {
        let mut client = Client::connect(&fake).await;
        client.subscribe("trade", &["BTC/USD"], "").await;
        let snapshot = ids(&client.until(&["\"channel\":\"trade\",\"type\":\"snapshot\""]).await);
        if snapshot[0] > last + 1 {
            break;
        }
    }
}

#[tokio::test]
async fn tickers_show_the_top_of_the_book() {
    let fake = FakeKraken::builder().pairs(["ETH/USD"]).rate(5_000).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.subscribe("book", &["ETH/USD"], r#","depth":10"#).await;
    client.subscribe("ticker", &["ETH/USD"], "").await;
    let mut books = Books::of_depth(10);
    let mut compared = 0;
    while compared < 500 {
        let text = client.text().await;
        if text.contains(r#""channel":"book""#) && text.contains("data") {
            assert!(books.apply(&text));
        } else if text.contains(r#""channel":"ticker","type":"update""#) {
            let (bid, ask) = books.best("ETH/USD");
            let shown = format!(r#""bid":{bid},"#);
            assert!(text.contains(&shown) && text.contains(&format!(r#""ask":{ask},"#)), "{bid} {ask}: {text}");
            compared += 1;
        }
    }
}

#[tokio::test]
async fn instruments_tell_precisions_and_print_small_increments_as_exponents() {
    let fake = FakeKraken::builder().pairs(1_434).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.send(r#"{"method":"subscribe","params":{"channel":"instrument"},"req_id":3}"#).await;
    let ack = client.until(&["\"success\":true"]).await;
    assert!(ack.contains("warnings") && ack.contains(r#""req_id":3"#), "{ack}");
    let text = client.until(&["\"type\":\"snapshot\""]).await;
    assert!(text.contains(r#""qty_increment":1e-08"#) && text.contains(r#""price_increment":0.1,"#));
    assert_eq!(json(&text)["data"]["pairs"].as_array().unwrap().len(), 1_434);
}

#[tokio::test]
async fn the_whole_venue_can_be_subscribed() {
    let fake = FakeKraken::builder().pairs(1_434).rate(10_000).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.send(r#"{"method":"subscribe","params":{"channel":"instrument"}}"#).await;
    let snapshot = json(&client.until(&["\"type\":\"snapshot\""]).await);
    let pairs = snapshot["data"]["pairs"].as_array().unwrap();
    let symbols: Vec<&str> = pairs.iter().map(|pair| pair["symbol"].as_str().unwrap()).collect();
    let mut books = Books::of_depth(10);
    for channel in ["ticker", "trade", "book"] {
        client.subscribe(channel, &symbols, "").await;
    }
    let (mut acks, mut data) = (HashMap::new(), 0);
    while acks.values().sum::<usize>() < 3 * 1_434 || data < 20_000 {
        let text = client.text().await;
        if text.contains(r#""success":true"#) {
            *acks.entry(json(&text)["result"]["channel"].to_string()).or_insert(0) += 1;
        } else {
            data += 1;
            assert!(!text.starts_with(r#"{"channel":"book""#) || books.apply(&text), "{text}");
        }
    }
    assert_eq!(acks.values().copied().collect::<Vec<usize>>(), [1_434; 3], "{acks:?}");
}

#[tokio::test]
async fn a_ping_is_answered_and_a_heartbeat_comes_each_second() {
    let fake = FakeKraken::builder().rate(0).start().await.unwrap();
    let mut client = Client::connect(&fake).await;
    client.send(r#"{"method":"ping","req_id":11}"#).await;
    assert_eq!(json(&client.until(&["pong"]).await)["req_id"], 11);
    client.subscribe("trade", &["BTC/USD"], "").await;
    client.until(&[r#"{"channel":"heartbeat"}"#]).await;
    client.until(&[r#"{"channel":"heartbeat"}"#]).await;
}
