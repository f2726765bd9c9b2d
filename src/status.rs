//! What a running deck says of itself: one structure for `status`, the screen, and the metrics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The answer to `tapedeck status --json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// Whether a deck is running on this tape; without one only `tape` and `readers` are filled.
    pub running: bool,
    pub pid: u32,
    /// RFC 3339.
    pub started: String,
    pub uptime_s: u64,
    pub tape: Tape,
    /// Events a second over the last second.
    pub rate: f64,
    /// Receipt to durable, over the last seconds.
    pub latency: Quantiles,
    /// One sync.
    pub sync: Quantiles,
    pub events: u64,
    /// Trades that were on the tape already.
    pub duplicates: u64,
    /// Events left out by `on_full = "shed"`.
    pub shed: u64,
    pub gaps_open: usize,
    pub sources: Vec<Source>,
    pub readers: Vec<Reader>,
    pub clock: Clock,
    /// Memory of this process, in bytes.
    pub rss_bytes: u64,
    /// Frames between sources and recorder, and how many there may be.
    pub queue_frames: usize,
    pub queue_limit: usize,
}

/// The tape on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tape {
    pub dir: String,
    pub id: String,
    /// `group`, `each` or `os`: what an acknowledgement means.
    pub mode: String,
    pub first_seq: u64,
    pub last_seq: u64,
    pub durable_seq: u64,
    pub bytes: u64,
    pub segments: usize,
    /// What this rate of recording takes; `None` in the first seconds.
    pub bytes_per_day: Option<u64>,
    pub disk_free_bytes: u64,
    /// Until the disk is full at this rate.
    pub days_left: Option<f64>,
    pub full: bool,
    pub shedding: bool,
}

/// A source, with all its sessions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub venue: String,
    /// `live`, `connecting`, `lost: …`, `waiting: …`, `finished`, `stopped`.
    pub state: String,
    pub sessions: u64,
    pub frames: u64,
    pub bytes: u64,
    pub events: u64,
    pub rejects: u64,
    pub reject_reasons: BTreeMap<String, u64>,
    pub panics: u64,
    pub restarts: u64,
    pub last_heard_ms_ago: Option<u64>,
    pub subscriptions: usize,
    pub live: usize,
    pub gaps_open: usize,
}

/// A cursor on the tape.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reader {
    pub name: String,
    pub seq: u64,
    pub lag_records: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Wall clock minus monotonic clock since start.
    pub offset_ns: i64,
    pub steps: u64,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}
