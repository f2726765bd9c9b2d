//! A deck that delivers: it and its server are killed, its password is wrong at first, and it is asked for candles.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::kraken::recordings::fixtures;
use crate::servers::{Database, Postgres, fresh_name};
use crate::support::{Deck, free_port, records, tapedeck, until};

/// A deck that takes points over HTTP and delivers them.
struct Desk {
    home: tempfile::TempDir,
    http: SocketAddr,
    config: String,
}

impl Desk {
    fn new(dsn: &str, more: &str) -> Desk {
        let http: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        let config = format!(
            "[http]\nlisten = \"{http}\"\n[source.points]\nkind = \"http\"\n[sink.pg]\nkind = \"postgres\"\ndsn = \"{dsn}\"\nbatch_wait = \"20ms\"\n{more}"
        );
        Desk { home: tempfile::tempdir().unwrap(), http, config }
    }

    fn start(&self) -> Deck {
        Deck::start(self.home.path(), &self.config)
    }

    /// Sends points until the deck has them on its tape.
    fn post(&self, from: u64, count: u64) {
        let lines: String =
            (from..from + count).map(|n| format!("m,host=a v={n} {}\n", 1_700_000_000_000_000_000 + n)).collect();
        self.post_lines(&lines);
    }

    fn post_lines(&self, lines: &str) {
        until("the points to be recorded", || {
            let url = format!("http://{}/write?db=any", self.http);
            let curl = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-", &url];
            let mut curl =
                Command::new("curl").args(curl).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            curl.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            (curl.wait_with_output().unwrap().stdout == b"204").then_some(())
        });
    }
}

fn detail(deck: &Deck, key: &str) -> u64 {
    let status = deck.status();
    let sink = status.services.iter().find(|service| service.name == "pg");
    sink.and_then(|sink| sink.detail.get(key)?.as_u64()).unwrap_or_default()
}

fn state(deck: &Deck) -> String {
    let status = deck.status();
    let sink = status.services.iter().find(|service| service.name == "pg");
    sink.map(|sink| sink.state.clone()).unwrap_or_default()
}

/// Rows of points, different ones, and what their values add up to.
fn points(server: &Postgres, database: &Database) -> Option<String> {
    let sql = "SELECT count(*), count(DISTINCT (tape_id, seq)), sum(value) FROM tapedeck.points";
    // While it is away there is nothing to say.
    let out = Command::new("psql").args(["-X", "-A", "-t", "-q", "-d", &database.dsn, "-c", sql]).output().unwrap();
    let _ = server;
    out.status.success().then(|| String::from_utf8(out.stdout).unwrap().trim().to_owned())
}

#[test]
fn every_point_is_there_once_although_the_server_and_the_deck_are_killed() {
    let Some(server) = Postgres::private() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&database.dsn, "timeout = \"5s\"\n");
    let mut deck = desk.start();
    for round in 0..24 {
        match round {
            4 | 15 => server.kill(),
            8 | 18 => server.restart(),
            // In the middle of it, with the server there and away.
            6 | 11 | 13 | 20 | 22 => {
                deck.signal(Signal::KILL);
                deck.wait();
                deck = desk.start();
            }
            _ => {}
        }
        desk.post(round * 100, 100);
    }
    let sum: u64 = (0..2_400).sum();
    let found = until("all points", || {
        let found = points(&server, &database)?;
        let count: u64 = found.split('|').next()?.parse().ok()?;
        (count >= 2_400).then_some(found)
    });
    assert_eq!(found, format!("2400|2400|{sum}"));
    deck.stop();
    let tape = desk.home.path().join("tape");
    let cursors = tapedeck_tape::cursors::list(&tapedeck_tape::storage::Disk, &tape).unwrap();
    let cursor = cursors.into_iter().find(|cursor| cursor.name == "pg").unwrap();
    assert_eq!(cursor.seq, records(&tape).len() as u64, "a stop delivers what is there");
    assert_eq!(server.psql(&database.dsn, "SELECT count(*) FROM tapedeck.points_default"), "0");
}

#[test]
fn a_lost_cursor_doubles_nothing_and_an_emptied_database_is_filled_again() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&database.dsn, "");
    let deck = desk.start();
    desk.post(0, 500);
    until("the points", || (points(server, &database)? == "500|500|124750").then_some(()));
    deck.stop();
    std::fs::remove_dir_all(desk.home.path().join("tape/cursors")).unwrap();
    server.psql(&database.dsn, "DELETE FROM tapedeck.cursors");
    let deck = desk.start();
    desk.post(500, 100);
    until("the points", || (points(server, &database)?.starts_with("600|600|")).then_some(()));
    deck.stop();
    server.psql(&database.dsn, "DROP SCHEMA tapedeck CASCADE");
    let deck = desk.start();
    until("the points", || (points(server, &database)?.starts_with("600|600|")).then_some(()));
    deck.stop();
}

#[test]
fn a_wrong_password_is_told_and_a_right_one_needs_no_restart_of_the_recording() {
    let Some(server) = Postgres::shared() else { return };
    let (database, role) = (server.fresh_database(), fresh_name("role"));
    server.psql(
        &database.dsn,
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'right-pw-hunter2'; GRANT CREATE ON DATABASE {} TO {role}",
            database.name
        ),
    );
    let dsn = format!("postgresql://{role}:wrong-pw-hunter2@127.0.0.1:{}/{}", server.port(), database.name);
    let desk = Desk::new(&dsn, "");
    let deck = desk.start();
    desk.post(0, 10);
    until("the refusal", || state(&deck).starts_with("waiting: connecting to").then_some(()));
    assert!(state(&deck).contains("28P01"), "{}", state(&deck));
    assert!(!state(&deck).contains("hunter2") && !deck.log().contains("hunter2"), "{}\n{}", state(&deck), deck.log());
    let config = std::fs::read_to_string(&deck.config).unwrap().replace("wrong-pw", "right-pw");
    std::fs::write(&deck.config, config).unwrap();
    deck.signal(Signal::HUP);
    until("the points", || (points(server, &database)? == "10|10|45").then_some(()));
    // Permissions, a read-only database: nothing else stops, and each passes by itself.
    server.psql(&database.dsn, &format!("REVOKE INSERT ON ALL TABLES IN SCHEMA tapedeck FROM {role}"));
    desk.post(10, 10);
    until("the refusal", || state(&deck).starts_with("waiting: writing: permission denied").then_some(()));
    server.psql(&database.dsn, &format!("GRANT INSERT ON ALL TABLES IN SCHEMA tapedeck TO {role}"));
    until("the points", || (points(server, &database)? == "20|20|190").then_some(()));
    assert_eq!(detail(&deck, "dead_letters"), 0);
    deck.stop();
}

#[test]
fn what_cannot_be_stored_is_a_dead_letter_and_the_rest_is_stored() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&database.dsn, "");
    let deck = desk.start();
    desk.post(0, 100);
    until("the first points", || (points(server, &database)?.starts_with("100|")).then_some(()));
    server.psql(&database.dsn, "ALTER TABLE tapedeck.points ADD CONSTRAINT small CHECK (value < 1000)");
    desk.post_lines("m v=1001 1\nm v=1 2\nm v=1002 3\nm v=2 4\n");
    until("the dead letters", || (detail(&deck, "dead_letters") == 2).then_some(()));
    until("the rest", || (points(server, &database)?.starts_with("102|102|")).then_some(()));
    assert_eq!(state(&deck), "running");
    deck.stop();
    let deadletter = |args: &[&str]| -> Value {
        let out = tapedeck()
            .arg("deadletter")
            .args(args)
            .arg("-c")
            .arg(desk.home.path().join("tapedeck.toml"))
            .output()
            .unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"))
    };
    let letters = deadletter(&["list", "--json"]);
    assert!(letters[0]["words"].as_str().unwrap().contains("violates check constraint \"small\""), "{letters}");
    server.psql(&database.dsn, "ALTER TABLE tapedeck.points DROP CONSTRAINT small");
    let again = deadletter(&["retry", "pg", "--json"]);
    assert_eq!(again["delivered"], 2, "{again}");
    assert!(points(server, &database).unwrap().starts_with("104|104|"));

    // Nothing but dead letters: given up, they do not come back with the next start.
    server.psql(&database.dsn, "ALTER TABLE tapedeck.points ADD CONSTRAINT small CHECK (value < 1000) NOT VALID");
    let deck = desk.start();
    desk.post_lines("m v=2001 1\n");
    until("the dead letter", || (detail(&deck, "dead_letters") == 1).then_some(()));
    deck.stop();
    let seq = deadletter(&["list", "--json"])[0]["seq"].to_string();
    let out = tapedeck()
        .args(["deadletter", "drop", "pg", "--seq", &seq, "-c"])
        .arg(desk.home.path().join("tapedeck.toml"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "dropped 1", "{out:?}");
    let deck = desk.start();
    desk.post_lines("m v=3 5\n");
    until("the next point", || (points(server, &database)?.starts_with("105|105|")).then_some(()));
    deck.stop();
    assert_eq!(deadletter(&["list", "--json"]), Value::Array(Vec::new()));
}

#[test]
fn a_recording_and_its_candles_are_in_the_store_and_asked_for() {
    let (Some(server), Some(dir)) = (Postgres::shared(), fixtures()) else { return };
    let database = server.fresh_database();
    let home = tempfile::tempdir().unwrap();
    let recording = dir.join("ws_v1_ticker_10pairs_20210417.txt.gz");
    let config = format!(
        "[source.kraken]\nkind = \"file\"\npaths = [{:?}]\nformat = \"kraken-v1\"\n[candles]\nintervals = [\"1m\"]\ninput = \"mid\"\n[sink.pg]\nkind = \"postgres\"\ndsn = \"{}\"\nmerged_candles = [\"*\"]\n",
        recording.to_str().unwrap(),
        database.dsn
    );
    let deck = Deck::start(home.path(), &config);
    until("the recording to be delivered", || {
        let status = deck.status();
        let source = status.sources.iter().any(|source| source.state == "finished");
        (source && detail(&deck, "delivered") > 10 && detail(&deck, "lag_records") == 0).then_some(())
    });
    deck.stop();
    let tape = records(&home.path().join("tape"));
    let of = |kind: &str| tape.iter().filter(|record| record.event.body.kind().name() == kind).count();
    assert!(of("ticker") > 10, "{} tickers", of("ticker"));
    for (kind, table) in [
        ("ticker", "tickers"),
        ("instrument", "instruments"),
        ("position", "positions"),
        ("tape", "tape"),
        ("gap", "gaps"),
    ] {
        let rows = server.psql(&database.dsn, &format!("SELECT count(*) FROM tapedeck.{table}"));
        assert_eq!(rows, of(kind).to_string(), "{table}");
    }
    let rows = |table: &str| server.psql(&database.dsn, &format!("SELECT count(*) FROM {table}"));
    assert!(rows("tapedeck.candles").parse::<u32>().unwrap() > 10);
    assert_eq!(rows("tapedeck.candles"), rows("merged_candles_1min"));

    // What verbs ask.
    let ask = |verb: &str, args: &[&str]| -> Vec<Value> {
        let config = home.path().join("tapedeck.toml");
        let out = tapedeck().arg(verb).args(args).arg("--json").arg("-c").arg(config).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        let read = serde_json::Deserializer::from_slice(&out.stdout).into_iter().map(Result::unwrap);
        read.flat_map(|one: Value| one.as_array().cloned().unwrap_or_else(|| vec![one])).collect()
    };
    let symbol = server.psql(&database.dsn, "SELECT symbol FROM tapedeck.candles ORDER BY start DESC LIMIT 1");
    let (of_tape, stored) = (ask("candles", &[&symbol, "1m"]), ask("candles", &[&symbol, "1m", "--sink", "pg"]));
    assert!(!of_tape.is_empty());
    let numbers = |rows: &[Value]| -> Vec<String> {
        let keys = ["open", "high", "low", "close", "volume", "revision", "input"];
        rows.iter().map(|row| keys.map(|key| row[key].to_string()).join(" ")).collect()
    };
    assert_eq!(numbers(&stored), numbers(&of_tape), "digit for digit");
    let counts = ask("candles", &["--counts", "--sink", "pg"]);
    let total: i64 = counts.iter().map(|row| row["candles"].as_i64().unwrap()).sum();
    assert_eq!(total.to_string(), rows("tapedeck.candles"));
    let latest = ask("latest", &[&symbol]);
    let newest = format!(
        "SELECT bid, seq FROM tapedeck.tickers WHERE symbol = '{symbol}' ORDER BY ts_recv DESC, seq DESC LIMIT 1"
    );
    assert_eq!(
        format!("{}|{}", latest[0]["bid"].as_str().unwrap(), latest[0]["seq"]),
        server.psql(&database.dsn, &newest)
    );
    assert!(ask("latest", &[]).len() > 3);
}
