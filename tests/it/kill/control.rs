//! The judge on trial: it must let a sound tape pass and find what a flawed one loses.

use std::path::Path;
use std::sync::Arc;

use tapedeck_market::{Body, Event, Flags, Gap, GapCause, GapState, Trade, UnixNanos, wire};
use tapedeck_tape::model::Model;
use tapedeck_tape::storage::{Flaw, Storage};
use tapedeck_tape::{Allocation, Entry, Item, Log, Options, Reader, Start};

use GapCause::{Down, Sequence, Session};

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
    let ids: [(&[u64], &str); 5] = [
        (&[1, 2, 3, 4], ""),
        (&[1, 2, 4], "1 of BTC/USD trade are missing, and no gap says so"),
        (&[1, 2, 2, 3], "stands on the tape behind"),
        (&[1, 3, 2], "are missing, and no gap says so"),
        (&[1, 2, 3, 9], "was not sent"),
    ];
    for (ids, want) in ids {
        fits(judged(ids.iter().map(|&id| trade(id)).collect()), want);
    }
}

/// A gap that stands at its place must be true, too.
#[test]
fn the_judge_finds_a_gap_that_is_untrue() {
    let down = |from, to| [opened(Down, at(from)), closed(Down, at(from), at(to))];
    let hole = |missing| {
        let (opened, mut closed) = (opened(Sequence, at(1)), closed(Sequence, at(1), at(4)));
        with_gap(&mut closed, |gap| gap.missing = missing);
        [opened, closed]
    };
    // Four trades are sent, a second apart, acked before the third and the fourth; the second and third are missing.
    let cases = [
        ("", [down(1, 4), hole(Some(2))].concat()),
        ("begins before what stands on the tape", [down(0, 4), hole(Some(2))].concat()),
        ("no gap says so, from 2027-01-15T08:00:02", [down(3, 4)].concat()),
        (
            "no gap says so, from 2027-01-15T08:00:02",
            Vec::from(hole(Some(2)).map(|event| Event { symbol: "ETH/USD".into(), ..event })),
        ),
        ("another number of missing trade ids", down(1, 4).to_vec()),
        ("another number of missing trade ids", [down(1, 4), hole(Some(1))].concat()),
        ("closed without an ack", down(1, 1).to_vec()),
        ("recorded while its gap is open", [vec![opened(Down, at(1))], hole(Some(2)).to_vec()].concat()),
        ("opened while one is open", [opened(Down, at(1)), opened(Session, at(1))].to_vec()),
        ("closed without being open", [closed(Down, at(1), at(4))].to_vec()),
        ("closed as another gap", [opened(Down, at(1)), closed(Session, at(1), at(4))].to_vec()),
        ("its gap ends only after it", [down(1, 9), hole(Some(2))].concat()),
    ];
    for (want, ledger) in cases {
        fits(judged([vec![trade(1)], ledger, vec![trade(4)]].concat()), want);
    }
    let too_late = [vec![trade(1)], down(1, 2).to_vec(), vec![trade(2), trade(4)]].concat();
    fits(judged(too_late), "no gap says so");
}

fn fits(judged: Result<(), String>, want: &str) {
    let fits = if want.is_empty() { judged.is_ok() } else { judged.as_ref().is_err_and(|error| error.contains(want)) };
    assert!(fits, "{judged:?}, and not {want:?}");
}

#[test]
fn the_judge_finds_what_stays_behind_and_what_is_never_closed() {
    let mut judge = Judge::default();
    for id in 1..=3 {
        judge.told(told(id));
    }
    let eth = Event { symbol: "ETH/USD".into(), ..trade(4) };
    judge.told(Told { symbol: "ETH/USD".into(), ..told(4) });
    record(&mut judge, [trade(1), eth]).unwrap();
    let error = judge.end_of_tape().unwrap_err();
    assert!(error.contains("BTC/USD trade of 2027-01-15T08:00:02"), "{error}");
    record(&mut judge, [opened(Down, at(4))]).unwrap();
    assert!(judge.all_closed().is_err());
}

/// Four trades were sent, with acks between them; these records stand on the tape.
fn judged(records: Vec<Event>) -> Result<(), String> {
    let mut judge = Judge::default();
    (1..=4).for_each(|id| judge.told(told(id)));
    [2, 3].iter().for_each(|&second| judge.acked("BTC/USD", "trade", at(second)));
    record(&mut judge, records)
}

/// Gaps get the seq of the record that opens them as their id.
fn record(judge: &mut Judge, records: impl IntoIterator<Item = Event>) -> Result<(), String> {
    let mut id = 0;
    for mut event in records {
        let seq = judge.next_seq();
        if let Body::Gap(gap) = &mut event.body {
            id = if gap.state == GapState::Open { seq } else { id };
            gap.id = id;
        }
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
        // What the venue sent last is lost, and its ids are passed over.
        let (now, lost) = (at(id), id - judge.last_trade_id("BTC/USD"));
        judge.acked("BTC/USD", "trade", now);
        for cause in [Down, Sequence] {
            let from = if lost > 0 { at(judge.last_trade_id("BTC/USD")) } else { now };
            let (mut open, mut close) = (opened(cause, from), closed(cause, from, now));
            let seq = log.next_seq();
            for event in [&mut open, &mut close] {
                with_gap(event, |gap| gap.id = seq);
            }
            with_gap(&mut close, |gap| gap.missing = Some(lost));
            append(&mut log, &[open, close])?;
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

fn at(second: u64) -> UnixNanos {
    UnixNanos::from_secs(1_800_000_000 + second as i64)
}

fn event(second: u64) -> Event {
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: "BTC/USD".into(),
        ts_event: Some(at(second)),
        ts_recv: at(second),
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
    Event { body: Body::Trade(body), ..event(id) }
}

fn id_of(event: &Event) -> u64 {
    match &event.body {
        Body::Trade(trade) => trade.id.as_deref().and_then(|id| id.parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

fn told(id: u64) -> Told {
    let text = format!("- 1.5 2 {id} {}", at(id));
    Told { symbol: "BTC/USD".into(), channel: "trade", trade_id: Some(id), at: at(id), text }
}

fn opened(cause: GapCause, from: UnixNanos) -> Event {
    let gap = Gap {
        id: 0,
        state: GapState::Open,
        cause,
        channel: "trade".into(),
        from,
        to: None,
        missing: None,
        detail: "".into(),
    };
    Event { body: Body::Gap(Box::new(gap)), ts_event: None, ts_recv: from, ..event(0) }
}

fn closed(cause: GapCause, from: UnixNanos, to: UnixNanos) -> Event {
    let mut event = Event { ts_recv: to, ..opened(cause, from) };
    with_gap(&mut event, |gap| (gap.state, gap.to) = (GapState::Closed, Some(to)));
    event
}

fn with_gap(event: &mut Event, change: impl FnOnce(&mut Gap)) {
    if let Body::Gap(gap) = &mut event.body {
        change(gap);
    }
}
