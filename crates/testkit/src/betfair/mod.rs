//! A fake Betfair: the Exchange Stream on one port, logging in on another.
//!
//! ```text
//!  generator or recording ──change──► hub ──queue──► connection ──► socket
//!  script ──inject───────────────────┘ │                 └──► sent log (entered before the bytes go out)
//!                                      └── book: what all of a market is, and what changed since a clock
//! ```
//!
//! Lines are cut into writes anywhere. Faults are in [`GRAMMAR`].

mod book;
mod fault;
mod hub;
mod login;
mod market;
mod server;
mod simulate;
mod subscription;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use fault::{Fault, GRAMMAR, Garbage, Odd, Scheduled};
pub use hub::Sent;
pub use simulate::{SimulateArgs, simulate};

use crate::kraken::Speed;
use crate::kraken::rng::Rng;
use crate::serve::{self, Tasks};
use hub::{Hub, Told};
use market::{Recorded, Walk};
use server::Shared;

/// The application key of a fake that is given none.
pub const APP_KEY: &str = "fake-app-key-0123";
/// Its account.
pub const USERNAME: &str = "fake-user";
/// The account's password.
pub const PASSWORD: &str = "fake-password & more";

/// A fake Betfair that is to be started.
#[derive(Debug)]
pub struct FakeBetfair {
    listen: SocketAddr,
    login_listen: SocketAddr,
    markets: usize,
    seed: u64,
    rate: u32,
    frames: Vec<PathBuf>,
    speed: Speed,
    orders: Option<Duration>,
    credentials: [String; 3],
    faults: Vec<Scheduled>,
    remember: bool,
    tls: Option<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
}

impl FakeBetfair {
    /// Three markets, seed 1, 50 changes a second, free ports of the loopback, the log in memory.
    #[must_use]
    pub fn builder() -> Self {
        FakeBetfair {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            login_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            markets: 3,
            seed: 1,
            rate: 50,
            frames: Vec::new(),
            speed: Speed::Times(1.0),
            orders: None,
            credentials: [APP_KEY, USERNAME, PASSWORD].map(str::to_owned),
            faults: Vec::new(),
            remember: true,
            tls: None,
            client_ca: None,
        }
    }

    /// Where the stream listens, and where logins; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, stream: SocketAddr, login: SocketAddr) -> Self {
        (self.listen, self.login_listen) = (stream, login);
        self
    }

    /// How many markets are generated.
    #[must_use]
    pub fn markets(mut self, many: usize) -> Self {
        self.markets = many;
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Changes a second over all markets; 0 = they stand still.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Serves recorded messages in place of a market. Several files follow each other. They begin when somebody has
    /// subscribed; at full speed they wait for whoever listens.
    #[must_use]
    pub fn frames(mut self, path: impl Into<PathBuf>, speed: Speed) -> Self {
        self.frames.push(path.into());
        self.speed = speed;
        self
    }

    /// Time between changes of own orders (default: none happens).
    #[must_use]
    pub fn orders(mut self, every: Duration) -> Self {
        self.orders = Some(every);
        self
    }

    /// The application key, account and password that are good.
    #[must_use]
    pub fn credentials(mut self, app_key: &str, username: &str, password: &str) -> Self {
        self.credentials = [app_key, username, password].map(str::to_owned);
        self
    }

    /// Adds a fault: a [`Fault`] at once, or [`Scheduled`].
    #[must_use]
    pub fn fault(mut self, fault: impl Into<Scheduled>) -> Self {
        self.faults.push(fault.into());
        self
    }

    /// Whether the newest million messages are kept in memory (default: yes).
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

    /// A login with a certificate needs one by this authority (PEM).
    #[must_use]
    pub fn client_ca(mut self, authority: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(authority.into());
        self
    }

    /// Starts the servers.
    ///
    /// # Errors
    /// An address is taken, or a recording or the certificate cannot be read.
    pub async fn start(self) -> anyhow::Result<Handle> {
        let mut rng = Rng::new(self.seed);
        let [app_key, username, password] = self.credentials;
        let mut hub = Hub::new(app_key, username, password, Rng::new(rng.next()), self.remember);
        let mut recording = Vec::new();
        for path in &self.frames {
            recording.extend(market::recording(path)?);
        }
        let mut walks = Vec::new();
        if self.frames.is_empty() {
            walks.extend((0..self.markets).map(Walk::new));
            for walk in &walks {
                let begin = walk.begin(hub.now_ns());
                hub.publish(vec![begin], None);
            }
        }
        let (stream, addr) = serve::bind(self.listen).await?;
        let (logins, login_addr) = serve::bind(self.login_listen).await?;
        let tls = match (&self.tls, &self.client_ca) {
            (None, _) => None,
            (Some((cert, key)), None) => Some(serve::acceptor(cert, key)?),
            (Some((cert, key)), Some(authority)) => Some(login::acceptor(cert, key, authority)?),
        };
        let encrypted = tls.is_some();
        let shared = Shared { hub: Arc::new(Mutex::new(hub)), tls, certificates: self.client_ca.is_some() };
        let mut tasks = Tasks::default();
        tasks.serve(|stop| server::run(shared.clone(), stream, stop));
        tasks.serve(|stop| login::run(shared.clone(), logins, stop));
        let changes = {
            let (shared, speed, rate) = (shared.clone(), self.speed, self.rate);
            async move {
                if walks.is_empty() {
                    play(shared, recording, speed).await
                } else {
                    walk(shared, walks, rng, rate).await
                }
            }
        };
        let account = happen(shared.clone(), self.orders);
        tasks.spawn(changes);
        tasks.spawn(account);
        let (begun, strikes) = (shared.clone(), shared.clone());
        tasks.strike(
            self.faults,
            Fault::needs_a_connection,
            move || begun.hub().subscribed > 0,
            move |fault| tell_now(strikes.hub().inject(fault)),
        );
        Ok(Handle { addr, login_addr, encrypted, shared, tasks })
    }
}

/// A running fake Betfair. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    /// Where the stream listens.
    pub addr: SocketAddr,
    /// Where logins are taken.
    pub login_addr: SocketAddr,
    encrypted: bool,
    shared: Shared,
    tasks: Tasks,
}

impl Handle {
    /// What takes the place of the venue's stream.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.encrypted { "tls" } else { "tcp" }, self.addr)
    }

    /// What takes the place of its hosts for logging in.
    #[must_use]
    pub fn login_url(&self) -> String {
        format!("{}://{}", if self.encrypted { "https" } else { "http" }, self.login_addr)
    }

    /// Makes something go wrong now.
    pub fn inject(&self, fault: Fault) {
        let told = self.shared.hub().inject(fault);
        tell_now(told);
    }

    /// Something happens to own orders, so many times.
    pub fn order(&self, times: u32) {
        for _ in 0..times {
            let told = self.shared.hub().order();
            tell_now(told);
        }
    }

    /// Ids and states of own orders, in the order in which they were placed.
    #[must_use]
    pub fn orders(&self) -> Vec<(String, String)> {
        self.shared.hub().orders()
    }

    /// Whether the generated markets stand still.
    pub fn stand_still(&self, still: bool) {
        self.shared.hub().still = still;
    }

    /// Ids of the markets.
    #[must_use]
    pub fn markets(&self) -> Vec<String> {
        self.shared.hub().markets.keys().cloned().collect()
    }

    /// The ladders of a market as the fake has them, a runner a line.
    #[must_use]
    pub fn ladders(&self, market: &str) -> String {
        self.shared.hub().markets.get(market).map(book::Market::text).unwrap_or_default()
    }

    /// What was handed to the sockets, oldest first; at most the newest million.
    #[must_use]
    pub fn log(&self) -> Vec<Sent> {
        self.shared.hub().log()
    }

    /// Connections that are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.hub().streams.len()
    }

    /// Subscriptions that were ever granted.
    #[must_use]
    pub fn subscribed(&self) -> u64 {
        self.shared.hub().subscribed
    }

    /// When TCP connections to the stream were made.
    #[must_use]
    pub fn connects(&self) -> Vec<Instant> {
        self.shared.hub().connects.clone()
    }

    /// What was asked for: requests of the stream without their secrets, paths of the other port.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.hub().requests.clone()
    }

    /// Every session token that is good.
    #[must_use]
    pub fn sessions(&self) -> Vec<String> {
        self.shared.hub().sessions.iter().cloned().collect()
    }

    /// Ends all connections and gives the ports back.
    pub async fn stop(mut self) {
        self.tasks.end().await;
    }
}

/// Puts into the queues what fits; who is too far behind misses it.
fn tell_now(told: Told) {
    for (queue, out) in told {
        let _ = queue.try_send(out);
    }
}

/// The generated markets, by the clock.
async fn walk(shared: Shared, mut walks: Vec<Walk>, mut rng: Rng, rate: u32) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    loop {
        clock.tick().await;
        let told = {
            let mut hub = shared.hub();
            if hub.still {
                continue;
            }
            let (at_ns, pick) = (hub.now_ns(), rng.index(walks.len()));
            let Some(walk) = walks.get_mut(pick) else { continue };
            let change = walk.step(at_ns, &mut rng);
            hub.publish(vec![change], None)
        };
        tell_now(told);
    }
}

/// The recording, at its own pace or as fast as it is taken.
async fn play(shared: Shared, messages: Vec<Recorded>, speed: Speed) {
    let listened_to = async || {
        while !shared.hub().is_listened_to() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    listened_to().await;
    let (began, first) = (tokio::time::Instant::now(), messages.first().map_or(0, |message| message.at_ns));
    for message in messages {
        match speed {
            Speed::Max => listened_to().await,
            Speed::Times(times) => {
                let since = Duration::from_nanos(u64::try_from(message.at_ns - first).unwrap_or(0));
                tokio::time::sleep_until(began + since.div_f64(times)).await;
            }
        }
        let told = {
            let mut hub = shared.hub();
            if message.orders {
                hub.publish_orders(message.changes, message.at_ns)
            } else {
                hub.publish(message.changes, Some(message.at_ns))
            }
        };
        for (queue, out) in told {
            // An error means that the connection has ended.
            let _ = queue.send(out).await;
        }
    }
    std::future::pending().await
}

/// Changes of own orders, by the clock.
async fn happen(shared: Shared, every: Option<Duration>) {
    let Some(every) = every else { return std::future::pending().await };
    let mut clock = tokio::time::interval(every);
    loop {
        clock.tick().await;
        let told = shared.hub().order();
        tell_now(told);
    }
}
