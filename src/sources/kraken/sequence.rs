//! Trade ids: contiguous per symbol, and so the only numbering that Kraken's public feed has.

use std::collections::HashMap;

use tapedeck_market::{SmolStr, UnixNanos};

/// Symbols that are kept at most, whatever a venue makes up: Kraken lists some 1,500.
pub(in crate::sources) const SYMBOLS: usize = 50_000;

/// The newest trade known of each symbol.
#[derive(Debug, Default)]
pub(in crate::sources) struct TradeIds {
    newest: HashMap<SmolStr, Newest>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    id: u64,
    /// When trades were whole: its venue time, or its receive time where that is earlier.
    whole_at: UnixNanos,
}

/// Ids that were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources) struct Jump {
    /// Up to when trades were whole.
    pub(in crate::sources) from: UnixNanos,
    pub(in crate::sources) missing: u64,
    /// The ids on both sides of the hole.
    pub(in crate::sources) before: u64,
    pub(in crate::sources) after: u64,
}

impl TradeIds {
    /// Takes over what the tape knows: the last id of each symbol, and when that trade was. What was seen beyond it
    /// and did not reach the tape is missing like everything else.
    pub(in crate::sources) fn resume(&mut self, last: &HashMap<SmolStr, (u64, UnixNanos)>) {
        for (symbol, &(id, whole_at)) in last {
            self.newest.insert(symbol.clone(), Newest { id, whole_at });
        }
    }

    /// Takes one trade in the order of arrival and tells whether ids before it are missing. An older id
    /// than the newest (history sent again, a late trade) is no news. `whole_at`: the venue's time of the trade, as
    /// those that come next may be of that time too; the receive time where that is earlier.
    pub(in crate::sources) fn take(&mut self, symbol: &SmolStr, id: u64, whole_at: UnixNanos) -> Option<Jump> {
        let Some(newest) = self.newest.get_mut(symbol) else {
            if self.newest.len() < SYMBOLS {
                self.newest.insert(symbol.clone(), Newest { id, whole_at });
            }
            return None;
        };
        if id <= newest.id {
            return None;
        }
        let missing = id - newest.id - 1;
        let jump = Jump { from: newest.whole_at, missing, before: newest.id, after: id };
        *newest = Newest { id, whole_at };
        (missing > 0).then_some(jump)
    }

    /// Forgets a symbol that is no longer wanted.
    pub(in crate::sources) fn forget(&mut self, symbol: &str) {
        self.newest.remove(symbol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BTC: SmolStr = SmolStr::new_static("BTC/USD");

    #[test]
    fn a_jump_names_what_is_missing_and_since_when() {
        let mut ids = TradeIds::default();
        let at = UnixNanos::from_secs;
        assert_eq!(ids.take(&BTC, 10, at(1)), None, "the first trade follows nothing");
        assert_eq!(ids.take(&BTC, 11, at(2)), None);
        assert_eq!(ids.take(&BTC, 15, at(3)), Some(Jump { from: at(2), missing: 3, before: 11, after: 15 }));
        assert_eq!(ids.take(&BTC, 13, at(4)), None, "a late one is emitted, and its hole is known");
        assert_eq!(ids.take(&BTC, 16, at(5)), None);
    }

    #[test]
    fn made_up_symbols_take_no_more_room_than_there_is() {
        let mut ids = TradeIds::default();
        for n in 0..SYMBOLS + 10 {
            ids.take(&SmolStr::from(format!("{n}/USD")), 1, UnixNanos(1));
        }
        assert_eq!(ids.newest.len(), SYMBOLS);
    }

    #[test]
    fn a_restart_goes_on_from_the_tape() {
        let mut ids = TradeIds::default();
        let at = UnixNanos::from_secs;
        ids.resume(&HashMap::from([(BTC, (100, at(50)))]));
        assert_eq!(ids.take(&BTC, 99, at(51)), None, "history");
        assert_eq!(ids.take(&BTC, 102, at(52)), Some(Jump { from: at(50), missing: 1, before: 100, after: 102 }));
        ids.resume(&HashMap::from([(BTC, (90, at(40)))]));
        let jump = Jump { from: at(40), missing: 12, before: 90, after: 103 };
        assert_eq!(ids.take(&BTC, 103, at(54)), Some(jump), "what did not reach the tape is missing");
    }
}
