//! The account behind the private channel: tokens, own orders, own executions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::frames::{self, Channel, Frame, Item, Key};
use super::hub::Hub;
use super::market::{Pair, Trade};
use super::requests::Request;
use super::rng::Rng;
use super::text::{fixed, time};

/// Own orders that stay open at most.
const MAX_OPEN: usize = 20;
/// Own executions in a snapshot.
const SNAPSHOT_TRADES: usize = 50;
/// Of 100 trades of the market, those at which the account does something.
const ACTIVE_PERCENT: u64 = 20;

/// Who may ask for tokens.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub key: String,
    /// Base64, as the venue hands it out.
    pub secret: String,
    /// How long a token may wait for its connection.
    pub token_life: Duration,
}

#[derive(Debug)]
struct Token {
    issued: Instant,
    /// The connection that used it up.
    used_by: Option<u64>,
}

/// A connection that follows the account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follower {
    pub(crate) conn: u64,
    silenced: bool,
    sequence: u64,
}

#[derive(Clone, Debug)]
struct Order {
    id: String,
    pair: usize,
    buy: bool,
    ticks: i64,
    units: i64,
    filled: i64,
    placed_ns: i64,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) followers: Vec<Follower>,
    tokens: HashMap<String, Token>,
    last_nonce: u64,
    open: Vec<Order>,
    /// Texts of the last executions, with their symbols.
    executed: Vec<(usize, String)>,
    rng: Rng,
    next: u64,
}

/// Why no token is given, in the venue's words.
pub(crate) type Denied = &'static str;

impl Account {
    pub(crate) fn new(credentials: Option<Credentials>, seed: u64) -> Self {
        Account {
            credentials,
            followers: Vec::new(),
            tokens: HashMap::new(),
            last_nonce: 0,
            open: Vec::new(),
            executed: Vec::new(),
            rng: Rng::new(seed.rotate_left(32)),
            next: 1,
        }
    }

    /// Gives out a token to a request whose signature holds.
    pub(crate) fn issue_token(&mut self, nonce: u64) -> Result<(String, Duration), Denied> {
        let Some(credentials) = &self.credentials else { return Err("EAPI:Invalid key") };
        if nonce <= self.last_nonce {
            return Err("EAPI:Invalid nonce");
        }
        self.last_nonce = nonce;
        let life = credentials.token_life;
        self.tokens.retain(|_, token| token.issued.elapsed() < life);
        let token = format!("fake{:016x}{:016x}", self.rng.next(), self.rng.next());
        self.tokens.insert(token.clone(), Token { issued: Instant::now(), used_by: None });
        Ok((token, life))
    }

    pub(crate) fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Uses a token up; the connection that did may use it again.
    fn admits(&mut self, token: &str, conn: u64) -> bool {
        let Some(life) = self.credentials.as_ref().map(|credentials| credentials.token_life) else { return false };
        let Some(token) = self.tokens.get_mut(token).filter(|token| token.issued.elapsed() < life) else {
            return false;
        };
        *token.used_by.get_or_insert(conn) == conn
    }

    fn id(&mut self, prefix: &str) -> String {
        let id = self.next;
        self.next += 1;
        format!("{prefix}FAKE-{:05X}-{:06X}", self.rng.below(1 << 20), id)
    }
}

impl Hub {
    pub(crate) fn subscribe_executions(&mut self, conn: u64, request: &Request) {
        let params = &request.params;
        if let Some(reason) = self.active.refuses(Channel::Executions, "") {
            return self.refuse(conn, Channel::Executions, "", &reason, request);
        }
        if !params.token.as_deref().is_some_and(|token| self.account.admits(token, conn)) {
            return self.refuse(conn, Channel::Executions, "", "ESession:Invalid session", request);
        }
        let silenced = self.active.silences(Channel::Executions, "");
        let (orders, trades) = (params.snap_orders.unwrap_or(true), params.snap_trades.unwrap_or(false));
        let result =
            format!(r#""channel":"executions","maxratecount":180,"snap_orders":{orders},"snap_trades":{trades}"#);
        let now_ns = self.now_ns();
        self.tell(conn, frames::ack(Channel::Executions, "subscribe", "", &result, request.req_id, now_ns));
        let mut items = Vec::new();
        if trades {
            let skip = self.account.executed.len().saturating_sub(SNAPSHOT_TRADES);
            items.extend(self.account.executed.iter().skip(skip).cloned());
        }
        if orders {
            let open = self.account.open.iter();
            items.extend(
                open.map(|order| (order.pair, state(order, &self.market.pairs[order.pair], "new", order.placed_ns))),
            );
        }
        self.account.followers.retain(|follower| follower.conn != conn);
        self.account.followers.push(Follower { conn, silenced, sequence: 1 });
        if !silenced {
            let frame = self.executions("snapshot", &items, 1);
            self.tell(conn, frame);
        }
    }

    /// Lets the account have its part in what was just traded.
    pub(crate) fn trade_for_account(&mut self, at: usize, ts_ns: i64) {
        if !self.account.rng.chance(ACTIVE_PERCENT) {
            return;
        }
        let pair = &self.market.pairs[at];
        let trade = pair.last;
        let fills = self.account.open.iter().position(|order| order.pair == at);
        let item = match fills {
            Some(order) if self.account.open.len() >= MAX_OPEN || self.account.rng.chance(50) => {
                let mut order = self.account.open.swap_remove(order);
                let rest = order.units - order.filled;
                let part = if self.account.rng.chance(40) && rest > 1 { rest / 2 } else { rest };
                order.filled += part;
                let id = self.account.id("T");
                let text = execution(&order, pair, &trade, part, &id, ts_ns);
                self.account.executed.push((at, text.clone()));
                if self.account.executed.len() > 2 * SNAPSHOT_TRADES {
                    self.account.executed.drain(..SNAPSHOT_TRADES);
                }
                if order.filled < order.units {
                    self.account.open.push(order);
                }
                text
            }
            _ if self.account.open.len() >= MAX_OPEN => return,
            _ => {
                let id = self.account.id("O");
                let units = self.account.rng.between(1_000, 9_999_999);
                let order =
                    Order { id, pair: at, buy: trade.buy, ticks: trade.ticks, units, filled: 0, placed_ns: ts_ns };
                let text = state(&order, pair, "new", ts_ns);
                self.account.open.push(order);
                text
            }
        };
        let items = [(at, item)];
        for n in 0..self.account.followers.len() {
            let follower = &mut self.account.followers[n];
            follower.sequence += 1;
            let Follower { conn, silenced, sequence } = *follower;
            if !silenced {
                let frame = self.executions("update", &items, sequence);
                self.tell(conn, frame);
            }
        }
    }

    fn executions(&self, kind: &'static str, items: &[(usize, String)], sequence: u64) -> Frame {
        let mut text = format!(r#"{{"channel":"executions","type":"{kind}","data":["#);
        let mut places = Vec::new();
        for (n, (pair, item)) in items.iter().enumerate() {
            if n > 0 {
                text.push(',');
            }
            let at = text.len()..text.len() + item.len();
            places.push(Item { symbol: self.market.pairs[*pair].symbol.clone(), key: Key::None, at });
            text.push_str(item);
        }
        text.push_str(&format!(r#"],"sequence":{sequence}}}"#));
        Frame::new(Channel::Executions, kind, text.as_bytes(), places)
    }
}

/// An order as it stands.
fn state(order: &Order, pair: &Pair, exec_type: &str, ts_ns: i64) -> String {
    let (symbol, side) = (&pair.symbol, if order.buy { "buy" } else { "sell" });
    let (qty, price) = (fixed(order.units, pair.qty_decimals), fixed(order.ticks, pair.price_decimals));
    let (filled, status) = (fixed(order.filled, pair.qty_decimals), status(order));
    let (id, at) = (&order.id, time(ts_ns));
    format!(
        r#"{{"order_id":"{id}","order_userref":0,"exec_type":"{exec_type}","order_status":"{status}","symbol":"{symbol}","side":"{side}","order_type":"limit","order_qty":{qty},"limit_price":{price},"cum_qty":{filled},"time_in_force":"GTC","timestamp":"{at}"}}"#
    )
}

fn execution(order: &Order, pair: &Pair, trade: &Trade, units: i64, exec_id: &str, ts_ns: i64) -> String {
    let (symbol, side) = (&pair.symbol, if order.buy { "buy" } else { "sell" });
    let price = fixed(order.ticks, pair.price_decimals);
    let (qty, filled) = (fixed(units, pair.qty_decimals), fixed(order.filled, pair.qty_decimals));
    let total = fixed(order.units, pair.qty_decimals);
    let (status, id, trade_id, at) = (status(order), &order.id, trade.id, time(ts_ns));
    let quote = pair.symbol.split('/').nth(1).unwrap_or("USD");
    format!(
        r#"{{"order_id":"{id}","order_userref":0,"exec_id":"{exec_id}","exec_type":"trade","order_status":"{status}","trade_id":{trade_id},"symbol":"{symbol}","side":"{side}","last_qty":{qty},"last_price":{price},"liquidity_ind":"m","order_type":"limit","order_qty":{total},"limit_price":{price},"cum_qty":{filled},"avg_price":{price},"fees":[{{"asset":"{quote}","qty":0.00010000}}],"time_in_force":"GTC","timestamp":"{at}"}}"#
    )
}

fn status(order: &Order) -> &'static str {
    match order.filled {
        0 => "new",
        filled if filled < order.units => "partially_filled",
        _ => "filled",
    }
}
