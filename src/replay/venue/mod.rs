//! A Kraken made of a tape: WebSocket v2 on a local port, fed by the replay.
//!
//! ```text
//! Player ─► Venue ─► State (books, tickers, list of pairs)
//!             └────► each connection that subscribed ─► bounded queue ─► socket
//! ```
//!
//! What is played is what the venue sent: the same digits, trade ids, checksums and venue times. A client that subscribes in
//! the middle gets a snapshot of the book as it is then, with a checksum of its own. The replay begins when a client has
//! subscribed and nothing more was asked for a moment; a slow client holds it up, one that takes nothing is dropped.

mod conn;
mod frames;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use tapedeck_market::{Record, SmolStr};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use super::player::Target;
use conn::serve;
use frames::Channel;
use state::State;

/// Frames on their way to one client.
const QUEUE_FRAMES: usize = 4_096;
/// A client that takes nothing for so long is dropped, so that the others go on.
const PATIENCE: Duration = Duration::from_secs(30);
/// The replay begins when nothing was subscribed for so long.
const SETTLED: Duration = Duration::from_millis(500);
/// Clients at once.
const CONNECTIONS: usize = 256;

/// The venue that is played.
const KRAKEN: &str = "kraken";

/// A fake Kraken whose market is the tape.
#[derive(Debug)]
pub struct Venue {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Bound from the start, so that clients may connect; served once there is something to tell them.
    listener: Option<TcpListener>,
    accepting: Option<JoinHandle<()>>,
    stop: CancellationToken,
    /// Records that are no Kraken's, or came by no channel that is played.
    passed_over: u64,
    /// A frame and whom it goes to, until it has gone.
    held: Option<Held>,
}

type Held = (String, Vec<(u64, mpsc::Sender<Utf8Bytes>)>);

/// What connections and the replay share.
#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// Somebody subscribed, or ended a subscription.
    asked: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    conns: BTreeMap<u64, Conn>,
    /// Connections that there ever were.
    connections: u64,
}

#[derive(Debug)]
struct Conn {
    out: mpsc::Sender<Utf8Bytes>,
    subscribed: BTreeSet<(&'static str, SmolStr)>,
    end: CancellationToken,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The queues of those who subscribed to this.
    fn listeners(&self, channel: Channel, symbol: &SmolStr) -> Vec<(u64, mpsc::Sender<Utf8Bytes>)> {
        // The list of pairs has one subscription for all.
        let symbol = if channel == Channel::Instrument { SmolStr::default() } else { symbol.clone() };
        let key = (channel.name(), symbol);
        let heard = self.conns.iter().filter(|(_, conn)| conn.subscribed.contains(&key));
        heard.map(|(&id, conn)| (id, conn.out.clone())).collect()
    }
}

impl Venue {
    /// Listens; the replay itself waits for a client.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn listen(addr: SocketAddr) -> anyhow::Result<Venue> {
        let listener = TcpListener::bind(addr)
            .await
            .with_context(|| format!("listening on {addr} (`--listen` names another address)"))?;
        let addr = listener.local_addr().context("listening")?;
        let stop = CancellationToken::new();
        Ok(Venue {
            addr,
            shared: Arc::default(),
            listener: Some(listener),
            accepting: None,
            stop,
            passed_over: 0,
            held: None,
        })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a client connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/v2", self.addr)
    }

    /// Records that were not played, because no channel of Kraken has them.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Hands out what is queued, says good-bye and ends.
    pub async fn end(self) {
        self.shared.lock().conns.clear();
        self.stop.cancel();
        // Connections end with the accepting task; it waits for them for as long as for any slow client.
        if let Some(accepting) = self.accepting {
            let _ = tokio::time::timeout(PATIENCE, accepting).await;
        }
    }

    async fn send(&self, frame: String, to: Vec<(u64, mpsc::Sender<Utf8Bytes>)>) {
        let frame = Utf8Bytes::from(frame);
        for (id, out) in to {
            // An error of the queue: the client has gone by itself.
            if tokio::time::timeout(PATIENCE, out.send(frame.clone())).await.is_err()
                && let Some(conn) = self.shared.lock().conns.remove(&id)
            {
                tracing::warn!(client = id, "a client takes nothing and is dropped");
                conn.end.cancel();
            }
        }
    }
}

#[async_trait]
impl Target for Venue {
    fn has_memory(&self) -> bool {
        true
    }

    fn remember(&mut self, record: &Record) {
        if record.event.venue == KRAKEN {
            self.shared.lock().state.apply(&record.event);
        }
    }

    fn expect(&mut self, record: &Record) {
        if record.event.venue == KRAKEN {
            self.shared.lock().state.expect(&record.event);
        }
    }

    fn forget(&mut self) {
        self.shared.lock().state.forget();
    }

    /// Waits for a client that has subscribed to all it wants. Behind a jump each gets its books anew.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let first = self.listener.take();
        let jumped = first.is_none();
        if let Some(listener) = first {
            self.accepting = Some(tokio::spawn(accept(listener, self.shared.clone(), self.stop.clone())));
        }
        loop {
            let asked = self.shared.asked.notified();
            let anybody = self.shared.lock().conns.values().any(|conn| !conn.subscribed.is_empty());
            if anybody {
                if tokio::time::timeout(SETTLED, asked).await.is_err() {
                    break;
                }
            } else {
                asked.await;
            }
        }
        if !jumped {
            // Whoever subscribed by now has been told what there is.
            return Ok(());
        }
        let snapshots: Vec<_> = {
            let inner = self.shared.lock();
            let told = inner.conns.iter().flat_map(|(id, conn)| conn.subscribed.iter().map(move |key| (id, conn, key)));
            told.filter_map(|(id, conn, (channel, symbol))| {
                let frame = inner.state.snapshot(Channel::from_name(channel)?, symbol)?;
                Some((frame, vec![(*id, conn.out.clone())]))
            })
            .collect()
        };
        for (frame, to) in snapshots {
            self.send(frame, to).await;
        }
        Ok(())
    }

    fn play(&mut self, record: &Record) -> anyhow::Result<()> {
        let event = &record.event;
        let channel = Channel::of(&event.body).filter(|_| event.venue == KRAKEN);
        let Some((channel, frame)) = channel.zip(frames::frame(event)) else {
            self.passed_over += 1;
            return Ok(());
        };
        let to = {
            let mut inner = self.shared.lock();
            let news = inner.state.apply(event);
            if news { inner.listeners(channel, &event.symbol) } else { Vec::new() }
        };
        self.held = Some((frame, to)).filter(|(_, to)| !to.is_empty());
        Ok(())
    }

    fn holds(&self) -> bool {
        self.held.is_some()
    }

    async fn pass_on(&mut self) {
        if let Some((frame, to)) = self.held.take() {
            self.send(frame, to).await;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut clients = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept(), if clients.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(clients.spawn(serve(stream, shared.clone()))),
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    while clients.join_next().await.is_some() {}
}
