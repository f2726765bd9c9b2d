//! Replay as fast as it goes: a tape's records as events, beside a peer that decodes the same events from memory.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tapedeck::replay::{Playback, Player, Range, Speed, Target};
use tapedeck_benches::{compare, each, probe};
use tapedeck_market::{Body, Event, Flags, Record, Side, SmolStr, Trade, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Log, Options, Start};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const RECORDS: u64 = 1_000_000;

/// What the peer decodes: the same fields, positional.
#[derive(Clone, Serialize, Deserialize)]
struct Mirror(u8, String, String, String, Option<i64>, i64, u32, Option<()>, u16, MirrorTrade);

#[derive(Clone, Serialize, Deserialize)]
struct MirrorTrade((i64, u8), (i64, u8), Option<u8>, Option<String>);

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let dir = home.path().join("tape");
    let theirs = record(&dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ours = || {
        let played = runtime.block_on(play(&dir)).expect("playing");
        assert_eq!(played, RECORDS);
    };
    let peer = || {
        for payload in &theirs {
            black_box(rmp_serde::from_slice::<Mirror>(payload)).expect("decoding");
        }
    };
    let stage = "replay 1 M records as events, max speed";
    compare(stage, each("tapedeck", ours), vec![each("rmp-serde decode from memory", peer)], None);
    Ok(())
}

/// Writes the tape; the peer's payloads of the same trades.
fn record(dir: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let (mut log, _) = Log::open(Arc::new(Disk), dir, Options::default())?;
    let (mut payload, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..RECORDS {
        let ts_recv = 1_784_483_703_258_123_456 + n as i64 * 1_000_000;
        let id = (100_320_028 + n).to_string();
        let trade = Trade {
            price: "64528.1".parse().context("a price of this file")?,
            size: "0.00123440".parse().context("a size of this file")?,
            side: Some(Side::Buy),
            id: Some(SmolStr::new(&id)),
        };
        let event = Event {
            source: "kraken".into(),
            venue: "kraken".into(),
            symbol: "BTC/USD".into(),
            ts_event: Some(UnixNanos(1_784_483_703_207_891_000)),
            ts_recv: UnixNanos(ts_recv),
            flags: Flags::NONE,
            origin: None,
            body: Body::Trade(trade),
        };
        payload.clear();
        wire::encode(&event, &mut payload);
        log.append(&[Entry { ts_recv, payload: &payload }], &mut Vec::new)?;
        if n % 1_000 == 0 {
            log.commit()?;
        }
        let name = || "kraken".to_owned();
        let trade = MirrorTrade((645_281, 1), (123_440, 8), Some(0), Some(id));
        let at = Some(1_784_483_703_207_891_000);
        let mirror = Mirror(1, name(), name(), "BTC/USD".into(), at, ts_recv, 0, None, 1, trade);
        theirs.push(rmp_serde::to_vec(&mirror)?);
    }
    log.commit()?;
    Ok(theirs)
}

/// Takes every event and drops it.
struct Nowhere;

impl Target for Nowhere {
    fn play(&mut self, record: &Record) -> anyhow::Result<()> {
        black_box(record);
        Ok(())
    }
}

async fn play(dir: &Path) -> anyhow::Result<u64> {
    let range = Range { from: Start::Begin, until_seq: None, until_time: None };
    let playback = Playback::open(dir, range, Box::new(|_| true))?;
    let (_commands, asked) = mpsc::channel(1);
    let mut tell = |_: &_| {};
    let player = Player::new(playback, Speed::Max, asked, CancellationToken::new(), &mut tell);
    Ok(player.run(&mut Nowhere).await?.records)
}
