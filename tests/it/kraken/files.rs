//! Recordings through the `file` source.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tapedeck::intake::{Counters, Intake, Outlet, Resume};
use tapedeck::sources::file::KIND;
use tapedeck::sources::{Finished, Setup, Source};
use tapedeck_market::{Body, Event, Flags, GapCause};
use tokio::sync::mpsc;

use super::recordings::fixtures;

fn source(table: &str) -> Box<dyn Source> {
    let setup = Setup { name: "f".into(), table: table.parse().expect("toml"), dir: std::env::temp_dir() };
    (KIND.build)(setup).expect("a valid table").remove(0).source
}

/// Plays to the end and returns everything that was said.
async fn play(table: &str, resume: Resume) -> Vec<Intake> {
    let mut source = source(table);
    let (to_recorder, mut intake) = mpsc::channel(16);
    let out = Outlet::new("f".into(), "kraken".into(), to_recorder, Arc::new(Counters::default()), Arc::new(resume));
    let said = async {
        let mut said = Vec::new();
        while let Some(message) = intake.recv().await {
            said.push(message);
        }
        said
    };
    let run = async move {
        let ended = source.run(&out).await.expect_err("it ends");
        assert!(ended.is::<Finished>(), "{ended:#}");
    };
    let ((), said) =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(run, said) }).await.expect("an end");
    said
}

fn events(said: &[Intake]) -> Vec<&Event> {
    said.iter()
        .flat_map(|message| match message {
            Intake::Events { events, .. } | Intake::Holes { events, .. } => events.as_slice(),
            _ => &[],
        })
        .collect()
}

fn books(said: &[Intake]) -> Vec<&Event> {
    events(said).into_iter().filter(|event| matches!(event.body, Body::Book(_))).collect()
}

fn table(path: &Path, rest: &str) -> String {
    format!("paths = ['{}']\n{rest}", path.display())
}

#[tokio::test]
async fn a_v2_recording_is_played_whole() {
    let Some(dir) = fixtures() else { return };
    let path = dir.join("ws_v2_book_btcusd_d10_20260719T1754.jsonl.gz");
    let said = play(&table(&path, ""), Resume::default()).await;
    let books = books(&said);
    assert_eq!(books.len(), 1_254);
    assert!(books.iter().all(|event| event.flags.contains(Flags::REPLAYED)));
    assert!(matches!(&books[0].body, Body::Book(update) if update.depth == Some(10)));
    assert_eq!(said.iter().filter(|message| matches!(message, Intake::Live { .. })).count(), 1);
    assert!(!said.iter().any(|message| matches!(message, Intake::Lost { .. })));
    let source_says = source(&table(&path, "")).check().await.expect("readable");
    assert_eq!(source_says, "1376 frames, 0 of them unreadable");
}

#[tokio::test]
async fn a_hole_in_a_recording_is_a_gap_from_the_last_good_update() {
    let Some(dir) = fixtures() else { return };
    let path = dir.join("ws_v2_book_btcusd_d10_20260720T0339_with_hole.jsonl");
    let said = play(&table(&path, ""), Resume::default()).await;
    let lost: Vec<_> = said.iter().filter(|message| matches!(message, Intake::Lost { .. })).collect();
    assert!(matches!(lost[..], [Intake::Lost { cause: GapCause::Checksum, .. }]), "{lost:?}");
    assert_eq!(books(&said).len(), 58, "what comes after the break is kept, inside the gap");
}

#[tokio::test]
async fn a_v1_recording_keeps_its_receive_times() {
    let Some(dir) = fixtures() else { return };
    let path = dir.join("ws_v1_book1000_10pairs_20210417.txt.gz");
    let said = play(&table(&path, "format = 'kraken-v1'"), Resume::default()).await;
    let books = books(&said);
    assert_eq!(books.len(), 4_279);
    assert!(!said.iter().any(|message| matches!(message, Intake::Lost { .. })));
    assert_eq!(books[0].ts_recv.to_string(), "2021-04-17T16:48:53.626511000Z");
    assert!(matches!(&books[0].body, Body::Book(update) if update.depth == Some(1_000)));
}

#[tokio::test]
async fn a_restart_goes_on_behind_the_last_position() {
    let Some(dir) = fixtures() else { return };
    let path = dir.join("ws_v2_book_btcusd_d10_20260719T1754.jsonl.gz");
    let key = format!("file {}", path.display());
    let resume = Resume { positions: [(key.into(), "700".into())].into(), ..Resume::default() };
    let whole = play(&table(&path, ""), Resume::default()).await;
    let rest = play(&table(&path, ""), resume).await;
    let digits = |event: &&Event| format!("{:?}", event.body);
    let (whole, tail): (Vec<_>, Vec<_>) =
        (books(&whole).iter().map(digits).collect(), books(&rest).iter().map(digits).collect());
    assert!(tail.len() < whole.len() && tail.len() > 500, "{}", tail.len());
    assert_eq!(whole[whole.len() - tail.len()..], tail);
    assert!(!rest.iter().any(|message| matches!(message, Intake::Lost { .. })), "the books are known again");
    let positions: Vec<u64> = events(&rest)
        .iter()
        .filter_map(|event| match &event.body {
            Body::Position(position) => position.value.parse().ok(),
            _ => None,
        })
        .collect();
    assert!(positions.is_sorted() && positions.last() == Some(&1_376), "{positions:?}");
}

#[tokio::test(start_paused = true)]
async fn the_original_pace_is_kept_or_multiplied() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("frames.txt");
    let line = |s: u32| {
        format!("16146729{s:02}.5: [78,[[\"1.5\",\"2.0\",\"1614672930.5\",\"s\",\"l\",\"\"]],\"trade\",\"A/B\"]\n")
    };
    std::fs::write(&path, [line(10), line(20), line(50)].concat()).expect("writing");
    for (speed, seconds) in [("1.0", 40), ("10", 4), ("'max'", 0)] {
        let began = tokio::time::Instant::now();
        let said = play(&table(&path, &format!("format = 'kraken-v1'\nspeed = {speed}")), Resume::default()).await;
        assert_eq!(events(&said).iter().filter(|event| matches!(event.body, Body::Trade(_))).count(), 3);
        assert_eq!(began.elapsed().as_secs(), seconds, "speed {speed}");
    }
}

#[tokio::test]
async fn lines_written_while_it_runs_are_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("frames.jsonl");
    let line = |id: u32| {
        format!(
            "{{\"channel\":\"trade\",\"type\":\"update\",\"data\":[{{\"symbol\":\"A/B\",\"price\":1.5,\"qty\":1,\"trade_id\":{id}}}]}}\n"
        )
    };
    std::fs::write(&path, line(1)).expect("writing");
    let mut source = source(&table(&path, "follow = true"));
    let (to_recorder, mut intake) = mpsc::channel(16);
    let out = Outlet::new("f".into(), "kraken".into(), to_recorder, Arc::default(), Arc::default());
    let task = tokio::spawn(async move { source.run(&out).await });
    let next_id = async |intake: &mut mpsc::Receiver<Intake>| loop {
        let message =
            tokio::time::timeout(Duration::from_secs(30), intake.recv()).await.expect("a line").expect("running");
        if let Intake::Events { events, .. } = message
            && let Body::Trade(trade) = &events[0].body
        {
            return trade.id.clone().expect("an id");
        }
    };
    assert_eq!(next_id(&mut intake).await, "1");
    // In two pieces: a line counts when it is whole.
    let second = line(2);
    let append = |text: &str| {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("opening");
        file.write_all(text.as_bytes()).expect("writing");
    };
    append(&second[..20]);
    append(&second[20..]);
    assert_eq!(next_id(&mut intake).await, "2");
    task.abort();
}
