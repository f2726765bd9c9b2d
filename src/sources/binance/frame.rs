//! What Binance sends, in our words, and its rule for books. Pure, and total on any bytes.
//!
//! ```text
//! {"stream":"btcusdt@trade","data":{"s":"BTCUSDT","t":12345,"p":"0.001","q":"100","T":1672515782136,"m":true,…}}
//! {"stream":"btcusdt@bookTicker","data":{"u":400900217,"s":"BTCUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}}
//! {"stream":"btcusdt@depth@100ms","data":{"E":1672515782136,"s":"BTCUSDT","U":157,"u":160,"b":[["0.0024","10"]],"a":[]}}
//! {"result":null,"id":1}                                                              the answer to a request for streams
//! {"lastUpdateId":1027024,"bids":[["4.0","431.0"]],"asks":[["4.2","12.0"]]}          a book, by request
//! ```

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tapedeck_market::{
    Body, BookUpdate, Decimal, Event, Flags, Level, Price, Quote, Side, Size, SmolStr, Trade, UnixNanos,
};

use crate::sources::parsed::reason;
pub use crate::sources::parsed::{Ctx, ParseError};

/// Levels a side that are asked for.
pub const LEVELS: u32 = 1_000;
/// Changes that wait for their snapshot, at most: more than a minute of them.
const HELD: usize = 1_000;

#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// With its number.
    Trade(u64, Event),
    Quote(Event),
    Depth(Update),
    /// To a request.
    Answer,
    /// Of a stream that was not asked for.
    Unknown,
}

/// Changes of a book, with the numbers of the first and the last of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub first: u64,
    pub last: u64,
    pub event: Event,
}

#[derive(Deserialize)]
struct Frame<'a> {
    stream: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct TradeData<'a> {
    s: &'a str,
    t: u64,
    p: &'a str,
    q: &'a str,
    #[serde(rename = "T")]
    time: i64,
    /// Whether the buyer was there first: then the seller took the price.
    m: bool,
}

#[derive(Deserialize)]
struct QuoteData<'a> {
    s: &'a str,
    b: &'a str,
    #[serde(rename = "B")]
    bid_size: &'a str,
    a: &'a str,
    #[serde(rename = "A")]
    ask_size: &'a str,
}

#[derive(Deserialize)]
struct DepthData<'a> {
    s: &'a str,
    #[serde(rename = "E")]
    time: i64,
    #[serde(rename = "U")]
    first: u64,
    u: u64,
    #[serde(borrow)]
    b: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    a: Vec<(&'a str, &'a str)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookAnswer<'a> {
    last_update_id: u64,
    #[serde(borrow)]
    bids: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    asks: Vec<(&'a str, &'a str)>,
}

/// # Errors
/// The frame is none of the venue's, or holds a number that does not fit.
pub fn parse(frame: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    let frame: Frame<'_> = serde_json::from_slice(frame).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    let (stream, data) = match (frame.stream, frame.data, frame.id) {
        (Some(stream), Some(data), _) => (stream, data),
        (None, None, Some(_)) => return Ok(Message::Answer),
        _ => return Err(ParseError::new(reason::NOT_JSON, "neither of a stream nor an answer")),
    };
    let event = |name: &str, ms: Option<i64>, body| {
        let time = ms.map(|ms| UnixNanos(ms.saturating_mul(1_000_000)));
        ctx.event(SmolStr::new(name), time, ts_recv, Flags::NONE, body)
    };
    Ok(match stream.split_once('@').map(|(_, kind)| kind) {
        Some("trade") => {
            let it: TradeData<'_> = read(data.get())?;
            let side = Some(if it.m { Side::Sell } else { Side::Buy });
            let (price, size, id) = (Price(number(it.p)?), Size(number(it.q)?), Some(SmolStr::from(it.t.to_string())));
            Message::Trade(it.t, event(it.s, Some(it.time), Body::Trade(Trade { price, size, side, id })))
        }
        Some("bookTicker") => {
            let it: QuoteData<'_> = read(data.get())?;
            let (bid, bid_size) = (Some(Price(number(it.b)?)), Some(Size(number(it.bid_size)?)));
            let (ask, ask_size) = (Some(Price(number(it.a)?)), Some(Size(number(it.ask_size)?)));
            // The venue tells no time of these.
            Message::Quote(event(it.s, None, Body::Quote(Quote { bid, bid_size, ask, ask_size })))
        }
        Some("depth@100ms") => {
            let it: DepthData<'_> = read(data.get())?;
            let event = event(it.s, Some(it.time), book(false, &it.b, &it.a)?);
            Message::Depth(Update { first: it.first, last: it.u, event })
        }
        _ => Message::Unknown,
    })
}

/// A whole book, as the answer of a request has it.
///
/// # Errors
/// As [`parse`].
pub fn parse_book(symbol: &SmolStr, body: &str, ts_recv: UnixNanos, ctx: &Ctx) -> Result<Update, ParseError> {
    let it: BookAnswer<'_> = read(body)?;
    let event = ctx.event(symbol.clone(), None, ts_recv, Flags::SNAPSHOT, book(true, &it.bids, &it.asks)?);
    Ok(Update { first: 0, last: it.last_update_id, event })
}

/// The venue's clock: `{"serverTime":1499827319559}`.
///
/// # Errors
/// As [`parse`].
pub fn parse_time(body: &str) -> Result<UnixNanos, ParseError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        server_time: i64,
    }
    read::<Answer>(body).map(|it| UnixNanos(it.server_time.saturating_mul(1_000_000)))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ParseError> {
    serde_json::from_str(text).map_err(|error| ParseError::new(reason::SHAPE, error))
}

fn book(snapshot: bool, bids: &[(&str, &str)], asks: &[(&str, &str)]) -> Result<Body, ParseError> {
    let level = |(price, size): &(&str, &str)| {
        Ok(Level { price: Price(number(price)?), size: Size(number(size)?), orders: None })
    };
    let side = |levels: &[(&str, &str)]| levels.iter().map(level).collect::<Result<Vec<Level>, ParseError>>();
    Ok(Body::Book(BookUpdate { snapshot, bids: side(bids)?, asks: side(asks)?, checksum: None, depth: Some(LEVELS) }))
}

fn number(text: &str) -> Result<Decimal, ParseError> {
    Decimal::parse(text.as_bytes()).map_err(|error| ParseError::new(reason::NUMBER, error))
}

/// Where a book stands in the venue's numbering: a snapshot of number n, then the update that holds n + 1, then each the
/// one behind the one before.
#[derive(Debug, Default)]
pub struct Depth {
    /// Number of the newest change, once there is a snapshot; whether it is the snapshot's own; when the book was whole.
    at: Option<(u64, bool, UnixNanos)>,
    held: Vec<Update>,
}

impl Depth {
    /// Takes an update: what to say of it, nothing while there is no snapshot.
    ///
    /// # Errors
    /// Updates before it never came: the book is no longer one, and was whole until then.
    pub fn take(&mut self, update: Update) -> Result<Option<Event>, UnixNanos> {
        let Some((last, fresh, whole_at)) = self.at else {
            // Of too many the oldest goes: a snapshot that is older than the rest is asked for again.
            if self.held.len() >= HELD {
                self.held.remove(0);
            }
            self.held.push(update);
            return Ok(None);
        };
        let next = last.saturating_add(1);
        if fresh && update.last < next {
            // The snapshot has it already.
            return Ok(None);
        }
        if update.first == next || (fresh && update.first < next) {
            self.at = Some((update.last, false, update.event.ts_recv));
            return Ok(Some(update.event));
        }
        (self.at, self.held) = (None, vec![update]);
        Err(whole_at)
    }

    /// Takes a snapshot: it, and what was held and comes behind it. `None`: another one is needed, a newer one.
    pub fn begin(&mut self, snapshot: Update) -> Option<Vec<Event>> {
        let mut events = vec![snapshot.event];
        let (whole_at, held) = (events[0].ts_recv, std::mem::take(&mut self.held));
        self.at = Some((snapshot.last, true, whole_at));
        for update in held {
            // After a hole there is no snapshot again: the rest is held for the next one.
            if let Ok(Some(event)) = self.take(update) {
                events.push(event);
            }
        }
        self.at.map(|_| events)
    }
}
