//! A deck that delivers to a real InfluxDB: killed servers, killed decks, wrong passwords, conflicting types, hostile names.

mod acceptance;
mod books;
mod disk;
mod front;
mod keys;
mod late;
mod retention;
mod second;
mod third;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tapedeck_market::Body;

use crate::kraken::recordings::fixtures;
use crate::servers::{Influx1, Influx2, Options};
use crate::support::{Deck, free_address, records, tapedeck, until};

/// A deck that takes points over HTTP and delivers them.
pub(crate) struct Desk {
    pub(crate) home: tempfile::TempDir,
    http: SocketAddr,
    sink: String,
    /// How long a record waits for others.
    wait: &'static str,
}

impl Desk {
    pub(crate) fn new(sink: &str) -> Desk {
        let http = free_address();
        Desk { home: tempfile::tempdir().unwrap(), http, sink: sink.to_owned(), wait: "20ms" }
    }

    pub(crate) fn start(&self) -> Deck {
        let config = format!(
            "[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n[sink.influx]\nkind = \"influx\"\nbatch_wait = \"{}\"\n{}",
            self.http, self.wait, self.sink
        );
        Deck::start(self.home.path(), &config)
    }

    /// Sends lines until the deck has them on its tape.
    pub(crate) fn post(&self, lines: &str) {
        until("the points to be recorded", || (self.try_post(lines) == "204").then_some(()));
    }

    /// `tapedeck deadletter …` with its answer as JSON.
    pub(crate) fn deadletter(&self, args: &[&str]) -> Value {
        let config = self.home.path().join("tapedeck.toml");
        let out = tapedeck().arg("deadletter").args(args).arg("-c").arg(config).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"))
    }

    fn try_post(&self, lines: &str) -> String {
        let url = format!("http://{}/write?db=any", self.http);
        let curl = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-", &url];
        let mut curl = Command::new("curl").args(curl).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        curl.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap()
    }
}

/// What the server answers to a statement.
fn query(url: &str, database: &str, statement: &str, auth: &[&str]) -> Value {
    let (q, db) = (format!("q={statement}"), format!("db={database}"));
    let args = ["-s", "-G", "--data-urlencode", &q, "--data-urlencode", &db, "-d", "epoch=ns"];
    let out = Command::new("curl").args(args).args(auth).arg(format!("{url}/query")).output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or_default()
}

/// The rows of a statement's first series.
fn rows(url: &str, database: &str, statement: &str) -> Vec<Value> {
    let answer = query(url, database, statement, &[]);
    answer["results"][0]["series"][0]["values"].as_array().cloned().unwrap_or_default()
}

fn lines(measurement: &str, from: i64, count: i64) -> String {
    (from..from + count).map(|n| format!("{measurement},host=a v={n} {}\n", 1_700_000_000_000_000_000 + n)).collect()
}

fn detail(deck: &Deck, key: &str) -> u64 {
    let status = deck.status();
    let sink = status.services.iter().find(|service| service.name == "influx");
    sink.and_then(|sink| sink.detail.get(key)?.as_u64()).unwrap_or_default()
}

/// Whether the sink has found its store, and has nothing left: before that it shows no lag either.
fn is_done(deck: &Deck) -> bool {
    state(deck) == "running" && detail(deck, "lag_records") == 0
}

fn state(deck: &Deck) -> String {
    let status = deck.status();
    let sink = status.services.iter().find(|service| service.name == "influx");
    sink.map(|sink| sink.state.clone()).unwrap_or_default()
}

#[test]
fn points_reach_the_store_once_although_it_and_the_deck_are_killed() {
    let Some(server) = Influx1::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"front\"", server.url()));
    let mut deck = desk.start();
    for round in 0..20 {
        match round {
            4 => server.kill(),
            9 => server.restart(),
            6 | 13 => {
                deck.signal(Signal::KILL);
                deck.wait();
                deck = desk.start();
            }
            _ => {}
        }
        desk.post(&lines("m", round * 100, 100));
    }
    let count = "SELECT COUNT(v), SUM(v) FROM m";
    let found = until("all points", || {
        let found = rows(server.url(), "front", count);
        (found.first()?[1].as_i64()? >= 2_000).then_some(found)
    });
    assert_eq!(found[0][1], 2_000);
    assert_eq!(found[0][2].as_f64(), Some((0..2_000).sum::<i64>() as f64), "each once, with its own time");
    assert!(!server.log().contains("panic"));
    deck.stop();
    let cursor = tapedeck_tape::cursors::list(&tapedeck_tape::storage::Disk, &desk.home.path().join("tape")).unwrap();
    let cursor = cursor.into_iter().find(|cursor| cursor.name == "influx").unwrap();
    assert_eq!(cursor.seq, records(&desk.home.path().join("tape")).len() as u64, "a stop delivers what is there");
}

#[test]
fn the_tickers_of_a_recording_are_the_points_of_the_store() {
    let (Some(server), Some(dir)) = (Influx1::shared(), fixtures()) else { return };
    let database = server.fresh_database();
    let home = tempfile::tempdir().unwrap();
    let recording = dir.join("ws_v1_ticker_10pairs_20210417.txt.gz");
    let config = format!(
        "[source.kraken]\nkind = \"file\"\npaths = [{:?}]\nformat = \"kraken-v1\"\n[sink.influx]\nkind = \"influx\"\nurl = \"{}\"\ndatabase = \"{database}\"\n",
        recording.to_str().unwrap(),
        server.url()
    );
    let deck = Deck::start(home.path(), &config);
    until("the recording to be delivered", || {
        let status = deck.status();
        let source = status.sources.iter().any(|source| source.state == "finished");
        (source && is_done(&deck)).then_some(())
    });
    deck.stop();
    let mut bids: BTreeMap<(String, u64), String> = BTreeMap::new();
    for record in records(&home.path().join("tape")) {
        if let Body::Ticker(ticker) = &record.event.body {
            bids.insert((record.event.symbol.to_string(), record.seq), ticker.bid.unwrap().to_string());
        }
    }
    assert!(bids.len() > 10, "{} tickers", bids.len());
    let answer = query(server.url(), &database, "SELECT bid, seq FROM kraken_tick GROUP BY pair", &[]);
    let mut stored = 0;
    for series in answer["results"][0]["series"].as_array().unwrap() {
        let pair = series["tags"]["pair"].as_str().unwrap().to_owned();
        for row in series["values"].as_array().unwrap() {
            let want: f64 = bids[&(pair.clone(), row[2].as_u64().unwrap())].parse().unwrap();
            assert_eq!(row[1].as_f64(), Some(want), "{pair} {row}");
            stored += 1;
        }
    }
    assert_eq!(stored, bids.len(), "every ticker is a point");
}

#[test]
fn what_the_store_refuses_is_a_dead_letter_with_its_words_and_stops_nothing() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 1_000));
    until("the first points", || (detail(&deck, "delivered") >= 1_000).then_some(()));
    let conflict = format!("m,host=a v=\"text\" {}\n", 1_700_000_000_000_000_000_i64 + 5_000_000);
    desk.post(&(lines("m", 1_000, 1_000) + &conflict + &lines("m", 2_000, 1_000)));
    until("the dead letter", || (detail(&deck, "dead_letters") == 1).then_some(()));
    let count = until("the good points", || {
        let found = rows(server.url(), &database, "SELECT COUNT(v) FROM m");
        found.first()?[1].as_i64().filter(|count| *count >= 3_000)
    });
    assert_eq!(count, 3_000);
    assert_eq!(state(&deck), "running");
    let letters = desk.deadletter(&["list", "--json"]);
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters}");
    assert!(letters[0]["words"].as_str().unwrap().contains("field type conflict"), "{letters}");
    assert_eq!(letters[0]["record"]["kind"], "point");

    // By the running deck, which goes on meanwhile.
    let again = desk.deadletter(&["retry", "influx", "--json"]);
    assert_eq!((&again["delivered"], again["refused"].as_array().map(Vec::len)), (&0.into(), Some(1)), "{again}");
    desk.post(&lines("other", 0, 10));
    query(server.url(), &database, "DROP MEASUREMENT m", &["-XPOST"]);
    let again = desk.deadletter(&["retry", "influx", "--json"]);
    assert_eq!(again["delivered"], 1, "the store was mended: {again}");
    assert_eq!(rows(server.url(), &database, "SELECT v FROM m")[0][1], "text");
    assert_eq!(desk.deadletter(&["list", "--json"]), Value::Array(Vec::new()));
    until("no dead letter in the status", || (detail(&deck, "dead_letters") == 0).then_some(()));
    until("the rest", || (detail(&deck, "lag_records") == 0).then_some(()));
    deck.stop();
}

#[test]
fn dead_letters_are_given_up_while_the_store_is_away_and_retried_without_a_deck() {
    let Some(server) = Influx1::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"dead\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the first points", || (detail(&deck, "delivered") >= 10).then_some(()));
    let bad: String =
        (0..1_500).map(|n| format!("m,host=a v=\"text\" {}\n", 1_700_000_001_000_000_000_i64 + n)).collect();
    desk.post(&bad);
    until("the dead letters", || (detail(&deck, "dead_letters") == 1_500).then_some(()));
    let seqs: Vec<u64> = desk
        .deadletter(&["list", "--json"])
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["seq"].as_u64().unwrap())
        .collect();
    server.stop();
    desk.post(&lines("m", 100, 10));
    until("the outage", || state(&deck).starts_with("unavailable").then_some(()));
    let config = desk.home.path().join("tapedeck.toml");
    let run = |args: &[&str]| tapedeck().arg("deadletter").args(args).arg("-c").arg(&config).output().unwrap();
    let retry = run(&["retry", "influx"]);
    assert!(String::from_utf8_lossy(&retry.stderr).contains("cannot be reached now"), "{retry:?}");
    let dropped = run(&["drop", "influx", "--seq", &format!("{},{}", seqs[0], seqs[1])]);
    assert_eq!(String::from_utf8_lossy(&dropped.stdout).trim(), "dropped 2", "{dropped:?}");
    until("the fewer", || (detail(&deck, "dead_letters") == 1_498).then_some(()));
    assert_eq!(run(&["drop", "influx", "--seq", "999999"]).status.code(), Some(4));
    server.restart();
    until("the rest", || (detail(&deck, "lag_records") == 0).then_some(()));
    deck.stop();
    query(server.url(), "dead", "DROP MEASUREMENT m", &["-XPOST"]);
    let again = desk.deadletter(&["retry", "influx", "--json"]);
    assert_eq!(again["delivered"], 1_498, "more than one order takes: {}", again["delivered"]);
    assert_eq!(rows(server.url(), "dead", "SELECT COUNT(v) FROM m")[0][1], 1_498);
}

#[test]
fn hostile_names_are_read_back_as_they_were_sent() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    let deck = desk.start();
    desk.post(concat!(
        "a\\ b\\,c,ta\\=g=x\\,\\ y\\=\\\"🙂 f=\"say \\\"hi\\\", DROP DATABASE\\nx; --\" 1\n",
        "plain,quote=o'clock\\\\q v=\"line\nbreak\" 2\n",
    ));
    until("both", || (detail(&deck, "delivered") >= 2).then_some(()));
    let hostile = query(server.url(), &database, "SELECT * FROM \"a b,c\"", &[]).to_string();
    assert!(hostile.contains("🙂") && hostile.contains("DROP DATABASE") && hostile.contains("ta=g"), "{hostile}");
    let found = rows(server.url(), &database, "SELECT quote, v FROM plain");
    assert_eq!(found[0][2], "line\nbreak", "{found:?}");
    deck.stop();
}

#[test]
fn a_wrong_password_is_told_plainly_and_a_right_one_needs_no_restart_of_the_recording() {
    let Some(server) = Influx1::private_with(&Options { settings: &["http.auth-enabled=true"], ..Options::default() })
    else {
        return;
    };
    let admin = "CREATE USER admin WITH PASSWORD 'secret-pw' WITH ALL PRIVILEGES";
    let url = server.url().to_owned();
    Command::new("curl")
        .args(["-s", "-XPOST", "--data-urlencode", &format!("q={admin}"), &format!("{url}/query")])
        .output()
        .unwrap();
    let mut desk = Desk::new(&format!("url = \"{url}\"\nusername = \"admin\"\npassword = \"wrong-pw\""));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the refusal", || state(&deck).starts_with("waiting: refused (401").then_some(()));
    assert!(!state(&deck).contains("wrong-pw") && !deck.log().contains("wrong-pw"), "{}", state(&deck));

    desk.sink = desk.sink.replace("wrong-pw", "secret-pw");
    let config = std::fs::read_to_string(&deck.config).unwrap().replace("wrong-pw", "secret-pw");
    std::fs::write(&deck.config, config).unwrap();
    deck.signal(Signal::HUP);
    until("the points", || (detail(&deck, "delivered") >= 10).then_some(()));
    let answer = query(&url, "tick", "SELECT COUNT(v) FROM m", &["-u", "admin:secret-pw"]);
    assert_eq!(answer["results"][0]["series"][0]["values"][0][1], 10, "{answer}");
    deck.stop();
}

#[test]
fn a_table_that_is_wrong_is_refused_before_anything_starts() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tapedeck.toml");
    for (table, words) in [
        ("kind = \"influx\"\nurll = \"x\"", "did you mean `url`?"),
        ("kind = \"influxdb\"", "did you mean `influx`?"),
        ("kind = \"influx\"\nevents = [\"trades\"]", "no kind of event is called `trades`"),
        ("kind = \"influx\"\nurl = \"here\"", "write it as in http://127.0.0.1:8086"),
        ("kind = \"influx\"\nbatch = 0", "at least 1"),
        ("kind = \"influx\"\nurl = \"http://localhost:7373\"", "is the deck's own way in for points"),
    ] {
        std::fs::write(&path, format!("[source.p]\nkind = \"http\"\n[sink.i]\n{table}\n")).unwrap();
        let out = tapedeck().args(["check", "--offline", "-c"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(words), "{table}: {said}");
        assert!(said.contains("sink.i"), "{said}");
    }
}
