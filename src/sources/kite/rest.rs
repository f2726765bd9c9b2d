//! Requests to Kite Connect: the list of instruments, a login, whether a token is good.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use ring::digest;
use serde::Deserialize;
use tapedeck_market::UnixNanos;

use super::list::LIST_BYTES;
use super::login::Session;
use super::text::IST_SECS;
use crate::config::Secret;
use crate::config::secret::HIDDEN;
use crate::sources::{Waiting, net};

/// A request, from connecting to the answer's head.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The list has some MiB and may come slowly.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// Every other answer.
const BODY_BYTES: usize = 64 << 10;
/// 60 days of minutes are about two MiB.
const CANDLES_BYTES: usize = 16 << 20;
/// The venue's words in a refusal, for people.
const SAID_CHARS: usize = 200;

/// The venue's answers to requests.
#[derive(Clone, Debug)]
pub struct Rest {
    http: reqwest::Client,
    base: String,
}

/// A new login.
#[derive(Debug)]
pub struct NewLogin {
    pub access_token: Secret,
    /// Who logged in, for people.
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    error_type: String,
}

impl Rest {
    /// # Errors
    /// The client cannot be made.
    pub fn new(base: String) -> anyhow::Result<Rest> {
        crate::tls::install();
        let http = reqwest::Client::builder()
            .connect_timeout(REQUEST_LIMIT)
            .read_timeout(REQUEST_LIMIT)
            // What goes to this host, a token above all, goes to no other.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("making the client")?;
        Ok(Rest { http, base })
    }

    /// The whole list of instruments, unpacked.
    pub(super) async fn instruments(&self) -> anyhow::Result<Vec<u8>> {
        let fetched = async {
            let response = self.send(self.http.get(format!("{}/instruments", self.base)), "the list", &[]).await?;
            body(response, LIST_BYTES).await
        };
        let limit = LIST_LIMIT.as_secs();
        let list = tokio::time::timeout(LIST_LIMIT, fetched).await;
        let list = list.with_context(|| format!("the list does not end within {limit} s"))??;
        if !list.starts_with(&[0x1f, 0x8b]) {
            return Ok(list);
        }
        let mut plain = Vec::new();
        let unpacked = flate2::read::MultiGzDecoder::new(list.as_slice()).take(LIST_BYTES as u64 + 1);
        std::io::BufReader::new(unpacked).read_to_end(&mut plain).context("unpacking the list of instruments")?;
        ensure!(plain.len() <= LIST_BYTES, "the list of instruments is larger than {} MiB", LIST_BYTES >> 20);
        Ok(plain)
    }

    /// Changes a request token, which a person brought back from the venue's login page, for an access token.
    ///
    /// # Errors
    /// The venue refuses it, in its words.
    pub async fn login(
        &self,
        api_key: &Secret,
        api_secret: &Secret,
        request_token: &Secret,
    ) -> anyhow::Result<NewLogin> {
        #[derive(Deserialize)]
        struct Data {
            access_token: String,
            #[serde(default)]
            user_shortname: Option<String>,
        }
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        let secrets = [api_key, api_secret, request_token];
        let signed: String = [api_key, request_token, api_secret].map(Secret::expose).concat();
        let sum = digest::digest(&digest::SHA256, signed.as_bytes());
        let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("api_key", api_key.expose())
            .append_pair("request_token", request_token.expose())
            .append_pair("checksum", &sum)
            .finish();
        let request = self
            .http
            .post(format!("{}/session/token", self.base))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let answer = body(self.send(request, "a login", &secrets).await?, BODY_BYTES).await?;
        // What serde says of a value may quote it.
        let answer: Answer = serde_json::from_slice(&answer).ok().context("the answer to the login is none")?;
        let whole = super::config::plain_secret(&answer.data.access_token);
        ensure!(whole, "the venue's access token is none");
        Ok(NewLogin { access_token: Secret::new(answer.data.access_token), name: answer.data.user_shortname })
    }

    /// Asks for the profile, which only a good token may; the venue's clock, to the second.
    ///
    /// # Errors
    /// The venue refuses the token, in its words.
    pub(super) async fn profile(&self, session: &Session) -> anyhow::Result<Option<UnixNanos>> {
        let (key, token) = (session.api_key.expose(), session.access_token.expose());
        let request = self
            .http
            .get(format!("{}/user/profile", self.base))
            .header(header::AUTHORIZATION, format!("token {key}:{token}"));
        let response = self.send(request, "the profile", &[&session.api_key, &session.access_token]).await?;
        Ok(net::date(&response))
    }

    /// Candles of a minute that begin from one moment to another, both included.
    ///
    /// # Errors
    /// [`Waiting`] where the token may not ask for them; the venue's words.
    pub(super) async fn minutes(
        &self,
        session: &Session,
        token: u32,
        from: UnixNanos,
        to: UnixNanos,
    ) -> anyhow::Result<Vec<u8>> {
        let (key, access) = (session.api_key.expose(), session.access_token.expose());
        let (from, to) = (in_india(from), in_india(to));
        let query =
            form_urlencoded::Serializer::new(String::new()).append_pair("from", &from).append_pair("to", &to).finish();
        let request = self
            .http
            .get(format!("{}/instruments/historical/{token}/minute?{query}", self.base))
            .header(header::AUTHORIZATION, format!("token {key}:{access}"));
        let response = self.send(request, "past candles", &[&session.api_key, &session.access_token]).await;
        let response = response.map_err(|error| {
            let refused = format!("{error}").contains("(403)");
            if refused {
                Waiting(format!("{error}: is the access token good, and history paid for?")).into()
            } else {
                error
            }
        })?;
        body(response, CANDLES_BYTES).await
    }

    async fn send(&self, request: RequestBuilder, what: &str, secrets: &[&Secret]) -> anyhow::Result<Response> {
        let asked = tokio::time::timeout(REQUEST_LIMIT, request.header("X-Kite-Version", "3").send()).await;
        let asked = asked.with_context(|| format!("{what}: no answer within {} s", REQUEST_LIMIT.as_secs()))?;
        let response = asked.map_err(reqwest::Error::without_url).with_context(|| format!("asking for {what}"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = body(response, BODY_BYTES).await.unwrap_or_default();
        let refusal = serde_json::from_slice::<Refusal>(&said).ok();
        let mut said = match refusal {
            Some(refusal) if refusal.error_type.is_empty() => refusal.message,
            Some(refusal) => format!("{}: {}", refusal.error_type, refusal.message),
            None => String::from_utf8_lossy(&said).into_owned(),
        };
        for secret in secrets {
            said = said.replace(secret.expose(), HIDDEN);
        }
        let said: String = said.chars().filter(|c| !c.is_control()).take(SAID_CHARS).collect();
        match status {
            StatusCode::FORBIDDEN => bail!("Kite refuses {what} (403): {said}"),
            _ => Err(anyhow!("Kite says {status} to {what}: {said}")),
        }
    }
}

/// `2017-12-15 09:15:00`, on a clock in India.
fn in_india(at: UnixNanos) -> String {
    let local = UnixNanos::from_secs(at.0.div_euclid(1_000_000_000) + IST_SECS).to_string();
    local.get(..19).unwrap_or(&local).replace('T', " ")
}

async fn body(mut response: Response, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(reqwest::Error::without_url).context("reading the answer")?;
        let Some(chunk) = chunk else { return Ok(body) };
        ensure!(body.len() + chunk.len() <= limit, "the answer is larger than {} KiB", limit >> 10);
        body.extend_from_slice(&chunk);
    }
}
