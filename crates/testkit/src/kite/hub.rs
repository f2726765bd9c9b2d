//! The venue's state: packets, who listens to which, who may, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use ring::digest;
use serde_json::Value;
use tokio::sync::mpsc;

use super::fault::{Fault, Garbage, Odd};
use super::market::{Listed, Mode, cut, frame, number, put, token};
use super::past::Past;
use crate::http::Head;
use crate::kraken::rng::Rng;
use crate::kraken::text::now_ns;
use crate::talk::Out;
use crate::ws::{self, Opcode};

/// Entries of the sent log that are kept.
const KEPT: usize = 1_000_000;
/// Instruments that the venue sends over one connection.
const A_CONNECTION: usize = 3_000;
/// A time of the year 2100, in seconds.
const ABSURD: u32 = 4_102_444_800;
/// A token of a segment that nobody knows.
pub const STRANGE_TOKEN: u32 = 0x0010_00ee;

/// A packet that was handed to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Number of the connection, from 1.
    pub conn: u64,
    pub packet: Vec<u8>,
}

#[derive(Debug)]
struct Conn {
    subs: BTreeMap<u32, Mode>,
    queue: mpsc::Sender<Out>,
}

/// A request for instruments: what, and which tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub conn: u64,
    pub what: String,
    pub tokens: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) api_key: String,
    pub(crate) api_secret: String,
    pub(crate) request_token: String,
    /// `None`: it has died, and nobody has logged in since.
    pub(crate) access_token: Option<String>,
    logins: u32,
    pub(crate) listed: Vec<Listed>,
    /// The last full packet of each instrument.
    pub(crate) packets: BTreeMap<u32, Vec<u8>>,
    past: Past,
    conns: HashMap<u64, Conn>,
    pub(crate) opened: u64,
    stalled: BTreeMap<String, Option<Instant>>,
    odd: Option<Odd>,
    refuse: Option<(u16, Option<u32>)>,
    off_ns: i64,
    log: VecDeque<Sent>,
    remember: bool,
    pub(crate) asked: Vec<Asked>,
    /// Tokens that came as texts, and were ignored.
    pub(crate) ignored: u64,
    /// Methods and paths, without the query.
    pub(crate) requests: Vec<String>,
    /// Connections that were refused.
    pub(crate) refused: u64,
    pub(crate) rng: Rng,
    orders: u64,
}

type Told = Vec<(mpsc::Sender<Out>, Out)>;

impl Hub {
    pub(crate) fn new(
        [api_key, api_secret, request_token, access_token]: [String; 4],
        listed: Vec<Listed>,
        rng: Rng,
        remember: bool,
    ) -> Self {
        Hub {
            api_key,
            api_secret,
            request_token,
            access_token: Some(access_token),
            logins: 0,
            listed,
            packets: BTreeMap::new(),
            past: Past::default(),
            conns: HashMap::new(),
            opened: 0,
            stalled: BTreeMap::new(),
            odd: None,
            refuse: None,
            off_ns: 0,
            log: VecDeque::new(),
            remember,
            asked: Vec::new(),
            ignored: 0,
            requests: Vec::new(),
            refused: 0,
            rng,
            orders: 0,
        }
    }

    pub(crate) fn now_ns(&self) -> i64 {
        now_ns() + self.off_ns
    }

    pub(crate) fn connections(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn log(&self) -> Vec<Sent> {
        self.log.iter().cloned().collect()
    }

    /// Instruments with their modes, of each connection.
    pub(crate) fn subscribed(&self) -> Vec<BTreeMap<u32, Mode>> {
        self.conns.values().map(|conn| conn.subs.clone()).collect()
    }

    /// Whether somebody listens to any of these.
    pub(crate) fn is_heard(&self, tokens: &BTreeSet<u32>) -> bool {
        self.conns.values().any(|conn| conn.subs.keys().any(|token| tokens.contains(token)))
    }

    /// The status that a request is refused with.
    fn refusal(&mut self) -> Option<u16> {
        let (status, times) = self.refuse.as_mut()?;
        let status = *status;
        if let Some(left) = times {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.refuse = None;
            }
        }
        Some(status)
    }

    /// Lets a client in, or says with which status not.
    pub(crate) fn open(&mut self, query: &str, len: usize) -> Result<(u64, mpsc::Receiver<Out>), u16> {
        let given = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let good = given("api_key") == Some(&self.api_key)
            && self.access_token.is_some()
            && given("access_token") == self.access_token.as_deref();
        if let Some(status) = self.refusal().or((!good).then_some(403)) {
            self.refused += 1;
            return Err(status);
        }
        let (queue, told) = mpsc::channel(len);
        self.opened += 1;
        self.conns.insert(self.opened, Conn { subs: BTreeMap::new(), queue });
        Ok((self.opened, told))
    }

    pub(crate) fn close(&mut self, conn: u64) {
        self.conns.remove(&conn);
    }

    /// Answers a text of a client.
    pub(crate) fn text(&mut self, conn: u64, text: &[u8]) -> Told {
        let Ok(value) = serde_json::from_slice::<Value>(text) else { return Vec::new() };
        let (what, list) = match value["a"].as_str() {
            Some("mode") => (value["v"][0].as_str().unwrap_or_default(), &value["v"][1]),
            Some(what) => (what, &value["v"]),
            None => return Vec::new(),
        };
        let list = list.as_array().cloned().unwrap_or_default();
        let tokens: Vec<u32> = list.iter().filter_map(|token| u32::try_from(token.as_u64()?).ok()).collect();
        self.ignored += (list.len() - tokens.len()) as u64;
        self.asked.push(Asked { conn, what: what.to_owned(), tokens: tokens.clone() });
        let mode = match what {
            "subscribe" | "quote" => Mode::Quote,
            "full" => Mode::Full,
            "ltp" => Mode::Ltp,
            _ => {
                if let Some(conn) = self.conns.get_mut(&conn).filter(|_| what == "unsubscribe") {
                    conn.subs.retain(|token, _| !tokens.contains(token));
                }
                return Vec::new();
            }
        };
        let known: Vec<u32> = tokens.into_iter().filter(|token| self.packets.contains_key(token)).collect();
        let Some(client) = self.conns.get_mut(&conn) else { return Vec::new() };
        for token in &known {
            // A mode is of what is subscribed; a connection has room for so many.
            if what == "subscribe" && client.subs.len() < A_CONNECTION {
                client.subs.insert(*token, mode);
            } else if let Some(own) = client.subs.get_mut(token) {
                *own = mode;
            }
        }
        let stalled: Vec<u32> = known.iter().copied().filter(|token| self.is_stalled(*token)).collect();
        // What is subscribed answers with its last state.
        let states = known.into_iter().filter(|token| !stalled.contains(token));
        let states: Vec<Vec<u8>> = states.filter_map(|token| self.packets.get(&token).cloned()).collect();
        self.tell(&states, Some(conn))
    }

    fn is_stalled(&mut self, token: u32) -> bool {
        let now = Instant::now();
        self.stalled.retain(|_, until| until.is_none_or(|until| until > now));
        let symbol = self.listed.iter().find(|listed| listed.token == token).map(|listed| listed.symbol.as_str());
        self.stalled.contains_key("*") || symbol.is_some_and(|symbol| self.stalled.contains_key(symbol))
    }

    /// New packets, to everybody who asked for them, or to one.
    pub(crate) fn tell(&mut self, packets: &[Vec<u8>], only: Option<u64>) -> Told {
        let mut told = Vec::new();
        for (number, conn) in self.conns.iter().filter(|(number, _)| only.is_none_or(|only| only == **number)) {
            let wanted = packets.iter().filter_map(|packet| Some(cut(packet, *conn.subs.get(&token(packet))?)));
            let wanted: Vec<&[u8]> = wanted.collect();
            if wanted.is_empty() {
                continue;
            }
            if self.remember {
                for packet in &wanted {
                    if self.log.len() >= KEPT {
                        self.log.pop_front();
                    }
                    self.log.push_back(Sent { conn: *number, packet: packet.to_vec() });
                }
            }
            told.push((conn.queue.clone(), Out::Bytes(ws::frame(Opcode::Binary, &frame(wanted)))));
        }
        told
    }

    /// The market moves: new full packets, oddities included.
    pub(crate) fn moved(&mut self, packets: Vec<Vec<u8>>) -> Told {
        let mut moved = Vec::new();
        for mut packet in packets {
            let of = token(&packet);
            let now_ns = self.now_ns();
            self.past.add(of, &packet, now_ns);
            if self.is_stalled(of) {
                continue;
            }
            let times = if packet.len() > 32 { &[44, 60][..] } else { &[28][..] };
            let heard = self.conns.values().any(|conn| conn.subs.contains_key(&of));
            match self.odd.filter(|_| heard) {
                Some(Odd::ZeroTime) => times.iter().for_each(|at| put(&mut packet, *at, 0)),
                Some(Odd::AbsurdTime) => times.iter().for_each(|at| put(&mut packet, *at, ABSURD)),
                Some(Odd::Volume) if packet.len() > 32 => {
                    let volume = number(&packet, 16);
                    put(&mut packet, 16, volume / 2);
                }
                Some(Odd::Segment) => {
                    let mut strange = packet.clone();
                    put(&mut strange, 0, STRANGE_TOKEN);
                    self.odd = None;
                    let mut told = self.to_all(&frame([strange.as_slice()]), Opcode::Binary);
                    self.packets.insert(of, packet.clone());
                    told.extend(self.tell(&[packet], None));
                    return told;
                }
                _ => {
                    self.packets.insert(of, packet.clone());
                    moved.push(packet);
                    continue;
                }
            }
            // What is odd about it passes.
            self.odd = None;
            moved.push(packet);
        }
        self.tell(&moved, None)
    }

    fn to_all(&self, bytes: &[u8], opcode: Opcode) -> Told {
        let frame = ws::frame(opcode, bytes);
        self.conns.values().map(|conn| (conn.queue.clone(), Out::Bytes(frame.clone()))).collect()
    }

    /// One byte to everybody.
    pub(crate) fn heartbeat(&self) -> Told {
        self.to_all(&[0], Opcode::Binary)
    }

    /// Makes something go wrong.
    pub(crate) fn inject(&mut self, fault: Fault) -> Told {
        let each = |hub: &Hub, out: &dyn Fn() -> Out| -> Told {
            hub.conns.values().map(|conn| (conn.queue.clone(), out())).collect()
        };
        let any = self.packets.values().next().cloned().unwrap_or_else(|| vec![0; 8]);
        match fault {
            Fault::Cut { mid_frame } => return each(self, &|| Out::Cut { mid_frame }),
            Fault::Close => return each(self, &|| Out::Bytes(ws::close_frame(1_000, "bye"))),
            Fault::HalfOpen { lasts } => return each(self, &|| Out::HalfOpen(lasts)),
            Fault::Length { bytes } => {
                let strange = vec![7; usize::from(bytes)];
                return self.to_all(&frame([strange.as_slice(), &any]), Opcode::Binary);
            }
            Fault::Count { more } => {
                let mut bytes = frame([any.as_slice()]);
                bytes[..2].copy_from_slice(&more.saturating_add(1).to_be_bytes());
                return self.to_all(&bytes, Opcode::Binary);
            }
            Fault::Garbage(garbage) => {
                let noise: Vec<u8> = (0..300).map(|_| self.rng.below(256) as u8).collect();
                return match garbage {
                    Garbage::Text => self.to_all(b"{\"type\":\"order\",\"data\":{\"order_id\":", Opcode::Text),
                    Garbage::Binary => self.to_all(&noise, Opcode::Binary),
                    Garbage::Type => self.to_all(br#"{"type":"weather","data":{"rain":true}}"#, Opcode::Text),
                    Garbage::Empty => self.to_all(b"", Opcode::Binary),
                };
            }
            Fault::Error { text } => {
                let text = serde_json::json!({ "type": "error", "data": text }).to_string();
                return self.to_all(text.as_bytes(), Opcode::Text);
            }
            Fault::Order => {
                self.orders += 1;
                let text = order(self.orders, self.now_ns());
                return self.to_all(text.as_bytes(), Opcode::Text);
            }
            Fault::Stall { symbol, lasts } => {
                self.stalled.insert(symbol, lasts.map(|lasts| Instant::now() + lasts));
            }
            Fault::Odd(odd) => self.odd = Some(odd),
            Fault::TokenDead => {
                self.access_token = None;
                return each(self, &|| Out::Cut { mid_frame: false });
            }
            Fault::Refuse { status, times } => self.refuse = Some((status, times)),
            Fault::Clock { off_ns } => self.off_ns = off_ns,
            Fault::Heal => {
                (self.refuse, self.odd, self.off_ns) = (None, None, 0);
                self.stalled.clear();
            }
        }
        Vec::new()
    }

    /// A new access token, as after a login.
    pub(crate) fn log_in(&mut self) -> String {
        self.logins += 1;
        let token = format!("access{:04}{:016x}", self.logins, self.rng.next());
        self.access_token = Some(token.clone());
        token
    }

    /// Answers a request: status and body.
    pub(crate) fn answer(&mut self, head: &Head, body: &[u8]) -> (u16, String) {
        self.requests.push(format!("{} {}", head.method, head.path));
        if let Some(status) = self.refusal() {
            return (status, refused("GeneralException", "The venue was told to refuse this."));
        }
        let parts: Vec<&str> = head.path.trim_matches('/').split('/').collect();
        match (head.method.as_str(), parts.as_slice()) {
            ("GET", ["instruments"]) => (200, super::market::csv(&self.listed)),
            ("GET", ["instruments", exchange]) => {
                let of: Vec<Listed> = self.listed.iter().filter(|one| one.exchange == *exchange).cloned().collect();
                (200, super::market::csv(&of))
            }
            ("GET", ["user", "profile"] | ["instruments", "historical", ..]) if !self.is_known(head) => {
                (403, refused("TokenException", "Incorrect `api_key` or `access_token`."))
            }
            ("GET", ["instruments", "historical", token, "minute"]) => {
                let plain = |text: &str| text.replace('+', " ").replace("%20", " ").replace("%3A", ":");
                let given = |name: &str| {
                    let mut pairs = head.query.split('&').filter_map(|pair| pair.split_once('='));
                    pairs.find(|(key, _)| *key == name).map(|(_, value)| plain(value)).unwrap_or_default()
                };
                match self.past.minutes(token.parse().unwrap_or(0), &given("from"), &given("to")) {
                    Ok(data) => (200, format!(r#"{{"status":"success","data":{data}}}"#)),
                    Err(why) => (400, refused("InputException", why)),
                }
            }
            ("GET", ["user", "profile"]) => {
                (200, r#"{"status":"success","data":{"user_id":"AB1234","user_shortname":"Person"}}"#.to_owned())
            }
            ("POST", ["session", "token"]) => self.session(body),
            _ => (404, refused("GeneralException", "Route not found")),
        }
    }

    fn is_known(&self, head: &Head) -> bool {
        let token = self.access_token.as_deref().unwrap_or("\n");
        head.header("authorization") == Some(&format!("token {}:{token}", self.api_key))
    }

    fn session(&mut self, body: &[u8]) -> (u16, String) {
        let body = String::from_utf8_lossy(body).into_owned();
        let given = |name: &str| {
            let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let signed = format!("{}{}{}", self.api_key, self.request_token, self.api_secret);
        let sum = digest::digest(&digest::SHA256, signed.as_bytes());
        let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if given("api_key") != Some(&self.api_key) || given("checksum") != Some(&sum) {
            return (403, refused("TokenException", "Token is invalid or has expired."));
        }
        let token = self.log_in();
        let answer = serde_json::json!({ "status": "success", "data": {
            "user_id": "AB1234", "user_shortname": "Person", "api_key": self.api_key, "access_token": token } });
        (200, answer.to_string())
    }
}

fn refused(kind: &str, why: &str) -> String {
    serde_json::json!({ "status": "error", "message": why, "error_type": kind, "data": null }).to_string()
}

/// A postback, after the venue's example.
fn order(number: u64, ns: i64) -> String {
    let local = crate::kraken::text::time(ns + super::market::IST_SECS * 1_000_000_000);
    let at = local[..19].replace('T', " ");
    format!(
        r#"{{"type":"order","data":{{"user_id":"AB1234","unfilled_quantity":0,"placed_by":"AB1234","order_id":"{}","exchange_order_id":"1000000001482421","parent_order_id":null,"status":"COMPLETE","status_message":null,"order_timestamp":"{at}","exchange_update_timestamp":"{at}","exchange_timestamp":"{at}","variety":"regular","exchange":"NSE","tradingsymbol":"SBIN","instrument_token":779521,"order_type":"MARKET","transaction_type":"BUY","validity":"DAY","product":"CNC","quantity":1,"price":0,"average_price":470.05,"filled_quantity":1,"pending_quantity":0,"cancelled_quantity":0,"meta":{{}},"tag":null,"guid":"78974-Nq2vHb1c"}}}}"#,
        220_303_000_000_000 + number
    )
}
