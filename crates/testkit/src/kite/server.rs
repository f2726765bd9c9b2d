//! The port: requests, and connections of WebSocket.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, Out};
use super::tell_now;
use crate::http::{Head, MAX_HEAD_BYTES, date, read_head};
use crate::serve;
use crate::ws::{self, Decoder, Incoming, Opcode};

/// How long a client may take to send its head.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Frames on their way to a client; one that is further behind misses some.
const QUEUE: usize = 8_192;
/// Frames that go out with one write.
const BATCH: usize = 64;

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<Hub>>);

impl Shared {
    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn run(shared: Shared, listener: TcpListener, stop: CancellationToken) {
    let client = |socket| {
        let shared = shared.clone();
        async move { serve(socket, &shared).await }
    };
    serve::clients(listener, stop, client).await;
}

async fn serve(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let head = tokio::time::timeout(HEAD_WAIT, read_head(&mut socket, Vec::new())).await;
    let head: Head = head.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let Some(welcome) = serve::handshake(&head) else { return answer(&mut socket, &head, shared).await };
    let opened = shared.hub().open(&head.query, QUEUE);
    let (conn, told) = match opened {
        Ok(opened) => opened,
        Err(status) => {
            let refusal = format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(refusal.as_bytes()).await?;
            return socket.shutdown().await;
        }
    };
    let served = async {
        socket.write_all(welcome.as_bytes()).await?;
        let (reader, writer) = socket.into_split();
        let (pongs, to_write) = mpsc::channel(64);
        tokio::select! {
            read = read(conn, reader, head.rest, shared, pongs) => read,
            written = write(writer, told, to_write) => written,
        }
    };
    let served = served.await;
    shared.hub().close(conn);
    served
}

async fn read(
    conn: u64,
    mut socket: OwnedReadHalf,
    early: Vec<u8>,
    shared: &Shared,
    pongs: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    decoder.push(&early);
    let mut bytes = vec![0; 16 * 1024];
    loop {
        while let Some(incoming) = decoder.next().map_err(io::Error::other)? {
            match incoming {
                Incoming::Text(text) => {
                    let told = shared.hub().text(conn, &text);
                    tell_now(told);
                }
                Incoming::Ping(payload) => {
                    // A client that pings faster than it reads gets fewer answers.
                    let _ = pongs.try_send(ws::frame(Opcode::Pong, &payload));
                }
                Incoming::Close => return Ok(()),
                Incoming::Binary(_) | Incoming::Pong => {}
            }
        }
        let len = socket.read(&mut bytes).await?;
        if len == 0 {
            return Ok(());
        }
        decoder.push(&bytes[..len]);
    }
}

async fn write(
    mut socket: OwnedWriteHalf,
    mut told: mpsc::Receiver<Out>,
    mut pongs: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut out = tokio::select! {
            biased;
            Some(pong) = pongs.recv() => {
                socket.write_all(&pong).await?;
                continue;
            }
            out = told.recv() => out,
        };
        let mut bytes = Vec::new();
        for _ in 0..BATCH {
            match out {
                Some(Out::Bytes(frame)) => bytes.extend_from_slice(&frame),
                _ => break,
            }
            out = told.try_recv().ok();
        }
        // What was taken last, and is none of a row of frames, has its turn behind them.
        let behind = match out {
            Some(Out::Bytes(frame)) => {
                bytes.extend_from_slice(&frame);
                None
            }
            other => other,
        };
        if bytes.is_empty() && behind.is_none() {
            return Ok(());
        }
        socket.write_all(&bytes).await?;
        match behind {
            None | Some(Out::Bytes(_)) => {}
            Some(Out::HalfOpen(None)) => std::future::pending().await,
            Some(Out::HalfOpen(Some(lasts))) => tokio::time::sleep(lasts).await,
            Some(Out::Cut { mid_frame }) => {
                if mid_frame {
                    // The head of a frame of 200 bytes, and ten of them.
                    let mut half = Vec::new();
                    ws::push_header(&mut half, Opcode::Binary, 200);
                    half.extend_from_slice(&[0, 1, 0, 184, 0, 6, 58, 1, 0, 2]);
                    socket.write_all(&half).await?;
                }
                return Ok(());
            }
        }
    }
}

/// Answers one request and closes.
async fn answer(socket: &mut TcpStream, head: &Head, shared: &Shared) -> io::Result<()> {
    let len: usize = head.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    if len > MAX_HEAD_BYTES {
        return Err(io::Error::other("a body of that length is not read"));
    }
    let mut body = head.rest.clone();
    while body.len() < len {
        if socket.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let (status, text, date) = {
        let mut hub = shared.hub();
        let (status, text) = hub.answer(head, &body[..len]);
        (status, text, date(hub.now_ns()))
    };
    let (len, kind) = (text.len(), if text.starts_with('{') { "application/json" } else { "text/csv" });
    let head = format!(
        "HTTP/1.1 {status} Status\r\ndate: {date}\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(text.as_bytes()).await?;
    socket.shutdown().await
}
