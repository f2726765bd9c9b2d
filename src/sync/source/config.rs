//! Where rows come from, as the config has it.

use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Source;
use super::questdb::{self, QuestDb};
use super::sqlite::SqliteFile;
use crate::config::Secret;
use crate::config::units::Interval;

/// `[sync.source]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it is: a QuestDB by its PostgreSQL port, e.g. `postgresql://admin:quest@127.0.0.1:8812/qdb`, or a SQLite file,
    /// e.g. `sqlite:market.db`. It goes before `host` and the four behind it. Default: made of those.
    #[serde(default)]
    pub url: Option<Secret>,
    /// Host of a QuestDB. Default: none, and then there must be a `url`.
    #[serde(default)]
    pub host: Option<String>,
    /// Its PostgreSQL port. Default: 8812.
    #[serde(default)]
    pub port: Option<u16>,
    /// Who asks. Default: `admin`.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of `user`. Default: QuestDB's own, `quest`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Default: `qdb`.
    #[serde(default)]
    pub database: Option<String>,
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

/// Its PostgreSQL port, where none is said.
const PORT: u16 = 8812;

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
        Config {
            url: Some(Secret::new(url)),
            host: None,
            port: None,
            user: None,
            password: None,
            database: None,
            timeout: timeout(),
            overlap: overlap(),
            sum_every: sum_every(),
        }
    }

    /// Where it is, in one text.
    ///
    /// # Errors
    /// It says neither `url` nor `host`.
    pub(super) fn address(&self) -> anyhow::Result<Secret> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let Some(host) = self.host.as_deref().map(str::trim).filter(|host| !host.is_empty()) else {
            bail!("url: where is it? {HELP}");
        };
        let plain =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let user = plain(self.user.as_deref().unwrap_or("admin"));
        let password = plain(self.password.as_ref().map_or("quest", Secret::expose));
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let (port, database) = (self.port.unwrap_or(PORT), plain(self.database.as_deref().unwrap_or("qdb")));
        Ok(Secret::new(format!("postgresql://{user}:{password}@{host}:{port}/{database}")))
    }

    /// Which one it is, without who we are there: rows of one and of another have nothing to do with each other.
    #[must_use]
    pub fn identity(&self) -> String {
        let Ok(url) = self.address() else { return String::new() };
        let url = url.expose().trim();
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            let path =
                std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned());
            return format!("sqlite:{}", path.display());
        }
        questdb::identity(self).unwrap_or_default()
    }

    /// The source that is meant; nothing is connected yet.
    ///
    /// # Errors
    /// A key that is wrong, by its name.
    pub fn open(&self) -> anyhow::Result<Box<dyn Source>> {
        ensure!(!self.timeout.0.is_zero(), "timeout: must be longer than nothing");
        let url = self.address()?;
        let url = url.expose().trim();
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
