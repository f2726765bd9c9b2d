//! The bus beside libzmq and pyzmq: publish to receive with one and eight subscribers, and the tape replayed onto the bus.
//!
//! libzmq publishes bytes that are ready; ours builds each message from its event first, and keeps what a question may ask
//! for. Both are in C's hands from there on. `TAPEDECK_PYTHON` names a Python with pyzmq and msgpack for the third side.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tapedeck_benches::bus::{Bare, MESSAGES, Subscriber, address, payload, publisher, rate, trade};
use tapedeck_benches::recording::histogram;
use tapedeck_benches::venue::now_ns;
use tapedeck_benches::{ROUNDS, median, probe, spread};
use tapedeck_market::wire;
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Item, Log, Options, Reader, Start};

/// Messages of a round of latency, one each half millisecond.
const PACED: usize = 4_000;
const PACE: Duration = Duration::from_micros(500);
const TOPIC: &str = tapedeck_benches::bus::TOPIC;

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    println!("a message of {} bytes; libzmq {:?}", payload(1).len(), zmq::version());
    for subscribers in [1, 8] {
        throughput(subscribers)?;
    }
    latency()?;
    replay(home.path())
}

fn ours(subscribers: usize) -> anyhow::Result<f64> {
    let mut publisher = publisher()?;
    rate(subscribers, |n| match n {
        0 => publisher.greet(TOPIC),
        n => publisher.publish(n, trade(n)),
    })
}

fn libzmq(subscribers: usize) -> anyhow::Result<f64> {
    let bare = Bare::bind()?;
    rate(subscribers, |n| bare.send(n))
}

fn throughput(subscribers: usize) -> anyhow::Result<()> {
    let (mut bus, mut zmq, mut python) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bus.push(ours(subscribers)?);
        zmq.push(libzmq(subscribers)?);
        python.extend(pyzmq(subscribers)?);
    }
    let stage = format!("publish to receive, {subscribers} subscriber(s)");
    compare(&stage, &bus, "libzmq", &zmq);
    match python.is_empty() {
        true => println!("{stage:<40} pyzmq + msgpack left out: TAPEDECK_PYTHON names no Python"),
        false => compare(&stage, &bus, "pyzmq + msgpack", &python),
    }
    Ok(())
}

fn compare(stage: &str, ours: &[f64], peer: &str, theirs: &[f64]) {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (low, high) = spread(&ratios);
    println!(
        "{stage:<40} bus {:.0} msg/s  {peer} {:.0} msg/s  ratio {:.2} [{low:.2} … {high:.2}]",
        median(ours),
        median(theirs),
        median(&ratios)
    );
}

/// A publisher in Python that packs each message, and subscribers in Python that unpack it, each a process.
fn pyzmq(subscribers: usize) -> anyhow::Result<Option<f64>> {
    let Some(program) = std::env::var_os("TAPEDECK_PYTHON") else { return Ok(None) };
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/pyzmq_bus.py");
    let out = Command::new(program).arg(script).arg(subscribers.to_string()).arg(address()).output()?;
    anyhow::ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(Some(String::from_utf8_lossy(&out.stdout).trim().parse()?))
}

/// Publish to receive at 2,000 a second: the sender noted when, and the receiver notes when.
fn latency() -> anyhow::Result<()> {
    let (mut bus, mut zmq) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut publisher = publisher()?;
        bus.push(paced(|n| match n {
            0 => publisher.greet(TOPIC),
            n => publisher.publish(n, trade(n)),
        })?);
        drop(publisher);
        let bare = Bare::bind()?;
        zmq.push(paced(|n| bare.send(n))?);
    }
    for quantile in [0.5, 0.99] {
        let of = |all: &[Histogram<u64>]| -> Vec<f64> {
            all.iter().map(|one| one.value_at_quantile(quantile) as f64 / 1e3).collect()
        };
        let (ours, theirs) = (of(&bus), of(&zmq));
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        let (low, high) = spread(&ratios);
        println!(
            "publish to receive, p{:<20} bus {:.1} µs  libzmq {:.1} µs  ours over theirs {:.2} [{low:.2} … {high:.2}]",
            format!("{:.0} at 2,000/s", quantile * 100.0),
            median(&ours),
            median(&theirs),
            median(&ratios)
        );
    }
    Ok(())
}

fn paced(mut send: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<Histogram<u64>> {
    let context = zmq::Context::new();
    let subscriber = Subscriber::start(&context, Vec::with_capacity(PACED), |times, _| {
        times.push(now_ns());
        times.len() < PACED
    })?;
    while !subscriber.is_there() {
        send(0)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut sent = Vec::with_capacity(PACED);
    for n in 1..=PACED as u64 {
        let next = Instant::now() + PACE;
        sent.push(now_ns());
        send(n)?;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let mut latency = histogram()?;
    for (sent, received) in sent.iter().zip(subscriber.end()?) {
        latency.saturating_record(u64::try_from(received - sent).unwrap_or(0));
    }
    Ok(latency)
}

/// Read, decoded, encoded, published and received; the peer publishes what is ready in memory.
fn replay(home: &Path) -> anyhow::Result<()> {
    let dir = home.join("replay");
    let (mut log, _) = Log::open(Arc::new(Disk), &dir, Options::default())?;
    let mut encoded = Vec::new();
    for n in 0..MESSAGES {
        encoded.clear();
        wire::encode(&trade(n), &mut encoded);
        log.append(&[Entry { ts_recv: 1, payload: &encoded }], &mut Vec::new)?;
    }
    log.commit()?;
    drop(log);
    let (mut bus, mut zmq) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut publisher = publisher()?;
        let mut reader = Reader::open(Arc::new(Disk), &dir, Start::Begin)?;
        bus.push(rate(1, |n| {
            if n == 0 {
                return publisher.greet(TOPIC);
            }
            if let Some(Item::Record(record)) = reader.next()? {
                publisher.publish(record.seq, wire::decode(record.payload)?)?;
            }
            Ok(())
        })?);
        drop(publisher);
        zmq.push(libzmq(1)?);
    }
    compare("tape to bus, 1 subscriber", &bus, "libzmq from memory", &zmq);
    Ok(())
}
