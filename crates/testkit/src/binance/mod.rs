//! A fake Binance spot: combined streams and the requests beside them, on one port.
//!
//! Every change is sent at once, where the venue gathers them for 100 ms. Faults are in [`GRAMMAR`].

mod fault;
mod hub;
mod simulate;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

pub use fault::{Fault, GRAMMAR, Garbage, Scheduled};
pub use simulate::{SimulateArgs, simulate};

use crate::http::read_head;
use crate::kraken::rng::Rng;
use crate::serve::{self, Tasks};
use crate::talk::talk;
use hub::{Hub, Told};

/// The key of a fake that is given none; requests without a key are answered too.
pub const KEY: &str = "fake-key-0123456789abcdef";
/// How long a client may take to send its head.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Frames on their way to a client; one that is further behind misses some.
const QUEUE: usize = 65_536;

/// A fake Binance that is to be started.
#[derive(Debug)]
pub struct FakeBinance {
    listen: SocketAddr,
    symbols: Vec<String>,
    seed: u64,
    rate: u32,
    ping: Duration,
    faults: Vec<Scheduled>,
}

impl FakeBinance {
    /// Three symbols, seed 1, 100 changes a second, a ping every 20 s, a free port of the loopback.
    #[must_use]
    pub fn builder() -> Self {
        FakeBinance {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            symbols: ["BTCUSDT", "ETHUSDT", "ETHBTC"].map(str::to_owned).into(),
            seed: 1,
            rate: 100,
            ping: Duration::from_secs(20),
            faults: Vec::new(),
        }
    }

    /// Where to listen; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    #[must_use]
    pub fn symbols(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.symbols = names.into_iter().map(Into::into).collect();
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Changes a second over all symbols; 0 = only [`Handle::steps`] makes some.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// Adds a fault: a [`Fault`] at once, or [`Scheduled`].
    #[must_use]
    pub fn fault(mut self, fault: impl Into<Scheduled>) -> Self {
        self.faults.push(fault.into());
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(self) -> anyhow::Result<Handle> {
        let hub = Hub::new(&self.symbols, KEY.to_owned(), Rng::new(self.seed));
        let (listener, addr) = serve::bind(self.listen).await?;
        let (shared, mut tasks) = (Shared(Arc::new(Mutex::new(hub))), Tasks::default());
        let of_clients = shared.clone();
        tasks.serve(|stop| async move {
            let client = |socket| {
                let shared = of_clients.clone();
                async move { client(socket, &shared).await }
            };
            serve::clients(listener, stop, client).await;
        });
        let (market, (rate, ping)) = (shared.clone(), (self.rate, self.ping));
        tasks.spawn(async move {
            let mut steps = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
            let mut pings = tokio::time::interval(ping);
            loop {
                let told = tokio::select! {
                    _ = steps.tick(), if rate > 0 => market.hub().step(),
                    _ = pings.tick() => market.hub().ping(),
                };
                tell(told);
            }
        });
        let (begun, strikes) = (shared.clone(), shared.clone());
        tasks.strike(
            self.faults,
            Fault::needs_a_connection,
            move || begun.hub().opened > 0,
            move |fault| tell(strikes.hub().inject(fault)),
        );
        Ok(Handle { addr, shared, tasks })
    }
}

/// A running fake Binance. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Shared,
    tasks: Tasks,
}

impl Handle {
    /// What takes the place of the address of streams.
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
        tell(told);
    }

    /// So many changes, at once.
    pub fn steps(&self, times: u32) {
        for _ in 0..times {
            let told = self.shared.hub().step();
            tell(told);
        }
    }

    /// A book as a request for it would be answered.
    #[must_use]
    pub fn book(&self, symbol: &str) -> Option<Value> {
        self.shared.hub().markets.get(symbol).map(|market| market.answer(usize::MAX))
    }

    /// Every trade that happened, with its symbol.
    #[must_use]
    pub fn trades(&self) -> Vec<(String, u64)> {
        self.shared.hub().trades.clone()
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.hub().connections()
    }

    /// Connections that were ever opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.shared.hub().opened
    }

    /// Paths that were asked for, with their queries.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.hub().requests.clone()
    }

    /// Requests of clients on their streams.
    #[must_use]
    pub fn asked(&self) -> Vec<Value> {
        self.shared.hub().asked.clone()
    }

    /// Ends all connections and gives the port back.
    pub async fn stop(mut self) {
        self.tasks.end().await;
    }
}

/// What all connections share.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Hub>>);

impl Shared {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts into the queues what fits.
fn tell(told: Told) {
    for (queue, out) in told {
        let _ = queue.try_send(out);
    }
}

/// A stream, or one request.
async fn client(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let head = tokio::time::timeout(HEAD_WAIT, read_head(&mut socket, Vec::new())).await;
    let head = head.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if let Some(welcome) = serve::handshake(&head) {
        let (conn, told) = shared.hub().open(&head.query, QUEUE);
        let served = talk(socket, &welcome, head.rest, told, |text| tell(shared.hub().asked(conn, text))).await;
        shared.hub().close(conn);
        return served;
    }
    let (status, text) = shared.hub().answer(&head);
    let retry = if matches!(status, 418 | 429) { "retry-after: 7\r\n" } else { "" };
    let len = text.len();
    let head = format!(
        "HTTP/1.1 {status} Status\r\n{retry}content-type: application/json\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(text.as_bytes()).await?;
    socket.shutdown().await
}
