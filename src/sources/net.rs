//! What sources need to know of the network: one HTTP client, and answers that end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use reqwest::Response;
use tapedeck_market::UnixNanos;
use tokio::time::timeout;

use crate::config::Secret;
use crate::tls;

/// What is read of a refusal.
const REFUSAL_BYTES: usize = 4 << 10;

/// Whether a URL leads nowhere but to this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether this could be a token, and not a piece of the page that it was copied from.
pub(super) fn is_token(token: &Secret) -> bool {
    !token.expose().is_empty() && token.expose().bytes().all(|b| b.is_ascii_graphic())
}

/// # Errors
/// The URL is none of HTTP, or would send a token over the net for all to read.
pub(super) fn may_get_a_token(url: &str) -> anyhow::Result<()> {
    ensure!(url.starts_with("https://") || url.starts_with("http://"), "url must begin with https://");
    let hidden = url.starts_with("https://") || is_loopback(url);
    ensure!(hidden, "url: a token goes to no other machine unless it begins with https://");
    Ok(())
}

/// A client for requests and streams with a token.
///
/// # Errors
/// The file of authorities cannot be used.
pub(super) fn client(ca_file: Option<&Path>, connect_limit: Duration) -> anyhow::Result<reqwest::Client> {
    tls::install();
    let mut http = reqwest::Client::builder()
        .connect_timeout(connect_limit)
        .tcp_nodelay(true)
        // Two streams on one connection would be lost together.
        .http1_only()
        // What goes to this host, a token above all, goes to no other.
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).with_context(|| format!("ca_file: reading {}", path.display()))?;
        let found = reqwest::Certificate::from_pem_bundle(&pem);
        let found = found.with_context(|| format!("ca_file: {} is no PEM", path.display()))?;
        ensure!(!found.is_empty(), "ca_file: {} holds no certificate", path.display());
        http = http.tls_certs_only(found);
    }
    http.build().context("making an HTTP client")
}

/// The text of an answer of at most so many bytes.
///
/// # Errors
/// It is cut off, too long, or no text.
pub(super) async fn text(mut response: Response, most: usize) -> anyhow::Result<String> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(reqwest::Error::without_url).context("reading the answer")?;
        let Some(chunk) = chunk else { break };
        ensure!(body.len() + chunk.len() <= most, "the answer is larger than {} MiB", most >> 20);
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| anyhow!("the answer is no text"))
}

/// What a refusal begins with: it is for people, and without it the status still tells.
pub(super) async fn beginning(response: &mut Response, limit: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout(limit, response.chunk()).await {
        body.extend_from_slice(&chunk[..chunk.len().min(REFUSAL_BYTES - body.len())]);
        if body.len() >= REFUSAL_BYTES {
            break;
        }
    }
    body
}

/// The venue's clock as the head of an answer has it: to the second.
pub(super) fn date(response: &Response) -> Option<UnixNanos> {
    let date = response.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    Some(UnixNanos::from_secs(jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second()))
}

/// Bytes of a venue that may be shown, in short.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(200).collect()
}
