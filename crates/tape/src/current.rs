//! The segment that is being written, and how the next one begins.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::alloc::{Allocator, Blank};
use crate::error::{Error, is_full};
use crate::folder;
use crate::log::Note;
use crate::segment::{self, DATA_START, Header};
use crate::storage::{Storage, StorageFile};

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Current {
    pub id: u64,
    pub file: Arc<dyn StorageFile>,
    /// Size of the file, in bytes.
    pub capacity: u64,
    /// So many bytes of it exist on disk.
    pub filled: u64,
    /// Position behind the last byte that is synced.
    pub synced: u64,
    pub first_seq: u64,
    /// When it was begun, ns since the epoch.
    pub created_ns: i64,
    /// Its first record stands behind the user's state. One that took over may begin with records of the one before it.
    pub stated: bool,
}

/// The last record before a place on the tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    /// 0 = there is none.
    pub seq: u64,
    /// ns; `None` = there is none, or it is not known.
    pub ts_recv: Option<i64>,
}

/// Makes segments, one after the other.
#[derive(Debug)]
pub(crate) struct Maker {
    pub storage: Arc<dyn Storage>,
    pub dir: PathBuf,
    pub allocator: Allocator,
    pub tape_id: Uuid,
    pub incarnation: u64,
    /// Ids from here on were never used.
    pub next_id: u64,
}

impl Maker {
    /// Begins a segment behind a record, with room for `need` bytes of records; its header and its name are synced. A file that fails is
    /// replaced once, with a note.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Io`].
    pub(crate) fn begin(&mut self, after: Last, need: u64, notes: &mut Vec<Note>) -> Result<Current, Error> {
        match self.try_begin(after, need) {
            Err(Error::Io { action, source, .. }) => {
                notes.push(Note::Poisoned { segment: self.next_id - 1, action, error: source });
                self.try_begin(after, need)
            }
            answer => answer,
        }
    }

    fn try_begin(&mut self, after: Last, need: u64) -> Result<Current, Error> {
        let id = self.next_id;
        // Used once, whatever happens: bytes of a failed attempt can then never be taken for records.
        self.next_id += 1;
        let path = self.dir.join(segment::file_name(id));
        let Blank { file, bytes, filled, recycled } = self.allocator.take(&path, DATA_START + need)?;
        let header = Header {
            tape_id: self.tape_id,
            segment: id,
            first_seq: after.seq + 1,
            created_ns: wall_ns(),
            incarnation: self.incarnation,
            last_ts_before: after.ts_recv,
            recycled,
        };
        let copy = header.encode();
        let begun = folder::write_all(&*file, &[copy, copy].concat(), 0)
            .and_then(|()| file.sync_data())
            .and_then(|()| self.storage.sync_dir(&self.dir));
        if let Err(error) = begun {
            let _ = self.storage.remove(&path);
            if is_full(&error) {
                return Err(Error::Full { dir: self.dir.clone(), need_bytes: DATA_START + need });
            }
            return Err(Error::io("beginning", &path)(error));
        }
        self.allocator.refill();
        let (first_seq, created_ns) = (header.first_seq, header.created_ns);
        Ok(Current { id, file, capacity: bytes, filled, synced: DATA_START, first_seq, created_ns, stated: false })
    }
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
