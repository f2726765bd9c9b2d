//! A fake Kraken: WebSocket v2 over a real socket.
//!
//! ```text
//!  market ──step──► hub ──queue──► connection ──► socket
//!  (seeded)          │ faults          │
//!  script ──inject───┘                 └──► sent log (entered before the bytes go out)
//! ```
//!
//! The market steps by the clock, connected or not. What it does is told to whoever subscribed, as
//! the venue tells it: a status first, an ack per symbol, snapshots, updates with the checksum of
//! the true book, a heartbeat each second. Faults are in [`GRAMMAR`].

mod account;
mod active;
mod book;
mod conn;
mod engine;
mod fault;
mod frames;
mod garbage;
mod hub;
mod lap;
mod log;
mod market;
mod names;
mod replay;
mod requests;
mod rest;
pub(crate) mod rng;
mod server;
mod simulate;
pub(crate) mod text;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;

pub use account::Credentials;
pub use fault::{Fault, GRAMMAR, Garbage, Reading, Scheduled, Target};
pub use frames::Channel;
pub use log::{Delivery, Sent, SentLog};
pub use replay::Speed;
pub use simulate::{SimulateArgs, simulate};

use crate::serve::{self, Tasks};
use account::Account;
use conn::Shared;
use hub::Hub;
use market::{Listed, Market};
use replay::Recording;
use server::Server;

/// Which pairs are traded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// So many: well-known names first, then invented ones.
    Count(usize),
    Named(Vec<String>),
}

impl From<usize> for Pairs {
    fn from(count: usize) -> Self {
        Pairs::Count(count)
    }
}

impl<const N: usize> From<[&str; N]> for Pairs {
    fn from(names: [&str; N]) -> Self {
        Pairs::Named(names.iter().map(|&name| name.to_owned()).collect())
    }
}

impl From<Vec<String>> for Pairs {
    fn from(names: Vec<String>) -> Self {
        Pairs::Named(names)
    }
}

/// A fake Kraken that is to be started.
#[derive(Debug)]
pub struct FakeKraken {
    pairs: Pairs,
    seed: u64,
    rate: u32,
    past: usize,
    faults: Vec<Scheduled>,
    listen: SocketAddr,
    log: Option<PathBuf>,
    remember: bool,
    last_trade_ids: HashMap<String, u64>,
    frames: Option<(PathBuf, Speed)>,
    flat_out: bool,
    credentials: Option<Credentials>,
}

impl FakeKraken {
    /// Three pairs, seed 1, 100 messages a second, a free port of the loopback, the log in memory.
    #[must_use]
    pub fn builder() -> Self {
        FakeKraken {
            pairs: Pairs::Count(3),
            seed: 1,
            rate: 100,
            past: market::PAST_TRADES,
            faults: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            log: None,
            remember: true,
            last_trade_ids: HashMap::new(),
            frames: None,
            flat_out: false,
            credentials: None,
        }
    }

    #[must_use]
    pub fn pairs(mut self, pairs: impl Into<Pairs>) -> Self {
        self.pairs = pairs.into();
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Messages a second over all pairs, as one hears them who subscribes to trade, ticker and book
    /// of all; 0 = the market stands still.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Trades that each pair has behind it when the market begins, a second apart.
    #[must_use]
    pub fn past(mut self, trades: usize) -> Self {
        self.past = trades.max(market::PAST_TRADES);
        self
    }

    /// Serves the frames of a file, one a line, plain or gzipped, in place of a market.
    #[must_use]
    pub fn frames(mut self, path: impl Into<PathBuf>, speed: Speed) -> Self {
        self.frames = Some((path.into(), speed));
        self
    }

    /// Sends tickers, trades and books as fast as the sockets take them, from frames rendered
    /// beforehand. The sent log then holds acks and snapshots only, and only faults of the
    /// connection have an effect.
    #[must_use]
    pub fn flat_out(mut self) -> Self {
        self.flat_out = true;
        self
    }

    /// Lets the holder of a key have tokens of the private channel; without, nobody gets one.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Adds a fault: a [`Fault`] at once, or [`Scheduled`].
    #[must_use]
    pub fn fault(mut self, fault: impl Into<Scheduled>) -> Self {
        self.faults.push(fault.into());
        self
    }

    /// Where to listen; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// Writes the sent log to a file too, a JSON object a line.
    #[must_use]
    pub fn log_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Whether the newest million entries of the sent log are kept in memory (default: yes).
    #[must_use]
    pub fn remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// The newest trade ids of an earlier market, by pair: this one goes on behind them. A pair that is
    /// not named begins with an id that follows from the seed.
    #[must_use]
    pub fn last_trade_ids(mut self, ids: HashMap<String, u64>) -> Self {
        self.last_trade_ids = ids;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The address is taken, the log cannot be made, or the recording cannot be read.
    pub async fn start(self) -> anyhow::Result<Handle> {
        let symbols = match self.pairs {
            Pairs::Count(count) => market::names(count),
            Pairs::Named(names) => names,
        };
        let listed = || symbols.into_iter().map(|symbol| Listed::named(symbol, self.seed)).collect();
        let (recording, listed) = match &self.frames {
            None => (None, listed()),
            Some((path, speed)) => {
                let (recording, listed) = Recording::open(path)?;
                (Some((Arc::new(recording), *speed)), listed)
            }
        };
        let log = SentLog::new(self.log.as_deref(), self.remember)
            .with_context(|| format!("cannot make the sent log {:?}", self.log.unwrap_or_default()))?;
        let (listener, addr) = serve::bind(self.listen).await?;
        let rate = if recording.is_some() || self.flat_out { 0 } else { self.rate };
        let first_id = if self.flat_out { lap::FIRST_ID } else { 0 };
        let mut market = Market::new(listed, self.seed, first_id, self.past, text::now_ns());
        market.number_trades_behind(&self.last_trade_ids);
        let hub = Hub::new(market, self.seed, recording, Account::new(self.credentials, self.seed));
        let sessions = Arc::new(AtomicU64::new(0));
        let messages = Arc::new(AtomicU64::new(0));
        let shared = Shared {
            hub: Arc::clone(&hub),
            log: log.is_on().then(|| log.clone()),
            messages: Arc::clone(&messages),
            flat_out: self.flat_out,
        };
        let server = Server { shared, sessions: Arc::clone(&sessions) };
        let mut tasks = Tasks::default();
        tasks.serve(|stop| server.run(listener, stop));
        tasks.spawn(engine::live(Arc::clone(&hub), rate));
        tasks.spawn(engine::heartbeats(Arc::clone(&hub)));
        tasks.serve(|stop| engine::script(Arc::clone(&hub), self.faults, stop));
        Ok(Handle { addr, hub, log, sessions, messages, tasks })
    }
}

/// A running fake Kraken. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    hub: Arc<Mutex<Hub>>,
    log: SentLog,
    sessions: Arc<AtomicU64>,
    messages: Arc<AtomicU64>,
    tasks: Tasks,
}

impl Handle {
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}/v2", self.addr)
    }

    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was handed to the sockets.
    #[must_use]
    pub fn log(&self) -> SentLog {
        self.log.clone()
    }

    /// Makes something go wrong now.
    pub fn inject(&self, fault: Fault) {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner).inject(fault);
    }

    /// WebSocket connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner).conns.len()
    }

    /// WebSocket connections that were ever made.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Messages with data, acks and refusals that were handed to sockets.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Ends all connections and gives the port back. The log is complete afterwards.
    pub async fn stop(mut self) {
        self.tasks.end().await;
    }
}
