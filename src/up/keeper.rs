//! Keeps one thing running: starts it, waits until it is ready, starts it again when it ends, and gives up in time.
//!
//! ```text
//! stopped ─start─► starting ─ready─► running ◄─► silent
//!    ▲                │ ended          │ ended
//!    └──stop──────────┴────► waiting ◄─┘ ──► starting …  or, when it cannot help: hopeless
//! ```

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use backon::ExponentialBackoff;
use tapedeck_market::{SmolStr, UnixNanos};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::compose::{Container, NoDocker};
use super::log;
use super::running::{End, Process, Running, command_of};
use super::spec::{Spec, service_of};
use super::table::{Entry, State, Table};
use crate::config::NamedServer;
use crate::supervise;

/// The first wait before another start, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Between two questions whether what runs still answers.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What an adopted process is called.
const TAKEN_OVER: &str = "taken over from an earlier supervisor";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing happens to what is wanted already, but a hopeless one is tried again.
    Start,
    Stop,
    Restart,
}

/// An order, and whom to tell when it is stopped.
type Asked = (Order, Option<oneshot::Sender<()>>);

/// The handle of a kept thing.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) name: SmolStr,
    pub(super) entry: watch::Receiver<Entry>,
    orders: mpsc::Sender<Asked>,
    task: JoinHandle<()>,
}

struct Keeper {
    spec: Spec,
    table: Table,
    entry: Entry,
    tell: watch::Sender<Entry>,
    orders: mpsc::Receiver<Asked>,
    /// A container that an earlier supervisor left running, until it is wanted here.
    left: Option<Container>,
    /// Who waits for it to be stopped.
    waiting: Vec<oneshot::Sender<()>>,
    waits: ExponentialBackoff,
    /// Starts that nobody asked for, within the window.
    restarts: VecDeque<Instant>,
}

/// How a life ended.
enum Ended {
    Asked(Order),
    Failed {
        how: String,
        hopeless: bool,
    },
    /// The supervisor lets go of it: it runs on.
    LetGo,
}

/// What came of waiting for it to be ready.
enum Waited {
    Ready,
    Asked(Order),
    Ended(End),
    TooLong,
    LetGo,
}

impl Kept {
    /// Keeps it from now on, not started yet: only what an earlier supervisor left running is taken over at once.
    pub(super) fn new(spec: Spec, order: u32, table: &Table) -> Kept {
        let before = table.find(spec.name());
        let adopted = before.as_ref().and_then(|before| {
            (before.settings == spec.settings()).then_some(())?;
            Process::adopt(before.identity.as_ref()?)
        });
        let left = before.as_ref().filter(|before| before.may_run()).and_then(|before| before.compose.as_ref());
        let left = left.map(Container::of);
        let entry = match (&before, &adopted) {
            (Some(before), Some(_)) => Entry {
                order,
                // What it was is hearsay until it has answered here.
                state: State::Starting,
                detail: TAKEN_OVER.to_owned(),
                ..before.clone()
            },
            _ => Entry { restarts: before.map_or(0, |before| before.restarts), ..spec.entry(order, table) },
        };
        let name = SmolStr::new(&entry.name);
        let (tell, shown) = watch::channel(entry.clone());
        let (orders, asked) = mpsc::channel(4);
        let waits = supervise::waits_between(WAITS.0, WAITS.1);
        let keeper = Keeper {
            spec,
            table: table.clone(),
            entry,
            tell,
            orders: asked,
            left,
            waiting: Vec::new(),
            waits,
            restarts: VecDeque::new(),
        };
        let task = tokio::spawn(keeper.run(adopted));
        Kept { name, entry: shown, orders, task }
    }

    pub(super) async fn order(&self, order: Order) {
        // A keeper ends only with its handle.
        let _ = self.orders.send((order, None)).await;
    }

    /// Waits until the entry is as wanted.
    pub(super) async fn until(&mut self, wanted: impl FnMut(&Entry) -> bool) -> Entry {
        match self.entry.wait_for(wanted).await {
            Ok(entry) => entry.clone(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends it, and waits for that.
    pub(super) async fn stop(&mut self) -> Entry {
        let (done, stopped) = oneshot::channel();
        let _ = self.orders.send((Order::Stop, Some(done))).await;
        let _ = stopped.await;
        self.entry.borrow().clone()
    }

    /// Lets go of it: it runs on, and the table knows it.
    pub(super) async fn let_go(self) {
        drop(self.orders);
        // A panic in there was logged, and the process is where it was.
        let _ = self.task.await;
    }
}

impl Keeper {
    async fn run(mut self, mut adopted: Option<Process>) {
        let mut wanted = adopted.is_some();
        loop {
            if !wanted {
                match next_order(&mut self.orders, &mut self.waiting).await {
                    Some(Order::Start | Order::Restart) => self.forget_failures(),
                    Some(Order::Stop) => {
                        self.stop_left().await;
                        continue;
                    }
                    None => return,
                }
            }
            wanted = match self.live(adopted.take()).await {
                Ended::LetGo => return,
                Ended::Asked(Order::Stop) => false,
                Ended::Asked(Order::Start | Order::Restart) => true,
                Ended::Failed { how, hopeless } => self.failed(how, hopeless).await,
            };
        }
    }

    /// Nothing of ours runs; what an earlier supervisor has left ends here.
    async fn stop_left(&mut self) {
        let (stop, grace) = self.spec.stop();
        let how = match self.left.take() {
            Some(container) => Running::Container(container).stop(&stop, grace, None).await,
            None => String::new(),
        };
        self.set(State::Stopped, how);
    }

    /// After an end that nobody asked for: waits, or gives up. Whether it is wanted still.
    async fn failed(&mut self, how: String, hopeless: bool) -> bool {
        let (most, within) = self.spec.ceiling();
        self.restarts.retain(|at| at.elapsed() < within);
        let too_often = self.restarts.len() >= most as usize;
        if hopeless || too_often {
            let why = if hopeless {
                how
            } else {
                format!("started again {most} times within {} s; at last it {how}", within.as_secs())
            };
            tracing::error!(service = self.entry.name, why, "given up until somebody asks for it");
            self.set(State::Hopeless, why);
            return false;
        }
        let wait = self.waits.next().unwrap_or(WAITS.1).min(WAITS.1);
        tracing::warn!(service = self.entry.name, how, wait_ms = wait.as_millis() as u64, "ended, starting it again");
        self.set(State::Waiting, format!("{how}; started again after {:.1} s", wait.as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            order = next_order(&mut self.orders, &mut self.waiting) => match order {
                Some(Order::Start | Order::Restart) => self.forget_failures(),
                Some(Order::Stop) => {
                    self.set(State::Stopped, "");
                    return false;
                }
                // Nothing runs, and nobody asks any more.
                None => return false,
            },
        }
        self.restarts.push_back(Instant::now());
        self.entry.restarts += 1;
        true
    }

    fn forget_failures(&mut self) {
        self.restarts.clear();
        self.entry.failures = 0;
        self.waits = supervise::waits_between(WAITS.0, WAITS.1);
    }

    /// One life, to its end.
    async fn live(&mut self, adopted: Option<Process>) -> Ended {
        let begun = Instant::now();
        let mut running = match adopted {
            Some(process) => {
                tracing::info!(service = self.entry.name, pid = process.identity.pid, "runs already, taken over");
                self.set(State::Starting, TAKEN_OVER);
                Running::Process(process)
            }
            None => match self.start().await {
                Ok(running) => running,
                Err(failed) => {
                    self.entry.failures += 1;
                    return failed;
                }
            },
        };
        let limit = self.spec.limit();
        let mut last = String::new();
        let waited = {
            let pid = self.entry.identity.as_ref().map(|identity| identity.pid);
            let ready = self.spec.until_ready(begun, pid, &mut last);
            tokio::pin!(ready);
            let too_long = tokio::time::sleep(limit);
            tokio::pin!(too_long);
            loop {
                tokio::select! {
                    biased;
                    end = running.ended() => break Waited::Ended(end),
                    order = next_order(&mut self.orders, &mut self.waiting) => match order {
                        None => break Waited::LetGo,
                        // It is starting already.
                        Some(Order::Start) => {}
                        Some(order) => break Waited::Asked(order),
                    },
                    () = &mut ready => break Waited::Ready,
                    () = &mut too_long => break Waited::TooLong,
                }
            }
        };
        match waited {
            Waited::Ready => {}
            Waited::LetGo => return Ended::LetGo,
            Waited::Asked(order) => return self.end(running, order).await,
            Waited::Ended(end) => {
                self.entry.failures += 1;
                return self.ended(end);
            }
            Waited::TooLong => {
                self.entry.failures += 1;
                let how = format!("was not ready within {} s: {last}", limit.as_secs_f64());
                self.end(running, Order::Restart).await;
                return Ended::Failed { how, hopeless: false };
            }
        }
        self.entry.failures = 0;
        self.entry.ready_ms = Some(begun.elapsed().as_millis() as u64);
        self.waits = supervise::waits_between(WAITS.0, WAITS.1);
        let detail = std::mem::take(&mut self.entry.detail);
        self.set(State::Running, detail);
        tracing::info!(service = self.entry.name, took_ms = self.entry.ready_ms, "ready");
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                end = running.ended() => return self.ended(end),
                order = next_order(&mut self.orders, &mut self.waiting) => match order {
                    None => return Ended::LetGo,
                    Some(Order::Start) => {}
                    Some(order) => return self.end(running, order).await,
                },
                _ = look.tick() => {
                    // A log that cannot be turned is full of what nobody loses.
                    let _ = log::turn(&self.entry.log);
                    match self.spec.ask(self.entry.identity.as_ref().map(|identity| identity.pid)).await {
                        Ok(()) if self.entry.state == State::Silent => self.set(State::Running, ""),
                        Err(why) if self.entry.state == State::Running => {
                            tracing::warn!(service = self.entry.name, why, "does not answer");
                            self.set(State::Silent, why);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    async fn start(&mut self) -> Result<Running, Ended> {
        let first = self.entry.starts == 0;
        // What this start is made with, and nothing of the one before.
        let fresh = self.spec.entry(self.entry.order, &self.table);
        self.entry = Entry {
            starts: self.entry.starts + 1,
            restarts: self.entry.restarts,
            failures: self.entry.failures,
            ..fresh
        };
        self.entry.since = UnixNanos::now().to_string();
        let failed = |error: anyhow::Error| {
            // A program that is not there, may not be run, or has no place to run in, will not be there the next time.
            let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
            let kind = io.map(std::io::Error::kind);
            let hopeless = matches!(kind, Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied))
                || error.is::<NoDocker>();
            Ended::Failed { how: format!("cannot be started: {error:#}"), hopeless: hopeless || io.is_none() }
        };
        let (file, from) = log::open(&self.entry.log).map_err(failed)?;
        self.entry.log_from = from;
        self.set(State::Starting, "");
        let running = match &self.spec {
            Spec::Deck(deck) => {
                let mut command = tokio::process::Command::new(crate::child::this_program().map_err(failed)?);
                command.as_std_mut().args(&deck.args);
                // In a list of processes it stands by its name, not as the descriptor that it was started from.
                command.arg0("tapedeck");
                Running::Process(Process::spawn(command, file).map_err(failed)?)
            }
            Spec::Server(NamedServer { server, .. }) if server.command.is_empty() && server.compose.is_none() => {
                Running::Outside
            }
            Spec::Server(NamedServer { name, server }) => {
                if let Some(taken) = self.spec.taken() {
                    // One that was just killed may need a moment to let go of its port; at the first start it is somebody else's.
                    return Err(Ended::Failed { how: taken, hopeless: first });
                }
                match &server.compose {
                    Some(path) => {
                        let container = Container::new(path, service_of(name, server), server.dir.as_deref());
                        // Fetching an image is not the container's time to get ready.
                        if let Err(error) = container.start(&file, server.limit.0).await {
                            let hopeless = error.is::<NoDocker>();
                            return Err(Ended::Failed { how: format!("cannot be started: {error:#}"), hopeless });
                        }
                        Running::Container(container)
                    }
                    None => {
                        let command = command_of(server).map_err(failed)?;
                        Running::Process(Process::spawn(command, file).map_err(failed)?)
                    }
                }
            }
        };
        self.left = None;
        self.entry.identity = running.identity().cloned();
        self.set(State::Starting, "");
        tracing::info!(
            service = self.entry.name,
            pid = self.entry.identity.as_ref().map(|identity| identity.pid),
            "started"
        );
        Ok(running)
    }

    fn ended(&mut self, end: End) -> Ended {
        self.entry.identity = None;
        let hopeless = end.code.is_some_and(|code| self.spec.gives_up(code));
        Ended::Failed { how: end.how, hopeless }
    }

    /// Ends what runs, because somebody asked for it.
    async fn end(&mut self, running: Running, order: Order) -> Ended {
        self.set(State::Stopping, "");
        let (stop, grace) = self.spec.stop();
        let dir = self.spec.dir().map(Path::to_owned);
        let how = running.stop(&stop, grace, dir.as_deref()).await;
        tracing::info!(service = self.entry.name, how, "ended");
        self.entry.identity = None;
        if order == Order::Stop {
            self.set(State::Stopped, how);
        }
        Ended::Asked(order)
    }

    fn set(&mut self, state: State, detail: impl Into<String>) {
        self.entry.state = state;
        self.entry.detail = detail.into();
        if let Err(error) = self.table.write(&self.entry) {
            tracing::error!(
                service = self.entry.name,
                error = format!("{error:#}"),
                "the process table cannot be written"
            );
        }
        self.tell.send_replace(self.entry.clone());
        if state == State::Stopped {
            for waiting in self.waiting.drain(..) {
                // Whoever waited may have gone.
                let _ = waiting.send(());
            }
        }
    }
}

/// Cancel safe.
async fn next_order(orders: &mut mpsc::Receiver<Asked>, waiting: &mut Vec<oneshot::Sender<()>>) -> Option<Order> {
    let (order, done) = orders.recv().await?;
    waiting.extend(done);
    Some(order)
}
