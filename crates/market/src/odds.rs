//! The ladders of a betting market, built again from its runner changes.
//!
//! ```text
//! Odds{selection 0, image}        the market begins anew: every runner is forgotten
//! Odds{selection, image, …}       the runner begins anew
//! Odds{selection, …}              changes: by price (size zero removes), by level (size zero clears), last values
//! ```
//!
//! Invariants: a price, and a level, occurs once a ladder; none has size zero; the best one comes first, which is the highest
//! price to back and the lowest elsewhere. What the venue calls best levels is not the top of its ladders but a sum of small
//! ones, so both are kept as they come.

use std::cmp::Ordering;

use crate::{Decimal, LevelPriceSize, Odds, Price, PriceSize, Size};

/// A market as its runner changes left it. The [`Odds`] of selection zero are about the market itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Market {
    /// By key.
    runners: Vec<Runner>,
    volume: Option<Size>,
}

/// A runner of a [`Market`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runner {
    pub selection: i64,
    pub handicap: Decimal,
    /// Last traded price.
    pub last: Option<Price>,
    /// Total matched.
    pub volume: Option<Size>,
    pub sp_near: Option<Price>,
    pub sp_far: Option<Price>,
    /// Highest price first.
    pub available_to_back: Vec<PriceSize>,
    /// Lowest price first, like those that follow.
    pub available_to_lay: Vec<PriceSize>,
    pub traded: Vec<PriceSize>,
    pub sp_back: Vec<PriceSize>,
    pub sp_lay: Vec<PriceSize>,
    /// Level zero first, like those that follow.
    pub best_to_back: Vec<LevelPriceSize>,
    pub best_to_lay: Vec<LevelPriceSize>,
    pub best_display_to_back: Vec<LevelPriceSize>,
    pub best_display_to_lay: Vec<LevelPriceSize>,
}

impl Market {
    /// Applies one change.
    pub fn apply(&mut self, odds: &Odds) {
        if odds.selection == 0 && odds.image {
            self.runners.clear();
            self.volume = None;
        }
        if let Some(volume) = odds.market_volume {
            self.volume = Some(volume);
        }
        if odds.selection != 0 {
            self.runner_mut(odds.selection, odds.handicap).apply(odds);
        }
    }

    /// In the order of (selection, handicap).
    #[must_use]
    pub fn runners(&self) -> &[Runner] {
        &self.runners
    }

    #[must_use]
    pub fn runner(&self, selection: i64, handicap: Decimal) -> Option<&Runner> {
        self.place(selection, handicap).ok().map(|at| &self.runners[at])
    }

    /// Total matched on the whole market, as told last.
    #[must_use]
    pub fn volume(&self) -> Option<Size> {
        self.volume
    }

    /// The whole market as changes that begin it anew, e.g. for a checkpoint.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Odds> {
        let whole = Odds { image: true, market_volume: self.volume, ..Odds::default() };
        std::iter::once(whole).chain(self.runners.iter().map(Runner::snapshot)).collect()
    }

    fn place(&self, selection: i64, handicap: Decimal) -> Result<usize, usize> {
        self.runners.binary_search_by(|held| held.selection.cmp(&selection).then_with(|| held.handicap.cmp(&handicap)))
    }

    fn runner_mut(&mut self, selection: i64, handicap: Decimal) -> &mut Runner {
        let at = match self.place(selection, handicap) {
            Ok(at) => at,
            Err(at) => {
                self.runners.insert(at, Runner { selection, handicap, ..Runner::default() });
                at
            }
        };
        &mut self.runners[at]
    }
}

impl Runner {
    fn apply(&mut self, odds: &Odds) {
        if odds.image {
            *self = Runner { selection: self.selection, handicap: self.handicap, ..Runner::default() };
        }
        self.last = odds.last.or(self.last);
        self.volume = odds.volume.or(self.volume);
        self.sp_near = odds.sp_near.or(self.sp_near);
        self.sp_far = odds.sp_far.or(self.sp_far);
        by_price(&mut self.available_to_back, &odds.available_to_back, |held, new| new.cmp(&held));
        by_price(&mut self.available_to_lay, &odds.available_to_lay, |held, new| held.cmp(&new));
        by_price(&mut self.traded, &odds.traded, |held, new| held.cmp(&new));
        by_price(&mut self.sp_back, &odds.sp_back, |held, new| held.cmp(&new));
        by_price(&mut self.sp_lay, &odds.sp_lay, |held, new| held.cmp(&new));
        by_level(&mut self.best_to_back, &odds.best_to_back);
        by_level(&mut self.best_to_lay, &odds.best_to_lay);
        by_level(&mut self.best_display_to_back, &odds.best_display_to_back);
        by_level(&mut self.best_display_to_lay, &odds.best_display_to_lay);
    }

    fn snapshot(&self) -> Odds {
        Odds {
            selection: self.selection,
            handicap: self.handicap,
            image: true,
            last: self.last,
            volume: self.volume,
            sp_near: self.sp_near,
            sp_far: self.sp_far,
            available_to_back: self.available_to_back.clone(),
            available_to_lay: self.available_to_lay.clone(),
            traded: self.traded.clone(),
            sp_back: self.sp_back.clone(),
            sp_lay: self.sp_lay.clone(),
            best_to_back: self.best_to_back.clone(),
            best_to_lay: self.best_to_lay.clone(),
            best_display_to_back: self.best_display_to_back.clone(),
            best_display_to_lay: self.best_display_to_lay.clone(),
            conflated: false,
            market_volume: None,
        }
    }
}

fn by_price(ladder: &mut Vec<PriceSize>, changes: &[PriceSize], order: impl Fn(Price, Price) -> Ordering) {
    for change in changes {
        let place = ladder.binary_search_by(|held| order(held.price, change.price));
        put(ladder, place, change, change.size);
    }
}

fn by_level(ladder: &mut Vec<LevelPriceSize>, changes: &[LevelPriceSize]) {
    for change in changes {
        let place = ladder.binary_search_by_key(&change.level, |held| held.level);
        put(ladder, place, change, change.size);
    }
}

fn put<T: Copy>(ladder: &mut Vec<T>, place: Result<usize, usize>, change: &T, size: Size) {
    match place {
        Ok(at) if size.0.is_zero() => {
            ladder.remove(at);
        }
        Ok(at) => ladder[at] = *change,
        Err(_) if size.0.is_zero() => {}
        Err(at) => ladder.insert(at, *change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(price: &str, size: &str) -> PriceSize {
        PriceSize { price: Price(price.parse().unwrap()), size: Size(size.parse().unwrap()) }
    }

    fn change(selection: i64, back: &[(&str, &str)], lay: &[(&str, &str)]) -> Odds {
        let levels = |side: &[(&str, &str)]| side.iter().map(|(price, size)| level(price, size)).collect();
        Odds { selection, available_to_back: levels(back), available_to_lay: levels(lay), ..Odds::default() }
    }

    #[test]
    fn ladders_are_kept_by_price_and_size_zero_removes() {
        let mut market = Market::default();
        market.apply(&change(7, &[("1.5", "2"), ("1.52", "3"), ("1.5", "4")], &[("1.6", "1"), ("1.54", "9")]));
        market.apply(&change(7, &[("1.52", "0"), ("1.01", "0")], &[("1.60", "2")]));
        let runner = market.runner(7, Decimal::ZERO).unwrap();
        assert_eq!(runner.available_to_back, [level("1.5", "4")]);
        assert_eq!(runner.available_to_lay, [level("1.54", "9"), level("1.6", "2")]);
    }

    #[test]
    fn a_runner_is_known_by_its_handicap_too() {
        let mut market = Market::default();
        for (handicap, price) in [("-0.5", "1.9"), ("0", "2.1"), ("0.0", "2.2")] {
            let odds = change(7, &[(price, "1")], &[]);
            market.apply(&Odds { handicap: handicap.parse().unwrap(), ..odds });
        }
        assert_eq!(market.runners().len(), 2);
        assert_eq!(market.runner(7, Decimal::ZERO).unwrap().available_to_back.len(), 2);
    }

    #[test]
    fn an_image_of_the_market_forgets_every_runner_and_a_snapshot_says_all_of_it() {
        let mut market = Market::default();
        market.apply(&change(7, &[("1.5", "2")], &[]));
        market.apply(&change(8, &[("3", "2")], &[]));
        market.apply(&Odds { image: true, market_volume: Some(Size("12.5".parse().unwrap())), ..Odds::default() });
        market.apply(&change(8, &[], &[("5", "1")]));
        assert_eq!(market.runners().len(), 1);
        market.apply(&Odds { image: true, ..change(8, &[("4", "1")], &[]) });
        assert!(market.runners()[0].available_to_lay.is_empty());
        let mut again = Market::default();
        again.apply(&change(9, &[("9", "9")], &[]));
        market.snapshot().iter().for_each(|odds| again.apply(odds));
        assert_eq!(again, market);
    }
}
