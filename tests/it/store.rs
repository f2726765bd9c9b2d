//! The SQL store beside a deck: fresh, killed, and asked the worst.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tapedeck_market::Kind;
use tapedeck_testkit::kraken::{FakeKraken, Handle};

use crate::skipped::skipped;
use crate::support::{Deck, free_port, records, tapedeck, until};

/// Whether the second program was built, as `make test` does; without it the tests say that they skip.
pub(crate) fn store_is_built() -> bool {
    let beside = Path::new(env!("CARGO_BIN_EXE_tapedeck")).with_file_name("tapedeck-store");
    let built = beside.exists();
    if !built {
        skipped(&format!("no {}: make test builds it", beside.display()));
    }
    built
}

pub(crate) fn psql_is_there() -> bool {
    let there = Command::new("psql").arg("--version").output().is_ok_and(|out| out.status.success());
    if !there {
        skipped("no psql: scripts/servers install postgres");
    }
    there
}

struct Desk {
    home: tempfile::TempDir,
    port: u16,
    config: String,
}

impl Desk {
    fn with(venue: &Handle) -> Desk {
        let port = free_port();
        let config = format!(
            "[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = [\"BTC/USD\", \"ETH/USD\"]\n\
             [store]\nsql_listen = \"127.0.0.1:{port}\"\nidle = false\n",
            venue.ws_url(),
            venue.rest_url()
        );
        Desk { home: tempfile::tempdir().unwrap(), port, config }
    }

    fn tape(&self) -> PathBuf {
        self.home.path().join("tape")
    }

    fn start(&self) -> Deck {
        let deck = Deck::start(self.home.path(), &self.config);
        deck.until("SQL", |status| status.services.iter().any(is_ready));
        deck
    }

    fn psql(&self, sql: &str) -> Output {
        let password = std::fs::read_to_string(self.tape().join("sql.password")).unwrap_or_default();
        Command::new("psql")
            .env("PGPASSWORD", password.trim())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "tapedeck", "-X", "-A", "-t", "-c", sql])
            .arg("tapedeck")
            .output()
            .unwrap()
    }

    fn number(&self, sql: &str) -> Option<u64> {
        let out = self.psql(sql);
        String::from_utf8_lossy(&out.stdout).trim().parse().ok()
    }

    /// `tapedeck query`, without a server.
    fn query(&self, sql: &str) -> Vec<Value> {
        let out = tapedeck().args(["query", "--json", "--dir"]).arg(self.tape()).arg(sql).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let lines = String::from_utf8(out.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn trades(&self) -> u64 {
        let trade = |record: &&tapedeck_market::Record| record.event.body.kind() == Kind::TRADE;
        records(&self.tape()).iter().filter(trade).count() as u64
    }
}

pub(crate) fn is_ready(service: &tapedeck::status::Service) -> bool {
    let sql = service.detail.get("sql").and_then(Value::as_str);
    service.state == "running" && sql.is_some_and(|sql| sql.starts_with("SQL: ready"))
}

fn store_pid(deck: &Deck) -> Option<u32> {
    let status = deck.status();
    let store = status.services.iter().find(|service| service.name == "store")?;
    store.detail.get("pid")?.as_u64().and_then(|pid| u32::try_from(pid).ok())
}

async fn venue() -> Handle {
    FakeKraken::builder().pairs(2).seed(5).rate(200).remember(false).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_sees_what_is_recorded_at_once_and_after_a_kill_of_the_store_everything_once() {
    if !store_is_built() || !psql_is_there() {
        return;
    }
    let venue = venue().await;
    let desk = Desk::with(&venue);
    let deck = desk.start();
    let seen = until("trades in SQL", || desk.number("select count(*) from trades").filter(|count| *count > 50));
    // What is durable when the question is asked is in the answer soon after.
    let durable = deck.status().tape.durable_seq;
    until("the newest record in SQL", || {
        desk.number("select max(seq) from trades").filter(|seq| *seq + 500 > durable && *seq > seen)
    });

    let pid = until("the store's pid", || store_pid(&deck));
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    deck.until("the store back", |status| {
        let store = status.services.iter().find(|service| service.name == "store").unwrap();
        store.restarts >= 1 && is_ready(store)
    });
    until("more trades in SQL", || desk.number("select count(*) from trades").filter(|count| *count > seen));
    deck.stop();
    venue.stop().await;

    let trades = desk.trades();
    let counted = desk.query("select count(*) as n, count(distinct seq) as seqs from trades");
    assert_eq!(counted, [serde_json::json!({ "n": trades, "seqs": trades })], "each once, without a server");
}

/// The store of a deck that was killed lives on for a moment, with the archive locked: the next one waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_archive_another_still_keeps_waits_for_it() {
    if !store_is_built() {
        return;
    }
    let venue = venue().await;
    let desk = Desk::with(&venue);
    let archive = desk.tape().join("archive");
    std::fs::create_dir_all(&archive).unwrap();
    let lock = std::fs::File::options().create(true).append(true).open(archive.join("lock")).unwrap();
    lock.try_lock().unwrap();
    let deck = Deck::start(desk.home.path(), &desk.config);
    let store =
        |status: &tapedeck::status::Status| status.services.iter().find(|service| service.name == "store").cloned();
    let waits = |service: tapedeck::status::Service| service.state.starts_with("waiting: the archive in");
    deck.until("the wait", |status| store(status).is_some_and(waits));
    drop(lock);
    let status = deck.until("SQL", |status| status.services.iter().any(is_ready));
    assert_eq!(store(&status).unwrap().restarts, 0, "it waited in place of ending");
    deck.stop();
    venue.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worst_query_ends_in_an_error_and_the_recording_goes_on() {
    if !store_is_built() || !psql_is_there() {
        return;
    }
    let venue = venue().await;
    let mut desk = Desk::with(&venue);
    desk.config += "timeout = \"3s\"\nmemory = \"64 MiB\"\n";
    let deck = desk.start();
    until("trades in SQL", || desk.number("select count(*) from trades").filter(|count| *count > 300));
    let before = deck.status().events;
    let out = desk.psql(
        "select count(*) from trades a, trades b, trades c, trades d where a.price + b.price > c.price + d.price + 1",
    );
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success(), "it came to an end: {}", String::from_utf8_lossy(&out.stdout));
    assert!(said.contains("statement timeout") || said.contains("memory"), "{said}");
    deck.until("the recording to go on", |status| status.events > before + 100);
    until("the store to answer again", || desk.number("select count(*) from trades"));
    let refused = desk.psql("delete from trades");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("read-only"), "{refused:?}");
    deck.stop();
    venue.stop().await;
}

#[test]
fn without_the_second_program_a_query_says_how_to_build_it() {
    let home = tempfile::tempdir().unwrap();
    let alone = home.path().join("tapedeck");
    std::fs::copy(env!("CARGO_BIN_EXE_tapedeck"), &alone).unwrap();
    let out = Command::new(alone).env_clear().args(["query", "select 1", "--dir"]).arg(home.path()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{said}");
    assert!(said.contains("cargo build --release -p tapedeck-store"), "{said}");
}
