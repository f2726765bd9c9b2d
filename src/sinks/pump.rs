//! Delivers the tape to one store: reads, batches, tries again, isolates what the store will never take, commits.
//!
//! ```text
//!            ┌ live lane ────┐
//! tape ──────┤               ├─► deliver ─► Sink::write ─┬─ confirmed ─────► progress ─► cursor
//!            └ backlog lane ─┘       ▲                   ├─ unavailable ───► wait, open again, the same batch
//!                                    └── halves, rest ◄──┴─ refused ───────► dead letters
//! ```
//!
//! - The cursor moves after the store has confirmed, and after dead letters are durable: a crash repeats, never loses.
//! - One request at a time: what the store has is known at every moment, and a mark can go with the records.
//! - While a sink is far behind, what is new is delivered beside the backlog, one lot of each in turn.
//! - After an outage the store is opened before anything is sent: the probe of a circuit breaker, a few bytes.

mod letters;
mod outage;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use backon::ExponentialBackoff;
use tapedeck_market::{Flags, Record, SmolStr, UnixNanos, Uuid};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Cursor, Item, Reader, Start};
use tokio_util::sync::CancellationToken;

use super::dead::Letters;
use super::delivery::Delivery;
use super::lane::{Lane, Lot, Stretch};
use super::order::{Again, Times, give_back};
use super::progress::Progress;
use super::{Batch, Reject, Sink, SinkError};
use crate::service::{Asked, Desk};
use crate::status::SinkTimes;
use crate::supervise::waits_between;

/// The first wait after a failure, and the longest: a store that is back is found within it.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Progress is committed at most so often: each is a disk sync, and what was not committed is only written again.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How often a sink looks after its store.
const TEND_EVERY: Duration = Duration::from_secs(5);
/// A sink whose next record is older than this is behind: what is new overtakes the backlog.
const BEHIND: Duration = Duration::from_secs(10);
/// How long a stop waits for what is left.
const DRAIN_AT_MOST: Duration = Duration::from_secs(20);
/// The same with more than a batch before it, which is no last words but a backlog: the rest waits on the tape.
const DRAIN_BACKLOG: Duration = Duration::from_secs(1);
/// After a request that was too much the limit grows back by this part of itself with each that was not.
const REGROW: usize = 64;

/// The delivery to one store.
pub(super) struct Pump {
    pub name: SmolStr,
    pub sink: Box<dyn Sink>,
    pub delivery: Delivery,
}

/// How the loop goes on.
enum Next {
    Go,
    /// What is delivered has changed: the lanes begin again.
    Anew,
    /// The deck stops, and the store is not there: the rest stays on the tape.
    Leave,
}

impl Pump {
    /// Delivers until `stop`, then what is left if the store takes it.
    ///
    /// # Errors
    /// The tape or the cursor cannot be read or written.
    pub(super) async fn run(self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let asked = desk.asked.clone().lock_owned().await;
        let mut running = Running::begin(self, desk, stop, asked)?;
        let ended = running.run().await;
        let committed = running.commit().await;
        running.show();
        ended.and(committed)
    }
}

struct Running<'a> {
    desk: &'a Desk,
    stop: CancellationToken,
    tape: Uuid,
    name: SmolStr,
    sink: Box<dyn Sink>,
    delivery: Arc<Delivery>,
    /// Taken while something writes them.
    letters: Option<Letters>,
    /// What the running deck is asked to do with them.
    asked: tokio::sync::OwnedMutexGuard<tokio::sync::mpsc::Receiver<Asked>>,
    cursor: Option<Cursor>,
    progress: Progress,
    committed: Progress,
    committed_at: Instant,
    limit: Arc<AtomicUsize>,
    hurry: Arc<AtomicBool>,
    /// The live lane began here; below it may be a backlog.
    live_from: u64,
    /// Of what was delivered of a backlog while later records overtook it.
    late: Times,
    /// What overtook the backlog before, and which of it goes again.
    again: Option<Arc<Again>>,
    /// When it was first seen that the deck stops, between requests or while one was on its way.
    stopping_since: Arc<OnceLock<Instant>>,
    /// The store keeps a mark of its own.
    keeps_mark: bool,
    waits: ExponentialBackoff,
    counts: Counts,
    /// Of what was too old for the store, how much was told when.
    expired_told: Option<(u64, Instant)>,
}

/// What status shows beside the lag.
#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    requests: u64,
    failures: u64,
    refused: u64,
    expired: u64,
    lost: u64,
    unread: u64,
    rewinds: u64,
    /// Bytes and records delivered since the start: what a record of the backlog takes.
    bytes: u64,
    /// When the records were received up to which everything live is delivered.
    delivered_recv: Option<UnixNanos>,
    /// Up to this time the store has everything.
    whole_at: Option<UnixNanos>,
    times: SinkTimes,
}

impl Counts {
    /// The store has confirmed these records, after so long.
    fn confirmed(&mut self, records: &[Record], took: Duration) {
        self.times.request.add(took);
        let now = UnixNanos::now();
        for record in records.iter().filter(|record| !record.event.flags.contains(Flags::REPLAYED)) {
            self.times.delivered.add(now.saturating_since(record.event.ts_recv));
        }
    }
}

impl<'a> Running<'a> {
    fn begin(
        pump: Pump,
        desk: &'a Desk,
        stop: CancellationToken,
        asked: tokio::sync::OwnedMutexGuard<tokio::sync::mpsc::Receiver<Asked>>,
    ) -> anyhow::Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let tape = tapedeck_tape::tools::id(&storage, &desk.dir).context("reading the tape's id")?;
        let durable = desk.tape.seq();
        let cursor = Cursor::open(&*storage, &desk.dir, &pump.name, tape, durable).context("opening the cursor")?;
        let progress = if cursor.is_new() {
            Progress::up_to(first_from(desk, pump.delivery.start.start()).context("finding the start")? - 1)
        } else {
            Progress::decode(cursor.state()).unwrap_or_else(|| Progress::up_to(cursor.seq()))
        };
        let letters = Letters::of(&desk.dir, &pump.name, pump.delivery.dead_letters.0)?;
        Ok(Running {
            desk,
            stop,
            tape,
            name: pump.name,
            sink: pump.sink,
            limit: Arc::new(AtomicUsize::new(pump.delivery.batch as usize)),
            delivery: Arc::new(pump.delivery),
            letters: Some(letters),
            asked,
            cursor: Some(cursor),
            committed: Progress::default(),
            committed_at: Instant::now(),
            live_from: progress.high() + 1,
            // What of a backlog was delivered before a crash or a stop, nobody knows any more.
            late: if progress.high() > progress.low() { Times::ALL } else { Times::default() },
            again: None,
            stopping_since: Arc::default(),
            keeps_mark: false,
            progress,
            hurry: Arc::default(),
            waits: waits(),
            counts: Counts::default(),
            expired_told: None,
        })
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        self.show();
        if let Next::Leave = self.open(true).await? {
            return Ok(());
        }
        self.live_from = self.progress.high() + 1;
        while let Next::Anew = self.deliver_all().await? {}
        Ok(())
    }

    /// Delivers lot after lot, until the deck stops or the lanes must begin again.
    async fn deliver_all(&mut self) -> anyhow::Result<Next> {
        let mut live = Lane::start(self.stretch(self.live_from, None))?;
        let mut backlog = None;
        let mut live_goes_first = true;
        let mut tend_at = tokio::time::Instant::now() + TEND_EVERY;
        let mut commit = tokio::time::interval(COMMIT_EVERY);
        commit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping: Option<(u64, Instant)> = None;
        let stop = self.stop.clone();
        loop {
            // Here and not in a branch below: a lane that always has a lot ready would never let it have its turn.
            if tokio::time::Instant::now() >= tend_at {
                tend_at = tokio::time::Instant::now() + TEND_EVERY;
                match self.tend().await? {
                    Next::Go => {}
                    next => return Ok(next),
                }
            }
            if backlog.is_none()
                && let Some((from, to)) = self.progress.first_missing_below(self.live_from)
            {
                backlog = Some(Lane::start(self.stretch(from, Some(to)))?);
            }
            if let Some((target, since)) = stopping
                && (self.progress.missing(target) == 0
                    || since.elapsed() >= drain_at_most(&self.progress, target, &self.delivery))
            {
                return Ok(Next::Leave);
            }
            // One lot of each in turn, while there is a backlog.
            let waiting = if live_goes_first { None } else { backlog.as_mut().and_then(Lane::ready) };
            let (lot, is_live) = match waiting {
                Some(lot) => (Some(lot), false),
                None => tokio::select! {
                    biased;
                    () = stop.cancelled(), if stopping.is_none() => {
                        self.hurry.store(true, Ordering::Relaxed);
                        self.desk.shown.set_state("draining");
                        let since = *self.stopping_since.get_or_init(Instant::now);
                        stopping = Some((self.desk.tape.seq(), since));
                        continue;
                    }
                    // Before the lots: there may always be one.
                    Some(asked) = self.asked.recv(), if stopping.is_none() => {
                        match self.answer(asked).await? {
                            Next::Go => continue,
                            next => return Ok(next),
                        }
                    }
                    lot = live.next() => (lot, true),
                    lot = next_of(&mut backlog) => (lot, false),
                    _ = commit.tick() => {
                        self.commit().await?;
                        self.show();
                        continue;
                    }
                    () = tokio::time::sleep_until(tend_at) => continue,
                },
            };
            let Some(lot) = lot else {
                anyhow::ensure!(!is_live, "the reader of the tape ended");
                backlog = None;
                continue;
            };
            let lot = lot?;
            if is_live && stopping.is_none() && self.is_behind(&lot) {
                // The lot is read again as part of the backlog.
                self.live_from = self.desk.tape.seq() + 1;
                tracing::info!(sink = %self.name, from_seq = lot.from, to_seq = self.live_from - 1, "behind: what is new is delivered beside the backlog");
                return Ok(Next::Anew);
            }
            match self.deliver(lot, is_live).await? {
                Next::Go => live_goes_first = !is_live,
                next => return Ok(next),
            }
            if self.committed_at.elapsed() >= COMMIT_EVERY {
                self.commit().await?;
                self.show();
            }
        }
    }

    fn stretch(&self, from: u64, until: Option<u64>) -> Stretch {
        Stretch {
            name: self.name.clone(),
            dir: self.desk.dir.clone(),
            tape: self.desk.tape.clone(),
            delivery: self.delivery.clone(),
            books: self.sink.books(),
            again: self.again.clone(),
            limit: self.limit.clone(),
            hurry: self.hurry.clone(),
            from,
            until,
        }
    }

    /// Whether a live lot is so old, and so far from the end, that it is a backlog.
    fn is_behind(&self, lot: &Lot) -> bool {
        let age = lot.first_recv.map_or(Duration::ZERO, |recv| UnixNanos::now().saturating_since(recv));
        let left = self.desk.tape.seq().saturating_sub(lot.to);
        age >= BEHIND && left > u64::from(self.delivery.batch) && self.progress.may_split()
    }

    /// Delivers a lot, however long it takes: in one piece, or in several when the store wants it so.
    async fn deliver(&mut self, lot: Lot, is_live: bool) -> anyhow::Result<Next> {
        let (from, to) = (lot.from, lot.to);
        self.counts.lost += lot.lost;
        self.counts.unread += lot.unread;
        let last_recv = lot.records.last().map(|record| record.event.ts_recv).or(lot.first_recv);
        let (records, bytes) = (lot.records.len() as u64, lot.bytes as u64);
        let time_of = self.sink.times().filter(|_| !is_live);
        if let Some(time_of) = time_of {
            lot.records.iter().for_each(|record| self.late.add(time_of(record)));
        }
        let (mut overtook, mut buried) = (None, false);
        let mut pieces = VecDeque::from([Piece { records: lot.records, parted: BTreeSet::new(), to }]);
        while let Some(mut piece) = pieces.pop_front() {
            let mut after = self.progress.clone();
            after.add(from, piece.to);
            let given_back = time_of.and_then(|_| give_back(&mut after, piece.to, &self.late));
            // What was passed over is passed over again; what was refused would be refused again.
            if piece.records.is_empty() && !(buried && self.keeps_mark) {
                self.progress = after;
                overtook = given_back;
                continue;
            }
            after.sent = true;
            let mark = after.encode();
            let Piece { records, parted, .. } = &piece;
            let batch = Batch { tape: self.tape, records, mark: Some(&mark), late: !is_live, parted };
            self.counts.requests += 1;
            let sent = Instant::now();
            let given_up = self.given_up();
            let written = tokio::select! {
                biased;
                written = self.sink.write(&batch) => written,
                () = given_up => {
                    tracing::info!(sink = %self.name, missing = self.progress.missing(self.desk.tape.seq()), "stopping, and the store is slow: the rest waits on the tape");
                    return Ok(Next::Leave);
                }
            };
            match written {
                Ok(()) => {
                    self.counts.confirmed(&piece.records, sent.elapsed());
                    self.succeeded();
                    self.progress = after;
                    overtook = given_back;
                }
                Err(SinkError::TooMuch(words)) if piece.records.len() > 1 => {
                    self.shrink(piece.records.len());
                    tracing::debug!(sink = %self.name, words, records = piece.records.len(), "too much at once");
                    let (first, second) = piece.halves();
                    pieces.push_front(second);
                    pieces.push_front(first);
                }
                Err(SinkError::BatchRefused(words)) if piece.records.len() > 1 => {
                    tracing::debug!(sink = %self.name, words, records = piece.records.len(), "refused, looking for what it is");
                    let (first, second) = piece.halves();
                    pieces.push_front(second);
                    pieces.push_front(first);
                }
                Err(SinkError::TooMuch(words) | SinkError::BatchRefused(words)) if !piece.records.is_empty() => {
                    let rejects = vec![Reject::new(0, words)];
                    buried = true;
                    match self.bury(&mut piece, rejects).await? {
                        Next::Go => pieces.push_front(piece),
                        next => return Ok(next),
                    }
                }
                Err(SinkError::Refused(refusal)) => {
                    buried = true;
                    match self.bury(&mut piece, refusal.rejects).await? {
                        Next::Go => {
                            if refusal.rest_stored {
                                piece.records.clear();
                            }
                            pieces.push_front(piece);
                        }
                        next => return Ok(next),
                    }
                }
                Err(error) => match self.failed(error).await? {
                    Next::Go => pieces.push_front(piece),
                    next => return Ok(next),
                },
            }
        }
        self.counts.delivered += records;
        self.counts.bytes += bytes;
        if is_live {
            self.counts.delivered_recv = last_recv;
        }
        if self.progress.low() == self.progress.high() {
            self.counts.whole_at = self.counts.whole_at.max(last_recv);
        }
        let Some((delivered, time_of)) = overtook.zip(time_of) else { return Ok(Next::Go) };
        tracing::info!(sink = %self.name, from_seq = to + 1, to_seq = delivered.high(), "the backlog is through: what overtook it is looked at again");
        let times = std::mem::take(&mut self.late);
        self.again = Some(Arc::new(Again { delivered, times, time_of }));
        self.live_from = to + 1;
        Ok(Next::Anew)
    }

    /// Returns when the deck stops and has waited long enough for a batch on its way.
    fn given_up(&self) -> impl Future<Output = ()> + use<> {
        let (stop, tape, delivery) = (self.stop.clone(), self.desk.tape.clone(), self.delivery.clone());
        let (progress, since) = (self.progress.clone(), self.stopping_since.clone());
        async move {
            stop.cancelled().await;
            let since = *since.get_or_init(Instant::now);
            let limit = drain_at_most(&progress, tape.seq(), &delivery);
            tokio::time::sleep(limit.saturating_sub(since.elapsed())).await;
        }
    }

    fn succeeded(&mut self) {
        self.waits = waits();
        let (limit, most) = (self.limit.load(Ordering::Relaxed), self.delivery.batch as usize);
        if limit < most {
            self.limit.store((limit + limit / REGROW + 1).min(most), Ordering::Relaxed);
        }
    }

    fn shrink(&self, records: usize) {
        let limit = self.limit.load(Ordering::Relaxed).min(records);
        self.limit.store((limit / 2).max(1), Ordering::Relaxed);
    }

    /// Commits the progress, if it moved.
    async fn commit(&mut self) -> anyhow::Result<()> {
        self.committed_at = Instant::now();
        if self.progress == self.committed {
            return Ok(());
        }
        let Some(mut cursor) = self.cursor.take() else { return Ok(()) };
        let (low, state) = (self.progress.low(), self.progress.encode());
        let done = tokio::task::spawn_blocking(move || {
            let done = cursor.commit(low, &state);
            (cursor, done)
        });
        let (cursor, done) = done.await.context("committing the cursor")?;
        self.cursor = Some(cursor);
        done.context("committing the cursor")?;
        self.committed = self.progress.clone();
        Ok(())
    }

    fn show(&mut self) {
        let shown = &self.desk.shown;
        let end = self.desk.tape.seq();
        let missing = self.progress.missing(end);
        let live = end.saturating_sub(self.live_from.saturating_sub(1).max(self.progress.high()));
        let each = self.counts.bytes.checked_div(self.counts.delivered).unwrap_or(0);
        let age = match self.counts.delivered_recv {
            Some(recv) if live > 0 => UnixNanos::now().saturating_since(recv).as_millis() as u64,
            _ => 0,
        };
        let now = UnixNanos::now();
        // Before the first delivery: since this one began.
        let whole_at = *self.counts.whole_at.get_or_insert(now);
        if missing == 0 {
            self.counts.whole_at = Some(now);
        }
        let behind = if missing == 0 { 0 } else { now.saturating_since(whole_at).as_millis() as u64 };
        for (key, value) in [
            ("seq", self.progress.low()),
            ("behind_ms", behind),
            ("lag_records", missing),
            ("lag_bytes", missing.saturating_mul(each)),
            ("lag_ms", age),
            ("backlog_records", missing.saturating_sub(live)),
            ("delivered", self.counts.delivered),
            ("requests", self.counts.requests),
            ("failures", self.counts.failures),
            ("refused", self.counts.refused),
            ("expired", self.counts.expired),
            ("dead_letters", self.letters.as_ref().map_or(0, Letters::open)),
            ("dead_letters_lost", self.letters.as_ref().map_or(0, Letters::lost)),
            ("lost", self.counts.lost),
            ("unread", self.counts.unread),
            ("rewinds", self.counts.rewinds),
            ("batch_limit", self.limit.load(Ordering::Relaxed) as u64),
        ] {
            shown.set(key, value);
        }
        shown.set_times(self.counts.times.clone());
        if let Some(note) = self.sink.note() {
            shown.set("note", note);
        } else {
            shown.unset("note");
        }
    }
}

/// What may be waited for a store once the deck stops.
fn drain_at_most(progress: &Progress, end: u64, delivery: &Delivery) -> Duration {
    if progress.missing(end) > u64::from(delivery.batch) { DRAIN_BACKLOG } else { DRAIN_AT_MOST }
}

/// The first seq that a reader with this start is given, or the next one to be written.
fn first_from(desk: &Desk, start: Start) -> Result<u64, tapedeck_tape::Error> {
    let mut reader = Reader::open_with(Arc::new(Disk), &desk.dir, start, desk.tape.clone())?;
    let first = match reader.next()? {
        Some(Item::Record(record)) => Some(record.seq),
        Some(Item::Hole(hole)) => Some(hole.from_seq),
        None => None,
    };
    Ok(first.unwrap_or_else(|| reader.seq()))
}

/// Records on their way; behind them, everything of the lot up to `to` is delivered.
struct Piece {
    records: Vec<Record>,
    /// Seqs of those of which a part is a dead letter.
    parted: BTreeSet<u64>,
    to: u64,
}

impl Piece {
    fn halves(mut self) -> (Piece, Piece) {
        let (second, end) = (self.records.split_off(self.records.len() / 2), self.to);
        let to = self.records.last().map_or(0, |record| record.seq);
        let parted = self.parted.clone();
        (Piece { to, ..self }, Piece { records: second, parted, to: end })
    }
}

/// The next lot of a lane that may not be there.
async fn next_of(lane: &mut Option<Lane>) -> Option<anyhow::Result<Lot>> {
    match lane {
        Some(lane) => lane.next().await,
        None => std::future::pending().await,
    }
}

fn waits() -> ExponentialBackoff {
    waits_between(SHORTEST_WAIT, LONGEST_WAIT)
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
