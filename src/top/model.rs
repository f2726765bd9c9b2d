//! What the screen shows: lines made of what status and process table say, and the few things that keys change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::status::Status;
use crate::up::{DECK, Entry, Kind, State};

/// What is known of the deck at a moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `None`: no deck answers.
    pub status: Option<Status>,
    pub processes: Vec<Entry>,
    /// The supervisor's number, if one runs.
    pub supervisor: Option<u32>,
}

/// The screen's state.
#[derive(Debug)]
pub struct Model {
    pub(super) seen: Seen,
    pub(super) rows: Vec<Row>,
    pub(super) selected: usize,
    /// The name whose log stands below, and its last lines.
    pub(super) tail: Option<(String, Vec<String>)>,
    silenced: BTreeSet<String>,
    /// What was done last, or why it was not.
    pub(super) said: String,
    /// The restart that waits for a second key.
    pub(super) sure: Option<String>,
    counted: BTreeMap<String, (u64, Instant)>,
    rates: BTreeMap<String, f64>,
}

/// A line of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) mood: Mood,
    pub(super) rate: Option<f64>,
    pub(super) lag: Option<u64>,
    pub(super) gaps: Option<usize>,
    pub(super) restarts: u64,
    /// The last column: when it was heard, memory.
    pub(super) more: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Good,
    Warn,
    Bad,
    /// It would be one of those, and somebody knows.
    Silenced,
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    Restart,
    Tail,
    Silence,
    Quit,
    Other,
}

/// What is to be done about a key, outside of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Nothing,
    Restart(String),
    Quit,
}

/// A rate over less than this says nothing.
const RATE_OVER: Duration = Duration::from_millis(900);

impl Model {
    #[must_use]
    pub fn new() -> Model {
        Model {
            seen: Seen::default(),
            rows: Vec::new(),
            selected: 0,
            tail: None,
            silenced: BTreeSet::new(),
            said: String::new(),
            sure: None,
            counted: BTreeMap::new(),
            rates: BTreeMap::new(),
        }
    }

    /// Takes over what was just seen.
    pub fn see(&mut self, seen: Seen, now: Instant) {
        let selected = self.rows.get(self.selected).map(|row| (row.what, row.name.clone()));
        self.seen = seen;
        let mut rows: Vec<Row> = self.seen.processes.iter().map(process).collect();
        if let Some(status) = self.seen.status.clone() {
            rows.extend(status.sources.iter().map(|source| self.source(source, now)));
            rows.extend(status.services.iter().map(|service| self.service(&status, service, now)));
            let told = |name: &str| status.services.iter().any(|service| service.name == name);
            let alone = status.readers.iter().filter(|reader| !told(&reader.name));
            for reader in alone {
                let rate = self.rate(&format!("reader {}", reader.name), reader.seq, now);
                rows.push(Row {
                    what: "reader",
                    name: reader.name.clone(),
                    state: format!("at {}", reader.seq),
                    rate,
                    lag: Some(reader.lag_records),
                    ..Row::default()
                });
            }
        }
        // Silence is for what is wrong now: what is well again may trouble anew.
        let wrong: BTreeSet<String> = rows.iter().filter(|row| row.mood != Mood::Good).map(Row::key).collect();
        self.silenced.retain(|key| wrong.contains(key));
        for row in rows.iter_mut().filter(|row| self.silenced.contains(&row.key())) {
            row.mood = Mood::Silenced;
        }
        self.selected = selected
            .and_then(|(what, name)| rows.iter().position(|row| row.what == what && row.name == name))
            .unwrap_or_else(|| self.selected.min(rows.len().saturating_sub(1)));
        self.rows = rows;
    }

    /// What a key does.
    pub fn press(&mut self, key: Key) -> Deed {
        let sure = self.sure.take();
        let row = self.rows.get(self.selected).cloned();
        match (key, row) {
            (Key::Quit, _) => return Deed::Quit,
            (Key::Up, _) => self.selected = self.selected.saturating_sub(1),
            (Key::Down, _) => self.selected = (self.selected + 1).min(self.rows.len().saturating_sub(1)),
            (Key::Restart, Some(row)) if row.what == "reader" => {
                self.said = "a reader is restarted where it runs".to_owned()
            }
            (Key::Restart, Some(row)) => {
                let target = row.target();
                if sure.as_deref() == Some(&target) {
                    self.said = format!("restarting {target} …");
                    return Deed::Restart(target);
                }
                self.said = format!("r again restarts {target}");
                self.sure = Some(target);
            }
            (Key::Tail, Some(row)) => {
                let same = self.tail.as_ref().is_some_and(|(name, _)| *name == row.target());
                self.tail = (!same).then(|| (row.target(), Vec::new()));
            }
            (Key::Silence, Some(mut row)) => match row.mood {
                Mood::Good => self.said = format!("{} is well", row.name),
                Mood::Silenced => {
                    self.silenced.remove(&row.key());
                    self.said = format!("{} is no longer silenced", row.name);
                }
                Mood::Warn | Mood::Bad => {
                    self.silenced.insert(row.key());
                    row.mood = Mood::Silenced;
                    self.said = format!("{} is silenced until it is well again", row.name);
                    self.rows[self.selected] = row;
                }
            },
            (Key::Restart | Key::Tail | Key::Silence, None) | (Key::Other, _) => {}
        }
        Deed::Nothing
    }

    /// What came of a deed.
    pub fn say(&mut self, said: impl Into<String>) {
        self.said = said.into();
    }

    /// Whose log is wanted.
    #[must_use]
    pub fn tailed(&self) -> Option<String> {
        self.tail.as_ref().map(|(name, _)| name.clone())
    }

    pub fn set_tail(&mut self, lines: Vec<String>) {
        if let Some((_, shown)) = &mut self.tail {
            *shown = lines;
        }
    }

    /// How many lines are in that mood.
    pub(super) fn count(&self, mood: Mood) -> usize {
        self.rows.iter().filter(|row| row.mood == mood).count()
    }

    fn source(&mut self, source: &crate::status::Source, now: Instant) -> Row {
        let rate = self.rate(&format!("source {}", source.name), source.events, now);
        let heard =
            source.last_heard_ms_ago.map_or_else(|| "never".to_owned(), |ms| format!("{:.1} s ago", ms as f64 / 1e3));
        Row {
            what: "source",
            name: source.name.clone(),
            state: source.state.clone(),
            mood: if source.gaps_open > 0 { mood(&source.state).max_warn() } else { mood(&source.state) },
            rate,
            lag: None,
            gaps: Some(source.gaps_open),
            restarts: source.restarts,
            more: heard,
        }
    }

    fn service(&mut self, status: &Status, service: &crate::status::Service, now: Instant) -> Row {
        let figure = |key: &str| service.detail.get(key).and_then(Value::as_u64);
        let reader = status.readers.iter().find(|reader| reader.name == service.name);
        let sink = figure("dead_letters").is_some();
        // A sink counts what is not delivered, whatever is delivered behind it; of the others the status knows best.
        let lag = reader.map(|reader| reader.lag_records);
        let lag = if sink { figure("lag_records").or(lag) } else { lag.or_else(|| figure("lag_records")) };
        let done = figure("delivered").or_else(|| reader.map(|reader| reader.seq));
        let rate = done.and_then(|done| self.rate(&format!("service {}", service.name), done, now));
        let behind = lag.is_some_and(|lag| lag > status.unsaid_records());
        let letters = figure("dead_letters").unwrap_or(0);
        Row {
            what: if sink { "sink" } else { "service" },
            name: service.name.clone(),
            state: service.state.clone(),
            mood: if behind || letters > 0 { mood(&service.state).max_warn() } else { mood(&service.state) },
            rate,
            lag,
            gaps: None,
            restarts: service.restarts,
            more: if letters > 0 { format!("{letters} dead") } else { String::new() },
        }
    }

    /// Events a second since the last look that was long enough ago.
    fn rate(&mut self, key: &str, count: u64, now: Instant) -> Option<f64> {
        let (before, at) = *self.counted.entry(key.to_owned()).or_insert((count, now));
        let over = now.saturating_duration_since(at);
        // A new process counts from its own beginning.
        if over >= RATE_OVER || count < before {
            self.counted.insert(key.to_owned(), (count, now));
            if count >= before {
                self.rates.insert(key.to_owned(), (count - before) as f64 / over.as_secs_f64());
            }
        }
        self.rates.get(key).copied()
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::new()
    }
}

impl Row {
    fn key(&self) -> String {
        format!("{} {}", self.what, self.name)
    }

    /// As `tapedeck restart` and `tapedeck logs` take it.
    fn target(&self) -> String {
        match self.what {
            "server" => format!("server.{}", self.name),
            // One of several sessions of a source.
            "source" => format!("source.{}", self.name.split('/').next().unwrap_or(&self.name)),
            "sink" => format!("sink.{}", self.name),
            _ => self.name.clone(),
        }
    }
}

impl Mood {
    fn max_warn(self) -> Mood {
        if self == Mood::Good { Mood::Warn } else { self }
    }
}

fn mood(state: &str) -> Mood {
    match state.split([':', ' ']).next().unwrap_or_default() {
        "live" | "running" | "finished" => Mood::Good,
        "lost" | "failed" | "unavailable" => Mood::Bad,
        _ => Mood::Warn,
    }
}

fn process(entry: &Entry) -> Row {
    let used = entry.identity.as_ref().and_then(crate::up::process::Identity::used);
    let mood = match entry.state {
        State::Running => Mood::Good,
        State::Hopeless | State::Silent => Mood::Bad,
        State::Stopped | State::Starting | State::Waiting | State::Stopping => Mood::Warn,
    };
    let state = entry.state.name();
    let gone =
        entry.kind != Kind::Outside && entry.kind != Kind::Compose && used.is_none() && entry.state == State::Running;
    Row {
        what: if entry.name == DECK { "deck" } else { "server" },
        name: entry.name.clone(),
        state: match (gone, entry.detail.is_empty()) {
            (true, _) => "gone, and nobody looked".to_owned(),
            (false, true) => state.to_owned(),
            (false, false) => format!("{state}: {}", entry.detail),
        },
        mood: if gone { Mood::Bad } else { mood },
        restarts: entry.restarts,
        more: used.map(|(bytes, _)| crate::screen::bytes(bytes)).unwrap_or_default(),
        ..Row::default()
    }
}
