//! Encoding and decoding of events, beside rmp-serde on structs of the same shape, positional.

use std::hint::black_box;

use serde::{Deserialize, Serialize};
use tapedeck_benches::{compare, each, probe};
use tapedeck_market::{Body, Event, Flags, Side, SmolStr, Ticker, Trade, UnixNanos, wire};

/// The same fields in the same order: what `rmp-serde` writes for it are our bytes, but for the trailing absent ones.
#[derive(Clone, Serialize, Deserialize)]
struct Mirror<B>(u8, String, String, String, Option<i64>, i64, u32, Option<()>, u16, B);

type Num = (i64, u8);

#[derive(Clone, Serialize, Deserialize)]
struct MirrorTrade(Num, Num, Option<u8>, Option<String>);

#[derive(Clone, Default, Serialize, Deserialize)]
struct MirrorStats(Option<Num>, Option<Num>, Option<Num>, Option<Num>, Option<Num>, Option<u64>);

#[derive(Clone, Default, Serialize, Deserialize)]
struct MirrorTicker {
    head: [Option<Num>; 8],
    today: MirrorStats,
    day: MirrorStats,
    tail: [Option<Num>; 9],
    last_trade_time: Option<i64>,
    refused: Vec<(String, String)>,
}

fn event(body: Body) -> Event {
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: "BTC/USD".into(),
        ts_event: Some(UnixNanos(1_784_483_703_207_891_000)),
        ts_recv: UnixNanos(1_784_483_703_258_123_456),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn mirror<B>(kind: u16, body: B) -> Mirror<B> {
    let name = || "kraken".to_owned();
    Mirror(
        1,
        name(),
        name(),
        "BTC/USD".to_owned(),
        Some(1_784_483_703_207_891_000),
        1_784_483_703_258_123_456,
        0,
        None,
        kind,
        body,
    )
}

fn main() {
    probe(&std::env::temp_dir());
    let price = |text: &str| text.parse().expect("a price of this file");
    let size = |text: &str| text.parse().expect("a size of this file");
    let trade = Trade {
        price: price("64528.1"),
        size: size("0.00123440"),
        side: Some(Side::Buy),
        id: Some(SmolStr::new("100320028")),
    };
    let mirror_trade = MirrorTrade((645_281, 1), (123_440, 8), Some(0), Some("100320028".to_owned()));
    side_by_side("trade", &event(Body::Trade(trade)), &mirror(1, mirror_trade));

    let mut ticker = Ticker {
        last: Some(price("64528.1")),
        bid: Some(price("64528.0")),
        bid_size: Some(size("4.46783504")),
        ask: Some(price("64528.1")),
        ask_size: Some(size("0.01177486")),
        ..Ticker::default()
    };
    ticker.day.volume = Some(size("1920.80714532"));
    ticker.day.vwap = Some(price("64389.92134"));
    ticker.day.low = Some(price("63513.9"));
    ticker.day.high = Some(price("65219.9"));
    let day = MirrorStats(
        None,
        Some((652_199, 1)),
        Some((635_139, 1)),
        Some((192_080_714_532, 8)),
        Some((6_438_992_134, 5)),
        None,
    );
    let mirror_ticker = MirrorTicker {
        head: [
            Some((645_281, 1)),
            None,
            Some((645_280, 1)),
            Some((446_783_504, 8)),
            None,
            Some((645_281, 1)),
            Some((1_177_486, 8)),
            None,
        ],
        day,
        ..MirrorTicker::default()
    };
    side_by_side("ticker", &event(Body::Ticker(Box::new(ticker))), &mirror(3, mirror_ticker));
}

fn side_by_side<B: Serialize + for<'de> Deserialize<'de>>(name: &str, event: &Event, mirror: &Mirror<B>) {
    let mut ours = Vec::with_capacity(1024);
    let mut theirs = Vec::with_capacity(1024);
    wire::encode(event, &mut ours);
    rmp_serde::encode::write(&mut theirs, mirror).expect("the mirror encodes");
    println!("{name}: {} bytes ours, {} bytes theirs", ours.len(), theirs.len());
    let (encoded, encoded_theirs) = (ours.clone(), theirs.clone());
    let bytes = Some(encoded.len() as u64);
    compare(
        &format!("wire encode {name}"),
        each("tapedeck", || {
            ours.clear();
            wire::encode(black_box(event), &mut ours);
            ours.len()
        }),
        vec![each("rmp-serde", || {
            theirs.clear();
            rmp_serde::encode::write(&mut theirs, black_box(mirror)).is_ok()
        })],
        bytes,
    );
    compare(
        &format!("wire decode {name}"),
        each("tapedeck", || wire::decode(black_box(&encoded)).is_ok()),
        vec![each("rmp-serde", || rmp_serde::from_slice::<Mirror<B>>(black_box(&encoded_theirs)).is_ok())],
        bytes,
    );
}
