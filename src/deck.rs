//! The deck: everything assembled, started in order and stopped along the arrows.
//!
//! ```text
//! start:  tape (lock, recovery, ledger) → recorder → sources, services → control, http
//! stop:   sources → services that derive → recorder (drains, syncs, closes) → services that serve → control, http
//! ```

mod alone;
mod plan;
mod services;
mod sources;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tapedeck_market::{SmolStr, TapeEvent, TapeNote, UnixNanos};
use tapedeck_tape::{Log, Opening};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::control::{self, Request, Response};
use crate::http;
use crate::intake::{Intake, QUEUE_FRAMES};
use crate::notify;
use crate::recorder::{OnFull, Recorder, Restored, Settings, Summary, Watches};
use crate::service::Stage;
use crate::status;
use crate::supervise::{self, Restarts};
pub use alone::alone;
pub use plan::Plan;
pub use services::ServicePlan;
use services::ServiceSet;
pub use sources::SourcePlan;
use sources::SourceSet;

/// How to run it.
#[derive(Default)]
pub struct RunOptions {
    /// Stop by itself after this time.
    pub run_for: Option<Duration>,
    /// Reads the config again, for SIGHUP and `reload`.
    pub reload: Option<Arc<dyn Fn() -> anyhow::Result<Plan> + Send + Sync>>,
    /// Draw the live screen on the terminal.
    pub screen: bool,
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions").field("run_for", &self.run_for).finish_non_exhaustive()
    }
}

/// A recorder that panics again and again will not be better the next time.
const RECORDER_PANICS: u32 = 3;
/// One that lived this long was healthy: earlier panics no longer count.
const RECORDER_HEALTHY: Duration = Duration::from_secs(600);
/// What an end may take beyond the configured grace before it is given up.
const LAST_MARGIN: Duration = Duration::from_secs(5);
/// How often a tape on a full disk is tried again at start.
const OPEN_RETRY: Duration = Duration::from_secs(1);

/// Why a deck stops that nobody asked to.
const FAILED: &str = "the recorder failed";

/// The recorder's thread ended in a panic; the log has the message.
#[derive(Debug, thiserror::Error)]
#[error("the recorder panicked: see the log")]
struct RecorderPanicked;

/// What a deck is asked while it runs.
enum Command {
    Stop,
    Reload(oneshot::Sender<Result<String, String>>),
    Restart(SmolStr, oneshot::Sender<Result<String, String>>),
}

/// Runs a deck until a signal, `stop`, or the end of its time. A second signal ends the process at once.
///
/// # Errors
/// The tape cannot be opened ([`tapedeck_tape::Error::Locked`] when another deck has it) or written,
/// a port is taken, or a source's config is wrong.
pub async fn run(mut plan: Plan, mut options: RunOptions) -> anyhow::Result<Summary> {
    let mut signals = Signals::listen()?;
    let end = options.run_for.map(|time| Instant::now() + time);
    let mut panics = 0;
    let stopping = Arc::new(AtomicBool::new(false));
    loop {
        let begun = Instant::now();
        let ended = run_once(&mut plan, &options, &mut signals, &stopping).await;
        if begun.elapsed() >= RECORDER_HEALTHY {
            panics = 0;
        }
        match ended {
            Err(error) if error.is::<RecorderPanicked>() && stopping.load(Ordering::Relaxed) => {
                tracing::error!("the recorder panicked, and the deck was asked to stop: the tape is not opened anew");
                return Err(error);
            }
            Err(error) if error.is::<RecorderPanicked>() && panics < RECORDER_PANICS => {
                panics += 1;
                tracing::error!(
                    panics,
                    "the recorder panicked: the tape is opened anew, the pause will be in the ledger"
                );
                options.run_for = end.map(|end| end.saturating_duration_since(Instant::now()));
            }
            ended => return ended,
        }
    }
}

/// One life of the recorder, with all that depends on it.
async fn run_once(
    plan: &mut Plan,
    options: &RunOptions,
    signals: &mut Signals,
    stopping: &Arc<AtomicBool>,
) -> anyhow::Result<Summary> {
    let listener = match plan.http {
        Some(listen) => Some(bind(&plan.dir, listen).await?),
        None => None,
    };
    let (recorder, watches, opening) = open_when_there_is_space(plan, signals).await?;
    let (to_recorder, intake) = mpsc::channel(QUEUE_FRAMES);
    let give_up = recorder.give_up();
    let recording = std::thread::Builder::new()
        .name("recorder".into())
        .spawn(move || recorder.run(intake))
        .context("starting the recorder")?;

    let mut sources = SourceSet::new(plan.dir.clone(), to_recorder.clone(), watches.full.clone(), plan.longest_wait);
    for source in &plan.sources {
        sources.start(source)?;
    }
    let (dir, tape) = (plan.dir.clone(), watches.tape.clone());
    let mut services = ServiceSet::new(dir, tape, to_recorder.downgrade(), plan.longest_wait);
    let status = status_of(plan, &opening, &watches, &sources, &services, to_recorder.downgrade());
    services.set_status(status::Overview::new(status.clone()));
    for service in &plan.services {
        services.start(service);
    }
    let serving = CancellationToken::new();
    let (commands, mut asked) = mpsc::channel(8);
    let restarts = Arc::new(Restarts::default());
    let mut served = Vec::new();
    if let Some(listener) = listener {
        let (restarts, status, stop) = (restarts.clone(), status.clone(), serving.clone());
        let (inlet, longest_wait) = (sources.inlet().clone(), plan.longest_wait);
        let http = async move {
            supervise::keep("http", restarts, stop.clone(), longest_wait, || {
                http::serve(&listener, status.clone(), inlet.clone(), stop.clone())
            })
            .await;
        };
        served.push((SmolStr::new_static("http"), tokio::spawn(http)));
    }
    let handler = control_handler(status.clone(), services.list(), commands, stopping.clone());
    let (dir, stop, longest_wait) = (plan.dir.clone(), serving.clone(), plan.longest_wait);
    let control = async move {
        supervise::keep("control", restarts, stop.clone(), longest_wait, || {
            control::serve(&dir, handler.clone(), stop.clone())
        })
        .await;
    };
    served.push((SmolStr::new_static("control"), tokio::spawn(control)));
    served.push((SmolStr::new_static("notify"), tokio::spawn(notify::run(status.clone(), serving.clone()))));
    if options.screen {
        let (status, durable, dir, stop) = (status.clone(), watches.durable.clone(), plan.dir.clone(), serving.clone());
        let screen = async move { crate::screen::run(&dir, status, durable, stop).await };
        served.push((SmolStr::new_static("screen"), tokio::spawn(screen)));
    }

    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let end = options.run_for.map(|time| tokio::time::Instant::now() + time);
    let reason = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop(reason) => break reason,
                Asked::Reload => match reload(options, plan, &mut sources, &mut services).await {
                    Ok(done) => tracing::info!("config read again: {done}"),
                    Err(error) => tracing::error!(error, "config not taken over, the old one stays"),
                },
            },
            () = until(end) => break "the time is over",
            Some(command) = asked.recv() => match command {
                Command::Stop => break "asked to stop",
                Command::Reload(reply) => drop(reply.send(reload(options, plan, &mut sources, &mut services).await)),
                Command::Restart(name, reply) => {
                    let done = match services.restart(&name).await {
                        Some(done) => Ok(done),
                        None => sources.restart(&name).await.map_err(|error| format!("{error:#}")),
                    };
                    drop(reply.send(done));
                },
            },
            // A recorder that is behind gets its turn later.
            _ = second.tick() => drop(to_recorder.try_send(Intake::Maintain)),
            () = to_recorder.closed() => break FAILED,
        }
    };
    tracing::info!(reason, "stopping");
    notify::stopping();
    if reason != FAILED {
        stopping.store(true, Ordering::Relaxed);
    }
    let began = Instant::now();
    signals.while_stopping(sources.stop_all(plan.grace), stopping).await;
    signals.while_stopping(stop_deriving(&mut services, &to_recorder, plan.grace), stopping).await;
    drop(to_recorder);
    let summary = signals.while_stopping(join_recorder(recording, &give_up, plan.grace), stopping).await;
    signals.while_stopping(services.stop(Stage::Serve, plan.grace), stopping).await;
    serving.cancel();
    signals.while_stopping(supervise::finish("serve", served, plan.grace), stopping).await;
    tracing::info!(took_ms = began.elapsed().as_millis() as u64, "stopped");
    summary
}

/// Lets what derives see everything that the sources sent, then ends it.
async fn stop_deriving(services: &mut ServiceSet, to_recorder: &mpsc::Sender<Intake>, grace: Duration) {
    let everything_durable = async {
        let (durable, confirmed) = oneshot::channel();
        if to_recorder.send(Intake::Events { events: Vec::new(), durable: Some(durable) }).await.is_ok() {
            // A recorder that is gone has made durable what it could.
            let _ = confirmed.await;
        }
    };
    if tokio::time::timeout(grace, everything_durable).await.is_err() {
        tracing::error!(
            limit_s = grace.as_secs(),
            "the recorder is behind: what derives ends before it has seen everything"
        );
    }
    services.stop(Stage::Derive, grace).await;
}

/// The first signal is seen by whoever goes on when the tape is open.
async fn end_at_second_signal(mut signals: Signals) -> Infallible {
    signals.stop().await;
    tracing::info!("asked to stop: as soon as the tape is open; a second signal ends at once");
    signals.stop().await;
    end_at_once()
}

fn end_at_once() -> ! {
    tracing::warn!("second signal: ending at once; what was acknowledged is on the tape");
    std::process::exit(130);
}

/// Binds the web server's port. Where another deck of this very tape has it, the tape is what stands in the way.
async fn bind(dir: &Path, listen: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let error = match http::bind(listen) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let Ok(Some(deck)) = control::ask(dir, &Request::Status).await else { return Err(error) };
    let pid = deck["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let locked = tapedeck_tape::Error::Locked { path: dir.to_owned(), pid };
    Err(locked).with_context(|| format!("opening the tape in {}", dir.display()))
}

/// Opens the tape; on a full disk waits until there is space, or until a signal.
async fn open_when_there_is_space(plan: &Plan, signals: &mut Signals) -> anyhow::Result<(Recorder, Watches, Opening)> {
    let mut told = false;
    loop {
        let listening = end_at_second_signal(Signals::listen()?);
        if !told {
            tracing::info!(dir = %plan.dir.display(), "opening the tape");
        }
        // Recovery of a long tape takes its time, and a disk may hang: neither on a thread of the runtime.
        let plan_of = plan.clone();
        let opened = tokio::select! {
            opened = tokio::task::spawn_blocking(move || open(&plan_of)) => opened.context("opening the tape")?,
            never = listening => match never {},
        };
        let error = match opened {
            Err(error) if is_full(&error) => error,
            opened => return opened,
        };
        if !std::mem::replace(&mut told, true) {
            tracing::error!(error = format!("{error:#}"), "disk full, recording begins when there is space");
        }
        tokio::select! {
            () = tokio::time::sleep(OPEN_RETRY) => {}
            () = signals.stop() => return Err(error),
        }
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(tapedeck_tape::Error::Full { .. })))
}

/// Opens the tape, reads back what the recorder must know, and writes what happened since.
fn open(plan: &Plan) -> anyhow::Result<(Recorder, Watches, Opening)> {
    let storage = plan.storage.clone();
    std::fs::create_dir_all(&plan.dir).with_context(|| format!("making the folder {}", plan.dir.display()))?;
    let opened = match plan.on_full {
        OnFull::DropOldest => Log::open_dropping_oldest(storage, &plan.dir, plan.options.clone(), &plan.retention),
        OnFull::Stop | OnFull::Shed => Log::open(storage, &plan.dir, plan.options.clone()),
    };
    let (log, opening) = opened.with_context(|| format!("opening the tape in {}", plan.dir.display()))?;
    let mut restored = Restored::default();
    if opening.last_seq > 0 {
        restored.read_back(&plan.dir, log.tail())?;
    }
    let last_recv = opening.last_ts_recv.map(UnixNanos).max(restored.last_recv());
    let settings = Settings {
        mode: plan.options.mode,
        retention: plan.retention.clone(),
        on_full: plan.on_full,
        shed_below: plan.shed_below,
        ..Settings::of(&plan.dir)
    };
    let (mut recorder, watches) = Recorder::new(log, restored, settings)?;
    for note in opening_notes(&opening) {
        recorder.note(note)?;
    }
    recorder.open_down_gaps(&plan.configured, last_recv)?;
    Ok((recorder, watches, opening))
}

fn opening_notes(opening: &Opening) -> Vec<TapeNote> {
    let mut notes = Vec::new();
    if let Some(torn) = &opening.torn {
        let kept = torn.quarantined.as_ref().map_or("no copy could be kept".into(), |path| path.display().to_string());
        tracing::warn!(bytes = torn.bytes, kept, "the last append was torn, it is no part of the tape");
        notes.push(TapeNote {
            what: TapeEvent::TornTail,
            from_seq: None,
            to_seq: None,
            bytes: torn.bytes,
            detail: SmolStr::new(kept),
        });
    }
    for hole in &opening.holes {
        tracing::error!(from_seq = hole.from_seq, to_seq = hole.to_seq, "records cannot be read");
        notes.push(TapeNote {
            what: TapeEvent::Hole,
            from_seq: Some(hole.from_seq),
            to_seq: Some(hole.to_seq),
            bytes: 0,
            detail: SmolStr::new_static("found at start"),
        });
    }
    let detail = format!(
        "tapedeck {} incarnation {} pid {}",
        env!("CARGO_PKG_VERSION"),
        opening.incarnation,
        std::process::id()
    );
    notes.push(TapeNote {
        what: TapeEvent::Incarnation,
        from_seq: None,
        to_seq: None,
        bytes: 0,
        detail: detail.into(),
    });
    notes
}

async fn join_recorder(
    recording: std::thread::JoinHandle<anyhow::Result<Summary>>,
    give_up: &AtomicBool,
    grace: Duration,
) -> anyhow::Result<Summary> {
    let joined = tokio::task::spawn_blocking(move || recording.join());
    tokio::pin!(joined);
    for patience in [grace, LAST_MARGIN] {
        tokio::select! {
            joined = &mut joined => {
                let joined = joined.context("waiting for the recorder")?;
                return joined.unwrap_or_else(|_| Err(RecorderPanicked.into()));
            }
            // Given up: a recorder that waits for a full disk ends at its next try.
            () = tokio::time::sleep(patience) => give_up.store(true, Ordering::Relaxed),
        }
    }
    // Its thread hangs in the kernel: nothing in this process can end it but the end of the process.
    tracing::error!("the recorder does not end: the disk does not answer; what was acknowledged is on the tape");
    std::process::exit(1);
}

async fn reload(
    options: &RunOptions,
    plan: &mut Plan,
    sources: &mut SourceSet,
    services: &mut ServiceSet,
) -> Result<String, String> {
    let Some(read) = &options.reload else { return Err("this deck has no config file".into()) };
    let read = read().map_err(|error| format!("{error:#}"))?;
    let mut done = sources.follow(&read.sources).await.map_err(|error| format!("{error:#}"))?;
    let served = services.follow(&read.services).await.join(", ");
    if !served.is_empty() {
        done = if done == sources::NOTHING_CHANGED { served } else { format!("{done}, {served}") };
    }
    // What runs from now on is what a recorder that must be started anew begins with.
    (plan.sources, plan.services, plan.configured) = (read.sources, read.services, read.configured);
    Ok(done)
}

fn control_handler(
    status: http::StatusOf,
    services: services::List,
    commands: mpsc::Sender<Command>,
    stopping: Arc<AtomicBool>,
) -> control::Handler {
    Arc::new(move |request| {
        let (status, services) = (status.clone(), services.clone());
        let (commands, stopping) = (commands.clone(), stopping.clone());
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = match request {
                Request::Status => {
                    return match serde_json::to_value(status()) {
                        Ok(value) => Response::Ok(value),
                        Err(error) => Response::Error(error.to_string()),
                    };
                }
                Request::Stop => {
                    // Also where nobody takes commands any more, because the recorder failed: it is not begun anew.
                    stopping.store(true, Ordering::Relaxed);
                    let _ = commands.send(Command::Stop).await;
                    return Response::Ok("stopping".into());
                }
                Request::Letters { sink, order } => {
                    return match services.ask(&sink, order).await.map(serde_json::to_value) {
                        Ok(Ok(done)) => Response::Ok(done),
                        Ok(Err(error)) => Response::Error(error.to_string()),
                        Err(error) => Response::Error(error),
                    };
                }
                Request::Reload => Command::Reload(reply),
                Request::Restart { name } => Command::Restart(name.into(), reply),
            };
            if commands.send(command).await.is_err() {
                return Response::Error("the deck is stopping".into());
            }
            match answer.await {
                Ok(Ok(done)) => Response::Ok(done.into()),
                Ok(Err(error)) => Response::Error(error),
                Err(_) => Response::Error("the deck is stopping".into()),
            }
        })
    })
}

fn status_of(
    plan: &Plan,
    opening: &Opening,
    watches: &Watches,
    sources: &SourceSet,
    services: &ServiceSet,
    to_recorder: mpsc::WeakSender<Intake>,
) -> http::StatusOf {
    let started = Instant::now();
    let began = UnixNanos::now();
    let dir = plan.dir.clone();
    let (mode, tape_id) = (plan.options.mode.name(), opening.tape_id);
    let watches = watches.clone();
    let running = sources.running();
    let services = services.list();
    Arc::new(move || {
        let view = watches.view.borrow().clone();
        let mut status = status::of_view(&dir, &view, *watches.durable.borrow());
        status.running = true;
        status.version = env!("CARGO_PKG_VERSION").into();
        status.pid = std::process::id();
        status.started = began.to_string();
        status.started_s = began.0 as f64 / 1e9;
        let uptime = started.elapsed();
        status.uptime_s = uptime.as_secs();
        status.tape.id = tape_id.to_string();
        status.tape.mode = mode.into();
        status.set_pace(view.bytes, uptime);
        status.rate = view.rate;
        status.latency = view.latency;
        status.sync = view.sync;
        status.events = view.events;
        status.duplicates = view.duplicates;
        status.shed = view.shed;
        status.gaps_open = view.sources.values().map(|counts| counts.gaps_open).sum();
        status.gaps = status::gaps(&view, UnixNanos::now());
        status.recorder_silent_ms = watches.pulse.silence().as_millis() as u64;
        status.sources = running.describe(&view.sources);
        status.services = services.describe();
        status.hear_services();
        status.clock = status::Clock { offset_ns: view.clock_offset_ns, steps: view.clock_steps };
        status.rss_bytes = status::rss_bytes();
        status.process = status::Process::now();
        status.times = view.times.clone();
        status.queue_limit = QUEUE_FRAMES;
        status.queue_frames = to_recorder.upgrade().map_or(0, |sender| QUEUE_FRAMES - sender.capacity());
        status.redact();
        status
    })
}

async fn until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The signals a deck obeys.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What a signal asks for.
enum Asked {
    Stop(&'static str),
    Reload,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next signal. Cancel safe.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop("interrupted"),
            _ = self.terminate.recv() => Asked::Stop("terminated"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Does what a stop consists of. The first signal is what it is done for, or is remembered when there was none
    /// before; a second one ends the process at once.
    async fn while_stopping<T>(&mut self, work: impl Future<Output = T>, stopping: &AtomicBool) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.stop() => {
                    if stopping.swap(true, Ordering::Relaxed) {
                        end_at_once();
                    }
                }
            }
        }
    }

    /// SIGINT or SIGTERM. Cancel safe.
    async fn stop(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}
