//! What the rest of the program sees of the recorder while it runs, and what it says at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use tapedeck_market::SmolStr;
use tapedeck_tape::{Extent, Tail};
use tokio::sync::watch;

use super::{GapsBySource, LedgerCounts, Pulse};
use crate::status::{Quantiles, RecorderTimes};

/// What the recorder shows of itself, once a second.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub durable_seq: u64,
    /// Events appended by this process.
    pub events: u64,
    /// Bytes appended by this process, framing included.
    pub bytes: u64,
    /// Trades that were on the tape already.
    pub duplicates: u64,
    /// Parts of the tape that could not be read at the start, and disks that failed.
    pub damaged: u64,
    /// Events not recorded, by policy.
    pub shed: u64,
    /// Events a second, over the last second.
    pub rate: f64,
    pub sources: BTreeMap<SmolStr, LedgerCounts>,
    /// Gaps noted by this process.
    pub gaps: GapsBySource,
    /// Receipt to durable, over the last seconds.
    pub latency: Quantiles,
    /// One sync.
    pub sync: Quantiles,
    /// The same since the start.
    pub times: RecorderTimes,
    /// The disk is full: nothing is recorded until there is space.
    pub full: bool,
    pub shedding: bool,
    /// Wall clock against monotonic clock since start.
    pub clock_offset_ns: i64,
    pub clock_steps: u64,
    /// What lies in the folder.
    pub extent: Extent,
    pub disk_free_bytes: u64,
    /// The reader that alone keeps retention from removing more, and the bytes that stay for it.
    pub held: Option<(SmolStr, u64)>,
    /// Names of the readers, and the seq that each is done with.
    pub readers: Vec<(SmolStr, u64)>,
}

/// What the rest of the program sees of the recorder.
#[derive(Clone, Debug)]
pub struct Watches {
    pub view: watch::Receiver<Arc<View>>,
    /// The last durable seq, after each sync.
    pub durable: watch::Receiver<u64>,
    /// Whether the disk is full.
    pub full: watch::Receiver<bool>,
    /// The durable end, for readers in this process.
    pub tape: Arc<Tail>,
    /// Whether its thread still turns.
    pub pulse: Arc<Pulse>,
}

/// What was recorded, said at the end.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub first_seq: u64,
    pub last_seq: u64,
    pub events: u64,
    pub bytes: u64,
    pub duplicates: u64,
    pub gaps_opened: u64,
}
