use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tapedeck_market::{Body, Flags, Level, Quote, Stats, Synthetic, Ticker, strategy};

use super::super::engine::Engine;
use super::*;

const AT: UnixNanos = UnixNanos(1_767_607_200_123_456_789);

fn message(venue: &str, symbol: &str, old_name: &str, content: Content) -> Message {
    Message {
        topic: "kraken_tick".into(),
        seq: 7,
        prev: 5,
        source: venue.into(),
        venue: venue.into(),
        symbol: symbol.into(),
        old_name: old_name.into(),
        old_legs: Vec::new(),
        ts_event: Some(AT),
        ts_recv: AT,
        flags: Flags::NONE,
        content,
    }
}

fn some<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// The sample of the predecessors' own publisher.
fn kraken_tick() -> Message {
    let stats = |volume, vwap, trades, low, high, open: Option<_>| Stats {
        open,
        high: some(high),
        low: some(low),
        volume: some(volume),
        vwap: some(vwap),
        trades: Some(trades),
    };
    let ticker = Ticker {
        last: some("52609.6"),
        last_size: some("0.0042"),
        bid: some("52609.5"),
        bid_whole_lots: some("3"),
        bid_size: some("3.000"),
        ask: some("52609.6"),
        ask_whole_lots: some("1"),
        ask_size: some("1.000"),
        today: stats("1920.8", "52389.9", 23_329, "51513.9", "53219.9", some("52280.4")),
        day: stats("7954.0", "51513.9", 80_463, "51513.9", "57200.0", None),
        ..Ticker::default()
    };
    message("kraken", "BTC/USD", "XXBTZUSD", Content::Tick(Box::new(ticker)))
}

/// The payload, and whether it is the only frame.
fn encoded(message: &Message, topic: &str, form: Form, decimals: Decimals) -> (Vec<u8>, bool) {
    let mut encoder = Encoder::new(Uuid::nil(), false);
    let Encoded { payload, one_frame } = encoder.encode(message, topic, form, decimals);
    (payload.to_vec(), one_frame)
}

fn map(message: &Message, form: Form, decimals: Decimals) -> Json {
    let payload = encoded(message, &message.topic, form, decimals).0;
    if form == Form::Json {
        serde_json::from_slice(&payload).unwrap()
    } else {
        rmp_serde::from_slice(&payload).unwrap()
    }
}

#[test]
fn the_legacy_text_is_the_predecessors_to_the_byte() {
    let (line, one_frame) = encoded(&kraken_tick(), "kraken_tick", Form::Soh, Decimals::Float);
    assert!(one_frame);
    let sample = "kraken_tick XXBTZUSD|52609.6|1|1.000|52609.5|3|3.000|52609.6|0.0042|1920.8|7954.0|52389.9|51513.9|\
        23329|80463|51513.9|51513.9|53219.9|57200.0|52280.4";
    assert_eq!(String::from_utf8(line).unwrap(), sample.replace('|', "\u{1}"));

    let quote = Ticker { bid: some("1.08230"), ask: some("1.08245"), ..Ticker::default() };
    let tick = message("oanda", "EUR_USD", "EUR_USD", Content::Tick(Box::new(quote)));
    let line = encoded(&tick, "oanda_tick", Form::Soh, Decimals::Float).0;
    let sample = "oanda_tick EUR_USD|2026-01-05T10:00:00.123456789Z|1.08230|1.08245";
    assert_eq!(String::from_utf8(line).unwrap(), sample.replace('|', "\u{1}"));

    let level = |price: &str, size: &str| {
        vec![Level { price: price.parse().unwrap(), size: size.parse().unwrap(), orders: None }]
    };
    let depth = Content::Depth { bids: level("52609.5", "0.3"), asks: level("52609.6", "1.106") };
    let line = encoded(&message("kraken", "BTC/USD", "XXBTZUSD", depth), "kr_depth", Form::Soh, Decimals::Float).0;
    let sample = "kr_depth {\"error\":[],\"result\":{\"XXBTZUSD\":{\"asks\":[[\"52609.6\",\"1.106\",1767607200]],\
        \"bids\":[[\"52609.5\",\"0.3\",1767607200]]}}}";
    assert_eq!(String::from_utf8(line).unwrap(), sample);
}

#[test]
fn the_legacy_text_of_the_derived_pair_has_nine_and_seventeen_fields() {
    let leg = |instrument: &str| tapedeck_market::Leg {
        instrument: instrument.into(),
        bid: some("1.08123"),
        ask: some("1.08201"),
        leg_bid: some("52609.5"),
        leg_bid_size: some("0.3"),
        leg_ask: some("52609.6"),
        leg_ask_size: some("1.106"),
    };
    let synthetic = Synthetic {
        legs: vec![leg("XXBTZUSD"), leg("XETHZEUR")],
        spread: some("0.00085"),
        spread_bid: some("0.00091"),
        spread_ask: some("0.00072"),
    };
    let message = message("derived", "KR_EURUSD", "", Content::Body(Box::new(Body::Synthetic(Box::new(synthetic)))));
    let fields = |topic: &str| {
        let line = String::from_utf8(encoded(&message, topic, Form::Soh, Decimals::Float).0).unwrap();
        line.strip_prefix(&format!("{topic} ")).unwrap().split('\u{1}').map(str::to_owned).collect::<Vec<_>>()
    };
    let tick = ["XXBTZUSD", "1.08123", "1.08201", "XETHZEUR", "1.08123", "1.08201", "0.00085", "0.00091", "0.00072"];
    assert_eq!(fields("kr_eurusd_tick"), tick);
    assert_eq!(fields("kr_eurusd_depth").len(), 17);
}

#[test]
fn the_shape_of_the_venue_is_positional_under_the_old_name() {
    let said = map(&kraken_tick(), Form::Kraken, Decimals::Text);
    assert_eq!(said["error"], json!([]));
    let expected = json!([
        ["52609.6", "1", "1.000"],
        ["52609.5", "3", "3.000"],
        ["52609.6", "0.0042"],
        ["1920.8", "7954.0"],
        ["52389.9", "51513.9"],
        [23329, 80463],
        ["51513.9", "51513.9"],
        ["53219.9", "57200.0"],
        "52280.4"
    ]);
    assert_eq!(said["result"]["XXBTZUSD"], expected);
    assert_eq!((said["seq"].as_u64(), said["prev"].as_u64()), (Some(7), Some(5)));
}

#[test]
fn a_map_has_what_is_known_and_nothing_else() {
    let quote = Body::Quote(Quote { bid: some("1.10"), bid_size: None, ask: some("1.20"), ask_size: None });
    let mut engine = Engine::new(std::sync::Arc::default(), None);
    let mut out = Vec::new();
    let event = Event {
        source: "oanda".into(),
        venue: "oanda".into(),
        symbol: "EUR_USD".into(),
        ts_event: None,
        ts_recv: AT,
        flags: Flags::NONE,
        origin: None,
        body: quote,
    };
    engine.apply(3, event, &mut out);
    let said = map(&out[0], Form::Map, Decimals::Float);
    let expected = json!({
        "seq": 3, "prev": 0, "tape": "00000000-0000-0000-0000-000000000000", "ts_recv": AT.0,
        "timestamp": 1_767_607_200.123_456_7_f64, "instrument": "EUR_USD", "bid": 1.1, "ask": 1.2,
    });
    assert_eq!(said, expected);
    assert_eq!(map(&out[0], Form::Json, Decimals::Text)["bid"], json!("1.10"));
}

#[test]
fn an_array_is_an_event_with_its_place_behind_it() {
    let tick = kraken_tick();
    let payload = encoded(&tick, "kraken_tick", Form::Array, Decimals::Float).0;
    let event = wire::decode(&payload).unwrap();
    assert_eq!((event.symbol.as_str(), event.ts_event), ("BTC/USD", Some(AT)));
    assert!(matches!((&event.body, &tick.content), (Body::Ticker(told), Content::Tick(known)) if told == known));
    let mut place = vec![7, 5, 0xc4, 16];
    place.extend([0; 16]);
    assert!(payload.ends_with(&place), "{payload:x?}");
}

proptest! {
    /// Every form of every event: no panic, and what can be read back is.
    #[test]
    fn every_event_has_every_form(event in strategy::event(), seq in 1_u64..1 << 60) {
        let mut engine = Engine::new(std::sync::Arc::default(), None);
        let mut out = Vec::new();
        engine.apply(seq, event, &mut out);
        engine.finish(&mut out);
        for message in &out {
            prop_assert_eq!(message.seq, seq);
            for decimals in [Decimals::Float, Decimals::Text] {
                let json: Json = serde_json::from_slice(&encoded(message, &message.topic, Form::Json, decimals).0)?;
                prop_assert_eq!(json["seq"].as_u64(), Some(seq));
                let kraken: Result<Json, _> = rmp_serde::from_slice(&encoded(message, "t", Form::Kraken, decimals).0);
                prop_assert_eq!(kraken.unwrap()["prev"].as_u64(), Some(message.prev));
                let map: Result<Json, _> = rmp_serde::from_slice(&encoded(message, &message.topic, Form::Map, decimals).0);
                let map = map.unwrap();
                prop_assert_eq!(map["instrument"].as_str(), Some(message.symbol.as_str()));
            }
            let array = encoded(message, &message.topic, Form::Array, Decimals::Float).0;
            let event = wire::decode(&array).unwrap();
            if let Content::Body(body) = &message.content {
                prop_assert_eq!(&event.body, &**body);
            }
            let line = String::from_utf8(encoded(message, &message.topic, Form::Soh, Decimals::Float).0).unwrap();
            let topic = format!("{} ", message.topic);
            prop_assert!(line.starts_with(&topic));
        }
    }

    /// A number is the double that its text is.
    #[test]
    fn a_price_becomes_the_double_of_its_text(decimal in strategy::decimal()) {
        let ticker = Ticker { last: Some(tapedeck_market::Price(decimal)), ..Ticker::default() };
        let tick = message("kraken", "X", "X", Content::Tick(Box::new(ticker)));
        let number: f64 = decimal.to_string().parse().unwrap();
        prop_assert_eq!(map(&tick, Form::Map, Decimals::Float)["last"].as_f64(), Some(number));
        // By its text: the reader here rounds in the last place.
        let json = String::from_utf8(encoded(&tick, "t", Form::Json, Decimals::Float).0).unwrap();
        let field = format!("\"last\":{number:?}");
        prop_assert!(json.contains(&field), "{json}");
        for form in [Form::Map, Form::Json] {
            let said = map(&tick, form, Decimals::Text);
            let text = decimal.to_string();
            prop_assert_eq!(said["last"].as_str(), Some(text.as_str()));
        }
    }
}
