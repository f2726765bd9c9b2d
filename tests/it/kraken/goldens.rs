//! Frames and the events they must become: `tests/fixtures/kraken/x.json` beside `x.ndjson`. `UPDATE_GOLDEN=1` rewrites.

use std::path::Path;

use tapedeck::json::event_json;
use tapedeck::sources::kraken::message::{Ctx, Message};
use tapedeck::sources::kraken::{parse, v1};
use tapedeck_market::{SmolStr, UnixNanos};

#[test]
fn each_frame_becomes_the_events_beside_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kraken");
    let ctx = Ctx { source: SmolStr::new_static("kraken"), venue: SmolStr::new_static("kraken") };
    // A minute behind the newest frame.
    let ts_recv = UnixNanos::parse_rfc3339(b"2026-03-02T08:16:30Z").expect("a time");
    let mut frames: Vec<_> =
        std::fs::read_dir(&dir).expect("fixtures").map(|entry| entry.expect("a file").path()).collect();
    frames.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    frames.sort();
    assert!(frames.len() >= 17, "{frames:?}");
    for path in frames {
        let frame = std::fs::read(&path).expect("a frame");
        let name = path.file_stem().expect("a name").to_string_lossy();
        let parse = if name.starts_with("v1_") { v1::parse } else { parse::parse };
        let events = match parse(&frame, ts_recv, &ctx) {
            Ok(Message::Events(events)) => events,
            other => panic!("{name}: {other:?}"),
        };
        let mut got = Vec::new();
        for event in &events {
            event_json(None, event, &mut got);
            got.push(b'\n');
        }
        let golden = path.with_extension("ndjson");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &got).expect("writing");
        }
        let want = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&got), want, "{name}");
    }
}
