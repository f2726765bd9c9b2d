//! Grafana: what is written for it is asked of the real stores, panel by panel.
//!
//! ```text
//! tape, one event of each kind every few seconds ─► deck ─► InfluxDB, PostgreSQL, its own SQL
//! tapedeck grafana setup ─► files ─► each panel's query, its macros put in as Grafana does ─► rows
//! ```
//!
//! `make test-all` asks them through a real Grafana as well.

mod alerting;
mod api;
pub(crate) mod fake;
mod fake_rules;
mod metered;
mod panels;
mod pipeline;
mod real;
mod rules;
mod tape;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Deck, tapedeck};

/// Every stream there is.
const STREAMS: [&str; 16] = [
    "kraken_tick",
    "kraken_depth",
    "kraken_orders",
    "oanda_tick",
    "betfair_stream",
    "twitter_sentiment",
    "kraken_trade",
    "oanda_orders",
    "betfair_orders",
    "kite_tick",
    "kite_depth",
    "kite_orders",
    "binance_tick",
    "binance_trade",
    "binance_depth",
    "synthetic",
];

/// A deck on a written tape, its stores filled.
struct Filled {
    home: tempfile::TempDir,
    deck: Deck,
    config: PathBuf,
}

impl Filled {
    /// `sinks`: their tables.
    fn start(sinks: &str, grafana: &str) -> Filled {
        let home = tempfile::tempdir().unwrap();
        tape::write(&home.path().join("tape"));
        let config = format!(
            "{sinks}\n[source.points]\nkind = \"http\"\n[candles]\nintervals = [\"1m\"]\n[grafana]\nstreams = {STREAMS:?}\n{grafana}"
        );
        let path = home.path().join("tapedeck.toml");
        let text = format!("[tape]\ndir = {:?}\n[http]\nlisten = \"127.0.0.1:0\"\n{config}", home.path().join("tape"));
        std::fs::write(&path, text).unwrap();
        if sinks.contains("[sink.influx]") {
            let made = tapedeck().args(["retention", "create", "--sink", "influx", "-c"]).arg(&path).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let deck = Deck::run(&path, &home.path().join("tape"), &[]);
        let sinks = sinks.matches("[sink.").count();
        deck.until("everything delivered", |status| {
            let done = |reader: &&tapedeck::status::Reader| reader.seq >= tape::LAST && reader.lag_records < 100;
            status.readers.iter().filter(done).count() >= sinks
        });
        Filled { home, deck, config: path }
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        tapedeck().args(args).arg("-c").arg(&self.config).output().unwrap()
    }

    /// The dashboards that `setup` writes.
    fn boards(&self) -> Vec<Value> {
        let dir = self.home.path().join("grafana");
        let done = self.run(&["grafana", "setup", "--dir", dir.to_str().unwrap(), "--json"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        read_boards(&dir)
    }
}

/// Writes the files of a config that needs no store to be there.
fn write_files(config: &Path, text: &str, dir: &Path) {
    std::fs::write(config, text).unwrap();
    let done = tapedeck().args(["grafana", "setup", "--dir"]).arg(dir).arg("-c").arg(config).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn read_boards(dir: &Path) -> Vec<Value> {
    let files = std::fs::read_dir(dir.join("dashboards/tapedeck")).unwrap();
    files.map(|file| serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap()).collect()
}
