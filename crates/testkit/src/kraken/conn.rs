//! One WebSocket connection: a reader of requests and a writer of frames, side by side.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, Out};
use super::log::SentLog;
use super::text::now_ns;
use crate::ws::{self, Decoder, Incoming, Opcode};

/// Messages that go out with one write.
const BATCH: usize = 512;
/// Pause after each byte of a slow drip: a frame of 200 bytes takes 0.2 s.
const DRIP_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of a lap that are stamped and written at once.
const LAP_CHUNK: usize = 128 * 1024;
/// A client that subscribes in pieces is waited for so long before a lap is prepared.
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(20);
/// How long the peer may take to answer a close frame.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// When the writer stops or slows; `None` = it does not, far future = until healed.
#[derive(Clone, Copy, Debug, Default)]
struct Ailment {
    half_open: Option<Instant>,
    drip: Option<Instant>,
}

/// What all connections of a server share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Mutex<Hub>>,
    pub(crate) log: Option<SentLog>,
    /// Data messages that were handed to a socket.
    pub(crate) messages: Arc<AtomicU64>,
    /// As fast as the sockets take, see [`super::lap`].
    pub(crate) flat_out: bool,
}

/// Serves a connection whose handshake is done, until it ends in any way.
pub(crate) async fn serve(id: u64, stream: TcpStream, early: Vec<u8>, shared: Shared, server: CancellationToken) {
    let hub = &*shared.hub;
    let end = server.child_token();
    let queue = hub.lock().unwrap_or_else(PoisonError::into_inner).connect(id, end.clone());
    let (reader, writer) = stream.into_split();
    let (deaf, ears) = watch::channel(None);
    let read = read(id, reader, early, hub, ears);
    let write = Writer {
        id,
        socket: writer,
        queue,
        shared: shared.clone(),
        deaf,
        ailment: Ailment::default(),
        told_anew: false,
    };
    let outcome = tokio::select! {
        biased;
        () = end.cancelled() => Ok(()),
        outcome = read => outcome,
        outcome = write.run() => outcome,
    };
    hub.lock().unwrap_or_else(PoisonError::into_inner).disconnect(id);
    if let Err(error) = outcome {
        tracing::debug!(conn = id, error = %error, "connection ended");
    }
}

async fn read(
    id: u64,
    mut socket: OwnedReadHalf,
    early: Vec<u8>,
    hub: &Mutex<Hub>,
    mut ears: watch::Receiver<Option<Instant>>,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    decoder.push(&early);
    let mut bytes = vec![0; 16 * 1024];
    loop {
        while let Some(incoming) = decoder.next().map_err(io::Error::other)? {
            let mut hub = hub.lock().unwrap_or_else(PoisonError::into_inner);
            match incoming {
                Incoming::Text(text) => hub.request(id, &text),
                Incoming::Ping(payload) => hub.send(id, Out::Raw(ws::frame(Opcode::Pong, &payload).into())),
                Incoming::Close => hub.send(id, Out::Close(ws::close_frame(1_000, "").into())),
                Incoming::Binary(_) | Incoming::Pong => {}
            }
        }
        // Half-open: what the client sends stays in the socket.
        loop {
            let deaf = *ears.borrow_and_update();
            let Some(until) = deaf else { break };
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                changed = ears.changed() => changed.map_err(io::Error::other)?,
            }
        }
        let len = tokio::select! {
            len = socket.read(&mut bytes) => len?,
            changed = ears.changed() => {
                changed.map_err(io::Error::other)?;
                continue;
            }
        };
        if len == 0 {
            return Ok(());
        }
        decoder.push(&bytes[..len]);
    }
}

struct Writer {
    id: u64,
    socket: OwnedWriteHalf,
    queue: mpsc::Receiver<Out>,
    shared: Shared,
    /// Tells the reader until when to hear nothing.
    deaf: watch::Sender<Option<Instant>>,
    ailment: Ailment,
    /// A subscription began or ended: a lap must be prepared anew.
    told_anew: bool,
}

/// What a batch ends with.
enum Last {
    Nothing,
    Reset,
    Close(Bytes),
}

impl Writer {
    async fn run(mut self) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut bytes = Vec::with_capacity(64 * 1024);
        loop {
            if self.shared.flat_out && !self.told_anew {
                self.run_laps().await?;
            }
            let wait = if self.told_anew { SUBSCRIBE_PAUSE } else { Duration::MAX };
            match tokio::time::timeout(wait, self.queue.recv_many(&mut batch, BATCH)).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(_) => {
                    self.told_anew = false;
                    continue;
                }
            }
            let last = self.prepare(&mut batch, &mut bytes);
            self.write(&bytes).await?;
            bytes.clear();
            match last {
                Last::Nothing => {}
                Last::Reset => return self.reset(),
                Last::Close(close) => return self.close(&close).await,
            }
        }
    }

    /// Sends laps until the queue has something, and stops at the end of one: books are then as they were.
    async fn run_laps(&mut self) -> io::Result<()> {
        let hub = Arc::clone(&self.shared.hub);
        let lap = hub.lock().unwrap_or_else(PoisonError::into_inner).lap(self.id);
        let Some(mut lap) = lap else { return Ok(()) };
        let mut laps = 0;
        while self.queue.is_empty() {
            let mut from = 0;
            while from < lap.len() {
                let to = lap.len().min(from + LAP_CHUNK);
                self.socket.write_all(lap.stamped(from..to)).await?;
                from = to;
            }
            lap.advance();
            laps += 1;
            self.shared.messages.fetch_add(lap.messages, Ordering::Relaxed);
        }
        hub.lock().unwrap_or_else(PoisonError::into_inner).lapped(&lap, laps);
        Ok(())
    }

    /// Gathers the bytes of a batch, enters them in the log, and takes up what it says of the connection.
    fn prepare(&mut self, batch: &mut Vec<Out>, bytes: &mut Vec<u8>) -> Last {
        let mut last = Last::Nothing;
        let mut told = batch.len();
        for (n, out) in batch.iter().enumerate() {
            match out {
                Out::Frame(frame, delivery) if delivery.is_sent() => bytes.extend_from_slice(&frame.wire),
                Out::Frame(..) => {}
                Out::Raw(raw) => bytes.extend_from_slice(raw),
                Out::Cut { mid_frame } => {
                    if *mid_frame {
                        // The beginning of a frame that never ends.
                        let frame = ws::frame(Opcode::Text, br#"{"channel":"trade","type":"update","data":[{"sym"#);
                        bytes.extend_from_slice(&frame[..frame.len() - 9]);
                    }
                    last = Last::Reset;
                }
                Out::Close(close) => last = Last::Close(close.clone()),
                Out::HalfOpen { lasts } => {
                    self.ailment.half_open = Some(until(*lasts));
                    let _ = self.deaf.send(self.ailment.half_open);
                }
                Out::SlowDrip { lasts } => self.ailment.drip = Some(until(*lasts)),
                Out::Heal => {
                    self.ailment = Ailment::default();
                    let _ = self.deaf.send(None);
                }
            }
            if !matches!(last, Last::Nothing) {
                told = n;
                break;
            }
        }
        let is_told = |out: &&Out| matches!(out, Out::Frame(_, delivery) if delivery.is_sent());
        let sent = batch[..told].iter().filter(is_told).count();
        self.shared.messages.fetch_add(sent as u64, Ordering::Relaxed);
        self.told_anew |= self.shared.flat_out
            && batch
                .iter()
                .any(|out| matches!(out, Out::Frame(frame, _) if matches!(frame.kind, "ack" | "unsubscribed")));
        if let Some(log) = &self.shared.log {
            let frames = batch[..told].iter().filter_map(|out| match out {
                Out::Frame(frame, delivery) => Some((&**frame, *delivery)),
                _ => None,
            });
            log.enter(self.id, now_ns(), frames);
        }
        batch.clear();
        last
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(until) = self.ailment.half_open {
            self.keep_silent(until).await;
        }
        if self.ailment.drip.is_some_and(|until| until > Instant::now()) {
            for byte in bytes {
                self.socket.write_all(std::slice::from_ref(byte)).await?;
                tokio::time::sleep(DRIP_PAUSE).await;
            }
            return Ok(());
        }
        self.socket.write_all(bytes).await
    }

    /// Half-open: what is told meanwhile is lost with its place in the log, like bytes in a dead router.
    async fn keep_silent(&mut self, until: Instant) {
        loop {
            let out = tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                out = self.queue.recv() => out,
            };
            match out {
                Some(Out::Heal) | None => break,
                Some(_) => {}
            }
        }
        self.ailment.half_open = None;
        let _ = self.deaf.send(None);
    }

    fn reset(self) -> io::Result<()> {
        self.socket.as_ref().set_zero_linger()?;
        // Dropped without a FIN: the peer gets a reset when the reading half is gone too.
        self.socket.forget();
        Ok(())
    }

    async fn close(mut self, close: &[u8]) -> io::Result<()> {
        self.socket.write_all(close).await?;
        self.socket.shutdown().await?;
        // The reader sees the peer's end first, usually.
        tokio::time::sleep(CLOSE_GRACE).await;
        Ok(())
    }
}

fn until(lasts: Option<Duration>) -> Instant {
    // A day: longer than any test, and no overflow.
    Instant::now() + lasts.unwrap_or(Duration::from_secs(86_400))
}
