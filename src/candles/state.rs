//! What candles know, as bytes: kept beside the cursor, so that a restart goes on where it was.
//!
//! ```text
//! "CNDL" · u32 version · u32 CRC32C of the rest · u64 seq · u64 fingerprint of the config · what the engine and the feed hold
//! ```
//!
//! All numbers are little-endian. A state that is damaged, of another version or of another config is no state.

use tapedeck_market::{Decimal, SmolStr, UnixNanos};

use super::engine::{Dirty, Engine, Instrument, KnownGap};
use super::feed::{Feed, Running};
use super::slot::Slot;

const MAGIC: &[u8; 4] = b"CNDL";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 12;

/// Numbers one after the other.
#[derive(Debug, Default)]
struct Out(Vec<u8>);

impl Out {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn i128(&mut self, value: i128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn len(&mut self, len: usize) {
        self.u32(len as u32);
    }
    fn text(&mut self, text: &str) {
        self.len(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// The same, read; `None` when it ends too early.
#[derive(Debug)]
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }
    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
    fn i128(&mut self) -> Option<i128> {
        self.array().map(i128::from_le_bytes)
    }
    /// A count of things of at least one byte each: never more than there are bytes.
    fn len(&mut self) -> Option<usize> {
        self.u32().map(|len| len as usize).filter(|len| *len <= self.0.len())
    }
    fn text(&mut self) -> Option<SmolStr> {
        let len = self.len()?;
        std::str::from_utf8(self.bytes(len)?).ok().map(SmolStr::new)
    }
}

/// The state after the record `seq`.
pub(super) fn encode(seq: u64, fingerprint: u64, engine: &Engine, feed: &Feed) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(HEAD_BYTES + engine.slots.len() * 128));
    out.0.extend_from_slice(MAGIC);
    out.u32(VERSION);
    out.u32(0);
    out.u64(seq);
    out.u64(fingerprint);
    out.len(feed.names.len());
    for ((venue, symbol), known) in feed.names.iter().zip(&engine.instruments) {
        out.text(venue);
        out.text(symbol);
        put_instrument(&mut out, known);
    }
    for at in 0..engine.slots.len() {
        let slot = engine.slots[at];
        if slot.is_empty() {
            out.len(0);
            continue;
        }
        let others = engine.others_of(at);
        out.len(1 + others.len());
        put_slot(&mut out, &slot);
        others.iter().for_each(|slot| put_slot(&mut out, slot));
    }
    out.len(engine.dirty.len());
    for ((start, instrument, place), dirty) in &engine.dirty {
        out.i64(*start);
        out.u32(*instrument);
        out.u8(*place);
        out.i64(dirty.end);
        out.u64(dirty.first_late_seq);
        out.i64(dirty.due);
    }
    out.i64(engine.forgotten);
    out.len(engine.revisions.len());
    for ((start, instrument, place), revision) in &engine.revisions {
        out.i64(*start);
        out.u32(*instrument);
        out.u8(*place);
        out.u32(*revision);
    }
    out.len(feed.totals.len());
    for (instrument, total) in &feed.totals {
        out.u32(*instrument);
        out.i64(total.day.from);
        put_decimal(&mut out, total.volume);
        put_decimal(&mut out, total.last);
        out.u8(u8::from(total.last_trade.is_some()));
        out.i64(total.last_trade.unwrap_or_default().0);
    }
    let crc = crc32c::crc32c(&out.0[HEAD_BYTES..]);
    out.0[8..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    out.0
}

/// The seq of a state, when it is whole and of this config; the engine and the feed, new ones, take it over.
pub(super) fn decode(bytes: &[u8], fingerprint: u64, engine: &mut Engine, feed: &mut Feed) -> Option<u64> {
    let mut from = In(bytes);
    if from.bytes(4)? != MAGIC || from.u32()? != VERSION || from.u32()? != crc32c::crc32c(from.0) {
        return None;
    }
    let seq = from.u64()?;
    if from.u64()? != fingerprint {
        return None;
    }
    for _ in 0..from.len()? {
        let (venue, symbol) = (from.text()?, from.text()?);
        let number = engine.instrument();
        if feed.name(venue, symbol) != number {
            return None;
        }
        engine.instruments[number as usize] = take_instrument(&mut from)?;
    }
    for at in 0..engine.slots.len() {
        let count = from.len()?;
        let open: Option<Vec<Slot>> = (0..count).map(|_| take_slot(&mut from)).collect();
        engine.set_slots(at, &open?);
    }
    let places = engine.settings.intervals_ns.len();
    let known = |instrument: u32, place: u8, engine: &Engine| {
        (instrument as usize) < engine.instruments.len() && usize::from(place) < places
    };
    for _ in 0..from.len()? {
        let (start, instrument, place) = (from.i64()?, from.u32()?, from.u8()?);
        let dirty = Dirty { end: from.i64()?, first_late_seq: from.u64()?, due: from.i64()? };
        known(instrument, place, engine).then_some(())?;
        engine.dirty.insert((start, instrument, place), dirty);
    }
    engine.forgotten = from.i64()?;
    for _ in 0..from.len()? {
        let (start, instrument, place, revision) = (from.i64()?, from.u32()?, from.u8()?, from.u32()?);
        engine.revisions.insert((start, instrument, place), revision);
    }
    for _ in 0..from.len()? {
        let instrument = from.u32()?;
        let day = feed.calendar.day(from.i64()?)?;
        let (volume, last) = (take_decimal(&mut from)?, take_decimal(&mut from)?);
        let told = from.u8()? == 1;
        let last_trade = UnixNanos(from.i64()?);
        feed.totals.insert(instrument, Running { day, volume, last, last_trade: told.then_some(last_trade) });
    }
    engine.rearm();
    from.0.is_empty().then_some(seq)
}

fn put_instrument(out: &mut Out, known: &Instrument) {
    for value in [known.watermark, known.frontier, known.next_close, known.delay, known.ahead, known.heard_since] {
        out.i64(value);
    }
    out.u8(u8::from(known.heard_by_status));
    out.u8(known.digits);
    out.len(known.gaps.len());
    for gap in &known.gaps {
        out.u64(gap.id);
        out.i64(gap.from);
        out.i64(gap.to);
    }
}

fn take_instrument(from: &mut In<'_>) -> Option<Instrument> {
    let [watermark, frontier, next_close] = [from.i64()?, from.i64()?, from.i64()?];
    let [delay, ahead, heard_since] = [from.i64()?, from.i64()?, from.i64()?];
    let (heard_by_status, digits) = (from.u8()? == 1, from.u8()?);
    let gaps: Option<Vec<KnownGap>> =
        (0..from.len()?).map(|_| Some(KnownGap { id: from.u64()?, from: from.i64()?, to: from.i64()? })).collect();
    let (timer, gaps) = (i64::MAX, gaps?);
    Some(Instrument {
        watermark,
        frontier,
        next_close,
        timer,
        delay,
        ahead,
        heard_since,
        heard_by_status,
        digits,
        gaps,
    })
}

fn put_slot(out: &mut Out, slot: &Slot) {
    out.i128(slot.volume);
    out.i128(slot.notional);
    for value in [slot.start, slot.end, slot.open, slot.high, slot.low, slot.close, slot.open_ts, slot.close_ts] {
        out.i64(value);
    }
    out.u64(slot.trades);
    out.u32(slot.revision);
    out.u8(slot.price_scale);
    out.u8(slot.size_scale);
    out.u8(slot.marks);
}

fn take_slot(from: &mut In<'_>) -> Option<Slot> {
    let (volume, notional) = (from.i128()?, from.i128()?);
    let [start, end, open, high] = [from.i64()?, from.i64()?, from.i64()?, from.i64()?];
    let [low, close, open_ts, close_ts] = [from.i64()?, from.i64()?, from.i64()?, from.i64()?];
    let (trades, revision) = (from.u64()?, from.u32()?);
    let [price_scale, size_scale, marks] = from.array()?;
    let next = super::slot::NONE;
    Some(Slot {
        volume,
        notional,
        start,
        end,
        open,
        high,
        low,
        close,
        open_ts,
        close_ts,
        trades,
        revision,
        next,
        price_scale,
        size_scale,
        marks,
    })
}

fn put_decimal(out: &mut Out, decimal: Decimal) {
    out.i64(decimal.mantissa());
    out.u8(decimal.scale());
}

fn take_decimal(from: &mut In<'_>) -> Option<Decimal> {
    Decimal::new(from.i64()?, from.u8()?)
}
