//! A line of OANDA's streams, in our words. Pure, and total on any bytes.
//!
//! ```text
//! {"type":"PRICE","time":"2017-09-24T22:20:39.888097022Z","bids":[{"price":"1.19195","liquidity":10000000},…],
//!  "asks":[…],"closeoutBid":"1.19180","closeoutAsk":"1.19233","status":"tradeable","tradeable":true,"instrument":"EUR_USD"}
//! {"type":"HEARTBEAT","time":"…"}                              of prices
//! {"type":"HEARTBEAT","lastTransactionID":"2311","time":"…"}   of transactions
//! {"id":"2304","type":"LIMIT_ORDER","accountID":"…","instrument":"EUR_USD","units":"-100","price":"1.20000",…}
//! ```
//!
//! Times are RFC 3339 with up to nine decimals, or decimal seconds, as text or as a bare number. The best bid is the
//! highest one wherever it stands, the best ask the lowest.

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Body, BookUpdate, Decimal, Event, Flags, Level, Price, Quote, Size, SmolStr, UnixNanos};

use super::{order, scan};
pub use crate::sources::parsed::{Ctx, ParseError};
use crate::sources::parsed::{Fields, plain, reason, whole};

/// Longest name of an instrument: the venue's longest has 12 characters.
const SYMBOL_BYTES: usize = 64;
/// Unknown fields of a line that are named; one is enough to keep the line as it came.
const UNKNOWN_FIELDS: usize = 16;

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly every line is a price, and a box an allocation more")]
pub enum Message {
    Price(Line),
    Heartbeat {
        time: Option<UnixNanos>,
        /// The account's newest transaction, on the stream of transactions.
        last_transaction: Option<u64>,
    },
    /// Something that happened in the account.
    Transaction {
        id: u64,
        event: Box<Event>,
        odd_time: Option<&'static str>,
    },
    /// Of a later protocol: data that is kept as it came, not an error.
    Unknown,
}

/// The price of an instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// A `Quote`.
    pub quote: Event,
    /// All levels as a `Book`, where they are asked for.
    pub book: Option<Event>,
    /// Whether one can trade at this price; `None` where the line does not say.
    pub tradeable: Option<bool>,
    /// What is odd about its time, in words to count by; the event is as good as it can be.
    pub odd_time: Option<&'static str>,
    /// Fields that this version does not know.
    pub unknown: Vec<SmolStr>,
}

/// Reads a line. `book`: its levels too, not only the best ones.
///
/// # Errors
/// It is no object of the venue's, or holds a number that does not fit.
pub fn parse(line: &[u8], ts_recv: UnixNanos, ctx: &Ctx, book: bool) -> Result<Message, ParseError> {
    let text = std::str::from_utf8(line).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    match scan::scan(text).filter(|price| is_symbol(&price.symbol)) {
        Some(scan::Parts { symbol, time, sides, tradeable }) => {
            let symbol = SmolStr::from(symbol);
            Ok(Message::Price(self::line(ctx, symbol, Some(time), ts_recv, sides, tradeable, None, Vec::new(), book)))
        }
        None => parse_any_order(text, ts_recv, ctx, book),
    }
}

fn is_symbol(name: &str) -> bool {
    !name.is_empty() && name.len() <= SYMBOL_BYTES
}

/// As [`parse`], whatever the line looks like.
///
/// # Errors
/// As [`parse`].
pub fn parse_any_order(text: &str, ts_recv: UnixNanos, ctx: &Ctx, book: bool) -> Result<Message, ParseError> {
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    match fields.text("type").as_deref() {
        Some("PRICE") => price(&fields, ts_recv, ctx, book).map(Message::Price),
        Some("HEARTBEAT") => {
            let last_transaction = fields.get("lastTransactionID").and_then(whole);
            Ok(Message::Heartbeat { time: time(&fields).0, last_transaction })
        }
        // Every kind of transaction has these, also one that is invented after this was written.
        Some(_) if fields.get("id").and_then(whole).is_some() && fields.get("accountID").is_some() => {
            order::transaction(&fields, text, ts_recv, ctx)
        }
        None if fields.get("bids").is_some() && fields.get("asks").is_some() => {
            price(&fields, ts_recv, ctx, book).map(Message::Price)
        }
        _ => Ok(Message::Unknown),
    }
}

fn price(fields: &Fields<'_>, ts_recv: UnixNanos, ctx: &Ctx, book: bool) -> Result<Line, ParseError> {
    let symbol = fields.text("instrument").filter(|name| is_symbol(name));
    let symbol = symbol.map(SmolStr::from).ok_or_else(|| ParseError::new(reason::SHAPE, "no instrument"))?;
    let side = |name: &str| match fields.get(name) {
        None => Ok(Vec::new()),
        Some(raw) => serde_json::from_str::<Vec<Bucket<'_>>>(raw.get())
            .map_err(|error| ParseError::new(reason::SHAPE, format_args!("{name}: {error}")))?
            .iter()
            .map(Bucket::level)
            .collect::<Result<Vec<Level>, ParseError>>(),
    };
    let (bids, asks) = (side("bids")?, side("asks")?);
    let (time, unread) = time(fields);
    let tradeable = fields.get("tradeable").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let tradeable = tradeable.or_else(|| fields.text("status").map(|status| status == "tradeable"));
    let unknown = fields.names().filter(|name| !KNOWN.contains(name));
    let unknown = unknown.take(UNKNOWN_FIELDS).map(SmolStr::from).collect();
    Ok(line(ctx, symbol, time, ts_recv, Sides { bids, asks }, tradeable, unread, unknown, book))
}

/// The levels of a price, as they stand in the line.
pub(super) struct Sides {
    pub(super) bids: Vec<Level>,
    pub(super) asks: Vec<Level>,
}

#[expect(clippy::too_many_arguments, reason = "a price has that many parts, and two readers make it of them")]
pub(super) fn line(
    ctx: &Ctx,
    symbol: SmolStr,
    time: Option<UnixNanos>,
    ts_recv: UnixNanos,
    Sides { mut bids, mut asks }: Sides,
    tradeable: Option<bool>,
    unread: Option<&'static str>,
    unknown: Vec<SmolStr>,
    book: bool,
) -> Line {
    // Of two levels of one price the first: the venue repeats none.
    let bid = bids.iter().copied().reduce(|best, level| if level.price > best.price { level } else { best });
    let ask = asks.iter().copied().reduce(|best, level| if level.price < best.price { level } else { best });
    let body = Body::Quote(Quote {
        bid: bid.map(|level| level.price),
        bid_size: bid.map(|level| level.size),
        ask: ask.map(|level| level.price),
        ask_size: ask.map(|level| level.size),
    });
    let quote = ctx.event(symbol.clone(), time, ts_recv, Flags::NONE, body);
    let odd_time = unread.or_else(|| odd(&quote));
    let book = book.then(|| {
        bids.sort_by_key(|level| std::cmp::Reverse(level.price));
        asks.sort_by_key(|level| level.price);
        let update = BookUpdate { snapshot: true, bids, asks, checksum: None, depth: None };
        ctx.event(symbol, time, ts_recv, Flags::NONE, Body::Book(update))
    });
    Line { quote, book, tradeable, odd_time, unknown }
}

/// What is odd about the time that an event has.
pub(super) fn odd(event: &Event) -> Option<&'static str> {
    event.flags.contains(Flags::ABSURD_TIME).then_some("absurd time")
}

/// Fields of a price that this version reads, or knows and leaves out.
const KNOWN: [&str; 11] = [
    "type",
    "time",
    "instrument",
    "bids",
    "asks",
    "closeoutBid",
    "closeoutAsk",
    "status",
    "tradeable",
    "unitsAvailable",
    "quoteHomeConversionFactors",
];

#[derive(Deserialize)]
struct Bucket<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    liquidity: &'a RawValue,
}

impl Bucket<'_> {
    fn level(&self) -> Result<Level, ParseError> {
        let exact = |name: &str, raw: &RawValue| {
            Decimal::parse(plain(raw).as_bytes())
                .map_err(|error| ParseError::new(reason::NUMBER, format_args!("{name}: {error}")))
        };
        let (price, size) = (exact("price", self.price)?, exact("liquidity", self.liquidity)?);
        Ok(Level { price: Price(price), size: Size(size), orders: None })
    }
}

/// The time, and what is odd about it: none, or one that cannot be read.
pub(super) fn time(fields: &Fields<'_>) -> (Option<UnixNanos>, Option<&'static str>) {
    match fields.get("time").map(|raw| instant(plain(raw).as_bytes())) {
        Some(Some(time)) => (Some(time), None),
        Some(None) => (None, Some("unreadable time")),
        None => (None, Some("no time")),
    }
}

pub(super) fn instant(text: &[u8]) -> Option<UnixNanos> {
    UnixNanos::parse_rfc3339(text).or_else(|| UnixNanos::parse_epoch_secs(text))
}
