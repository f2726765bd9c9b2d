//! Recordings through the `file` source, packed as they are downloaded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tapedeck::intake::{Counters, Intake, Outlet, Resume};
use tapedeck::sources::file::KIND;
use tapedeck::sources::{Finished, Session, Setup};
use tapedeck_market::{Body, Event, Flags};
use tokio::sync::mpsc;

use super::recorded::{RECORDINGS, Rebuilt, fixture, oracle};
use crate::kraken::desk::events_of;

fn session(table: &str) -> anyhow::Result<Session> {
    let setup = Setup { name: "f".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    Ok((KIND.build)(setup)?.remove(0))
}

/// Plays to the end and returns everything that was said.
async fn play(table: &str, resume: Resume) -> Vec<Intake> {
    let mut session = session(table).expect("a valid table");
    let (to_recorder, mut intake) = mpsc::channel(16);
    let counters = Arc::new(Counters::default());
    let out = Outlet::new("f".into(), session.venue.clone(), to_recorder, counters.clone(), Arc::new(resume));
    let said = async {
        let mut said = Vec::new();
        while let Some(message) = intake.recv().await {
            said.push(message);
        }
        said
    };
    let run = async move {
        let ended = session.source.run(&out).await.expect_err("it ends");
        assert!(ended.is::<Finished>(), "{ended:#}");
    };
    let ((), said) =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(run, said) }).await.expect("an end");
    assert_eq!(counters.rejects.load(Ordering::Relaxed), 0);
    said
}

fn events(said: &[Intake]) -> impl Iterator<Item = &Event> {
    said.iter().flat_map(events_of)
}

#[tokio::test]
async fn every_recording_is_played_whole_from_its_packed_file() {
    for name in RECORDINGS {
        let Some(path) = fixture(name) else { return };
        let want = oracle(&path);
        let table = format!("format = 'betfair'\npaths = ['{}']", path.display());
        let said = play(&table, Resume::default()).await;
        let mut rebuilt = Rebuilt::default();
        for event in events(&said) {
            assert!(event.venue == "betfair", "{name}");
            if !matches!(event.body, Body::Position(_)) {
                assert!(event.flags.contains(Flags::REPLAYED), "{name}: {event:?}");
                rebuilt.apply(event);
            }
        }
        rebuilt.assert_same(want["checkpoints"].as_array().unwrap().last().unwrap(), name);
        rebuilt.assert_settled(&want, name);
        let live = said.iter().filter(|said| matches!(said, Intake::Live { channel, .. } if channel == "odds")).count();
        assert_eq!(live, 1, "{name}");
        let checked = session(&table).unwrap().source.check().await.expect("readable");
        assert_eq!(checked, format!("{} frames, 0 of them unreadable", want["messages"]), "{name}");
    }
}

#[tokio::test]
async fn a_second_run_goes_on_behind_the_line_that_the_first_one_said_last() {
    let Some(path) = fixture("recorded/1.197931750.gz") else { return };
    let table = format!("format = 'betfair'\npaths = ['{}']", path.display());
    let whole = play(&table, Resume::default()).await;
    let mut resume = Resume::default();
    resume.positions.insert(format!("file {}", path.display()).into(), "100".into());
    let rest = play(&table, resume).await;
    let bodies = |said: &[Intake]| -> Vec<Body> {
        events(said).map(|event| event.body.clone()).filter(|body| matches!(body, Body::Odds(_))).collect()
    };
    let (whole, rest) = (bodies(&whole), bodies(&rest));
    assert!(!rest.is_empty() && rest.len() < whole.len() && whole.ends_with(&rest));
}

#[tokio::test]
async fn own_orders_are_played_too_and_a_packed_file_is_not_followed() {
    let Some(path) = fixture("historic/ORDER-1.177596575.gz") else { return };
    let table = format!("format = 'betfair'\npaths = ['{}']", path.display());
    let said = play(&table, Resume::default()).await;
    let statuses: Vec<_> = events(&said)
        .filter_map(|event| match &event.body {
            Body::Order(order) => order.status.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(statuses, ["E", "EC", "E"]);
    let refused = session(&format!("{table}\nfollow = true")).expect_err("refused").to_string();
    assert!(refused.contains("follow: a packed file"), "{refused}");
}
