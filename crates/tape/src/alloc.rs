//! Segments are made ahead: writing into bytes that exist already halves every durable write.
//!
//! ```text
//! retention lets a segment go ─► ahead-<id> ─┐
//! the log's thread fills zeros ─► ahead ─────┴─► the next segment, by a rename
//! ```
//!
//! - A segment that was set free is used first: its bytes exist, and nothing has to be written. They are no records of the new
//!   segment, because segment id and position are part of each checksum. While one is at hand, no zeros are written.
//! - What is filled grows with the tape, from a few megabytes to the full size: a tape that records little costs little, and a
//!   new one does not begin with a second of zeros.
//! - Filling keeps step with the segment that is being written, and is done when that is half full. Each piece is synced
//!   before the next, so that a sync of the writer finds one piece in its way at most.
//! - A writer that needs the next segment before it is done takes what is filled by then, and fills the rest itself, a few
//!   appends' room at a time, with a sync that it makes anyway: one that grows by each append pays for each. While the writer is as fast
//!   as that, the thread rests: the disk has other things to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, is_full};
use crate::folder;
use crate::storage::{Storage, StorageFile};

/// Who fills the next segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// A thread of the log, slowly, so that the writer's own syncs do not queue behind it.
    #[default]
    Background,
    /// The writer itself, when it begins a segment: for tests, in which everything has an order.
    Inline,
    /// Nobody: files grow as they are written. What a writer meets that is faster than the filling.
    None,
}

/// The file that is filled with zeros.
pub(crate) const AHEAD_NAME: &str = "ahead";
/// Before the name of a segment that was set free.
const SPARE_PREFIX: &str = "ahead-";
/// Segments set free that are kept for use; more than these are removed.
const SPARES: usize = 2;
/// Zeros are written in pieces of this size: the longest that a sync of the writer may have to wait for …
const PIECE_BYTES: usize = 256 * 1024;
/// … or of this one, when the writer waits anyway, or soon will.
const HURRIED_PIECE_BYTES: usize = 1024 * 1024;
/// Between two pieces, when filling is behind the writer.
const SHORT_REST: Duration = Duration::from_millis(2);
/// Between two pieces, when it is not.
const LONG_REST: Duration = Duration::from_millis(100);
/// How often a rest looks whether the writer has come further.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A segment that must be made at once, because none is ahead, is small: opening a tape must not take long.
const HURRIED_BYTES: u64 = 1024 * 1024;
/// From so many bytes a second on, over the time of a look, zeros would cost the writer more than they save.
const FAST_BYTES_PER_S: f64 = 200e6;
/// The first one that is filled ahead; each further one is four times as large, up to the size of a segment.
const FIRST_BYTES: u64 = 4 * 1024 * 1024;
const GROWTH: u64 = 4;

/// A writer that is faster than the filling fills so many times what it appends …
const GROWTH_APPENDS: u64 = 8;
/// … within these bounds: what is filled delays that append, and each filling costs a commit of the file's new size.
const GROWTH_BYTES: std::ops::RangeInclusive<u64> = 256 * 1024..=4 * 1024 * 1024;

/// Whether a file of the tape's folder is one that can become a segment.
pub(crate) fn is_ahead(name: &str) -> bool {
    name == AHEAD_NAME || name.starts_with(SPARE_PREFIX)
}

/// A file that can become a segment.
#[derive(Debug)]
pub(crate) struct Blank {
    pub file: Arc<dyn StorageFile>,
    pub bytes: u64,
    /// So many of them exist on disk.
    pub filled: u64,
    /// Not known to be zeros.
    pub recycled: bool,
}

/// Makes bytes of a file exist behind an append that ends at `end`, for the next sync to keep; returns up to where. Should it
/// fail, the appends themselves will make the file grow, or say that they cannot.
pub(crate) fn grow(file: &dyn StorageFile, end: u64, appended: u64, capacity: u64) -> u64 {
    let more = (GROWTH_APPENDS * appended).clamp(*GROWTH_BYTES.start(), *GROWTH_BYTES.end());
    let to = capacity.min(end + more);
    let zeros = vec![0; HURRIED_PIECE_BYTES.min(usize::try_from(to.saturating_sub(end)).unwrap_or(0))];
    let mut at = end;
    while at < to {
        let piece = zeros.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        if folder::write_all(file, &zeros[..piece], at).is_err() {
            return capacity;
        }
        at += piece as u64;
    }
    to
}

#[derive(Debug)]
pub(crate) struct Allocator {
    shared: Arc<Shared>,
    mode: Allocation,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// How far the segment that is being written is used, and its size, in bytes.
    used: AtomicU64,
    capacity: AtomicU64,
    /// All that was written to segments so far, in bytes.
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Those set free come before the one that was filled.
    ready: Vec<Spare>,
    fill: Fill,
    /// The writer waits for a file of so many bytes.
    claimed: Option<u64>,
    /// Size of the next file to make.
    next_bytes: u64,
    stop: bool,
    /// Why the last filling failed; told once.
    failure: Option<io::Error>,
}

#[derive(Debug)]
struct Spare {
    name: String,
    bytes: u64,
    recycled: bool,
    /// Taken before it was done: it will grow.
    unfinished: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fill {
    #[default]
    None,
    Wanted,
    /// So many bytes are zeros, and synced.
    Under {
        way: u64,
    },
}

impl Allocator {
    /// Takes over the files that an earlier life left ahead, whatever is in them.
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, segment_bytes: u64, mode: Allocation) -> Self {
        let ready = left_ahead(&*storage, dir, HURRIED_BYTES.min(segment_bytes / 2));
        let next_bytes = match mode {
            Allocation::Inline | Allocation::None => segment_bytes,
            Allocation::Background => segment_bytes.min(FIRST_BYTES),
        };
        let shared = Arc::new(Shared {
            storage,
            dir: dir.to_path_buf(),
            segment_bytes,
            state: Mutex::new(State { ready, next_bytes, ..State::default() }),
            changed: Condvar::new(),
            used: AtomicU64::new(0),
            capacity: AtomicU64::new(1),
            written: AtomicU64::new(0),
        });
        let worker = match mode {
            Allocation::Inline | Allocation::None => None,
            Allocation::Background => {
                let shared = Arc::clone(&shared);
                // Without the thread each segment is made when it is needed: slower, and right.
                std::thread::Builder::new().name("tape-ahead".into()).spawn(move || shared.work()).ok()
            }
        };
        Allocator { shared, mode, worker }
    }

    /// A file under `path` for a segment of at least `need` bytes. Its name is not synced yet.
    ///
    /// # Errors
    /// [`Error::Full`] when there is neither a file ahead nor space for one.
    pub(crate) fn take(&self, path: &Path, need: u64) -> Result<Blank, Error> {
        let shared = &self.shared;
        if let Some(Spare { name, bytes, recycled, unfinished }) = shared.claim(need) {
            let renamed = shared.storage.rename(&shared.dir.join(name), path);
            if let Ok(file) = renamed.and_then(|()| shared.storage.open(path, false)) {
                let filled = bytes;
                let bytes = if unfinished { shared.segment_bytes.max(need) } else { bytes };
                return Ok(Blank { file, bytes, filled, recycled: recycled || unfinished });
            }
            // Whatever became of it, a fresh file is as good.
            let _ = shared.storage.remove(path);
        }
        let bytes = match self.mode {
            Allocation::Inline | Allocation::None => shared.segment_bytes.max(need),
            Allocation::Background => shared.segment_bytes.min(HURRIED_BYTES).max(need),
        };
        let made = shared.storage.open(path, true).and_then(|file| {
            if self.mode != Allocation::None {
                shared.fill(&*file, bytes, false)?;
            }
            Ok(file)
        });
        match made {
            Ok(file) if self.mode == Allocation::None => Ok(Blank { file, bytes, filled: 0, recycled: true }),
            Ok(file) => Ok(Blank { file, bytes, filled: bytes, recycled: false }),
            Err(error) => {
                let _ = shared.storage.remove(path);
                if is_full(&error) {
                    return Err(Error::Full { dir: shared.dir.clone(), need_bytes: bytes });
                }
                Err(Error::io("allocating", path)(error))
            }
        }
    }

    /// Asks for the next file, now that the last one is in use.
    pub(crate) fn refill(&self) {
        let mut state = self.shared.lock();
        if !state.ready.is_empty() || state.fill != Fill::None {
            return;
        }
        if self.worker.is_some() {
            state.fill = Fill::Wanted;
            self.shared.changed.notify_all();
        } else if self.mode == Allocation::Inline {
            drop(state);
            self.shared.make();
        }
    }

    /// How far the segment that is being written is used: filling keeps step with it.
    pub(crate) fn keep_step(&self, used: u64, capacity: u64) {
        let before = self.shared.used.swap(used, Ordering::Relaxed);
        self.shared.written.fetch_add(used.checked_sub(before).unwrap_or(used), Ordering::Relaxed);
        self.shared.capacity.store(capacity.max(1), Ordering::Relaxed);
    }

    /// Keeps the file of a segment that is no longer needed as one to come, or removes it. The folder is not synced.
    pub(crate) fn give_back(&self, path: &Path) -> io::Result<()> {
        let shared = &self.shared;
        let bytes = shared.storage.open_read(path)?.len_bytes()?;
        let mut state = shared.lock();
        let spares = state.ready.iter().filter(|spare| spare.recycled).count();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        // Sealed segments are cut to their end, a little below their size.
        if let Some(stem) = stem.filter(|_| spares < SPARES && bytes >= shared.segment_bytes / 2) {
            let name = format!("{SPARE_PREFIX}{stem}");
            shared.storage.rename(path, &shared.dir.join(&name))?;
            state.ready.insert(spares, Spare { name, bytes, recycled: true, unfinished: false });
            return Ok(());
        }
        drop(state);
        shared.storage.remove(path)
    }

    /// Bytes of the files that are ahead by now.
    pub(crate) fn bytes(&self) -> u64 {
        let state = self.shared.lock();
        let under_way = if let Fill::Under { way } = state.fill { way } else { 0 };
        state.ready.iter().map(|spare| spare.bytes).sum::<u64>() + under_way
    }

    /// Why no file could be made ahead, if that happened since the last call.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.shared.lock().failure.take()
    }

    /// Waits until a file is ahead or could not be made.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        let mut state = self.shared.lock();
        while state.fill != Fill::None {
            state = self.shared.changed.wait(state).unwrap();
        }
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Files that lie ahead, if they are of any use.
fn left_ahead(storage: &dyn Storage, dir: &Path, least: u64) -> Vec<Spare> {
    let mut names = storage.list(dir).unwrap_or_default();
    names.retain(|name| is_ahead(name));
    // The one that may be all zeros comes last.
    names.sort_unstable_by_key(|name| name == AHEAD_NAME);
    let spare = |name: String| {
        let path = dir.join(&name);
        let bytes = storage.open_read(&path).and_then(|file| file.len_bytes()).unwrap_or(0);
        if bytes < least && name != AHEAD_NAME {
            // Nobody else would.
            let _ = storage.remove(&path);
        }
        (bytes >= least).then_some(Spare { name, bytes, recycled: true, unfinished: false })
    };
    names.into_iter().filter_map(spare).collect()
}

/// What a rest between two pieces ended with.
enum Rested {
    Go,
    /// The writer takes what is there.
    Taken,
    Stop,
}

/// How fast the writer is.
struct Speed {
    at: Instant,
    written: u64,
    fast: bool,
}

impl Speed {
    fn look(&mut self, written: u64) {
        let since = self.at.elapsed();
        if since >= LOOK_EVERY / 2 {
            self.fast = (written - self.written) as f64 > FAST_BYTES_PER_S * since.as_secs_f64();
            (self.at, self.written) = (Instant::now(), written);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The smallest file worth having.
    fn least(&self) -> u64 {
        self.segment_bytes.min(HURRIED_BYTES)
    }

    /// A file for at least `need` bytes. One that is being filled is taken as it is: a piece that is under way is waited for.
    fn claim(&self, need: u64) -> Option<Spare> {
        let mut state = self.lock();
        loop {
            if let Some(at) = state.ready.iter().position(|spare| spare.bytes >= need || spare.unfinished) {
                state.claimed = None;
                let spare = state.ready.remove(at);
                // A tape that was written for long goes on with full segments.
                state.next_bytes = state.next_bytes.max(spare.bytes.min(self.segment_bytes));
                return Some(spare);
            }
            if state.fill == Fill::None {
                state.claimed = None;
                return None;
            }
            state.claimed = Some(need);
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            while state.fill != Fill::Wanted && !state.stop {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            state.fill = Fill::Under { way: 0 };
            drop(state);
            self.make();
        }
    }

    /// Makes `ahead`.
    fn make(&self) {
        let path = self.dir.join(AHEAD_NAME);
        let state = self.lock();
        let paced = state.fill != Fill::None;
        let goal = state.next_bytes;
        drop(state);
        let mut made = self.make_file(&path, goal, paced);
        let mut grown = goal.saturating_mul(GROWTH);
        if made.as_ref().is_err_and(is_full) && goal > self.least() {
            // Nearly full: a small segment ahead is one that others' files still fit beside.
            made = self.make_file(&path, self.least(), paced);
            grown = self.least().saturating_mul(2);
        }
        let mut state = self.lock();
        state.fill = Fill::None;
        match made {
            Ok(bytes) => {
                let unfinished = state.claimed.is_some();
                state.ready.push(Spare { name: AHEAD_NAME.to_owned(), bytes, recycled: false, unfinished });
                state.next_bytes = grown.min(self.segment_bytes);
            }
            Err(error) => {
                let _ = self.storage.remove(&path);
                state.next_bytes = self.least();
                state.failure = Some(error);
            }
        }
        self.changed.notify_all();
    }

    fn make_file(&self, path: &Path, bytes: u64, paced: bool) -> io::Result<u64> {
        let file = self.storage.open(path, true)?;
        file.set_len(0)?;
        self.fill(&*file, bytes, paced)
    }

    /// Fills a new file with zeros and syncs it; returns how many there are. Paced, the writer's pace and its claim are obeyed,
    /// and the thread's stop.
    fn fill(&self, file: &dyn StorageFile, bytes: u64, paced: bool) -> io::Result<u64> {
        let zeros = vec![0; HURRIED_PIECE_BYTES.min(usize::try_from(bytes).unwrap_or(HURRIED_PIECE_BYTES))];
        let mut filled = 0;
        let mut speed = Speed { at: Instant::now(), written: self.written.load(Ordering::Relaxed), fast: false };
        while filled < bytes {
            if paced {
                match self.rest(filled, bytes, &mut speed) {
                    Rested::Go => {}
                    Rested::Taken => return Ok(filled),
                    // The next life takes it up, if it is worth it.
                    Rested::Stop if filled >= self.least() => return Ok(filled),
                    Rested::Stop => return Err(io::ErrorKind::Interrupted.into()),
                }
            }
            let most = if paced && !self.is_late() { PIECE_BYTES } else { HURRIED_PIECE_BYTES };
            let piece = most.min(zeros.len()).min(usize::try_from(bytes - filled).unwrap_or(usize::MAX));
            folder::write_all(file, &zeros[..piece], filled)?;
            filled += piece as u64;
            if paced {
                file.sync_data()?;
            }
        }
        if !paced {
            file.sync_data()?;
        }
        Ok(filled)
    }

    /// Whether the writer will come before the file is done at leisure.
    fn is_late(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.capacity.load(Ordering::Relaxed) / 2
    }

    /// Lets the writer's syncs pass before the next piece.
    fn rest(&self, filled: u64, goal: u64, speed: &mut Speed) -> Rested {
        let began = Instant::now();
        let mut state = self.lock();
        state.fill = Fill::Under { way: filled };
        loop {
            if state.stop {
                return Rested::Stop;
            }
            if state.claimed.is_some() {
                return Rested::Taken;
            }
            speed.look(self.written.load(Ordering::Relaxed));
            let (used, capacity) = (self.used.load(Ordering::Relaxed), self.capacity.load(Ordering::Relaxed));
            let done = filled as f64 / goal as f64;
            let wanted = 2.0 * used as f64 / capacity as f64;
            let rest = if !state.ready.is_empty() {
                // A segment was set free meanwhile: zeros are not needed now.
                Duration::MAX
            } else if speed.fast {
                began.elapsed() + LOOK_EVERY
            } else if wanted > 1.0 {
                Duration::ZERO
            } else if wanted > done {
                SHORT_REST
            } else {
                LONG_REST
            };
            let left = rest.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Rested::Go;
            }
            let look = if state.ready.is_empty() { left.min(LOOK_EVERY) } else { left.min(Duration::from_secs(3600)) };
            state = self.changed.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
