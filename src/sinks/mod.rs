//! Where events go: one file (or folder) a store, one row in [`KINDS`].
//!
//! A sink formats and sends. Reading, batching, retries, dead letters and commits are the same for all of them, in
//! `pump`: a sink sees no cursor and no timer, and writing the same batch twice is harmless.
//!
//! ```text
//! tape ─► lanes (live, backlog) ─► pump ─► Sink::write ─► confirmed ─► cursor
//!                                   └─ refused for good ─► dead letters
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tapedeck_market::{Record, SmolStr, Uuid};

mod asked;
pub mod audit;
mod books;
mod candles;
mod dead;
mod delivery;
pub mod grafana;
pub(crate) mod http;
mod influx;
mod lane;
mod line;
mod order;
pub mod postgres;
mod progress;
mod pump;
mod questdb;
mod retry;
mod service;

pub use asked::{Question, Retention, Table};
pub use dead::{Letter, folder as dead_letters_folder, list as dead_letters};
pub use delivery::{Begin, Delivery};
pub use influx::{address_of, line_protocol};
pub use order::TimeOf;
pub use retry::{Again, Deed, Done, Order, without_deck as letters_without_deck};
pub use service::{KIND as SERVICE, build, plan_of};

/// Every kind of sink there is.
pub const KINDS: &[Kind] = &[influx::KIND, postgres::KIND, questdb::KIND];

/// A store that takes records.
#[async_trait]
pub trait Sink: Send {
    /// Connects, makes what is missing (database, tables), and says what the store itself knows of that tape. Called before
    /// the first batch, and again after each outage.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`]: asked again later.
    async fn open(&mut self, tape: Uuid) -> Result<Opened, SinkError>;

    /// Writes a batch; returning means that the store has confirmed all of it. The same batch may come again, whole or cut
    /// otherwise: writing it twice must be harmless. Dropping the future at any await must be harmless too.
    ///
    /// # Errors
    /// Each says what the pump does next.
    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// Levels a side, for a store that wants each state of a book: a record of kind `book` then holds the best levels as a
    /// snapshot, is left out where they did not change, and its `depth` is how many are known. `None`: books as recorded.
    fn books(&self) -> Option<usize> {
        None
    }

    /// The time under which it keeps a record, for a store in which the last of one series and time that comes is the one that stays:
    /// what overtook a backlog is then delivered once more behind it. `None`: the order in which records come does not matter.
    fn times(&self) -> Option<TimeOf> {
        None
    }

    /// Of a record that is about to be sent again alone, what a newer one may have put in its place; `None`: nothing.
    ///
    /// # Errors
    /// As of [`Sink::write`].
    async fn would_replace(&mut self, record: &Record) -> Result<Option<String>, SinkError> {
        let _ = record;
        Ok(None)
    }

    /// Called every few seconds between batches, also while there is nothing to write: partitions made ahead, a look at the
    /// store's health.
    ///
    /// # Errors
    /// As of [`Sink::write`].
    async fn tend(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// What a person should know although everything is delivered; it stands in the status.
    fn note(&self) -> Option<String> {
        None
    }

    /// Tries the store without delivering: connection, credentials, a write and its reading back. A line for each thing found;
    /// one that begins with [`WARNING`] is something to look at.
    ///
    /// # Errors
    /// What does not work, and what to do about it.
    async fn check(&mut self) -> anyhow::Result<Vec<String>>;

    /// Whether [`Sink::ask`] has answers.
    fn answers(&self) -> bool {
        false
    }

    /// What it holds, for people.
    ///
    /// # Errors
    /// It cannot be reached, or cannot be asked that.
    async fn ask(&mut self, question: &Question) -> anyhow::Result<Table> {
        anyhow::bail!("this kind of store cannot be asked: {question:?}")
    }

    /// How long it keeps what, where that can be managed from here.
    fn retention(&mut self) -> Option<&mut dyn Retention> {
        None
    }

    /// How a Grafana asks it: its data source, and the language of the questions. `None`: Grafana has no data source for it.
    ///
    /// # Errors
    /// It must be asked where it keeps what, and cannot be.
    async fn grafana(&mut self) -> anyhow::Result<Option<(grafana::Source, grafana::Asks)>> {
        Ok(None)
    }

    /// What it holds, for `tapedeck reconcile`; `None`: it cannot say.
    fn audit(&mut self) -> Option<&mut dyn audit::Audit> {
        None
    }
}

/// Begins a line of [`Sink::check`] that is no failure, and yet not as it should be.
pub const WARNING: &str = "warning: ";

/// Records for a store, in the order of the tape.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// With the seq of a record its identity, unless the event has an `origin`.
    pub tape: Uuid,
    pub records: &'a [Record],
    /// What a store that can commit it together with the records should keep for [`Opened::Mark`]. Without any record it is the mark
    /// alone that moves: they became dead letters. `None`: what it keeps stays as it is.
    pub mark: Option<&'a [u8]>,
    /// Newer records may have been delivered before these: a newer row must not be replaced.
    pub late: bool,
    /// Seqs of those of which a part was refused ([`Fate::Part`]), and is a dead letter by now: the rest of each is wanted.
    pub parted: &'a BTreeSet<u64>,
}

/// What a store knows of a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It keeps no mark: the cursor counts.
    NoMark,
    /// The mark of the last batch that it committed; it counts more than the cursor.
    Mark(Vec<u8>),
    /// It keeps marks, and has none of this tape: nothing of it was delivered there.
    Empty,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The store cannot be reached, or cannot take anything now. The same batch is sent again, for ever, with growing waits.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
    /// Only a person can help: wrong password, missing permission. Tried again like an outage, but shown as `waiting: …`.
    #[error("{0:#}")]
    Waiting(anyhow::Error),
    /// The request was too large, or took too long: the batch is sent again in parts.
    #[error("{0}")]
    TooMuch(String),
    /// Some records will never be taken; they become dead letters.
    #[error("{} records refused", .0.rejects.len())]
    Refused(Refusal),
    /// The whole batch was refused for something in it, and nothing was stored: it is cut in halves until it is known what.
    #[error("{0}")]
    BatchRefused(String),
    /// What was confirmed lately may be lost: everything recorded in the last so long is delivered again, then this batch.
    #[error("{cause}")]
    Rewind { by: Duration, cause: String },
}

/// The records that a store will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub rejects: Vec<Reject>,
    /// Whether the rest of the batch was stored; else it is sent again without the rejects.
    pub rest_stored: bool,
}

/// A record of a batch that will never be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its place in the batch.
    pub index: usize,
    /// Why, in the store's words; cut and cleaned by the pump.
    pub words: String,
    pub fate: Fate,
}

/// What becomes of a record that was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is a dead letter.
    #[default]
    Letter,
    /// A part of it is, which the words name. It is sent again, and then without that part ([`Batch::parted`]).
    Part,
    /// The store would have forgotten it by now: it is counted, and no letter takes the place of one that somebody can help.
    Expired,
}

impl Reject {
    /// One that becomes a dead letter.
    #[must_use]
    pub fn new(index: usize, words: impl Into<String>) -> Reject {
        Reject { index, words: words.into(), fate: Fate::Letter }
    }
}

/// A kind of sink: the row of a table, and all the rest of the program knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// As in `kind = "influx"`.
    pub name: &'static str,
    /// One line for `tapedeck kinds`.
    pub about: &'static str,
    /// Checks the table and makes the sink; connects to nothing.
    pub build: fn(Setup) -> anyhow::Result<Box<dyn Sink>>,
    /// JSON schema of the table without the keys of [`Delivery`].
    pub schema: fn() -> schemars::Schema,
}

/// What a kind is given to build from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name of the config table: `NAME` of `[sink.NAME]`.
    pub name: SmolStr,
    /// The table, without `kind` and the keys of [`Delivery`].
    pub table: toml::Table,
    /// The deck's folder, for caches.
    pub dir: PathBuf,
}
