//! The one encoding for tape and bus: positional MessagePack, versioned.
//!
//! ```text
//! event   = [schema = 1, source, venue, symbol, ts_event | nil, ts_recv, flags, origin | nil, kind, body]
//! origin  = [tape uuid as bin 16, seq]
//! body    = array of the body's fields in the order of `event.rs`; a struct in it likewise
//! decimal = [mantissa, scale]          sum = [mantissa as int or bin 16 (big endian), scale]
//! value   = [number, value]            Int 0, UInt 1, Decimal 2, Float 3, Bool 4, Text 5
//! pair    = [first, second]            list = array           Option = nil or the value
//! instant = int (ns)    flags = int (bits)    text = str    frame = bin
//! enum    = int: its place in the order of `event.rs`, from 0
//! ```
//!
//! Integers are written in their shortest form and read in any. What keeps versions apart together:
//!
//! - A reader skips trailing fields that it does not know, at every level.
//! - Missing trailing fields are absent: `None`, an empty list or text, `false`. Fields without
//!   such a value (a price, an instant) have been there since schema 1, so without them the bytes
//!   are no event; fields added later must have one.
//! - A body of an unknown kind is kept as its bytes and written back as they were. So is a body of
//!   a known kind with an enum number of a later version: the event is kept, as [`Body::Unknown`]
//!   under its own kind, rather than refused or read as something it is not.
//! - A higher schema is refused by its number.

use crate::{Body, Event, Kind, Unknown};
use field::Field;
use msgpack::{Reader, put_array, put_int, put_nil, put_str, put_uint};

mod bodies;
mod field;
mod msgpack;

/// Version written in front of every event.
pub const SCHEMA: u8 = 1;

/// Arrays and maps of a value that is kept or skipped unread may lie in one another this deep.
pub const MAX_DEPTH: usize = 32;

/// Fields of the event itself.
const EVENT_FIELDS: u32 = 10;

/// Between schema and origin: source, venue, symbol, the two times and the flags.
const FIELDS_BEFORE_ORIGIN: usize = 6;

/// Room for a trade, quote or small book: one allocation into an empty vector.
const TYPICAL_BYTES: usize = 160;

/// Why bytes are not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the event ends early, at byte {at}")]
    Short { at: usize },
    #[error("byte {at} is not {expected}")]
    Unexpected { at: usize, expected: &'static str },
    #[error("schema {found} is newer than {SCHEMA}")]
    Schema { found: u64 },
}

/// Appends the event's encoding.
///
/// A [`Body::Unknown`] whose payload is not exactly one MessagePack value (this module never makes
/// such a one) is written as nil, so that what was encoded can always be decoded.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    out.reserve(TYPICAL_BYTES);
    put_array(out, EVENT_FIELDS as usize);
    put_uint(out, u64::from(SCHEMA));
    put_str(out, &event.source);
    put_str(out, &event.venue);
    put_str(out, &event.symbol);
    event.ts_event.put(out);
    put_int(out, event.ts_recv.0);
    put_uint(out, u64::from(event.flags.0));
    event.origin.put(out);
    put_uint(out, u64::from(event.body.kind().0));
    put_body(&event.body, out);
}

/// Reads one event; trailing bytes are an error. Total on any bytes: no panic, and no allocation
/// larger than a small multiple of the input.
///
/// # Errors
/// Says where the bytes stop making sense.
pub fn decode(bytes: &[u8]) -> Result<Event, WireError> {
    let mut input = Reader::new(bytes);
    let fields = input.array()?;
    if fields == 0 {
        return Err(input.unexpected("an event's array"));
    }
    // Before the number of fields: what a later schema looks like is not ours to judge.
    let schema = input.uint()?;
    if schema > u64::from(SCHEMA) {
        return Err(WireError::Schema { found: schema });
    }
    if fields < EVENT_FIELDS {
        return Err(WireError::Unexpected { at: 0, expected: "an event's array of ten fields" });
    }
    let event = Event {
        source: Field::take(&mut input)?,
        venue: Field::take(&mut input)?,
        symbol: Field::take(&mut input)?,
        ts_event: Field::take(&mut input)?,
        ts_recv: Field::take(&mut input)?,
        flags: Field::take(&mut input)?,
        origin: Field::take(&mut input)?,
        body: take_body(&mut input)?,
    };
    for _ in EVENT_FIELDS..fields {
        input.skip()?;
    }
    if input.is_empty() { Ok(event) } else { Err(input.unexpected("the end of the event")) }
}

/// The kind of an event, read without the rest of it: for whoever looks for few among many. It says nothing about
/// whether the rest can be read.
///
/// # Errors
/// As [`decode`], as far as the kind.
pub fn kind(bytes: &[u8]) -> Result<Kind, WireError> {
    let mut input = Reader::new(bytes);
    let fields = input.array()?;
    if fields == 0 {
        return Err(input.unexpected("an event's array"));
    }
    let schema = input.uint()?;
    if schema > u64::from(SCHEMA) {
        return Err(WireError::Schema { found: schema });
    }
    if fields < EVENT_FIELDS {
        return Err(WireError::Unexpected { at: 0, expected: "an event's array of ten fields" });
    }
    for _ in 0..FIELDS_BEFORE_ORIGIN {
        input.scalar()?;
    }
    if !input.nil()? {
        input.skip()?;
    }
    Ok(Kind(u16::take(&mut input)?))
}

fn put_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::Trade(body) => body.put(out),
        Body::Quote(body) => body.put(out),
        Body::Ticker(body) => body.put(out),
        Body::Book(body) => body.put(out),
        Body::Candle(body) => body.put(out),
        Body::Odds(body) => body.put(out),
        Body::Order(body) => body.put(out),
        Body::Post(body) => body.put(out),
        Body::Point(body) => body.put(out),
        Body::Synthetic(body) => body.put(out),
        Body::Instrument(body) => body.put(out),
        Body::Position(body) => body.put(out),
        Body::Status(body) => body.put(out),
        Body::Gap(body) => body.put(out),
        Body::Tape(body) => body.put(out),
        Body::Raw(body) => body.put(out),
        Body::Unknown(unknown) => match Reader::new(&unknown.payload).only_value() {
            Ok(value) => out.extend_from_slice(value),
            Err(_) => put_nil(out),
        },
    }
}

/// Reads kind and body.
fn take_body(input: &mut Reader<'_>) -> Result<Body, WireError> {
    let kind = Kind(u16::take(input)?);
    let start = *input;
    match take_known(kind, input) {
        Ok(Some(body)) => Ok(body),
        Ok(None) => keep_body(kind, input),
        Err(_) if input.met_later_number() => {
            *input = start;
            keep_body(kind, input)
        }
        Err(error) => Err(error),
    }
}

#[inline]
fn take_known(kind: Kind, input: &mut Reader<'_>) -> Result<Option<Body>, WireError> {
    Ok(Some(match kind {
        Kind::TRADE => Body::Trade(Field::take(input)?),
        Kind::QUOTE => Body::Quote(Field::take(input)?),
        Kind::TICKER => Body::Ticker(Field::take(input)?),
        Kind::BOOK => Body::Book(Field::take(input)?),
        Kind::CANDLE => Body::Candle(Field::take(input)?),
        Kind::ODDS => Body::Odds(Field::take(input)?),
        Kind::ORDER => Body::Order(Field::take(input)?),
        Kind::POST => Body::Post(Field::take(input)?),
        Kind::POINT => Body::Point(Field::take(input)?),
        Kind::SYNTHETIC => Body::Synthetic(Field::take(input)?),
        Kind::INSTRUMENT => Body::Instrument(Field::take(input)?),
        Kind::POSITION => Body::Position(Field::take(input)?),
        Kind::STATUS => Body::Status(Field::take(input)?),
        Kind::GAP => Body::Gap(Field::take(input)?),
        Kind::TAPE => Body::Tape(Field::take(input)?),
        Kind::RAW => Body::Raw(Field::take(input)?),
        _ => return Ok(None),
    }))
}

#[cold]
fn keep_body(kind: Kind, input: &mut Reader<'_>) -> Result<Body, WireError> {
    Ok(Body::Unknown(Unknown { kind, payload: input.value()?.to_vec() }))
}
