//! `[grafana]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::stream;
use crate::config::Secret;
use crate::config::units::Interval;
use crate::sinks::http;

/// `[grafana]`: data sources and dashboards for what is recorded, by `tapedeck grafana setup` and by `tapedeck up`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How they get there: "files" (a folder that Grafana reads at its start) or "api" (a running Grafana, over HTTP). Default: "files".
    pub to: To,
    /// Folder for "files"; Grafana's own (`/etc/grafana`) makes it find them. Default: "./grafana".
    pub dir: PathBuf,
    /// Where Grafana listens. Default: "http://127.0.0.1:3000".
    pub url: String,
    /// Token of a service account that may edit, for "api". Default: none.
    pub token: Option<Secret>,
    /// User, in place of a token. Default: "admin", with a password.
    pub username: Option<String>,
    /// Password of `username`. Default: none.
    pub password: Option<Secret>,
    /// Folder of the dashboards in Grafana. Default: "tapedeck".
    pub folder: String,
    /// A Prometheus that reads this deck's metrics: for the dashboard of the pipeline, and for alerts. Default: none.
    pub prometheus: Option<String>,
    /// Where Grafana itself finds a store, by the name of its sink (or "store", "prometheus"), when that is another address
    /// than ours: `{ influx = "http://influxdb:8086" }`. Default: none.
    pub urls: BTreeMap<String, String>,
    /// Dashboards by their names, such as "kraken_tick". Default: those of the sources in this config.
    pub streams: Vec<String>,
    /// How often dashboards look for new data. Default: "5s".
    pub refresh: Interval,
    /// Whether Grafana's certificate must be right. Default: true.
    pub verify_tls: bool,
    /// Certificates (PEM) of the authorities that may have signed it. Default: those of this system.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take. Default: "30s".
    pub timeout: Interval,
}

/// How data sources and dashboards get to Grafana.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum To {
    /// A folder that Grafana reads at its start
    #[default]
    Files,
    /// A running Grafana, over HTTP
    Api,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            to: To::Files,
            dir: PathBuf::from("./grafana"),
            url: "http://127.0.0.1:3000".to_owned(),
            token: None,
            username: None,
            password: None,
            folder: "tapedeck".to_owned(),
            prometheus: None,
            urls: BTreeMap::new(),
            streams: Vec::new(),
            refresh: Interval(Duration::from_secs(5)),
            verify_tls: true,
            ca_file: None,
            timeout: Interval(Duration::from_secs(30)),
        }
    }
}

impl Config {
    /// # Errors
    /// What is wrong with the table, beginning with the key.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        config.base()?;
        if let Some(url) = &config.prometheus {
            Url::parse(url).with_context(|| format!("prometheus: `{url}` is no address"))?;
        }
        ensure!(!config.folder.trim().is_empty(), "folder is empty");
        ensure!(!config.timeout.0.is_zero(), "timeout: must be longer than nothing");
        ensure!(config.refresh.0 >= Duration::from_secs(1), "refresh: must be 1s or more");
        for name in &config.streams {
            stream::named(name)
                .with_context(|| format!("streams: nothing is called `{name}`; {}", stream::all_names()))?;
        }
        Ok(config)
    }

    /// Where it is.
    pub(super) fn base(&self) -> anyhow::Result<Url> {
        http::base(Some(&self.url), "", 0, false, 3000)
    }

    /// The address of a store as Grafana sees it.
    pub(super) fn seen(&self, name: &str, ours: String) -> String {
        self.urls.get(name).cloned().unwrap_or(ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_enough_and_bad_ones_name_the_key() {
        let read = |text: &str| Config::from_table(text.parse().unwrap());
        assert_eq!(read("").unwrap().to, To::Files);
        for (text, words) in [
            ("url = 'here'", "url: write it as in"),
            ("prometheus = 'here'", "prometheus: `here` is no address"),
            ("refresh = '1ms'", "refresh: must be"),
            ("streams = ['kraken_ticks']", "streams: nothing is called `kraken_ticks`; there are: kraken_tick"),
            ("to = 'cloud'", "unknown variant `cloud`"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
