//! The whole deck as a process: started, stopped, reloaded, starved of disk, cut off from its venue.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tapedeck::config::parse_text;
use tapedeck::control::{self, Request};
use tapedeck::deck::{self, Plan, RunOptions};
use tapedeck::status::Status;
use tapedeck_market::{Body, Gap, GapCause, GapState, TapeEvent, UnixNanos};
use tapedeck_tape::storage::{Disk, Storage, StorageFile};
use tapedeck_testkit::kraken::{FakeKraken, Fault, Handle};

use crate::support::{Deck, free_address, gaps, records, tapedeck, until};

async fn venue() -> Handle {
    FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(300).start().await.unwrap()
}

pub(crate) fn source(venue: &Handle) -> String {
    format!(
        "[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = [\"BTC/USD\", \"ETH/USD\"]\n",
        venue.ws_url(),
        venue.rest_url()
    )
}

/// A deck is a process: what waits for it must not hold up the venue's tasks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_stops_in_order_goes_on_where_it_was_and_leaves_the_pause_in_the_ledger() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let config = source(&venue);
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("every subscription", |status| status.events > 200 && status.sources[0].live == 7);
        let said = deck.stop();
        assert!(said.contains("recorded "), "{said}");
        let first = records(&path.join("tape"));
        let last = first.last().unwrap();
        assert!(matches!(&last.event.body, Body::Tape(note) if note.what == TapeEvent::Stop), "{last:?}");

        let deck = Deck::start(&path, &config);
        deck.until("events again", |status| status.events > 200 && status.sources[0].live == 7);
        deck.signal(Signal::INT);
        assert!(deck.wait().0.success());
        let all = records(&path.join("tape"));
        assert_eq!(all[..first.len()], first[..], "what was there is there");
        let down: Vec<_> = gaps(&all).into_iter().filter(|(_, gap)| gap.cause == GapCause::Down).collect();
        let subscriptions = down.iter().filter(|(_, gap)| gap.state == GapState::Open).count();
        assert!(subscriptions >= 6, "ticker, trade and book of two pairs: {down:#?}");
        assert_eq!(down.iter().filter(|(_, gap)| gap.state == GapState::Closed).count(), subscriptions, "{down:#?}");
        for (_, gap) in &down {
            assert!(gap.from >= last.event.ts_recv - Duration::from_secs(1), "the gap begins with the last record");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_decks_on_one_tape_are_refused_with_a_code_of_their_own() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    // It is the tape that they cannot share, not only the port.
    let config = format!("[http]\nlisten = \"{}\"\n{}", free_address(), source(&venue));
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("events", |status| status.events > 0);
        let second = tapedeck().args(["run", "--plain", "-c"]).arg(&deck.config).output().unwrap();
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(3), "{said}");
        assert!(said.contains(&deck.status().pid.to_string()), "names the holder: {said}");
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_that_cuts_the_line_costs_a_gap_and_the_deck_comes_back() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let config = source(&venue);
    let path = home.path().to_owned();
    let deck = blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("every subscription", |status| status.sources.first().is_some_and(|source| source.live == 7));
        deck
    })
    .await;
    venue.inject("cut".parse::<Fault>().unwrap());
    blocking(move || {
        let closed = deck.until_closed(GapCause::Session, 6);
        assert!(closed.iter().any(|(symbol, gap)| symbol == "BTC/USD" && gap.channel == "book"), "{closed:#?}");
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_takes_over_a_good_config_and_keeps_the_old_one_before_a_bad_one() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let config = source(&venue);
    let path = home.path().to_owned();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("events", |status| status.events > 0 && status.gaps_open == 0);
        let before = deck.status();
        let text = std::fs::read_to_string(&deck.config).unwrap();
        std::fs::write(&deck.config, text.replace("pairs", "pears")).unwrap();
        deck.signal(Signal::HUP);
        until("the refusal", || deck.log().contains("the old one stays").then_some(()));
        assert_eq!(deck.status().sources[0].sessions, before.sources[0].sessions);
        std::fs::write(&deck.config, text.replace("[\"BTC/USD\", \"ETH/USD\"]", "[\"BTC/USD\"]")).unwrap();
        deck.signal(Signal::HUP);
        until("the new config", || deck.log().contains("kraken restarted").then_some(()));
        let status = deck.until("the new session", |status| {
            status.sources.first().is_some_and(|source| source.live > 0 && source.sessions == 1)
        });
        assert_eq!(status.pid, before.pid);
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_closes_the_sources_and_recording_resumes_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(5_000).start().await.unwrap();
    let Some(small) = SmallDisk::mount(&home.path().join("small"), "size=24m") else { return };
    let config = format!("[tape]\nsegment = \"4 MiB\"\n\n[log]\ndir = \"off\"\n\n{}", source(&venue));
    let path = small.0.clone();
    blocking(move || {
        let deck = Deck::start(&path, &config);
        deck.until("every subscription", |status| status.sources.first().is_some_and(|source| source.live == 7));
        // All that is left, but for what is already allocated ahead.
        let filler = path.join("filler");
        fill(&filler);
        deck.until("the full disk", |status| {
            status.tape.full && status.sources[0].state == "waiting: the disk is full"
        });
        let full_at = UnixNanos::now();
        std::fs::remove_file(&filler).unwrap();
        deck.until("every subscription again", |status| {
            !status.tape.full && status.sources[0].live == 7 && status.gaps_open == 0
        });
        let dir = deck.dir.clone();
        deck.stop();
        let all = records(&dir);
        assert!(
            all.iter().any(|record| matches!(&record.event.body, Body::Tape(note) if note.what == TapeEvent::Full))
        );
        // Whatever else may have befallen a subscription of a loaded machine just then: a gap says that it missed something.
        let gaps = gaps(&all);
        for symbol in ["BTC/USD", "ETH/USD"] {
            for channel in ["ticker", "trade", "book"] {
                let of_it = |(of, gap): &&(String, Gap)| of == symbol && gap.channel == channel;
                let covers = |(_, gap): &(String, Gap)| gap.from <= full_at && gap.to.is_some_and(|to| to >= full_at);
                assert!(gaps.iter().filter(of_it).any(covers), "{symbol} {channel} at {full_at}: {gaps:#?}");
            }
        }
        assert!(gaps.iter().any(|(_, gap)| gap.cause == GapCause::Disk), "{gaps:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_at_start_is_waited_for() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let Some(small) = SmallDisk::mount(&home.path().join("small"), "size=16m") else { return };
    let config = format!("[log]\ndir = \"off\"\n\n{}", source(&venue));
    let (path, home) = (small.0.clone(), home.path().to_owned());
    blocking(move || {
        // The tape alone lies on the small disk: config and log must have room.
        std::fs::create_dir(path.join("tape")).unwrap();
        std::os::unix::fs::symlink(path.join("tape"), home.join("tape")).unwrap();
        let filler = path.join("filler");
        fill(&filler);
        let deck = Deck::start(&home, &config);
        until("the word about it", || deck.log().contains("recording begins when there is space").then_some(()));
        std::fs::remove_file(&filler).unwrap();
        deck.until("a live source", |status| status.sources.first().is_some_and(|source| source.live > 0));
        deck.stop();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_drop_oldest_a_full_disk_is_no_reason_to_stop_nor_not_to_start() {
    let home = tempfile::tempdir().unwrap();
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(5_000).start().await.unwrap();
    let Some(small) = SmallDisk::mount(&home.path().join("small"), "size=12m") else { return };
    let config =
        format!("[tape]\nsegment = \"1 MiB\"\non_full = \"drop_oldest\"\n\n[log]\ndir = \"off\"\n\n{}", source(&venue));
    let (path, home) = (small.0.clone(), home.path().to_owned());
    blocking(move || {
        std::fs::create_dir(path.join("tape")).unwrap();
        std::os::unix::fs::symlink(path.join("tape"), home.join("tape")).unwrap();
        let deck = Deck::start(&home, &config);
        let status = deck.until("segments that went", |status| status.tape.first_seq > 1_000);
        assert!(!status.tape.full, "{status:#?}");
        deck.stop();
        for entry in std::fs::read_dir(path.join("tape")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("ahead") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        fill(&path.join("filler"));
        let deck = Deck::start(&home, &config);
        deck.until("a live source", |now| {
            now.tape.first_seq > status.tape.first_seq && now.sources.first().is_some_and(|source| source.live > 0)
        });
        deck.stop();
    })
    .await;
}

/// The real disk with one trouble: it hangs, or one sync of the recorder's thread panics when it is told to.
#[derive(Clone, Debug, Default)]
struct Troubled {
    panics: Arc<AtomicBool>,
    /// It never answers when it is asked what it holds.
    hangs: bool,
}

const HANGS: &str = "the disk hangs";

#[derive(Debug)]
struct TroubledFile(Arc<dyn StorageFile>, Troubled);

impl Troubled {
    /// A deck of that venue on this disk.
    fn plan(&self, dir: &Path, venue: &Handle) -> Plan {
        let text =
            format!("[tape]\ndir = {:?}\n\n[http]\nlisten = \"off\"\n\n{}", dir.to_str().unwrap(), source(venue));
        let mut plan = Plan::unchecked(&parse_text(&text).unwrap(), &[]);
        plan.storage = Arc::new(self.clone());
        plan
    }
    fn wrap(&self, file: io::Result<Arc<dyn StorageFile>>) -> io::Result<Arc<dyn StorageFile>> {
        file.map(|file| Arc::new(TroubledFile(file, self.clone())) as Arc<dyn StorageFile>)
    }
}

impl Storage for Troubled {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.wrap(Disk.open(path, create))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.wrap(Disk.open_read(path))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if self.hangs {
            println!("{HANGS}");
            loop {
                std::thread::park();
            }
        }
        Disk.list(dir)
    }
    fn sizes(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        Disk.sizes(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir_all(dir)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Disk.lock(path)
    }
    fn is_shared(&self) -> bool {
        true
    }
}

impl StorageFile for TroubledFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(buf, at)
    }
    fn sync_data(&self) -> io::Result<()> {
        let recording = std::thread::current().name() == Some("recorder");
        assert!(!(recording && self.1.panics.swap(false, Ordering::SeqCst)), "told to");
        self.0.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_panics_is_begun_anew_and_its_pause_is_in_the_ledger() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let dir = home.path().join("tape");
    let disk = Troubled::default();
    let running = tokio::spawn(deck::run(disk.plan(&dir, &venue), RunOptions::default()));
    let status = || async {
        let answer = control::ask(&dir, &Request::Status).await.ok().flatten();
        answer.and_then(|value| serde_json::from_value::<Status>(value).ok()).unwrap_or_default()
    };
    let live = |status: &Status, not: &str| {
        status.started != not && status.events > 50 && status.sources.first().is_some_and(|source| source.live == 7)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !live(&status().await, "") {
        assert!(Instant::now() < deadline, "{:#?}", status().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first_life = status().await.started;
    disk.panics.store(true, Ordering::SeqCst);
    while !live(&status().await, &first_life) {
        assert!(Instant::now() < deadline, "{:#?}", status().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    control::ask(&dir, &Request::Stop).await.unwrap();
    running.await.unwrap().unwrap();
    let all = records(&dir);
    let openings = all
        .iter()
        .filter(|record| matches!(&record.event.body, Body::Tape(note) if note.what == TapeEvent::Incarnation));
    assert_eq!(openings.count(), 2);
    let down: Vec<_> = gaps(&all).into_iter().filter(|(_, gap)| gap.cause == GapCause::Down).collect();
    let of = |state| down.iter().filter(|(_, gap)| gap.state == state).count();
    assert_eq!((of(GapState::Open), of(GapState::Closed)), (7, 7), "{down:#?}");
}

/// Whether the recorder panics before or behind the wish: the deck ends, and is not begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_not_forgotten_over_a_recorder_that_panics() {
    let (home, venue) = (tempfile::tempdir().unwrap(), venue().await);
    let dir = home.path().join("tape");
    let disk = Troubled::default();
    let running = tokio::spawn(deck::run(disk.plan(&dir, &venue), RunOptions::default()));
    let deadline = Instant::now() + Duration::from_secs(60);
    let live = |status: &Status| status.sources.first().is_some_and(|source| source.live == 7);
    loop {
        let answer = control::ask(&dir, &Request::Status).await.ok().flatten();
        if answer.and_then(|value| serde_json::from_value(value).ok()).is_some_and(|status| live(&status)) {
            break;
        }
        assert!(Instant::now() < deadline, "no deck");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    disk.panics.store(true, Ordering::SeqCst);
    control::ask(&dir, &Request::Stop).await.unwrap().expect("it heard the wish");
    let ended = tokio::time::timeout(Duration::from_secs(30), running).await.expect("it ends").unwrap();
    assert!(ended.is_err_and(|error| error.to_string().contains("the recorder panicked")), "and says why");
    let openings = records(&dir)
        .iter()
        .filter(|record| matches!(&record.event.body, Body::Tape(note) if note.what == TapeEvent::Incarnation))
        .count();
    assert_eq!(openings, 1);
}

/// In a process of its own, for it ends that way: this binary again, told by the variable that it is the deck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_deck_that_still_opens_its_tape() {
    const IS_DECK: &str = "TAPEDECK_TEST_OPENS_IN";
    if let Some(dir) = std::env::var_os(IS_DECK) {
        let disk = Troubled { hangs: true, ..Troubled::default() };
        let ended = deck::run(disk.plan(Path::new(&dir), &venue().await), RunOptions::default()).await;
        panic!("nothing but a signal ends it: {ended:?}");
    }
    let home = tempfile::tempdir().unwrap();
    let mut deck = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "deck::a_second_signal_ends_a_deck_that_still_opens_its_tape", "--nocapture"])
        .env(IS_DECK, home.path().join("tape"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufRead::lines(io::BufReader::new(deck.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains(HANGS)), "it never came to open its tape");
    let pid = rustix::process::Pid::from_child(&deck);
    // Signals that come close together are one.
    let status = until("its end", || {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        deck.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(130));
}

/// A tmpfs of its own.
pub(crate) struct SmallDisk(pub(crate) std::path::PathBuf);

impl SmallDisk {
    /// `None`, said aloud, where mounting is not allowed; with TAPEDECK_REQUIRE_ALL that fails.
    pub(crate) fn mount(at: &std::path::Path, options: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(at.to_owned()));
        }
        crate::skipped::skipped("a tmpfs cannot be mounted here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes until the disk takes no more.
pub(crate) fn fill(path: &std::path::Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![1; size];
        while file.write_all(&block).is_ok() {}
    }
}
