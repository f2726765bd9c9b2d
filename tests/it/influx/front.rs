//! The deck in front of an InfluxDB, beside the same client without it, while the server is down.

use std::path::Path;

use super::*;
use crate::support::python;

/// An application with a client of that version; how many points it was told were taken.
fn client(python: &Path, version: &str, port: u16, measurement: &str, from: u32, count: u32, more: &[&str]) -> u32 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/front.py");
    let numbers = [version.to_owned(), port.to_string(), measurement.to_owned(), from.to_string(), count.to_string()];
    let out = Command::new(python).arg(script).args(numbers).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    said.trim().parse().unwrap_or_else(|_| panic!("{out:?}"))
}

/// Count, sum, first and last time of a measurement.
fn sums(answer: &Value) -> Option<(i64, f64)> {
    let row = &answer["series"][0]["values"][0];
    Some((row[1].as_i64()?, row[2].as_f64()?))
}

fn sum(numbers: impl Iterator<Item = u32> + Clone) -> (i64, f64) {
    (numbers.clone().count() as i64, numbers.map(f64::from).sum())
}

/// Writes through the deck and beside it while the server is up, away, and back.
fn side_by_side(
    version: &str,
    python: &Path,
    (sink, more): (&str, &[&str]),
    server: (u16, &dyn Fn(), &dyn Fn()),
    ask: &dyn Fn(&str) -> Option<Value>,
) {
    let (port, kill, restart) = server;
    let desk = Desk::new(sink);
    let mut deck = desk.start();
    until("the deck's door", || (desk.try_post("warm v=1 1\n") == "204").then_some(()));
    let front = |from, count| client(python, version, desk.http.port(), "front", from, count, more);
    let alone = |from, count| client(python, version, port, "alone", from, count, more);
    assert_eq!((front(0, 200), alone(0, 200)), (200, 200), "with the server up both are taken");
    kill();
    assert_eq!(alone(200, 500), 0, "the same client alone is told no, and has nowhere to put them");
    assert_eq!(front(200, 250), 250, "the deck takes them");
    // The front is killed, too.
    deck.signal(Signal::KILL);
    deck.wait();
    deck = desk.start();
    until("the deck's door", || (desk.try_post("warm v=1 1\n") == "204").then_some(()));
    assert_eq!(front(450, 250), 250);
    restart();
    assert_eq!((front(700, 100), alone(700, 100)), (100, 100));
    let found = until("all that the deck took", || {
        sums(&ask("SELECT COUNT(v), SUM(v) FROM front")?).filter(|(count, _)| *count >= 800)
    });
    assert_eq!(found, sum(0..800), "each once");
    let times = ask("SELECT v FROM front").unwrap();
    for (n, row) in (0_i64..).zip(times["series"][0]["values"].as_array().unwrap()) {
        assert_eq!(row[0].as_i64(), Some(1_700_000_000_000_000_000 + n), "with its own time");
    }
    let found = sums(&ask("SELECT COUNT(v), SUM(v) FROM alone").unwrap()).unwrap();
    assert_eq!(found, sum((0..200).chain(700..800)), "what was written to the server that was down is lost");
    assert_eq!(detail(&deck, "dead_letters"), 0);
    deck.stop();
}

#[test]
fn points_written_while_the_server_is_down_are_all_in_it_and_without_the_deck_they_are_lost() {
    let (Some(server), Some(python)) = (Influx1::private(), python()) else { return };
    query(server.url(), "", "CREATE DATABASE front", &["-XPOST"]);
    let sink = format!("url = \"{}\"\ndatabase = \"front\"", server.url());
    let ask = |statement: &str| Some(server.query("front", statement));
    let (kill, restart) = (|| server.kill(), || server.restart());
    side_by_side("1", &python, (&sink, &["front"]), (server.port(), &kill, &restart), &ask);
}

#[test]
fn the_same_with_a_client_and_a_server_of_2_x() {
    let (Some(server), Some(python)) = (Influx2::private(), python()) else { return };
    let bucket = server.fresh_database();
    let (org, token) = (server.org().to_owned(), server.token().to_owned());
    let sink = format!("url = \"{}\"\ndatabase = \"{bucket}\"\norg = \"{org}\"\ntoken = \"{token}\"", server.url());
    let ask = |statement: &str| Some(server.query(&bucket, statement));
    let (kill, restart) = (|| server.kill(), || server.restart());
    side_by_side("2", &python, (&sink, &[&bucket, &org, &token]), (server.port(), &kill, &restart), &ask);
}
