//! Kite's binary frames → events, beside the parser of the venue's own client (`kiteconnect`, Python) in one alternating run.
//!
//! A frame of ten full packets (184 bytes each) of ten instruments, an operation a packet. Ours makes what the row says, with
//! exact decimals; the peer makes its dictionary of all of it, with doubles.

use std::hint::black_box;

use tapedeck::sources::kite::Divisors;
use tapedeck::sources::kite::frame::{Ctx, Reader, Wanted};
use tapedeck_benches::child::Peer;
use tapedeck_benches::{Side, compare, probe};
use tapedeck_market::UnixNanos;

const PACKETS: u32 = 10;
/// 2026-07-20 09:25:11 in Mumbai.
const SECONDS: u32 = 1_784_519_711;

fn main() {
    probe(&std::env::temp_dir());
    let frame = frame();
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("frame");
    std::fs::write(&file, &frame).expect("written");
    for (stage, wanted) in [
        ("kite full packet → ticker, quote, book", Wanted { ticker: true, quote: true, book: true }),
        ("kite full packet → ticker", Wanted { ticker: true, quote: false, book: false }),
    ] {
        let reader = reader(wanted);
        let now = UnixNanos(i64::from(SECONDS) * 1_000_000_000 + 250_000_000);
        let events = reader.read(&frame, now).expect("a frame").events.len();
        let each = usize::from(wanted.ticker) + usize::from(wanted.quote) + usize::from(wanted.book);
        assert_eq!(events, each * PACKETS as usize);
        let frame = &frame;
        let ours = move |n: u64| {
            for _ in 0..n.div_ceil(u64::from(PACKETS)) {
                black_box(reader.read(black_box(frame), now).is_ok());
            }
        };
        let peer = Peer::python("KITE_PYTHON", "kite_ticks.py", [&file]);
        let peer = peer.into_iter().map(|mut peer| Side { name: "kiteconnect", run: Box::new(move |n| peer.take(n)) });
        compare(stage, Side { name: "tapedeck", run: Box::new(ours) }, peer.collect(), Some(184));
    }
}

fn reader(wanted: Wanted) -> Reader {
    let symbols = (0..PACKETS).map(|n| (token(n), format!("NSE:SHARE{n}").into())).collect();
    let ctx = Ctx { source: "kite".into(), venue: "kite".into() };
    Reader { ctx, divisors: Divisors::default(), wanted, symbols }
}

/// Of the segment NSE, whose digits are two.
fn token(n: u32) -> u32 {
    (1_594 + n) << 8 | 1
}

fn frame() -> Vec<u8> {
    let mut frame = (PACKETS as u16).to_be_bytes().to_vec();
    for n in 0..PACKETS {
        let mut words =
            vec![token(n), 162_340 + n, 12, 162_211, 3_211_987, 411_000, 398_212, 161_000, 163_000, 160_500, 161_900];
        words.extend([SECONDS - 1, 0, 0, 0, SECONDS]);
        frame.extend(184u16.to_be_bytes());
        frame.extend(words.into_iter().flat_map(u32::to_be_bytes));
        for level in 0u32..10 {
            let price = if level < 5 { 162_340 - 5 * level } else { 162_345 + 5 * (level - 5) };
            frame.extend((100 + 7 * level).to_be_bytes());
            frame.extend(price.to_be_bytes());
            frame.extend((1 + level as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
    }
    frame
}
