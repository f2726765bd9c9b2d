//! Requests to X: rules and the stream. Refusals become words a person can act on, and the rule by which to wait.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use reqwest::{Method, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tapedeck_market::UnixNanos;
use tokio::time::timeout;

use super::config::{Config, Rule};
use super::line::Problem;
use super::pause::{End, Tier};
use crate::config::Secret;
use crate::config::secret::HIDDEN;
use crate::sources::{Waiting, net};

/// A request, from connecting to the last byte; of the stream, to the end of the answer's head.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// A thousand rules of the longest kind, with what stands around them.
const BODY_BYTES: usize = 8 << 20;
/// Rules of one request: a refused one names only its value, and the answer stays short.
const RULES_AT_ONCE: usize = 100;

const STREAM: &str = "/2/tweets/search/stream";
const RULES: &str = "/2/tweets/search/stream/rules";
/// What is asked of each post; without `note_tweet` long ones come cut off.
const FIELDS: &str = "tweet.fields=created_at,lang,public_metrics,edit_history_tweet_ids,note_tweet&expansions=author_id,geo.place_id&user.fields=username,location,public_metrics&place.fields=full_name";

/// One app at the venue.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    host: String,
    token: Secret,
}

/// A rule as the venue has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Held {
    pub(super) id: String,
    pub(super) value: String,
    #[serde(default)]
    pub(super) tag: Option<String>,
}

/// What came of adding rules.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) created: usize,
    pub(super) refused: Vec<RefusedRule>,
}

/// A rule that the venue does not take, and why.
#[derive(Clone, Debug)]
pub(super) struct RefusedRule {
    pub(super) value: String,
    why: String,
}

impl fmt::Display for RefusedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.value, self.why)
    }
}

impl Client {
    /// # Errors
    /// [`Waiting`]: there is no token.
    pub(super) fn new(config: &Config) -> anyhow::Result<Client> {
        let Some(token) = &config.bearer_token else {
            return Err(Waiting("no credentials: set X_BEARER_TOKEN".to_owned()).into());
        };
        let http = net::client(config.ca_file.as_deref(), REQUEST_LIMIT)?;
        Ok(Client { http, host: config.host().to_owned(), token: token.clone() })
    }

    /// The text without the token.
    pub(super) fn mask(&self, text: &str) -> String {
        text.replace(self.token.expose(), HIDDEN)
    }

    /// Opens the stream.
    pub(super) async fn open(&self) -> Result<Response, End> {
        self.send(Method::GET, &format!("{STREAM}?{FIELDS}"), None, "the stream").await
    }

    /// All rules of the account.
    pub(super) async fn rules(&self) -> Result<Vec<Held>, End> {
        Ok(self.rules_and_time().await?.0)
    }

    /// All rules, and the venue's clock beside ours in seconds, where it tells.
    pub(super) async fn rules_and_time(&self) -> Result<(Vec<Held>, Option<i64>), End> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            data: Vec<Held>,
        }
        let response = self.send(Method::GET, RULES, None, "the rules").await?;
        let ahead = net::date(&response).map(|theirs| seconds(theirs) - seconds(UnixNanos::now()));
        let body = self.read(response).await?;
        let answer: Answer =
            serde_json::from_str(&body).context("reading the rules").map_err(|error| Tier::Http.end(error))?;
        Ok((answer.data, ahead))
    }

    pub(super) async fn delete(&self, ids: &[&str]) -> Result<(), End> {
        for ids in ids.chunks(RULES_AT_ONCE) {
            let asked = json!({ "delete": { "ids": ids } });
            self.read(self.send(Method::POST, RULES, Some(&asked), "to delete rules").await?).await?;
        }
        Ok(())
    }

    /// Adds rules; with `dry` the venue only says what it would do.
    pub(super) async fn add(&self, rules: &[Rule], dry: bool) -> Result<Added, End> {
        #[derive(Serialize)]
        struct Wanted<'a> {
            value: &'a str,
            tag: &'a str,
        }
        let path = if dry { format!("{RULES}?dry_run=true") } else { RULES.to_owned() };
        let mut all = Added::default();
        for rules in rules.chunks(RULES_AT_ONCE) {
            let wanted: Vec<Wanted<'_>> =
                rules.iter().map(|rule| Wanted { value: &rule.value, tag: &rule.tag }).collect();
            let asked = json!({ "add": wanted });
            let response = self.ask(Method::POST, &path, Some(&asked), "to add rules").await?;
            let status = response.status();
            // Where a rule is wrong the status may be 400, and the body tells which one.
            if !status.is_success() && status != StatusCode::BAD_REQUEST {
                return Err(self.refusal(response).await);
            }
            let body = self.read(response).await?;
            let refused = refused_rules(&body, rules);
            if !status.is_success() && refused.is_empty() {
                return Err(self.refused(status, body.as_bytes(), None));
            }
            all.created += rules.len().saturating_sub(refused.len()) * usize::from(status.is_success());
            if status.is_success() && created(&body).is_some_and(|created| created == 0) {
                all.created = 0;
            }
            all.refused.extend(refused);
        }
        Ok(all)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>, what: &str) -> Result<Response, End> {
        let response = self.ask(method, path, body, what).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, what: &str) -> Result<Response, End> {
        let request = self
            .http
            .request(method, format!("{}{path}", self.host))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = timeout(REQUEST_LIMIT, request.send()).await;
        let answer = answer.with_context(|| format!("{what}: no answer within {} s", REQUEST_LIMIT.as_secs()));
        let answer = answer.map_err(|error| Tier::Network.end(error))?.map_err(reqwest::Error::without_url);
        answer.with_context(|| format!("asking for {what}")).map_err(|error| Tier::Network.end(error))
    }

    async fn read(&self, response: Response) -> Result<String, End> {
        let body = timeout(REQUEST_LIMIT, net::text(response, BODY_BYTES)).await.context("the answer does not end");
        body.and_then(|body| body).map_err(|error| Tier::Network.end(error))
    }

    async fn refusal(&self, mut response: Response) -> End {
        let (status, asked) = (response.status(), asked_wait(&response));
        let body = net::beginning(&mut response, REQUEST_LIMIT).await;
        self.refused(status, &body, asked)
    }

    /// A refusal in words, with [`Waiting`] where only a person can help.
    fn refused(&self, status: StatusCode, body: &[u8], asked: Option<Duration>) -> End {
        let problem = Problem::read(body);
        let said = self.mask(&problem.as_ref().map_or_else(|| net::printable(body), Problem::to_string));
        let waiting = |words: String| anyhow::Error::from(Waiting(words));
        match status {
            StatusCode::UNAUTHORIZED => Tier::Http.end(waiting(format!(
                "X refuses the bearer token ({said}): it is wrong, or was made anew or revoked since; copy the app's present one to X_BEARER_TOKEN and reload"
            ))),
            StatusCode::FORBIDDEN => Tier::Http.end(waiting(format!(
                "the token's app may not use the filtered stream ({said}): attach the app to a project whose access has it"
            ))),
            _ if problem.as_ref().is_some_and(Problem::is_usage_cap) => Tier::Limit(asked).end(waiting(format!(
                "the posts of this billing period are used up ({said}): raise the cap, or wait for the next period"
            ))),
            _ if problem.as_ref().is_some_and(Problem::is_too_many_connections) => {
                Tier::Limit(asked).end(anyhow!(
                    "another connection of this token is open ({said}): the venue allows one; is another deck or program running with it?"
                ))
            }
            _ if problem.as_ref().is_some_and(Problem::is_no_rules) => Tier::Http.end(waiting(format!(
                "the account has no rules ({said}): name some in [[source.NAME.rules]]"
            ))),
            StatusCode::TOO_MANY_REQUESTS => Tier::Limit(asked).end(anyhow!("X says 429, too many requests: {said}")),
            _ if problem.as_ref().is_some_and(Problem::is_rule_cap) => Tier::Http.end(waiting(format!(
                "the account may not have that many rules, or such long ones ({said}): shorten `rules`, or set sync = \"full\" so that others go"
            ))),
            StatusCode::BAD_REQUEST => {
                Tier::Http.end(waiting(format!("X does not understand what is asked ({said}): correct the source's table")))
            }
            _ => Tier::Http.end(anyhow!("X says {status}: {said}")),
        }
    }
}

/// How many rules an answer says were made.
fn created(body: &str) -> Option<u64> {
    let answer: Value = serde_json::from_str(body).ok()?;
    answer.get("meta")?.get("summary")?.get("created")?.as_u64()
}

/// The rules of a request that its answer refuses. One that is there already is not refused.
fn refused_rules(body: &str, asked: &[Rule]) -> Vec<RefusedRule> {
    let Ok(answer) = serde_json::from_str::<Value>(body) else { return Vec::new() };
    let errors = answer.get("errors").and_then(Value::as_array).into_iter().flatten();
    let mut refused = Vec::new();
    for error in errors {
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let Some(rule) = text("value").and_then(|value| asked.iter().find(|rule| rule.value == value)) else {
            continue;
        };
        if text("title") == Some("DuplicateRule") {
            continue;
        }
        let details = error.get("details").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let details: Vec<&str> = details.collect();
        let why = if details.is_empty() {
            text("detail").or(text("title")).unwrap_or("refused").to_owned()
        } else {
            details.join("; ")
        };
        refused.push(RefusedRule { value: rule.value.clone(), why });
    }
    refused
}

fn seconds(at: UnixNanos) -> i64 {
    at.0.div_euclid(1_000_000_000)
}

/// How long the venue asks to be left alone: a number of seconds, or the moment when its count begins anew.
fn asked_wait(response: &Response) -> Option<Duration> {
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let remaining = number("x-rate-limit-remaining");
    let until_reset = || {
        let now = seconds(net::date(response).unwrap_or_else(UnixNanos::now));
        number("x-rate-limit-reset")
            .filter(|_| remaining == Some(0))
            .map(|reset| reset.saturating_sub(now).saturating_add(1))
    };
    let secs = number("retry-after").or_else(until_reset)?;
    u64::try_from(secs).ok().map(Duration::from_secs)
}
