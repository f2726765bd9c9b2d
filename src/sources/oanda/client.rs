//! Requests to OANDA: paced, bounded, and refusals in words a person can act on.
//!
//! The account is part of every address, so no address is ever shown; what the venue says is shown without it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use reqwest::{Response, StatusCode, header};
use ring::digest;
use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Instrument, Size, SmolStr, UnixNanos};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::config::{Config, TimeFormat};
use crate::config::Secret;
use crate::config::secret::HIDDEN;
use crate::sources::parsed::whole;
use crate::sources::{Waiting, net};

/// A request, from connecting to the last byte; of a stream, to the end of the answer's head.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The venue allows two new connections a second; a request may be one. No more than these go out within that and what one may
/// take longer than another to arrive.
const AT_ONCE: usize = 2;
const WITHIN: Duration = Duration::from_millis(1_100);
/// After "too many" nothing is asked for this long, unless the venue says for how long.
const TOO_MANY_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that the venue can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The list of instruments is about 100 KiB, 500 transactions at most two MiB.
const BODY_BYTES: usize = 16 << 20;
/// Transactions that are asked for at once.
pub(super) const PAGE: u64 = 500;

/// One account at the venue.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    rest: String,
    stream: String,
    token: Secret,
    account: Secret,
    format: TimeFormat,
    other_environment: &'static str,
    gate: Gate,
}

/// When the next requests may go out; all sessions of a table share it. The earliest time is first.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Mutex<[Instant; AT_ONCE]>>);

impl Gate {
    pub(super) fn new() -> Gate {
        Gate(Arc::new(Mutex::new([Instant::now(); AT_ONCE])))
    }

    async fn pass(&self) {
        let at = {
            let mut next = self.0.lock().await;
            let at = next[0].max(Instant::now());
            next[0] = at + WITHIN;
            next.rotate_left(1);
            at
        };
        sleep_until(at).await;
    }

    async fn close(&self, pause: Duration) {
        let until = Instant::now() + pause;
        for next in self.0.lock().await.iter_mut() {
            *next = (*next).max(until);
        }
    }
}

impl Client {
    /// # Errors
    /// [`Waiting`]: there are no credentials.
    pub(super) fn new(config: &Config, gate: &Gate) -> anyhow::Result<Client> {
        let (Some(token), Some(account)) = (&config.token, &config.account) else {
            return Err(Waiting("no credentials: set OANDA_ACCESS_TOKEN and OANDA_ACCOUNT_ID".to_owned()).into());
        };
        Ok(Client {
            http: net::client(config.ca_file.as_deref(), REQUEST_LIMIT)?,
            rest: config.rest_url(),
            stream: config.stream_url(),
            token: token.clone(),
            account: account.clone(),
            format: config.time_format,
            other_environment: config.other_environment(),
            gate: gate.clone(),
        })
    }

    /// The text without the account.
    pub(super) fn mask(&self, text: &str) -> String {
        text.replace(self.account.expose(), HIDDEN)
    }

    /// Whether bytes hold the account.
    pub(super) fn is_private(&self, bytes: &[u8]) -> bool {
        memchr::memmem::find(bytes, self.account.expose().as_bytes()).is_some()
    }

    /// What the account is called on the tape, which tells nobody what it is called elsewhere.
    pub(super) fn account_mark(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.account.expose().as_bytes());
        digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Opens a stream below the account: `pricing/stream`, `transactions/stream`.
    ///
    /// # Errors
    /// [`Waiting`] where only a person can help.
    pub(super) async fn open(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Response> {
        let url = format!("{}/v3/accounts/{}/{path}", self.stream, self.account.expose());
        self.send(&url, query, "the stream").await
    }

    /// # Errors
    /// As [`Client::open`].
    pub(super) async fn instruments(&self) -> anyhow::Result<Vec<(SmolStr, Instrument)>> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            instruments: Vec<&'a RawValue>,
        }
        let body = self.get("instruments", &[], "the instruments").await?;
        let answer: Answer<'_> = serde_json::from_str(&body).context("reading the instruments")?;
        Ok(answer.instruments.into_iter().filter_map(instrument).collect())
    }

    /// The account's newest transaction.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub(super) async fn last_transaction(&self) -> anyhow::Result<u64> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow, rename = "lastTransactionID")]
            last: &'a RawValue,
        }
        let body = self.get("summary", &[], "the account's summary").await?;
        let answer: Answer<'_> = serde_json::from_str(&body).context("reading the account's summary")?;
        whole(answer.last).context("reading the account's summary: the newest transaction has no number")
    }

    /// Texts of the transactions behind `last`, oldest first: all of them up to `newest`, or the first [`PAGE`].
    ///
    /// # Errors
    /// As [`Client::open`].
    pub(super) async fn transactions(&self, last: u64, newest: u64) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow, default)]
            transactions: Vec<&'a RawValue>,
        }
        let body = if newest.saturating_sub(last) <= PAGE {
            self.get("transactions/sinceid", &[("id", &last.to_string())], "missed transactions").await
        } else {
            // Everything since then in one answer could be of any size.
            let range = [("from", &*(last + 1).to_string()), ("to", &*(last + PAGE).to_string())];
            self.get("transactions/idrange", &range, "missed transactions").await
        };
        let body = body?;
        let answer: Answer<'_> = serde_json::from_str(&body).context("reading missed transactions")?;
        Ok(answer.transactions.into_iter().map(|raw| raw.get().to_owned()).collect())
    }

    /// The present prices as the venue writes them, as texts of objects.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub(super) async fn prices(&self, symbols: &str) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            prices: Vec<&'a RawValue>,
        }
        let body = self.get("pricing", &[("instruments", symbols)], "prices").await?;
        let answer: Answer<'_> = serde_json::from_str(&body).context("reading prices")?;
        Ok(answer.prices.into_iter().map(|raw| raw.get().to_owned()).collect())
    }

    /// Bid and ask candles of five seconds that begin in a span.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub(super) async fn candles(&self, symbol: &str, from: UnixNanos, to: UnixNanos) -> anyhow::Result<String> {
        let time = |at: UnixNanos| match self.format {
            TimeFormat::Unix => format!("{}.{:09}", at.0.div_euclid(1_000_000_000), at.0.rem_euclid(1_000_000_000)),
            _ => at.to_string(),
        };
        let url = format!("{}/v3/instruments/{symbol}/candles", self.rest);
        let (from, to) = (time(from), time(to));
        let query = [("granularity", "S5"), ("price", "BAM"), ("from", &*from), ("to", &*to)];
        let response = self.send(&url, &query, "past candles").await?;
        timeout(REQUEST_LIMIT, net::text(response, BODY_BYTES)).await.context("the answer does not end")?
    }

    /// How many accounts the token may read, and whether this one is among them.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub(super) async fn accounts(&self) -> anyhow::Result<(usize, bool)> {
        #[derive(Deserialize)]
        struct Account {
            id: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            accounts: Vec<Account>,
        }
        let response = self.send(&format!("{}/v3/accounts", self.rest), &[], "the list of accounts").await?;
        let answer: Answer =
            serde_json::from_str(&net::text(response, BODY_BYTES).await?).context("reading the accounts")?;
        let ours = answer.accounts.iter().any(|account| account.id == self.account.expose());
        Ok((answer.accounts.len(), ours))
    }

    /// A request below the account.
    async fn get(&self, path: &str, query: &[(&str, &str)], what: &str) -> anyhow::Result<String> {
        let url = format!("{}/v3/accounts/{}/{path}", self.rest, self.account.expose());
        let response = self.send(&url, query, what).await?;
        timeout(REQUEST_LIMIT, net::text(response, BODY_BYTES)).await.context("the answer does not end")?
    }

    async fn send(&self, url: &str, query: &[(&str, &str)], what: &str) -> anyhow::Result<Response> {
        self.gate.pass().await;
        let format = if self.format == TimeFormat::Unix { "UNIX" } else { "RFC3339" };
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let url = if query.is_empty() { url.to_owned() } else { format!("{url}?{query}") };
        let request = self
            .http
            .get(url)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header("Accept-Datetime-Format", format);
        let answer = timeout(REQUEST_LIMIT, request.send()).await;
        let answer = answer.with_context(|| format!("{what}: no answer within {} s", REQUEST_LIMIT.as_secs()))?;
        let response = answer.map_err(reqwest::Error::without_url).with_context(|| format!("asking for {what}"))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// A refusal in words, and [`Waiting`] where asking again does not help.
    async fn refusal(&self, mut response: Response) -> anyhow::Error {
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let pause = asked.map_or(TOO_MANY_PAUSE, Duration::from_secs).min(LONGEST_PAUSE);
            self.gate.close(pause).await;
        }
        let said = self.mask(&said(&net::beginning(&mut response, REQUEST_LIMIT).await));
        let words = match status {
            StatusCode::UNAUTHORIZED => format!(
                "OANDA refuses the token ({said}): make a new one, set OANDA_ACCESS_TOKEN and reload; or is it one for environment = \"{}\"?",
                self.other_environment
            ),
            StatusCode::FORBIDDEN => {
                format!("the token may not read this account ({said}): correct OANDA_ACCOUNT_ID and reload")
            }
            StatusCode::NOT_FOUND => {
                format!("OANDA knows no such account ({said}): correct OANDA_ACCOUNT_ID and reload")
            }
            StatusCode::BAD_REQUEST => {
                format!("OANDA does not understand what is asked ({said}): correct the source's table")
            }
            _ => return anyhow!("OANDA says {status}: {said}"),
        };
        Waiting(words).into()
    }
}

/// The message of a refusal: `{"errorMessage":"Insufficient authorization to perform request."}`.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "errorMessage")]
        message: String,
    }
    serde_json::from_slice(body).map_or_else(|_| net::printable(body), |answer: Answer| answer.message)
}

/// What the venue lists. A definition that cannot be read is left out: its prices come all the same.
fn instrument(raw: &RawValue) -> Option<(SmolStr, Instrument)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        name: String,
        display_name: Option<String>,
        display_precision: Option<u8>,
        trade_units_precision: Option<u8>,
        minimum_trade_size: Option<String>,
    }
    let listed: Listed = serde_json::from_str(raw.get()).ok()?;
    let (base, quote) = listed.name.split_once('_').map_or((None, None), |(base, quote)| (Some(base), Some(quote)));
    let instrument = Instrument {
        aliases: listed.display_name.iter().map(|name| ("display".into(), name.into())).collect(),
        base: base.map(SmolStr::from),
        quote: quote.map(SmolStr::from),
        price_precision: listed.display_precision,
        size_precision: listed.trade_units_precision,
        size_min: listed.minimum_trade_size.and_then(|size| size.parse().ok()).map(Size),
        raw: Some(SmolStr::from(raw.get())),
        ..Instrument::default()
    };
    Some((SmolStr::from(listed.name), instrument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_requests_than_the_venue_allows_connections() {
        let (gate, begin) = (Gate::new(), Instant::now());
        let mut passed = Vec::new();
        for n in 0..7 {
            if n == 4 {
                tokio::time::advance(Duration::from_millis(2_700)).await;
            }
            gate.pass().await;
            passed.push(begin.elapsed().as_millis());
        }
        assert_eq!(passed, [0, 0, 1_100, 1_100, 3_800, 3_800, 4_900]);
        gate.close(Duration::from_secs(5)).await;
        let late = gate.clone();
        tokio::join!(gate.pass(), late.pass());
        assert_eq!(begin.elapsed().as_millis(), 9_900, "a pause is one for all");
    }
}
