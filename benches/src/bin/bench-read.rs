//! Reading back: verified frames, decoded events, and recovery of an unsealed segment.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tapedeck_benches::{compare, each, median, probe};
use tapedeck_market::{Body, Event, Flags, Side, SmolStr, Trade, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Item, Log, Options, Reader, Start};

const RECORDS: u64 = 1_000_000;
const RECOVER_BYTES: u64 = 1 << 30;

/// What the peer decodes: the same fields, positional.
#[derive(Clone, Serialize, Deserialize)]
struct Mirror(u8, String, String, String, Option<i64>, i64, u32, Option<()>, u16, MirrorTrade);

#[derive(Clone, Serialize, Deserialize)]
struct MirrorTrade((i64, u8), (i64, u8), Option<u8>, Option<String>);

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    read_back(home.path())?;
    recover(home.path())
}

fn trade(n: u64) -> Event {
    let body = Trade {
        price: "64528.1".parse().expect("a price of this file"),
        size: "0.00123440".parse().expect("a size of this file"),
        side: Some(Side::Buy),
        id: Some(SmolStr::new((100_320_028 + n).to_string())),
    };
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: "BTC/USD".into(),
        ts_event: Some(UnixNanos(1_784_483_703_207_891_000)),
        ts_recv: UnixNanos(1_784_483_703_258_123_456),
        flags: Flags::NONE,
        origin: None,
        body: Body::Trade(body),
    }
}

fn read_back(home: &Path) -> anyhow::Result<()> {
    let dir = home.join("read");
    let (mut log, _) = Log::open(Arc::new(Disk), &dir, Options::default())?;
    let mut payload = Vec::new();
    let mut theirs = Vec::new();
    let mut bytes = 0;
    for n in 0..RECORDS {
        payload.clear();
        wire::encode(&trade(n), &mut payload);
        bytes += payload.len() as u64;
        log.append(&[Entry { ts_recv: 1, payload: &payload }], &mut Vec::new)?;
        if n % 1_000 == 0 {
            log.commit()?;
            let name = || "kraken".to_owned();
            let body = MirrorTrade((645_281, 1), (123_440, 8), Some(0), Some((100_320_028 + n).to_string()));
            let mirror = Mirror(
                1,
                name(),
                name(),
                "BTC/USD".into(),
                Some(1_784_483_703_207_891_000),
                1_784_483_703_258_123_456,
                0,
                None,
                1,
                body,
            );
            theirs.push(rmp_serde::to_vec(&mirror)?);
        }
    }
    log.commit()?;
    let tail = log.tail();
    let pass = |decode: bool| {
        let mut reader = Reader::open_with(Arc::new(Disk), &dir, Start::Begin, tail.clone()).expect("opening");
        let mut read = 0_u64;
        while let Some(item) = reader.next().expect("reading") {
            if let Item::Record(record) = item {
                if decode {
                    black_box(wire::decode(record.payload)).expect("decoding");
                } else {
                    black_box(record.payload);
                }
                read += 1;
            }
        }
        assert_eq!(read, RECORDS);
    };
    let decode_theirs = || {
        for n in 0..RECORDS {
            black_box(rmp_serde::from_slice::<Mirror>(&theirs[n as usize % theirs.len()])).expect("decoding");
        }
    };
    let framed = bytes + RECORDS * 32;
    compare(
        "read back 1 M records, verified frames",
        each("tapedeck", || pass(false)),
        vec![each("rmp-serde decode from memory", decode_theirs)],
        Some(framed),
    );
    compare(
        "read back 1 M records, decoded events",
        each("tapedeck", || pass(true)),
        vec![each("rmp-serde decode from memory", decode_theirs)],
        Some(framed),
    );
    Ok(())
}

/// One segment of 1 GiB that no one sealed, as a kill leaves it; the page cache is warm.
fn recover(home: &Path) -> anyhow::Result<()> {
    let dir = home.join("recover");
    let options = Options {
        segment_bytes: RECOVER_BYTES + (64 << 20),
        allocation: tapedeck_tape::Allocation::Inline,
        ..Options::default()
    };
    let payload = vec![0x5a_u8; 200];
    let entries = vec![Entry { ts_recv: 1, payload: &payload }; 1_000];
    let mut times = Vec::new();
    for _ in 0..5 {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let (mut log, _) = Log::open(Arc::new(Disk), &dir, options.clone())?;
        let mut written = 0;
        while written < RECOVER_BYTES {
            log.append(&entries, &mut Vec::new)?;
            written += 232_000;
            if written % (16 << 20) < 232_000 {
                log.commit()?;
            }
        }
        log.commit()?;
        // Dropped, not closed: what a SIGKILL leaves.
        drop(log);
        let _ = std::fs::remove_file(dir.join("ahead"));
        let small = Options { segment_bytes: 4 << 20, ..options.clone() };
        let start = Instant::now();
        let (log, opening) = Log::open(Arc::new(Disk), &dir, small)?;
        times.push(start.elapsed().as_secs_f64());
        assert!(opening.last_seq > 4_000_000, "{opening:?}");
        drop(log);
    }
    let took = median(&times);
    println!(
        "recovery of 1 GiB unsealed: {:.2} s, {:.2} GB/s  [{:.2} … {:.2} s]",
        took,
        RECOVER_BYTES as f64 / took / 1e9,
        times.iter().copied().fold(f64::INFINITY, f64::min),
        times.iter().copied().fold(0.0, f64::max)
    );
    Ok(())
}
