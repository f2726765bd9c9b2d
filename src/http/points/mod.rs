//! The API that InfluxDB's clients write to: `POST /write`, `POST /api/v2/write`, `/ping`, `/health`, `/query`.
//!
//! ```text
//! request ─► access ─► body (capped, unpacked) ─► lines ─► batches ─► Door ─► … ─► durable ─► 204
//!                                                   └► faults ─► kept as rejects, told in the server's words ─► 400
//! ```
//!
//! A 204 is given only when every point of the request is durable on the tape. Whatever is in the way of that is a 503
//! with `Retry-After`, so that a client tries again; points that were recorded all the same are then on the tape twice.

mod access;
mod answer;
mod body;
mod query;
mod write;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use crate::inlet::{Inlet, Reach};
use answer::{Dialect, Refusal};

/// The routes; each asks the inlet, so that they are there before the source is, and after it.
pub(super) fn routes(inlet: Inlet) -> Router {
    Router::new()
        .route("/write", post(write::v1))
        .route("/api/v2/write", post(write::v2))
        .route("/query", get(query::query).post(query::query))
        .route("/ping", get(ping))
        .route("/health", get(health))
        .layer(axum::middleware::from_fn_with_state(inlet.clone(), guard))
        .with_state(inlet)
}

/// No page of another site may write, and under a foreign name only who knows a password may.
async fn guard(
    State(inlet): State<Inlet>,
    headers: HeaderMap,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let secured = matches!(inlet.reach(), Reach::Open(door) if !door.credentials().is_open());
    if super::is_foreign_page(&headers) || !(secured || super::is_local_name(&headers)) {
        return super::forbidden();
    }
    next.run(request).await
}

async fn ping(State(inlet): State<Inlet>) -> Response {
    match inlet.reach() {
        Reach::Open(_) => answer::no_content(),
        Reach::Away => Refusal::Away.answer(Dialect::V1),
        Reach::Nobody => Refusal::Nobody.answer(Dialect::V1),
    }
}

/// What the client of 2.x asks before it writes.
async fn health(State(inlet): State<Inlet>) -> Response {
    let (code, status, message) = match inlet.reach() {
        Reach::Open(_) => (StatusCode::OK, "pass", "ready for queries and writes"),
        Reach::Away => (StatusCode::SERVICE_UNAVAILABLE, "fail", "the deck records nothing now"),
        Reach::Nobody => return Refusal::Nobody.answer(Dialect::V2),
    };
    let version = env!("CARGO_PKG_VERSION");
    let health = serde_json::json!({
        "name": "tapedeck", "message": message, "status": status, "checks": [], "version": version, "commit": "",
    });
    (code, answer::version_headers(), axum::Json(health)).into_response()
}
