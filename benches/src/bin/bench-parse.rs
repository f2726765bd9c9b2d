//! Text of the venues → events, beside typed structs of sonic-rs and serde_json.
//!
//! The peers parse into structs with borrowed names and 64-bit floats: less than ours does (exact
//! decimals, instants, an event ready for the tape), and the fastest they can.

use std::borrow::Cow;
use std::hint::black_box;

use serde::Deserialize;
use tapedeck::sources::kraken::books::{Books, Policy};
use tapedeck::sources::kraken::message::{Ctx, Message};
use tapedeck::sources::kraken::parse::parse;
use tapedeck::sources::{oanda, x};
use tapedeck_benches::frames::{POST, PRICE, TICKER, TRADE};
use tapedeck_benches::{compare, each, probe};
use tapedeck_market::{Body, UnixNanos};

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Frame<'a, T> {
    channel: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    data: Vec<T>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Ticker<'a> {
    symbol: &'a str,
    bid: f64,
    bid_qty: f64,
    ask: f64,
    ask_qty: f64,
    last: f64,
    volume: f64,
    vwap: f64,
    low: f64,
    high: f64,
    change: f64,
    change_pct: f64,
    timestamp: &'a str,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Trade<'a> {
    symbol: &'a str,
    side: &'a str,
    price: f64,
    qty: f64,
    ord_type: &'a str,
    trade_id: u64,
    timestamp: &'a str,
}

fn main() {
    probe(&std::env::temp_dir());
    let ctx = Ctx { source: "kraken".into(), venue: "kraken".into() };
    let now = UnixNanos::now();
    let ours = |frame: &'static str| {
        let ctx = &ctx;
        each("tapedeck", move || parse(black_box(frame.as_bytes()), now, ctx).is_ok())
    };
    compare(
        "kraken v2 ticker → event",
        ours(TICKER),
        vec![
            each("sonic-rs", || sonic_rs::from_str::<Frame<'_, Ticker<'_>>>(black_box(TICKER)).is_ok()),
            each("serde_json", || serde_json::from_str::<Frame<'_, Ticker<'_>>>(black_box(TICKER)).is_ok()),
        ],
        Some(TICKER.len() as u64),
    );
    compare(
        "kraken v2 trade → event",
        ours(TRADE),
        vec![
            each("sonic-rs", || sonic_rs::from_str::<Frame<'_, Trade<'_>>>(black_box(TRADE)).is_ok()),
            each("serde_json", || serde_json::from_str::<Frame<'_, Trade<'_>>>(black_box(TRADE)).is_ok()),
        ],
        Some(TRADE.len() as u64),
    );
    book(&ctx, now);
    lines(now);
}

/// Text of an update → parsed, applied to a book of depth 10, checksum computed and compared.
fn book(ctx: &Ctx, now: UnixNanos) {
    let levels = |first: i64, step: i64| -> String {
        (0..10)
            .map(|n| {
                format!(r#"{{"price":{}.{},"qty":0.{:08}}}"#, (first + n * step) / 10, (first + n * step) % 10, 100 + n)
            })
            .collect::<Vec<_>>()
            .join(",")
    };
    let snapshot = format!(
        r#"{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{}],"asks":[{}],"checksum":1,"timestamp":"2026-07-19T17:54:39.753424Z"}}]}}"#,
        levels(645_250, -7),
        levels(645_260, 7),
    );
    let update = |qty: &str| {
        format!(
            r#"{{"channel":"book","type":"update","data":[{{"symbol":"BTC/USD","bids":[],"asks":[{{"price":64527.4,"qty":{qty}}}],"checksum":1848203113,"timestamp":"2026-07-19T17:54:39.768901Z"}}]}}"#
        )
    };
    let frames = [update("0.00309336"), update("1.48203113")];
    // `warn` computes and compares as `strict` does, and keeps the book although these checksums are made up.
    let mut books = Books::new(10, Policy::Warn);
    let mut apply = |frame: &str| {
        let Ok(Message::Events(events)) = parse(frame.as_bytes(), now, ctx) else { return false };
        events.iter().all(|event| match &event.body {
            Body::Book(update) => {
                black_box(books.apply(&event.symbol, update, now)) != tapedeck::sources::kraken::books::Verdict::Adrift
            }
            _ => false,
        })
    };
    assert!(apply(&snapshot), "the book begins");
    let mut nth = 0;
    let mut ours = || {
        nth += 1;
        apply(black_box(&frames[nth % 2]))
    };
    assert!(ours());
    let text = frames[0].clone();
    compare(
        "kraken v2 book update → event, book, CRC",
        each("tapedeck", ours),
        vec![each("sonic-rs (text only)", move || {
            sonic_rs::from_str::<Frame<'_, sonic_rs::LazyValue<'_>>>(black_box(&text)).is_ok()
        })],
        Some(frames[0].len() as u64),
    );
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct PostLine<'a> {
    #[serde(borrow)]
    data: Data<'a>,
    #[serde(borrow)]
    includes: Includes<'a>,
    #[serde(borrow)]
    matching_rules: Vec<Rule<'a>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Data<'a> {
    author_id: &'a str,
    created_at: &'a str,
    edit_history_tweet_ids: Vec<&'a str>,
    id: &'a str,
    lang: &'a str,
    public_metrics: Counts,
    // It holds escapes.
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Counts {
    retweet_count: u64,
    reply_count: u64,
    like_count: u64,
    quote_count: u64,
    bookmark_count: u64,
    impression_count: u64,
}

#[derive(Deserialize)]
struct Includes<'a> {
    #[serde(borrow)]
    #[expect(dead_code, reason = "what is measured is filling the fields")]
    users: Vec<User<'a>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct User<'a> {
    id: &'a str,
    location: Cow<'a, str>,
    name: Cow<'a, str>,
    public_metrics: Followers,
    username: &'a str,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Followers {
    followers_count: u64,
    following_count: u64,
    tweet_count: u64,
    listed_count: u64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Rule<'a> {
    id: &'a str,
    tag: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct PriceLine<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    time: &'a str,
    bids: Vec<Bucket<'a>>,
    asks: Vec<Bucket<'a>>,
    closeout_bid: &'a str,
    closeout_ask: &'a str,
    status: &'a str,
    tradeable: bool,
    instrument: &'a str,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is measured is filling the fields")]
struct Bucket<'a> {
    price: &'a str,
    liquidity: u64,
}

/// Lines of X and of OANDA. The peers leave prices as texts, entities as they come and times unread.
fn lines(now: UnixNanos) {
    let ctx = Ctx { source: "x".into(), venue: "x".into() };
    let is_post = |message| matches!(message, Ok(x::line::Message::Post(_)));
    assert!(is_post(x::line::parse(POST.as_bytes(), now, &ctx)));
    compare(
        "X line → event, not scored",
        each("tapedeck", || is_post(x::line::parse(black_box(POST.as_bytes()), now, &ctx))),
        vec![
            each("sonic-rs", || sonic_rs::from_str::<PostLine<'_>>(black_box(POST)).is_ok()),
            each("serde_json", || serde_json::from_str::<PostLine<'_>>(black_box(POST)).is_ok()),
        ],
        Some(POST.len() as u64),
    );
    let is_price = |message| matches!(message, Ok(oanda::line::Message::Price(_)));
    assert!(is_price(oanda::line::parse(PRICE.as_bytes(), now, &ctx, false)));
    compare(
        "OANDA line → event",
        each("tapedeck", || is_price(oanda::line::parse(black_box(PRICE.as_bytes()), now, &ctx, false))),
        vec![
            each("sonic-rs", || sonic_rs::from_str::<PriceLine<'_>>(black_box(PRICE)).is_ok()),
            each("serde_json", || serde_json::from_str::<PriceLine<'_>>(black_box(PRICE)).is_ok()),
        ],
        Some(PRICE.len() as u64),
    );
}
