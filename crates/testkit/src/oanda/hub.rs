//! The venue's state: prices, transactions, who listens, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;

use super::fault::{Fault, Garbage, Odd};
use super::market::{Listed, Tick, stamp};
use crate::kraken::rng::Rng;
use crate::kraken::text::{fixed, now_ns};
use crate::lines::Out;

/// Entries of the sent log that are kept.
const KEPT: usize = 1_000_000;

/// A line that was handed to a socket, or kept back by a fault.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Number of the stream, from 1.
    pub stream: u64,
    /// Wall clock, ns since 1970.
    pub ts_ns: i64,
    /// `price` or `transaction`.
    pub kind: &'static str,
    pub text: String,
    /// Whether it went out whole.
    pub whole: bool,
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// `None`: transactions.
    pub(crate) instruments: Option<BTreeSet<String>>,
    pub(crate) unix: bool,
    pub(crate) queue: mpsc::Sender<Out>,
}

/// Something that happened in the account.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) id: u64,
    at_ns: i64,
    /// With a place for the time.
    text: String,
}

impl Transaction {
    pub(crate) fn text(&self, unix: bool) -> String {
        self.text.replacen("@TIME@", &stamp(self.at_ns, unix), 1)
    }
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) token: String,
    pub(crate) account: String,
    pub(crate) listed: Vec<Listed>,
    pub(crate) prices: BTreeMap<Arc<str>, Tick>,
    /// Every price so far, at most the newest million, for candles.
    pub(crate) past: VecDeque<Tick>,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) opened: u64,
    /// When TCP connections were made.
    pub(crate) connects: Vec<Instant>,
    /// Paths that were asked for, without the account.
    pub(crate) requests: Vec<String>,
    pub(crate) untradeable: BTreeSet<String>,
    pub(crate) clock_off_ns: i64,
    pub(crate) rng: Rng,
    first_id: u64,
    refusals: Vec<(u16, Option<u32>)>,
    stalled: BTreeMap<String, Option<Instant>>,
    odd: VecDeque<Odd>,
    lose: u32,
    /// Requests for transactions that are answered without any.
    pub(crate) behind: u32,
    log: VecDeque<Sent>,
    remember: bool,
}

impl Hub {
    pub(crate) fn new(token: String, account: String, first_id: u64, rng: Rng, remember: bool) -> Hub {
        Hub {
            token,
            account,
            listed: Vec::new(),
            prices: BTreeMap::new(),
            past: VecDeque::new(),
            transactions: Vec::new(),
            streams: BTreeMap::new(),
            opened: 0,
            connects: Vec::new(),
            requests: Vec::new(),
            untradeable: BTreeSet::new(),
            clock_off_ns: 0,
            rng,
            first_id,
            refusals: Vec::new(),
            stalled: BTreeMap::new(),
            odd: VecDeque::new(),
            lose: 0,
            behind: 0,
            log: VecDeque::new(),
            remember,
        }
    }

    pub(crate) fn now_ns(&self) -> i64 {
        now_ns().saturating_add(self.clock_off_ns)
    }

    pub(crate) fn last_transaction(&self) -> u64 {
        self.transactions.last().map_or(self.first_id, |transaction| transaction.id)
    }

    /// The status that the next request is refused with, if any.
    pub(crate) fn refusal(&mut self) -> Option<u16> {
        let (status, left) = self.refusals.first_mut()?;
        let status = *status;
        if let Some(left) = left {
            *left -= 1;
            if *left == 0 {
                self.refusals.remove(0);
            }
        }
        Some(status)
    }

    /// Opens a stream; what it begins with is already in its queue.
    pub(crate) fn open(
        &mut self,
        instruments: Option<BTreeSet<String>>,
        unix: bool,
        room: usize,
    ) -> (u64, mpsc::Receiver<Out>) {
        let (queue, told) = mpsc::channel(room);
        self.opened += 1;
        if let Some(instruments) = &instruments {
            for name in instruments {
                if let Some(tick) = self.prices.get(name.as_str()) {
                    let text = tick.text(unix, !self.untradeable.contains(name));
                    // The queue was just made, and is large enough for all instruments.
                    let _ = queue.try_send(Out::Line("price", text));
                }
            }
        }
        self.streams.insert(self.opened, Stream { instruments, unix, queue });
        (self.opened, told)
    }

    /// Takes a new price: what is to be said of it, and to whom.
    pub(crate) fn price(&mut self, tick: Tick) -> Vec<(mpsc::Sender<Out>, Out)> {
        let name = tick.instrument.to_string();
        let stalled = self.is_stalled(&name);
        let tradeable = !self.untradeable.contains(&name);
        // What nobody hears would be no fault.
        let is_told = |stream: &Stream| stream.instruments.as_ref().is_some_and(|all| all.contains(&name));
        let heard = !stalled && self.streams.values().any(is_told);
        let odd = if heard { self.odd.pop_front() } else { None };
        let mut told = Vec::new();
        for (number, stream) in &self.streams {
            if !is_told(stream) {
                continue;
            }
            let text = oddly(tick.text(stream.unix, tradeable), &stamp(tick.at_ns, stream.unix), odd);
            if stalled {
                let sent = Sent { stream: *number, ts_ns: now_ns(), kind: "price", text, whole: false };
                remember(&mut self.log, self.remember, sent);
            } else {
                told.push((stream.queue.clone(), Out::Line("price", text)));
            }
        }
        if self.past.len() >= KEPT {
            self.past.pop_front();
        }
        self.past.push_back(Tick { line: None, ..tick.clone() });
        self.prices.insert(tick.instrument.clone(), tick);
        told
    }

    fn is_stalled(&mut self, name: &str) -> bool {
        let now = Instant::now();
        self.stalled.retain(|_, until| until.is_none_or(|until| until > now));
        self.stalled.contains_key(name) || self.stalled.contains_key("*")
    }

    /// Something happens in the account: an order, its fill or its end, money.
    pub(crate) fn transact(&mut self) -> Vec<(mpsc::Sender<Out>, Out)> {
        let id = self.last_transaction() + 1;
        let (account, order) = (&self.account, id - 1);
        let common =
            format!(r#""id":"{id}","time":"@TIME@","userID":1234567,"accountID":"{account}","batchID":"{id}""#);
        let name = self.listed.first().map_or("EUR_USD", |listed| &listed.name);
        let price = self.prices.get(name).map_or_else(|| "1.08230".to_owned(), |tick| fixed(tick.bid, tick.decimals));
        let text = match id % 4 {
            0 => format!(
                r#"{{{common},"type":"LIMIT_ORDER","instrument":"{name}","units":"-{id}","price":"{price}","timeInForce":"GTC","reason":"CLIENT_ORDER","clientExtensions":{{"id":"mine-{id}"}}}}"#
            ),
            1 => format!(
                r#"{{{common},"type":"ORDER_FILL","orderID":"{order}","instrument":"{name}","units":"-{order}","price":"{price}","reason":"LIMIT_ORDER","pl":"0.0000","commission":"0.5000","accountBalance":"43650.78835","tradeOpened":{{"tradeID":"{id}","units":"-{order}"}}}}"#
            ),
            2 => format!(r#"{{{common},"type":"ORDER_CANCEL","orderID":"{order}","reason":"CLIENT_REQUEST"}}"#),
            _ => {
                format!(r#"{{{common},"type":"DAILY_FINANCING","financing":"-1.2500","accountBalance":"43649.53835"}}"#)
            }
        };
        let transaction = Transaction { id, at_ns: self.now_ns(), text };
        let lost = self.lose > 0;
        self.lose = self.lose.saturating_sub(1);
        let streams = self.streams.values().filter(|stream| stream.instruments.is_none() && !lost);
        let told = streams
            .map(|stream| (stream.queue.clone(), Out::Line("transaction", transaction.text(stream.unix))))
            .collect();
        self.transactions.push(transaction);
        told
    }

    /// What faults of the connection tell the streams; the others change what comes.
    pub(crate) fn inject(&mut self, fault: Fault) -> Vec<(mpsc::Sender<Out>, Out)> {
        let all = |make: &dyn Fn() -> Out| self.streams.values().map(|stream| (stream.queue.clone(), make())).collect();
        match fault {
            Fault::Cut { in_line } => all(&|| Out::Cut { in_line }),
            Fault::End { in_line } => all(&|| Out::End { in_line }),
            Fault::HalfOpen { lasts } => all(&|| Out::HalfOpen(lasts)),
            Fault::Oversized { kib } => all(&|| {
                let mut line = br#"{"type":"PRICE","instrument":""#.to_vec();
                line.resize(kib << 10, b'x');
                line.push(b'\n');
                Out::Bytes(line)
            }),
            Fault::Garbage(garbage) => all(&|| Out::Bytes(bytes_of(garbage))),
            Fault::Stall { instrument, lasts } => {
                self.stalled.insert(instrument, lasts.map(|lasts| Instant::now() + lasts));
                Vec::new()
            }
            Fault::Tradeable { instrument, is } => {
                if is {
                    self.untradeable.remove(&instrument);
                } else {
                    self.untradeable.insert(instrument);
                }
                Vec::new()
            }
            Fault::Odd(odd) => {
                self.odd.push_back(odd);
                Vec::new()
            }
            Fault::Lose { transactions } => {
                self.lose += transactions;
                Vec::new()
            }
            Fault::Behind { answers } => {
                self.behind += answers;
                Vec::new()
            }
            Fault::Clock { off_ns } => {
                self.clock_off_ns = off_ns;
                Vec::new()
            }
            Fault::Refuse { status, times } => {
                if times != Some(0) {
                    self.refusals.push((status, times));
                }
                Vec::new()
            }
            Fault::Heal => {
                self.refusals.clear();
                self.stalled.clear();
                self.untradeable.clear();
                self.odd.clear();
                (self.lose, self.behind, self.clock_off_ns) = (0, 0, 0);
                Vec::new()
            }
        }
    }

    pub(crate) fn enter(&mut self, sent: Sent) {
        remember(&mut self.log, self.remember, sent);
    }

    pub(crate) fn log(&self) -> Vec<Sent> {
        self.log.iter().cloned().collect()
    }
}

fn remember(log: &mut VecDeque<Sent>, on: bool, sent: Sent) {
    if on {
        if log.len() >= KEPT {
            log.pop_front();
        }
        log.push_back(sent);
    }
}

/// A price with something odd about it.
fn oddly(text: String, time: &str, odd: Option<Odd>) -> String {
    let field = format!(r#""time":"{time}","#);
    match odd {
        None => text,
        Some(Odd::ZeroTime) => text.replacen(time, "0", 1),
        Some(Odd::AbsurdTime) => text.replacen(time, "2200-01-01T00:00:00.000000000Z", 1),
        Some(Odd::NoTime) => text.replacen(&field, "", 1),
        Some(Odd::TextTime) => text.replacen(time, "soon", 1),
        Some(Odd::Fields) => text.replacen('{', r#"{"moonPhase":"full","nested":{"a":[1,{"b":null}]},"#, 1),
    }
}

fn bytes_of(garbage: Garbage) -> Vec<u8> {
    let mut bytes = match garbage {
        Garbage::NotJson => br#"{"type":"PRICE","time":"2026-"#.to_vec(),
        Garbage::InvalidUtf8 => b"{\"type\":\"PRICE\xff\xfe\"}".to_vec(),
        Garbage::Array => b"[1,2,3]".to_vec(),
        Garbage::Empty => b"\r\n \n".to_vec(),
        Garbage::Numbers => br#"{"type":"PRICE","time":"2026-01-05T10:00:00Z","bids":[{"price":"123456789012345678901234567890.1","liquidity":1}],"asks":[],"instrument":"EUR_USD"}"#.to_vec(),
        Garbage::UnknownType => br#"{"type":"PRICE_V9","time":"2026-01-05T10:00:00Z","quanta":[1]}"#.to_vec(),
    };
    bytes.push(b'\n');
    bytes
}
