//! One server: requests with a login that is good.

use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant as Wall};

use bytes::Bytes;
use reqwest::{Method, Url, header};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::answer::{self, Answer, Who};
use super::config::Target;
use super::session::{self, Credentials, LOGIN, REFRESH, Session};
use super::settings::Limits;
use crate::config::Secret;
use crate::sinks::http;
use crate::sync::{Class, Trouble};

/// The largest answer is a page of records.
const ANSWER_BYTES: usize = 32 << 20;
const TOO_LARGE: &str = "the answer is larger than";

/// People change settings; what was refused by them is asked for at once.
const LIMITS_FOR: Duration = Duration::from_secs(60);

fn too_large(what: &str) -> Trouble {
    Trouble::new(Class::Setup, format!("{what}: {TOO_LARGE} {} MiB", ANSWER_BYTES >> 20))
}

/// Whether less should be asked for at a time.
pub(super) fn is_too_large(trouble: &Trouble) -> bool {
    trouble.text.contains(TOO_LARGE)
}

/// A PocketBase. One is enough for everybody: it is used by shared reference, its connections are kept, and requests that find the
/// login at its end wait for the one that renews it.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    timeout: Duration,
    credentials: Credentials,
    /// Held over a login, so that there is one however many ask.
    session: Mutex<Option<Session>>,
    limits: StdMutex<Option<(Limits, Instant)>>,
}

impl Client {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// The table says what cannot be; begins with the key.
    pub fn new(target: &Target) -> anyhow::Result<Client> {
        target.validate()?;
        Ok(Client {
            http: http::client(target.timeout.0, target.verify_tls, target.ca_file.as_deref())?,
            base: target.base()?,
            timeout: target.timeout.0,
            credentials: Credentials::of(target),
            session: Mutex::new(None),
            limits: StdMutex::new(None),
        })
    }

    /// Where it is, for people.
    #[must_use]
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// Whether something is there, and is a PocketBase; without credentials.
    ///
    /// # Errors
    /// It is away, or is none. Cancel safe, as everything here: a request that is dropped has been done or not.
    pub async fn hello(&self) -> Result<String, Trouble> {
        let answer = self.send(Method::GET, "health", &Bytes::new(), None, "asking how it is").await?;
        let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        match body["message"].as_str() {
            Some(words) if answer.status.is_success() && body["code"].is_u64() => {
                Ok(format!("PocketBase at {}: {words}", self.base))
            }
            _ => Err(self.trouble(&answer, "asking how it is")),
        }
    }

    /// Logs in, where there is something to log in with, and says who that makes us.
    ///
    /// # Errors
    /// Who we are is not accepted, or the server is away.
    pub async fn login(&self) -> Result<String, Trouble> {
        match &self.credentials {
            Credentials::Nothing => Ok("nobody: only what the collections' rules leave open".to_owned()),
            Credentials::Login { email, .. } => {
                self.token().await?;
                Ok(format!("superuser {email}"))
            }
            Credentials::Token(_) => {
                self.get("collections?perPage=1&fields=id", "looking whether the token is good").await?;
                Ok("superuser by token".to_owned())
            }
        }
    }

    pub(super) fn who(&self) -> Who {
        self.credentials.who()
    }

    /// What it answers to a GET.
    pub(super) async fn get(&self, path: &str, what: &str) -> Result<Value, Trouble> {
        self.call(Method::GET, path, Bytes::new(), what).await
    }

    /// What it answers to a request with a body.
    pub(super) async fn put(&self, method: Method, path: &str, body: &Value, what: &str) -> Result<Value, Trouble> {
        self.call(method, path, Bytes::from(body.to_string()), what).await
    }

    /// The text of what it answers to a GET.
    pub(super) async fn text(&self, path: &str, what: &str) -> Result<String, Trouble> {
        let answer = self.ask(Method::GET, path, &Bytes::new(), what).await?;
        if answer.status.is_success() { Ok(answer.text) } else { Err(self.trouble(&answer, what)) }
    }

    async fn call(&self, method: Method, path: &str, body: Bytes, what: &str) -> Result<Value, Trouble> {
        let answer = self.ask(method, path, &body, what).await?;
        if !answer.status.is_success() {
            return Err(self.trouble(&answer, what));
        }
        if answer.text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer.text).map_err(|_| self.trouble(&answer, what))
    }

    /// Sends a request as who we are. A login that is refused is made anew, once.
    pub(super) async fn ask(&self, method: Method, path: &str, body: &Bytes, what: &str) -> Result<Answer, Trouble> {
        let token = self.token().await?;
        let answer = self.send(method.clone(), path, body, token.as_ref(), what).await?;
        if !is_about_us(&answer) || self.who() != Who::Superuser {
            return Ok(answer);
        }
        let token = self.instead_of(token.as_ref()).await?;
        self.send(method, path, body, Some(&token), what).await
    }

    pub(super) fn trouble(&self, answer: &Answer, what: &str) -> Trouble {
        answer::trouble(answer, self.who(), what, self.base.as_str())
    }

    /// The token to go with a request; `None`: we are nobody.
    async fn token(&self) -> Result<Option<Secret>, Trouble> {
        match &self.credentials {
            Credentials::Nothing => return Ok(None),
            Credentials::Token(token) => return Ok(Some(token.clone())),
            Credentials::Login { .. } => {}
        }
        let mut session = self.session.lock().await;
        let renewed = match &*session {
            None => self.log_in().await?,
            Some(held) if Instant::now() < held.renew_at => return Ok(Some(held.token.clone())),
            Some(held) => match self.renew(held).await {
                Ok(renewed) => renewed,
                // It is still good: whoever asks finds out whether the server is there.
                Err(_) if Instant::now() < held.ends_at => return Ok(Some(held.token.clone())),
                Err(trouble) => return Err(trouble),
            },
        };
        let token = renewed.token.clone();
        *session = Some(renewed);
        Ok(Some(token))
    }

    /// A token in place of one that was refused; another request may have got it meanwhile.
    async fn instead_of(&self, refused: Option<&Secret>) -> Result<Secret, Trouble> {
        let mut session = self.session.lock().await;
        if let Some(held) = &*session
            && Some(&held.token) != refused
        {
            return Ok(held.token.clone());
        }
        *session = None;
        let made = self.log_in().await?;
        let token = made.token.clone();
        *session = Some(made);
        Ok(token)
    }

    async fn log_in(&self) -> Result<Session, Trouble> {
        let (Credentials::Login { email, .. }, Some(body)) = (&self.credentials, self.credentials.body()) else {
            return Err(Trouble::new(Class::Authentication, "there is nothing to log in with"));
        };
        let (asked_at, body) = (Instant::now(), Bytes::from(body.to_string()));
        let answer = self.send(Method::POST, LOGIN, &body, None, &format!("logging in as {email}")).await?;
        let session = Session::of(&answer, asked_at).filter(|_| answer.status.is_success());
        session.ok_or_else(|| session::refused(&answer, email, self.base.as_str()))
    }

    /// With the token that we have; with the password where that is refused.
    async fn renew(&self, held: &Session) -> Result<Session, Trouble> {
        let asked_at = Instant::now();
        let token = Some(&held.token);
        let answer = self.send(Method::POST, REFRESH, &Bytes::new(), token, "renewing the login").await?;
        match Session::of(&answer, asked_at) {
            Some(session) if answer.status.is_success() => Ok(session),
            _ => self.log_in().await,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Bytes,
        token: Option<&Secret>,
        what: &str,
    ) -> Result<Answer, Trouble> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/{path}", self.base.path().trim_end_matches('/')));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let began = Wall::now();
        let mut request = self.http.request(method.clone(), url);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token.expose());
        }
        let answer = http::exchange(request, ANSWER_BYTES).await.map_err(|error| self.away(error, what))?;
        tracing::debug!(
            %method, path, query, bytes = body.len(), status = answer.status.as_u16(), ms = began.elapsed().as_millis(),
            "asked the target"
        );
        if answer.whole {
            return Ok(answer);
        }
        Err(too_large(what))
    }

    fn away(&self, error: reqwest::Error, what: &str) -> Trouble {
        let (timeout, connect) = (error.is_timeout(), error.is_connect());
        let said = format!("{what}: {:#}", anyhow::Error::new(error.without_url()));
        let trouble = Trouble::new(Class::Connection, said);
        match (timeout, connect) {
            (true, false) => trouble.fix(format!("{} did not answer within {:?}", self.base, self.timeout)),
            _ => trouble.fix(format!("is it running, and reached from here, at {}?", self.base)),
        }
    }

    /// What was found before is asked for anew.
    pub(super) fn forget_limits(&self) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn known_limits(&self) -> Option<Limits> {
        let known = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(_, asked_at)| asked_at.elapsed() < LIMITS_FOR).map(|(limits, _)| limits)
    }

    pub(super) fn keep_limits(&self, limits: Limits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = Some((limits, Instant::now()));
    }
}

/// Whether an answer says that the login is not good, which within a batch is a 400 around a 403.
fn is_about_us(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        401 => true,
        403 => !answer.text.contains(super::settings::BATCH_IS_OFF),
        400 => {
            let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
            let failed = body["data"]["requests"].as_object().and_then(|requests| requests.values().next());
            failed.is_some_and(|one| matches!(one["response"]["status"].as_u64(), Some(401 | 403)))
        }
        _ => false,
    }
}
