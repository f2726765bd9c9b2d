//! The judge on trial: it must let a sound tape pass and find what a flawed one loses.

use std::path::Path;
use std::sync::Arc;

use tapedeck_market::{Body, Event, Flags, Gap, GapCause, GapState, Trade, UnixNanos, wire};
use tapedeck_tape::model::Model;
use tapedeck_tape::storage::{Flaw, Storage};
use tapedeck_tape::{Allocation, Entry, Item, Log, Options, Reader, Start};

use super::judge::{Judge, Told, hash_of};

const CRASHES: u64 = 40;

#[test]
fn the_judge_passes_power_cuts_of_a_tape_that_syncs_and_finds_them_on_one_that_does_not() {
    for seed in 1..=10 {
        assert_eq!(power_cuts(seed, None), Ok(()), "seed {seed}");
    }
    let found = (1..=10).filter(|&seed| power_cuts(seed, Some(Flaw::NoSync)).is_err()).count();
    assert_eq!(found, 10, "runs without sync that were found, of 10");
}

#[test]
fn the_judge_finds_what_is_missing_twice_foreign_or_out_of_order() {
    let gap = |state| Event { body: Body::Gap(Box::new(gap(7, state))), ..event() };
    let ids: [(&[u64], &str); 5] = [
        (&[1, 2, 3, 4], ""),
        (&[1, 2, 4], "1 of BTC/USD trade are missing, and no gap says so"),
        (&[1, 2, 2, 3], "stands on the tape behind"),
        (&[1, 3, 2], "are missing, and no gap says so"),
        (&[1, 2, 3, 9], "was not sent"),
    ];
    for (ids, want) in ids {
        let judged = judged(ids.iter().map(|&id| trade(id)));
        let fits =
            if want.is_empty() { judged.is_ok() } else { judged.as_ref().is_err_and(|error| error.contains(want)) };
        assert!(fits, "{ids:?}: {judged:?}");
    }
    let excused = [trade(1), gap(GapState::Open), gap(GapState::Closed), trade(4)];
    assert_eq!(judged(excused), Ok(()));
    let too_late = [trade(1), gap(GapState::Open), gap(GapState::Closed), trade(2), trade(4)];
    assert!(judged(too_late).is_err(), "a gap excuses what is missing at its place only");
}

/// Four trades were sent; these records stand on the tape.
fn judged(records: impl IntoIterator<Item = Event>) -> Result<(), String> {
    let mut judge = Judge::default();
    (1..=4).for_each(|id| judge.told(told(id)));
    for (seq, event) in (1..).zip(records) {
        let mut payload = Vec::new();
        wire::encode(&event, &mut payload);
        judge.record(seq, &payload)?;
    }
    Ok(())
}

/// Records trades on the model, cuts the power again and again, and goes on as the deck does: with a gap.
fn power_cuts(seed: u64, flaw: Option<Flaw>) -> Result<(), String> {
    let dir = Path::new("/tape");
    let mut disk = Model::new(seed);
    let mut judge = Judge::default();
    let mut id = 0;
    for crash in 0..CRASHES {
        if let Some(flaw) = flaw {
            disk.commit_flaw(flaw);
        }
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let options = Options { allocation: Allocation::Inline, segment_bytes: 64 * 1024, ..Options::default() };
        let (mut log, _) = Log::open(Arc::clone(&storage), dir, options).map_err(|error| error.to_string())?;
        read(&storage, dir, &mut judge)?;
        for state in [GapState::Open, GapState::Closed] {
            append(&mut log, &[Event { body: Body::Gap(Box::new(gap(crash, state))), ..event() }])?;
        }
        let mut reader = Reader::open_with(Arc::clone(&storage), dir, Start::Seq(judge.next_seq()), log.tail())
            .map_err(|error| error.to_string())?;
        for frame in 0..20 + (seed * 7 + crash * 13) % 60 {
            let trades: Vec<Event> = (0..1 + frame % 3)
                .map(|_| {
                    trade({
                        id += 1;
                        id
                    })
                })
                .collect();
            trades.iter().for_each(|event| judge.told(told(id_of(event))));
            append(&mut log, &trades)?;
            if frame % 4 == 3 {
                log.commit().map_err(|error| error.to_string())?;
            }
        }
        while let Some(Item::Record(record)) = reader.next().map_err(|error| error.to_string())? {
            judge.witness(record.seq, hash_of(record.payload));
        }
        // The power goes while the log is open: nothing is closed in order.
        disk = disk.crash(seed ^ (crash << 8));
        drop(log);
    }
    Ok(())
}

fn read(storage: &Arc<dyn Storage>, dir: &Path, judge: &mut Judge) -> Result<(), String> {
    let mut reader =
        Reader::open(Arc::clone(storage), dir, Start::Seq(judge.next_seq())).map_err(|error| error.to_string())?;
    while let Some(item) = reader.next().map_err(|error| error.to_string())? {
        match item {
            Item::Record(record) => judge.record(record.seq, record.payload)?,
            Item::Hole(hole) => return Err(format!("{hole:?}")),
        }
    }
    judge.end_of_tape()
}

fn append(log: &mut Log, events: &[Event]) -> Result<(), String> {
    let payloads: Vec<Vec<u8>> = events
        .iter()
        .map(|event| {
            let mut payload = Vec::new();
            wire::encode(event, &mut payload);
            payload
        })
        .collect();
    let entries: Vec<Entry<'_>> = payloads.iter().map(|payload| Entry { ts_recv: 1, payload }).collect();
    log.append(&entries, &mut Vec::new).map(drop).map_err(|error| error.to_string())
}

fn event() -> Event {
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: "BTC/USD".into(),
        ts_event: Some(UnixNanos::from_secs(1_800_000_000)),
        ts_recv: UnixNanos::from_secs(1_800_000_000),
        flags: Flags::NONE,
        origin: None,
        body: Body::Position(tapedeck_market::Position { key: "".into(), value: "".into() }),
    }
}

fn trade(id: u64) -> Event {
    let body = Trade {
        price: "1.5".parse().unwrap(),
        size: "2".parse().unwrap(),
        side: None,
        id: Some(id.to_string().into()),
    };
    Event { body: Body::Trade(body), ..event() }
}

fn id_of(event: &Event) -> u64 {
    match &event.body {
        Body::Trade(trade) => trade.id.as_deref().and_then(|id| id.parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

fn told(id: u64) -> Told {
    let text = format!("- 1.5 2 {id} {}", UnixNanos::from_secs(1_800_000_000));
    Told { symbol: "BTC/USD".into(), channel: "trade", trade_id: Some(id), text }
}

fn gap(id: u64, state: GapState) -> Gap {
    Gap {
        id,
        state,
        cause: GapCause::Down,
        channel: "trade".into(),
        from: UnixNanos::from_secs(1_800_000_000),
        to: None,
        missing: None,
        detail: "".into(),
    }
}
