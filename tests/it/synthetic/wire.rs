//! What a subscriber gets: to the byte, from a few records.

use std::sync::Arc;

use tapedeck::bus::{Encoder, Engine};
use tapedeck::config::{Bus, Decimals, Form};
use tapedeck::synthetic::Maker;
use tapedeck_market::{Body, BookUpdate, Event, Flags, Instrument, Level, Quote, UnixNanos, Uuid};

use super::recipe;

const AT: i64 = 1_767_607_200_000_000_000;

fn event(symbol: &str, second: i64, body: Body) -> Event {
    let at = UnixNanos(AT + second * 1_000_000_000);
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        ts_event: Some(at),
        ts_recv: at,
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn quote(bid: &str, ask: &str) -> Body {
    Body::Quote(Quote { bid: bid.parse().ok(), ask: ask.parse().ok(), ..Quote::default() })
}

fn book(bid: [&str; 2], ask: [&str; 2]) -> Body {
    let level = |[price, size]: [&str; 2]| {
        vec![Level { price: price.parse().unwrap(), size: size.parse().unwrap(), orders: None }]
    };
    Body::Book(BookUpdate { snapshot: true, bids: level(bid), asks: level(ask), checksum: None, depth: Some(10) })
}

fn listed(symbol: &str, old: &str) -> Event {
    let aliases = vec![("rest".into(), old.into())];
    event(symbol, 0, Body::Instrument(Box::new(Instrument { aliases, ..Instrument::default() })))
}

/// The messages of a topic, as text: JSON, or the legacy text with bars for its separators.
fn messages(topic: &str, form: Form, late: bool) -> Vec<String> {
    let records = [
        listed("BTC/USD", "XXBTZUSD"),
        listed("ETH/EUR", "XETHZEUR"),
        event("BTC/EUR", 1, quote("50000.0", "50000.1")),
        event("BTC/USD", 1, quote("54061.5", "54100.5")),
        event("ETH/USD", 2, quote("2162.20", "2163.90")),
        event("ETH/EUR", 3, quote("2000.00", "2000.00")),
        event("BTC/EUR", 4, book(["50000.0", "0.5"], ["50000.1", "1.25"])),
        event("BTC/USD", 4, book(["54061.5", "0.30000000"], ["54100.5", "1.106"])),
        event("ETH/USD", 5, book(["2200.00", "7"], ["2200.10", "8"])),
        event("ETH/EUR", 6, book(["2000.00", "3.1"], ["2000.50", "4"])),
        // Its spreads are above zero.
        event("ETH/EUR", 7, book(["2000.00", "3.2"], ["2000.50", "4"])),
    ];
    let (mut maker, mut out) = (Maker::new(recipe("")), Vec::new());
    let mut engine = Engine::new(Arc::new(Bus::default()), Some(topic.into()));
    let mut seq = 0;
    for record in records {
        let now = UnixNanos(record.ts_recv.0 + if late { 61_000_000_000 } else { 1_000 });
        maker.record(&record);
        for event in [record].into_iter().chain(maker.take_said(now)) {
            seq += 1;
            engine.apply(seq, event, &mut out);
        }
    }
    let mut encoder = Encoder::new(Uuid::nil(), false);
    let text = |message| {
        let encoded = encoder.encode(message, topic, form, Decimals::Float);
        assert_eq!(encoded.one_frame, form == Form::Soh);
        String::from_utf8(encoded.payload.to_vec()).unwrap().replace('\u{1}', "|")
    };
    out.iter().map(text).collect()
}

#[test]
fn the_legacy_text_is_the_predecessors_to_the_byte() {
    assert_eq!(
        messages("kr_eurusd_tick", Form::Soh, false),
        ["kr_eurusd_tick XXBTZUSD|1.08123|1.08201|XETHZEUR|1.08110|1.08195|0.00085|0.00091|0.00072"]
    );
    assert_eq!(
        messages("kr_eurusd_depth", Form::Soh, false),
        ["kr_eurusd_depth XXBTZUSD|1.08123|1.08201|54061.5|0.30000000|54100.5|1.106|\
          XETHZEUR|1.09973|1.10005|2000.00|3.1|2000.50|4|0.00032|-0.01772|0.01882"]
    );
}

#[test]
fn a_map_has_both_quotes_with_their_pairs_and_what_lies_between() {
    let told = |topic| -> serde_json::Value {
        let all = messages(topic, Form::Json, false);
        assert_eq!(all.len(), 1, "{all:?}");
        serde_json::from_str(&all[0]).unwrap()
    };
    let tick = serde_json::json!({
        "seq": 7, "prev": 0, "tape": Uuid::nil().to_string(), "source": "synthetic", "venue": "kraken", "instrument": "KR_EURUSD",
        "ts_event": AT + 3_000_000_000_i64, "ts_recv": AT + 3_000_001_000_i64, "timestamp": 1_767_607_203.0,
        "bids": [[1.08123, null], [1.0811, null]], "asks": [[1.08195, null], [1.08201, null]],
        "legs": [
            {"instrument": "BTC/USD", "bid": 1.08123, "ask": 1.08201},
            {"instrument": "ETH/EUR", "bid": 1.0811, "ask": 1.08195},
        ],
        "spread": 0.00085, "spread_bid": 0.00091, "spread_ask": 0.00072,
    });
    assert_eq!(told("kr_eurusd_tick"), tick);
    let depth = told("kr_eurusd_depth");
    assert_eq!(depth["instrument"], "KR_EURUSD_DEPTH");
    assert_eq!(depth["bids"], serde_json::json!([[1.09973, 3.1], [1.08123, 0.3]]));
    assert_eq!(depth["legs"][0]["leg_ask_size"], 1.106);
    assert_eq!((&depth["legs"][1]["leg_bid"], &depth["spread_bid"]), (&2000.0.into(), &(-0.01772).into()));
}

#[test]
fn what_is_made_of_old_records_is_recorded_and_not_published() {
    for topic in ["kr_eurusd_tick", "kr_eurusd_depth"] {
        assert_eq!(
            messages(topic, Form::Soh, true),
            Vec::<String>::new(),
            "nobody should take it for the price of now"
        );
    }
}
