//! The venue's state: markets, orders, sessions, who is subscribed to what, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::book::Market;
use super::fault::{Fault, Odd};
use super::subscription::Subscription;
use crate::kraken::rng::Rng;
use crate::kraken::text::now_ns;

/// Entries of the sent log that are kept.
const KEPT: usize = 1_000_000;
/// Markets of one subscription.
const MARKETS: usize = 200;

/// A message that was handed to a socket.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Number of the connection, from 1.
    pub stream: u64,
    /// Wall clock, ns since 1970.
    pub ts_ns: i64,
    /// `image`, `resub`, `change`, `heartbeat`.
    pub kind: &'static str,
    pub text: String,
}

/// What a connection is told to do.
#[derive(Debug)]
pub(crate) enum Out {
    Line(&'static str, String),
    /// Bytes as they are, with their end.
    Bytes(Vec<u8>),
    /// A last line, and the end.
    Last(String),
    Cut {
        in_line: bool,
    },
    End {
        in_line: bool,
    },
    HalfOpen(Option<Duration>),
    Drip(usize),
}

pub(crate) type Told = Vec<(mpsc::Sender<Out>, Out)>;

#[derive(Debug)]
pub(crate) struct Stream {
    queue: mpsc::Sender<Out>,
    authenticated: bool,
    subscription: Option<Subscription>,
}

/// An own order, as the venue has it now.
#[derive(Debug)]
struct Own {
    market: String,
    runner: i64,
    order: Value,
    seq: u64,
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) app_key: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) sessions: BTreeSet<String>,
    pub(crate) markets: BTreeMap<String, Market>,
    orders: Vec<Own>,
    /// Of the newest message: what clocks are made of.
    seq: u64,
    /// What a subscription was that began with an `initialClk`.
    epochs: HashMap<String, String>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) opened: u64,
    /// Subscriptions that were granted.
    pub(crate) subscribed: u64,
    pub(crate) connects: Vec<Instant>,
    pub(crate) requests: Vec<String>,
    pub(crate) rng: Rng,
    /// Generated markets wait.
    pub(crate) still: bool,
    clock_off_ns: i64,
    refusals: Vec<(String, Option<u32>)>,
    login_refusals: Vec<(String, Option<u32>)>,
    odd: VecDeque<Odd>,
    conflated: bool,
    conflate: Option<u64>,
    segments: usize,
    behind: Option<Option<Instant>>,
    /// The market that has a number which fits no type.
    poisoned: Option<String>,
    /// Markets that nothing is sent of, until when.
    quiet: BTreeMap<String, Option<Instant>>,
    log: VecDeque<Sent>,
    remember: bool,
}

impl Hub {
    pub(crate) fn new(app_key: String, username: String, password: String, rng: Rng, remember: bool) -> Hub {
        Hub {
            app_key,
            username,
            password,
            sessions: BTreeSet::new(),
            markets: BTreeMap::new(),
            orders: Vec::new(),
            seq: 0,
            epochs: HashMap::new(),
            streams: BTreeMap::new(),
            opened: 0,
            subscribed: 0,
            connects: Vec::new(),
            requests: Vec::new(),
            rng,
            still: false,
            clock_off_ns: 0,
            refusals: Vec::new(),
            login_refusals: Vec::new(),
            odd: VecDeque::new(),
            conflated: false,
            conflate: None,
            segments: 1,
            behind: None,
            poisoned: None,
            quiet: BTreeMap::new(),
            log: VecDeque::new(),
            remember,
        }
    }

    pub(crate) fn now_ns(&self) -> i64 {
        now_ns() + self.clock_off_ns
    }

    pub(crate) fn open(&mut self, depth: usize) -> (u64, mpsc::Receiver<Out>) {
        self.opened += 1;
        let (queue, told) = mpsc::channel(depth);
        self.streams.insert(self.opened, Stream { queue, authenticated: false, subscription: None });
        (self.opened, told)
    }

    /// Whether anybody gets changes of markets.
    pub(crate) fn is_listened_to(&self) -> bool {
        self.streams.values().any(|stream| stream.subscription.is_some())
    }

    fn refused(list: &mut Vec<(String, Option<u32>)>) -> Option<String> {
        let (code, times) = list.first_mut()?;
        let code = code.clone();
        match times {
            Some(1) => drop(list.remove(0)),
            Some(left) => *left -= 1,
            None => {}
        }
        Some(code)
    }

    /// Why the next login is refused, if it is.
    pub(crate) fn login_refused(&mut self) -> Option<String> {
        Self::refused(&mut self.login_refusals)
    }

    /// Makes a session.
    pub(crate) fn session(&mut self) -> String {
        let token = format!("session{:016x}{:016x}==", self.rng.next(), self.rng.next());
        self.sessions.insert(token.clone());
        token
    }

    /// Answers a request of a connection; the connection ends behind an [`Out::Last`].
    pub(crate) fn request(&mut self, number: u64, text: &str) -> Vec<Out> {
        let Ok(Value::Object(request)) = serde_json::from_str(text) else {
            return vec![failure(&Value::Null, "INVALID_INPUT", "no JSON", true)];
        };
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        let op = request.get("op").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut shown = request.clone();
        for secret in ["appKey", "session"] {
            if let Some(value) = shown.get_mut(secret) {
                *value = json!("***");
            }
        }
        self.requests.push(Value::Object(shown).to_string());
        if let Some(code) = Self::refused(&mut self.refusals) {
            // The venue quotes what it was sent.
            let session = request.get("session").and_then(Value::as_str).unwrap_or("none");
            let words = format!("refused: {{op='{op}', appKey='{}', session='{session}'}}", self.app_key);
            return vec![failure(&id, &code, &words, code != "INVALID_CLOCK")];
        }
        match op.as_str() {
            "authentication" => self.authenticate(number, &id, &request),
            "marketSubscription" | "orderSubscription" => self.subscribe(number, &id, &request),
            "heartbeat" => vec![Out::Line("status", status(&id))],
            _ => vec![failure(&id, "INVALID_REQUEST", "unknown op", true)],
        }
    }

    fn authenticate(&mut self, number: u64, id: &Value, request: &Map<String, Value>) -> Vec<Out> {
        let text = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("appKey") != self.app_key {
            return vec![failure(id, "INVALID_APP_KEY", "AppKey is not valid", true)];
        }
        if !self.sessions.contains(text("session")) {
            return vec![failure(id, "INVALID_SESSION_INFORMATION", "Session is not valid", true)];
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.authenticated = true;
        }
        vec![Out::Line("status", status(id))]
    }

    fn subscribe(&mut self, number: u64, id: &Value, request: &Map<String, Value>) -> Vec<Out> {
        if !self.streams.get(&number).is_some_and(|stream| stream.authenticated) {
            return vec![failure(id, "NO_SESSION", "not authenticated", true)];
        }
        let orders = request["op"] == "orderSubscription";
        let list = |value: &Value| -> Option<BTreeSet<String>> {
            let all: BTreeSet<String> =
                value.as_array()?.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect();
            (!all.is_empty()).then_some(all)
        };
        let filter = |outer: &str, key: &str| request.get(outer).and_then(|filter| list(&filter[key]));
        let subscription = Subscription {
            id: id.clone(),
            orders,
            markets: filter("marketFilter", "marketIds"),
            fields: filter("marketDataFilter", "fields"),
            segmented: request.get("segmentationEnabled") == Some(&json!(true)),
        };
        let matching = self.markets.keys().filter(|id| subscription.wants(id)).count();
        if matching > MARKETS && !orders {
            let words = format!("trying to subscribe to {matching} markets where max allowed number was {MARKETS}");
            return vec![failure(id, "SUBSCRIPTION_LIMIT_EXCEEDED", &words, true)];
        }
        let mut what = request.clone();
        for key in ["id", "clk", "initialClk"] {
            what.remove(key);
        }
        let what = Value::Object(what).to_string();
        let clock = |key: &str| request.get(key).and_then(Value::as_str).map(str::to_owned);
        let since = match (clock("initialClk"), clock("clk")) {
            (None, None) => None,
            (Some(initial), Some(clk)) if self.epochs.get(&initial) == Some(&what) => {
                let seq = clk.trim_start_matches('A').trim_end_matches('=').parse::<u64>().ok();
                let Some(seq) = seq.filter(|seq| *seq <= self.seq) else {
                    return vec![failure(id, "INVALID_CLOCK", "clk is not valid", false)];
                };
                Some(seq)
            }
            _ => return vec![failure(id, "INVALID_CLOCK", "initialClk is not valid", false)],
        };
        let initial = clock("initialClk").unwrap_or_else(|| {
            let initial = format!("i{:016x}/+==", self.rng.next());
            self.epochs.insert(initial.clone(), what);
            initial
        });
        let asked = |key: &str, default: u64| request.get(key).and_then(Value::as_u64).unwrap_or(default);
        let (conflate, heartbeat) =
            (self.conflate.unwrap_or_else(|| asked("conflateMs", 0)), asked("heartbeatMs", 5_000));
        let mut head = self.head(&subscription);
        head.insert("ct".into(), json!(if since.is_some() { "RESUB_DELTA" } else { "SUB_IMAGE" }));
        head.insert("initialClk".into(), json!(initial));
        head.insert("conflateMs".into(), json!(conflate));
        head.insert("heartbeatMs".into(), json!(heartbeat));
        let changes = if orders {
            self.orders_since(since.unwrap_or(0))
        } else {
            self.markets_since(&subscription, since.unwrap_or(0))
        };
        let kind = if since.is_some() { "resub" } else { "image" };
        let mut told = vec![Out::Line("status", status(id))];
        told.extend(self.pieces(kind, head, changes, &subscription));
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.subscription = Some(subscription);
        }
        self.subscribed += 1;
        told
    }

    fn markets_since(&self, subscription: &Subscription, seq: u64) -> Vec<Value> {
        let wanted = self.markets.iter().filter(|(id, _)| subscription.wants(id));
        wanted.filter_map(|(id, market)| market.since(id, seq, &|field| subscription.has(field))).collect()
    }

    fn orders_since(&self, seq: u64) -> Vec<Value> {
        let mut markets: BTreeMap<&str, BTreeMap<i64, Vec<&Value>>> = BTreeMap::new();
        for own in self.orders.iter().filter(|own| own.seq > seq) {
            markets.entry(&own.market).or_default().entry(own.runner).or_default().push(&own.order);
        }
        let market = |(id, runners): (&str, BTreeMap<i64, Vec<&Value>>)| {
            let runners: Vec<Value> = runners
                .into_iter()
                .map(|(runner, orders)| json!({ "id": runner, "fullImage": seq == 0, "uo": orders }))
                .collect();
            json!({ "id": id, "accountId": 4_711_471_147_i64, "fullImage": seq == 0, "orc": runners })
        };
        markets.into_iter().map(market).collect()
    }

    /// The beginning of a message.
    fn head(&self, subscription: &Subscription) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("op".into(), json!(if subscription.orders { "ocm" } else { "mcm" }));
        head.insert("id".into(), subscription.id.clone());
        head.insert("clk".into(), json!(clk(self.seq)));
        head.insert("pt".into(), json!(self.now_ns() / 1_000_000));
        if self.behind.is_some_and(|until| until.is_none_or(|until| until > Instant::now())) {
            head.insert("status".into(), json!(503));
        }
        head
    }

    /// An image, in as many pieces as it shall come in.
    fn pieces(&self, kind: &'static str, head: Map<String, Value>, changes: Vec<Value>, to: &Subscription) -> Vec<Out> {
        let key = if to.orders { "oc" } else { "mc" };
        if self.segments < 2 || !to.segmented {
            let mut head = head;
            head.insert(key.into(), json!(changes));
            return vec![Out::Line(kind, Value::Object(head).to_string())];
        }
        // Runners of one market are cut apart too.
        let mut small = Vec::new();
        for change in changes {
            let runners = change["rc"].as_array().cloned().unwrap_or_default();
            if runners.len() < 2 {
                small.push(change);
                continue;
            }
            let mut first = change.clone();
            first["rc"] = json!([runners[0]]);
            small.push(first);
            small.extend(
                runners[1..].iter().map(|runner| json!({ "id": change["id"], "img": change["img"], "rc": [runner] })),
            );
        }
        let size = small.len().div_ceil(self.segments).max(1);
        let mut chunks: Vec<Vec<Value>> = small.chunks(size).map(<[Value]>::to_vec).collect();
        chunks.resize(self.segments, Vec::new());
        let last = chunks.len() - 1;
        let piece = |(at, changes): (usize, Vec<Value>)| {
            let mut head = head.clone();
            let name = if at == 0 {
                "SEG_START"
            } else if at == last {
                "SEG_END"
            } else {
                "SEG"
            };
            head.insert("segmentType".into(), json!(name));
            if at < last {
                head.remove("clk");
                head.remove("initialClk");
            }
            head.insert(key.into(), json!(changes));
            Out::Line(kind, Value::Object(head).to_string())
        };
        chunks.into_iter().enumerate().map(piece).collect()
    }

    /// Clocks move with heartbeats too.
    pub(crate) fn heartbeat(&mut self, number: u64) -> Option<String> {
        self.seq += 1;
        let subscription = self.streams.get(&number)?.subscription.as_ref()?;
        let mut head = self.head(subscription);
        head.insert("ct".into(), json!("HEARTBEAT"));
        Some(Value::Object(head).to_string())
    }

    /// A message of changes of markets, at its time; `None`: now.
    pub(crate) fn publish(&mut self, changes: Vec<Value>, at_ns: Option<i64>) -> Told {
        self.seq += 1;
        for change in &changes {
            if let Some(id) = change["id"].as_str() {
                self.markets.entry(id.to_owned()).or_default().apply(change, self.seq);
            }
        }
        self.tell(&changes, at_ns, false)
    }

    /// A message of changes of orders, as recorded.
    pub(crate) fn publish_orders(&mut self, changes: Vec<Value>, at_ns: i64) -> Told {
        for change in &changes {
            for runner in change["orc"].as_array().into_iter().flatten() {
                for order in runner["uo"].as_array().into_iter().flatten() {
                    let market = change["id"].as_str().unwrap_or_default();
                    self.keep(market, runner["id"].as_i64().unwrap_or_default(), order.clone());
                }
            }
        }
        self.seq += 1;
        self.tell(&changes, Some(at_ns), true)
    }

    fn keep(&mut self, market: &str, runner: i64, order: Value) {
        let seq = self.seq + 1;
        match self.orders.iter_mut().find(|own| own.order["id"] == order["id"]) {
            Some(own) => (own.order, own.seq) = (order, seq),
            None => self.orders.push(Own { market: market.to_owned(), runner, order, seq }),
        }
    }

    /// An order is placed; every other time the newest one is matched.
    pub(crate) fn order(&mut self) -> Told {
        let at_ms = self.now_ns() / 1_000_000;
        let open = self
            .orders
            .iter()
            .find(|own| own.order["status"] == "E")
            .map(|own| (own.market.clone(), own.runner, own.order.clone()));
        let (market, runner, order) = open.map_or_else(
            || {
                let market = self.markets.keys().next().cloned().unwrap_or_else(|| "1.240000001".to_owned());
                let id = 300_000_000_001 + self.orders.len();
                let order = json!({
                    "id": id.to_string(), "p": 2.5, "s": 10, "side": if id.is_multiple_of(2) { "L" } else { "B" }, "status": "E", "pt": "L",
                    "ot": "L", "pd": at_ms, "sm": 0, "sr": 10, "sl": 0, "sc": 0, "sv": 0, "rac": "", "rc": "REG_LGA",
                    "rfo": format!("mine-{id}"), "rfs": "",
                });
                (market, 330_000_010, order)
            },
            |(market, runner, mut order)| {
                (order["status"], order["sm"], order["sr"]) = (json!("EC"), json!(10), json!(0));
                (order["md"], order["avp"]) = (json!(at_ms), json!(2.48));
                (market, runner, order)
            },
        );
        self.keep(&market, runner, order.clone());
        self.seq += 1;
        let change = json!({ "id": market, "accountId": 4_711_471_147_i64, "orc": [{ "id": runner, "uo": [order], "mb": [[2.48, 10]] }] });
        self.tell(&[change], None, true)
    }

    /// Ids and states of the orders, in the order in which they were placed.
    pub(crate) fn orders(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.orders.iter().map(|own| (text(&own.order["id"]), text(&own.order["status"]))).collect()
    }

    fn tell(&mut self, changes: &[Value], at_ns: Option<i64>, orders: bool) -> Told {
        let odd = self.odd.pop_front();
        let conflated = std::mem::take(&mut self.conflated);
        let now = Instant::now();
        self.quiet.retain(|_, until| until.is_none_or(|until| until > now));
        let quiet: Vec<Value> = self.quiet.keys().map(|market| json!(market)).collect();
        let mut told = Vec::new();
        for stream in self.streams.values() {
            let Some(subscription) = stream.subscription.as_ref().filter(|sub| sub.orders == orders) else { continue };
            let wanted = changes
                .iter()
                .filter(|change| change["id"].as_str().is_some_and(|id| orders || subscription.wants(id)));
            let wanted = wanted.filter(|change| orders || !quiet.contains(&change["id"]));
            let mut wanted: Vec<Value> = wanted.map(|change| subscription.cut(change)).collect();
            if wanted.is_empty() {
                continue;
            }
            if conflated {
                wanted[0]["con"] = json!(true);
            }
            let mut head = self.head(subscription);
            if let Some(at_ns) = at_ns {
                head.insert("pt".into(), json!(at_ns / 1_000_000));
            }
            oddly(&mut head, odd);
            head.insert(if orders { "oc" } else { "mc" }.into(), json!(wanted));
            told.push((stream.queue.clone(), Out::Line("change", Value::Object(head).to_string())));
        }
        told
    }

    /// What faults of the connection tell the streams; the others change what comes.
    pub(crate) fn inject(&mut self, fault: Fault) -> Told {
        let subscribed = self.streams.values().filter(|stream| stream.subscription.is_some());
        let all = |make: &dyn Fn() -> Out| subscribed.map(|stream| (stream.queue.clone(), make())).collect();
        match fault {
            Fault::Cut { in_line } => all(&|| Out::Cut { in_line }),
            Fault::End { in_line } => all(&|| Out::End { in_line }),
            Fault::HalfOpen { lasts } => all(&|| Out::HalfOpen(lasts)),
            Fault::Drip { bytes } => all(&|| Out::Drip(bytes)),
            Fault::Oversized { kib } => all(&|| {
                let mut line = br#"{"op":"mcm","clk":""#.to_vec();
                line.resize(kib << 10, b'x');
                line.extend_from_slice(b"\r\n");
                Out::Bytes(line)
            }),
            Fault::HangUp { code } => all(&|| failure(&Value::Null, &code, "so long", true)),
            Fault::Garbage(garbage) => all(&|| Out::Bytes(garbage.bytes())),
            Fault::Late => all(&|| {
                let change = json!({ "id": "1.2", "rc": [{ "id": 1, "ltp": 1.01 }] });
                Out::Line("late", json!({ "op": "mcm", "id": 999, "clk": "late", "pt": 1, "mc": [change] }).to_string())
            }),
            Fault::Big { kib } => self.big(kib),
            Fault::Image { market } => {
                let ids = self.markets.keys().filter(|id| market == "*" || **id == market).cloned().collect::<Vec<_>>();
                let images = ids.iter().filter_map(|id| self.markets[id].since(id, 0, &|_| true)).collect();
                self.publish(images, None)
            }
            Fault::Moved { market } => self.moved(&market),
            Fault::Poison { market } => {
                self.poisoned = Some(market);
                self.poison(1.234_567_890_123_456_8e21)
            }
            Fault::Quiet { market, lasts } => {
                self.quiet.insert(market, lasts.map(|lasts| Instant::now() + lasts));
                Told::new()
            }
            Fault::Segments { pieces } => {
                self.segments = pieces;
                Told::new()
            }
            Fault::Behind { lasts } => {
                self.behind = Some(lasts.map(|lasts| Instant::now() + lasts));
                Told::new()
            }
            Fault::Conflated => {
                self.conflated = true;
                Told::new()
            }
            Fault::Odd(odd) => {
                self.odd.push_back(odd);
                Told::new()
            }
            Fault::Conflate { ms } => {
                self.conflate = Some(ms);
                Told::new()
            }
            Fault::Clock { off_ns } => {
                self.clock_off_ns = off_ns;
                Told::new()
            }
            Fault::Refuse { code, times } => {
                self.refusals.push((code, times));
                Told::new()
            }
            Fault::Login { status, times } => {
                self.login_refusals.push((status, times));
                Told::new()
            }
            Fault::Forget => {
                self.epochs.clear();
                Told::new()
            }
            Fault::SessionDead => {
                self.sessions.clear();
                Told::new()
            }
            Fault::Heal => {
                self.refusals.clear();
                self.login_refusals.clear();
                self.odd.clear();
                (self.conflated, self.conflate, self.segments) = (false, None, 1);
                (self.behind, self.clock_off_ns) = (None, 0);
                self.quiet.clear();
                let told = self.poison(0.0);
                self.poisoned = None;
                told
            }
        }
    }

    /// The image of a market that has as many runners as fill so many KiB.
    fn big(&mut self, kib: usize) -> Told {
        let runner =
            |id: usize| json!({ "id": id, "atb": [[2.5, 12.25], [2.48, 100.01]], "atl": [[2.6, 3]], "ltp": 2.52 });
        let many = (kib << 10) / runner(1_000_000).to_string().len() + 1;
        let runners: Vec<Value> = (0..many).map(|n| runner(1_000_000 + n)).collect();
        let id = self.markets.keys().next().cloned().unwrap_or_else(|| "1.608".to_owned());
        let definition = self.markets.get(&id).and_then(Market::definition).cloned();
        let mut change = json!({ "id": id, "img": true, "rc": runners });
        if let Some(definition) = definition {
            change["marketDefinition"] = definition;
        }
        self.publish(vec![change], None)
    }

    /// A rung of this size for the first runner of the market that is poisoned.
    fn poison(&mut self, size: f64) -> Told {
        let Some(market) = self.poisoned.clone() else { return Told::new() };
        let definition = self.markets.get(&market).and_then(Market::definition);
        let Some(runner) = definition.and_then(|it| it["runners"][0]["id"].as_i64()) else { return Told::new() };
        self.publish(vec![json!({ "id": market, "rc": [{ "id": runner, "atb": [[1.01, size]] }] })], None)
    }

    /// A market goes to another event: it is sent as it is there, then as it was.
    fn moved(&mut self, market: &str) -> Told {
        let Some(old) = self.markets.get(market).and_then(|known| known.since(market, 0, &|_| true)) else {
            return Told::new();
        };
        let mut new = old.clone();
        let version = old["marketDefinition"]["version"].as_i64().unwrap_or(0);
        new["marketDefinition"]["version"] = json!(version + 1_000);
        new["marketDefinition"]["eventId"] = json!("99999999");
        self.seq += 1;
        self.markets.entry(market.to_owned()).or_default().apply(&new, self.seq);
        let mut stale = old;
        stale["rc"] = json!([]);
        self.tell(&[new, stale], None, false)
    }

    pub(crate) fn enter(&mut self, stream: u64, kind: &'static str, text: String) {
        if self.remember {
            if self.log.len() >= KEPT {
                self.log.pop_front();
            }
            self.log.push_back(Sent { stream, ts_ns: now_ns(), kind, text });
        }
    }

    pub(crate) fn log(&self) -> Vec<Sent> {
        self.log.iter().cloned().collect()
    }
}

/// A clock as the venue writes them: of letters that mean nothing to anybody else.
fn clk(seq: u64) -> String {
    format!("AAAA{seq}==")
}

fn status(id: &Value) -> String {
    json!({ "op": "status", "id": id, "statusCode": "SUCCESS", "connectionClosed": false, "connectionsAvailable": 9 })
        .to_string()
}

fn failure(id: &Value, code: &str, words: &str, closed: bool) -> Out {
    let text = json!({
        "op": "status", "id": id, "statusCode": "FAILURE", "errorCode": code, "errorMessage": words, "connectionClosed": closed,
    });
    if closed { Out::Last(text.to_string()) } else { Out::Line("status", text.to_string()) }
}

/// A message with something odd about it.
fn oddly(head: &mut Map<String, Value>, odd: Option<Odd>) {
    match odd {
        None => {}
        Some(Odd::ZeroTime) => drop(head.insert("pt".into(), json!(0))),
        Some(Odd::AbsurdTime) => drop(head.insert("pt".into(), json!(7_258_118_400_000_i64))),
        Some(Odd::TextTime) => drop(head.insert("pt".into(), json!("soon"))),
        Some(Odd::NoTime) => drop(head.remove("pt")),
        Some(Odd::Fields) => drop(head.insert("moonPhase".into(), json!({ "full": [1, null] }))),
    }
}
