//! `[sink.NAME]` with `kind = "influx"`: InfluxDB 1.x, 2.x and 3, by line protocol over HTTP.
//!
//! ```text
//! records ─► measure (one line a record) ─► POST /write · /api/v2/write · /api/v3/write_lp ─► answer ─► stored, or which not
//! ```
//!
//! The same series and time overwrite each other, which makes a batch that comes twice harmless, and would make two
//! events of the same moment one: see [`measure::stamp`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use reqwest::Method;
use tapedeck_market::{Record, UnixNanos, Uuid};

use super::audit::minute_of;
use super::grafana::{Asks, Source};
use super::line::{Lines, NoLine};
use super::{
    Batch, Fate, Kind, Opened, Question, Refusal, Reject, Retention, Setup, Sink, SinkError, Table, TimeOf, WARNING,
};
use crate::config::units::show_duration;

mod answer;
mod ask;
mod audit;
mod client;
mod config;
mod grafana;
mod late;
mod legacy;
mod measure;
mod policies;
mod retention;

use answer::Answer;
use client::Client;
use config::{Config, Version};
use policies::{Policy, Route};

pub(super) const KIND: Kind = Kind {
    name: "influx",
    about: "InfluxDB 1.x, 2.x or 3: measurements by line protocol",
    build: |setup: Setup| {
        let config = Config::from_table(setup.table)?;
        Ok(Box::new(Influx::of(config)?))
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
    /// The policies of the config.
    wanted: Vec<(String, Policy)>,
    /// By the policies that the store has.
    parcels: Vec<Parcel>,
    /// When the store was asked for them.
    routed_at: Option<Instant>,
    /// The time by which a comparison judges what is kept: one for all of it.
    judged_at: Option<UnixNanos>,
}

/// The lines of a batch that go to one place in the store.
#[derive(Default)]
struct Parcel {
    route: Route,
    lines: Lines,
    /// Of each line, the record that it is of.
    index_of: Vec<usize>,
}

/// How often a store is asked which policies it has: they are made and altered by hand.
const ROUTE_EVERY: Duration = Duration::from_secs(60);
/// What is older than a policy keeps is refused here, in place of by the store, which finds it record by record. Our clocks
/// may differ by so much.
const CLOCKS: Duration = Duration::from_secs(3600);
/// The server's own words for it, in all versions.
const BEYOND: &str = "beyond retention policy";

impl Influx {
    fn of(config: Config) -> anyhow::Result<Influx> {
        Ok(Influx {
            client: Client::of(&config)?,
            wanted: policies::wanted(&config.policies),
            parcels: vec![Parcel::default()],
            routed_at: None,
            judged_at: None,
            config,
        })
    }

    /// Looks which policies there are.
    async fn route(&mut self) -> Result<(), SinkError> {
        let mut names: Vec<String> = self.wanted.iter().map(|(name, _)| name.clone()).collect();
        names.extend(self.config.retention_policy.clone());
        let found = self.client.policies(&names).await?;
        let routes = policies::routes(self.config.retention_policy.as_deref(), &self.wanted, &found);
        if !self.parcels.iter().map(|parcel| &parcel.route).eq(&routes) {
            self.parcels = routes.into_iter().map(|route| Parcel { route, ..Parcel::default() }).collect();
        }
        self.routed_at = Some(Instant::now());
        Ok(())
    }

    /// Writes the lines of a batch, sorted by where they go, without those that it leaves out. What has no line is refused.
    fn pack(&mut self, batch: &Batch<'_>, left_out: &HashSet<usize>) -> Vec<Reject> {
        let mut rejects = Vec::new();
        for parcel in &mut self.parcels {
            parcel.lines.clear();
            parcel.index_of.clear();
        }
        let now = UnixNanos::now();
        for (index, record) in batch.records.iter().enumerate().filter(|(index, _)| !left_out.contains(index)) {
            let parcel = self.parcel_of(record);
            let parcel = &mut self.parcels[parcel];
            let place = parcel.lines.place();
            let written = lines_of(&self.config, &mut parcel.lines, record);
            let refused = match &written {
                Ok(()) => parcel.too_old(record, now, CLOCKS).map(|words| expired(index, words)),
                Err(NoLine::Unwanted) => None,
                Err(error) => Some(Reject::new(index, error.to_string())),
            };
            if refused.is_some() || written.is_err() {
                parcel.lines.back_to(place);
            }
            parcel.index_of.resize(parcel.lines.count, index);
            rejects.extend(refused);
        }
        rejects
    }

    /// Which of the parcels a record belongs into.
    fn parcel_of(&self, record: &Record) -> usize {
        policies::route_of(self.parcels.iter().map(|parcel| &parcel.route), record.event.body.kind())
    }
}

/// Appends a record as a sink of this kind writes it: a line, of a book one for each level.
///
/// # Errors
/// It has no place there, or cannot be written as it is; nothing is appended.
pub fn line_protocol(record: &Record, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut lines = Lines { text: std::mem::take(out), count: 0 };
    let place = lines.place();
    let written = measure::lines(&mut lines, record);
    if written.is_err() {
        lines.back_to(place);
    }
    *out = lines.text;
    Ok(written?)
}

/// Writes the lines of a record: the measurement that was declared, and the old tick beside it, if wanted.
fn lines_of(config: &Config, lines: &mut Lines, record: &Record) -> Result<(), NoLine> {
    measure::lines(lines, record)?;
    config.legacy_tick.map_or(Ok(()), |form| legacy::line(form, lines, record))
}

impl Parcel {
    /// The words for a record that the policy would not keep, by clocks that may differ by so much.
    fn too_old(&self, record: &Record, now: UnixNanos, clocks: Duration) -> Option<String> {
        let keeps = self.route.keeps?;
        let time = measure::time(record);
        let old = now.saturating_since(time) > keeps.saturating_add(clocks);
        old.then(|| {
            let policy = self.route.policy.as_deref().unwrap_or("the default one");
            format!("it is of {time}, and the retention policy ({policy}) keeps {}", show_duration(keeps))
        })
    }

    /// The first minute of which the store surely still has everything: older rows go, a whole shard at a time.
    fn whole_from(&self, now: UnixNanos) -> i64 {
        self.route.keeps.map_or(i64::MIN, |keeps| minute_of((now - keeps.saturating_sub(CLOCKS)).0) + 1)
    }

    /// The records of its lines that the policy does not keep, once the server has said that there are such.
    fn older_than_kept(&self, records: &[Record]) -> Vec<Reject> {
        let (now, mut indices) = (UnixNanos::now(), self.index_of.clone());
        indices.dedup();
        let old = |index| Some(expired(index, self.too_old(&records[index], now, Duration::ZERO)?));
        indices.into_iter().filter_map(old).collect()
    }
}

/// The store would have forgotten it by now.
fn expired(index: usize, words: String) -> Reject {
    Reject { fate: Fate::Expired, ..Reject::new(index, words) }
}

#[async_trait]
impl Sink for Influx {
    async fn open(&mut self, _tape: Uuid) -> Result<Opened, SinkError> {
        self.client.prepare(&self.config).await?;
        self.route().await?;
        Ok(Opened::NoMark)
    }

    fn books(&self) -> Option<usize> {
        Some(self.config.book_levels)
    }

    fn times(&self) -> Option<TimeOf> {
        Some(measure::time)
    }

    async fn would_replace(&mut self, record: &Record) -> Result<Option<String>, SinkError> {
        self.other_there(record).await
    }

    async fn tend(&mut self) -> Result<(), SinkError> {
        if self.routed_at.is_some_and(|at| at.elapsed() >= ROUTE_EVERY) { self.route().await } else { Ok(()) }
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let left_out = if batch.late { self.superseded(batch).await? } else { HashSet::new() };
        let mut rejects = self.pack(batch, &left_out);
        let mut rest_stored = true;
        for parcel in self.parcels.iter().filter(|parcel| parcel.lines.count > 0) {
            let first = parcel.index_of[0];
            match self.client.write(&parcel.lines.text, parcel.route.policy.as_deref()).await? {
                Answer::Stored => {}
                Answer::Lines { bad, rest_stored: stored } => {
                    // A line that is not ours says nothing about which record it was.
                    if let Some((_, words)) = bad.iter().find(|(line, _)| *line >= parcel.index_of.len()) {
                        return Err(SinkError::BatchRefused(words.clone()));
                    }
                    rejects.extend(bad.into_iter().map(|(line, words)| Reject::new(parcel.index_of[line], words)));
                    rest_stored &= stored;
                }
                Answer::Refused(words) if words.contains(BEYOND) => {
                    let old = parcel.older_than_kept(batch.records);
                    rest_stored = false;
                    // All lines of one record: it is that one.
                    let alone = parcel.index_of.iter().all(|index| *index == first);
                    match (old.is_empty(), alone) {
                        (false, _) => rejects.extend(old),
                        (true, true) => rejects.push(expired(first, words)),
                        (true, false) => return Err(SinkError::BatchRefused(words)),
                    }
                }
                Answer::Refused(words) if parcel.index_of.iter().all(|index| *index == first) => {
                    rejects.push(Reject::new(first, words));
                    rest_stored = false;
                }
                Answer::Refused(words) => return Err(SinkError::BatchRefused(words)),
            }
        }
        if rejects.is_empty() { Ok(()) } else { Err(SinkError::Refused(Refusal { rejects, rest_stored })) }
    }

    async fn check(&mut self) -> anyhow::Result<Vec<String>> {
        let mut found = vec![self.client.ping().await?];
        self.client.prepare(&self.config).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        found.push(format!("database `{}` is there", self.config.database));
        found.extend(self.client.databases().await.map(|names| format!("databases: {}", names.join(", "))));
        let token = Uuid::new_v4().simple().to_string();
        let line = format!("tapedeck_check,probe=check token=\"{token}\" {}\n", UnixNanos::now().0);
        let written = self.client.write(line.as_bytes(), None).await;
        let written = written.map_err(|error| anyhow::anyhow!("writing: {error}"))?;
        anyhow::ensure!(matches!(written, Answer::Stored), "writing: {written:?}");
        if self.config.version == Version::V3 {
            found.push("written".to_owned());
            return Ok(found);
        }
        match self.client.query("SELECT LAST(token) FROM tapedeck_check").await {
            Ok(read) => {
                anyhow::ensure!(read.to_string().contains(&token), "what was written is not read back");
                found.push("written and read back".to_owned());
                if let Err(error) = self.client.remove_probe().await {
                    found.push(format!(
                        "{WARNING}the measurement tapedeck_check stays, it may not be removed: {error:#}"
                    ));
                }
            }
            Err(error) => found.push(format!("{WARNING}written, and not read back: {error:#}")),
        }
        let policies = self.found().await?;
        if let Some(only) = &self.config.retention_policy {
            anyhow::ensure!(
                policies.iter().any(|policy| policy.name == *only),
                "there is no retention policy `{only}`: make it, or change `retention_policy`"
            );
        }
        found.extend(self.misled(&policies).map(|words| format!("{WARNING}{words}")));
        Ok(found)
    }

    fn answers(&self) -> bool {
        true
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<Table> {
        self.answer(question).await
    }

    fn retention(&mut self) -> Option<&mut dyn Retention> {
        Some(self)
    }

    async fn grafana(&mut self) -> anyhow::Result<Option<(Source, Asks)>> {
        self.data_source().await
    }

    fn audit(&mut self) -> Option<&mut dyn crate::sinks::audit::Audit> {
        Some(self)
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
