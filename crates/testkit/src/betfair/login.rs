//! The port for logging in: with a certificate or without, and keeping a session alive.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::server::Shared;
use crate::http::{Head, MAX_HEAD_BYTES, read_head};
use crate::serve;

/// How long a client may take to ask.
const WAIT: Duration = Duration::from_secs(60);

/// As [`serve::acceptor`], and certificates of clients by this authority are looked at.
pub(crate) fn acceptor(cert: &Path, key: &Path, authority: &Path) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = |path: &Path| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        read.with_context(|| format!("reading certificates of {}", path.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading the key of {}", key.display()))?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(cert)?, key)
        .context("using the certificate with the key")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(crate) async fn run(shared: Shared, listener: TcpListener, stop: CancellationToken) {
    let client = |socket: TcpStream| {
        let shared = shared.clone();
        async move {
            match shared.tls.clone() {
                None => answer_all(socket, &shared, !shared.certificates).await,
                Some(tls) => {
                    let accepted = tokio::time::timeout(WAIT, tls.accept(socket)).await;
                    let socket = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    let known = socket.get_ref().1.peer_certificates().is_some() || !shared.certificates;
                    answer_all(socket, &shared, known).await
                }
            }
        }
    };
    serve::clients(listener, stop, client).await;
}

/// `known`: the client has shown a certificate, or needs none.
async fn answer_all(mut socket: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared, known: bool) -> io::Result<()> {
    let mut left = Vec::new();
    loop {
        let head = tokio::time::timeout(WAIT, read_head(&mut socket, left)).await;
        let mut head: Head = head.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let len: usize = head.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        if len > MAX_HEAD_BYTES {
            return Ok(());
        }
        while head.rest.len() < len {
            if socket.read_buf(&mut head.rest).await? == 0 {
                return Ok(());
            }
        }
        left = head.rest.split_off(len);
        let (status, body) = answer(shared, &head, known);
        let text = format!(
            "HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(text.as_bytes()).await?;
        socket.flush().await?;
    }
}

fn answer(shared: &Shared, head: &Head, known: bool) -> (u16, String) {
    let mut hub = shared.hub();
    hub.requests.push(head.path.clone());
    let form = String::from_utf8_lossy(&head.rest).into_owned();
    let form = |key: &str| {
        let value = form.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        value.map(decoded).unwrap_or_default()
    };
    let with_certificate = head.path == "/api/certlogin";
    match head.path.as_str() {
        "/api/certlogin" | "/api/login" => {
            let refused = hub.login_refused();
            if let Some(status) = refused.as_ref().and_then(|status| status.parse().ok()) {
                return (status, "{}".to_owned());
            }
            let right = form("username") == hub.username && form("password") == hub.password;
            let refusal = refused.or_else(|| {
                if with_certificate && !known {
                    Some("CERT_AUTH_REQUIRED".to_owned())
                } else {
                    (!right).then(|| "INVALID_USERNAME_OR_PASSWORD".to_owned())
                }
            });
            let body = match (refusal, with_certificate) {
                (Some(status), true) => serde_json::json!({ "loginStatus": status }),
                (Some(status), false) => {
                    serde_json::json!({ "token": "", "product": hub.app_key, "status": "FAIL", "error": status })
                }
                (None, true) => serde_json::json!({ "sessionToken": hub.session(), "loginStatus": "SUCCESS" }),
                (None, false) => {
                    serde_json::json!({ "token": hub.session(), "product": hub.app_key, "status": "SUCCESS", "error": "" })
                }
            };
            (200, body.to_string())
        }
        "/api/keepAlive" => {
            let token = head.header("x-authentication").unwrap_or_default();
            let good = hub.sessions.contains(token) && head.header("x-application") == Some(&hub.app_key);
            let (status, error) = if good { ("SUCCESS", "") } else { ("FAIL", "NO_SESSION") };
            (
                200,
                serde_json::json!({ "token": token, "product": hub.app_key, "status": status, "error": error })
                    .to_string(),
            )
        }
        _ => (404, "{}".to_owned()),
    }
}

/// A value of a form.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
