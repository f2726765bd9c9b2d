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
        let Some(instrument) = self.instruments.get_mut(bar.instrument as usize) else { return };
        if instrument.heard_since == NEVER {
            instrument.heard_since = bar.start;
        }
        for place in 0..self.settings.intervals_ns.len() {
            let bucket =
                self.calendar.day(bar.start).and_then(|day| day.bucket(bar.start, self.settings.intervals_ns[place]));
            let Some((start, end)) = bucket.filter(|(start, end)| bar.is_within(*start, *end)) else { continue };
            let key = (start, bar.instrument, place as u8);
            if self.is_over(bar.instrument, end) {
                self.late(seq, bar.ts_recv, key, end);
                continue;
            }
            // What is said of it before knows less.
            self.each_open(bar.instrument, |slot| {
                slot.marks |= if slot.start == start && slot.end == end { mark::GAP } else { 0 }
            });
            self.soil(seq, bar.ts_recv, key, end);
        }
    }

    /// Whether a bucket of that end has been stated, if it had a tick.
    fn is_over(&self, number: u32, end: i64) -> bool {
        let instrument = &self.instruments[number as usize];
        end <= instrument.frontier.max(instrument.watermark.saturating_sub(self.settings.lateness_ns))
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
            if !self.is_over(instrument, dirty.end) {
                // Stated when it closes, by whatever tick; a stop leaves it to the next life.
                let due = if ts_recv == i64::MAX { dirty.due } else { ts_recv.saturating_add(SETTLE_NS) };
                self.dirty.insert(key, Dirty { first_late_seq: u64::MAX, due, ..dirty });
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
            self.remember(key, revision);
            self.counts.revised += 1;
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
