//! Pairs of one kind of input, the quotes derived of them, and each quote compared with the one before.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use tapedeck_market::{Decimal, Leg, Price, Size, SmolStr, Synthetic};

use super::rate::{Rate, difference};

/// The two currencies, as a pair is quoted in them.
const QUOTES: [&str; 2] = ["USD", "EUR"];
/// Coins that are told apart; what lies beyond derives nothing.
const COINS_AT_MOST: usize = 20_000;

/// When a quote counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Times of two prices, or of two quotes, that belong together are not further apart.
    pub max_age_ns: i64,
    pub min: Decimal,
    pub max: Decimal,
}

impl Bounds {
    fn together(&self, a: i64, b: i64) -> bool {
        a.abs_diff(b) <= self.max_age_ns.unsigned_abs()
    }

    fn hold(&self, rate: Rate) -> Option<bool> {
        Some(rate.cmp(self.min)? != Ordering::Less && rate.cmp(self.max)? != Ordering::Greater)
    }
}

/// The coin of a symbol, and the place of its currency; `None`: it is in neither.
pub(super) fn coin(symbol: &str) -> Option<(&str, usize)> {
    let (coin, quote) = symbol.rsplit_once('/')?;
    let at = QUOTES.iter().position(|known| *known == quote)?;
    (!coin.is_empty() && !QUOTES.contains(&coin)).then_some((coin, at))
}

/// Best prices of a pair, with their sizes where they are of a book.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Top {
    pub(super) source: SmolStr,
    pub(super) time: i64,
    pub(super) bid: Price,
    pub(super) ask: Price,
    /// Bid, ask.
    pub(super) sizes: Option<(Size, Size)>,
}

impl Top {
    /// Whether both say the same, whenever and whoever.
    fn says(&self, other: &Top) -> bool {
        (self.bid, self.ask, self.sizes) == (other.bid, other.ask, other.sizes)
    }
}

/// What was last derived through a coin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Derived {
    pub(super) time: i64,
    pub(super) bid: Decimal,
    pub(super) ask: Decimal,
    /// The prices of both pairs then.
    pub(super) tops: [Top; 2],
}

/// A coin in both currencies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cross {
    /// In the order of [`QUOTES`].
    pub(super) tops: [Option<Top>; 2],
    pub(super) last: Option<Derived>,
}

/// A derived quote that the next one is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Before {
    pub(super) coin: SmolStr,
    pub(super) time: i64,
    pub(super) leg: Leg,
}

/// What became of a price.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// A quote with the one before it.
    Made(Synthetic),
    /// A quote, and there is none before it.
    Held,
    /// The coin's quote is what it was.
    Unchanged,
    /// The other price is not known.
    Alone,
    /// The other price is of another time.
    Stale,
    Outside,
    /// A price that is none, or of too many digits.
    Unfit,
}

/// The crosses of one kind of input.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chain {
    pub(super) crosses: BTreeMap<SmolStr, Cross>,
    pub(super) before: Option<Before>,
}

/// How many coins are known, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crosses {
    pub both: usize,
    /// A few of those that are known in one currency only, as symbols.
    pub alone: Vec<String>,
}

impl Chain {
    /// A pair has this price now.
    pub(super) fn told(&mut self, symbol: &SmolStr, top: Top, bounds: &Bounds) -> Outcome {
        let Some((coin, at)) = coin(symbol) else { return Outcome::Unfit };
        if !self.crosses.contains_key(coin) {
            if self.crosses.len() >= COINS_AT_MOST {
                return Outcome::Unfit;
            }
            self.crosses.insert(coin.into(), Cross::default());
        }
        let Some(cross) = self.crosses.get_mut(coin) else { return Outcome::Unfit };
        let time = top.time;
        cross.tops[at] = Some(top);
        let [Some(usd), Some(eur)] = &cross.tops else { return Outcome::Alone };
        if !bounds.together(usd.time, eur.time) {
            return Outcome::Stale;
        }
        let rates = (Rate::of(usd.bid, eur.ask), Rate::of(usd.ask, eur.bid));
        let (Some(bid), Some(ask)) = rates else { return Outcome::Unfit };
        match (bounds.hold(bid), bounds.hold(ask)) {
            (Some(true), Some(true)) => {}
            (Some(_), Some(_)) => return Outcome::Outside,
            _ => return Outcome::Unfit,
        }
        let (Some(bid), Some(ask)) = (bid.rounded(), ask.rounded()) else { return Outcome::Unfit };
        let own = if at == 0 { usd } else { eur };
        let same = cross.last.as_ref().is_some_and(|last| {
            let sizes = own.sizes.is_none() || last.tops[at].says(own);
            (last.bid, last.ask) == (bid, ask) && sizes && bounds.together(last.time, time)
        });
        if same {
            return Outcome::Unchanged;
        }
        let leg = leg(symbol, bid, ask, own);
        cross.last = Some(Derived { time, bid, ask, tops: [usd.clone(), eur.clone()] });
        let now = Before { coin: coin.into(), time, leg };
        let before = self.before.replace(now.clone()).filter(|before| bounds.together(before.time, time));
        match before {
            Some(before) => compared(before.leg, now.leg).map_or(Outcome::Unfit, Outcome::Made),
            None => Outcome::Held,
        }
    }

    /// Takes what was known of a pair from a source, without a symbol of all of the source's, for unknown.
    pub(super) fn forget(&mut self, source: &str, symbol: &str) {
        if symbol.is_empty() {
            let coins: Vec<SmolStr> = self.crosses.keys().cloned().collect();
            coins.iter().for_each(|coin| (0..QUOTES.len()).for_each(|at| self.forget_top(source, coin, at)));
        } else if let Some((coin, at)) = coin(symbol) {
            self.forget_top(source, coin, at);
        }
    }

    fn forget_top(&mut self, source: &str, coin: &str, at: usize) {
        let Some(cross) = self.crosses.get_mut(coin) else { return };
        let is_of = |top: &Top| top.source == source;
        if cross.tops[at].as_ref().is_some_and(is_of) {
            cross.tops[at] = None;
        }
        if cross.last.as_ref().is_some_and(|last| is_of(&last.tops[at])) {
            cross.last = None;
            // The coin's quotes since then may be missing.
            if self.before.as_ref().is_some_and(|before| before.coin == coin) {
                self.before = None;
            }
        }
    }

    pub(super) fn forget_all(&mut self) {
        *self = Chain::default();
    }

    /// Which coins can be divided.
    pub(super) fn known(&self) -> Crosses {
        const SHOWN: usize = 4;
        let mut known = Crosses::default();
        for (coin, cross) in &self.crosses {
            match &cross.tops {
                [Some(_), Some(_)] => known.both += 1,
                [Some(_), None] if known.alone.len() < SHOWN => known.alone.push(format!("{coin}/{}", QUOTES[0])),
                [None, Some(_)] if known.alone.len() < SHOWN => known.alone.push(format!("{coin}/{}", QUOTES[1])),
                _ => {}
            }
        }
        known
    }
}

fn leg(symbol: &SmolStr, bid: Decimal, ask: Decimal, own: &Top) -> Leg {
    let mut leg = Leg { instrument: symbol.clone(), bid: Some(Price(bid)), ask: Some(Price(ask)), ..Leg::default() };
    if let Some((bid_size, ask_size)) = own.sizes {
        (leg.leg_bid, leg.leg_bid_size) = (Some(own.bid), Some(bid_size));
        (leg.leg_ask, leg.leg_ask_size) = (Some(own.ask), Some(ask_size));
    }
    leg
}

/// Two quotes with what lies between them.
fn compared(t0: Leg, t1: Leg) -> Option<Synthetic> {
    let between = |ask: Option<Price>, bid: Option<Price>| difference(ask?.0, bid?.0);
    let spread = Some(between(t1.ask, t1.bid)?);
    let spread_bid = Some(between(t0.ask, t1.bid)?);
    let spread_ask = Some(between(t1.ask, t0.bid)?);
    Some(Synthetic { legs: vec![t0, t1], spread, spread_bid, spread_ask })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn bounds() -> Bounds {
        Bounds { max_age_ns: 60 * SECOND, min: "1".parse().unwrap(), max: "2".parse().unwrap() }
    }

    fn top(time: i64, bid: &str, ask: &str) -> Top {
        let (bid, ask) = (bid.parse().unwrap(), ask.parse().unwrap());
        Top { source: "k".into(), time, bid, ask, sizes: None }
    }

    fn tell(chain: &mut Chain, symbol: &str, top: Top) -> Outcome {
        chain.told(&symbol.into(), top, &bounds())
    }

    #[test]
    fn the_first_quote_is_kept_for_the_second_and_each_is_compared_with_the_one_before() {
        let mut chain = Chain::default();
        assert_eq!(tell(&mut chain, "BTC/USD", top(0, "54061.5", "54100.5")), Outcome::Alone);
        assert_eq!(tell(&mut chain, "BTC/EUR", top(1, "50000.0", "50000.1")), Outcome::Held);
        assert_eq!(tell(&mut chain, "BTC/EUR", top(2, "50000.0", "50000.1")), Outcome::Unchanged);
        assert_eq!(tell(&mut chain, "ETH/EUR", top(3, "2000.00", "2000.00")), Outcome::Alone);
        let Outcome::Made(said) = tell(&mut chain, "ETH/USD", top(4, "2162.20", "2163.90")) else {
            panic!("{chain:?}")
        };
        let names: Vec<&str> = said.legs.iter().map(|leg| leg.instrument.as_str()).collect();
        assert_eq!(names, ["BTC/EUR", "ETH/USD"], "the pairs that moved");
        let text = |price: Option<Price>| price.unwrap().to_string();
        let quotes: Vec<_> = said.legs.iter().map(|leg| (text(leg.bid), text(leg.ask))).collect();
        assert_eq!(quotes, [("1.08123".into(), "1.08201".into()), ("1.08110".into(), "1.08195".into())]);
        let spreads = [said.spread, said.spread_bid, said.spread_ask].map(text);
        assert_eq!(spreads, ["0.00085", "0.00091", "0.00072"], "the predecessors' own sample");
        assert_eq!(chain.known(), Crosses { both: 2, alone: Vec::new() });
    }

    #[test]
    fn what_is_no_coin_in_both_currencies_derives_nothing() {
        for symbol in ["EUR/USD", "USD/EUR", "ETH/BTC", "/USD", "BTCUSD"] {
            assert_eq!(coin(symbol), None, "{symbol}");
        }
        assert_eq!((coin("BTC/USD"), coin("ADA/EUR")), (Some(("BTC", 0)), Some(("ADA", 1))));
        let mut chain = Chain::default();
        tell(&mut chain, "BTC/USD", top(0, "1.1", "1.2"));
        tell(&mut chain, "ETH/EUR", top(0, "1.1", "1.2"));
        assert_eq!(chain.known(), Crosses { both: 0, alone: vec!["BTC/USD".into(), "ETH/EUR".into()] });
    }

    #[test]
    fn prices_that_are_too_far_apart_or_out_of_bounds_derive_nothing() {
        let mut chain = Chain::default();
        tell(&mut chain, "BTC/USD", top(0, "1.5", "1.5"));
        assert_eq!(tell(&mut chain, "BTC/EUR", top(61 * SECOND, "1", "1")), Outcome::Stale);
        assert_eq!(tell(&mut chain, "BTC/USD", top(62 * SECOND, "1.5", "1.5")), Outcome::Held);
        assert_eq!(tell(&mut chain, "BTC/USD", top(63 * SECOND, "2", "2.000001")), Outcome::Outside);
        assert_eq!(tell(&mut chain, "BTC/USD", top(63 * SECOND, "0.99", "1.1")), Outcome::Outside);
        assert_eq!(tell(&mut chain, "BTC/USD", top(63 * SECOND, "0", "1.1")), Outcome::Unfit);
        assert!(matches!(tell(&mut chain, "BTC/USD", top(64 * SECOND, "1", "2")), Outcome::Made(_)));
        // Too long after the last one it is a first one again.
        tell(&mut chain, "BTC/EUR", top(200 * SECOND, "1", "1"));
        assert_eq!(tell(&mut chain, "BTC/USD", top(200 * SECOND, "1", "2")), Outcome::Held);
    }

    #[test]
    fn a_gap_takes_back_the_price_and_the_quote_that_went_through_it() {
        let mut chain = Chain::default();
        for (symbol, price) in [("BTC/USD", "1.1"), ("BTC/EUR", "1"), ("ETH/EUR", "1"), ("ETH/USD", "1.2")] {
            tell(&mut chain, symbol, top(0, price, price));
        }
        let mut other = chain.clone();
        other.forget("another source", "ETH/EUR");
        assert_eq!(other, chain);
        other.forget("k", "BTC/EUR");
        assert_eq!(tell(&mut other, "BTC/USD", top(1, "1.3", "1.3")), Outcome::Alone);
        assert!(matches!(tell(&mut other, "ETH/USD", top(1, "1.3", "1.3")), Outcome::Made(_)), "it went through ETH");
        chain.forget("k", "ETH/EUR");
        assert_eq!(tell(&mut chain, "ETH/USD", top(1, "1.3", "1.3")), Outcome::Alone);
        assert_eq!(tell(&mut chain, "BTC/USD", top(1, "1.3", "1.3")), Outcome::Held, "what is before is gone");
        assert_eq!(
            tell(&mut chain, "ETH/EUR", top(2, "1", "1")),
            Outcome::Made(
                compared(
                    leg(&"BTC/USD".into(), five("1.30000"), five("1.30000"), &top(0, "1", "1")),
                    leg(&"ETH/EUR".into(), five("1.30000"), five("1.30000"), &top(0, "1", "1"))
                )
                .unwrap()
            )
        );
        chain.forget("k", "");
        assert_eq!((chain.known().both, &chain.before), (0, &None));
    }

    fn five(text: &str) -> Decimal {
        text.parse().unwrap()
    }
}
