//! The venue's own order book: integers, and the checksum over them.

use super::text::push_int;

/// A price level: a count of price ticks and a count of size units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) ticks: i64,
    /// 0 in an update: the level is gone.
    pub(crate) units: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Bid,
    Ask,
}

/// Both sides, best first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) bids: Vec<Level>,
    pub(crate) asks: Vec<Level>,
}

impl Book {
    pub(crate) fn side(&self, side: Side) -> &[Level] {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }

    pub(crate) fn top(&self, side: Side, depth: usize) -> &[Level] {
        let levels = self.side(side);
        &levels[..levels.len().min(depth)]
    }

    pub(crate) fn side_mut(&mut self, side: Side) -> &mut Vec<Level> {
        match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        }
    }

    /// CRC-32 of the ten best asks, then the ten best bids: each price and size as the digits that
    /// remain without point and leading zeros, which are those of our integers.
    pub(crate) fn checksum(&self) -> u32 {
        let mut digits = Vec::with_capacity(20 * 2 * 12);
        for level in self.top(Side::Ask, 10).iter().chain(self.top(Side::Bid, 10)) {
            push_int(&mut digits, level.ticks.unsigned_abs());
            push_int(&mut digits, level.units.unsigned_abs());
        }
        crc32fast::hash(&digits)
    }
}

/// Where a price stands on a side that is sorted best first.
pub(crate) fn find(levels: &[Level], side: Side, ticks: i64) -> Result<usize, usize> {
    match side {
        Side::Bid => levels.binary_search_by(|level| ticks.cmp(&level.ticks)),
        Side::Ask => levels.binary_search_by(|level| level.ticks.cmp(&ticks)),
    }
}

/// What a reader that keeps `depth` levels must be told to come from `before` (its levels) to the
/// book as it is now. A level that is only pushed out of its depth is not mentioned: it cuts it off itself.
pub(crate) fn changes(before: &[Level], now: &[Level], side: Side, depth: usize, out: &mut Vec<Level>) {
    let after = &now[..now.len().min(depth)];
    for old in before {
        if find(now, side, old.ticks).is_err() {
            out.push(Level { ticks: old.ticks, units: 0 });
        }
    }
    for new in after {
        let known = find(before, side, new.ticks).is_ok_and(|at| before[at].units == new.units);
        if !known {
            out.push(*new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(rows: &[(i64, i64)]) -> Vec<Level> {
        rows.iter().map(|&(ticks, units)| Level { ticks, units }).collect()
    }

    #[test]
    fn the_checksum_of_a_recorded_snapshot_is_the_venues() {
        // ETH/BTC of 2026-08-26, depth 10, prices of six decimals and sizes of eight.
        let bids = [31348, 31347, 31345, 31344, 31340, 31339, 31338, 31336, 31334, 31332];
        let bid_units = [
            3_740_000,
            287_288_049,
            857_986_833,
            1_440_276_069,
            1_296_065_840,
            1_319_606_540,
            2_041_389_313,
            3_740_000,
            1_437_158_163,
            1_440_695_990,
        ];
        let asks = [31357, 31358, 31361, 31362, 31363, 31364, 31365, 31366, 31368, 31370];
        let ask_units = [
            3_740_000,
            287_194_815,
            767_324,
            427_140_781,
            434_586_052,
            2_728_097_668,
            1_292_325_840,
            414_290_322,
            738_649,
            3_740_000,
        ];
        let pairs = |ticks: [i64; 10], units: [i64; 10]| {
            ticks.into_iter().zip(units).map(|(ticks, units)| Level { ticks, units }).collect()
        };
        assert_eq!(Book { bids: pairs(bids, bid_units), asks: pairs(asks, ask_units) }.checksum(), 3_619_791_617);
    }

    #[test]
    fn a_level_that_comes_into_view_is_told_and_one_pushed_out_is_not() {
        let mut out = Vec::new();
        changes(&book(&[(5, 1), (6, 1)]), &book(&[(6, 1), (7, 9)]), Side::Ask, 2, &mut out);
        assert_eq!(out, book(&[(5, 0), (7, 9)]));
        out.clear();
        changes(&book(&[(5, 1), (6, 1)]), &book(&[(4, 2), (5, 1), (6, 1)]), Side::Ask, 2, &mut out);
        assert_eq!(out, book(&[(4, 2)]));
    }
}
