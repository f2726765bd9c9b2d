//! The table of an InfluxDB.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::legacy::LegacyTick;
use super::policies::{self, Policy};
use crate::config::Secret;
use crate::config::units::Interval;
use crate::sinks::http;

/// `[sink.NAME]` with `kind = "influx"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Where it listens, e.g. `http://127.0.0.1:8086`. Default: made of `host`, `port` and `tls`.
    #[serde(default)]
    pub url: Option<String>,
    /// Its host, where `url` is not given. Default: `127.0.0.1`.
    #[serde(default = "host")]
    pub host: String,
    /// Its port, where `url` is not given. Default: 8086.
    #[serde(default = "port")]
    pub port: u16,
    /// Whether to use https, where `url` is not given. Default: false.
    #[serde(default)]
    pub tls: bool,
    /// Whether its certificate must be right. Default: true.
    #[serde(default = "yes")]
    pub verify_tls: bool,
    /// Certificates (PEM) of the authorities that may have signed it. Default: those of this system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Its dialect: 1, 2 or 3. Default: 2 when there is an `org`, else 1.
    #[serde(default)]
    pub dialect: Option<u8>,
    /// Database, or bucket in 2.x; made when it is missing (1.x). Default: `tick`.
    #[serde(default = "database")]
    pub database: String,
    /// Organisation (2.x). Default: none.
    #[serde(default)]
    pub org: Option<String>,
    /// User (1.x). Default: none.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of `username`. Default: none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Token (2.x, 3). Default: none.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Retention policy that everything goes to (1.x, 2.x). Default: by kind of event, as `policies` says.
    #[serde(default)]
    pub retention_policy: Option<String>,
    /// Retention policies, in addition to `default`, `high_frequency` and `long_term` or in their place; made by
    /// `tapedeck retention create`. Default: none.
    #[serde(default)]
    pub policies: BTreeMap<String, Policy>,
    /// Write the predecessors' measurement `tick` too, in the form of `bridge` or `nbpy`. Default: no.
    #[serde(default)]
    pub legacy_tick: Option<LegacyTick>,
    /// Levels a side of a book that are delivered, 1 to 1000. Default: 5.
    #[serde(default = "book_levels")]
    pub book_levels: usize,
    /// How many nodes of a cluster must confirm (1.x): `any`, `one`, `quorum`, `all`. Default: none said.
    #[serde(default)]
    pub consistency: Option<String>,
    /// How long a request may take. Default: `30s`.
    #[serde(default = "timeout")]
    pub timeout: Interval,
    /// Filled in from `dialect` and `org`.
    #[serde(skip)]
    pub version: Version,
}

/// Which of the three dialects is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    #[default]
    V1,
    V2,
    V3,
}

fn host() -> String {
    "127.0.0.1".to_owned()
}

fn port() -> u16 {
    8086
}

fn yes() -> bool {
    true
}

fn database() -> String {
    "tick".to_owned()
}

fn book_levels() -> usize {
    5
}

fn timeout() -> Interval {
    Interval(Duration::from_secs(30))
}

/// The server takes an unknown word for an error: better said before anything starts.
const CONSISTENCY: [&str; 4] = ["any", "one", "quorum", "all"];

impl Config {
    pub(super) fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let mut config: Config = toml::Value::Table(table).try_into()?;
        config.version = match (config.dialect, &config.org) {
            (Some(1), _) | (None, None) => Version::V1,
            (Some(2), _) | (None, Some(_)) => Version::V2,
            (Some(3), _) => Version::V3,
            (Some(other), _) => anyhow::bail!("dialect: there is no dialect {other}, write 1, 2 or 3"),
        };
        config.base()?;
        ensure!(!config.database.is_empty(), "database is empty");
        ensure!(config.password.is_none() || config.username.is_some(), "password: needs `username`");
        ensure!(!config.timeout.0.is_zero(), "timeout: must be longer than nothing");
        if let Some(word) = &config.consistency {
            ensure!(CONSISTENCY.contains(&word.as_str()), "consistency: write one of {}", CONSISTENCY.join(", "));
        }
        ensure!((1..=1_000).contains(&config.book_levels), "book_levels: write 1 to 1000");
        policies::check(&config.policies)?;
        if config.version == Version::V2 {
            ensure!(config.org.is_some(), "org: 2.x needs the name of the organisation");
        }
        Ok(config)
    }

    /// Where it is.
    pub(super) fn base(&self) -> anyhow::Result<Url> {
        http::base(self.url.as_deref(), &self.host, self.port, self.tls, 8086)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::from_table(text.parse().unwrap())
    }

    #[test]
    fn an_empty_table_is_enough_and_bad_ones_name_the_key() {
        let config = read("").unwrap();
        assert_eq!((config.base().unwrap().as_str(), config.version), ("http://127.0.0.1:8086/", Version::V1));
        assert_eq!(read("org = 'o'").unwrap().version, Version::V2);
        assert_eq!(read("host = '::1'\ntls = true\nport = 1").unwrap().base().unwrap().as_str(), "https://[::1]:1/");
        for (text, words) in [
            ("url = 'here'", "url: write it as in"),
            ("dialect = 4", "there is no dialect 4"),
            ("dialect = 2", "org: 2.x needs"),
            ("password = 'x'", "needs `username`"),
            ("consistency = 'some'", "write one of any"),
            ("database = ''", "database is empty"),
            ("book_levels = 0", "book_levels: write 1"),
            ("policies.a = { duration = '10m' }", "policies.a: `duration` must be"),
            ("policies.a = { duration = '2h', shard = '1m' }", "policies.a: `shard` must be"),
            ("policies.a = { duration = '2h', events = ['ticks'] }", "no kind of event is called `ticks`"),
            (
                "policies.a = { duration = '2h', default = true }\npolicies.b = { duration = '2h', default = true }",
                "only one",
            ),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
