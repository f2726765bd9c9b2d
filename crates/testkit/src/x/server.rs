//! The port: requests on kept connections, and the stream.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::rest::{self, Answer};
use crate::http::{date, read_head};
use crate::kraken::rng::Rng;
use crate::lines::{Lines, Out};
use crate::serve;

/// How long a client may take to send its head, or keep a connection without asking.
const HEAD_WAIT: Duration = Duration::from_secs(60);
/// Lines on their way to the stream.
const QUEUE: usize = 8_192;
/// A thousand rules of the longest kind.
const BODY_BYTES: usize = 8 << 20;

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Mutex<Hub>>,
    pub(crate) keep_alive: Duration,
    /// Encrypts, where the fake has a certificate.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("keep_alive", &self.keep_alive).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn run(shared: Shared, listener: TcpListener, stop: CancellationToken) {
    let client = |socket| {
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

/// Requests one after the other, until one asks for the stream.
async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    let mut left = Vec::new();
    loop {
        let head = tokio::time::timeout(HEAD_WAIT, read_head(&mut socket, left)).await;
        let mut head = head.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let body = head.body(&mut socket, BODY_BYTES).await?;
        let (answer, now_ns) = {
            let mut hub = shared.hub();
            (rest::answer(&mut hub, &head, &body), hub.now_ns())
        };
        match answer {
            Answer::Text(status, text) => socket.write_all(rest::http(status, "", &text, now_ns).as_bytes()).await?,
            Answer::Limited(until) => {
                let more =
                    format!("x-rate-limit-limit: 50\r\nx-rate-limit-remaining: 0\r\nx-rate-limit-reset: {until}\r\n");
                let text =
                    r#"{"title":"Too Many Requests","detail":"Too Many Requests","type":"about:blank","status":429}"#;
                socket.write_all(rest::http(429, &more, text, now_ns).as_bytes()).await?;
            }
            Answer::Stream => {
                let (number, told, rng) = {
                    let mut hub = shared.hub();
                    let (number, told) = hub.open(QUEUE);
                    (number, told, Rng::new(hub.rng.next()))
                };
                let (reader, writer) = tokio::io::split(socket);
                let head = format!("date: {}\r\ncontent-type: application/json; charset=utf-8\r\n", date(now_ns));
                let ended = match Lines::begin(writer, &head, rng, b"\r\n").await {
                    Ok(lines) => stream(shared.keep_alive, reader, lines, told).await,
                    Err(error) => Err(error),
                };
                let mut hub = shared.hub();
                if hub.stream.as_ref().is_some_and(|(open, _)| *open == number) {
                    hub.stream = None;
                }
                return ended;
            }
        }
        left = head.rest;
    }
}

/// Posts as they come, and blank lines now and then.
async fn stream(
    keep_alive: Duration,
    mut reader: impl AsyncRead + Unpin,
    mut lines: Lines<impl AsyncWrite + Unpin>,
    mut told: mpsc::Receiver<Out>,
) -> io::Result<()> {
    let mut beats = interval_at(tokio::time::Instant::now() + keep_alive, keep_alive);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nothing = [0_u8; 64];
    loop {
        tokio::select! {
            biased;
            read = reader.read(&mut nothing) => if read? == 0 { return Ok(()) },
            out = told.recv() => {
                let Some(out) = out else { return Ok(()) };
                let half = r#"{"data":{"id":"1","text":"never whole"}}"#;
                // What says nothing any more still notices that the client has left.
                tokio::select! {
                    goes_on = lines.take(out, &mut told, half, |_, _| {}) => if !goes_on? { return Ok(()) },
                    read = reader.read(&mut nothing) => if read? == 0 { return Ok(()) },
                }
            }
            _ = beats.tick() => lines.cut_anywhere(b"\r\n").await?,
        }
    }
}
