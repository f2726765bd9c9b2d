//! From records to candles: the engine, the feed in front of it, and the way back to the tape for what is late.

use anyhow::Context as _;
use tapedeck_market::{Body, Candle, CandleInput, Event, Flags, Gap, SmolStr, Status, UnixNanos};

use super::bar::fetched;
use super::engine::{Counts, Engine, Said, Settings};
use super::feed::{Feed, Passed, Route, Running, Selection, Totals, concerns};
use super::rebuild::{Rebuild, Wanted};
use super::span::Anchor;
use super::state;
use crate::derive::{Past, TIME};
use crate::recorder::{SUBSCRIPTION, detail};

/// Name of the source of candles, and of their reader.
pub const CANDLES: &str = "candles";
/// Topic of the `Status` that reports a bucket that cannot be revised.
pub const UNREVISABLE: &str = "unrevisable";
/// Receive times on a tape are in order but for this much: several sources, one queue.
const DISORDER_NS: i64 = 10_000_000_000;

/// What is wanted of candles.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Lengths in ns.
    pub intervals_ns: Vec<i64>,
    pub input: CandleInput,
    pub anchor: Anchor,
    pub lateness_ns: i64,
    pub selection: Selection,
}

impl Recipe {
    /// A number that changes when anything of it does: the state of another recipe is of no use.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let text = format!("{self:?}");
        let crc = |bytes: &[u8]| u64::from(crc32c::crc32c(bytes));
        let reversed: Vec<u8> = text.bytes().rev().collect();
        crc(text.as_bytes()) << 32 | crc(&reversed)
    }
}

/// Makes the candles of a tape.
#[derive(Clone, Debug)]
pub struct Maker {
    recipe: Recipe,
    engine: Engine,
    feed: Feed,
}

impl Maker {
    #[must_use]
    pub fn new(recipe: Recipe) -> Self {
        let Recipe { intervals_ns, input, anchor, lateness_ns, selection } = recipe.clone();
        let feed = Feed::new(input, &anchor, selection);
        let engine = Engine::new(Settings { intervals_ns, anchor, lateness_ns, input });
        Maker { recipe, engine, feed }
    }

    /// Goes on from a state, and says behind which record. `None`: it is damaged, or of another recipe.
    #[must_use]
    pub fn resume(recipe: Recipe, state: &[u8]) -> Option<(Self, u64)> {
        let mut maker = Maker::new(recipe);
        let fingerprint = maker.recipe.fingerprint();
        let seq = state::decode(state, fingerprint, &mut maker.engine, &mut maker.feed)?;
        Some((maker, seq))
    }

    /// The state behind the record `seq`. Everything said must have been taken.
    #[must_use]
    pub fn state(&self, seq: u64) -> Vec<u8> {
        state::encode(seq, self.recipe.fingerprint(), &self.engine, &self.feed)
    }

    /// Takes a record of the tape, in order.
    ///
    /// # Errors
    /// The tape cannot be read for what is late.
    pub fn record(&mut self, seq: u64, event: &Event, past: &mut dyn Past) -> anyhow::Result<()> {
        // Candles, this one's or another's, are no input, and no time either: there may be more or fewer of them.
        if event.flags.contains(Flags::DERIVED) && !is_time(event) {
            return Ok(());
        }
        self.engine.clock(event.ts_recv.0);
        if self.engine.has_dirty(event.ts_recv.0) {
            self.revise(event.ts_recv.0, seq - 1, past)?;
        }
        if self.feed.may_be_tick(event) {
            if let Some(instrument) = self.instrument(event)
                && let Some(tick) = self.feed.tick(instrument, event)
            {
                self.engine.tick(seq, &tick);
            }
            return Ok(());
        }
        match &event.body {
            Body::Candle(_) if fetched(event).is_some() => {
                if let Some(instrument) = self.instrument(event)
                    && let Some(bar) = self.feed.bar(instrument, event)
                {
                    self.engine.bar(seq, &bar);
                }
            }
            Body::Gap(gap) => self.gap(seq, event, gap),
            Body::Status(status) if status.topic == SUBSCRIPTION => self.subscription(event, status),
            Body::Instrument(listed) => {
                if let (Some(digits), Route::Known(number) | Route::New(number)) = (
                    listed.price_precision,
                    self.feed.number(&event.venue, &event.symbol).map_or(Route::Unwanted, Route::Known),
                ) {
                    self.engine.digits(number, digits);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What a segment begins with: which subscriptions live, and which gaps are open.
    pub fn checkpoint(&mut self, event: &Event) {
        match &event.body {
            Body::Gap(gap) => self.gap(0, event, gap),
            Body::Status(status) if status.topic == SUBSCRIPTION => self.subscription(event, status),
            _ => {}
        }
    }

    /// Records between two receive times cannot be read.
    pub fn hole(&mut self, from: UnixNanos, to: UnixNanos) {
        self.engine.hole(from.0, to.0);
    }

    /// Recording stops behind the record `seq`: what is late is stated, and what is open, as partial.
    ///
    /// # Errors
    /// The tape cannot be read for what is late.
    pub fn pause(&mut self, seq: u64, past: &mut dyn Past) -> anyhow::Result<()> {
        self.revise(i64::MAX, seq, past)?;
        self.engine.pause();
        Ok(())
    }

    /// When a record must be read so that something happens.
    #[must_use]
    pub fn due(&self) -> Option<UnixNanos> {
        self.engine.due()
    }

    #[must_use]
    pub fn counts(&self) -> (Counts, Passed) {
        (self.engine.counts(), self.feed.passed)
    }

    /// Candles that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.engine.open()
    }

    /// Instruments with an open candle, for each interval in nanoseconds.
    #[must_use]
    pub fn open_by_interval(&self) -> Vec<(i64, usize)> {
        self.engine.open_by_interval()
    }

    #[must_use]
    pub fn instruments(&self) -> usize {
        self.feed.names.len()
    }

    #[must_use]
    pub fn has_said(&self) -> bool {
        self.engine.has_said()
    }

    /// What was said since the last call, as events received at `now`.
    pub fn take_said(&mut self, now: UnixNanos) -> Vec<Event> {
        let said = self.engine.take_said();
        said.into_iter().map(|said| self.event(said, now)).collect()
    }

    /// A statement of an earlier life stands on the tape: what comes next of that bucket has a later revision.
    pub fn stated_as(&mut self, venue: &str, symbol: &str, interval_ns: i64, start: i64, revision: u32) {
        if let Some(number) = self.feed.number(venue, symbol) {
            self.engine.stated_as(number, interval_ns, start, revision);
        }
    }

    fn event(&self, said: Said, now: UnixNanos) -> Event {
        let (instrument, start, body) = match said {
            Said::Candle { instrument, candle } => (instrument, candle.start, Body::Candle(candle)),
            Said::Unrevisable { instrument, interval_ns, start } => {
                let interval = SmolStr::new(interval_ns.to_string());
                let detail = vec![
                    (SmolStr::new_static("interval_ns"), interval),
                    (SmolStr::new_static("start"), SmolStr::new(start.0.to_string())),
                ];
                let (topic, state) = (SmolStr::new_static(CANDLES), SmolStr::new_static(UNREVISABLE));
                (instrument, start, Body::Status(Status { topic, state, detail }))
            }
        };
        let (venue, symbol) = self.feed.names[instrument as usize].clone();
        let source = SmolStr::new_static(CANDLES);
        Event { source, venue, symbol, ts_event: Some(start), ts_recv: now, flags: Flags::DERIVED, origin: None, body }
    }

    /// The number of the event's instrument, in the feed and in the engine.
    fn instrument(&mut self, event: &Event) -> Option<u32> {
        match self.feed.route(event) {
            Route::Known(number) => Some(number),
            Route::New(number) => {
                let same = self.engine.instrument();
                debug_assert_eq!(same, number, "feed and engine number alike");
                Some(number)
            }
            Route::Unwanted => None,
        }
    }

    fn subscription(&mut self, event: &Event, status: &Status) {
        if !concerns(self.recipe.input, &detail(status, "channel")) {
            return;
        }
        let Some(number) = self.instrument(event) else { return };
        if status.state == "ended" {
            self.engine.ended(number);
        } else {
            self.engine.live(number, event.ts_recv.0);
        }
    }

    fn gap(&mut self, seq: u64, event: &Event, gap: &Gap) {
        if !concerns(self.recipe.input, &gap.channel) {
            return;
        }
        let numbers = if event.symbol.is_empty() {
            self.feed.of_venue(&event.venue)
        } else {
            self.instrument(event).into_iter().collect()
        };
        for number in numbers {
            self.engine.gap(seq, event.ts_recv.0, number, gap);
        }
    }

    /// Reads what is dirty from the tape again, all of it in one pass, and states it.
    fn revise(&mut self, ts_recv: i64, upto: u64, past: &mut dyn Past) -> anyhow::Result<()> {
        let wanted = self.engine.take_dirty(ts_recv);
        if wanted.is_empty() {
            return Ok(());
        }
        let mut totals = Totals::new();
        let mut rebuilds: Vec<Rebuild> = Vec::with_capacity(wanted.len());
        for mut wanted in wanted {
            self.begin_total(&mut wanted, &mut totals);
            rebuilds.push(Rebuild::new(wanted));
        }
        // By instrument: a record concerns the few buckets of its own.
        rebuilds.sort_by_key(|rebuild| (rebuild.wanted.instrument, rebuild.wanted.start, rebuild.wanted.place));
        let mut pass = |rebuilds: &mut Vec<Rebuild>| {
            let since = rebuilds.iter().map(|rebuild| rebuild.wanted.received_since).min().unwrap_or(i64::MIN);
            let since = UnixNanos(since.saturating_sub(DISORDER_NS));
            let mut totals = totals.clone();
            let mut each = |seq: u64, event: Option<&Event>| match event {
                Some(event) => reread(&mut self.feed, self.recipe.input, &mut totals, rebuilds, seq, event),
                None => rebuilds.iter_mut().for_each(Rebuild::hole),
            };
            past.read(since, upto, &mut each).context("reading late candles again")
        };
        let whole_since = pass(&mut rebuilds)?;
        let (again, mut rebuilds): (Vec<Rebuild>, Vec<Rebuild>) =
            rebuilds.into_iter().partition(Rebuild::wants_another_pass);
        if !again.is_empty() {
            let mut again = again.into_iter().map(Rebuild::again).collect();
            pass(&mut again)?;
            rebuilds.append(&mut again);
        }
        rebuilds.iter_mut().for_each(Rebuild::finish);
        rebuilds.sort_by_key(|rebuild| (rebuild.wanted.start, rebuild.wanted.instrument, rebuild.wanted.place));
        for rebuild in &rebuilds {
            if rebuild.wanted.received_since < whole_since.0 {
                self.engine.give_up(&rebuild.wanted);
            } else {
                self.engine.restate(rebuild);
            }
        }
        Ok(())
    }

    /// Where volume is the difference of a running total, reading begins with the day, or with what was heard of it.
    fn begin_total(&mut self, wanted: &mut Wanted, totals: &mut Totals) {
        let Some(known) = self.feed.totals.get(&wanted.instrument) else { return };
        let Some(day) = self.feed.calendar.day(wanted.start) else { return };
        wanted.received_since = wanted.received_since.saturating_sub(wanted.start.saturating_sub(day.from));
        // The day before was heard too: the first total of this day is a reset, and counts whole.
        if self.engine.heard_before(wanted.instrument, day.from) {
            let volume = tapedeck_market::Decimal::ZERO;
            totals.insert(wanted.instrument, Running { day, volume, last: known.last, last_trade: None });
        }
    }
}

/// Whether an event only says what time it is.
fn is_time(event: &Event) -> bool {
    event.source == CANDLES
        && matches!(&event.body, Body::Status(status) if status.topic == CANDLES && status.state == TIME)
}

/// One record of a pass over the past.
fn reread(feed: &mut Feed, input: CandleInput, totals: &mut Totals, rebuilds: &mut [Rebuild], seq: u64, event: &Event) {
    if event.flags.contains(Flags::DERIVED) {
        return;
    }
    if let Body::Gap(gap) = &event.body {
        if concerns(input, &gap.channel) {
            let numbers = if event.symbol.is_empty() {
                feed.of_venue(&event.venue)
            } else {
                feed.known(event).into_iter().collect()
            };
            for number in numbers {
                let to = gap.to.map(|to| to.0);
                of_instrument(rebuilds, number)
                    .iter_mut()
                    .for_each(|rebuild| rebuild.gap(event.ts_recv.0, gap.id, gap.state, gap.from.0, to));
            }
        }
        return;
    }
    let is_fetched = fetched(event).is_some();
    if !is_fetched && !feed.may_be_tick(event) {
        return;
    }
    let Some(number) = feed.known(event) else { return };
    let these = of_instrument(rebuilds, number);
    if these.is_empty() {
        return;
    }
    if is_fetched {
        if let Some(bar) = feed.bar(number, event) {
            these.iter_mut().for_each(|rebuild| rebuild.bar(&bar));
        }
        return;
    }
    if let Ok(Some(tick)) = feed.tick_with(totals, number, event) {
        these.iter_mut().for_each(|rebuild| rebuild.tick(seq, &tick));
    }
}

/// The part that is of one instrument.
fn of_instrument(rebuilds: &mut [Rebuild], number: u32) -> &mut [Rebuild] {
    let from = rebuilds.partition_point(|rebuild| rebuild.wanted.instrument < number);
    let to = rebuilds.partition_point(|rebuild| rebuild.wanted.instrument <= number);
    &mut rebuilds[from..to]
}

/// The candle of an event of ours.
#[must_use]
pub fn candle_of(event: &Event) -> Option<&Candle> {
    match &event.body {
        Body::Candle(candle) if event.flags.contains(Flags::DERIVED) => Some(candle),
        _ => None,
    }
}
