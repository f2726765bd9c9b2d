//! An order book built from a venue's updates.
//!
//! Invariants: a price occurs once a side; bids fall, asks rise; no level has size zero; a side is
//! never deeper than the subscription. The two sides may cross: that is for the venue to answer.

use crate::{BookUpdate, Level, Price};

/// Levels of a side that Kraken's checksum covers.
const CHECKSUM_LEVELS: usize = 10;
/// Two sides of ten levels of two numbers of at most 18 digits.
const CHECKSUM_BYTES: usize = 2 * CHECKSUM_LEVELS * 2 * 18;

/// Both sides of a book, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    bids: Vec<Level>,
    asks: Vec<Level>,
    depth: Option<usize>,
}

impl Book {
    /// A book that keeps at most `depth` levels a side; `None` keeps all.
    #[must_use]
    pub fn new(depth: Option<usize>) -> Self {
        Book { bids: Vec::new(), asks: Vec::new(), depth }
    }

    /// Applies a snapshot or a delta: every level in the order sent, then both sides are cut to the depth.
    ///
    /// A snapshot replaces all there was, and the depth too where it names one. Removing a price
    /// that is not there changes nothing: venues do so for levels beyond the depth.
    pub fn apply(&mut self, update: &BookUpdate) {
        if update.snapshot {
            self.clear();
            // Beyond the address space there is nothing to cut.
            self.depth = update.depth.map(|d| usize::try_from(d).unwrap_or(usize::MAX)).or(self.depth);
        }
        for level in &update.bids {
            let place = bid_place(&self.bids, level.price);
            put(&mut self.bids, place, level);
        }
        for level in &update.asks {
            let place = ask_place(&self.asks, level.price);
            put(&mut self.asks, place, level);
        }
        // Only now: a level may lie beyond the depth until a later one of the same update is removed.
        if let Some(depth) = self.depth {
            self.bids.truncate(depth);
            self.asks.truncate(depth);
        }
    }

    /// Forgets every level; the depth stays.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    #[must_use]
    pub fn bids(&self) -> &[Level] {
        &self.bids
    }

    #[must_use]
    pub fn asks(&self) -> &[Level] {
        &self.asks
    }

    /// Levels a side, at most; `None` = all.
    #[must_use]
    pub fn depth(&self) -> Option<usize> {
        self.depth
    }

    /// Best bid and best ask.
    #[must_use]
    pub fn best(&self) -> (Option<&Level>, Option<&Level>) {
        (self.bids.first(), self.asks.first())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty()
    }

    /// Whether somebody bids what another asks, or more: a sign of lost updates.
    #[must_use]
    pub fn is_crossed(&self) -> bool {
        matches!(self.best(), (Some(bid), Some(ask)) if bid.price >= ask.price)
    }

    /// The whole book as a snapshot, e.g. for a checkpoint.
    #[must_use]
    pub fn snapshot(&self) -> BookUpdate {
        BookUpdate {
            snapshot: true,
            bids: self.bids.clone(),
            asks: self.asks.clone(),
            checksum: None,
            depth: self.depth.and_then(|depth| u32::try_from(depth).ok()),
        }
    }

    /// Kraken's CRC-32 of the ten best levels: asks low to high, then bids high to low; of each the
    /// digits of price and size without point and leading zeros.
    #[must_use]
    pub fn kraken_checksum(&self) -> u32 {
        let mut text = [0_u8; CHECKSUM_BYTES];
        let mut len = 0;
        let sides = [&self.asks, &self.bids];
        for level in sides.into_iter().flat_map(|side| side.iter().take(CHECKSUM_LEVELS)) {
            for number in [level.price.0, level.size.0] {
                // The mantissa is just these digits; a zero has none.
                if !number.is_zero() {
                    let mut buffer = itoa::Buffer::new();
                    let digits = buffer.format(number.mantissa().unsigned_abs()).as_bytes();
                    text[len..len + digits.len()].copy_from_slice(digits);
                    len += digits.len();
                }
            }
        }
        crc32fast::hash(&text[..len])
    }

    /// The bid at a price, if any.
    #[must_use]
    pub fn bid_at(&self, price: Price) -> Option<&Level> {
        bid_place(&self.bids, price).ok().map(|at| &self.bids[at])
    }

    /// The ask at a price, if any.
    #[must_use]
    pub fn ask_at(&self, price: Price) -> Option<&Level> {
        ask_place(&self.asks, price).ok().map(|at| &self.asks[at])
    }
}

/// Where a price is among the bids, or where it would be.
fn bid_place(bids: &[Level], price: Price) -> Result<usize, usize> {
    bids.binary_search_by(|held| price.cmp(&held.price))
}

/// Where a price is among the asks, or where it would be.
fn ask_place(asks: &[Level], price: Price) -> Result<usize, usize> {
    asks.binary_search_by(|held| held.price.cmp(&price))
}

fn put(side: &mut Vec<Level>, place: Result<usize, usize>, level: &Level) {
    match place {
        Ok(at) if level.size.0.is_zero() => {
            side.remove(at);
        }
        // The whole level: the same price may come with other digits, and the checksum sees them.
        Ok(at) => side[at] = *level,
        Err(_) if level.size.0.is_zero() => {}
        Err(at) => side.insert(at, *level),
    }
}
