//! What operation costs: `up` to everything ready beside servers that run already, `validate full`, the memory of it all, and a
//! stop with much queued for a store that is slow.
//!
//! Whole programs: five simulated venues, three real databases, the bus, candles; venues and databases share the machine. The slow
//! store takes a second for each request until it is told otherwise, and then must be given every record.
//!
//! `OPERATE_RATE` is messages a second of all venues (10,000), `OPERATE_QUEUED` how many records wait for the slow store
//! (1,000,000), `OPERATE_ROUNDS` how often each is measured (5).

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tapedeck::bus::registry::SERVICES;
use tapedeck_benches::five::{FIVE, free_port, simulated};
use tapedeck_benches::process::{beside, pss_mib, rss_mib};
use tapedeck_benches::stores::{Server, write_trades};
use tapedeck_benches::{median, probe, spread};
use tapedeck_market::UnixNanos;

/// Everything was used by then.
const SETTLE: Duration = Duration::from_secs(10);
const LOOKS: u32 = 10;
const BETWEEN: Duration = Duration::from_secs(2);
/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(600);
/// What the slow store takes for a request.
const SLOW: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let rounds = number("OPERATE_ROUNDS", 5)?;
    let program = beside("tapedeck")?;
    whole(&program, &home.path().canonicalize()?.join("whole"), rounds)?;
    for round in 0..rounds.min(3) {
        queued(&program, &home.path().canonicalize()?.join(format!("queued{round}")))?;
    }
    Ok(())
}

fn number(name: &str, usual: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(usual),
    }
}

/// A figure beside what it should be at most.
fn print(what: &str, values: &[f64], target: Option<f64>) {
    let (low, high) = spread(values);
    let middle = median(values);
    let judged = target.map_or(String::new(), |target| {
        format!("  target ≤ {target}: {}", if middle <= target { "met" } else { "missed" })
    });
    println!("{what:<58} {middle:.2} [{low:.2} … {high:.2}]{judged}");
}

/// A folder with a config, as somebody has it who says `tapedeck up`. What is up there ends with it.
struct Desk {
    program: PathBuf,
    dir: PathBuf,
}

impl Desk {
    fn new(program: &Path, dir: &Path, config: &str) -> anyhow::Result<Desk> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("tapedeck.toml"), config)?;
        Ok(Desk { program: program.to_owned(), dir: dir.to_owned() })
    }

    /// How long a verb takes, and what it says; it succeeds.
    fn time(&self, args: &[&str]) -> anyhow::Result<(Duration, String)> {
        let begun = Instant::now();
        let out = self.run(args)?;
        let took = begun.elapsed();
        let [said, errors] = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        anyhow::ensure!(out.status.success(), "tapedeck {}: {}\n{said}{errors}", args.join(" "), out.status);
        Ok((took, said))
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.program);
        let out = command.args(args).current_dir(&self.dir).stdin(Stdio::null()).output();
        out.with_context(|| format!("starting {}", self.program.display()))
    }

    fn status(&self) -> anyhow::Result<Value> {
        let out = self.run(&["status", "--json"])?;
        serde_json::from_slice(&out.stdout).context("no status")
    }

    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "not {what} within {PATIENCE:?}: {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.run(&["down"]);
    }
}

/// Start, validation and memory of five venues, three databases and the bus.
fn whole(program: &Path, dir: &Path, rounds: u64) -> anyhow::Result<()> {
    let (influx, postgres) = (Server::start("influxdb", &[])?, Server::start("postgres", &[])?);
    let questdb = Server::start("questdb", &["heap=default"])?;
    let (usual, rate) = (FIVE.iter().map(|(_, rate)| rate).sum::<u32>(), number("OPERATE_RATE", 10_000)?);
    let share = |part: u32| (u64::from(part) * rate / u64::from(usual)).max(1) as u32;
    let (_venues, sources) = simulated(program, &FIVE.map(|(venue, part)| (venue, share(part))))?;
    let (url, dsn, quest) = (influx.fact("url"), postgres.fact("dsn"), questdb.fact("url"));
    let desk = Desk::new(
        program,
        dir,
        &format!(
            "[tape]\ndir = \"tape\"\n[http]\nlisten = \"127.0.0.1:{}\"\n[bus]\nport_offset = {}\n[candles]\nintervals = [\"1s\", \"1m\"]\n\
             {sources}\
             [sink.influx]\nkind = \"influx\"\nurl = {url:?}\ndatabase = \"operate\"\n\
             [sink.postgres]\nkind = \"postgres\"\ndsn = {dsn:?}\nschema = \"operate\"\n\
             [sink.questdb]\nkind = \"questdb\"\nurl = {quest:?}\nprefix = \"operate_\"\n\
             [server.influx]\nready = \"http {url}/ping\"\n\
             [server.postgres]\nready = \"tcp 127.0.0.1:{}\"\n\
             [server.questdb]\nready = \"http {quest}/exec?query=select%201\"\n",
            free_port()?,
            free_offset()?,
            postgres.port("sql")?,
        ),
    )?;
    let (first, _) = desk.time(&["up"])?;
    println!("{:<58} {:.2}", "the first up of all, which makes tables and policies, s", first.as_secs_f64());
    desk.time(&["down"])?;
    let (mut ready, mut tried, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (times, args) in [(&mut ready, &["up", "--no-validate"][..]), (&mut tried, &["up"][..])] {
            times.push(desk.time(args)?.0.as_secs_f64());
            down.push(desk.time(&["down"])?.0.as_secs_f64());
        }
    }
    print("up, own start to all services ready, s", &ready, Some(1.0));
    print("… and every store tried with a write and its reading, s", &tried, None);
    print("down, s", &down, None);

    desk.time(&["up"])?;
    std::thread::sleep(SETTLE);
    let deck = desk.status()?["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("no deck")?;
    let (mut rss, mut pss) = (Vec::new(), Vec::new());
    let before = events(&desk)?;
    let begun = Instant::now();
    for _ in 0..LOOKS {
        std::thread::sleep(BETWEEN);
        rss.push(rss_mib(deck)?);
        pss.push(pss_mib(deck)?);
    }
    let rate = (events(&desk)? - before) / begun.elapsed().as_secs_f64();
    print(&format!("resident, deck and bus, at {rate:.0} events/s, MiB"), &rss, Some(80.0));
    print("… pages that both have counted once, MiB", &pss, None);
    let mut validated = Vec::new();
    for _ in 0..rounds {
        validated.push(desk.time(&["validate", "full"])?.0.as_secs_f64());
    }
    print("validate full, five venues, three stores, s", &validated, Some(5.0));
    desk.time(&["down"])?;
    Ok(())
}

fn events(desk: &Desk) -> anyhow::Result<f64> {
    desk.status()?["events"].as_f64().context("the deck does not answer")
}

/// A stop while the store is slow and everything waits for it, and what becomes of it afterwards.
fn queued(program: &Path, dir: &Path) -> anyhow::Result<()> {
    let count = number("OPERATE_QUEUED", 1_000_000)?;
    let tape = dir.join("tape");
    fs::create_dir_all(&tape)?;
    drop(write_trades(&tape, count, UnixNanos::now().0 - 1_000_000_000, drop)?);
    let store = Slow::start()?;
    // One without trades: the store is given those that were recorded.
    let (_venue, source) = simulated(program, &[("oanda", 100)])?;
    let desk = Desk::new(
        program,
        dir,
        &format!(
            "[tape]\ndir = \"tape\"\n[http]\nlisten = \"off\"\n{source}\
             [sink.influx]\nkind = \"influx\"\nurl = \"http://127.0.0.1:{}\"\ndatabase = \"slow\"\ndialect = 1\nevents = [\"trade\"]\n",
            store.port
        ),
    )?;
    desk.time(&["up", "--no-validate"])?;
    desk.until("the store at work", |_| store.writes.load(Ordering::Relaxed) > 0)?;
    let left = desk.status()?["services"][0]["detail"]["lag_records"].as_u64().unwrap_or(0);
    let (took, said) = desk.time(&["down"])?;
    anyhow::ensure!(said.contains("they wait on the tape for the next up"), "{said}");
    print(&format!("down with {left} records queued for a slow store, s"), &[took.as_secs_f64()], Some(2.0));

    store.slow.store(false, Ordering::Relaxed);
    let begun = Instant::now();
    desk.time(&["up", "--no-validate"])?;
    desk.until("every record delivered", |_| store.has_all(count))?;
    println!("{:<58} {:.1}", "… and by the next up all of them, s", begun.elapsed().as_secs_f64());
    desk.time(&["down"])?;
    Ok(())
}

/// Of the first trade that is sent, whose n is 1.
const FIRST_ID: u64 = 100_320_029;

/// Answers as InfluxDB 1 does, slowly, and keeps the ids of the trades that it was given.
struct Slow {
    port: u16,
    slow: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    ids: Arc<Mutex<HashSet<u64>>>,
}

impl Slow {
    fn start() -> anyhow::Result<Slow> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let store = Slow { port, slow: Arc::new(AtomicBool::new(true)), writes: Arc::default(), ids: Arc::default() };
        let (slow, writes, ids) = (store.slow.clone(), store.writes.clone(), store.ids.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (slow, writes, ids) = (slow.clone(), writes.clone(), ids.clone());
                // A connection ends when the deck has no more use for it.
                std::thread::spawn(move || serve(stream, &slow, &writes, &ids));
            }
        });
        Ok(store)
    }

    /// Whether it was given so many trades, as they were recorded.
    fn has_all(&self, count: u64) -> bool {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        (FIRST_ID..FIRST_ID + count).all(|id| ids.contains(&id))
    }
}

/// One connection, to its end.
fn serve(stream: TcpStream, slow: &AtomicBool, writes: &AtomicU64, ids: &Mutex<HashSet<u64>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let said = if head.contains("/write") {
            writes.fetch_add(1, Ordering::Relaxed);
            let begun = Instant::now();
            while slow.load(Ordering::Relaxed) && begun.elapsed() < SLOW {
                std::thread::sleep(Duration::from_millis(10));
            }
            let text = String::from_utf8_lossy(&body);
            ids.lock().unwrap_or_else(PoisonError::into_inner).extend(text.lines().filter_map(id));
            "204 No Content\r\nX-Influxdb-Version: 1.8.10\r\nContent-Length: 0\r\n\r\n"
        } else {
            "200 OK\r\nX-Influxdb-Version: 1.8.10\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n{\"results\":[{\"statement_id\":0}]}"
        };
        stream.write_all(format!("HTTP/1.1 {said}").as_bytes()).ok()?;
    }
}

/// The trade's id in a line.
fn id(line: &str) -> Option<u64> {
    let field = line.split([' ', ',']).find_map(|part| part.strip_prefix("id="))?;
    field.trim_matches('"').trim_end_matches('i').parse().ok()
}

/// Ports of the register, moved to where nobody is.
fn free_offset() -> anyhow::Result<u16> {
    let free = |offset: &u16| SERVICES.iter().all(|one| TcpListener::bind(("127.0.0.1", one.port + offset)).is_ok());
    (1..110).map(|n| 1_000 + n * 40).find(free).context("no free ports for the bus")
}
