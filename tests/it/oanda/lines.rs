//! Lines, given to the parser directly.

use proptest::prelude::*;
use serde_json::Value;
use tapedeck::sources::oanda::line::{Ctx, Line, Message, parse, parse_any_order};
use tapedeck_market::{Body, Decimal, Event, Flags, Order, Quote, Side, UnixNanos, wire};

use crate::candles::venues::recording;

/// A day behind the newest of the samples.
const AT: UnixNanos = UnixNanos(1_785_000_000_000_000_000);

fn ctx() -> Ctx {
    Ctx { source: "o".into(), venue: "oanda".into() }
}

fn price(line: &str) -> Line {
    match parse(line.as_bytes(), AT, &ctx(), true) {
        Ok(Message::Price(price)) => price,
        other => panic!("{line}: {other:?}"),
    }
}

fn quote(event: &Event) -> &Quote {
    match &event.body {
        Body::Quote(quote) => quote,
        other => panic!("{other:?}"),
    }
}

fn order(line: &str) -> (u64, Event, Order) {
    match parse(line.as_bytes(), AT, &ctx(), false) {
        Ok(Message::Transaction { id, event, .. }) => match &event.body {
            Body::Order(order) => (id, (*event).clone(), (**order).clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{line}: {other:?}"),
    }
}

fn shown(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// The best level of a side, found without the parser: the text with the extreme value.
fn best(levels: &Value, highest: bool) -> (String, String) {
    let levels = levels.as_array().unwrap();
    let key = |level: &&Value| level["price"].as_str().unwrap().parse::<f64>().unwrap();
    let by = |a: &&Value, b: &&Value| key(a).total_cmp(&key(b));
    let best = if highest { levels.iter().max_by(by) } else { levels.iter().min_by(by) };
    best.map_or_else(Default::default, |level| {
        (level["price"].as_str().unwrap().into(), level["liquidity"].to_string())
    })
}

#[test]
fn recorded_lines_are_read_and_their_best_prices_found_by_value() {
    let Some(text) = recording("oanda/api_samples/pricing_stream_lines.jsonl") else { return };
    let (mut prices, mut beats) = (0, 0);
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        if value["type"] == "HEARTBEAT" {
            let time = UnixNanos::parse_rfc3339(value["time"].as_str().unwrap().as_bytes());
            let beat = Message::Heartbeat { time, last_transaction: None };
            assert_eq!(parse(line.as_bytes(), AT, &ctx(), false), Ok(beat));
            beats += 1;
            continue;
        }
        let line = price(line);
        let got = quote(&line.quote);
        assert_eq!((shown(got.bid), shown(got.bid_size)), best(&value["bids"], true));
        assert_eq!((shown(got.ask), shown(got.ask_size)), best(&value["asks"], false));
        assert_eq!(line.quote.symbol, value["instrument"].as_str().unwrap());
        assert_eq!(line.quote.ts_event.unwrap().to_string(), value["time"].as_str().unwrap());
        assert_eq!((line.tradeable, line.odd_time, line.unknown.len()), (Some(true), None, 0));
        let Some(Body::Book(book)) = line.book.map(|event| event.body) else { panic!("no book") };
        assert_eq!(book.bids.len(), value["bids"].as_array().unwrap().len());
        assert!(book.bids.windows(2).all(|two| two[0].price >= two[1].price), "the best first: {book:?}");
        assert!(book.asks.windows(2).all(|two| two[0].price <= two[1].price), "the best first: {book:?}");
        prices += 1;
    }
    assert_eq!((prices, beats), (7, 1));
}

#[test]
fn every_recorded_quote_is_read_as_it_stands() {
    let Some(oracle) = recording("oanda/ticks/oracle.json") else { return };
    let oracle: Value = serde_json::from_str(&oracle).unwrap();
    let mut all = 0;
    for (name, want) in oracle.as_object().unwrap() {
        let text = recording(&format!("oanda/ticks/{name}")).unwrap();
        let day = name.rsplit('_').next().unwrap().split('.').next().unwrap();
        let midnight = format!("{}-{}-{}T00:00:00Z", &day[..4], &day[4..6], &day[6..]);
        let midnight = UnixNanos::parse_rfc3339(midnight.as_bytes()).unwrap();
        let (mut ticks, mut low, mut high) = (0_u64, None::<Decimal>, None::<Decimal>);
        for (at, row) in text.lines().filter(|row| !row.is_empty()).enumerate() {
            let fields: Vec<&str> = row.split(',').collect();
            let (whole, part) = fields[0].split_once('.').unwrap_or((fields[0], ""));
            let ns = whole.parse::<i64>().unwrap() * 1_000_000 + format!("{part:0<6}")[..6].parse::<i64>().unwrap();
            let time = UnixNanos(midnight.0 + ns);
            let (bid, ask) = (fields[1], fields[2]);
            // Each way of writing a time in turn, and the best level anywhere.
            let seconds = format!("{}.{:09}", time.0 / 1_000_000_000, time.0 % 1_000_000_000);
            let stamp = [format!("\"{time}\""), format!("\"{seconds}\""), seconds][at % 3].clone();
            let level = |price: &str| format!(r#"{{"price":"{price}","liquidity":1000000}}"#);
            let far = [level("0.00001"), level("99999")];
            let bids = if at % 2 == 0 { [level(bid), far[0].clone()] } else { [far[0].clone(), level(bid)] };
            let asks = if at % 2 == 0 { [level(ask), far[1].clone()] } else { [far[1].clone(), level(ask)] };
            let line = price(&format!(
                r#"{{"type":"PRICE","time":{stamp},"bids":[{}],"asks":[{}],"tradeable":true,"instrument":"EUR_USD"}}"#,
                bids.join(","),
                asks.join(",")
            ));
            let got = quote(&line.quote);
            assert_eq!((shown(got.bid).as_str(), shown(got.ask).as_str()), (bid, ask), "{row}");
            assert_eq!(line.quote.ts_event, Some(time), "{row}");
            (low, high) = (low.min(got.bid.map(|p| p.0)).or(got.bid.map(|p| p.0)), high.max(got.ask.map(|p| p.0)));
            ticks += 1;
        }
        assert_eq!(ticks, want["ticks"].as_u64().unwrap(), "{name}");
        let told = |key: &str| want[key].as_str().unwrap().parse::<Decimal>().unwrap();
        assert_eq!((low, high), (Some(told("min_bid")), Some(told("max_ask"))), "{name}");
        all += ticks;
    }
    println!("{all} quotes");
    assert_eq!(all, 24_179 + 49_341 + 1_164 + 9_889);
}

#[test]
fn what_is_odd_is_kept_and_said() {
    let with = |time: &str| {
        price(&format!(
            r#"{{"type":"PRICE",{time}"bids":[],"asks":[],"status":"non-tradeable","instrument":"EUR_USD"}}"#
        ))
    };
    for (time, ts_event, odd) in [
        (r#""time":"2026-01-05T10:00:00Z","#, Some("2026-01-05T10:00:00.000000000Z"), None),
        (r#""time":"0","#, Some("1970-01-01T00:00:00.000000000Z"), Some("absurd time")),
        (r#""time":"0.000000000","#, Some("1970-01-01T00:00:00.000000000Z"), Some("absurd time")),
        (r#""time":"2200-01-01T00:00:00Z","#, Some("2200-01-01T00:00:00.000000000Z"), Some("absurd time")),
        (r#""time":"soon","#, None, Some("unreadable time")),
        (r#""time":null,"#, None, Some("unreadable time")),
        ("", None, Some("no time")),
    ] {
        let line = with(time);
        assert_eq!(line.quote.ts_event.map(|time| time.to_string()).as_deref(), ts_event, "{time}");
        assert_eq!(line.odd_time, odd, "{time}");
        assert_eq!(line.quote.flags.contains(Flags::ABSURD_TIME), odd == Some("absurd time"), "{time}");
        assert_eq!(quote(&line.quote), &Quote::default(), "empty sides are empty");
        assert_eq!(line.tradeable, Some(false));
    }
    let line = price(r#"{"type":"PRICE","moonPhase":{"a":[1]},"time":"1","bids":[],"asks":[],"instrument":"EUR_USD"}"#);
    assert_eq!(line.unknown, ["moonPhase"]);
    assert_eq!(line.tradeable, None);
    assert_eq!(parse(br#"{"type":"QUANTUM","x":1}"#, AT, &ctx(), false), Ok(Message::Unknown));
}

#[test]
fn what_cannot_be_understood_says_why() {
    for (line, reason) in [
        ("", "not a message"),
        ("[1,2]", "not a message"),
        (r#"{"type":"PRICE""#, "not a message"),
        (r#"{"type":"PRICE","time":"1","bids":[],"asks":[]}"#, "unexpected shape"),
        (r#"{"type":"PRICE","time":"1","bids":7,"asks":[],"instrument":"A"}"#, "unexpected shape"),
        (r#"{"type":"PRICE","bids":[{"price":"1"}],"asks":[],"instrument":"A"}"#, "unexpected shape"),
        (r#"{"type":"PRICE","bids":[{"price":"1e400","liquidity":1}],"asks":[],"instrument":"A"}"#, "number refused"),
        (
            r#"{"type":"PRICE","time":"0","bids":[{"price":"1\u002e5","liquidity":1}],"asks":[],"instrument":"A"}"#,
            "number refused",
        ),
        (r#"{"type":"PRICE","bids":[{"price":"NaN","liquidity":1}],"asks":[],"instrument":"A"}"#, "number refused"),
    ] {
        match parse(line.as_bytes(), AT, &ctx(), false) {
            Err(error) => assert_eq!(error.reason, reason, "{line}: {error}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn transactions_become_orders_with_their_text_beside() {
    let Some(text) = recording("oanda/api_samples/responses.json") else { return };
    let all: Value = serde_json::from_str(&text).unwrap();
    let listed =
        all["transactions"]["_v3_accounts_transaction_sinceid"]["response"]["transactions"].as_array().unwrap();
    let mut actions = Vec::new();
    for value in listed {
        let line = value.to_string();
        let (id, event, order) = order(&line);
        assert_eq!(id.to_string(), value["id"].as_str().unwrap());
        assert_eq!(order.raw.as_deref(), Some(line.as_str()));
        assert_eq!(event.ts_event.unwrap().to_string(), value["time"].as_str().unwrap());
        actions.push(order.action.to_string());
    }
    assert_eq!(actions, ["LIMIT_ORDER", "ORDER_CANCEL", "LIMIT_ORDER", "CLIENT_CONFIGURE", "CLIENT_CONFIGURE"]);
    let (_, event, limit) = order(&listed[0].to_string());
    assert_eq!(
        (event.symbol.as_str(), limit.side, limit.order_type.as_deref()),
        ("EUR_USD", Some(Side::Sell), Some("limit"))
    );
    assert_eq!((shown(limit.size), shown(limit.price)), ("500000".into(), "1.25000".into()));
    assert_eq!((limit.id.as_deref(), limit.client_id.as_deref()), (Some("2307"), Some("myID")));
    let (_, _, cancel) = order(&listed[1].to_string());
    assert_eq!((cancel.id.as_deref(), cancel.reason.as_deref()), (Some("2307"), Some("CLIENT_REQUEST")));

    let fill = r#"{"id":"9","accountID":"a","type":"ORDER_FILL","time":"1508106039.888097022","orderID":"8","instrument":"EUR_USD","units":"100","price":"1.2","commission":"0.5","reason":"MARKET_ORDER"}"#;
    let (_, event, fill) = order(fill);
    assert_eq!(
        (shown(fill.fill_price), shown(fill.fill_size), fill.price, fill.size),
        ("1.2".into(), "100".into(), None, None)
    );
    assert_eq!((fill.trade_id.as_deref(), fill.id.as_deref(), shown(fill.fee)), (Some("9"), Some("8"), "0.5".into()));
    assert_eq!(event.ts_event.unwrap().to_string(), "2017-10-15T22:20:39.888097022Z");
    let unheard_of = r#"{"id":"10","accountID":"a","type":"MOON_LANDING","time":"1","fuel":{"left":"3"}}"#;
    assert_eq!(order(unheard_of).2.action, "MOON_LANDING");
}

/// Something like a line, and far from it.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("PRICE".to_owned()),
        Just("HEARTBEAT".to_owned()),
        Just("ORDER_FILL".to_owned()),
        "[ -~]{0,12}",
        "-?[0-9]{0,25}(\\.[0-9]{0,25})?(e-?[0-9]{1,3})?",
        "20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]{0,20}Z?",
    ];
    let text = word.prop_map(|text| serde_json::to_string(&text).unwrap());
    let level = (text.clone(), text.clone()).prop_map(|(p, l)| format!(r#"{{"price":{p},"liquidity":{l}}}"#));
    let levels = proptest::collection::vec(level, 0..4).prop_map(|levels| format!("[{}]", levels.join(",")));
    let key = proptest::sample::select(
        &[
            "type",
            "time",
            "instrument",
            "bids",
            "asks",
            "tradeable",
            "status",
            "id",
            "accountID",
            "units",
            "price",
            "x",
        ][..],
    );
    let value =
        prop_oneof![4 => text, 3 => levels, 1 => Just("true".to_owned()), 1 => Just("{\"id\":\"i\"}".to_owned())];
    let object = proptest::collection::vec((key, value), 0..10).prop_map(|fields| {
        let fields: Vec<String> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    });
    prop_oneof![6 => object, 1 => proptest::collection::vec(any::<u8>(), 0..300)]
}

/// A price as the venue writes it, with now and then something else in it.
fn usual() -> impl Strategy<Value = Vec<u8>> {
    let price = prop_oneof![6 => "[0-9]{1,3}\\.[0-9]{1,6}", 1 => "[0-9e.]{0,24}", 1 => Just("1\\u002e5".to_owned())];
    let liquidity = prop_oneof![6 => "[1-9][0-9]{0,9}", 1 => "0?[0-9]{0,25}", 1 => Just("\"500\"".to_owned()), 1 => Just("1e3".to_owned())];
    let level = (price, liquidity).prop_map(|(price, size)| format!(r#"{{"price":"{price}","liquidity":{size}}}"#));
    let levels = proptest::collection::vec(level, 0..4).prop_map(|levels| format!("[{}]", levels.join(",")));
    let time =
        proptest::sample::select(&["2017-09-24T22:20:39.888097022Z", "1506291639.888097022", "0", "soon", ""][..]);
    (
        levels.clone(),
        levels,
        time,
        0_usize..9,
        proptest::sample::select(&["", ",\"x\":1", ",\"status\":\"tradeable\"", ",\"type\":\"PRICE\"", " "][..]),
    )
        .prop_map(|(bids, asks, time, turn, more)| {
            let mut fields = [
                r#""type":"PRICE""#.to_owned(),
                format!(r#""time":"{time}""#),
                format!(r#""bids":{bids}"#),
                format!(r#""asks":{asks}"#),
                r#""closeoutBid":"1.1""#.to_owned(),
                r#""tradeable":false"#.to_owned(),
                r#""instrument":"EUR_USD""#.to_owned(),
            ];
            fields.rotate_left(turn % 7);
            format!("{{{}{more}}}", fields.join(",")).into_bytes()
        })
}

proptest! {
    #[test]
    fn no_line_panics_and_what_is_understood_survives_the_tape(line in prop_oneof![line(), usual()], cut in 0_usize..400) {
        for line in [&line[..], &line[..cut.min(line.len())]] {
            if let Ok(text) = std::str::from_utf8(line) {
                prop_assert_eq!(parse(line, AT, &ctx(), true), parse_any_order(text, AT, &ctx(), true));
            }
            let events = match parse(line, AT, &ctx(), true) {
                Ok(Message::Price(price)) => [Some(price.quote), price.book].into_iter().flatten().collect(),
                Ok(Message::Transaction { event, .. }) => vec![*event],
                _ => Vec::new(),
            };
            for event in events {
                let mut bytes = Vec::new();
                wire::encode(&event, &mut bytes);
                prop_assert_eq!(wire::decode(&bytes).unwrap(), event);
                prop_assert!(bytes.len() <= (line.len() + 1) * 64, "{} bytes of {}", bytes.len(), line.len());
            }
        }
    }
}
