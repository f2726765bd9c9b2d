//! The table of a PostgreSQL.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use super::dsn::Target;
use crate::config::units::Interval;
use crate::config::{Globs, Secret};

/// `[sink.NAME]` with `kind = "postgres"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Where it is, e.g. `postgres://user:password@127.0.0.1:5432/market?sslmode=verify-full`; SQLAlchemy's
    /// `postgresql+psycopg2://` and `host=… user=…` are understood too.
    pub dsn: Secret,
    /// Schema of our tables; made when it is missing. Default: `tapedeck`.
    #[serde(default = "own_schema")]
    pub schema: String,
    /// How long a batch may take before the server counts as away. Default: `60s`.
    #[serde(default = "timeout")]
    pub timeout: Interval,
    /// Venues whose candles of whole minutes go to `merged_candles_<n>min` too, the tables of Trading-V2; `*` stands for any
    /// text. Default: none, or all when `candle_table` is given.
    #[serde(default)]
    pub merged_candles: Option<Globs>,
    /// Name of the table of 5-minute candles, also as `schema.table`. Default: `merged_candles_5min`.
    #[serde(default)]
    pub candle_table: Option<String>,
    /// Time in these tables, which know no zone: `exchange` (India's for Kite, else UTC), or a zone such as `UTC`. Default: `exchange`.
    #[serde(default = "exchange")]
    pub merged_time: String,
}

pub(super) const EXCHANGE: &str = "exchange";

fn own_schema() -> String {
    "tapedeck".to_owned()
}

fn timeout() -> Interval {
    Interval(Duration::from_secs(60))
}

fn exchange() -> String {
    EXCHANGE.to_owned()
}

/// The server cuts longer names silently.
const NAME_BYTES: usize = 63;

impl Config {
    pub(super) fn from_table(table: toml::Table) -> anyhow::Result<(Config, Target)> {
        ensure!(table.contains_key("dsn"), "dsn: say where it is, as in postgres://user:password@host:5432/database");
        let config: Config = toml::Value::Table(table).try_into()?;
        let target = Target::parse(config.dsn.expose())?;
        ensure!(!config.timeout.0.is_zero(), "timeout: must be longer than nothing");
        is_name("schema", &config.schema)?;
        for part in config.candle_table.iter().flat_map(|name| name.split('.')) {
            is_name("candle_table", part)?;
        }
        if config.merged_time != EXCHANGE {
            let zone = &config.merged_time;
            jiff::tz::TimeZone::get(zone)
                .with_context(|| format!("merged_time: `{zone}` is neither `{EXCHANGE}` nor a zone"))?;
        }
        Ok((config, target))
    }

    /// Whether candles of that venue go to the merged tables.
    pub(super) fn merges(&self, venue: &str) -> bool {
        match &self.merged_candles {
            Some(venues) => venues.name(venue),
            None => self.candle_table.is_some(),
        }
    }

    /// The merged table of candles of so many minutes.
    pub(super) fn merged_table(&self, minutes: i64) -> String {
        match &self.candle_table {
            Some(name) if minutes == 5 => name.clone(),
            _ => format!("merged_candles_{minutes}min"),
        }
    }
}

fn is_name(key: &str, name: &str) -> anyhow::Result<()> {
    ensure!(!name.is_empty() && !name.contains('\0'), "{key}: is empty");
    ensure!(name.len() <= NAME_BYTES, "{key}: a name has {NAME_BYTES} bytes at most");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<(Config, Target)> {
        Config::from_table(text.parse().unwrap())
    }

    #[test]
    fn a_dsn_is_enough_and_bad_tables_name_the_key() {
        let (config, _) = read("dsn = 'postgres://h/d'").unwrap();
        assert_eq!((config.schema.as_str(), config.merges("kite")), ("tapedeck", false));
        let (config, _) = read("dsn = 'postgres://h/d'\ncandle_table = 'mine.five'").unwrap();
        assert_eq!(
            (config.merged_table(5), config.merged_table(15)),
            ("mine.five".into(), "merged_candles_15min".into())
        );
        assert!(config.merges("kite"));
        let (config, _) = read("dsn = 'postgres://h/d'\nmerged_candles = ['kite']").unwrap();
        assert!(config.merges("kite") && !config.merges("kraken"));
        for (text, words) in [
            ("", "dsn: say where it is"),
            ("dsn = 'x'", "dsn: write it as in"),
            ("dsn = 'postgres://h/d'\nschema = ''", "schema: is empty"),
            ("dsn = 'postgres://h/d'\nmerged_time = 'Delhi'", "`Delhi` is neither"),
            ("dsn = 'postgres://h/d'\ntimeout = '0s'", "longer than nothing"),
            ("dsn = 'postgres://h/d'\nurl = 'x'", "url"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
