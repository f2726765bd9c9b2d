//! `GET /metrics`, `/livez` and `/readyz`, on loopback unless told otherwise; beside them the way in for points.
//!
//! Live: the recorder's thread turned within the last `HUNG`. It does so once a second, whatever comes or does not
//! come, and while it waits for a full disk; what stops it is a disk that does not answer, and then a new start is
//! the only thing left to try. Ready: the disk takes records, and every source that could be connected is.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::inlet::Inlet;
use crate::status::Status;
use crate::up::Table;

pub mod metrics;
mod points;

/// Makes a fresh status.
pub type StatusOf = Arc<dyn Fn() -> Status + Send + Sync>;

/// Binds the address before anything else of the deck starts.
///
/// # Errors
/// The port is taken: the message says how to change it.
pub fn bind(listen: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(listen).map_err(|error| {
        let taken = taken(&error, listen.port()).map(|who| format!("{who}; ")).unwrap_or_default();
        anyhow::Error::new(error)
            .context(format!("listening on {listen} ({taken}set `[http] listen` to another address, or to \"off\")"))
    })
}

/// Why a port could not be had, where somebody else has it.
pub(crate) fn taken(error: &std::io::Error, port: u16) -> Option<String> {
    let taken = error.kind() == std::io::ErrorKind::AddrInUse;
    taken.then(|| format!("taken by {}", crate::bus::holder_of(port)))
}

/// Serves until `stop`. The listener stays bound: serving can be started anew.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: &std::net::TcpListener,
    status: StatusOf,
    inlet: Inlet,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = listener.try_clone().context("sharing the http listener")?;
    listener.set_nonblocking(true).context("preparing the http listener")?;
    let listener = TcpListener::from_std(listener).context("preparing the http listener")?;
    let app = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status_json))
        .layer(axum::middleware::from_fn(local_host_only))
        .with_state(status)
        .merge(points::routes(inlet));
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await.context("serving http")
}

async fn metrics_text(State(status): State<StatusOf>) -> Response {
    let mut status = status();
    let table = Table::of(Path::new(&status.tape.dir));
    if table.is_held() {
        status.processes = table.list();
    }
    let mut text = String::new();
    match encode(&mut text, &metrics::registry(&status)) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn livez(State(status): State<StatusOf>) -> Response {
    let Some(silent) = status().hung() else { return "ok\n".into_response() };
    let text = format!("the recorder has not turned for {} s: the disk does not answer\n", silent.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn readyz(State(status): State<StatusOf>) -> Response {
    let status = status();
    let mut waiting: Vec<String> = Vec::new();
    if status.tape.full {
        waiting.push("the disk is full".into());
    }
    for source in &status.sources {
        if !matches!(source.state.as_str(), "live" | "finished") && !source.state.starts_with("waiting: no credentials")
        {
            waiting.push(format!("{}: {}", source.name, source.state));
        }
    }
    for service in status.services.iter().filter(|service| service.state.starts_with("failed")) {
        waiting.push(format!("{}: {}", service.name, service.state));
    }
    if waiting.is_empty() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, waiting.join("\n") + "\n").into_response()
    }
}

async fn status_json(State(status): State<StatusOf>) -> Json<Status> {
    Json(status())
}

/// A page of another site must not read us through a name that points to loopback.
async fn local_host_only(
    headers: HeaderMap,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    if is_foreign_page(&headers) || !is_local_name(&headers) {
        return forbidden();
    }
    next.run(request).await
}

/// A browser asks, for a page that is not ours.
fn is_foreign_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers.get("sec-fetch-site").is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// We were asked by address, or as this machine.
fn is_local_name(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.contains(']') { host } else { name });
    name == "localhost" || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, "asked through a foreign name or page\n").into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn live_after(silent: Duration) -> (StatusCode, String) {
        let silent_ms = u64::try_from(silent.as_millis()).unwrap();
        let status: StatusOf = Arc::new(move || Status { recorder_silent_ms: silent_ms, ..Status::default() });
        let answer = livez(State(status)).await;
        let code = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1_024).await.unwrap();
        (code, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn a_recorder_that_does_not_turn_is_not_live() {
        assert_eq!(live_after(Duration::from_secs(29)).await, (StatusCode::OK, "ok\n".to_owned()));
        let (code, text) = live_after(Duration::from_secs(31)).await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("31 s: the disk does not answer"), "{text}");
    }
}
