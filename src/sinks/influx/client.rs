//! Requests to an InfluxDB, in its dialect.

use anyhow::{Context as _, anyhow};
use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde_json::Value;

use super::answer::{self, Answer};
use super::config::{Config, Version};
use crate::config::Secret;
use crate::sinks::SinkError;

/// An answer is a few lines, unless it quotes what it refuses; the rest of those is of no use.
const ANSWER_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    version: Version,
    user: Option<(String, Secret)>,
    token: Option<Secret>,
    write_path: &'static str,
    write_params: Vec<(&'static str, String)>,
}

impl Client {
    pub(super) fn of(config: &Config) -> anyhow::Result<Client> {
        let mut http = reqwest::Client::builder()
            .timeout(config.timeout.0)
            // Credentials go where the config says, nowhere else.
            .redirect(reqwest::redirect::Policy::none());
        if !config.verify_tls {
            http = http.tls_danger_accept_invalid_certs(true);
        }
        let database = config.database.clone();
        let (write_path, mut write_params) = match config.version {
            // No word for the precision: ns is what 1.x takes then, and an unknown word would be taken for ns silently.
            Version::V1 => ("write", vec![("db", database)]),
            Version::V2 => {
                let org = config.org.clone().unwrap_or_default();
                ("api/v2/write", vec![("bucket", database), ("org", org), ("precision", "ns".to_owned())])
            }
            Version::V3 => ("api/v3/write_lp", vec![("db", database), ("precision", "nanosecond".to_owned())]),
        };
        if config.version == Version::V1 {
            write_params.extend(config.retention_policy.clone().map(|policy| ("rp", policy)));
            write_params.extend(config.consistency.clone().map(|word| ("consistency", word)));
        }
        Ok(Client {
            http: http.build().context("preparing requests to InfluxDB")?,
            base: config.base()?,
            version: config.version,
            user: config
                .username
                .clone()
                .map(|user| (user, config.password.clone().unwrap_or_else(|| Secret::new("")))),
            token: config.token.clone(),
            write_path,
            write_params,
        })
    }

    /// A request to one of its paths, with credentials.
    pub(super) fn request(&self, method: Method, path: &str, params: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params);
        }
        let request = self.http.request(method, url);
        match (&self.user, &self.token) {
            (_, Some(token)) => {
                let word = if self.version == Version::V3 { "Bearer" } else { "Token" };
                request.header(header::AUTHORIZATION, format!("{word} {}", token.expose()))
            }
            (Some((user, password)), None) => request.basic_auth(user, Some(password.expose())),
            (None, None) => request,
        }
    }

    /// Sends lines.
    ///
    /// # Errors
    /// The server is away, refuses us, or wants less at once.
    pub(super) async fn write(&self, lines: &[u8]) -> Result<Answer, SinkError> {
        let request = self.request(Method::POST, self.write_path, &self.write_params).body(lines.to_vec());
        let (status, text) = send(request).await?;
        answer::of_write(self.version, status, &text, lines)
    }

    /// Makes what is missing: the database of 1.x; a bucket is its administrator's affair.
    ///
    /// # Errors
    /// The server is away, or refuses us.
    pub(super) async fn prepare(&self, config: &Config) -> Result<(), SinkError> {
        match self.version {
            Version::V1 => {
                let statement = format!("CREATE DATABASE \"{}\"", config.database.replace('"', "\\\""));
                let request = form(self.request(Method::POST, "query", &[]), &[("q", &statement)]);
                let (status, text) = send(request).await?;
                answer::of_query(status, &text).map(drop)
            }
            Version::V2 => {
                let params = [("name", config.database.clone()), ("org", config.org.clone().unwrap_or_default())];
                let (status, text) = send(self.request(Method::GET, "api/v2/buckets", &params)).await?;
                match status {
                    StatusCode::NOT_FOUND => {
                        let words = format!("there is no bucket `{}`: make it, or set `database`", config.database);
                        Err(SinkError::Waiting(anyhow!("{words}")))
                    }
                    // A token that may write the bucket and no more sees no buckets.
                    status if status.is_success() || status == StatusCode::FORBIDDEN => Ok(()),
                    status => Err(answer::unable(status, &text)),
                }
            }
            Version::V3 => {
                let (status, text) = send(self.request(Method::GET, "ping", &[])).await?;
                if status.is_success() { Ok(()) } else { Err(answer::unable(status, &text)) }
            }
        }
    }

    /// Runs an InfluxQL statement.
    ///
    /// # Errors
    /// It was not answered, or with an error: 200 alone is no success here.
    pub(super) async fn query(&self, config: &Config, statement: &str) -> anyhow::Result<Value> {
        let fields = [("q", statement), ("db", &config.database), ("epoch", "ns")];
        let sent = send(form(self.request(Method::POST, "query", &[]), &fields)).await;
        let (status, text) = sent.map_err(|error| anyhow!("{error}"))?;
        answer::of_query(status, &text).map_err(|error| anyhow!("{error}"))
    }
}

/// A form as the body: a statement in the URL would be in every log on its way.
fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
}

/// Sends a request and reads what is of use of the answer.
async fn send(request: RequestBuilder) -> Result<(StatusCode, String), SinkError> {
    let away = |error: reqwest::Error| SinkError::Unavailable(anyhow::Error::new(error.without_url()));
    let mut response = request.send().await.map_err(away)?;
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - bytes.len())]);
        if bytes.len() >= ANSWER_BYTES {
            break;
        }
    }
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}
