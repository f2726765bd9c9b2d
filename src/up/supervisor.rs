//! The supervisor: through the phases of a start, then keeping what runs, then the stop in reverse order.

mod asked;
mod start;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tapedeck_market::UnixNanos;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::access;
use super::compose::Container;
use super::gates;
use super::keeper::{Kept, Order};
use super::phases::{PHASES, Stage, Supervisor, Trouble};
use super::process::Identity;
use super::running::{Process, Running};
use super::spec::{Deck, Spec, settings_of};
use super::table::{DECK, Kind, Lock, State, Table, means};
use crate::config::{Config, Loaded, Stop};
use crate::control;
pub use asked::{Ask, STARTING};
use asked::{Signals, handler, next_ask, stop_asked};
use start::all_ahead;

/// Stages of the deck that stop one after the other, each within the grace: sources, what derives, recorder, readers, servers.
const STAGES: u32 = 5;
/// What the deck may take beyond them.
const MARGIN: Duration = Duration::from_secs(10);

/// What `tapedeck up` is to do.
#[derive(Debug)]
pub struct Job {
    pub loaded: Loaded,
    /// The deck's options, behind `run --plain`.
    pub deck_args: Vec<OsString>,
    /// Servers, and `deck`; empty: everything.
    pub names: Vec<String>,
    /// What was started stays when a phase fails.
    pub keep: bool,
    /// Whether stores are tried at the end.
    pub validate: bool,
    /// How long a phase may take, in place of the config's.
    pub limit: Option<Duration>,
    /// Somebody waits for its end: a deck that cannot be helped ends everything, and is the error that comes out.
    pub attached: bool,
}

struct Warden {
    job: Job,
    config: Config,
    table: Table,
    kept: Vec<Kept>,
    said: Supervisor,
    tell: watch::Sender<Supervisor>,
    began: Instant,
}

/// Why a start did not go to its end.
enum Broken {
    Trouble(Box<Trouble>),
    /// Asked to end.
    Stop,
}

/// Starts everything, keeps it until it is asked to end, and ends it.
///
/// # Errors
/// A phase failed (a [`Trouble`]), or the folder cannot be used.
pub async fn run(job: Job, lock: Lock, tell: watch::Sender<Supervisor>) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let config = job.loaded.config.clone();
    let table = Table::of(&config.tape.dir);
    let (asks, mut asked) = mpsc::channel(4);
    let serving = CancellationToken::new();
    let servers = config.servers.iter().map(|named| (named.name.to_string(), settings_of(&named.server)));
    let said = Supervisor {
        identity: Identity::of(std::process::id()).context("finding this process in /proc")?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: UnixNanos::now().to_string(),
        config: job.loaded.file.clone(),
        servers: Some(servers.collect()),
        phases: all_ahead(),
        ..Supervisor::default()
    };
    let mut warden = Warden { job, config, table, kept: Vec::new(), said, tell, began: Instant::now() };
    warden.write();
    warden.end_strangers().await;
    warden.take_over();
    let names = warden.kept.iter().map(|kept| kept.name.to_string()).collect();
    let control = tokio::spawn({
        let handler = handler(asks, warden.tell.subscribe(), names);
        let (dir, stop) = (warden.table.dir().to_owned(), serving.clone());
        async move { control::serve(&dir, handler, stop).await }
    });
    let done = warden.work(&mut signals, &mut asked).await;
    serving.cancel();
    // The socket is gone with it, or was never there.
    let _ = control.await;
    drop(lock);
    done
}

/// Ends what a supervisor left behind that is no more: these, without names everything. Returns what was ended, and how.
pub async fn clean(table: &Table, names: &[String], _lock: &Lock) -> Vec<String> {
    // The supervisor is dead, and its socket with it.
    control::clear(table.dir()).await;
    let mut ended = Vec::new();
    for entry in table.list().iter().rev().filter(|entry| names.is_empty() || means(names, &entry.name)) {
        match end(entry).await {
            Ok(Some(how)) => ended.push(format!("{} {how}", entry.name)),
            Ok(None) if names.is_empty() => {}
            Ok(None) => ended.push(format!("{} was not running", entry.name)),
            Err(error) => {
                ended.push(format!("{} not stopped: {error:#}", entry.name));
                // It stays in the table, so that the next `down` tries again.
                continue;
            }
        }
        table.remove(&entry.name);
        if let (Kind::Deck, Some(dir)) = (entry.kind, table.dir().parent()) {
            control::clear(dir).await;
        }
    }
    ended
}

/// Ends what an entry is of, as it wants to be ended; `None`: it does not run.
async fn end(entry: &super::Entry) -> anyhow::Result<Option<String>> {
    let grace = Duration::from_millis(entry.grace_ms);
    if let Some(compose) = entry.compose.as_ref().filter(|_| entry.may_run()) {
        let begun = Instant::now();
        Container::of(compose).stop(grace).await?;
        return Ok(Some(format!("stopped in {:.1} s", begun.elapsed().as_secs_f64())));
    }
    let Some(identity) = &entry.identity else { return Ok(None) };
    let Some(process) = Process::adopt(identity) else {
        identity.sweep();
        return Ok(None);
    };
    let stop: Stop = entry.stop.parse().unwrap_or_default();
    Ok(Some(Running::Process(process).stop(&stop, grace, None).await))
}

impl Warden {
    /// Ends what an earlier supervisor left that the config does not name any more, or names otherwise.
    async fn end_strangers(&mut self) {
        let specs = self.specs();
        for entry in self.table.list().into_iter().rev() {
            let same = specs.iter().any(|spec| spec.is_of(&entry));
            if same {
                continue;
            }
            match end(&entry).await {
                Ok(Some(how)) => tracing::info!(service = entry.name, how, "ran with other settings, ended"),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(
                        service = entry.name,
                        error = format!("{error:#}"),
                        "ran with other settings, and cannot be ended"
                    );
                    continue;
                }
            }
            self.table.remove(&entry.name);
        }
    }

    fn specs(&self) -> Vec<Spec> {
        let servers = self.config.servers.iter().cloned().map(Spec::Server);
        let deck = &self.config.deck;
        let deck = (!self.config.sources.is_empty()).then(|| {
            Spec::Deck(Deck {
                args: self.job.deck_args.clone(),
                dir: self.config.tape.dir.clone(),
                limit: self.limit(),
                grace: deck.grace.0 * STAGES + MARGIN,
            })
        });
        servers.chain(deck).collect()
    }

    fn limit(&self) -> Duration {
        self.job.limit.unwrap_or(self.config.deck.limit.0)
    }

    fn take_over(&mut self) {
        let specs = self.specs().into_iter().zip(0..);
        self.kept = specs.map(|(spec, order)| Kept::new(spec, order, &self.table)).collect();
    }

    async fn work(mut self, signals: &mut Signals, asked: &mut mpsc::Receiver<Ask>) -> anyhow::Result<()> {
        let names = self.job.names.clone();
        let mut later = VecDeque::new();
        let started = tokio::select! {
            started = Box::pin(self.start(&names)) => started,
            () = stop_asked(signals, asked, &mut later) => Err(Broken::Stop),
        };
        let failed = match started {
            Ok(()) => {
                self.said.stage = Stage::Up;
                self.said.took_ms = Some(self.began.elapsed().as_millis() as u64);
                self.said.access = access::of(&self.config);
                self.write();
                tracing::info!(took_ms = self.said.took_ms, "up");
                None
            }
            Err(Broken::Stop) => {
                tracing::info!("asked to stop while it was starting");
                self.down(signals).await;
                return Ok(());
            }
            Err(Broken::Trouble(trouble)) => {
                let trouble = *trouble;
                tracing::error!(phase = trouble.phase, service = trouble.service, why = trouble.why, "not up");
                self.said.trouble = Some(trouble.clone());
                self.said.stage = Stage::Failed;
                if self.job.keep {
                    self.said.access = access::of(&self.config);
                    self.write();
                    None
                } else {
                    Some(trouble)
                }
            }
        };
        let failed = match failed {
            None => self.keep(signals, asked, later).await,
            failed => failed,
        };
        self.down(signals).await;
        failed.map_or(Ok(()), |trouble| Err(trouble.into()))
    }

    /// Keeps everything until somebody asks for the end. What is returned is why it went on no longer.
    /// `later`: what was asked during the start.
    async fn keep(
        &mut self,
        signals: &mut Signals,
        asked: &mut mpsc::Receiver<Ask>,
        mut later: VecDeque<Ask>,
    ) -> Option<Trouble> {
        loop {
            let deck = self.kept.iter_mut().find(|kept| kept.name == DECK);
            let ask = tokio::select! {
                () = signals.stop() => return None,
                ask = next_ask(asked, &mut later) => ask,
                entry = given_up(deck), if self.job.attached => {
                    let trouble = gates::trouble(PHASES[2], &entry);
                    tracing::error!(service = trouble.service, why = trouble.why, "cannot be helped: ending all of it");
                    (self.said.stage, self.said.trouble) = (Stage::Failed, Some(trouble.clone()));
                    return Some(trouble);
                }
            };
            match ask {
                None => return None,
                Some(Ask::Down { names }) if names.is_empty() => return None,
                Some(Ask::Down { names }) => {
                    for at in self.named(&names).into_iter().rev() {
                        self.kept[at].stop().await;
                    }
                }
                Some(Ask::Restart { name }) => {
                    for at in self.named(&[name]) {
                        self.kept[at].order(Order::Restart).await;
                    }
                }
                Some(Ask::Up { names }) => {
                    self.began = Instant::now();
                    (self.said.stage, self.said.trouble) = (Stage::Starting, None);
                    self.said.phases = all_ahead();
                    self.write();
                    let started = tokio::select! {
                        started = Box::pin(self.start(&names)) => started,
                        () = stop_asked(signals, asked, &mut later) => Err(Broken::Stop),
                    };
                    match started {
                        Ok(()) => {
                            self.said.stage = Stage::Up;
                            self.said.took_ms = Some(self.began.elapsed().as_millis() as u64);
                            self.said.access = access::of(&self.config);
                        }
                        Err(Broken::Stop) => return None,
                        Err(Broken::Trouble(trouble)) => {
                            (self.said.stage, self.said.trouble) = (Stage::Failed, Some(*trouble));
                        }
                    }
                    self.write();
                }
            }
        }
    }

    fn named(&self, names: &[String]) -> Vec<usize> {
        (0..self.kept.len()).filter(|at| means(names, &self.kept[*at].name)).collect()
    }

    /// Ends everything in reverse order. A second signal kills what is left.
    async fn down(&mut self, signals: &mut Signals) {
        let failed = self.said.stage == Stage::Failed;
        self.said.stage = Stage::Stopping;
        self.write();
        let table = self.table.clone();
        let stopping = async {
            while let Some(mut kept) = self.kept.pop() {
                let name = kept.name.to_string();
                let ran = kept.entry.borrow().clone();
                let deck = ran.kind == Kind::Deck;
                let before = if deck { gates::queued(&self.config, &self.config.tape.dir) } else { Vec::new() };
                let ended = kept.stop().await;
                kept.let_go().await;
                self.table.remove(&name);
                if deck {
                    control::clear(&self.config.tape.dir).await;
                }
                if matches!(ran.state, State::Stopped | State::Hopeless) && ended.detail.is_empty() {
                    continue;
                }
                let how = if ended.detail.is_empty() { "was not running".to_owned() } else { ended.detail };
                self.said.ended.push(format!("{name} {how}"));
                if deck {
                    self.said.ended.extend(drained(&self.config, &before));
                }
                self.write();
            }
        };
        tokio::select! {
            () = stopping => {}
            () = signals.stop() => {
                tracing::warn!("asked to stop again: what still runs is killed");
                for entry in table.list() {
                    if let Some(identity) = &entry.identity {
                        identity.signal(rustix::process::Signal::KILL);
                        identity.sweep();
                    }
                    table.remove(&entry.name);
                }
                self.said.ended.push("the rest was killed".to_owned());
            }
        }
        if !failed {
            self.said.trouble = None;
        }
        self.said.stage = Stage::Down;
        self.write();
        tracing::info!("down");
    }

    fn write(&self) {
        if let Err(error) = self.table.write_supervisor(&self.said) {
            tracing::error!(error = format!("{error:#}"), "the process table cannot be written");
        }
        self.tell.send_replace(self.said.clone());
    }
}

/// Waits until it is given up; for ever where there is none.
async fn given_up(kept: Option<&mut Kept>) -> super::Entry {
    match kept {
        Some(kept) => kept.until(|entry| entry.state == State::Hopeless).await,
        None => std::future::pending().await,
    }
}

/// What each sink still had before it when the deck ended.
fn drained(config: &Config, before: &[(String, u64)]) -> Vec<String> {
    let after = gates::queued(config, &config.tape.dir);
    let line = |(name, left): (String, u64)| {
        let queued = before.iter().find(|(other, _)| *other == name).map_or(0, |(_, queued)| *queued);
        match (queued, left) {
            (0, 0) => None,
            (queued, 0) => Some(format!("sink.{name} drained: {queued} records were queued, all are delivered")),
            (_, left) => {
                Some(format!("sink.{name} has {left} records to deliver: they wait on the tape for the next up"))
            }
        }
    };
    after.into_iter().filter_map(line).collect()
}
