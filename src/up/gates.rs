//! The gates of a start: what each phase waits for, and what it says when it waits in vain.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::keeper::Kept;
use super::log;
use super::phases::Trouble;
use super::table::{Entry, Kind, State};
use crate::config::{Config, KindTable};
use crate::control::{self, Request};
use crate::grafana::{Job, To, setup};
use crate::sinks;
use crate::status::Status;

/// As many of the last lines of a log stand in the report of a failure.
const LAST_LINES: usize = 12;
/// What ends so often in a row before it is ready will not be better the next time.
const FAILURES: u32 = 5;
/// Between two looks at the deck while it starts.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// So long a Grafana that does not answer holds up the start: its own process has had its gate, and nothing is lost without.
const GRAFANA_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries of a store.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// What a phase found: a line for each thing, and warnings.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lines: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Waits until a started process is ready.
pub(super) async fn process(phase: &str, kept: &mut Kept) -> Result<String, Trouble> {
    let over = |entry: &Entry| {
        let failing = entry.failures >= FAILURES && matches!(entry.state, State::Waiting | State::Starting);
        failing || matches!(entry.state, State::Running | State::Silent | State::Hopeless)
    };
    let entry = kept.until(over).await;
    if matches!(entry.state, State::Running | State::Silent) {
        let pid = entry.identity.as_ref().map(|identity| format!(", pid {}", identity.pid)).unwrap_or_default();
        let took = Duration::from_millis(entry.ready_ms.unwrap_or(0));
        return Ok(match entry.kind {
            Kind::Outside => format!("{} answers", entry.name),
            _ if !entry.detail.is_empty() => format!("{} ready{pid}, {}", entry.name, entry.detail),
            _ => format!("{} ready after {:.1} s{pid}", entry.name, took.as_secs_f64()),
        });
    }
    Err(trouble(phase, &entry))
}

/// What an entry that is not ready tells.
pub(super) fn trouble(phase: &str, entry: &Entry) -> Trouble {
    let deck = entry.kind == Kind::Deck;
    let name = &entry.name;
    let service = if deck { name.clone() } else { format!("server.{name}") };
    let why = match entry.state {
        State::Waiting if entry.failures >= FAILURES => {
            format!("{} times in a row it {}", entry.failures, entry.detail)
        }
        State::Starting if entry.detail.is_empty() => "not ready in time".to_owned(),
        _ => entry.detail.clone(),
    };
    let fix = if entry.detail.contains("is taken by") {
        format!("end that process, or leave `command` out of [server.{name}] if it is the one that is meant")
    } else if entry.detail.contains("there is no `docker`") {
        format!("install Docker with its compose plugin, or write [server.{name}] with a `command` of this machine")
    } else if entry.detail.contains("cannot be started") {
        format!("look at `command`, `dir` and `user` of [server.{name}]: {}", entry.command)
    } else if entry.detail.contains("was not ready within") {
        format!("is `ready` of [server.{name}] where it listens? If it only takes longer, raise its `limit`")
    } else if deck {
        format!("tapedeck check; tapedeck run says the same in the foreground; its log: {}", entry.log.display())
    } else {
        format!("what it says itself is in {}; by hand: {}", entry.log.display(), entry.command)
    };
    let log = log::last_lines(&entry.log, entry.log_from, LAST_LINES);
    Trouble { phase: phase.to_owned(), service, why, log, log_file: Some(entry.log.clone()), fix }
}

/// What of the deck is ready, and what is not.
struct Look {
    ready: Vec<String>,
    warnings: Vec<String>,
    pending: Vec<(String, String)>,
}

/// Waits until the sources and all that derives and serves are there. Sinks are a phase of their own.
pub(super) async fn sources(config: &Config, deck: &mut Kept, limit: Duration) -> Result<Found, Trouble> {
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.to_string()).collect();
    let look = |status: &Status| {
        let mut look = Look { ready: Vec::new(), warnings: Vec::new(), pending: Vec::new() };
        for source in &status.sources {
            look.add("source", &source.name, &source.state);
        }
        for service in status.services.iter().filter(|service| !sinks.contains(&service.name)) {
            look.add("service", &service.name, &service.state);
        }
        look
    };
    of_deck("sources", deck, config, limit, look).await
}

/// Waits until every store takes what it is sent.
pub(super) async fn sinks(config: &Config, deck: &mut Kept, limit: Duration) -> Result<Found, Trouble> {
    let look = |status: &Status| {
        let mut look = Look { ready: Vec::new(), warnings: Vec::new(), pending: Vec::new() };
        for sink in &config.sinks {
            let Some(service) = status.services.iter().find(|service| service.name == *sink.name) else { continue };
            if service.state.starts_with("waiting") {
                look.pending.push((format!("sink.{}", sink.name), service.state.clone()));
                continue;
            }
            look.add("sink", &service.name, &service.state);
            let lag = service.detail.get("lag_records").and_then(Value::as_u64).unwrap_or(0);
            if lag > 0
                && let Some(last) = look.ready.last_mut()
            {
                last.push_str(&format!(", {lag} records behind"));
            }
        }
        look
    };
    of_deck("sinks", deck, config, limit, look).await
}

impl Look {
    fn add(&mut self, what: &str, name: &str, state: &str) {
        let word = state.split([':', ' ']).next().unwrap_or_default();
        match word {
            "live" | "running" | "finished" | "draining" => self.ready.push(format!("{name} {state}")),
            // A person has to do something, and the rest need not wait for that.
            "waiting" => self.warnings.push(format!("{what}.{name} is {state}")),
            _ => self.pending.push((format!("{what}.{name}"), state.to_owned())),
        }
    }
}

async fn of_deck(
    phase: &str,
    deck: &mut Kept,
    config: &Config,
    limit: Duration,
    look: impl Fn(&Status) -> Look,
) -> Result<Found, Trouble> {
    let mut pending = Vec::new();
    let waiting = async {
        loop {
            if let Ok(Some(answer)) = control::ask(&config.tape.dir, &Request::Status).await
                && let Ok(status) = serde_json::from_value::<Status>(answer)
            {
                let seen = look(&status);
                if seen.pending.is_empty() {
                    return Found { lines: seen.ready, warnings: seen.warnings };
                }
                pending = seen.pending;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let failing = |entry: &Entry| entry.state == State::Hopeless || entry.failures >= FAILURES;
    let waited = tokio::select! {
        found = tokio::time::timeout(limit, waiting) => found,
        entry = deck.until(failing) => return Err(trouble(phase, &entry)),
    };
    waited.map_err(|_| {
        let entry = deck.entry.borrow().clone();
        let (service, state) = pending.first().cloned().unwrap_or(("deck".to_owned(), "does not answer".to_owned()));
        let name = service.split_once('.').map_or(service.as_str(), |(_, name)| name).to_owned();
        let state = if state.is_empty() { "starting".to_owned() } else { state };
        let others = pending.len().saturating_sub(1);
        let others = if others > 0 { format!(" (and {others} more)") } else { String::new() };
        let fix = match phase {
            "sinks" => format!(
                "tapedeck validate stores {name}; with --keep the deck records all the same, and delivers later"
            ),
            _ => format!("tapedeck check {name}; with --keep it goes on trying in the background"),
        };
        let all = log::last_lines(&entry.log, entry.log_from, 400);
        let about: Vec<String> = all.into_iter().filter(|line| line.contains(&name)).collect();
        let log = about[about.len().saturating_sub(LAST_LINES)..].to_vec();
        let why = format!("not ready within {} s: {state}{others}", limit.as_secs_f64());
        Trouble { phase: phase.to_owned(), service, why, log, log_file: Some(entry.log), fix }
    })
}

/// Makes the retention policies of every store that has some.
pub(super) async fn retention(config: &Config, limit: Duration) -> Result<Found, Trouble> {
    let mut found = Found::default();
    for table in &config.sinks {
        let made = tried(limit, || async {
            let (_, mut sink) = sinks::build(table, &config.tape.dir)?;
            match sink.retention() {
                Some(store) => Ok(Some(store.create().await?.rows.len())),
                None => Ok(None),
            }
        });
        match made.await {
            Ok(Some(policies)) => found.lines.push(format!("{}: {policies} policies", table.name)),
            Ok(None) => {}
            Err(why) => return Err(of_store("retention", table, why, "retention create --sink")),
        }
    }
    Ok(found)
}

/// Brings data sources and dashboards to Grafana. Without one the deck records all the same: what goes wrong is a warning.
pub(super) async fn grafana(config: &Config, limit: Duration) -> Found {
    let job = Job { sources: true, dashboards: true, to: None, dir: None, dry: false, wait: GRAFANA_WITHIN.min(limit) };
    let mut found = Found::default();
    let done = match tokio::time::timeout(limit, setup(config, &job)).await {
        Ok(done) => done.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("not done within {} s", limit.as_secs_f64())),
    };
    match done {
        Ok(done) => {
            let changed = done.changes.iter().filter(|change| change.state != "unchanged").count();
            found.lines.push(format!("{}: {} as wanted, {changed} of them new", done.at, done.changes.len()));
            if done.to == To::Files && done.changed() {
                found.warnings.push("Grafana reads data sources at its start: restart it".to_owned());
            }
            found.warnings.extend(
                done.changes
                    .into_iter()
                    .filter(|change| change.note.contains("cannot"))
                    .map(|change| format!("{}: {}", change.name, change.note)),
            );
        }
        Err(why) => found.warnings.push(format!("{why}; tapedeck grafana setup tries again")),
    }
    found
}

/// Tries every store with a write and its reading back.
pub(super) async fn validation(config: &Config, limit: Duration) -> Result<Found, Trouble> {
    let tried = config.sinks.iter().map(|table| async move {
        let tried = tried(limit, || async { sinks::build(table, &config.tape.dir)?.1.check().await }).await;
        (table, tried)
    });
    let mut found = Found::default();
    for (table, tried) in futures_util::future::join_all(tried).await {
        let lines = tried.map_err(|why| of_store("validation", table, why, "validate stores"))?;
        for line in lines {
            match line.strip_prefix(sinks::WARNING) {
                Some(words) => found.warnings.push(format!("{}: {words}", table.name)),
                None => found.lines.push(format!("{}: {line}", table.name)),
            }
        }
    }
    Ok(found)
}

/// Again and again until it works; why it did not, at last.
async fn tried<T, F: Future<Output = anyhow::Result<T>>>(limit: Duration, one: impl Fn() -> F) -> Result<T, String> {
    let mut last = format!("no answer within {} s", limit.as_secs_f64());
    let trying = async {
        loop {
            match one().await {
                Ok(done) => return done,
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    };
    let tried = tokio::time::timeout(limit, trying).await;
    tried.map_err(|_| last)
}

fn of_store(phase: &str, table: &KindTable, why: String, verb: &str) -> Trouble {
    let service = format!("sink.{}", table.name);
    let fix = format!(
        "tapedeck {verb} {}; is the store there, and are address and password of [{service}] right? With --keep the deck \
         records all the same, and delivers later",
        table.name
    );
    Trouble { phase: phase.to_owned(), service, why, fix, ..Trouble::default() }
}

/// What waits for each sink, by its reader's place.
pub(super) fn queued(config: &Config, dir: &Path) -> Vec<(String, u64)> {
    let readers = crate::status::of_tape(dir).readers;
    let lag = |name: &str| readers.iter().find(|reader| reader.name == name).map(|reader| reader.lag_records);
    config.sinks.iter().filter_map(|sink| Some((sink.name.to_string(), lag(&sink.name)?))).collect()
}
