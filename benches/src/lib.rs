//! How the benches measure: ours and the peer alternately, seven rounds, the median of the ratios.
//!
//! A shared machine drifts by tens of per cent within a minute. What is measured in the same round
//! drifts together, so the ratio of a round is what holds; the median of the rounds is reported with
//! its spread. A probe line comes first: when it is off, the run is worth nothing.

pub mod bus;
pub mod child;
pub mod five;
pub mod frames;
pub mod process;
pub mod recording;
pub mod stores;
pub mod venue;

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Rounds of each comparison.
pub const ROUNDS: usize = 7;
/// Time a side is given in each round.
const ROUND_TIME: Duration = Duration::from_millis(300);

/// One side of a comparison: does `n` operations.
pub struct Side<'a> {
    pub name: &'a str,
    pub run: Box<dyn FnMut(u64) + 'a>,
}

impl std::fmt::Debug for Side<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A side that runs a closure once an operation.
pub fn each<'a, T>(name: &'a str, mut op: impl FnMut() -> T + 'a) -> Side<'a> {
    let run = move |n| {
        for _ in 0..n {
            black_box(op());
        }
    };
    Side { name, run: Box::new(run) }
}

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub stage: String,
    pub peer: String,
    /// Nanoseconds an operation, medians.
    pub ours_ns: f64,
    pub peer_ns: f64,
    /// Peer's time over ours, each round: above 1 we are ahead.
    pub ratios: Vec<f64>,
}

impl Outcome {
    #[must_use]
    pub fn ratio(&self) -> f64 {
        median(&self.ratios)
    }
}

/// Runs ours and every peer alternately, prints a line a peer, and returns them.
pub fn compare(stage: &str, mut ours: Side<'_>, mut peers: Vec<Side<'_>>, bytes_an_op: Option<u64>) -> Vec<Outcome> {
    let ours_n = calibrate(&mut ours);
    let peers_n: Vec<u64> = peers.iter_mut().map(calibrate).collect();
    let mut ours_ns = Vec::new();
    let mut peers_ns: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
    for _ in 0..ROUNDS {
        ours_ns.push(time(&mut ours, ours_n));
        for ((peer, n), times) in peers.iter_mut().zip(&peers_n).zip(&mut peers_ns) {
            times.push(time(peer, *n));
        }
    }
    let mut outcomes = Vec::new();
    for (peer, times) in peers.iter().zip(&peers_ns) {
        let ratios = times.iter().zip(&ours_ns).map(|(peer, ours)| peer / ours).collect();
        let outcome = Outcome {
            stage: stage.to_owned(),
            peer: peer.name.to_owned(),
            ours_ns: median(&ours_ns),
            peer_ns: median(times),
            ratios,
        };
        print(&outcome, bytes_an_op);
        outcomes.push(outcome);
    }
    if outcomes.is_empty() {
        let alone = Outcome {
            stage: stage.to_owned(),
            peer: "-".into(),
            ours_ns: median(&ours_ns),
            peer_ns: f64::NAN,
            ratios: vec![f64::NAN],
        };
        print(&alone, bytes_an_op);
        outcomes.push(alone);
    }
    outcomes
}

/// Runs whole rounds of ours and the peers alternately, each told its round; prints a line a peer. A run takes its own time.
///
/// # Errors
/// One of them fails.
pub fn rounds(stage: &str, records: u64, sides: &mut [(&str, Run<'_>)]) -> anyhow::Result<()> {
    let mut times = vec![Vec::new(); sides.len()];
    for round in 0..ROUNDS {
        for ((name, run), times) in sides.iter_mut().zip(&mut times) {
            times.push(run(round).with_context(|| format!("{name}, round {round}"))?.as_secs_f64());
        }
    }
    let rate = |times: &[f64]| records as f64 / median(times);
    for ((peer, _), theirs) in sides.iter().zip(&times).skip(1) {
        let ratios: Vec<f64> = theirs.iter().zip(&times[0]).map(|(theirs, ours)| theirs / ours).collect();
        let (low, high) = spread(&ratios);
        println!(
            "{stage:<28} ours {:.0} rows/s  {peer} {:.0} rows/s  ratio {:.2} [{low:.2} … {high:.2}]",
            rate(&times[0]),
            rate(theirs),
            median(&ratios)
        );
    }
    Ok(())
}

/// A round of one side: how long it took.
pub type Run<'a> = Box<dyn FnMut(usize) -> anyhow::Result<Duration> + 'a>;

/// How many operations fill a round.
fn calibrate(side: &mut Side<'_>) -> u64 {
    let mut n = 1;
    loop {
        let took = Duration::from_nanos((time(side, n) * n as f64) as u64);
        if took >= ROUND_TIME / 4 {
            return (n as f64 * ROUND_TIME.as_secs_f64() / took.as_secs_f64()).max(1.0) as u64;
        }
        n *= if took < ROUND_TIME / 100 { 10 } else { 2 };
    }
}

fn time(side: &mut Side<'_>, n: u64) -> f64 {
    let start = Instant::now();
    (side.run)(n);
    start.elapsed().as_nanos() as f64 / n as f64
}

fn print(outcome: &Outcome, bytes_an_op: Option<u64>) {
    let mut line = format!("{:<44} ours {}", outcome.stage, nanos(outcome.ours_ns));
    if let Some(bytes) = bytes_an_op {
        let _ = write!(line, " ({:.2} GB/s)", bytes as f64 / outcome.ours_ns);
    }
    if outcome.peer != "-" {
        let (low, high) = spread(&outcome.ratios);
        let _ = write!(
            line,
            "  {} {}  ratio {:.2} [{low:.2} … {high:.2}]",
            outcome.peer,
            nanos(outcome.peer_ns),
            outcome.ratio()
        );
    }
    println!("{line}");
    let _ = std::io::stdout().flush();
}

fn nanos(ns: f64) -> String {
    if ns < 10_000.0 { format!("{ns:.1} ns") } else { format!("{:.1} µs", ns / 1e3) }
}

#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[must_use]
pub fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// Prints what the machine can do right now: the yardstick of everything below it.
///
/// # Panics
/// When the folder cannot be written.
pub fn probe(dir: &Path) {
    let mut file = tempfile::tempfile_in(dir).expect("a file in the benches' folder");
    let block = vec![7_u8; 4096];
    let mut syncs: Vec<f64> = (0..200)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&block).and_then(|()| file.sync_data()).expect("writing the probe");
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    syncs.sort_by(f64::total_cmp);
    let from = vec![1_u8; 64 << 20];
    let mut to = vec![0_u8; 64 << 20];
    let start = Instant::now();
    for _ in 0..4 {
        to.copy_from_slice(black_box(&from));
        black_box(&to);
    }
    let copied = 4.0 * from.len() as f64 / start.elapsed().as_secs_f64() / 1e9;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "probe: fdatasync p50 {:.0} µs p99 {:.0} µs, memcpy {copied:.1} GB/s, load {}",
        syncs[100],
        syncs[197],
        load.split(' ').next().unwrap_or("?"),
    );
}
