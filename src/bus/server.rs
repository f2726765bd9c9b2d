//! The child process: reads the tape and publishes it until it is told to end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tapedeck_market::{UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Cursor, Item, MAX_STATE_BYTES, RawRecord, Reader, Start, Woken, tools};
use tokio_util::sync::CancellationToken;

use super::publisher::Publisher;
use super::requests::{Requests, Sources};
use super::{Task, VERB};
use crate::child;

/// Records published before the thread looks at anything else.
const BATCH: usize = 256;
/// A wait for records, while something waits for its slot to end; subscribers are looked at in between.
const WAIT_PACED: Duration = Duration::from_millis(20);
const WAIT: Duration = Duration::from_millis(100);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// Each commit is a sync of the disk that the recorder writes to.
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// Records read at start to know what is known, at most: a moment's work. What lies before is known from the cursor's state
/// and from the checkpoint.
const CATCH_UP_MAX: u64 = 2_000_000;

/// Publishes the tape of `task` until `stop`, then what is on it by then.
///
/// # Errors
/// A port is taken, the keys are missing, or the tape cannot be read.
pub fn serve(task: &Task, stop: &CancellationToken) -> anyhow::Result<()> {
    let storage: Arc<dyn tapedeck_tape::storage::Storage> = Arc::new(Disk);
    let tape = tools::id(&storage, &task.dir).context("reading the tape")?;
    let bus = Arc::new(task.bus.clone());
    let keys = task.keys();
    let mut publisher = Publisher::bind(bus.clone(), tape, keys.clone(), false)?;
    let mut reader = Reader::open(storage.clone(), &task.dir, Start::End).context("reading the tape")?;
    let end = reader.durable_seq();
    let mut cursor = Cursor::open(&*storage, &task.dir, VERB, tape, end).context("opening the cursor")?;
    catch_up(&mut publisher, &cursor, &task.dir, end)?;
    // From here on everything is published: the reader stands where catching up ended.
    if reader.seq() != end + 1 {
        reader = Reader::open(storage, &task.dir, Start::Seq(end + 1)).context("reading the tape")?;
    }
    let requests = Requests::start(
        publisher.context(),
        keys.as_ref(),
        Sources { bus, dir: task.dir.clone(), encoder: publisher.encoder(), last: publisher.last() },
    )?;
    tracing::info!(ports = ?publisher.ports(), from_seq = end + 1, "bus publishes");
    let mut beat = Instant::now() - HEARTBEAT_EVERY;
    let mut committed = Instant::now();
    loop {
        let read = publish_batch(&mut publisher, &mut reader)?;
        let stopping = stop.is_cancelled();
        if beat.elapsed() >= HEARTBEAT_EVERY {
            beat = Instant::now();
            publisher.heartbeat(UnixNanos::now())?;
            say(&mut publisher, &reader, &requests);
        }
        if committed.elapsed() >= COMMIT_EVERY && cursor.seq() < reader.seq() - 1 {
            committed = Instant::now();
            commit(&mut publisher, &mut cursor, &reader);
        }
        if read > 0 {
            continue;
        }
        publisher.quiet(UnixNanos::now())?;
        if stopping {
            break;
        }
        publisher.look();
        let wait = if publisher.engine().is_waiting() { WAIT_PACED } else { WAIT };
        if reader.wait(wait).context("waiting for the tape")? == Woken::WriterGone {
            // The deck has gone, or is opening its tape anew: its child hears so by itself.
            std::thread::sleep(WAIT_PACED);
        }
    }
    publisher.finish()?;
    publisher.heartbeat(UnixNanos::now())?;
    commit(&mut publisher, &mut cursor, &reader);
    drop(requests);
    Ok(())
}

/// Publishes some of what is there; says how many records were read.
fn publish_batch(publisher: &mut Publisher, reader: &mut Reader) -> anyhow::Result<usize> {
    for read in 0..BATCH {
        match reader.next().context("reading the tape")? {
            Some(Item::Record(record)) => match wire::decode(record.payload) {
                Ok(event) => publisher.publish(record.seq, event)?,
                Err(error) => unreadable(publisher, &record, &error),
            },
            // Whoever asks is told by `first`, or by what is missing in between.
            Some(Item::Hole(hole)) => tracing::warn!(hole.from_seq, hole.to_seq, "records cannot be read"),
            None => return Ok(read),
        }
    }
    Ok(BATCH)
}

fn unreadable(publisher: &mut Publisher, record: &RawRecord<'_>, error: &wire::WireError) {
    publisher.unreadable();
    tracing::debug!(seq = record.seq, error = %error, "record cannot be understood");
}

/// Learns what is known at `end`: prices, books, names, and the last seq of each topic.
fn catch_up(publisher: &mut Publisher, cursor: &Cursor, dir: &Path, end: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let near = end.saturating_sub(cursor.seq()) <= CATCH_UP_MAX && !cursor.is_new();
    let from = if near { cursor.seq().max(1) } else { end.max(1) };
    let mut reader = Reader::open(Arc::new(Disk), dir, Start::Segment(from)).context("reading the tape")?;
    publisher.engine().restore(reader.checkpoint());
    let known: BTreeMap<String, u64> = rmp_serde::from_slice(cursor.state()).unwrap_or_default();
    let first = reader.seq();
    if !near && !cursor.is_new() {
        publisher.engine().passed_over(first.saturating_sub(1));
    }
    for (topic, seq) in &known {
        // What lies ahead is found by reading it.
        if *seq < first {
            publisher.engine().restore_last(topic, *seq);
        }
    }
    let mut records = 0_u64;
    while reader.seq() <= end {
        match reader.next().context("reading the tape")? {
            Some(Item::Record(record)) if record.seq > end => break,
            Some(Item::Record(record)) => {
                records += 1;
                match wire::decode(record.payload) {
                    Ok(event) => publisher.pass(record.seq, event),
                    Err(error) => unreadable(publisher, &record, &error),
                }
            }
            Some(Item::Hole(_)) => {}
            None => break,
        }
    }
    publisher.pass_waiting();
    tracing::debug!(records, took_ms = began.elapsed().as_millis() as u64, "bus has caught up");
    Ok(())
}

fn commit(publisher: &mut Publisher, cursor: &mut Cursor, reader: &Reader) {
    let mut topics: Vec<(String, u64)> =
        publisher.engine().last_seqs().map(|(topic, seq)| (topic.to_string(), seq)).collect();
    topics.sort_unstable_by_key(|(_, seq)| std::cmp::Reverse(*seq));
    let mut state = Vec::new();
    // The newest topics, where not all of them fit.
    for keep in [topics.len(), 4_096, 256] {
        topics.truncate(keep);
        let known: BTreeMap<&str, u64> = topics.iter().map(|(topic, seq)| (topic.as_str(), *seq)).collect();
        state = rmp_serde::to_vec(&known).unwrap_or_default();
        if state.len() <= MAX_STATE_BYTES {
            break;
        }
    }
    // It only spares reading at the next start.
    if let Err(error) = cursor.commit(reader.seq() - 1, &state) {
        tracing::warn!(error = format!("{error:#}"), "cursor of the bus not written");
    }
}

fn say(publisher: &mut Publisher, reader: &Reader, requests: &Requests) {
    let counts = publisher.look();
    let asked = &requests.counts;
    child::say(&json!({
        "state": "running",
        "seq": reader.seq() - 1,
        "lag": (reader.durable_seq() + 1).saturating_sub(reader.seq()),
        "messages": counts.messages,
        "bytes": counts.bytes,
        "subscribers": counts.subscribers,
        "subscriptions": counts.subscriptions,
        "refused_clients": counts.refused,
        "dropped": counts.dropped,
        "unreadable": counts.unreadable,
        "requests": asked.requests.load(Ordering::Relaxed),
        "requests_refused": asked.refused.load(Ordering::Relaxed),
        "requests_given_up": asked.given_up.load(Ordering::Relaxed),
        "answered": asked.messages.load(Ordering::Relaxed),
    }));
}
