//! What a running deck says of itself: one structure for `status`, the screen, and the metrics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tapedeck_market::{SmolStr, UnixNanos};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Reader as TapeReader, Start};

use crate::logs::{redact_state, redact_text, redact_value};
use crate::meter::Times;
use crate::recorder::{Restored, View};

/// Makes a fresh status when it is asked. One without a deck says nothing of any.
#[derive(Clone)]
pub struct Overview(Arc<dyn Fn() -> Status + Send + Sync>);

impl Overview {
    #[must_use]
    pub fn new(status: Arc<dyn Fn() -> Status + Send + Sync>) -> Self {
        Overview(status)
    }

    #[must_use]
    pub fn now(&self) -> Status {
        (self.0)()
    }
}

impl Default for Overview {
    fn default() -> Self {
        Overview(Arc::new(Status::default))
    }
}

impl std::fmt::Debug for Overview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overview")
    }
}

/// The answer to `tapedeck status --json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// Whether a deck is running on this tape; without one only `tape`, `readers` and `gaps_open` are filled.
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
    /// The gap ledger of this process, by source and cause.
    #[serde(default)]
    pub gaps: Vec<Gaps>,
    /// Since the recorder's thread took its last turn, of which it takes one a second.
    #[serde(default)]
    pub recorder_silent_ms: u64,
    pub sources: Vec<Source>,
    pub readers: Vec<Reader>,
    /// What reads the tape in this deck.
    #[serde(default)]
    pub services: Vec<Service>,
    pub clock: Clock,
    /// Memory of this process, in bytes.
    pub rss_bytes: u64,
    /// What else this process takes of the machine.
    #[serde(default)]
    pub process: Process,
    /// `started`, in seconds since 1970.
    #[serde(default)]
    pub started_s: f64,
    /// Distributions since the start, for metrics.
    #[serde(skip)]
    pub times: RecorderTimes,
    /// Frames between sources and recorder, and how many there may be.
    pub queue_frames: usize,
    pub queue_limit: usize,
    /// What `tapedeck up` keeps: filled by the verb, a deck does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<crate::up::Entry>,
    /// Its supervisor, if one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<crate::up::Supervisor>,
}

/// A sync that takes this long does not come back: disks time out after as many seconds, or never.
const HUNG: Duration = Duration::from_secs(30);

impl Status {
    /// Takes secrets out of all that others may have written: errors of venues and stores, with the addresses in them.
    pub fn redact(&mut self) {
        let reasons = |reasons: &mut BTreeMap<String, u64>| {
            for (reason, count) in std::mem::take(reasons) {
                *reasons.entry(redact_text(&reason)).or_default() += count;
            }
        };
        for source in &mut self.sources {
            redact_state(&mut source.state);
            reasons(&mut source.reject_reasons);
            reasons(&mut source.notes);
        }
        for service in &mut self.services {
            redact_state(&mut service.state);
            service.detail.values_mut().for_each(redact_value);
        }
    }

    /// For how long the recorder has not turned, when it will not any more.
    #[must_use]
    pub fn hung(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.recorder_silent_ms)).filter(|silent| *silent >= HUNG)
    }
}

/// How long the recorder's work takes.
#[derive(Clone, Debug, Default)]
pub struct RecorderTimes {
    /// Receipt of a frame to durable.
    pub durable: Times,
    /// One sync.
    pub sync: Times,
}

/// How long a sink's work takes.
#[derive(Clone, Debug, Default)]
pub struct SinkTimes {
    /// A request that the store confirmed.
    pub request: Times,
    /// Receipt of a record to its confirmation.
    pub delivered: Times,
}

/// What this process takes of the machine; 0 where the system does not tell.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    /// Of processors, since its start.
    pub cpu_s: f64,
    pub open_fds: u64,
    pub max_fds: u64,
    pub threads: u64,
}

impl Process {
    #[must_use]
    pub fn now() -> Process {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name stands in brackets and may hold anything.
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        // The descriptor that counts them is one of them.
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1));
        Process {
            cpu_s: (number(11) + number(12)) as f64 / ticks as f64,
            threads: number(17),
            open_fds: open as u64,
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0),
        }
    }
}

/// The tape on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tape {
    pub dir: String,
    pub id: String,
    /// `group`, `each` or `os`: what an acknowledgement means. Without a deck as configured, or `unknown`.
    pub mode: String,
    pub first_seq: u64,
    pub last_seq: u64,
    pub durable_seq: u64,
    /// On disk, with the file kept ahead: as `tape info` counts them.
    pub bytes: u64,
    pub segments: usize,
    /// What this rate of recording takes; `None` in the first seconds.
    pub bytes_per_day: Option<u64>,
    pub disk_free_bytes: u64,
    /// Until the disk is full at this rate.
    pub days_left: Option<f64>,
    pub full: bool,
    pub shedding: bool,
    /// Parts of it that could not be read when this process opened it, and disks that failed under it.
    #[serde(default)]
    pub damaged: u64,
    /// The reader that alone keeps `keep` from being kept, because it has not read what should go.
    #[serde(default)]
    pub held_by: Option<String>,
    /// What stays on disk for it.
    #[serde(default)]
    pub held_bytes: u64,
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
    /// Frames that were understood, and are odd all the same: an absurd time, an unknown type.
    #[serde(default)]
    pub notes: BTreeMap<String, u64>,
    pub panics: u64,
    pub restarts: u64,
    pub last_heard_ms_ago: Option<u64>,
    pub subscriptions: usize,
    pub live: usize,
    pub gaps_open: usize,
    /// Round trips of pings, since the start.
    #[serde(skip)]
    pub pings: Times,
}

/// A reader of the tape that runs beside the recorder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// `sink`, or `service` for all others.
    #[serde(default)]
    pub kind: String,
    /// `starting`, `running`, `waiting: …`, `failed: …`, `stopped`.
    pub state: String,
    pub panics: u64,
    pub restarts: u64,
    /// Its own figures.
    pub detail: serde_json::Map<String, serde_json::Value>,
    /// For how long it has said none of them anew.
    #[serde(skip)]
    pub silence: Duration,
    /// Of a sink.
    #[serde(skip)]
    pub times: SinkTimes,
}

/// Gaps of one source and cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    pub source: String,
    pub cause: String,
    /// Opened and closed by this process.
    pub opened: u64,
    pub closed: u64,
    /// Time of those that were closed, one after the other, in seconds.
    pub lost_s: f64,
    /// Events known to be missing, where the venue numbers them.
    pub missing: u64,
    /// Open now, those of an earlier process included.
    pub open: usize,
    /// Since when the oldest of them is open, in seconds.
    pub open_s: Option<f64>,
}

/// The ledger's numbers: what this process noted, and what is open.
#[must_use]
pub fn gaps(view: &View, now: UnixNanos) -> Vec<Gaps> {
    let mut gaps: BTreeMap<(SmolStr, &str), Gaps> = BTreeMap::new();
    for (key, totals) in &view.gaps {
        let of = gaps.entry(key.clone()).or_default();
        (of.opened, of.closed, of.missing) = (totals.opened, totals.closed, totals.missing);
        of.lost_s = totals.lost.as_secs_f64();
    }
    for (source, counts) in &view.sources {
        for (&cause, &(open, since)) in &counts.open_by_cause {
            let of = gaps.entry((source.clone(), cause)).or_default();
            (of.open, of.open_s) = (open, Some(now.saturating_since(since).as_secs_f64()));
        }
    }
    let named =
        |((source, cause), of): ((SmolStr, &str), Gaps)| Gaps { source: source.into(), cause: cause.into(), ..of };
    gaps.into_iter().map(named).collect()
}

/// A reader of the tape.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reader {
    pub name: String,
    /// Where it stands: as its service says while it runs in this deck, else as its cursor does, which is saved every few
    /// seconds.
    pub seq: u64,
    pub lag_records: u64,
}

impl Source {
    /// Whether it waits for a person, such as a login, or for the venue to open: no fault of the feed.
    #[must_use]
    pub fn waits(&self) -> bool {
        // A full disk is said by itself.
        self.state.starts_with("waiting") && self.state != DISK_IS_FULL
    }
}

/// The state of a source while nothing can be recorded.
pub(crate) const DISK_IS_FULL: &str = "waiting: the disk is full";

impl Service {
    /// Where it stands on the tape, and how many records it is behind, in its own words.
    #[must_use]
    pub fn place(&self) -> Option<(u64, u64)> {
        let figure = |key: &str| self.detail.get(key).and_then(serde_json::Value::as_u64);
        // What has failed or begins anew said it in an earlier life.
        let waits = self.kind != "sink" && self.state.starts_with("waiting");
        let speaks = waits || matches!(self.state.as_str(), "running" | "draining");
        Some((figure("seq")?, figure("lag_records").or_else(|| figure("lag"))?)).filter(|_| speaks)
    }
}

/// A cursor is saved every 5 s, and a service says where it stands every second: what this pace brings in so many seconds
/// proves neither to be behind.
const SAID_WITHIN: Duration = Duration::from_secs(10);
/// Nor does this, where the pace of the last second was slow by chance.
const LITTLE_RECORDS: u64 = 10_000;

impl Status {
    /// Records that a reader may seem to be behind only because it was last heard a few seconds ago.
    #[must_use]
    pub fn unsaid_records(&self) -> u64 {
        LITTLE_RECORDS.max((self.rate * SAID_WITHIN.as_secs_f64()) as u64)
    }

    /// Takes over what the services say of themselves as readers: their cursors lie behind what they have done.
    pub fn hear_services(&mut self) {
        let last_seq = self.tape.last_seq;
        for reader in &mut self.readers {
            let service = self.services.iter().find(|service| service.name == reader.name);
            let Some((service, (seq, lag))) = service.and_then(|one| Some((one, one.place()?))) else { continue };
            // What hangs says nothing any more, and what it said last is no longer so.
            let hangs = service.silence > SAID_WITHIN;
            (reader.seq, reader.lag_records) = (seq, if hangs { last_seq.saturating_sub(seq) } else { lag });
        }
    }

    /// What is said of a reader beside its place.
    #[must_use]
    pub fn lag_words(&self, reader: &Reader) -> String {
        let lag = reader.lag_records;
        let speaks = self.services.iter().any(|service| service.name == reader.name && service.place().is_some());
        // Without a deck nobody saves anything any more.
        if speaks || !self.running || lag == 0 || lag > self.unsaid_records() {
            format!("{lag} records behind")
        } else {
            format!("saved {lag} records ago")
        }
    }
}

impl Reader {
    fn at(name: &str, seq: u64, last_seq: u64) -> Self {
        Reader { name: name.to_owned(), seq, lag_records: last_seq.saturating_sub(seq) }
    }
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

impl Status {
    /// What recording at the pace of this process takes of the disk.
    pub fn set_pace(&mut self, bytes: u64, uptime: Duration) {
        // A rate measured over less than this says nothing of a day.
        const SHORTEST: Duration = Duration::from_secs(5);
        if uptime < SHORTEST {
            return;
        }
        let per_day = (bytes as f64 / uptime.as_secs_f64() * 86_400.0) as u64;
        self.tape.bytes_per_day = Some(per_day);
        if per_day > 0 {
            self.tape.days_left = Some(self.tape.disk_free_bytes as f64 / per_day as f64);
        }
    }
}

/// What a running deck knows of its tape. Nothing is read for it: the recorder looks once a second.
#[must_use]
pub fn of_view(dir: &Path, view: &View, durable_seq: u64) -> Status {
    let tape = Tape {
        dir: dir.display().to_string(),
        first_seq: view.extent.first_seq,
        last_seq: durable_seq,
        durable_seq,
        bytes: view.extent.bytes,
        segments: view.extent.segments,
        disk_free_bytes: view.disk_free_bytes,
        full: view.full,
        shedding: view.shedding,
        damaged: view.damaged,
        held_by: view.held.as_ref().map(|(reader, _)| reader.to_string()),
        held_bytes: view.held.as_ref().map_or(0, |(_, bytes)| *bytes),
        ..Tape::default()
    };
    let readers = view.readers.iter().map(|(name, seq)| Reader::at(name, *seq, durable_seq)).collect();
    Status { tape, readers, ..Status::default() }
}

/// What can be told of a tape from its folder, with or without a deck. It costs the same however many segments there are.
#[must_use]
pub fn of_tape(dir: &Path) -> Status {
    of_tape_on(&(Arc::new(Disk) as Arc<dyn Storage>), dir)
}

fn of_tape_on(storage: &Arc<dyn Storage>, dir: &Path) -> Status {
    let mut status = Status { tape: Tape { dir: dir.display().to_string(), ..Tape::default() }, ..Status::default() };
    (status.tape.segments, status.tape.bytes) = segments(&**storage, dir);
    if let Ok(reader) = TapeReader::open(Arc::clone(storage), dir, Start::Begin) {
        let (first_seq, last_seq) = (reader.seq(), reader.durable_seq());
        (status.tape.last_seq, status.tape.durable_seq) = (last_seq, last_seq);
        if first_seq <= last_seq {
            status.tape.first_seq = first_seq;
        }
    }
    status.tape.disk_free_bytes = disk_free_bytes(dir).unwrap_or(0);
    let last_seq = status.tape.last_seq;
    let cursors = tapedeck_tape::cursors::list(&**storage, dir).unwrap_or_default();
    status.readers = cursors.into_iter().map(|cursor| Reader::at(&cursor.name, cursor.seq, last_seq)).collect();
    status
}

/// Free space where a folder lies, for this user; `None`: it cannot be told.
#[must_use]
pub fn disk_free_bytes(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What can be told of a tape on which nobody records: the last segment is read for it.
#[must_use]
pub fn at_rest(dir: &Path) -> Status {
    let mut status = of_tape(dir);
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    if let Ok(id) = tapedeck_tape::tools::id(&storage, dir) {
        status.tape.id = id.to_string();
    }
    if let Ok(restored) = Restored::of_tape(dir) {
        status.gaps_open = restored.gaps_open();
    }
    status
}

/// Memory of this process that is in RAM; 0 where the system does not tell.
#[must_use]
pub fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Number of the tape's segments, and size of all its files: theirs, and those kept ahead.
fn segments(storage: &dyn Storage, dir: &Path) -> (usize, u64) {
    let files = storage.sizes(dir).unwrap_or_default();
    files.into_iter().fold((0, 0), |(count, bytes), (name, len)| {
        let segment = name.ends_with(".seg") || name.ends_with(".zst");
        let ahead = name == "ahead" || name.starts_with("ahead-");
        if segment || ahead { (count + usize::from(segment), bytes + len) } else { (count, bytes) }
    })
}

#[cfg(test)]
mod tests {
    use tapedeck_tape::model::Model;
    use tapedeck_tape::{Allocation, Entry, Log, Options};

    use super::*;

    /// The calls of the storage that a status takes on a tape of so many segments, or more.
    fn calls(segments: usize) -> u64 {
        let (model, dir) = (Model::new(1), Path::new("/tape"));
        let storage: Arc<dyn Storage> = Arc::new(model.clone());
        let options = Options { segment_bytes: 16 * 1024, allocation: Allocation::Inline, ..Options::default() };
        let (mut log, _) = Log::open(Arc::clone(&storage), dir, options).unwrap();
        let payload = [7; 15_000];
        for _ in 0..segments {
            log.append(&[Entry { ts_recv: 1, payload: &payload }], &mut Vec::new).unwrap();
            log.commit().unwrap();
        }
        drop(log);
        let before = model.calls();
        let status = of_tape_on(&storage, dir);
        assert!(status.tape.segments >= segments, "{status:?}");
        assert_eq!((status.tape.first_seq, status.tape.last_seq), (1, segments as u64));
        model.calls() - before
    }

    #[test]
    fn a_reader_is_as_far_behind_as_it_says_until_it_says_nothing_any_more() {
        let of = |state: &str, said: u64, lag: &str, last_seq: u64, silence_s: u64| {
            let detail = serde_json::json!({ "seq": said, lag: 3 });
            let detail = detail.as_object().cloned().unwrap_or_default();
            let service = Service {
                name: "bus".into(),
                state: state.into(),
                detail,
                silence: Duration::from_secs(silence_s),
                ..Service::default()
            };
            let mut status = Status {
                running: true,
                rate: 2_000.0,
                tape: Tape { last_seq, ..Tape::default() },
                readers: vec![Reader::at("bus", 100, last_seq)],
                services: vec![service],
                ..Status::default()
            };
            status.hear_services();
            let words = status.lag_words(&status.readers[0]);
            (status.readers[0].seq, status.readers[0].lag_records, words)
        };
        let behind = |lag: u64| format!("{lag} records behind");
        for figure in ["lag", "lag_records"] {
            assert_eq!(of("running", 5_000, figure, 6_000, 1), (5_000, 3, behind(3)), "it said so a second ago");
            assert_eq!(of("running", 5_000, figure, 5_030, 11), (5_000, 30, behind(30)), "it hangs");
        }
        assert_eq!(of("running", 5_000, "other", 6_000, 1), (100, 5_900, "saved 5900 records ago".to_owned()));
        assert_eq!(of("failed: x", 5_000, "lag", 30_000, 1), (100, 29_900, behind(29_900)), "it says nothing");
    }

    #[test]
    fn only_what_waits_for_a_person_or_the_venue_waits() {
        let of = |state: &str| Source { state: state.into(), ..Source::default() }.waits();
        assert!(of("waiting: no credentials: set X") && of("waiting: new login needed"));
        assert!(!of("live") && !of("lost: waiting") && !of("connecting") && !of(DISK_IS_FULL));
    }

    #[test]
    fn a_status_costs_the_same_on_a_tape_of_two_thousand_segments() {
        let few = calls(20);
        assert_eq!(calls(2_000), few);
        assert!(few < 40, "{few} calls");
    }
}
