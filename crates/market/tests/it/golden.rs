//! The bytes of schema 1, one event of every kind: this file freezes the format.

use std::fmt::Write as _;

use tapedeck_market::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/schema1.txt");

fn price(text: &str) -> Price {
    text.parse().expect("a price")
}

fn size(text: &str) -> Size {
    text.parse().expect("a size")
}

fn number(text: &str) -> Decimal {
    text.parse().expect("a number")
}

fn event(symbol: &str, body: Body) -> Event {
    Event {
        source: "desk".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        ts_event: Some(UnixNanos(1_784_483_679_753_424_000)),
        ts_recv: UnixNanos(1_784_483_679_801_000_123),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn stats(first: i64) -> Stats {
    let at = |n: i64| Decimal::new(first + n, 1);
    Stats {
        open: at(0).map(Price),
        high: at(1).map(Price),
        low: at(2).map(Price),
        volume: at(3).map(Size),
        vwap: at(4).map(Price),
        trades: Some(70_000),
    }
}

fn ticker() -> Ticker {
    Ticker {
        last: Some(price("64528.1")),
        last_size: Some(size("0.5")),
        bid: Some(price("64528.0")),
        bid_size: Some(size("4.46783504")),
        bid_whole_lots: Some(size("4")),
        ask: Some(price("64528.1")),
        ask_size: Some(size("0.01177486")),
        ask_whole_lots: Some(size("0")),
        today: stats(640_000),
        day: stats(630_000),
        prev_close: Some(price("64000.0")),
        change: Some(number("-12.5")),
        change_pct: Some(number("-0.02")),
        avg_price: Some(price("64111.11")),
        buy_size: Some(size("123")),
        sell_size: Some(size("456")),
        oi: Some(size("7000")),
        oi_high: Some(size("7100")),
        oi_low: Some(size("6900")),
        last_trade_time: Some(UnixNanos::from_secs(1_784_483_679)),
        refused: vec![("vwap".into(), "1.2345678901234567890".into())],
    }
}

fn book() -> BookUpdate {
    BookUpdate {
        snapshot: false,
        bids: vec![
            Level { price: price("64528.0"), size: size("0.00000000"), orders: None },
            Level { price: price("64527.9"), size: size("1.5"), orders: Some(3) },
        ],
        asks: vec![],
        checksum: Some(4_249_465_476),
        depth: Some(10),
    }
}

fn candle() -> Candle {
    Candle {
        interval_ns: 60_000_000_000,
        start: UnixNanos::from_secs(1_784_483_640),
        open: price("64500.0"),
        high: price("64530.0"),
        low: price("64499.9"),
        close: price("64528.1"),
        volume: Some(Sum { mantissa: 12_345_678_901_234_567_890_123, scale: 8 }),
        vwap: Some(price("64511.3")),
        trades: Some(321),
        flags: CandleFlags(CandleFlags::COMPLETE.0 | CandleFlags::REVISED.0),
        revision: 2,
        input: CandleInput::Mid,
    }
}

fn odds() -> Odds {
    let ladder = |text: &str| vec![PriceSize { price: price(text), size: size("10.00") }];
    let best = |level: u32| vec![LevelPriceSize { level, price: price("3.05"), size: size("0") }];
    Odds {
        selection: 47_972,
        handicap: number("-0.5"),
        image: true,
        last: Some(price("3.05")),
        volume: Some(size("1234.56")),
        sp_near: Some(price("3.1")),
        sp_far: None,
        available_to_back: ladder("3.0"),
        available_to_lay: ladder("3.1"),
        traded: ladder("3.05"),
        sp_back: ladder("1.01"),
        sp_lay: ladder("1000"),
        best_to_back: best(0),
        best_to_lay: best(1),
        best_display_to_back: best(2),
        best_display_to_lay: best(200),
        conflated: true,
        market_volume: Some(size("99999.99")),
    }
}

fn order() -> Order {
    Order {
        action: "filled".into(),
        id: Some("OXXXXX-YYYYY-ZZZZZZ".into()),
        client_id: Some("mine-1".into()),
        side: Some(Side::Buy),
        order_type: Some("limit".into()),
        status: Some("closed".into()),
        price: Some(price("64528.0")),
        size: Some(size("0.10000000")),
        filled: Some(size("0.10000000")),
        avg_price: Some(price("64527.5")),
        fill_price: Some(price("64527.5")),
        fill_size: Some(size("0.04000000")),
        trade_id: Some("TXXXXX".into()),
        fee: Some(number("0.4130")),
        fee_asset: Some("USD".into()),
        reason: Some("user".into()),
        raw: Some("{\"a\":1}".into()),
    }
}

fn post() -> Post {
    let sentiment = Sentiment {
        compound: number("-0.7351"),
        positive: number("0.1"),
        neutral: number("0.55"),
        negative: number("0.35"),
    };
    Post {
        id: "1930000000000000000".into(),
        author: Some("someone".into()),
        text: "Bitcoin to the moon? 🚀 not today, and certainly not this month".into(),
        lang: Some("en".into()),
        location: Some("Zürich".into()),
        topics: vec!["btc".into(), "crypto".into()],
        sentiment: Some(sentiment),
        metrics: vec![("likes".into(), 12), ("followers".into(), -1)],
        edit_of: Some("1929999999999999999".into()),
    }
}

fn point() -> Point {
    Point {
        name: "weather".into(),
        tags: vec![("city".into(), "Zürich".into())],
        fields: vec![
            ("int".into(), Value::Int(-33)),
            ("uint".into(), Value::UInt(u64::MAX)),
            ("decimal".into(), Value::Decimal(number("21.50"))),
            ("float".into(), Value::Float(0.1)),
            ("bool".into(), Value::Bool(true)),
            ("text".into(), Value::Text("föhn".into())),
        ],
    }
}

fn synthetic() -> Synthetic {
    let leg = Leg {
        instrument: "BTC".into(),
        bid: Some(price("1.1432")),
        ask: Some(price("1.1441")),
        leg_bid: Some(price("64528.0")),
        leg_bid_size: Some(size("4.4")),
        leg_ask: Some(price("56400.1")),
        leg_ask_size: None,
    };
    Synthetic {
        legs: vec![leg, Leg::default()],
        spread: Some(price("0.0009")),
        spread_bid: Some(price("1.1432")),
        spread_ask: Some(price("1.1441")),
    }
}

fn instrument() -> Instrument {
    Instrument {
        aliases: vec![("rest".into(), "XXBTZUSD".into()), ("wsname".into(), "XBT/USD".into())],
        base: Some("BTC".into()),
        quote: Some("USD".into()),
        status: Some("online".into()),
        price_precision: Some(1),
        price_increment: Some(number("0.1")),
        size_precision: Some(8),
        size_increment: Some(number("0.00000001")),
        size_min: Some(size("0.00005")),
        multiplier: Some(number("1")),
        session: Some("09:15-15:30 Asia/Kolkata".into()),
        valid_from: Some(UnixNanos::from_secs(1_784_000_000)),
        valid_to: Some(UnixNanos::from_secs(-1)),
        raw: Some("{}".into()),
    }
}

fn gap() -> Gap {
    Gap {
        id: 42,
        state: GapState::Repaired,
        cause: GapCause::Checksum,
        channel: "book".into(),
        from: UnixNanos(1_784_483_679_000_000_000),
        to: Some(UnixNanos(1_784_483_680_000_000_000)),
        missing: Some(17),
        detail: "checksum broke at frame 51".into(),
    }
}

/// One event of every kind, every field set; then what a body does not show: flags, origin, no venue time.
pub(crate) fn samples() -> Vec<Event> {
    let trade = Trade {
        price: price("64528.10"),
        size: size("0.01177486"),
        side: Some(Side::Sell),
        id: Some("100320028".into()),
    };
    let quote = Quote { bid: Some(price("1.1432")), bid_size: Some(size("10000000")), ask: None, ask_size: None };
    let status =
        Status { topic: "venue".into(), state: "online".into(), detail: vec![("version".into(), "2.0.10".into())] };
    let note = TapeNote {
        what: TapeEvent::Hole,
        from_seq: Some(1_000),
        to_seq: Some(1_007),
        bytes: 65_536,
        detail: "bad crc".into(),
    };
    let mut origin = event("", Body::Position(Position { key: "trade/BTC/USD".into(), value: "100320028".into() }));
    origin.ts_event = None;
    origin.flags = Flags::BACKFILLED.with(Flags::REPLAYED);
    origin.origin =
        Some(Origin { tape: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), seq: 4_294_967_296 });
    vec![
        event("BTC/USD", Body::Trade(trade)),
        event("EUR/USD", Body::Quote(quote)),
        event("BTC/USD", Body::Ticker(Box::new(ticker()))),
        event("BTC/USD", Body::Book(book())),
        event("BTC/USD", Body::Candle(Box::new(candle()))),
        event("1.170000001", Body::Odds(Box::new(odds()))),
        event("BTC/USD", Body::Order(Box::new(order()))),
        event("", Body::Post(Box::new(post()))),
        event("", Body::Point(Box::new(point()))),
        event("EUR/USD", Body::Synthetic(Box::new(synthetic()))),
        event("BTC/USD", Body::Instrument(Box::new(instrument()))),
        origin,
        event("", Body::Status(status)),
        event("BTC/USD", Body::Gap(Box::new(gap()))),
        event("", Body::Tape(Box::new(note))),
        event("", Body::Raw(Raw { format: "text".into(), frame: b"{\"channel\":\"heartbeat\"}\xff".to_vec() })),
        event("BTC/USD", Body::Unknown(Unknown { kind: Kind(17), payload: vec![0x92, 0xa1, b'x', 0x2a] })),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(pair).collect()
}

#[test]
fn the_bytes_of_schema_1_never_change() {
    let mut lines = String::new();
    for event in samples() {
        let mut bytes = Vec::new();
        wire::encode(&event, &mut bytes);
        writeln!(lines, "{} {}", event.body.kind().name(), hex(&bytes)).expect("a String takes everything");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &lines).expect("writing the golden file");
    }
    let golden = std::fs::read_to_string(GOLDEN).expect("the golden file");
    assert_eq!(lines, golden);
    for (line, want) in golden.lines().zip(samples()) {
        let bytes = unhex(line.split_once(' ').expect("kind and bytes").1);
        let event = wire::decode(&bytes).expect("a golden event");
        assert_eq!(format!("{event:?}"), format!("{want:?}"));
    }
}

#[test]
fn a_sample_of_every_kind_is_golden() {
    let kinds: Vec<Kind> = samples().iter().map(|event| event.body.kind()).collect();
    for (kind, name) in Kind::NAMES {
        assert!(kinds.contains(&kind), "{name}");
    }
}

#[test]
fn not_a_number_keeps_its_bits() {
    let body = |float: f64| Point { fields: vec![("f".into(), Value::Float(float))], ..Point::default() };
    let mut bytes = Vec::new();
    wire::encode(&event("", Body::Point(Box::new(body(f64::NAN)))), &mut bytes);
    match wire::decode(&bytes).expect("an event").body {
        Body::Point(point) => match point.fields[..] {
            [(_, Value::Float(float))] => assert_eq!(float.to_bits(), f64::NAN.to_bits()),
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_enum_is_numbered_in_the_order_of_its_names() {
    let numbered = |body: Body| {
        let mut bytes = Vec::new();
        wire::encode(&event("", body), &mut bytes);
        bytes
    };
    for (number, (state, name)) in GapState::NAMES.into_iter().enumerate() {
        let bytes = numbered(Body::Gap(Box::new(Gap { id: 1, state, ..gap() })));
        assert!(hex(&bytes).contains(&format!("9801{number:02x}02a4")), "{name}: {}", hex(&bytes));
    }
    for (number, (cause, name)) in GapCause::NAMES.into_iter().enumerate() {
        let bytes = numbered(Body::Gap(Box::new(Gap { id: 1, cause, ..gap() })));
        assert!(hex(&bytes).contains(&format!("980102{number:02x}a4")), "{name}: {}", hex(&bytes));
    }
    for (number, (input, name)) in CandleInput::NAMES.into_iter().enumerate() {
        let bytes = numbered(Body::Candle(Box::new(Candle { input, ..candle() })));
        assert_eq!(bytes.last().copied().map(usize::from), Some(number), "{name}");
    }
    for (number, (what, name)) in TapeEvent::NAMES.into_iter().enumerate() {
        let note = TapeNote { what, from_seq: None, to_seq: None, bytes: 0, detail: "".into() };
        let bytes = numbered(Body::Tape(Box::new(note)));
        assert!(bytes.ends_with(&[0x95, number as u8, 0xc0, 0xc0, 0, 0xa0]), "{name}: {}", hex(&bytes));
    }
}
