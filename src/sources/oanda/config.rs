//! `[source.NAME]` with `kind = "oanda"`.

use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Secret;
use crate::sources::net;

/// `[source.NAME]` with `kind = "oanda"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Instruments as `EUR_USD`, `EUR/USD` or `EURUSD`; `["*"]` is every one of the account. No default.
    pub instruments: Vec<String>,
    /// What to record: `quote` (best prices), `book` (all levels of each price), `transactions` (own orders, fills and
    /// whatever else happens in the account). Default: `["quote", "transactions"]`.
    #[serde(default = "channels")]
    pub channels: Vec<ChannelName>,
    /// Which of the venue's two worlds the token is for: `practice` or `live`. Default: `practice`.
    #[serde(default)]
    pub environment: Environment,
    /// Personal access token. Default: none; `OANDA_ACCESS_TOKEN` fills it.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Account, e.g. `101-004-1234567-001`. Default: none; `OANDA_ACCOUNT_ID` fills it.
    #[serde(default)]
    pub account: Option<Secret>,
    /// How the venue is asked to write times: `rfc3339` or `unix`; both are read. Default: `rfc3339`.
    #[serde(default)]
    pub time_format: TimeFormat,
    /// Fill the ledger's holes with the venue's candles of five seconds while the deck runs: it keeps no single prices.
    /// Default: `false`.
    #[serde(default)]
    pub repair: bool,
    /// Keep each line as it came, beside its events; the account in it as `***`. Default: `false`.
    #[serde(default)]
    pub keep_raw: bool,
    /// Another host in place of the venue's, for streams and requests. Default: as `environment` says.
    #[serde(default)]
    pub url: Option<String>,
    /// PEM file of the authorities to trust in place of the system's. Default: none.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

/// A channel as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    Quote,
    Book,
    Transactions,
}

/// Play money or real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    #[default]
    Practice,
    Live,
}

/// How the venue writes times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    #[default]
    Rfc3339,
    Unix,
}

fn channels() -> Vec<ChannelName> {
    vec![ChannelName::Quote, ChannelName::Transactions]
}

impl Config {
    /// Reads the table and checks what a type cannot say.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        ensure!(!config.channels.is_empty(), "channels is empty");
        ensure!(!config.instruments.is_empty(), "instruments is empty: name at least one, or `[\"*\"]` for all");
        for name in config.instruments.iter().filter(|name| *name != "*") {
            let known = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'/');
            ensure!(known && !name.is_empty(), "instruments: `{name}` is no instrument such as EUR_USD");
        }
        if let Some(account) = &config.account {
            let account = account.expose();
            let known = account.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && account.len() >= 4;
            ensure!(known, "account is none such as 101-004-1234567-001");
        }
        if let Some(token) = &config.token {
            ensure!(net::is_token(token), "token holds what no token holds: copy it again");
        }
        if let Some(url) = &config.url {
            net::may_get_a_token(url)?;
        }
        Ok(config)
    }

    #[must_use]
    pub fn records(&self, channel: ChannelName) -> bool {
        self.channels.contains(&channel)
    }

    /// Whether any of the prices are recorded.
    #[must_use]
    pub(super) fn records_prices(&self) -> bool {
        self.records(ChannelName::Quote) || self.records(ChannelName::Book)
    }

    /// Where requests go, without a slash at the end.
    #[must_use]
    pub(super) fn rest_url(&self) -> String {
        self.host("https://api-fxpractice.oanda.com", "https://api-fxtrade.oanda.com")
    }

    /// Where streams come from.
    #[must_use]
    pub(super) fn stream_url(&self) -> String {
        self.host("https://stream-fxpractice.oanda.com", "https://stream-fxtrade.oanda.com")
    }

    fn host(&self, practice: &str, live: &str) -> String {
        match (&self.url, self.environment) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Environment::Practice) => practice.to_owned(),
            (None, Environment::Live) => live.to_owned(),
        }
    }

    /// The other world's name, for advice.
    #[must_use]
    pub(super) fn other_environment(&self) -> &'static str {
        if self.environment == Environment::Live { "practice" } else { "live" }
    }
}

/// The venue's spelling of an instrument that somebody may have written in another one.
#[must_use]
pub(super) fn symbol(name: &str) -> String {
    let name = name.to_ascii_uppercase().replace('/', "_");
    let bare = name.len() == 6 && name.bytes().all(|b| b.is_ascii_alphabetic());
    if bare { format!("{}_{}", &name[..3], &name[3..]) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::from_table(text.parse().expect("toml"))
    }

    #[test]
    fn each_environment_has_its_hosts_and_another_url_replaces_both() {
        let hosts = |text: &str| {
            let config = read(&format!("instruments = ['*']\n{text}")).expect(text);
            (config.rest_url(), config.stream_url())
        };
        let of =
            |rest: &str, stream: &str| (format!("https://{rest}.oanda.com"), format!("https://{stream}.oanda.com"));
        assert_eq!(hosts(""), of("api-fxpractice", "stream-fxpractice"));
        assert_eq!(hosts("environment = 'live'"), of("api-fxtrade", "stream-fxtrade"));
        let fake = "http://127.0.0.1:1".to_owned();
        assert_eq!(hosts("environment = 'live'\nurl = 'http://127.0.0.1:1/'"), (fake.clone(), fake));
    }

    #[test]
    fn a_wrong_table_is_refused_by_name_and_shows_no_secret() {
        for (text, says) in [
            ("instruments = []", "instruments is empty"),
            ("instruments = ['EUR USD']", "`EUR USD` is no instrument"),
            ("instruments = ['*']\nchannels = []", "channels is empty"),
            ("instruments = ['*']\naccount = 'top/../secret'", "account is none such as"),
            ("instruments = ['*']\ntoken = 'top secret'", "token holds"),
            ("instruments = ['*']\nurl = 'ws://x'", "url must begin"),
            ("instruments = ['*']\nurl = 'http://proxy.example'", "url: a token goes to no other machine"),
            ("instruments = ['*']\nenvironment = 'real'", "unknown variant `real`"),
            ("instrument = ['*']", "unknown field `instrument`"),
        ] {
            let error = format!("{:#}", read(text).expect_err(text));
            assert!(error.contains(says) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn instruments_may_be_written_as_people_write_them() {
        for (name, want) in
            [("EUR_USD", "EUR_USD"), ("eur/usd", "EUR_USD"), ("EURUSD", "EUR_USD"), ("DE30_EUR", "DE30_EUR")]
        {
            assert_eq!(symbol(name), want);
        }
    }
}
