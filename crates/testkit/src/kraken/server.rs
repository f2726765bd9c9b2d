//! The port: tells WebSocket from HTTP by the request's head.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::conn::{self, Shared};
use super::hub::Hub;
use super::rest;
use crate::http::{Head, MAX_HEAD_BYTES, read_head};
use crate::serve;

/// How long a client may take to send its head.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// A listening server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) shared: Shared,
    /// Connections that were ever made.
    pub(crate) sessions: Arc<AtomicU64>,
}

impl Server {
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let client = |socket| {
            let (shared, sessions) = (self.shared.clone(), Arc::clone(&self.sessions));
            welcome(socket, shared, sessions, stop.clone())
        };
        serve::clients(listener, stop.clone(), client).await;
    }
}

async fn welcome(
    mut stream: TcpStream,
    shared: Shared,
    sessions: Arc<AtomicU64>,
    stop: CancellationToken,
) -> io::Result<()> {
    let head = tokio::time::timeout(HEAD_WAIT, read_head(&mut stream, Vec::new())).await??;
    let Some(handshake) = serve::handshake(&head) else { return answer(&mut stream, &head, &shared.hub).await };
    if head.path != "/v2" && head.path != "/v2/" {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        return Err(io::Error::other("no WebSocket of version 2 was asked for"));
    }
    stream.set_nodelay(true)?;
    stream.write_all(handshake.as_bytes()).await?;
    let id = sessions.fetch_add(1, Ordering::Relaxed) + 1;
    conn::serve(id, stream, head.rest, shared, stop).await;
    Ok(())
}

/// Answers one HTTP request and closes.
async fn answer(stream: &mut TcpStream, head: &Head, hub: &Mutex<Hub>) -> io::Result<()> {
    let len: usize = head.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    if len > MAX_HEAD_BYTES {
        return Err(io::Error::other("a body of that length is not read"));
    }
    let mut body = head.rest.clone();
    while body.len() < len {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    body.truncate(len);
    let (status, text) = hub.lock().unwrap_or_else(PoisonError::into_inner).answer(head, &body);
    stream.write_all(rest::http(status, &text).as_bytes()).await?;
    stream.shutdown().await
}
