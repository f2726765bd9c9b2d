//! A line of the Exchange Stream, in our words. Pure, and total on any bytes.
//!
//! ```text
//! {"op":"connection","connectionId":"002-051134157842-432409"}
//! {"op":"status","id":1,"statusCode":"SUCCESS"|"FAILURE","errorCode":…,"errorMessage":…,"connectionClosed":false,…}
//! {"op":"mcm","id":2,"initialClk":…,"clk":…,"conflateMs":0,"heartbeatMs":5000,"pt":1743511672980,
//!  "ct":"SUB_IMAGE"|"RESUB_DELTA"|"HEARTBEAT"|absent,"segmentType":"SEG_START"|"SEG"|"SEG_END"|absent,"status":503|absent,
//!  "mc":[{"id":"1.241629436","marketDefinition":{…},"rc":[{"id":270592,"hc":0,"atb":[[11.5,55.61]],"ltp":12,…}],
//!         "img":true,"con":true,"tv":…}]}
//! {"op":"ocm", …, "oc":[{"id":"1.2416","orc":[{"id":270592,"uo":[{"id":"221073337451","p":34,"s":0.8,"side":"B",…}]}]}]}
//! ```
//!
//! Of an image the first event is an [`Odds`] of selection zero, which says that the market begins anew; the definition
//! follows, then the runners. What a message of ours would need and the venue did not send stays unknown: nothing is filled in.
//!
//! A number of a ladder that does not fit has the line rejected, because half a ladder would be a lie; a last value
//! (`tv`, `ltp`, `spn`, `spf`) that does not fit is left out and counted.

use std::collections::HashSet;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tapedeck_market::{Body, Decimal, Event, Flags, Odds, Price, Size, SmolStr, UnixNanos};

use super::value::{ByLevel, ByPrice, Exact, Last, Text, Word, rungs, whole};
use super::{definition, order};
use crate::sources::parsed::reason;
pub use crate::sources::parsed::{Ctx, ParseError};

/// Longest line: a fresh image of 200 markets was 608 kB.
pub const LINE_BYTES: usize = 8 << 20;
/// Objects of one line, at most, so that it becomes no more than its bytes deserve: 200 markets of 50 runners, each of them
/// defined too, are 20,200.
const OBJECTS: usize = 1 << 17;
/// A line as short as this cannot hold so many.
const SHORT: usize = 1 << 20;
/// Longest id of a market: the venue's have eleven characters.
pub(super) const MARKET_BYTES: usize = 64;
/// Unknown fields of a line that are named; one is enough to keep the line as it came.
const UNKNOWN_FIELDS: usize = 16;

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// The first line of a connection.
    Connection { id: SmolStr },
    /// Answer to a request, or the reason why the venue hangs up.
    Status(Status),
    /// Changes of markets.
    Markets(Changes),
    /// Changes of own orders.
    Orders(Changes),
    /// Of a later protocol, or of another stream: data that is kept as it came, not an error.
    Unknown,
}

/// How a request was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of the request.
    pub id: Option<i64>,
    pub success: bool,
    /// `INVALID_SESSION_INFORMATION` …
    pub code: Option<SmolStr>,
    /// In the venue's words, which may quote what it was sent.
    pub message: Option<SmolStr>,
    /// The venue hangs up behind this line.
    pub closed: bool,
    /// Connections that this application may still open.
    pub connections: Option<i64>,
}

/// What a message of changes is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangeType {
    /// All there is: a subscription begins.
    SubImage,
    /// What was missed since the clock that the subscription named.
    ResubDelta,
    Heartbeat,
    #[default]
    Update,
}

/// Which part of a message that the venue cut to pieces this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Start,
    Middle,
    End,
}

/// A message of changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Of the subscription.
    pub id: Option<i64>,
    pub change_type: ChangeType,
    pub segment: Option<Segment>,
    /// Both together are where a later subscription can go on.
    pub initial_clk: Option<SmolStr>,
    pub clk: Option<SmolStr>,
    /// As the venue does it, which is not always as it was asked.
    pub heartbeat_ms: Option<i64>,
    pub conflate_ms: Option<i64>,
    /// 503: the venue's own feed is behind. It is no reason to connect again.
    pub status: Option<i64>,
    /// When it was published.
    pub published: Option<UnixNanos>,
    /// Markets that begin anew or are defined here, in the order of their events.
    pub heads: Vec<Head>,
    /// In the order in which they have to be applied.
    pub events: Vec<Event>,
    /// What is odd about it, in words to count by; the events are as good as they can be.
    pub odd: Vec<&'static str>,
    /// Fields that this version does not know.
    pub unknown: Vec<SmolStr>,
}

/// What is special about a market of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub market: SmolStr,
    /// It begins anew.
    pub image: bool,
    /// Of its definition: of two that say different things, the higher one is right.
    pub version: Option<i64>,
    /// Whether the definition says that nothing more will come.
    pub closed: bool,
    /// Its events, as a range of the message's.
    pub from: usize,
    pub to: usize,
}

/// Reads a line without its end.
///
/// # Errors
/// It is no object of the venue's, or holds a number that does not fit where one is needed.
pub fn parse(line: &[u8], ts_recv: UnixNanos, ctx: &Ctx) -> Result<Message, ParseError> {
    if line.len() > SHORT && memchr::memchr_iter(b'{', line).count() > OBJECTS {
        return Err(ParseError::new(reason::SHAPE, format_args!("more than {OBJECTS} objects")));
    }
    let text = std::str::from_utf8(line).map_err(|error| ParseError::new(reason::NOT_JSON, error))?;
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
        let reason = if error.is_data() { reason::SHAPE } else { reason::NOT_JSON };
        ParseError::new(reason, error)
    })?;
    match envelope.op.as_deref() {
        Some("mcm") => changes(envelope, ts_recv, ctx).map(Message::Markets),
        Some("ocm") => changes(envelope, ts_recv, ctx).map(Message::Orders),
        Some("status") => Ok(Message::Status(Status {
            id: envelope.id.and_then(whole),
            success: envelope.status_code.as_deref() == Some("SUCCESS"),
            code: envelope.error_code,
            message: envelope.error_message,
            closed: envelope.connection_closed,
            connections: envelope.connections_available.and_then(whole),
        })),
        Some("connection") => Ok(Message::Connection { id: envelope.connection_id.unwrap_or_default() }),
        _ => Ok(Message::Unknown),
    }
}

/// A line without the markets of it that cannot be read, and the ids of these; `None` where there are none such, or where
/// it cannot be said which.
pub(super) fn without_unreadable(line: &[u8]) -> Option<(String, Vec<SmolStr>)> {
    #[derive(Deserialize)]
    struct Listed<'a> {
        #[serde(borrow)]
        mc: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: Word,
    }
    let text = std::str::from_utf8(line).ok()?;
    let listed: Listed<'_> = serde_json::from_str(text).ok()?;
    let name = |raw: &RawValue| {
        let name = serde_json::from_str::<Named>(raw.get()).ok()?.id.0;
        Some(name).filter(|name| !name.is_empty() && name.len() <= MARKET_BYTES)
    };
    let unreadable = listed.mc.iter().filter(|raw| serde_json::from_str::<MarketChange<'_>>(raw.get()).is_err());
    let mut names: Vec<SmolStr> = unreadable.map(|raw| name(raw)).collect::<Option<_>>()?;
    names.sort();
    names.dedup();
    if names.is_empty() {
        return None;
    }
    // A market may come in two parts.
    let rest = listed.mc.iter().filter(|raw| name(raw).is_some_and(|name| !names.contains(&name)));
    let rest: Vec<&str> = rest.map(|raw| raw.get()).collect();
    let place = |raw: &RawValue| raw.get().as_ptr() as usize - text.as_ptr() as usize;
    let (first, last) = (listed.mc.first()?, listed.mc.last()?);
    let rest = format!("{}{}{}", &text[..place(first)], rest.join(","), &text[place(last) + last.get().len()..]);
    Some((rest, names))
}

fn changes(envelope: Envelope<'_>, ts_recv: UnixNanos, ctx: &Ctx) -> Result<Changes, ParseError> {
    let change_type = match envelope.ct.as_deref() {
        Some("SUB_IMAGE") => ChangeType::SubImage,
        Some("RESUB_DELTA") => ChangeType::ResubDelta,
        Some("HEARTBEAT") => ChangeType::Heartbeat,
        _ => ChangeType::Update,
    };
    let segment = match envelope.segment.as_deref() {
        Some("SEG_START") => Some(Segment::Start),
        Some("SEG") => Some(Segment::Middle),
        Some("SEG_END") => Some(Segment::End),
        _ => None,
    };
    let published = envelope.pt.and_then(|pt| whole(pt)?.checked_mul(1_000_000)).map(UnixNanos);
    let mut changes = Changes {
        id: envelope.id.and_then(whole),
        change_type,
        segment,
        initial_clk: envelope.initial_clk,
        clk: envelope.clk,
        heartbeat_ms: envelope.heartbeat_ms.and_then(whole),
        conflate_ms: envelope.conflate_ms.and_then(whole),
        status: envelope.status.and_then(whole),
        published,
        ..Changes::default()
    };
    let mut unknown = envelope.unknown;
    let at = At { ts_event: published, ts_recv, ctx };
    for market in envelope.markets {
        unknown.extend(market.unknown.iter().cloned());
        market_change(market, at, &mut changes, &mut unknown)?;
    }
    for raw in envelope.orders {
        order::market(raw, at, &mut changes)?;
    }
    if changes.events.iter().any(|event| event.flags.contains(Flags::ABSURD_TIME)) {
        changes.odd.push("absurd time");
    } else if published.is_none() && !changes.events.is_empty() {
        changes.odd.push(if envelope.pt.is_some() { "unreadable time" } else { "no time" });
    }
    unknown.truncate(UNKNOWN_FIELDS);
    changes.unknown = unknown;
    Ok(changes)
}

/// What the events of a message have in common.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    ts_event: Option<UnixNanos>,
    ts_recv: UnixNanos,
    ctx: &'a Ctx,
}

impl At<'_> {
    pub(super) fn event(&self, market: &SmolStr, flags: Flags, body: Body) -> Event {
        self.ctx.event(market.clone(), self.ts_event, self.ts_recv, flags, body)
    }
}

fn market_change(
    market: MarketChange<'_>,
    at: At<'_>,
    changes: &mut Changes,
    unknown: &mut Vec<SmolStr>,
) -> Result<(), ParseError> {
    let id = market.id.filter(|id| !id.is_empty() && id.len() <= MARKET_BYTES);
    let id = id.ok_or_else(|| ParseError::new(reason::SHAPE, "a market without an id"))?;
    let flags = if market.image { Flags::SNAPSHOT } else { Flags::NONE };
    let from = changes.events.len();
    let market_volume = last(market.volume, &mut changes.odd).map(Size);
    if market.image || (market.runners.is_empty() && market_volume.is_some()) {
        let odds = Odds { image: market.image, conflated: market.conflated, market_volume, ..Odds::default() };
        changes.events.push(at.event(&id, flags, Body::Odds(Box::new(odds))));
    }
    let mut head = Head { market: id.clone(), image: market.image, from, ..Head::default() };
    if let Some(raw) = market.definition {
        let read = definition::read(raw);
        (head.version, head.closed) = (read.version, read.closed);
        if read.odd {
            changes.odd.push("odd definition");
        }
        changes.events.push(at.event(&id, flags, Body::Instrument(Box::new(read.instrument))));
    }
    // A runner may come twice in an image: its second half replaces nothing.
    let mut begun = HashSet::new();
    for mut runner in market.runners {
        if runner.odds.selection == 0 {
            changes.odd.push("runner without an id");
            continue;
        }
        changes.odd.extend(runner.odd);
        if unknown.len() < UNKNOWN_FIELDS {
            unknown.extend(runner.unknown);
        }
        runner.odds.image = market.image && begun.insert((runner.odds.selection, runner.odds.handicap));
        runner.odds.conflated = market.conflated;
        runner.odds.market_volume = market_volume;
        changes.events.push(at.event(&id, flags, Body::Odds(runner.odds)));
    }
    if market.image || market.definition.is_some() {
        changes.heads.push(Head { to: changes.events.len(), ..head });
    }
    Ok(())
}

fn last(value: Option<Last>, odd: &mut Vec<&'static str>) -> Option<Decimal> {
    match value {
        Some(Last::Is(number)) => Some(number),
        Some(Last::Refused) => {
            odd.push(REFUSED);
            None
        }
        Some(Last::None) | None => None,
    }
}

const REFUSED: &str = "last value refused";

#[derive(Default)]
struct Envelope<'a> {
    op: Option<SmolStr>,
    id: Option<&'a RawValue>,
    initial_clk: Option<SmolStr>,
    clk: Option<SmolStr>,
    ct: Option<SmolStr>,
    segment: Option<SmolStr>,
    pt: Option<&'a RawValue>,
    heartbeat_ms: Option<&'a RawValue>,
    conflate_ms: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    connection_id: Option<SmolStr>,
    status_code: Option<SmolStr>,
    error_code: Option<SmolStr>,
    error_message: Option<SmolStr>,
    connection_closed: bool,
    connections_available: Option<&'a RawValue>,
    markets: Vec<MarketChange<'a>>,
    orders: Vec<&'a RawValue>,
    unknown: Vec<SmolStr>,
}

#[derive(Default)]
struct MarketChange<'a> {
    id: Option<SmolStr>,
    definition: Option<&'a RawValue>,
    runners: Vec<RunnerChange>,
    image: bool,
    conflated: bool,
    volume: Option<Last>,
    unknown: Option<SmolStr>,
}

struct RunnerChange {
    odds: Box<Odds>,
    odd: Option<&'static str>,
    unknown: Option<SmolStr>,
}

/// An object read key by key; of a field that comes twice the last one counts.
macro_rules! by_key {
    ($name:ty, $expecting:literal, |$it:ident, $key:ident, $map:ident| $read:block, $new:expr) => {
        impl<'de: 'a, 'a> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Each<'a>(std::marker::PhantomData<&'a ()>);
                impl<'de: 'a, 'a> Visitor<'de> for Each<'a> {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_map<M: MapAccess<'de>>(self, mut $map: M) -> Result<Self::Value, M::Error> {
                        let mut $it: $name = $new;
                        while let Some(Text($key)) = $map.next_key::<Text<'de>>()? {
                            $read
                        }
                        Ok($it)
                    }
                }
                deserializer.deserialize_map(Each(std::marker::PhantomData))
            }
        }
    };
}

by_key!(
    Envelope<'a>,
    "a message",
    |it, key, map| {
        let word = |word: Option<Word>| word.map(|word| word.0);
        match key.as_ref() {
            "op" => it.op = word(map.next_value()?),
            "id" => it.id = map.next_value()?,
            "initialClk" => it.initial_clk = word(map.next_value()?),
            "clk" => it.clk = word(map.next_value()?),
            "ct" => it.ct = word(map.next_value()?),
            "segmentType" => it.segment = word(map.next_value()?),
            "pt" => it.pt = map.next_value()?,
            "heartbeatMs" => it.heartbeat_ms = map.next_value()?,
            "conflateMs" => it.conflate_ms = map.next_value()?,
            "status" => it.status = map.next_value()?,
            "mc" => it.markets = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "oc" => it.orders = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "connectionId" => it.connection_id = word(map.next_value()?),
            "statusCode" => it.status_code = word(map.next_value()?),
            "errorCode" => it.error_code = word(map.next_value()?),
            "errorMessage" => it.error_message = word(map.next_value()?),
            "connectionClosed" => it.connection_closed = map.next_value::<Option<bool>>()?.unwrap_or_default(),
            "connectionsAvailable" => it.connections_available = map.next_value()?,
            other => {
                if it.unknown.len() < UNKNOWN_FIELDS {
                    it.unknown.push(SmolStr::new(other));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
    },
    Envelope::default()
);

by_key!(
    MarketChange<'a>,
    "a market",
    |it, key, map| {
        match key.as_ref() {
            "id" => it.id = map.next_value::<Option<Word>>()?.map(|word| word.0),
            "rc" => it.runners = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "marketDefinition" => it.definition = map.next_value()?,
            "img" => it.image = map.next_value::<Option<bool>>()?.unwrap_or_default(),
            "con" => it.conflated = map.next_value::<Option<bool>>()?.unwrap_or_default(),
            "tv" => it.volume = Some(map.next_value()?),
            other => {
                it.unknown.get_or_insert_with(|| SmolStr::new(other));
                map.next_value::<IgnoredAny>()?;
            }
        }
    },
    MarketChange::default()
);

by_key!(
    RunnerChange,
    "a runner",
    |it, key, map| {
        let odds = &mut it.odds;
        let value = |read: Last, odd: &mut Option<&'static str>| match read {
            Last::Is(number) => Some(number),
            Last::None => None,
            Last::Refused => {
                *odd = Some(REFUSED);
                None
            }
        };
        match key.as_ref() {
            "id" => odds.selection = map.next_value::<&'de RawValue>().map(whole)?.unwrap_or_default(),
            "hc" => odds.handicap = map.next_value::<Option<Exact>>()?.map_or(Decimal::ZERO, |number| number.0),
            "atb" => odds.available_to_back = rungs(map.next_value::<Option<Vec<ByPrice>>>()?),
            "atl" => odds.available_to_lay = rungs(map.next_value::<Option<Vec<ByPrice>>>()?),
            "trd" => odds.traded = rungs(map.next_value::<Option<Vec<ByPrice>>>()?),
            "spb" => odds.sp_back = rungs(map.next_value::<Option<Vec<ByPrice>>>()?),
            "spl" => odds.sp_lay = rungs(map.next_value::<Option<Vec<ByPrice>>>()?),
            "batb" => odds.best_to_back = rungs(map.next_value::<Option<Vec<ByLevel>>>()?),
            "batl" => odds.best_to_lay = rungs(map.next_value::<Option<Vec<ByLevel>>>()?),
            "bdatb" => odds.best_display_to_back = rungs(map.next_value::<Option<Vec<ByLevel>>>()?),
            "bdatl" => odds.best_display_to_lay = rungs(map.next_value::<Option<Vec<ByLevel>>>()?),
            "ltp" => odds.last = value(map.next_value()?, &mut it.odd).map(Price),
            "tv" => odds.volume = value(map.next_value()?, &mut it.odd).map(Size),
            "spn" => odds.sp_near = value(map.next_value()?, &mut it.odd).map(Price),
            "spf" => odds.sp_far = value(map.next_value()?, &mut it.odd).map(Price),
            other => {
                it.unknown.get_or_insert_with(|| SmolStr::new(other));
                map.next_value::<IgnoredAny>()?;
            }
        }
    },
    RunnerChange { odds: Box::default(), odd: None, unknown: None }
);
