//! A venue's own candle, fetched for a hole: within its span it stands for every tick.

use tapedeck_market::{Body, Candle, CandleFlags, CandleInput, Event, Flags};

use super::feed::at_scale;

/// A candle that a venue made, reduced to what a candle needs. Times are ns since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub instrument: u32,
    pub start: i64,
    pub end: i64,
    pub ts_recv: i64,
    /// `None`: it cannot be a part of a candle, and what it covers stays unknown.
    pub(super) content: Option<Content>,
}

/// Prices at one scale, and what was traded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) open: i64,
    pub(super) high: i64,
    pub(super) low: i64,
    pub(super) close: i64,
    pub(super) price_scale: u8,
    /// `None`: the venue does not say.
    pub(super) volume: Option<i128>,
    pub(super) size_scale: u8,
    /// Trades or prices, one where the venue does not count them.
    pub(super) trades: u64,
}

impl Bar {
    /// Whether that moment is in its span.
    pub(super) fn covers(&self, at: i64) -> bool {
        (self.start..self.end).contains(&at)
    }

    pub(super) fn overlaps(&self, start: i64, end: i64) -> bool {
        self.start < end && self.end > start
    }

    pub(super) fn is_within(&self, start: i64, end: i64) -> bool {
        self.start >= start && self.end <= end
    }
}

/// The candle of an event that was fetched for a hole.
pub(super) fn fetched(event: &Event) -> Option<&Candle> {
    match &event.body {
        Body::Candle(candle) if event.flags.contains(Flags::BACKFILLED) && !event.flags.contains(Flags::DERIVED) => {
            Some(candle)
        }
        _ => None,
    }
}

/// What such a candle is for candles of this input; `None`: it says nothing about them.
pub(super) fn bar(input: CandleInput, instrument: u32, event: &Event) -> Option<Bar> {
    let candle = fetched(event)?;
    let of_trades = |input: CandleInput| matches!(input, CandleInput::Trades | CandleInput::Venue);
    if of_trades(input) && !of_trades(candle.input) {
        return None;
    }
    let start = candle.start.0;
    let end = start.checked_add(candle.interval_ns).filter(|end| *end > start)?;
    let same = candle.input == input || of_trades(input);
    let content = (same && candle.flags.contains(CandleFlags::COMPLETE)).then(|| content(candle)).flatten();
    Some(Bar { instrument, start, end, ts_recv: event.ts_recv.0, content })
}

fn content(candle: &Candle) -> Option<Content> {
    let prices = [candle.open.0, candle.high.0, candle.low.0, candle.close.0];
    let price_scale = prices.iter().map(|price| price.scale()).max()?;
    let [open, high, low, close] = prices.map(|price| at_scale(price, price_scale));
    let (open, high, low, close) = (open?, high?, low?, close?);
    let (volume, size_scale) = candle.volume.map_or((None, 0), |volume| (Some(volume.mantissa), volume.scale));
    let trades = candle.trades.unwrap_or(1).max(1);
    let sound = low <= open.min(close) && high >= open.max(close) && volume.is_none_or(|volume| volume >= 0);
    sound.then_some(Content { open, high, low, close, price_scale, volume, size_scale, trades })
}
