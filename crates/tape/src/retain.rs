//! Retention: old segments go, oldest first, and never past the slowest required reader.
//!
//! - Only a cursor that is known to be synced lets a segment go: one that a power cut sets back must still find its records.
//! - The folder is synced after each segment, so that no crash leaves a younger one gone and an older one there.
//! - The newest segment that begins with the user's state stays, and all behind it: no removal loses that state. A segment that
//!   took over from a failed one begins with records, whatever checkpoint stands further on in it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use crate::alloc::Allocator;
use crate::current::Maker;
use crate::cursor;
use crate::error::Error;
use crate::folder::{self, SegmentFile};
use crate::log::Log;
use crate::scan::begins_with_checkpoint;
use crate::segment::{self, Check};
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
    /// Readers that hold what they have not read, too, but only from the moment on when they have begun.
    pub once_begun: Vec<String>,
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
    /// Bytes on disk of all the segments that stayed only because of it.
    pub held_bytes: u64,
}

/// How much there is of a tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The oldest seq that is there, or the one that will be written first.
    pub first_seq: u64,
    pub segments: usize,
    /// On disk, with the files kept ahead.
    pub bytes: u64,
}

/// What is known of the sealed segments: a cache, listed from the folder when it is first asked for and kept up to date by the
/// writer. Headers are read when they are needed, those of the oldest segments.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Oldest first. `None`: not listed yet, or something failed since.
    sealed: Option<VecDeque<Sealed>>,
    /// All that they take on disk.
    bytes: u64,
}

/// A segment that is not written any more.
#[derive(Debug)]
struct Sealed {
    id: u64,
    bytes: u64,
    /// What its header says; `None`: nobody has looked.
    begun: Option<Begun>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    At {
        first_seq: u64,
        created_ns: i64,
    },
    /// Damaged, or never used. It stands in line like any other: nothing younger goes before it.
    Unknown,
}

impl Shelf {
    /// A segment was sealed.
    pub(crate) fn push(&mut self, id: u64, bytes: u64) {
        if let Some(sealed) = &mut self.sealed {
            sealed.push_back(Sealed { id, bytes, begun: None });
            self.bytes += bytes;
        }
    }

    /// Something happened that only the folder knows.
    pub(crate) fn forget(&mut self) {
        self.sealed = None;
    }

    fn resize(&mut self, id: u64, bytes: u64) {
        let Some(sealed) = &mut self.sealed else { return };
        if let Ok(at) = sealed.binary_search_by_key(&id, |sealed| sealed.id) {
            self.bytes = self.bytes - sealed[at].bytes + bytes;
            sealed[at].bytes = bytes;
        }
    }

    fn pop(&mut self) {
        if let Some(sealed) = self.sealed.as_mut().and_then(VecDeque::pop_front) {
            self.bytes -= sealed.bytes;
        }
    }

    /// Id and size of the oldest.
    fn oldest(&self) -> Option<(u64, u64)> {
        self.sealed.as_ref()?.front().map(|sealed| (sealed.id, sealed.bytes))
    }
}

impl Log {
    /// Lets old segments go, as the policy says. `now_ns` is the time, in ns since the epoch. It costs nothing on disk when
    /// nothing has expired.
    ///
    /// # Errors
    /// [`Error::Io`]; what is gone by then is gone.
    pub fn retain(&mut self, policy: &Retention, now_ns: i64) -> Result<Retained, Error> {
        let age_ns = policy.keep_age.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        let expired = |until_ns: i64, total_bytes: u64| {
            let too_old = age_ns.is_some_and(|age| until_ns < now_ns.saturating_sub(age));
            let too_much = policy.keep_bytes.is_some_and(|keep| total_bytes > keep);
            too_old || too_much
        };
        let mut retained = self.remove_oldest(policy, expired)?;
        if retained.held_by.is_some() {
            retained.held_bytes = self.expired_bytes(expired)?;
        }
        Ok(retained)
    }

    /// What the segments take that would go now, from the oldest on.
    fn expired_bytes(&mut self, expired: impl Fn(i64, u64) -> bool) -> Result<u64, Error> {
        let all = self.shelf.bytes + self.segment.capacity;
        let sizes: Vec<u64> = self.shelf.sealed.iter().flatten().map(|sealed| sealed.bytes).collect();
        let mut bytes = 0;
        for (nth, size) in sizes.into_iter().enumerate() {
            let (_, until_ns) = self.begun_from(nth + 1)?;
            if !expired(until_ns, all - bytes) {
                break;
            }
            bytes += size;
        }
        Ok(bytes)
    }

    /// Lets the oldest segment go, whatever its age, to make room on a full disk. Required readers hold it all the same.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn drop_oldest(&mut self, policy: &Retention) -> Result<Retained, Error> {
        let mut first = true;
        self.remove_oldest(policy, |_, _| std::mem::replace(&mut first, false))
    }

    /// How much there is. But for the first time it is known without the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn extent(&mut self) -> Result<Extent, Error> {
        self.look_at_shelf()?;
        let segments = self.shelf.sealed.as_ref().map_or(0, VecDeque::len) + 1;
        let bytes = self.shelf.bytes + self.segment.capacity + self.maker.allocator.bytes();
        Ok(Extent { first_seq: self.begun_from(0)?.0, segments, bytes })
    }

    fn remove_oldest(
        &mut self,
        policy: &Retention,
        mut expired: impl FnMut(i64, u64) -> bool,
    ) -> Result<Retained, Error> {
        self.look_at_shelf()?;
        let mut retained = Retained::default();
        let mut stated = None;
        let mut slowest = None;
        while let Some((id, bytes)) = self.shelf.oldest() {
            // Its records end with the first one of the next, and none of them was received after that was begun.
            let (seq_end, until_ns) = self.begun_from(1)?;
            if !expired(until_ns, self.shelf.bytes + self.segment.capacity) {
                break;
            }
            let stated = match stated {
                Some(stated) => stated,
                None => *stated.insert(self.newest_stated()?),
            };
            if id >= stated {
                break;
            }
            let slowest = match &slowest {
                Some(slowest) => slowest,
                None => slowest.insert(self.slowest(policy)?),
            };
            if let Some((name, done_seq)) = slowest
                && done_seq + 1 < seq_end
            {
                retained.held_by = Some(name.clone());
                break;
            }
            if let Err(error) = self.remove_segment(id) {
                self.shelf.forget();
                return Err(error);
            }
            self.shelf.pop();
            retained.segments += 1;
            retained.bytes += bytes;
        }
        retained.first_seq = self.begun_from(0)?.0;
        Ok(retained)
    }

    /// Brings the shelf up to date with what happened since the last look.
    fn look_at_shelf(&mut self) -> Result<(), Error> {
        for (id, bytes) in self.packer.take_packed() {
            self.shelf.resize(id, bytes);
        }
        if self.shelf.sealed.is_some() {
            return Ok(());
        }
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        for (name, bytes) in self.storage.sizes(&self.dir).map_err(Error::io("listing", &self.dir))? {
            if let Some((id, _)) = segment::parse_name(&name).filter(|(id, _)| *id < self.segment.id) {
                // Both forms of one that is being compressed count.
                *found.entry(id).or_default() += bytes;
            }
        }
        self.shelf.bytes = found.values().sum();
        self.shelf.sealed = Some(found.into_iter().map(|(id, bytes)| Sealed { id, bytes, begun: None }).collect());
        Ok(())
    }

    /// First seq and time of the oldest segment but `nth` that can be read.
    fn begun_from(&mut self, nth: usize) -> Result<(u64, i64), Error> {
        let (storage, dir, check) = (&*self.storage, &self.dir, self.check);
        for sealed in self.shelf.sealed.iter_mut().flatten().skip(nth) {
            let begun = match sealed.begun {
                Some(begun) => begun,
                None => {
                    let file = folder::open(storage, dir, sealed.id, check)?;
                    let at = |file: SegmentFile| Begun::At {
                        first_seq: file.header.first_seq,
                        created_ns: file.header.created_ns,
                    };
                    *sealed.begun.insert(file.map_or(Begun::Unknown, at))
                }
            };
            if let Begun::At { first_seq, created_ns } = begun {
                return Ok((first_seq, created_ns));
            }
        }
        Ok((self.segment.first_seq, self.segment.created_ns))
    }

    /// The newest segment that begins with the user's state; 0 = there is none.
    fn newest_stated(&self) -> Result<u64, Error> {
        if self.stated > 0 {
            return Ok(self.stated);
        }
        let ids = self.shelf.sealed.iter().flatten().map(|sealed| sealed.id);
        newest_stated(&*self.storage, &self.dir, ids.rev(), self.segment.first_seq, self.check)
    }

    /// The required reader that is furthest behind, and the seq it is done with.
    fn slowest(&self, policy: &Retention) -> Result<Option<(String, u64)>, Error> {
        slowest(&*self.storage, &self.dir, policy, self.tape_id())
    }

    fn remove_segment(&self, id: u64) -> Result<(), Error> {
        let _guard = self.packer.exclude();
        remove_segment(&*self.storage, &self.dir, id, &self.maker.allocator)
    }
}

/// Lets the oldest segment go for a log that cannot be opened, because the disk is full; what holds it is the same. `false`:
/// there is none that may go.
pub(crate) fn make_room(maker: &Maker, policy: &Retention, check: Check) -> Result<bool, Error> {
    let (storage, dir) = (&*maker.storage, &*maker.dir);
    let ids = folder::list(storage, dir)?;
    let Some(oldest) = ids.first().copied() else { return Ok(false) };
    if oldest >= newest_stated(storage, dir, ids.iter().rev().copied(), u64::MAX, check)? {
        return Ok(false);
    }
    let Some(behind) = folder::open_next(storage, dir, oldest + 1, check)? else { return Ok(false) };
    let slowest = slowest(storage, dir, policy, maker.tape_id)?;
    if slowest.is_some_and(|(_, done_seq)| done_seq + 1 < behind.header.first_seq) {
        return Ok(false);
    }
    remove_segment(storage, dir, oldest, &maker.allocator)?;
    Ok(true)
}

/// Of segments, newest first, the first that begins with the user's state; 0 = there is none. Seqs from `seq_end` on are in none.
fn newest_stated(
    storage: &dyn Storage,
    dir: &Path,
    ids: impl Iterator<Item = u64>,
    mut seq_end: u64,
    check: Check,
) -> Result<u64, Error> {
    for id in ids {
        let Some(file) = folder::open(storage, dir, id, check)? else { continue };
        if begins_with_checkpoint(&file, file.len_bytes, seq_end, check) {
            return Ok(id);
        }
        seq_end = file.header.first_seq;
    }
    Ok(0)
}

fn slowest(
    storage: &dyn Storage,
    dir: &Path,
    policy: &Retention,
    tape_id: Uuid,
) -> Result<Option<(String, u64)>, Error> {
    let hasty = storage.flaw(Flaw::UnlinkBeforeCursorSync);
    let mut slowest: Option<(String, u64)> = None;
    let always = policy.required.iter().map(|name| (name, Some(0)));
    for (name, unbegun) in always.chain(policy.once_begun.iter().map(|name| (name, None))) {
        let Some(seq) = cursor::synced_seq(storage, dir, name, tape_id, hasty)?.or(unbegun) else { continue };
        if slowest.as_ref().is_none_or(|(_, least)| seq < *least) {
            slowest = Some((name.clone(), seq));
        }
    }
    Ok(slowest)
}

/// Removes the files of a segment, its own before the compressed one: what stays after a crash between the two is whole.
fn remove_segment(storage: &dyn Storage, dir: &Path, id: u64, allocator: &Allocator) -> Result<(), Error> {
    let (raw, packed) = (dir.join(segment::file_name(id)), dir.join(segment::packed_name(id)));
    gone(allocator.give_back(&raw)).map_err(Error::io("removing", &raw))?;
    gone(storage.remove(&packed)).map_err(Error::io("removing", &packed))?;
    storage.sync_dir(dir).map_err(Error::io("syncing", dir))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}
