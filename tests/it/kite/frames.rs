//! The parsers, without a network.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use tapedeck::sources::kite::Divisors;
use tapedeck::sources::kite::frame::{Ctx, Frame, Reader, Wanted, odd};
use tapedeck::sources::kite::text::{self, Text};
use tapedeck_market::{Body, BookUpdate, Event, Flags, Quote, Side, Ticker, UnixNanos, wire};

pub(super) const INFY: u32 = 408_065;
const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

fn ctx() -> Ctx {
    Ctx { source: "k".into(), venue: "kite".into() }
}

pub(super) fn reader() -> Reader {
    let symbols = [(INFY, "NSE:INFY"), (256_265, "NSE:NIFTY 50")].map(|(token, name)| (token, name.into()));
    let wanted = Wanted { ticker: true, quote: true, book: true };
    Reader { ctx: ctx(), divisors: Divisors::default(), wanted, symbols: symbols.into_iter().collect() }
}

/// A frame of packets.
fn frame(packets: &[&[u8]]) -> Vec<u8> {
    let mut bytes = (packets.len() as u16).to_be_bytes().to_vec();
    for packet in packets {
        bytes.extend((packet.len() as u16).to_be_bytes());
        bytes.extend_from_slice(packet);
    }
    bytes
}

/// A packet of a length, with a token and numbers that count up.
fn packet(token: u32, len: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len as u32 / 4).flat_map(|at| (at * 100).to_be_bytes()).collect();
    packet.resize(len, 0);
    packet[..4].copy_from_slice(&token.to_be_bytes());
    packet
}

fn read(bytes: &[u8]) -> Frame {
    reader().read(bytes, AT).expect("a frame")
}

fn ticker(event: &Event) -> &Ticker {
    match &event.body {
        Body::Ticker(ticker) => ticker,
        other => panic!("{other:?}"),
    }
}

fn shown(number: Option<impl std::fmt::Display>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[test]
fn each_length_has_its_fields_in_its_order() {
    let lengths = [8, 28, 32, 44, 184].map(|len| packet(INFY, len));
    let all: Vec<&[u8]> = lengths.iter().map(Vec::as_slice).collect();
    let frame = read(&frame(&all));
    assert_eq!(frame.packets, [(INFY, 1), (INFY, 1), (INFY, 1), (INFY, 1), (INFY, 3)]);
    let stats = |event: &Event| {
        let it = ticker(event);
        let today = &it.today;
        [
            shown(it.last),
            shown(today.open),
            shown(today.high),
            shown(today.low),
            shown(it.prev_close),
            shown(today.volume),
        ]
    };
    assert_eq!(stats(&frame.events[0]), ["1.00", "-", "-", "-", "-", "-"]);
    // High, low, open, close of an index; open, high, low, close of all others.
    assert_eq!(stats(&frame.events[1]), ["1.00", "4.00", "2.00", "3.00", "5.00", "-"]);
    assert_eq!(stats(&frame.events[3]), ["1.00", "7.00", "8.00", "9.00", "10.00", "400"]);
    let full = ticker(&frame.events[4]);
    assert_eq!([full.oi, full.oi_high, full.oi_low].map(shown), ["1200", "1300", "1400"]);
    assert_eq!(shown(ticker(&frame.events[1]).change), "6.00");
    assert_eq!(frame.events[2].ts_event, Some(UnixNanos::from_secs(700)));
    assert_eq!((frame.events[0].ts_event, frame.events[3].ts_event), (None, None), "the venue tells no time");
    let Body::Quote(Quote { bid, bid_size, ask, ask_size }) = &frame.events[5].body else { panic!() };
    assert_eq!([shown(*bid), shown(*bid_size), shown(*ask), shown(*ask_size)], ["17.00", "1600", "32.00", "3100"]);
    let Body::Book(BookUpdate { snapshot: true, bids, asks, depth: Some(5), .. }) = &frame.events[6].body else {
        panic!()
    };
    assert_eq!((bids.len(), asks.len()), (5, 5));
}

#[test]
fn prices_have_the_digits_of_their_segment_and_an_unknown_one_is_tagged() {
    for (segment, price) in [(1_u32, "1.00"), (3, "0.0000100"), (6, "0.0100"), (7, "1.00"), (9, "1.00"), (12, "0.0100")]
    {
        let read = read(&frame(&[&packet(256 + segment, 8)]));
        assert_eq!(shown(ticker(&read.events[0]).last), price, "segment {segment}");
        assert_eq!((read.odd.as_slice(), ticker(&read.events[0]).refused.len()), (&[][..], 0));
        assert_eq!(read.events[0].symbol, (256 + segment).to_string(), "a token without a name is its own");
    }
    let read = read(&frame(&[&packet(0x01ee, 8)]));
    assert_eq!(read.odd, [odd::SEGMENT]);
    assert_eq!(ticker(&read.events[0]).refused, [("segment".into(), "238".into())]);
}

#[test]
fn an_index_may_fall() {
    let mut bytes = packet(256_265, 28);
    bytes[24..28].copy_from_slice(&(-36_i32).to_be_bytes());
    assert_eq!(shown(ticker(&read(&frame(&[&bytes])).events[0]).change), "-0.36");
}

#[test]
fn times_that_are_zero_or_absurd_are_kept_flagged_and_counted() {
    let with = |traded: u32, told: u32| {
        let mut full = packet(INFY, 184);
        full[44..48].copy_from_slice(&traded.to_be_bytes());
        full[60..64].copy_from_slice(&told.to_be_bytes());
        let frame = read(&frame(&[&full]));
        let traded = ticker(&frame.events[0]).last_trade_time.map(|time| time.0 / 1_000_000_000);
        (frame.odd, frame.events[0].flags.contains(Flags::ABSURD_TIME), traded)
    };
    let now = (AT.0 / 1_000_000_000) as u32;
    assert_eq!(with(now - 9, now), (vec![], false, Some(i64::from(now) - 9)));
    assert_eq!(with(0, now), (vec![odd::NEVER_TRADED], false, None));
    assert_eq!(with(now, 0), (vec![odd::NO_TIME], true, Some(i64::from(now))));
    assert_eq!(with(u32::MAX, now), (vec![odd::ABSURD_TRADE_TIME], false, None));
    assert_eq!(with(now, u32::MAX), (vec![odd::ABSURD_TIME], true, Some(i64::from(now))));
}

#[test]
fn an_empty_side_is_no_price() {
    let mut full = packet(INFY, 184);
    full[64..].fill(0);
    let frame = read(&frame(&[&full]));
    assert!(matches!(&frame.events[1].body, Body::Quote(quote) if *quote == Quote::default()), "{:?}", frame.events[1]);
    assert!(matches!(&frame.events[2].body, Body::Book(book) if book.bids.is_empty() && book.asks.is_empty()));
}

#[test]
fn what_is_not_understood_is_stepped_over_and_what_is_cut_short_read_as_far_as_it_goes() {
    let (known, strange) = (packet(INFY, 8), packet(INFY, 164));
    let read = |bytes: &[u8]| reader().read(bytes, AT);
    let frame_of = read(&frame(&[&strange, &known])).expect("a frame");
    assert_eq!(
        (frame_of.events.len(), frame_of.odd.as_slice(), frame_of.unknown_lengths.as_slice()),
        (1, &[odd::LENGTH][..], &[164][..])
    );
    let whole = frame(&[&known, &known]);
    for cut in 0..whole.len() {
        match read(&whole[..cut]) {
            Err(error) => assert_eq!((cut, error.reason), (0, "unexpected shape")),
            Ok(frame) => {
                assert_eq!(frame.events.len(), cut.saturating_sub(2) / 10, "cut at {cut}");
                assert_eq!(frame.broken.is_some(), cut > 1, "cut at {cut}");
            }
        }
    }
    let mut promised = whole.clone();
    promised[..2].copy_from_slice(&u16::MAX.to_be_bytes());
    let broken = read(&promised).expect("a frame");
    assert_eq!(broken.events.len(), 2);
    let said = broken.broken.expect("broken").to_string();
    assert_eq!(said, "frame cut short: 65535 packets are promised, 2 are whole, 0 bytes are left");
    let mut longer = whole;
    longer.push(1);
    assert_eq!(read(&longer).expect("a frame").odd, [odd::BEHIND]);
    assert_eq!(read(&[0]).expect("a heartbeat"), Frame::default());
}

#[test]
fn only_what_is_wanted_is_made() {
    for (ticker, quote, book, kinds) in
        [(true, false, false, "ticker"), (false, true, false, "quote"), (false, false, true, "book")]
    {
        let reader = Reader { wanted: Wanted { ticker, quote, book }, ..reader() };
        let frame = reader.read(&frame(&[&packet(INFY, 184)]), AT).expect("a frame");
        let made: Vec<&str> = frame.events.iter().map(|event| event.body.kind().name()).collect();
        assert_eq!((made, frame.packets), (vec![kinds], vec![(INFY, 1)]));
    }
}

fn parse(text: &str) -> Text {
    text::parse(text.as_bytes(), AT, &ctx()).expect(text)
}

#[test]
fn the_venues_postback_is_an_order_without_its_account() {
    let Some(folder) = std::env::var_os("TAPEDECK_FIXTURES") else {
        return crate::skipped::skipped("TAPEDECK_FIXTURES is not set");
    };
    let path = std::path::Path::new(&folder).join("kite/mocks/postback.json");
    let postback = std::fs::read_to_string(path).expect("the mock");
    let text = format!("{{\"type\":\"order\",\"data\":{postback}}}");
    let Text::Order(event) = parse(&text) else { panic!() };
    assert_eq!(
        (event.symbol.as_str(), shown(event.ts_event)),
        ("NSE:SBIN", "2022-03-03T03:54:25.000000000Z".to_owned())
    );
    let Body::Order(order) = &event.body else { panic!() };
    let texts = [&order.action, order.id.as_ref().unwrap(), order.order_type.as_ref().unwrap()];
    assert_eq!(texts, ["COMPLETE", "220303000308932", "MARKET"]);
    let numbers = [shown(order.price), shown(order.size), shown(order.filled), shown(order.avg_price)];
    assert_eq!((order.side, numbers), (Some(Side::Buy), ["-", "1", "1", "470"].map(str::to_owned)));
    let raw = order.raw.as_ref().unwrap();
    assert!(!raw.contains("AB1234") && raw.contains("***") && raw.contains("2011845d9348bd67"), "{raw}");
    assert!(!String::from_utf8_lossy(&text::masked(text.as_bytes())).contains("AB1234"));
}

#[test]
fn the_account_is_hidden_whatever_became_of_the_frame() {
    let whole = r#"{"type":"order","data":{"exchange":"NSE","tradingsymbol":"A","user_id": 471147,"placed_by" :"471147","x":1}}"#;
    let Text::Order(event) = parse(whole) else { panic!() };
    let Body::Order(order) = &event.body else { panic!() };
    let raw = order.raw.as_ref().unwrap();
    assert!(!raw.contains("471147") && raw.contains("\"x\":1"), "{raw}");
    for len in 0..=whole.len() {
        let hidden = text::masked(&whole.as_bytes()[..len]);
        assert!(!String::from_utf8_lossy(&hidden).contains("4711"), "cut at {len}: {hidden:?}");
        if let Err(error) = text::parse(&whole.as_bytes()[..len], AT, &ctx()) {
            assert!(!error.to_string().contains("4711"), "{error}");
        }
    }
    let mut broken = whole.as_bytes().to_vec();
    broken.push(0xff);
    assert!(memchr::memmem::find(&text::masked(&broken), b"4711").is_none());
}

#[test]
fn other_texts_are_told_apart() {
    assert_eq!(parse(r#"{"type":"error","data":"no \"such\" token"}"#), Text::Error("no \"such\" token".into()));
    assert_eq!(parse(r#"{"type":"message","data":{"a":1}}"#), Text::Message("{\"a\":1}".into()));
    assert_eq!(parse(r#"{"type":"weather","data":null}"#), Text::Unknown);
    for (text, reason) in [
        ("", "not a message"),
        ("{\"type\":", "not a message"),
        ("[]", "unexpected shape"),
        (r#"{"type":"order","data":{"order_id":"1"}}"#, "unexpected shape"),
        (r#"{"type":"order","data":{"exchange":"NSE","tradingsymbol":"A","quantity":1e99}}"#, "number refused"),
    ] {
        let error = text::parse(text.as_bytes(), AT, &ctx()).expect_err(text);
        assert_eq!(error.reason, reason, "{text}: {error}");
    }
}

/// Something like a frame, and far from it.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        4 => proptest::sample::select(vec![8_usize, 28, 32, 44, 184]),
        1 => 0_usize..300,
    ];
    let packet = len.prop_flat_map(|len| proptest::collection::vec(any::<u8>(), len));
    let packets = proptest::collection::vec(packet, 0..6);
    let whole = (packets, any::<Option<u16>>(), 0_usize..1_200).prop_map(|(packets, count, cut)| {
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let mut bytes = frame(&packets);
        if let Some(count) = count {
            bytes[..2].copy_from_slice(&count.to_be_bytes());
        }
        bytes.truncate(cut.max(1));
        bytes
    });
    prop_oneof![8 => whole, 1 => proptest::collection::vec(any::<u8>(), 0..300)]
}

/// Something like a text frame.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let key = proptest::sample::select(
        &["exchange", "tradingsymbol", "order_id", "status", "price", "quantity", "user_id", "exchange_timestamp", "x"]
            [..],
    );
    let value = prop_oneof![
        "\"[ -~&&[^\"\\\\]]{0,12}\"",
        "-?[0-9]{1,25}",
        "\"20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:]{0,9}\"",
        "null|true|\\{\\}",
    ];
    let object = proptest::collection::btree_map(key, value, 0..9).prop_map(|fields: BTreeMap<&str, String>| {
        let fields: Vec<String> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{\"type\":\"order\",\"data\":{{{}}}}}", fields.join(",")).into_bytes()
    });
    prop_oneof![6 => object, 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

fn survives(events: &[Event], len: usize) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    for event in events {
        let from = bytes.len();
        wire::encode(event, &mut bytes);
        prop_assert_eq!(&wire::decode(&bytes[from..]).unwrap(), event);
    }
    prop_assert!(bytes.len() <= (len + 1) * 64, "{} bytes of {}", bytes.len(), len);
    Ok(())
}

proptest! {
    #[test]
    fn no_frame_panics_and_what_is_understood_survives_the_tape(bytes in bytes()) {
        if let Ok(frame) = reader().read(&bytes, AT) {
            let events: usize = frame.packets.iter().map(|(_, events)| usize::from(*events)).sum();
            prop_assert_eq!(events, frame.events.len());
            survives(&frame.events, bytes.len())?;
        }
    }

    #[test]
    fn no_text_panics_and_an_order_survives_the_tape(bytes in texts()) {
        prop_assert!(text::masked(&bytes).len() <= bytes.len() * 3);
        if let Ok(Text::Order(event)) = text::parse(&bytes, AT, &ctx()) {
            survives(&[*event], bytes.len())?;
        }
    }
}

/// What the venue's own client makes of a packet, compared with our events of it.
pub(super) fn same_as_the_clients(events: &[Event], want: &Value) {
    let ticker = ticker(&events[0]);
    let number = |ours: Option<String>, theirs: &Value| {
        let (Some(ours), false) = (&ours, theirs.is_null()) else {
            assert!(ours.is_none() && theirs.is_null(), "{ours:?} {theirs}");
            return;
        };
        let decimal = |text: &str| text.parse::<tapedeck_market::Decimal>().expect("a number");
        assert_eq!(decimal(ours), decimal(&theirs.to_string()));
    };
    fn text(value: Option<impl std::fmt::Display>) -> Option<String> {
        value.map(|value| value.to_string())
    }
    number(text(ticker.last), &want["last_price"]);
    number(text(ticker.last_size), &want["last_traded_quantity"]);
    number(text(ticker.avg_price), &want["average_traded_price"]);
    number(text(ticker.today.volume), &want["volume_traded"]);
    number(text(ticker.buy_size), &want["total_buy_quantity"]);
    number(text(ticker.sell_size), &want["total_sell_quantity"]);
    for (ours, name) in [
        (ticker.today.open, "open"),
        (ticker.today.high, "high"),
        (ticker.today.low, "low"),
        (ticker.prev_close, "close"),
    ] {
        number(text(ours), &want["ohlc"][name]);
    }
    for (ours, name) in [(ticker.oi, "oi"), (ticker.oi_high, "oi_day_high"), (ticker.oi_low, "oi_day_low")] {
        number(text(ours), &want[name]);
    }
    let secs = |time: Option<UnixNanos>| time.map(|time| (time.0 / 1_000_000_000).to_string());
    number(secs(ticker.last_trade_time), &want["last_trade_time"]);
    number(secs(events[0].ts_event), &want["exchange_timestamp"]);
    if want["depth"].is_null() {
        assert_eq!(events.len(), 1);
        return;
    }
    let (Body::Quote(quote), Body::Book(book)) = (&events[1].body, &events[2].body) else { panic!("{events:?}") };
    for (side, best, ours) in
        [("buy", (quote.bid, quote.bid_size), &book.bids), ("sell", (quote.ask, quote.ask_size), &book.asks)]
    {
        let levels = want["depth"][side].as_array().expect("levels");
        assert_eq!(levels.len(), ours.len());
        number(text(best.0), &levels[0]["price"]);
        number(text(best.1), &levels[0]["quantity"]);
        for (ours, theirs) in ours.iter().zip(levels) {
            number(Some(ours.price.to_string()), &theirs["price"]);
            number(Some(ours.size.to_string()), &theirs["quantity"]);
            number(ours.orders.map(|orders| orders.to_string()), &theirs["orders"]);
        }
    }
}
