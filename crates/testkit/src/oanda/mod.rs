//! A fake OANDA v20: streams of prices and transactions, and the requests beside them, on one port.
//!
//! ```text
//!  generator or recording ──price──► hub ──queue──► stream ──► socket
//!  script ──inject──────────────────┘ │              └──► sent log (entered before the bytes go out)
//!                                     └── answers to requests
//! ```
//!
//! The venue's two hosts are one here. Lines are cut into chunks anywhere. Faults are in [`GRAMMAR`].

mod candles;
mod fault;
mod hub;
mod market;
mod rest;
mod server;
mod simulate;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use fault::{Fault, GRAMMAR, Garbage, Odd, Scheduled};
pub use hub::Sent;
pub use simulate::{SimulateArgs, simulate};

use crate::kraken::Speed;
use crate::kraken::rng::Rng;
use crate::lines::Out;
use crate::serve::{self, Tasks};
use hub::Hub;
use market::{Listed, Recording, Tick};
use server::Shared;

/// The token of a fake that is given none.
pub const TOKEN: &str = "fake-token-0123456789abcdef";
/// Its account.
pub const ACCOUNT: &str = "101-004-7654321-001";

/// A fake OANDA that is to be started.
#[derive(Debug)]
pub struct FakeOanda {
    listen: SocketAddr,
    instruments: Vec<String>,
    seed: u64,
    rate: u32,
    frames: Vec<PathBuf>,
    speed: Speed,
    heartbeat: Duration,
    transactions: Option<Duration>,
    first_id: u64,
    token: String,
    account: String,
    faults: Vec<Scheduled>,
    remember: bool,
    tls: Option<(PathBuf, PathBuf)>,
}

impl FakeOanda {
    /// Three instruments, seed 1, 50 prices a second, a free port of the loopback, the log in memory.
    #[must_use]
    pub fn builder() -> Self {
        FakeOanda {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            instruments: market::names(3),
            seed: 1,
            rate: 50,
            frames: Vec::new(),
            speed: Speed::Times(1.0),
            heartbeat: Duration::from_secs(5),
            transactions: None,
            first_id: 2_311,
            token: TOKEN.to_owned(),
            account: ACCOUNT.to_owned(),
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

    /// Names of a generated market.
    #[must_use]
    pub fn instruments(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.instruments = names.into_iter().map(Into::into).collect();
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Prices a second over all instruments; 0 = the market stands still.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Serves recorded prices in place of a market: lines of the stream, or rows of ms, bid, ask. Several follow each
    /// other. They begin when a stream of prices is open; at full speed they wait for whoever listens.
    #[must_use]
    pub fn frames(mut self, path: impl Into<PathBuf>, speed: Speed) -> Self {
        self.frames.push(path.into());
        self.speed = speed;
        self
    }

    /// Time between heartbeats (default: 5 s).
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Time between transactions (default: none happens).
    #[must_use]
    pub fn transactions(mut self, every: Duration) -> Self {
        self.transactions = Some(every);
        self
    }

    /// The newest transaction at the start (default: 2311).
    #[must_use]
    pub fn last_transaction(mut self, id: u64) -> Self {
        self.first_id = id;
        self
    }

    /// The token that is good, and the account that it is for.
    #[must_use]
    pub fn credentials(mut self, token: impl Into<String>, account: impl Into<String>) -> Self {
        (self.token, self.account) = (token.into(), account.into());
        self
    }

    /// Adds a fault: a [`Fault`] at once, or [`Scheduled`].
    #[must_use]
    pub fn fault(mut self, fault: impl Into<Scheduled>) -> Self {
        self.faults.push(fault.into());
        self
    }

    /// Whether the newest million lines are kept in memory (default: yes).
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
        let mut hub = Hub::new(self.token, self.account, self.first_id, Rng::new(rng.next()), self.remember);
        let mut recording = Recording::default();
        for path in &self.frames {
            recording.add(path)?;
        }
        if self.frames.is_empty() {
            for tick in market::first(&self.instruments, &mut rng) {
                hub.listed.push(Listed { name: tick.instrument.clone(), decimals: tick.decimals });
                hub.prices.insert(tick.instrument.clone(), tick);
            }
        } else {
            hub.listed.clone_from(&recording.listed);
        }
        let (listener, addr) = serve::bind(self.listen).await?;
        let tls = self.tls.map(|(cert, key)| serve::acceptor(&cert, &key)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Shared { hub: Arc::new(Mutex::new(hub)), heartbeat: self.heartbeat, tls };
        let mut tasks = Tasks::default();
        tasks.serve(|stop| server::run(shared.clone(), listener, stop));
        let prices = {
            let (shared, ticks, speed, rate) = (shared.clone(), recording.ticks, self.speed, self.rate);
            async move { if ticks.is_empty() { walk(shared, rng, rate).await } else { play(shared, ticks, speed).await } }
        };
        let account = happen(shared.clone(), self.transactions);
        tasks.spawn(prices);
        tasks.spawn(account);
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

/// A running fake OANDA. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    scheme: &'static str,
    shared: Shared,
    tasks: Tasks,
}

impl Handle {
    /// What takes the place of both of the venue's hosts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Makes something go wrong now.
    pub fn inject(&self, fault: Fault) {
        let told = self.shared.hub().inject(fault);
        tell_now(told);
    }

    /// Something happens in the account, so many times.
    pub fn transact(&self, times: u32) {
        for _ in 0..times {
            let told = self.shared.hub().transact();
            tell_now(told);
        }
    }

    /// Ids of everything that happened in the account, oldest first.
    #[must_use]
    pub fn transactions(&self) -> Vec<u64> {
        self.shared.hub().transactions.iter().map(|transaction| transaction.id).collect()
    }

    /// What was handed to the sockets, oldest first; at most the newest million.
    #[must_use]
    pub fn log(&self) -> Vec<Sent> {
        self.shared.hub().log()
    }

    /// Streams that are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.hub().streams.len()
    }

    /// Streams that were ever opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.shared.hub().opened
    }

    /// When TCP connections were made.
    #[must_use]
    pub fn connects(&self) -> Vec<Instant> {
        self.shared.hub().connects.clone()
    }

    /// Paths that were asked for, with `ID` for the account.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.hub().requests.clone()
    }

    /// Ends all connections and gives the port back.
    pub async fn stop(mut self) {
        self.tasks.end().await;
    }
}

/// Puts into the queues what fits; a stream that is too far behind misses it, as it would with the venue.
fn tell_now(told: Vec<(mpsc::Sender<Out>, Out)>) {
    for (queue, out) in told {
        let _ = queue.try_send(out);
    }
}

/// The generated market, by the clock.
async fn walk(shared: Shared, mut rng: Rng, rate: u32) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    loop {
        clock.tick().await;
        let told = {
            let mut hub = shared.hub();
            let at = rng.index(hub.prices.len());
            let at_ns = hub.now_ns();
            let Some(tick) = hub.prices.values().nth(at).map(|last| market::step(last, at_ns, &mut rng)) else {
                continue;
            };
            hub.price(tick)
        };
        tell_now(told);
    }
}

/// The recording, at its own pace or as fast as it is taken.
async fn play(shared: Shared, ticks: Vec<Tick>, speed: Speed) {
    let listened_to = async || {
        while !shared.hub().streams.values().any(|stream| stream.instruments.is_some()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    listened_to().await;
    let (began, first) = (tokio::time::Instant::now(), ticks.first().map_or(0, |tick| tick.at_ns));
    for tick in ticks {
        match speed {
            Speed::Max => listened_to().await,
            Speed::Times(times) => {
                let since = Duration::from_nanos(u64::try_from(tick.at_ns - first).unwrap_or(0));
                tokio::time::sleep_until(began + since.div_f64(times)).await;
            }
        }
        let told = shared.hub().price(tick);
        for (queue, out) in told {
            // An error means that the stream has ended.
            let _ = queue.send(out).await;
        }
    }
    std::future::pending().await
}

/// Transactions, by the clock.
async fn happen(shared: Shared, every: Option<Duration>) {
    let Some(every) = every else { return std::future::pending().await };
    let mut clock = tokio::time::interval(every);
    loop {
        clock.tick().await;
        let told = shared.hub().transact();
        tell_now(told);
    }
}
