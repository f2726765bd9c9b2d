//! Any frame is understood or rejected, and what was understood can be written to the tape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::sources::binance::frame::{Ctx, Message, Update, parse, parse_book};
use tapedeck_market::{UnixNanos, wire};

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

/// Bytes of MessagePack that one byte of a frame may become, at most.
const GROWTH: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let ctx = Ctx { source: "binance".into(), venue: "binance".into() };
    let event = match parse(bytes, AT, &ctx) {
        Ok(Message::Trade(_, event) | Message::Quote(event) | Message::Depth(Update { event, .. })) => Some(event),
        _ => None,
    };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let book = parse_book(&"BTCUSDT".into(), text, AT, &ctx).ok().map(|update| update.event);
    for event in event.into_iter().chain(book) {
        let mut out = Vec::new();
        wire::encode(&event, &mut out);
        assert_eq!(wire::decode(&out).expect("an event"), event);
        assert!(out.len() <= (bytes.len() + 1) * GROWTH, "{} bytes from {}", out.len(), bytes.len());
    }
});
