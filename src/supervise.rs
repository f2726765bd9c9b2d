//! Lifecycle: sessions that are connected again and again, and work that stops in order.
//!
//! A source's session that ends, by itself, by an error or by a panic, is started again after a wait
//! that grows with each failure up to `[deck] longest_wait`. Only a stop ends it. What stops first is
//! what produces: stages end one after the other, each within the configured grace.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::FutureExt as _;
use tapedeck_market::{GapCause, SmolStr, UnixNanos};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::intake::Outlet;
use crate::logs::redact_text;
use crate::sources::{Again, Finished, Session, Waiting};

/// The first wait before a session is started again.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_millis(250);
/// A source that waits for a person looks again this often.
const WAITING_RETRY: Duration = Duration::from_secs(30);

/// How often services came back, for status and metrics.
#[derive(Debug, Default)]
pub struct Restarts {
    pub panics: AtomicU64,
    pub restarts: AtomicU64,
}

/// A session under supervision.
#[derive(Debug)]
pub struct Keeper {
    pub session: Session,
    pub out: Outlet,
    /// Makes the session anew after a panic, when its state cannot be trusted.
    pub rebuild: Rebuild,
    pub restarts: Arc<Restarts>,
    /// True while the disk is full: no session runs then.
    pub disk_full: watch::Receiver<bool>,
    pub longest_wait: Duration,
}

/// Makes a session again from its config.
pub struct Rebuild(pub Box<dyn Fn() -> anyhow::Result<Session> + Send>);

impl std::fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rebuild")
    }
}

enum Ended {
    /// Connect again.
    Session(anyhow::Result<()>),
    Panic(String),
    DiskFull,
    Stop,
}

impl Keeper {
    /// Runs sessions until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let name = self.session.name.clone();
        let mut waits = Waits::up_to(self.longest_wait);
        loop {
            if self.wait_for_disk(&stop).await.is_err() {
                break;
            }
            tokio::select! {
                known = self.out.refresh() => if known.is_err() { break },
                () = stop.cancelled() => break,
            }
            let counters = self.out.counters();
            counters.sessions.fetch_add(1, Ordering::Relaxed);
            counters.set_state("connecting");
            let started = Instant::now();
            let begun = UnixNanos::now();
            let ended = self.one_session(&stop).await;
            waits.lived(started.elapsed());
            let (wait, detail) = match ended {
                Ended::Stop => break,
                Ended::DiskFull => (Duration::ZERO, SmolStr::new_static("the disk was full")),
                Ended::Panic(message) => {
                    self.restarts.panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(source = %name, panic = message, "source panicked, starting it anew");
                    match (self.rebuild.0)() {
                        Ok(session) => self.session = session,
                        Err(error) => {
                            tracing::error!(source = %name, error = format!("{error:#}"), "source cannot be made anew")
                        }
                    }
                    (waits.next(), SmolStr::new(format!("panic: {message}")))
                }
                Ended::Session(Ok(())) => (waits.next(), SmolStr::new_static("the session ended")),
                Ended::Session(Err(error)) if error.is::<Finished>() => {
                    tracing::info!(source = %name, "source has delivered everything");
                    self.out.counters().set_state("finished");
                    stop.cancelled().await;
                    break;
                }
                Ended::Session(Err(error)) if error.is::<Waiting>() => {
                    let state = error.downcast_ref::<Waiting>().map(Waiting::to_string).unwrap_or_default();
                    if self.out.counters().is_news(&state) {
                        tracing::warn!(source = %name, "{state}");
                    }
                    self.out.counters().set_state(state.clone());
                    (asked_for(&error).unwrap_or(WAITING_RETRY), SmolStr::new(state))
                }
                Ended::Session(Err(error)) => {
                    let wait = asked_for(&error).unwrap_or_else(|| waits.next());
                    let error = reason(&error);
                    tracing::warn!(source = %name, error, wait_ms = wait.as_millis() as u64, "session lost, connecting again");
                    self.out.counters().set_state(format!("lost: {error}"));
                    (wait, SmolStr::new(error))
                }
            };
            // What the tape keeps is read by everybody who reads it.
            let detail = SmolStr::new(redact_text(&detail));
            // The feed was whole until its last bytes; before the first, until the session began.
            let since = self.out.last_heard().map_or(begun, |heard| heard.max(begun));
            let lost = self.out.session_lost(GapCause::Session, since, detail);
            tokio::select! {
                lost = lost => if lost.is_err() { break },
                () = stop.cancelled() => break,
            }
            self.restarts.restarts.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => break,
            }
        }
        self.out.counters().set_state("stopped");
    }

    async fn one_session(&mut self, stop: &CancellationToken) -> Ended {
        let mut disk_full = self.disk_full.clone();
        let session = AssertUnwindSafe(self.session.source.run(&self.out)).catch_unwind();
        tokio::select! {
            ended = session => match ended {
                Ok(ended) => Ended::Session(ended),
                Err(panic) => Ended::Panic(panic_message(&*panic)),
            },
            () = stop.cancelled() => Ended::Stop,
            () = until(&mut disk_full, true) => Ended::DiskFull,
        }
    }

    async fn wait_for_disk(&mut self, stop: &CancellationToken) -> Result<(), ()> {
        if *self.disk_full.borrow() {
            self.out.counters().set_state(crate::status::DISK_IS_FULL);
        }
        tokio::select! {
            () = until(&mut self.disk_full, false) => Ok(()),
            () = stop.cancelled() => Err(()),
        }
    }
}

/// Returns when the watched flag is `wanted`; never, when nobody can set it any more.
async fn until(flag: &mut watch::Receiver<bool>, wanted: bool) {
    if flag.wait_for(|value| *value == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The waits before something that ended is started again.
struct Waits {
    longest: Duration,
    growing: ExponentialBackoff,
}

impl Waits {
    fn up_to(longest: Duration) -> Waits {
        Waits { longest, growing: waits_between(SHORTEST_WAIT, longest) }
    }

    /// What lived as long as the longest wait was healthy: the next wait is the shortest again.
    fn lived(&mut self, time: Duration) {
        if time >= self.longest {
            *self = Waits::up_to(self.longest);
        }
    }

    fn next(&mut self) -> Duration {
        self.growing.next().unwrap_or(self.longest).min(self.longest)
    }
}

/// Waits that double with each failure, with jitter, and never end.
pub(crate) fn waits_between(shortest: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// How long the source says that the venue wants to be left alone.
fn asked_for(error: &anyhow::Error) -> Option<Duration> {
    error.downcast_ref::<Again>().map(|again| again.0)
}

/// Why a session ended; how long to wait is no reason.
fn reason(error: &anyhow::Error) -> String {
    let again = error.downcast_ref::<Again>().map(ToString::to_string);
    let causes: Vec<String> =
        error.chain().map(ToString::to_string).filter(|cause| Some(cause) != again.as_ref()).collect();
    causes.join(": ")
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Runs a service until `stop`, and again after an error or a panic, with the waits of a session.
/// A service that ends by itself without an error has done its work.
pub async fn keep<F>(
    name: &str,
    restarts: Arc<Restarts>,
    stop: CancellationToken,
    longest_wait: Duration,
    mut run: impl FnMut() -> F,
) where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut waits = Waits::up_to(longest_wait);
    loop {
        let started = Instant::now();
        let error = match AssertUnwindSafe(run()).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => {
                restarts.panics.fetch_add(1, Ordering::Relaxed);
                format!("panic: {}", panic_message(&*panic))
            }
        };
        if stop.is_cancelled() {
            return;
        }
        waits.lived(started.elapsed());
        let wait = waits.next();
        tracing::error!(service = name, error, wait_ms = wait.as_millis() as u64, "service failed, starting it anew");
        restarts.restarts.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Waits for tasks of one stage; what is not done within the limit is aborted and named.
pub async fn finish(stage: &str, tasks: Vec<(SmolStr, JoinHandle<()>)>, limit: Duration) {
    let deadline = Instant::now() + limit;
    for (name, mut task) in tasks {
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            tracing::error!(stage, service = %name, limit_s = limit.as_secs(), "service did not stop in time and was ended");
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::intake::{Counters, Intake};
    use crate::sources::Source;

    const LONGEST: Duration = Duration::from_secs(30);

    /// Ends its sessions in the given ways, then stays connected.
    struct Scripted(Arc<AtomicUsize>);

    #[async_trait]
    impl Source for Scripted {
        async fn run(&mut self, _: &Outlet) -> anyhow::Result<()> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(()),
                1 => anyhow::bail!("refused"),
                2 => panic!("a bug"),
                3 => Err(Waiting("no credentials: set X".into()).into()),
                4 => std::future::pending().await,
                5 => Err(anyhow::anyhow!("too many").context(Again(Duration::from_secs(960)))),
                6 => Err(anyhow::Error::from(Waiting("a new token".into())).context(Again(Duration::from_secs(5)))),
                7 => Err(anyhow::anyhow!("the stream ended").context(Again(Duration::ZERO))),
                _ => std::future::pending().await,
            }
        }
        async fn check(&mut self) -> anyhow::Result<String> {
            Ok(String::new())
        }
    }

    #[expect(clippy::type_complexity, reason = "the parts of one test deck")]
    fn keeper() -> (Keeper, Arc<Counters>, Arc<Restarts>, Arc<AtomicUsize>, mpsc::Receiver<Intake>, watch::Sender<bool>)
    {
        let (to_recorder, intake) = mpsc::channel(16);
        let counters = Arc::new(Counters::default());
        let runs = Arc::new(AtomicUsize::new(0));
        let make = {
            let runs = runs.clone();
            move || Session { name: "s".into(), venue: "v".into(), source: Box::new(Scripted(runs.clone())) }
        };
        let (full, disk_full) = watch::channel(false);
        let restarts = Arc::new(Restarts::default());
        let out = Outlet::new("s".into(), "v".into(), to_recorder, counters.clone(), Arc::default());
        let session = make();
        let rebuild = Rebuild(Box::new(move || Ok(make())));
        (
            Keeper { session, out, rebuild, restarts: restarts.clone(), disk_full, longest_wait: LONGEST },
            counters,
            restarts,
            runs,
            intake,
            full,
        )
    }

    /// A recorder that knows nothing: passes on all but the questions.
    fn answering(mut intake: mpsc::Receiver<Intake>) -> mpsc::Receiver<Intake> {
        let (pass, passed) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(message) = intake.recv().await {
                match message {
                    Intake::Resume { reply, .. } => drop(reply.send(crate::intake::Resume::default())),
                    other => drop(pass.send(other).await),
                }
            }
        });
        passed
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_comes_back_after_end_error_panic_and_wait() {
        let (keeper, counters, restarts, runs, intake, _full) = keeper();
        let mut intake = answering(intake);
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(stop.clone()));
        for want in ["the session ended", "refused", "panic: a bug", "waiting: no credentials: set X"] {
            match intake.recv().await {
                Some(Intake::SessionLost { cause: GapCause::Session, detail, .. }) => assert_eq!(detail, want),
                other => panic!("{other:?}"),
            }
        }
        while runs.load(Ordering::SeqCst) < 5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(restarts.panics.load(Ordering::Relaxed), 1);
        assert_eq!(restarts.restarts.load(Ordering::Relaxed), 4);
        stop.cancel();
        task.await.unwrap();
        assert_eq!(counters.state(), "stopped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_venue_is_left_alone_for_as_long_as_the_source_says() {
        let (keeper, _, _, runs, intake, _full) = keeper();
        let mut intake = answering(intake);
        runs.store(5, Ordering::SeqCst);
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let task = tokio::spawn(keeper.run(stop.clone()));
        for (want, after) in [("too many", 0), ("waiting: a new token", 960), ("the stream ended", 965)] {
            match intake.recv().await {
                Some(Intake::SessionLost { detail, .. }) => assert_eq!(detail, want),
                other => panic!("{other:?}"),
            }
            assert_eq!(began.elapsed().as_secs(), after, "{want}");
        }
        while runs.load(Ordering::SeqCst) < 9 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(began.elapsed().as_secs(), 965, "at once");
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn no_session_runs_while_the_disk_is_full() {
        let (keeper, counters, _, runs, intake, full) = keeper();
        let mut intake = answering(intake);
        runs.store(4, Ordering::SeqCst);
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(stop.clone()));
        while runs.load(Ordering::SeqCst) < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        full.send_replace(true);
        assert!(matches!(intake.recv().await, Some(Intake::SessionLost { .. })));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 5, "closed, and not connected again");
        assert_eq!(counters.state(), "waiting: the disk is full");
        full.send_replace(false);
        while runs.load(Ordering::SeqCst) < 6 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_started_anew_after_an_error_and_after_a_panic() {
        let (runs, restarts) = (AtomicUsize::new(0), Arc::new(Restarts::default()));
        let stop = CancellationToken::new();
        keep("test", restarts.clone(), stop, LONGEST, async || match runs.fetch_add(1, Ordering::SeqCst) {
            0 => anyhow::bail!("refused"),
            1 => panic!("a bug"),
            _ => Ok(()),
        })
        .await;
        assert_eq!(runs.into_inner(), 3);
        assert_eq!((restarts.panics.load(Ordering::Relaxed), restarts.restarts.load(Ordering::Relaxed)), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_lived_as_long_as_the_longest_wait_is_waited_for_shortly_again() {
        let begun = std::sync::Mutex::new(Vec::new());
        let longest = Duration::from_secs(2);
        keep("test", Arc::default(), CancellationToken::new(), longest, async || {
            let lives = {
                let mut begun = begun.lock().unwrap();
                begun.push(Instant::now());
                begun.len()
            };
            match lives {
                7 => tokio::time::sleep(longest).await,
                8 => return Ok(()),
                _ => {}
            }
            anyhow::bail!("refused")
        })
        .await;
        let begun = begun.into_inner().unwrap();
        let waits: Vec<Duration> = begun.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(waits[4] >= longest / 2 && waits[5] >= longest / 2, "grown: {waits:?}");
        let last = waits[6] - longest;
        assert!(last >= SHORTEST_WAIT && last <= 3 * SHORTEST_WAIT, "begun anew: {waits:?}");
    }

    #[test]
    fn waits_grow_to_a_ceiling_and_never_end() {
        let mut waits = Waits::up_to(LONGEST);
        let all: Vec<Duration> = (0..50).map(|_| waits.next()).collect();
        assert!(all[0] >= SHORTEST_WAIT && all[0] <= 3 * SHORTEST_WAIT, "{:?}", all[0]);
        assert!(all.iter().all(|wait| *wait <= LONGEST));
        assert!(all[20..].iter().all(|wait| *wait >= LONGEST / 2), "{:?}", &all[20..]);
    }
}
