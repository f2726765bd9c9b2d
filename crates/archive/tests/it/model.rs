//! A disk in memory that crashes, or is full, when it is told to.
//!
//! What a file holds is durable when it was written, because writing includes its sync. A name is durable when the folder it is
//! in was synced after it was made, moved or removed; of all other changes a power cut leaves some and not others, in no order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tapedeck_archive::disk::{Disk, Name};

#[derive(Clone, Debug)]
enum Node {
    Dir,
    File(Bytes),
}

type Tree = BTreeMap<PathBuf, Node>;

/// A change of names.
#[derive(Clone, Debug)]
enum Change {
    Make(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Change {
    fn paths(&self) -> Vec<&Path> {
        match self {
            Change::Make(path, _) | Change::Remove(path) => vec![path],
            Change::Rename(one, other) | Change::Exchange(one, other) | Change::Link(one, other) => vec![one, other],
        }
    }

    /// The folders whose names it changes.
    fn touches(&self, dir: &Path) -> bool {
        match self {
            Change::Link(_, to) => parent(to) == dir,
            other => other.paths().into_iter().any(|path| parent(path) == dir),
        }
    }

    fn apply(&self, tree: &mut Tree) -> io::Result<()> {
        match self {
            Change::Make(path, node) => {
                if !tree.contains_key(parent(path)) {
                    return Err(missing());
                }
                tree.insert(path.clone(), node.clone());
            }
            Change::Rename(from, to) => {
                let nodes = take(tree, from)?;
                put(tree, to, nodes);
            }
            Change::Exchange(one, other) => {
                if !tree.contains_key(one) || !tree.contains_key(other) {
                    return Err(missing());
                }
                let (first, second) = (take(tree, one)?, take(tree, other)?);
                put(tree, one, second);
                put(tree, other, first);
            }
            Change::Link(from, to) => {
                let node = tree.get(from).cloned().ok_or_else(missing)?;
                tree.insert(to.clone(), node);
            }
            Change::Remove(path) => {
                tree.remove(path).ok_or_else(missing)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct ModelDisk(Mutex<State>, Mutex<()>);

#[derive(Debug)]
struct State {
    /// As the disk was when this model began.
    base: Tree,
    tree: Tree,
    /// Every change since, and whether it is durable.
    journal: Vec<(Change, bool)>,
    calls: u64,
    crash_at: u64,
    /// Whether the call that crashes still happens.
    crash_after: bool,
    full: bool,
    /// A bug to commit on purpose: folders with this in their path are not synced.
    unsynced: Option<&'static str>,
}

impl State {
    /// Counts a call; an error when the process is gone before it.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.calls > self.crash_at || (self.calls == self.crash_at && !self.crash_after) {
            return Err(io::Error::other("the process is gone"));
        }
        Ok(())
    }

    /// Makes a change durable, and what must have happened before it to these names.
    fn settle(&mut self, nth: usize) {
        if std::mem::replace(&mut self.journal[nth].1, true) {
            return;
        }
        let paths: Vec<PathBuf> = self.journal[nth].0.paths().into_iter().map(Path::to_path_buf).collect();
        for earlier in (0..nth).rev() {
            let same = |path: &Path| paths.iter().any(|own| own == path || own.starts_with(path));
            if self.journal[earlier].0.paths().into_iter().any(same) {
                self.settle(earlier);
            }
        }
    }
}

impl ModelDisk {
    pub(crate) fn new() -> Arc<ModelDisk> {
        ModelDisk::with(Tree::from([(PathBuf::from("/"), Node::Dir)]))
    }

    fn with(base: Tree) -> Arc<ModelDisk> {
        Arc::new(ModelDisk(
            Mutex::new(State {
                tree: base.clone(),
                base,
                journal: Vec::new(),
                calls: 0,
                crash_at: u64::MAX,
                crash_after: false,
                full: false,
                unsynced: None,
            }),
            Mutex::new(()),
        ))
    }

    pub(crate) fn crash_at(&self, call: u64, after: bool) {
        let mut state = self.0.lock().unwrap();
        (state.crash_at, state.crash_after) = (call, after);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    /// Until this is dropped, no write of a file returns.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.1.lock().unwrap()
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    pub(crate) fn forget_to_sync(&self, folders: &'static str) {
        self.0.lock().unwrap().unsynced = Some(folders);
    }

    /// What a power cut leaves, one of the possibilities; `seed` says which.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Arc<ModelDisk> {
        let state = self.0.lock().unwrap();
        let mut tree = state.base.clone();
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for (change, durable) in &state.journal {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if *durable || random & 1 == 0 {
                // One that rests on another that is lost is lost with it.
                let _ = change.apply(&mut tree);
            }
        }
        ModelDisk::with(tree)
    }

    /// What a killed process leaves.
    pub(crate) fn after_kill(&self) -> Arc<ModelDisk> {
        ModelDisk::with(self.0.lock().unwrap().tree.clone())
    }

    /// Every file below a folder.
    pub(crate) fn files(&self, dir: &str) -> Vec<(PathBuf, Bytes)> {
        let state = self.0.lock().unwrap();
        let below = state.tree.iter().filter(|(path, _)| path.starts_with(dir));
        below
            .filter_map(|(path, node)| match node {
                Node::File(bytes) => Some((path.clone(), bytes.clone())),
                Node::Dir => None,
            })
            .collect()
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.call()?;
        change.apply(&mut state.tree)?;
        state.journal.push((change, false));
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// Takes a path and all below it out of the tree.
fn take(tree: &mut Tree, from: &Path) -> io::Result<Vec<(PathBuf, Node)>> {
    if !tree.contains_key(from) {
        return Err(missing());
    }
    let paths: Vec<PathBuf> = tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
    let below = |path: PathBuf| {
        let node = tree.remove(&path).unwrap();
        (path.strip_prefix(from).unwrap().to_path_buf(), node)
    };
    Ok(paths.into_iter().map(below).collect())
}

fn put(tree: &mut Tree, to: &Path, nodes: Vec<(PathBuf, Node)>) {
    for (below, node) in nodes {
        let path = if below.as_os_str().is_empty() { to.to_path_buf() } else { to.join(below) };
        tree.insert(path, node);
    }
}

impl Disk for ModelDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        for folder in dir.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !self.0.lock().unwrap().tree.contains_key(folder) {
                self.change(Change::Make(folder.to_path_buf(), Node::Dir))?;
                self.sync_dir(parent(folder))?;
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        let state = self.0.lock().unwrap();
        let within = state.tree.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(within
            .map(|(path, node)| Name {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                is_dir: matches!(node, Node::Dir),
            })
            .collect())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let _held = self.1.lock().unwrap();
        if self.0.lock().unwrap().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(Change::Make(path.to_path_buf(), Node::File(Bytes::copy_from_slice(bytes))))
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        match self.0.lock().unwrap().tree.get(path) {
            Some(Node::File(bytes)) => Ok(bytes.clone()),
            _ => Err(missing()),
        }
    }

    fn read_end(&self, path: &Path, len: usize) -> io::Result<(Bytes, u64)> {
        let bytes = self.read(path)?;
        Ok((bytes.slice(bytes.len().saturating_sub(len)..), bytes.len() as u64))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Change::Rename(from.to_path_buf(), to.to_path_buf()))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.change(Change::Exchange(one.to_path_buf(), other.to_path_buf()))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Change::Link(from.to_path_buf(), to.to_path_buf()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Change::Remove(path.to_path_buf()))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        // One name after another, so that a crash leaves some.
        let names: Vec<PathBuf> = {
            let state = self.0.lock().unwrap();
            state.tree.keys().filter(|path| path.starts_with(dir)).rev().cloned().collect()
        };
        names.iter().try_for_each(|path| self.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.call()?;
        if state.unsynced.is_some_and(|folders| dir.to_string_lossy().contains(folders)) {
            return Ok(());
        }
        for nth in 0..state.journal.len() {
            if state.journal[nth].0.touches(dir) {
                state.settle(nth);
            }
        }
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }
}
