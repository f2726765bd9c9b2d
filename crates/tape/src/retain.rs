//! Retention: old segments go, oldest first, and never past the slowest required reader.
//!
//! - Only a cursor that is known to be synced lets a segment go: one that a power cut sets back must still find its records.
//! - The folder is synced after each segment, so that no crash leaves a younger one gone and an older one there.
//! - The newest sealed segment stays until the one being written begins with a checkpoint: no removal loses the user's state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cursor;
use crate::error::Error;
use crate::folder;
use crate::log::Log;
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
        let mut sealed = self.sealed()?;
        if self.checkpoint_due {
            sealed.pop();
        }
        let mut total_bytes = sealed.iter().map(|sealed| sealed.bytes).sum::<u64>() + self.segment.capacity;
        let mut retained = Retained::default();
        let mut slowest = None;
        for sealed in &sealed {
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
        retained.first_seq = sealed
            .get(retained.segments as usize)
            .map(|sealed| sealed.first_seq)
            .or_else(|| sealed.last().map(|sealed| sealed.seq_end))
            .unwrap_or_else(|| self.first_seq());
        Ok(retained)
    }

    /// Every segment before the current one, oldest first.
    fn sealed(&self) -> Result<Vec<Sealed>, Error> {
        let mut sealed: Vec<Sealed> = Vec::new();
        let forms = folder::forms(&*self.storage, &self.dir)?;
        for (id, forms) in forms {
            if id > self.segment.id {
                break;
            }
            let Some(file) = folder::open(&*self.storage, &self.dir, id, self.check)? else { continue };
            if let Some(before) = sealed.last_mut() {
                before.seq_end = file.header.first_seq;
                before.until_ns = file.header.created_ns;
            }
            let mut bytes = 0;
            for path in forms.paths(&self.dir, id) {
                // One that was compressed at this moment counts next time.
                bytes += self.storage.open_read(&path).and_then(|file| file.len_bytes()).unwrap_or(0);
            }
            sealed.push(Sealed { id, first_seq: file.header.first_seq, seq_end: u64::MAX, until_ns: i64::MAX, bytes });
        }
        // The last one is the current one.
        sealed.pop();
        Ok(sealed)
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
