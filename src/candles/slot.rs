//! One open candle: sums that are exact, in a struct small enough for tens of thousands of them.

use tapedeck_market::{Decimal, Price, Sum};

use super::bar::{Bar, Content};

/// A trade or a price, reduced to what a candle needs. Times are ns since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// As [`Engine::instrument`](super::Engine::instrument) numbered it.
    pub instrument: u32,
    pub price_scale: u8,
    pub size_scale: u8,
    /// Fetched from history: it takes its place by venue time, not by arrival.
    pub backfilled: bool,
    /// Part of what a venue sends at the beginning: its delay says nothing about the feed.
    pub snapshot: bool,
    pub ts_event: i64,
    pub ts_recv: i64,
    /// Mantissas: price = `price / 10^price_scale`.
    pub price: i64,
    pub size: i64,
}

/// What is the matter with a slot, as bits.
pub(crate) mod mark {
    /// Recording began or ended inside the bucket.
    pub(crate) const PARTIAL: u8 = 1;
    /// Something is missing from it, whatever the ledger of gaps says later.
    pub(crate) const GAP: u8 = 1 << 1;
    pub(crate) const BACKFILLED: u8 = 1 << 2;
    /// The sums no longer fit; what would be wrong is left out.
    pub(crate) const NO_VOLUME: u8 = 1 << 3;
    pub(crate) const NO_VWAP: u8 = 1 << 4;
}

/// No slot: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;
/// Decimals have 18 digits.
const MANTISSA_LIMIT: u64 = 10_u64.pow(18);

/// An open candle. The scales are those of the finest price and size it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) volume: i128,
    /// Sum of price × size, at `price_scale + size_scale`.
    pub(crate) notional: i128,
    pub(crate) start: i64,
    /// A slot that is not in use ends before all time.
    pub(crate) end: i64,
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) close: i64,
    /// Venue times of the first and the last tick, for what is backfilled.
    pub(crate) open_ts: i64,
    pub(crate) close_ts: i64,
    pub(crate) trades: u64,
    pub(crate) revision: u32,
    /// The next open candle of the same instrument and interval.
    pub(crate) next: u32,
    pub(crate) price_scale: u8,
    pub(crate) size_scale: u8,
    pub(crate) marks: u8,
}

/// A tick that does not fit beside the others: more digits than a decimal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfit;

impl Slot {
    pub(crate) const EMPTY: Slot = Slot {
        volume: 0,
        notional: 0,
        start: i64::MIN,
        end: i64::MIN,
        open: 0,
        high: 0,
        low: 0,
        close: 0,
        open_ts: 0,
        close_ts: 0,
        trades: 0,
        revision: 0,
        next: NONE,
        price_scale: 0,
        size_scale: 0,
        marks: 0,
    };

    /// A candle of nothing yet.
    pub(crate) const fn of(start: i64, end: i64) -> Slot {
        Slot { start, end, ..Slot::EMPTY }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.end == i64::MIN
    }

    /// Adds a tick. `notional` is its price × size.
    #[inline]
    pub(crate) fn add(&mut self, tick: &Tick, notional: i128) -> Result<(), Unfit> {
        let same_digits = tick.price_scale == self.price_scale && tick.size_scale == self.size_scale;
        if self.trades == 0 || !same_digits || tick.backfilled {
            return self.add_slowly(tick);
        }
        self.high = self.high.max(tick.price);
        self.low = self.low.min(tick.price);
        self.close = tick.price;
        self.close_ts = tick.ts_event;
        self.trades += 1;
        self.sum(i128::from(tick.size), notional);
        Ok(())
    }

    #[inline]
    fn sum(&mut self, size: i128, notional: i128) {
        let (volume, full) = self.volume.overflowing_add(size);
        let (notional, fuller) = self.notional.overflowing_add(notional);
        (self.volume, self.notional) = (volume, notional);
        if full | fuller {
            self.lose(full, true);
        }
    }

    #[cold]
    fn lose(&mut self, volume: bool, vwap: bool) {
        self.marks |= if volume { mark::NO_VOLUME } else { 0 };
        self.marks |= if vwap { mark::NO_VWAP } else { 0 };
    }

    /// The first tick, other digits than before, or one that has its place by time.
    #[cold]
    fn add_slowly(&mut self, tick: &Tick) -> Result<(), Unfit> {
        let first = self.trades == 0;
        if first {
            (self.price_scale, self.size_scale) = (tick.price_scale, tick.size_scale);
        }
        let price = self.same_price_scale(tick.price, tick.price_scale)?;
        let size = self.same_size_scale(i128::from(tick.size), tick.size_scale);
        if first {
            (self.open, self.high, self.low, self.close) = (price, price, price, price);
            (self.open_ts, self.close_ts) = (tick.ts_event, tick.ts_event);
        }
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        if tick.backfilled && tick.ts_event < self.open_ts {
            (self.open, self.open_ts) = (price, tick.ts_event);
        }
        if !tick.backfilled || tick.ts_event >= self.close_ts {
            (self.close, self.close_ts) = (price, tick.ts_event);
        }
        if tick.backfilled {
            self.marks |= mark::BACKFILLED;
        }
        self.trades += 1;
        match size {
            Some(size) => match i128::from(price).checked_mul(size) {
                Some(notional) => self.sum(size, notional),
                None => {
                    self.sum(size, 0);
                    self.lose(false, true);
                }
            },
            None => self.lose(true, true),
        }
        Ok(())
    }

    /// Adds a candle of the venue's. What it is made of is not known: there is no weighted price any more.
    pub(crate) fn add_bar(&mut self, bar: &Bar, content: &Content) -> Result<(), Unfit> {
        let first = self.trades == 0;
        if first {
            (self.price_scale, self.size_scale) = (content.price_scale, content.size_scale);
        }
        let mut prices = [content.open, content.high, content.low, content.close];
        for price in &mut prices {
            *price = self.same_price_scale(*price, content.price_scale)?;
        }
        let [open, high, low, close] = prices;
        let last = bar.end - 1;
        if first {
            (self.high, self.low, self.open_ts, self.close_ts) = (high, low, bar.start, last);
        }
        self.high = self.high.max(high);
        self.low = self.low.min(low);
        if bar.start <= self.open_ts {
            (self.open, self.open_ts) = (open, bar.start);
        }
        if last >= self.close_ts {
            (self.close, self.close_ts) = (close, last);
        }
        self.marks |= mark::BACKFILLED | mark::NO_VWAP;
        self.trades = self.trades.saturating_add(content.trades);
        match content.volume.and_then(|volume| self.same_size_scale(volume, content.size_scale)) {
            Some(volume) => self.sum(volume, 0),
            None => self.lose(true, true),
        }
        Ok(())
    }

    /// Brings slot and price to one scale, the finer of both, and gives the price there.
    fn same_price_scale(&mut self, price: i64, scale: u8) -> Result<i64, Unfit> {
        if scale <= self.price_scale {
            return finer(price, self.price_scale - scale).ok_or(Unfit);
        }
        let by = scale - self.price_scale;
        let all = [self.open, self.high, self.low, self.close].map(|price| finer(price, by));
        let [Some(open), Some(high), Some(low), Some(close)] = all else { return Err(Unfit) };
        (self.open, self.high, self.low, self.close) = (open, high, low, close);
        self.price_scale = scale;
        match wider(self.notional, by) {
            Some(notional) => self.notional = notional,
            None => self.lose(false, true),
        }
        Ok(price)
    }

    /// The same for the size; `None` when the sum does not fit any more.
    fn same_size_scale(&mut self, size: i128, scale: u8) -> Option<i128> {
        if scale > self.size_scale {
            let by = scale - self.size_scale;
            self.size_scale = scale;
            match wider(self.notional, by) {
                Some(notional) => self.notional = notional,
                None => self.lose(false, true),
            }
            self.volume = wider(self.volume, by)?;
        }
        wider(size, self.size_scale - scale)
    }

    /// A price of this slot as a decimal.
    pub(crate) fn price(&self, mantissa: i64) -> Price {
        Price(Decimal::new(mantissa, self.price_scale).unwrap_or_default())
    }

    pub(crate) fn volume(&self) -> Option<Sum> {
        let fits = self.marks & mark::NO_VOLUME == 0;
        fits.then_some(Sum { mantissa: self.volume, scale: self.size_scale })
    }

    /// The volume-weighted price, cut to `digits` behind the point, or to as many as the prices have.
    pub(crate) fn vwap(&self, digits: u8) -> Option<Price> {
        if self.volume == 0 || self.marks & (mark::NO_VOLUME | mark::NO_VWAP) != 0 {
            return None;
        }
        let scale = digits.max(self.price_scale).min(Decimal::MAX_SCALE);
        let cut = wider(self.notional, scale - self.price_scale)? / self.volume;
        Decimal::new(i64::try_from(cut).ok()?, scale).map(Price)
    }
}

/// A mantissa at a scale that is `by` finer; `None` beyond 18 digits.
fn finer(mantissa: i64, by: u8) -> Option<i64> {
    mantissa.checked_mul(10_i64.checked_pow(u32::from(by))?).filter(|wide| wide.unsigned_abs() < MANTISSA_LIMIT)
}

fn wider(mantissa: i128, by: u8) -> Option<i128> {
    mantissa.checked_mul(10_i128.checked_pow(u32::from(by))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(price: &str, size: &str) -> Tick {
        let (price, size): (Decimal, Decimal) = (price.parse().unwrap(), size.parse().unwrap());
        Tick {
            instrument: 0,
            price_scale: price.scale(),
            size_scale: size.scale(),
            backfilled: false,
            snapshot: false,
            ts_event: 0,
            ts_recv: 0,
            price: price.mantissa(),
            size: size.mantissa(),
        }
    }

    fn slot(ticks: &[(&str, &str)]) -> Slot {
        let mut slot = Slot::of(0, 1);
        for (price, size) in ticks {
            let tick = tick(price, size);
            slot.add(&tick, i128::from(tick.price) * i128::from(tick.size)).unwrap();
        }
        slot
    }

    #[test]
    fn digits_may_change_from_tick_to_tick() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let ticks = [("100", "1.5"), ("100.25", "2"), ("99.1", "0.125")];
            let slot = slot(&order.map(|at| ticks[at]));
            assert_eq!(slot.price(slot.high).to_string(), "100.25");
            assert_eq!(slot.price(slot.low).to_string(), "99.10");
            assert_eq!(slot.volume().unwrap().to_string(), "3.625");
            // (150 + 200.5 + 12.3875) / 3.625 = 100.10689…
            assert_eq!(slot.vwap(0).unwrap().to_string(), "100.10");
            assert_eq!(slot.vwap(4).unwrap().to_string(), "100.1068");
        }
    }

    #[test]
    fn the_weighted_price_is_cut_and_not_rounded() {
        assert_eq!(slot(&[("1.0", "1"), ("1.1", "2")]).vwap(1).unwrap().to_string(), "1.0", "1.0666…");
        assert_eq!(slot(&[("1.0", "1"), ("1.1", "9")]).vwap(1).unwrap().to_string(), "1.0", "1.09");
        assert_eq!(slot(&[("1.0", "0")]).vwap(1), None);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_never_wrong() {
        let mut slot = slot(&[("123456789012345678", "1")]);
        assert_eq!(slot.add(&tick("0.1", "1"), 1), Err(Unfit));
        assert_eq!((slot.trades, slot.volume), (1, 1));
        let big = "999999999999999999";
        let mut slot = self::slot(&[(big, big)]);
        for _ in 0..400 {
            let tick = tick(big, big);
            slot.add(&tick, i128::from(tick.price) * i128::from(tick.size)).unwrap();
        }
        assert_eq!(slot.vwap(0), None, "400 × 10^36 do not fit");
        assert_eq!(slot.volume().unwrap().to_string(), "400999999999999999599");
    }

    #[test]
    fn a_slot_is_two_cache_lines() {
        assert!(size_of::<Slot>() <= 128, "{}", size_of::<Slot>());
    }
}
