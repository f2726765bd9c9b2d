//! Requests to an InfluxDB, in its dialect.

use std::time::Duration;

use anyhow::anyhow;
use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde_json::Value;

use super::answer::{self, Answer};
use super::config::{Config, Version};
use super::policies::Found;
use crate::config::Secret;
use crate::config::units::parse_duration;
use crate::sinks::SinkError;
use crate::sinks::http::{self, send};

/// An answer is a few lines, unless it quotes what it refuses; the rest of those is of no use.
const ANSWER_BYTES: usize = 256 * 1024;
/// What is read of the rows of a query.
const ROWS_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    version: Version,
    user: Option<(String, Secret)>,
    token: Option<Secret>,
    database: String,
    org: String,
    consistency: Option<String>,
}

impl Client {
    pub(super) fn of(config: &Config) -> anyhow::Result<Client> {
        Ok(Client {
            http: http::client(config.timeout.0, config.verify_tls, config.ca_file.as_deref())?,
            base: config.base()?,
            version: config.version,
            user: config
                .username
                .clone()
                .map(|user| (user, config.password.clone().unwrap_or_else(|| Secret::new("")))),
            token: config.token.clone(),
            database: config.database.clone(),
            org: config.org.clone().unwrap_or_default(),
            consistency: config.consistency.clone(),
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

    /// Sends lines to a retention policy, or to where the database takes them by default.
    ///
    /// # Errors
    /// The server is away, refuses us, or wants less at once.
    pub(super) async fn write(&self, lines: &[u8], policy: Option<&str>) -> Result<Answer, SinkError> {
        let (path, params) = self.target(policy);
        let request = self.request(Method::POST, path, &params).body(lines.to_vec());
        let (status, text) = send(request, ANSWER_BYTES).await?;
        answer::of_write(self.version, status, &text, lines)
    }

    fn target(&self, policy: Option<&str>) -> (&'static str, Vec<(&'static str, String)>) {
        match self.version {
            // No word for the precision: ns is what 1.x takes then, and an unknown word would be taken for ns silently.
            Version::V1 => {
                let mut params = vec![("db", self.database.clone())];
                params.extend(policy.map(|policy| ("rp", policy.to_owned())));
                params.extend(self.consistency.clone().map(|word| ("consistency", word)));
                ("write", params)
            }
            Version::V2 => {
                let (bucket, precision) = (self.bucket(policy), "ns".to_owned());
                ("api/v2/write", vec![("bucket", bucket), ("org", self.org.clone()), ("precision", precision)])
            }
            Version::V3 => {
                ("api/v3/write_lp", vec![("db", self.database.clone()), ("precision", "nanosecond".to_owned())])
            }
        }
    }

    /// The bucket of a policy, as the 1.x API of the server itself names them.
    pub(super) fn bucket(&self, policy: Option<&str>) -> String {
        match policy.filter(|policy| *policy != AUTOGEN) {
            Some(policy) => format!("{}/{policy}", self.database),
            None => self.database.clone(),
        }
    }

    /// The policies that the database has. None of them is known to a user who may not ask.
    ///
    /// # Errors
    /// The server is away.
    pub(super) async fn policies(&self, wanted: &[String]) -> Result<Vec<Found>, SinkError> {
        match self.version {
            Version::V1 => {
                let statement = format!("SHOW RETENTION POLICIES ON {}", quoted(&self.database));
                let answer = match self.ask(&statement).await {
                    Ok(answer) => answer,
                    Err(SinkError::Waiting(_)) => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                };
                let rows = answer["results"][0]["series"][0]["values"].as_array().cloned().unwrap_or_default();
                let length = |value: &Value| parse_duration(value.as_str()?).ok().filter(|length| !length.is_zero());
                let found = |row: &Value| {
                    Some(Found {
                        name: row[0].as_str()?.to_owned(),
                        keeps: length(&row[1]),
                        shard: length(&row[2]),
                        replication: row[3].as_u64(),
                        default: row[4].as_bool().unwrap_or_default(),
                    })
                };
                Ok(rows.iter().filter_map(found).collect())
            }
            Version::V2 => {
                let mut found = Vec::new();
                for name in [AUTOGEN].into_iter().chain(wanted.iter().map(String::as_str)) {
                    if let Some(bucket) = self.find_bucket(&self.bucket(Some(name))).await? {
                        found.push(policy_of(name, &bucket));
                    }
                }
                Ok(found)
            }
            Version::V3 => Ok(Vec::new()),
        }
    }

    /// A bucket of 2.x; `None` also for a token that sees none.
    pub(super) async fn find_bucket(&self, name: &str) -> Result<Option<Value>, SinkError> {
        let params = [("name", name.to_owned()), ("org", self.org.clone())];
        let (status, text) = send(self.request(Method::GET, "api/v2/buckets", &params), ANSWER_BYTES).await?;
        match status {
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
            status if status.is_success() => {
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                Ok(answer["buckets"].as_array().and_then(|buckets| buckets.first()).cloned())
            }
            status => Err(answer::unable(status, &text)),
        }
    }

    /// Its databases, or buckets; `None` for a user who may not ask.
    pub(super) async fn databases(&self) -> Option<Vec<String>> {
        let texts = |value: &Value| value.as_str().map(str::to_owned);
        match self.version {
            Version::V1 => {
                let answer = self.query("SHOW DATABASES").await.ok()?;
                let rows = answer["results"][0]["series"][0]["values"].as_array()?.clone();
                Some(rows.iter().filter_map(|row| texts(&row[0])).collect())
            }
            Version::V2 => {
                let params = [("limit", "100".to_owned()), ("org", self.org.clone())];
                let (status, text) =
                    send(self.request(Method::GET, "api/v2/buckets", &params), ANSWER_BYTES).await.ok()?;
                let answer: Value = serde_json::from_str(&text).ok().filter(|_| status.is_success())?;
                Some(answer["buckets"].as_array()?.iter().filter_map(|bucket| texts(&bucket["name"])).collect())
            }
            Version::V3 => None,
        }
    }

    /// Takes away what `check` wrote.
    ///
    /// # Errors
    /// The user may write and not delete.
    pub(super) async fn remove_probe(&self) -> anyhow::Result<()> {
        if self.version == Version::V1 {
            return self.query("DROP MEASUREMENT tapedeck_check").await.map(drop);
        }
        let (start, stop) = ("1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z");
        let all = serde_json::json!({ "start": start, "stop": stop, "predicate": "_measurement=\"tapedeck_check\"" });
        self.order(Method::POST, "api/v2/delete", &[("bucket", self.database.clone())], &all).await.map(drop)
    }

    /// A request of 2.x with JSON in it, and the JSON of its answer.
    ///
    /// # Errors
    /// It was not done, and why.
    pub(super) async fn order(
        &self,
        method: Method,
        path: &str,
        params: &[(&str, String)],
        body: &Value,
    ) -> anyhow::Result<Value> {
        let org = [("org", self.org.clone())];
        let request = self.request(method, path, &[params, &org].concat());
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        let (status, text) = send(request, ANSWER_BYTES).await.map_err(|error| anyhow!("{error}"))?;
        anyhow::ensure!(status.is_success(), "{}", answer::unable(status, &text));
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Makes what is missing: the database of 1.x; a bucket is its administrator's affair.
    ///
    /// # Errors
    /// The server is away, or refuses us.
    pub(super) async fn prepare(&self, config: &Config) -> Result<(), SinkError> {
        match self.version {
            Version::V1 => {
                let statement = format!("CREATE DATABASE {}", quoted(&config.database));
                let request = form(self.request(Method::POST, "query", &[]), &[("q", &statement)]);
                let (status, text) = send(request, ANSWER_BYTES).await?;
                match answer::of_query(status, &text) {
                    // Who may write and no more: whether the database is there, the first write will tell.
                    Err(SinkError::Waiting(_)) if status == StatusCode::FORBIDDEN => Ok(()),
                    done => done.map(drop),
                }
            }
            Version::V2 => {
                let params = [("name", config.database.clone()), ("org", self.org.clone())];
                let (status, text) = send(self.request(Method::GET, "api/v2/buckets", &params), ANSWER_BYTES).await?;
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
                let (status, text) = send(self.request(Method::GET, "ping", &[]), ANSWER_BYTES).await?;
                if status.is_success() { Ok(()) } else { Err(answer::unable(status, &text)) }
            }
        }
    }

    /// Runs an InfluxQL statement.
    ///
    /// # Errors
    /// It was not answered, or with an error: 200 alone is no success here.
    pub(super) async fn query(&self, statement: &str) -> anyhow::Result<Value> {
        self.ask(statement).await.map_err(|error| anyhow!("{error}"))
    }

    /// The same, with what the pump needs to know of an error.
    ///
    /// # Errors
    /// [`SinkError::Waiting`]: it was understood, and refused.
    pub(super) async fn ask(&self, statement: &str) -> Result<Value, SinkError> {
        let fields = [("q", statement), ("db", &self.database), ("epoch", "ns")];
        let (status, text) = send(form(self.request(Method::POST, "query", &[]), &fields), ROWS_BYTES).await?;
        answer::of_query(status, &text)
    }
}

/// What the server itself calls the policy of a database of which none was ever made.
pub(super) const AUTOGEN: &str = "autogen";

/// A name in InfluxQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A bucket of 2.x as a policy.
fn policy_of(name: &str, bucket: &Value) -> Found {
    let rule = &bucket["retentionRules"][0];
    let seconds = |key: &str| rule[key].as_u64().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    Found {
        name: name.to_owned(),
        keeps: seconds("everySeconds"),
        shard: seconds("shardGroupDurationSeconds"),
        replication: None,
        default: name == AUTOGEN,
    }
}

/// A form as the body: a statement in the URL would be in every log on its way.
fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
}
