//! Where events come from: one file (or folder) a venue, one row in [`KINDS`].

use std::path::PathBuf;

use async_trait::async_trait;
use tapedeck_market::SmolStr;

pub use crate::intake::{Outlet, Stopped};

pub mod betfair;
pub mod binance;
mod cursor;
pub mod file;
pub mod history;
pub mod http;
pub mod kite;
pub mod kraken;
pub mod listed;
pub mod liveness;
mod masking;
mod net;
pub mod oanda;
mod parsed;
pub mod reread;
mod socket;
pub mod split;
pub mod x;
pub mod zmq;

/// A connection to a venue.
///
/// A source connects, subscribes and emits; it does not reconnect, count, or know the tape.
#[async_trait]
pub trait Source: Send {
    /// One session. Returning, with or without an error, means "connect me again"; the supervisor
    /// owns the back-off. Dropping the future at any await must be harmless.
    ///
    /// # Errors
    /// [`Waiting`] (found by downcast) when only a person can help; anything else is retried.
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()>;

    /// Tries the venue without recording: connects, subscribes, leaves. What it found, in words.
    ///
    /// # Errors
    /// What does not work, and what to do about it.
    async fn check(&mut self) -> anyhow::Result<String>;
}

/// Only a person can help: a missing secret, an expired login. Shown as `waiting: …`, tried again now and then, quietly.
#[derive(Debug, thiserror::Error)]
#[error("waiting: {0}")]
pub struct Waiting(pub String);

/// How long the venue wants to be left alone, as context of an error: the source knows its rules, the supervisor waits.
/// Without it the supervisor's own waits apply.
#[derive(Debug, thiserror::Error)]
#[error("again in {}", crate::config::units::Interval(*.0))]
pub struct Again(pub std::time::Duration);

/// Everything there is to deliver has been delivered (the end of a file): not an error, and no reason to run again.
#[derive(Debug, thiserror::Error)]
#[error("everything is delivered")]
pub struct Finished;

/// Makes what asks a venue for the past, from the table of a source.
pub type Asks = fn(Setup) -> anyhow::Result<Box<dyn history::History>>;
/// Makes what reads recorded frames again, from the table of a source.
pub type Rereads = fn(Setup) -> anyhow::Result<Box<dyn reread::Reread>>;

/// A kind of source: the row of a table, and all the rest of the program knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// As in `kind = "kraken"`.
    pub name: &'static str,
    /// One line for `tapedeck kinds`.
    pub about: &'static str,
    /// Checks the table and makes the sessions it asks for: several when one connection cannot carry them.
    pub build: fn(Setup) -> anyhow::Result<Vec<Session>>,
    /// JSON schema of the table, for editors and for suggestions.
    pub schema: fn() -> schemars::Schema,
    /// Asks for the past, where the venue keeps one.
    pub history: Option<Asks>,
    /// Reads recorded frames again, where frames can be recorded.
    pub reread: Option<Rereads>,
}

/// What a kind is given to build from.
#[derive(Debug)]
pub struct Setup {
    /// Name of the config table: `NAME` of `[source.NAME]`.
    pub name: SmolStr,
    /// The table, without `kind`.
    pub table: toml::Table,
    /// The deck's folder, for caches.
    pub dir: PathBuf,
}

/// One supervised connection.
pub struct Session {
    /// The config table's name, with a suffix when a table has several: `kraken`, `kraken/private`.
    pub name: SmolStr,
    pub venue: SmolStr,
    pub source: Box<dyn Source>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("name", &self.name).field("venue", &self.venue).finish_non_exhaustive()
    }
}

/// Every kind of source there is.
pub const KINDS: &[Kind] =
    &[betfair::KIND, binance::KIND, file::KIND, http::KIND, kite::KIND, kraken::KIND, oanda::KIND, x::KIND, zmq::KIND];
