//! One folder of the model: the names that programs see, those that a power cut leaves, and the changes between them.

use std::collections::BTreeMap;

use super::file::Keep;
use super::rng::Rng;

#[derive(Clone, Default)]
pub(super) struct Dir {
    pub names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pub pending: Vec<NameChange>,
}

/// A creation, removal or renaming that no folder sync has made durable.
#[derive(Clone)]
pub(super) enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename { from: String, to: String, inode: u64 },
}

impl Dir {
    /// Puts a name in place, durable at once.
    pub(super) fn put(&mut self, name: String, inode: u64) {
        self.names.insert(name.clone(), inode);
        self.durable.insert(name, inode);
    }

    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.names);
    }

    /// The folder after a power cut.
    pub(super) fn crashed(&self, rng: &mut Rng) -> Self {
        let mut durable = self.durable.clone();
        let keep = Keep::draw(rng);
        for (index, change) in self.pending.iter().enumerate() {
            if !keep.takes(rng, index, self.pending.len()) {
                continue;
            }
            match change {
                NameChange::Link(name, inode) => {
                    durable.insert(name.clone(), *inode);
                }
                NameChange::Unlink(name) => {
                    durable.remove(name);
                }
                NameChange::Rename { from, to, inode } => {
                    // A later file may have taken the old name; only the one that moved gives it up.
                    if durable.get(from) == Some(inode) {
                        durable.remove(from);
                    }
                    durable.insert(to.clone(), *inode);
                }
            }
        }
        Self { names: durable.clone(), durable, pending: Vec::new() }
    }
}
