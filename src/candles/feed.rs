//! Which records are ticks, and of which instrument.
//!
//! ```text
//! input       trades: Trade; and the Ticker of venues that send running totals (Kite): last price, volume by difference
//!             bid, ask, mid: Quote, and the Ticker's best bid and ask
//!             a Candle that was fetched for a hole stands for the ticks of its span
//! instrument  venue + symbol: sources of one venue share it
//! ```

use std::collections::{BTreeMap, HashMap};

use tapedeck_market::{Body, CandleInput, Decimal, Event, Flags, SmolStr, Ticker, UnixNanos, is_absurd};

use super::bar::{Bar, bar};
use super::slot::Tick;
use super::span::{Anchor, Calendar, Day};
use crate::config::Globs;

/// Instruments that are told apart; what lies beyond makes no candle, and is counted.
const INSTRUMENTS_AT_MOST: usize = 500_000;

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    pub sources: Globs,
    pub symbols: Globs,
    /// Venues whose ticker stands for trades: the last price, and the running volume of the day.
    pub cumulative: Globs,
}

/// Ticks that make no candle, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Before 2000, or more than a day ahead.
    pub absurd: u64,
    /// No price, a negative size, or more digits than a decimal has.
    pub unusable: u64,
    /// Of instruments beyond the bound.
    pub beyond: u64,
}

/// The running total of an instrument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) day: Day,
    pub(super) volume: Decimal,
    pub(super) last: Decimal,
    pub(super) last_trade: Option<UnixNanos>,
}

/// Running totals, by instrument.
pub(super) type Totals = BTreeMap<u32, Running>;

/// Tells ticks from other events.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    input: CandleInput,
    selection: Selection,
    pub(super) calendar: Calendar,
    /// By source, then symbol; `None` where the selection does not want it.
    routes: HashMap<SmolStr, HashMap<SmolStr, Option<u32>>>,
    /// By venue, then symbol.
    numbers: HashMap<SmolStr, HashMap<SmolStr, u32>>,
    /// Venue and symbol of each instrument.
    pub(super) names: Vec<(SmolStr, SmolStr)>,
    pub(super) totals: Totals,
    pub(super) passed: Passed,
}

/// What [`Feed::route`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Known(u32),
    /// Seen for the first time: it has this number.
    New(u32),
    Unwanted,
}

impl Feed {
    pub(super) fn new(input: CandleInput, anchor: &Anchor, selection: Selection) -> Self {
        Feed {
            input,
            selection,
            calendar: Calendar::new(anchor.clone()),
            routes: HashMap::new(),
            numbers: HashMap::new(),
            names: Vec::new(),
            totals: BTreeMap::new(),
            passed: Passed::default(),
        }
    }

    /// The instrument of an event, whose number is given to it now if it has none.
    pub(super) fn route(&mut self, event: &Event) -> Route {
        if let Some(known) = self.routes.get(&event.source).and_then(|symbols| symbols.get(&event.symbol)) {
            return known.map_or(Route::Unwanted, Route::Known);
        }
        self.first_route(event)
    }

    #[cold]
    fn first_route(&mut self, event: &Event) -> Route {
        let route = if !self.wants(event) || event.symbol.is_empty() {
            Route::Unwanted
        } else if let Some(number) = self.number(&event.venue, &event.symbol) {
            Route::Known(number)
        } else if self.names.len() < INSTRUMENTS_AT_MOST {
            Route::New(self.name(event.venue.clone(), event.symbol.clone()))
        } else {
            self.passed.beyond += 1;
            return Route::Unwanted;
        };
        let number = match route {
            Route::Known(number) | Route::New(number) => Some(number),
            Route::Unwanted => None,
        };
        self.routes.entry(event.source.clone()).or_default().insert(event.symbol.clone(), number);
        route
    }

    pub(super) fn number(&self, venue: &str, symbol: &str) -> Option<u32> {
        self.numbers.get(venue)?.get(symbol).copied()
    }

    /// Numbers a further instrument.
    pub(super) fn name(&mut self, venue: SmolStr, symbol: SmolStr) -> u32 {
        let number = self.names.len() as u32;
        self.numbers.entry(venue.clone()).or_default().insert(symbol.clone(), number);
        self.names.push((venue, symbol));
        number
    }

    /// The instrument of an event, if it has a number.
    pub(super) fn known(&self, event: &Event) -> Option<u32> {
        match self.routes.get(&event.source).and_then(|symbols| symbols.get(&event.symbol)) {
            Some(route) => *route,
            // After a restart routes are found anew.
            None if self.wants(event) => self.number(&event.venue, &event.symbol),
            None => None,
        }
    }

    fn wants(&self, event: &Event) -> bool {
        self.selection.sources.fit(&event.source) && self.selection.symbols.fit(&event.symbol)
    }

    /// All instruments of a venue.
    pub(super) fn of_venue(&self, venue: &str) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.numbers.get(venue).into_iter().flat_map(HashMap::values).copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// Whether a body of this kind could be a tick at all: the cheap question before the routing.
    pub(super) fn may_be_tick(&self, event: &Event) -> bool {
        match (&event.body, self.input) {
            (Body::Trade(_), input) => input == CandleInput::Trades,
            (Body::Quote(_), input) => input != CandleInput::Trades,
            (Body::Ticker(_), CandleInput::Trades) => self.selection.cumulative.name(&event.venue),
            (Body::Ticker(_), _) => true,
            _ => false,
        }
    }

    /// The event as a candle that was fetched for a hole of that instrument.
    pub(super) fn bar(&self, instrument: u32, event: &Event) -> Option<Bar> {
        // Where tickers make no candles of trades, those of holes would stand alone.
        let alone = self.input == CandleInput::Trades && !self.selection.cumulative.name(&event.venue);
        if alone { None } else { bar(self.input, instrument, event) }
    }

    /// The event as a tick of that instrument, and its running total taken on.
    pub(super) fn tick(&mut self, instrument: u32, event: &Event) -> Option<Tick> {
        let mut totals = std::mem::take(&mut self.totals);
        let tick = self.tick_with(&mut totals, instrument, event);
        self.totals = totals;
        match tick {
            Ok(tick) => tick,
            Err(why) => {
                match why {
                    Why::Absurd => self.passed.absurd += 1,
                    Why::Unusable => self.passed.unusable += 1,
                }
                None
            }
        }
    }

    /// The same with other running totals: those of a bucket that is read again.
    pub(super) fn tick_with(
        &mut self,
        totals: &mut Totals,
        instrument: u32,
        event: &Event,
    ) -> Result<Option<Tick>, Why> {
        let ts_event = event.ts_event.unwrap_or(event.ts_recv);
        if event.flags.contains(Flags::ABSURD_TIME) || is_absurd(ts_event, event.ts_recv) {
            return Err(Why::Absurd);
        }
        let one = (Decimal::ZERO, Decimal::ZERO);
        let (price, size) = match (&event.body, self.input) {
            (Body::Trade(trade), CandleInput::Trades) => (trade.price.0, trade.size.0),
            (Body::Ticker(ticker), CandleInput::Trades) => {
                match self.traded(totals, instrument, ts_event, ticker) {
                    Some(traded) => traded,
                    // Without a price it is no trade; a repetition is none either.
                    None => return Ok(None),
                }
            }
            (Body::Quote(quote), input) => match quoted(input, quote.bid, quote.ask)? {
                Some(price) => (price, one.1),
                None => return Ok(None),
            },
            (Body::Ticker(ticker), input) => match quoted(input, ticker.bid, ticker.ask)? {
                Some(price) => (price, one.1),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if size.is_negative() {
            return Err(Why::Unusable);
        }
        Ok(Some(Tick {
            instrument,
            price_scale: price.scale(),
            size_scale: size.scale(),
            backfilled: event.flags.contains(Flags::BACKFILLED),
            snapshot: event.flags.contains(Flags::SNAPSHOT),
            ts_event: ts_event.0,
            ts_recv: event.ts_recv.0,
            price: price.mantissa(),
            size: size.mantissa(),
        }))
    }

    /// Last price, and what was traded since the total before.
    ///
    /// A total that falls is a step backward and trades nothing; the first one of a later day is a reset, and all of it was
    /// traded that day. The first one that is seen at all says nothing about what it adds.
    fn traded(
        &mut self,
        totals: &mut Totals,
        instrument: u32,
        ts_event: UnixNanos,
        ticker: &Ticker,
    ) -> Option<(Decimal, Decimal)> {
        let last = ticker.last?.0;
        let day = self.calendar.day(ts_event.0)?;
        let total = ticker.today.volume.map_or(Decimal::ZERO, |volume| volume.0);
        let Some(known) = totals.get_mut(&instrument) else {
            totals.insert(instrument, Running { day, volume: total, last, last_trade: ticker.last_trade_time });
            return Some((last, Decimal::ZERO));
        };
        let again = ticker.last_trade_time.is_some() && ticker.last_trade_time == known.last_trade;
        if again && last == known.last && total == known.volume {
            return None;
        }
        (known.last, known.last_trade) = (last, ticker.last_trade_time);
        if day.from > known.day.from {
            (known.day, known.volume) = (day, total);
            return Some((last, total));
        }
        if day.from < known.day.from || total <= known.volume {
            return Some((last, Decimal::ZERO));
        }
        let traded = difference(total, known.volume);
        known.volume = total;
        Some((last, traded.unwrap_or_default()))
    }
}

/// Why an event that could be a tick is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Absurd,
    Unusable,
}

/// The price that a candle of quotes is made of; `None` where that side is empty.
fn quoted(
    input: CandleInput,
    bid: Option<tapedeck_market::Price>,
    ask: Option<tapedeck_market::Price>,
) -> Result<Option<Decimal>, Why> {
    match input {
        CandleInput::Bid => Ok(bid.map(|price| price.0)),
        CandleInput::Ask => Ok(ask.map(|price| price.0)),
        _ => match (bid, ask) {
            (Some(bid), Some(ask)) => middle(bid.0, ask.0).map(Some).ok_or(Why::Unusable),
            _ => Ok(None),
        },
    }
}

/// Half of the sum, exactly: with one digit more than the finer of both.
fn middle(bid: Decimal, ask: Decimal) -> Option<Decimal> {
    let scale = bid.scale().max(ask.scale());
    let sum = at_scale(bid, scale)?.checked_add(at_scale(ask, scale)?)?;
    Decimal::new(sum.checked_mul(5)?, scale + 1)
}

fn difference(more: Decimal, less: Decimal) -> Option<Decimal> {
    let scale = more.scale().max(less.scale());
    Decimal::new(at_scale(more, scale)?.checked_sub(at_scale(less, scale)?)?, scale)
}

pub(super) fn at_scale(decimal: Decimal, scale: u8) -> Option<i64> {
    decimal.mantissa().checked_mul(10_i64.checked_pow(u32::from(scale - decimal.scale()))?)
}

/// Whether a subscription of this channel brings ticks for that input.
pub(crate) fn concerns(input: CandleInput, channel: &str) -> bool {
    const NO_PRICES: [&str; 9] =
        ["instrument", "status", "ohlc", "candles", "executions", "orders", "transactions", "balances", "heartbeat"];
    const NO_TRADES: [&str; 5] = ["book", "level3", "quote", "quotes", "spread"];
    const NO_QUOTES: [&str; 5] = ["trade", "trades", "book", "level3", "spread"];
    let not = if input == CandleInput::Trades { NO_TRADES } else { NO_QUOTES };
    !NO_PRICES.contains(&channel) && !not.contains(&channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_exact() {
        let middle = |bid: &str, ask: &str| middle(bid.parse().unwrap(), ask.parse().unwrap()).map(|m| m.to_string());
        assert_eq!(middle("1.08230", "1.08245").as_deref(), Some("1.082375"));
        assert_eq!(middle("1.1", "1.25").as_deref(), Some("1.175"));
        assert_eq!(middle("999999999999999999", "999999999999999999"), None, "a digit too many");
    }
}
