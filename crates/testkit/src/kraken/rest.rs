//! The REST side: `/0/public/…` and the token of the private channel.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};

use super::hub::Hub;
use super::market::{Candles, INTERVALS, Pair, Stats};
use super::names::{long, old_names, short};
use super::text::{civil, fixed, time};
use crate::http::Head;

/// Trades of one page.
const PAGE_TRADES: usize = 1_000;
/// Levels a side of `Depth`, unless asked.
const DEPTH: usize = 100;

/// What went wrong, in the venue's words.
type Refusal = String;

impl Hub {
    /// Answers a request: the status of HTTP and the body.
    pub(crate) fn answer(&mut self, head: &Head, body: &[u8]) -> (u16, String) {
        let result = match (head.method.as_str(), head.path.as_str()) {
            ("GET", path) if path.starts_with("/0/public/") => {
                self.public(&path["/0/public/".len()..], &Query(&head.query))
            }
            ("POST", "/0/private/GetWebSocketsToken") => self.token(head, body),
            (_, path) if path.starts_with("/0/") => Err("EGeneral:Unknown method".into()),
            _ => return (404, String::new()),
        };
        let body = match result {
            Ok(result) => format!(r#"{{"error":[],"result":{result}}}"#),
            Err(refusal) => format!(r#"{{"error":[{}]}}"#, serde_json::Value::from(refusal)),
        };
        (200, body)
    }

    fn public(&mut self, method: &str, query: &Query<'_>) -> Result<String, Refusal> {
        match method {
            "Time" => Ok(clock(self.now_ns())),
            "SystemStatus" => {
                let at = time(self.now_ns());
                Ok(format!(r#"{{"status":"{}","timestamp":"{}Z"}}"#, self.active.system, &at[..19]))
            }
            "Assets" => Ok(self.assets()),
            "AssetPairs" => self.each(query, asset_pair),
            "Ticker" => self.each(query, ticker),
            "Depth" => {
                let count = query.number("count").unwrap_or(DEPTH as u64);
                let now_s = self.now_ns() / 1_000_000_000;
                let at = self.one(query)?;
                let pair = &self.market.pairs[at];
                Ok(format!(r#"{{"{}":{}}}"#, old_names(&pair.symbol).key, depth(pair, count, now_s)))
            }
            "Trades" => {
                let pair = &self.market.pairs[self.one(query)?];
                let since = query.number("since").and_then(|ns| i64::try_from(ns).ok()).unwrap_or(0);
                let count = query.number("count").map_or(PAGE_TRADES, |count| usize::try_from(count).unwrap_or(1));
                Ok(trades(pair, since, count.clamp(1, PAGE_TRADES)))
            }
            "OHLC" => {
                let at = self.one(query)?;
                let interval = query.number("interval").unwrap_or(1);
                let interval = INTERVALS.into_iter().find(|known| u64::from(*known) == interval);
                let interval = interval.ok_or("EGeneral:Invalid arguments:interval")?;
                self.market.pairs[at].candles(interval);
                let pair = &self.market.pairs[at];
                let kept = pair.candles.iter().find(|kept| kept.interval_min == interval);
                Ok(kept.map_or_else(|| "{}".into(), |kept| ohlc(pair, kept)))
            }
            _ => Err("EGeneral:Unknown method".into()),
        }
    }

    /// Index of the one pair that is asked for, in any of its spellings.
    fn one(&self, query: &Query<'_>) -> Result<usize, Refusal> {
        self.named(&query.get("pair").ok_or("EGeneral:Invalid arguments")?)
    }

    fn named(&self, name: &str) -> Result<usize, Refusal> {
        let mut pairs = self.market.pairs.iter();
        let at = pairs.position(|pair| {
            let old = old_names(&pair.symbol);
            *pair.symbol == *name || [old.key, old.altname, old.wsname].iter().any(|old| old == name)
        });
        at.ok_or_else(|| "EQuery:Unknown asset pair".into())
    }

    /// A map of all pairs, or of those that are asked for.
    fn each(&self, query: &Query<'_>, show: impl Fn(&Pair) -> String) -> Result<String, Refusal> {
        let wanted = match query.get("pair") {
            None => (0..self.market.pairs.len()).collect(),
            Some(names) => names.split(',').map(|name| self.named(name)).collect::<Result<Vec<_>, _>>()?,
        };
        let rows = wanted.into_iter().map(|at| {
            let pair = &self.market.pairs[at];
            format!(r#""{}":{}"#, old_names(&pair.symbol).key, show(pair))
        });
        Ok(format!("{{{}}}", rows.collect::<Vec<_>>().join(",")))
    }

    fn assets(&self) -> String {
        let mut assets: Vec<&str> =
            self.market.pairs.iter().flat_map(|pair| pair.symbol.split('/')).map(short).collect();
        assets.sort_unstable();
        assets.dedup();
        let rows = assets.into_iter().map(|asset| {
            let key = long(asset);
            format!(
                r#""{key}":{{"aclass":"currency","altname":"{asset}","decimals":10,"display_decimals":5,"status":"enabled"}}"#
            )
        });
        format!("{{{}}}", rows.collect::<Vec<_>>().join(","))
    }

    fn token(&mut self, head: &Head, body: &[u8]) -> Result<String, Refusal> {
        if self.active.tokens_refused {
            return Err("EService:Unavailable".into());
        }
        let credentials = self.account.credentials.as_ref().ok_or("EAPI:Invalid key")?;
        if head.header("api-key") != Some(&credentials.key) {
            return Err("EAPI:Invalid key".into());
        }
        let form = String::from_utf8_lossy(body).into_owned();
        let nonce = Query(&form).get("nonce").ok_or("EAPI:Invalid nonce")?;
        let sign = head.header("api-sign").unwrap_or_default();
        if !is_signed(&credentials.secret, &head.path, &nonce, body, sign) {
            return Err("EAPI:Invalid signature".into());
        }
        let nonce = nonce.parse().map_err(|_| "EAPI:Invalid nonce")?;
        let (token, life) = self.account.issue_token(nonce)?;
        Ok(format!(r#"{{"token":"{token}","expires":{}}}"#, life.as_secs()))
    }
}

/// HMAC-SHA512 by the decoded secret over the path and SHA-256 of nonce and body.
fn is_signed(secret: &str, path: &str, nonce: &str, body: &[u8], sign: &str) -> bool {
    let (Ok(secret), Ok(sign)) = (BASE64.decode(secret), BASE64.decode(sign)) else { return false };
    let mut inner = digest::Context::new(&digest::SHA256);
    inner.update(nonce.as_bytes());
    inner.update(body);
    let message = [path.as_bytes(), inner.finish().as_ref()].concat();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA512, &secret), &message, &sign).is_ok()
}

/// The part of a URL behind the question mark, or a form.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let mut fields = self.0.split('&').filter_map(|field| field.split_once('='));
        fields.find(|(own, _)| *own == name).map(|(_, value)| decoded(value))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or(0);
                u8::try_from(digit() * 16 + digit()).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn clock(now_ns: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let secs = now_ns.div_euclid(1_000_000_000);
    let days = secs.div_euclid(86_400);
    let (year, month, day) = civil(days);
    let name = usize::try_from(days.rem_euclid(7)).map_or("", |n| DAYS[n]);
    let month = usize::try_from(month - 1).ok().and_then(|n| MONTHS.get(n)).unwrap_or(&"");
    let of_day = &time(now_ns)[11..19];
    format!(r#"{{"unixtime":{secs},"rfc1123":"{name}, {day:02} {month} {:02} {of_day} +0000"}}"#, year % 100)
}

fn asset_pair(pair: &Pair) -> String {
    let old = old_names(&pair.symbol);
    let step = fixed(1, pair.price_decimals);
    format!(
        r#"{{"altname":"{}","wsname":"{}","aclass_base":"currency","base":"{}","aclass_quote":"currency","quote":"{}","lot":"unit","cost_decimals":5,"pair_decimals":{},"lot_decimals":{},"lot_multiplier":1,"leverage_buy":[],"leverage_sell":[],"fees":[[0,0.4],[10000,0.35]],"fees_maker":[[0,0.25],[10000,0.2]],"fee_volume_currency":"ZUSD","margin_call":80,"margin_stop":40,"ordermin":"0.5","costmin":"0.5","tick_size":"{step}","status":"online"}}"#,
        old.altname, old.wsname, old.base, old.quote, pair.price_decimals, pair.qty_decimals
    )
}

/// The twenty numbers of the REST ticker; the first of two is today's, the second of the last 24 hours.
fn ticker(pair: &Pair) -> String {
    let price = |ticks: i64| format!(r#""{}""#, fixed(ticks, pair.price_decimals));
    let qty = |units: i64| format!(r#""{}""#, fixed(units, pair.qty_decimals));
    let both = |of: &dyn Fn(&Stats) -> String| format!("[{},{}]", of(pair.today()), of(&pair.day));
    let best = |levels: &[super::book::Level]| {
        let Some(level) = levels.first() else { return "[]".to_owned() };
        let whole = level.units / 10_i64.pow(u32::from(pair.qty_decimals));
        format!(r#"[{},"{whole}",{}]"#, price(level.ticks), qty(level.units))
    };
    format!(
        r#"{{"a":{},"b":{},"c":[{},{}],"v":{},"p":{},"t":{},"l":{},"h":{},"o":{}}}"#,
        best(&pair.book.asks),
        best(&pair.book.bids),
        price(pair.last.ticks),
        qty(pair.last.units),
        both(&|stats| qty(stats.volume_units)),
        both(&|stats| price(stats.vwap())),
        both(&|stats| stats.trades.to_string()),
        both(&|stats| price(stats.low)),
        both(&|stats| price(stats.high)),
        price(pair.today().open),
    )
}

fn depth(pair: &Pair, count: u64, now_s: i64) -> String {
    let count = usize::try_from(count).unwrap_or(DEPTH);
    let side = |levels: &[super::book::Level]| {
        let rows = levels.iter().take(count).map(|level| {
            let (price, qty) = (fixed(level.ticks, pair.price_decimals), fixed(level.units, pair.qty_decimals));
            format!(r#"["{price}","{qty}",{now_s}]"#)
        });
        rows.collect::<Vec<_>>().join(",")
    };
    format!(r#"{{"asks":[{}],"bids":[{}]}}"#, side(&pair.book.asks), side(&pair.book.bids))
}

/// The trades after an instant, oldest first, and where the next page begins.
fn trades(pair: &Pair, since_ns: i64, count: usize) -> String {
    let begin = pair.history.partition_point(|trade| trade.ts_ns <= since_ns);
    let page: Vec<_> = pair.history.range(begin..).take(count).collect();
    let last = page.last().map_or(since_ns, |trade| trade.ts_ns);
    let rows: Vec<String> = page
        .into_iter()
        .map(|trade| {
            let (price, qty) = (fixed(trade.ticks, pair.price_decimals), fixed(trade.units, pair.qty_decimals));
            let (side, kind) = (if trade.buy { "b" } else { "s" }, if trade.limit { "l" } else { "m" });
            let at = fixed(trade.ts_ns / 100, 7);
            format!(r#"["{price}","{qty}",{at},"{side}","{kind}","",{}]"#, trade.id)
        })
        .collect();
    format!(r#"{{"{}":[{}],"last":"{last}"}}"#, old_names(&pair.symbol).key, rows.join(","))
}

fn ohlc(pair: &Pair, kept: &Candles) -> String {
    let price = |ticks: i64| fixed(ticks, pair.price_decimals);
    let rows = kept.candles.iter().map(|candle| {
        let stats = &candle.stats;
        format!(
            r#"[{},"{}","{}","{}","{}","{}","{}",{}]"#,
            candle.begin_ns / 1_000_000_000,
            price(stats.open),
            price(stats.high),
            price(stats.low),
            price(candle.close),
            price(stats.vwap()),
            fixed(stats.volume_units, pair.qty_decimals),
            stats.trades
        )
    });
    let rows: Vec<String> = rows.collect();
    // The last one is running; `last` is the one before it.
    let last = kept.candles.iter().rev().nth(1).map_or(0, |candle| candle.begin_ns / 1_000_000_000);
    format!(r#"{{"{}":[{}],"last":{last}}}"#, old_names(&pair.symbol).key, rows.join(","))
}

/// The whole response of HTTP.
pub(crate) fn http(status: u16, body: &str) -> String {
    let reason = if status == 200 { "OK" } else { "Not Found" };
    let len = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}"
    )
}
