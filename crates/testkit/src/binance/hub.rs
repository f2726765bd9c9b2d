//! The venue's state: books, trades, who listens to what, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fault::{Fault, Garbage};
use crate::http::Head;
use crate::kraken::rng::Rng;
use crate::kraken::text::{fixed, now_ns};
use crate::talk::Out;
use crate::ws::{self, Opcode};

/// Levels a side of a generated book.
const LEVELS: i64 = 20;
/// Decimals of prices and of sizes.
const PRICE_DECIMALS: u8 = 2;
const SIZE_DECIMALS: u8 = 5;

/// Levels of one side, by price in hundredths: sizes in hundred-thousandths.
type Side = BTreeMap<i64, i64>;

/// A book with its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Market {
    bids: Side,
    asks: Side,
    /// Number of the newest change.
    update: u64,
    trade: u64,
}

/// What a connection is told, and who.
pub(crate) type Told = Vec<(mpsc::Sender<Out>, Out)>;

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) markets: BTreeMap<String, Market>,
    key: String,
    conns: BTreeMap<u64, (BTreeSet<String>, mpsc::Sender<Out>)>,
    pub(crate) opened: u64,
    /// Paths with their queries.
    pub(crate) requests: Vec<String>,
    /// What was said on streams.
    pub(crate) asked: Vec<Value>,
    /// Every trade that happened: symbol and number.
    pub(crate) trades: Vec<(String, u64)>,
    clock_off_ns: i64,
    rng: Rng,
    skip: BTreeMap<String, u32>,
    lose: BTreeMap<String, u32>,
    stalled: BTreeMap<String, Option<Instant>>,
    old: Option<(u32, BTreeMap<String, Market>)>,
    refusals: Vec<(u16, Option<u32>)>,
}

impl Hub {
    pub(crate) fn new(symbols: &[String], key: String, mut rng: Rng) -> Hub {
        let market = |_: &String| {
            let mid = rng.between(100_000, 9_000_000);
            let mut side = |sign: i64| (1..=LEVELS).map(|n| (mid + sign * n * 7, rng.between(1, 900_000))).collect();
            Market { bids: side(-1), asks: side(1), update: 1_000, trade: 500 }
        };
        let markets = symbols.iter().map(market).collect::<Vec<_>>();
        Hub {
            markets: symbols.iter().cloned().zip(markets).collect(),
            key,
            conns: BTreeMap::new(),
            opened: 0,
            requests: Vec::new(),
            asked: Vec::new(),
            trades: Vec::new(),
            clock_off_ns: 0,
            rng,
            skip: BTreeMap::new(),
            lose: BTreeMap::new(),
            stalled: BTreeMap::new(),
            old: None,
            refusals: Vec::new(),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        now_ns().saturating_add(self.clock_off_ns) / 1_000_000
    }

    pub(crate) fn open(&mut self, query: &str, len: usize) -> (u64, mpsc::Receiver<Out>) {
        let (queue, told) = mpsc::channel(len);
        let streams = query.strip_prefix("streams=").unwrap_or_default().split('/').map(str::to_owned).collect();
        self.opened += 1;
        self.conns.insert(self.opened, (streams, queue));
        (self.opened, told)
    }

    pub(crate) fn close(&mut self, conn: u64) {
        self.conns.remove(&conn);
    }

    /// A client says something on its stream: which ones it wants, or no longer.
    pub(crate) fn asked(&mut self, conn: u64, text: &[u8]) -> Told {
        let Ok(request) = serde_json::from_slice::<Value>(text) else { return Vec::new() };
        let Some((streams, queue)) = self.conns.get_mut(&conn) else { return Vec::new() };
        let named = request["params"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        match request["method"].as_str() {
            Some("SUBSCRIBE") => streams.extend(named),
            Some("UNSUBSCRIBE") => named.for_each(|name| {
                streams.remove(&name);
            }),
            _ => return Vec::new(),
        }
        let answer = json!({ "result": null, "id": request["id"] }).to_string();
        let told = vec![(queue.clone(), Out::Bytes(ws::frame(Opcode::Text, answer.as_bytes())))];
        self.asked.push(request);
        told
    }

    pub(crate) fn connections(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn ping(&self) -> Told {
        self.conns.values().map(|(_, queue)| (queue.clone(), Out::Bytes(ws::frame(Opcode::Ping, b"1")))).collect()
    }

    /// Something happens to one symbol: levels change, and now and then there is a trade.
    pub(crate) fn step(&mut self) -> Told {
        let at = self.rng.index(self.markets.len());
        let Some(name) = self.markets.keys().nth(at).cloned() else { return Vec::new() };
        let (ms, stalled) = (self.now_ms(), self.is_stalled(&name));
        let (rng, Some(market)) = (&mut self.rng, self.markets.get_mut(&name)) else { return Vec::new() };
        let mut messages = Vec::new();
        if rng.chance(40) {
            market.trade += 1;
            self.trades.push((name.clone(), market.trade));
            let price = market.asks.keys().next().copied().unwrap_or(1);
            let data = json!({
                "e": "trade", "E": ms, "s": name, "t": market.trade, "p": fixed(price, PRICE_DECIMALS),
                "q": fixed(rng.between(1, 90_000), SIZE_DECIMALS), "T": ms, "m": rng.chance(50), "M": true,
            });
            if !taken(&mut self.lose, &name) {
                messages.push(("trade", data));
            }
        }
        let (first, mut changed) = (market.update + 1, [Vec::new(), Vec::new()]);
        for _ in 0..=rng.below(3) {
            let bid = rng.chance(50);
            let (side, changes) =
                if bid { (&mut market.bids, &mut changed[0]) } else { (&mut market.asks, &mut changed[1]) };
            let (Some((&low, _)), Some((&high, _))) = (side.first_key_value(), side.last_key_value()) else { continue };
            let price = rng.between(low, high);
            let size = if side.len() > 5 && rng.chance(30) { 0 } else { rng.between(1, 900_000) };
            if size == 0 {
                side.remove(&price);
            } else {
                side.insert(price, size);
            }
            changes.push(level((&price, &size)));
            market.update += 1;
        }
        let (bid, ask) = (market.bids.last_key_value(), market.asks.first_key_value());
        if let (Some(bid), Some(ask)) = (bid.map(level), ask.map(level)) {
            let data = json!({ "u": market.update, "s": name, "b": bid[0], "B": bid[1], "a": ask[0], "A": ask[1] });
            messages.push(("bookTicker", data));
        }
        if market.update >= first && !taken(&mut self.skip, &name) {
            let [bids, asks] = changed;
            let (e, u) = ("depthUpdate", market.update);
            messages
                .push(("depth@100ms", json!({ "e": e, "E": ms, "s": name, "U": first, "u": u, "b": bids, "a": asks })));
        }
        let mut told = Vec::new();
        for (kind, data) in messages.into_iter().filter(|_| !stalled) {
            let stream = format!("{}@{kind}", name.to_ascii_lowercase());
            let text = json!({ "stream": stream, "data": data }).to_string();
            let listen = self.conns.values().filter(|(streams, _)| streams.contains(&stream));
            told.extend(listen.map(|(_, queue)| (queue.clone(), Out::Bytes(ws::frame(Opcode::Text, text.as_bytes())))));
        }
        told
    }

    fn is_stalled(&mut self, name: &str) -> bool {
        let now = Instant::now();
        self.stalled.retain(|_, until| until.is_none_or(|until| until > now));
        self.stalled.contains_key(name) || self.stalled.contains_key("*")
    }

    /// A request's status and text.
    pub(crate) fn answer(&mut self, head: &Head) -> (u16, String) {
        self.requests.push(format!("{}?{}", head.path, head.query));
        let refused = |status: u16, code: i32, why: &str| (status, json!({ "code": code, "msg": why }).to_string());
        if let Some((status, left)) = self.refusals.first_mut() {
            let status = *status;
            if let Some(left) = left {
                *left -= 1;
                if *left == 0 {
                    self.refusals.remove(0);
                }
            }
            return refused(status, -1_003, "The venue was told to refuse this.");
        }
        if head.header("x-mbx-apikey").is_some_and(|key| key != self.key) {
            return refused(401, -2_015, "Invalid API-key, IP, or permissions for action.");
        }
        let query = |name: &str| {
            head.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|it| it.1)
        };
        match head.path.as_str() {
            "/api/v3/time" => (200, json!({ "serverTime": self.now_ms() }).to_string()),
            "/api/v3/depth" => {
                let name = query("symbol").unwrap_or_default();
                let limit = query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100);
                let market = match &mut self.old {
                    Some((left, markets)) if *left > 0 => {
                        *left -= 1;
                        markets.get(name)
                    }
                    _ => self.markets.get(name),
                };
                match market {
                    Some(market) => (200, market.answer(limit).to_string()),
                    None => refused(400, -1_121, "Invalid symbol."),
                }
            }
            _ => refused(404, -1, "There is nothing here."),
        }
    }

    /// What faults of the connection tell everybody; the others change what comes.
    pub(crate) fn inject(&mut self, fault: Fault) -> Told {
        let all = |make: &dyn Fn() -> Out| self.conns.values().map(|(_, queue)| (queue.clone(), make())).collect();
        match fault {
            Fault::Cut { mid_frame } => return all(&|| Out::Cut { mid_frame }),
            Fault::HalfOpen { lasts } => return all(&|| Out::HalfOpen(lasts)),
            Fault::Garbage(garbage) => return all(&|| Out::Bytes(ws::frame(Opcode::Text, bytes_of(garbage)))),
            Fault::Skip { symbol, times } => *self.skip.entry(symbol).or_default() += times,
            Fault::Lose { symbol, times } => *self.lose.entry(symbol).or_default() += times,
            Fault::Stall { symbol, lasts } => {
                self.stalled.insert(symbol, lasts.map(|lasts: Duration| Instant::now() + lasts));
            }
            Fault::Old { times } => self.old = Some((times, self.markets.clone())),
            Fault::Clock { off_ns } => self.clock_off_ns = off_ns,
            Fault::Refuse { times: Some(0), .. } => {}
            Fault::Refuse { status, times } => self.refusals.push((status, times)),
            Fault::Heal => {
                self.skip.clear();
                self.lose.clear();
                self.stalled.clear();
                self.refusals.clear();
                (self.old, self.clock_off_ns) = (None, 0);
            }
        }
        Vec::new()
    }
}

impl Market {
    /// The best `limit` levels of each side, best first, as requests are answered.
    pub(crate) fn answer(&self, limit: usize) -> Value {
        let bids: Vec<[String; 2]> = self.bids.iter().rev().take(limit).map(level).collect();
        let asks: Vec<[String; 2]> = self.asks.iter().take(limit).map(level).collect();
        json!({ "lastUpdateId": self.update, "bids": bids, "asks": asks })
    }
}

fn level((price, size): (&i64, &i64)) -> [String; 2] {
    [fixed(*price, PRICE_DECIMALS), fixed(*size, SIZE_DECIMALS)]
}

/// Whether the next message of a symbol is kept back.
fn taken(left: &mut BTreeMap<String, u32>, name: &str) -> bool {
    let key = if left.contains_key(name) { name } else { "*" };
    let Some(count) = left.get_mut(key) else { return false };
    *count = count.saturating_sub(1);
    if *count == 0 {
        left.remove(key);
    }
    true
}

fn bytes_of(garbage: Garbage) -> &'static [u8] {
    match garbage {
        Garbage::NotJson => br#"{"stream":"btcusdt@trade","da"#,
        // In a text frame: the client's library refuses it and the connection with it.
        Garbage::InvalidUtf8 => b"{\"stream\":\"\xff\xfe\"}",
        Garbage::Array => b"[1,2,3]",
        Garbage::Shape => br#"{"stream":"btcusdt@trade","data":{"s":"BTCUSDT","t":"soon"}}"#,
        Garbage::Numbers => {
            br#"{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"123456789012345678901234567890.1","B":"1","a":"NaN","A":"1"}}"#
        }
        Garbage::UnknownType => br#"{"stream":"btcusdt@quantum","data":{"x":[1]}}"#,
    }
}
