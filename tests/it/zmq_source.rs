//! Existing ZeroMQ publishers, spoken by pyzmq, recorded by a deck.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tapedeck_market::{Body, GapCause, GapState, Record, Value};

use crate::servers::Influx1;
use crate::support::{Deck, free_port, gaps, python, records, tapedeck, until};

/// What a publisher says that it sent.
#[derive(Debug, Deserialize)]
struct Sent {
    events: u64,
    rejects: BTreeMap<String, u64>,
}

/// A Python publisher; it is killed when it is dropped.
struct Publisher(Child);

impl Publisher {
    /// `tests/python/client_mixed.py`: all forms mixed, rounds numbered from `first`.
    /// It begins when the topics are subscribed, or without any everything.
    fn mixed(python: &Path, port: u16, first: u32, rounds: u32, topics: &[&str]) -> Publisher {
        let script = repo().join("tests/python/client_mixed.py");
        let mut command = Command::new(python);
        command
            .arg(script)
            .args([format!("tcp://127.0.0.1:{port}"), first.to_string(), rounds.to_string()])
            .args(topics);
        Publisher(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until it has sent everything.
    fn sent(&mut self) -> Sent {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn repo() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn config(port: u16, more: &str) -> String {
    format!("[source.old]\nkind = \"zmq\"\nconnect = [\"tcp://127.0.0.1:{port}\"]\n{more}")
}

fn count(records: &[Record], wanted: impl Fn(&Body) -> bool) -> usize {
    records.iter().filter(|record| wanted(&record.event.body)).count()
}

/// The bid of a ticker, quote or book that the mixed publisher made, as text.
fn bid(body: &Body) -> Option<String> {
    match body {
        Body::Ticker(ticker) => ticker.bid.map(|bid| bid.to_string()),
        Body::Quote(quote) => quote.bid.map(|bid| bid.to_string()),
        Body::Book(book) => book.bids.first().map(|level| level.price.to_string()),
        _ => None,
    }
}

#[test]
fn text_two_frames_one_frame_and_json_strings_on_one_bus_are_all_decoded_or_counted_with_a_reason() {
    let Some(python) = python() else { return };
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let deck = Deck::start(home.path(), &config(port, ""));
    let mut publisher = Publisher::mixed(&python, port, 1000, 300, &[]);
    let sent = publisher.sent();
    assert_eq!((sent.events, sent.rejects.values().sum::<u64>()), (2_700, 2_100));
    let status = deck.until("all messages", |status| {
        status.sources.iter().any(|source| source.events >= sent.events && source.rejects >= 2_100)
    });
    let source = &status.sources[0];
    assert_eq!((source.events, source.rejects), (sent.events, 2_100));
    let reasons: BTreeMap<String, u64> = source.reject_reasons.clone().into_iter().collect();
    assert_eq!(reasons, sent.rejects);
    assert_eq!((source.panics, source.sessions), (0, 1), "nothing ended the session");
    deck.stop();

    let records = records(&home.path().join("tape"));
    assert_eq!(count(&records, |body| matches!(body, Body::Raw(raw) if raw.format == "rejected")), 2_100);
    let bids: BTreeSet<String> = records.iter().filter_map(|record| bid(&record.event.body)).collect();
    for number in 1000..1300 {
        for form in 1..=7 {
            assert!(bids.contains(&format!("{number}.{form}")), "{number}.{form} is not on the tape");
        }
    }
    let oanda: BTreeSet<i64> = records
        .iter()
        .filter(|record| record.event.venue == "oanda" && matches!(record.event.body, Body::Quote(_)))
        .filter_map(|record| record.event.ts_event.map(|at| at.0))
        .collect();
    assert_eq!(oanda.len(), 300, "300 of 300, each with its own nanosecond");
    assert!(oanda.contains(&1_767_607_200_000_010_001));
    let points: Vec<i64> = records
        .iter()
        .filter_map(|record| match &record.event.body {
            Body::Point(point) if point.name == "my_topic" => match point.fields.as_slice() {
                [(_, Value::Int(value))] => Some(*value),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(points, (1000..1300).collect::<Vec<_>>(), "in order");
}

#[test]
fn a_publisher_that_is_killed_and_comes_back_leaves_a_gap_that_is_closed() {
    let Some(python) = python() else { return };
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let deck = Deck::start(home.path(), &config(port, ""));
    let mut first = Publisher::mixed(&python, port, 1000, 50, &[]);
    let sent = first.sent();
    deck.until("the first run", |status| status.sources.iter().any(|source| source.events >= sent.events));
    drop(first);
    let tape = home.path().join("tape");
    until("open gaps", || {
        let gaps = gaps(&records(&tape));
        let open = gaps.iter().filter(|(_, gap)| gap.state == GapState::Open && gap.cause == GapCause::Session).count();
        (open >= 4).then_some(())
    });
    let mut second = Publisher::mixed(&python, port, 2000, 50, &[]);
    second.sent();
    let gaps = deck.until_closed(GapCause::Session, 4);
    let channels: BTreeSet<(&str, &str)> =
        gaps.iter().map(|(symbol, gap)| (symbol.as_str(), gap.channel.as_str())).collect();
    let expected = [("BTC/USD", "kraken_tick"), ("BTC/USD", "kr_depth"), ("EUR_USD", "oanda_tick"), ("", "my_topic")];
    assert!(expected.iter().all(|sub| channels.contains(sub)), "{channels:?}");
    deck.until("the second run", |status| status.sources.iter().any(|source| source.events >= 2 * sent.events));
    assert_eq!(deck.status().sources[0].sessions, 1, "the deck's own session went on");
    deck.stop();
    let bids: BTreeSet<String> = records(&tape).iter().filter_map(|record| bid(&record.event.body)).collect();
    for number in (1000..1050).chain(2000..2050) {
        assert!(bids.contains(&format!("{number}.1")), "{number}");
    }
}

#[test]
fn the_process_with_the_sockets_may_die_and_the_deck_goes_on() {
    let Some(python) = python() else { return };
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let deck = Deck::start(home.path(), &config(port, ""));
    let mut publisher = Publisher::mixed(&python, port, 1000, 10, &[]);
    let sent = publisher.sent();
    let status = deck.until("the first run", |status| status.sources.iter().any(|source| source.events >= sent.events));
    let child = until("the process with the sockets", || children(status.pid).into_iter().next());
    kill_process(Pid::from_raw(child).unwrap(), Signal::ABORT).unwrap();
    deck.until("a second session", |status| status.sources.iter().any(|source| source.sessions >= 2));
    let gaps = deck.until_closed(GapCause::Session, 4);
    assert!(gaps.iter().all(|(_, gap)| gap.detail.contains("signal: 6") || gap.state != GapState::Open), "{gaps:#?}");
    assert_eq!(deck.status().pid, status.pid, "the recorder did not notice");
    let child = until("its successor", || children(status.pid).into_iter().find(|other| *other != child));
    deck.signal(Signal::KILL);
    until("its end with the deck", || {
        (!Path::new(&format!("/proc/{child}/stat")).exists() || is_zombie(child)).then_some(())
    });
}

/// Processes that a process started.
fn children(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.map(of).collect::<String>().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn the_custom_publisher_of_the_predecessors_is_recorded_without_code() {
    let Some(python) = python() else { return };
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let deck = Deck::start(home.path(), &config(port, "topics = [\"my_topic\"]\n"));
    let script = repo().join("clients/python/examples/own_publisher.py");
    let mut command = Command::new(python);
    command.env("PYTHONPATH", repo().join("clients/python")).arg(script);
    command.args(["--port", &port.to_string(), "--interval", "0.02"]);
    let publisher = Publisher(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    deck.until("points", |status| status.sources.iter().any(|source| source.events >= 20));
    drop(publisher);
    deck.stop();
    for record in records(&home.path().join("tape")) {
        if let Body::Point(point) = &record.event.body {
            assert_eq!(
                (point.name.as_str(), point.fields.as_slice()),
                ("my_topic", &[("value".into(), Value::Int(42))][..])
            );
            assert!(record.event.ts_event.is_some(), "its `timestamp` is the time of the event");
        }
    }
}

#[test]
fn a_topic_is_read_as_its_table_says() {
    let Some(python) = python() else { return };
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let more = "[source.old.topics.kraken_tick]\nvenue = \"old\"\n[source.old.topics.my_topic]\nname = \"mine\"\nconstants = { desk = \"a\" }\ntags = [\"desk\"]\n";
    let deck = Deck::start(home.path(), &config(port, more));
    let mut publisher = Publisher::mixed(&python, port, 1000, 20, &["kraken_tick", "my_topic", "\"{"]);
    publisher.sent();
    // Six forms of ticks and one point a round; what is on other topics was not asked for.
    deck.until("all of it", |status| status.sources.iter().any(|source| source.events >= 7 * 20));
    deck.stop();
    let records = records(&home.path().join("tape"));
    assert_eq!(count(&records, |body| matches!(body, Body::Book(_))), 0);
    let venues: BTreeSet<&str> = records
        .iter()
        .filter(|record| matches!(record.event.body, Body::Ticker(_) | Body::Quote(_)))
        .map(|record| record.event.venue.as_str())
        .collect();
    assert_eq!(venues, BTreeSet::from(["old"]));
    let points = count(
        &records,
        |body| matches!(body, Body::Point(point) if point.name == "mine" && point.tags == [("desk".into(), "a".into())]),
    );
    assert_eq!(points, 20);
}

/// The old subscriber's command took two hosts: here they are two settings of a config that names others.
#[test]
fn what_is_on_the_bus_goes_to_the_influxdb_that_the_command_line_names() {
    let (Some(python), Some(server)) = (python(), Influx1::shared()) else { return };
    let (home, port, database) = (tempfile::tempdir().unwrap(), free_port(), server.fresh_database());
    let (path, dir) = (home.path().join("tapedeck.toml"), home.path().join("tape"));
    let sink = format!(
        "[sink.influx]\nkind = \"influx\"\nurl = \"http://127.0.0.1:1\"\ndatabase = {database:?}\nbatch_wait = \"20ms\"\n"
    );
    let other = "[source.other]\nkind = \"zmq\"\nconnect = [\"tcp://127.0.0.1:2\"]\n";
    std::fs::write(&path, format!("[tape]\ndir = {dir:?}\n[http]\nlisten = \"off\"\n{}{other}{sink}", config(1, "")))
        .unwrap();
    let connect = format!("source.old.connect=[\"tcp://127.0.0.1:{port}\"]");
    let url = format!("sink.influx.url={:?}", server.url());
    let deck = Deck::run(&path, &dir, &["--only", "old,influx", "--set", &connect, "--set", &url]);
    let mut publisher = Publisher::mixed(&python, port, 1000, 20, &[]);
    let sent = publisher.sent();
    let status = deck.until("all of it", |status| status.sources.iter().any(|source| source.events >= sent.events));
    let names: Vec<&str> = status.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["old"], "the other one stays away");
    // Six forms of ticks of Kraken a round.
    until("every tick in the database", || {
        let told = server.query(&database, "SELECT COUNT(bid) FROM kraken_tick");
        (told["series"][0]["values"][0][1] == 6 * 20).then_some(())
    });
    deck.stop();
}

#[test]
fn check_says_who_answers_and_who_does_not() {
    let Some(python) = python() else { return };
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let path = home.path().join("tapedeck.toml");
    std::fs::write(&path, format!("[tape]\ndir = {:?}\n{}", home.path().join("tape"), config(port, ""))).unwrap();
    let check = || {
        let out = tapedeck().arg("check").arg("-c").arg(&path).output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (passed, said) = check();
    assert!(!passed && said.contains("nobody answers at tcp://127.0.0.1:"), "{said}");
    let _publisher = Publisher::mixed(&python, port, 1000, 20, &[]);
    let (passed, said) = check();
    assert!(passed && said.contains("1 publishers answer"), "{said}");
}

#[test]
fn a_source_that_would_hear_the_decks_own_bus_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tapedeck.toml");
    let said = |offset: u16, port: u16| {
        let tape = home.path().join("tape");
        let text = format!("[tape]\ndir = {tape:?}\n[bus]\nport_offset = {offset}\n{}", config(port, ""));
        std::fs::write(&path, text).unwrap();
        let out = tapedeck().args(["config", "show", "-c"]).arg(&path).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    for (offset, port) in [(0, 5558), (0, 5572), (1_000, 6_562)] {
        let (code, said) = said(offset, port);
        assert!(code == Some(2) && said.contains("is the bus of this very deck"), "{code:?} {said}");
    }
    let (code, said) = said(1_000, 5_558);
    assert_eq!(code, Some(0), "{said}");
}
