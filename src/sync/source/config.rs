//! Where rows come from, as the config has it.

use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Source;
use super::questdb::QuestDb;
use super::sqlite::SqliteFile;
use crate::config::Secret;
use crate::config::units::Interval;

/// `[sync.source]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it is: a QuestDB by its PostgreSQL port, e.g. `postgresql://admin:quest@127.0.0.1:8812/qdb`, or a SQLite file,
    /// e.g. `sqlite:market.db`.
    pub url: Secret,
    /// How long a question may take before the server counts as away, and how long a locked file is waited for. Default: `1m`.
    #[serde(default = "timeout")]
    pub timeout: Interval,
    /// Where the server does not say which rows a change touched: how far before the newest row each look reads again, so that
    /// late rows come soon. Twice what rows are usually late. Default: `2h`.
    #[serde(default = "overlap")]
    pub overlap: Interval,
    /// Where it does not say so: how often, at most, all rows are summed up to find what changed before `overlap`. Reads the
    /// whole table, a million rows in a second or two. Default: `10m`.
    #[serde(default = "sum_every")]
    pub sum_every: Interval,
}

fn timeout() -> Interval {
    Interval(Duration::from_secs(60))
}

fn overlap() -> Interval {
    Interval(Duration::from_secs(2 * 60 * 60))
}

fn sum_every() -> Interval {
    Interval(Duration::from_secs(600))
}

impl Config {
    /// With that address, and the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Config { url: Secret::new(url), timeout: timeout(), overlap: overlap(), sum_every: sum_every() }
    }

    /// The source that is meant; nothing is connected yet.
    ///
    /// # Errors
    /// A key that is wrong, by its name.
    pub fn open(&self) -> anyhow::Result<Box<dyn Source>> {
        ensure!(!self.timeout.0.is_zero(), "timeout: must be longer than nothing");
        let url = self.url.expose().trim();
        let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
        match scheme {
            "postgres" | "postgresql" => Ok(Box::new(QuestDb::new(self)?)),
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                ensure!(!path.is_empty(), "url: which file? Write it as in sqlite:market.db");
                Ok(Box::new(SqliteFile::new(Path::new(path), self.timeout.0)))
            }
            "http" | "https" => {
                bail!("url: that is QuestDB's web port; rows are read over its PostgreSQL port (8812): {HELP}")
            }
            _ => bail!("url: {HELP}"),
        }
    }
}

/// How an address is written.
const HELP: &str = "write it as in postgresql://admin:quest@127.0.0.1:8812/qdb, or sqlite:market.db";
