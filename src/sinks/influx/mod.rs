//! `[sink.NAME]` with `kind = "influx"`: InfluxDB 1.x, 2.x and 3, by line protocol over HTTP.
//!
//! ```text
//! records ─► measure (one line a record) ─► POST /write · /api/v2/write · /api/v3/write_lp ─► answer ─► stored, or which not
//! ```
//!
//! The same series and time overwrite each other, which makes a batch that comes twice harmless, and would make two
//! events of the same moment one: see [`measure::stamp`].

use anyhow::Context as _;
use async_trait::async_trait;
use reqwest::Method;
use tapedeck_market::Uuid;

use super::line::{Lines, NoLine};
use super::{Batch, Kind, Opened, Refusal, Reject, Setup, Sink, SinkError};

mod answer;
mod client;
mod config;
mod measure;

use answer::Answer;
use client::Client;
use config::{Config, Version};

pub(super) const KIND: Kind = Kind {
    name: "influx",
    about: "InfluxDB 1.x, 2.x or 3: measurements by line protocol",
    build: |setup: Setup| {
        let config = Config::from_table(setup.table)?;
        Ok(Box::new(Influx { client: Client::of(&config)?, config, lines: Lines::default() }))
    },
    schema: || schemars::schema_for!(Config),
};

/// Where an `influx` sink delivers to, if its table is right.
#[must_use]
pub fn address_of(table: &crate::config::KindTable) -> Option<reqwest::Url> {
    let (_, own) = super::plan_of(table).ok()?;
    Config::from_table(own).ok()?.base().ok()
}

struct Influx {
    config: Config,
    client: Client,
    /// Kept for its memory.
    lines: Lines,
}

#[async_trait]
impl Sink for Influx {
    async fn open(&mut self, _tape: Uuid) -> Result<Opened, SinkError> {
        self.client.prepare(&self.config).await?;
        Ok(Opened::NoMark)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let mut rejects = Vec::new();
        // Of each line, the record that it is of.
        let mut index_of = Vec::with_capacity(batch.records.len());
        self.lines.text.clear();
        for (index, record) in batch.records.iter().enumerate() {
            match measure::line(&mut self.lines, record) {
                Ok(()) => index_of.push(index),
                Err(NoLine::Unwanted) => {}
                Err(error) => rejects.push(Reject { index, words: error.to_string() }),
            }
        }
        if !index_of.is_empty() {
            let answer = self.client.write(&self.lines.text).await?;
            match answer {
                Answer::Stored => {}
                Answer::Lines { bad, rest_stored } => {
                    rejects.extend(
                        bad.into_iter().filter_map(|(line, words)| Some(Reject { index: *index_of.get(line)?, words })),
                    );
                    return Err(SinkError::Refused(Refusal { rejects, rest_stored }));
                }
                Answer::Refused(words) => return Err(SinkError::BatchRefused(words)),
            }
        }
        if rejects.is_empty() { Ok(()) } else { Err(SinkError::Refused(Refusal { rejects, rest_stored: true })) }
    }

    async fn check(&mut self) -> anyhow::Result<Vec<String>> {
        let mut found = vec![self.client.ping().await?];
        self.client.prepare(&self.config).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        found.push(format!("database `{}` is there", self.config.database));
        let token = Uuid::new_v4().simple().to_string();
        let line = format!("tapedeck_check,probe=check token=\"{token}\" {}\n", tapedeck_market::UnixNanos::now().0);
        let written = self.client.write(line.as_bytes()).await.map_err(|error| anyhow::anyhow!("writing: {error}"))?;
        anyhow::ensure!(matches!(written, Answer::Stored), "writing: {written:?}");
        if self.config.version == Version::V1 {
            let read = self.client.query(&self.config, "SELECT LAST(token) FROM tapedeck_check").await?;
            anyhow::ensure!(read.to_string().contains(&token), "what was written is not read back");
            self.client.query(&self.config, "DROP MEASUREMENT tapedeck_check").await.context("removing the probe")?;
            found.push("written and read back".to_owned());
        } else {
            found.push("written".to_owned());
        }
        Ok(found)
    }
}

impl Client {
    /// Whether it answers, and as what.
    async fn ping(&self) -> anyhow::Result<String> {
        let answer = self.request(Method::GET, "ping", &[]).send().await;
        let answer = answer.map_err(reqwest::Error::without_url).context("connecting")?;
        let version = answer.headers().get("x-influxdb-version").and_then(|version| version.to_str().ok());
        anyhow::ensure!(answer.status().is_success(), "it answers {} to /ping", answer.status());
        Ok(format!("InfluxDB {} answers", version.unwrap_or("of unknown version")))
    }
}
