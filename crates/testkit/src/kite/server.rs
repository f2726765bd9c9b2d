//! The port: requests, and connections of WebSocket.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::tell_now;
use crate::http::{Head, MAX_HEAD_BYTES, date, read_head};
use crate::serve;
use crate::talk::talk;

/// How long a client may take to send its head.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Frames on their way to a client; one that is further behind misses some.
const QUEUE: usize = 8_192;

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
    let text = |text: &[u8]| {
        let told = shared.hub().text(conn, text);
        tell_now(told);
    };
    let served = talk(socket, &welcome, head.rest, told, text).await;
    shared.hub().close(conn);
    served
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
