//! What every fake does with its port: accept, encrypt, shake hands, let faults strike, say how it goes.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use crate::http::Head;
use crate::script::{Scheduled, say};

/// Connections at once.
const MAX_CONNECTIONS: usize = 1_024;
/// Pause between lines of progress.
const REPORT: Duration = Duration::from_secs(10);

/// What a fake does as long as it runs; dropping it ends all of it.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Tasks {
    /// Ended by dropping it.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.running.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Told to end, and waited for.
    pub(crate) fn serve<F>(&mut self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.spawn(task(self.stop.clone()));
    }

    /// Lets faults strike at their times, which count from when `begun` holds; those that `need` that wait for it.
    pub(crate) fn strike<F: Clone + Send + 'static>(
        &mut self,
        faults: Vec<Scheduled<F>>,
        need: fn(&F) -> bool,
        begun: impl Fn() -> bool + Clone + Send + 'static,
        inject: impl Fn(F) + Clone + Send + 'static,
    ) {
        for fault in faults {
            let waits = need(&fault.fault);
            self.spawn(strike(fault, waits, begun.clone(), inject.clone()));
        }
    }

    /// Ends everything; returns when it is over.
    pub(crate) async fn end(&mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Listens; the address is the real one where port 0 was asked for.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves every client that comes until `stop`, each by `serve`, which is dropped then.
pub(crate) async fn clients<F>(listener: TcpListener, stop: CancellationToken, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept(), if clients.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (served, stop) = (serve(stream), stop.clone());
                    clients.spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            served = served => if let Err(error) = served {
                                tracing::debug!(error = %error, "connection ended");
                            }
                        }
                    });
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

/// An acceptor with this certificate chain and key, both PEM.
pub(crate) fn acceptor(cert: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading certificates of {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading the key of {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("using the certificate with the key")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The answer that begins a WebSocket, where the request asks for one.
pub(crate) fn handshake(head: &Head) -> Option<String> {
    let is_upgrade = head.header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"));
    let key = head.header("sec-websocket-key").filter(|_| is_upgrade)?;
    let accept = derive_accept_key(key.as_bytes());
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

/// `waits`: it has no time but needs that `begun` holds.
async fn strike<F: Clone>(scheduled: Scheduled<F>, waits: bool, begun: impl Fn() -> bool, inject: impl Fn(F)) {
    let Scheduled { at, every, fault } = scheduled;
    if at.is_some() || every.is_some() || waits {
        while !begun() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    tokio::time::sleep(at.unwrap_or_default()).await;
    loop {
        inject(fault.clone());
        let Some(every) = every else { return };
        tokio::time::sleep(every).await;
    }
}

/// Says now and then how it goes, where that has changed, until `stop`.
pub(crate) async fn progress(stop: impl Future<Output = ()>, how: impl Fn() -> String) {
    let mut stop = std::pin::pin!(stop);
    let (mut clock, mut last) = (tokio::time::interval(REPORT), how());
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = clock.tick() => {}
        }
        let now = how();
        if now != last {
            say(&now);
        }
        last = now;
    }
}
