//! Flat out: frames rendered once and sent again and again, as fast as the socket takes them.
//!
//! ```text
//!  lap = update … update, return     (return: one book message a pair that leads back to the start)
//! ```
//!
//! A lap ends with the books as it found them, so that its checksums hold in every round. Only
//! the timestamps and the trade ids change: they are overwritten in place, which is why ids begin
//! at [`FIRST_ID`], where adding to them makes no digit more.

use std::collections::HashMap;
use std::ops::Range;

use super::book::{Side, changes};
use super::frames::{self, Frame, Key, Levels};
use super::hub::{Hub, Sub};
use super::text::{TIME_LEN, now_ns, push_int, push_time};

/// Trade ids of a market that runs flat out: room for a month at ten million a second.
pub(crate) const FIRST_ID: u64 = 1_000_000_000_000;
/// Steps of the market in a lap: about 2 MB, a few milliseconds of a fast socket.
const STEPS: u32 = 4_096;

/// Prepared frames.
#[derive(Debug)]
pub(crate) struct Lap {
    bytes: Vec<u8>,
    /// Where timestamps stand, in order.
    times: Vec<usize>,
    /// Where trade ids stand, with the index of their pair.
    ids: Vec<(Range<usize>, usize)>,
    /// Trades in a lap, by pair.
    trades: HashMap<usize, u64>,
    pub(crate) messages: u64,
    /// The next timestamp to overwrite.
    next_time: usize,
}

impl Hub {
    /// Prepares a lap of what a connection is subscribed to.
    pub(crate) fn lap(&mut self, conn: u64) -> Option<Lap> {
        let heard = |subs: &[Sub]| subs.iter().find(|sub| sub.conn == conn && !sub.silenced).map(|sub| sub.argument);
        let wanted: Vec<_> = self
            .routes
            .iter()
            .map(|routes| (heard(&routes.trade).is_some(), heard(&routes.ticker).is_some(), heard(&routes.book)))
            .collect();
        let listened: Vec<usize> =
            (0..wanted.len()).filter(|&at| wanted[at].0 || wanted[at].1 || wanted[at].2.is_some()).collect();
        if listened.is_empty() {
            return None;
        }
        let mut lap = Lap {
            bytes: Vec::new(),
            times: Vec::new(),
            ids: Vec::new(),
            trades: HashMap::new(),
            messages: 0,
            next_time: 0,
        };
        // The steps are undone at the end: what other connections see stays as it is.
        let begin: HashMap<usize, _> = listened.iter().map(|&at| (at, self.market.pairs[at].clone())).collect();
        let ts_ns = now_ns();
        let mut touched: Vec<usize> = Vec::new();
        for n in 0..STEPS {
            let at = if n % 2 == 0 { self.market.choose().filter(|at| begin.contains_key(at)) } else { None };
            let at = at.unwrap_or(listened[n as usize % listened.len()]);
            let (trade, ticker, book) = wanted[at];
            let before = book.map(|depth| (depth, self.levels(at, depth)));
            let step = self.market.step(at, ts_ns);
            let pair = &self.market.pairs[at];
            if step.trades > 0 && trade {
                let fresh = pair.history.iter().skip(pair.history.len() - step.trades);
                let frame = frames::trades("update", fresh.map(|trade| (pair, trade)));
                *lap.trades.entry(at).or_default() += step.trades as u64;
                lap.push(&frame, at);
            }
            if let Some((depth, before)) = &before {
                touched.push(at);
                lap.push_book(pair, at, *depth, before, ts_ns);
            }
            // Nobody subscribes to tickers alone to hear little: every step has one.
            if ticker {
                lap.push(&frames::ticker(pair, "update", ts_ns), at);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for at in touched {
            let depth = wanted[at].2.unwrap_or(10);
            let end = self.levels(at, depth);
            lap.push_book(&begin[&at], at, depth, &end, ts_ns);
        }
        for (at, pair) in begin {
            self.market.pairs[at] = pair;
        }
        Some(lap)
    }

    /// Moves the ids of the market past those of the laps that were run.
    pub(crate) fn lapped(&mut self, lap: &Lap, laps: u64) {
        for (&at, trades) in &lap.trades {
            self.market.pairs[at].next_trade_id += trades * laps;
        }
    }
}

impl Lap {
    fn push_book(&mut self, pair: &super::market::Pair, at: usize, depth: u32, before: &Levels, ts_ns: i64) {
        let mut levels = Levels::default();
        changes(&before.bids, &pair.book.bids, Side::Bid, depth as usize, &mut levels.bids);
        changes(&before.asks, &pair.book.asks, Side::Ask, depth as usize, &mut levels.asks);
        if !levels.bids.is_empty() || !levels.asks.is_empty() {
            self.push(&frames::book(pair, "update", &levels, pair.book.checksum(), ts_ns), at);
        }
    }

    fn push(&mut self, frame: &Frame, pair: usize) {
        let payload_at = self.bytes.len() + frame.wire.len() - frame.payload().len();
        self.bytes.extend_from_slice(&frame.wire);
        self.messages += 1;
        for item in &frame.items {
            let text = &frame.payload()[item.at.clone()];
            let item_at = payload_at + item.at.start;
            // `…"timestamp":"2026-…Z"}`: it ends each item.
            self.times.push(item_at + text.len() - 2 - TIME_LEN);
            if let Key::Trade(id) = item.key {
                let mut digits = Vec::new();
                push_int(&mut digits, id);
                let place = text.windows(digits.len()).position(|window| window == digits);
                self.ids.extend(place.map(|at| (item_at + at..item_at + at + digits.len(), pair)));
            }
        }
    }

    /// The bytes of a range, with the time they are sent at.
    pub(crate) fn stamped(&mut self, range: Range<usize>) -> &[u8] {
        if range.start == 0 {
            self.next_time = 0;
        }
        let mut now = Vec::with_capacity(TIME_LEN);
        push_time(&mut now, now_ns());
        while let Some(&at) = self.times.get(self.next_time).filter(|&&at| at < range.end) {
            self.bytes[at..at + TIME_LEN].copy_from_slice(&now);
            self.next_time += 1;
        }
        &self.bytes[range]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes the ids those of the next round.
    pub(crate) fn advance(&mut self) {
        for (place, pair) in &self.ids {
            let mut carry = self.trades.get(pair).copied().unwrap_or(0);
            for digit in self.bytes[place.clone()].iter_mut().rev() {
                if carry == 0 {
                    break;
                }
                let sum = u64::from(*digit - b'0') + carry % 10;
                // A remainder of ten is one digit.
                *digit = b'0' + u8::try_from(sum % 10).unwrap_or(0);
                carry = carry / 10 + sum / 10;
            }
        }
    }
}
