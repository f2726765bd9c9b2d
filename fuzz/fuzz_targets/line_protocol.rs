//! Any bytes are lines of line protocol, each a point or a fault; what was understood can be written to the tape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::lineproto::{self, Precision};
use tapedeck_market::{Body, Event, Flags, UnixNanos, wire};

/// Bytes of MessagePack that one byte of a line may become, at most.
const GROWTH: usize = 16;

fuzz_target!(|text: &[u8]| {
    let mut end = 0;
    for line in lineproto::lines(text) {
        // Lines come in order, do not overlap, and none is empty.
        let at = line.as_ptr() as usize - text.as_ptr() as usize;
        assert!(at >= end && !line.is_empty());
        end = at + line.len();
        match lineproto::parse(line) {
            Err(fault) => assert!(!fault.about(line).is_empty() && !fault.reason().is_empty()),
            Ok(read) => {
                assert!(!read.point.name.is_empty() && !read.point.fields.is_empty());
                if let Some(time) = read.time {
                    let _ = Precision::Millis.instant(time);
                }
                keep(Body::Point(Box::new(read.point)), line.len());
            }
        }
    }
});

fn keep(body: Body, line_bytes: usize) {
    let event = Event {
        source: "p".into(),
        venue: "http".into(),
        symbol: "".into(),
        ts_event: None,
        ts_recv: UnixNanos(1_784_483_680_000_000_000),
        flags: Flags::NONE,
        origin: None,
        body,
    };
    let mut bytes = Vec::new();
    wire::encode(&event, &mut bytes);
    let again = wire::decode(&bytes).expect("an event");
    assert_eq!(format!("{again:?}"), format!("{event:?}"));
    assert!(bytes.len() <= 64 + line_bytes * GROWTH, "{} bytes from {line_bytes}", bytes.len());
}
