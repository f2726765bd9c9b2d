//! The running sources: started, stopped and replaced one by one, while the recorder goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tapedeck_market::{GapCause, SmolStr, UnixNanos};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::inlet::Inlet;
use crate::intake::{Counters, Intake, Outlet};
use crate::recorder::LedgerCounts;
use crate::sources::{Kind, Session, Setup, http};
use crate::status;
use crate::supervise::{self, Keeper, Rebuild, Restarts};

/// What a source may take to end when it is replaced.
const RESTART_LIMIT: Duration = Duration::from_secs(5);

/// What a reload says that had nothing to do.
pub(super) const NOTHING_CHANGED: &str = "nothing changed";

/// A source of the config.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    pub name: SmolStr,
    pub kind: &'static Kind,
    /// Its table, without `kind`.
    pub table: toml::Table,
}

/// Sources by the name of their table.
pub(super) struct SourceSet {
    dir: PathBuf,
    to_recorder: mpsc::Sender<Intake>,
    disk_full: watch::Receiver<bool>,
    longest_wait: Duration,
    sources: BTreeMap<SmolStr, Running>,
    shown: Shown,
    inlet: Inlet,
}

struct Running {
    plan: SourcePlan,
    stop: CancellationToken,
    tasks: Vec<(SmolStr, JoinHandle<()>)>,
    outlets: Vec<Outlet>,
}

/// Why a source ends while the deck goes on.
#[derive(Clone, Copy)]
enum Ending {
    Restart,
    Removal,
}

/// What status sees of the sources.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<BTreeMap<SmolStr, ShownSession>>>);

struct ShownSession {
    source: SmolStr,
    venue: SmolStr,
    counters: Arc<Counters>,
    restarts: Arc<Restarts>,
}

impl SourceSet {
    pub(super) fn new(
        dir: PathBuf,
        to_recorder: mpsc::Sender<Intake>,
        disk_full: watch::Receiver<bool>,
        longest_wait: Duration,
    ) -> Self {
        SourceSet {
            dir,
            to_recorder,
            disk_full,
            longest_wait,
            sources: BTreeMap::new(),
            shown: Shown::default(),
            inlet: Inlet::default(),
        }
    }

    /// The way in for points, for the web server.
    pub(super) fn inlet(&self) -> &Inlet {
        &self.inlet
    }

    /// Tells the web server whether points are wanted.
    fn tell_inlet(&self) {
        self.inlet.set_wanted(self.sources.values().any(|running| running.plan.kind.name == http::KIND.name));
    }

    pub(super) fn running(&self) -> Shown {
        self.shown.clone()
    }

    /// Builds and starts every session of a source.
    pub(super) fn start(&mut self, plan: &SourcePlan) -> anyhow::Result<()> {
        let sessions = build(plan, &self.dir)?;
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let mut outlets = Vec::new();
        for session in sessions {
            let counters = Arc::new(Counters::default());
            let restarts = Arc::new(Restarts::default());
            let (name, venue) = (session.name.clone(), session.venue.clone());
            let out = Outlet::new(
                plan.name.clone(),
                venue.clone(),
                self.to_recorder.clone(),
                counters.clone(),
                Arc::default(),
            )
            .with_inlet(self.inlet.clone());
            self.shown.lock().insert(
                name.clone(),
                ShownSession { source: plan.name.clone(), venue, counters, restarts: restarts.clone() },
            );
            let rebuild = {
                let (plan, dir, name) = (plan.clone(), self.dir.clone(), name.clone());
                Rebuild(Box::new(move || {
                    let same = build(&plan, &dir)?.into_iter().find(|session| session.name == name);
                    same.with_context(|| format!("session {name} is gone from the config"))
                }))
            };
            outlets.push(out.clone());
            let (disk_full, longest_wait) = (self.disk_full.clone(), self.longest_wait);
            let keeper = Keeper { session, out, rebuild, restarts, disk_full, longest_wait };
            tasks.push((name, tokio::spawn(keeper.run(stop.clone()))));
        }
        self.sources.insert(plan.name.clone(), Running { plan: plan.clone(), stop, tasks, outlets });
        self.tell_inlet();
        Ok(())
    }

    /// Ends the sessions of a source and starts them anew.
    pub(super) async fn restart(&mut self, name: &SmolStr) -> anyhow::Result<String> {
        let known: Vec<&str> = self.sources.keys().map(SmolStr::as_str).collect();
        let known = known.join(", ");
        let running =
            self.sources.remove(name).with_context(|| format!("no source `{name}` runs here, but: {known}"))?;
        let plan = running.plan.clone();
        self.end(running, Ending::Restart).await;
        self.start(&plan)?;
        Ok(format!("{name} restarted"))
    }

    /// Starts, stops and replaces sources until they are what the new config wants; what did not change is not touched.
    pub(super) async fn follow(&mut self, wanted: &[SourcePlan]) -> anyhow::Result<String> {
        // Everything is built once before anything stops: a bad table changes nothing.
        for plan in wanted {
            build(plan, &self.dir)?;
        }
        let mut done = Vec::new();
        let gone: Vec<SmolStr> =
            self.sources.keys().filter(|name| !wanted.iter().any(|plan| plan.name == **name)).cloned().collect();
        for name in gone {
            if let Some(running) = self.sources.remove(&name) {
                self.end(running, Ending::Removal).await;
                done.push(format!("{name} ended"));
            }
        }
        for plan in wanted {
            let same = |running: &Running| running.plan.table == plan.table && running.plan.kind.name == plan.kind.name;
            let word = match self.sources.get(&plan.name) {
                Some(running) if same(running) => continue,
                Some(_) => "restarted",
                None => "started",
            };
            if let Some(running) = self.sources.remove(&plan.name) {
                self.end(running, Ending::Restart).await;
            }
            self.start(plan)?;
            done.push(format!("{} {word}", plan.name));
        }
        self.tell_inlet();
        Ok(if done.is_empty() { NOTHING_CHANGED.to_owned() } else { done.join(", ") })
    }

    /// Ends a source before another may take its place: what it says last must stand before what that one says first.
    async fn end(&mut self, running: Running, ending: Ending) {
        running.stop.cancel();
        let names: Vec<SmolStr> = running.tasks.iter().map(|(name, _)| name.clone()).collect();
        supervise::finish("intake", running.tasks, RESTART_LIMIT).await;
        for out in &running.outlets {
            let since = out.last_heard().unwrap_or_else(UnixNanos::now);
            // An error means that the recorder has gone, and with it the need to tell it anything.
            let _ = match ending {
                Ending::Restart => out.session_lost(GapCause::Session, since, "the source was restarted").await,
                Ending::Removal => out.session_ended().await,
            };
        }
        let mut shown = self.shown.lock();
        for name in names {
            shown.remove(&name);
        }
    }

    /// Ends all of them and waits.
    pub(super) async fn stop_all(&mut self, limit: Duration) {
        self.inlet.set_stopping();
        let mut tasks = Vec::new();
        for (_, running) in std::mem::take(&mut self.sources) {
            running.stop.cancel();
            tasks.extend(running.tasks);
        }
        supervise::finish("intake", tasks, limit).await;
        // The recorder ends when nobody can send to it any more.
        let (nobody, _) = mpsc::channel(1);
        self.to_recorder = nobody;
    }
}

fn build(plan: &SourcePlan, dir: &std::path::Path) -> anyhow::Result<Vec<Session>> {
    let setup = Setup { name: plan.name.clone(), table: plan.table.clone(), dir: dir.to_owned() };
    (plan.kind.build)(setup).with_context(|| format!("[source.{}]", plan.name))
}

impl Shown {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SmolStr, ShownSession>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line a session; the ledger's counts stand at the one that bears the source's name.
    pub(super) fn describe(&self, ledger: &BTreeMap<SmolStr, LedgerCounts>) -> Vec<status::Source> {
        let now = UnixNanos::now();
        let describe = |(name, session): (&SmolStr, &ShownSession)| {
            let counters = &session.counters;
            let counts = if *name == session.source {
                ledger.get(name).cloned().unwrap_or_default()
            } else {
                LedgerCounts::default()
            };
            let heard = counters.last_heard.load(Ordering::Relaxed);
            let reasons = counters.reject_reasons.lock().unwrap_or_else(PoisonError::into_inner);
            let notes = counters.notes.lock().unwrap_or_else(PoisonError::into_inner);
            status::Source {
                name: name.to_string(),
                venue: session.venue.to_string(),
                state: counters.state(),
                sessions: counters.sessions.load(Ordering::Relaxed),
                frames: counters.frames.load(Ordering::Relaxed),
                bytes: counters.bytes.load(Ordering::Relaxed),
                events: counters.events.load(Ordering::Relaxed),
                rejects: counters.rejects.load(Ordering::Relaxed),
                reject_reasons: reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
                notes: notes.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
                panics: session.restarts.panics.load(Ordering::Relaxed),
                restarts: session.restarts.restarts.load(Ordering::Relaxed),
                last_heard_ms_ago: (heard != 0).then(|| now.saturating_since(UnixNanos(heard)).as_millis() as u64),
                subscriptions: counts.subscriptions,
                live: counts.live,
                gaps_open: counts.gaps_open,
                pings: counters.pings(),
            }
        };
        self.lock().iter().map(describe).collect()
    }
}
