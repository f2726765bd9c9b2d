//! The kill test: SIGKILL the deck at random moments under load, start it again, and look for what is missing.
//!
//! The venue is the fake of `crates/testkit`, in this process, so that it survives its clients; its
//! log of what it handed to sockets is the oracle, and [`judge`] has the rule. A reader follows the
//! tape all the while, as another process would.
//!
//! `TAPEDECK_KILL_CYCLES` says how often (`make torture N=2000`), `TAPEDECK_KILL_SEED` repeats a run.

mod control;
mod judge;
mod ledger;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use judge::{Judge, hash_of};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Error, Item, Reader, Start};
use tapedeck_testkit::kraken::Fault;
use tapedeck_testkit::{FakeKraken, Handle};

const PAIRS: [&str; 3] = ["BTC/USD", "ETH/USD", "ETH/BTC"];
const CHANNELS: usize = 3;
/// Messages a second: some hundred are always on their way when the kill comes.
const RATE: u32 = 3_000;
/// The kill comes so long after the start, at most: it falls into start, recovery, handshake,
/// subscribing and steady recording alike. On a machine so loaded that the first start took longer, it may come later.
const LATEST_KILL: Duration = Duration::from_millis(1_200);
const LATEST_KILL_UNDER_LOAD: Duration = Duration::from_secs(4);
/// Long enough for a loaded machine: it is only waited out by a failing test.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn whatever_was_sent_is_on_the_tape_once_and_in_order_or_in_a_gap_however_the_deck_is_killed() {
    let ci = std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some();
    let cycles = number("TAPEDECK_KILL_CYCLES").unwrap_or(if ci { 200 } else { 20 });
    let seed = seed();
    eprintln!("kill test: {cycles} cycles");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fake = runtime.block_on(FakeKraken::builder().pairs(PAIRS).seed(seed).rate(RATE).start()).unwrap();
    let mut bench = Bench::new(fake);
    let mut dice = Dice(seed);

    // The first process lives until everything subscribed stands on the tape: before that nothing is promised.
    let deck = bench.start();
    let took = bench.wait_until_all_has_begun();
    let latest_kill = LATEST_KILL.max(took * 2).min(LATEST_KILL_UNDER_LOAD);
    bench.kill(deck).unwrap_or_else(|error| panic!("seed {seed}, first kill: {error}"));

    let begun = Instant::now();
    for cycle in 1..=cycles {
        let deck = bench.start();
        let wait = latest_kill.mul_f64(dice.fraction());
        let fault = match dice.below(8) {
            0 => Some(Fault::Cut { mid_frame: dice.below(2) == 0 }),
            1 => "corrupt BTC/USD".parse().ok(),
            _ => None,
        };
        let before = wait.mul_f64(dice.fraction());
        std::thread::sleep(before);
        if let Some(fault) = &fault {
            bench.fake.inject(fault.clone());
        }
        std::thread::sleep(wait - before);
        if let Err(error) = bench.kill(deck) {
            let dir = bench.keep();
            panic!(
                "seed {seed}, cycle {cycle}, killed after {wait:?}, {fault:?}: {error}\nthe tape is in {}",
                dir.display()
            );
        }
        if cycle % 50 == 0 {
            eprintln!(
                "{cycle} cycles in {:?}: {:?}, seq {}",
                begun.elapsed(),
                bench.judge.found,
                bench.judge.next_seq()
            );
        }
    }

    // Stopped in order, the last process leaves nothing to excuse but what came after it: every gap is closed.
    let deck = bench.start();
    let ended = bench
        .wait_until_all_is_whole()
        .and_then(|()| bench.stop(deck))
        .and_then(|()| bench.judge.all_closed())
        .and_then(|()| bench.read_again());
    let found = bench.judge.found;
    ended.unwrap_or_else(|error| panic!("seed {seed}, after the last cycle: {error}"));
    eprintln!("{cycles} kills in {:?}: {found:?}", begun.elapsed());
    assert!(found.items > cycles * 50, "too little was recorded to prove anything: {found:?}");
    assert!(found.in_gaps < found.items / 4, "gaps excuse more than what was on its way: {found:?}");
    assert!(found.gaps >= cycles, "each kill leaves a gap: {found:?}");
}

/// A venue, a folder for the tape, and what is known of both.
struct Bench {
    fake: Handle,
    folder: tempfile::TempDir,
    config: PathBuf,
    judge: Judge,
}

/// A running deck, and the reader that follows its tape.
struct Deck {
    process: Child,
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Vec<(u64, u64)>>,
}

impl Bench {
    fn new(fake: Handle) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("tapedeck.toml");
        // Small segments, so that kills fall into their change too.
        let text = format!(
            "[tape]\ndir = {:?}\nsegment = \"1 MiB\"\n\n[http]\nlisten = \"off\"\n\n\
             [source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = {PAIRS:?}\n\
             channels = [\"ticker\", \"trade\", \"book\"]\nbook_depth = 10\n",
            folder.path().join("tape"),
            fake.ws_url(),
            fake.rest_url(),
        );
        std::fs::write(&config, text).unwrap();
        Bench { fake, folder, config, judge: Judge::default() }
    }

    fn tape(&self) -> PathBuf {
        self.folder.path().join("tape")
    }

    fn start(&self) -> Deck {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("deck.log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_tapedeck"))
            .args(["run", "--plain", "-c"])
            .arg(&self.config)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (dir, from, until) = (self.tape(), self.judge.next_seq(), Arc::clone(&stop));
        let reader = std::thread::spawn(move || follow(&dir, from, &until));
        Deck { process, stop, reader }
    }

    /// Ends a deck with SIGKILL and judges what it left.
    fn kill(&mut self, mut deck: Deck) -> Result<(), String> {
        if let Some(status) = deck.process.try_wait().unwrap() {
            return Err(format!("the deck ended by itself: {status}\n{}", self.deck_log()));
        }
        deck.process.kill().unwrap();
        deck.process.wait().unwrap();
        self.judge(deck)
    }

    /// Ends a deck with SIGTERM and judges what it left.
    fn stop(&mut self, mut deck: Deck) -> Result<(), String> {
        let pid = rustix::process::Pid::from_child(&deck.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = deck.process.wait().unwrap();
        if !status.success() {
            return Err(format!("a deck that was asked to stop ended with {status}\n{}", self.deck_log()));
        }
        self.judge(deck)
    }

    fn judge(&mut self, deck: Deck) -> Result<(), String> {
        deck.stop.store(true, Ordering::Relaxed);
        for (seq, hash) in deck.reader.join().unwrap() {
            self.judge.witness(seq, hash);
        }
        self.catch_up()?;
        self.judge.end_of_tape()
    }

    /// Judges what has come to stand on the tape.
    fn catch_up(&mut self) -> Result<(), String> {
        let mut reader = Reader::open(Arc::new(Disk), &self.tape(), Start::Seq(self.judge.next_seq()))
            .map_err(|error| error.to_string())?;
        let mut records = Vec::new();
        while let Some(item) = reader.next().map_err(|error| error.to_string())? {
            match item {
                Item::Record(record) => records.push((record.seq, record.payload.to_vec())),
                Item::Hole(hole) => return Err(format!("{hole:?}")),
            }
        }
        // The log is entered before the bytes go out, and taken after the tape was read: what the deck can have is here.
        for entry in self.fake.log().take() {
            self.judge.told_by(&entry);
        }
        records.into_iter().try_for_each(|(seq, payload)| self.judge.record(seq, &payload))
    }

    /// Until each subscription has its gaps closed and a record behind them, twice in a row: a fault that was
    /// injected while nobody listened strikes late.
    fn wait_until_all_is_whole(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let mut whole = 0;
        while whole < 2 {
            self.catch_up()?;
            whole = if self.judge.all_flow() { whole + 1 } else { 0 };
            if begun.elapsed() > PATIENCE {
                return self.judge.all_closed().and(Err("a subscription does not come back".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Reads the whole tape once more: no crash has changed what was there before it.
    fn read_again(&self) -> Result<(), String> {
        let mut reader = Reader::open(Arc::new(Disk), &self.tape(), Start::Begin).map_err(|error| error.to_string())?;
        while let Some(item) = reader.next().map_err(|error| error.to_string())? {
            match item {
                Item::Record(record) => self.judge.is_unchanged(record.seq, record.payload)?,
                Item::Hole(hole) => return Err(format!("{hole:?}")),
            }
        }
        Ok(())
    }

    /// Until a record of each subscription is durable; says how long that took.
    fn wait_until_all_has_begun(&self) -> Duration {
        let begun = Instant::now();
        loop {
            let mut judge = Judge::default();
            for entry in self.fake.log().entries() {
                judge.told_by(&entry);
            }
            if let Ok(mut reader) = Reader::open(Arc::new(Disk), &self.tape(), Start::Begin) {
                while let Ok(Some(Item::Record(record))) = reader.next() {
                    // Of interest is only that it stands there: the venue went on since its log was read.
                    let _ = judge.record(record.seq, record.payload);
                }
            }
            if judge.begun() == PAIRS.len() * CHANNELS {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "{} subscriptions began\n{}", judge.begun(), self.deck_log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn deck_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("deck.log")).unwrap_or_default()
    }

    /// Leaves the folder where it is, for whoever looks for the fault.
    fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// Reads a tape as it grows, from another process's view: seqs and hashes of what it is shown.
fn follow(dir: &Path, from: u64, stop: &AtomicBool) -> Vec<(u64, u64)> {
    let mut seen = Vec::new();
    let mut reader = None;
    while !stop.load(Ordering::Relaxed) {
        let reader = match &mut reader {
            Some(reader) => reader,
            None => match Reader::open(Arc::new(Disk), dir, Start::Seq(from)) {
                Ok(opened) => reader.insert(opened),
                Err(Error::NoTape { .. }) => {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                Err(error) => panic!("{error}"),
            },
        };
        match reader.next().unwrap() {
            Some(Item::Record(record)) => seen.push((record.seq, hash_of(record.payload))),
            Some(Item::Hole(hole)) => panic!("a reader met {hole:?}"),
            None => {
                reader.wait(Duration::from_millis(20)).unwrap();
            }
        }
    }
    seen
}

pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Of a run that kills: as said, else another each time; it is printed, so that a run can be repeated.
pub(crate) fn seed() -> u64 {
    let seed = number("TAPEDECK_KILL_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_nanos()))
    });
    eprintln!("TAPEDECK_KILL_SEED={seed}");
    seed
}

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// In 0..1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }
}
