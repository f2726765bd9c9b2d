//! Any frame is understood or rejected, the fast reader and the general one agree, and what was
//! understood can be written to the tape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::sources::kraken::message::{Ctx, Message};
use tapedeck::sources::kraken::{parse, v1};
use tapedeck_market::{Body, Book, Event, UnixNanos, wire};

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

/// Bytes of MessagePack that one byte of a frame may become, at most: a body has many absent fields.
const GROWTH: usize = 64;

fuzz_target!(|frame: &[u8]| {
    let ctx = Ctx { source: "kraken".into(), venue: "kraken".into() };
    let fast = parse::parse(frame, AT, &ctx);
    if let (Ok(fast), Ok(general)) = (&fast, parse::parse_any_order(frame, AT, &ctx)) {
        assert_eq!(format!("{fast:?}"), format!("{general:?}"));
    }
    for message in [fast, v1::parse(frame, AT, &ctx)] {
        if let Ok(Message::Events(events)) = message {
            keep(&events, frame.len());
        }
    }
});

fn keep(events: &[Event], frame_bytes: usize) {
    let mut book = Book::new(Some(10));
    let mut bytes = Vec::new();
    for event in events {
        let start = bytes.len();
        wire::encode(event, &mut bytes);
        let again = wire::decode(&bytes[start..]).expect("an event");
        assert_eq!(format!("{again:?}"), format!("{event:?}"));
        if let Body::Book(update) = &event.body {
            book.apply(update);
            let _ = book.kraken_checksum();
        }
    }
    assert!(bytes.len() <= (frame_bytes + 1) * GROWTH, "{} bytes from {frame_bytes}", bytes.len());
}
