//! Kraken's REST interface: the asset list, polled tickers, and tokens for the private socket.
//!
//! ```text
//! GET  /0/public/AssetPairs   GET /0/public/Ticker        {"error":[],"result":{…}}
//! POST /0/private/GetWebSocketsToken   API-Key, API-Sign = base64(HMAC-SHA512(secret, path + SHA256(nonce + body)))
//! ```

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};
use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, Event, Flags, SmolStr, Ticker, UnixNanos};

use super::config::{Config, covers};
use super::message::Ctx;
use super::names::Names;
use super::v1;
use crate::config::Secret;
use crate::sources::{Outlet, Source, Waiting};

/// Every request, from connecting to the last byte.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The asset list of 1,434 pairs is about one MiB.
const BODY_BYTES: usize = 16 << 20;
const TOKEN_PATH: &str = "/0/private/GetWebSocketsToken";

/// A client of one REST host.
pub(super) struct Rest {
    client: reqwest::Client,
    base: String,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    error: Vec<String>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

impl Rest {
    pub(super) fn new(base: String) -> anyhow::Result<Rest> {
        crate::tls::install();
        // No redirects: what goes to this host, a key above all, goes to no other.
        let client = reqwest::Client::builder()
            .timeout(REQUEST_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("making an HTTP client")?;
        Ok(Rest { client, base })
    }

    /// The venue's spellings of every pair.
    pub(super) async fn names(&self) -> anyhow::Result<Names> {
        let body = self.get("/0/public/AssetPairs").await?;
        Names::from_asset_pairs(result(&body)?.get()).context("reading AssetPairs")
    }

    /// Tickers of all pairs, by REST name.
    async fn tickers(&self) -> anyhow::Result<String> {
        self.get("/0/public/Ticker").await
    }

    /// A page of the past trades of a pair, behind a time in ns.
    pub(super) async fn trades(&self, pair: &str, since_ns: i64) -> anyhow::Result<String> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("pair", pair)
            .append_pair("since", &since_ns.to_string())
            .finish();
        self.get(&format!("/0/public/Trades?{query}")).await
    }

    /// A token for one connection to the private socket: tokens expire, so one is never used again.
    pub(super) async fn token(&self, key: &Secret, secret: &Secret) -> anyhow::Result<Secret> {
        #[derive(Deserialize)]
        struct Token {
            token: String,
        }
        // Microseconds: Kraken wants each nonce of a key to be larger than the last.
        let nonce = (UnixNanos::now().0 / 1_000).to_string();
        let body = format!("nonce={nonce}");
        let signature = sign(secret.expose(), TOKEN_PATH, &nonce, &body)
            .map_err(|error| Waiting(format!("the API secret is not base64 ({error}): copy it again from Kraken")))?;
        let request = self
            .client
            .post(format!("{}{TOKEN_PATH}", self.base))
            .header("API-Key", key.expose())
            .header("API-Sign", signature)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body);
        let body = read(request.send().await.context("asking for a token")?).await?;
        let token: Token = serde_json::from_str(result(&body)?.get()).context("reading the token")?;
        Ok(Secret::new(token.token))
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let response = self.client.get(format!("{}{path}", self.base)).send().await;
        read(response.with_context(|| format!("asking {path}"))?).await
    }
}

async fn read(mut response: reqwest::Response) -> anyhow::Result<String> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.context("reading the answer")? {
        ensure!(body.len() + chunk.len() <= BODY_BYTES, "the answer is larger than {} MiB", BODY_BYTES >> 20);
        body.extend_from_slice(&chunk);
    }
    ensure!(status.is_success(), "HTTP {status}");
    String::from_utf8(body).context("reading the answer")
}

pub(super) fn result(body: &str) -> anyhow::Result<&RawValue> {
    let answer: Answer<'_> = serde_json::from_str(body).context("reading the answer")?;
    if !answer.error.is_empty() {
        let error = answer.error.join(", ");
        // What only a person can mend is not asked again every few seconds.
        let person = ["EAPI:Invalid key", "EAPI:Invalid signature", "EGeneral:Permission denied"];
        if person.iter().any(|known| error.contains(known)) {
            return Err(Waiting(format!("Kraken refuses the API key: {error}")).into());
        }
        bail!("Kraken says {error}");
    }
    answer.result.context("the answer has no result")
}

/// `API-Sign`.
fn sign(secret: &str, path: &str, nonce: &str, body: &str) -> Result<String, base64::DecodeError> {
    let key = hmac::Key::new(hmac::HMAC_SHA512, &BASE64.decode(secret.trim())?);
    let inner = digest::digest(&digest::SHA256, format!("{nonce}{body}").as_bytes());
    let text = [path.as_bytes(), inner.as_ref()].concat();
    Ok(BASE64.encode(hmac::sign(&key, &text)))
}

/// Reads one answer of `Ticker`: an event per pair.
///
/// # Errors
/// It is not such an answer. One pair that cannot be read does not take the others with it: it is returned as text.
pub(super) fn tickers(
    body: &str,
    names: &Names,
    ts_recv: UnixNanos,
    ctx: &Ctx,
) -> anyhow::Result<(Vec<Event>, Vec<String>)> {
    let pairs: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(result(body)?.get()).context("reading Ticker")?;
    let (mut events, mut unread) = (Vec::with_capacity(pairs.len()), Vec::new());
    for (name, raw) in pairs {
        match v1::ticker(raw) {
            Ok(ticker) => {
                let body = Body::Ticker(Box::new(ticker));
                events.push(ctx.event(names.symbol(&name), None, ts_recv, Flags::NONE, body));
            }
            Err(error) => unread.push(format!("{name}: {error}")),
        }
    }
    events.sort_by(|a, b| a.symbol.cmp(&b.symbol));
    Ok((events, unread))
}

/// `ticker = "rest"`: every pair's ticker with all of its fields, at a steady pace. What has not
/// changed since the last poll is not said again.
pub(super) struct TickerPoll {
    pub(super) config: Config,
    pub(super) names: Names,
    pub(super) said: HashMap<SmolStr, Ticker>,
}

const CHANNEL: SmolStr = SmolStr::new_static("ticker");

impl TickerPoll {
    async fn poll(&mut self, rest: &Rest, out: &Outlet, live: &mut HashSet<SmolStr>) -> anyhow::Result<()> {
        let body = rest.tickers().await?;
        let ts_recv = UnixNanos::now();
        out.heard(ts_recv, body.len());
        let ctx = Ctx { source: out.source().clone(), venue: out.venue().clone() };
        let (events, unread) = tickers(&body, &self.names, ts_recv, &ctx)?;
        for text in unread {
            out.reject(text.as_bytes(), ts_recv, "ticker of a pair", &text).await?;
        }
        let mut news = Vec::new();
        for event in events {
            let Body::Ticker(ticker) = &event.body else { continue };
            if !self.config.pairs.iter().any(|pair| self.wants(pair, &event.symbol)) {
                continue;
            }
            if live.insert(event.symbol.clone()) {
                out.live(event.symbol.clone(), CHANNEL, ts_recv).await?;
            }
            if self.said.get(&event.symbol) != Some(&**ticker) {
                self.said.insert(event.symbol.clone(), (**ticker).clone());
                news.push(event);
            }
        }
        Ok(out.emit(news).await?)
    }

    /// What the tape knows, and the config does not want or the venue does not list any more: its gap would never close.
    async fn end_unwanted(&self, out: &Outlet, live: &HashSet<SmolStr>) -> anyhow::Result<()> {
        for (symbol, channel) in &out.resume().subscriptions {
            let wanted = live.contains(symbol)
                || self.names.knows(symbol) && self.config.pairs.iter().any(|pair| self.wants(pair, symbol));
            if *channel == CHANNEL && !wanted {
                out.unsubscribed(symbol.clone(), CHANNEL).await?;
            }
        }
        Ok(())
    }

    fn wants(&self, pair: &str, symbol: &str) -> bool {
        if pair.contains('*') { covers(pair, symbol) } else { self.names.symbol(pair) == symbol }
    }
}

#[async_trait]
impl Source for TickerPoll {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let rest = Rest::new(self.config.rest_url())?;
        // New listings appear in the tickers at once; their names are read at each session.
        self.names = rest.names().await?;
        let mut ticks = tokio::time::interval(self.config.poll.0);
        // A slow answer delays the next poll instead of bunching those after it.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut live = HashSet::new();
        self.poll(&rest, out, &mut live).await?;
        self.end_unwanted(out, &live).await?;
        ticks.reset();
        loop {
            ticks.tick().await;
            self.poll(&rest, out, &mut live).await?;
        }
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        let rest = Rest::new(self.config.rest_url())?;
        self.names = rest.names().await?;
        let ctx = Ctx { source: "check".into(), venue: "kraken".into() };
        let (events, unread) = tickers(&rest.tickers().await?, &self.names, UnixNanos::now(), &ctx)?;
        let wanted = |event: &&Event| self.config.pairs.iter().any(|pair| self.wants(pair, &event.symbol));
        let count = events.iter().filter(wanted).count();
        ensure!(count > 0, "none of `pairs` is in the tickers that {} sends", self.config.rest_url());
        ensure!(unread.is_empty(), "tickers that could not be read: {}", unread.join("; "));
        Ok(format!("{count} tickers over REST"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_as_the_venue_documents() {
        // The worked example of Kraken's own documentation.
        let secret = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==";
        let body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25";
        assert_eq!(
            sign(secret, "/0/private/AddOrder", "1616492376594", body).expect("base64"),
            "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
        );
    }

    #[test]
    fn a_polled_ticker_has_every_field_of_the_predecessors() {
        let body = r#"{"error":[],"result":{"XXBTZUSD":{"a":["52609.60000","1","1.000"],"b":["52609.50000","3","3.000"],
            "c":["52609.60000","0.00420000"],"v":["1920.83610601","7954.00219674"],"p":["52389.94668","51513.90001"],
            "t":[23329,80463],"l":["51513.90000","51513.90000"],"h":["53219.90000","57200.00000"],"o":"52280.40000"}}}"#;
        let ctx = Ctx { source: "k".into(), venue: "kraken".into() };
        let (events, unread) = tickers(body, &Names::default(), UnixNanos(1), &ctx).expect("an answer");
        assert!(unread.is_empty());
        assert_eq!(events[0].symbol, "BTC/USD");
        let Body::Ticker(ticker) = &events[0].body else { panic!("{events:?}") };
        assert_eq!(ticker.ask_whole_lots.map(|lots| lots.to_string()).as_deref(), Some("1"));
        assert_eq!((ticker.today.trades, ticker.day.trades), (Some(23_329), Some(80_463)));
        assert_eq!(ticker.today.open.map(|open| open.to_string()).as_deref(), Some("52280.40000"));
        assert_eq!((ticker.day.open, ticker.refused.len()), (None, 0));
    }

    #[test]
    fn a_refused_key_waits_for_a_person_and_a_busy_venue_does_not() {
        let error = result(r#"{"error":["EAPI:Invalid key"]}"#).expect_err("refused");
        assert!(error.is::<Waiting>(), "{error:#}");
        let error = result(r#"{"error":["EService:Unavailable"]}"#).expect_err("refused");
        assert!(!error.is::<Waiting>(), "{error:#}");
    }
}
