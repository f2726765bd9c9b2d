//! The status as Prometheus metrics. Made anew at each scrape: nothing is registered, nothing is held.
//!
//! `families` says what there is; a value can only be told of a family that stands there, and `docs/metrics.md` is made of
//! it.

mod families;

use std::fmt::Write as _;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serde_json::Value as Json;

use crate::meter::Times;
use crate::status::{Service, Status};
use families::*;
pub use families::{Family, Kind, SECTIONS, When};

/// A registry with the figures of one moment.
pub(super) fn registry(status: &Status) -> Registry {
    let mut registry = Registry::with_prefix("tapedeck");
    registry.register_collector(Box::new(Samples::of(status)));
    registry
}

/// Every family, in the order of the document.
pub fn all() -> impl Iterator<Item = &'static Family> {
    SECTIONS.iter().flat_map(|(_, families)| families.iter())
}

/// `docs/metrics.md`.
#[must_use]
pub fn document() -> String {
    let mut text = "# Metrics\n\n\
        `GET /metrics` of the deck ([configuration](configuration.md), `[http]`), in the text format of OpenMetrics. Counters begin at\n\
        zero with the process. This file is made from the code: `UPDATE_GOLDEN=1 cargo test -p tapedeck --test it -- metrics::` writes\n\
        it anew. Histograms count in fixed buckets; their names have `_bucket`, `_sum` and `_count` behind them. Rules for Prometheus\n\
        are in `deploy/prometheus/`, alerts without it in [alerts](alerts.md).\n"
        .to_owned();
    for (title, families) in SECTIONS {
        let _ = writeln!(
            text,
            "\n## {title}\n\n| name | type | labels | unit | meaning | there |\n|---|---|---|---|---|---|"
        );
        for family in *families {
            let kind = format!("{:?}", family.kind).to_lowercase();
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, labels, unit) = (family.full_name(), labels.join(", "), family.unit.unwrap_or_default());
            let _ =
                writeln!(text, "| `{name}` | {kind} | {labels} | {unit} | {} | {} |", family.help, family.when.words());
        }
    }
    let bounds: Vec<String> = crate::meter::BOUNDS_S.iter().map(ToString::to_string).collect();
    let _ = write!(text, "\nBuckets of every histogram, in seconds: {}.\n", bounds.join(", "));
    text
}

#[derive(Clone, Debug)]
enum Value {
    Count(u64),
    Number(f64),
    Times(Times),
}

impl Value {
    fn encode(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Value::Count(count) => encoder.encode_counter::<NoLabelSet, u64, u64>(count, None),
            Value::Number(number) if kind == Kind::Counter => {
                encoder.encode_counter::<NoLabelSet, f64, u64>(number, None)
            }
            Value::Number(number) => encoder.encode_gauge(number),
            Value::Times(times) => {
                let (sum, count) = (times.sum().as_secs_f64(), times.count());
                encoder.encode_histogram::<NoLabelSet>(sum, count, &times.buckets(), None)
            }
        }
    }
}

type Labels = Vec<(&'static str, String)>;

/// What is told, family by family.
#[derive(Debug, Default)]
struct Samples(Vec<(Family, Labels, Value)>);

impl Samples {
    fn of(status: &Status) -> Samples {
        let mut samples = Samples::default();
        samples.deck(status);
        samples.sources(status);
        samples.gaps(status);
        samples.sinks(status);
        samples.services(status);
        samples
    }

    fn put(&mut self, family: Family, labels: &[&str], value: Value) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let labels = family.labels.iter().copied().zip(labels.iter().map(|value| (*value).to_owned())).collect();
        self.0.push((family, labels, value));
    }

    fn count(&mut self, family: Family, labels: &[&str], count: u64) {
        self.put(family, labels, Value::Count(count));
    }

    fn number(&mut self, family: Family, labels: &[&str], number: f64) {
        self.put(family, labels, Value::Number(number));
    }

    fn flag(&mut self, family: Family, labels: &[&str], holds: bool) {
        self.number(family, labels, f64::from(u8::from(holds)));
    }

    fn times(&mut self, family: Family, labels: &[&str], times: &Times) {
        self.put(family, labels, Value::Times(times.clone()));
    }

    fn deck(&mut self, status: &Status) {
        let (tape, process) = (&status.tape, &status.process);
        self.number(INFO, &[&tape.mode, &status.version], 1.0);
        for (family, count) in [
            (EVENTS, status.events),
            (DUPLICATES, status.duplicates),
            (SHED, status.shed),
            (CLOCK_STEPS, status.clock.steps),
            (TAPE_DAMAGED, tape.damaged),
        ] {
            self.count(family, &[], count);
        }
        for (family, number) in [
            (UPTIME, status.uptime_s as f64),
            (START_TIME, status.started_s),
            (QUEUE_FRAMES, status.queue_frames as f64),
            (QUEUE_LIMIT, status.queue_limit as f64),
            (RECORDER_SILENCE, status.recorder_silent_ms as f64 / 1e3),
            (TAPE_LAST_SEQ, tape.last_seq as f64),
            (TAPE_DURABLE_SEQ, tape.durable_seq as f64),
            (TAPE_BYTES, tape.bytes as f64),
            (TAPE_HELD, tape.held_bytes as f64),
            (TAPE_SEGMENTS, tape.segments as f64),
            (DISK_FREE, tape.disk_free_bytes as f64),
            (CLOCK_OFFSET, status.clock.offset_ns as f64 / 1e9),
            (MEMORY, status.rss_bytes as f64),
            (OPEN_FDS, process.open_fds as f64),
            (MAX_FDS, process.max_fds as f64),
            (THREADS, process.threads as f64),
            (GAPS_OPEN, status.gaps_open as f64),
        ] {
            self.number(family, &[], number);
        }
        self.number(CPU, &[], process.cpu_s);
        self.flag(DISK_FULL, &[], tape.full);
        self.flag(SHEDDING, &[], tape.shedding);
        if let Some(days) = tape.days_left {
            self.number(DISK_DAYS_LEFT, &[], days);
        }
        self.times(RECEIVE_TO_DURABLE, &[], &status.times.durable);
        self.times(TAPE_SYNC, &[], &status.times.sync);
    }

    fn sources(&mut self, status: &Status) {
        for source in &status.sources {
            let of = [source.name.as_str(), source.venue.as_str()];
            self.flag(SOURCE_UP, &of, source.state == "live");
            self.flag(SOURCE_WAITING, &of, source.waits());
            for (family, count) in [
                (SOURCE_FRAMES, source.frames),
                (SOURCE_BYTES, source.bytes),
                (SOURCE_EVENTS, source.events),
                (SOURCE_SESSIONS, source.sessions),
                (SOURCE_RECONNECTS, source.sessions.saturating_sub(1)),
                (SOURCE_RESTARTS, source.restarts),
                (SOURCE_PANICS, source.panics),
            ] {
                self.count(family, &of, count);
            }
            self.number(SOURCE_LIVE, &of, source.live as f64);
            self.number(SOURCE_SUBSCRIPTIONS, &of, source.subscriptions as f64);
            self.number(SOURCE_GAPS_OPEN, &of, source.gaps_open as f64);
            if let Some(ms) = source.last_heard_ms_ago {
                self.number(SOURCE_SILENCE, &of, ms as f64 / 1e3);
            }
            if source.pings.count() > 0 {
                self.times(SOURCE_PING, &of, &source.pings);
            }
            for (reason, count) in &source.reject_reasons {
                self.count(SOURCE_REJECTS, &[&source.name, reason], *count);
            }
            for (reason, count) in &source.notes {
                self.count(SOURCE_ODD, &[&source.name, reason], *count);
            }
        }
    }

    /// The gap ledger. Counters are of this process; what is open is of the tape.
    fn gaps(&mut self, status: &Status) {
        for gaps in &status.gaps {
            let of = [gaps.source.as_str(), gaps.cause.as_str()];
            self.count(GAPS, &of, gaps.opened);
            self.count(GAP_MISSING, &of, gaps.missing);
            self.number(GAP_LOST, &of, gaps.lost_s);
            self.number(GAP_OPEN, &of, gaps.open as f64);
            self.number(GAP_OPEN_AGE, &of, gaps.open_s.unwrap_or(0.0));
        }
    }

    fn sinks(&mut self, status: &Status) {
        for reader in &status.readers {
            self.number(READER_LAG, &[&reader.name], reader.lag_records as f64);
        }
        for sink in status.services.iter().filter(|service| service.kind == "sink") {
            let of = [sink.name.as_str()];
            let figure = |name: &str| sink.detail.get(name).and_then(Json::as_u64).unwrap_or(0);
            self.flag(SINK_UP, &of, sink.state == "running" || sink.state == "draining");
            for (family, name) in [
                (SINK_LAG_RECORDS, "lag_records"),
                (SINK_LAG_BYTES, "lag_bytes"),
                (SINK_BACKLOG, "backlog_records"),
                (SINK_BATCH, "batch_limit"),
                (SINK_DEAD_LETTERS, "dead_letters"),
            ] {
                self.number(family, &of, figure(name) as f64);
            }
            self.number(SINK_LAG_SECONDS, &of, figure("behind_ms") as f64 / 1e3);
            for (family, name) in [
                (SINK_DELIVERED, "delivered"),
                (SINK_REQUESTS, "requests"),
                (SINK_FAILURES, "failures"),
                (SINK_REJECTS, "refused"),
                (SINK_LETTERS_LOST, "dead_letters_lost"),
                (SINK_EXPIRED, "expired"),
                (SINK_LOST, "lost"),
                (SINK_REWINDS, "rewinds"),
            ] {
                self.count(family, &of, figure(name));
            }
            for (family, times) in [(SINK_REQUEST, &sink.times.request), (RECEIVE_TO_DELIVERED, &sink.times.delivered)]
            {
                if times.count() > 0 {
                    self.times(family, &of, times);
                }
            }
        }
    }

    fn services(&mut self, status: &Status) {
        for service in &status.services {
            let Service { name, state, restarts, panics, detail, .. } = service;
            self.flag(SERVICE_RUNNING, &[name], state == "running");
            self.flag(SERVICE_FAILED, &[name], state.starts_with("failed"));
            self.count(SERVICE_RESTARTS, &[name], *restarts);
            self.count(SERVICE_PANICS, &[name], *panics);
            for (figure, value) in detail {
                if let Some(value) = value.as_f64() {
                    self.number(SERVICE_FIGURE, &[name, figure], value);
                }
            }
        }
        if let Some(alerts) = status.services.iter().find(|service| service.name == crate::alerts::KIND.name) {
            let figure = |name: &str| alerts.detail.get(name).and_then(Json::as_u64);
            for (family, name) in [(ALERTS_SENT, "sent"), (ALERTS_LOST, "lost")] {
                if let Some(count) = figure(name) {
                    self.count(family, &[], count);
                }
            }
            for (alert, firing) in alerts.detail.get("alerts").and_then(Json::as_object).into_iter().flatten() {
                self.number(ALERT_FIRING, &[alert], firing.as_f64().unwrap_or(0.0));
            }
        }
        if let Some(sync) = status.services.iter().find(|service| service.name == crate::sync::service::KIND.name) {
            for (table, said) in sync.detail.get("by_table").and_then(Json::as_object).into_iter().flatten() {
                for state in ["synced", "failed", "gone"] {
                    self.number(SYNC_RECORDS, &[table, state], said[state].as_f64().unwrap_or(0.0));
                }
                self.count(SYNC_SENT, &[table], said["sent"].as_u64().unwrap_or(0));
                for (family, name) in
                    [(SYNC_LAG, "lag_seconds"), (SYNC_RATE, "records_per_second"), (SYNC_SUCCESS, "success_ratio")]
                {
                    if let Some(number) = said[name].as_f64() {
                        self.number(family, &[table], number);
                    }
                }
            }
        }
        for process in &status.processes {
            self.flag(PROCESS_HOPELESS, &[&process.name], process.state == crate::up::State::Hopeless);
            self.number(PROCESS_RESTARTS, &[&process.name], process.restarts as f64);
        }
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in all() {
            let of = || self.0.iter().filter(|(told, ..)| told == family);
            if of().next().is_none() {
                continue;
            }
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let unit = family.unit.map(|unit| Unit::Other(unit.to_owned()));
            let help = format!("{}.", family.help);
            let mut metric = encoder.encode_descriptor(family.name, &help, unit.as_ref(), kind)?;
            for (_, labels, value) in of() {
                // Without labels there are no braces either.
                match labels.is_empty() {
                    true => value.encode(family.kind, &mut metric)?,
                    false => value.encode(family.kind, &mut metric.encode_family(labels)?)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_their_labels_too() {
        let names: Vec<String> = all().map(Family::full_name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for family in all() {
            assert!(
                family.help.chars().next().is_some_and(|c| !c.is_lowercase()) && !family.help.ends_with('.'),
                "{family:?}"
            );
            assert!(family.kind != Kind::Counter || !family.name.ends_with("total"), "{family:?}");
        }
    }

    #[test]
    fn everything_that_is_told_stands_in_the_table() {
        let mut status = Status::default();
        status.sources.push(crate::status::Source::default());
        status.services.push(Service { kind: "sink".into(), ..Service::default() });
        for (family, ..) in Samples::of(&status).0 {
            assert!(all().any(|known| *known == family), "{family:?}");
        }
    }
}
