//! A deck as a child process, and what tests ask of it.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tapedeck::bus::registry::SERVICES;
use tapedeck::status::Status;
use tapedeck_market::{Body, Gap, GapCause, GapState, Record, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Reader, Start};

pub(crate) use crate::skipped::skipped;

/// What a state is waited for, at most: long, because machines of tests are slow and shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn tapedeck() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapedeck"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// A running `tapedeck run`; it is killed when it is dropped.
pub(crate) struct Deck {
    child: Child,
    pub(crate) dir: PathBuf,
    pub(crate) config: PathBuf,
}

impl Deck {
    /// Writes the config and starts a deck on `home/tape`.
    pub(crate) fn start(home: &Path, config: &str) -> Deck {
        let path = home.join("tapedeck.toml");
        let dir = home.join("tape");
        std::fs::write(&path, config_with_dir(config, &dir)).unwrap();
        Deck::run(&path, &dir, &[])
    }

    pub(crate) fn run(config: &Path, dir: &Path, args: &[&str]) -> Deck {
        let mut command = tapedeck();
        command.args(["run", "--plain", "-c"]).arg(config).args(args);
        Deck::of(command, config, dir)
    }

    /// Starts a command that runs a deck.
    pub(crate) fn of(mut command: Command, config: &Path, dir: &Path) -> Deck {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.with_extension("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        Deck { child, dir: dir.to_owned(), config: config.to_owned() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; exit status and standard output.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = until("the deck to end", || self.child.try_wait().unwrap());
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (status, out)
    }

    /// SIGTERM, and the end in order.
    pub(crate) fn stop(self) -> String {
        self.signal(Signal::TERM);
        let dir = self.dir.clone();
        let (status, out) = self.wait();
        assert!(status.success(), "{status}: {out}\n{}", log_of(&dir));
        out
    }

    /// `tapedeck status --json` of it.
    pub(crate) fn status(&self) -> Status {
        let dir = format!("tape.dir={:?}", self.dir.to_str().unwrap());
        let home = self.config.parent().unwrap();
        // Not by the config: a test may have broken it on purpose.
        let out =
            tapedeck().args(["status", "--json", "--set", &dir, "-c", "/dev/null"]).current_dir(home).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    /// Waits until the status is as wanted.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "no {what}: {status:#?}\n{}", log_of(&self.dir));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the gaps of that cause are on the tape and all closed; at least `count` of them.
    pub(crate) fn until_closed(&self, cause: GapCause, count: usize) -> Vec<(String, Gap)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let of_cause: Vec<_> =
                gaps(&records(&self.dir)).into_iter().filter(|(_, gap)| gap.cause == cause).collect();
            let of = |state| of_cause.iter().filter(|(_, gap)| gap.state == state).count();
            if of(GapState::Open) >= count && of(GapState::Open) == of(GapState::Closed) {
                return of_cause;
            }
            let waited = Instant::now() >= deadline;
            assert!(!waited, "not {count} closed gaps: {of_cause:#?}\n{:#?}\n{}", self.status(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn log(&self) -> String {
        log_of(&self.dir)
    }
}

impl Drop for Deck {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The config with `[tape] dir` set, http off unless it says otherwise.
fn config_with_dir(config: &str, dir: &Path) -> String {
    let http = if config.contains("[http]") { "" } else { "[http]\nlisten = \"off\"\n" };
    let tape = if config.contains("[tape]") { "" } else { "[tape]\n" };
    let dir = format!("dir = {:?}\n", dir.to_str().unwrap());
    match config.split_once("[tape]\n") {
        Some((before, after)) => format!("{before}[tape]\n{dir}{after}\n{http}"),
        None => format!("{tape}{dir}{http}{config}"),
    }
}

fn log_of(dir: &Path) -> String {
    std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default()
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As [`until`], for tests that share their thread with what they wait for.
pub(crate) async fn until_async(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every record of a tape; a hole fails the test.
pub(crate) fn records(dir: &Path) -> Vec<Record> {
    let mut reader = Reader::open(Arc::new(Disk), dir, Start::Begin).unwrap();
    let mut records: Vec<Record> = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Record(record) => {
                assert_eq!(record.seq, records.len() as u64 + 1, "seqs are dense");
                records.push(Record { seq: record.seq, event: wire::decode(record.payload).unwrap() });
            }
            Item::Hole(hole) => panic!("{hole:?}"),
        }
    }
    records
}

/// The gap records of a tape, as (symbol, gap), in order.
pub(crate) fn gaps(records: &[Record]) -> Vec<(String, Gap)> {
    let gap = |record: &Record| match &record.event.body {
        Body::Gap(gap) => Some((record.event.symbol.to_string(), (**gap).clone())),
        _ => None,
    };
    records.iter().filter_map(gap).collect()
}

/// A Python with what `tests/python/requirements.txt` names. `None` where it cannot be had, and the test is named as skipped.
#[track_caller]
pub(crate) fn python() -> Option<PathBuf> {
    static PYTHON: std::sync::OnceLock<Result<PathBuf, String>> = std::sync::OnceLock::new();
    let find = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/venv");
        let out = Command::new(script).output().map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() { Ok(PathBuf::from(said(&out.stdout))) } else { Err(said(&out.stderr)) }
    };
    match PYTHON.get_or_init(find) {
        Ok(path) => Some(path.clone()),
        Err(why) => {
            skipped(&format!("no Python for the tests: {why}"));
            None
        }
    }
}

/// A port that nobody has. Below those that the system takes for outgoing connections, so that what is killed finds its
/// own port free when it starts again; and another one with each call.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let seed = u16::try_from(std::process::id() % 3_900).unwrap();
    loop {
        let port = 11_000 + (seed + NEXT.fetch_add(1, Ordering::Relaxed)) % 3_900;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The address of such a port.
pub(crate) fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Ports of the register, moved to where nobody else is: below those that the system hands out by itself.
pub(crate) fn free_offset() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let seed = u16::try_from(std::process::id() % 100).unwrap();
    loop {
        let offset = 1_000 + (seed + NEXT.fetch_add(1, Ordering::Relaxed)) % 110 * 40;
        if SERVICES.iter().all(|service| TcpListener::bind(("127.0.0.1", service.port + offset)).is_ok()) {
            return offset;
        }
    }
}
