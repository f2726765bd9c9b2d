//! The process table: one small file a process in `<dir>/run`, so that every shell sees the same.
//!
//! ```text
//! run/lock              held by the supervisor
//! run/supervisor.json   which phase, what is ready, what went wrong
//! run/deck.json         run/server.NAME.json    which process, since when, how often started again
//! run/deck.log          run/server.NAME.log     what it says
//! ```
//!
//! A file is replaced whole, by a rename: a reader sees the old one or the new one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::phases::Supervisor;
use super::process::Identity;
use crate::logs::redact_text;

const SUPERVISOR: &str = "supervisor";
/// Of the deck itself.
pub const DECK: &str = "deck";
/// All servers, where names are taken.
pub const SERVERS: &str = "servers";

/// Whether names that were given mean this one.
#[must_use]
pub fn means(names: &[String], name: &str) -> bool {
    names.iter().any(|given| given == name || (given == SERVERS && name != DECK))
}

/// A process, or what stands for one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `NAME` of `[server.NAME]`, or `deck`.
    pub name: String,
    pub kind: Kind,
    pub state: State,
    /// Why it is in that state, where there is something to say.
    pub detail: String,
    /// The process of this life; `None` for containers, and for what others run.
    pub identity: Option<Identity>,
    /// What was started, secrets of URLs left out.
    pub command: String,
    /// Of this life: RFC 3339.
    pub since: String,
    /// Since when it is ready, in milliseconds after the start of this life.
    pub ready_ms: Option<u64>,
    /// Lives of it, this one included.
    pub starts: u64,
    /// Of them those that nobody asked for.
    pub restarts: u64,
    /// Lives in a row that ended before they were ready.
    pub failures: u32,
    pub log: PathBuf,
    /// Where the log of this life begins.
    pub log_from: u64,
    /// The place of its start; it is ended before those of a lower one.
    pub order: u32,
    /// What asks it to end, and how long that may take: known also when the config is another one by then.
    pub stop: String,
    pub grace_ms: u64,
    /// Changes with the settings that it was started with.
    pub settings: String,
    /// Of a container: what stops it, known also when the config is another one by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<Compose>,
}

impl Entry {
    /// Whether something of it may run: a process that lives, or a container that nobody has stopped.
    #[must_use]
    pub fn may_run(&self) -> bool {
        match self.compose {
            Some(_) => !matches!(self.state, State::Stopped | State::Hopeless),
            None => self.identity.as_ref().is_some_and(Identity::lives),
        }
    }
}

/// A service of a compose file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compose {
    /// As the config has it: seen from `dir`.
    pub file: PathBuf,
    pub service: String,
    /// Where `docker` is started; absolute, since who stops it may stand elsewhere.
    pub dir: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Server,
    Compose,
    /// Somebody else runs it.
    Outside,
    Deck,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[default]
    Stopped,
    Starting,
    Running,
    /// It runs, and does not answer any more.
    Silent,
    /// It ended, and is started again after a wait.
    Waiting,
    Stopping,
    /// It is not started again until somebody asks for it.
    Hopeless,
}

impl State {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Running => "running",
            State::Silent => "not answering",
            State::Waiting => "waiting",
            State::Stopping => "stopping",
            State::Hopeless => "hopeless",
        }
    }
}

/// The folder of the table.
#[derive(Clone, Debug)]
pub struct Table {
    dir: PathBuf,
}

/// Held as long as this lives: by the supervisor of the folder, or by whoever cleans up after one.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "its end is what counts")] File);

impl Table {
    /// The table of a deck whose tape is in `dir`. Nothing is made.
    #[must_use]
    pub fn of(dir: &Path) -> Table {
        Table { dir: dir.join("run") }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self) -> anyhow::Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.with_context(|| format!("making the folder {}", self.dir.display()))
    }

    /// The lock of the folder; `None` while another process holds it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn lock(&self) -> anyhow::Result<Option<Lock>> {
        self.make()?;
        let path = self.dir.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Whether a supervisor holds the folder.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.dir.join("lock").exists() && matches!(self.lock(), Ok(None))
    }

    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, entry: &Entry) -> anyhow::Result<()> {
        let mut entry = entry.clone();
        for text in [&mut entry.detail, &mut entry.command] {
            *text = redact_text(text);
        }
        self.put(&file_of(&entry.name), &entry)
    }

    pub fn remove(&self, name: &str) {
        // One that is not there is removed.
        let _ = std::fs::remove_file(self.dir.join(format!("{}.json", file_of(name))));
    }

    /// Every process of the table, in the order of their start. A file that cannot be read is no entry.
    #[must_use]
    pub fn list(&self) -> Vec<Entry> {
        let Ok(files) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        let named = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
        let mut entries: Vec<Entry> =
            named.filter(|name| name != SUPERVISOR).filter_map(|name| self.get(&name)).collect();
        entries.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        entries
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<Entry> {
        self.get(&file_of(name))
    }

    /// # Errors
    /// The file cannot be written.
    pub fn write_supervisor(&self, supervisor: &Supervisor) -> anyhow::Result<()> {
        let mut supervisor = supervisor.clone();
        let phases = supervisor.phases.iter_mut().flat_map(|phase| phase.lines.iter_mut().chain(&mut phase.warnings));
        let trouble =
            supervisor.trouble.iter_mut().flat_map(|trouble| trouble.log.iter_mut().chain([&mut trouble.why]));
        for text in phases.chain(trouble).chain(&mut supervisor.ended) {
            *text = redact_text(text);
        }
        self.put(SUPERVISOR, &supervisor)
    }

    /// What the supervisor said last, whether it still lives or not.
    #[must_use]
    pub fn supervisor(&self) -> Option<Supervisor> {
        self.get(SUPERVISOR)
    }

    /// Where a process writes what it says.
    #[must_use]
    pub fn log_of(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.log", file_of(name)))
    }

    /// Where the supervisor writes what it says.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.dir.join(format!("{SUPERVISOR}.log"))
    }

    fn put(&self, file: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let path = self.dir.join(format!("{file}.json"));
        // Only the holder of the lock writes: the name of the new file is nobody else's.
        let new = self.dir.join(format!("{file}.json.new"));
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            std::fs::rename(&new, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    fn get<T: DeserializeOwned>(&self, file: &str) -> Option<T> {
        let path = self.dir.join(format!("{file}.json"));
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %error, "this part of the process table cannot be read");
                None
            }
        }
    }
}

fn file_of(name: &str) -> String {
    if name == DECK { name.to_owned() } else { format!("server.{name}") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_in_the_order_of_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::of(dir.path());
        assert!(table.list().is_empty(), "there is no folder");
        table.make().unwrap();
        for (name, order) in [(DECK, 9), ("b", 0), ("a", 1)] {
            table.write(&Entry { name: name.to_owned(), order, ..Entry::default() }).unwrap();
        }
        std::fs::write(table.dir().join("server.torn.json"), b"{").unwrap();
        let names: Vec<String> = table.list().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["b", "a", DECK]);
        let mode = std::fs::metadata(table.dir().join("deck.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        table.remove("a");
        assert_eq!(table.find("a"), None);
        assert!(table.find("b").is_some());
    }

    #[test]
    fn one_folder_has_one_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::of(dir.path());
        assert!(!table.is_held(), "and a question makes nothing");
        assert!(!table.dir().exists());
        let lock = table.lock().unwrap().unwrap();
        assert!(table.lock().unwrap().is_none());
        assert!(table.is_held());
        drop(lock);
        assert!(!table.is_held());
    }
}
