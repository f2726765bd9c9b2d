//! A fake Zerodha Kite: the binary ticker, and the requests beside it, on one port.
//!
//! ```text
//!  generator or recording ──packets──► hub ──queue──► connection ──► socket
//!  script ──inject───────────────────┘  │  └► sent log
//!                                       └── answers to requests
//! ```
//!
//! Subscriptions and modes are obeyed as the venue does it: tokens that come as texts are ignored without a word, nothing is
//! acknowledged, and what is subscribed answers with its last state. Faults are in [`GRAMMAR`].

mod fault;
mod hub;
mod market;
mod past;
mod server;
mod simulate;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

pub use fault::{Fault, GRAMMAR, Garbage, Odd, Scheduled};
pub use hub::{Asked, STRANGE_TOKEN, Sent};
pub use market::{Listed, Mode};
pub use simulate::{SimulateArgs, simulate};

use crate::kraken::Speed;
use crate::kraken::rng::Rng;
use crate::serve::{self, Tasks};
use crate::talk::Out;
use hub::Hub;
use market::Recording;
use server::Shared;

/// Credentials of a fake that is given none.
pub const API_KEY: &str = "fakeapikey012345";
pub const API_SECRET: &str = "fakeapisecret0123456789abcdefghi";
pub const REQUEST_TOKEN: &str = "fakerequest0123456789abcdefghijk";
pub const ACCESS_TOKEN: &str = "fakeaccess0123456789abcdefghijkl";

/// A client that subscribes in pieces is waited for so long before a recording begins.
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(50);

/// A fake Kite that is to be started.
#[derive(Debug)]
pub struct FakeKite {
    listen: SocketAddr,
    instruments: usize,
    seed: u64,
    rate: u32,
    frames: Vec<PathBuf>,
    speed: Speed,
    heartbeat: Duration,
    credentials: [String; 4],
    faults: Vec<Scheduled>,
    remember: bool,
}

impl FakeKite {
    /// Eight instruments, seed 1, 50 packets a second, a free port of the loopback, the log in memory.
    #[must_use]
    pub fn builder() -> Self {
        FakeKite {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            instruments: 8,
            seed: 1,
            rate: 50,
            frames: Vec::new(),
            speed: Speed::Times(1.0),
            heartbeat: Duration::from_secs(1),
            credentials: [API_KEY, API_SECRET, REQUEST_TOKEN, ACCESS_TOKEN].map(str::to_owned),
            faults: Vec::new(),
            remember: true,
        }
    }

    /// Where to listen; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// How many instruments the list has.
    #[must_use]
    pub fn instruments(mut self, count: usize) -> Self {
        self.instruments = count;
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Packets a second over all instruments; 0 = the market stands still.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Serves recordings in place of a market: frames (`.bin`), packets in base64 (`.packet`), or rows of local time, price
    /// and running volume (`INFY_20210415.csv.gz`). Several follow each other. They begin when one of their instruments
    /// is subscribed; at full speed they wait for whoever listens.
    #[must_use]
    pub fn frames(mut self, path: impl Into<PathBuf>, speed: Speed) -> Self {
        self.frames.push(path.into());
        self.speed = speed;
        self
    }

    /// Time between heartbeats (default: 1 s).
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Key, secret, request token and first access token.
    #[must_use]
    pub fn credentials(mut self, credentials: [String; 4]) -> Self {
        self.credentials = credentials;
        self
    }

    /// Adds a fault: a [`Fault`] at once, or [`Scheduled`].
    #[must_use]
    pub fn fault(mut self, fault: impl Into<Scheduled>) -> Self {
        self.faults.push(fault.into());
        self
    }

    /// Whether the newest million packets are kept in memory (default: yes).
    #[must_use]
    pub fn remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The address is taken, or a recording cannot be read.
    pub async fn start(self) -> anyhow::Result<Handle> {
        let mut rng = Rng::new(self.seed);
        let mut recording = Recording::default();
        for path in &self.frames {
            recording.add(path)?;
        }
        let listed = match self.frames.is_empty() {
            true => market::listed(self.instruments),
            false => recording.listed.clone(),
        };
        let mut hub = Hub::new(self.credentials, listed, Rng::new(rng.next()), self.remember);
        let secs = secs(hub.now_ns());
        for listed in hub.listed.clone() {
            let packet = recording.frames.iter().flat_map(|(_, packets)| packets);
            let packet = packet.into_iter().find(|packet| market::token(packet) == listed.token).cloned();
            let packet = packet.unwrap_or_else(|| market::first(&listed, &mut rng, secs));
            hub.packets.insert(listed.token, packet);
        }
        let (listener, addr) = serve::bind(self.listen).await?;
        let shared = Shared(Arc::new(Mutex::new(hub)));
        let mut tasks = Tasks::default();
        tasks.serve(|stop| server::run(shared.clone(), listener, stop));
        let packets = {
            let (shared, speed, rate) = (shared.clone(), self.speed, self.rate);
            async move {
                match recording.frames.is_empty() {
                    true => walk(shared, rng, rate).await,
                    false => play(shared, recording, speed).await,
                }
            }
        };
        let beats = beat(shared.clone(), self.heartbeat);
        tasks.spawn(packets);
        tasks.spawn(beats);
        let (begun, strikes) = (shared.clone(), shared.clone());
        tasks.strike(
            self.faults,
            Fault::needs_a_connection,
            move || begun.hub().opened > 0,
            move |fault| tell_now(strikes.hub().inject(fault)),
        );
        Ok(Handle { addr, shared, tasks })
    }
}

/// A running fake Kite. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Shared,
    tasks: Tasks,
}

impl Handle {
    /// What takes the place of the ticker's address.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    /// What takes the place of the address of requests.
    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Makes something go wrong now.
    pub fn inject(&self, fault: Fault) {
        let told = self.shared.hub().inject(fault);
        tell_now(told);
    }

    /// A new access token, as after a login; the one before is refused from now on.
    pub fn log_in(&self) -> String {
        self.shared.hub().log_in()
    }

    /// Packets that were handed to sockets, oldest first; at most the newest million.
    #[must_use]
    pub fn log(&self) -> Vec<Sent> {
        self.shared.hub().log()
    }

    /// What clients asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.hub().asked.clone()
    }

    /// Tokens that came as texts, and were ignored.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.shared.hub().ignored
    }

    /// Instruments with their modes, of each connection that is open.
    #[must_use]
    pub fn subscribed(&self) -> Vec<BTreeMap<u32, Mode>> {
        self.shared.hub().subscribed()
    }

    /// The venue's list.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        self.shared.hub().listed.clone()
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.hub().connections()
    }

    /// Connections that were ever let in.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.shared.hub().opened
    }

    /// Connections that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.hub().refused
    }

    /// Methods and paths of requests.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.hub().requests.clone()
    }

    /// Ends all connections and gives the port back.
    pub async fn stop(mut self) {
        self.tasks.end().await;
    }
}

fn secs(ns: i64) -> u32 {
    u32::try_from(ns / 1_000_000_000).unwrap_or(0)
}

/// Puts into the queues what fits; a client that is too far behind misses it, as it would with the venue.
fn tell_now(told: Vec<(mpsc::Sender<Out>, Out)>) {
    for (queue, out) in told {
        let _ = queue.try_send(out);
    }
}

/// The generated market, by the clock: several packets a frame where there are many.
async fn walk(shared: Shared, mut rng: Rng, rate: u32) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let at_once = rate.div_ceil(200);
    let mut clock = tokio::time::interval(Duration::from_secs(1) * at_once / rate);
    loop {
        clock.tick().await;
        let told = {
            let mut hub = shared.hub();
            let now = secs(hub.now_ns());
            let mut moved: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            for _ in 0..at_once {
                let at = rng.index(hub.packets.len());
                if let Some((token, packet)) = hub.packets.iter().nth(at) {
                    let mut packet = moved.remove(token).unwrap_or_else(|| packet.clone());
                    market::step(&mut packet, &mut rng, now);
                    moved.insert(*token, packet);
                }
            }
            hub.moved(moved.into_values().collect())
        };
        tell_now(told);
    }
}

/// The recording, at its own pace or as fast as it is taken.
async fn play(shared: Shared, recording: Recording, speed: Speed) {
    let tokens: BTreeSet<u32> = recording.listed.iter().map(|listed| listed.token).collect();
    let listened_to = async || {
        while !shared.hub().is_heard(&tokens) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    listened_to().await;
    // Behind the subscription comes the mode.
    tokio::time::sleep(SUBSCRIBE_PAUSE).await;
    let began = tokio::time::Instant::now();
    for (since, packets) in recording.frames {
        match speed {
            Speed::Max => listened_to().await,
            Speed::Times(times) => tokio::time::sleep_until(began + since.div_f64(times)).await,
        }
        let told = shared.hub().moved(packets);
        for (queue, out) in told {
            // An error means that the connection has ended.
            let _ = queue.send(out).await;
        }
    }
    std::future::pending().await
}

/// One byte a second.
async fn beat(shared: Shared, every: Duration) {
    let mut clock = tokio::time::interval(every);
    loop {
        clock.tick().await;
        let told = shared.hub().heartbeat();
        tell_now(told);
    }
}
