//! What the predecessors' bridge lost, doubled or stored wrongly, with the same input, in a real InfluxDB.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use tapedeck_market::{Event, Flags, Point, Record, UnixNanos, Value as Number};

use super::*;
use crate::servers::gate::Gate;
use crate::support::{free_port, python};

/// A publisher of the predecessors; it is killed when it is dropped.
struct Publisher(Child);

impl Publisher {
    fn start(python: &Path, port: u16, what: &str, count: u32) -> Publisher {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/old_publishers.py");
        let mut command = Command::new(python);
        command.arg(script).args([format!("tcp://127.0.0.1:{port}"), what.to_owned(), count.to_string()]);
        Publisher(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn sent(&mut self) {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "sent");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a publisher send to a deck that delivers; the database, when all that was recorded is in it, how many were rejected with
/// their reasons, and the tape.
fn bridged(what: &str, count: u32) -> Option<Bridged> {
    let (server, python) = (Influx1::shared()?, python()?);
    let (database, port, home) = (server.fresh_database(), free_port(), tempfile::tempdir().unwrap());
    let (path, tape) = (home.path().join("tapedeck.toml"), home.path().join("tape"));
    // What else the config has stays away: this is a service for one publisher, as they had them.
    let config = format!(
        "[tape]\ndir = {tape:?}\n[http]\nlisten = \"off\"\n[candles]\nintervals = [\"1s\"]\n[source.other]\nkind = \"zmq\"\nconnect = [\"tcp://127.0.0.1:1\"]\n\
         [source.old]\nkind = \"zmq\"\nconnect = [\"tcp://127.0.0.1:{port}\"]\n\
         [sink.influx]\nkind = \"influx\"\nurl = \"{}\"\ndatabase = \"{database}\"\nbatch_wait = \"50ms\"\n",
        server.url()
    );
    std::fs::write(&path, config).unwrap();
    let deck = Deck::run(&path, &tape, &["--only", "old,influx"]);
    let mut publisher = Publisher::start(&python, port, what, count);
    publisher.sent();
    let status = deck.until("all messages", |status| {
        let source = status.sources.iter().find(|source| source.name == "old");
        source.is_some_and(|source| source.events + source.rejects >= u64::from(count))
    });
    until("all of it delivered", || is_done(&deck).then_some(()));
    assert_eq!((detail(&deck, "dead_letters"), detail(&deck, "failures")), (0, 0));
    let names: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!((status.sources.len(), names), (1, vec!["influx"]));
    // A signal ends it.
    deck.stop();
    let reasons = status.sources[0].reject_reasons.clone().into_iter().collect();
    Some(Bridged { server, database, reasons, records: records(&tape) })
}

struct Bridged {
    server: &'static Influx1,
    database: String,
    reasons: BTreeMap<String, u64>,
    records: Vec<Record>,
}

#[test]
fn acceptance_1_six_hundred_kraken_messages_are_six_hundred_points_with_the_right_bid() {
    let Some(Bridged { server, database, reasons: rejects, .. }) = bridged("kraken", 600) else { return };
    assert!(rejects.is_empty(), "{rejects:?}");
    let found = server.query(&database, "SELECT bid FROM kraken_tick WHERE pair = 'BTC/USD'");
    let mut bids: Vec<f64> =
        found["series"][0]["values"].as_array().unwrap().iter().map(|row| row[1].as_f64().unwrap()).collect();
    bids.sort_by(f64::total_cmp);
    let want: Vec<f64> = (0..600).map(|number| f64::from(100_000 + number) + 0.5).collect();
    assert_eq!(bids, want);
}

#[test]
fn acceptance_2_three_hundred_of_three_hundred_times_of_oanda_with_their_nanoseconds() {
    let Some(Bridged { server, database, reasons: rejects, .. }) = bridged("oanda", 300) else { return };
    assert!(rejects.is_empty(), "{rejects:?}");
    let found = server.query(&database, "SELECT bid FROM oanda_tick WHERE instrument = 'EUR_USD'");
    let rows = found["series"][0]["values"].as_array().unwrap();
    assert_eq!(rows.len(), 300);
    for (number, row) in (0_i64..).zip(rows) {
        assert_eq!(row[0].as_i64(), Some(1_767_607_200_000_000_001 + number * 7), "{row}");
        assert_eq!(row[1].as_f64(), format!("1.{number:05}").parse().ok());
    }
}

/// A price that is no number is refused where it arrives, before it is an event: no store ever sees it. It is counted with the
/// reason, and its frame lies on the tape.
#[test]
fn acceptance_3_one_nan_in_three_thousand_is_refused_at_the_door_and_costs_itself_alone() {
    let Some(Bridged { server, database, reasons, records }) = bridged("nan", 3_000) else { return };
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), [("number".to_owned(), 1)], "counted with its reason");
    let kept: Vec<String> = records
        .iter()
        .filter_map(|record| match &record.event.body {
            Body::Raw(raw) if raw.format == "rejected" => Some(String::from_utf8_lossy(&raw.frame).into_owned()),
            _ => None,
        })
        .collect();
    assert!(kept.len() == 1 && kept[0].contains("\u{1}nan\u{1}"), "listed by `tapedeck tail`, as it came: {kept:?}");
    let found = server.query(&database, "SELECT COUNT(bid), SUM(bid) FROM kraken_tick");
    let row = &found["series"][0]["values"][0];
    let sum: f64 = (0..3_000).filter(|number| *number != 1_500).map(|number| f64::from(100_000 + number) + 0.5).sum();
    assert_eq!((row[1].as_i64(), row[2].as_f64()), (Some(2_999), Some(sum)), "each of the others once");
}

/// One that is on the tape all the same, as an older deck, or another program, may have written it: one dead letter.
#[test]
fn acceptance_3_one_nan_in_three_thousand_on_the_tape_is_one_dead_letter() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    let tape: Vec<Record> = (0_i64..3_000)
        .map(|number| {
            let bid = if number == 1_500 { f64::NAN } else { number as f64 + 0.5 };
            let point =
                Point { name: "tick".into(), tags: Vec::new(), fields: vec![("bid".into(), Number::Float(bid))] };
            let time = UnixNanos(1_700_000_000_000_000_000 + number);
            let event = Event {
                source: "test".into(),
                venue: "test".into(),
                symbol: "".into(),
                ts_event: Some(time),
                ts_recv: time,
                flags: Flags::NONE,
                origin: None,
                body: Body::Point(Box::new(point)),
            };
            Record { seq: number.unsigned_abs() + 1, event }
        })
        .collect();
    crate::hostile::write(&desk.home.path().join("tape"), &tape);
    let deck = desk.start();
    until("all of it", || (detail(&deck, "delivered") >= 3_000 && is_done(&deck)).then_some(()));
    assert_eq!((detail(&deck, "dead_letters"), detail(&deck, "failures")), (1, 0));
    let found = server.query(&database, "SELECT COUNT(bid), SUM(bid) FROM tick");
    let row = &found["series"][0]["values"][0];
    let sum: f64 = (0..3_000).filter(|number| *number != 1_500).map(|number| f64::from(number) + 0.5).sum();
    assert_eq!((row[1].as_i64(), row[2].as_f64()), (Some(2_999), Some(sum)), "each of the others once");
    deck.stop();
    let letters = desk.deadletter(&["list", "--json"]);
    assert_eq!((letters.as_array().map(Vec::len), &letters[0]["seq"]), (Some(1), &1_501.into()), "{letters}");
    assert_eq!(letters[0]["words"], "`bid` is not a finite number", "{letters}");
}

#[test]
fn acceptance_4_fourteen_seconds_of_503_cost_few_tries_and_nothing_and_a_stop_is_obeyed() {
    let Some(server) = Influx1::shared() else { return };
    let (database, gate) = (server.fresh_database(), Gate::closed(server.port()));
    let desk = Desk::new(&format!("url = \"http://127.0.0.1:{}\"\ndatabase = \"{database}\"", gate.port));
    let deck = desk.start();
    let began = Instant::now();
    desk.post(&lines("m", 0, 1_000));
    until("the 503", || state(&deck).contains("503").then_some(()));
    // Not for luck: so long lasts the outage.
    std::thread::sleep(Duration::from_secs(14).saturating_sub(began.elapsed()));
    let tries = gate.refused();
    assert!((2..10).contains(&tries), "{tries} tries");
    let stopping = Instant::now();
    deck.stop();
    assert!(stopping.elapsed() < Duration::from_secs(10), "within the grace: {:?}", stopping.elapsed());
    let deck = desk.start();
    desk.post(&lines("m", 1_000, 1_000));
    gate.open();
    let found = until("all points", || {
        let found = rows(server.url(), &database, "SELECT COUNT(v), SUM(v) FROM m");
        (found.first()?[1].as_i64()? >= 2_000).then_some(found)
    });
    assert_eq!(found[0][1], 2_000);
    assert_eq!(found[0][2].as_f64(), Some(f64::from((0..2_000).sum::<i32>())), "each once");
    assert_eq!(detail(&deck, "dead_letters"), 0);
    deck.stop();
}

#[test]
fn acceptance_5_points_in_flight_when_the_deck_is_killed_are_stored_once() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    // They wait for company when the kill comes.
    desk.wait = "30s";
    let deck = desk.start();
    desk.post(&lines("m", 0, 420));
    assert_eq!(detail(&deck, "delivered"), 0);
    deck.signal(Signal::KILL);
    deck.wait();
    desk.wait = "20ms";
    let deck = desk.start();
    let count = until("the points", || rows(server.url(), &database, "SELECT COUNT(v) FROM m").first()?[1].as_i64());
    assert_eq!(count, 420);
    deck.stop();
    let deck = desk.start();
    until("everything delivered", || is_done(&deck).then_some(()));
    deck.stop();
    assert_eq!(rows(server.url(), &database, "SELECT COUNT(v) FROM m")[0][1], 420, "and nothing twice");
}

#[test]
fn acceptance_6_what_is_left_is_written_although_nothing_follows() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    desk.wait = "500ms";
    let deck = desk.start();
    until("the sink", || (state(&deck) == "running").then_some(()));
    desk.post(&lines("m", 0, 120));
    let posted = Instant::now();
    let count = until("the points", || rows(server.url(), &database, "SELECT COUNT(v) FROM m").first()?[1].as_i64());
    assert_eq!(count, 120);
    assert!(posted.elapsed() < Duration::from_secs(10), "written {:?} after the last of them", posted.elapsed());
    deck.stop();
}
