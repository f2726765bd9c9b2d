//! A price as the venue usually writes it, read in one pass; keys may stand in any order.
//!
//! On the first byte that is not as expected it gives up, and [`parse_any_order`](super::line::parse_any_order) reads the
//! line from the start: this file is an optimisation that may be deleted.

use std::borrow::Cow;

use tapedeck_market::{Decimal, Level, Price, Size, UnixNanos};

use super::line::{Sides, instant};
use crate::sources::cursor::Cursor;

/// What a line tells of a price.
pub(super) struct Parts<'a> {
    pub(super) symbol: Cow<'a, str>,
    pub(super) time: UnixNanos,
    pub(super) sides: Sides,
    pub(super) tradeable: Option<bool>,
}

/// Reads a line that is a price. `None`: look closer.
pub(super) fn scan(line: &str) -> Option<Parts<'_>> {
    let mut text = Cursor::new(line)?;
    let (mut kind, mut symbol, mut time, mut status) = (None, None, None, None);
    let (mut bids, mut asks, mut tradeable) = (None, None, None);
    let (mut closeout_bid, mut closeout_ask) = (None, None);
    text.object(|text, key| match key {
        "type" => text.once(&mut kind),
        "time" => text.plain_once(&mut time),
        "bids" => side(text, &mut bids),
        "asks" => side(text, &mut asks),
        "closeoutBid" => text.once(&mut closeout_bid),
        "closeoutAsk" => text.once(&mut closeout_ask),
        "status" => text.once(&mut status),
        "tradeable" => tradeable.replace(text.flag()?).is_none().then_some(()),
        "instrument" => text.once(&mut symbol),
        _ => None,
    })?;
    if !text.is_at_end() || kind? != "PRICE" {
        return None;
    }
    let tradeable = tradeable.or_else(|| status.map(|status| status == "tradeable"));
    let sides = Sides { bids: bids.unwrap_or_default(), asks: asks.unwrap_or_default() };
    Some(Parts { symbol: symbol?, time: instant(time?.as_bytes())?, sides, tradeable })
}

fn side(text: &mut Cursor<'_>, side: &mut Option<Vec<Level>>) -> Option<()> {
    let mut levels = Vec::with_capacity(4);
    text.list(|text| {
        let (mut price, mut liquidity) = (None, None);
        text.object(|text, key| match key {
            "price" => text.plain_once(&mut price),
            "liquidity" => liquidity.replace(text.count()?).is_none().then_some(()),
            _ => None,
        })?;
        let price = Price(Decimal::parse(price?.as_bytes()).ok()?);
        levels.push(Level { price, size: Size(Decimal::new(liquidity?, 0)?), orders: None });
        Some(())
    })?;
    side.replace(levels).is_none().then_some(())
}
