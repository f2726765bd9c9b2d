//! What the broker is told: `status`, `heartbeat`, and a status of each source and sink.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tapedeck_market::{UnixNanos, Uuid};
use tokio::time::Instant;

use super::config::Target;
use super::outbox::Message;
use crate::status::Status;

/// The beats of one deck, over all its connections.
#[derive(Debug)]
pub(super) struct Beats {
    topic: String,
    count: u64,
    /// When the last beat was, and the events of each source then.
    before: Option<(Instant, BTreeMap<String, u64>)>,
}

/// Another one with each start of the program: a reader sees a restart that it slept through.
fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| Uuid::new_v4().to_string())
}

fn now() -> String {
    UnixNanos::now().to_string()
}

impl Beats {
    pub(super) fn new(target: &Target) -> Self {
        Beats { topic: target.topic.clone(), count: 0, before: None }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn status(&self, value: &Value) -> Message {
        Message {
            topic: format!("{}/status", self.topic),
            payload: value.to_string().into(),
            acknowledged: true,
            retained: true,
        }
    }

    /// What the broker says when the connection ends without a word.
    pub(super) fn will(&self) -> Message {
        self.status(&json!({ "state": "offline", "reason": "lwt", "boot_id": boot_id() }))
    }

    pub(super) fn online(&self) -> Message {
        let version = env!("CARGO_PKG_VERSION");
        self.status(&json!({ "state": "online", "boot_id": boot_id(), "version": version, "ts": now() }))
    }

    /// The same as the will, by ourselves: an end in order calls no will.
    pub(super) fn offline(&self) -> Message {
        self.status(&json!({ "state": "offline", "reason": "shutdown", "boot_id": boot_id(), "ts": now() }))
    }

    /// The figures of this moment.
    pub(super) fn beat(&mut self, status: &Status, every: Duration) -> Message {
        self.count += 1;
        let events: BTreeMap<String, u64> =
            status.sources.iter().map(|source| (source.name.clone(), source.events)).collect();
        let rates = self.rates(&events);
        self.before = Some((Instant::now(), events));
        let by_source = |figure: fn(&crate::status::Source) -> Value| -> BTreeMap<&str, Value> {
            status.sources.iter().map(|source| (source.name.as_str(), figure(source))).collect()
        };
        let lag_s: BTreeMap<&str, f64> = status
            .services
            .iter()
            .filter_map(|service| Some((service.name.as_str(), service.detail.get("lag_ms")?.as_u64()? as f64 / 1e3)))
            .collect();
        let lag_records: BTreeMap<&str, u64> =
            status.readers.iter().map(|reader| (reader.name.as_str(), reader.lag_records)).collect();
        let troubled = status.services.iter().filter(|service| word(&service.state) == "down").count();
        let down = status.sources.iter().filter(|source| word(&source.state) == "down").count();
        let value = json!({
            "seq": self.count,
            "ts": now(),
            "boot_id": boot_id(),
            "uptime_s": status.uptime_s,
            "interval_s": every.as_secs(),
            "events": status.events,
            "rate": status.rate,
            "rates": rates,
            "lag_s": lag_s,
            "lag_records": lag_records,
            "gaps_open": status.gaps_open,
            "gaps": by_source(|source| source.gaps_open.into()),
            "silent_s": by_source(|source| source.last_heard_ms_ago.map(|ms| ms as f64 / 1e3).into()),
            "rejects": by_source(|source| source.rejects.into()),
            "restarts": status.services.iter().map(|service| service.restarts).sum::<u64>()
                + status.sources.iter().map(|source| source.restarts).sum::<u64>(),
            "errors": troubled + down,
            "duplicates": status.duplicates,
            "shed": status.shed,
            "tape": {
                "last_seq": status.tape.last_seq,
                "bytes": status.tape.bytes,
                "disk_free_bytes": status.tape.disk_free_bytes,
                "days_left": status.tape.days_left,
                "full": status.tape.full,
            },
            "durable_us": { "p50": status.latency.p50_us, "p99": status.latency.p99_us },
            "recorder_silent_s": status.recorder_silent_ms as f64 / 1e3,
            "rss_bytes": status.rss_bytes,
        });
        Message {
            topic: format!("{}/heartbeat", self.topic),
            payload: value.to_string().into(),
            // Its answer is how a frozen broker is told from a quiet one.
            acknowledged: true,
            retained: false,
        }
    }

    /// Events a second of each source since the last beat; none at the first.
    fn rates(&self, events: &BTreeMap<String, u64>) -> BTreeMap<String, f64> {
        let Some((at, before)) = &self.before else { return BTreeMap::new() };
        let seconds = at.elapsed().as_secs_f64().max(1e-3);
        let rate = |(name, now): (&String, &u64)| {
            // A source that was made anew counts from zero.
            let since = now.saturating_sub(before.get(name).copied().unwrap_or(0));
            (name.clone(), (since as f64 / seconds * 10.0).round() / 10.0)
        };
        events.iter().map(rate).collect()
    }
}

/// One word for the state of a source or a service.
pub(super) fn word(state: &str) -> &'static str {
    let first = state.split([':', ' ']).next().unwrap_or_default();
    match first {
        "live" | "running" => "streaming",
        "draining" => "draining",
        "connecting" | "connected" | "starting" | "" => "connecting",
        "stopped" | "finished" => "closed",
        "waiting" if state.contains("no credentials") => "waiting",
        _ => "down",
    }
}

/// `source/kraken` or `sink/influx` has another state.
pub(super) fn state(target: &Target, place: &str, word: &str, detail: &str) -> Message {
    let text = json!({ "state": word, "detail": detail, "since": now() }).to_string();
    Message {
        topic: format!("{}/{place}/status", target.topic),
        payload: text.into(),
        acknowledged: true,
        retained: true,
    }
}

/// It is no longer there: the broker forgets what it kept.
pub(super) fn gone(target: &Target, place: &str) -> Message {
    Message {
        topic: format!("{}/{place}/status", target.topic),
        payload: Vec::new(),
        acknowledged: true,
        retained: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_one_word() {
        for (state, want) in [
            ("live", "streaming"),
            ("running", "streaming"),
            ("connecting", "connecting"),
            ("lost: the venue closed", "down"),
            ("waiting: no credentials: set X", "waiting"),
            ("waiting: connecting to the store", "down"),
            ("failed: refused", "down"),
            ("stopped", "closed"),
        ] {
            assert_eq!(word(state), want, "{state}");
        }
    }
}
