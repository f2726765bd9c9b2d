//! A bucket that is read from the tape again, because ticks came for it after it had closed.

use tapedeck_market::GapState;

use super::engine::KnownGap;
use super::slot::{Slot, Tick, mark};

/// A bucket to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub instrument: u32,
    /// Which of the intervals.
    pub place: u8,
    pub start: i64,
    pub end: i64,
    /// The record that made it dirty.
    pub first_late_seq: u64,
    /// No tick of the bucket was received before this.
    pub received_since: i64,
}

/// A bucket while it is read.
#[derive(Clone, Debug)]
pub struct Rebuild {
    pub(super) wanted: Wanted,
    pub(super) slot: Slot,
    /// It had ticks before the late ones, so it was stated.
    pub(super) stated_before: bool,
    found: Vec<KnownGap>,
    repaired: Vec<u64>,
    /// A gap without a place in venue time began behind the last tick: it counts when another tick comes.
    broken: bool,
}

impl Rebuild {
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        let slot = Slot::of(wanted.start, wanted.end);
        Rebuild { wanted, slot, stated_before: false, found: Vec::new(), repaired: Vec::new(), broken: false }
    }

    /// A tick of its instrument, in the order of the tape.
    pub fn tick(&mut self, seq: u64, tick: &Tick) {
        if tick.ts_event < self.slot.start || tick.ts_event >= self.slot.end {
            return;
        }
        self.stated_before |= seq < self.wanted.first_late_seq;
        let _ = self.slot.add(tick, i128::from(tick.price) * i128::from(tick.size));
        if self.broken && tick.ts_recv.saturating_sub(tick.ts_event).saturating_abs() >= super::engine::LIVE_WITHIN_NS {
            self.slot.marks |= mark::GAP;
        }
    }

    /// A gap of its instrument, in the order of the tape.
    pub fn gap(&mut self, ts_recv: i64, id: u64, state: GapState, from: i64, to: Option<i64>) {
        match state {
            GapState::Repaired => self.repaired.push(id),
            GapState::Open => self.broken |= self.slot.trades > 0,
            GapState::Closed | GapState::Unrepairable => {
                self.found.push(KnownGap { id, from, to: to.unwrap_or(ts_recv) });
            }
        }
    }

    /// Records are missing from what was read.
    pub fn hole(&mut self) {
        self.slot.marks |= mark::GAP;
    }

    /// The gaps found, and those known, but for the repaired ones.
    pub(super) fn gaps<'a>(&'a self, known: impl Iterator<Item = &'a KnownGap>) -> impl Iterator<Item = &'a KnownGap> {
        self.found.iter().chain(known).filter(|gap| !self.repaired.contains(&gap.id))
    }
}
