//! A connection of WebSocket from the fake's side: what it is told goes out, what the client says comes in.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::ws::{self, Decoder, Incoming, Opcode};

/// Frames that go out with one write.
const BATCH: usize = 64;

/// What a connection is told to do.
#[derive(Debug)]
pub(crate) enum Out {
    /// A frame of WebSocket, whole.
    Bytes(Vec<u8>),
    Cut {
        mid_frame: bool,
    },
    HalfOpen(Option<Duration>),
}

/// Welcomes the client and serves it until one side ends; `early` came behind its head, `text` hears what it says.
pub(crate) async fn talk(
    mut socket: TcpStream,
    welcome: &str,
    early: Vec<u8>,
    told: mpsc::Receiver<Out>,
    text: impl FnMut(&[u8]),
) -> io::Result<()> {
    socket.write_all(welcome.as_bytes()).await?;
    let (reader, writer) = socket.into_split();
    let (pongs, to_write) = mpsc::channel(64);
    tokio::select! {
        read = read(reader, early, pongs, text) => read,
        written = write(writer, told, to_write) => written,
    }
}

async fn read(
    mut socket: OwnedReadHalf,
    early: Vec<u8>,
    pongs: mpsc::Sender<Vec<u8>>,
    mut text: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    decoder.push(&early);
    let mut bytes = vec![0; 16 * 1024];
    loop {
        while let Some(incoming) = decoder.next().map_err(io::Error::other)? {
            match incoming {
                Incoming::Text(said) => text(&said),
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
