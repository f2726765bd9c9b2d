//! The middle of the server: one market, and who listens to what.
//!
//! All of it sits behind one lock. An ack, the snapshot after it and the first update after that
//! are put into the connection's queue under the same lock that the market steps under, so that
//! no update is lost or doubled between them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::active::Active;
use super::book::{Level, Side, changes};
use super::fault::Fault;
use super::frames::{self, Channel, Frame, Levels};
use super::log::Delivery;
use super::market::{Market, Step};
use super::replay::{Playing, Recording, Speed};
use super::rng::Rng;
use super::text::now_ns;

/// Messages that wait for one connection. A client that is further behind is cut off, as by the
/// venue; the snapshots of 1,434 pairs on three channels fit well into it.
pub(crate) const QUEUE: usize = 65_536;
/// Depths that the venue offers.
pub(crate) const DEPTHS: [u32; 5] = [10, 25, 100, 500, 1_000];

/// What a connection's writer is told to do.
#[derive(Debug)]
pub(crate) enum Out {
    Frame(Arc<Frame>, Delivery),
    /// Bytes that are no data: heartbeats, pongs, garbage.
    Raw(Bytes),
    Cut {
        mid_frame: bool,
    },
    /// A close frame, then the end.
    Close(Bytes),
    HalfOpen {
        lasts: Option<Duration>,
    },
    SlowDrip {
        lasts: Option<Duration>,
    },
    Heal,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) out: mpsc::Sender<Out>,
    /// Ends the connection at once.
    pub(crate) end: CancellationToken,
    pub(crate) subscribed: bool,
    /// Has recorded frames coming, with the heartbeats of their time.
    pub(crate) playing: bool,
    /// Requests in the second that began then.
    pub(crate) requests: (Instant, u32),
}

impl Conn {
    /// Puts something into the queue; a client that is too far behind is cut off, and hears nothing more: what came
    /// behind a dropped message would be a hole that no cut explains.
    fn offer(&self, out: Out) {
        if self.end.is_cancelled() {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.out.try_send(out) {
            tracing::warn!("a client is {QUEUE} messages behind and is cut off");
            self.end.cancel();
        }
    }
}

/// A subscription of one pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sub {
    pub(crate) conn: u64,
    /// Depth of a book, interval of candles.
    pub(crate) argument: u32,
    /// Acknowledged, but nothing is sent.
    pub(crate) silenced: bool,
}

/// Subscriptions of one pair, by channel.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) ticker: Vec<Sub>,
    pub(crate) trade: Vec<Sub>,
    pub(crate) book: Vec<Sub>,
    pub(crate) ohlc: Vec<Sub>,
}

impl Routes {
    pub(crate) fn of(&mut self, channel: Channel) -> Option<&mut Vec<Sub>> {
        match channel {
            Channel::Ticker => Some(&mut self.ticker),
            Channel::Trade => Some(&mut self.trade),
            Channel::Book => Some(&mut self.book),
            Channel::Ohlc => Some(&mut self.ohlc),
            Channel::Instrument | Channel::Executions | Channel::Status => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) market: Market,
    pub(crate) routes: Vec<Routes>,
    pub(crate) conns: HashMap<u64, Conn>,
    pub(crate) instrument: Vec<Sub>,
    pub(crate) active: Active,
    /// Recorded frames, in place of a market that steps.
    pub(crate) recording: Option<(Arc<Recording>, Speed)>,
    pub(crate) playing: HashMap<u64, Playing>,
    pub(crate) account: Account,
    pub(crate) me: Weak<Mutex<Hub>>,
    /// Told when somebody subscribes: the clock of the fault script starts.
    pub(crate) first_subscription: Arc<Notify>,
    /// Dice of how things are told, apart from those of what happens: who listens must not change the market.
    telling: Rng,
}

impl Hub {
    pub(crate) fn new(
        market: Market,
        seed: u64,
        recording: Option<(Arc<Recording>, Speed)>,
        account: Account,
    ) -> Arc<Mutex<Self>> {
        let routes = market.pairs.iter().map(|_| Routes::default()).collect();
        Arc::new_cyclic(|me| {
            Mutex::new(Hub {
                me: Weak::clone(me),
                recording,
                playing: HashMap::new(),
                account,
                market,
                routes,
                conns: HashMap::new(),
                instrument: Vec::new(),
                active: Active::default(),
                first_subscription: Arc::default(),
                telling: Rng::new(!seed),
            })
        })
    }

    pub(crate) fn connect(&mut self, id: u64, end: CancellationToken) -> mpsc::Receiver<Out> {
        let (out, queue) = mpsc::channel(QUEUE);
        // Beyond 2^53, where a reader that takes it for a float goes wrong.
        let connection_id = (1 << 63) + 0x1357_9bdf_0246 * id + id;
        let recorded = self.recording.as_ref().and_then(|(recording, _)| recording.status().cloned());
        let status = recorded.unwrap_or_else(|| Arc::new(frames::status(&self.active.system, connection_id)));
        self.conns.insert(id, Conn { out, end, subscribed: false, playing: false, requests: (Instant::now(), 0) });
        self.send(id, Out::Frame(status, Delivery::Sent));
        queue
    }

    pub(crate) fn disconnect(&mut self, id: u64) {
        self.conns.remove(&id);
        self.playing.remove(&id);
        self.account.followers.retain(|follower| follower.conn != id);
        self.instrument.retain(|sub| sub.conn != id);
        for routes in &mut self.routes {
            for subs in [&mut routes.ticker, &mut routes.trade, &mut routes.book, &mut routes.ohlc] {
                subs.retain(|sub| sub.conn != id);
            }
        }
    }

    /// Venue time, as the faults have it.
    pub(crate) fn now_ns(&mut self) -> i64 {
        self.active.clock(now_ns())
    }

    pub(crate) fn tell(&mut self, conn: u64, frame: Frame) {
        self.send(conn, Out::Frame(Arc::new(frame), Delivery::Sent));
    }

    pub(crate) fn send(&mut self, conn: u64, out: Out) {
        if let Some(conn) = self.conns.get(&conn) {
            conn.offer(out);
        }
    }

    pub(crate) fn heartbeat(&mut self) {
        let beat = Bytes::from(frames::heartbeat());
        let listening: Vec<u64> =
            self.conns.iter().filter(|(_, c)| c.subscribed && !c.playing).map(|(&id, _)| id).collect();
        listening.into_iter().for_each(|id| self.send(id, Out::Raw(beat.clone())));
    }

    /// Lets the market do something and tells it to who listens. Returns the number of messages that
    /// a listener to everything has from it.
    pub(crate) fn step(&mut self) -> u32 {
        let Some(pair) = self.market.choose() else { return 1 };
        let depths: Vec<(u32, Levels)> = DEPTHS
            .into_iter()
            .filter(|depth| self.routes[pair].book.iter().any(|sub| sub.argument == *depth))
            .map(|depth| (depth, self.levels(pair, depth)))
            .collect();
        let ts_ns = self.now_ns();
        let step = self.market.step(pair, ts_ns);
        if step.trades > 0 {
            self.publish_trades(step, ts_ns);
        }
        if step.trades > 0 {
            self.trade_for_account(pair, ts_ns);
        }
        for (depth, before) in &depths {
            self.publish_book(pair, *depth, before, ts_ns);
        }
        if step.ticker && !self.routes[pair].ticker.is_empty() {
            let frame = frames::ticker(&self.market.pairs[pair], "update", ts_ns);
            self.publish(pair, 0, frame, Delivery::Sent);
        }
        1 + u32::from(step.trades > 0) + u32::from(step.ticker)
    }

    pub(crate) fn levels(&self, pair: usize, depth: u32) -> Levels {
        let (book, depth) = (&self.market.pairs[pair].book, depth as usize);
        Levels { bids: book.top(Side::Bid, depth).to_vec(), asks: book.top(Side::Ask, depth).to_vec() }
    }

    fn publish_trades(&mut self, step: Step, ts_ns: i64) {
        let pair = &self.market.pairs[step.pair];
        let fresh: Vec<_> = pair.history.iter().skip(pair.history.len() - step.trades).copied().collect();
        if !self.routes[step.pair].trade.is_empty() {
            let symbol = Arc::clone(&pair.symbol);
            let (lost, kept): (Vec<_>, Vec<_>) = fresh.iter().partition(|_| self.active.drops_trade(&symbol));
            for (trades, delivery) in [(kept, Delivery::Sent), (lost, Delivery::Dropped)] {
                if !trades.is_empty() {
                    let pair = &self.market.pairs[step.pair];
                    let frame = frames::trades("update", trades.into_iter().map(|trade| (pair, trade)));
                    self.publish(step.pair, 0, frame, delivery);
                }
            }
        }
        for at in 0..self.market.pairs[step.pair].candles.len() {
            let pair = &self.market.pairs[step.pair];
            let kept = &pair.candles[at];
            let interval = kept.interval_min;
            if self.routes[step.pair].ohlc.iter().any(|sub| sub.argument == interval) {
                let frame = frames::ohlc("update", pair, interval, kept.candles.back(), ts_ns);
                self.publish(step.pair, interval, frame, Delivery::Sent);
            }
        }
    }

    fn publish_book(&mut self, at: usize, depth: u32, before: &Levels, ts_ns: i64) {
        let pair = &self.market.pairs[at];
        let mut levels = Levels::default();
        changes(&before.bids, &pair.book.bids, Side::Bid, depth as usize, &mut levels.bids);
        changes(&before.asks, &pair.book.asks, Side::Ask, depth as usize, &mut levels.asks);
        if levels.bids.is_empty() && levels.asks.is_empty() {
            return;
        }
        for side in [&mut levels.bids, &mut levels.asks] {
            tell_untidily(side, &mut self.telling);
        }
        let mut delivery = Delivery::Sent;
        // A wrong level shows in the checksum only among the ten best.
        let top = |level: &Level, side| pair.book.top(side, 10).iter().any(|best| best.ticks == level.ticks);
        let wrong =
            levels.bids.iter().rposition(|level| level.units > 0 && top(level, Side::Bid)).map(|n| (Side::Bid, n));
        let wrong = wrong.or_else(|| {
            levels.asks.iter().rposition(|level| level.units > 0 && top(level, Side::Ask)).map(|n| (Side::Ask, n))
        });
        if let Some((side, n)) = wrong
            && self.active.corrupts(&pair.symbol)
        {
            let side = if side == Side::Bid { &mut levels.bids } else { &mut levels.asks };
            side[n].units += 1;
            delivery = Delivery::Corrupted;
        }
        let frame = frames::book(pair, "update", &levels, pair.book.checksum(), ts_ns);
        self.publish(at, depth, frame, delivery);
    }

    /// Sends a frame to the subscriptions of its channel with that argument, by way of the faults.
    fn publish(&mut self, pair: usize, argument: u32, frame: Frame, delivery: Delivery) {
        let Hub { active, routes, conns, .. } = self;
        active.deliver(frame, delivery, &mut |frame, delivery| {
            let frame = Arc::new(frame);
            for sub in routes[pair].of(frame.channel).into_iter().flatten().filter(|sub| sub.argument == argument) {
                let delivery = if sub.silenced { Delivery::Silenced } else { delivery };
                if let Some(conn) = conns.get(&sub.conn) {
                    conn.offer(Out::Frame(Arc::clone(&frame), delivery));
                }
            }
        });
    }

    /// Makes something go wrong.
    pub(crate) fn inject(&mut self, fault: Fault) {
        tracing::info!(fault = ?fault, "fault injected");
        let healed = fault == Fault::Heal;
        let Some(fault) = self.active.add(fault, Instant::now()) else {
            if healed {
                self.send_all(|| Out::Heal);
            }
            return;
        };
        match fault {
            Fault::Cut { mid_frame } => self.send_all(|| Out::Cut { mid_frame }),
            Fault::Close { code, reason } => {
                let close = Bytes::from(crate::ws::close_frame(code, &reason));
                self.send_all(|| Out::Close(close.clone()));
            }
            Fault::HalfOpen { lasts } => self.send_all(|| Out::HalfOpen { lasts }),
            Fault::SlowDrip { lasts } => self.send_all(|| Out::SlowDrip { lasts }),
            Fault::Burst { messages } => {
                let mut sent = 0;
                while sent < messages {
                    sent += self.step();
                }
            }
            Fault::Oversized { mib } => {
                let frame = super::garbage::oversized(mib);
                self.send_all(|| Out::Raw(frame.clone()));
            }
            Fault::Garbage(kind) => {
                let frame = super::garbage::frame(kind);
                self.send_all(|| Out::Raw(frame.clone()));
            }
            Fault::System(system) => {
                let status = Arc::new(frames::status(&system, (1 << 63) + 1));
                self.active.system = system;
                self.send_all(|| Out::Frame(Arc::clone(&status), Delivery::Sent));
            }
            Fault::List(symbol) => {
                let now_ns = self.now_ns();
                let at = self.market.list(symbol, now_ns);
                self.routes.resize_with(self.market.pairs.len(), Routes::default);
                self.tell_listing(at);
            }
            Fault::Delist(symbol) => {
                if let Some(at) = self.market.find(&symbol) {
                    self.market.pairs[at].delisted = true;
                    self.tell_listing(at);
                }
            }
            Fault::TokensExpire => self.account.expire_tokens(),
            _ => {}
        }
    }

    fn tell_listing(&mut self, at: usize) {
        let frame = Arc::new(frames::instruments(&[&self.market.pairs[at]], "update", &self.active.system));
        for Sub { conn, silenced, .. } in self.instrument.clone() {
            let delivery = if silenced { Delivery::Silenced } else { Delivery::Sent };
            self.send(conn, Out::Frame(Arc::clone(&frame), delivery));
        }
    }

    fn send_all(&mut self, out: impl Fn() -> Out) {
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        ids.into_iter().for_each(|id| self.send(id, out()));
    }
}

/// The venue's habits: levels in no order, and now and then a price twice, of which the later entry counts.
fn tell_untidily(levels: &mut Vec<Level>, dice: &mut Rng) {
    if levels.len() > 1 && dice.chance(30) {
        let by = dice.index(levels.len());
        levels.rotate_left(by);
    }
    if !levels.is_empty() && dice.chance(1) {
        let at = dice.index(levels.len());
        let passing = Level { units: dice.between(0, 999_999), ..levels[at] };
        levels.insert(at, passing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_behind_a_message_that_found_the_queue_full() {
        let (out, mut queue) = mpsc::channel(2);
        let end = CancellationToken::new();
        let conn = Conn { out, end: end.clone(), subscribed: true, playing: false, requests: (Instant::now(), 0) };
        let raw = |n: u8| Out::Raw(Bytes::copy_from_slice(&[n]));
        (1..=3).for_each(|n| conn.offer(raw(n)));
        assert!(end.is_cancelled(), "a client that is too far behind is cut off");
        let mut heard = Vec::new();
        for n in 4..=6 {
            heard.extend(queue.try_recv());
            conn.offer(raw(n));
        }
        let heard: Vec<u8> = heard.iter().map(|out| if let Out::Raw(bytes) = out { bytes[0] } else { 0 }).collect();
        assert_eq!(heard, [1, 2]);
    }
}
