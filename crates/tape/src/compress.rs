//! Sealed segments, compressed. A reader sees the same bytes at the same positions.
//!
//! ```text
//! <id>.zst:  table │ block │ block │ … │ table again │ u64 length of the table
//!
//! table, little-endian                       block: 64 KiB of the segment (the last may be shorter), as one zstd frame
//!   0  magic "TAPEPACK"
//!   8  u32 version · 12 u32 number of blocks
//!  16  u64 segment id
//!  24  u64 length of the segment's bytes
//!  32  per block: u32 compressed length, u32 CRC32C of the compressed bytes
//! end  u32 CRC32C of the table before it
//! ```
//!
//! Blocks are small, because a damaged one is lost as a whole. The file is complete and synced before it gets its name, and only
//! then is the segment's own file let go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::Error;
use crate::folder;
use crate::recover::UNFINISHED_SUFFIX;
use crate::segment::{self, Check, u32_at, u64_at};
use crate::storage::{Storage, StorageFile};

const MAGIC: [u8; 8] = *b"TAPEPACK";
const VERSION: u32 = 1;
const BLOCK_BYTES: usize = 64 * 1024;
const TABLE_HEAD_BYTES: usize = 32;
/// Fast, and most of the gain: a tape is compressed beside the recording.
const LEVEL: i32 = 1;
/// A table of more blocks than this is not believed: 64 GiB of segment.
const BLOCKS_MAX: usize = 1024 * 1024;

/// A compressed segment, read as if it were not.
#[derive(Debug)]
pub(crate) struct Packed {
    file: Arc<dyn StorageFile>,
    len_bytes: u64,
    blocks: Vec<Block>,
    /// The block that was read last: neighbours are asked for next.
    last: Mutex<Option<(usize, Vec<u8>)>>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    at: u64,
    len: u32,
    crc: u32,
}

impl Packed {
    /// `None`: both tables are damaged, and nothing can be found.
    pub(crate) fn open(file: Arc<dyn StorageFile>) -> Option<Self> {
        let size = file.len_bytes().or_else(|_| file.len_bytes()).ok()?;
        let at_start = || Self::read_table(&*file, 0, None);
        let at_end = || {
            let mut length = [0; 8];
            let at = size.checked_sub(8)?;
            (folder::read_twice(&*file, &mut length, at).ok()? == 8).then_some(())?;
            let length = u64::from_le_bytes(length);
            Self::read_table(&*file, at.checked_sub(length)?, Some(length))
        };
        let (len_bytes, blocks) = at_start().or_else(at_end)?;
        Some(Packed { file, len_bytes, blocks, last: Mutex::new(None) })
    }

    fn read_table(file: &dyn StorageFile, at: u64, length: Option<u64>) -> Option<(u64, Vec<Block>)> {
        let mut head = [0; TABLE_HEAD_BYTES];
        (folder::read_twice(file, &mut head, at).ok()? == head.len() && head[..8] == MAGIC).then_some(())?;
        let count = u32_at(&head, 12) as usize;
        let len_bytes = u64_at(&head, 24);
        let expected = len_bytes.div_ceil(BLOCK_BYTES as u64);
        (u32_at(&head, 8) == VERSION && count <= BLOCKS_MAX && count as u64 == expected).then_some(())?;
        let mut table = vec![0; TABLE_HEAD_BYTES + 8 * count + 4];
        (length.is_none_or(|length| length == table.len() as u64)).then_some(())?;
        (folder::read_twice(file, &mut table, at).ok()? == table.len()).then_some(())?;
        let (covered, crc) = table.split_at(table.len() - 4);
        (crc32c::crc32c(covered) == u32_at(crc, 0)).then_some(())?;
        let mut block_at = table.len() as u64;
        let blocks = covered[TABLE_HEAD_BYTES..]
            .chunks_exact(8)
            .map(|entry| {
                let block = Block { at: block_at, len: u32_at(entry, 0), crc: u32_at(entry, 4) };
                block_at += u64::from(block.len);
                block
            })
            .collect();
        Some((len_bytes, blocks))
    }

    /// The bytes of a block; zeros in place of a damaged one.
    fn block(&self, nth: usize) -> Vec<u8> {
        let start = nth as u64 * BLOCK_BYTES as u64;
        let len = BLOCK_BYTES.min(usize::try_from(self.len_bytes - start).unwrap_or(BLOCK_BYTES));
        self.unpack(self.blocks[nth], len).unwrap_or_else(|| vec![0; len])
    }

    fn unpack(&self, block: Block, len: usize) -> Option<Vec<u8>> {
        // zstd cannot make 64 KiB longer than this: a greater length is damage, not a reason to allocate.
        (block.len as usize <= 2 * BLOCK_BYTES).then_some(())?;
        let mut packed = vec![0; block.len as usize];
        let (read, _) = folder::read(&*self.file, &mut packed, block.at);
        (read == packed.len() && crc32c::crc32c(&packed) == block.crc).then_some(())?;
        zstd::bulk::decompress(&packed, len).ok().filter(|bytes| bytes.len() == len)
    }
}

impl StorageFile for Packed {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.len_bytes.saturating_sub(at)).unwrap_or(usize::MAX));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < want {
            let pos = at + done as u64;
            let nth = (pos / BLOCK_BYTES as u64) as usize;
            let (_, bytes) = match last.take() {
                Some(cached) if cached.0 == nth => last.insert(cached),
                _ => last.insert((nth, self.block(nth))),
            };
            let offset = (pos % BLOCK_BYTES as u64) as usize;
            let piece = (bytes.len() - offset).min(want - done);
            buf[done..done + piece].copy_from_slice(&bytes[offset..offset + piece]);
            done += piece;
        }
        Ok(want)
    }

    fn write_at(&self, _buf: &[u8], _at: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.len_bytes)
    }
}

/// Compresses sealed segments, one after the other, beside the recording.
#[derive(Debug)]
pub(crate) struct Packer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a segment changes its form or goes: one that is being removed must not come back compressed.
    excluded: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Segments below this one are sealed, and wait to be looked at.
    below: Option<u64>,
    stop: bool,
    failures: Vec<(u64, Error)>,
    /// Segments compressed since somebody asked, and the bytes that each takes now.
    packed: Vec<(u64, u64)>,
}

/// Failures that are kept until somebody asks.
const FAILURES_MAX: usize = 16;

impl Packer {
    /// `background`: with a thread of its own; otherwise segments are compressed when they are sealed, by the writer.
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, background: bool) -> Self {
        let shared = Arc::new(Shared {
            storage,
            dir: dir.to_path_buf(),
            state: Mutex::default(),
            changed: Condvar::new(),
            excluded: Mutex::new(()),
        });
        let thread = background.then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("tape-compress".into()).spawn(move || shared.work()).ok()
        });
        Packer { shared, thread: thread.flatten() }
    }

    /// All segments below this one are sealed.
    pub(crate) fn seal_below(&self, id: u64) {
        if self.thread.is_none() {
            self.shared.pack_below(id);
            return;
        }
        self.shared.lock().below = Some(id);
        self.shared.changed.notify_all();
    }

    /// Keeps segments as they are until the guard is dropped.
    pub(crate) fn exclude(&self) -> MutexGuard<'_, ()> {
        self.shared.excluded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Segments compressed since the last call, and the bytes that each takes now.
    pub(crate) fn take_packed(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.shared.lock().packed)
    }

    pub(crate) fn take_failures(&self) -> Vec<(u64, Error)> {
        std::mem::take(&mut self.shared.lock().failures)
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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
            while state.below.is_none() && !state.stop {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            let below = state.below.take();
            drop(state);
            if let Some(below) = below {
                self.pack_below(below);
            }
        }
    }

    fn pack_below(&self, below: u64) {
        let Ok(forms) = folder::forms(&*self.storage, &self.dir) else { return };
        for (id, _) in forms.into_iter().filter(|(id, forms)| *id < below && forms.raw) {
            if self.lock().stop {
                return;
            }
            if let Err(error) = self.pack(id) {
                let mut state = self.lock();
                if state.failures.len() < FAILURES_MAX {
                    state.failures.push((id, error));
                }
            }
        }
    }

    /// Puts the compressed form of a sealed segment in its place.
    fn pack(&self, id: u64) -> Result<(), Error> {
        let storage = &*self.storage;
        let raw = self.dir.join(segment::file_name(id));
        let check = Check::of(storage);
        let Some(from) = folder::open(storage, &self.dir, id, check)?.filter(|file| file.path == raw) else {
            return Ok(());
        };
        let path = self.dir.join(segment::packed_name(id));
        let unfinished = self.dir.join(format!("{}{UNFINISHED_SUFFIX}", segment::packed_name(id)));
        let packed = storage
            .open(&unfinished, true)
            .and_then(|to| write_packed(&*from.bytes, from.len_bytes, id, &*to, || self.lock().stop))
            .and_then(|bytes| {
                let _guard = self.excluded.lock().unwrap_or_else(PoisonError::into_inner);
                // Removed meanwhile: then it stays removed.
                storage.open_read(&raw)?;
                storage.rename(&unfinished, &path)?;
                storage.sync_dir(&self.dir)?;
                // Not recycled: readers that have it open go on in it.
                storage.remove(&raw)?;
                self.lock().packed.push((id, bytes));
                storage.sync_dir(&self.dir)
            });
        packed.map_err(|error| {
            let _ = storage.remove(&unfinished);
            Error::io("compressing", &raw)(error)
        })
    }
}

/// Returns the length of the file.
fn write_packed(
    from: &dyn StorageFile,
    len_bytes: u64,
    id: u64,
    to: &dyn StorageFile,
    stopped: impl Fn() -> bool,
) -> io::Result<u64> {
    to.set_len(0)?;
    let count = len_bytes.div_ceil(BLOCK_BYTES as u64);
    let mut table = Vec::with_capacity(TABLE_HEAD_BYTES + 8 * count as usize + 4);
    table.extend_from_slice(&MAGIC);
    table.extend_from_slice(&VERSION.to_le_bytes());
    table.extend_from_slice(&(count as u32).to_le_bytes());
    table.extend_from_slice(&id.to_le_bytes());
    table.extend_from_slice(&len_bytes.to_le_bytes());
    let table_bytes = table.capacity() as u64;
    let mut at = table_bytes;
    let mut buf = vec![0; BLOCK_BYTES];
    for nth in 0..count {
        if stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let start = nth * BLOCK_BYTES as u64;
        let want = BLOCK_BYTES.min(usize::try_from(len_bytes - start).unwrap_or(BLOCK_BYTES));
        // An unreadable or short segment is not compressed: its own file is the better evidence.
        if from.read_at(&mut buf[..want], start)? != want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let block = zstd::bulk::compress(&buf[..want], LEVEL)?;
        folder::write_all(to, &block, at)?;
        at += block.len() as u64;
        table.extend_from_slice(&(block.len() as u32).to_le_bytes());
        table.extend_from_slice(&crc32c::crc32c(&block).to_le_bytes());
    }
    let crc = crc32c::crc32c(&table);
    table.extend_from_slice(&crc.to_le_bytes());
    folder::write_all(to, &table, 0)?;
    folder::write_all(to, &table, at)?;
    folder::write_all(to, &table_bytes.to_le_bytes(), at + table_bytes)?;
    to.sync_data()?;
    Ok(at + table_bytes + 8)
}
