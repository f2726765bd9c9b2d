//! `[source.NAME]` with `kind = "http"`.

use anyhow::{Context as _, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use tapedeck_market::SmolStr;

use super::door::Credentials;
use crate::config::Secret;
use crate::config::units::ByteSize;

/// What InfluxDB itself takes at most.
const MAX_BODY: ByteSize = ByteSize(25_000_000);
/// Bodies are held in memory: more than this is no request, but a file.
const LARGEST_BODY: ByteSize = ByteSize(256 << 20);

/// `[source.NAME]` with `kind = "http"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the points are recorded as coming from. Default: `http`.
    #[serde(default = "venue")]
    #[schemars(with = "String")]
    pub venue: SmolStr,
    /// A tag whose value, where a point has it, is the venue instead. Default: none.
    #[serde(default)]
    pub venue_tag: Option<String>,
    /// Tags that name the symbol: the first of them that a point has. Default: `["symbol", "instrument"]`.
    #[serde(default = "symbol_tags")]
    pub symbol_tags: Vec<String>,
    /// A tag to add that holds the request's database (2.x: bucket). Default: none.
    #[serde(default)]
    pub database_tag: Option<String>,
    /// Largest body of a request, unpacked; above it the answer is 413. Default: `25 MB`.
    #[serde(default = "max_body")]
    pub max_body: ByteSize,
    /// Token that clients must send (2.x). Default: none.
    #[serde(default)]
    pub token: Option<Secret>,
    /// User that clients must be (1.x), with `password`. Default: none.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of `user`. Default: none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// InfluxDB that queries are passed on to, e.g. `http://127.0.0.1:8086`. Default: none.
    #[serde(default)]
    pub influx: Option<String>,
    /// User at that InfluxDB. Default: none.
    #[serde(default)]
    pub influx_user: Option<String>,
    /// Password of `influx_user`. Default: none.
    #[serde(default)]
    pub influx_password: Option<Secret>,
    /// Token at that InfluxDB, instead of a user. Default: none.
    #[serde(default)]
    pub influx_token: Option<Secret>,
}

fn venue() -> SmolStr {
    SmolStr::new_static("http")
}

fn symbol_tags() -> Vec<String> {
    vec!["symbol".to_owned(), "instrument".to_owned()]
}

fn max_body() -> ByteSize {
    MAX_BODY
}

impl Config {
    pub(super) fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        ensure!(!config.venue.is_empty(), "venue is empty");
        ensure!(
            config.max_body.0 > 0 && config.max_body <= LARGEST_BODY,
            "max_body must be above nothing and at most {LARGEST_BODY}"
        );
        ensure!(config.user.is_some() == config.password.is_some(), "user and password go together: one is missing");
        ensure!(
            config.influx_user.is_some() == config.influx_password.is_some(),
            "influx_user and influx_password go together: one is missing"
        );
        if let Some(url) = &config.influx {
            let url = reqwest::Url::parse(url).context("influx: write a URL such as http://127.0.0.1:8086")?;
            ensure!(matches!(url.scheme(), "http" | "https"), "influx: write a URL such as http://127.0.0.1:8086");
        }
        Ok(config)
    }

    pub(super) fn credentials(&self) -> Credentials {
        let user = self.user.as_deref().zip(self.password.as_ref().map(Secret::expose));
        Credentials::new(self.token.as_ref().map(Secret::expose), user)
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
        assert!(config.credentials().is_open());
        assert_eq!(config.symbol_tags, ["symbol", "instrument"]);
        for (text, words) in [
            ("user = 'me'", "user and password go together"),
            ("influx_password = 'x'", "influx_user and influx_password go together"),
            ("influx = 'here'", "influx: write a URL"),
            ("influx = 'ftp://x'", "influx: write a URL"),
            ("max_body = '1 GiB'", "max_body"),
            ("venue = ''", "venue is empty"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
