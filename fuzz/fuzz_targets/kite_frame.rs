//! Any frame is understood or rejected, binary or text, and what was understood can be written to the tape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::sources::kite::Divisors;
use tapedeck::sources::kite::frame::{Ctx, Reader, Wanted};
use tapedeck::sources::kite::text::{self, Text};
use tapedeck_market::{Event, UnixNanos, wire};

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

/// Bytes of MessagePack that one byte of a frame may become, at most: a body has many absent fields.
const GROWTH: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let ctx = Ctx { source: "kite".into(), venue: "kite".into() };
    let wanted = Wanted { ticker: true, quote: true, book: true };
    let symbols = [(408_065, "NSE:INFY".into())].into_iter().collect();
    let reader = Reader { ctx: ctx.clone(), divisors: Divisors::default(), wanted, symbols };
    if let Ok(frame) = reader.read(bytes, AT) {
        let events: usize = frame.packets.iter().map(|(_, events)| usize::from(*events)).sum();
        assert_eq!(events, frame.events.len());
        keep(&frame.events, bytes.len());
    }
    let _ = text::masked(bytes);
    if let Ok(Text::Order(event)) = text::parse(bytes, AT, &ctx) {
        keep(&[*event], bytes.len());
    }
});

fn keep(events: &[Event], frame_bytes: usize) {
    let mut bytes = Vec::new();
    for event in events {
        let start = bytes.len();
        wire::encode(event, &mut bytes);
        assert_eq!(&wire::decode(&bytes[start..]).expect("an event"), event);
    }
    assert!(bytes.len() <= (frame_bytes + 1) * GROWTH, "{} bytes from {frame_bytes}", bytes.len());
}
