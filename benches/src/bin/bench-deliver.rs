//! From the moment a frame was due on the venue's socket to the message at a subscriber of the bus: durable first.
//!
//! Session, recorder and disk are in this process, the bus is the child process that it is in a deck; durable end and
//! message are measured in the same run. The peer is a pipeline in Python (json, msgpack, pyzmq) that writes nothing down.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Deserialize;
use tapedeck::bus::{Task, VERB};
use tapedeck_benches::bus::{Subscriber, address, settings};
use tapedeck_benches::probe;
use tapedeck_benches::recording::{histogram, quantiles, record};
use tapedeck_benches::venue::{Load, now_ns, serve};

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(6);

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    for per_s in [1_000, 10_000] {
        let load = Load::Rate { per_s, time: TIME };
        let expected = per_s * TIME.as_secs();
        for round in 0..ROUNDS {
            ours(&home.path().join(format!("{per_s}-{round}")), load, expected)?;
            python(load, expected)?;
        }
    }
    Ok(())
}

/// What is read of a message: when its frame was due.
#[derive(Deserialize)]
struct Heard {
    ts_event: Option<i64>,
}

fn listen(context: &zmq::Context, expected: u64) -> anyhow::Result<Subscriber<Histogram<u64>>> {
    Subscriber::start(context, histogram()?, move |latency, message| {
        let now = now_ns();
        if let Ok(Heard { ts_event: Some(due) }) = rmp_serde::from_slice(message) {
            latency.saturating_record(u64::try_from(now - due).unwrap_or(0));
        }
        latency.len() < expected
    })
}

fn ours(dir: &Path, load: Load, expected: u64) -> anyhow::Result<()> {
    let context = zmq::Context::new();
    let subscriber = listen(&context, expected)?;
    let mut bus: Option<Child> = None;
    let durable = record(dir, load, |dir| {
        let program = std::env::current_exe()?.with_file_name("tapedeck");
        let mut child = Command::new(program).arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let task = Task { dir: dir.to_owned(), bus: settings() };
        if let Some(to_child) = &mut child.stdin {
            writeln!(to_child, "{}", serde_json::to_string(&task)?)?;
        }
        let said = child.stdout.take().context("the child says nothing")?;
        bus = Some(child);
        let mut said = BufReader::new(said).lines();
        for line in &mut said {
            let state: serde_json::Value = serde_json::from_str(&line?)?;
            if state["subscriptions"].as_u64() > Some(0) {
                std::thread::spawn(move || said.for_each(drop));
                return Ok(());
            }
        }
        anyhow::bail!("the bus ended")
    })?;
    let heard = subscriber.end()?;
    if let Some(mut child) = bus {
        drop(child.stdin.take());
        child.wait()?;
    }
    println!("{:<28} durable          {}", stage(load), durable.line());
    println!("{:<28} at a subscriber  {}  {} of {expected} heard", "", quantiles(&heard), heard.len());
    let p99 = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64 / 1e6;
    println!("{:<28} p99 of the way from durable: {:.2} ms", "", p99(&heard) - p99(&durable.latency));
    Ok(())
}

fn python(load: Load, expected: u64) -> anyhow::Result<()> {
    let Some(program) = std::env::var_os("TAPEDECK_PYTHON") else {
        println!("python left out: TAPEDECK_PYTHON names no Python");
        return Ok(());
    };
    let context = zmq::Context::new();
    let subscriber = listen(&context, expected)?;
    let venue = serve(load)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/pyzmq_pipeline.py");
    let mut child = Command::new(program)
        .arg(script)
        .arg(venue.addr.port().to_string())
        .arg(address())
        .stdin(Stdio::piped())
        .spawn()?;
    while !subscriber.is_there() {
        anyhow::ensure!(child.try_wait()?.is_none(), "the pipeline ended");
        std::thread::sleep(Duration::from_millis(1));
    }
    if let Some(mut to_child) = child.stdin.take() {
        writeln!(to_child)?;
    }
    let heard = subscriber.end()?;
    child.wait()?;
    println!("{:<28} pyzmq pipeline   {}  {} of {expected} heard", "", quantiles(&heard), heard.len());
    Ok(())
}

fn stage(load: Load) -> String {
    match load {
        Load::Rate { per_s, .. } => format!("{per_s} msg/s"),
        load => format!("{load:?}"),
    }
}
