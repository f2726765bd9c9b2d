//! Both readers agree on any line, and what was understood is scored and can be written to the tape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::sources::x::line::{Ctx, Message, parse, parse_any_order};
use tapedeck::sources::x::sentiment::score_post;
use tapedeck_market::{UnixNanos, wire};

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

/// Bytes of MessagePack that one byte of a line may become, at most: a body has many absent fields.
const GROWTH: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let ctx = Ctx { source: "x".into(), venue: "x".into() };
    let found = parse(bytes, AT, &ctx);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(found.is_err());
        return;
    };
    assert_eq!(found, parse_any_order(text, AT, &ctx));
    if let Ok(Message::Post(mut line)) = found {
        score_post(&mut line.event);
        let mut bytes = Vec::new();
        wire::encode(&line.event, &mut bytes);
        assert_eq!(wire::decode(&bytes).expect("an event"), line.event);
        assert!(bytes.len() <= (text.len() + 1) * GROWTH, "{} bytes from {}", bytes.len(), text.len());
    }
});
