//! A file system in memory that fails on purpose: the tape's torture chamber.
//!
//! It is stricter than any real one. Until `sync_data`, written sectors may be lost, torn at 512 bytes and reordered,
//! and an extended area may show zeros or noise. Until `sync_dir`, any creation, removal or renaming in the folder may
//! be lost (syncing a new file does not commit its name); a renaming across two folders is two such entries. After a
//! failed fsync the pages count as clean although they are lost, so that a second fsync says `Ok` and saves nothing.
//!
//! ```text
//! Model ──fork()───► a killed process: what was written is still there, synced or not
//!       └─crash(seed)► a power cut: of what was not synced, whatever the seed says
//! ```
//!
//! Any call can be made to fail ([`Model::fail`]), space can run out ([`Model::set_capacity`]), surfaces go bad
//! ([`Model::flip`], [`Model::make_unreadable`]). The same seed gives the same disaster.

mod dir;
mod file;
mod rng;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::dir::{Dir, NameChange};
use self::file::{Inode, PAGE_BYTES};
pub use self::rng::Rng;
use crate::storage::{Flaw, Storage, StorageFile};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// The calls of [`Storage`] and [`StorageFile`], for counting them and for making one fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Open,
    OpenRead,
    List,
    CreateDir,
    Remove,
    Rename,
    SyncDir,
    Lock,
    Read,
    Write,
    Sync,
    SetLen,
    Len,
}

impl Call {
    const COUNT: usize = Call::Len as usize + 1;
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// `EIO`, and nothing happens; a failed `sync_data` also loses what was pending.
    Eio,
    /// `ENOSPC`, and nothing happens; a failed `sync_data` also loses what was pending.
    Enospc,
    /// A write takes only a part of the bytes. Other calls go through.
    ShortWrite,
    /// The call is under way when the power goes: it may or may not have its effect, and no later call does anything.
    PowerCut,
}

/// Which call fails, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Only calls of this kind are counted; `None` counts all.
    pub call: Option<Call>,
    /// The first is 1, counted from when the fault is set.
    pub nth: u64,
    pub failure: Failure,
    /// Whether every later call of the kind fails too.
    pub for_ever: bool,
}

/// The file system. Clones are handles to the same one; [`Model::fork`] and [`Model::crash`] make others.
#[derive(Clone)]
pub struct Model {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    rng: Rng,
    dirs: BTreeMap<PathBuf, Dir>,
    inodes: BTreeMap<u64, Arc<Inode>>,
    next_inode: u64,
    locked: BTreeSet<u64>,
    faults: Vec<Fault>,
    strikes: u64,
    powered: bool,
    capacity: Option<u64>,
    flaws: Vec<Flaw>,
    calls: [u64; Call::COUNT],
}

impl Model {
    /// An empty file system. The seed decides where short writes end and what a failed fsync leaves.
    pub fn new(seed: u64) -> Self {
        Self::from(State {
            rng: Rng::new(seed),
            dirs: BTreeMap::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            locked: BTreeSet::new(),
            faults: Vec::new(),
            strikes: 0,
            powered: true,
            capacity: None,
            flaws: Vec::new(),
            calls: [0; Call::COUNT],
        })
    }

    /// What a killed process leaves: every byte it wrote, synced or not, and no lock. Power is on, faults are gone.
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.locked.clear();
        state.faults.clear();
        state.powered = true;
        Self::from(state)
    }

    /// What a power cut leaves. Everything synced is there; of the rest, what the seed says.
    pub fn crash(&self, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let before = self.state();
        let dirs: BTreeMap<_, _> =
            before.dirs.iter().map(|(path, dir)| (path.clone(), dir.crashed(&mut rng))).collect();
        let reachable: BTreeSet<u64> = dirs.values().flat_map(|dir| dir.names.values().copied()).collect();
        let inodes = reachable.iter().filter_map(|id| Some((*id, before.inodes.get(id)?.crashed(&mut rng)))).collect();
        Self::from(State {
            rng,
            dirs,
            inodes,
            next_inode: before.next_inode,
            locked: BTreeSet::new(),
            faults: Vec::new(),
            strikes: 0,
            powered: true,
            capacity: before.capacity,
            flaws: before.flaws.clone(),
            calls: [0; Call::COUNT],
        })
    }

    /// Sets a fault on top of those set already.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Ends all faults. Power that was cut stays off.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How many calls faults, or the bound on space, have struck so far.
    pub fn strikes(&self) -> u64 {
        self.state().strikes
    }

    /// Whether the power is on.
    pub fn is_powered(&self) -> bool {
        self.state().powered
    }

    /// Bounds the space in use, in bytes (counted in pages of 4 KiB; removing a file frees its own); `None` lifts it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Space in use, in bytes.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Switches a bug on.
    pub fn commit_flaw(&self, flaw: Flaw) {
        self.state().flaws.push(flaw);
    }

    /// Calls of all kinds so far.
    pub fn calls(&self) -> u64 {
        self.state().calls.iter().sum()
    }

    /// Calls of one kind so far.
    pub fn count(&self, call: Call) -> u64 {
        self.state().calls[call as usize]
    }

    /// The bytes of a file as programs see them. Not a call: nothing is counted and nothing fails.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let inode = &state.inodes[&state.find(path)?];
        let mut bytes = vec![0; inode.len() as usize];
        inode.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Puts a file in place, durable at once, name and bytes. Not a call: nothing is counted and nothing fails.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let (dir, name) = split(path);
        let mut state = self.state();
        let id = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(id, Arc::new(Inode::with(bytes)));
        state.dirs.entry(dir).or_default().put(name, id);
    }

    /// Changes one bit of a file where it lies. Past the end it does nothing.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn flip(&self, path: &Path, at: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        state.inode(id).flip(at, bit);
        Ok(())
    }

    /// Makes reads that touch the range fail with `EIO`, for ever.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn make_unreadable(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        state.inode(id).make_unreadable(range);
        Ok(())
    }

    fn from(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A test that panicked elsewhere does not make the file system wrong.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, inode: u64, writable: bool) -> Arc<dyn StorageFile> {
        Arc::new(ModelFile { model: self.clone(), inode, writable })
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let files: usize = state.dirs.values().map(|dir| dir.names.len()).sum();
        f.debug_struct("Model").field("files", &files).field("calls", &state.calls).finish_non_exhaustive()
    }
}

impl Storage for Model {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        let turn = state.begin(Call::Open)?;
        let inode = match state.find(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && create => state.create(path)?,
            found => found?,
        };
        state.end(turn)?;
        Ok(self.file(inode, true))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        let turn = state.begin(Call::OpenRead)?;
        let inode = state.find(path)?;
        state.end(turn)?;
        Ok(self.file(inode, false))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        let turn = state.begin(Call::List)?;
        let names = state.dirs.get(dir).ok_or(ErrorKind::NotFound)?.names.keys().cloned().collect();
        state.end(turn)?;
        Ok(names)
    }

    fn sizes(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        let turn = state.begin(Call::List)?;
        let names = &state.dirs.get(dir).ok_or(ErrorKind::NotFound)?.names;
        let sizes = names.iter().map(|(name, inode)| (name.clone(), state.inodes[inode].len())).collect();
        state.end(turn)?;
        Ok(sizes)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let turn = state.begin(Call::CreateDir)?;
        for folder in dir.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
            state.dirs.entry(folder.to_owned()).or_default();
        }
        state.end(turn)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let turn = state.begin(Call::Remove)?;
        state.find(path)?;
        let (dir, name) = split(path);
        let dir = state.dir(&dir)?;
        dir.names.remove(&name);
        dir.pending.push(NameChange::Unlink(name));
        state.end(turn)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let turn = state.begin(Call::Rename)?;
        let inode = state.find(from)?;
        let (from_dir, from) = split(from);
        let (to_dir, to) = split(to);
        state.dir(&to_dir)?.names.insert(to.clone(), inode);
        let source = state.dir(&from_dir)?;
        if from_dir == to_dir && from == to {
            return state.end(turn);
        }
        source.names.remove(&from);
        if from_dir == to_dir {
            source.pending.push(NameChange::Rename { from, to, inode });
        } else {
            source.pending.push(NameChange::Unlink(from));
            state.dir(&to_dir)?.pending.push(NameChange::Link(to, inode));
        }
        state.end(turn)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let turn = state.begin(Call::SyncDir)?;
        let lying = state.flaws.contains(&Flaw::NoSync);
        let dir = state.dir(dir)?;
        if turn != Turn::PowerCut && !lying {
            dir.sync();
        }
        state.end(turn)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state();
        let turn = state.begin(Call::Lock)?;
        let inode = match state.find(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => state.create(path)?,
            found => found?,
        };
        if !state.locked.insert(inode) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let held = Box::new(Held { model: self.clone(), inode });
        if let Err(error) = state.end(turn) {
            drop(state);
            return Err(error);
        }
        drop(state);
        Ok(held)
    }

    fn flaw(&self, flaw: Flaw) -> bool {
        self.state().flaws.contains(&flaw)
    }
}

/// A lock that is held; dropping it lets go.
struct Held {
    model: Model,
    inode: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.model.state().locked.remove(&self.inode);
    }
}

#[derive(Debug)]
struct ModelFile {
    model: Model,
    inode: u64,
    writable: bool,
}

impl ModelFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }
}

impl StorageFile for ModelFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.model.state();
        let turn = state.begin(Call::Read)?;
        let inode = &state.inodes[&self.inode];
        if inode.refuses(at, buf.len() as u64) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let read = inode.read(buf, at);
        state.end(turn)?;
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        self.check_writable()?;
        let mut state = self.model.state();
        let turn = state.begin(Call::Write)?;
        let mut len = buf.len() as u64;
        if turn == Turn::Short && len > 1 {
            len = 1 + state.rng.below(len - 1);
        }
        if len == 0 {
            return Ok(0);
        }
        len = state.room(self.inode, at, len)?;
        state.inode(self.inode).write(&buf[..len as usize], at);
        state.end(turn)?;
        Ok(len as usize)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.model.state();
        let state = &mut *guard;
        let begun = state.begin(Call::Sync);
        if !state.flaws.contains(&Flaw::NoSync) {
            match &begun {
                Ok(Turn::PowerCut) => {}
                Ok(_) => state.inode(self.inode).sync(),
                Err(_) if !state.powered => {}
                Err(_) => {
                    let mut rng = state.rng;
                    state.inode(self.inode).fail_sync(&mut rng);
                    state.rng = rng;
                }
            }
        }
        state.end(begun?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.model.state();
        let turn = state.begin(Call::SetLen)?;
        state.inode(self.inode).set_len(len);
        state.end(turn)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        let mut state = self.model.state();
        let turn = state.begin(Call::Len)?;
        let len = state.inodes[&self.inode].len();
        state.end(turn)?;
        Ok(len)
    }
}

/// What becomes of a call that has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Go,
    Short,
    PowerCut,
}

impl State {
    /// Counts a call and says whether it may have its effect.
    fn begin(&mut self, call: Call) -> io::Result<Turn> {
        if !self.powered {
            return Err(power_is_off());
        }
        self.calls[call as usize] += 1;
        let mut failure = None;
        for fault in &mut self.faults {
            if fault.call.is_some_and(|only| only != call) {
                continue;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth == 0 && failure.is_none() {
                failure = Some(fault.failure);
            }
        }
        self.strikes += u64::from(failure.is_some());
        self.faults.retain(|fault| fault.nth > 0 || fault.for_ever);
        match failure {
            None => Ok(Turn::Go),
            Some(Failure::ShortWrite) => Ok(Turn::Short),
            Some(Failure::Eio) => Err(io::Error::from_raw_os_error(EIO)),
            Some(Failure::Enospc) => Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Failure::PowerCut) => {
                self.powered = false;
                Ok(Turn::PowerCut)
            }
        }
    }

    /// The answer of a call that had its effect: the caller of the last one never hears it.
    fn end(&mut self, turn: Turn) -> io::Result<()> {
        if turn == Turn::PowerCut { Err(power_is_off()) } else { Ok(()) }
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        let (dir, name) = split(path);
        let dir = self.dirs.get(&dir).ok_or(ErrorKind::NotFound)?;
        Ok(*dir.names.get(&name).ok_or(ErrorKind::NotFound)?)
    }

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        let (dir, name) = split(path);
        let id = self.next_inode;
        let dir = self.dir(&dir)?;
        dir.names.insert(name.clone(), id);
        dir.pending.push(NameChange::Link(name, id));
        self.inodes.insert(id, Arc::default());
        self.next_inode += 1;
        Ok(id)
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn inode(&mut self, id: u64) -> &mut Inode {
        Arc::make_mut(self.inodes.entry(id).or_default())
    }

    fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self.dirs.values().flat_map(|dir| dir.names.values().copied()).collect();
        named.iter().map(|id| self.inodes[id].allocated()).sum()
    }

    /// How much of a write there is space for, in bytes: all, a part that ends with a page, or `ENOSPC`.
    fn room(&mut self, id: u64, at: u64, len: u64) -> io::Result<u64> {
        let Some(capacity) = self.capacity else { return Ok(len) };
        let free = capacity.saturating_sub(self.used());
        let inode = &self.inodes[&id];
        let mut end = at + len;
        while end > at && inode.growth(at, end - at) > free {
            end = (end - 1) / PAGE_BYTES * PAGE_BYTES;
        }
        if end <= at {
            self.strikes += 1;
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(end - at)
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

/// Folder and name of a path.
fn split(path: &Path) -> (PathBuf, String) {
    let dir = path.parent().map(Path::to_owned).unwrap_or_default();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    (dir, name)
}
