//! Late ticks, and the revisions that they ask for.

use tapedeck_market::{CandleFlags, UnixNanos};

use super::{DIRTY_AT_MOST, Dirty, Engine, Key, LIVE_WITHIN_NS, NEVER, REVISIONS_KEPT, SETTLE_NS, Said, flags_of};
use crate::candles::bar::Bar;
use crate::candles::rebuild::{Rebuild, Wanted};
use crate::candles::slot::{NONE, Slot, mark};

/// Late ticks and revisions.
impl Engine {
    pub(super) fn late(&mut self, seq: u64, ts_recv: i64, key: Key, end: i64) {
        self.counts.late += 1;
        let (start, instrument, place) = key;
        if start <= self.forgotten && !self.revisions.contains_key(&key) {
            self.unrevisable(instrument, place, start);
            return;
        }
        self.soil(seq, ts_recv, key, end);
    }

    /// A candle of the venue's, fetched for a hole by the record `seq`: what holds all of it is read again, once it is over.
    pub fn bar(&mut self, seq: u64, bar: &Bar) {
        if self.instruments.get(bar.instrument as usize).is_none() {
            return;
        }
        // What is said of an open one before that knows less.
        let touched = |slot: &mut Slot| slot.marks |= if bar.overlaps(slot.start, slot.end) { mark::GAP } else { 0 };
        self.each_open(bar.instrument, touched);
        for place in 0..self.settings.intervals_ns.len() {
            let interval_ns = self.settings.intervals_ns[place];
            let bucket = self.calendar.day(bar.start).and_then(|day| day.bucket(bar.start, interval_ns));
            let Some((start, end)) = bucket.filter(|(start, end)| bar.is_within(*start, *end)) else { continue };
            let key = (start, bar.instrument, place as u8);
            if self.is_over(bar.instrument, end) {
                self.late(seq, bar.ts_recv, key, end);
            } else {
                self.soil(seq, bar.ts_recv, key, end);
            }
        }
    }

    /// Whether a bucket of that end has been stated, if it had a tick.
    fn is_over(&self, number: u32, end: i64) -> bool {
        let instrument = &self.instruments[number as usize];
        end <= instrument.frontier.max(instrument.watermark.saturating_sub(self.settings.lateness_ns))
    }

    /// Whether a bucket without a tick is over by the clock, as one with ticks would be; what comes for it then is late.
    fn passes(&mut self, number: u32, (start, end): (i64, i64), ts_recv: i64) -> bool {
        let mut is_open = false;
        self.each_open(number, |slot| is_open |= slot.start <= start && slot.end >= end);
        let instrument = &mut self.instruments[number as usize];
        let delay = instrument.delay;
        // A stop is no time.
        if is_open || delay == NEVER || ts_recv == i64::MAX {
            return false;
        }
        let over = ts_recv >= end.saturating_add(self.settings.lateness_ns).saturating_add(delay);
        if over {
            instrument.frontier = instrument.frontier.max(end);
        }
        over
    }

    /// When a bucket that is not over may be.
    fn looked_at_again(&self, number: u32, dirty: Dirty, ts_recv: i64) -> i64 {
        if ts_recv == i64::MAX {
            return dirty.due;
        }
        match self.instruments[number as usize].delay {
            // A recording: by its own time, which is not ours.
            NEVER => ts_recv.saturating_add(60 * SETTLE_NS),
            delay => {
                let over = dirty.end.saturating_add(self.settings.lateness_ns).saturating_add(delay);
                over.max(ts_recv).saturating_add(SETTLE_NS)
            }
        }
    }

    pub(super) fn soil(&mut self, seq: u64, ts_recv: i64, key: Key, end: i64) {
        let full = self.dirty.len() >= DIRTY_AT_MOST;
        let due = if full { i64::MIN } else { ts_recv.saturating_add(self.settings.lateness_ns.max(SETTLE_NS)) };
        let dirty = self.dirty.entry(key).or_insert(Dirty { end, first_late_seq: seq, due });
        self.next_dirty = if full { i64::MIN } else { self.next_dirty.min(dirty.due) };
    }

    /// Whether late ticks are due to be stated, now that a record of this receive time was read.
    #[inline]
    #[must_use]
    pub fn has_dirty(&self, ts_recv: i64) -> bool {
        ts_recv >= self.next_dirty
    }

    /// The buckets that are due, to be read from the tape again and given to [`Engine::restate`].
    pub fn take_dirty(&mut self, ts_recv: i64) -> Vec<Wanted> {
        let all = self.dirty.len() >= DIRTY_AT_MOST;
        let due: Vec<Key> =
            self.dirty.iter().filter(|(_, dirty)| all || dirty.due <= ts_recv).map(|(key, _)| *key).collect();
        let mut wanted = Vec::with_capacity(due.len());
        for key in due {
            let (start, instrument, place) = key;
            let Some(dirty) = self.dirty.remove(&key) else { continue };
            if !self.is_over(instrument, dirty.end) && !self.passes(instrument, (start, dirty.end), ts_recv) {
                self.dirty.insert(key, Dirty { due: self.looked_at_again(instrument, dirty, ts_recv), ..dirty });
                continue;
            }
            let ahead = self.instruments[instrument as usize].ahead;
            // No tick of this bucket was received before: of a feed, that of a recording is far off.
            let since =
                if ahead > -LIVE_WITHIN_NS { start.saturating_sub(ahead.max(0)) } else { start.saturating_sub(ahead) };
            wanted.push(Wanted {
                instrument,
                place,
                start,
                end: dirty.end,
                first_late_seq: dirty.first_late_seq,
                received_since: since,
            });
        }
        self.next_dirty = self.dirty.values().map(|dirty| dirty.due).min().unwrap_or(NEVER);
        wanted
    }

    /// States a bucket again, from what was read.
    pub fn restate(&mut self, rebuilt: &Rebuild) {
        let Wanted { instrument, place, start, end, .. } = rebuilt.wanted;
        if rebuilt.slot.trades == 0 {
            return;
        }
        let key = (start, instrument, place);
        let revision = match self.revisions.get(&key) {
            Some(last) => last + 1,
            None => u32::from(rebuilt.stated_before),
        };
        let known = &self.instruments[instrument as usize];
        let gap =
            rebuilt.slot.marks & mark::GAP != 0 || rebuilt.gaps(known.gaps.iter()).any(|gap| gap.overlaps(start, end));
        let partial = start < known.heard_since;
        let mut flags = flags_of(gap, partial, rebuilt.slot.marks & mark::BACKFILLED != 0);
        if revision > 0 {
            flags.0 |= CandleFlags::REVISED.0;
            self.counts.revised += 1;
        }
        // Where no tick tells that it was stated, this does.
        if revision > 0 || rebuilt.has_bars() {
            self.remember(key, revision);
        }
        let slot = Slot { revision, ..rebuilt.slot };
        self.state(instrument, place, &slot, flags);
    }

    /// What was wanted is no longer on the tape.
    pub fn give_up(&mut self, wanted: &Wanted) {
        self.unrevisable(wanted.instrument, wanted.place, wanted.start);
    }

    fn unrevisable(&mut self, instrument: u32, place: u8, start: i64) {
        self.counts.unrevisable += 1;
        let interval_ns = self.settings.intervals_ns[usize::from(place)];
        self.said.push(Said::Unrevisable { instrument, interval_ns, start: UnixNanos(start) });
    }

    /// A statement with this revision stands on the tape.
    pub fn stated_as(&mut self, instrument: u32, interval_ns: i64, start: i64, revision: u32) {
        let Some(place) = self.settings.intervals_ns.iter().position(|known| *known == interval_ns) else { return };
        let at = instrument as usize * self.settings.intervals_ns.len() + place;
        if self.slots[at].start == start {
            self.slots[at].revision = self.slots[at].revision.max(revision + 1);
            return;
        }
        let mut other = self.slots[at].next;
        while other != NONE {
            let slot = &mut self.others[other as usize];
            if slot.start == start {
                slot.revision = slot.revision.max(revision + 1);
                return;
            }
            other = slot.next;
        }
        if revision > 0 {
            let key = (start, instrument, place as u8);
            let last = self.revisions.get(&key).copied().unwrap_or(0);
            self.remember(key, last.max(revision));
        }
    }

    pub(super) fn remember(&mut self, key: Key, revision: u32) {
        self.revisions.insert(key, revision);
        if self.revisions.len() > REVISIONS_KEPT
            && let Some(((start, ..), _)) = self.revisions.pop_first()
        {
            self.forgotten = self.forgotten.max(start);
        }
    }
}
