//! The port of the stream: lines with CRLF both ways, cut into writes that know nothing of lines.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, Out};
use crate::kraken::rng::Rng;
use crate::serve;

/// The venue's own limit: who does not subscribe meanwhile is hung up on.
const IDLE: Duration = Duration::from_secs(15);
/// Longest request.
const REQUEST_BYTES: usize = 1 << 20;
/// Messages on their way to a connection.
const QUEUE: usize = 8_192;
/// Lines that go out with one write.
const BATCH: usize = 64;

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Mutex<Hub>>,
    /// Encrypts, where the fake has a certificate.
    pub(crate) tls: Option<TlsAcceptor>,
    /// A login with a certificate needs one.
    pub(crate) certificates: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn run(shared: Shared, listener: TcpListener, stop: CancellationToken) {
    let client = |socket: TcpStream| {
        shared.hub().connects.push(Instant::now());
        let shared = shared.clone();
        async move {
            socket.set_nodelay(true)?;
            match shared.tls.clone() {
                None => serve(socket, &shared).await,
                Some(tls) => {
                    let accepted = tokio::time::timeout(IDLE, tls.accept(socket)).await;
                    serve(accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??, &shared).await
                }
            }
        }
    };
    serve::clients(listener, stop, client).await;
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    let (number, told, rng) = {
        let mut hub = shared.hub();
        let (number, told) = hub.open(QUEUE);
        (number, told, Rng::new(hub.rng.next()))
    };
    let (reader, writer) = tokio::io::split(socket);
    let mut connection = Connection { number, writer, shared: shared.clone(), rng, drip: 0, beats: None };
    let ended = connection.run(reader, told).await;
    shared.hub().streams.remove(&number);
    ended
}

struct Connection<W> {
    number: u64,
    writer: W,
    shared: Shared,
    rng: Rng,
    /// Bytes that are still written one by one.
    drip: usize,
    /// Once it is subscribed.
    beats: Option<Interval>,
}

impl<W: AsyncWrite + Unpin> Connection<W> {
    async fn run(&mut self, mut reader: impl AsyncRead + Unpin, mut told: mpsc::Receiver<Out>) -> io::Result<()> {
        let hello = format!("{{\"op\":\"connection\",\"connectionId\":\"002-051134157842-{}\"}}\r\n", self.number);
        self.bytes(hello.as_bytes()).await?;
        let mut held = Vec::new();
        let idle = tokio::time::sleep(IDLE);
        tokio::pin!(idle);
        loop {
            tokio::select! {
                biased;
                out = told.recv() => match out {
                    None => return Ok(()),
                    Some(out) => if !self.take(out, Some(&mut told)).await? { return Ok(()) },
                },
                () = beat(&mut self.beats) => {
                    let line = self.shared.hub().heartbeat(self.number);
                    if let Some(line) = line {
                        self.take(Out::Line("heartbeat", line), None).await?;
                    }
                }
                () = &mut idle, if self.beats.is_none() => {
                    let line = r#"{"op":"status","statusCode":"FAILURE","errorCode":"TIMEOUT","errorMessage":"Connection is not subscribed and is idle: 15000 ms","connectionClosed":true}"#;
                    return self.take(Out::Last(line.to_owned()), None).await.map(drop);
                }
                read = reader.read_buf(&mut held) => {
                    if read? == 0 || held.len() > REQUEST_BYTES {
                        return Ok(());
                    }
                    while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = held.drain(..=end).collect();
                        if !self.request(String::from_utf8_lossy(&line).trim()).await? {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Answers a request; whether the connection goes on.
    async fn request(&mut self, text: &str) -> io::Result<bool> {
        let answers = self.shared.hub().request(self.number, text);
        for answer in answers {
            if let Out::Line("image" | "resub", line) = &answer {
                let every = field(line, "\"heartbeatMs\":").unwrap_or(5_000);
                let every = Duration::from_millis(every.max(10));
                let mut beats = interval_at(tokio::time::Instant::now() + every, every);
                beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
                self.beats.get_or_insert(beats);
            }
            if !self.take(answer, None).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does what it is told, and what else is queued; whether the connection goes on.
    async fn take(&mut self, first: Out, mut told: Option<&mut mpsc::Receiver<Out>>) -> io::Result<bool> {
        let (mut bytes, mut next) = (Vec::new(), Some(first));
        for _ in 0..BATCH {
            match next.take() {
                Some(Out::Line(kind, text)) => {
                    bytes.extend_from_slice(text.as_bytes());
                    bytes.extend_from_slice(b"\r\n");
                    self.shared.hub().enter(self.number, kind, text);
                }
                Some(Out::Bytes(more)) => bytes.extend_from_slice(&more),
                Some(Out::Drip(many)) => self.drip += many,
                other => {
                    next = other;
                    break;
                }
            }
            next = told.as_mut().and_then(|told| told.try_recv().ok());
        }
        self.bytes(&bytes).await?;
        match next {
            None => Ok(true),
            Some(Out::HalfOpen(None)) => std::future::pending().await,
            Some(Out::HalfOpen(Some(lasts))) => {
                tokio::time::sleep(lasts).await;
                Ok(true)
            }
            Some(Out::Last(text)) => {
                self.bytes(format!("{text}\r\n").as_bytes()).await?;
                self.writer.shutdown().await?;
                Ok(false)
            }
            Some(Out::Cut { in_line }) => {
                self.half(in_line).await?;
                Ok(false)
            }
            Some(Out::End { in_line }) => {
                self.half(in_line).await?;
                self.writer.shutdown().await?;
                Ok(false)
            }
            // A batch was full: the rest has its turn at once.
            Some(line) => Box::pin(self.take(line, told)).await,
        }
    }

    /// Half of a line, where that is wanted.
    async fn half(&mut self, wanted: bool) -> io::Result<()> {
        if wanted {
            self.bytes(br#"{"op":"mcm","id":2,"clk":"AA"#).await?;
        }
        Ok(())
    }

    /// Writes bytes cut in two anywhere, or one by one.
    async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (one_by_one, rest) = bytes.split_at(self.drip.min(bytes.len()));
        self.drip -= one_by_one.len();
        for byte in one_by_one {
            self.writer.write_all(&[*byte]).await?;
            self.writer.flush().await?;
        }
        let (first, second) = rest.split_at(self.rng.index(rest.len()));
        for part in [first, second] {
            self.writer.write_all(part).await?;
            self.writer.flush().await?;
        }
        Ok(())
    }
}

async fn beat(beats: &mut Option<Interval>) {
    match beats {
        Some(beats) => drop(beats.tick().await),
        None => std::future::pending().await,
    }
}

/// The number behind a key.
fn field(line: &str, key: &str) -> Option<u64> {
    let rest = &line[line.find(key)? + key.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
