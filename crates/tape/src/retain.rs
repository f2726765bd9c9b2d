//! Retention: old segments go, oldest first, and never past the slowest required reader.
//!
//! - Only a cursor that is known to be synced lets a segment go: one that a power cut sets back must still find its records.
//! - The folder is synced after each segment, so that no crash leaves a younger one gone and an older one there.
//! - The newest segment that begins with the user's state stays, and all behind it: no removal loses that state. A segment that
//!   took over from a failed one begins with records, whatever checkpoint stands further on in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cursor;
use crate::error::Error;
use crate::folder;
use crate::log::Log;
use crate::scan::begins_with_checkpoint;
use crate::segment;
use crate::storage::{Flaw, Storage};

/// What may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose records are all older than this go.
    pub keep_age: Option<Duration>,
    /// The oldest segments go while all of them together take more bytes on disk than this.
    pub keep_bytes: Option<u64>,
    /// Readers that must have been everywhere first. One that has no cursor yet holds everything.
    pub required: Vec<String>,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    pub segments: u64,
    /// Bytes on disk that they took.
    pub bytes: u64,
    /// The oldest seq that is still there.
    pub first_seq: u64,
    /// The slowest required reader, if a segment stayed only because of it.
    pub held_by: Option<String>,
}

/// What is known of the sealed segments: a cache, filled from their headers when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    sealed: Vec<Sealed>,
    /// The segment that was current then.
    current: u64,
    /// How many had been compressed then.
    packed: u64,
}

/// A segment that is not written any more.
#[derive(Debug)]
struct Sealed {
    id: u64,
    first_seq: u64,
    /// The first seq behind it.
    seq_end: u64,
    /// No record of it was received after this, ns.
    until_ns: i64,
    bytes: u64,
    compressed: bool,
}

impl Log {
    /// Lets old segments go, as the policy says. `now_ns` is the time, in ns since the epoch.
    ///
    /// # Errors
    /// [`Error::Io`]; what is gone by then is gone.
    pub fn retain(&mut self, policy: &Retention, now_ns: i64) -> Result<Retained, Error> {
        let age_ns = policy.keep_age.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        self.remove_oldest(policy, |sealed, total_bytes| {
            let too_old = age_ns.is_some_and(|age| sealed.until_ns < now_ns.saturating_sub(age));
            let too_much = policy.keep_bytes.is_some_and(|keep| total_bytes > keep);
            too_old || too_much
        })
    }

    /// Lets the oldest segment go, whatever its age, to make room on a full disk. Required readers hold it all the same.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn drop_oldest(&mut self, policy: &Retention) -> Result<Retained, Error> {
        let mut first = true;
        self.remove_oldest(policy, |_, _| std::mem::replace(&mut first, false))
    }

    fn remove_oldest(
        &mut self,
        policy: &Retention,
        mut expired: impl FnMut(&Sealed, u64) -> bool,
    ) -> Result<Retained, Error> {
        self.look_at_shelf()?;
        let shelf = std::mem::take(&mut self.shelf);
        let stated = self.newest_stated(&shelf.sealed)?;
        let removable = shelf.sealed.partition_point(|sealed| sealed.id < stated);
        let mut total_bytes = shelf.sealed.iter().map(|sealed| sealed.bytes).sum::<u64>() + self.segment.capacity;
        let mut retained = Retained::default();
        let mut slowest = None;
        for sealed in &shelf.sealed[..removable] {
            if !expired(sealed, total_bytes) {
                break;
            }
            let slowest = match &slowest {
                Some(slowest) => slowest,
                None => slowest.insert(self.slowest(&policy.required)?),
            };
            if let Some((name, done_seq)) = slowest
                && done_seq + 1 < sealed.seq_end
            {
                retained.held_by = Some(name.clone());
                break;
            }
            self.remove_segment(sealed.id)?;
            total_bytes -= sealed.bytes;
            retained.segments += 1;
            retained.bytes += sealed.bytes;
        }
        // Left out when removing failed: the shelf is looked at anew then.
        self.shelf = shelf;
        let last_end = self.shelf.sealed.last().map(|sealed| sealed.seq_end);
        self.shelf.sealed.drain(..retained.segments as usize);
        retained.first_seq = match (self.shelf.sealed.first(), last_end) {
            (Some(first), _) => first.first_seq,
            (None, Some(last_end)) => last_end,
            (None, None) => self.first_seq(),
        };
        Ok(retained)
    }

    /// Brings the shelf up to date: with segments that were sealed since, and with the sizes of those compressed since.
    fn look_at_shelf(&mut self) -> Result<(), Error> {
        let (current, packed) = (self.segment.id, self.packer.packed());
        if (self.shelf.current, self.shelf.packed) == (current, packed) {
            return Ok(());
        }
        let known = self.shelf.sealed.last().map_or(0, |sealed| sealed.id);
        let forms = folder::forms(&*self.storage, &self.dir)?;
        for sealed in self.shelf.sealed.iter_mut().filter(|sealed| !sealed.compressed) {
            if let Some(forms) = forms.get(&sealed.id) {
                (sealed.bytes, sealed.compressed) =
                    (disk_bytes(&*self.storage, &self.dir, sealed.id, *forms), forms.packed);
            }
        }
        let sealed = &mut self.shelf.sealed;
        for (id, forms) in forms.range(known + 1..=current) {
            let header = folder::open(&*self.storage, &self.dir, *id, self.check)?.map(|file| file.header);
            if let Some(header) = &header {
                // One that cannot be read stands in line like any other: nothing younger goes before it.
                for before in sealed.iter_mut().rev().take_while(|before| before.seq_end == u64::MAX) {
                    before.first_seq = before.first_seq.min(header.first_seq);
                    before.seq_end = header.first_seq;
                    before.until_ns = header.created_ns;
                }
            }
            sealed.push(Sealed {
                id: *id,
                first_seq: header.map_or(u64::MAX, |header| header.first_seq),
                seq_end: u64::MAX,
                until_ns: i64::MAX,
                bytes: disk_bytes(&*self.storage, &self.dir, *id, *forms),
                compressed: forms.packed,
            });
        }
        // The last one lends its header to the one before, and is not sealed itself.
        sealed.pop_if(|sealed| sealed.id == current);
        (self.shelf.current, self.shelf.packed) = (current, packed);
        Ok(())
    }

    /// The newest segment that begins with the user's state; 0 = there is none.
    fn newest_stated(&self, sealed: &[Sealed]) -> Result<u64, Error> {
        if self.stated > 0 {
            return Ok(self.stated);
        }
        for sealed in sealed.iter().rev() {
            let Some(file) = folder::open(&*self.storage, &self.dir, sealed.id, self.check)? else { continue };
            if begins_with_checkpoint(&file, file.len_bytes, sealed.seq_end, self.check) {
                return Ok(file.id);
            }
        }
        Ok(0)
    }

    fn first_seq(&self) -> u64 {
        let first = folder::open_next(&*self.storage, &self.dir, 0, self.check);
        first.ok().flatten().map_or(self.next_seq(), |file| file.header.first_seq)
    }

    /// The required reader that is furthest behind, and the seq it is done with.
    fn slowest(&self, required: &[String]) -> Result<Option<(String, u64)>, Error> {
        let hasty = self.storage.flaw(Flaw::UnlinkBeforeCursorSync);
        let mut slowest: Option<(String, u64)> = None;
        for name in required {
            let seq = cursor::synced_seq(&*self.storage, &self.dir, name, self.tape_id(), hasty)?.unwrap_or(0);
            if slowest.as_ref().is_none_or(|(_, least)| seq < *least) {
                slowest = Some((name.clone(), seq));
            }
        }
        Ok(slowest)
    }

    fn remove_segment(&self, id: u64) -> Result<(), Error> {
        let _guard = self.packer.exclude();
        let forms = folder::forms(&*self.storage, &self.dir)?.remove(&id).unwrap_or_default();
        for path in forms.paths(&self.dir, id) {
            remove(&*self.storage, &path, || self.maker.allocator.give_back(&path))?;
        }
        self.storage.sync_dir(&self.dir).map_err(Error::io("syncing", &self.dir))
    }
}

/// What the files of a segment take. One that is compressed at this moment counts next time.
fn disk_bytes(storage: &dyn Storage, dir: &Path, id: u64, forms: folder::Forms) -> u64 {
    let bytes = |path: PathBuf| storage.open_read(&path).and_then(|file| file.len_bytes()).unwrap_or(0);
    forms.paths(dir, id).map(bytes).sum()
}

fn remove(storage: &dyn Storage, path: &Path, give_back: impl FnOnce() -> std::io::Result<()>) -> Result<(), Error> {
    let raw = path.extension().is_some_and(|extension| extension == "seg");
    let removed = if raw { give_back() } else { storage.remove(path) };
    removed.map_err(Error::io("removing", path))
}

impl folder::Forms {
    /// The files of a segment, its own before the compressed one: what stays after a crash between the two is whole.
    fn paths(self, dir: &Path, id: u64) -> impl Iterator<Item = PathBuf> {
        let raw = self.raw.then(|| dir.join(segment::file_name(id)));
        raw.into_iter().chain(self.packed.then(|| dir.join(segment::packed_name(id))))
    }
}
