//! Requests to stores that speak HTTP; the sync's target is one, too.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use reqwest::{RequestBuilder, StatusCode, Url, header};

use super::SinkError;

/// Where a store is: its `url`, or what `host`, `port` and `tls` make of it.
///
/// # Errors
/// It is none; begins with the key.
pub(crate) fn base(url: Option<&str>, host: &str, port: u16, tls: bool, usual_port: u16) -> anyhow::Result<Url> {
    let (key, text) = match url {
        Some(url) => ("url", url.to_owned()),
        None => {
            let scheme = if tls { "https" } else { "http" };
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            ("host", format!("{scheme}://{host}:{port}"))
        }
    };
    let help = || format!("{key}: write it as in http://127.0.0.1:{usual_port}");
    let url = Url::parse(&text).with_context(help)?;
    ensure!(matches!(url.scheme(), "http" | "https"), help());
    Ok(url)
}

/// A client for one store.
///
/// # Errors
/// TLS cannot be set up, or `ca_file` holds no certificates.
pub(crate) fn client(timeout: Duration, verify_tls: bool, ca_file: Option<&Path>) -> anyhow::Result<reqwest::Client> {
    let mut http = reqwest::Client::builder()
        .timeout(timeout)
        // Credentials go where the config says, nowhere else.
        .redirect(reqwest::redirect::Policy::none());
    if !verify_tls {
        http = http.tls_danger_accept_invalid_certs(true);
    }
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).with_context(|| format!("ca_file: reading {}", path.display()))?;
        let found = reqwest::Certificate::from_pem_bundle(&pem);
        let found = found.with_context(|| format!("ca_file: {} is no PEM", path.display()))?;
        ensure!(!found.is_empty(), "ca_file: {} holds no certificate", path.display());
        // And no others: whoever names an authority trusts that one.
        http = http.tls_certs_only(found);
    }
    http.build().context("preparing requests")
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    /// Of the header of that name, where it is in seconds.
    pub retry_after: Option<Duration>,
    /// What time it is there.
    pub date: Option<Timestamp>,
    pub text: String,
    /// Whether that is all of it.
    pub whole: bool,
}

/// Sends a request and reads the answer, up to that many bytes.
///
/// # Errors
/// There was no answer, or not all of it.
pub(crate) async fn exchange(request: RequestBuilder, most_bytes: usize) -> reqwest::Result<Answer> {
    let mut response = request.send().await?;
    let status = response.status();
    let head = |name| response.headers().get(name).and_then(|text| text.to_str().ok());
    let retry_after = head(header::RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let date = head(header::DATE).and_then(|text| jiff::fmt::rfc2822::parse(text).ok()).map(|date| date.timestamp());
    let (mut bytes, mut whole) = (Vec::new(), true);
    while let Some(chunk) = response.chunk().await? {
        let room = most_bytes - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            whole = false;
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer { status, retry_after, date, text, whole })
}

/// Sends a request and reads what is of use of the answer, up to that many bytes.
///
/// # Errors
/// [`SinkError::Unavailable`]: there was no answer, or not all of it.
pub(super) async fn send(request: RequestBuilder, most_bytes: usize) -> Result<(StatusCode, String), SinkError> {
    let away = |error: reqwest::Error| SinkError::Unavailable(anyhow::Error::new(error.without_url()));
    let answer = exchange(request, most_bytes).await.map_err(away)?;
    Ok((answer.status, answer.text))
}
