//! Requests to a QuestDB, and what its answers mean.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde_json::Value;

use super::config::Config;
use crate::config::Secret;
use crate::sinks::{SinkError, http};

/// An answer to lines is a few of its own.
const REFUSAL_BYTES: usize = 64 * 1024;
/// An answer to a statement of ours is a list of tables or of candles' keys.
const ROWS_BYTES: usize = 64 << 20;
/// What was sent is applied a moment later.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    user: Option<(String, Secret)>,
    token: Option<Secret>,
}

/// Whether what was sent to a table can be read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Shown,
    /// Not all of it, in the time that was waited.
    Behind,
    NoTable,
}

/// What became of lines.
#[derive(Debug, PartialEq)]
pub(super) enum Written {
    Stored,
    Refused(Words),
}

/// Why lines were refused, in the server's words.
#[derive(Debug, PartialEq)]
pub(super) struct Words {
    /// The line that they are about, from 0. Nothing of the request was stored.
    pub line: Option<usize>,
    pub words: String,
    /// The server calls it its own failure: it may be that of a table that has changed.
    pub internal: bool,
}

impl Client {
    pub(super) fn of(config: &Config) -> anyhow::Result<Client> {
        let password = || config.password.clone().unwrap_or_else(|| Secret::new(""));
        Ok(Client {
            http: http::client(config.timeout.0, config.verify_tls, config.ca_file.as_deref())?,
            base: config.base()?,
            user: config.username.clone().map(|user| (user, password())),
            token: config.token.clone(),
        })
    }

    fn request(&self, method: Method, path: &str, params: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params);
        }
        let request = self.http.request(method, url);
        match (&self.user, &self.token) {
            (_, Some(token)) => request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose())),
            (Some((user, password)), None) => request.basic_auth(user, Some(password.expose())),
            (None, None) => request,
        }
    }

    /// Sends lines of one table: one transaction.
    ///
    /// # Errors
    /// The server is away, refuses us, or wants less at once.
    pub(super) async fn write(&self, lines: Bytes) -> Result<Written, SinkError> {
        let request = self.request(Method::POST, "write", &[("precision", "n")]).body(lines);
        let (status, text) = http::send(request, REFUSAL_BYTES).await?;
        of_write(status, &text)
    }

    /// Rows of a statement.
    ///
    /// # Errors
    /// The server is away, refuses us, or the statement.
    pub(super) async fn rows(&self, statement: &str) -> Result<Vec<Vec<Value>>, SinkError> {
        // Statements are ours, and short: the server closes the connection for a longer URL than some 30 kB.
        let (status, text) = http::send(self.request(Method::GET, "exec", &[("query", statement)]), ROWS_BYTES).await?;
        let mut answer = of_statement(status, text)?;
        let rows = answer["dataset"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(rows.into_iter().map(|row| if let Value::Array(row) = row { row } else { Vec::new() }).collect())
    }

    /// The first value of the only row, as a text.
    ///
    /// # Errors
    /// As of [`Client::rows`].
    pub(super) async fn value(&self, statement: &str) -> Result<String, SinkError> {
        let rows = self.rows(statement).await?;
        let value = rows.first().and_then(|row| row.first());
        Ok(value.and_then(Value::as_str).map_or_else(|| value.map(Value::to_string).unwrap_or_default(), str::to_owned))
    }

    /// Waits until a table shows all that was sent to it; one that is suspended does not get there.
    ///
    /// # Errors
    /// As of [`Client::rows`].
    pub(super) async fn applied(&self, table: &str, within: Duration) -> Result<Applied, SinkError> {
        let name = table.replace('\'', "''");
        let sql =
            format!("SELECT writerTxn, sequencerTxn, suspended FROM wal_tables() WHERE lower(name) = lower('{name}')");
        let since = Instant::now();
        loop {
            let rows = self.rows(&sql).await?;
            let Some([applied, sent, suspended]) = rows.first().map(Vec::as_slice) else { return Ok(Applied::NoTable) };
            if applied.as_i64() >= sent.as_i64() {
                return Ok(Applied::Shown);
            }
            if suspended.as_bool() == Some(true) || since.elapsed() >= within {
                return Ok(Applied::Behind);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the server says of itself, without credentials.
    ///
    /// # Errors
    /// The server is away, or is none of its kind.
    pub(super) async fn settings(&self) -> Result<Value, SinkError> {
        let (status, text) = http::send(self.request(Method::GET, "settings", &[]), REFUSAL_BYTES).await?;
        let mut answer = of_statement(status, text)?;
        Ok(answer["config"].take())
    }
}

/// The answer to lines.
fn of_write(status: StatusCode, text: &str) -> Result<Written, SinkError> {
    if status.is_success() {
        return Ok(Written::Stored);
    }
    let answer: Value = serde_json::from_str(&printable(text)).unwrap_or_default();
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => return Err(SinkError::TooMuch(said(&answer, text))),
        StatusCode::NOT_FOUND => {
            let help = "lines are not taken here: look at `url`, and at the server's `line.http.enabled`";
            return Err(SinkError::Waiting(anyhow!("{status}: {help}")));
        }
        StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => {}
        status => return Err(unable(status, text)),
    }
    let line = answer["line"].as_u64().and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
    let mut words = said(&answer, text);
    if let Some(id) = answer["errorId"].as_str() {
        words = format!("{words} (errorId {id})");
    }
    Ok(Written::Refused(Words { line, words, internal: status == StatusCode::INTERNAL_SERVER_ERROR }))
}

/// The answer to a statement.
fn of_statement(status: StatusCode, text: String) -> Result<Value, SinkError> {
    match status {
        status if status.is_success() => serde_json::from_str(&printable(&text))
            .map_err(|error| SinkError::Unavailable(anyhow!("its answer is no JSON ({error}): is it a QuestDB?"))),
        // The server waits for space, or a table is being removed: neither is a case for another request.
        StatusCode::BAD_REQUEST => {
            let answer: Value = serde_json::from_str(&printable(&text)).unwrap_or_default();
            Err(SinkError::Waiting(anyhow!("{}", said(&answer, &text))))
        }
        status => Err(unable(status, &text)),
    }
}

/// Why nothing can be written at present.
pub(super) fn unable(status: StatusCode, text: &str) -> SinkError {
    let answer: Value = serde_json::from_str(&printable(text)).unwrap_or_default();
    let words = said(&answer, text);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            SinkError::Waiting(anyhow!("refused ({status}): {words}; look at `username` and `password`, or `token`"))
        }
        status => SinkError::Unavailable(anyhow!("{status}: {words}")),
    }
}

/// The words of an answer, without those that are the same each time.
fn said(answer: &Value, text: &str) -> String {
    const ALWAYS: [&str; 2] = ["failed to parse line protocol:", "errors encountered on line(s):"];
    let words = answer["message"].as_str().or(answer["error"].as_str()).unwrap_or(text);
    let mut words = words.trim();
    for always in ALWAYS {
        words = words.strip_prefix(always).unwrap_or(words).trim_start();
    }
    words.to_owned()
}

/// The server writes control characters into JSON as they are.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(status: u16, text: &str) -> Result<Written, SinkError> {
        of_write(StatusCode::from_u16(status).unwrap(), text)
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(write(204, "").unwrap(), Written::Stored);
        let bad = r#"{"code":"invalid","message":"failed to parse line protocol:errors encountered on line(s):\nerror in line 3: table: t, column: v; cast error","line":3,"errorId":"56d9-7"}"#;
        let words = "error in line 3: table: t, column: v; cast error (errorId 56d9-7)".to_owned();
        assert_eq!(
            write(400, bad).unwrap(),
            Written::Refused(Words { line: Some(2), words: words.clone(), internal: false })
        );
        assert_eq!(
            write(500, &bad.replace("\\n", "\n")).unwrap(),
            Written::Refused(Words { line: Some(2), words, internal: true })
        );
        assert!(matches!(write(400, "bad"), Ok(Written::Refused(Words { line: None, .. }))));
        assert!(matches!(write(401, "no"), Err(SinkError::Waiting(_))));
        assert!(matches!(write(404, ""), Err(SinkError::Waiting(_))));
        assert!(matches!(write(413, ""), Err(SinkError::TooMuch(_))));
        assert!(matches!(write(503, ""), Err(SinkError::Unavailable(_))));
        let rows = of_statement(StatusCode::OK, "{\"dataset\":[[\"a\nb\"]]}".to_owned()).unwrap();
        assert_eq!(rows["dataset"][0][0], "a b");
        assert!(matches!(of_statement(StatusCode::BAD_REQUEST, "{}".to_owned()), Err(SinkError::Waiting(_))));
        assert!(matches!(of_statement(StatusCode::OK, "<html>".to_owned()), Err(SinkError::Unavailable(_))));
    }
}
