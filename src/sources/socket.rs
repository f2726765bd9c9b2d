//! A WebSocket: connected within limits, read without waiting while frames are there.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// Name lookup, TCP, TLS and upgrade together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A request that the other side does not take in this time will not be answered either.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// The largest message that is read: four times the instrument list of 1,434 pairs, and well below the 16 MiB
/// that the tape takes as one record.
const MESSAGE_BYTES: usize = 4 << 20;

pub(super) struct Socket {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// When a ping was sent that is not answered.
    asked: Option<Instant>,
    /// After how long the last one was.
    answered: Option<Duration>,
}

/// What arrived.
#[derive(Debug)]
pub(super) enum Frame {
    Text(Bytes),
    Binary(Bytes),
    /// Ping or pong of the protocol: bytes, but no news.
    Control,
}

impl Frame {
    /// The bytes of a message, of either kind.
    pub(super) fn data(self) -> Option<Bytes> {
        match self {
            Frame::Text(bytes) | Frame::Binary(bytes) => Some(bytes),
            Frame::Control => None,
        }
    }
}

impl Socket {
    /// # Errors
    /// Of the library, found by downcast, when the venue refuses the upgrade; none shows the query of the URL.
    pub(super) async fn connect(url: &str) -> anyhow::Result<Socket> {
        // What stands behind it may be a token.
        let shown = url.split('?').next().unwrap_or_default();
        crate::tls::install();
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES))
            .max_write_buffer_size(4 << 20);
        // No Nagle: a request is one small segment, and its answer is waited for.
        let connected = timeout(CONNECT_LIMIT, connect_async_with_config(url, Some(config), true));
        let (inner, _) = connected
            .await
            .with_context(|| format!("connecting to {shown}: no answer within {} s", CONNECT_LIMIT.as_secs()))?
            .with_context(|| format!("connecting to {shown}"))?;
        Ok(Socket { inner, asked: None, answered: None })
    }

    /// Sends a text. Not cancel safe.
    pub(super) async fn send(&mut self, text: String) -> anyhow::Result<()> {
        self.put(Message::text(text)).await
    }

    /// Asks whether somebody is there. Not cancel safe.
    pub(super) async fn ping(&mut self) -> anyhow::Result<()> {
        self.asked = Some(Instant::now());
        self.put(Message::Ping(Bytes::new())).await
    }

    /// After how long the last ping was answered, told once.
    pub(super) fn round_trip(&mut self) -> Option<Duration> {
        self.answered.take()
    }

    async fn put(&mut self, message: Message) -> anyhow::Result<()> {
        timeout(SEND_LIMIT, self.inner.send(message))
            .await
            .context("sending a request: the socket takes nothing")?
            .context("sending a request")
    }

    /// The next frame. Cancel safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<Frame> {
        let message = self.inner.next().await;
        self.read(message)
    }

    /// The next frame, if it is there.
    pub(super) fn ready(&mut self) -> Option<anyhow::Result<Frame>> {
        let message = self.inner.next().now_or_never()?;
        Some(self.read(message))
    }

    /// Says goodbye, as well as it goes.
    pub(super) async fn close(mut self) {
        // Whoever closes does not care whether the other side heard it.
        let _ = timeout(Duration::from_millis(500), self.inner.close(None)).await;
    }

    fn read(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> anyhow::Result<Frame> {
        let Some(message) = message else { bail!("the venue closed the connection") };
        Ok(match message.context("reading the feed")? {
            Message::Text(text) => Frame::Text(text.into()),
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Pong(_) => {
                self.answered = self.asked.take().map(|asked| asked.elapsed());
                Frame::Control
            }
            Message::Ping(_) | Message::Frame(_) => Frame::Control,
            Message::Close(None) => bail!("the venue closed the connection"),
            Message::Close(Some(close)) => bail!("the venue closed the connection: {} {}", close.code, close.reason),
        })
    }
}
