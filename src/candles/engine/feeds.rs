//! What the tape says about feeds: since when they are heard, and what is missing.

use tapedeck_market::{Gap, GapState};

use super::{Engine, GAPS_KEPT, KnownGap, NEVER, REPAIRED_AT_MOST};
use crate::candles::slot::{NONE, Slot, mark};

/// What the tape says about feeds.
impl Engine {
    /// A subscription of an instrument began at this receive time.
    pub fn live(&mut self, number: u32, ts_recv: i64) {
        let Some(instrument) = self.instruments.get_mut(number as usize) else { return };
        if instrument.heard_since == NEVER {
            (instrument.heard_since, instrument.heard_by_status) = (ts_recv, true);
        }
        if instrument.delay == NEVER && instrument.heard_by_status {
            instrument.delay = 0;
            self.arm(number);
        }
    }

    /// It is no longer wanted: what is open stays without its end.
    pub fn ended(&mut self, number: u32) {
        let Some(instrument) = self.instruments.get_mut(number as usize) else { return };
        instrument.heard_since = NEVER;
        self.mark_open(number, mark::PARTIAL);
    }

    /// Whether an instrument was heard before that moment.
    #[must_use]
    pub fn heard_before(&self, number: u32, moment: i64) -> bool {
        self.instruments.get(number as usize).is_some_and(|instrument| instrument.heard_since < moment)
    }

    /// Digits behind the point of its prices.
    pub fn digits(&mut self, number: u32, digits: u8) {
        if let Some(instrument) = self.instruments.get_mut(number as usize) {
            instrument.digits = digits;
        }
    }

    /// A gap was opened, closed, repaired … by the record `seq`, received at `ts_recv`.
    pub fn gap(&mut self, seq: u64, ts_recv: i64, number: u32, gap: &Gap) {
        let Some(instrument) = self.instruments.get_mut(number as usize) else { return };
        let (id, state, from, to) = (gap.id, gap.state, gap.from.0, gap.to.map(|to| to.0));
        let known = instrument.gaps.iter().position(|gap| gap.id == id);
        if state == GapState::Repaired {
            if let Some(at) = known {
                instrument.gaps.remove(at);
            }
            self.repaired(seq, ts_recv, number, from, to.unwrap_or(ts_recv));
            return;
        }
        let to = match state {
            GapState::Open => NEVER,
            _ => to.unwrap_or(ts_recv),
        };
        match known {
            Some(at) => instrument.gaps[at].to = to,
            None => instrument.gaps.push(KnownGap { id, from, to }),
        }
        // Without a feed there is no telling where in venue time the gap lies: what is open has it.
        if state == GapState::Open && instrument.delay == NEVER {
            self.mark_open(number, mark::GAP);
        }
        self.bound_gaps(number);
    }

    /// Records of every source are missing between two receive times.
    pub fn hole(&mut self, from: i64, to: i64) {
        for number in 0..self.instruments.len() as u32 {
            let instrument = &mut self.instruments[number as usize];
            instrument.gaps.push(KnownGap { id: 0, from, to: to.max(from.saturating_add(1)) });
            if instrument.delay == NEVER {
                self.mark_open(number, mark::GAP);
            }
            self.bound_gaps(number);
        }
    }

    fn bound_gaps(&mut self, number: u32) {
        let gaps = &mut self.instruments[number as usize].gaps;
        if gaps.len() <= GAPS_KEPT {
            return;
        }
        let oldest = gaps.remove(0);
        self.each_open(number, |slot| {
            if oldest.overlaps(slot.start, slot.end) {
                slot.marks |= mark::GAP;
            }
        });
    }

    fn mark_open(&mut self, number: u32, bits: u8) {
        self.each_open(number, |slot| slot.marks |= bits);
    }

    pub(super) fn each_open(&mut self, number: u32, mut visit: impl FnMut(&mut Slot)) {
        let intervals = self.settings.intervals_ns.len();
        for at in number as usize * intervals..(number as usize + 1) * intervals {
            if self.slots[at].is_empty() {
                continue;
            }
            visit(&mut self.slots[at]);
            let mut other = self.slots[at].next;
            while other != NONE {
                visit(&mut self.others[other as usize]);
                other = self.others[other as usize].next;
            }
        }
    }

    /// A gap is filled: what it overlapped is stated again, without it.
    fn repaired(&mut self, seq: u64, ts_recv: i64, number: u32, from: i64, to: i64) {
        let closed = self.instruments[number as usize].frontier.min(to);
        for place in 0..self.settings.intervals_ns.len() {
            let interval_ns = self.settings.intervals_ns[place];
            if (to.saturating_sub(from)) / interval_ns > REPAIRED_AT_MOST {
                continue;
            }
            let mut at = from;
            while at < closed {
                let Some(day) = self.calendar.day(at) else { break };
                let Some((start, end)) = day.bucket(at, interval_ns) else {
                    at = day.next;
                    continue;
                };
                if end <= self.instruments[number as usize].frontier {
                    self.soil(seq, ts_recv, (start, number, place as u8), end);
                }
                at = end;
            }
        }
    }
}
