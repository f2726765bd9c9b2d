//! A seeded market: pairs whose books, trades and tickers hang together.
//!
//! The market steps whether or not anybody listens, so that who comes back sees what a venue
//! shows: trade ids that went on without him. What happens is a function of the seed, of the
//! number of steps and of the depths that were asked for; only the timestamps come from the clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::book::{Book, Level, Side, find};
use super::rng::Rng;

/// Levels a side that every book keeps, before anybody asks for more.
const LEVELS: usize = 32;
/// Levels a side kept beyond the deepest subscription, so that one always comes into view.
const SPARE_LEVELS: usize = 8;
/// A side with no more levels than this loses none.
const MIN_LEVELS: usize = 14;
/// Trades kept over all pairs, for snapshots and for REST history.
const HISTORY_TRADES: usize = 400_000;
/// Trades behind a pair when it is listed: the first snapshot has fifty.
pub(crate) const PAST_TRADES: usize = 60;
/// Trades in the snapshot of a trade subscription.
pub(crate) const SNAPSHOT_TRADES: usize = 50;
/// Intervals of the candle channel, minutes.
pub(crate) const INTERVALS: [u32; 9] = [1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600];
const DAY_NS: i64 = 86_400_000_000_000;
/// Finished candles kept per interval.
const CANDLES: usize = 720;

/// One execution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trade {
    pub(crate) id: u64,
    pub(crate) ticks: i64,
    pub(crate) units: i64,
    pub(crate) buy: bool,
    pub(crate) limit: bool,
    pub(crate) ts_ns: i64,
}

/// Statistics since the market began, shown as the last 24 hours.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) volume_units: i64,
    /// Sum of ticks times units.
    pub(crate) notional: i128,
    pub(crate) trades: u64,
}

impl Stats {
    fn begin(ticks: i64) -> Self {
        Stats { open: ticks, high: ticks, low: ticks, ..Stats::default() }
    }

    fn add(&mut self, trade: &Trade) {
        self.high = self.high.max(trade.ticks);
        self.low = self.low.min(trade.ticks);
        self.volume_units = self.volume_units.saturating_add(trade.units);
        self.notional += i128::from(trade.ticks) * i128::from(trade.units);
        self.trades += 1;
    }

    /// Volume-weighted price in ticks, cut.
    pub(crate) fn vwap(&self) -> i64 {
        match self.volume_units {
            0 => self.open,
            units => i64::try_from(self.notional / i128::from(units)).unwrap_or(self.open),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Candle {
    pub(crate) begin_ns: i64,
    pub(crate) close: i64,
    pub(crate) stats: Stats,
}

/// Candles of one interval; kept from the moment somebody asks.
#[derive(Clone, Debug)]
pub(crate) struct Candles {
    pub(crate) interval_min: u32,
    /// The last one is running.
    pub(crate) candles: VecDeque<Candle>,
}

/// What one step changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Index of the pair.
    pub(crate) pair: usize,
    /// New trades, at the end of the pair's history.
    pub(crate) trades: usize,
    /// Best bid, best ask or last price moved.
    pub(crate) ticker: bool,
}

/// One traded pair.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) symbol: Arc<str>,
    pub(crate) price_decimals: u8,
    pub(crate) qty_decimals: u8,
    pub(crate) book: Book,
    pub(crate) next_trade_id: u64,
    pub(crate) history: VecDeque<Trade>,
    pub(crate) last: Trade,
    pub(crate) day: Stats,
    /// Since midnight, with the number of that day.
    today: (i64, Stats),
    pub(crate) candles: Vec<Candles>,
    /// No longer traded.
    pub(crate) delisted: bool,
    /// Price that the walk is pulled back to, ticks.
    anchor: i64,
    levels: usize,
    keep_trades: usize,
}

/// All pairs, and the dice.
#[derive(Debug)]
pub(crate) struct Market {
    pub(crate) pairs: Vec<Pair>,
    places: HashMap<Arc<str>, usize>,
    rng: Rng,
    seed: u64,
}

impl Market {
    /// `first_id`: where trade ids begin, added to a number of the pair's own. `past`: trades that a pair has behind it.
    pub(crate) fn new(listed: Vec<Listed>, seed: u64, first_id: u64, past: usize, now_ns: i64) -> Self {
        let keep_trades = (HISTORY_TRADES / listed.len().max(1)).clamp(50, 10_000).max(past);
        let new = |listed| Pair::new(listed, seed, first_id, past, keep_trades, now_ns);
        let pairs: Vec<Pair> = listed.into_iter().map(new).collect();
        let places = pairs.iter().enumerate().map(|(at, pair)| (Arc::clone(&pair.symbol), at)).collect();
        Market { pairs, places, rng: Rng::new(seed), seed }
    }

    /// Takes up a pair; its place. One that is known is traded again.
    pub(crate) fn list(&mut self, symbol: String, now_ns: i64) -> usize {
        if let Some(at) = self.find(&symbol) {
            self.pairs[at].delisted = false;
            return at;
        }
        let pair = Pair::new(Listed::named(symbol, self.seed), self.seed, 0, PAST_TRADES, SNAPSHOT_TRADES, now_ns);
        self.places.insert(Arc::clone(&pair.symbol), self.pairs.len());
        self.pairs.push(pair);
        self.pairs.len() - 1
    }

    /// Goes on behind these trade ids; a pair that is not named keeps its own.
    pub(crate) fn number_trades_behind(&mut self, last_ids: &HashMap<String, u64>) {
        for pair in &mut self.pairs {
            let Some(last_id) = last_ids.get(&*pair.symbol) else { continue };
            let id = last_id.saturating_add(1);
            pair.next_trade_id = id;
            // The past ends where the future begins.
            for (age, trade) in (1..).zip(pair.history.iter_mut().rev()) {
                trade.id = id.saturating_sub(age);
            }
            pair.last.id = id.saturating_sub(1);
        }
    }

    /// Where something happens next. The first pairs are the busy ones. `None`: nowhere this time.
    pub(crate) fn choose(&mut self) -> Option<usize> {
        let len = self.pairs.len();
        // The smaller of two draws: with 1,434 pairs the first is 2,867 times as busy as the last.
        let at = (len > 0).then(|| self.rng.index(len).min(self.rng.index(len)));
        at.filter(|&at| !self.pairs[at].delisted)
    }

    /// Lets something happen in one pair.
    pub(crate) fn step(&mut self, pair: usize, now_ns: i64) -> Step {
        let (trades, ticker) = self.pairs[pair].step(&mut self.rng, now_ns);
        Step { pair, trades, ticker }
    }

    pub(crate) fn find(&self, symbol: &str) -> Option<usize> {
        self.places.get(symbol).copied()
    }
}

/// Names of `count` pairs: well-known ones first, then invented ones.
pub(crate) fn names(count: usize) -> Vec<String> {
    const QUOTES: [&str; 6] = ["USD", "EUR", "BTC", "USDT", "GBP", "ETH"];
    let invented = (0..).map(|n: usize| {
        let letter = |place: usize| char::from(b'A' + u8::try_from(n / QUOTES.len() / place % 26).unwrap_or(0));
        format!("Z{}{}{}/{}", letter(676), letter(26), letter(1), QUOTES[n % QUOTES.len()])
    });
    KNOWN.iter().map(|known| known.0.to_owned()).chain(invented).take(count).collect()
}

/// Symbol, decimals of the price, price in ticks.
const KNOWN: [(&str, u8, i64); 16] = [
    ("BTC/USD", 1, 645_250),
    ("ETH/USD", 2, 228_415),
    ("EUR/USD", 5, 116_420),
    ("ETH/BTC", 6, 31_350),
    ("SOL/USD", 2, 15_231),
    ("XRP/USD", 5, 213_370),
    ("BTC/EUR", 1, 554_210),
    ("ETH/EUR", 2, 196_180),
    ("DOGE/USD", 7, 1_634_210),
    ("ADA/EUR", 6, 541_370),
    ("LTC/USD", 2, 8_431),
    ("USDT/USD", 5, 99_987),
    ("XMR/BTC", 6, 3_917),
    ("SHIB/USD", 9, 12_340),
    ("MINA/GBP", 4, 4_213),
    ("PEPE/EUR", 10, 98_120),
];

/// A pair as it is listed, before it has traded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) symbol: String,
    pub(crate) price_decimals: u8,
    pub(crate) qty_decimals: u8,
    /// Price that its walk begins at and is pulled back to, ticks.
    pub(crate) anchor: i64,
}

impl Listed {
    /// A pair of that name: from the name and the seed alone, so that it is the same in a market of
    /// one and of a thousand.
    pub(crate) fn named(symbol: String, seed: u64) -> Self {
        if let Some(&(_, price_decimals, anchor)) = KNOWN.iter().find(|known| known.0 == symbol) {
            return Listed { symbol, price_decimals, qty_decimals: 8, anchor };
        }
        let mut rng = dice_of(&symbol, seed);
        let price_decimals = u8::try_from(rng.between(1, 9)).unwrap_or(4);
        let qty_decimals = if rng.chance(8) { 5 } else { 8 };
        Listed { symbol, price_decimals, qty_decimals, anchor: rng.between(5_000, 900_000) }
    }
}

fn dice_of(symbol: &str, seed: u64) -> Rng {
    Rng::new(seed ^ (u64::from(crc32fast::hash(symbol.as_bytes())) << 16))
}

impl Pair {
    fn new(listed: Listed, seed: u64, first_id: u64, past: usize, keep_trades: usize, now_ns: i64) -> Self {
        let Listed { symbol, price_decimals, qty_decimals, anchor } = listed;
        let mut rng = dice_of(&symbol, !seed);
        let next_trade_id = first_id + 1_000_000 + rng.below(90_000_000);
        let last = Trade { id: next_trade_id - 1, ticks: anchor, units: 1, buy: true, limit: true, ts_ns: now_ns };
        let mut pair = Pair {
            symbol: symbol.as_str().into(),
            price_decimals,
            qty_decimals,
            book: Book {
                bids: vec![Level { ticks: anchor - 1, units: 1_000 }],
                asks: vec![Level { ticks: anchor + 1, units: 1_000 }],
            },
            next_trade_id,
            history: VecDeque::new(),
            last,
            day: Stats::begin(anchor),
            today: (now_ns.div_euclid(DAY_NS), Stats::begin(anchor)),
            candles: Vec::new(),
            delisted: false,
            anchor,
            levels: LEVELS,
            keep_trades,
        };
        pair.refill(&mut rng);
        // A past, a second apart.
        for age in (1..=i64::try_from(past).unwrap_or(i64::MAX)).rev() {
            pair.trade(&mut rng, now_ns - age * 1_000_000_000);
            pair.refill(&mut rng);
        }
        pair
    }

    /// Makes the book deep enough for a subscription of `depth` levels.
    pub(crate) fn deepen(&mut self, depth: usize) {
        if depth + SPARE_LEVELS > self.levels {
            self.levels = depth + SPARE_LEVELS;
            self.refill(&mut Rng::new(self.next_trade_id));
        }
    }

    /// Statistics since midnight.
    pub(crate) fn today(&self) -> &Stats {
        &self.today.1
    }

    /// Candles of an interval, kept from now on.
    pub(crate) fn candles(&mut self, interval_min: u32) -> &Candles {
        let at = self.candles.iter().position(|kept| kept.interval_min == interval_min).unwrap_or_else(|| {
            let mut kept = Candles { interval_min, candles: VecDeque::new() };
            self.history.iter().for_each(|trade| kept.add(trade));
            self.candles.push(kept);
            self.candles.len() - 1
        });
        &self.candles[at]
    }

    fn step(&mut self, rng: &mut Rng, now_ns: i64) -> (usize, bool) {
        let best = |book: &Book| (book.bids.first().copied(), book.asks.first().copied());
        let before = best(&self.book);
        let trades = if rng.chance(18) { self.trade(rng, now_ns) } else { 0 };
        if trades == 0 {
            // Most messages of the venue hold one change, some several.
            let changes = if rng.chance(12) { rng.between(2, 4) } else { 1 };
            (0..changes).for_each(|_| self.rearrange(rng));
        }
        self.refill(rng);
        (trades, trades > 0 || best(&self.book) != before)
    }

    /// Somebody takes from the best levels. Returns the number of executions.
    fn trade(&mut self, rng: &mut Rng, now_ns: i64) -> usize {
        let (Some(bid), Some(ask)) = (self.book.bids.first(), self.book.asks.first()) else { return 0 };
        // The further the price has strayed, the likelier it comes back: 50 % at the anchor, 10 or 90 % at 4 % away.
        let away = (i128::from(self.anchor) * 2 - i128::from(bid.ticks) - i128::from(ask.ticks)) * 500;
        let pull = i64::try_from(away / i128::from(self.anchor)).unwrap_or(0).clamp(-40, 40);
        let buy = rng.chance(u64::try_from(50 + pull).unwrap_or(50));
        let limit = rng.chance(60);
        let levels = self.book.side_mut(if buy { Side::Ask } else { Side::Bid });
        let wanted = if rng.chance(25) { rng.index(3) + 1 } else { 1 };
        let mut done = 0;
        while done < wanted && levels.len() > MIN_LEVELS {
            let best = &mut levels[0];
            let whole = done + 1 < wanted || best.units < 2 || rng.chance(35);
            let units = if whole { best.units } else { rng.between(1, best.units - 1) };
            let ticks = best.ticks;
            best.units -= units;
            if best.units == 0 {
                levels.remove(0);
            }
            // A nanosecond apart: a page of history may end between any two.
            let ts_ns = now_ns + i64::try_from(done).unwrap_or(0);
            let trade = Trade { id: self.next_trade_id, ticks, units, buy, limit, ts_ns };
            self.next_trade_id += 1;
            self.last = trade;
            self.day.add(&trade);
            let day = now_ns.div_euclid(DAY_NS);
            if day > self.today.0 {
                self.today = (day, Stats::begin(ticks));
            }
            if day == self.today.0 {
                self.today.1.add(&trade);
            }
            self.candles.iter_mut().for_each(|candles| candles.add(&trade));
            if self.history.len() >= self.keep_trades {
                self.history.pop_front();
            }
            self.history.push_back(trade);
            done += 1;
        }
        done
    }

    /// Somebody places, changes or withdraws an order.
    fn rearrange(&mut self, rng: &mut Rng) {
        let side = if rng.chance(50) { Side::Bid } else { Side::Ask };
        let other =
            self.book.side(if side == Side::Bid { Side::Ask } else { Side::Bid }).first().map(|best| best.ticks);
        let levels = self.book.side_mut(side);
        let near = if rng.chance(80) { levels.len().min(12) } else { levels.len() };
        let at = rng.index(near);
        let Some(level) = levels.get(at).copied() else { return };
        match rng.below(100) {
            0..40 => levels[at].units = some_units(rng),
            40..65 if levels.len() > MIN_LEVELS => {
                levels.remove(at);
            }
            _ => {
                // Between this level and the next better one; before the best it is the other side that limits.
                let better = if at == 0 { other } else { levels.get(at - 1).map(|better| better.ticks) };
                let room = better.map_or(0, |better| better.abs_diff(level.ticks).saturating_sub(1));
                if room == 0 {
                    levels[at].units = some_units(rng);
                    return;
                }
                let step = i64::try_from(1 + rng.below(room)).unwrap_or(1);
                let ticks = if side == Side::Bid { level.ticks + step } else { level.ticks - step };
                levels.insert(at, Level { ticks, units: some_units(rng) });
            }
        }
        debug_assert!(find(levels, side, levels[0].ticks) == Ok(0), "a side stays sorted");
    }

    /// Brings both sides to their number of levels, at the far end, and cuts what is beyond twice that.
    fn refill(&mut self, rng: &mut Rng) {
        for (side, step) in [(Side::Bid, -1), (Side::Ask, 1)] {
            let wanted = self.levels;
            let levels = self.book.side_mut(side);
            levels.truncate(wanted * 2);
            let Some(mut ticks) = levels.last().map(|last| last.ticks) else { continue };
            while levels.len() < wanted {
                ticks += step * rng.between(1, 4);
                if ticks < 1 {
                    break;
                }
                levels.push(Level { ticks, units: some_units(rng) });
            }
        }
    }
}

impl Candles {
    fn add(&mut self, trade: &Trade) {
        let len_ns = i64::from(self.interval_min) * 60_000_000_000;
        let begin_ns = trade.ts_ns.div_euclid(len_ns) * len_ns;
        if self.candles.back().is_none_or(|running| running.begin_ns != begin_ns) {
            if self.candles.len() == CANDLES {
                self.candles.pop_front();
            }
            self.candles.push_back(Candle { begin_ns, close: trade.ticks, stats: Stats::begin(trade.ticks) });
        }
        if let Some(running) = self.candles.back_mut() {
            running.close = trade.ticks;
            running.stats.add(trade);
        }
    }
}

/// A size: small ones with all their digits, and now and then a round lot with trailing zeros.
fn some_units(rng: &mut Rng) -> i64 {
    match rng.below(10) {
        0 => rng.between(1, 9) * 100_000,
        1 => rng.between(1, 999),
        2 => rng.between(100_000_000, 9_999_999_999),
        _ => rng.between(1_000, 99_999_999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(count: usize) -> Vec<Listed> {
        names(count).into_iter().map(|name| Listed::named(name, 1)).collect()
    }

    #[test]
    fn a_market_stays_sane_for_a_hundred_thousand_steps() {
        let mut market = Market::new(listed(40), 7, 0, PAST_TRADES, 1_800_000_000_000_000_000);
        market.pairs[0].deepen(1_000);
        for step in 0..100_000 {
            let Some(at) = market.choose() else { continue };
            market.step(at, 1_800_000_000_000_000_000 + step);
            let pair = &market.pairs[at];
            let (bids, asks) = (&pair.book.bids, &pair.book.asks);
            assert!(bids.windows(2).all(|two| two[0].ticks > two[1].ticks), "{} bids at step {step}", pair.symbol);
            assert!(asks.windows(2).all(|two| two[0].ticks < two[1].ticks), "{} asks at step {step}", pair.symbol);
            assert!(bids[0].ticks < asks[0].ticks, "{} crossed at step {step}", pair.symbol);
            assert!(bids.iter().chain(asks).all(|level| level.units > 0 && level.ticks > 0), "{}", pair.symbol);
            assert!(bids.len() > 10 && asks.len() > 10, "{} thin at step {step}", pair.symbol);
        }
        let btc = &market.pairs[0];
        let ids: Vec<u64> = btc.history.iter().map(|trade| trade.id).collect();
        assert!(ids.len() > 1_000 && ids.windows(2).all(|two| two[1] == two[0] + 1), "{} trades", ids.len());
        let away = (btc.last.ticks - btc.anchor).abs() * 100 / btc.anchor;
        assert!(away < 20, "the price strayed {away} %");
    }

    #[test]
    fn a_seed_gives_the_same_market_again() {
        let run = |seed| {
            let mut market = Market::new(listed(5), seed, 0, PAST_TRADES, 0);
            for n in 0..5_000 {
                market.step(n % 5, 0);
            }
            market.pairs.iter().map(|pair| (pair.book.checksum(), pair.next_trade_id)).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn there_are_as_many_names_as_asked_and_none_twice() {
        let names = names(1_434);
        let unique: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!((names.len(), unique.len()), (1_434, 1_434));
    }
}
