//! The engine: ticks in, statements about candles out. No I/O and no clock: what it says is a function of what it was given.
//!
//! ```text
//! clock(ts_recv)  a record was read: what is due by its receive time closes, late ticks are due for a revision
//! tick(seq, …)    the tick's own watermark closes what it has passed, then the tick goes into its bucket of each interval
//! ```
//!
//! - A bucket closes when the instrument's *watermark* is `lateness` beyond its end. The watermark is the newest venue time,
//!   but never more than `lateness` beyond the receive time: a clock that runs ahead closes nothing early.
//! - It also closes when a record of any instrument was received `lateness` plus the instrument's own delay after its end:
//!   the timer. Only while venue time and receive time are less than an hour apart: a recording of 2014 closes by its
//!   watermark alone.
//! - A tick for a bucket that has closed makes it *dirty*. A little later, all late ticks of that moment together, its ticks
//!   are read from the tape again and it is stated once more, with the next revision.
//! - What is kept: open candles, buckets that are dirty, and the revisions of those that were stated more than once. A bucket
//!   that was stated once, and is over, is forgotten.

mod feeds;
mod late;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tapedeck_market::{Candle, CandleFlags, CandleInput, UnixNanos};

use super::slot::{NONE, Slot, Tick, mark};
use super::span::{Anchor, Calendar};

/// Venue time and receive time further apart than this: a recording, not a feed.
pub(super) const LIVE_WITHIN_NS: i64 = 3_600_000_000_000;
/// Delays are rounded up to multiples of this (0.13 s), so that their jitter is not news at every tick.
const DELAY_STEP_NS: i64 = 1 << 27;
/// The timer of an instrument that has none, the delay of one that is not live.
const NEVER: i64 = i64::MAX;
/// Late ticks of a bucket are collected for at least this long.
const SETTLE_NS: i64 = 1_000_000_000;
/// Open candles of one instrument and interval, beside those that `lateness` asks for: room for ticks stamped ahead of time.
const OPEN_AT_MOST: i64 = 64;
/// Gaps of one instrument that are remembered one by one.
const GAPS_KEPT: usize = 64;
/// Dirty buckets that are collected; more are revised at once.
const DIRTY_AT_MOST: usize = 65_536;
/// Revisions that are remembered. A late tick for a bucket older than what was forgotten cannot be stated: its number might have been used.
const REVISIONS_KEPT: usize = 262_144;
/// Buckets of an interval that are stated again when a gap is repaired.
const REPAIRED_AT_MOST: i64 = 4_096;

/// How candles are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Lengths in ns, 1 s to 1 d.
    pub intervals_ns: Vec<i64>,
    pub anchor: Anchor,
    pub lateness_ns: i64,
    pub input: CandleInput,
}

/// What the engine says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Candle {
        instrument: u32,
        candle: Box<Candle>,
    },
    /// Late ticks came for a bucket whose other ticks are no longer on the tape.
    Unrevisable {
        instrument: u32,
        interval_ns: i64,
        start: UnixNanos,
    },
}

impl Said {
    /// By the end of the bucket, nearly: by start, then length.
    fn order(&self) -> (i64, i64, u32) {
        match self {
            Said::Candle { instrument, candle } => (candle.start.0, candle.interval_ns, *instrument),
            Said::Unrevisable { instrument, interval_ns, start } => (start.0, *interval_ns, *instrument),
        }
    }
}

/// What happened, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ticks: u64,
    /// Of them, those for a bucket that had closed, for each interval.
    pub late: u64,
    /// Statements, revisions included.
    pub stated: u64,
    pub revised: u64,
    pub unrevisable: u64,
    /// Outside of the session.
    pub outside: u64,
    /// Stamped so far ahead that too many candles would be open.
    pub ahead: u64,
    /// More digits than a decimal has, beside the other prices of the candle.
    pub unfit: u64,
}

/// A bucket: start, instrument, place of the interval.
pub(super) type Key = (i64, u32, u8);

/// A gap of an instrument, in receive time; open ones end never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownGap {
    pub(super) id: u64,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl KnownGap {
    pub(super) fn overlaps(&self, start: i64, end: i64) -> bool {
        self.from < end && self.to > start
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Instrument {
    pub(super) watermark: i64,
    /// Everything that ends here or before has closed.
    pub(super) frontier: i64,
    /// The watermark that closes the next bucket.
    pub(super) next_close: i64,
    /// When the timer looks at it.
    pub(super) timer: i64,
    /// How long its ticks are on their way, in steps; [`NEVER`] while it is not live.
    pub(super) delay: i64,
    /// The most that a venue time was ahead of its receive time.
    pub(super) ahead: i64,
    /// From here on everything was heard; [`NEVER`] until something is.
    pub(super) heard_since: i64,
    /// It was the subscription that said so, not a tick.
    pub(super) heard_by_status: bool,
    /// Digits of prices, as the venue lists them.
    pub(super) digits: u8,
    pub(super) gaps: Vec<KnownGap>,
}

impl Instrument {
    const NEW: Instrument = Instrument {
        watermark: i64::MIN,
        frontier: i64::MIN,
        next_close: NEVER,
        timer: NEVER,
        delay: NEVER,
        ahead: i64::MIN,
        heard_since: NEVER,
        heard_by_status: false,
        digits: 0,
        gaps: Vec::new(),
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dirty {
    pub(super) end: i64,
    pub(super) first_late_seq: u64,
    /// Receive time from which on it is stated again.
    pub(super) due: i64,
}

/// Makes candles.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    calendar: Calendar,
    pub(super) instruments: Vec<Instrument>,
    /// The bucket touched last, of each instrument and interval: the others hang behind it.
    pub(super) slots: Vec<Slot>,
    pub(super) others: Vec<Slot>,
    free: Vec<u32>,
    timers: BinaryHeap<Reverse<(i64, u32)>>,
    next_timer: i64,
    pub(super) dirty: BTreeMap<Key, Dirty>,
    next_dirty: i64,
    pub(super) revisions: BTreeMap<Key, u32>,
    /// Revisions of buckets that begin here or before were forgotten.
    pub(super) forgotten: i64,
    said: Vec<Said>,
    closing: Vec<(u8, Slot)>,
    counts: Counts,
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Engine {
            calendar: Calendar::new(settings.anchor.clone()),
            settings,
            instruments: Vec::new(),
            slots: Vec::new(),
            others: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            next_timer: NEVER,
            dirty: BTreeMap::new(),
            next_dirty: NEVER,
            revisions: BTreeMap::new(),
            forgotten: i64::MIN,
            said: Vec::new(),
            closing: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A further instrument: its number.
    pub fn instrument(&mut self) -> u32 {
        let number = self.instruments.len() as u32;
        self.instruments.push(Instrument::NEW);
        self.slots.extend(self.settings.intervals_ns.iter().map(|_| Slot::EMPTY));
        number
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Candles that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        let others = self.others.len() - self.free.len();
        self.slots.iter().filter(|slot| !slot.is_empty()).count() + others
    }

    /// Instruments with an open candle, for each interval.
    #[must_use]
    pub fn open_by_interval(&self) -> Vec<(i64, usize)> {
        let places = self.settings.intervals_ns.len();
        let open = |place| self.slots.iter().skip(place).step_by(places).filter(|slot| !slot.is_empty()).count();
        self.settings.intervals_ns.iter().enumerate().map(|(place, interval)| (*interval, open(place))).collect()
    }

    /// Everything said since the last call.
    pub fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    #[must_use]
    pub fn has_said(&self) -> bool {
        !self.said.is_empty()
    }

    /// When a record must be read so that something happens: receive time. [`None`]: nothing is waited for.
    #[must_use]
    pub fn due(&self) -> Option<UnixNanos> {
        let due = self.next_timer.min(self.next_dirty);
        (due != NEVER).then_some(UnixNanos(due))
    }

    /// A record of this receive time was read.
    #[inline]
    pub fn clock(&mut self, ts_recv: i64) {
        if ts_recv >= self.next_timer {
            self.expire(ts_recv);
        }
    }

    #[cold]
    fn expire(&mut self, ts_recv: i64) {
        let before = self.said.len();
        while let Some(&Reverse((due, number))) = self.timers.peek()
            && due <= ts_recv
        {
            self.timers.pop();
            let Some(instrument) = self.instruments.get_mut(number as usize) else { continue };
            // An older entry of an instrument that was looked at, or is looked at earlier.
            if instrument.timer != due {
                continue;
            }
            instrument.timer = NEVER;
            if instrument.delay != NEVER {
                let until = ts_recv.saturating_sub(instrument.delay).saturating_sub(self.settings.lateness_ns);
                self.close(number, until);
            }
            self.arm(number);
        }
        self.next_timer = self.timers.peek().map_or(NEVER, |Reverse((due, _))| *due);
        // Timers may be older than what they are for: the order of what closes together is not theirs.
        self.said[before..].sort_by_key(Said::order);
    }

    /// Sees to it that the timer looks at an instrument when its next bucket may close.
    fn arm(&mut self, number: u32) {
        let instrument = &mut self.instruments[number as usize];
        if instrument.delay == NEVER || instrument.next_close == NEVER {
            return;
        }
        let due = instrument.next_close.saturating_add(instrument.delay);
        if due < instrument.timer {
            instrument.timer = due;
            self.timers.push(Reverse((due, number)));
            self.next_timer = self.next_timer.min(due);
        }
    }

    /// Takes a tick, the record `seq` of the tape. [`Engine::clock`] comes first.
    #[inline]
    pub fn tick(&mut self, seq: u64, tick: &Tick) {
        let Some(instrument) = self.instruments.get_mut(tick.instrument as usize) else { return };
        let delay = tick.ts_recv.saturating_sub(tick.ts_event);
        instrument.ahead = instrument.ahead.max(-delay);
        let stepped = if delay >= LIVE_WITHIN_NS || delay <= -LIVE_WITHIN_NS {
            NEVER
        } else {
            (delay.max(0) + DELAY_STEP_NS - 1) & !(DELAY_STEP_NS - 1)
        };
        let says_nothing = tick.snapshot | tick.backfilled;
        let news = (stepped != instrument.delay && !says_nothing) | (instrument.heard_since == NEVER);
        let watermark = tick.ts_event.min(tick.ts_recv.saturating_add(self.settings.lateness_ns));
        instrument.watermark = instrument.watermark.max(watermark);
        if news {
            self.delayed(tick, stepped, says_nothing);
        }
        if self.instruments[tick.instrument as usize].watermark >= self.instruments[tick.instrument as usize].next_close
        {
            self.pass(tick.instrument);
        }
        self.counts.ticks += 1;
        let notional = i128::from(tick.price) * i128::from(tick.size);
        let intervals = self.settings.intervals_ns.len();
        let first = tick.instrument as usize * intervals;
        for place in 0..intervals {
            let slot = &mut self.slots[first + place];
            if tick.ts_event < slot.start || tick.ts_event >= slot.end {
                self.elsewhere(seq, tick, notional, place);
            } else if slot.add(tick, notional).is_err() {
                self.counts.unfit += 1;
            }
        }
    }

    /// The delay of an instrument has changed, or it is heard for the first time.
    #[cold]
    fn delayed(&mut self, tick: &Tick, stepped: i64, says_nothing: bool) {
        let instrument = &mut self.instruments[tick.instrument as usize];
        if instrument.heard_since == NEVER {
            instrument.heard_since = tick.ts_event;
        }
        if says_nothing {
            return;
        }
        if stepped == NEVER && instrument.heard_by_status {
            // A recording: since when it is subscribed here says nothing about its times.
            (instrument.heard_since, instrument.heard_by_status) = (tick.ts_event, false);
        }
        instrument.delay = stepped;
        self.arm(tick.instrument);
    }

    /// The watermark has passed the end of a bucket.
    #[cold]
    fn pass(&mut self, number: u32) {
        let watermark = self.instruments[number as usize].watermark;
        self.close(number, watermark.saturating_sub(self.settings.lateness_ns));
    }

    /// A tick that is not for the bucket touched last.
    #[cold]
    fn elsewhere(&mut self, seq: u64, tick: &Tick, notional: i128, place: usize) {
        let at = tick.instrument as usize * self.settings.intervals_ns.len() + place;
        let mut open = 0;
        let mut other = self.slots[at].next;
        while other != NONE {
            let found = self.others[other as usize];
            if (found.start..found.end).contains(&tick.ts_event) {
                let last = self.slots[at];
                self.others[other as usize] = Slot { next: found.next, ..last };
                self.slots[at] = Slot { next: last.next, ..found };
                if self.slots[at].add(tick, notional).is_err() {
                    self.counts.unfit += 1;
                }
                return;
            }
            open += 1;
            other = found.next;
        }
        let interval_ns = self.settings.intervals_ns[place];
        let day = self.calendar.day(tick.ts_event);
        let Some((start, end)) = day.and_then(|day| day.bucket(tick.ts_event, interval_ns)) else {
            self.counts.outside += u64::from(place == 0);
            return;
        };
        let lateness = self.settings.lateness_ns;
        let instrument = &mut self.instruments[tick.instrument as usize];
        if end <= instrument.frontier.max(instrument.watermark.saturating_sub(lateness)) {
            self.late(seq, tick.ts_recv, (start, tick.instrument, place as u8), end);
            return;
        }
        if open >= OPEN_AT_MOST + lateness / interval_ns {
            self.counts.ahead += u64::from(place == 0);
            return;
        }
        instrument.next_close = instrument.next_close.min(end.saturating_add(lateness));
        let last = self.slots[at];
        let next = if last.is_empty() { NONE } else { self.keep(last) };
        self.slots[at] = Slot { next, ..Slot::of(start, end) };
        if self.dirty.contains_key(&(start, tick.instrument, place as u8)) {
            // Something was fetched for it, and is added when it is over.
            self.slots[at].marks |= mark::GAP;
        }
        if self.slots[at].add(tick, notional).is_err() {
            self.counts.unfit += 1;
        }
        self.arm(tick.instrument);
    }

    fn keep(&mut self, slot: Slot) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.others[at as usize] = slot;
                at
            }
            None => {
                self.others.push(slot);
                (self.others.len() - 1) as u32
            }
        }
    }

    /// States and forgets every open candle of an instrument that ends by `until`.
    fn close(&mut self, number: u32, until: i64) {
        let intervals = self.settings.intervals_ns.len();
        let mut next_end = NEVER;
        let mut first_start = NEVER;
        for place in 0..intervals {
            let at = number as usize * intervals + place;
            // The others first: the one touched last may then be replaced by one of them.
            let mut before = NONE;
            let mut other = self.slots[at].next;
            while other != NONE {
                let slot = self.others[other as usize];
                if slot.end <= until {
                    self.closing.push((place as u8, slot));
                    self.free.push(other);
                    match before {
                        NONE => self.slots[at].next = slot.next,
                        before => self.others[before as usize].next = slot.next,
                    }
                } else {
                    next_end = next_end.min(slot.end);
                    first_start = first_start.min(slot.start);
                    before = other;
                }
                other = slot.next;
            }
            let slot = self.slots[at];
            if slot.is_empty() {
                continue;
            }
            if slot.end > until {
                next_end = next_end.min(slot.end);
                first_start = first_start.min(slot.start);
                continue;
            }
            self.closing.push((place as u8, slot));
            self.slots[at] = match slot.next {
                NONE => Slot::EMPTY,
                next => {
                    self.free.push(next);
                    self.others[next as usize]
                }
            };
        }
        let mut closing = std::mem::take(&mut self.closing);
        closing.sort_unstable_by_key(|(place, slot)| (slot.end, *place, slot.start));
        for (place, slot) in closing.drain(..) {
            let instrument = &mut self.instruments[number as usize];
            instrument.frontier = instrument.frontier.max(slot.end);
            let flags = self.flags(number, &slot, true);
            self.state(number, place, &slot, flags);
            // It was stated, whatever comes of it again.
            if let Some(dirty) = self.dirty.get_mut(&(slot.start, number, place)) {
                dirty.first_late_seq = u64::MAX;
            }
            if slot.revision > 0 {
                self.remember((slot.start, number, place), slot.revision);
            }
        }
        self.closing = closing;
        let instrument = &mut self.instruments[number as usize];
        instrument.next_close = next_end.saturating_add(if next_end == NEVER { 0 } else { self.settings.lateness_ns });
        if !instrument.gaps.is_empty() {
            let longest = self.settings.intervals_ns.iter().copied().max().unwrap_or(0);
            let over = first_start.min(instrument.frontier.saturating_sub(longest));
            instrument.gaps.retain(|gap| gap.to > over);
        }
    }

    /// What a candle's flags are at this moment.
    fn flags(&self, number: u32, slot: &Slot, closed: bool) -> CandleFlags {
        let instrument = &self.instruments[number as usize];
        let gap = slot.marks & mark::GAP != 0 || instrument.gaps.iter().any(|gap| gap.overlaps(slot.start, slot.end));
        let partial = !closed || slot.marks & mark::PARTIAL != 0 || slot.start < instrument.heard_since;
        flags_of(gap, partial, slot.marks & mark::BACKFILLED != 0)
    }

    fn state(&mut self, instrument: u32, place: u8, slot: &Slot, flags: CandleFlags) {
        let input = self.settings.input;
        let traded = input == CandleInput::Trades;
        let digits = self.instruments[instrument as usize].digits;
        let candle = Candle {
            interval_ns: self.settings.intervals_ns[usize::from(place)],
            start: UnixNanos(slot.start),
            open: slot.price(slot.open),
            high: slot.price(slot.high),
            low: slot.price(slot.low),
            close: slot.price(slot.close),
            volume: slot.volume().filter(|_| traded),
            vwap: slot.vwap(digits).filter(|_| traded),
            trades: Some(slot.trades),
            flags,
            revision: slot.revision,
            input,
        };
        self.counts.stated += 1;
        self.said.push(Said::Candle { instrument, candle: Box::new(candle) });
    }

    /// Recording stops: what is open is stated as partial, and goes on with the next revision when recording does.
    pub fn pause(&mut self) {
        let intervals = self.settings.intervals_ns.len();
        for at in 0..self.slots.len() {
            let (number, place) = ((at / intervals) as u32, (at % intervals) as u8);
            if self.slots[at].is_empty() {
                continue;
            }
            let mut open = vec![self.slots[at]];
            self.slots[at].revision += 1;
            let mut other = self.slots[at].next;
            while other != NONE {
                let slot = &mut self.others[other as usize];
                open.push(*slot);
                slot.revision += 1;
                other = slot.next;
            }
            open.sort_unstable_by_key(|slot| slot.start);
            for slot in &open {
                let flags = self.flags(number, slot, false);
                self.state(number, place, slot, flags);
            }
        }
    }
}

/// Whole only when nothing is missing.
fn flags_of(gap: bool, partial: bool, backfilled: bool) -> CandleFlags {
    let mut flags = CandleFlags::default();
    for (is_so, flag) in [
        (!gap && !partial, CandleFlags::COMPLETE),
        (partial, CandleFlags::PARTIAL),
        (gap, CandleFlags::GAP),
        (backfilled, CandleFlags::BACKFILLED),
    ] {
        flags.0 |= if is_so { flag.0 } else { 0 };
    }
    flags
}

/// For what is read back.
impl Engine {
    /// Sets the timers again after the state was read back.
    pub(super) fn rearm(&mut self) {
        self.next_dirty = self.dirty.values().map(|dirty| dirty.due).min().unwrap_or(NEVER);
        for number in 0..self.instruments.len() as u32 {
            self.instruments[number as usize].timer = NEVER;
            self.arm(number);
        }
    }

    /// The slots that hang behind the one touched last, in order.
    pub(super) fn others_of(&self, at: usize) -> Vec<Slot> {
        let mut found = Vec::new();
        let mut other = self.slots[at].next;
        while other != NONE {
            found.push(self.others[other as usize]);
            other = self.others[other as usize].next;
        }
        found
    }

    pub(super) fn set_slots(&mut self, at: usize, open: &[Slot]) {
        let mut next = NONE;
        for slot in open.iter().skip(1).rev() {
            next = self.keep(Slot { next, ..*slot });
        }
        if let Some(first) = open.first() {
            self.slots[at] = Slot { next, ..*first };
        }
    }
}
