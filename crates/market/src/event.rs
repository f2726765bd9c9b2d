//! Events: what a source saw, and the record it becomes on the tape.
//!
//! Field order is the order on the wire ([`crate::wire`]): new fields go to the end of a body,
//! new bodies to the end of [`Body`], and neither is ever reordered.

use crate::{Decimal, Gap, Price, Size, SmolStr, Sum, UnixNanos, Uuid};

/// What a source saw, once, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Name of the config table that recorded it, e.g. `kraken-spot`.
    pub source: SmolStr,
    /// Kind of venue, e.g. `kraken`.
    pub venue: SmolStr,
    /// The venue's own spelling, e.g. `BTC/USD`; empty for what concerns no symbol.
    pub symbol: SmolStr,
    /// The venue's clock, where it told one.
    pub ts_event: Option<UnixNanos>,
    /// Our clock, taken when the bytes arrived.
    pub ts_recv: UnixNanos,
    pub flags: Flags,
    /// Where the event was first recorded, when that is not this tape.
    pub origin: Option<Origin>,
    pub body: Body,
}

impl Event {
    /// The venue's time, where it can be one.
    #[must_use]
    pub fn told(&self) -> Option<UnixNanos> {
        self.ts_event.filter(|ts_event| !is_absurd(*ts_event, self.ts_recv))
    }

    /// The earlier of the venue's time and ours: what comes next may bear a time as early as this, and no earlier.
    /// A venue time that cannot be one counts for nothing.
    #[must_use]
    pub fn earliest(&self) -> UnixNanos {
        self.told().map_or(self.ts_recv, |ts_event| ts_event.min(self.ts_recv))
    }
}

/// An event with its place on the tape.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Dense, from 1.
    pub seq: u64,
    pub event: Event,
}

/// The identity of a record everywhere outside its tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub tape: Uuid,
    pub seq: u64,
}

/// Properties of an event, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// Fetched from the venue's history to fill a hole.
    pub const BACKFILLED: Flags = Flags(1);
    /// The venue's time is before 2000 or more than a day after ours: it moves no candle.
    pub const ABSURD_TIME: Flags = Flags(1 << 1);
    /// Part of the state a venue sends when a subscription begins, not a change.
    pub const SNAPSHOT: Flags = Flags(1 << 2);
    /// Computed here from other records.
    pub const DERIVED: Flags = Flags(1 << 3);
    /// Sent again from a recording.
    pub const REPLAYED: Flags = Flags(1 << 4);

    /// Every flag with its name in text output.
    pub const NAMES: [(Flags, &'static str); 5] = [
        (Flags::BACKFILLED, "backfilled"),
        (Flags::ABSURD_TIME, "absurd_time"),
        (Flags::SNAPSHOT, "snapshot"),
        (Flags::DERIVED, "derived"),
        (Flags::REPLAYED, "replayed"),
    ];

    #[must_use]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

/// A venue time that must move no candle: before 2000, or more than a day after receipt.
#[must_use]
pub fn is_absurd(ts_event: UnixNanos, ts_recv: UnixNanos) -> bool {
    const DAY_NS: i64 = 86_400_000_000_000;
    ts_event < UnixNanos::Y2K || ts_event.0.saturating_sub(ts_recv.0) > DAY_NS
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Body {
    Trade(Trade),
    Quote(Quote),
    Ticker(Box<Ticker>),
    Book(BookUpdate),
    Candle(Box<Candle>),
    Odds(Box<Odds>),
    Order(Box<Order>),
    Post(Box<Post>),
    Point(Box<Point>),
    Synthetic(Box<Synthetic>),
    Instrument(Box<Instrument>),
    Position(Position),
    Status(Status),
    Gap(Box<Gap>),
    Tape(Box<TapeNote>),
    Raw(Raw),
    /// A body of a later version: kept whole, passed on, not understood.
    Unknown(Unknown),
}

/// Number of a body on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    pub const TRADE: Kind = Kind(1);
    pub const QUOTE: Kind = Kind(2);
    pub const TICKER: Kind = Kind(3);
    pub const BOOK: Kind = Kind(4);
    pub const CANDLE: Kind = Kind(5);
    pub const ODDS: Kind = Kind(6);
    pub const ORDER: Kind = Kind(7);
    pub const POST: Kind = Kind(8);
    pub const POINT: Kind = Kind(9);
    pub const SYNTHETIC: Kind = Kind(10);
    pub const INSTRUMENT: Kind = Kind(11);
    pub const POSITION: Kind = Kind(12);
    pub const STATUS: Kind = Kind(13);
    pub const GAP: Kind = Kind(14);
    pub const TAPE: Kind = Kind(15);
    pub const RAW: Kind = Kind(16);

    /// Every kind with its name, as `--kind`, config and JSON spell it.
    pub const NAMES: [(Kind, &'static str); 16] = [
        (Kind::TRADE, "trade"),
        (Kind::QUOTE, "quote"),
        (Kind::TICKER, "ticker"),
        (Kind::BOOK, "book"),
        (Kind::CANDLE, "candle"),
        (Kind::ODDS, "odds"),
        (Kind::ORDER, "order"),
        (Kind::POST, "post"),
        (Kind::POINT, "point"),
        (Kind::SYNTHETIC, "synthetic"),
        (Kind::INSTRUMENT, "instrument"),
        (Kind::POSITION, "position"),
        (Kind::STATUS, "status"),
        (Kind::GAP, "gap"),
        (Kind::TAPE, "tape"),
        (Kind::RAW, "raw"),
    ];

    /// `unknown` for a kind of a later version.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("unknown", |(_, name)| name)
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

impl Body {
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Body::Trade(_) => Kind::TRADE,
            Body::Quote(_) => Kind::QUOTE,
            Body::Ticker(_) => Kind::TICKER,
            Body::Book(_) => Kind::BOOK,
            Body::Candle(_) => Kind::CANDLE,
            Body::Odds(_) => Kind::ODDS,
            Body::Order(_) => Kind::ORDER,
            Body::Post(_) => Kind::POST,
            Body::Point(_) => Kind::POINT,
            Body::Synthetic(_) => Kind::SYNTHETIC,
            Body::Instrument(_) => Kind::INSTRUMENT,
            Body::Position(_) => Kind::POSITION,
            Body::Status(_) => Kind::STATUS,
            Body::Gap(_) => Kind::GAP,
            Body::Tape(_) => Kind::TAPE,
            Body::Raw(_) => Kind::RAW,
            Body::Unknown(unknown) => unknown.kind,
        }
    }
}

/// The side that took: the aggressor of a trade, the side of an own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Buy,
    Sell,
}

impl Side {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Side::Buy => "buy",
            Side::Sell => "sell",
        }
    }
}

/// One execution at the venue.
#[derive(Clone, Debug, PartialEq)]
pub struct Trade {
    pub price: Price,
    pub size: Size,
    pub side: Option<Side>,
    /// The venue's id, unique per symbol.
    pub id: Option<SmolStr>,
}

/// Best bid and ask; an empty side is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quote {
    pub bid: Option<Price>,
    pub bid_size: Option<Size>,
    pub ask: Option<Price>,
    pub ask_size: Option<Size>,
}

/// The venue's own statistics, as it sent them. Nothing is computed or defaulted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ticker {
    pub last: Option<Price>,
    pub last_size: Option<Size>,
    pub bid: Option<Price>,
    /// Volume at the bid in lots.
    pub bid_size: Option<Size>,
    /// Volume at the bid in whole lots (Kraken REST and v1).
    pub bid_whole_lots: Option<Size>,
    pub ask: Option<Price>,
    pub ask_size: Option<Size>,
    pub ask_whole_lots: Option<Size>,
    /// Statistics since the venue's midnight or session start.
    pub today: Stats,
    /// Statistics over the last 24 hours.
    pub day: Stats,
    /// Close of the session before (Kite).
    pub prev_close: Option<Price>,
    /// Change over 24 hours, in units of price.
    pub change: Option<Decimal>,
    /// The same in per cent.
    pub change_pct: Option<Decimal>,
    /// Volume-weighted price of the session so far (Kite's `average_price`).
    pub avg_price: Option<Price>,
    /// Pending volume on all levels.
    pub buy_size: Option<Size>,
    pub sell_size: Option<Size>,
    /// Open interest, in contracts, with its high and low of the day.
    pub oi: Option<Size>,
    pub oi_high: Option<Size>,
    pub oi_low: Option<Size>,
    pub last_trade_time: Option<UnixNanos>,
    /// Fields whose number does not fit, as (field, the venue's text): lost to arithmetic, not to the tape.
    pub refused: Vec<(SmolStr, SmolStr)>,
}

/// Open, high, low and volume over a span of the venue's choosing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub open: Option<Price>,
    pub high: Option<Price>,
    pub low: Option<Price>,
    pub volume: Option<Size>,
    pub vwap: Option<Price>,
    pub trades: Option<u64>,
}

/// A change of an order book, or all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BookUpdate {
    /// The levels are the whole book, not a change.
    pub snapshot: bool,
    /// In the order the venue sent them: a price may occur twice, and the order then matters.
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
    /// The venue's checksum of the book after this update.
    pub checksum: Option<u32>,
    /// Levels a side, as subscribed: what lies deeper is not known. `None` = all.
    pub depth: Option<u32>,
}

/// A price with the volume resting on it; size zero removes the level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub price: Price,
    pub size: Size,
    /// Number of orders, where the venue counts them.
    pub orders: Option<u32>,
}

/// Open, high, low, close and volume over `[start, start + interval)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Candle {
    /// Length in nanoseconds.
    pub interval_ns: i64,
    pub start: UnixNanos,
    pub open: Price,
    pub high: Price,
    pub low: Price,
    pub close: Price,
    pub volume: Option<Sum>,
    pub vwap: Option<Price>,
    pub trades: Option<u64>,
    pub flags: CandleFlags,
    /// 0 for the first statement, then 1, 2 … for each correction.
    pub revision: u32,
    /// What it was built from.
    pub input: CandleInput,
}

/// How much a candle can be trusted, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CandleFlags(pub u32);

impl CandleFlags {
    /// The bucket is over and was seen whole.
    pub const COMPLETE: CandleFlags = CandleFlags(1);
    /// Recording started or stopped inside the bucket.
    pub const PARTIAL: CandleFlags = CandleFlags(1 << 1);
    /// A gap of that instrument overlaps the bucket.
    pub const GAP: CandleFlags = CandleFlags(1 << 2);
    pub const REVISED: CandleFlags = CandleFlags(1 << 3);
    pub const BACKFILLED: CandleFlags = CandleFlags(1 << 4);

    pub const NAMES: [(CandleFlags, &'static str); 5] = [
        (CandleFlags::COMPLETE, "complete"),
        (CandleFlags::PARTIAL, "partial"),
        (CandleFlags::GAP, "gap"),
        (CandleFlags::REVISED, "revised"),
        (CandleFlags::BACKFILLED, "backfilled"),
    ];

    #[must_use]
    pub const fn contains(self, other: CandleFlags) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

/// The prices a candle was built from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CandleInput {
    #[default]
    Trades,
    Bid,
    Ask,
    Mid,
    /// Sent by the venue itself.
    Venue,
}

impl CandleInput {
    pub const NAMES: [(CandleInput, &'static str); 5] = [
        (CandleInput::Trades, "trades"),
        (CandleInput::Bid, "bid"),
        (CandleInput::Ask, "ask"),
        (CandleInput::Mid, "mid"),
        (CandleInput::Venue, "venue"),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(input, _)| *input == self).map_or("trades", |(_, name)| name)
    }
}

/// One runner change of a betting exchange; the event's symbol is the market id.
///
/// Numbers are the venue's: prices are decimal odds, sizes are stakes in the account's currency.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Odds {
    /// Zero: of the market itself, no runner. With `image` it begins anew, and every runner of it is forgotten.
    pub selection: i64,
    /// Asian handicap; zero for markets without one. (selection, handicap) is the runner's key.
    pub handicap: Decimal,
    /// Replaces everything known of the runner.
    pub image: bool,
    /// Last traded price.
    pub last: Option<Price>,
    /// Total matched.
    pub volume: Option<Size>,
    /// Starting prices, near and far; the venue may send `NaN` or `Infinity`, which become `None`.
    pub sp_near: Option<Price>,
    pub sp_far: Option<Price>,
    /// Ladders keyed by price; size zero removes.
    pub available_to_back: Vec<PriceSize>,
    pub available_to_lay: Vec<PriceSize>,
    pub traded: Vec<PriceSize>,
    pub sp_back: Vec<PriceSize>,
    pub sp_lay: Vec<PriceSize>,
    /// Ladders keyed by level; size zero clears the level.
    pub best_to_back: Vec<LevelPriceSize>,
    pub best_to_lay: Vec<LevelPriceSize>,
    pub best_display_to_back: Vec<LevelPriceSize>,
    pub best_display_to_lay: Vec<LevelPriceSize>,
    /// The venue merged several updates because we read too slowly.
    pub conflated: bool,
    /// Total matched on the whole market, where this message told it.
    pub market_volume: Option<Size>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceSize {
    pub price: Price,
    pub size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelPriceSize {
    /// 0 is the best.
    pub level: u32,
    pub price: Price,
    pub size: Size,
}

/// An own order, fill or account transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// The venue's word for what happened: `new`, `filled`, `canceled`, `ORDER_FILL` …
    pub action: SmolStr,
    pub id: Option<SmolStr>,
    pub client_id: Option<SmolStr>,
    pub side: Option<Side>,
    /// `limit`, `market` … in the venue's words.
    pub order_type: Option<SmolStr>,
    pub status: Option<SmolStr>,
    /// Limit price.
    pub price: Option<Price>,
    pub size: Option<Size>,
    /// Cumulative filled size and its average price.
    pub filled: Option<Size>,
    pub avg_price: Option<Price>,
    /// The fill that this message reports.
    pub fill_price: Option<Price>,
    pub fill_size: Option<Size>,
    pub trade_id: Option<SmolStr>,
    pub fee: Option<Decimal>,
    pub fee_asset: Option<SmolStr>,
    /// Why it was refused or cancelled.
    pub reason: Option<SmolStr>,
    /// The venue's own message, as text, where fields of ours do not hold all of it.
    pub raw: Option<SmolStr>,
}

/// A text of a social feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Post {
    pub id: SmolStr,
    pub author: Option<SmolStr>,
    pub text: SmolStr,
    pub lang: Option<SmolStr>,
    pub location: Option<SmolStr>,
    /// Names of the rules that matched.
    pub topics: Vec<SmolStr>,
    pub sentiment: Option<Sentiment>,
    /// Counts the venue gives: likes, followers …
    pub metrics: Vec<(SmolStr, i64)>,
    /// The post this one is an edit of.
    pub edit_of: Option<SmolStr>,
}

/// Shares of a text that are positive, neutral and negative, and the compound score in [-1, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sentiment {
    pub compound: Decimal,
    pub positive: Decimal,
    pub neutral: Decimal,
    pub negative: Decimal,
}

/// Anything a user defines: a measurement with tags and fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    pub name: SmolStr,
    pub tags: Vec<(SmolStr, SmolStr)>,
    pub fields: Vec<(SmolStr, Value)>,
}

/// A field of a [`Point`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    UInt(u64),
    /// A number whose text was given.
    Decimal(Decimal),
    /// A number that was a double before it reached us.
    Float(f64),
    Bool(bool),
    Text(SmolStr),
}

/// A price derived through other instruments, such as EUR/USD through two crypto crosses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Synthetic {
    /// The derived quote before this one (`t0`), then this one (`t1`).
    pub legs: Vec<Leg>,
    /// Ask of `t1` less its bid.
    pub spread: Option<Price>,
    /// Ask of `t0` less bid of `t1`.
    pub spread_bid: Option<Price>,
    /// Ask of `t1` less bid of `t0`.
    pub spread_ask: Option<Price>,
}

/// One derived quote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leg {
    /// The instrument it goes through.
    pub instrument: SmolStr,
    /// The derived price.
    pub bid: Option<Price>,
    pub ask: Option<Price>,
    /// The leg's own top of book.
    pub leg_bid: Option<Price>,
    pub leg_bid_size: Option<Size>,
    pub leg_ask: Option<Price>,
    pub leg_ask_size: Option<Size>,
}

/// What the venue lists under the event's symbol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instrument {
    /// Other spellings as (scheme, text), e.g. (`rest`, `XXBTZUSD`), (`wsname`, `XBT/USD`).
    pub aliases: Vec<(SmolStr, SmolStr)>,
    pub base: Option<SmolStr>,
    pub quote: Option<SmolStr>,
    /// The venue's word: `online`, `cancel_only` …
    pub status: Option<SmolStr>,
    /// Digits behind the point.
    pub price_precision: Option<u8>,
    pub price_increment: Option<Decimal>,
    pub size_precision: Option<u8>,
    pub size_increment: Option<Decimal>,
    /// Smallest order.
    pub size_min: Option<Size>,
    /// Units of the underlying a contract stands for.
    pub multiplier: Option<Decimal>,
    /// Trading session, e.g. `09:15-15:30 Asia/Kolkata`; `None` = always open.
    pub session: Option<SmolStr>,
    pub valid_from: Option<UnixNanos>,
    pub valid_to: Option<UnixNanos>,
    /// The venue's own definition as JSON, where fields of ours do not hold all of it.
    pub raw: Option<SmolStr>,
}

/// Where a source would go on after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    pub key: SmolStr,
    pub value: SmolStr,
}

/// A state of a venue, a source or this host, in its own words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// What it is about: `venue`, `session`, `clock` …
    pub topic: SmolStr,
    pub state: SmolStr,
    pub detail: Vec<(SmolStr, SmolStr)>,
}

/// Something the tape says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct TapeNote {
    pub what: TapeEvent,
    /// Records concerned, first and last, where that is known.
    pub from_seq: Option<u64>,
    pub to_seq: Option<u64>,
    /// Bytes concerned.
    pub bytes: u64,
    /// In words, for people.
    pub detail: SmolStr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TapeEvent {
    /// Bytes behind the last whole append were cut at start.
    TornTail,
    /// Records below the durable end cannot be read.
    Hole,
    /// A process began to write.
    Incarnation,
    /// A process stopped in order.
    Stop,
    /// The wall clock moved against the monotonic one.
    ClockStep,
    /// A sync failed: the segment was given up.
    Poisoned,
    /// The disk was full.
    Full,
}

impl TapeEvent {
    pub const NAMES: [(TapeEvent, &'static str); 7] = [
        (TapeEvent::TornTail, "torn_tail"),
        (TapeEvent::Hole, "hole"),
        (TapeEvent::Incarnation, "incarnation"),
        (TapeEvent::Stop, "stop"),
        (TapeEvent::ClockStep, "clock_step"),
        (TapeEvent::Poisoned, "poisoned"),
        (TapeEvent::Full, "full"),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(what, _)| *what == self).map_or("hole", |(_, name)| name)
    }
}

/// A frame as it came, when `keep_raw` is on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raw {
    /// `text`, `binary`, `line` …
    pub format: SmolStr,
    pub frame: Vec<u8>,
}

/// A body this version does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    pub kind: Kind,
    /// The body's MessagePack, byte for byte.
    pub payload: Vec<u8>,
}
