//! The running services: started after the sources, ended stage by stage, replaced when their section changes.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tapedeck_market::SmolStr;
use tapedeck_tape::Tail;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::intake::{Counters, Intake, Outlet};
use crate::service::{Asked, Desk, ServiceKind, Setup, Shown, Stage};
use crate::sinks::{Done, Order};
use crate::status::{self, Overview};
use crate::supervise::{self, Restarts};

/// A service of the config.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    pub name: SmolStr,
    pub kind: &'static ServiceKind,
    pub section: toml::Value,
    pub setup: Setup,
}

/// What a service may take to end when it is replaced.
const RESTART_LIMIT: Duration = Duration::from_secs(10);
/// What a sink may take to answer: less than whoever asks waits.
const ANSWER_LIMIT: Duration = Duration::from_secs(9);

pub(super) struct ServiceSet {
    dir: PathBuf,
    tape: Arc<Tail>,
    /// Weak: the recorder ends when nobody can write any more.
    to_recorder: mpsc::WeakSender<Intake>,
    longest_wait: Duration,
    services: Vec<Running>,
    list: List,
    status: Overview,
}

struct Running {
    plan: ServicePlan,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What status sees of the services.
#[derive(Clone, Default)]
pub(super) struct List(Arc<Mutex<Vec<Listed>>>);

struct Listed {
    name: SmolStr,
    /// As status says it.
    kind: &'static str,
    shown: Arc<Shown>,
    restarts: Arc<Restarts>,
    ask: Option<mpsc::Sender<Asked>>,
}

impl ServiceSet {
    pub(super) fn new(
        dir: PathBuf,
        tape: Arc<Tail>,
        to_recorder: mpsc::WeakSender<Intake>,
        longest_wait: Duration,
    ) -> Self {
        let (services, list, status) = (Vec::new(), List::default(), Overview::default());
        ServiceSet { dir, tape, to_recorder, longest_wait, services, list, status }
    }

    /// What those that are started from now on may ask.
    pub(super) fn set_status(&mut self, status: Overview) {
        self.status = status;
    }

    pub(super) fn list(&self) -> List {
        self.list.clone()
    }

    pub(super) fn start(&mut self, plan: &ServicePlan) {
        let kind = plan.kind;
        let writes = self.to_recorder.upgrade().filter(|_| kind.stage == Stage::Derive);
        let outlet = |sender| {
            let (name, counters) = (plan.name.clone(), Arc::new(Counters::default()));
            Outlet::new(name.clone(), name, sender, counters, Arc::default())
        };
        let shown = Arc::new(Shown::default());
        let restarts = Arc::new(Restarts::default());
        let (ask, asked) = mpsc::channel(1);
        let desk = Desk {
            asked: Arc::new(tokio::sync::Mutex::new(asked)),
            name: plan.name.clone(),
            dir: self.dir.clone(),
            tape: self.tape.clone(),
            out: writes.map(outlet),
            shown: shown.clone(),
            status: self.status.clone(),
        };
        // Others have no dead letters.
        let ask = Some(ask).filter(|_| kind.name == crate::sinks::SERVICE.name);
        let word = if ask.is_some() { "sink" } else { "service" };
        let listed =
            Listed { name: plan.name.clone(), kind: word, shown: shown.clone(), restarts: restarts.clone(), ask };
        self.list.lock().push(listed);
        let stop = CancellationToken::new();
        let (name, setup, stopped) = (plan.name.clone(), plan.setup.clone(), stop.clone());
        let longest_wait = self.longest_wait;
        let task = tokio::spawn(async move {
            supervise::keep(&name, restarts, stopped.clone(), longest_wait, || {
                let (setup, desk, stop) = (&setup, &desk, stopped.clone());
                async move {
                    desk.shown.set_state("starting");
                    let mut service = (kind.build)(setup)?;
                    let ended = service.run(desk, stop).await;
                    desk.shown.set_state(match &ended {
                        Ok(()) => "stopped".to_owned(),
                        Err(error) => format!("failed: {error:#}"),
                    });
                    ended
                }
            })
            .await;
            shown.set_state("stopped");
        });
        self.services.push(Running { plan: plan.clone(), stop, task });
    }

    /// Starts, ends and replaces services until they are what the new config wants.
    pub(super) async fn follow(&mut self, wanted: &[ServicePlan]) -> Vec<String> {
        let mut done = Vec::new();
        let running: Vec<(SmolStr, toml::Value)> =
            self.services.iter().map(|running| (running.plan.name.clone(), running.plan.section.clone())).collect();
        for (name, _) in running.iter().filter(|(name, _)| !wanted.iter().any(|plan| plan.name == *name)) {
            self.end(name).await;
            done.push(format!("{name} ended"));
        }
        for plan in wanted {
            let word = match running.iter().find(|(name, _)| *name == plan.name) {
                Some((_, section)) if *section == plan.section => continue,
                Some(_) => "restarted",
                None => "started",
            };
            self.end(&plan.name).await;
            self.start(plan);
            done.push(format!("{} {word}", plan.name));
        }
        done
    }

    /// Ends a service and starts it anew; `None` when none of that name runs.
    pub(super) async fn restart(&mut self, name: &str) -> Option<String> {
        let plan = self.services.iter().find(|running| running.plan.name == name)?.plan.clone();
        self.end(name).await;
        self.start(&plan);
        Some(format!("{name} restarted"))
    }

    async fn end(&mut self, name: &str) {
        let Some(at) = self.services.iter().position(|running| running.plan.name == name) else { return };
        let running = self.services.remove(at);
        running.stop.cancel();
        supervise::finish("service", vec![(running.plan.name, running.task)], RESTART_LIMIT).await;
        self.list.lock().retain(|listed| listed.name != name);
    }

    /// Ends the services of a stage, all at once, and waits for them.
    pub(super) async fn stop(&mut self, stage: Stage, limit: Duration) {
        let (ending, staying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.services).into_iter().partition(|running| running.plan.kind.stage == stage);
        self.services = staying;
        ending.iter().for_each(|running| running.stop.cancel());
        let tasks = ending.into_iter().map(|running| (running.plan.name, running.task)).collect();
        let name = match stage {
            Stage::Derive => "derive",
            Stage::Serve => "serve",
        };
        supervise::finish(name, tasks, limit).await;
    }
}

impl List {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Listed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a running sink to do something with its dead letters.
    pub(super) async fn ask(&self, sink: &str, order: Order) -> Result<Done, String> {
        let ask = self.lock().iter().find(|listed| listed.name == sink).map(|listed| listed.ask.clone());
        let Some(Some(ask)) = ask else { return Err(format!("the running deck has no sink `{sink}`")) };
        let (reply, done) = oneshot::channel();
        let asking = async {
            ask.send(Asked { order, reply }).await.ok()?;
            done.await.ok()
        };
        match tokio::time::timeout(ANSWER_LIMIT, asking).await {
            Ok(Some(done)) => done,
            Ok(None) => Err(format!("the sink `{sink}` has ended")),
            Err(_) => Err(format!("the sink `{sink}` is busy with its store; ask again")),
        }
    }

    pub(super) fn describe(&self) -> Vec<status::Service> {
        let describe = |listed: &Listed| status::Service {
            name: listed.name.to_string(),
            kind: listed.kind.to_owned(),
            state: listed.shown.state(),
            panics: listed.restarts.panics.load(Ordering::Relaxed),
            restarts: listed.restarts.restarts.load(Ordering::Relaxed),
            detail: listed.shown.detail(),
            silence: listed.shown.silence(),
            times: listed.shown.times(),
        };
        self.lock().iter().map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;

    use super::*;
    use crate::config::Config;
    use crate::service::{Holds, Service};

    static STARTS: AtomicUsize = AtomicUsize::new(0);

    /// Panics, fails, then runs until it is stopped.
    struct Troubled;

    #[async_trait]
    impl Service for Troubled {
        async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
            match STARTS.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("a bug"),
                1 => anyhow::bail!("refused"),
                _ => {
                    assert!(desk.out.is_some(), "what derives may write");
                    desk.shown.set("lag", 3);
                    desk.shown.set_state("running");
                    stop.cancelled().await;
                    Ok(())
                }
            }
        }
    }

    const TROUBLED: ServiceKind = ServiceKind {
        name: "troubled",
        stage: Stage::Derive,
        holds: Holds::Nothing,
        section: |_| Some(true.into()),
        build: |_| Ok(Box::new(Troubled)),
    };

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_is_started_anew_and_ends_with_its_stage() {
        let (to_recorder, mut intake) = mpsc::channel(1);
        let mut services =
            ServiceSet::new(PathBuf::new(), Arc::default(), to_recorder.downgrade(), Duration::from_secs(30));
        let setup = Setup { name: "troubled".into(), config: Arc::new(Config::default()), dir: PathBuf::new() };
        services.start(&ServicePlan { name: "troubled".into(), kind: &TROUBLED, section: true.into(), setup });
        let list = services.list();
        while list.describe()[0].state != "running" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let told = &list.describe()[0];
        assert_eq!((told.panics, told.restarts, told.detail["lag"].as_u64()), (1, 2, Some(3)));

        services.stop(Stage::Serve, Duration::from_secs(1)).await;
        assert_eq!(list.describe()[0].state, "running", "another stage");
        services.stop(Stage::Derive, Duration::from_secs(1)).await;
        assert_eq!(list.describe()[0].state, "stopped");
        drop(to_recorder);
        assert!(intake.recv().await.is_none(), "nobody holds the recorder any more");
    }
}
