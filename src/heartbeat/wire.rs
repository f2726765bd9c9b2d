//! A connection to the broker, encrypted or not, made by the program's one TLS provider.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::config::Target;
use crate::tls;

/// What the protocol runs over.
pub(super) type Wire = Either<TcpStream, TlsStream<TcpStream>>;

/// Connects.
///
/// # Errors
/// The broker cannot be reached, or its certificate is not trusted.
pub(super) async fn connect(target: &Target) -> anyhow::Result<Wire> {
    let shown = target.shown();
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await;
    let tcp = tcp.with_context(|| format!("connecting to {shown}"))?;
    // A heartbeat is a few small messages: none waits to be sent with others. An old kernel that cannot is no harm.
    let _ = tcp.set_nodelay(true);
    if !target.tls {
        return Ok(Either::Left(tcp));
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .context("preparing TLS")?
        .with_root_certificates(tls::roots(target.ca_file.as_deref(), "ca_file")?)
        .with_no_client_auth();
    let name =
        ServerName::try_from(target.host.clone()).with_context(|| format!("broker: {} is no name", target.host))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    Ok(Either::Right(stream.with_context(|| format!("encrypting the connection to {shown}"))?))
}
