//! `[sync]`: what is kept the same, where, and how eagerly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mapping::Settings;
use super::state::Ends;
use super::{pocketbase, source};
use crate::config::units::Interval;

/// A shorter one is none.
const POLL_MIN: Duration = Duration::from_millis(1);

/// Folder in the tape's, where nothing else is said.
const DIR: &str = "sync";

/// `[sync]`: tables of a QuestDB or SQLite kept the same in a PocketBase.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of what is remembered: marks, what was sent, dead letters. Default: "sync" in the tape's folder.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// How eagerly: "default", "fast" or "constrained"; sets what is not said below. Default: "default".
    #[serde(default)]
    pub speed: Speed,
    /// How often to look for what is new. Default: 60s (fast 30s, constrained 5m).
    #[serde(default)]
    pub poll: Option<Interval>,
    /// Documents a request, at most. Default: 200 (constrained 50).
    #[serde(default)]
    pub batch: Option<u32>,
    /// Tables at a time. Default: 3 (fast 5, constrained 1).
    #[serde(default)]
    pub concurrency: Option<u16>,
    /// Rest between two requests, to leave others their turn. Default: none (constrained 100ms).
    #[serde(default)]
    pub pause: Option<Interval>,
    /// Wait after a failure, doubled with each that follows, up to a minute. Default: 1s (fast 500ms, constrained 2s).
    #[serde(default)]
    pub retry: Option<Interval>,
    /// Failures in a row after which `sync run` gives up; `sync watch` never does. Default: 5.
    #[serde(default = "retries")]
    pub retries: u32,
    /// Whether a deck that runs with this config follows the tables, too. Default: true.
    #[serde(default = "yes")]
    pub deck: bool,
    /// Time of the day (UTC) at which both sides are compared while tables are followed, as in "03:00". Default: never.
    #[serde(default)]
    pub verify_at: Option<String>,
    /// Whether that comparison also writes what is missing or different. Default: false, it is told.
    #[serde(default)]
    pub verify_repair: bool,
    /// Where rows come from. Default: none, and there must be one.
    pub source: source::Config,
    /// Where documents go. Default: a PocketBase on this machine.
    #[serde(default)]
    pub target: pocketbase::Target,
    /// The tables, each with its mapping. Default: none.
    #[serde(default)]
    pub table: BTreeMap<String, Settings>,
}

fn retries() -> u32 {
    5
}

fn yes() -> bool {
    true
}

/// How eagerly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Speed {
    #[default]
    Default,
    Fast,
    Constrained,
}

/// What holds after all was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub poll: Duration,
    pub batch: usize,
    pub concurrency: usize,
    pub pause: Duration,
    pub retry: Duration,
}

impl Config {
    /// What its table says, once secrets and old names are in it.
    ///
    /// # Errors
    /// Begins with the key that is wrong.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Self> {
        let mut config: Config = table.try_into()?;
        config.target.validate().context("target")?;
        let manner = config.manner();
        ensure!(manner.batch > 0, "batch: must be above 0");
        ensure!(manner.concurrency > 0, "concurrency: must be above 0");
        ensure!(manner.poll >= POLL_MIN, "poll: must be 1ms or longer: each look is a question");
        ensure!(config.source.url.is_some() || config.source.host.is_some(), "source: needs `url` or `host`");
        config.verify_time()?;
        for (name, settings) in &mut config.table {
            if let Some((key, problem)) = settings.problem() {
                anyhow::bail!("table.{name}.{key}: {problem}");
            }
            if let Some(preset) = settings.preset {
                *settings = settings.clone().over(preset.settings());
            }
        }
        let mut collections = BTreeMap::new();
        for (name, settings) in &config.table {
            let collection = settings.collection_of(name);
            if let Some(other) = collections.insert(collection.clone(), name) {
                anyhow::bail!(
                    "table.{name}.collection: `{other}` goes to `{collection}`, too, and each would take the other's documents for \
                     its own; name another one"
                );
            }
        }
        Ok(config)
    }

    #[must_use]
    pub fn manner(&self) -> Manner {
        let (poll, batch, concurrency, pause, retry) = match self.speed {
            Speed::Default => (60_000, 200, 3, 0, 1_000),
            Speed::Fast => (30_000, 200, 5, 0, 500),
            Speed::Constrained => (300_000, 50, 1, 100, 2_000),
        };
        let or = |said: Option<Interval>, ms| said.map_or(Duration::from_millis(ms), |said| said.0);
        Manner {
            poll: or(self.poll, poll),
            batch: self.batch.map_or(batch, |batch| batch as usize),
            concurrency: usize::from(self.concurrency.unwrap_or(concurrency)),
            pause: or(self.pause, pause),
            retry: or(self.retry, retry),
        }
    }

    /// Between whom the tables stand.
    #[must_use]
    pub fn ends(&self, target: &pocketbase::Client) -> Ends {
        Ends { source: self.source.identity(), target: target.url().to_owned() }
    }

    /// When both sides are compared every day.
    ///
    /// # Errors
    /// It is no time of a day.
    pub fn verify_time(&self) -> anyhow::Result<Option<jiff::civil::Time>> {
        let read = |text: &String| {
            text.parse().with_context(|| format!("verify_at: `{text}` is no time of a day: write \"03:00\""))
        };
        self.verify_at.as_ref().map(read).transpose()
    }

    /// Folder of what is remembered.
    #[must_use]
    pub fn folder(&self, tape: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| tape.join(DIR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::from_table(format!("{text}\n[source]\nurl = 'sqlite:x.db'\n").parse().expect("TOML"))
    }

    #[test]
    fn speeds_say_what_is_not_said_and_no_more() {
        let manner = |text: &str| read(text).expect("good").manner();
        let ms = Duration::from_millis;
        let usual = Manner { poll: ms(60_000), batch: 200, concurrency: 3, pause: ms(0), retry: ms(1_000) };
        assert_eq!(manner(""), usual);
        assert_eq!(manner("speed = 'fast'"), Manner { poll: ms(30_000), concurrency: 5, retry: ms(500), ..usual });
        let slow = Manner { poll: ms(300_000), batch: 50, concurrency: 1, pause: ms(100), retry: ms(2_000) };
        assert_eq!(manner("speed = 'constrained'"), slow);
        assert_eq!(
            manner("speed = 'constrained'\nbatch = 10\npoll = '1s'"),
            Manner { batch: 10, poll: ms(1_000), ..slow }
        );
    }

    #[test]
    fn two_tables_do_not_share_a_collection() {
        let two = |b: &str| read(&format!("[table.a-b]\nkey = ['x']\n[table.b]\nkey = ['x']\ncollection = '{b}'\n"));
        two("other").expect("good");
        let error = two("a_b").expect_err("shared").to_string();
        assert!(error.contains("table.b.collection: `a-b` goes to `a_b`, too"), "{error}");
    }
}
