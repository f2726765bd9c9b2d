//! How far a reader has come: one small file per reader.
//!
//! ```text
//! cursors/<name>: two slots, at 0 and at 1 MiB; the valid one with the greater generation counts
//!   0 magic "TAPECURS" · 8 u32 version · 12 u32 length of the state · 16 u64 generation · 24 u64 seq · 32 16 B tape id
//!  48 u64 the generation again, once it is synced · 56 zeros · 60 u32 CRC32C of 0..48, 56..60 and the state · 64 state
//! ```
//!
//! - A commit writes the slot that does not count, and syncs it. The other one is not touched, so that a torn write costs
//!   nothing that was committed.
//! - A slot can be read before it is durable, and after a failed fsync even a second fsync that succeeds does not make it so.
//!   Its generation is written a second time when its sync has succeeded: only then may retention count on it.
//! - A reader commits when its work is durable elsewhere, never before.
//! - Names of files are names of readers; whatever is not a letter, a digit, `-` or `_` is written as `%` and two digits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::error::Error;
use crate::folder;
use crate::segment::{array_at, u32_at, u64_at};
use crate::storage::{Flaw, Storage, StorageFile};

pub(crate) const CURSORS_NAME: &str = "cursors";
const MAGIC: [u8; 8] = *b"TAPECURS";
const VERSION: u32 = 1;
const SLOT_BYTES: u64 = 1024 * 1024;
const HEAD_BYTES: usize = 64;
/// Where a slot says that it is synced.
const SYNCED_AT: usize = 48;
/// What a reader may keep beside its seq.
pub const MAX_STATE_BYTES: usize = SLOT_BYTES as usize - HEAD_BYTES;
const NAME_BYTES_MAX: usize = 80;

/// A reader's place on the tape.
#[derive(Debug)]
pub struct Cursor {
    name: String,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    tape_id: Uuid,
    slot: Slot,
    /// Which of the two slots holds it.
    nth: u64,
    /// A bug, when the model asks for it: commits are left to be synced by whoever removes segments.
    lazy: bool,
    clamped_from: Option<u64>,
    /// Slots are assembled here.
    buf: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slot {
    generation: u64,
    seq: u64,
    tape_id: Uuid,
    /// It survives a power cut.
    synced: bool,
    state: Vec<u8>,
}

impl Cursor {
    /// Opens a reader's cursor, or makes it, standing before everything.
    ///
    /// `last_seq` is the last seq of the tape: a cursor beyond it was confirmed by a disk that then lost the records, and
    /// is set back to it ([`Cursor::clamped_from`]). A cursor of another tape that once lay in this folder starts again.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Io`].
    pub fn open(storage: &dyn Storage, dir: &Path, name: &str, tape_id: Uuid, last_seq: u64) -> Result<Cursor, Error> {
        let folder = dir.join(CURSORS_NAME);
        let path = folder.join(file_name(name)?);
        storage.create_dir_all(&folder).map_err(Error::io("creating", &folder))?;
        let file = storage.open(&path, true).map_err(Error::io("opening", &path))?;
        storage.sync_dir(&folder).map_err(Error::io("syncing", &folder))?;
        let mut buf = Vec::new();
        let (mut slot, nth) = newest(&*file, &path)?.unwrap_or((Slot::default(), 1));
        let lazy = storage.flaw(Flaw::UnlinkBeforeCursorSync);
        if slot.generation > 0 && !slot.synced && !lazy {
            // The other slot is the next to be written over: until this one is durable, that one is all there is.
            encode(&mut buf, &slot);
            settle(&*file, &buf, nth, slot.generation).map_err(Error::io("syncing", &path))?;
        }
        if slot.tape_id != tape_id {
            slot = Slot { generation: slot.generation, tape_id, ..Slot::default() };
        }
        let clamped_from = (slot.seq > last_seq).then_some(slot.seq);
        slot.seq = slot.seq.min(last_seq);
        Ok(Cursor { name: name.to_owned(), path, file, tape_id, slot, nth, lazy, clamped_from, buf })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last seq that the reader is done with; 0 = none.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.slot.seq
    }

    /// What the reader kept with it.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.slot.state
    }

    /// Whether it was never committed on this tape.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.slot.generation == 0 || (self.slot.seq == 0 && self.slot.state.is_empty() && self.clamped_from.is_none())
    }

    /// The seq that it stood at when it was found beyond the end of the tape.
    #[must_use]
    pub fn clamped_from(&self) -> Option<u64> {
        self.clamped_from
    }

    /// Moves the cursor, durably. Call it when the work up to `seq` is durable elsewhere.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for the state; [`Error::Io`]: the cursor stands where it stood, and may be committed again.
    pub fn commit(&mut self, seq: u64, state: &[u8]) -> Result<(), Error> {
        if state.len() > MAX_STATE_BYTES {
            let (bytes, limit_bytes) = (state.len() as u64, MAX_STATE_BYTES as u64);
            return Err(Error::TooLarge { what: "a cursor's state", bytes, limit_bytes });
        }
        let next = Slot {
            generation: self.slot.generation + 1,
            seq,
            tape_id: self.tape_id,
            synced: false,
            state: state.to_vec(),
        };
        encode(&mut self.buf, &next);
        let nth = 1 - self.nth;
        // A sync that failed is followed by another write of the same slot, never by a bare second sync.
        let written = if self.lazy {
            folder::write_all(&*self.file, &self.buf, nth * SLOT_BYTES)
        } else {
            settle(&*self.file, &self.buf, nth, next.generation)
        };
        written.map_err(Error::io("committing", &self.path))?;
        self.nth = nth;
        self.slot = next;
        Ok(())
    }
}

/// Writes a slot, syncs it, and says in it that this was done.
fn settle(file: &dyn StorageFile, slot: &[u8], nth: u64, generation: u64) -> std::io::Result<()> {
    folder::write_all(file, slot, nth * SLOT_BYTES)?;
    file.sync_data()?;
    // Lost or late it does no harm: segments stay a little longer.
    let _ = folder::write_all(file, &generation.to_le_bytes(), nth * SLOT_BYTES + SYNCED_AT as u64);
    Ok(())
}

/// All cursors of a tape.
pub mod cursors {
    use super::*;

    /// A cursor as it lies there.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Listed {
        pub name: String,
        pub seq: u64,
        /// Nil = never committed.
        pub tape_id: Uuid,
        pub state_bytes: usize,
    }

    /// Every cursor, by name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<Listed>, Error> {
        let folder = dir.join(CURSORS_NAME);
        let names = match storage.list(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("listing", &folder)(error)),
        };
        let mut listed = Vec::new();
        for file in names {
            let path = folder.join(&file);
            let bytes = storage.open_read(&path).map_err(Error::io("opening", &path))?;
            let slot = newest(&*bytes, &path)?.map(|(slot, _)| slot).unwrap_or_default();
            let Some(name) = reader_name(&file) else { continue };
            listed.push(Listed { name, seq: slot.seq, tape_id: slot.tape_id, state_bytes: slot.state.len() });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// A cursor with its state, as it lies there.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Kept {
        pub tape_id: Uuid,
        pub seq: u64,
        pub state: Vec<u8>,
    }

    /// What a reader last committed, without touching it: it may be at work. `None`: there is none of that name.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Io`].
    pub fn read(storage: &dyn Storage, dir: &Path, name: &str) -> Result<Option<Kept>, Error> {
        let path = dir.join(CURSORS_NAME).join(file_name(name)?);
        let file = match storage.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("opening", &path)(error)),
        };
        let kept = newest(&*file, &path)?.map(|(slot, _)| slot);
        Ok(kept.map(|Slot { tape_id, seq, state, .. }| Kept { tape_id, seq, state }))
    }

    /// Forgets a cursor; says whether there was one.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Io`].
    pub fn drop(storage: &dyn Storage, dir: &Path, name: &str) -> Result<bool, Error> {
        let folder = dir.join(CURSORS_NAME);
        let path = folder.join(file_name(name)?);
        match storage.remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("removing", &path)(error)),
        }
        storage.sync_dir(&folder).map_err(Error::io("syncing", &folder))?;
        Ok(true)
    }
}

/// Up to where a reader of this tape is done, durably. `None`: it has no cursor. With `hasty`, a bug, whatever can be read counts.
pub(crate) fn synced_seq(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    tape_id: Uuid,
    hasty: bool,
) -> Result<Option<u64>, Error> {
    let path = dir.join(CURSORS_NAME).join(file_name(name)?);
    let file = match storage.open_read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("opening", &path)(error)),
    };
    let newest = if hasty { newest(&*file, &path)? } else { newest_of(&*file, &path, |slot| slot.synced)? };
    Ok(newest.filter(|(slot, _)| slot.tape_id == tape_id).map(|(slot, _)| slot.seq))
}

fn encode(out: &mut Vec<u8>, slot: &Slot) {
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(slot.state.len() as u32).to_le_bytes());
    out.extend_from_slice(&slot.generation.to_le_bytes());
    out.extend_from_slice(&slot.seq.to_le_bytes());
    out.extend_from_slice(slot.tape_id.as_bytes());
    out.resize(HEAD_BYTES, 0);
    let crc = crc(out, &slot.state);
    out[60..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&slot.state);
}

fn crc(head: &[u8], state: &[u8]) -> u32 {
    [&head[SYNCED_AT + 8..60], state]
        .iter()
        .fold(crc32c::crc32c(&head[..SYNCED_AT]), |crc, part| crc32c::crc32c_append(crc, part))
}

/// The slot that counts, and which of the two it is.
fn newest(file: &dyn StorageFile, path: &Path) -> Result<Option<(Slot, u64)>, Error> {
    newest_of(file, path, |_| true)
}

/// The newest of those slots that are `wanted`.
fn newest_of(
    file: &dyn StorageFile,
    path: &Path,
    wanted: impl Fn(&Slot) -> bool,
) -> Result<Option<(Slot, u64)>, Error> {
    let mut newest: Option<(Slot, u64)> = None;
    for nth in [0, 1] {
        let Some((version, slot)) = read_slot(file, nth * SLOT_BYTES) else { continue };
        if version > VERSION {
            return Err(Error::NewerFormat { path: path.to_path_buf(), version, known: VERSION });
        }
        // Nothing could follow the last generation, and nobody writes it: the slot is damaged, whatever its checksum says.
        let is_last = slot.generation == u64::MAX;
        if !is_last && wanted(&slot) && newest.as_ref().is_none_or(|(newest, _)| newest.generation < slot.generation) {
            newest = Some((slot, nth));
        }
    }
    Ok(newest)
}

/// The version of a slot and what it says; `None` when it is damaged or was never written.
fn read_slot(file: &dyn StorageFile, at: u64) -> Option<(u32, Slot)> {
    let mut head = [0; HEAD_BYTES];
    let read = |buf: &mut [u8], at: u64| folder::read_twice(file, buf, at).ok();
    if read(&mut head, at)? < HEAD_BYTES || head[..8] != MAGIC {
        return None;
    }
    let len = u32_at(&head, 12) as usize;
    if len > MAX_STATE_BYTES {
        return None;
    }
    let mut state = vec![0; len];
    if read(&mut state, at + HEAD_BYTES as u64)? < len {
        return None;
    }
    if crc(&head, &state) != u32_at(&head, 60) {
        return None;
    }
    let slot = Slot {
        generation: u64_at(&head, 16),
        seq: u64_at(&head, 24),
        tape_id: Uuid::from_bytes(array_at(&head, 32)),
        synced: u64_at(&head, SYNCED_AT) == u64_at(&head, 16),
        state,
    };
    Some((u32_at(&head, 8), slot))
}

fn file_name(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::BadName { name: name.to_owned() });
    }
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(out)
}

/// `None`: not a name that this program wrote.
fn reader_name(file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = file.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok()
}
