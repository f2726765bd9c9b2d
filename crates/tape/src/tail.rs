//! The durable end of the tape, and how readers learn that it moved.
//!
//! In the writer's process readers wait on a [`Tail`]. In other processes they read `durable`, a file of 64 bytes that the
//! writer rewrites after each sync, and wait on the socket `wake.sock` (`wake.rs`):
//!
//! ```text
//!  0 magic "TAPEHINT" · 8 u64 incarnation · 16 u64 segment · 24 u64 position · 32 u64 seq · 40 16 B tape id · 56 u8 mode · 60 u32 CRC32C
//! ```
//!
//! The file is a hint and is never synced. It may be old after a power cut, never ahead of the data; nothing is decided by
//! it that the data decides.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::Error;
use crate::folder;
use crate::log::Mode;
use crate::segment::{array_at, u32_at, u64_at};
use crate::storage::{Storage, StorageFile};

/// How far the tape is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    pub incarnation: u64,
    pub segment: u64,
    /// Position in the segment's file, in bytes, behind the last synced record.
    pub position: u64,
    /// The last synced seq; 0 = none.
    pub seq: u64,
}

/// Where the user's state stands on the tape: the first record of a checkpoint, and the seq of the record behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub segment: u64,
    pub position: u64,
    pub seq: u64,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is more to read.
    More,
    Timeout,
    /// The writer is gone; what is there is all there is, until another one comes.
    WriterGone,
}

type Watcher = Box<dyn Fn(u64) + Send + Sync>;

/// The durable end, as the readers of the writer's own process see it.
#[derive(Default)]
pub struct Tail {
    state: Mutex<State>,
    advanced: Condvar,
    watchers: Mutex<Vec<Watcher>>,
}

#[derive(Default)]
struct State {
    durable: Durable,
    checkpoint: Option<Place>,
    closed: bool,
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("durable", &self.durable()).finish_non_exhaustive()
    }
}

impl Tail {
    #[must_use]
    pub fn durable(&self) -> Durable {
        self.lock().durable
    }

    /// The last synced seq; 0 = none.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.lock().durable.seq
    }

    /// Waits until a seq above `seq` is durable.
    pub fn wait_past(&self, seq: u64, timeout: Duration) -> Woken {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.lock();
        loop {
            if state.durable.seq > seq {
                return Woken::More;
            }
            if state.closed {
                return Woken::WriterGone;
            }
            let left = until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Woken::Timeout;
            }
            state = self.advanced.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Calls `watcher` with the durable seq after each advance, on the writer's thread: it must be quick and must not
    /// call back into the log. This is the bridge for programs that do not wait on threads.
    pub fn on_advance(&self, watcher: Watcher) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    /// The last durable checkpoint that the writer knows of. A reader that believes it looks all the same.
    pub(crate) fn checkpoint(&self) -> Option<Place> {
        self.lock().checkpoint
    }

    pub(crate) fn advance(&self, durable: Durable, checkpoint: Option<Place>) {
        let mut state = self.lock();
        (state.durable, state.checkpoint) = (durable, checkpoint);
        drop(state);
        self.advanced.notify_all();
        for watcher in self.watchers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher(durable.seq);
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.advanced.notify_all();
        for watcher in self.watchers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher(self.seq());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) const HINT_NAME: &str = "durable";
const HINT_BYTES: usize = 64;
const HINT_MAGIC: [u8; 8] = *b"TAPEHINT";

/// What a hint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hinted {
    pub tape_id: Uuid,
    pub mode: Option<Mode>,
    pub durable: Durable,
}

/// The durable end for other processes.
#[derive(Debug)]
pub(crate) struct Hint {
    file: Arc<dyn StorageFile>,
}

impl Hint {
    pub(crate) fn create(storage: &dyn Storage, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(HINT_NAME);
        Ok(Hint { file: storage.open(&path, true).map_err(Error::io("opening", &path))? })
    }

    pub(crate) fn open(storage: &dyn Storage, dir: &Path) -> Option<Self> {
        storage.open_read(&dir.join(HINT_NAME)).ok().map(|file| Hint { file })
    }

    /// A failure leaves the hint old, and readers of other processes behind until the next one: it harms nobody else.
    pub(crate) fn write(&self, tape_id: Uuid, mode: Mode, durable: Durable) {
        let mut out = [0; HINT_BYTES];
        out[0..8].copy_from_slice(&HINT_MAGIC);
        out[8..16].copy_from_slice(&durable.incarnation.to_le_bytes());
        out[16..24].copy_from_slice(&durable.segment.to_le_bytes());
        out[24..32].copy_from_slice(&durable.position.to_le_bytes());
        out[32..40].copy_from_slice(&durable.seq.to_le_bytes());
        out[40..56].copy_from_slice(tape_id.as_bytes());
        out[56] = match mode {
            Mode::Group => 1,
            Mode::Each => 2,
            Mode::Os => 3,
        };
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        let _ = folder::write_all(&*self.file, &out, 0);
    }

    /// `None`: there is none, or it was caught in the middle of being rewritten.
    pub(crate) fn read(&self) -> Option<Hinted> {
        let mut bytes = [0; HINT_BYTES];
        if self.file.read_at(&mut bytes, 0).ok()? < HINT_BYTES
            || bytes[0..8] != HINT_MAGIC
            || crc32c::crc32c(&bytes[..60]) != u32_at(&bytes, 60)
        {
            return None;
        }
        let durable = Durable {
            incarnation: u64_at(&bytes, 8),
            segment: u64_at(&bytes, 16),
            position: u64_at(&bytes, 24),
            seq: u64_at(&bytes, 32),
        };
        let mode = match bytes[56] {
            1 => Some(Mode::Group),
            2 => Some(Mode::Each),
            3 => Some(Mode::Os),
            _ => None,
        };
        Some(Hinted { tape_id: Uuid::from_bytes(array_at(&bytes, 40)), mode, durable })
    }
}
