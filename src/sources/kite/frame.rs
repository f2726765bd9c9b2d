//! A binary frame of the ticker becomes events: no I/O, no clock, total on any bytes.
//!
//! ```text
//! u16 number of packets, then each: u16 length, packet          a frame of one byte is a heartbeat
//!
//! bytes         8 ltp         44 quote                     184 full          28 / 32 index, quote / full
//!   0   token   last price                                                   the same
//!   8           last size, average price, volume,                            high, low, open, close, change
//!               buy size, sell size                                          28: exchange time
//!  28           open, high, low, close
//!  44                                    last trade time, oi, its high, its low, exchange time
//!  64                                    5 bids, 5 asks: size, price, u16 orders, 2 bytes of nothing
//! ```
//!
//! All integers are big endian and without sign, but for an index' change. A length that is none of these is stepped over by
//! the length before it. A frame that promises more than it holds is read as far as it goes.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use tapedeck_market::{
    Body, BookUpdate, Decimal, Event, Flags, Level, Quote, Size, SmolStr, Stats, Ticker, UnixNanos, is_absurd,
};

use super::segment::{Divisors, price};
use crate::sources::parsed::reason;
pub use crate::sources::parsed::{Ctx, ParseError};

/// Levels a side of a full packet.
const LEVELS: usize = 5;
/// Bytes of a level.
const LEVEL_BYTES: usize = 12;
/// Where the levels of a full packet begin.
const LEVELS_AT: usize = 64;

/// What is odd about packets that were understood, or stepped over.
pub mod odd {
    pub const LENGTH: &str = "unknown packet length";
    pub const SEGMENT: &str = "unknown segment";
    pub const BEHIND: &str = "bytes behind the last packet";
    pub const NO_TIME: &str = "time zero";
    pub const ABSURD_TIME: &str = "time absurd";
    pub const ABSURD_TRADE_TIME: &str = "last trade time absurd";
    pub const NEVER_TRADED: &str = "last trade time zero";
}

/// What of a packet is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub ticker: bool,
    pub quote: bool,
    pub book: bool,
}

/// How packets are read: names of tokens, digits of prices, what is wanted.
#[derive(Clone, Debug)]
pub struct Reader {
    pub ctx: Ctx,
    pub divisors: Divisors,
    pub wanted: Wanted,
    /// Symbols by token; a token without one is written in digits.
    pub symbols: HashMap<u32, SmolStr, BuildHasherDefault<TokenHasher>>,
}

/// Tokens are spread by a multiplication: they come from the venue's own list.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenHasher(u64);

impl std::hash::Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, token: u32) {
        self.0 = (self.0 ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// A frame, understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub events: Vec<Event>,
    /// The token of each packet, with how many of the events are its.
    pub packets: Vec<(u32, u8)>,
    /// What is odd, once for each packet that has it.
    pub odd: Vec<&'static str>,
    /// Lengths that this version does not know.
    pub unknown_lengths: Vec<u16>,
    /// The frame promises more than it holds.
    pub broken: Option<ParseError>,
}

impl Reader {
    /// Reads a frame. A heartbeat has no packets.
    ///
    /// # Errors
    /// The frame has no beginning; what it holds is then not known at all.
    pub fn read(&self, bytes: &[u8], ts_recv: UnixNanos) -> Result<Frame, ParseError> {
        let mut frame = Frame::default();
        let Some((count, mut rest)) = split_u16(bytes) else {
            // One byte is a heartbeat.
            let heartbeat = bytes.len() == 1;
            return if heartbeat { Ok(frame) } else { Err(ParseError::new(reason::SHAPE, "a frame of no bytes")) };
        };
        // As many as there can be: the count comes from outside.
        let likely = usize::from(count).min(rest.len() / 10);
        frame.packets.reserve(likely);
        frame.events.reserve(likely * 3);
        for number in 0..count {
            let packet = split_u16(rest).and_then(|(len, rest)| rest.split_at_checked(usize::from(len)));
            let Some((packet, behind)) = packet else {
                let left = rest.len();
                let said = format!("{count} packets are promised, {number} are whole, {left} bytes are left");
                frame.broken = Some(ParseError::new("frame cut short", said));
                return Ok(frame);
            };
            rest = behind;
            self.packet(packet, ts_recv, &mut frame);
        }
        if !rest.is_empty() {
            frame.odd.push(odd::BEHIND);
        }
        Ok(frame)
    }

    fn packet(&self, packet: &[u8], ts_recv: UnixNanos, frame: &mut Frame) {
        if !matches!(packet.len(), 8 | 28 | 32 | 44 | 184) {
            frame.odd.push(odd::LENGTH);
            frame.unknown_lengths.push(packet.len() as u16);
            return;
        }
        let (token, before) = (u32_at(packet, 0), frame.events.len());
        let symbol = self.symbols.get(&token).cloned().unwrap_or_else(|| SmolStr::new(token.to_string()));
        let (scale, known) = self.divisors.scale(token);
        let ts_event = match packet.len() {
            32 => Some(u32_at(packet, 28)),
            184 => Some(u32_at(packet, 60)),
            _ => None,
        };
        let ts_event = ts_event.map(seconds);
        match ts_event {
            Some(UnixNanos(0)) => frame.odd.push(odd::NO_TIME),
            Some(time) if is_absurd(time, ts_recv) => frame.odd.push(odd::ABSURD_TIME),
            _ => {}
        }
        let event = |body| self.ctx.event(symbol.clone(), ts_event, ts_recv, Flags::NONE, body);
        if self.wanted.ticker {
            let mut ticker = ticker(packet, scale);
            if packet.len() == 184 {
                match seconds(u32_at(packet, 44)) {
                    UnixNanos(0) => frame.odd.push(odd::NEVER_TRADED),
                    time if is_absurd(time, ts_recv) => frame.odd.push(odd::ABSURD_TRADE_TIME),
                    time => ticker.last_trade_time = Some(time),
                }
            }
            if !known {
                // Its prices are read with the usual divisor, which may be the wrong one: the record says so.
                ticker.refused.push(("segment".into(), SmolStr::new((token & 0xff).to_string())));
            }
            frame.events.push(event(Body::Ticker(Box::new(ticker))));
        }
        if !known {
            frame.odd.push(odd::SEGMENT);
        }
        if let Some(levels) = packet.get(LEVELS_AT..).filter(|_| packet.len() == 184) {
            if self.wanted.quote {
                frame.events.push(event(Body::Quote(best(levels, scale))));
            }
            if self.wanted.book {
                frame.events.push(event(Body::Book(book(levels, scale))));
            }
        }
        frame.packets.push((token, (frame.events.len() - before) as u8));
    }
}

/// The statistics of a packet whose length is known.
fn ticker(packet: &[u8], scale: u8) -> Ticker {
    let price_at = |at: usize| price(i64::from(u32_at(packet, at)), scale);
    let size_at = |at: usize| size(u32_at(packet, at));
    let mut ticker = Ticker { last: price_at(4), ..Ticker::default() };
    match packet.len() {
        28 | 32 => {
            ticker.today = Stats { high: price_at(8), low: price_at(12), open: price_at(16), ..Stats::default() };
            ticker.prev_close = price_at(20);
            ticker.change = Decimal::new(i64::from(u32_at(packet, 24).cast_signed()), scale);
        }
        44 | 184 => {
            ticker.last_size = size_at(8);
            ticker.avg_price = price_at(12);
            ticker.buy_size = size_at(20);
            ticker.sell_size = size_at(24);
            ticker.today = Stats {
                open: price_at(28),
                high: price_at(32),
                low: price_at(36),
                volume: size_at(16),
                ..Stats::default()
            };
            ticker.prev_close = price_at(40);
        }
        _ => {}
    }
    if packet.len() == 184 {
        (ticker.oi, ticker.oi_high, ticker.oi_low) = (size_at(48), size_at(52), size_at(56));
    }
    ticker
}

/// Best bid and ask: the first level of each side.
fn best(levels: &[u8], scale: u8) -> Quote {
    let (bid, ask) = (level(levels, 0, scale), level(levels, LEVELS, scale));
    Quote {
        bid: bid.map(|level| level.price),
        bid_size: bid.map(|level| level.size),
        ask: ask.map(|level| level.price),
        ask_size: ask.map(|level| level.size),
    }
}

fn book(levels: &[u8], scale: u8) -> BookUpdate {
    let side = |from: usize| (from..from + LEVELS).filter_map(|at| level(levels, at, scale)).collect();
    BookUpdate { snapshot: true, bids: side(0), asks: side(LEVELS), checksum: None, depth: Some(LEVELS as u32) }
}

/// A level; `None` where the side has no so many.
fn level(levels: &[u8], number: usize, scale: u8) -> Option<Level> {
    let level = &levels[number * LEVEL_BYTES..][..LEVEL_BYTES];
    let (units, orders) = (u32_at(level, 0), u16::from_be_bytes([level[8], level[9]]));
    let price = price(i64::from(u32_at(level, 4)), scale)?;
    (units != 0).then_some(Level { price, size: size(units)?, orders: Some(u32::from(orders)) })
}

fn size(units: u32) -> Option<Size> {
    Decimal::new(i64::from(units), 0).map(Size)
}

fn seconds(since_1970: u32) -> UnixNanos {
    UnixNanos::from_secs(i64::from(since_1970))
}

/// The number at a place that the packet's length has made sure of.
#[inline]
fn u32_at(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}
