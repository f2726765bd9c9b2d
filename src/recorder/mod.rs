//! The only writer of the tape.
//!
//! One thread takes [`Intake`] messages in order, makes ledger events of what sources say about their
//! subscriptions, appends each frame as a whole, and syncs in groups. Nothing else in the program
//! writes a record, so the order on the tape is the order of this thread.
//!
//! A group is written when the window since the last sync is over, or when it holds
//! `GROUP_BYTES`. A record that arrives after a quiet moment is synced at once.

mod clock;
mod ledger;
mod pulse;
mod restored;
pub(crate) mod seen;
mod space;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tapedeck_market::{
    Body, Event, Flags, Gap, GapCause, GapState, Raw, SmolStr, TapeEvent, TapeNote, UnixNanos, is_absurd, wire,
};
use tapedeck_tape::{Entry, Log, MAX_PAYLOAD_BYTES, Mode, Note, Retention};
use tokio::sync::{mpsc, oneshot, watch};

use crate::intake::{Hole, Intake};
use crate::status::Quantiles;
use clock::ClockWatch;
pub use ledger::{GapTotals, GapsBySource};
pub use pulse::Pulse;
pub use restored::Restored;
pub use state::LedgerCounts;
use state::{SHED_CHANNELS, SHED_FIRST, State, open_gap, subscription_status};
pub(crate) use state::{SUBSCRIPTION, detail};
pub use view::{Summary, View, Watches};

/// Time between two syncs in mode `group`, at least: what a record waits for company, at most.
const WINDOW: Duration = Duration::from_micros(500);
/// A group of this size is synced without waiting.
const GROUP_BYTES: usize = 64 * 1024;
/// How often clock, disk and retention are looked after.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
/// How often retention looks for segments to drop: as often as the rest, because what it sets free is what is written next,
/// and a look that finds nothing costs nothing.
const RETAIN_EVERY: Duration = MAINTAIN_EVERY;
/// A ledger that changes is shown at once, but not more often than this.
const VIEW_AT_MOST: Duration = Duration::from_millis(100);
/// So much of an event that is too large for the tape is kept.
const OVERSIZED_KEPT_BYTES: usize = 64 * 1024;
/// Name of the source of events that the deck itself makes.
pub const DECK: &str = "tapedeck";

/// What happens when the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Sources are closed until there is space again.
    #[default]
    Stop,
    /// The oldest segments are removed, unless a required reader still needs them.
    DropOldest,
    /// Raw frames, books and tickers are no longer recorded; trades are.
    Shed,
}

/// How to record.
#[derive(Debug)]
pub struct Settings {
    pub mode: Mode,
    pub retention: Retention,
    pub on_full: OnFull,
    /// Folder of the tape, to ask for free space.
    pub dir: PathBuf,
    /// Below this many free bytes, `shed` begins.
    pub shed_below: u64,
    /// Set when the deck must end although the disk is full.
    pub give_up: Arc<AtomicBool>,
}

impl Settings {
    /// The defaults, for a tape in `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Settings {
            mode: Mode::default(),
            retention: Retention::default(),
            on_full: OnFull::default(),
            dir: dir.to_owned(),
            shed_below: 0,
            give_up: Arc::default(),
        }
    }
}

/// The recorder, before its thread starts.
#[derive(Debug)]
pub struct Recorder {
    log: Log,
    state: State,
    settings: Settings,
    clock: ClockWatch,
    pulse: Arc<Pulse>,
    publish: Publish,
    /// Told when the group is durable.
    waiting: Vec<(oneshot::Sender<u64>, u64)>,
    /// Receive times of the frames in the group.
    arrivals: Vec<UnixNanos>,
    group_bytes: usize,
    encoded: Vec<u8>,
    ends: Vec<usize>,
    receive_times: Vec<i64>,
    last_sync: Instant,
    last_maintained: Instant,
    last_retain: Instant,
    last_view: Instant,
    /// Since the last view a subscription came or went.
    ledger_changed: bool,
    /// Sources are held closed until the next look, so that they subscribe anew.
    restart_sources: bool,
    /// Since when nothing could be written.
    disk_gap_since: Option<UnixNanos>,
    first_seq: u64,
    view: View,
    events_at_last_view: u64,
    gaps_opened: u64,
    latency: Histogram<u64>,
    sync: Histogram<u64>,
}

#[derive(Debug)]
struct Publish {
    view: watch::Sender<Arc<View>>,
    durable: watch::Sender<u64>,
    full: watch::Sender<bool>,
}

impl Recorder {
    /// Takes over an opened log and what was read back from it.
    ///
    /// # Errors
    /// None today; histograms are made with fixed, valid bounds.
    pub fn new(log: Log, state: Restored, settings: Settings) -> anyhow::Result<(Self, Watches)> {
        let (view, view_out) = watch::channel(Arc::default());
        let (durable, durable_out) = watch::channel(log.durable_seq());
        let (full, full_out) = watch::channel(false);
        // Microseconds up to ten minutes, two digits.
        let histogram = || Histogram::new_with_bounds(1, 600_000_000, 2).context("making a histogram");
        let tape = log.tail();
        let pulse = Arc::new(Pulse::start());
        let mut recorder = Recorder {
            pulse: Arc::clone(&pulse),
            first_seq: log.next_seq(),
            log,
            state: state.into_state(),
            settings,
            clock: ClockWatch::start(),
            publish: Publish { view, durable, full },
            waiting: Vec::new(),
            arrivals: Vec::new(),
            group_bytes: 0,
            encoded: Vec::with_capacity(2 * GROUP_BYTES),
            ends: Vec::new(),
            receive_times: Vec::new(),
            last_sync: Instant::now(),
            last_maintained: Instant::now(),
            last_retain: Instant::now(),
            last_view: Instant::now(),
            ledger_changed: false,
            restart_sources: false,
            disk_gap_since: None,
            view: View::default(),
            events_at_last_view: 0,
            gaps_opened: 0,
            latency: histogram()?,
            sync: histogram()?,
        };
        recorder.view.durable_seq = recorder.log.durable_seq();
        recorder.look_at_folder();
        recorder.publish_view();
        Ok((recorder, Watches { view: view_out, durable: durable_out, full: full_out, tape, pulse }))
    }

    /// Opens a gap for every subscription that was being received when the process before this one ended.
    ///
    /// `configured` are the sources of today's config; subscriptions of others are ended.
    ///
    /// # Errors
    /// The tape cannot be written.
    pub fn open_down_gaps(&mut self, configured: &HashSet<SmolStr>, since: Option<UnixNanos>) -> anyhow::Result<()> {
        let now = UnixNanos::now();
        // Not the recorder's own clock of last receipt: what it noted since the tape was opened is no feed.
        let since = since.unwrap_or(now);
        let known: Vec<(SmolStr, SmolStr)> =
            self.state.sources().map(|(name, venue)| (name.clone(), venue.clone())).collect();
        for (source, venue) in known {
            // Further sessions of a table are called `NAME/2` and the like.
            let table = source.split('/').next().unwrap_or(&source);
            if configured.contains(&source) || configured.contains(table) {
                let since = self.state.last_recv_of(&source).unwrap_or(since);
                let since = self.state.whole_until(&source, since);
                let these = self.state.subscriptions(&source, None, None, true);
                let detail = SmolStr::new_static("the recorder was not running");
                self.open_gaps(source, venue, these, GapCause::Down, since, &detail)?;
            } else {
                for (symbol, channel) in self.state.subscriptions(&source, None, None, false) {
                    self.end_subscription(&source, &venue, symbol, &channel)?;
                }
            }
        }
        Ok(())
    }

    /// Writes something the tape says about itself.
    ///
    /// # Errors
    /// The tape cannot be written.
    pub fn note(&mut self, note: TapeNote) -> anyhow::Result<()> {
        self.view.damaged += u64::from(matches!(note.what, TapeEvent::Hole | TapeEvent::Poisoned));
        let event = deck_event(Body::Tape(Box::new(note)));
        self.append(vec![event], None)
    }

    /// Set it to end a recorder that waits for a full disk.
    #[must_use]
    pub fn give_up(&self) -> Arc<AtomicBool> {
        self.settings.give_up.clone()
    }

    /// Records until every [`mpsc::Sender`] is gone, then closes the tape.
    ///
    /// # Errors
    /// The tape cannot be written any more: what was not acknowledged is lost, and said so.
    pub fn run(mut self, mut intake: mpsc::Receiver<Intake>) -> anyhow::Result<Summary> {
        while let Some(message) = intake.blocking_recv() {
            self.take(message)?;
            if self.settings.mode == Mode::Each {
                self.commit()?;
            }
            self.drain(&mut intake)?;
            if self.settings.mode == Mode::Group {
                let since = self.last_sync.elapsed();
                if since < WINDOW && self.group_bytes < GROUP_BYTES {
                    std::thread::sleep(WINDOW - since);
                    self.drain(&mut intake)?;
                }
            }
            self.commit()?;
            // Under load a `Maintain` finds the queue full: the recorder's own clock stands in for it.
            if self.last_maintained.elapsed() >= MAINTAIN_EVERY {
                self.maintain()?;
            }
        }
        self.finish()
    }

    fn drain(&mut self, intake: &mut mpsc::Receiver<Intake>) -> anyhow::Result<()> {
        while self.group_bytes < GROUP_BYTES {
            let Ok(message) = intake.try_recv() else { break };
            self.take(message)?;
            if self.settings.mode == Mode::Each {
                self.commit()?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Summary> {
        // The last record stands behind a checkpoint: whoever reads the tape back has nothing to read.
        self.log.checkpoint_next();
        self.note(TapeNote {
            what: TapeEvent::Stop,
            from_seq: None,
            to_seq: None,
            bytes: 0,
            detail: SmolStr::new_static("stopped in order"),
        })?;
        self.commit()?;
        let summary = Summary {
            first_seq: self.first_seq,
            last_seq: self.log.durable_seq(),
            events: self.view.events,
            bytes: self.view.bytes,
            duplicates: self.view.duplicates,
            gaps_opened: self.gaps_opened,
        };
        self.publish_view();
        self.log.close().context("closing the tape")?;
        Ok(summary)
    }

    fn take(&mut self, message: Intake) -> anyhow::Result<()> {
        self.handle(message)?;
        // Before anything that was queued meanwhile: the gap begins where the disk was full.
        self.resume_after_full()
    }

    fn handle(&mut self, message: Intake) -> anyhow::Result<()> {
        match message {
            Intake::Events { events, durable } => self.append(events, durable),
            // What is left out is not whole again because it was subscribed again.
            Intake::Live { channel, .. } if self.view.shedding && SHED_CHANNELS.contains(&channel.as_str()) => Ok(()),
            Intake::Live { source, venue, symbol, channel, ts_recv, filled } => {
                let mut event = blank(source, venue, symbol, ts_recv);
                let Some(body) = self.state.live(&event, &channel) else { return Ok(()) };
                let repaired = match (&body, filled) {
                    (Body::Gap(gap), Some(how)) => {
                        let detail = SmolStr::from(format!("{}; {how}", gap.detail));
                        Some(Gap { state: GapState::Repaired, missing: Some(0), detail, ..(**gap).clone() })
                    }
                    _ => None,
                };
                event.body = body;
                let repaired = repaired.map(|gap| Event { body: Body::Gap(Box::new(gap)), ..event.clone() });
                self.append(std::iter::once(event).chain(repaired).collect(), None)
            }
            Intake::Lost { source, venue, symbol, channel, cause, since, detail } => {
                let these = self.state.subscriptions(&source, symbol.as_ref(), channel.as_ref(), true);
                self.open_gaps(source, venue, these, cause, since, &detail)
            }
            Intake::SessionLost { source, venue, these, cause, since, detail } => {
                let live = |(symbol, channel): &(SmolStr, SmolStr)| self.state.is_live(&source, symbol, channel);
                let these = these.into_iter().filter(live).collect();
                let since = self.state.whole_until(&source, since);
                self.open_gaps(source, venue, these, cause, since, &detail)
            }
            Intake::Holes { holes, events } => {
                let mut all = Vec::with_capacity(2 * holes.len() + events.len());
                for hole in holes {
                    all.extend(self.noted(hole, all.len() as u64));
                }
                all.extend(events);
                self.append(all, None)
            }
            Intake::Unsubscribed { source, symbol, channel } => {
                let venue = self.state.sources().find(|(name, _)| **name == source).map(|(_, venue)| venue.clone());
                match venue {
                    Some(venue) => self.end_subscription(&source, &venue, symbol, &channel),
                    None => Ok(()),
                }
            }
            Intake::Resume { source, reply } => {
                // A source that has gone meanwhile needs no answer.
                let _ = reply.send(self.state.resume(&source));
                Ok(())
            }
            Intake::Maintain => self.maintain(),
        }
    }

    /// The two records of a hole that is over, the first of which will stand `ahead` places behind the end.
    fn noted(&mut self, hole: Hole, ahead: u64) -> [Event; 2] {
        let Hole { source, venue, symbol, channel, cause, from, to, missing, ids, detail } = hole;
        let from = self.state.hole_begins(&source, &symbol, &channel, from);
        let mut opened = blank(source, venue, symbol, to);
        let gap = open_gap(self.log.next_seq() + ahead, cause, channel, from, detail);
        opened.body = Body::Gap(Box::new(gap.clone()));
        let closed = Gap { state: GapState::Closed, to: Some(to), missing, ..gap };
        let closed = Event { body: Body::Gap(Box::new(closed)), ..opened.clone() };
        if let Some(ids) = ids {
            self.state.watch_id_hole(&closed, ids);
        }
        self.gaps_opened += 1;
        [opened, closed]
    }

    /// One record a subscription: all of one cause are one append.
    fn open_gaps(
        &mut self,
        source: SmolStr,
        venue: SmolStr,
        these: Vec<(SmolStr, SmolStr)>,
        cause: GapCause,
        since: UnixNanos,
        detail: &SmolStr,
    ) -> anyhow::Result<()> {
        let now = UnixNanos::now();
        let mut events = Vec::new();
        // The id of a gap is the seq of the record that opens it.
        for (id, (symbol, channel)) in (self.log.next_seq()..).zip(these) {
            let mut event = blank(source.clone(), venue.clone(), symbol, now);
            event.body = Body::Gap(Box::new(open_gap(id, cause, channel, since, detail.clone())));
            events.push(event);
        }
        self.gaps_opened += events.len() as u64;
        self.append(events, None)
    }

    fn end_subscription(
        &mut self,
        source: &SmolStr,
        venue: &SmolStr,
        symbol: SmolStr,
        channel: &SmolStr,
    ) -> anyhow::Result<()> {
        if self.state.subscriptions(source, Some(&symbol), Some(channel), false).is_empty() {
            return Ok(());
        }
        let now = UnixNanos::now();
        let mut event = blank(source.clone(), venue.clone(), symbol, now);
        let mut events = Vec::new();
        if self.state.has_open_gap(source, &event.symbol, channel)
            && let Some(body) = self.state.live(&event, channel)
        {
            events.push(Event { body, ..event.clone() });
        }
        event.body = subscription_status("ended", channel);
        events.push(event);
        self.append(events, None)
    }

    /// Appends the events of one message as a whole, minus trades that are on the tape already.
    fn append(&mut self, mut events: Vec<Event>, durable: Option<oneshot::Sender<u64>>) -> anyhow::Result<()> {
        self.prepare(&mut events);
        if !events.is_empty() {
            self.encode(&mut events);
            if !self.write()? {
                return Ok(());
            }
            let mut start = 0;
            for (event, &end) in events.iter().zip(&self.ends) {
                self.ledger_changed |= matches!(event.body, Body::Gap(_) | Body::Status(_));
                if let Body::Gap(gap) = &event.body {
                    ledger::count(&mut self.view.gaps, event, gap);
                }
                self.state.apply(event, &self.encoded[start..end]);
                start = end;
            }
            if let Some(event) = events.first() {
                self.arrivals.push(event.ts_recv);
            }
            self.group_bytes += self.encoded.len();
            self.view.events += events.len() as u64;
            self.view.bytes += self.encoded.len() as u64;
        }
        if let Some(durable) = durable {
            self.waiting.push((durable, self.log.next_seq() - 1));
        }
        Ok(())
    }

    fn prepare(&mut self, events: &mut Vec<Event>) {
        if self.view.shedding {
            let before = events.len();
            events.retain(|event| !SHED_FIRST.contains(&event.body.kind()));
            self.view.shed += (before - events.len()) as u64;
        }
        // Within one message a trade could come twice: only then is a set needed.
        let mut fresh: HashSet<(SmolStr, SmolStr)> = HashSet::new();
        let several = events.len() > 1;
        let before = events.len();
        events.retain(|event| {
            if self.state.is_on_tape(event) {
                return false;
            }
            match &event.body {
                Body::Trade(trade) if several => {
                    trade.id.as_ref().is_none_or(|id| fresh.insert((event.symbol.clone(), id.clone())))
                }
                Body::Post(post) if several => fresh.insert((SmolStr::default(), post.id.clone())),
                _ => true,
            }
        });
        self.view.duplicates += (before - events.len()) as u64;
        for event in events {
            if event.ts_event.is_some_and(|ts_event| is_absurd(ts_event, event.ts_recv)) {
                event.flags = event.flags.with(Flags::ABSURD_TIME);
            }
        }
    }

    fn encode(&mut self, events: &mut [Event]) {
        self.encoded.clear();
        self.ends.clear();
        for event in events.iter_mut() {
            let start = self.encoded.len();
            wire::encode(event, &mut self.encoded);
            if self.encoded.len() - start > MAX_PAYLOAD_BYTES {
                tracing::error!(source = %event.source, symbol = %event.symbol, bytes = self.encoded.len() - start, "event too large for the tape, its beginning is kept");
                event.body = Body::Raw(Raw {
                    format: SmolStr::new_static("oversized"),
                    frame: self.encoded[start..start + OVERSIZED_KEPT_BYTES].to_vec(),
                });
                self.encoded.truncate(start);
                wire::encode(event, &mut self.encoded);
            }
            self.ends.push(self.encoded.len());
        }
        self.receive_times.clear();
        self.receive_times.extend(events.iter().map(|event| event.ts_recv.0));
    }

    /// Appends what is encoded, waiting out a full disk by the configured policy. `false`: it can never be appended.
    fn write(&mut self) -> anyhow::Result<bool> {
        loop {
            let mut start = 0;
            let entries: Vec<Entry<'_>> = self
                .ends
                .iter()
                .zip(&self.receive_times)
                .map(|(&end, &ts_recv)| {
                    let payload = &self.encoded[start..end];
                    start = end;
                    Entry { ts_recv, payload }
                })
                .collect();
            let state = &self.state;
            let written = self.log.append(&entries, &mut || state.checkpoint(UnixNanos::now()));
            match written {
                Ok(_) => return Ok(true),
                Err(tapedeck_tape::Error::Full { .. }) => self.wait_for_space()?,
                Err(error @ tapedeck_tape::Error::TooLarge { .. }) => {
                    // One frame must not end the recording of all others.
                    tracing::error!(error = %error, events = self.ends.len(), "frame too large for the tape, not recorded");
                    self.view.shed += self.ends.len() as u64;
                    return Ok(false);
                }
                Err(error) => return Err(error).context("writing the tape"),
            }
        }
    }

    /// Makes the group durable and tells everybody who waits for it.
    fn commit(&mut self) -> anyhow::Result<()> {
        self.sync_group()?;
        if self.ledger_changed && self.last_view.elapsed() >= VIEW_AT_MOST {
            self.publish_view();
        }
        for note in self.log.take_notes().into_iter().filter_map(tape_note) {
            self.note(note)?;
        }
        Ok(())
    }

    fn sync_group(&mut self) -> anyhow::Result<()> {
        if self.group_bytes == 0 && self.waiting.is_empty() {
            return Ok(());
        }
        self.last_sync = Instant::now();
        let durable = loop {
            match self.log.commit() {
                Ok(durable) => break durable,
                // The segment failed and there is no room for its successor: nothing is lost, a later commit succeeds.
                Err(tapedeck_tape::Error::Full { .. }) => self.wait_for_space()?,
                Err(error) => return Err(error).context("syncing the tape"),
            }
        };
        let took = self.last_sync.elapsed();
        self.sync.saturating_record(took.as_micros() as u64);
        self.view.times.sync.add(took);
        self.confirm(durable);
        Ok(())
    }

    /// The group is durable: everybody who waits for it is told.
    fn confirm(&mut self, durable: u64) {
        self.group_bytes = 0;
        for (waiting, seq) in self.waiting.drain(..) {
            // Whoever asked may be gone by now; the record is durable all the same.
            let _ = waiting.send(seq);
        }
        let now = UnixNanos::now();
        for arrival in self.arrivals.drain(..) {
            let took = now.saturating_since(arrival);
            self.latency.saturating_record(took.as_micros() as u64);
            self.view.times.durable.add(took);
        }
        self.view.durable_seq = durable;
        self.publish.durable.send_replace(durable);
    }

    /// Once a second: the clock, the disk, retention, and the view for status and metrics.
    fn maintain(&mut self) -> anyhow::Result<()> {
        self.last_maintained = Instant::now();
        if std::mem::take(&mut self.restart_sources) {
            self.publish.full.send_replace(false);
        }
        if let Some(step) = self.clock.check() {
            self.view.clock_steps += 1;
            tracing::warn!(step_ms = step / 1_000_000, "wall clock stepped");
            let detail = SmolStr::new(format!("the wall clock moved by {} ms", step / 1_000_000));
            self.note(TapeNote { what: TapeEvent::ClockStep, from_seq: None, to_seq: None, bytes: 0, detail })?;
        }
        let repaired = self.state.filled_id_holes(UnixNanos::now());
        if !repaired.is_empty() {
            self.append(repaired, None)?;
        }
        self.look_at_folder();
        self.shed_or_not()?;
        if self.last_retain.elapsed() >= RETAIN_EVERY {
            self.last_retain = Instant::now();
            self.retain();
        }
        // In mode `os` nothing else would sync the last records of a burst.
        match self.log.sync() {
            Ok(_) | Err(tapedeck_tape::Error::Full { .. }) => {}
            Err(error) => return Err(error).context("syncing the tape"),
        }
        self.publish_view();
        self.pulse.beat();
        Ok(())
    }

    fn publish_view(&mut self) {
        let view = &mut self.view;
        view.rate = (view.events - self.events_at_last_view) as f64 / self.last_view.elapsed().as_secs_f64().max(1e-3);
        self.events_at_last_view = view.events;
        self.last_view = Instant::now();
        self.ledger_changed = false;
        view.sources = self.state.counts();
        view.clock_offset_ns = self.clock.offset_ns();
        if !self.latency.is_empty() {
            view.latency = quantiles(&self.latency);
            self.latency.reset();
        }
        if !self.sync.is_empty() {
            view.sync = quantiles(&self.sync);
            self.sync.reset();
        }
        self.publish.view.send_replace(Arc::new(view.clone()));
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        count: histogram.len(),
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        max_us: histogram.max(),
    }
}

/// What the log reports of itself: logged, and on the tape where it concerns what is recorded.
fn tape_note(note: Note) -> Option<TapeNote> {
    match note {
        Note::Poisoned { segment, action, error } => {
            tracing::error!(segment, action, error = %error, "the disk failed, another segment took over, nothing is lost");
            let detail = SmolStr::new(format!("segment {segment}: {action}: {error}"));
            Some(TapeNote { what: TapeEvent::Poisoned, from_seq: None, to_seq: None, bytes: 0, detail })
        }
        Note::NothingAhead { error } => {
            tracing::warn!(error = %error, "no segment could be allocated ahead");
            None
        }
        Note::NoSocket { error } => {
            tracing::warn!(error = %error, "readers of other processes look at the tape from time to time");
            None
        }
        Note::DroppedOldest => {
            tracing::warn!("disk full, oldest segment removed to open the tape");
            None
        }
        Note::NotCompressed { segment, error } => {
            tracing::warn!(segment, error = %error, "a segment stays uncompressed");
            None
        }
        other => {
            tracing::warn!(note = ?other, "the tape reports");
            None
        }
    }
}

/// An event without a body yet: the caller sets it.
fn blank(source: SmolStr, venue: SmolStr, symbol: SmolStr, ts_recv: UnixNanos) -> Event {
    let body = Body::Status(tapedeck_market::Status::default());
    Event { source, venue, symbol, ts_event: None, ts_recv, flags: Flags::NONE, origin: None, body }
}

fn deck_event(body: Body) -> Event {
    let deck = SmolStr::new_static(DECK);
    Event { body, ..blank(deck.clone(), deck, SmolStr::default(), UnixNanos::now()) }
}
