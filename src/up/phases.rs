//! How far a start or a stop is: what the supervisor writes down, and what `up` and `down` print.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::process::Identity;
use super::table::DECK;

/// The phases of a start, in order.
pub const PHASES: [&str; 6] = ["servers", "retention", "sources", "sinks", "grafana", "validation"];

/// What the supervisor says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Supervisor {
    pub identity: Identity,
    pub version: String,
    pub stage: Stage,
    /// RFC 3339.
    pub started: String,
    /// From its start until all was ready.
    pub took_ms: Option<u64>,
    pub config: Option<PathBuf>,
    /// The servers that it keeps, each with what changes with its settings; `None`: by an earlier version, which did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<BTreeMap<String, String>>,
    pub phases: Vec<Phase>,
    /// Where things can be reached.
    pub access: Vec<Access>,
    /// What went wrong.
    pub trouble: Option<Trouble>,
    /// What was ended, in that order, and how.
    pub ended: Vec<String>,
}

impl Supervisor {
    /// Whether it keeps what is called so; an earlier version did not say, and may keep anything.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        name == DECK || self.servers.as_ref().is_none_or(|servers| servers.contains_key(name))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    #[default]
    Starting,
    Up,
    /// A phase failed, and what was started stays, as it was asked for.
    Failed,
    Stopping,
    Down,
}

/// A phase of the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    pub state: PhaseState,
    /// A line for each thing in it.
    pub lines: Vec<String>,
    /// What works, but should be known.
    pub warnings: Vec<String>,
    pub took_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseState {
    #[default]
    Ahead,
    Working,
    Done,
    /// There is nothing in it.
    Skipped,
    Failed,
}

/// An address for a person to copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Access {
    pub what: String,
    pub address: String,
}

/// Why a phase failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    pub phase: String,
    /// `server.influx`, `sink.questdb`, `deck`.
    pub service: String,
    pub why: String,
    /// What it said last.
    pub log: Vec<String>,
    pub log_file: Option<PathBuf>,
    /// What mends it.
    pub fix: String,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.service, self.why)
    }
}

impl std::error::Error for Trouble {}
