//! Alerts: rules that the deck looks at once a second, told to a webhook or a command.
//!
//! ```text
//! status of the deck ─► condition (pure) ─► board (pure: what fires, what was told) ─► outbox ─► webhook, command
//!                                              │    newest of each alert and subject     few at once, each with a limit
//!                                              └─► <dir>/alerts.json
//! ```
//!
//! - Nothing waits for whom is told: the service asks for the deck's status, as a scrape of the metrics does.
//! - What fires is remembered over a restart, so that it is not told twice; what was not told before it is told then.
//! - A message is tried a few times, then given up until `repeat`: nothing piles up.

mod board;
mod condition;
mod message;
mod outbox;
mod rule;
mod send;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Map, Value, json};
use tapedeck_market::UnixNanos;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::service::{Desk, Holds, Service, ServiceKind, Setup, Stage};
use crate::up::Table;
pub use board::{Board, Case};
use condition::Finding;
use message::{Message, Sender, State};
use outbox::{AT_ONCE, Attempt, Outbox};
pub use rule::{RULES, Rule, When};
use send::{Target, send};

/// How often the rules are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is remembered, in the deck's folder.
const FILE: &str = "alerts.json";

/// `[alert.NAME]`, all of them. It reads no tape.
pub const KIND: ServiceKind = ServiceKind {
    name: "alerts",
    stage: Stage::Serve,
    holds: Holds::Nothing,
    section: |config| Some(config.alerts.as_ref()?.table.clone().into()),
    build,
};

fn build(setup: &Setup) -> anyhow::Result<Box<dyn Service>> {
    Ok(Box::new(Alerts { rules: rules(&setup.config)?, path: setup.dir.join(FILE) }))
}

/// The rules of a config, by name.
///
/// # Errors
/// The first that is wrong.
pub fn rules(config: &Config) -> anyhow::Result<BTreeMap<String, Rule>> {
    let tables = config.alerts.iter().flat_map(|section| &section.table);
    let rule = |(name, table): (&String, &toml::Value)| {
        let table = table.as_table().cloned().with_context(|| format!("[alert] {name}: is a value, not a table"))?;
        Ok((name.clone(), Rule::from_table(table).with_context(|| format!("[alert.{name}]"))?))
    };
    tables.map(rule).collect()
}

/// What is remembered of the alerts of a deck, running or not.
///
/// # Errors
/// The file is there and cannot be read.
pub fn remembered(dir: &Path) -> anyhow::Result<Board> {
    let path = dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Board::default()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
}

/// Sends a message that says it is a test to everybody whom the rule tells; how it went, by target.
pub async fn test(name: &str, rule: &Rule, tape: &str) -> Vec<(&'static str, anyhow::Result<()>)> {
    let from = Sender { host: crate::heartbeat::host_name(), tape: tape.to_owned() };
    let finding = Finding { holds: None, value: 0.0, limit: 0.0, unit: "", words: String::new() };
    let mut message = Message::new(name, State::Test, rule.when, rule.subject().unwrap_or("any"), &finding, &from);
    message.since.clone_from(&message.at);
    let mut told = Vec::new();
    for target in Target::of(rule) {
        told.push((target.name(), send(rule, target, &message).await));
    }
    told
}

struct Alerts {
    rules: BTreeMap<String, Rule>,
    path: PathBuf,
}

#[async_trait]
impl Service for Alerts {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let mut board = remembered(&desk.dir).unwrap_or_else(|error| {
            tracing::warn!(service = %desk.name, error = format!("{error:#}"), "what was told before is forgotten");
            Board::default()
        });
        let mut kept = board.clone();
        let from = Sender { host: crate::heartbeat::host_name(), tape: desk.status.now().tape.id };
        let mut outbox = Outbox::default();
        let mut sending = FuturesUnordered::new();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        desk.shown.set_state("running");
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => {
                    for (key, message) in self.look(&mut board, desk, &from) {
                        tracing::warn!(service = %desk.name, alert = key.0, subject = key.1, state = ?message.state, "{}", message.text);
                        let targets = self.rules.get(&key.0).map(Target::of).unwrap_or_default();
                        outbox.put(key, message, targets, Instant::now());
                    }
                }
                Some((attempt, result)) = sending.next() => {
                    let attempt: Attempt = attempt;
                    if let Err(error) = &result {
                        let (alert, target) = (&attempt.key.0, attempt.target.name());
                        tracing::warn!(service = %desk.name, alert, target, error = format!("{error:#}"), "an alert was not taken");
                    }
                    if outbox.ended(&attempt, &result, Instant::now()) {
                        board.told(&attempt.key, UnixNanos::now());
                    }
                }
            }
            while sending.len() < AT_ONCE
                && let Some(attempt) = outbox.take(Instant::now())
            {
                let Some(rule) = self.rules.get(&attempt.key.0) else { continue };
                sending.push(async move {
                    let result = send(rule, attempt.target, &attempt.message).await;
                    (attempt, result)
                });
            }
            if board != kept {
                self.keep(&board).await;
                kept = board.clone();
            }
            desk.shown.set_detail(self.shown(&board, &outbox));
        }
        self.keep(&board).await;
        Ok(())
    }
}

impl Alerts {
    fn look(&self, board: &mut Board, desk: &Desk, from: &Sender) -> Vec<(board::Key, Message)> {
        let mut status = desk.status.now();
        if self.rules.values().any(|rule| rule.when == When::Failed) {
            let table = Table::of(&desk.dir);
            if table.is_held() {
                status.processes = table.list();
            }
        }
        // This service is running when it says so.
        status.services.retain(|service| service.name != desk.name.as_str());
        board.look(&self.rules, &status, from, UnixNanos::now())
    }

    fn shown(&self, board: &Board, outbox: &Outbox) -> Map<String, Value> {
        let alerts: Map<String, Value> =
            self.rules.keys().map(|name| (name.clone(), board.firing(name).into())).collect();
        let figures = json!({
            "rules": self.rules.len(),
            "firing": board.cases.iter().filter(|case| case.firing).count(),
            "sent": outbox.sent,
            "failures": outbox.failures,
            "lost": outbox.lost,
            "waiting": outbox.len(),
            "alerts": alerts,
        });
        figures.as_object().cloned().unwrap_or_default()
    }

    /// A file that cannot be written costs a second message after a restart, and nothing else.
    async fn keep(&self, board: &Board) {
        let (path, text) = (self.path.clone(), serde_json::to_vec(board).unwrap_or_default());
        let write = move || -> std::io::Result<()> {
            let new = path.with_extension("json.new");
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            std::fs::rename(&new, &path)
        };
        let error = match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(path = %self.path.display(), error, "what was told cannot be remembered over a restart");
    }
}
