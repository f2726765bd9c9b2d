//! A connection to the stream: bytes in, lines out, requests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::Config;
use super::line::LINE_BYTES;
use crate::sources::split::{Piece, Splitter};
use crate::tls;

/// Name lookup, TCP and TLS together; a request; the answer to one.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(super) struct Stream {
    wire: Box<dyn Wire>,
    lines: Splitter,
    buffer: Vec<u8>,
}

impl Stream {
    /// # Errors
    /// The host cannot be reached, or is not who it should be.
    pub(super) async fn connect(config: &Config) -> anyhow::Result<Stream> {
        let address = config.address()?;
        let connected = async {
            let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
            tcp.set_nodelay(true)?;
            anyhow::Ok(tcp)
        };
        let shown = &config.url;
        let waited = || format!("connecting to {shown}: no answer within {} s", LIMIT.as_secs());
        let tcp =
            timeout(LIMIT, connected).await.with_context(waited)?.with_context(|| format!("connecting to {shown}"))?;
        let wire: Box<dyn Wire> = if address.tls {
            let name =
                ServerName::try_from(address.host.clone()).with_context(|| format!("url: {shown} names no host"))?;
            let shaken = timeout(LIMIT, connector(config)?.connect(name, tcp)).await;
            Box::new(shaken.with_context(waited)?.with_context(|| format!("encrypting to {shown}"))?)
        } else {
            Box::new(tcp)
        };
        Ok(Stream { wire, lines: Splitter::up_to(LINE_BYTES), buffer: vec![0; READ_BYTES] })
    }

    /// Sends a request. Not cancel safe.
    pub(super) async fn send(&mut self, request: &Map<String, Value>) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(request).context("writing a request")?;
        line.extend_from_slice(b"\r\n");
        let sent = async {
            self.wire.write_all(&line).await?;
            self.wire.flush().await
        };
        timeout(LIMIT, sent).await.context("sending a request: the socket takes nothing")?.context("sending a request")
    }

    /// Reads more bytes; how many. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost or closed.
    pub(super) async fn read(&mut self) -> anyhow::Result<usize> {
        let len = self.wire.read(&mut self.buffer).await.context("reading the stream")?;
        ensure!(len > 0, "the venue closed the stream");
        self.lines.push(&self.buffer[..len]);
        Ok(len)
    }

    /// The next line that is whole.
    pub(super) fn cut(&mut self) -> Option<Piece<'_>> {
        self.lines.cut()
    }

    /// What is left without an end.
    pub(super) fn rest(&self) -> &[u8] {
        self.lines.rest()
    }
}

fn connector(config: &Config) -> anyhow::Result<TlsConnector> {
    tls::install();
    let roots = tls::roots(config.ca_file.as_deref(), "ca_file")?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
