//! The loop of a reader whose output goes back to the tape: candles, and whatever else is made of records.
//!
//! ```text
//! state file ─► scan forward for its own outputs ─► records ─► outputs, durable ─► state file ─► cursor
//! ```
//!
//! - What is said of a record must be durable before a state behind that record is saved: a crash costs work, never an output.
//! - After a start, records that were worked on before make the same outputs again. Those on the tape already are found by
//!   the scan, and left out ([`Derived::fresh`]).
//! - The state is too large for a cursor, so it is a file beside the tape, replaced as a whole. When it is lost, or of another
//!   config, everything is made again from the beginning of the tape, and what is there already is left out.
//! - Time passes when a record is read. When something is due and no record comes, one is written that says what time it is.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Map, Value};
use tapedeck_market::{Body, Event, Flags, SmolStr, Status, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Cursor, Item, Reader, Start, Tail, Woken};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::recorder::DECK;
use crate::service::Desk;

/// Records that are worked on before the outputs are sent.
const BATCH_RECORDS: u64 = 2_048;
/// Outputs of one append.
const BATCH_OUTPUTS: usize = 512;
/// A state is saved this often, and at most a fiftieth of the time is spent on it.
const SAVE_EVERY: Duration = Duration::from_secs(5);
const SAVE_SHARE: u32 = 50;
/// How long a stop is waited for before it is seen.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often its figures are shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// What is due waits so long for an ordinary record before one is written for it.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a reader that is behind goes on reading after it was told to stop.
const DRAIN_AT_MOST: Duration = Duration::from_secs(10);

/// What is made of records.
pub trait Derived: Send {
    /// Goes on from a saved state, and says behind which record; `None`: it is of no use.
    fn resume(&mut self, state: &[u8]) -> Option<u64>;
    /// The state behind the record `seq`.
    fn state(&self, seq: u64) -> Vec<u8>;
    /// What a segment begins with, when nothing before it was read.
    fn checkpoint(&mut self, event: &Event);
    /// Takes a record.
    ///
    /// # Errors
    /// The tape cannot be read again.
    fn record(&mut self, seq: u64, event: &Event, past: &mut dyn Past) -> anyhow::Result<()>;
    /// Records between these receive times cannot be read.
    fn hole(&mut self, from: UnixNanos, to: UnixNanos);
    /// The deck stops behind the record `seq`: last words.
    ///
    /// # Errors
    /// The tape cannot be read again.
    fn pause(&mut self, seq: u64, past: &mut dyn Past) -> anyhow::Result<()>;
    /// Outputs since the last call.
    fn take(&mut self, now: UnixNanos) -> Vec<Event>;
    /// When a record must be read so that something happens.
    fn due(&self) -> Option<UnixNanos>;
    /// The record that says what time it is.
    fn time(&self, now: UnixNanos) -> Event;
    /// An output of its own that lies ahead on the tape.
    fn saw(&mut self, output: &Event);
    /// The output, if nothing of its kind lies ahead on the tape; else it is compared at the end.
    fn fresh(&mut self, output: Event) -> Option<Event>;
    /// Everything that lay ahead was read: the outputs that are missing after all.
    fn caught_up(&mut self) -> Vec<Event>;
    /// What it waits for, in words, when there is nothing that it could make anything of.
    fn waits(&self) -> Option<String> {
        None
    }
    /// Figures for the status.
    fn show(&self) -> Map<String, Value>;
}

/// The records before: read again for what is late.
pub trait Past {
    /// Gives every record received at or after `since`, up to the seq `upto`, in order; `None` in place of records that
    /// cannot be read. Says from which receive time on everything is still there.
    ///
    /// # Errors
    /// The tape cannot be read.
    fn read(
        &mut self,
        since: UnixNanos,
        upto: u64,
        each: &mut dyn FnMut(u64, Option<&Event>),
    ) -> anyhow::Result<UnixNanos>;
}

/// The past of a tape.
#[derive(Debug)]
pub struct TapePast {
    pub dir: PathBuf,
    /// In the process of the deck.
    pub tail: Option<Arc<Tail>>,
}

impl TapePast {
    fn reader(&self, start: Start) -> anyhow::Result<Reader> {
        let reader = match &self.tail {
            Some(tail) => Reader::open_with(Arc::new(Disk), &self.dir, start, tail.clone()),
            None => Reader::open(Arc::new(Disk), &self.dir, start),
        };
        reader.with_context(|| format!("reading the tape in {}", self.dir.display()))
    }

    /// The receive time from which on everything is there.
    fn whole_since(&self) -> anyhow::Result<UnixNanos> {
        let mut reader = self.reader(Start::Begin)?;
        while let Some(item) = reader.next()? {
            if let Item::Record(record) = item {
                return Ok(if record.seq == 1 { UnixNanos(i64::MIN) } else { UnixNanos(record.ts_recv) });
            }
        }
        Ok(UnixNanos(i64::MAX))
    }
}

impl Past for TapePast {
    fn read(
        &mut self,
        since: UnixNanos,
        upto: u64,
        each: &mut dyn FnMut(u64, Option<&Event>),
    ) -> anyhow::Result<UnixNanos> {
        let whole_since = self.whole_since()?;
        let mut reader = self.reader(Start::Time(since.0))?;
        while reader.seq() <= upto
            && let Some(item) = reader.next()?
        {
            match item {
                Item::Record(record) if record.seq > upto => break,
                Item::Record(record) => {
                    // A record of a later version is no input of this one.
                    if let Ok(event) = wire::decode(record.payload) {
                        each(record.seq, Some(&event));
                    }
                }
                Item::Hole(_) => each(0, None),
            }
        }
        Ok(whole_since)
    }
}

/// State of the `Status` that carries the time on, when no other record does; its topic is the reader's name.
pub const TIME: &str = "time";

/// A record that only says what time it is.
#[must_use]
pub fn time_event(reader: &'static str, now: UnixNanos) -> Event {
    let (topic, state) = (SmolStr::new_static(reader), SmolStr::new_static(TIME));
    Event {
        source: SmolStr::new_static(reader),
        venue: SmolStr::new_static(DECK),
        symbol: SmolStr::default(),
        ts_event: None,
        ts_recv: now,
        flags: Flags::DERIVED,
        origin: None,
        body: Body::Status(Status { topic, state, detail: Vec::new() }),
    }
}

/// Runs what `make` makes until `stop`, on a thread of its own: it reads files and waits for them.
///
/// # Errors
/// The tape cannot be read, the state not be written, or the recorder has stopped.
pub async fn run_apart<D: Derived + 'static>(
    desk: &Desk,
    stop: CancellationToken,
    make: impl FnOnce() -> D + Send + 'static,
) -> anyhow::Result<()> {
    let (desk, handle) = (desk.clone(), Handle::current());
    let ended = tokio::task::spawn_blocking(move || run(&mut make(), &desk, &stop, &handle)).await;
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(error.into()),
    }
}

/// Runs until `stop`, on this thread. `handle` is the runtime's, for sending.
///
/// # Errors
/// The tape cannot be read, the state not be written, or the recorder has stopped.
pub fn run(derived: &mut dyn Derived, desk: &Desk, stop: &CancellationToken, handle: &Handle) -> anyhow::Result<()> {
    let mut reading = Reading::open(derived, desk, handle)?;
    desk.shown.set_state("running");
    let mut stopping: Option<Instant> = None;
    loop {
        let at_end = reading.batch(derived)?;
        reading.save_now_and_then(derived)?;
        reading.show(derived);
        if stop.is_cancelled() {
            let Some(since) = stopping else {
                stopping = Some(Instant::now());
                reading.barrier(derived)?;
                continue;
            };
            if at_end || since.elapsed() >= DRAIN_AT_MOST {
                return reading.finish(derived, at_end);
            }
            continue;
        }
        if at_end {
            reading.wait(derived)?;
        }
    }
}

struct Reading<'a> {
    desk: &'a Desk,
    handle: &'a Handle,
    file: StateFile,
    cursor: Cursor,
    reader: Reader,
    past: TapePast,
    /// Nothing before the first record is known: its segment's checkpoint is taken.
    begins: bool,
    /// Up to here its own outputs may lie on the tape already.
    known_until: Option<u64>,
    last_recv: UnixNanos,
    /// Before the next record, others are missing, since this receive time.
    hole_since: Option<UnixNanos>,
    last_save: Instant,
    save_took: Duration,
    saved_seq: u64,
    last_shown: Instant,
    /// When the time was last written.
    told_time: Instant,
    outputs: u64,
    repeated: u64,
}

impl<'a> Reading<'a> {
    fn open(derived: &mut dyn Derived, desk: &'a Desk, handle: &'a Handle) -> anyhow::Result<Self> {
        let storage: Arc<dyn tapedeck_tape::storage::Storage> = Arc::new(Disk);
        let tape_id = tapedeck_tape::tools::id(&storage, &desk.dir).context("reading the tape's id")?;
        let durable = desk.tape.seq();
        let cursor = Cursor::open(&*storage, &desk.dir, &desk.name, tape_id, durable).context("opening the cursor")?;
        let file = StateFile::of(&desk.dir, desk.name.clone(), *tape_id.as_bytes());
        // A state ahead of the tape is of records that the disk has lost.
        let resumed = file.load()?.and_then(|state| derived.resume(&state)).filter(|seq| *seq <= durable);
        if resumed.is_none() && !cursor.is_new() {
            tracing::warn!(
                reader = %desk.name,
                "no state to go on from: everything is made again from the beginning of the tape, and what is there already is left out"
            );
        }
        let start = resumed.map_or(Start::Begin, |seq| Start::Seq(seq + 1));
        let open = |start| Reader::open_with(storage.clone(), &desk.dir, start, desk.tape.clone());
        let mut ahead = open(start).context("reading the tape")?;
        let reader = open(start).context("reading the tape")?;
        let mut found = 0_u64;
        while ahead.seq() <= durable
            && let Some(item) = ahead.next().context("looking for own outputs")?
        {
            if let Item::Record(record) = item
                && let Some(output) = own(&desk.name, record.payload)
            {
                derived.saw(&output);
                found += 1;
            }
        }
        if found > 0 {
            tracing::info!(
                reader = %desk.name,
                from_seq = reader.seq(),
                outputs = found,
                "outputs that are on the tape already are left out"
            );
        }
        Ok(Reading {
            desk,
            handle,
            file,
            cursor,
            saved_seq: resumed.unwrap_or(0),
            begins: resumed.is_none(),
            past: TapePast { dir: desk.dir.clone(), tail: Some(desk.tape.clone()) },
            reader,
            known_until: Some(durable),
            last_recv: UnixNanos::EPOCH,
            hole_since: None,
            last_save: Instant::now(),
            save_took: Duration::ZERO,
            last_shown: Instant::now(),
            told_time: Instant::now(),
            outputs: 0,
            repeated: 0,
        })
    }

    /// Works on some records and sends what was made of them. Says whether the durable end was reached.
    fn batch(&mut self, derived: &mut dyn Derived) -> anyhow::Result<bool> {
        let mut outputs = Vec::new();
        let until = self.reader.seq() + BATCH_RECORDS;
        let mut at_end = false;
        while self.reader.seq() < until {
            let (seq, event) = match self.reader.next().context("reading the tape")? {
                None => {
                    at_end = true;
                    break;
                }
                Some(Item::Hole(_)) => {
                    self.hole_since.get_or_insert(self.last_recv);
                    continue;
                }
                // A record of a later version is no input of this one.
                Some(Item::Record(record)) => match wire::decode(record.payload) {
                    Ok(event) => (record.seq, event),
                    Err(_) => continue,
                },
            };
            if std::mem::take(&mut self.begins) {
                let checkpoint = self.reader.checkpoint().iter().filter_map(|payload| wire::decode(payload).ok());
                checkpoint.for_each(|event| derived.checkpoint(&event));
            }
            if let Some(since) = self.hole_since.take() {
                derived.hole(since, event.ts_recv);
            }
            self.last_recv = event.ts_recv;
            derived.record(seq, &event, &mut self.past)?;
            outputs.extend(derived.take(UnixNanos::now()));
            if outputs.len() >= BATCH_OUTPUTS {
                break;
            }
        }
        self.send(derived, outputs)?;
        if self.known_until.is_some_and(|until| self.reader.seq() > until) {
            self.known_until = None;
            let missing = derived.caught_up();
            self.repeated = self.repeated.saturating_sub(missing.len() as u64);
            self.send(derived, missing)?;
        }
        Ok(at_end)
    }

    /// Sends outputs, and waits until they are durable.
    fn send(&mut self, derived: &mut dyn Derived, outputs: Vec<Event>) -> anyhow::Result<()> {
        let made = outputs.len();
        let mut fresh: Vec<Event> = if self.known_until.is_some() {
            outputs.into_iter().filter_map(|output| derived.fresh(output)).collect()
        } else {
            outputs
        };
        self.repeated += (made - fresh.len()) as u64;
        self.outputs += fresh.len() as u64;
        let Some(out) = &self.desk.out else { anyhow::bail!("a reader that derives has no way to the recorder") };
        while !fresh.is_empty() {
            let rest = fresh.split_off(fresh.len().min(BATCH_OUTPUTS));
            self.handle.block_on(out.emit_durable(std::mem::replace(&mut fresh, rest))).context("sending outputs")?;
        }
        Ok(())
    }

    fn save_now_and_then(&mut self, derived: &dyn Derived) -> anyhow::Result<()> {
        let wait = SAVE_EVERY.max(self.save_took * SAVE_SHARE);
        if self.last_save.elapsed() >= wait && self.reader.seq() - 1 > self.saved_seq {
            self.save(derived)
        } else {
            Ok(())
        }
    }

    /// Everything made of the records so far is durable, so the state behind them may be too.
    fn save(&mut self, derived: &dyn Derived) -> anyhow::Result<()> {
        let begun = Instant::now();
        let seq = self.reader.seq() - 1;
        self.file.save(&derived.state(seq))?;
        self.cursor.commit(seq, &[]).context("committing the cursor")?;
        self.saved_seq = seq;
        (self.last_save, self.save_took) = (Instant::now(), begun.elapsed());
        Ok(())
    }

    /// Waits for records. Writes one that says what time it is, when something is due and none comes.
    fn wait(&mut self, derived: &dyn Derived) -> anyhow::Result<()> {
        let now = UnixNanos::now();
        let due = derived.due().map(|due| due + PATIENCE);
        if due.is_some_and(|due| due <= now) && self.told_time.elapsed() >= PATIENCE {
            self.told_time = Instant::now();
            if let Some(out) = &self.desk.out {
                self.handle.block_on(out.emit(vec![derived.time(now)])).context("writing the time")?;
            }
        }
        let until_due = due.map_or(LOOK_EVERY, |due| due.saturating_since(now).max(Duration::from_millis(5)));
        let pause = until_due.min(LOOK_EVERY);
        if self.reader.wait(pause).context("waiting for records")? == Woken::WriterGone {
            // A closed tape says so at once.
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Writes a record and waits for it: everything that was on its way to the recorder is then on the tape before it.
    fn barrier(&mut self, derived: &dyn Derived) -> anyhow::Result<()> {
        let time = derived.time(UnixNanos::now());
        match &self.desk.out {
            Some(out) => self.handle.block_on(out.emit_durable(vec![time])).map(drop).context("writing the time"),
            None => Ok(()),
        }
    }

    /// The last words, when everything on the tape was read; a reader that is behind goes on next time.
    fn finish(&mut self, derived: &mut dyn Derived, at_end: bool) -> anyhow::Result<()> {
        if at_end {
            derived.pause(self.reader.seq() - 1, &mut self.past)?;
            let outputs = derived.take(UnixNanos::now());
            self.send(derived, outputs)?;
        } else {
            let lag = self.desk.tape.seq().saturating_sub(self.reader.seq() - 1);
            tracing::warn!(reader = %self.desk.name, lag, "stopped while behind, the rest is done next time");
        }
        self.save(derived)?;
        self.show_now(derived);
        Ok(())
    }

    fn show(&mut self, derived: &dyn Derived) {
        if self.last_shown.elapsed() >= SHOW_EVERY {
            self.show_now(derived);
        }
    }

    fn show_now(&mut self, derived: &dyn Derived) {
        self.last_shown = Instant::now();
        self.desk
            .shown
            .set_state(derived.waits().map_or_else(|| "running".to_owned(), |what| format!("waiting: {what}")));
        let mut detail = derived.show();
        let lag = self.desk.tape.seq().saturating_sub(self.reader.seq() - 1);
        let lag_ms = if lag == 0 { 0 } else { UnixNanos::now().saturating_since(self.last_recv).as_millis() as u64 };
        for (key, value) in [
            ("seq", self.reader.seq() - 1),
            ("saved_seq", self.saved_seq),
            ("lag_records", lag),
            ("lag_ms", lag_ms),
            ("outputs", self.outputs),
            ("repeated", self.repeated),
        ] {
            detail.insert(key.to_owned(), value.into());
        }
        self.desk.shown.set_detail(detail);
    }
}

/// The event, if it is an output of that reader.
fn own(name: &str, payload: &[u8]) -> Option<Event> {
    wire::decode(payload).ok().filter(|event| event.flags.contains(Flags::DERIVED) && event.source == name)
}

/// The state of a reader, beside the tape: the tape's id, then the state, which has its own checksum.
#[derive(Debug)]
struct StateFile {
    folder: PathBuf,
    name: SmolStr,
    tape_id: [u8; 16],
}

impl StateFile {
    fn of(dir: &Path, name: SmolStr, tape_id: [u8; 16]) -> Self {
        StateFile { folder: dir.join("state"), name, tape_id }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn load(&self) -> anyhow::Result<Option<Vec<u8>>> {
        match std::fs::read(self.path()) {
            Ok(mut bytes) => {
                let of_this_tape = bytes.get(..16) == Some(&self.tape_id[..]);
                Ok(of_this_tape.then(|| bytes.split_off(16)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", self.path().display())),
        }
    }

    /// Replaces it as a whole: after a crash it is the old one or the new one.
    fn save(&self, state: &[u8]) -> anyhow::Result<()> {
        let fresh = self.folder.join(format!("{}.new", self.name));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            let mut file = std::fs::File::create(&fresh)?;
            file.write_all(&self.tape_id)?;
            file.write_all(state)?;
            file.sync_data()?;
            std::fs::rename(&fresh, self.path())?;
            std::fs::File::open(&self.folder)?.sync_all()
        };
        write().with_context(|| format!("saving {}", self.path().display()))
    }
}
