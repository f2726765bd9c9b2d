//! A bucket that is read from the tape again, because ticks came for it after it had closed.

use tapedeck_market::GapState;

use super::bar::Bar;
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
    repaired: Vec<KnownGap>,
    /// Candles of the venue's inside of it: they stand for the ticks of their spans.
    bars: Vec<Bar>,
    /// Those of which no part can be told.
    misfits: Vec<Bar>,
    /// All bars are known, and in order: ticks in their spans are left out.
    is_second: bool,
    /// Time of the tick before, in the second reading.
    last: Option<i64>,
    /// A gap without a place in venue time began behind the last tick: it counts when another tick comes.
    broken: bool,
}

impl Rebuild {
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        let slot = Slot::of(wanted.start, wanted.end);
        Rebuild {
            wanted,
            slot,
            stated_before: false,
            found: Vec::new(),
            repaired: Vec::new(),
            bars: Vec::new(),
            misfits: Vec::new(),
            is_second: false,
            last: None,
            broken: false,
        }
    }

    /// Whether it must be read once more, now that its bars are known.
    pub(super) fn wants_another_pass(&self) -> bool {
        !self.bars.is_empty()
    }

    /// Begins anew, with the bars that were found. Of two with one start the later one holds.
    pub(super) fn again(self) -> Rebuild {
        let mut bars = self.bars;
        bars.reverse();
        bars.sort_by_key(|bar| bar.start);
        bars.dedup_by_key(|bar| bar.start);
        Rebuild { bars, misfits: self.misfits, is_second: true, ..Rebuild::new(self.wanted) }
    }

    /// A candle of the venue's, of its instrument.
    pub(super) fn bar(&mut self, bar: &Bar) {
        let (start, end) = (self.slot.start, self.slot.end);
        if self.is_second || !bar.overlaps(start, end) {
            return;
        }
        let fits = bar.content.is_some() && bar.is_within(start, end);
        if fits { &mut self.bars } else { &mut self.misfits }.push(*bar);
    }

    /// Everything was read: what the bars say is added.
    pub(super) fn finish(&mut self) {
        for bar in &self.bars {
            if let Some(content) = &bar.content
                && self.slot.add_bar(bar, content).is_err()
            {
                self.slot.marks |= mark::GAP;
            }
        }
        let told = |misfit: &Bar| {
            let next = self.bars.partition_point(|bar| bar.start <= misfit.start);
            next.checked_sub(1).is_some_and(|place| misfit.is_within(self.bars[place].start, self.bars[place].end))
        };
        let (start, end) = (self.slot.start, self.slot.end);
        let filled =
            |misfit: &Bar| self.repaired.iter().any(|gap| gap.overlaps(start.max(misfit.start), end.min(misfit.end)));
        if self.misfits.iter().any(|misfit| !told(misfit) && filled(misfit)) {
            self.slot.marks |= mark::GAP;
        }
    }

    /// Whether a bar begins behind the one moment and ends by the other.
    fn has_bar_between(&self, from: i64, to: i64) -> bool {
        let next = self.bars.partition_point(|bar| bar.end <= to);
        next.checked_sub(1).is_some_and(|place| self.bars[place].start > from)
    }

    /// Whether bars are a part of it.
    pub(super) fn has_bars(&self) -> bool {
        self.is_second
    }

    fn is_told_by_a_bar(&self, at: i64) -> bool {
        let next = self.bars.partition_point(|bar| bar.start <= at);
        next.checked_sub(1).is_some_and(|place| self.bars[place].covers(at))
    }

    /// A tick of its instrument, in the order of the tape.
    pub fn tick(&mut self, seq: u64, tick: &Tick) {
        if tick.ts_event < self.slot.start || tick.ts_event >= self.slot.end {
            return;
        }
        self.stated_before |= seq < self.wanted.first_late_seq;
        let mut tick = *tick;
        if self.is_second {
            let before = self.last.replace(tick.ts_event);
            if self.is_told_by_a_bar(tick.ts_event) {
                return;
            }
            // What a running total grew by since a tick before a bar, the bar tells already.
            if self.has_bar_between(before.unwrap_or(i64::MIN), tick.ts_event) {
                tick.size = 0;
            }
        }
        let _ = self.slot.add(&tick, i128::from(tick.price) * i128::from(tick.size));
        if self.broken && tick.ts_recv.saturating_sub(tick.ts_event).saturating_abs() >= super::engine::LIVE_WITHIN_NS {
            self.slot.marks |= mark::GAP;
        }
    }

    /// A gap of its instrument, in the order of the tape.
    pub fn gap(&mut self, ts_recv: i64, id: u64, state: GapState, from: i64, to: Option<i64>) {
        match state {
            GapState::Repaired => self.repaired.push(KnownGap { id, from, to: to.unwrap_or(ts_recv) }),
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
        self.found.iter().chain(known).filter(|gap| !self.repaired.iter().any(|repaired| repaired.id == gap.id))
    }
}
