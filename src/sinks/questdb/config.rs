//! The table of a QuestDB.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::names;
use crate::config::Secret;
use crate::config::units::Interval;
use crate::sinks::http;

/// `[sink.NAME]` with `kind = "questdb"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Where its HTTP server listens, e.g. `http://127.0.0.1:9000`. Default: made of `host`, `port` and `tls`.
    #[serde(default)]
    pub url: Option<String>,
    /// Its host, where `url` is not given. Default: `127.0.0.1`.
    #[serde(default = "host")]
    pub host: String,
    /// Its port, where `url` is not given. Default: 9000.
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
    /// User. Default: none.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of `username`. Default: none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Token, in place of user and password. Default: none.
    #[serde(default)]
    pub token: Option<Secret>,
    /// What the names of all tables begin with, where others have tables there. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// Type of the columns of numbers in tables that are made: `decimal` is exact, `double` calculates with everything.
    /// Default: `decimal`.
    #[serde(default)]
    pub numbers: Numbers,
    /// How much of what was delivered last is delivered again after the server has restarted: its answers do not mean
    /// durable. Default: `10m`.
    #[serde(default = "rewind")]
    pub rewind: Interval,
    /// Whether to resume a table that the server has suspended. Default: false.
    #[serde(default)]
    pub resume: bool,
    /// How long a request may take. Default: `30s`.
    #[serde(default = "timeout")]
    pub timeout: Interval,
}

/// Type of the columns of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Numbers {
    /// `DECIMAL(28,10)`
    #[default]
    Decimal,
    Double,
}

fn host() -> String {
    "127.0.0.1".to_owned()
}

fn port() -> u16 {
    9000
}

fn yes() -> bool {
    true
}

fn rewind() -> Interval {
    Interval(Duration::from_secs(600))
}

fn timeout() -> Interval {
    Interval(Duration::from_secs(30))
}

impl Config {
    pub(super) fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        config.base()?;
        ensure!(config.password.is_none() || config.username.is_some(), "password: needs `username`");
        ensure!(config.token.is_none() || config.username.is_none(), "token: stands in place of `username`");
        ensure!(!config.timeout.0.is_zero(), "timeout: must be longer than nothing");
        if !config.prefix.is_empty() {
            let fits = names::is_table(&config.prefix) && config.prefix.len() <= PREFIX_BYTES;
            ensure!(fits, "prefix: `{}` cannot begin the name of a table there", config.prefix);
        }
        Ok(config)
    }

    /// Where it is.
    pub(super) fn base(&self) -> anyhow::Result<Url> {
        http::base(self.url.as_deref(), &self.host, self.port, self.tls, 9000)
    }
}

/// So that a name of ours still fits behind it.
const PREFIX_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::from_table(text.parse().unwrap())
    }

    #[test]
    fn an_empty_table_is_enough_and_bad_ones_name_the_key() {
        let config = read("").unwrap();
        assert_eq!(config.base().unwrap().as_str(), "http://127.0.0.1:9000/");
        assert_eq!((config.numbers, config.rewind.0.as_secs()), (Numbers::Decimal, 600));
        assert_eq!(read("host = '::1'\ntls = true\nport = 1").unwrap().base().unwrap().as_str(), "https://[::1]:1/");
        assert_eq!(read("numbers = 'double'").unwrap().numbers, Numbers::Double);
        for (text, words) in [
            ("url = 'here'", "url: write it as in"),
            ("url = 'tcp::addr=x'", "url: write it as in"),
            ("password = 'x'", "needs `username`"),
            ("username = 'u'\ntoken = 'x'", "in place of `username`"),
            ("prefix = 'a/b'", "prefix: `a/b`"),
            ("numbers = 'float'", "unknown variant `float`"),
            ("timeout = '0s'", "longer than nothing"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
