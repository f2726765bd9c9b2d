//! The way from a source to the recorder: one bounded, ordered channel.
//!
//! A source holds an [`Outlet`]; the recorder, the only writer of the tape, holds the other end.
//! Events, and what a source says about its subscriptions, travel the same way, so that a gap on
//! the tape stands exactly where the data is missing.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tapedeck_market::{Body, Event, Flags, Gap, GapCause, Raw, SmolStr, UnixNanos};
use tokio::sync::{mpsc, oneshot};

use crate::inlet::Inlet;
use crate::meter::Times;

/// Messages on their way to the recorder. A message is one frame of a venue, so this is the
/// largest number of frames that a crash of the process can take with it unrecorded.
pub const QUEUE_FRAMES: usize = 4_096;
/// Bytes of a rejected frame that are kept.
const REJECT_BYTES: usize = 64 * 1024;

/// What the recorder is told.
#[derive(Debug)]
pub enum Intake {
    /// The events of one frame: one append, whole or not at all after a crash.
    Events {
        events: Vec<Event>,
        /// Told the seq of the last event once all of them are durable.
        durable: Option<oneshot::Sender<u64>>,
    },
    /// A subscription delivers: its ack or snapshot arrived at `ts_recv`. Closes its open gap, if any; `filled`: and
    /// says with what everything missing came already.
    Live {
        source: SmolStr,
        venue: SmolStr,
        symbol: SmolStr,
        channel: SmolStr,
        ts_recv: UnixNanos,
        filled: Option<SmolStr>,
    },
    /// Data is missing from `since` on. Opens a gap for each subscription that matches and has none open.
    Lost {
        source: SmolStr,
        venue: SmolStr,
        /// `None`: every live subscription of the source (of that channel).
        symbol: Option<SmolStr>,
        channel: Option<SmolStr>,
        cause: GapCause,
        since: UnixNanos,
        detail: SmolStr,
    },
    /// The same for the subscriptions of one session, as (symbol, channel).
    SessionLost {
        source: SmolStr,
        venue: SmolStr,
        these: Vec<(SmolStr, SmolStr)>,
        cause: GapCause,
        since: UnixNanos,
        detail: SmolStr,
    },
    /// Holes, and the frame that showed them: one append. Of two a crash could leave the holes alone, and the next
    /// process, which begins at the same trade, would find them again.
    Holes { holes: Vec<Hole>, events: Vec<Event> },
    /// A subscription that the config no longer wants, or that the venue refused for good: forgotten.
    Unsubscribed { source: SmolStr, symbol: SmolStr, channel: SmolStr },
    /// A session begins and asks what the tape knows of its source, everything before this message included.
    Resume { source: SmolStr, reply: oneshot::Sender<Resume> },
    /// A second has passed: the recorder looks after clock, disk and retention.
    Maintain,
}

/// A hole that is already over when it is found, such as a jump in trade ids: opened and closed at once.
#[derive(Clone, Debug)]
pub struct Hole {
    pub source: SmolStr,
    pub venue: SmolStr,
    pub symbol: SmolStr,
    pub channel: SmolStr,
    pub cause: GapCause,
    pub from: UnixNanos,
    pub to: UnixNanos,
    pub missing: Option<u64>,
    /// The first and last numeric id of what never came: a late arrival of all of them repairs the hole.
    pub ids: Option<(u64, u64)>,
    pub detail: SmolStr,
}

/// How a hole in the numbering is told, which whoever fills it reads.
const IDS_FROM: &str = "trade ids ";
const IDS_TO: &str = " to ";
const IDS_END: &str = " never came";

/// The first and last id that a hole in the numbering names.
#[must_use]
pub fn ids_named(gap: &Gap) -> Option<(u64, u64)> {
    let ids = gap.detail.strip_prefix(IDS_FROM)?;
    let (first, rest) = ids.split_once(IDS_TO)?;
    let (last, _) = rest.split_once(IDS_END)?;
    Some((first.parse().ok()?, last.parse().ok()?)).filter(|_| gap.cause == GapCause::Sequence)
}

/// The recorder is gone: the source should return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recorder has stopped")]
pub struct Stopped;

/// What is known of a source from earlier, read back from the tape at start.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// The last value of each `Position` of the source.
    pub positions: HashMap<SmolStr, SmolStr>,
    /// The highest numeric trade id on the tape, per symbol, and when trades were whole up to it: the last trade's venue
    /// time, or its receive time where that is earlier.
    pub last_trades: HashMap<SmolStr, (u64, UnixNanos)>,
    /// Subscriptions that were live or have a gap open, as (symbol, channel): what is no longer wanted of them must be ended.
    pub subscriptions: Vec<(SmolStr, SmolStr)>,
}

/// Counters of a source, read by status and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    pub frames: AtomicU64,
    pub bytes: AtomicU64,
    pub events: AtomicU64,
    pub rejects: AtomicU64,
    pub sessions: AtomicU64,
    /// Receive time of the last bytes, ns; 0 = none yet.
    pub last_heard: AtomicI64,
    /// Rejects by reason. Reasons are our own words, so there are few.
    pub reject_reasons: Mutex<HashMap<&'static str, u64>>,
    /// What is odd about frames that were understood all the same, by the words of ours for it.
    pub notes: Mutex<HashMap<&'static str, u64>>,
    /// What the source is doing, in words: `connecting`, `live`, `waiting: no credentials` …
    pub state: Mutex<String>,
    /// The state that was logged last.
    told: Mutex<String>,
    /// Round trips to the venue.
    pings: Mutex<Times>,
}

impl Counters {
    pub fn set_state(&self, state: impl Into<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state.into();
    }

    /// Whether this state is news, so that it is logged once and not at every retry.
    #[must_use]
    pub(crate) fn is_news(&self, state: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *told != state;
        state.clone_into(&mut told);
        news
    }

    fn count_reject(&self, reason: &'static str) {
        let mut reasons = self.reject_reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(reason).or_default() += 1;
    }

    #[must_use]
    pub fn pings(&self) -> Times {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[must_use]
    pub fn state(&self) -> String {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A source's way out. Waiting while the recorder is behind is its only behaviour.
#[derive(Clone, Debug)]
pub struct Outlet {
    source: SmolStr,
    venue: SmolStr,
    to_recorder: mpsc::Sender<Intake>,
    counters: Arc<Counters>,
    resume: Arc<Resume>,
    /// The subscriptions that this session said are live.
    own: Arc<Mutex<BTreeSet<(SmolStr, SmolStr)>>>,
    inlet: Inlet,
}

impl Outlet {
    #[must_use]
    pub fn new(
        source: SmolStr,
        venue: SmolStr,
        to_recorder: mpsc::Sender<Intake>,
        counters: Arc<Counters>,
        resume: Arc<Resume>,
    ) -> Self {
        Outlet { source, venue, to_recorder, counters, resume, own: Arc::default(), inlet: Inlet::default() }
    }

    /// With the way in from the deck's web server, for a source that is written to.
    #[must_use]
    pub fn with_inlet(mut self, inlet: Inlet) -> Self {
        self.inlet = inlet;
        self
    }

    /// Where requests to the deck's web server come in.
    #[must_use]
    pub fn inlet(&self) -> &Inlet {
        &self.inlet
    }

    /// The way of another source to the same recorder.
    #[must_use]
    pub fn of(&self, source: SmolStr, venue: SmolStr) -> Outlet {
        Outlet::new(source, venue, self.to_recorder.clone(), Arc::default(), Arc::default())
    }

    /// Name of the config table.
    #[must_use]
    pub fn source(&self) -> &SmolStr {
        &self.source
    }

    #[must_use]
    pub fn venue(&self) -> &SmolStr {
        &self.venue
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the tape knew of this source when the session began.
    #[must_use]
    pub fn resume(&self) -> &Resume {
        &self.resume
    }

    /// Notes that a frame of `len_bytes` arrived: the feed was whole until now.
    pub fn heard(&self, ts_recv: UnixNanos, len_bytes: usize) {
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(len_bytes as u64, Ordering::Relaxed);
        self.counters.last_heard.store(ts_recv.0, Ordering::Relaxed);
    }

    /// The venue answered a ping after so long.
    pub(crate) fn pinged(&self, took: Duration) {
        self.counters.pings.lock().unwrap_or_else(PoisonError::into_inner).add(took);
    }

    /// Receive time of the last bytes of this source, if any came.
    #[must_use]
    pub fn last_heard(&self) -> Option<UnixNanos> {
        let at = self.counters.last_heard.load(Ordering::Relaxed);
        (at != 0).then_some(UnixNanos(at))
    }

    /// Hands over the events of one frame; returns when they are queued. Cancel safe: either all are queued or none.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn emit(&self, events: Vec<Event>) -> Result<(), Stopped> {
        if events.is_empty() {
            return Ok(());
        }
        self.counters.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.send(Intake::Events { events, durable: None }).await
    }

    /// As [`Outlet::emit`], but returns when the events are durable, with the seq of the last one.
    ///
    /// # Errors
    /// The recorder has stopped, or could not write.
    pub async fn emit_durable(&self, events: Vec<Event>) -> Result<u64, Stopped> {
        let (durable, confirmed) = oneshot::channel();
        self.emit_telling(events, durable).await?;
        confirmed.await.map_err(|_| Stopped)
    }

    /// As [`Outlet::emit`]; whoever holds the other end of `durable` is told the seq of the last event once all of
    /// them are durable, and learns that they will not be when it is dropped.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn emit_telling(&self, events: Vec<Event>, durable: oneshot::Sender<u64>) -> Result<(), Stopped> {
        self.counters.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.send(Intake::Events { events, durable: Some(durable) }).await
    }

    /// Keeps a frame that could not be understood, as a `Raw` event of format `rejected`, and
    /// counts it under `reason`, a few words of ours. The session goes on.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn reject(
        &self,
        frame: &[u8],
        ts_recv: UnixNanos,
        reason: &'static str,
        error: &(dyn std::fmt::Display + Sync),
    ) -> Result<(), Stopped> {
        let total = self.counters.rejects.fetch_add(1, Ordering::Relaxed) + 1;
        self.counters.count_reject(reason);
        // Never per event: the first, and then each time the count doubles.
        if total.is_power_of_two() {
            tracing::warn!(source = %self.source, reason, total, error = %error, "frame rejected and kept");
        }
        let frame = frame[..frame.len().min(REJECT_BYTES)].to_vec();
        let body = Body::Raw(Raw { format: SmolStr::new_static("rejected"), frame });
        self.send(Intake::Events { events: vec![self.event(SmolStr::default(), None, ts_recv, body)], durable: None })
            .await
    }

    /// Counts a frame that was understood, and is odd all the same, under `reason`, a few words of ours.
    pub fn note(&self, reason: &'static str) {
        let mut notes = self.counters.notes.lock().unwrap_or_else(PoisonError::into_inner);
        *notes.entry(reason).or_default() += 1;
    }

    /// Reads back what the tape knows by now: called before each session.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub(crate) async fn refresh(&mut self) -> Result<(), Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Intake::Resume { source: self.source.clone(), reply }).await?;
        self.resume = Arc::new(answer.await.map_err(|_| Stopped)?);
        Ok(())
    }

    /// Says that a subscription's ack or snapshot arrived.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn live(&self, symbol: SmolStr, channel: SmolStr, ts_recv: UnixNanos) -> Result<(), Stopped> {
        self.say_live(symbol, channel, ts_recv, None).await
    }

    /// As [`Outlet::live`], of a subscription that has nothing missing: the venue gave what its gap lacked, as `how` says.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn live_and_filled(
        &self,
        symbol: SmolStr,
        channel: SmolStr,
        ts_recv: UnixNanos,
        how: &'static str,
    ) -> Result<(), Stopped> {
        self.say_live(symbol, channel, ts_recv, Some(SmolStr::new_static(how))).await
    }

    async fn say_live(
        &self,
        symbol: SmolStr,
        channel: SmolStr,
        ts_recv: UnixNanos,
        filled: Option<SmolStr>,
    ) -> Result<(), Stopped> {
        if self.own().insert((symbol.clone(), channel.clone())) {
            self.counters.set_state("live");
        }
        let (source, venue) = (self.source.clone(), self.venue.clone());
        self.send(Intake::Live { source, venue, symbol, channel, ts_recv, filled }).await
    }

    /// Says that data of a subscription (`None`: of all of them) is missing from `since` on.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn lost(
        &self,
        symbol: Option<SmolStr>,
        channel: Option<SmolStr>,
        cause: GapCause,
        since: UnixNanos,
        detail: impl Into<SmolStr>,
    ) -> Result<(), Stopped> {
        let (source, venue) = (self.source.clone(), self.venue.clone());
        self.send(Intake::Lost { source, venue, symbol, channel, cause, since, detail: detail.into() }).await
    }

    /// Says that the session is over: every subscription it had misses data from `since` on.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub(crate) async fn session_lost(
        &self,
        cause: GapCause,
        since: UnixNanos,
        detail: impl Into<SmolStr>,
    ) -> Result<(), Stopped> {
        let these: Vec<_> = std::mem::take(&mut *self.own()).into_iter().collect();
        let (source, venue) = (self.source.clone(), self.venue.clone());
        self.send(Intake::SessionLost { source, venue, these, cause, since, detail: detail.into() }).await
    }

    /// Says that the session's subscriptions are no longer wanted.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub(crate) async fn session_ended(&self) -> Result<(), Stopped> {
        let these = std::mem::take(&mut *self.own());
        for (symbol, channel) in these {
            self.unsubscribed(symbol, channel).await?;
        }
        Ok(())
    }

    /// Says that `missing` events between two moments never came.
    ///
    /// # Errors
    /// The recorder has stopped.
    #[expect(clippy::too_many_arguments, reason = "a gap has that many sides; all of them are named at the one call")]
    pub async fn hole(
        &self,
        symbol: SmolStr,
        channel: SmolStr,
        cause: GapCause,
        from: UnixNanos,
        to: UnixNanos,
        missing: Option<u64>,
        detail: impl Into<SmolStr>,
    ) -> Result<(), Stopped> {
        let (source, venue) = (self.source.clone(), self.venue.clone());
        let (ids, detail) = (None, detail.into());
        let hole = Hole { source, venue, symbol, channel, cause, from, to, missing, ids, detail };
        self.send(Intake::Holes { holes: vec![hole], events: Vec::new() }).await
    }

    /// As [`Outlet::emit`], of a frame that shows what never came before it.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn emit_behind(&self, holes: Vec<Hole>, events: Vec<Event>) -> Result<(), Stopped> {
        if holes.is_empty() {
            return self.emit(events).await;
        }
        self.counters.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.send(Intake::Holes { holes, events }).await
    }

    /// Trades of these ids, first to last, that never came between two moments.
    #[must_use]
    pub fn ids_missing(
        &self,
        symbol: SmolStr,
        channel: SmolStr,
        from: UnixNanos,
        to: UnixNanos,
        (first, last): (u64, u64),
    ) -> Hole {
        let detail = SmolStr::from(format!("{IDS_FROM}{first}{IDS_TO}{last}{IDS_END}"));
        let missing = Some(last.saturating_sub(first).saturating_add(1));
        let (source, venue, cause) = (self.source.clone(), self.venue.clone(), GapCause::Sequence);
        let ids = Some((first, last));
        Hole { source, venue, symbol, channel, cause, from, to, missing, ids, detail }
    }

    /// Says that a subscription is no longer wanted, or was refused for good.
    ///
    /// # Errors
    /// The recorder has stopped.
    pub async fn unsubscribed(&self, symbol: SmolStr, channel: SmolStr) -> Result<(), Stopped> {
        self.own().remove(&(symbol.clone(), channel.clone()));
        self.send(Intake::Unsubscribed { source: self.source.clone(), symbol, channel }).await
    }

    /// An event of this source.
    #[must_use]
    pub fn event(&self, symbol: SmolStr, ts_event: Option<UnixNanos>, ts_recv: UnixNanos, body: Body) -> Event {
        let (source, venue) = (self.source.clone(), self.venue.clone());
        Event { source, venue, symbol, ts_event, ts_recv, flags: Flags::NONE, origin: None, body }
    }

    fn own(&self) -> std::sync::MutexGuard<'_, BTreeSet<(SmolStr, SmolStr)>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, message: Intake) -> Result<(), Stopped> {
        self.to_recorder.send(message).await.map_err(|_| Stopped)
    }
}
