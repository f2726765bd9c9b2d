//! The session of an account: logged in once, renewed, shared by the connections of a table, kept in memory alone.
//!
//! A login whose credentials or account the venue refuses is never tried again by itself: enough of them and the account is
//! locked. Another one needs another table, which a reload brings. A ban ends by itself, and what the venue says of its own
//! trouble says nothing of the account: both are waited for, all connections of the table together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::{Identity, RequestBuilder, StatusCode, header};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::config::Config;
use crate::config::Secret;
use crate::config::secret::HIDDEN;
use crate::logs;
use crate::sources::{Again, Waiting};

/// A request, from connecting to the last byte.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Answers have some hundred bytes.
const BODY_BYTES: usize = 64 << 10;
/// Logins within [`LOGINS_SPAN`]: a session that is good for nothing must not become a flood of them.
const LOGINS: usize = 3;
const LOGINS_SPAN: Duration = Duration::from_secs(300);
/// Who logged in too often is let in after this.
const BAN: Duration = Duration::from_secs(20 * 60);
/// After a login that failed for no reason of ours, doubled each time up to the length of a ban.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// What only a person can mend, and what to do; of the account alone where nothing else is said.
const FINAL: [(&str, &str); 44] = [
    ("INVALID_USERNAME_OR_PASSWORD", CREDENTIALS),
    ("INVALID_CREDENTIALS", CREDENTIALS),
    ("INPUT_VALIDATION_ERROR", CREDENTIALS),
    ("INVALID_CONNECTIVITY_TO_REGULATOR_DK", ACCOUNT),
    ("INVALID_CONNECTIVITY_TO_REGULATOR_IT", ACCOUNT),
    ("CERT_AUTH_REQUIRED", CERTIFICATE),
    ("INVALID_APP_KEY", KEY),
    ("NO_APP_KEY", KEY),
    ("ACCOUNT_ALREADY_LOCKED", ACCOUNT),
    ("ACCOUNT_NOW_LOCKED", ACCOUNT),
    ("ACCOUNT_PENDING_PASSWORD_CHANGE", ACCOUNT),
    ("ACTIONS_REQUIRED", ACCOUNT),
    ("AGENT_CLIENT_MASTER", ACCOUNT),
    ("AGENT_CLIENT_MASTER_SUSPENDED", ACCOUNT),
    ("AUTHORIZED_ONLY_FOR_DOMAIN_RO", ACCOUNT),
    ("AUTHORIZED_ONLY_FOR_DOMAIN_SE", ACCOUNT),
    ("BETTING_RESTRICTED_LOCATION", ACCOUNT),
    ("CHANGE_PASSWORD_REQUIRED", ACCOUNT),
    ("CLOSED", ACCOUNT),
    ("DANISH_AUTHORIZATION_REQUIRED", ACCOUNT),
    ("DENMARK_MIGRATION_REQUIRED", ACCOUNT),
    ("DUPLICATE_CARDS", ACCOUNT),
    ("EMAIL_LOGIN_NOT_ALLOWED", ACCOUNT),
    ("INTERNATIONAL_TERMS_ACCEPTANCE_REQUIRED", ACCOUNT),
    ("ITALIAN_CONTRACT_ACCEPTANCE_REQUIRED", ACCOUNT),
    ("ITALIAN_PROFILING_ACCEPTANCE_REQUIRED", ACCOUNT),
    ("KYC_SUSPEND", ACCOUNT),
    ("LIMITED_ACCESS", ACCOUNT),
    ("MULTIPLE_USERS_WITH_SAME_CREDENTIAL", ACCOUNT),
    ("NOT_AUTHORIZED_BY_REGULATOR_DK", ACCOUNT),
    ("NOT_AUTHORIZED_BY_REGULATOR_IT", ACCOUNT),
    ("PENDING_AUTH", ACCOUNT),
    ("PERSONAL_MESSAGE_REQUIRED", ACCOUNT),
    ("SECURITY_QUESTION_WRONG_3X", ACCOUNT),
    ("SECURITY_RESTRICTED_LOCATION", ACCOUNT),
    ("SELF_EXCLUDED", ACCOUNT),
    ("SPAIN_MIGRATION_REQUIRED", ACCOUNT),
    ("SPANISH_TERMS_ACCEPTANCE_REQUIRED", ACCOUNT),
    ("STRONG_AUTH_CODE_REQUIRED", ACCOUNT),
    ("SUSPENDED", ACCOUNT),
    ("SWEDEN_NATIONAL_IDENTIFIER_REQUIRED", ACCOUNT),
    ("TELBET_TERMS_CONDITIONS_NA", ACCOUNT),
    ("TRADING_MASTER", ACCOUNT),
    ("TRADING_MASTER_SUSPENDED", ACCOUNT),
];
const CREDENTIALS: &str = "correct BETFAIR_USERNAME and BETFAIR_PASSWORD";
const CERTIFICATE: &str = "add the certificate to the account, or correct BETFAIR_CERT_FILE and BETFAIR_KEY_FILE";
const KEY: &str = "correct BETFAIR_APP_KEY";
const ACCOUNT: &str = "log in on the venue's site once to see what it wants";

/// The credentials of a table and what became of them; its sessions share it.
#[derive(Clone, Debug)]
pub(super) struct Login {
    config: Arc<Config>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The token, and when it was made or renewed.
    session: Option<(Secret, Instant)>,
    /// Why no other login is tried.
    refused: Option<String>,
    /// Before this no login is tried, for this reason; how long the last such wait was.
    later: Option<(Instant, String, Duration)>,
    logins: VecDeque<Instant>,
}

/// What a request to the stream is authenticated with.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) app_key: Secret,
    pub(super) token: Secret,
}

impl Session {
    /// The text without either secret.
    pub(super) fn mask(&self, text: &str) -> String {
        text.replace(self.token.expose(), HIDDEN).replace(self.app_key.expose(), HIDDEN)
    }

    pub(super) fn is_private(&self, bytes: &[u8]) -> bool {
        [&self.token, &self.app_key]
            .iter()
            .any(|secret| memchr::memmem::find(bytes, secret.expose().as_bytes()).is_some())
    }
}

impl Login {
    pub(super) fn new(config: Arc<Config>) -> Login {
        Login { config, state: Arc::default() }
    }

    /// A session that was not refused yet: the one there is, or a new one.
    ///
    /// # Errors
    /// [`Waiting`] where only a person can help.
    pub(super) async fn session(&self) -> anyhow::Result<Session> {
        let missing = "no credentials: set BETFAIR_APP_KEY, BETFAIR_USERNAME and BETFAIR_PASSWORD";
        let (Some(app_key), Some(username), Some(password)) =
            (&self.config.app_key, &self.config.username, &self.config.password)
        else {
            return Err(Waiting(missing.to_owned()).into());
        };
        // Held until there is a session: of two connections that want one, one logs in.
        let mut state = self.state.lock().await;
        if let Some(words) = &state.refused {
            return Err(Waiting(words.clone()).into());
        }
        if let Some((token, _)) = &state.session {
            return Ok(Session { app_key: app_key.clone(), token: token.clone() });
        }
        let now = Instant::now();
        if let Some((until, why, _)) = &state.later
            && now < *until
        {
            return Err(anyhow!("{why}").context(Again(*until - now)));
        }
        while state.logins.front().is_some_and(|at| now.duration_since(*at) > LOGINS_SPAN) {
            state.logins.pop_front();
        }
        ensure!(state.logins.len() < LOGINS, "the session is refused again and again: no login for a while");
        match self.log_in(app_key, username, password).await {
            Ok(token) => {
                logs::hide(token.expose());
                state.logins.push_back(now);
                (state.session, state.later) = (Some((token.clone(), Instant::now())), None);
                tracing::info!("logged in to Betfair");
                Ok(Session { app_key: app_key.clone(), token })
            }
            Err(error) => Err(match error.downcast::<Refused>() {
                Ok(Refused::Final(words)) => {
                    state.refused = Some(words.clone());
                    Waiting(words).into()
                }
                Ok(Refused::Later(words, pause)) => {
                    let last = state.later.take().map_or(Duration::ZERO, |(_, _, last)| last);
                    let pause = pause.unwrap_or_else(|| (last * 2).clamp(FIRST_PAUSE, BAN));
                    state.later = Some((Instant::now() + pause, words.clone(), pause));
                    anyhow!("{words}").context(Again(pause))
                }
                Err(error) => error,
            }),
        }
    }

    /// The venue does not know the session any more: the next one who asks logs in.
    pub(super) async fn forget(&self, session: &Session) {
        let mut state = self.state.lock().await;
        if state.session.as_ref().is_some_and(|(token, _)| *token == session.token) {
            state.session = None;
        }
    }

    /// The venue will not have this application or account, whatever the session: nothing is tried before a reload.
    pub(super) async fn give_up(&self, words: &str) {
        self.state.lock().await.refused = Some(words.to_owned());
    }

    /// Renews the session for as long as it is polled.
    pub(super) async fn keep_alive(&self, session: &Session) {
        let every = self.config.keep_alive.0;
        loop {
            sleep(every).await;
            let mut state = self.state.lock().await;
            // Another connection of the table may have done it.
            let due =
                state.session.as_ref().is_some_and(|(token, at)| *token == session.token && at.elapsed() >= every / 2);
            if !due {
                continue;
            }
            match self.renew(session).await {
                Ok(()) => state.session = Some((session.token.clone(), Instant::now())),
                Err(error) => {
                    let error = session.mask(&format!("{error:#}"));
                    tracing::warn!(error, "the login cannot be renewed: another one is made when the stream wants it");
                }
            }
        }
    }

    async fn log_in(&self, app_key: &Secret, username: &str, password: &Secret) -> anyhow::Result<Secret> {
        /// Both ways in one: the venue's two hosts name the same things differently.
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Answer {
            session_token: String,
            login_status: String,
            token: String,
            status: String,
            error: String,
        }
        let certificate = self.config.cert_file.is_some();
        let (host, path) = if certificate {
            ("https://identitysso-cert.betfair.com", "/api/certlogin")
        } else {
            ("https://identitysso.betfair.com", "/api/login")
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", username)
            .append_pair("password", password.expose())
            .finish();
        let request = self
            .client(certificate)?
            .post(self.url(host, path))
            .header("X-Application", app_key.expose())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let body = ask(request, "a login").await?;
        // What serde says of a value may quote it.
        let answer: Answer = serde_json::from_slice(&body).ok().context("the answer to the login is none")?;
        let (token, status) = if certificate {
            (answer.session_token, answer.login_status)
        } else {
            (answer.token, if answer.status == "SUCCESS" { answer.status } else { answer.error })
        };
        if status != "SUCCESS" {
            return Err(refusal(&status).into());
        }
        ensure!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()), "the venue's session token is none");
        Ok(Secret::new(token))
    }

    async fn renew(&self, session: &Session) -> anyhow::Result<()> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Answer {
            status: String,
            error: String,
        }
        let request = self
            .client(false)?
            .post(self.url("https://identitysso.betfair.com", "/api/keepAlive"))
            .header("X-Application", session.app_key.expose())
            .header("X-Authentication", session.token.expose());
        let body = ask(request, "another while").await?;
        let answer: Answer = serde_json::from_slice(&body).ok().context("the answer is none")?;
        ensure!(answer.status == "SUCCESS", "Betfair says {}", word(&answer.error));
        Ok(())
    }

    fn url(&self, host: &str, path: &str) -> String {
        let host = self.config.login_url.as_deref().unwrap_or(host);
        format!("{}{path}", host.trim_end_matches('/'))
    }

    fn client(&self, with_certificate: bool) -> anyhow::Result<reqwest::Client> {
        crate::tls::install();
        let mut http = reqwest::Client::builder()
            .connect_timeout(REQUEST_LIMIT)
            .http1_only()
            // What goes to this host, a password above all, goes to no other.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &self.config.ca_file {
            let pem = std::fs::read(path).with_context(|| format!("ca_file: reading {}", path.display()))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem);
            http = http.tls_certs_only(found.with_context(|| format!("ca_file: {} is no PEM", path.display()))?);
        }
        if let (true, Some(cert), Some(key)) = (with_certificate, &self.config.cert_file, &self.config.cert_key_file) {
            let mut pem = std::fs::read(key).with_context(|| format!("cert_key_file: reading {}", key.display()))?;
            pem.push(b'\n');
            pem.extend(std::fs::read(cert).with_context(|| format!("cert_file: reading {}", cert.display()))?);
            let identity = Identity::from_pem(&pem);
            // What the library says of a key is not for logs.
            let identity = identity.map_err(|_| anyhow!("cert_file and cert_key_file are no certificate with its key"));
            http = http.identity(identity?);
        }
        http.build().context("making an HTTP client")
    }
}

/// A login that was refused, in words.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// Another try can only make it worse.
    #[error("{0}")]
    Final(String),
    /// It ends by itself: after so long, where that is known.
    #[error("{0}")]
    Later(String, Option<Duration>),
}

fn refusal(status: &str) -> Refused {
    let status = word(status);
    if let Some((_, todo)) = FINAL.iter().find(|(name, _)| *name == status) {
        return Refused::Final(format!("Betfair refuses the login ({status}): {todo}, and reload"));
    }
    if status == "TEMPORARY_BAN_TOO_MANY_REQUESTS" {
        let why = "the venue lets nobody in for 20 minutes after too many logins; the next one is made then";
        return Refused::Later(format!("Betfair refuses the login ({status}): {why}"), Some(BAN));
    }
    Refused::Later(format!("Betfair has trouble with the login ({status}), which says nothing of the account"), None)
}

/// A status of the venue: letters and lines, or nothing that is shown.
fn word(text: &str) -> String {
    let plain = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { text.to_owned() } else { "no reason".to_owned() }
}

async fn ask(request: RequestBuilder, what: &str) -> anyhow::Result<Vec<u8>> {
    let asked = async {
        let response = request.header(header::ACCEPT, "application/json").send().await;
        let mut response =
            response.map_err(reqwest::Error::without_url).with_context(|| format!("asking for {what}"))?;
        let status = response.status();
        if status != StatusCode::OK {
            bail!("Betfair answers {status} to the request for {what}");
        }
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(reqwest::Error::without_url).context("reading the answer")?
        {
            ensure!(body.len() + chunk.len() <= BODY_BYTES, "the answer is larger than {} KiB", BODY_BYTES >> 10);
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    timeout(REQUEST_LIMIT, asked)
        .await
        .with_context(|| format!("{what}: no answer within {} s", REQUEST_LIMIT.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_must_mend_is_final() {
        for (status, says) in [
            ("INVALID_USERNAME_OR_PASSWORD", "correct BETFAIR_USERNAME"),
            ("CERT_AUTH_REQUIRED", "BETFAIR_CERT_FILE"),
            ("ACCOUNT_NOW_LOCKED", "log in on the venue's site"),
            ("SELF_EXCLUDED", "log in on the venue's site"),
        ] {
            let refused = refusal(status);
            assert!(matches!(&refused, Refused::Final(words) if words.contains(says)), "{status}: {refused:?}");
        }
        for (status, pause) in [
            ("TEMPORARY_BAN_TOO_MANY_REQUESTS", Some(BAN)),
            ("INTERNAL_ERROR", None),
            ("", None),
            ("no <b>word</b>", None),
        ] {
            let refused = refusal(status);
            assert!(matches!(&refused, Refused::Later(_, it) if *it == pause), "{status}: {refused:?}");
            assert!(!refused.to_string().contains('<'), "{refused}");
        }
    }
}
