//! Every family of metrics there is: its name, kind, labels, unit and meaning, and when it has samples.

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// When a family has samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// A few seconds after the start, once there is a rate.
    Paced,
    Source,
    /// Something came from a source.
    Heard,
    /// A frame could not be understood.
    Rejected,
    /// A frame was odd.
    Odd,
    /// A ping was answered: by venues whose protocol has one.
    Pinged,
    /// A gap is known.
    Gap,
    Reader,
    Service,
    /// A service says figures of itself.
    Figures,
    Sink,
    /// A store confirmed something.
    Delivered,
    /// `tapedeck up` keeps processes on this tape.
    Up,
    /// There are `[alert.NAME]` tables.
    Alerts,
    /// The deck follows tables of a `[sync]`.
    Sync,
}

impl When {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            When::Always => "always",
            When::Paced => "5 s after the start",
            When::Source => "with a source",
            When::Heard => "once a source received something",
            When::Rejected => "once a frame was rejected",
            When::Odd => "once a frame was odd",
            When::Pinged => "once a ping was answered",
            When::Gap => "once there was a gap",
            When::Reader => "with a reader of the tape",
            When::Service => "with a service or sink",
            When::Figures => "with a service or sink that says figures",
            When::Sink => "with a sink",
            When::Delivered => "once a store confirmed something",
            When::Up => "under `tapedeck up`",
            When::Alerts => "with an `[alert.NAME]`",
            When::Sync => "with a `[sync]`",
        }
    }
}

/// One family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Without prefix, unit and `_total`.
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Option<&'static str>,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub when: When,
}

impl Family {
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Family {
        Family { name, kind, unit: None, labels: &[], help, when: When::Always }
    }

    const fn seconds(mut self) -> Family {
        self.unit = Some("seconds");
        self
    }

    const fn bytes(mut self) -> Family {
        self.unit = Some("bytes");
        self
    }

    const fn of(mut self, labels: &'static [&'static str], when: When) -> Family {
        self.labels = labels;
        self.when = when;
        self
    }

    /// As a query spells it; a histogram has `_bucket`, `_sum` and `_count` behind it.
    #[must_use]
    pub fn full_name(&self) -> String {
        let unit = self.unit.map_or_else(String::new, |unit| format!("_{unit}"));
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("tapedeck_{}{unit}{total}", self.name)
    }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::new(name, Kind::Counter, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::new(name, Kind::Gauge, help)
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family::new(name, Kind::Histogram, help).seconds()
}

const SOURCE: &[&str] = &["source", "venue"];

pub(super) const INFO: Family = gauge("info", "1, with the version, and what an acknowledgement of the tape means")
    .of(&["mode", "version"], When::Always);
pub(super) const UPTIME: Family = gauge("uptime", "Since this process began to record").seconds();
pub(super) const START_TIME: Family = gauge("start_time", "When that was, since 1970").seconds();
pub(super) const EVENTS: Family = counter("events", "Events appended by this process");
pub(super) const DUPLICATES: Family = counter("duplicates", "Trades that were on the tape already");
pub(super) const SHED: Family =
    counter("shed_events", "Events left out because disk space was short, or because no record holds them");
pub(super) const RECEIVE_TO_DURABLE: Family =
    histogram("receive_to_durable", "From the receipt of a frame until it is durable on the tape");
pub(super) const QUEUE_FRAMES: Family = gauge("queue_frames", "Frames that wait between sources and recorder");
pub(super) const QUEUE_LIMIT: Family = gauge("queue_limit_frames", "How many may: then sources wait");
pub(super) const RECORDER_SILENCE: Family =
    gauge("recorder_silence", "Since the recorder's last turn, of which it takes one a second").seconds();

pub(super) const TAPE_LAST_SEQ: Family = gauge("tape_last_seq", "Highest seq on the tape");
pub(super) const TAPE_DURABLE_SEQ: Family = gauge("tape_durable_seq", "Highest durable seq");
pub(super) const TAPE_BYTES: Family = gauge("tape", "Size of the tape on disk").bytes();
pub(super) const TAPE_HELD: Family =
    gauge("tape_held", "What stays on disk beyond `keep` because one reader has not read it").bytes();
pub(super) const TAPE_SEGMENTS: Family = gauge("tape_segments", "Files of the tape");
pub(super) const TAPE_SYNC: Family = histogram("tape_sync", "One sync of the tape, as fdatasync takes it");
pub(super) const TAPE_DAMAGED: Family = counter(
    "tape_damaged",
    "Parts of the tape that could not be read when it was opened, and disks that failed under it",
);
pub(super) const DISK_FREE: Family = gauge("disk_free", "Free space where the tape lies").bytes();
pub(super) const DISK_FULL: Family = gauge("disk_full", "1 while nothing can be recorded");
pub(super) const DISK_DAYS_LEFT: Family =
    gauge("disk_days_left", "Days until the disk is full at this rate").of(&[], When::Paced);
pub(super) const SHEDDING: Family = gauge("shedding", "1 while depth is left out for lack of space");
pub(super) const CLOCK_OFFSET: Family = gauge("clock_offset", "Wall clock minus monotonic clock since start").seconds();
pub(super) const CLOCK_STEPS: Family = counter("clock_steps", "Steps of the wall clock");

pub(super) const MEMORY: Family = gauge("resident_memory", "Memory of this process that is in RAM").bytes();
pub(super) const CPU: Family = counter("cpu", "Processor time of this process, of user and system").seconds();
pub(super) const OPEN_FDS: Family = gauge("open_fds", "Descriptors that this process has open");
pub(super) const MAX_FDS: Family = gauge("max_fds", "How many it may have");
pub(super) const THREADS: Family = gauge("threads", "Threads of this process");

pub(super) const SOURCE_UP: Family =
    gauge("source_up", "1 while it is connected and delivers").of(SOURCE, When::Source);
pub(super) const SOURCE_WAITING: Family =
    gauge("source_waiting", "1 while it waits for a person, such as a login, or for the venue to open")
        .of(SOURCE, When::Source);
pub(super) const SOURCE_FRAMES: Family = counter("source_frames", "Frames received").of(SOURCE, When::Source);
pub(super) const SOURCE_BYTES: Family = counter("source", "Bytes received").bytes().of(SOURCE, When::Source);
pub(super) const SOURCE_EVENTS: Family = counter("source_events", "Events emitted").of(SOURCE, When::Source);
pub(super) const SOURCE_SESSIONS: Family = counter("source_sessions", "Sessions begun").of(SOURCE, When::Source);
pub(super) const SOURCE_RECONNECTS: Family =
    counter("source_reconnects", "Sessions begun after the first").of(SOURCE, When::Source);
pub(super) const SOURCE_RESTARTS: Family =
    counter("source_restarts", "How often a session that ended was followed by another").of(SOURCE, When::Source);
pub(super) const SOURCE_PANICS: Family = counter("source_panics", "Panics survived").of(SOURCE, When::Source);
pub(super) const SOURCE_REJECTS: Family = counter("source_rejects", "Frames that could not be understood, by reason")
    .of(&["source", "reason"], When::Rejected);
pub(super) const SOURCE_ODD: Family =
    counter("source_odd_frames", "Frames that were understood and are odd, by reason")
        .of(&["source", "reason"], When::Odd);
pub(super) const SOURCE_LIVE: Family = gauge("source_live", "Subscriptions that deliver").of(SOURCE, When::Source);
pub(super) const SOURCE_SUBSCRIPTIONS: Family =
    gauge("source_subscriptions", "Subscriptions known").of(SOURCE, When::Source);
pub(super) const SOURCE_GAPS_OPEN: Family = gauge("source_gaps_open", "Open gaps").of(SOURCE, When::Source);
pub(super) const SOURCE_SILENCE: Family =
    gauge("source_silence", "Since the last bytes").seconds().of(SOURCE, When::Heard);
pub(super) const SOURCE_PING: Family =
    histogram("source_ping", "From a ping to the venue until its answer").of(SOURCE, When::Pinged);

pub(super) const GAPS_OPEN: Family = gauge("gaps_open", "Open gaps in the ledger");
pub(super) const GAPS: Family = counter("gaps", "Gaps opened by this process").of(&["source", "cause"], When::Gap);
pub(super) const GAP_MISSING: Family =
    counter("gap_missing_events", "Events known to be missing, where the venue numbers them")
        .of(&["source", "cause"], When::Gap);
pub(super) const GAP_LOST: Family =
    counter("gap_lost", "Time of closed gaps, one after the other").seconds().of(&["source", "cause"], When::Gap);
pub(super) const GAP_OPEN: Family = gauge("gap_open", "Gaps that are open").of(&["source", "cause"], When::Gap);
pub(super) const GAP_OPEN_AGE: Family = gauge("gap_open_age", "Since the oldest open gap began; 0 without one")
    .seconds()
    .of(&["source", "cause"], When::Gap);

pub(super) const READER_LAG: Family =
    gauge("reader_lag_records", "Records that a reader is behind, as it says; by its cursor where it says nothing")
        .of(&["reader"], When::Reader);
pub(super) const SINK_UP: Family = gauge("sink_up", "1 while its store takes what is sent").of(&["sink"], When::Sink);
pub(super) const SINK_LAG_RECORDS: Family =
    gauge("sink_lag_records", "Records of the tape that the store has not confirmed").of(&["sink"], When::Sink);
pub(super) const SINK_LAG_BYTES: Family = gauge("sink_lag", "About what they take").bytes().of(&["sink"], When::Sink);
pub(super) const SINK_LAG_SECONDS: Family =
    gauge("sink_lag", "Since the time up to which the store has everything; 0 when it has")
        .seconds()
        .of(&["sink"], When::Sink);
pub(super) const SINK_BACKLOG: Family =
    gauge("sink_backlog_records", "Records of them that what is new overtakes").of(&["sink"], When::Sink);
pub(super) const SINK_BATCH: Family =
    gauge("sink_batch_limit", "Records a request, at most, after what the store has taken").of(&["sink"], When::Sink);
pub(super) const SINK_DELIVERED: Family =
    counter("sink_delivered_records", "Records that the store has confirmed").of(&["sink"], When::Sink);
pub(super) const SINK_REQUESTS: Family =
    counter("sink_requests", "Requests, those that failed included").of(&["sink"], When::Sink);
pub(super) const SINK_FAILURES: Family =
    counter("sink_failures", "Requests and connections that failed").of(&["sink"], When::Sink);
pub(super) const SINK_REJECTS: Family =
    counter("sink_rejects", "Records that the store refused").of(&["sink"], When::Sink);
pub(super) const SINK_DEAD_LETTERS: Family =
    gauge("sink_dead_letters", "Refused records that nobody has dealt with").of(&["sink"], When::Sink);
pub(super) const SINK_LETTERS_LOST: Family = counter(
    "sink_dead_letters_lost",
    "Refused records that nobody had dealt with when they had to make room for others",
)
.of(&["sink"], When::Sink);
pub(super) const SINK_EXPIRED: Family =
    counter("sink_expired_records", "Records that were not delivered because the store keeps none that old")
        .of(&["sink"], When::Sink);
pub(super) const SINK_LOST: Family =
    counter("sink_lost_records", "Records that were gone from the tape before they were delivered")
        .of(&["sink"], When::Sink);
pub(super) const SINK_REWINDS: Family =
    counter("sink_rewinds", "How often something was delivered again because the store had lost it")
        .of(&["sink"], When::Sink);
pub(super) const SINK_REQUEST: Family =
    histogram("sink_request", "A request, from its start until the store has confirmed it")
        .of(&["sink"], When::Delivered);
pub(super) const RECEIVE_TO_DELIVERED: Family =
    histogram("receive_to_delivered", "From the receipt of a record until its store has confirmed it")
        .of(&["sink"], When::Delivered);

pub(super) const SERVICE_RUNNING: Family =
    gauge("service_running", "1 while the service does its work").of(&["service"], When::Service);
pub(super) const SERVICE_FAILED: Family =
    gauge("service_failed", "1 while it has failed and is not running again").of(&["service"], When::Service);
pub(super) const SERVICE_RESTARTS: Family =
    counter("service_restarts", "How often it was started anew").of(&["service"], When::Service);
pub(super) const SERVICE_PANICS: Family = counter("service_panics", "Panics survived").of(&["service"], When::Service);
pub(super) const SERVICE_FIGURE: Family =
    gauge("service_figure", "What a service says of itself, by the name it has in `tapedeck status --json`")
        .of(&["service", "figure"], When::Figures);
pub(super) const ALERT_FIRING: Family =
    gauge("alert_firing", "For how many sources, sinks or services an alert fires").of(&["alert"], When::Alerts);
pub(super) const ALERTS_SENT: Family =
    counter("alerts_sent", "Messages that a webhook or a command took").of(&[], When::Alerts);
pub(super) const ALERTS_LOST: Family =
    counter("alerts_lost", "Messages that none took, after all tries").of(&[], When::Alerts);
pub(super) const SYNC_RECORDS: Family = gauge(
    "sync_records",
    "Rows of a table by what they are at the target: `synced`, `failed` (refused), `gone` (at the source)",
)
.of(&["table", "state"], When::Sync);
pub(super) const SYNC_SENT: Family = counter("sync_sent", "Documents written").of(&["table"], When::Sync);
pub(super) const SYNC_LAG: Family =
    gauge("sync_lag", "Since a look at the table last ended well; never, where it is absent")
        .seconds()
        .of(&["table"], When::Sync);
pub(super) const SYNC_RATE: Family =
    gauge("sync_rate", "Rows brought over in a second of work, so far").of(&["table"], When::Sync);
pub(super) const SYNC_SUCCESS: Family =
    gauge("sync_success_ratio", "Share of its rows that are at the target; refused ones are not")
        .of(&["table"], When::Sync);
pub(super) const PROCESS_HOPELESS: Family =
    gauge("process_hopeless", "1 when `tapedeck up` has given up starting it").of(&["process"], When::Up);
pub(super) const PROCESS_RESTARTS: Family =
    gauge("process_restarts", "How often `tapedeck up` started it again without being asked")
        .of(&["process"], When::Up);

/// All of them, in the order in which they are told, under the headings of the document.
pub const SECTIONS: &[(&str, &[Family])] = &[
    (
        "The deck",
        &[
            INFO,
            UPTIME,
            START_TIME,
            EVENTS,
            DUPLICATES,
            SHED,
            RECEIVE_TO_DURABLE,
            QUEUE_FRAMES,
            QUEUE_LIMIT,
            RECORDER_SILENCE,
        ],
    ),
    (
        "Tape, disk and clock",
        &[
            TAPE_LAST_SEQ,
            TAPE_DURABLE_SEQ,
            TAPE_BYTES,
            TAPE_HELD,
            TAPE_SEGMENTS,
            TAPE_SYNC,
            TAPE_DAMAGED,
            DISK_FREE,
            DISK_FULL,
            DISK_DAYS_LEFT,
            SHEDDING,
            CLOCK_OFFSET,
            CLOCK_STEPS,
        ],
    ),
    ("The process", &[MEMORY, CPU, OPEN_FDS, MAX_FDS, THREADS]),
    (
        "Sources",
        &[
            SOURCE_UP,
            SOURCE_WAITING,
            SOURCE_FRAMES,
            SOURCE_BYTES,
            SOURCE_EVENTS,
            SOURCE_SESSIONS,
            SOURCE_RECONNECTS,
            SOURCE_RESTARTS,
            SOURCE_PANICS,
            SOURCE_REJECTS,
            SOURCE_ODD,
            SOURCE_LIVE,
            SOURCE_SUBSCRIPTIONS,
            SOURCE_GAPS_OPEN,
            SOURCE_SILENCE,
            SOURCE_PING,
        ],
    ),
    ("The gap ledger", &[GAPS_OPEN, GAPS, GAP_MISSING, GAP_LOST, GAP_OPEN, GAP_OPEN_AGE]),
    (
        "Readers and sinks",
        &[
            READER_LAG,
            SINK_UP,
            SINK_LAG_RECORDS,
            SINK_LAG_BYTES,
            SINK_LAG_SECONDS,
            SINK_BACKLOG,
            SINK_BATCH,
            SINK_DELIVERED,
            SINK_REQUESTS,
            SINK_FAILURES,
            SINK_REJECTS,
            SINK_DEAD_LETTERS,
            SINK_LETTERS_LOST,
            SINK_EXPIRED,
            SINK_LOST,
            SINK_REWINDS,
            SINK_REQUEST,
            RECEIVE_TO_DELIVERED,
        ],
    ),
    (
        "Services and processes",
        &[
            SERVICE_RUNNING,
            SERVICE_FAILED,
            SERVICE_RESTARTS,
            SERVICE_PANICS,
            SERVICE_FIGURE,
            ALERT_FIRING,
            ALERTS_SENT,
            ALERTS_LOST,
            SYNC_RECORDS,
            SYNC_SENT,
            SYNC_LAG,
            SYNC_RATE,
            SYNC_SUCCESS,
            PROCESS_HOPELESS,
            PROCESS_RESTARTS,
        ],
    ),
];
