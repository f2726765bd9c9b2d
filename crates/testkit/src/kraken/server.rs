//! The port: tells WebSocket from HTTP by the request's head.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use super::conn::{self, Shared};
use super::hub::Hub;
use super::rest;
use crate::http::{Head, MAX_HEAD_BYTES, read_head};

/// How long a client may take to send its head.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Connections at once.
const MAX_CONNECTIONS: usize = 1_024;

/// A listening server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) shared: Shared,
    /// Connections that were ever made.
    pub(crate) sessions: Arc<AtomicU64>,
}

impl Server {
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = clients.join_next() => {}
                accepted = listener.accept(), if clients.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let (shared, sessions) = (self.shared.clone(), Arc::clone(&self.sessions));
                        clients.spawn(welcome(stream, shared, sessions, stop.clone()));
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: it may pass.
                        tracing::warn!(error = %error, "cannot accept");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        while clients.join_next().await.is_some() {}
    }
}

async fn welcome(mut stream: TcpStream, shared: Shared, sessions: Arc<AtomicU64>, stop: CancellationToken) {
    let head = tokio::select! {
        () = stop.cancelled() => return,
        head = tokio::time::timeout(HEAD_WAIT, read_head(&mut stream, Vec::new())) => head,
    };
    let Ok(Ok(head)) = head else { return };
    let is_upgrade = head.header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"));
    if !is_upgrade {
        if let Err(error) = answer(&mut stream, &head, &shared.hub).await {
            tracing::debug!(error = %error, "request failed");
        }
        return;
    }
    if let Err(error) = shake_hands(&mut stream, &head).await {
        tracing::debug!(error = %error, "handshake failed");
        return;
    }
    let id = sessions.fetch_add(1, Ordering::Relaxed) + 1;
    conn::serve(id, stream, head.rest, shared, stop).await;
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

async fn shake_hands(stream: &mut TcpStream, head: &Head) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let key = head.header("sec-websocket-key").filter(|_| head.path == "/v2" || head.path == "/v2/");
    let Some(key) = key else {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        return Err(io::Error::other("no WebSocket of version 2 was asked for"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await
}
