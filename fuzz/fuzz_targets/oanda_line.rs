//! Any line is understood or rejected, cut anywhere it is the same, and what was understood can be written to the tape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::sources::oanda::line::{Ctx, Message, parse, parse_any_order};
use tapedeck::sources::split::{Piece, Splitter};
use tapedeck_market::{UnixNanos, wire};

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

/// Bytes of MessagePack that one byte of a line may become, at most: a body has many absent fields.
const GROWTH: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let whole = pieces(&[bytes]);
    let (one, other) = bytes.split_at(bytes.len() / 2);
    assert_eq!(whole, pieces(&[one, other]));
    let ctx = Ctx { source: "oanda".into(), venue: "oanda".into() };
    for line in whole.iter().map(Vec::as_slice).chain([bytes]) {
        if let Ok(text) = std::str::from_utf8(line) {
            assert_eq!(parse(line, AT, &ctx, true), parse_any_order(text, AT, &ctx, true));
        }
        let events = match parse(line, AT, &ctx, true) {
            Ok(Message::Price(price)) => [Some(price.quote), price.book].into_iter().flatten().collect(),
            Ok(Message::Transaction { event, .. }) => vec![*event],
            _ => Vec::new(),
        };
        let mut bytes = Vec::new();
        for event in events {
            let start = bytes.len();
            wire::encode(&event, &mut bytes);
            assert_eq!(wire::decode(&bytes[start..]).expect("an event"), event);
        }
        assert!(bytes.len() <= (line.len() + 1) * GROWTH, "{} bytes from {}", bytes.len(), line.len());
    }
});

fn pieces(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut splitter, mut found) = (Splitter::default(), Vec::new());
    for chunk in chunks {
        splitter.push(chunk);
        while let Some(piece) = splitter.cut() {
            let (Piece::Line(line) | Piece::TooLong(line)) = piece;
            found.push(line.to_vec());
        }
    }
    found
}
