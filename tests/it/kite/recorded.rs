//! Recorded packets, directly and through the fake's socket, against what the venue's own client makes of them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;
use tapedeck::intake::Resume;
use tapedeck_market::{Body, Event, UnixNanos};
use tapedeck_testkit::FakeKite;
use tapedeck_testkit::kraken::Speed;

use super::frames::{reader, same_as_the_clients};
use super::live::sessions;
use crate::candles::venues::recording;
use crate::kraken::desk::Desk;
use crate::skipped::skipped;

const AT: UnixNanos = UnixNanos(1_784_483_680_000_000_000);

fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("TAPEDECK_FIXTURES");
    if folder.is_none() {
        skipped("TAPEDECK_FIXTURES is not set");
    }
    folder.map(|folder| Path::new(&folder).join("kite"))
}

/// Files with the name that the oracle has for each.
fn files(folder: &Path) -> Vec<(PathBuf, Value)> {
    let oracle = std::fs::read_to_string(folder.join("frames/oracle.json")).expect("the oracle");
    let oracle: Value = serde_json::from_str(&oracle).expect("JSON");
    let oracle = oracle.as_object().expect("an object").iter();
    oracle
        .map(|(name, want)| {
            let file = name.split(' ').next().expect("a name");
            let below = if file.ends_with(".bin") { "frames" } else { "mocks" };
            (folder.join(below).join(file), want[0].clone())
        })
        .collect()
}

#[test]
fn the_recorded_packets_are_what_the_venues_client_makes_of_them() {
    let Some(folder) = fixtures() else { return };
    let files = files(&folder);
    assert_eq!(files.len(), 3);
    for (path, want) in files {
        let mut bytes = std::fs::read(&path).expect("a recording");
        if path.extension().is_some_and(|ending| ending == "packet") {
            let text: String = String::from_utf8(bytes).expect("base64").split_whitespace().collect();
            let packet = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
            bytes = [&[0, 1], &(packet.len() as u16).to_be_bytes()[..], &packet].concat();
        }
        let frame = reader().read(&bytes, AT).expect("a frame");
        assert_eq!((frame.packets.len(), frame.broken, frame.odd), (1, None, vec![]), "{}", path.display());
        same_as_the_clients(&frame.events, &want);
    }
}

#[tokio::test]
async fn they_are_the_same_through_a_socket() {
    let Some(folder) = fixtures() else { return };
    for (path, want) in files(&folder) {
        let fake = FakeKite::builder().frames(&path, Speed::Max).start().await.expect("a fake venue");
        let token = want["instrument_token"].as_u64().expect("a token");
        let home = tempfile::tempdir().expect("a folder");
        let mut desk = Desk::at(
            "kite",
            sessions(&fake, home.path(), &format!("instruments = [{token}]")).remove(0),
            Resume::default(),
        );
        // The state at the start, again with the mode, and what is played.
        desk.until_events("tickers", 3, |event| matches!(event.body, Body::Ticker(_))).await;
        let data: Vec<Event> =
            desk.events().filter(|event| !matches!(event.body, Body::Instrument(_))).cloned().collect();
        let last = data.iter().rposition(|event| matches!(event.body, Body::Ticker(_))).expect("a ticker");
        same_as_the_clients(&data[last..], &want);
        assert_eq!(data[last].symbol, format!("NSE:{}", fake.listed()[0].symbol));
    }
}

#[tokio::test]
async fn a_day_of_ticks_of_the_exchange_comes_through_in_order_with_its_dirt() {
    for (name, token, day, falls) in [
        ("INFY", 408_065, "20210415", 502),
        ("RELIANCE", 738_561, "20210503", 346),
        ("NIFTY_BANK", 260_105, "20210430", 0),
    ] {
        let file = format!("kite/nse_ticks/{name}_{day}.csv.gz");
        let (Some(folder), Some(text)) = (fixtures(), recording(&file)) else { return };
        let path = folder.parent().expect("a folder").join(&file);
        let fake = FakeKite::builder().frames(path, Speed::Max).start().await.expect("a fake venue");
        let home = tempfile::tempdir().expect("a folder");
        let mut desk = Desk::at(
            "kite",
            sessions(&fake, home.path(), &format!("instruments = [{token}]\nchannels = ['ticker']")).remove(0),
            Resume::default(),
        );
        let rows: Vec<&str> = text.lines().skip(1).filter(|line| !line.is_empty()).collect();
        let index = name == "NIFTY_BANK";
        // Beside the ticks come the states that subscribing and asking for a mode answer with.
        desk.until_events("ticks", rows.len() + 2, |event| matches!(event.body, Body::Ticker(_))).await;
        let of_event = |event: &Event| match &event.body {
            Body::Ticker(it) => {
                Some((event.ts_event.map(|ts| ts.0), it.last?.0, it.today.volume.map(|volume| volume.0)))
            }
            _ => None,
        };
        let of_row = |row: &str| {
            let fields: Vec<&str> = row.split(',').collect();
            let time: jiff::Timestamp = format!("{}+05:30", fields[0].replace(' ', "T")).parse().expect("a time");
            let number = |text: &str| text.parse::<tapedeck_market::Decimal>().expect("a number");
            let volume = number(fields[2].split('.').next().expect("a volume"));
            (
                Some(i64::try_from(time.as_nanosecond()).expect("in range")),
                number(fields[1]),
                (!index).then_some(volume),
            )
        };
        let (mut at, mut states, mut fell) = (0, 0, 0);
        for got in desk.events().filter_map(of_event) {
            if at < rows.len() && got == of_row(rows[at]) {
                let before = at.checked_sub(1).and_then(|before| of_row(rows[before]).2);
                fell += u32::from(got.2 < before);
                at += 1;
            } else {
                states += 1;
            }
        }
        assert_eq!((at, states), (rows.len(), 2), "{name}: each tick, in order");
        assert_eq!(fell, falls, "{name}: a volume that falls is passed on as it is");
    }
}
