//! Any line is understood or rejected, what was understood can be written to the tape, and a market can be made of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::sources::betfair::line::{Ctx, Message, parse};
use tapedeck::sources::betfair::markets::{Joiner, Markets};
use tapedeck_market::odds::Market;
use tapedeck_market::{Body, UnixNanos, wire};

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

/// Bytes of MessagePack that one byte of a line may become, at most: a body has many absent fields.
const GROWTH: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let ctx = Ctx { source: "betfair".into(), venue: "betfair".into() };
    let (mut joiner, mut known, mut market) = (Joiner::default(), Markets::default(), Market::default());
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(Message::Markets(changes) | Message::Orders(changes)) = parse(line, AT, &ctx) else { continue };
        let mut encoded = Vec::new();
        for event in &changes.events {
            let start = encoded.len();
            wire::encode(event, &mut encoded);
            assert_eq!(&wire::decode(&encoded[start..]).expect("an event"), event);
        }
        assert!(encoded.len() <= (line.len() + 1) * GROWTH, "{} bytes from {}", encoded.len(), line.len());
        if let Ok(Some(mut whole)) = joiner.take(changes, line.len()) {
            known.judge(&mut whole);
            for event in &whole.events {
                if let Body::Odds(odds) = &event.body {
                    market.apply(odds);
                }
            }
        }
    }
    // What a market says of itself makes the same market.
    let mut again = Market::default();
    market.snapshot().iter().for_each(|odds| again.apply(odds));
    assert_eq!(again, market);
    for runner in market.runners() {
        assert!(runner.available_to_back.is_sorted_by(|a, b| a.price > b.price));
        assert!(runner.available_to_lay.is_sorted_by(|a, b| a.price < b.price));
    }
});
