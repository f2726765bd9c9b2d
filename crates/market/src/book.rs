//! An order book built from a venue's updates.
//!
//! Invariants: a price occurs once a side; bids fall, asks rise; no level has size zero; a side is
//! never deeper than the subscription.

use crate::{BookUpdate, Level, Price};

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
    pub fn apply(&mut self, update: &BookUpdate) {
        let _ = update;
    }

    #[must_use]
    pub fn bids(&self) -> &[Level] {
        &self.bids
    }

    #[must_use]
    pub fn asks(&self) -> &[Level] {
        &self.asks
    }

    #[must_use]
    pub fn best(&self) -> (Option<&Level>, Option<&Level>) {
        (self.bids.first(), self.asks.first())
    }

    /// The whole book as a snapshot, e.g. for a checkpoint.
    #[must_use]
    pub fn snapshot(&self) -> BookUpdate {
        BookUpdate { snapshot: true, bids: self.bids.clone(), asks: self.asks.clone(), checksum: None, depth: None }
    }

    /// Kraken's CRC-32 of the ten best levels: asks low to high, then bids high to low; of each the
    /// digits of price and size without point and leading zeros.
    #[must_use]
    pub fn kraken_checksum(&self) -> u32 {
        0
    }

    /// Level at a price, if any.
    #[must_use]
    pub fn bid_at(&self, price: Price) -> Option<&Level> {
        self.bids.iter().find(|level| level.price == price)
    }
}
