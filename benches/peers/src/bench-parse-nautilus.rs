//! Kraken v2 text → event, beside the crate `nautilus-kraken`, on the texts of `bench-parse`.
//!
//! The peer's own frame function is private, so its steps are repeated here with its public types, in
//! its order: text to a JSON tree, tree to message, message to typed data, typed data to the quote or
//! trade its users receive. Left out is what it does beside parsing, the look-up of the subscription.
//! It ends with less than ours: its quote has 4 of the ticker's 11 numbers.

use std::hint::black_box;

use anyhow::Context as _;
use nautilus_core::UnixNanos as TheirNanos;
use nautilus_kraken::websocket::spot_v2::messages::{KrakenWsMessage, KrakenWsTickerData, KrakenWsTradeData};
use nautilus_kraken::websocket::spot_v2::parse::{parse_quote_tick, parse_trade_tick};
use nautilus_model::identifiers::{InstrumentId, Symbol};
use nautilus_model::instruments::{CurrencyPair, InstrumentAny};
use nautilus_model::types::{Currency, Price, Quantity};
use serde_json::Value;
use tapedeck::sources::kraken::message::Ctx;
use tapedeck::sources::kraken::parse::parse;
use tapedeck_benches::frames::{TICKER, TRADE};
use tapedeck_benches::{compare, each, probe};
use tapedeck_market::UnixNanos;

fn main() -> anyhow::Result<()> {
    probe(&std::env::temp_dir());
    let ctx = Ctx { source: "kraken".into(), venue: "kraken".into() };
    let now = UnixNanos::now();
    let ours = |frame: &'static str| {
        let ctx = &ctx;
        each("tapedeck", move || parse(black_box(frame.as_bytes()), now, ctx).is_ok())
    };
    let instrument = instrument();
    let at = TheirNanos::from(now.0.unsigned_abs());
    let ticker = |text: &str| -> anyhow::Result<_> {
        let data: KrakenWsTickerData = serde_json::from_value(first(text)?)?;
        parse_quote_tick(&data, &instrument, at)
    };
    let trade = |text: &str| -> anyhow::Result<_> {
        let data: KrakenWsTradeData = serde_json::from_value(first(text)?)?;
        parse_trade_tick(&data, &instrument, at)
    };
    // A side that fails is fast: see that neither does.
    parse(TICKER.as_bytes(), now, &ctx).context("our ticker")?;
    parse(TRADE.as_bytes(), now, &ctx).context("our trade")?;
    ticker(TICKER).context("the peer's ticker")?;
    trade(TRADE).context("the peer's trade")?;

    compare(
        "kraken v2 ticker → event",
        ours(TICKER),
        vec![
            each("nautilus-kraken", || ticker(black_box(TICKER)).is_ok()),
            each("nautilus-kraken (frame only)", || message(black_box(TICKER)).is_ok()),
        ],
        Some(TICKER.len() as u64),
    );
    compare(
        "kraken v2 trade → event",
        ours(TRADE),
        vec![
            each("nautilus-kraken", || trade(black_box(TRADE)).is_ok()),
            each("nautilus-kraken (frame only)", || message(black_box(TRADE)).is_ok()),
        ],
        Some(TRADE.len() as u64),
    );
    Ok(())
}

/// The peer's way from a text to its message.
fn message(text: &str) -> anyhow::Result<KrakenWsMessage> {
    let tree: Value = serde_json::from_str(text)?;
    anyhow::ensure!(tree.get("method").is_none() && tree.get("channel").is_some() && tree.get("data").is_some());
    Ok(serde_json::from_value(tree)?)
}

fn first(text: &str) -> anyhow::Result<Value> {
    message(text)?.data.into_iter().next().context("no data")
}

/// The pair as the peer knows it once its instruments are loaded.
fn instrument() -> InstrumentAny {
    InstrumentAny::CurrencyPair(CurrencyPair::new(
        InstrumentId::from("BTC/USD.KRAKEN"),
        Symbol::new("XXBTZUSD"),
        Currency::BTC(),
        Currency::USD(),
        1,
        8,
        Price::from("0.1"),
        Quantity::from("0.00000001"),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        TheirNanos::default(),
        TheirNanos::default(),
    ))
}
