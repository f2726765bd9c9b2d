//! Five venues in one deck at 10,000 messages a second in all, beside Kraken alone at the same rate: what it costs, and from
//! receipt to durable.
//!
//! Whole programs on both sides of real sockets. The venues share the two cores with the deck.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tapedeck::status::Status;
use tapedeck_benches::five::{FIVE, simulated};
use tapedeck_benches::process::{Running, beside};
use tapedeck_benches::{median, probe, spread};

const ROUNDS: usize = 3;
const SETTLE: Duration = Duration::from_secs(6);
const LOOKS: u32 = 10;
/// Longer than the time that a status tells of.
const BETWEEN: Duration = Duration::from_secs(2);
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

const ALONE: [(&str, u32); 1] = [("kraken", 10_000)];

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let tapedeck = beside("tapedeck")?;
    let (mut five, mut alone) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        five.push(measure(&tapedeck, &home.path().join(format!("five-{round}")), &FIVE)?);
        alone.push(measure(&tapedeck, &home.path().join(format!("alone-{round}")), &ALONE)?);
    }
    for (name, of) in COLUMNS {
        let told = |measured: &[Measured]| {
            let values: Vec<f64> = measured.iter().map(of).collect();
            let (low, high) = spread(&values);
            format!("{:.2} [{low:.2} … {high:.2}]", median(&values))
        };
        println!("{name:<36} five venues {:<28} one alone {}", told(&five), told(&alone));
    }
    Ok(())
}

/// What a deck showed.
struct Measured {
    events_per_s: f64,
    p50_ms: f64,
    /// The median of the looks.
    p99_ms: f64,
    worst_p99_ms: f64,
    cpu_percent: f64,
    rss_mib: f64,
}

type Column = (&'static str, fn(&Measured) -> f64);
const COLUMNS: [Column; 6] = [
    ("events a second", |measured| measured.events_per_s),
    ("receipt → durable, p50, ms", |measured| measured.p50_ms),
    ("receipt → durable, p99, ms", |measured| measured.p99_ms),
    ("… of the worst seconds", |measured| measured.worst_p99_ms),
    ("CPU of one core, %", |measured| measured.cpu_percent),
    ("resident, MiB, at most", |measured| measured.rss_mib),
];

fn measure(tapedeck: &Path, dir: &Path, venues: &[(&str, u32)]) -> anyhow::Result<Measured> {
    let (_venues, tables) = simulated(tapedeck, venues)?;
    let config = format!("[tape]\ndir = {dir:?}\n[http]\nlisten = \"off\"\n[log]\ndir = \"off\"\n{tables}");
    let path = dir.with_extension("toml");
    std::fs::write(&path, config)?;
    let deck =
        Running::start(Command::new(tapedeck).args(["run", "--plain", "-q", "-c"]).arg(&path).stdout(Stdio::null()))?;
    let begun = Instant::now();
    while look(tapedeck, &path).is_none_or(|status| sources(&status) < venues.len()) {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "not every venue delivers");
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(SETTLE);

    let ask = || look(tapedeck, &path).context("the deck does not answer");
    let (before, cpu_before, begun) = (ask()?, deck.cpu_s()?, Instant::now());
    let (mut p50, mut p99, mut rss_mib, mut after) = (Vec::new(), Vec::new(), 0.0_f64, before.events);
    for _ in 0..LOOKS {
        std::thread::sleep(BETWEEN);
        let status = ask()?;
        p50.push(status.latency.p50_us as f64 / 1e3);
        p99.push(status.latency.p99_us as f64 / 1e3);
        rss_mib = rss_mib.max(deck.rss_mib()?);
        after = status.events;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Measured {
        events_per_s: (after - before.events) as f64 / seconds,
        p50_ms: median(&p50),
        p99_ms: median(&p99),
        worst_p99_ms: p99.iter().copied().fold(0.0, f64::max),
        cpu_percent: (deck.cpu_s()? - cpu_before) / seconds * 100.0,
        rss_mib,
    })
}

/// How many tables have delivered.
fn sources(status: &Status) -> usize {
    status.sources.iter().filter(|source| !source.name.contains('/') && source.events > 0).count()
}

/// The deck's status; `None` before it answers.
fn look(tapedeck: &Path, config: &PathBuf) -> Option<Status> {
    let asked =
        Command::new(tapedeck).args(["status", "--json", "-c"]).arg(config).stderr(Stdio::null()).output().ok()?;
    serde_json::from_slice(&asked.stdout).ok().filter(|status: &Status| status.running)
}
