//! Answers as InfluxDB gives them: 1.x `{"error": …}`, 2.x `{"code": …, "message": …}`.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Of the server whose manners these are: clients compare it with what they need.
const VERSION: &str = "1.8.10";
const BUILD: &str = concat!("tapedeck-", env!("CARGO_PKG_VERSION"));
/// When to come back, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// Bytes of an error's text that its header repeats.
const HEADER_BYTES: usize = 1_024;

/// Whose client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V1,
    V2,
}

/// Why a request is not answered as hoped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No source takes points.
    Nobody,
    /// The deck records nothing now: the disk is full, or it is stopping.
    Away,
    /// The bodies of other requests fill the memory there is for them.
    Busy,
    Unauthorized {
        /// Something was shown, and it was wrong.
        shown: bool,
    },
    Invalid(String),
    TooLarge,
    TooSlow,
    Encoding(String),
    /// More than this deck lends its own credentials for.
    Forbidden(&'static str),
    /// The InfluxDB behind does not answer.
    Upstream(String),
}

impl Refusal {
    pub(super) fn answer(&self, dialect: Dialect) -> Response {
        let (status, code, words) = self.told(dialect);
        let mut response = error(dialect, status, code, &words);
        let headers = response.headers_mut();
        match self {
            Refusal::Away | Refusal::Busy => drop(headers.insert(header::RETRY_AFTER, RETRY_AFTER)),
            Refusal::Unauthorized { .. } if dialect == Dialect::V1 => {
                let realm = HeaderValue::from_static("Basic realm=\"InfluxDB\"");
                headers.insert(header::WWW_AUTHENTICATE, realm);
            }
            _ => {}
        }
        response
    }

    fn told(&self, dialect: Dialect) -> (StatusCode, &'static str, String) {
        match self {
            Refusal::Nobody => {
                let words = "this deck takes no points: add `[source.points]` with `kind = \"http\"` to its config";
                (StatusCode::NOT_FOUND, "not found", words.to_owned())
            }
            Refusal::Away => {
                let words = "the deck records nothing now: its disk is full, or it is stopping";
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", words.to_owned())
            }
            Refusal::Busy => {
                let words = "too much is being written at once";
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", words.to_owned())
            }
            Refusal::Unauthorized { shown } => {
                let words = match (dialect, shown) {
                    (Dialect::V1, true) => "authorization failed",
                    (Dialect::V1, false) => "unable to parse authentication credentials",
                    (Dialect::V2, _) => "unauthorized access",
                };
                (StatusCode::UNAUTHORIZED, "unauthorized", words.to_owned())
            }
            Refusal::Invalid(words) => (StatusCode::BAD_REQUEST, "invalid", words.clone()),
            Refusal::TooLarge => {
                let words = match dialect {
                    Dialect::V1 => "Request Entity Too Large",
                    Dialect::V2 => "unable to read data: points batch is too large",
                };
                (StatusCode::PAYLOAD_TOO_LARGE, "request too large", words.to_owned())
            }
            Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, "invalid", "the body did not arrive in time".to_owned()),
            Refusal::Encoding(name) => {
                let words = format!("Content-Encoding {name:?} is not understood: send gzip, or none");
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid", words)
            }
            Refusal::Forbidden(words) => (StatusCode::FORBIDDEN, "forbidden", (*words).to_owned()),
            Refusal::Upstream(words) => (StatusCode::BAD_GATEWAY, "unavailable", words.clone()),
        }
    }
}

fn error(dialect: Dialect, status: StatusCode, code: &'static str, words: &str) -> Response {
    let (body, name) = match dialect {
        Dialect::V1 => (json!({ "error": words }), HeaderName::from_static("x-influxdb-error")),
        Dialect::V2 => (json!({ "code": code, "message": words }), HeaderName::from_static("x-platform-error-code")),
    };
    let said = match dialect {
        Dialect::V1 => words,
        Dialect::V2 => code,
    };
    let mut response = json_text(status, format!("{body}\n"));
    response.headers_mut().insert(name, header_text(said));
    response
}

/// A text as a header may hold it: one line, cut.
fn header_text(text: &str) -> HeaderValue {
    let bytes: Vec<u8> = text.bytes().take(HEADER_BYTES).map(|b| if b.is_ascii_control() { b' ' } else { b }).collect();
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static("error"))
}

pub(super) fn json_text(status: StatusCode, text: String) -> Response {
    (status, version_headers(), [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

pub(super) fn no_content() -> Response {
    (StatusCode::NO_CONTENT, version_headers()).into_response()
}

pub(super) fn version_headers() -> [(HeaderName, &'static str); 2] {
    [(HeaderName::from_static("x-influxdb-version"), VERSION), (HeaderName::from_static("x-influxdb-build"), BUILD)]
}
