//! A fake X: rules and the filtered stream, on one port.
//!
//! ```text
//!  generator or recording ──post──► hub ──queue──► stream ──► socket
//!  script ──inject──────────────────┘ │
//!                                     └── rules, refusals
//! ```
//!
//! Lines are cut into chunks anywhere. Faults are in [`GRAMMAR`].

mod fault;
mod hub;
mod rest;
mod server;
mod simulate;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::sync::mpsc;

pub use fault::{Fault, GRAMMAR, Garbage, Odd, Scheduled, Trouble};
pub use hub::{Rule, Sent};
pub use simulate::{SimulateArgs, simulate};

use crate::kraken::Speed;
use crate::kraken::rng::Rng;
use crate::kraken::text::parse_time;
use crate::lines::Out;
use crate::serve::{self, Tasks};
use hub::Hub;
use server::Shared;

/// The token of a fake that is given none.
pub const TOKEN: &str = "AAAAAAAAAAAAAAAAAAAAAfake%2Ftoken%3D0123456789";

/// What people post, when nothing is recorded.
const TEXTS: [&str; 8] = [
    "Bitcoin looks GREAT today!!! 🚀🚀",
    "not sure about this market, it feels terrible :(",
    "R&D at AT&T: <b>profits</b> > costs, if a && b",
    "This is the worst trade I have ever made, but the community is awesome",
    "\"To the moon\", they said\nand then it crashed\t\\o/",
    "ETH at 4.000 € – nothing special",
    "VADER is VERY SMART, uber handsome, and FRIGGIN FUNNY!!!",
    "I don't hate it &amp; I don't love it",
];

/// A fake X that is to be started.
#[derive(Debug)]
pub struct FakeX {
    listen: SocketAddr,
    seed: u64,
    rate: u32,
    frames: Vec<PathBuf>,
    speed: Speed,
    keep_alive: Duration,
    token: String,
    rules: Vec<(String, Option<String>)>,
    faults: Vec<Scheduled>,
    remember: bool,
    tls: Option<(PathBuf, PathBuf)>,
}

impl FakeX {
    /// No rules, seed 1, 20 posts a second, a free port of the loopback, the log in memory.
    #[must_use]
    pub fn builder() -> Self {
        FakeX {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 1,
            rate: 20,
            frames: Vec::new(),
            speed: Speed::Times(1.0),
            keep_alive: Duration::from_secs(20),
            token: TOKEN.to_owned(),
            rules: Vec::new(),
            faults: Vec::new(),
            remember: true,
            tls: None,
        }
    }

    /// Where to listen; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Posts a second; 0 = nobody posts.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Serves recorded posts: lines of the stream as they stand, or objects with a `text`, from which lines are made.
    /// They begin when the stream is open; at full speed they wait for whoever listens.
    #[must_use]
    pub fn frames(mut self, path: impl Into<PathBuf>, speed: Speed) -> Self {
        self.frames.push(path.into());
        self.speed = speed;
        self
    }

    /// Time between keep-alives (default: 20 s).
    #[must_use]
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.keep_alive = every;
        self
    }

    /// The token that is good.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// A rule that the account has at the start.
    #[must_use]
    pub fn rule(mut self, value: impl Into<String>, tag: Option<&str>) -> Self {
        self.rules.push((value.into(), tag.map(str::to_owned)));
        self
    }

    /// Adds a fault: a [`Fault`] at once, or [`Scheduled`].
    #[must_use]
    pub fn fault(mut self, fault: impl Into<Scheduled>) -> Self {
        self.faults.push(fault.into());
        self
    }

    /// Whether the newest million posts are kept in memory (default: yes).
    #[must_use]
    pub fn remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// Encrypts, with this certificate chain and key, both PEM.
    #[must_use]
    pub fn tls(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some((cert.into(), key.into()));
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The address is taken, or a recording or the certificate cannot be read.
    pub async fn start(self) -> anyhow::Result<Handle> {
        let mut rng = Rng::new(self.seed);
        let mut hub = Hub::new(self.token, Rng::new(rng.next()), self.remember);
        for (at, (value, tag)) in self.rules.into_iter().enumerate() {
            hub.rules.push(Rule { id: (1_000 + at).to_string(), value, tag });
        }
        let recorded = self.frames.iter().map(|path| recording(path)).collect::<anyhow::Result<Vec<_>>>()?.concat();
        let (listener, addr) = serve::bind(self.listen).await?;
        let tls = self.tls.map(|(cert, key)| serve::acceptor(&cert, &key)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Shared { hub: Arc::new(Mutex::new(hub)), keep_alive: self.keep_alive, tls };
        let mut tasks = Tasks::default();
        tasks.serve(|stop| server::run(shared.clone(), listener, stop));
        let posts = {
            let (shared, speed, rate) = (shared.clone(), self.speed, self.rate);
            async move {
                if recorded.is_empty() { talk(shared, rng, rate).await } else { play(shared, recorded, speed).await }
            }
        };
        tasks.spawn(posts);
        let (begun, strikes) = (shared.clone(), shared.clone());
        tasks.strike(
            self.faults,
            Fault::needs_a_connection,
            move || begun.hub().opened > 0,
            move |fault| tell_now(strikes.hub().inject(fault)),
        );
        Ok(Handle { addr, scheme, shared, tasks })
    }
}

/// A running fake X. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    scheme: &'static str,
    shared: Shared,
    tasks: Tasks,
}

impl Handle {
    /// What takes the place of the venue's host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Makes something go wrong now.
    pub fn inject(&self, fault: Fault) {
        let told = self.shared.hub().inject(fault);
        tell_now(told);
    }

    /// Somebody posts this; nobody hears it while no stream is open.
    pub fn post(&self, text: &str) {
        let told = self.shared.hub().post(text);
        tell_now(told);
    }

    /// The account's rules.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.shared.hub().rules.clone()
    }

    /// What was posted while a stream was open, oldest first; at most the newest million.
    #[must_use]
    pub fn log(&self) -> Vec<Sent> {
        self.shared.hub().log()
    }

    /// Whether the stream is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.hub().stream.is_some()
    }

    /// Streams that were ever opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.shared.hub().opened
    }

    /// When the stream was asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<Instant> {
        self.shared.hub().asked.clone()
    }

    /// Methods and paths that were asked for.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.hub().requests.clone()
    }

    /// Ends all connections and gives the port back.
    pub async fn stop(mut self) {
        self.tasks.end().await;
    }
}

/// Puts into the queue what fits; a stream that is too far behind misses it, as it would with the venue.
fn tell_now(told: Option<(mpsc::Sender<Out>, Vec<Out>)>) {
    if let Some((queue, outs)) = told {
        for out in outs {
            let _ = queue.try_send(out);
        }
    }
}

/// What is posted, by the clock.
async fn talk(shared: Shared, mut rng: Rng, rate: u32) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    loop {
        clock.tick().await;
        let text = TEXTS[rng.index(TEXTS.len())];
        let told = shared.hub().post(text);
        tell_now(told);
    }
}

/// A recorded post.
#[derive(Clone, Debug)]
enum Recorded {
    /// As it stands, with its time where it tells one.
    Line(String, Option<i64>),
    Text(String),
}

/// Reads a file, plain or gzipped.
fn recording(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut text = String::new();
    if path.extension().is_some_and(|ending| ending == "gz") {
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    let mut recorded = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("{}: line {}", path.display(), at + 1))?;
        recorded.push(match value.get("text").and_then(Value::as_str) {
            Some(text) => Recorded::Text(text.to_owned()),
            None => {
                let time = value.pointer("/data/created_at").and_then(Value::as_str).and_then(parse_time);
                Recorded::Line(line.to_owned(), time)
            }
        });
    }
    ensure!(!recorded.is_empty(), "{}: holds no post", path.display());
    Ok(recorded)
}

/// The recording, at its own pace or as fast as it is taken; what has no time follows what stands before it.
async fn play(shared: Shared, recorded: Vec<Recorded>, speed: Speed) {
    let listened_to = async || {
        while shared.hub().stream.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    listened_to().await;
    let began = tokio::time::Instant::now();
    let time = |one: &Recorded| if let Recorded::Line(_, time) = one { *time } else { None };
    let first = recorded.iter().find_map(time);
    for one in recorded {
        match (speed, time(&one), first) {
            (Speed::Times(times), Some(time), Some(first)) => {
                let since = Duration::from_nanos(u64::try_from(time - first).unwrap_or(0));
                tokio::time::sleep_until(began + since.div_f64(times)).await;
            }
            _ => listened_to().await,
        }
        let told = match one {
            Recorded::Line(line, _) => {
                let queue = shared.hub().stream.clone();
                queue.map(|(_, queue)| (queue, vec![Out::Line("post", line)]))
            }
            Recorded::Text(text) => shared.hub().post(&text),
        };
        let Some((queue, outs)) = told else { continue };
        for out in outs {
            // An error means that the stream has ended.
            let _ = queue.send(out).await;
        }
    }
    std::future::pending().await
}
