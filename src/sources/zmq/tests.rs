//! Messages in all the forms of the predecessors, as their publishers put them on the wire.

use proptest::prelude::*;
use serde_json::json;
use tapedeck_market::{Body, Value};

use super::config::Config;
use super::decode::{Decoded, Decoder};

const TICK: &str = "XXBTZUSD|52609.6|1|1.000|52609.5|3|3.000|52609.6|0.0042|1920.8|7954.0|52389.9|51513.9|23329|80463|51513.9|51513.9|53219.9|57200.0|52280.4";

fn decoder(config: &str) -> Decoder {
    let config = Config::from_table(format!("connect = ['tcp://h:1']\n{config}").parse().expect("toml"));
    Decoder::new(config.expect("a config"), "11111111-2222-4333-8444-555555555555".parse().ok())
}

fn soh(topic: &str, fields: &str) -> Vec<u8> {
    format!("{topic} {}", fields.replace('|', "\u{1}")).into_bytes()
}

fn pack(value: &serde_json::Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("MessagePack")
}

fn reasons(decoded: &Decoded) -> Vec<&'static str> {
    decoded.rejects.iter().map(|reject| reject.reason).collect()
}

/// The one event of a message, as (instrument, ns, body).
fn one(decoded: Decoded) -> (String, Option<i64>, Body) {
    assert_eq!((decoded.events.len(), reasons(&decoded)), (1, vec![]), "{decoded:?}");
    let (made, _) = decoded.events.into_iter().next().expect("an event");
    (format!("{}:{}", made.venue, made.symbol), made.ts_event.map(|at| at.0), made.body)
}

fn positional(pair: &str, bid: &str) -> serde_json::Value {
    json!({"error": [], "result": {pair: [["52609.6", "1", "1.000"], [bid, "3", "3.000"], ["52609.6", "0.0042"],
        ["1920.8", "7954.0"], ["52389.9", "51513.9"], [23329, 80463], ["51513.9", "51513.9"], ["53219.9", "57200.0"], "52280.4"]}})
}

fn rest_map(pair: &str) -> serde_json::Value {
    json!({"error": [], "result": {pair: {"a": ["52609.6", "1", "1.000"], "b": ["52609.5", "3", "3.000"],
        "c": ["52609.6", "0.0042"], "v": ["1920.8", "7954.0"], "p": ["52389.9", "51513.9"], "t": [23329, 80463],
        "l": ["51513.9", "51513.9"], "h": ["53219.9", "57200.0"], "o": "52280.4"}}})
}

#[test]
fn one_tick_in_every_form_is_the_same_ticker() {
    let mut decoder = decoder("");
    let text = one(decoder.decode(&[&soh("kraken_tick", TICK)]));
    assert_eq!(text.0, "kraken:BTC/USD");
    let Body::Ticker(ticker) = &text.2 else { panic!("{text:?}") };
    let shown = |price: Option<tapedeck_market::Price>| price.map(|price| price.to_string()).unwrap_or_default();
    assert_eq!([shown(ticker.bid), shown(ticker.ask), shown(ticker.last)], ["52609.5", "52609.6", "52609.6"]);
    assert_eq!(
        (ticker.today.trades, ticker.day.trades, shown(ticker.today.open)),
        (Some(23_329), Some(80_463), "52280.4".into())
    );
    assert_eq!(ticker.bid_whole_lots.map(|lots| lots.to_string()).as_deref(), Some("3"));
    assert!(ticker.refused.is_empty());

    let packed = [pack(&positional("XXBTZUSD", "52609.5")), pack(&rest_map("XXBTZUSD"))];
    let json = rest_map("XXBTZUSD").to_string();
    let string_of_json = serde_json::to_string(&json).expect("JSON");
    let with_time = soh("kraken_tick", &format!("1767607200.5|{TICK}"));
    for frames in [
        vec![b"kraken_tick".as_slice(), &packed[0]],
        vec![b"kraken_tick", &packed[1]],
        vec![b"kraken_tick", json.as_bytes()],
        vec![&[b"kraken_tick ".as_slice(), &packed[1]].concat()],
        vec![string_of_json.as_bytes()],
        vec![json.as_bytes()],
    ] {
        assert_eq!(one(decoder.decode(&frames)), text, "{frames:?}");
    }
    let (symbol, ts_event, body) = one(decoder.decode(&[&with_time]));
    assert_eq!((symbol.as_str(), ts_event), ("kraken:BTC/USD", Some(1_767_607_200_500_000_000)));
    assert_eq!(body, text.2);
}

#[test]
fn three_hundred_oanda_ticks_keep_their_nanoseconds() {
    let mut decoder = decoder("topics = ['oanda_tick']");
    for n in 0..300 {
        let fields = format!("EUR_USD|2026-01-05T10:00:00.{:09}Z|1.08230|1.08245", 123_456_000 + n);
        let (symbol, ts_event, body) = one(decoder.decode(&[&soh("oanda_tick", &fields)]));
        assert_eq!((symbol.as_str(), ts_event), ("oanda:EUR_USD", Some(1_767_607_200_123_456_000 + n)));
        let Body::Quote(quote) = body else { panic!("{body:?}") };
        assert_eq!(quote.bid.map(|bid| bid.to_string()).as_deref(), Some("1.08230"), "trailing zeros stay");
    }
    let (_, milliseconds, _) = one(decoder.decode(&[&soh("oanda_tick", "EUR_USD|1767607200123|1.1|1.2")]));
    assert_eq!(milliseconds, Some(1_767_607_200_123_000_000), "as the bridge wanted them");
}

#[test]
fn a_nan_price_is_rejected_alone() {
    let mut decoder = decoder("");
    let mut said = (0, Vec::new());
    for n in 0..3_000 {
        let fields = if n == 1_500 { TICK.replace("52609.5", "nan") } else { TICK.to_owned() };
        let decoded = decoder.decode(&[&soh("kraken_tick", &fields)]);
        said.0 += decoded.events.len();
        said.1.extend(reasons(&decoded));
    }
    assert_eq!(said, (2_999, vec!["number"]));

    let mut body = positional("XXBTZUSD", "nan");
    body["result"]["XETHZUSD"] = positional("XETHZUSD", "1.5")["result"]["XETHZUSD"].clone();
    let decoded = decoder.decode(&[b"kraken_tick", &pack(&body)]);
    assert_eq!((decoded.events.len(), reasons(&decoded)), (1, vec!["number"]), "the other pair of the message stays");
    assert_eq!(decoded.events[0].0.symbol, "ETH/USD");
}

#[test]
fn a_statistic_that_is_no_number_costs_only_itself() {
    let (_, _, body) = one(decoder("").decode(&[&soh("kraken_tick", &TICK.replace("7954.0", "inf"))]));
    let Body::Ticker(ticker) = body else { panic!("{body:?}") };
    assert_eq!(ticker.day.volume, None);
    assert_eq!(ticker.refused, [("day.volume".into(), "inf".into())]);
    let (_, _, body) = one(decoder("").decode(&[&soh("kraken_tick", &TICK.replace("7954.0", "None"))]));
    let Body::Ticker(ticker) = body else { panic!("{body:?}") };
    assert_eq!((ticker.day.volume, ticker.refused.len()), (None, 0), "what Python prints for nothing is nothing");
}

#[test]
fn depth_and_synthetics_are_read() {
    let mut decoder = decoder("");
    let depth = r#"{"error":[],"result":{"XXBTZUSD":{"asks":[["52609.6","1.106",1616663113]],"bids":[["52609.5","0.3",1616663112]]}}}"#;
    for frames in [
        vec![[b"kr_depth ", depth.as_bytes()].concat()],
        vec![b"kraken_depth".to_vec(), depth.as_bytes().to_vec()],
        vec![[b"kr_order_book ", depth.as_bytes()].concat()],
    ] {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let (symbol, _, body) = one(decoder.decode(&frames));
        let Body::Book(book) = body else { panic!("{body:?}") };
        assert_eq!((symbol.as_str(), book.snapshot, book.asks.len(), book.bids.len()), ("kraken:BTC/USD", true, 1, 1));
        assert_eq!(book.asks[0].size.to_string(), "1.106");
    }
    let tick = "XXBTZUSD|1.08123|1.08201|XETHZEUR|1.0811|1.08195|0.00085|0.00091|0.00072";
    let (symbol, _, body) = one(decoder.decode(&[&soh("kr_eurusd_tick", tick)]));
    let Body::Synthetic(synthetic) = body else { panic!("{body:?}") };
    assert_eq!(
        (symbol.as_str(), synthetic.legs.len(), synthetic.legs[1].instrument.as_str()),
        ("kraken:KR_EURUSD", 2, "ETH/EUR")
    );
    assert_eq!(synthetic.spread_ask.map(|spread| spread.to_string()).as_deref(), Some("0.00072"));
    let depth = "A|1|2|3|4|5|6|B|7|8|9|10|11|12|13|14|15";
    let (symbol, _, body) = one(decoder.decode(&[&soh("kr_eurusd_depth", depth)]));
    assert_eq!(symbol, "kraken:KR_EURUSD_DEPTH");
    let Body::Synthetic(synthetic) = body else { panic!("{body:?}") };
    assert_eq!(synthetic.legs[1].leg_ask_size.map(|size| size.to_string()).as_deref(), Some("12"));
}

#[test]
fn the_twin_of_a_tick_is_not_recorded_twice_but_read_where_it_is_alone() {
    let tick = |n: u32| format!("2026-01-05T10:00:00.{n:09}Z|1.08230|1.08245");
    let mut all = decoder("");
    let mut count = 0;
    for n in 0..10 {
        let main = all.decode(&[&soh("oanda_tick", &format!("EUR_USD|{}", tick(n)))]);
        let twin = all.decode(&[&soh("EUR_USD", &if n % 2 == 0 { tick(n) } else { format!("EUR_USD|{}", tick(n)) })]);
        assert_eq!((reasons(&main), reasons(&twin)), (vec![], vec![]));
        count += main.events.len() + twin.events.len();
    }
    assert_eq!(count, 10);
    let (symbol, ts_event, _) = one(decoder("topics = ['EUR_USD']").decode(&[&soh("EUR_USD", &tick(7))]));
    assert_eq!((symbol.as_str(), ts_event), ("oanda:EUR_USD", Some(1_767_607_200_000_000_007)));
}

#[test]
fn maps_of_examples_and_of_other_decks_are_read() {
    let mut decoder = decoder("");
    let example =
        json!({"timestamp": 1767607200.5, "instrument": "EURUSD", "bid": 1.08234, "ask": 1.08245, "volume": 1000000});
    let (symbol, ts_event, body) = one(decoder.decode(&[b"kraken_tick", &pack(&example)]));
    assert_eq!((symbol.as_str(), ts_event), ("kraken:EURUSD", Some(1_767_607_200_500_000_000)));
    let Body::Ticker(ticker) = body else { panic!("{body:?}") };
    assert_eq!(ticker.bid.map(|bid| bid.to_string()).as_deref(), Some("1.08234"));

    let tape = "99999999-2222-4333-8444-555555555555";
    let theirs = json!({"seq": 7, "prev": 3, "tape": tape, "ts_event": 1767607200123456789_i64, "ts_recv": 1767607200123456790_i64,
        "timestamp": 1767607200.1, "instrument": "BTC/USD", "price": 1.5, "size": 2.0, "side": "buy", "id": "9"});
    let decoded = decoder.decode(&[b"trade.kraken", &pack(&theirs)]);
    assert_eq!(decoded.events[0].1.map(|origin| (origin.tape.to_string(), origin.seq)), Some((tape.to_owned(), 7)));
    let (symbol, ts_event, body) = one(decoded);
    assert_eq!((symbol.as_str(), ts_event), ("kraken:BTC/USD", Some(1_767_607_200_123_456_789)));
    assert!(matches!(body, Body::Trade(_)));
    let beat = decoder.decode(&[b"heartbeat", &pack(&json!({"tape": tape, "ts": 1, "last": {"trade.kraken": 7}}))]);
    assert_eq!((beat.events.len(), beat.rejects.len(), beat.own), (0, 0, false));
}

#[test]
fn our_own_bus_is_recognised_by_its_tape() {
    let mut decoder = decoder("topics = ['kraken_tick']");
    let own = "11111111-2222-4333-8444-555555555555";
    for (topic, map) in [
        ("kraken_tick", json!({"seq": 7, "tape": own, "instrument": "A", "bid": 1.0, "ask": 2.0})),
        ("heartbeat", json!({"tape": own, "ts": 1, "last": {}})),
    ] {
        let decoded = decoder.decode(&[topic.as_bytes(), &pack(&map)]);
        assert!(decoded.own && decoded.events.is_empty() && decoded.rejects.is_empty(), "{topic}: {decoded:?}");
    }
}

#[test]
fn a_publisher_of_ones_own_becomes_points_without_a_word_of_config() {
    let mut decoder = decoder("");
    let (symbol, ts_event, body) =
        one(decoder.decode(&[b"my_topic", &pack(&json!({"timestamp": 1767607200.25, "value": 42}))]));
    assert_eq!((symbol.as_str(), ts_event), ("zmq:", Some(1_767_607_200_250_000_000)));
    let Body::Point(point) = body else { panic!("{body:?}") };
    assert_eq!((point.name.as_str(), point.fields.as_slice()), ("my_topic", &[("value".into(), Value::Int(42))][..]));

    let nested =
        json!({"timestamp": 1767607200.25, "prices": {"EURUSD": 1.08, "USDJPY": 149.2}, "source": "custom_feed"});
    let (_, _, body) = one(decoder.decode(&[b"custom_prices", &pack(&nested)]));
    let Body::Point(point) = body else { panic!("{body:?}") };
    let names: Vec<&str> = point.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["prices.EURUSD", "prices.USDJPY", "source"]);
}

#[test]
fn a_topic_is_mapped_by_config() {
    let mut decoder = decoder(
        "[topics.deals]
         body = 'trade'
         venue = 'desk'
         columns = ['when', 'what', 'p', 'n', '', 's']
         separator = ','
         fields = { price = 'p', size = 'n', side = 's' }
         symbol = 'what'
         time = 'when'
         time_unit = 'ms'
         [topics.weather]
         name = 'climate'
         fields = { celsius = 't' }
         types = { celsius = 'decimal', level = 'int', note = 'text' }
         tags = ['place', 'country']
         constants = { country = 'PL', version = 2 }
         skip = ['debug']
         [topics.chatter]
         body = 'skip'",
    );
    let (symbol, ts_event, body) = one(decoder.decode(&[b"deals 1767607200123,ACME,101.50,3,ignored,SELL"]));
    assert_eq!((symbol.as_str(), ts_event), ("desk:ACME", Some(1_767_607_200_123_000_000)));
    let Body::Trade(trade) = body else { panic!("{body:?}") };
    assert_eq!((trade.price.to_string().as_str(), trade.size.to_string().as_str()), ("101.50", "3"));
    assert_eq!(trade.side, Some(tapedeck_market::Side::Sell));

    let weather = json!({"place": "Gdynia", "t": "7.50", "level": "3", "note": 5, "debug": "x"});
    let (_, _, body) = one(decoder.decode(&[b"weather", &pack(&weather)]));
    let Body::Point(point) = body else { panic!("{body:?}") };
    assert_eq!(point.name, "climate");
    assert_eq!(point.tags, [("place".into(), "Gdynia".into()), ("country".into(), "PL".into())]);
    let celsius = Value::Decimal("7.50".parse().expect("a decimal"));
    let fields = [
        ("level".into(), Value::Int(3)),
        ("note".into(), Value::Text("5".into())),
        ("celsius".into(), celsius),
        ("version".into(), Value::Int(2)),
    ];
    assert_eq!(point.fields, fields);

    let skipped = decoder.decode(&[b"chatter", b"whatever \xff"]);
    assert_eq!(skipped.events.len(), 0);
    let refused = decoder.decode(&[b"deals 1767607200123,ACME,abc,3,,BUY"]);
    assert_eq!(reasons(&refused), ["number"]);
    assert_eq!(reasons(&decoder.decode(&[b"deals 1,2"])), ["fields"]);
}

#[test]
fn a_body_without_a_topic_is_described_by_the_topic_it_belongs_to() {
    let mut decoder = decoder("[topics.kraken_tick]\nvenue = 'old'");
    let string = serde_json::to_string(&rest_map("XXBTZUSD").to_string()).expect("JSON");
    assert_eq!(one(decoder.decode(&[string.as_bytes()])).0, "old:BTC/USD");
}

#[test]
fn what_is_not_understood_has_a_reason() {
    let mut decoder = decoder("unknown = 'reject'");
    let cases: [(&[&[u8]], &str); 12] = [
        (&[], "frames"),
        (&[b"a", b"b", b"c"], "frames"),
        (&[b""], "topic"),
        (&[b"nospace"], "topic"),
        (&[b"\xff\xfe", b"x"], "topic"),
        (&[b"kraken_tick", b""], "payload"),
        (&[b"kraken_tick", b"\xc1"], "payload"),
        (&[b"kraken_tick", b"{broken"], "payload"),
        (&[b"kraken_tick a\x01b"], "fields"),
        (&[b"oanda_tick EUR_USD\x01yesterday\x011\x012"], "time"),
        (&[b"kraken_tick", b"{\"error\":[\"EService:Busy\"]}"], "venue error"),
        (&[b"other", b"{\"v\":1}"], "topic"),
    ];
    for (frames, reason) in cases {
        let decoded = decoder.decode(frames);
        assert_eq!((decoded.events.len(), reasons(&decoded)), (0, vec![reason]), "{frames:?}");
    }
    assert_eq!(reasons(&decoder.decode(&[b"oanda_heartbit (datetime.datetime(2026, 1, 5), 1)"])), Vec::<&str>::new());
}

#[test]
fn a_longer_neighbour_of_a_topic_was_not_asked_for() {
    let decoded = decoder("topics = ['kraken_tick']").decode(&[&soh("kraken_tick_test", "1|2")]);
    assert_eq!((decoded.events.len(), decoded.rejects.len()), (0, 0));
}

proptest! {
    #[test]
    fn any_message_is_events_or_rejects_and_what_is_an_event_can_be_written(
        topic in prop_oneof![Just("kraken_tick"), Just("kr_depth"), Just("oanda_tick"), Just("kr_eurusd_depth"), Just("trade.x"), Just("other"), Just("EUR_USD")],
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[ -~\u{1}]{0,120}".prop_map(String::into_bytes),
            proptest::collection::vec("[0-9.]{0,8}", 0..24).prop_map(|fields| fields.join("\u{1}").into_bytes()),
        ],
        one_frame: bool,
    ) {
        let mut decoder = decoder("");
        let whole = [topic.as_bytes(), b" ", &payload].concat();
        let decoded = if one_frame { decoder.decode(&[&whole]) } else { decoder.decode(&[topic.as_bytes(), &payload]) };
        for (made, _) in &decoded.events {
            let event = tapedeck_market::Event {
                source: "z".into(), venue: made.venue.clone(), symbol: made.symbol.clone(), ts_event: made.ts_event,
                ts_recv: tapedeck_market::UnixNanos(1), flags: tapedeck_market::Flags::NONE, origin: None, body: made.body.clone(),
            };
            let mut bytes = Vec::new();
            tapedeck_market::wire::encode(&event, &mut bytes);
            prop_assert_eq!(tapedeck_market::wire::decode(&bytes).expect("an event"), event);
        }
    }
}
