//! Readers of the tape that run beside the recorder: one row in [`SERVICES`] each.
//!
//! A service reads the tape and does something with it: candles that go back through the recorder, a bus, a store.
//! It is switched on by its section of the config, started after the sources, started anew when it fails, and ended
//! along the arrows:
//!
//! ```text
//! sources ─► Stage::Derive (may still write) ─► recorder ─► Stage::Serve (delivers the last words)
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Map, Value};
use tapedeck_market::SmolStr;
use tapedeck_tape::Tail;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::intake::Outlet;
use crate::sinks::{Done, Order};
use crate::status::{Overview, SinkTimes};

/// Every kind of service there is.
pub const SERVICES: &[ServiceKind] = &[
    crate::repair::KIND,
    crate::candles::KIND,
    crate::synthetic::KIND,
    crate::bus::KIND,
    crate::store::KIND,
    crate::sync::service::KIND,
    crate::heartbeat::KIND,
    crate::alerts::KIND,
];

/// A reader of the tape that runs while the deck does.
#[async_trait]
pub trait Service: Send {
    /// Runs until `stop`; then it finishes what is on the tape (up to its durable end at that moment) and returns.
    /// What blocks belongs on a thread of its own. A return without an error before `stop` means that there is
    /// nothing left to do; an error, or a panic, means "make me anew and start me again", with growing waits.
    ///
    /// # Errors
    /// Anything that a new start may mend.
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()>;
}

/// Something that a running sink is asked to do with its dead letters.
#[derive(Debug)]
pub struct Asked {
    pub order: Order,
    pub reply: oneshot::Sender<Result<Done, String>>,
}

/// What a service is given by the deck.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Name of the service, of its cursor, and of the source of what it writes.
    pub name: SmolStr,
    /// The deck's folder, which is the tape's.
    pub dir: PathBuf,
    /// The durable end of the tape, for readers in this process.
    pub tape: Arc<Tail>,
    /// The way to the recorder; only [`Stage::Derive`] has one, because the recorder ends when nobody can write any more.
    pub out: Option<Outlet>,
    pub shown: Arc<Shown>,
    /// What the whole deck says of itself.
    pub status: Overview,
    /// What sinks are asked while they run; held by the one life of a service that listens.
    pub asked: Arc<tokio::sync::Mutex<mpsc::Receiver<Asked>>>,
}

/// What a service says of itself, for status, screen and metrics.
#[derive(Debug, Default)]
pub struct Shown {
    state: Mutex<String>,
    detail: Mutex<Map<String, Value>>,
    /// When it last said something of itself.
    said: Mutex<Option<Instant>>,
    times: Mutex<SinkTimes>,
}

impl Shown {
    /// `running`, `waiting: …`: a few words.
    pub fn set_state(&self, state: impl Into<String>) {
        *lock(&self.state) = state.into();
    }

    /// Figures by name: numbers become metrics, everything is in `status --json`.
    pub fn set_detail(&self, detail: Map<String, Value>) {
        *lock(&self.said) = Some(Instant::now());
        *lock(&self.detail) = detail;
    }

    /// One figure.
    pub fn set(&self, key: &str, value: impl Into<Value>) {
        *lock(&self.said) = Some(Instant::now());
        lock(&self.detail).insert(key.to_owned(), value.into());
    }

    /// One figure less.
    pub fn unset(&self, key: &str) {
        lock(&self.detail).remove(key);
    }

    /// For how long it has said nothing of itself; nothing yet: no time.
    #[must_use]
    pub fn silence(&self) -> Duration {
        lock(&self.said).map_or(Duration::ZERO, |said| said.elapsed())
    }

    /// How long its work takes.
    pub fn set_times(&self, times: SinkTimes) {
        *lock(&self.times) = times;
    }

    #[must_use]
    pub fn times(&self) -> SinkTimes {
        lock(&self.times).clone()
    }

    #[must_use]
    pub fn state(&self) -> String {
        lock(&self.state).clone()
    }

    #[must_use]
    pub fn detail(&self) -> Map<String, Value> {
        lock(&self.detail).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a service ends: with what it produces, or with what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Writes to the tape what it makes of the tape. Ends after the sources and before the recorder.
    Derive,
    /// Delivers the tape to others. Ends after the recorder.
    Serve,
}

/// Whether the tape waits for a reader before it forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// What is overrun is missed.
    Nothing,
    /// What it has not read stays, from the first record on.
    Everything,
    /// What it has not read stays once it has begun. A program that was never built holds nothing back.
    OnceBegun,
}

/// A kind of service: the row of a table, and all the deck knows of it.
#[derive(Clone, Copy, Debug)]
pub struct ServiceKind {
    /// As its section is called: `[candles]`; for sinks the stage of their tables.
    pub name: &'static str,
    pub stage: Stage,
    /// What the tape keeps of what this reader's cursor has not passed.
    pub holds: Holds,
    /// Its section, if the config has it. A section that changed restarts the service.
    pub section: fn(&Config) -> Option<toml::Value>,
    /// Makes it from the config; called again after a failure.
    pub build: fn(&Setup) -> anyhow::Result<Box<dyn Service>>,
}

/// What a service is built from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The service's name: that of its kind, or of its table where there are several of a kind.
    pub name: SmolStr,
    pub config: Arc<Config>,
    /// The deck's folder.
    pub dir: PathBuf,
}

/// A section as TOML, for [`ServiceKind::section`].
#[must_use]
pub fn section_of<T: serde::Serialize>(section: Option<&T>) -> Option<toml::Value> {
    // A section came out of TOML, so it goes back into it.
    section.and_then(|section| toml::Value::try_from(section).ok())
}
