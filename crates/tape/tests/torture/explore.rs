//! Random lives of a tape, each ended by a random disaster and checked; and the bugs that this must find.
//!
//! ```text
//! open ─► append, commit, read, deliver, retain, … ─► power cut · kill · orderly end ─► open and check ─┐
//!   ▲                                                                                                   │
//!   └───────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tapedeck_tape::model::{Call, Failure, Fault, Model, Rng};
use tapedeck_tape::storage::{Flaw, Storage};
use tapedeck_tape::{Allocation, Cursor, Error, Item, Log, Mode, Options, Reader, Start};

use crate::rig::{self, Made, Rig, Verdict, chain, check_error, dir, ensure};
use crate::{scale, seed};

/// What the exploration found, and how to find it again.
pub(crate) struct Finding {
    pub(crate) seed: u64,
    pub(crate) states: u64,
    pub(crate) what: String,
    /// What happened in the story that ended so.
    pub(crate) diary: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.diary {
            writeln!(f, "{entry}")?;
        }
        write!(f, "after {} states, seed {}: {}", self.states, self.seed, self.what)
    }
}

/// Looks at so many states after disasters, on all processors. `Err` is the first thing found wrong.
pub(crate) fn explore(flaws: &[Flaw], states: u64, seed: u64) -> Result<(), Finding> {
    let next = AtomicU64::new(0);
    let looked_at = AtomicU64::new(0);
    let found = AtomicBool::new(false);
    let worker = || {
        while !found.load(Ordering::Relaxed) && looked_at.load(Ordering::Relaxed) < states {
            let seed = seed.wrapping_mul(1 << 32) + next.fetch_add(1, Ordering::Relaxed);
            let mut story = Story::new(seed, flaws);
            let outcome = story.live();
            let states = looked_at.fetch_add(story.states, Ordering::Relaxed) + story.states;
            if let Err(what) = outcome {
                found.store(true, Ordering::Relaxed);
                return Err(Finding { seed, states, what, diary: Story::retold(seed, flaws) });
            }
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap())
    })
}

/// One tape through several lives.
struct Story {
    rng: Rng,
    rig: Rig,
    /// States that were opened and checked.
    states: u64,
    /// Kept only when a story is told again: it costs more than the story.
    diary: Option<Vec<String>>,
}

/// What a life needs while the log is open.
struct Life {
    log: Log,
    reader: Reader,
    cursor: Option<Cursor>,
}

/// Why a life ended before its time.
enum End {
    /// The power went, or the log says that it is finished.
    Over,
    Wrong(String),
}

impl From<String> for End {
    fn from(what: String) -> Self {
        End::Wrong(what)
    }
}

impl Story {
    fn new(seed: u64, flaws: &[Flaw]) -> Self {
        let mut rng = Rng::new(seed);
        let model = Model::new(rng.bits());
        for flaw in flaws {
            model.commit_flaw(*flaw);
        }
        let options = Options {
            mode: [Mode::Group, Mode::Each, Mode::Os][rng.below(3) as usize],
            segment_bytes: (16 * 1024) << rng.below(3),
            allocation: if rng.one_in(4) { Allocation::None } else { Allocation::Inline },
            compress: rng.one_in(4),
            checkpoint_bytes: 512 << rng.below(8),
        };
        let mut rig = Rig::new(model, options);
        if flaws.contains(&Flaw::UnlinkBeforeCursorSync) {
            rig.facts.cursors_are_lazy();
        }
        Story { rng, rig, states: 0, diary: None }
    }

    /// The same story once more, with what happened in it.
    fn retold(seed: u64, flaws: &[Flaw]) -> Vec<String> {
        let mut story = Story { diary: Some(Vec::new()), ..Story::new(seed, flaws) };
        story.note(|rig| format!("{:?}", rig.options));
        let _ = story.live();
        story.diary.unwrap_or_default()
    }

    fn note(&mut self, entry: impl FnOnce(&Rig) -> String) {
        if let Some(diary) = &mut self.diary {
            diary.push(entry(&self.rig));
        }
    }

    fn live(&mut self) -> Verdict {
        for _ in 0..4 + self.rng.below(4) {
            if self.rng.one_in(4) {
                self.cut_power_within(60);
            }
            let opened = self.rig.reopen()?;
            self.note(|rig| format!("opened: {} at {}", opened.is_some(), rig.facts.next_seq()));
            if let Some(log) = opened {
                self.states += 1;
                match self.work(log) {
                    Err(End::Wrong(what)) => return Err(what),
                    Err(End::Over) | Ok(()) => {}
                }
            }
            self.disaster()?;
        }
        Ok(())
    }

    /// The power will go at one of the next so many calls.
    fn cut_power_within(&mut self, calls: u64) {
        let nth = 1 + self.rng.below(calls);
        self.rig.model.fail(Fault { call: None, nth, failure: Failure::PowerCut, for_ever: false });
    }

    fn disaster(&mut self) -> Verdict {
        self.rig.model.heal();
        self.rig.model.set_capacity(None);
        // The other ways in which the same power cut may end are looked at and left.
        for _ in 0..self.rng.below(3) {
            let mut branch = self.rig.on(self.rig.model.crash(self.rng.bits()));
            branch.reopen()?;
            self.states += 1;
        }
        if self.rng.one_in(16) {
            self.flip_bits()?;
        }
        let killed = self.rng.one_in(3);
        self.note(|_| if killed { "killed".to_owned() } else { "power cut".to_owned() });
        self.rig.model = if killed { self.rig.model.fork() } else { self.rig.model.crash(self.rng.bits()) };
        Ok(())
    }

    fn work(&mut self, log: Log) -> Result<(), End> {
        let reader = Reader::open_with(self.rig.storage(), &dir(), Start::End, log.tail())
            .map_err(|error| format!("reading was refused: {}", chain(&error)))?;
        let mut life = Life { log, reader, cursor: None };
        if self.rng.one_in(2) {
            self.cut_power_within(200);
        }
        for _ in 0..self.rng.below(40) {
            let acted = self.act(&mut life);
            let notes = life.log.take_notes();
            self.note(|_| format!("    next {}, durable {} {notes:?}", life.log.next_seq(), life.log.durable_seq()));
            acted?;
        }
        if self.rng.one_in(4) {
            life.log.close().map_err(|error| self.failed(&error))?;
            let end = self.rig.facts.next_seq() - 1;
            self.rig.facts.acknowledged(end)?;
        }
        Ok(())
    }

    fn act(&mut self, life: &mut Life) -> Result<(), End> {
        let act = self.rng.below(20);
        self.note(|rig| {
            let names = ["append", "commit", "read", "deliver", "retain", "trouble"];
            let name = names[[9, 13, 15, 17, 19].iter().filter(|bound| act >= **bound).count()];
            format!("  {name} after call {}", rig.model.calls())
        });
        match act {
            0..=8 => self.append(life)?,
            9..=12 => self.commit(life)?,
            13 | 14 => self.read(life)?,
            15 | 16 => self.deliver(life)?,
            17 | 18 => self.retain(life)?,
            _ => self.trouble(),
        }
        self.rig.facts.acknowledged(life.log.durable_seq())?;
        // The call that the power went at may be one whose failure the log rightly overlooks.
        self.over_unless_powered()
    }

    fn append(&mut self, life: &mut Life) -> Result<(), End> {
        let records: Vec<Made> =
            (0..1 + self.rng.below(rig::MAX_APPEND) * self.rng.below(2)).map(|_| self.record()).collect();
        let expected = self.rig.facts.next_seq();
        match rig::append(&mut life.log, &records) {
            Ok(seq) => {
                self.rig.facts.appended(&records);
                ensure_seq(seq, expected)?;
                Ok(())
            }
            Err(error) => {
                self.rig.facts.failed(&records);
                self.outlive(&error)
            }
        }
    }

    fn record(&mut self) -> Made {
        let len = match self.rng.below(16) {
            0..=9 => self.rng.below(200),
            10..=13 => self.rng.below(2000),
            14 => 5000 + self.rng.below(5000),
            _ => 0,
        };
        Made::new(self.rng.bits(), len as usize)
    }

    fn commit(&mut self, life: &mut Life) -> Result<(), End> {
        let answer = if self.rng.one_in(2) { life.log.sync() } else { life.log.commit() };
        match answer {
            Ok(seq) => Ok(self.rig.facts.acknowledged(seq)?),
            Err(error) => self.outlive(&error),
        }
    }

    fn read(&mut self, life: &mut Life) -> Result<(), End> {
        let strikes = self.rig.model.strikes();
        let read = self.rig.read_on(&mut life.reader, life.log.durable_seq());
        if self.rig.model.strikes() > strikes { self.over_unless_powered() } else { Ok(read?) }
    }

    /// What a sink does: read on from the cursor, hand over, commit.
    fn deliver(&mut self, life: &mut Life) -> Result<(), End> {
        let strikes = self.rig.model.strikes();
        match self.try_deliver(life) {
            Ok(verdict) => Ok(verdict?),
            Err(error) if self.rig.model.strikes() > strikes => self.outlive(&error),
            Err(error) => Err(End::Wrong(format!("delivering failed: {}", chain(&error)))),
        }
    }

    fn try_deliver(&mut self, life: &mut Life) -> Result<Verdict, Error> {
        let storage = self.rig.storage();
        let cursor = match &mut life.cursor {
            Some(cursor) => cursor,
            none => none.insert(rig::open_cursor(&self.rig, &life.log)?),
        };
        let mut reader = Reader::open_with(storage, &dir(), Start::Seq(cursor.seq() + 1), life.log.tail())?;
        let mut upto = cursor.seq();
        for _ in 0..1 + self.rng.below(10) {
            match reader.next()? {
                Some(Item::Record(record)) => upto = record.seq,
                Some(Item::Hole(hole)) => upto = hole.to_seq,
                None => break,
            }
        }
        let hasty = self.rig.model.flaw(Flaw::CursorBeforeConfirm);
        let facts = &mut self.rig.facts;
        if !hasty {
            facts.delivered = facts.delivered.max(upto);
        }
        facts.committing(upto);
        cursor.commit(upto, &upto.to_le_bytes())?;
        if let Some(diary) = &mut self.diary {
            diary.push(format!("    up to {upto}"));
        }
        facts.committed(upto);
        if hasty {
            // The confirmation of the store comes with the next call of the disk, if that call comes.
            self.rig.model.sync_dir(&dir()).map_err(|source| Error::Io {
                action: "confirming",
                path: dir(),
                source,
            })?;
            self.rig.facts.delivered = self.rig.facts.delivered.max(upto);
        }
        Ok(Ok(()))
    }

    fn retain(&mut self, life: &mut Life) -> Result<(), End> {
        let keep_bytes = self.rng.below(100 * 1024);
        match life.log.retain(&rig::retention(keep_bytes), 0) {
            Ok(retained) => {
                if retained.segments > 0 {
                    self.rig.facts.retain_allowed();
                }
                self.note(|_| format!("    {retained:?}"));
                Ok(())
            }
            Err(error) => {
                self.rig.facts.retain_allowed();
                self.outlive(&error)
            }
        }
    }

    /// One of the next calls will fail, or the disk is nearly full for a while.
    fn trouble(&mut self) {
        self.rig.model.set_capacity(None);
        if self.rng.one_in(4) {
            let bytes = self.rig.model.used() + self.rng.below(80 * 1024);
            self.note(|_| format!("    room for {bytes} bytes"));
            self.rig.model.set_capacity(Some(bytes));
            return;
        }
        let failure = [Failure::Eio, Failure::Enospc, Failure::ShortWrite][self.rng.below(3) as usize];
        let call = [Some(Call::Write), Some(Call::Sync), Some(Call::Sync), None][self.rng.below(4) as usize];
        let fault = Fault { call, nth: 1 + self.rng.below(6), failure, for_ever: false };
        self.note(|_| format!("    {fault:?}"));
        self.rig.model.fail(fault);
    }

    /// A call failed: does life go on?
    fn outlive(&mut self, error: &Error) -> Result<(), End> {
        self.note(|_| format!("    error: {}", chain(error)));
        check_error(error)?;
        if matches!(error, Error::Poisoned { .. }) { Err(End::Over) } else { self.over_unless_powered() }
    }

    fn failed(&mut self, error: &Error) -> End {
        self.outlive(error).err().unwrap_or(End::Over)
    }

    fn over_unless_powered(&self) -> Result<(), End> {
        if self.rig.model.is_powered() { Ok(()) } else { Err(End::Over) }
    }

    /// Bits of one segment rot, one at a time; what is lost is at most the record it was in, or the append at the very end.
    fn flip_bits(&mut self) -> Verdict {
        let model = self.rig.model.crash(self.rng.bits());
        let mut whole = self.rig.on(model.fork());
        let Some(log) = whole.reopen()? else { return Ok(()) };
        drop(log);
        let segments = rig::files(&whole.model, ".seg");
        let Some(path) = segments.get(self.rng.below(segments.len() as u64) as usize) else { return Ok(()) };
        let bytes = whole.model.bytes(path).unwrap();
        for _ in 0..8 {
            let at = if self.rng.one_in(4) { self.rng.below(bytes.len() as u64) } else { self.place_in_a_head(&bytes) };
            let bit = self.rng.below(8) as u8;
            whole.model.flip(path, at, bit).unwrap();
            self.states += 1;
            let verdict = Reader::open(whole.storage(), &dir(), Start::Begin)
                .map_err(|error| format!("reading was refused: {}", chain(&error)))
                .and_then(|mut reader| whole.check_flipped(&mut reader));
            verdict.map_err(|what| format!("byte {at}, bit {bit} of {} flipped: {what}", path.display()))?;
            whole.model.flip(path, at, bit).unwrap();
        }
        Ok(())
    }
}

/// The heads of the records in a segment begin here; each says how long its record is.
const DATA_START: usize = 1024;
const HEAD_BYTES: usize = 32;

impl Story {
    /// A byte in the head of some record: most that can go wrong goes wrong there.
    fn place_in_a_head(&mut self, segment: &[u8]) -> u64 {
        let mut heads = vec![0];
        let mut at = DATA_START;
        while let Some(head) = segment.get(at..at + HEAD_BYTES).filter(|head| head.iter().any(|byte| *byte != 0)) {
            heads.push(at);
            let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            at += HEAD_BYTES + len.next_multiple_of(8);
        }
        heads[self.rng.below(heads.len() as u64) as usize] as u64 + self.rng.below(HEAD_BYTES as u64)
    }
}

fn ensure_seq(seq: u64, expected: u64) -> Verdict {
    ensure!(seq == expected, "an append got seq {seq}, not {expected}");
    Ok(())
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let states = 100_000 * scale();
    let started = std::time::Instant::now();
    if let Err(finding) = explore(&[], states, seed()) {
        panic!("{finding}");
    }
    let elapsed = started.elapsed();
    println!("{states} states, seed {}, {elapsed:.1?}", seed());
}

/// Each bug that a tape really had must be found, soon, and as what it is.
fn is_found(flaw: Flaw, within: u64, as_what: &str) {
    match explore(&[flaw], within, seed()) {
        Err(finding) if !finding.what.contains(as_what) => panic!("{flaw:?} hides behind something else: {finding}"),
        Err(finding) => println!("{flaw:?}: {finding}"),
        Ok(()) => panic!("{flaw:?} was not found in {within} states from seed {}", seed()),
    }
}

#[test]
fn syncs_that_do_nothing_are_found() {
    is_found(Flaw::NoSync, 1_000, "was acknowledged");
}

#[test]
fn a_checksum_without_the_length_is_found() {
    is_found(Flaw::CrcWithoutLength, 50_000, "bytes that are not its own");
}

#[test]
fn a_cursor_before_the_confirmation_is_found() {
    is_found(Flaw::CursorBeforeConfirm, 20_000, "the sink's store has only");
}

#[test]
fn a_segment_removed_before_its_cursor_is_synced_is_found() {
    is_found(Flaw::UnlinkBeforeCursorSync, 20_000, "the tape begins at");
}

#[test]
fn a_failed_fsync_that_is_tried_again_is_found() {
    is_found(Flaw::RetryAfterEio, 20_000, "was acknowledged");
}
