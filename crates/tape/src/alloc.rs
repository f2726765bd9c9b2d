//! Segments are made ahead: writing into bytes that exist already halves every durable write.
//!
//! One file, `ahead`, waits zero-filled and synced, and becomes the next segment by a rename. A segment that retention
//! sets free becomes `ahead` instead, when none is waiting: its old bytes are no records of the new
//! segment, because segment id and position are part of each checksum.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

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
}

pub(crate) const AHEAD_NAME: &str = "ahead";
/// Zeros are written in slices of this size …
const SLICE_BYTES: usize = 1024 * 1024;
/// … with this rest between them: about 200 MB/s at most, twice what the tape is asked to take.
const SLICE_REST: Duration = Duration::from_millis(3);
/// A segment that must be made at once, because none is ahead, is small: opening a tape must not take long.
const HURRIED_BYTES: u64 = 1024 * 1024;

/// A file that can become a segment.
#[derive(Debug)]
pub(crate) struct Blank {
    pub file: Arc<dyn StorageFile>,
    pub bytes: u64,
    /// Not known to be zeros.
    pub recycled: bool,
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
}

#[derive(Debug, Default)]
struct State {
    ahead: Ahead,
    /// Size of the next file to make: the full one, unless the disk was full.
    next_bytes: u64,
    stop: bool,
    /// Why the last filling failed; told once.
    failure: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ahead {
    #[default]
    None,
    Wanted,
    Filling,
    Ready {
        bytes: u64,
        recycled: bool,
    },
}

impl Allocator {
    /// Takes over a file that an earlier life left ahead, whatever is in it.
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, segment_bytes: u64, mode: Allocation) -> Self {
        let path = dir.join(AHEAD_NAME);
        let left = storage.open_read(&path).and_then(|file| file.len_bytes()).unwrap_or(0);
        let ahead = if left >= HURRIED_BYTES.min(segment_bytes) {
            Ahead::Ready { bytes: left, recycled: true }
        } else {
            Ahead::None
        };
        let shared = Arc::new(Shared {
            storage,
            dir: dir.to_path_buf(),
            segment_bytes,
            state: Mutex::new(State { ahead, next_bytes: segment_bytes, ..State::default() }),
            changed: Condvar::new(),
        });
        let worker = match mode {
            Allocation::Inline => None,
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
        let ready = {
            let mut state = shared.lock();
            match state.ahead {
                Ahead::Ready { bytes, recycled } if bytes >= need => {
                    state.ahead = Ahead::None;
                    Some((bytes, recycled))
                }
                _ => None,
            }
        };
        if let Some((bytes, recycled)) = ready {
            let ahead = shared.dir.join(AHEAD_NAME);
            let renamed = shared.storage.rename(&ahead, path).and_then(|()| shared.storage.open(path, false));
            if let Ok(file) = renamed {
                return Ok(Blank { file, bytes, recycled });
            }
            // Whatever became of it, a fresh file is as good.
            let _ = shared.storage.remove(path);
        }
        let bytes = match self.mode {
            Allocation::Inline => shared.segment_bytes.max(need),
            Allocation::Background => shared.segment_bytes.min(HURRIED_BYTES).max(need),
        };
        let made = shared.storage.open(path, true).and_then(|file| {
            shared.fill(&*file, bytes, false)?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Blank { file, bytes, recycled: false }),
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
        if state.ahead != Ahead::None {
            return;
        }
        if self.worker.is_some() {
            state.ahead = Ahead::Wanted;
            self.shared.changed.notify_all();
        } else if self.mode == Allocation::Inline {
            drop(state);
            self.shared.make();
        }
    }

    /// Takes a file that is no longer needed as the next one, or removes it. The folder is not synced.
    pub(crate) fn give_back(&self, path: &Path) -> io::Result<()> {
        let shared = &self.shared;
        let bytes = shared.storage.open_read(path)?.len_bytes()?;
        let mut state = shared.lock();
        // Sealed segments are cut to their end, a little below their size.
        if state.ahead == Ahead::None && bytes >= shared.segment_bytes / 2 {
            shared.storage.rename(path, &shared.dir.join(AHEAD_NAME))?;
            state.ahead = Ahead::Ready { bytes, recycled: true };
            return Ok(());
        }
        drop(state);
        shared.storage.remove(path)
    }

    /// Why no file could be made ahead, if that happened since the last call.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.shared.lock().failure.take()
    }

    /// Waits until a file is ahead or could not be made.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        let mut state = self.shared.lock();
        while matches!(state.ahead, Ahead::Wanted | Ahead::Filling) {
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            while state.ahead != Ahead::Wanted && !state.stop {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            state.ahead = Ahead::Filling;
            drop(state);
            self.make();
        }
    }

    /// Makes `ahead`, all of it or nothing.
    fn make(&self) {
        let path = self.dir.join(AHEAD_NAME);
        let mut state = self.lock();
        let paced = state.ahead == Ahead::Filling;
        let mut bytes = state.next_bytes;
        drop(state);
        let mut made = self.make_file(&path, bytes, paced);
        let least = self.segment_bytes.min(HURRIED_BYTES);
        if made.as_ref().is_err_and(is_full) && bytes > least {
            // Nearly full: a small segment ahead is one that others' files still fit beside.
            bytes = least;
            made = self.make_file(&path, bytes, paced);
        }
        state = self.lock();
        match made {
            Ok(()) => {
                state.ahead = Ahead::Ready { bytes, recycled: false };
                state.next_bytes = bytes.saturating_mul(2).min(self.segment_bytes);
            }
            Err(error) => {
                let _ = self.storage.remove(&path);
                state.ahead = Ahead::None;
                state.next_bytes = least;
                state.failure = Some(error);
            }
        }
        self.changed.notify_all();
    }

    fn make_file(&self, path: &Path, bytes: u64, paced: bool) -> io::Result<()> {
        let file = self.storage.open(path, true)?;
        file.set_len(0)?;
        self.fill(&*file, bytes, paced)
    }

    /// Fills a new file with zeros and syncs it. Paced, each slice is synced before the next, and the thread's stop is obeyed.
    fn fill(&self, file: &dyn StorageFile, bytes: u64, paced: bool) -> io::Result<()> {
        let zeros = vec![0; SLICE_BYTES.min(usize::try_from(bytes).unwrap_or(SLICE_BYTES))];
        let mut at = 0;
        while at < bytes {
            let slice = zeros.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
            folder::write_all(file, &zeros[..slice], at)?;
            at += slice as u64;
            if paced {
                file.sync_data()?;
                let state = self.lock();
                let (state, _) = self
                    .changed
                    .wait_timeout_while(state, SLICE_REST, |state| !state.stop)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.stop {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
        file.sync_data()
    }
}
