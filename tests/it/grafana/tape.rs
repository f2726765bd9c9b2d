//! A tape with one event of each kind every few seconds of the last ten minutes.

use std::path::Path;
use std::sync::Arc;

use tapedeck_market::{
    Body, BookUpdate, Event, Flags, Gap, GapCause, GapState, Level, LevelPriceSize, Odds, Order, Post, Quote,
    Sentiment, Side, SmolStr, Synthetic, Ticker, Trade, UnixNanos, wire,
};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Allocation, Entry, Log, Options};

const STEP_NS: i64 = 10_000_000_000;
const STEPS: i64 = 60;
/// Records written at least; what a deck adds comes behind.
pub(super) const LAST: u64 = STEPS as u64 * 15;

fn d<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn level(price: &str) -> Level {
    Level { price: d(price), size: d("2.5"), orders: Some(3) }
}

/// What each venue said at one step.
fn bodies(step: i64) -> Vec<(&'static str, &'static str, Body)> {
    let price = format!("{}.25", 100 + step % 7);
    let dear = format!("{}.75", 100 + step % 7);
    let quote = || {
        Body::Quote(Quote { bid: Some(d(&price)), bid_size: Some(d("1")), ask: Some(d(&dear)), ask_size: Some(d("2")) })
    };
    let ticker = || {
        let mut ticker = Ticker {
            last: Some(d(&price)),
            last_size: Some(d("1")),
            bid: Some(d(&price)),
            ask: Some(d(&dear)),
            avg_price: Some(d(&price)),
            ..Ticker::default()
        };
        ticker.day.vwap = Some(d(&price));
        ticker.day.volume = Some(d("1000"));
        Body::Ticker(Box::new(ticker))
    };
    let trade = || {
        let id = Some(SmolStr::from(step.to_string()));
        Body::Trade(Trade { price: d(&price), size: d("0.5"), side: Some(Side::Buy), id })
    };
    let book = || {
        let (bids, asks) = (vec![level(&price)], vec![level(&dear)]);
        Body::Book(BookUpdate { snapshot: true, bids, asks, depth: Some(10), checksum: None })
    };
    let order = || {
        Body::Order(Box::new(Order {
            action: "fill".into(),
            id: Some("o1".into()),
            side: Some(Side::Sell),
            order_type: Some("limit".into()),
            status: Some("filled".into()),
            price: Some(d(&price)),
            size: Some(d("3")),
            filled: Some(d("3")),
            fill_price: Some(d(&price)),
            fill_size: Some(d("3")),
            ..Order::default()
        }))
    };
    let best = |price: &str| vec![LevelPriceSize { level: 0, price: d(price), size: d("20") }];
    let odds = Odds {
        selection: 7,
        last: Some(d("3.5")),
        volume: Some(d("1200")),
        market_volume: Some(d("90000")),
        best_to_back: best("3.4"),
        best_to_lay: best("3.6"),
        ..Odds::default()
    };
    let post = Post {
        id: step.to_string().into(),
        author: Some("somebody".into()),
        text: "to the moon, it's \"up\"".into(),
        topics: vec!["btc".into()],
        sentiment: Some(Sentiment { compound: d("0.5"), positive: d("0.4"), neutral: d("0.6"), negative: d("0") }),
        ..Post::default()
    };
    let synthetic = Synthetic {
        spread: Some(d("0.0002")),
        spread_bid: Some(d("0.0001")),
        spread_ask: Some(d("0.0003")),
        legs: Vec::new(),
    };
    vec![
        ("kraken", "BTC/USD", ticker()),
        ("kraken", "BTC/USD", book()),
        ("kraken", "BTC/USD", order()),
        ("kraken", "BTC/USD", trade()),
        ("oanda", "EUR_USD", quote()),
        ("oanda", "EUR_USD", order()),
        ("betfair", "1.234", Body::Odds(Box::new(odds))),
        ("betfair", "1.234", order()),
        ("x", "", Body::Post(Box::new(post))),
        ("kite", "NSE:M&M", ticker()),
        ("kite", "NSE:M&M", book()),
        ("kite", "NSE:M&M", order()),
        ("binance", "BTCUSDT", quote()),
        ("binance", "BTCUSDT", trade()),
        ("binance", "BTCUSDT", book()),
        ("kraken", "EUR/USD", Body::Synthetic(Box::new(synthetic))),
    ]
}

const VENUES: [(&str, &str); 6] = [
    ("kraken", "BTC/USD"),
    ("oanda", "EUR_USD"),
    ("betfair", "1.234"),
    ("x", ""),
    ("kite", "NSE:M&M"),
    ("binance", "BTCUSDT"),
];

/// Opened at even steps, and closed at the next.
fn gap(step: i64, venue: usize) -> Body {
    let now = UnixNanos::now();
    Body::Gap(Box::new(Gap {
        id: 1_000 + (step / 2).unsigned_abs() * 10 + venue as u64,
        state: if step % 2 == 0 { GapState::Open } else { GapState::Closed },
        cause: GapCause::Session,
        channel: "trade".into(),
        from: UnixNanos(now.0 - STEP_NS),
        to: (step % 2 != 0).then_some(now),
        missing: Some(3),
        detail: "the line was cut, it's over".into(),
    }))
}

pub(super) fn write(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let options = Options { allocation: Allocation::None, mode: tapedeck_tape::Mode::Os, ..Options::default() };
    let (mut log, _) = Log::open(Arc::new(Disk), dir, options).unwrap();
    let begin = UnixNanos::now().0 - STEPS * STEP_NS;
    for step in 0..STEPS {
        let time = begin + step * STEP_NS;
        let gaps = VENUES.into_iter().enumerate().map(|(nth, (venue, symbol))| (venue, symbol, gap(step, nth)));
        for (nth, (venue, symbol, body)) in bodies(step).into_iter().chain(gaps).enumerate() {
            let ts = UnixNanos(time + i64::try_from(nth).unwrap() * 1_000_000);
            let event = Event {
                source: venue.into(),
                venue: venue.into(),
                symbol: symbol.into(),
                ts_event: Some(ts),
                ts_recv: ts,
                flags: Flags::NONE,
                origin: None,
                body,
            };
            let mut payload = Vec::new();
            wire::encode(&event, &mut payload);
            log.append(&[Entry { ts_recv: ts.0, payload: &payload }], &mut Vec::new).unwrap();
        }
    }
    log.commit().unwrap();
}
