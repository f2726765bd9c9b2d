//! From spawning the program to its first subscribe request, and what it costs while nothing happens.
//!
//! Both sides are whole processes against the same kind of socket, without TLS, on one pair's trades.
//! The peer is cryptofeed in the Python that `CRYPTOFEED_PYTHON` names (`scripts/bench` prepares one). It
//! is given its list of pairs, so it makes no request before it subscribes, and keeps nothing on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tapedeck_benches::process::{Running, beside};
use tapedeck_benches::venue::{Load, Venue, now_ns, serve};
use tapedeck_benches::{ROUNDS, median, probe, spread};

/// Rounds of the idle part: each takes as long as it idles.
const IDLE_ROUNDS: usize = 3;
/// Time between the first subscribe and the first look.
const SETTLE: Duration = Duration::from_secs(2);
/// Time that is looked at.
const IDLE: Duration = Duration::from_secs(10);
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let bench = Bench { home: home.path().to_owned(), tapedeck: beside("tapedeck")?, python: cryptofeed() };
    bench.starts()?;
    bench.idles()
}

struct Bench {
    home: PathBuf,
    tapedeck: PathBuf,
    /// A Python that has cryptofeed.
    python: Option<PathBuf>,
}

/// The Python with cryptofeed, if there is one; says which it is.
fn cryptofeed() -> Option<PathBuf> {
    let python = std::env::var_os("CRYPTOFEED_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let version = "import cryptofeed, importlib.metadata as m; print(m.version('cryptofeed'))";
    let asked = Command::new(&python).args(["-c", version]).stderr(Stdio::null()).output().ok();
    match asked.filter(|asked| asked.status.success()) {
        Some(asked) => {
            println!("peer: cryptofeed {}", String::from_utf8_lossy(&asked.stdout).trim());
            Some(python)
        }
        None => {
            println!("peer: NONE, {} has no cryptofeed; what follows is ours alone", python.display());
            None
        }
    }
}

impl Bench {
    fn starts(&self) -> anyhow::Result<()> {
        let old = self.home.join("old");
        self.fill(&old)?;
        let (mut fresh, mut existing, mut behind, mut peer) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // A start begins a segment, so the flood is the last one, which is read back, only once: keep it.
        let flooded = self.home.join("flooded");
        copy(&old, &flooded)?;
        for round in 0..ROUNDS {
            fresh.push(started(|addr| self.ours(&self.home.join(format!("fresh-{round}")), addr), Load::Idle)?.1);
            existing.push(started(|addr| self.ours(&old, addr), Load::Idle)?.1);
            let again = self.home.join("again");
            copy(&flooded, &again)?;
            behind.push(started(|addr| self.ours(&again, addr), Load::Idle)?.1);
            fs::remove_dir_all(&again)?;
            if let Some(python) = &self.python {
                peer.push(started(|addr| self.theirs(python, addr), Load::IdleV1)?.1);
            }
        }
        row("start → first subscribe, fresh tape", "ms", &fresh, &peer);
        row(&format!("start → first subscribe, tape of {} MB", megabytes(&old)), "ms", &existing, &peer);
        row("… that ends in a second of flood, read back", "ms", &behind, &peer);
        Ok(())
    }

    fn idles(&self) -> anyhow::Result<()> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..IDLE_ROUNDS {
            let (deck, _) = started(|addr| self.ours(&self.home.join(format!("idle-{round}")), addr), Load::Idle)?;
            let peer = match &self.python {
                Some(python) => Some(started(|addr| self.theirs(python, addr), Load::IdleV1)?.0),
                None => None,
            };
            std::thread::sleep(SETTLE);
            let before = (deck.cpu_s()?, peer.as_ref().map(Running::cpu_s).transpose()?);
            std::thread::sleep(IDLE);
            ours.push(idled(&deck, before.0)?);
            if let (Some(peer), Some(before)) = (&peer, before.1) {
                theirs.push(idled(peer, before)?);
            }
        }
        let show = |name, unit, of: fn(&Idled) -> f64| {
            let of_each = |idled: &[Idled]| idled.iter().map(of).collect::<Vec<_>>();
            row(name, unit, &of_each(&ours), &of_each(&theirs));
        };
        show("idle, resident (RSS)", "MiB", |idled| idled.rss_mib);
        show("idle, its share (PSS)", "MiB", |idled| idled.pss_mib);
        show("idle, CPU of one core", "%", |idled| idled.cpu_percent);
        Ok(())
    }

    /// A tape with a second of flood on it, stopped in order.
    fn fill(&self, dir: &Path) -> anyhow::Result<()> {
        let venue = serve(Load::Flood { time: Duration::from_secs(1) })?;
        // The venue leaves at the end, which the deck remarks on.
        let _deck = Running::start(self.ours(dir, &venue.addr.to_string()).stderr(Stdio::null()))?;
        venue.sent.recv().context("filling a tape")?;
        Ok(())
    }

    fn ours(&self, dir: &Path, addr: &str) -> Command {
        let config = dir.with_extension("toml");
        let text = format!(
            "[tape]\ndir = {dir:?}\n[http]\nlisten = \"off\"\n[log]\ndir = \"off\"\n\
             [source.kraken]\nkind = \"kraken\"\nurl = \"ws://{addr}/v2\"\npairs = [\"BTC/USD\"]\nchannels = [\"trade\"]\n"
        );
        // A config that cannot be written makes the start fail, which is told.
        let _ = fs::write(&config, text);
        let mut command = Command::new(&self.tapedeck);
        command.args(["run", "--plain", "-q", "-c"]).arg(config).stdout(Stdio::null());
        command
    }

    fn theirs(&self, python: &Path, addr: &str) -> Command {
        let port = addr.rsplit(':').next().unwrap_or_default().to_owned();
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/cryptofeed_idle.py")).arg(port);
        // Its log goes to the working folder; a proxy would be asked for the venue.
        command.current_dir(&self.home).env("NO_PROXY", "127.0.0.1").stdout(Stdio::null());
        command
    }
}

/// Starts it and waits for its first subscribe request: the process, and the time that took in ms.
fn started(command: impl FnOnce(&str) -> Command, load: Load) -> anyhow::Result<(Running, f64)> {
    let Venue { addr, subscribed, .. } = serve(load)?;
    let mut command = command(&addr.to_string());
    let before = now_ns();
    let running = Running::start(&mut command)?;
    let at = subscribed.recv_timeout(PATIENCE).with_context(|| format!("{command:?} has not subscribed"))?;
    Ok((running, (at - before) as f64 / 1e6))
}

/// What a process and its children cost while nothing happened.
struct Idled {
    rss_mib: f64,
    pss_mib: f64,
    cpu_percent: f64,
}

fn idled(running: &Running, cpu_before_s: f64) -> anyhow::Result<Idled> {
    let cpu_percent = (running.cpu_s()? - cpu_before_s) / IDLE.as_secs_f64() * 100.0;
    Ok(Idled { rss_mib: running.rss_mib()?, pss_mib: running.pss_mib()?, cpu_percent })
}

/// Copies a folder and all below it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn megabytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum::<u64>() / 1_000_000
}

/// Prints ours, the peer's and the ratio: the median and the spread of the rounds.
fn row(name: &str, unit: &str, ours: &[f64], theirs: &[f64]) {
    let told = |values: &[f64]| {
        let (low, high) = spread(values);
        let digits = if high < 1.0 { 3 } else { 1 };
        format!("{:.digits$} {unit} [{low:.digits$} … {high:.digits$}]", median(values))
    };
    if theirs.is_empty() {
        println!("{name:<44} ours {}", told(ours));
        return;
    }
    let ratios: Vec<f64> = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
    let (low, high) = spread(&ratios);
    println!(
        "{name:<44} ours {}  cryptofeed {}  ratio {:.2} [{low:.2} … {high:.2}]",
        told(ours),
        told(theirs),
        median(&ratios)
    );
}
