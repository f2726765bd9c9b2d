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

use super::hub::{Hub, Out, Sent};
use super::market::stamp;
use super::rest::{self, Answer};
use crate::http::{Head, read_head};
use crate::kraken::rng::Rng;
use crate::kraken::text::now_ns;
use crate::serve;

/// How long a client may take to send its head, or keep a connection without asking.
const HEAD_WAIT: Duration = Duration::from_secs(60);
/// Lines on their way to a stream; a client that is further behind is cut.
const QUEUE: usize = 8_192;
/// Lines that go out with one write.
const BATCH: usize = 64;

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
                let mut stream =
                    Streaming { number, writer, shared: shared.clone(), unix, rng: rng.0, transactions: rng.1 };
                let ended = stream.run(reader, told).await;
                shared.hub().streams.remove(&number);
                return ended;
            }
        }
        left = head.rest;
    }
}

/// The answer that does not end.
struct Streaming<W> {
    number: u64,
    writer: W,
    shared: Shared,
    unix: bool,
    rng: Rng,
    transactions: bool,
}

impl<W: AsyncWrite + Unpin> Streaming<W> {
    async fn run(&mut self, mut reader: impl AsyncRead + Unpin, mut told: mpsc::Receiver<Out>) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        self.writer.write_all(head.as_bytes()).await?;
        let every = self.shared.heartbeat;
        let mut beats = interval_at(tokio::time::Instant::now() + every, every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut nothing = [0_u8; 64];
        loop {
            tokio::select! {
                biased;
                out = told.recv() => match out {
                    None => return Ok(()),
                    Some(out) => if !self.take(out, &mut told).await? { return Ok(()) },
                },
                _ = beats.tick() => {
                    let line = self.heartbeat();
                    self.chunks(line.as_bytes()).await?;
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

    /// Does what it is told; whether the stream goes on.
    async fn take(&mut self, first: Out, told: &mut mpsc::Receiver<Out>) -> io::Result<bool> {
        let (mut bytes, mut next) = (Vec::new(), Some(first));
        for _ in 0..BATCH {
            match next.take() {
                Some(Out::Line(kind, text)) => {
                    bytes.extend_from_slice(text.as_bytes());
                    bytes.push(b'\n');
                    self.enter(kind, text, true);
                }
                Some(Out::Bytes(more)) => bytes.extend_from_slice(&more),
                other => {
                    next = other;
                    break;
                }
            }
            next = told.try_recv().ok();
        }
        self.chunks(&bytes).await?;
        match next {
            None => Ok(true),
            Some(Out::HalfOpen(None)) => std::future::pending().await,
            Some(Out::HalfOpen(Some(lasts))) => {
                tokio::time::sleep(lasts).await;
                Ok(true)
            }
            Some(Out::Cut { in_line }) => {
                if in_line {
                    let (half, len) = self.half();
                    self.writer.write_all(format!("{len:x}\r\n{half}").as_bytes()).await?;
                    self.writer.flush().await?;
                }
                Ok(false)
            }
            Some(Out::End { in_line }) => {
                if in_line {
                    let (half, _) = self.half();
                    self.chunk(half.as_bytes()).await?;
                }
                self.writer.write_all(b"0\r\n\r\n").await?;
                self.writer.shutdown().await?;
                Ok(false)
            }
            // A batch was full: the rest has its turn at once.
            Some(line) => Box::pin(self.take(line, told)).await,
        }
    }

    /// The first half of a line, and its whole length.
    fn half(&mut self) -> (String, usize) {
        let line = self.heartbeat();
        let half = line[..line.len() / 2].to_owned();
        (half, line.len())
    }

    /// Writes bytes as two chunks, cut anywhere.
    async fn chunks(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let cut = self.rng.index(bytes.len());
        if cut > 0 {
            self.chunk(&bytes[..cut]).await?;
        }
        self.chunk(&bytes[cut..]).await
    }

    async fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.writer.write_all(&chunk).await?;
        self.writer.flush().await
    }

    fn enter(&self, kind: &'static str, text: String, whole: bool) {
        self.shared.hub().enter(Sent { stream: self.number, ts_ns: now_ns(), kind, text, whole });
    }
}
