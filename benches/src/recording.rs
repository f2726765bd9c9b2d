//! A recording from end to end in this process: the venue, the session, the recorder, the disk. Every advance of the durable
//! end is noted with its time, so that each record's way from the due time of its frame is known afterwards.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tapedeck::intake::{Counters, Outlet, QUEUE_FRAMES};
use tapedeck::recorder::{Recorder, Restored, Settings};
use tapedeck::sources::Setup;
use tapedeck::supervise::{Keeper, Rebuild};
use tapedeck_market::{Body, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Log, Reader, Start};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::venue::{Load, now_ns, serve};

/// What a recording showed.
#[derive(Debug)]
pub struct Measured {
    /// From due to durable, ns.
    pub latency: Histogram<u64>,
    pub recorded: u64,
    pub sent: u64,
    /// Records made durable a second, between the first and the last.
    pub per_s: f64,
}

impl Measured {
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}  {} of {} recorded", quantiles(&self.latency), self.recorded, self.sent)
    }
}

/// A histogram of nanoseconds: up to ten minutes, three digits.
///
/// # Errors
/// None is expected.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000_000, 3)?)
}

/// What is said of a latency.
#[must_use]
pub fn quantiles(latency: &Histogram<u64>) -> String {
    let q = |q| latency.value_at_quantile(q) as f64 / 1e6;
    let max = latency.max() as f64 / 1e6;
    format!("p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {max:.2} ms", q(0.5), q(0.99), q(0.999))
}

/// Records one load. `ready` is called with the tape's folder when the recorder runs and nothing has come yet.
///
/// # Errors
/// Something of it cannot be started, or `ready` refuses.
pub fn record(dir: &Path, load: Load, ready: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<Measured> {
    let venue = serve(load)?;
    let (log, _) = Log::open(Arc::new(Disk), dir, tapedeck_tape::Options::default())?;
    let tail = log.tail();
    let advances: Arc<Mutex<Vec<(u64, i64)>>> = Arc::new(Mutex::new(Vec::with_capacity(1 << 20)));
    let noted = Arc::clone(&advances);
    tail.on_advance(Box::new(move |seq| {
        noted.lock().unwrap_or_else(PoisonError::into_inner).push((seq, now_ns()));
    }));
    let (recorder, watches) = Recorder::new(log, Restored::default(), Settings::of(dir))?;
    let (to_recorder, intake) = mpsc::channel(QUEUE_FRAMES);
    let recording = std::thread::Builder::new().name("recorder".into()).spawn(move || recorder.run(intake))?;
    ready(dir)?;

    let table = format!("url = \"ws://{}/v2\"\npairs = [\"BTC/USD\"]\nchannels = [\"trade\"]\n", venue.addr)
        .parse::<toml::Table>()?;
    let build = move |dir: &Path| -> anyhow::Result<_> {
        let setup = Setup { name: "kraken".into(), table: table.clone(), dir: dir.to_owned() };
        let sessions = (tapedeck::sources::kraken::KIND.build)(setup)?;
        sessions.into_iter().next().ok_or_else(|| anyhow::anyhow!("no session"))
    };
    let session = build(dir)?;
    let counters = Arc::new(Counters::default());
    let out = Outlet::new("kraken".into(), "kraken".into(), to_recorder, counters.clone(), Arc::default());
    let home = dir.to_owned();
    let keeper = Keeper {
        session,
        out,
        rebuild: Rebuild(Box::new(move || build(&home))),
        restarts: Arc::default(),
        disk_full: watches.full.clone(),
        longest_wait: Duration::from_secs(30),
    };
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let task = runtime.spawn(keeper.run(stop.clone()));
    let sent = venue.sent.recv()?;
    // What is still on its way is waited for, within reason.
    let patience = Instant::now() + Duration::from_secs(10);
    while counters.events.load(Ordering::Relaxed) < sent && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    stop.cancel();
    runtime.block_on(task)?;
    drop(runtime);
    recording.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))??;
    let advances = std::mem::take(&mut *advances.lock().unwrap_or_else(PoisonError::into_inner));
    measure(dir, &advances, sent)
}

fn measure(dir: &Path, advances: &[(u64, i64)], sent: u64) -> anyhow::Result<Measured> {
    let mut latency = histogram()?;
    let mut reader = Reader::open(Arc::new(Disk), dir, Start::Begin)?;
    let (mut recorded, mut first_at, mut last_at) = (0_u64, i64::MAX, 0_i64);
    let mut at = 0;
    while let Some(item) = reader.next()? {
        let Item::Record(record) = item else { continue };
        let event = wire::decode(record.payload)?;
        let (Body::Trade(_), Some(due)) = (&event.body, event.ts_event) else { continue };
        while advances.get(at).is_some_and(|(seq, _)| *seq < record.seq) {
            at += 1;
        }
        let Some((_, durable)) = advances.get(at) else { break };
        latency.saturating_record(u64::try_from(durable - due.0).unwrap_or(0));
        (first_at, last_at) = (first_at.min(*durable), last_at.max(*durable));
        recorded += 1;
    }
    let per_s = recorded as f64 / ((last_at - first_at).max(1) as f64 / 1e9);
    Ok(Measured { latency, recorded, sent, per_s })
}
