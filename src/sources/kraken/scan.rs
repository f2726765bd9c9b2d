//! The three busy channels, read in the one key order that the venue uses.
//!
//! A general JSON reader asks of every key what it might be; this one knows, and compares. On
//! the first byte that is not as expected it gives up, and [`parse_any_order`](super::parse::parse_any_order)
//! reads the frame from the start: this file is an optimisation that may be deleted.

use tapedeck_market::{
    Body, BookUpdate, Decimal, Event, Flags, Level, Price, Side, Size, SmolStr, Ticker, Trade, UnixNanos,
};

use super::message::{Ctx, Message};
use super::parse::TRADE_ID_BYTES;

/// Reads a trade, ticker, book or heartbeat frame in the venue's usual form. `None`: look closer.
pub(super) fn scan(frame: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Option<Message> {
    let mut text = Cursor { rest: frame };
    text.lit(b"{\"channel\":\"")?;
    match text.rest.first()? {
        b't' if text.rest.starts_with(b"trade\"") => {
            text.lit(b"trade\"")?;
            let flags = kind(&mut text)?;
            each(text, 1, |text| trade(text, flags, ts_recv, ctx))
        }
        b't' => {
            text.lit(b"ticker\"")?;
            let flags = kind(&mut text)?;
            each(text, 1, |text| ticker(text, flags, ts_recv, ctx))
        }
        b'b' => {
            text.lit(b"book\"")?;
            let flags = kind(&mut text)?;
            each(text, 1, |text| book(text, flags, ts_recv, ctx))
        }
        b'h' => (text.rest == b"heartbeat\"}").then_some(Message::Heartbeat),
        _ => None,
    }
}

fn kind(text: &mut Cursor<'_>) -> Option<Flags> {
    if text.lit(b",\"type\":\"update\",\"data\":[").is_some() {
        Some(Flags::NONE)
    } else {
        text.lit(b",\"type\":\"snapshot\",\"data\":[").map(|()| Flags::SNAPSHOT)
    }
}

fn each<'a>(mut text: Cursor<'a>, usual: usize, item: impl Fn(&mut Cursor<'a>) -> Option<Event>) -> Option<Message> {
    let mut events = Vec::with_capacity(usual);
    loop {
        events.push(item(&mut text)?);
        if text.lit(b",").is_none() {
            text.lit(b"]}")?;
            return text.rest.is_empty().then_some(Message::Events(events));
        }
    }
}

fn trade(text: &mut Cursor<'_>, flags: Flags, ts_recv: UnixNanos, ctx: &Ctx) -> Option<Event> {
    text.lit(b"{\"symbol\":\"")?;
    let symbol = text.string()?;
    text.lit(b",\"side\":\"")?;
    let side = match text.string()? {
        "buy" => Some(Side::Buy),
        "sell" => Some(Side::Sell),
        _ => None,
    };
    text.lit(b",\"price\":")?;
    let price = Price(text.number()?);
    text.lit(b",\"qty\":")?;
    let size = Size(text.number()?);
    text.lit(b",\"ord_type\":\"")?;
    text.string()?;
    text.lit(b",\"trade_id\":")?;
    // A longer one is the other parser's to refuse.
    let id = text.digits().filter(|id| id.len() <= TRADE_ID_BYTES).map(SmolStr::new)?;
    text.lit(b",\"timestamp\":\"")?;
    let ts_event = UnixNanos::parse_rfc3339(text.string()?.as_bytes());
    text.lit(b"}")?;
    let body = Body::Trade(Trade { price, size, side, id: Some(id) });
    Some(ctx.event(SmolStr::new(symbol), ts_event, ts_recv, flags, body))
}

fn ticker(text: &mut Cursor<'_>, flags: Flags, ts_recv: UnixNanos, ctx: &Ctx) -> Option<Event> {
    text.lit(b"{\"symbol\":\"")?;
    let symbol = text.string()?;
    let mut ticker = Box::<Ticker>::default();
    ticker.bid = Some(Price(text.named(b",\"bid\":")?));
    ticker.bid_size = Some(Size(text.named(b",\"bid_qty\":")?));
    ticker.ask = Some(Price(text.named(b",\"ask\":")?));
    ticker.ask_size = Some(Size(text.named(b",\"ask_qty\":")?));
    ticker.last = Some(Price(text.named(b",\"last\":")?));
    ticker.day.volume = Some(Size(text.named(b",\"volume\":")?));
    ticker.day.vwap = Some(Price(text.named(b",\"vwap\":")?));
    ticker.day.low = Some(Price(text.named(b",\"low\":")?));
    ticker.day.high = Some(Price(text.named(b",\"high\":")?));
    ticker.change = Some(text.named(b",\"change\":")?);
    ticker.change_pct = Some(text.named(b",\"change_pct\":")?);
    let ts_event = text.timestamp()?;
    text.lit(b"}")?;
    Some(ctx.event(SmolStr::new(symbol), ts_event, ts_recv, flags, Body::Ticker(ticker)))
}

fn book(text: &mut Cursor<'_>, flags: Flags, ts_recv: UnixNanos, ctx: &Ctx) -> Option<Event> {
    text.lit(b"{\"symbol\":\"")?;
    let symbol = text.string()?;
    text.lit(b",\"bids\":[")?;
    let bids = levels(text)?;
    text.lit(b",\"asks\":[")?;
    let asks = levels(text)?;
    text.lit(b",\"checksum\":")?;
    let checksum = text.digits()?.parse().ok()?;
    let ts_event = text.timestamp()?;
    text.lit(b"}")?;
    let snapshot = flags.contains(Flags::SNAPSHOT);
    let body = Body::Book(BookUpdate { snapshot, bids, asks, checksum: Some(checksum), depth: None });
    Some(ctx.event(SmolStr::new(symbol), ts_event, ts_recv, flags, body))
}

/// `{"price":…,"qty":…},…]`
fn levels(text: &mut Cursor<'_>) -> Option<Vec<Level>> {
    let mut levels = Vec::new();
    if text.lit(b"]").is_some() {
        return Some(levels);
    }
    loop {
        text.lit(b"{\"price\":")?;
        let price = Price(text.number()?);
        text.lit(b",\"qty\":")?;
        let size = Size(text.number()?);
        text.lit(b"}")?;
        levels.push(Level { price, size, orders: None });
        if text.lit(b",").is_none() {
            return text.lit(b"]").map(|()| levels);
        }
    }
}

/// What is still to be read. Every step that does not find what it expects returns `None`.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn lit<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        // An array comparison of a known length is a few wide loads, not a call to memcmp.
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        (head == text).then(|| self.rest = rest)
    }

    /// Up to the closing quote. Escapes and anything but printable ASCII are for the general parser.
    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|&b| b == b'"' || b == b'\\' || !(0x20..0x7f).contains(&b))?;
        if self.rest[end] != b'"' {
            return None;
        }
        let text = std::str::from_utf8(&self.rest[..end]).ok()?;
        self.rest = &self.rest[end + 1..];
        Some(text)
    }

    #[inline(always)]
    fn named<const N: usize>(&mut self, key: &[u8; N]) -> Option<Decimal> {
        self.lit(key)?;
        self.number()
    }

    /// `,"timestamp":"…"` where the venue sends it.
    #[inline]
    fn timestamp(&mut self) -> Option<Option<UnixNanos>> {
        if self.lit(b",\"timestamp\":\"").is_none() {
            return Some(None);
        }
        Some(UnixNanos::parse_rfc3339(self.string()?.as_bytes()))
    }

    /// A plain number of at most 18 digits, read and converted in one pass.
    #[inline]
    fn number(&mut self) -> Option<Decimal> {
        let (negative, text) = match self.rest {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mut mantissa = 0_u64;
        let whole = digits(text, 0, &mut mantissa)?;
        if whole == 0 || (whole > 1 && text[0] == b'0') {
            return None;
        }
        let (scale, end) = if text[whole] == b'.' {
            let end = digits(text, whole + 1, &mut mantissa)?;
            (end - whole - 1, end)
        } else {
            (0, whole)
        };
        // 18 digits, so that the sum above cannot have wrapped; what follows must end the number.
        let fits = whole + scale <= 18 && (scale > 0 || end == whole);
        if !fits || !matches!(text[end], b',' | b'}' | b']') {
            return None;
        }
        self.rest = &text[end..];
        let mantissa = mantissa as i64;
        Decimal::new(if negative { -mantissa } else { mantissa }, scale as u8)
    }

    /// A whole number without sign or leading zero, as its digits.
    #[inline]
    fn digits(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|b| !b.is_ascii_digit())?;
        if end == 0 || (end > 1 && self.rest[0] == b'0') || !matches!(self.rest[end], b',' | b'}' | b']') {
            return None;
        }
        let text = std::str::from_utf8(&self.rest[..end]).ok()?;
        self.rest = &self.rest[end..];
        Some(text)
    }
}

/// Adds the digits from `at` on to `mantissa` (wrapping: the caller counts them) and returns where they
/// end; `None` at the end of the text.
#[inline]
fn digits(text: &[u8], mut at: usize, mantissa: &mut u64) -> Option<usize> {
    loop {
        let value = text.get(at)?.wrapping_sub(b'0');
        if value > 9 {
            return Some(at);
        }
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(value));
        at += 1;
    }
}
