//! The PostgreSQL wire protocol over the engine.
//!
//! The library has a server of its own, which is not used: it knows no password and no read-only mode, does not
//! end a query that runs, and keeps whole results in memory. What is here is the glue that mends that, one
//! file each: who gets in (`startup`), what a statement may be (`crate::guard`), how it is answered
//! (`connection`, `planner`, `rows`, `cursor`, `setting`), and how it ends (`cancel`).

mod cancel;
mod connection;
mod cursor;
mod errors;
mod planner;
mod rows;
mod setting;
mod startup;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::FutureExt as _;
use pgwire::api::auth::StartupHandler;
use pgwire::api::cancel::CancelHandler;
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::{ClientInfo, ErrorHandler, PgWireServerHandlers, RandomPidSecretKeyGenerator};
use pgwire::error::PgWireError;
use pgwire::tokio::{TlsAcceptor, process_socket};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use cancel::{Registry, Running};
use connection::Connection;
use cursor::Cursors;
use planner::Planner;
use startup::{Door, Startup};

pub use startup::{DATABASE, Secret, USER};
pub use tls::Certificate;

/// How often a connection is asked whether its client is still there.
const HANG_UP_POLL: Duration = Duration::from_millis(500);
/// Connections that are being told that there is no place; more are closed without a word.
const REFUSING: usize = 16;
/// Accepting failed, as a rule for want of file descriptors: there is nothing to do but to wait.
const ACCEPT_WAIT: Duration = Duration::from_millis(200);
/// How long statements that run may go on when the store stops.
const STOPPING: Duration = Duration::from_secs(2);

/// Where and for whom the server is.
#[derive(Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub certificate: Option<Certificate>,
    /// Plain connections from other machines, said aloud.
    pub insecure: bool,
}

impl Options {
    /// Refuses to be open to others without encryption.
    ///
    /// # Errors
    /// The address is not this machine's own, and neither a certificate nor `insecure` is given.
    pub fn check(&self) -> anyhow::Result<()> {
        let ip: IpAddr = self.listen.ip();
        if ip.is_loopback() || self.certificate.is_some() {
            return Ok(());
        }
        if self.insecure {
            tracing::warn!(listen = %self.listen, "SQL is open to other machines, unencrypted, as `insecure = true` says");
            return Ok(());
        }
        bail!(
            "[store] sql_listen = \"{}\" is open to other machines: give tls_cert and tls_key, or say insecure = true",
            self.listen
        )
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It may be free again later.
    #[error("listening for SQL on {listen}: {source}")]
    Address { listen: SocketAddr, source: std::io::Error },
    /// What was configured cannot be served.
    #[error(transparent)]
    Config(#[from] anyhow::Error),
}

/// A server that listens, but does not answer yet.
pub struct Server {
    listener: TcpListener,
    engine: Arc<Engine>,
    door: Door,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    refusing: Arc<Semaphore>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(options: Options, password: &str, engine: Arc<Engine>) -> Result<Server, BindError> {
        options.check()?;
        let tls = options.certificate.as_ref().map(Certificate::acceptor).transpose()?;
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(|source| BindError::Address { listen: options.listen, source })?;
        let door = Door {
            secret: Arc::new(Secret::of(password)?),
            numbers: Arc::new(RandomPidSecretKeyGenerator::default()),
            registry: Arc::new(Registry::default()),
            tls_required: options.certificate.is_some(),
            certificate: options.certificate.map(|certificate| certificate.pem),
        };
        Ok(Server {
            listener,
            door,
            tls,
            connections: Arc::new(Semaphore::new(engine.limits().connections)),
            refusing: Arc::new(Semaphore::new(REFUSING)),
            engine,
        })
    }

    /// # Errors
    /// The system does not tell.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("reading the address of the SQL server")
    }

    /// Answers, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let socket = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        tracing::warn!(error = %error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_WAIT).await;
                        continue;
                    }
                },
            };
            let (place, full) = match Arc::clone(&self.connections).try_acquire_owned() {
                Ok(place) => (place, false),
                Err(_) => match Arc::clone(&self.refusing).try_acquire_owned() {
                    Ok(place) => (place, true),
                    Err(_) => continue,
                },
            };
            let handlers = self.handlers(full);
            let tls = self.tls.clone();
            let stop = stop.clone();
            // Those that have ended need not be remembered.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                let _place = place;
                converse(socket, tls, handlers, stop).await;
            });
        }
        // What does not end by itself goes with the set.
        let _ = tokio::time::timeout(STOPPING, async { while tasks.join_next().await.is_some() {} }).await;
    }

    fn handlers(&self, full: bool) -> Handlers {
        let running = Arc::new(Running::default());
        let startup = self.door.enter(Arc::clone(&running), full);
        let planner = Planner::new(self.engine.session());
        let (planner, passed) = (Arc::new(planner), Arc::clone(&startup.passed));
        let connection = Connection { planner, running, cursors: Cursors::default(), passed };
        Handlers {
            startup: Arc::new(startup),
            connection: Arc::new(connection),
            registry: Arc::clone(&self.door.registry),
        }
    }
}

/// One connection, until either side goes.
async fn converse(socket: TcpStream, tls: Option<TlsAcceptor>, handlers: Handlers, stop: CancellationToken) {
    let watched = socket.as_fd().try_clone_to_owned().map(std::net::TcpStream::from);
    let watched = match watched.and_then(TcpStream::from_std) {
        Ok(watched) => watched,
        Err(error) => {
            tracing::debug!(error = %error, "a connection cannot be watched");
            return;
        }
    };
    // A client on a machine that lost its power says nothing: the system asks it.
    if let Err(error) = rustix::net::sockopt::set_socket_keepalive(&socket, true) {
        tracing::debug!(error = %error, "a connection cannot be kept alive");
    }
    tokio::select! {
        ended = process_socket(socket, tls, handlers) => {
            if let Err(error) = ended {
                tracing::debug!(error = %error, "a connection ended");
            }
        }
        // Dropping the conversation drops its rows, and with them the query.
        () = hung_up(&watched) => tracing::debug!("a client is gone"),
        () = stop.cancelled() => {}
    }
}

/// Returns when the other side has closed: the protocol itself would notice with the next row only.
async fn hung_up(socket: &TcpStream) {
    loop {
        tokio::time::sleep(HANG_UP_POLL).await;
        // What is unread stays unread: only the system's word on the other end is asked for.
        match socket.ready(Interest::READABLE).now_or_never() {
            Some(Ok(ready)) if !ready.is_read_closed() => {}
            None => {}
            Some(_) => return,
        }
    }
}

struct Handlers {
    startup: Arc<Startup>,
    connection: Arc<Connection>,
    registry: Arc<Registry>,
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.connection)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::clone(&self.connection)
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.startup)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::clone(&self.registry)
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::new(Logged)
    }
}

struct Logged;

impl ErrorHandler for Logged {
    fn on_error<C: ClientInfo>(&self, _client: &C, error: &mut PgWireError) {
        tracing::debug!(error = %error, "a statement failed");
    }
}
