//! The fast reader and the general one say the same of every frame that the fast one takes.

use std::fmt::Write as _;

use proptest::prelude::*;
use tapedeck_market::{SmolStr, UnixNanos};

use super::message::{Ctx, Message};
use super::parse::{parse, parse_any_order};
use super::scan::scan;

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

fn ctx() -> Ctx {
    Ctx { source: SmolStr::new_static("kraken"), venue: SmolStr::new_static("kraken") }
}

/// A key with its value as JSON text.
type Field = (&'static str, String);

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (any::<bool>(), 0_u64..100_000_000, 0_usize..9, 0_u64..100_000_000).prop_map(|(negative, whole, digits, part)| {
            let sign = if negative { "-" } else { "" };
            match digits {
                0 => format!("{sign}{whole}"),
                _ => format!("{sign}{whole}.{:0digits$}", part % 10_u64.pow(digits as u32)),
            }
        }),
        1 => (1_u32..1000, 1_u32..12).prop_map(|(digits, exponent)| format!("{digits}e-{exponent:02}")),
        // Too long, or not a number at all.
        1 => prop_oneof!["[0-9]{15,25}", "0\\.[0-9]{15,25}", "-?0[0-9]", "[0-9]\\.", "\"[0-9]{1,4}\\.5\""],
    ]
}

fn symbol() -> impl Strategy<Value = String> {
    prop_oneof![6 => "[A-Z0-9]{2,6}/(USD|EUR|BTC)", 1 => "[A-Zé\\\\]{1,4}/USD"]
        .prop_map(|text| serde_json::to_string(&text).expect("a string"))
}

fn timestamp() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => (0_u32..60, 0_u32..1_000_000).prop_map(|(s, us)| format!("\"2026-07-19T17:54:{s:02}.{us:06}Z\"")),
        1 => Just("\"1970-01-01T00:00:00Z\"".to_owned()),
        1 => Just("\"soon\"".to_owned()),
    ]
}

fn trade() -> impl Strategy<Value = Vec<Field>> {
    (symbol(), "(buy|sell|both)", number(), number(), 0_u64..1_000_000_000, timestamp()).prop_map(
        |(symbol, side, price, qty, id, timestamp)| {
            vec![
                ("symbol", symbol),
                ("side", format!("\"{side}\"")),
                ("price", price),
                ("qty", qty),
                ("ord_type", "\"limit\"".to_owned()),
                ("trade_id", id.to_string()),
                ("timestamp", timestamp),
            ]
        },
    )
}

fn ticker() -> impl Strategy<Value = Vec<Field>> {
    const KEYS: [&str; 11] =
        ["bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap", "low", "high", "change", "change_pct"];
    (symbol(), prop::collection::vec(number(), KEYS.len()), proptest::option::of(timestamp())).prop_map(
        |(symbol, numbers, timestamp)| {
            let mut fields = vec![("symbol", symbol)];
            fields.extend(KEYS.into_iter().zip(numbers));
            fields.extend(timestamp.map(|timestamp| ("timestamp", timestamp)));
            fields
        },
    )
}

fn levels() -> impl Strategy<Value = String> {
    prop::collection::vec((number(), number()), 0..4).prop_map(|levels| {
        let levels: Vec<_> = levels.iter().map(|(p, q)| format!("{{\"price\":{p},\"qty\":{q}}}")).collect();
        format!("[{}]", levels.join(","))
    })
}

fn book() -> impl Strategy<Value = Vec<Field>> {
    (symbol(), levels(), levels(), any::<u32>(), proptest::option::of(timestamp())).prop_map(
        |(symbol, bids, asks, checksum, timestamp)| {
            let mut fields =
                vec![("symbol", symbol), ("bids", bids), ("asks", asks), ("checksum", checksum.to_string())];
            fields.extend(timestamp.map(|timestamp| ("timestamp", timestamp)));
            fields
        },
    )
}

/// How a frame departs from the usual form.
#[derive(Clone, Debug)]
enum Form {
    Usual,
    Permuted(Vec<prop::sample::Index>),
    Spaced,
    Extra(prop::sample::Index),
    Missing(prop::sample::Index),
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![
        4 => Just(Form::Usual),
        1 => prop::collection::vec(any::<prop::sample::Index>(), 3).prop_map(Form::Permuted),
        1 => Just(Form::Spaced),
        1 => any::<prop::sample::Index>().prop_map(Form::Extra),
        1 => any::<prop::sample::Index>().prop_map(Form::Missing),
    ]
}

fn render(channel: &str, kind: &str, items: &[Vec<Field>], form: &Form) -> String {
    let (colon, comma) = if matches!(form, Form::Spaced) { (" : ", " ,\n") } else { (":", ",") };
    let mut text = format!("{{\"channel\"{colon}\"{channel}\"{comma}\"type\"{colon}\"{kind}\"{comma}\"data\"{colon}[");
    for (at, fields) in items.iter().enumerate() {
        let mut fields = fields.clone();
        match form {
            Form::Permuted(swaps) => swaps.iter().for_each(|i| {
                let at = i.index(fields.len());
                fields.swap(0, at);
            }),
            Form::Extra(i) => fields.insert(i.index(fields.len() + 1), ("news", "{\"a\":[1,\"}\"]}".to_owned())),
            Form::Missing(i) => drop(fields.remove(i.index(fields.len()))),
            Form::Usual | Form::Spaced => {}
        }
        let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\"{colon}{value}")).collect();
        let _ = write!(text, "{}{{{}}}", if at > 0 { comma } else { "" }, fields.join(comma));
    }
    text.push_str("]}");
    text
}

fn frame() -> impl Strategy<Value = String> {
    let items = |item: BoxedStrategy<Vec<Field>>| prop::collection::vec(item, 1..4);
    let data = prop_oneof![
        items(trade().boxed()).prop_map(|items| ("trade", items)),
        items(ticker().boxed()).prop_map(|items| ("ticker", items)),
        items(book().boxed()).prop_map(|items| ("book", items)),
    ];
    (data, "(snapshot|update)", form()).prop_map(|((channel, items), kind, form)| render(channel, &kind, &items, &form))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn both_readers_agree_on_every_frame_that_the_fast_one_takes(frame in frame()) {
        if let Some(fast) = scan(frame.as_bytes(), AT, &ctx()) {
            let general = parse_any_order(frame.as_bytes(), AT, &ctx());
            // Decimals are equal by value, so the digits are compared as text.
            prop_assert_eq!(format!("{:?}", Ok::<_, super::message::ParseError>(fast)), format!("{general:?}"), "{}", frame);
        }
    }

    #[test]
    fn a_frame_cut_or_damaged_anywhere_gives_an_answer(frame in frame(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let at = at.index(frame.len());
        let _ = parse(&frame.as_bytes()[..at], AT, &ctx());
        let mut damaged = frame.into_bytes();
        damaged[at] = byte;
        let fast = scan(&damaged, AT, &ctx());
        let general = parse_any_order(&damaged, AT, &ctx());
        if let Some(fast) = fast {
            prop_assert_eq!(format!("{:?}", Ok::<_, super::message::ParseError>(fast)), format!("{general:?}"));
        }
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, AT, &ctx());
        let _ = super::v1::parse(&bytes, AT, &ctx());
    }
}

#[test]
fn the_venues_usual_frames_take_the_fast_way() {
    for frame in [
        r#"{"channel":"heartbeat"}"#,
        r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":81011.5,"qty":0.00123440,"ord_type":"limit","trade_id":100320028,"timestamp":"2026-05-14T15:06:09.020392Z"}]}"#,
        r#"{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":64525.0,"bid_qty":0.53807066,"ask":64525.1,"ask_qty":0.01077490,"last":64525.1,"volume":1250.12345678,"vwap":64000.1,"low":63000.0,"high":65000.0,"change":-250.0,"change_pct":-0.24,"timestamp":"2026-07-19T17:54:39.753424Z"}]}"#,
        r#"{"channel":"ticker","type":"update","data":[{"symbol":"ETH/USDT","bid":0.10025,"bid_qty":740.0,"ask":0.10035,"ask_qty":740.0,"last":0.10035,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,"change":-0.00017,"change_pct":-0.17}]}"#,
        r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":[{"price":64525.3,"qty":0.00309336}],"checksum":1848203113,"timestamp":"2026-07-19T17:54:39.768901Z"}]}"#,
    ] {
        assert!(scan(frame.as_bytes(), AT, &ctx()).is_some(), "{frame}");
    }
}

#[test]
fn a_ticker_keeps_what_does_not_fit_as_text() {
    let frame = r#"{"channel":"ticker","type":"update","data":[{"symbol":"A/B","bid":1.0,"volume":1234567890123456789.5,"change":null}]}"#;
    let Ok(Message::Events(events)) = parse(frame.as_bytes(), AT, &ctx()) else { panic!("{frame}") };
    let tapedeck_market::Body::Ticker(ticker) = &events[0].body else { panic!("{events:?}") };
    assert_eq!(ticker.refused, [("volume".into(), "1234567890123456789.5".into())]);
    assert_eq!((ticker.day.volume, ticker.change), (None, None));
    assert_eq!(ticker.bid.map(|bid| bid.to_string()).as_deref(), Some("1.0"));
}

#[test]
fn a_trade_or_level_that_does_not_fit_rejects_its_frame_and_says_why() {
    for frame in [
        r#"{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy","price":1234567890.12345678901,"qty":1,"trade_id":1}]}"#,
        r#"{"channel":"book","type":"update","data":[{"symbol":"A/B","bids":[{"price":1,"qty":0.1234567890123456789}],"asks":[],"checksum":1}]}"#,
    ] {
        let error = parse(frame.as_bytes(), AT, &ctx()).expect_err(frame);
        assert_eq!(error.reason, "number refused", "{error}");
        assert!(error.detail.contains("more than 18 digits"), "{error}");
    }
}

#[test]
fn answers_are_told_apart() {
    let read = |text: &str| parse(text.as_bytes(), AT, &ctx()).expect(text);
    let Message::Ack(ack) = read(
        r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD","warnings":["tick_size is deprecated"]},"success":true,"time_in":"2026-07-19T17:54:39.614696Z","time_out":"2026-07-19T17:54:39.614741Z","req_id":7}"#,
    ) else {
        panic!("no ack")
    };
    assert_eq!((ack.channel.as_str(), ack.symbol.as_deref(), ack.req_id), ("book", Some("BTC/USD"), Some(7)));
    assert_eq!((ack.depth, ack.warnings.len()), (Some(10), 1));
    assert_eq!(ack.time_out.map(|at| at.0), Some(1_784_483_679_614_741_000));

    let Message::Refusal(refusal) =
        read(r#"{"method":"subscribe","error":"Subscription depth not supported","success":false,"req_id":3}"#)
    else {
        panic!("no refusal")
    };
    assert_eq!((refusal.error.as_str(), refusal.req_id), ("Subscription depth not supported", Some(3)));
    assert_eq!(refusal.symbol, None);

    assert_eq!(read(r#"{"Error":"Exceeded msg rate"}"#), Message::RateExceeded);
    assert_eq!(read(r#"{"channel":"futures","data":[1]}"#), Message::Unknown);
    assert_eq!(read(r#"{"news":true}"#), Message::Unknown);
    assert!(matches!(read(r#"{"method":"pong","req_id":7}"#), Message::Pong { req_id: Some(7), time_out: None }));
}
