//! Whether a rule holds, by one look at the status: pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rule::{Rule, When};
use crate::status::{Service, Status};
use crate::up::State;

/// Free space that is little, where nobody says how much.
const LITTLE_BYTES: u64 = 5_000_000_000;

/// What one look says of one subject.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    /// `None`: it cannot be told yet, as of a source that was never heard since the start. What held holds on.
    pub holds: Option<bool>,
    /// What was measured, and what is too much of it; in seconds, records, bytes, days or a number of them.
    pub value: f64,
    pub limit: f64,
    pub unit: &'static str,
    /// What is wrong, as a sentence goes on behind the subject.
    pub words: String,
}

impl Finding {
    fn above(value: f64, limit: f64, unit: &'static str, words: String) -> Finding {
        Finding { holds: Some(value > limit), value, limit, unit, words }
    }
}

/// What a rule finds, by subject.
pub(super) fn look(rule: &Rule, status: &Status) -> BTreeMap<String, Finding> {
    let after = rule.after().as_secs_f64();
    let meant = |name: &str, own: &Option<String>| own.as_deref().is_none_or(|own| own == name);
    // Further sessions of a table are called NAME/2 and the like.
    let source = |name: &str| meant(name.split('/').next().unwrap_or(name), &rule.source);
    let up = status.uptime_s as f64;
    let mut found = BTreeMap::new();
    match rule.when {
        When::Silent => {
            for one in status.sources.iter().filter(|one| source(&one.name)) {
                // What needs a person and what has ended are no silence of a feed.
                if one.state == "finished" || one.state.starts_with("waiting: no credentials") {
                    continue;
                }
                let silent = one.last_heard_ms_ago.map(|ms| ms as f64 / 1e3);
                let value = silent.unwrap_or(up);
                let words = format!("silent for {value:.0} s ({})", one.state);
                let mut finding = Finding::above(value, after, "seconds", words);
                if silent.is_none() && value <= after {
                    finding.holds = None;
                }
                found.insert(one.name.clone(), finding);
            }
        }
        When::Behind => {
            for sink in status.services.iter().filter(|one| one.kind == "sink" && meant(&one.name, &rule.sink)) {
                let finding = match rule.records {
                    Some(records) => {
                        let value = figure(sink, "lag_records").unwrap_or(0.0);
                        Finding::above(
                            value,
                            records as f64,
                            "records",
                            format!("{value:.0} records behind ({})", sink.state),
                        )
                    }
                    None => {
                        let value = figure(sink, "behind_ms").unwrap_or(0.0) / 1e3;
                        Finding::above(value, after, "seconds", format!("{value:.0} s behind ({})", sink.state))
                    }
                };
                let known = sink.detail.contains_key("lag_records");
                let holds = finding.holds.filter(|_| known);
                found.insert(sink.name.clone(), Finding { holds, ..finding });
            }
        }
        When::Disk => {
            let free = status.tape.disk_free_bytes as f64;
            let limit = rule.free.map(|free| free.0).or(rule.days.is_none().then_some(LITTLE_BYTES));
            let little = limit.map(|limit| (free < limit as f64, limit as f64));
            let soon = rule.days.map(|days| (status.tape.days_left.is_some_and(|left| left < days), days));
            let finding = match (little, soon) {
                (Some((true, limit)), _) | (Some((false, limit)), None) => {
                    let words = format!("{:.1} GB free where the tape lies", free / 1e9);
                    Finding { holds: Some(free < limit), value: free, limit, unit: "bytes", words }
                }
                (_, Some((holds, limit))) => {
                    let value = status.tape.days_left.unwrap_or(f64::from(u16::MAX));
                    let words = format!("full in {value:.1} days at this rate");
                    let holds = status.tape.days_left.map(|_| holds);
                    Finding { holds, value, limit, unit: "days", words }
                }
                (None, None) => return found,
            };
            found.insert("disk".to_owned(), finding);
        }
        When::Checksum => {
            // Counted, not judged: whether there was another one is for whoever remembers the last count.
            for one in status.sources.iter().filter(|one| source(&one.name) && !one.name.contains('/')) {
                let of = status.gaps.iter().filter(|gaps| gaps.source == one.name && gaps.cause == "checksum");
                let value: u64 = of.map(|gaps| gaps.opened).sum();
                let words = format!("{value} books that did not match the venue's checksum since the start");
                found.insert(
                    one.name.clone(),
                    Finding { holds: None, value: value as f64, limit: after, unit: "breaks", words },
                );
            }
            if rule.source.is_none() {
                let value = status.tape.damaged as f64;
                let words =
                    format!("{value} parts of the tape that cannot be read, or a disk that failed, since the start");
                found.insert("tape".to_owned(), Finding { holds: None, value, limit: after, unit: "breaks", words });
            }
        }
        When::Failed => {
            for one in status.services.iter().filter(|one| meant(&one.name, &rule.service)) {
                // How long is for whoever remembers since when.
                let bad = one.state.starts_with("failed") || one.state == "starting" || one.state.is_empty();
                let words = format!("{}, started anew {} times", one.state, one.restarts);
                let finding =
                    Finding { holds: Some(bad), value: one.restarts as f64, limit: after, unit: "restarts", words };
                found.insert(one.name.clone(), finding);
            }
            for one in status.processes.iter().filter(|one| meant(&one.name, &rule.service)) {
                let holds = Some(one.state == State::Hopeless);
                let words = format!("given up after {} starts: {}", one.starts, one.detail);
                let value = one.restarts as f64;
                found.insert(one.name.clone(), Finding { holds, value, limit: 0.0, unit: "restarts", words });
            }
        }
        When::Rejects => {
            let limit = rule.records.unwrap_or(0) as f64;
            for one in status.services.iter().filter(|one| meant(&one.name, &rule.sink)) {
                let key = match one.name.as_str() {
                    "sync" => "failed",
                    _ if one.kind == "sink" => "dead_letters",
                    _ => continue,
                };
                let value = figure(one, key);
                let words = format!("{:.0} refused and waiting for somebody", value.unwrap_or(0.0));
                let mut finding = Finding::above(value.unwrap_or(0.0), limit, "records", words);
                finding.holds = finding.holds.filter(|_| value.is_some());
                found.insert(one.name.clone(), finding);
            }
        }
        When::Gap => {
            for one in status.sources.iter().filter(|one| source(&one.name) && !one.name.contains('/')) {
                let of = status.gaps.iter().filter(|gaps| gaps.source == one.name && gaps.open > 0);
                let oldest = of.max_by(|a, b| a.open_s.unwrap_or(0.0).total_cmp(&b.open_s.unwrap_or(0.0)));
                let value = oldest.and_then(|gaps| gaps.open_s).unwrap_or(0.0);
                let cause = oldest.map_or("none", |gaps| gaps.cause.as_str());
                let words = format!("a gap open for {value:.0} s ({cause})");
                found.insert(one.name.clone(), Finding::above(value, after, "seconds", words));
            }
        }
    }
    found
}

fn figure(service: &Service, name: &str) -> Option<f64> {
    service.detail.get(name).and_then(Value::as_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Gaps, Source};

    fn rule(text: &str) -> Rule {
        Rule::from_table(format!("{text}\ncommand = ['true']").parse().unwrap()).unwrap()
    }

    fn service(kind: &str, state: &str, figures: Value) -> Service {
        let detail = figures.as_object().cloned().unwrap_or_default();
        Service { name: "s".into(), kind: kind.into(), state: state.into(), detail, ..Service::default() }
    }

    #[test]
    fn a_source_that_was_never_heard_is_unknown_until_it_is_silent() {
        let of = |heard: Option<u64>, up: u64, state: &str| {
            let source =
                Source { name: "k".into(), state: state.into(), last_heard_ms_ago: heard, ..Source::default() };
            let status = Status { sources: vec![source], uptime_s: up, ..Status::default() };
            look(&rule("when = 'silent'\nafter = '10s'"), &status).get("k").map(|finding| finding.holds)
        };
        assert_eq!(of(None, 5, "connecting"), Some(None));
        assert_eq!(of(None, 11, "lost: x"), Some(Some(true)));
        assert_eq!(of(Some(9_000), 100, "live"), Some(Some(false)));
        assert_eq!(of(Some(11_000), 100, "live"), Some(Some(true)));
        assert_eq!(of(None, 100, "waiting: no credentials: set X"), None);
    }

    #[test]
    fn only_whom_a_rule_means_is_looked_at() {
        let source = |name: &str| Source { name: name.into(), last_heard_ms_ago: Some(99_000), ..Source::default() };
        let status = Status { sources: vec![source("a"), source("b"), source("b/2")], ..Status::default() };
        let names = |text: &str| look(&rule(text), &status).into_keys().collect::<Vec<_>>();
        assert_eq!(names("when = 'silent'"), ["a", "b", "b/2"]);
        assert_eq!(names("when = 'silent'\nsource = 'b'"), ["b", "b/2"]);
        assert_eq!(names("when = 'gap'"), ["a", "b"]);
    }

    #[test]
    fn a_sink_is_behind_by_time_or_by_records() {
        let status = |figures| Status { services: vec![service("sink", "running", figures)], ..Status::default() };
        let of = |text: &str, figures| look(&rule(text), &status(figures))["s"].holds;
        let lag = || serde_json::json!({ "lag_records": 500, "behind_ms": 8_000 });
        assert_eq!(of("when = 'behind'\nafter = '7s'", lag()), Some(true));
        assert_eq!(of("when = 'behind'\nafter = '9s'", lag()), Some(false));
        assert_eq!(of("when = 'behind'\nrecords = 499", lag()), Some(true));
        assert_eq!(of("when = 'behind'\nrecords = 500", lag()), Some(false));
        assert_eq!(of("when = 'behind'", serde_json::json!({})), None, "it says nothing yet");
        assert_eq!(of("when = 'rejects'", serde_json::json!({ "dead_letters": 1 })), Some(true));
    }

    #[test]
    fn little_space_is_little_or_soon() {
        let of = |text: &str, free: u64, days: Option<f64>| {
            let tape = crate::status::Tape { disk_free_bytes: free, days_left: days, ..Default::default() };
            let finding = look(&rule(text), &Status { tape, ..Status::default() })["disk"].clone();
            (finding.holds, finding.unit)
        };
        assert_eq!(of("when = 'disk'", 4_999_999_999, None), (Some(true), "bytes"));
        assert_eq!(of("when = 'disk'", 5_000_000_000, None), (Some(false), "bytes"));
        assert_eq!(of("when = 'disk'\ndays = 3", 1, Some(4.0)), (Some(false), "days"));
        assert_eq!(of("when = 'disk'\ndays = 3", 1, None), (None, "days"));
        assert_eq!(of("when = 'disk'\ndays = 3\nfree = '1 KB'", 1, Some(9.0)), (Some(true), "bytes"));
        assert_eq!(of("when = 'disk'\ndays = 3\nfree = '1 KB'", 5_000, Some(2.0)), (Some(true), "days"));
    }

    #[test]
    fn the_oldest_gap_counts() {
        let gap = |cause: &str, open, open_s| Gaps {
            source: "k".into(),
            cause: cause.into(),
            open,
            open_s,
            ..Gaps::default()
        };
        let source = Source { name: "k".into(), ..Source::default() };
        let gaps = vec![gap("stall", 1, Some(5.0)), gap("session", 2, Some(50.0)), gap("down", 0, None)];
        let status = Status { sources: vec![source], gaps, ..Status::default() };
        let finding = &look(&rule("when = 'gap'\nafter = '40s'"), &status)["k"];
        assert!(finding.holds == Some(true) && finding.words.contains("50 s (session)"), "{finding:?}");
        assert_eq!(look(&rule("when = 'gap'\nafter = '60s'"), &status)["k"].holds, Some(false));
    }
}
