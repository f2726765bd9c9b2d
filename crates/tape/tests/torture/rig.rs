//! A tape on the model, and the oracle: what the outside world knows about it, and so what must be true after a disaster.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tapedeck_tape::model::{Model, Rng};
use tapedeck_tape::storage::Storage;
use tapedeck_tape::{Cursor, Entry, Error, Item, Log, Opening, Options, Reader, Retention, Start};

/// What a check found: a sentence.
pub(crate) type Verdict = Result<(), String>;

/// Fails the check with a sentence unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err(format!($($sentence)+));
        }
    };
}
pub(crate) use ensure;

/// The reader that holds segments back.
pub(crate) const SINK: &str = "sink";

/// The most records that the random lives append at once.
pub(crate) const MAX_APPEND: u64 = 4;

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/tape")
}

/// A record as it was handed to the log: its bytes follow from the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    nonce: u64,
    len: usize,
}

impl Made {
    pub(crate) fn new(nonce: u64, len: usize) -> Self {
        Made { nonce, len }
    }

    pub(crate) fn payload(self) -> Vec<u8> {
        let mut payload = vec![0; self.len];
        let mut rng = Rng::new(self.nonce);
        // Long payloads repeat one kilobyte, shifted: enough to tell misplaced bytes, and soon made.
        for (nth, piece) in payload.chunks_mut(1000).enumerate() {
            let (random, rest) = piece.split_at_mut(piece.len().min(64));
            rng.fill(random);
            rest.fill(nth as u8);
        }
        payload
    }

    pub(crate) fn ts_recv(self) -> i64 {
        (self.nonce >> 8) as i64
    }

    fn is(self, ts_recv: i64, payload: &[u8]) -> bool {
        payload.len() == self.len && ts_recv == self.ts_recv() && payload == self.payload()
    }
}

/// What the outside world knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The oldest seq that is still there.
    first: u64,
    /// What was appended, in order; the first has seq 1.
    made: Vec<Made>,
    /// Appends whose failure leaves open whether they are there: other records that a seq above `acked` may carry.
    doubtful: BTreeMap<u64, Vec<Made>>,
    /// Up to here the tape said "durable".
    pub(crate) acked: u64,
    /// Up to here a reader has seen the records.
    pub(crate) seen: u64,
    /// Seqs that were never acknowledged, and came out of a power cut as a reported hole.
    lost: BTreeSet<u64>,
    /// What the sink's cursor may stand at: its last commit, and those that failed since. A killed process leaves a failed one
    /// to be read, and a power cut may still take it back.
    cursor: Vec<u64>,
    /// A commit of the cursor is not durable at once, and that alone is no fault: it becomes one when segments go.
    lazy_cursors: bool,
    /// Up to here the sink's store has the records; it outlives any disaster here.
    pub(crate) delivered: u64,
    /// Whether segments were ever allowed to go.
    retained: bool,
}

impl Facts {
    /// The seq that the next append gets.
    pub(crate) fn next_seq(&self) -> u64 {
        self.made.len() as u64 + 1
    }

    /// An append that succeeded.
    pub(crate) fn appended(&mut self, records: &[Made]) {
        self.made.extend_from_slice(records);
    }

    /// An append that failed, so that nobody may count on it, though some of it may be on the disk.
    pub(crate) fn failed(&mut self, records: &[Made]) {
        for (seq, made) in (self.next_seq()..).zip(records) {
            self.doubtful.entry(seq).or_default().push(*made);
        }
    }

    /// The log answered, and says that all up to `seq` is durable.
    pub(crate) fn acknowledged(&mut self, seq: u64) -> Verdict {
        ensure!(seq >= self.acked, "the durable end went back from {} to {seq}", self.acked);
        ensure!(
            seq < self.next_seq(),
            "seq {seq} is called durable, and {} is the next one to be made",
            self.next_seq()
        );
        self.acked = seq;
        Ok(())
    }

    /// A reader was handed a record.
    pub(crate) fn record(&mut self, seq: u64, ts_recv: i64, payload: &[u8]) -> Verdict {
        ensure!(!self.lost.contains(&seq), "seq {seq} was reported as lost and is back");
        let made = seq.checked_sub(1).and_then(|index| self.made.get(index as usize));
        let others = self.doubtful.get(&seq).filter(|_| seq > self.acked && seq > self.seen);
        let known = made.into_iter().chain(others.into_iter().flatten());
        ensure!(
            known.clone().any(|made| made.is(ts_recv, payload)),
            "seq {seq} came with {} bytes that are not its own; it is one of {:?} (acknowledged {}, seen {})",
            payload.len(),
            known.collect::<Vec<_>>(),
            self.acked,
            self.seen,
        );
        Ok(())
    }

    /// A reader was handed a hole.
    pub(crate) fn hole(&mut self, from_seq: u64, to_seq: u64) -> Verdict {
        for seq in from_seq..=to_seq {
            ensure!(
                self.lost.contains(&seq) || (seq > self.acked && seq > self.seen) || self.may_be_gone(seq),
                "seq {seq} is in a hole {from_seq}..={to_seq}, and was acknowledged ({}) or seen ({}), delivered {}",
                self.acked,
                self.seen,
                self.delivered
            );
            if !self.may_be_gone(seq) {
                self.lost.insert(seq);
            }
        }
        Ok(())
    }

    /// Retention may have taken it: the sink is done with it.
    fn may_be_gone(&self, seq: u64) -> bool {
        self.retained && seq <= self.delivered
    }

    /// The sink is about to commit its cursor.
    pub(crate) fn committing(&mut self, seq: u64) {
        if self.cursor.is_empty() {
            self.cursor.push(0);
        }
        self.cursor.push(seq);
    }

    /// … and did.
    pub(crate) fn committed(&mut self, seq: u64) {
        if !self.lazy_cursors {
            self.cursor = vec![seq];
        }
    }

    pub(crate) fn cursors_are_lazy(&mut self) {
        self.lazy_cursors = true;
    }

    /// The required cursor was found at `seq`.
    fn found_cursor(&mut self, seq: u64) -> Verdict {
        ensure!(
            self.cursor.contains(&seq) || (seq == 0 && self.cursor.is_empty()),
            "the cursor stands at {seq}, not at one of {:?}",
            self.cursor
        );
        ensure!(seq <= self.delivered, "the cursor stands at {seq}, and the sink's store has only {}", self.delivered);
        ensure!(seq <= self.acked.max(self.seen), "the cursor stands at {seq}, beyond the end at {}", self.acked);
        Ok(())
    }

    /// The log goes on after `last_seq`: whatever was doubtful has become so, or has not.
    fn settled(&mut self, found: &BTreeMap<u64, Made>, last_seq: u64) {
        // A hole at the end takes its seqs away though nobody knows what they were.
        self.made.resize(last_seq as usize, Made::new(0, 0));
        for (seq, made) in found {
            self.made[(seq - 1) as usize] = *made;
        }
        self.doubtful.clear();
        self.acked = last_seq;
        self.seen = last_seq;
    }
}

/// The tape of one random life.
pub(crate) struct Rig {
    pub(crate) model: Model,
    pub(crate) facts: Facts,
    pub(crate) options: Options,
}

impl Rig {
    pub(crate) fn new(model: Model, options: Options) -> Self {
        Rig { model, facts: Facts::default(), options }
    }

    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.model.clone())
    }

    /// The same tape and the same knowledge on another file system.
    pub(crate) fn on(&self, model: Model) -> Rig {
        Rig { model, facts: self.facts.clone(), options: self.options.clone() }
    }

    /// The same knowledge, to be spoilt by somebody who may be told less than is there.
    pub(crate) fn clone_facts(&self) -> Rig {
        self.on(self.model.clone())
    }

    /// Opens the log, ends all faults, and checks everything that must be true. `None`: a fault struck while opening.
    pub(crate) fn reopen(&mut self) -> Result<Option<Log>, String> {
        let strikes = self.model.strikes();
        let opened = Log::open(self.storage(), &dir(), self.options.clone());
        let struck = self.model.strikes() > strikes;
        self.model.heal();
        match opened {
            Ok((log, opening)) if self.model.is_powered() => {
                self.check_opening(&log, &opening, struck)?;
                Ok(Some(log))
            }
            Ok(_) => Ok(None),
            Err(error) if struck => check_error(&error).map(|()| None),
            Err(error) => Err(format!("opening was refused: {}", chain(&error))),
        }
    }

    fn check_opening(&mut self, log: &Log, opening: &Opening, struck: bool) -> Verdict {
        let last = opening.last_seq;
        let facts = &self.facts;
        ensure!(last >= facts.acked, "{} is the last seq, and {} was acknowledged", last, facts.acked);
        ensure!(last >= facts.seen, "{} is the last seq, and a reader saw {}", last, facts.seen);
        let made = facts.doubtful.last_key_value().map_or(0, |(seq, _)| *seq).max(facts.next_seq() - 1);
        // Where the disk refused to read there may have been records: more seqs than were made may be passed over.
        ensure!(last <= made || struck, "{last} is the last seq, and only {made} were made");
        ensure!(log.next_seq() == last + 1, "the next seq is {} after {last}", log.next_seq());
        ensure!(log.durable_seq() == last, "the durable end is {} and the last seq {last}", log.durable_seq());
        for hole in opening.holes.iter().filter(|_| !struck) {
            self.facts.hole(hole.from_seq, hole.to_seq)?;
        }
        let mut reader = Reader::open_with(self.storage(), &dir(), Start::Begin, log.tail())
            .map_err(|error| format!("reading was refused: {}", chain(&error)))?;
        self.check_whole(&mut reader, last)?;
        self.check_checkpoint(log)
    }

    /// A reader that starts at the last checkpoint is given a whole one, and goes on exactly behind it.
    fn check_checkpoint(&self, log: &Log) -> Verdict {
        let mut reader = Reader::open_with(self.storage(), &dir(), Start::Checkpoint, log.tail())
            .map_err(|error| format!("reading from the checkpoint was refused: {}", chain(&error)))?;
        let state = reader.checkpoint().to_vec();
        let seq = reader.seq();
        ensure!(
            state.is_empty() || state == state_before(seq),
            "the checkpoint {:?} stands before {seq}",
            state.iter().map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>()
        );
        let first = match reader.next().map_err(|error| format!("reading failed: {}", chain(&error)))? {
            Some(Item::Record(record)) => record.seq,
            Some(Item::Hole(hole)) if state.is_empty() => hole.from_seq,
            Some(Item::Hole(hole)) => return Err(format!("a checkpoint before {seq} stands before {hole:?}")),
            None => seq,
        };
        ensure!(first == seq, "reading from the checkpoint before {seq} begins with {first}");
        Ok(())
    }

    /// Reads everything, checks that it is whole up to `last`, and takes it as seen.
    fn check_whole(&mut self, reader: &mut Reader, last: u64) -> Verdict {
        let mut found = BTreeMap::new();
        let mut first = None;
        let mut expected = None;
        while let Some(item) = reader.next().map_err(|error| format!("reading failed: {}", chain(&error)))? {
            match item {
                Item::Record(record) => {
                    let seq = record.seq;
                    first = first.or(Some(seq));
                    ensure!(expected.is_none_or(|expected| expected == seq), "seq {seq} came instead of {expected:?}");
                    expected = Some(seq + 1);
                    self.facts.record(seq, record.ts_recv, record.payload)?;
                    if seq > self.facts.acked {
                        found.insert(seq, self.facts.which(seq, record.ts_recv, record.payload));
                    }
                }
                Item::Hole(hole) => {
                    first = first.or(Some(hole.from_seq));
                    ensure!(
                        expected.is_none_or(|expected| expected == hole.from_seq),
                        "a hole from {} came instead of {expected:?}",
                        hole.from_seq
                    );
                    self.facts.hole(hole.from_seq, hole.to_seq)?;
                    expected = Some(hole.to_seq + 1);
                }
            }
        }
        let end = expected.map_or(0, |expected| expected - 1);
        ensure!(end == last || (end == 0 && self.facts.retained), "reading ends at {end} and the tape at {last}");
        self.facts.settled(&found, last);
        self.facts.first = first.unwrap_or(last + 1);
        self.check_cursor(first.unwrap_or(last + 1))
    }

    /// The required cursor stands where it was committed, and nothing behind it is gone.
    fn check_cursor(&mut self, first: u64) -> Verdict {
        let listed = tapedeck_tape::cursors::list(&self.model, &dir())
            .map_err(|error| format!("listing the cursors failed: {}", chain(&error)))?;
        let seq = listed.iter().find(|cursor| cursor.name == SINK).map_or(0, |cursor| cursor.seq);
        self.facts.found_cursor(seq)?;
        ensure!(first <= seq + 1, "the tape begins at {first}, and the required cursor stands at {seq}");
        Ok(())
    }

    /// Opens the log after one bit went wrong, and reads everything.
    pub(crate) fn open_flipped(&mut self) -> Result<Log, String> {
        let (log, _) = Log::open(self.storage(), &dir(), self.options.clone()).map_err(|error| chain(&error))?;
        let mut reader =
            Reader::open_with(self.storage(), &dir(), Start::Begin, log.tail()).map_err(|error| chain(&error))?;
        self.check_flipped(&mut reader)?;
        Ok(log)
    }

    /// Reads everything after one bit went wrong: no wrong record, and at most one missing, or the append at the very end.
    pub(crate) fn check_flipped(&mut self, reader: &mut Reader) -> Verdict {
        let last = self.facts.acked;
        let mut holes = BTreeSet::new();
        let mut expected = self.facts.first.max(1);
        while let Some(item) = reader.next().map_err(|error| format!("reading failed: {}", chain(&error)))? {
            match item {
                Item::Record(record) => {
                    ensure!(record.seq == expected, "seq {} came instead of {expected}", record.seq);
                    self.facts.record(record.seq, record.ts_recv, record.payload)?;
                    expected += 1;
                }
                Item::Hole(hole) => {
                    ensure!(hole.from_seq == expected, "a hole from {} came instead of {expected}", hole.from_seq);
                    holes.extend((hole.from_seq..=hole.to_seq).filter(|seq| !self.facts.lost.contains(seq)));
                    expected = hole.to_seq + 1;
                }
            }
        }
        ensure!(expected <= last + 1, "reading ends behind the end, at {}", expected - 1);
        let torn = last + 1 - expected;
        ensure!(
            (holes.len() <= 1 && torn == 0) || (holes.is_empty() && torn <= MAX_APPEND),
            "one bit cost the records {holes:?}, and {torn} at the end"
        );
        Ok(())
    }

    /// Reads on as far as there is anything, checking each record; nothing beyond the durable end may show.
    pub(crate) fn read_on(&mut self, reader: &mut Reader, durable: u64) -> Verdict {
        while let Some(item) = reader.next().map_err(|error| format!("reading failed: {}", chain(&error)))? {
            match item {
                Item::Record(record) => {
                    ensure!(record.seq <= durable, "a reader was shown {} and only {durable} is durable", record.seq);
                    self.facts.record(record.seq, record.ts_recv, record.payload)?;
                    self.facts.seen = self.facts.seen.max(record.seq);
                }
                Item::Hole(hole) => self.facts.hole(hole.from_seq, hole.to_seq)?,
            }
        }
        Ok(())
    }
}

impl Facts {
    /// Which of the records that may carry this seq came.
    fn which(&self, seq: u64, ts_recv: i64, payload: &[u8]) -> Made {
        let made = self.made.get((seq - 1) as usize);
        let others = self.doubtful.get(&seq).into_iter().flatten();
        made.into_iter().chain(others).copied().find(|made| made.is(ts_recv, payload)).unwrap_or(Made::new(0, 0))
    }

    /// All that was acknowledged is there, from the first record on.
    pub(crate) fn take_all(&mut self) {
        self.first = 1;
        self.seen = self.acked;
    }

    pub(crate) fn retain_allowed(&mut self) {
        self.retained = true;
    }
}

/// Appends records, with a checkpoint where the log asks for one.
pub(crate) fn append(log: &mut Log, records: &[Made]) -> Result<u64, Error> {
    let payloads: Vec<Vec<u8>> = records.iter().map(|made| made.payload()).collect();
    let entries: Vec<Entry<'_>> =
        records.iter().zip(&payloads).map(|(made, payload)| Entry { ts_recv: made.ts_recv(), payload }).collect();
    let state = state_before(log.next_seq());
    log.append(&entries, &mut || state.to_vec())
}

/// What a checkpoint before this seq holds: two records, so that it may be whole in part.
fn state_before(seq: u64) -> [Vec<u8>; 2] {
    [seq.to_le_bytes().to_vec(), format!("state before {seq}").into_bytes()]
}

/// The sink's cursor, opened for its pump.
pub(crate) fn open_cursor(rig: &Rig, log: &Log) -> Result<Cursor, Error> {
    Cursor::open(&rig.model, &dir(), SINK, log.tape_id(), log.durable_seq())
}

/// Keeps so many bytes, and whatever the sink has not delivered.
pub(crate) fn retention(keep_bytes: u64) -> Retention {
    Retention { keep_bytes: Some(keep_bytes), required: vec![SINK.to_owned()], ..Retention::default() }
}

/// A fault of the disk must come out as the variant that tells the caller what to do.
pub(crate) fn check_error(error: &Error) -> Verdict {
    match error {
        Error::Io { .. } | Error::Full { .. } | Error::Poisoned { .. } => Ok(()),
        other => Err(format!("a fault of the disk came out as {other:?}")),
    }
}

pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Files of the tape's folder with this ending, in order.
pub(crate) fn files(model: &Model, ending: &str) -> Vec<PathBuf> {
    let mut names = model.list(&dir()).unwrap();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names.iter().map(|name| dir().join(Path::new(name))).collect()
}
