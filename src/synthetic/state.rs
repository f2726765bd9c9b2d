//! What derived quotes know, as bytes: kept beside the cursor, so that a restart goes on where it was.
//!
//! ```text
//! "SYNT" · u32 version · u32 CRC32C of the rest · u64 seq · u64 fingerprint of the config · u64 outputs ahead · parts
//! part = u8 kind · u32 length · an event in the tape's encoding
//! ```
//!
//! Numbers are little-endian. A book is a snapshot; a price a `Quote` of its pair; what was last derived through a coin a
//! `Synthetic` of that name. A state that is damaged or of another version is no state.

use tapedeck_market::{Body, Book, Decimal, Event, Flags, Leg, Price, Quote, SmolStr, Synthetic, UnixNanos, wire};

use super::chain::{Before, Chain, Cross, Derived, Top, coin};
use super::maker::Maker;
use super::said::Ahead;

const MAGIC: &[u8; 4] = b"SYNT";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 12;

const BOOK: u8 = 0;
/// Of the chain of tickers; those of the chain of books are one higher.
const TOP: u8 = 1;
const LAST: u8 = 3;
const BEFORE: u8 = 5;

/// The state after the record `seq`.
pub(super) fn encode(seq: u64, maker: &Maker) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes());
    for number in [seq, fingerprint(maker), maker.ahead.known] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for ((source, symbol), book) in &maker.books {
        put(&mut out, BOOK, &event(source, symbol, 0, Body::Book(book.snapshot())));
    }
    for (which, chain) in (0..).zip([&maker.tick, &maker.depth]) {
        for (coin, cross) in &chain.crosses {
            for (quote, top) in ["USD", "EUR"].into_iter().zip(&cross.tops) {
                if let Some(top) = top {
                    put(&mut out, TOP + which, &top_event(&SmolStr::from_iter([coin, "/", quote]), top));
                }
            }
            if let Some(last) = &cross.last {
                put_last(&mut out, LAST + which, coin, last);
            }
        }
        if let Some(Before { coin, time, leg }) = &chain.before {
            let body = Synthetic { legs: vec![leg.clone()], ..Synthetic::default() };
            put(&mut out, BEFORE + which, &event("", coin, *time, Body::Synthetic(Box::new(body))));
        }
    }
    let crc = crc32c::crc32c(&out[HEAD_BYTES..]);
    out[8..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The seq of a state, when it is whole; a new maker takes it over.
pub(super) fn decode(bytes: &[u8], maker: &mut Maker) -> Option<u64> {
    let mut from = bytes;
    let head = (take::<4>(&mut from)?, u32::from_le_bytes(take(&mut from)?), u32::from_le_bytes(take(&mut from)?));
    if head != (*MAGIC, VERSION, crc32c::crc32c(from)) {
        return None;
    }
    let seq = u64::from_le_bytes(take(&mut from)?);
    let same_recipe = u64::from_le_bytes(take(&mut from)?) == fingerprint(maker);
    maker.ahead = Ahead::resumed(u64::from_le_bytes(take(&mut from)?));
    while !from.is_empty() {
        let [kind] = take(&mut from)?;
        let len = usize::try_from(u32::from_le_bytes(take(&mut from)?)).ok()?;
        let (payload, rest) = from.split_at_checked(len)?;
        from = rest;
        let event = wire::decode(payload).ok()?;
        if kind == BOOK {
            let Body::Book(snapshot) = &event.body else { return None };
            let mut book = Book::new(None);
            book.apply(snapshot);
            maker.books.insert((event.source, event.symbol), book);
        } else if same_recipe {
            take_known(kind, event, maker)?;
        }
    }
    Some(seq)
}

/// A number that changes when anything of the recipe does.
fn fingerprint(maker: &Maker) -> u64 {
    let text = format!("{:?}", maker.recipe);
    let reversed: Vec<u8> = text.bytes().rev().collect();
    u64::from(crc32c::crc32c(text.as_bytes())) << 32 | u64::from(crc32c::crc32c(&reversed))
}

fn put(out: &mut Vec<u8>, kind: u8, event: &Event) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    wire::encode(event, out);
    // A book is far from four gigabytes.
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_last(out: &mut Vec<u8>, kind: u8, coin: &SmolStr, last: &Derived) {
    let Derived { time, bid, ask, tops } = last;
    let price = |price: Decimal| Some(Price(price));
    let derived = Leg { bid: price(*bid), ask: price(*ask), ..Leg::default() };
    let legs = [derived].into_iter().chain(tops.iter().map(top_leg)).collect();
    let body = Synthetic { legs, ..Synthetic::default() };
    put(out, kind, &event("", coin, *time, Body::Synthetic(Box::new(body))));
}

fn event(source: &str, symbol: &SmolStr, time: i64, body: Body) -> Event {
    Event {
        source: source.into(),
        venue: SmolStr::default(),
        symbol: symbol.clone(),
        ts_event: Some(UnixNanos(time)),
        ts_recv: UnixNanos(time),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn top_event(symbol: &SmolStr, top: &Top) -> Event {
    let Top { source, time, bid, ask, sizes } = top;
    let (bid_size, ask_size) = sizes.unzip();
    event(source, symbol, *time, Body::Quote(Quote { bid: Some(*bid), bid_size, ask: Some(*ask), ask_size }))
}

/// A price as a leg: the source stands where an instrument would.
fn top_leg(top: &Top) -> Leg {
    let Top { source, time: _, bid, ask, sizes } = top;
    let (leg_bid_size, leg_ask_size) = sizes.unzip();
    let instrument = source.clone();
    Leg { instrument, leg_bid: Some(*bid), leg_bid_size, leg_ask: Some(*ask), leg_ask_size, ..Leg::default() }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*head)
}

fn take_known(kind: u8, event: Event, maker: &mut Maker) -> Option<()> {
    let time = event.ts_recv.0;
    let chain: &mut Chain = if (kind - TOP).is_multiple_of(2) { &mut maker.tick } else { &mut maker.depth };
    match (kind - (kind - TOP) % 2, event.body) {
        (TOP, Body::Quote(Quote { bid, bid_size, ask, ask_size })) => {
            let (coin, at) = coin(&event.symbol)?;
            let cross: &mut Cross = chain.crosses.entry(coin.into()).or_default();
            let sizes = bid_size.zip(ask_size);
            cross.tops[at] = Some(Top { source: event.source, time, bid: bid?, ask: ask?, sizes });
        }
        (LAST, Body::Synthetic(body)) => {
            let [derived, usd, eur] = <[Leg; 3]>::try_from(body.legs).ok()?;
            let top = |leg: Leg| {
                let sizes = leg.leg_bid_size.zip(leg.leg_ask_size);
                // When it was so is told by the quote.
                Some(Top { source: leg.instrument, time, bid: leg.leg_bid?, ask: leg.leg_ask?, sizes })
            };
            let (bid, ask, tops) = (derived.bid?.0, derived.ask?.0, [top(usd)?, top(eur)?]);
            chain.crosses.entry(event.symbol).or_default().last = Some(Derived { time, bid, ask, tops });
        }
        (BEFORE, Body::Synthetic(body)) => {
            let [leg] = <[Leg; 1]>::try_from(body.legs).ok()?;
            chain.before = Some(Before { coin: event.symbol, time, leg });
        }
        _ => return None,
    }
    Some(())
}
