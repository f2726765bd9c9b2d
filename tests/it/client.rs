//! The Python client: its own tests, against fakes and against a deck.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tapedeck::status::Status;
use tapedeck_market::{Body, Record};
use tapedeck_testkit::kraken::FakeKraken;

use crate::support;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python")
}

#[test]
fn the_python_client_passes_its_own_tests() {
    let Some(python) = support::python() else { return };
    let out = Command::new(python)
        .args(["-B", "-W", "error::SyntaxWarning", "-m", "unittest", "discover", "-t", ".", "-s", "tests"])
        .current_dir(package())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    // "Ran 97 tests": none were found would also be a success.
    let ran = said.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|ran| ran > 50), "{said}");
}

/// What `tests/python/client_deck.py` says at its end.
#[derive(Debug, Deserialize)]
struct Heard {
    seen: BTreeMap<String, Vec<u64>>,
    prices: u64,
    missed: u64,
    replayed: u64,
    lost: u64,
    duplicates: u64,
    holes: Vec<Value>,
    last: u64,
}

/// A deck with a bus and a market; the client receives `messages` from it, and kills the bus meanwhile if it shall.
async fn heard(messages: u32, kill: bool) -> Option<(Heard, Vec<Record>)> {
    let python = support::python()?;
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(300).start().await.unwrap();
    let (home, offset) = (tempfile::tempdir().unwrap(), support::free_offset());
    let config = format!(
        "[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\npairs = [\"BTC/USD\", \"ETH/USD\"]\n[bus]\nport_offset = {offset}\n",
        venue.ws_url(),
        venue.rest_url()
    );
    let work = move || {
        let deck = support::Deck::start(home.path(), &config);
        let running = |status: &Status| {
            let bus = status.services.iter().find(|service| service.name == "bus" && service.state == "running")?;
            bus.detail.get("pid").and_then(Value::as_u64)
        };
        let status =
            deck.until("a bus and a market", |status| running(status).is_some() && status.sources[0].events > 50);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/client_deck.py");
        let mut command = Command::new(python);
        command.env("PYTHONPATH", package()).arg(script).args([offset.to_string(), messages.to_string()]);
        if kill {
            command.arg(running(&status).unwrap().to_string());
        }
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}\n{}", String::from_utf8_lossy(&out.stderr), deck.log());
        let heard = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        if kill {
            let restarted =
                |status: &Status| status.services.iter().any(|service| service.name == "bus" && service.restarts > 0);
            assert_eq!(deck.until("the bus again", restarted).pid, status.pid, "the recorder did not notice");
        }
        deck.stop();
        (heard, support::records(&home.path().join("tape")))
    };
    Some(tokio::task::spawn_blocking(work).await.unwrap())
}

/// Each trade on the tape between the first and the last that the client saw, it saw once and in order.
fn assert_whole(heard: &Heard, records: &[Record]) {
    let trades = &heard.seen["trade.kraken"];
    let (first, last) = (trades[0], trades[trades.len() - 1]);
    let on_tape: Vec<u64> = records
        .iter()
        .filter(|record| matches!(record.event.body, Body::Trade(_)) && (first..=last).contains(&record.seq))
        .map(|record| record.seq)
        .collect();
    assert_eq!(*trades, on_tape);
    assert_eq!((heard.lost, &heard.holes), (0, &Vec::new()), "{heard:?}");
    assert_eq!(heard.prices, trades.len() as u64);
    assert!(heard.last >= last, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_hears_every_trade_of_a_deck() {
    let Some((heard, records)) = heard(600, false).await else { return };
    assert_whole(&heard, &records);
    assert_eq!((heard.missed, heard.duplicates), (0, 0), "{heard:?}");
    assert!(!heard.seen["kraken_tick"].is_empty());
}

/// `--only`: publishers alone, and candles told of as they close; the store of the same config stays away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_publishers_run_when_only_they_are_named() {
    let Some(python) = support::python() else { return };
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(100).start().await.unwrap();
    let (home, offset) = (tempfile::tempdir().unwrap(), support::free_offset());
    let dir = home.path().join("tape");
    let config = format!(
        "[tape]\ndir = {dir:?}\n[http]\nlisten = \"off\"\n[source.kraken]\nkind = \"kraken\"\nurl = {:?}\nrest_url = {:?}\n\
         pairs = [\"BTC/USD\", \"ETH/USD\"]\n[source.other]\nkind = \"zmq\"\nconnect = [\"tcp://127.0.0.1:1\"]\n[bus]\nport_offset = {offset}\n\
         [candles]\nintervals = [\"1s\"]\n[store]\nsql_listen = \"off\"\n",
        venue.ws_url(),
        venue.rest_url()
    );
    let work = move || {
        let path = home.path().join("tapedeck.toml");
        std::fs::write(&path, config).unwrap();
        let deck = support::Deck::run(&path, &dir, &["--only", "kraken,bus,candles"]);
        let status = deck.until("a bus", |status| {
            status.services.iter().any(|service| service.name == "bus" && service.state == "running")
        });
        let mut names: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!((names, status.sources.len()), (vec!["bus", "candles"], 1));
        let script = r#"
import sys, tapedeck
left = {"kraken_tick", "kr_depth", "candle.1s"}
with tapedeck.subscribe(sorted(left), port_offset=int(sys.argv[1])) as sub:
    while left:
        message = sub.get(timeout=60)
        assert message is not None, left
        if message.topic == "candle.1s":
            assert message.high >= message.low and message.interval, message
        left.discard(message.topic)
"#;
        let mut command = Command::new(python);
        command.env("PYTHONPATH", package()).args(["-c", script, &offset.to_string()]);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stderr), deck.log());
        deck.stop();
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_is_killed_costs_the_client_nothing() {
    let Some((heard, records)) = heard(900, true).await else { return };
    assert_whole(&heard, &records);
    assert!(heard.replayed > 0 && heard.missed == heard.replayed, "{heard:?}");
}
