//! Reading: from any place, in order, over holes, up to the synced end and never past it.
//!
//! Where the end is, a reader learns from the [`Tail`] in the writer's process, from the hint and the socket in another one,
//! and without a writer from the records themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::folder::{self, SegmentFile};
use crate::log::Mode;
use crate::recover::LOCK_NAME;
use crate::scan::{Frame, Hole, Step, Walk, is_checkpoint_at, last_checkpoint, scan_last};
use crate::segment::{Check, RecordKind};
use crate::storage::Storage;
use crate::tail::{Durable, Hint, Hinted, Place, Tail, Woken};
use crate::wake::{Ear, Heard};

/// How often a reader looks when nobody can wake it: there is no writer, or no socket.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The hint is rewritten while it is read now and then; more tries than this are never needed.
const HINT_TRIES: u32 = 8;

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record there is.
    Begin,
    /// At this seq; if it is gone, with a hole. A seq that is not written yet is waited for.
    Seq(u64),
    /// At the first record received at or after this time, ns since the epoch.
    Time(i64),
    /// At the last whole checkpoint, or at the oldest record if there is none. Where a checkpoint is damaged, an earlier one
    /// serves, and what was recorded since is read again.
    Checkpoint,
    /// At the first record of the segment that holds this seq, with the state that the segment begins with at hand, if it
    /// begins with one: for whoever needs to know what was known at that seq. Later if it is gone.
    Segment(u64),
    /// Behind the last durable record.
    End,
}

/// What a reader is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Record(RawRecord<'a>),
    /// These seqs cannot be read: damaged, or removed before this reader came to them.
    Hole(Hole),
}

/// A record as it lies on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    pub seq: u64,
    /// ns since the epoch
    pub ts_recv: i64,
    pub payload: &'a [u8],
}

/// A reader of the tape.
#[derive(Debug)]
pub struct Reader {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    check: Check,
    feed: Feed,
    known: Durable,
    walk: Option<Walk>,
    /// The end that the walk was given is the end of its segment; otherwise it is how far the segment was durable.
    sealed: bool,
    next_seq: u64,
    /// Records before this time are passed over.
    from_ts: Option<i64>,
    /// Found, but not given out yet.
    held: Option<Found>,
    checkpoint_seq: u64,
    checkpoint: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Feed {
    Local(Arc<Tail>),
    /// A writer lives in another process. Without an ear the hint is looked at from time to time.
    Remote {
        hint: Hint,
        ear: Option<Ear>,
    },
    /// No writer lives: what is there is all there is. The hint is kept to see that one has been here.
    Quiet {
        seen: Option<Durable>,
        checkpoint: Option<Place>,
    },
}

#[derive(Debug)]
enum Found {
    Record(Frame),
    Hole(Hole),
}

impl Reader {
    /// A reader in any process.
    ///
    /// # Errors
    /// [`Error::NoTape`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn open(storage: Arc<dyn Storage>, dir: &Path, start: Start) -> Result<Reader, Error> {
        let mut reader = Reader::new(storage, dir, Feed::Quiet { seen: None, checkpoint: None });
        let first = match folder::open_next(&*reader.storage, dir, 0, reader.check) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            answer => answer?,
        };
        if first.is_none() {
            return Err(Error::NoTape { dir: dir.to_path_buf() });
        }
        if !reader.find_writer()? {
            reader.look_without_writer()?;
        }
        reader.start(start)?;
        Ok(reader)
    }

    /// A reader in the writer's process.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NewerFormat`].
    pub fn open_with(storage: Arc<dyn Storage>, dir: &Path, start: Start, tail: Arc<Tail>) -> Result<Reader, Error> {
        let mut reader = Reader::new(storage, dir, Feed::Local(tail));
        reader.refresh();
        reader.start(start)?;
        Ok(reader)
    }

    fn new(storage: Arc<dyn Storage>, dir: &Path, feed: Feed) -> Reader {
        Reader {
            check: Check::of(&*storage),
            storage,
            dir: dir.to_path_buf(),
            feed,
            known: Durable::default(),
            walk: None,
            sealed: false,
            next_seq: 1,
            from_ts: None,
            held: None,
            checkpoint_seq: 0,
            checkpoint: Vec::new(),
        }
    }

    /// The next record or hole; `None` at the durable end.
    ///
    /// # Errors
    /// [`Error::NewerFormat`]; [`Error::Io`] when files cannot be listed or opened. The call may be repeated.
    // Not an iterator: what it gives lies in its own buffer.
    #[expect(clippy::should_implement_trait, reason = "a record borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Error> {
        let found = match self.held.take() {
            Some(found) => Some(found),
            None => self.find()?,
        };
        Ok(match (found, &self.walk) {
            (Some(Found::Hole(hole)), _) => {
                self.next_seq = hole.to_seq + 1;
                Some(Item::Hole(hole))
            }
            (Some(Found::Record(frame)), Some(walk)) => {
                self.next_seq = frame.head.seq + 1;
                let payload = walk.payload(&frame);
                Some(Item::Record(RawRecord { seq: frame.head.seq, ts_recv: frame.head.ts_recv, payload }))
            }
            _ => None,
        })
    }

    /// Waits until there is more to read.
    ///
    /// # Errors
    /// [`Error::Io`], when the tape of a writer that has gone is looked at.
    pub fn wait(&mut self, timeout: Duration) -> Result<Woken, Error> {
        if self.held.is_some() {
            return Ok(Woken::More);
        }
        let until = Instant::now().checked_add(timeout);
        loop {
            self.refresh();
            if self.known.seq >= self.next_seq {
                return Ok(Woken::More);
            }
            let left = until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            let last_seq = self.next_seq - 1;
            match &mut self.feed {
                Feed::Local(tail) => return Ok(tail.wait_past(last_seq, left)),
                Feed::Remote { ear: Some(ear), .. } => match ear.listen(left) {
                    Heard::Gone => {
                        if !self.writer_lives() {
                            return self.lose_writer();
                        }
                        // Only the socket is gone. The hint still says what is synced; the records themselves do not.
                        self.lose_ear();
                    }
                    Heard::Ring => {}
                    Heard::Nothing if left.is_zero() => return Ok(Woken::Timeout),
                    Heard::Nothing => {}
                },
                Feed::Remote { ear: None, .. } => {
                    if !self.writer_lives() {
                        return self.lose_writer();
                    }
                    if left.is_zero() {
                        return Ok(Woken::Timeout);
                    }
                    std::thread::sleep(left.min(LOOK_EVERY));
                }
                Feed::Quiet { seen, .. } => {
                    let seen = *seen;
                    if self.find_writer()? {
                        continue;
                    }
                    // A writer may have come and gone meanwhile.
                    if self.read_hint() != seen {
                        self.look_without_writer()?;
                        continue;
                    }
                    if left.is_zero() {
                        return Ok(Woken::WriterGone);
                    }
                    std::thread::sleep(left.min(LOOK_EVERY));
                }
            }
        }
    }

    /// The seq of the next record.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.next_seq
    }

    /// The last durable seq, as far as this reader knows.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.known.seq
    }

    pub(crate) fn durable(&self) -> Durable {
        self.known
    }

    /// How the living writer confirms records.
    pub(crate) fn writer_mode(&self) -> Option<Mode> {
        match &self.feed {
            Feed::Remote { .. } => self.read_hinted()?.mode,
            _ => None,
        }
    }

    /// The user's state as the segment in which the reader stands began with it; empty when it has none. With
    /// [`Start::Checkpoint`] it is there before the first record is asked for.
    #[must_use]
    pub fn checkpoint(&self) -> &[Vec<u8>] {
        &self.checkpoint
    }

    fn start(&mut self, start: Start) -> Result<(), Error> {
        match start {
            Start::Begin => self.enter_oldest()?,
            Start::Seq(seq) => {
                let seq = seq.max(1);
                self.enter_holding(seq)?;
                self.next_seq = seq;
            }
            Start::Time(from_ts) => {
                self.enter_first(|check, file| {
                    Ok(Walk::first_record(&file.bytes, file.id, file.len_bytes, check)
                        .is_some_and(|first| first.ts_recv <= from_ts))
                })?;
                self.from_ts = Some(from_ts);
            }
            Start::Checkpoint => {
                let place = self.checkpoint_place()?;
                // Newest first: each one's seqs end where the one looked at before it begins.
                let (durable, mut seq_end) = (self.known, u64::MAX);
                let mut found = place;
                self.enter_first(|check, file| {
                    if let Some(place) = place {
                        return Ok(file.id == place.segment);
                    }
                    let end = if file.id == durable.segment { durable.position } else { file.len_bytes };
                    found = last_checkpoint(file, end, seq_end, check);
                    seq_end = file.header.first_seq;
                    Ok(found.is_some())
                })?;
                let entered = self.walk.as_mut().zip(found).filter(|(walk, place)| walk.segment() == place.segment);
                if let Some((walk, place)) = entered {
                    walk.skip_to(place.position, place.seq - 1);
                    self.next_seq = place.seq;
                }
                self.held = self.find()?;
                if found.is_none() {
                    // What was passed on the way is not known to be whole.
                    self.checkpoint.clear();
                }
            }
            Start::Segment(seq) => {
                self.enter_first(|_, file| Ok(file.header.first_seq <= seq.max(1)))?;
                self.held = self.find()?;
            }
            Start::End => {
                let tail = self.known;
                self.enter_first(|_, file| Ok(file.id <= tail.segment))?;
                if let Some(walk) = self.walk.as_mut().filter(|walk| walk.segment() == tail.segment) {
                    walk.skip_to(tail.position, tail.seq);
                }
                self.next_seq = tail.seq + 1;
            }
        }
        Ok(())
    }

    /// Where the last checkpoint stands, if that is known without reading the tape for it, and it is whole.
    fn checkpoint_place(&self) -> Result<Option<Place>, Error> {
        let known = match &self.feed {
            Feed::Local(tail) => tail.checkpoint(),
            Feed::Quiet { checkpoint, .. } => *checkpoint,
            Feed::Remote { .. } => None,
        };
        let Some(place) = known.filter(|place| place.segment <= self.known.segment) else { return Ok(None) };
        let file = folder::open(&*self.storage, &self.dir, place.segment, self.check)?;
        Ok(file.filter(|file| is_checkpoint_at(file, place, file.len_bytes, self.check)).map(|_| place))
    }

    /// Enters the oldest readable segment.
    fn enter_oldest(&mut self) -> Result<(), Error> {
        let next = folder::open_next(&*self.storage, &self.dir, 0, self.check)?;
        if let Some(file) = next.filter(|file| file.id <= self.known.segment) {
            self.next_seq = file.header.first_seq;
            self.enter(&file)?;
        }
        Ok(())
    }

    /// Enters the last readable segment that begins with `seq` or before it, or else the first one there is. First seqs rise with
    /// the ids, so that few segments are opened to find it.
    fn enter_holding(&mut self, seq: u64) -> Result<(), Error> {
        let mut ids = folder::list(&*self.storage, &self.dir)?;
        ids.retain(|id| *id <= self.known.segment);
        let (mut from, mut to) = (0, ids.len());
        let (mut held_by, mut oldest) = (None, None);
        while from < to {
            let middle = from + (to - from) / 2;
            // The next one that can be read stands for those before it.
            let mut at = middle;
            let file = loop {
                let Some(id) = ids[..to].get(at) else { break None };
                match folder::open(&*self.storage, &self.dir, *id, self.check)? {
                    Some(file) => break Some(file),
                    None => at += 1,
                }
            };
            match file {
                Some(file) if file.header.first_seq <= seq => {
                    from = at + 1;
                    held_by = Some(file);
                }
                Some(file) => {
                    to = middle;
                    oldest = Some(file);
                }
                None => to = middle,
            }
        }
        if let Some(file) = held_by.or(oldest) {
            self.next_seq = file.header.first_seq;
            self.enter(&file)?;
        }
        Ok(())
    }

    /// Enters the last readable segment that is `wanted`, or else the first one there is.
    fn enter_first(&mut self, mut wanted: impl FnMut(Check, &SegmentFile) -> Result<bool, Error>) -> Result<(), Error> {
        let ids = folder::list(&*self.storage, &self.dir)?;
        let mut first = None;
        for id in ids.into_iter().rev().filter(|id| *id <= self.known.segment) {
            let Some(file) = folder::open(&*self.storage, &self.dir, id, self.check)? else { continue };
            let found = wanted(self.check, &file)?;
            first = Some(file);
            if found {
                break;
            }
        }
        if let Some(file) = first {
            self.next_seq = file.header.first_seq;
            self.enter(&file)?;
        }
        Ok(())
    }

    fn enter(&mut self, file: &SegmentFile) -> Result<(), Error> {
        self.sealed = file.id != self.known.segment;
        let (end, seq_end) = if self.sealed {
            (file.len_bytes, self.first_seq_behind(file.id)?)
        } else {
            (self.known.position, u64::MAX)
        };
        match &mut self.walk {
            Some(walk) => walk.enter(file, end, seq_end),
            None => self.walk = Some(Walk::new(file, end, seq_end, self.check)),
        }
        self.checkpoint.clear();
        Ok(())
    }

    /// Where the seqs of a sealed segment end: with the first one of the next.
    fn first_seq_behind(&self, id: u64) -> Result<u64, Error> {
        let next = folder::open_next(&*self.storage, &self.dir, id + 1, self.check)?;
        Ok(next.map_or(u64::MAX, |next| next.header.first_seq))
    }

    /// Finds what comes next. What it finds is not passed yet: `next_seq` is moved when it is given out.
    fn find(&mut self) -> Result<Option<Found>, Error> {
        loop {
            let Some(walk) = &mut self.walk else {
                // The tape had no readable segment when this reader was opened.
                self.refresh();
                self.enter_oldest()?;
                if self.walk.is_none() {
                    return Ok(None);
                }
                continue;
            };
            match walk.step() {
                Step::Frame(frame) => {
                    if let Some(found) = self.consider(frame) {
                        return Ok(Some(found));
                    }
                }
                Step::Damage(_) => {}
                Step::End => {
                    let at = walk.segment();
                    if !self.sealed {
                        // `known` may have moved since the walk was given its end: by a wait, for one.
                        let at_the_end = at == self.known.segment && walk.end() >= self.known.position;
                        if at_the_end && !self.refresh() {
                            return Ok(self.hole_before(self.known.seq + 1));
                        }
                        self.extend(at)?;
                    } else if let Some(found) = self.enter_next(at)? {
                        return Ok(Some(found));
                    } else if self.walk.as_ref().is_none_or(|walk| walk.segment() == at) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// What a record means to this reader.
    fn consider(&mut self, frame: Frame) -> Option<Found> {
        let (seq, ts_recv) = (frame.head.seq, frame.head.ts_recv);
        if frame.head.kind == RecordKind::Checkpoint {
            if self.checkpoint_seq != seq {
                self.checkpoint.clear();
                self.checkpoint_seq = seq;
            }
            if let Some(walk) = &self.walk {
                self.checkpoint.push(walk.payload(&frame).to_vec());
            }
            return None;
        }
        if seq < self.next_seq {
            return None;
        }
        if let Some(from_ts) = self.from_ts {
            if ts_recv < from_ts {
                self.next_seq = seq + 1;
                return None;
            }
            self.from_ts = None;
            self.next_seq = seq;
        }
        if let Some(hole) = self.hole_before(seq) {
            self.held = Some(Found::Record(frame));
            return Some(hole);
        }
        Some(Found::Record(frame))
    }

    fn hole_before(&self, seq: u64) -> Option<Found> {
        // Before the time that was asked for nothing is missed.
        let missed = seq > self.next_seq && self.from_ts.is_none();
        missed.then(|| Found::Hole(Hole { from_seq: self.next_seq, to_seq: seq - 1 }))
    }

    /// The durable end has moved, in this segment or out of it.
    fn extend(&mut self, at: u64) -> Result<(), Error> {
        let seq_end = if at == self.known.segment { None } else { Some(self.first_seq_behind(at)?) };
        if let Some(walk) = &mut self.walk {
            // What is open is read to its end, even if its name is gone by now.
            let end = if seq_end.is_some() { walk.len_bytes() } else { self.known.position };
            walk.extend(end.max(walk.position()), seq_end.unwrap_or(u64::MAX));
        }
        self.sealed = seq_end.is_some();
        Ok(())
    }

    /// Goes on from a sealed segment; what is missing between the two is a hole.
    fn enter_next(&mut self, at: u64) -> Result<Option<Found>, Error> {
        let next = folder::open_next(&*self.storage, &self.dir, at + 1, self.check)?;
        let Some(file) = next.filter(|file| file.id <= self.known.segment) else {
            return Ok(self.hole_before(self.known.seq + 1));
        };
        let first_seq = file.header.first_seq;
        self.enter(&file)?;
        Ok(self.hole_before(first_seq))
    }

    /// Learns how far the tape is durable; says whether that changed.
    fn refresh(&mut self) -> bool {
        let before = self.known;
        let now = match &self.feed {
            Feed::Local(tail) => Some(tail.durable()),
            Feed::Remote { .. } => self.read_hint(),
            Feed::Quiet { .. } => None,
        };
        // The hint of a writer that is just opening is the one of the writer before it.
        if let Some(now) = now.filter(|now| (now.segment, now.position) > (before.segment, before.position)) {
            self.known = now;
        }
        self.known != before
    }

    fn read_hint(&self) -> Option<Durable> {
        self.read_hinted().map(|hinted| hinted.durable)
    }

    fn read_hinted(&self) -> Option<Hinted> {
        let opened;
        let hint = match &self.feed {
            Feed::Remote { hint, .. } => hint,
            _ => {
                opened = Hint::open(&*self.storage, &self.dir)?;
                &opened
            }
        };
        (0..HINT_TRIES).find_map(|_| hint.read())
    }

    /// Takes up with a writer in another process, if one lives.
    fn find_writer(&mut self) -> Result<bool, Error> {
        let ear = if self.storage.is_shared() { Ear::open(&self.dir) } else { None };
        if ear.is_none() && !self.writer_lives() {
            return Ok(false);
        }
        let Some(hint) = Hint::open(&*self.storage, &self.dir) else { return Ok(false) };
        self.feed = Feed::Remote { hint, ear };
        self.refresh();
        if self.known == Durable::default() {
            // Its hint is lost. All but the last segment is synced in any case.
            self.look_at_sealed()?;
        }
        Ok(true)
    }

    fn writer_lives(&self) -> bool {
        let held = self.storage.lock(&self.dir.join(LOCK_NAME));
        held.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn lose_ear(&mut self) {
        if let Feed::Remote { ear, .. } = &mut self.feed {
            *ear = None;
        }
    }

    fn lose_writer(&mut self) -> Result<Woken, Error> {
        self.refresh();
        self.look_without_writer()?;
        Ok(if self.known.seq >= self.next_seq { Woken::More } else { Woken::WriterGone })
    }

    /// Without a writer the records say where the end is. They are synced before they are believed, so that what a reader has
    /// seen survives a power cut.
    fn look_without_writer(&mut self) -> Result<(), Error> {
        self.feed = Feed::Quiet { seen: None, checkpoint: None };
        let seen = self.read_hint();
        self.feed = Feed::Quiet { seen, checkpoint: None };
        let ids = folder::list(&*self.storage, &self.dir)?;
        for id in ids.into_iter().rev() {
            let Some(file) = folder::open(&*self.storage, &self.dir, id, self.check)? else { continue };
            file.bytes.sync_data().map_err(Error::io("syncing", &file.path))?;
            let scan = scan_last(&file, self.check);
            self.feed = Feed::Quiet { seen, checkpoint: scan.checkpoint };
            let found = Durable {
                incarnation: file.header.incarnation,
                segment: file.id,
                position: scan.end,
                seq: scan.last_seq,
            };
            if (found.segment, found.position) > (self.known.segment, self.known.position) {
                self.known = found;
            }
            break;
        }
        Ok(())
    }

    fn look_at_sealed(&mut self) -> Result<(), Error> {
        let ids = folder::list(&*self.storage, &self.dir)?;
        for id in ids.into_iter().rev() {
            if let Some(file) = folder::open(&*self.storage, &self.dir, id, self.check)? {
                let seq = file.header.first_seq - 1;
                self.known = Durable { segment: id, position: 0, seq, incarnation: file.header.incarnation };
                break;
            }
        }
        Ok(())
    }
}
