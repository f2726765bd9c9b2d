//! The writer: appends, syncs, rolls from segment to segment, and takes over when the disk fails.
//!
//! ```text
//!         synced        written           end
//! ──────────┼──────────────┼───────────────┤          `frames` holds everything behind `synced`
//!  durable  │  in the file │  in memory    │
//! ```
//!
//! - What is appended is framed at once and kept in memory until it is synced, so that after a failed fsync it can be
//!   appended again elsewhere. In `os` mode it is also written at once.
//! - Readers are shown the synced end only.
//! - A segment that a write or a sync failed on is left for good: the next one begins with the first seq that was not synced,
//!   which makes whatever the failed one holds behind that void.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::alloc::{Allocation, Allocator, grow};
use crate::compress::Packer;
use crate::current::{Current, Last, Maker};
use crate::error::Error;
use crate::folder;
use crate::recover::recover;
use crate::retain::{Retention, Shelf, make_room};
use crate::scan::Hole;
use crate::segment::{self, Check, DATA_START, Head, MAX_PAYLOAD_BYTES, RecordKind};
use crate::storage::{Flaw, Storage};
use crate::tail::{Durable, Hint, Place, Tail};
use crate::wake::Bell;

/// One append may take this much: a burst of a venue, not a file.
const MAX_APPEND_BYTES: u64 = 256 * 1024 * 1024;
/// Framed bytes are handed to the system at the latest when this many wait.
const WRITE_BYTES: usize = 256 * 1024;
/// Smaller segments would be more file than record.
const SEGMENT_BYTES_MIN: u64 = 16 * 1024;
/// One huge append does not keep its memory for ever.
const FRAMES_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// In `os` mode readers are behind by this much at most.
const OS_SYNC_EVERY: Duration = Duration::from_millis(100);
/// A large state comes back the less often: it takes one part in so many of the tape at most.
const CHECKPOINT_SHARE: u64 = 16;

/// When an append counts as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// After a sync that it shares with its neighbours. The recorder chooses the window.
    #[default]
    Group,
    /// After a sync of its own.
    Each,
    /// When the system has it: a power cut may take the last tenth of a second.
    Os,
}

impl Mode {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Group => "group",
            Mode::Each => "each",
            Mode::Os => "os",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is not a [`Mode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {text:?}, expected `group`, `each` or `os`")]
pub struct UnknownMode {
    pub text: String,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Mode::Group, Mode::Each, Mode::Os]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| UnknownMode { text: text.to_owned() })
    }
}

/// How a tape is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub mode: Mode,
    /// Size of a segment, in bytes. Default 64 MiB.
    pub segment_bytes: u64,
    pub allocation: Allocation,
    /// Compress segments when they are sealed. Default off.
    pub compress: bool,
    /// The user's state is asked for again when so many bytes were appended behind it: what must be read back after a crash
    /// is bounded by this. Default 4 MiB.
    pub checkpoint_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mode: Mode::default(),
            segment_bytes: 64 * 1024 * 1024,
            allocation: Allocation::default(),
            compress: false,
            checkpoint_bytes: 4 * 1024 * 1024,
        }
    }
}

/// One record to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When its bytes arrived, ns since the epoch.
    pub ts_recv: i64,
    pub payload: &'a [u8],
}

/// What opening a tape found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub tape_id: Uuid,
    /// Counts the openings of this tape for writing, from 1.
    pub incarnation: u64,
    /// The oldest seq there is, or the one that will be written first.
    pub first_seq: u64,
    /// 0 = the tape is empty.
    pub last_seq: u64,
    pub torn: Option<TornTail>,
    /// Holes in the segment that was written last. Older ones are met by readers.
    pub holes: Vec<Hole>,
    /// Receive time of the last record, ns.
    pub last_ts_recv: Option<i64>,
    /// There was no tape before.
    pub new: bool,
}

/// The end of an append that a crash interrupted. It was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub bytes: u64,
    /// Where the bytes were copied to before they were cut off; `None`: they could not be copied.
    pub quarantined: Option<PathBuf>,
}

/// What happened inside the log that its user should put on record.
#[derive(Debug)]
#[non_exhaustive]
pub enum Note {
    /// The disk failed on a segment. Another took over and nothing is lost.
    Poisoned { segment: u64, action: &'static str, error: io::Error },
    /// No segment could be made ahead: the disk is full, or nearly. Nothing is lost yet.
    NothingAhead { error: io::Error },
    /// Readers of other processes look at the tape from time to time instead of being woken.
    NoSocket { error: io::Error },
    /// The disk was full when the tape was opened: the oldest segment was given up for a new one.
    DroppedOldest,
    /// A sealed segment could not be compressed; it stays as it is.
    NotCompressed { segment: u64, error: Error },
}

/// The tape's only writer. Dropping it stops in order, without a last sync; [`Log::close`] syncs.
pub struct Log {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) check: Check,
    pub(crate) maker: Maker,
    pub(crate) packer: Packer,
    pub(crate) shelf: Shelf,
    pub(crate) segment: Current,
    frames: Vec<u8>,
    /// Bytes of `frames` that are in the file.
    written: usize,
    /// The last record appended, and the last one synced.
    last: Last,
    durable: Last,
    pub(crate) checkpoint_due: bool,
    /// The last checkpoint appended, and the bytes of it and of what was appended behind it.
    checkpoint: Option<Place>,
    checkpoint_bytes: u64,
    since_checkpoint: u64,
    /// The newest segment that durably begins with the user's state; 0 = none was written since the tape was opened.
    pub(crate) stated: u64,
    /// The current segment must be left before anything else is written.
    takeover: Option<Failure>,
    /// A segment could not be begun. Should its header survive all the same, seqs from here on would be void in the current one.
    full_stop: bool,
    broken: bool,
    synced_at: Instant,
    pub(crate) notes: Vec<Note>,
    tail: Arc<Tail>,
    hint: Hint,
    pub(crate) bell: Option<Bell>,
    /// Released last: by then nothing of this log writes any more.
    _lock: Box<dyn Send + Sync>,
}

#[derive(Debug)]
struct Failure {
    action: &'static str,
    error: io::Error,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("segment", &self.segment)
            .field("last", &self.last)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens a tape for writing, or makes a new one: recovers the end of its last segment, and begins another.
    ///
    /// # Errors
    /// [`Error::Locked`] when another writer holds it, [`Error::NewerFormat`], [`Error::Full`] when there is no room for a
    /// segment, [`Error::Io`].
    pub fn open(storage: Arc<dyn Storage>, dir: &Path, options: Options) -> Result<(Log, Opening), Error> {
        Log::open_by(storage, dir, options, None)
    }

    /// As [`Log::open`]; on a full disk the oldest segments go until there is room for a new one, unless a required reader still
    /// needs them.
    ///
    /// # Errors
    /// As [`Log::open`]. [`Error::Full`]: there is none that may go.
    pub fn open_dropping_oldest(
        storage: Arc<dyn Storage>,
        dir: &Path,
        options: Options,
        policy: &Retention,
    ) -> Result<(Log, Opening), Error> {
        Log::open_by(storage, dir, options, Some(policy))
    }

    fn open_by(
        storage: Arc<dyn Storage>,
        dir: &Path,
        options: Options,
        dropping: Option<&Retention>,
    ) -> Result<(Log, Opening), Error> {
        let (recovered, mut opening) = recover(&*storage, dir)?;
        let segment_bytes = options.segment_bytes.max(SEGMENT_BYTES_MIN);
        let allocator = Allocator::new(Arc::clone(&storage), dir, segment_bytes, options.allocation);
        let mut maker = Maker {
            storage: Arc::clone(&storage),
            dir: dir.to_path_buf(),
            allocator,
            tape_id: opening.tape_id,
            incarnation: opening.incarnation,
            next_id: recovered.next_id,
        };
        let mut notes = Vec::from_iter(recovered.note);
        let last = Last { seq: opening.last_seq, ts_recv: opening.last_ts_recv };
        let check = Check::of(&*storage);
        let segment = loop {
            match (maker.begin(last, 0, &mut notes), dropping) {
                (Err(Error::Full { .. }), Some(policy)) if make_room(&maker, policy, check)? => {
                    notes.push(Note::DroppedOldest);
                }
                (begun, _) => break begun?,
            }
        };
        if notes.iter().any(|note| matches!(note, Note::DroppedOldest)) {
            let first = folder::open_next(&*storage, dir, 0, check)?;
            opening.first_seq = first.map_or(opening.first_seq, |first| first.header.first_seq);
        }
        if let Some(empty) = recovered.empty {
            // Only now: its header was the last that knew the seq to go on with.
            let _ = storage.remove(&empty);
        }
        let background = options.compress && options.allocation == Allocation::Background;
        let packer = Packer::new(Arc::clone(&storage), dir, background);
        let mut log = Log {
            packer,
            shelf: Shelf::default(),
            hint: Hint::create(&*storage, dir)?,
            check,
            storage,
            dir: dir.to_path_buf(),
            options,
            maker,
            segment,
            frames: Vec::new(),
            written: 0,
            last,
            durable: last,
            checkpoint_due: true,
            checkpoint: recovered.checkpoint,
            checkpoint_bytes: 0,
            since_checkpoint: 0,
            stated: 0,
            takeover: None,
            full_stop: false,
            broken: false,
            synced_at: Instant::now(),
            notes,
            tail: Arc::new(Tail::default()),
            bell: None,
            _lock: recovered.lock,
        };
        log.publish();
        log.compress_sealed();
        if log.storage.is_shared() {
            match Bell::hang(dir) {
                Ok(bell) => log.bell = Some(bell),
                Err(error) => log.notes.push(Note::NoSocket { error }),
            }
        }
        Ok((log, opening))
    }

    /// Appends records that belong together: after a crash all of them are there, or none. Returns the seq of the first.
    /// They count as recorded after [`Log::commit`].
    ///
    /// `checkpoint` is asked for the user's state, as it is before these records, when they are the first of a segment, and from
    /// time to time.
    ///
    /// # Errors
    /// In each case nothing was appended. [`Error::Full`] and [`Error::Io`]: the same append may be tried again.
    /// [`Error::TooLarge`]. [`Error::Poisoned`]: the log is finished.
    pub fn append(
        &mut self,
        entries: &[Entry<'_>],
        checkpoint: &mut dyn FnMut() -> Vec<Vec<u8>>,
    ) -> Result<u64, Error> {
        self.refuse_broken()?;
        let (before, first_seq) = (self.last, self.last.seq + 1);
        let Some(last) = entries.len().checked_sub(1) else { return Ok(first_seq) };
        let bytes = frames_bytes(entries.iter().map(|entry| entry.payload))?;
        if self.takeover.is_some() {
            self.take_over()?;
        }
        let due = self.checkpoint_due || self.since_checkpoint >= self.checkpoint_distance();
        let mut state = if due { checkpoint() } else { Vec::new() };
        let mut need = bytes + frames_bytes(state.iter().map(Vec::as_slice))?;
        if !self.fits(need) {
            self.sync()?;
            // A new segment follows: the roll below, or the one that took over if this sync failed.
            if state.is_empty() {
                state = checkpoint();
                need += frames_bytes(state.iter().map(Vec::as_slice))?;
            }
            if !self.fits(need) {
                self.roll(need)?;
            }
        }
        let (start, known) = (self.frames.len(), (self.checkpoint, self.checkpoint_bytes, self.since_checkpoint));
        let ts_recv = entries[0].ts_recv;
        if self.end() == DATA_START {
            self.segment.stated = true;
        }
        if !state.is_empty() {
            self.checkpoint = Some(Place { segment: self.segment.id, position: self.end(), seq: first_seq });
            self.checkpoint_bytes = need - bytes;
        }
        // A user without a state is not asked for it all the time.
        self.since_checkpoint = if due || !state.is_empty() { need } else { self.since_checkpoint + need };
        for payload in &state {
            self.push(RecordKind::Checkpoint, first_seq, ts_recv, true, payload);
        }
        for (nth, entry) in entries.iter().enumerate() {
            self.last = Last { seq: self.last.seq + 1, ts_recv: Some(entry.ts_recv) };
            self.push(RecordKind::Event, self.last.seq, entry.ts_recv, nth != last, entry.payload);
        }
        let was_due = std::mem::replace(&mut self.checkpoint_due, false);
        if self.options.mode == Mode::Os || self.frames.len() - self.written >= WRITE_BYTES {
            let written = self.write_out().or_else(|failure| {
                self.takeover = Some(failure);
                self.take_over()
            });
            if let Err(error) = written {
                self.frames.truncate(start);
                self.written = self.written.min(start);
                self.last = before;
                self.checkpoint_due = was_due;
                (self.checkpoint, self.checkpoint_bytes, self.since_checkpoint) = known;
                return Err(error);
            }
        }
        Ok(first_seq)
    }

    /// Makes what was appended durable and shows it to readers; returns the last durable seq. In `os` mode the sync may be
    /// left out, when the last one was less than a tenth of a second ago.
    ///
    /// # Errors
    /// [`Error::Full`]: the disk failed and there is no room for the segment that should take over; what was appended is
    /// kept, and may be committed later. [`Error::Poisoned`]: the disk failed twice; what is not durable is lost.
    pub fn commit(&mut self) -> Result<u64, Error> {
        if self.options.mode == Mode::Os && self.takeover.is_none() && self.synced_at.elapsed() < OS_SYNC_EVERY {
            self.refuse_broken()?;
            return Ok(self.durable.seq);
        }
        self.sync()
    }

    /// As [`Log::commit`], in every mode with a sync.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn sync(&mut self) -> Result<u64, Error> {
        self.refuse_broken()?;
        if self.takeover.is_some() {
            self.take_over()?;
        }
        if self.frames.is_empty() {
            return Ok(self.durable.seq);
        }
        let synced = self.write_out().and_then(|()| self.sync_file());
        if let Err(failure) = synced {
            self.takeover = Some(failure);
            self.take_over()?;
        } else {
            self.confirm();
        }
        Ok(self.durable.seq)
    }

    /// Asks for the user's state with the next append: what follows is read back quickly.
    pub fn checkpoint_next(&mut self) {
        self.checkpoint_due = true;
    }

    /// The seq that the next record gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.last.seq + 1
    }

    /// The last seq that survives a power cut; 0 = none.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.durable.seq
    }

    #[must_use]
    pub fn tape_id(&self) -> Uuid {
        self.maker.tape_id
    }

    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.maker.incarnation
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.options.mode
    }

    /// The durable end, for readers of this process.
    #[must_use]
    pub fn tail(&self) -> Arc<Tail> {
        Arc::clone(&self.tail)
    }

    /// What happened since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        if let Some(error) = self.maker.allocator.take_failure() {
            self.notes.push(Note::NothingAhead { error });
        }
        let failures = self.packer.take_failures().into_iter();
        self.notes.extend(failures.map(|(segment, error)| Note::NotCompressed { segment, error }));
        std::mem::take(&mut self.notes)
    }

    /// Ends in order: syncs, and cuts the last segment to its end, so that the next opening has nothing to scan for.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        self.seal(&self.segment);
        Ok(())
    }

    fn refuse_broken(&self) -> Result<(), Error> {
        if self.broken {
            let source = io::Error::other("the disk failed twice");
            return Err(Error::Poisoned { action: "an earlier call", source });
        }
        Ok(())
    }

    fn checkpoint_distance(&self) -> u64 {
        self.options.checkpoint_bytes.max(self.checkpoint_bytes.saturating_mul(CHECKPOINT_SHARE))
    }

    fn end(&self) -> u64 {
        self.segment.synced + self.frames.len() as u64
    }

    fn fits(&self, bytes: u64) -> bool {
        !self.full_stop && self.end() + bytes <= self.segment.capacity
    }

    fn push(&mut self, kind: RecordKind, seq: u64, ts_recv: i64, more: bool, payload: &[u8]) {
        let position = self.end();
        let head = Head { len: payload.len() as u32, seq, ts_recv, kind, more };
        self.check.push(&mut self.frames, self.segment.id, position, head, payload);
    }

    /// Hands to the system what it does not have yet.
    fn write_out(&mut self) -> Result<(), Failure> {
        let at = self.segment.synced + self.written as u64;
        folder::write_all(&*self.segment.file, &self.frames[self.written..], at)
            .map_err(|error| Failure { action: "writing", error })?;
        let appended = (self.frames.len() - self.written) as u64;
        self.written = self.frames.len();
        let (end, segment) = (self.end(), &mut self.segment);
        if end > segment.filled {
            segment.filled = grow(&*segment.file, end, appended, segment.capacity);
        }
        Ok(())
    }

    fn sync_file(&self) -> Result<(), Failure> {
        let synced = self.segment.file.sync_data();
        if synced.is_err() && self.storage.flaw(Flaw::RetryAfterEio) {
            return self.segment.file.sync_data().map_err(|error| Failure { action: "syncing", error });
        }
        synced.map_err(|error| Failure { action: "syncing", error })
    }

    /// What was appended is durable now.
    fn confirm(&mut self) {
        self.segment.synced += self.frames.len() as u64;
        self.frames.clear();
        self.frames.shrink_to(FRAMES_KEPT_BYTES);
        self.written = 0;
        self.durable = self.last;
        if self.segment.stated && self.segment.synced > DATA_START {
            self.stated = self.segment.id;
        }
        self.synced_at = Instant::now();
        self.publish();
    }

    fn publish(&self) {
        let durable = Durable {
            incarnation: self.maker.incarnation,
            segment: self.segment.id,
            position: self.segment.synced,
            seq: self.durable.seq,
        };
        self.hint.write(self.maker.tape_id, self.options.mode, durable);
        self.maker.allocator.keep_step(self.segment.synced, self.segment.capacity);
        self.tail.advance(durable, self.checkpoint);
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Goes on in a new segment with room for `need` bytes. Everything appended is synced.
    fn roll(&mut self, need: u64) -> Result<(), Error> {
        self.full_stop = true;
        let told = self.notes.len();
        let next = self.maker.begin(self.last, need, &mut self.notes)?;
        self.full_stop = false;
        let sealed = std::mem::replace(&mut self.segment, next);
        self.seal(&sealed);
        self.shelf.push(sealed.id, sealed.synced);
        if self.notes.len() > told {
            // A file that failed may still be there.
            self.shelf.forget();
        }
        self.checkpoint_due = true;
        self.publish();
        self.compress_sealed();
        Ok(())
    }

    fn compress_sealed(&self) {
        if self.options.compress {
            self.packer.seal_below(self.segment.id);
        }
    }

    /// Cuts a segment to its synced end. Best effort: whatever is behind it is void.
    fn seal(&self, segment: &Current) {
        let _ = segment.file.set_len(segment.synced);
    }

    /// Leaves the current segment after a failure, and appends again in a new one what was not synced.
    fn take_over(&mut self) -> Result<(), Error> {
        let Some(failure) = self.takeover.take() else { return Ok(()) };
        let next = match self.maker.begin(self.durable, self.frames.len() as u64, &mut self.notes) {
            Ok(next) => next,
            Err(full @ Error::Full { .. }) => {
                self.takeover = Some(failure);
                return Err(full);
            }
            Err(error) => return Err(self.give_up(error)),
        };
        self.full_stop = false;
        self.notes.push(Note::Poisoned { segment: self.segment.id, action: failure.action, error: failure.error });
        let failed = std::mem::replace(&mut self.segment, next);
        // What was never synced moves as a whole: then the state before it comes first here, too.
        self.segment.stated = failed.stated && failed.synced == DATA_START;
        let frames = std::mem::take(&mut self.frames);
        self.written = 0;
        let mut rest = frames.as_slice();
        while let Some(head) = Head::parse(rest) {
            let (frame, behind) = rest.split_at(head.frame_bytes() as usize);
            let payload = &frame[segment::HEAD_BYTES..][..head.len as usize];
            if head.kind == RecordKind::Checkpoint
                && let Some(checkpoint) = self.checkpoint.filter(|checkpoint| checkpoint.seq == head.seq)
                && checkpoint.segment != self.segment.id
            {
                let (segment, position) = (self.segment.id, self.end());
                self.checkpoint = Some(Place { segment, position, ..checkpoint });
            }
            self.push(head.kind, head.seq, head.ts_recv, head.more, payload);
            rest = behind;
        }
        let _ = failed.file.set_len(failed.synced);
        // More than one file may have been left behind.
        self.shelf.forget();
        self.checkpoint_due = true;
        if let Err(failure) = self.write_out().and_then(|()| self.sync_file()) {
            let path = self.dir.join(segment::file_name(self.segment.id));
            return Err(self.give_up(Error::io(failure.action, &path)(failure.error)));
        }
        self.confirm();
        Ok(())
    }

    fn give_up(&mut self, error: Error) -> Error {
        self.broken = true;
        match error {
            Error::Io { action, source, .. } => Error::Poisoned { action, source },
            other => other,
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.tail.close();
    }
}

/// Bytes that the records of these payloads take.
fn frames_bytes<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Result<u64, Error> {
    let mut bytes = 0;
    for payload in payloads {
        if payload.len() > MAX_PAYLOAD_BYTES {
            let limit_bytes = MAX_PAYLOAD_BYTES as u64;
            return Err(Error::TooLarge { what: "a record", bytes: payload.len() as u64, limit_bytes });
        }
        bytes += segment::frame_bytes(payload.len());
    }
    if bytes > MAX_APPEND_BYTES {
        return Err(Error::TooLarge { what: "an append", bytes, limit_bytes: MAX_APPEND_BYTES });
    }
    Ok(bytes)
}
