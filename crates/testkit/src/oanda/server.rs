//! The port: requests on kept connections, and streams in chunks that know nothing of lines.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, Sent};
use super::market::stamp;
use super::rest::{self, Answer};
use crate::http::{Head, read_head};
use crate::kraken::rng::Rng;
use crate::kraken::text::now_ns;
use crate::lines::{Lines, Out};
use crate::serve;

/// How long a client may take to send its head, or keep a connection without asking.
const HEAD_WAIT: Duration = Duration::from_secs(60);
/// Lines on their way to a stream; a client that is further behind is cut.
const QUEUE: usize = 8_192;

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Mutex<Hub>>,
    pub(crate) heartbeat: Duration,
    /// Encrypts, where the fake has a certificate.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("heartbeat", &self.heartbeat).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn run(shared: Shared, listener: TcpListener, stop: CancellationToken) {
    let client = |socket| {
        shared.hub().connects.push(Instant::now());
        let shared = shared.clone();
        async move { welcome(socket, &shared).await }
    };
    serve::clients(listener, stop, client).await;
}

async fn welcome(socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match &shared.tls {
        None => serve(socket, shared).await,
        Some(tls) => {
            let accepted = tokio::time::timeout(HEAD_WAIT, tls.accept(socket)).await;
            serve(accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??, shared).await
        }
    }
}

/// Requests one after the other, until one asks for a stream.
async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    let mut left = Vec::new();
    loop {
        let head = tokio::time::timeout(HEAD_WAIT, read_head(&mut socket, left)).await;
        let head: Head = head.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let answer = rest::answer(&mut shared.hub(), &head);
        match answer {
            Answer::Text(status, text) => socket.write_all(rest::http(status, &text).as_bytes()).await?,
            Answer::Stream(instruments) => {
                let unix = rest::is_unix(&head);
                let (number, told, rng) = {
                    let mut hub = shared.hub();
                    let transactions = instruments.is_none();
                    let (number, told) = hub.open(instruments, unix, QUEUE);
                    (number, told, (Rng::new(hub.rng.next()), transactions))
                };
                let (reader, writer) = tokio::io::split(socket);
                let stream = Streaming { number, shared: shared.clone(), unix, transactions: rng.1 };
                let head = "content-type: application/octet-stream\r\n";
                let ended = match Lines::begin(writer, head, rng.0, b"\n").await {
                    Ok(lines) => stream.run(reader, lines, told).await,
                    Err(error) => Err(error),
                };
                shared.hub().streams.remove(&number);
                return ended;
            }
        }
        left = head.rest;
    }
}

/// The answer that does not end.
struct Streaming {
    number: u64,
    shared: Shared,
    unix: bool,
    transactions: bool,
}

impl Streaming {
    async fn run(
        &self,
        mut reader: impl AsyncRead + Unpin,
        mut lines: Lines<impl AsyncWrite + Unpin>,
        mut told: mpsc::Receiver<Out>,
    ) -> io::Result<()> {
        let every = self.shared.heartbeat;
        let mut beats = interval_at(tokio::time::Instant::now() + every, every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut nothing = [0_u8; 64];
        loop {
            tokio::select! {
                biased;
                out = told.recv() => match out {
                    None => return Ok(()),
                    Some(out) => {
                        let enter = |kind, text| {
                            self.shared.hub().enter(Sent { stream: self.number, ts_ns: now_ns(), kind, text, whole: true });
                        };
                        if !lines.take(out, &mut told, &self.heartbeat(), enter).await? {
                            return Ok(());
                        }
                    }
                },
                _ = beats.tick() => {
                    let line = self.heartbeat();
                    lines.cut_anywhere(line.as_bytes()).await?;
                }
                read = reader.read(&mut nothing) => if read? == 0 { return Ok(()) },
            }
        }
    }

    fn heartbeat(&self) -> String {
        let hub = self.shared.hub();
        let time = stamp(hub.now_ns(), self.unix);
        if self.transactions {
            let last = hub.last_transaction();
            format!("{{\"type\":\"HEARTBEAT\",\"lastTransactionID\":\"{last}\",\"time\":\"{time}\"}}\n")
        } else {
            format!("{{\"type\":\"HEARTBEAT\",\"time\":\"{time}\"}}\n")
        }
    }
}
