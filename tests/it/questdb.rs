//! A deck, and its sink alone, that deliver to a real QuestDB: killed servers and decks, suspended tables, tables of others,
//! conflicting types, hostile names; every body is read back.

mod disk;
pub(crate) mod reading;
mod rows;
mod trouble;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tapedeck::config::KindTable;
use tapedeck::sinks::{Batch, Opened, Sink, SinkError};
use tapedeck_market::{Body, Event, Flags, Point, Record, SmolStr, Trade, UnixNanos, Uuid};

use crate::servers::Questdb;
use crate::support::{Deck, free_address, tapedeck, until};

const TAPE: Uuid = Uuid::from_u128(7);
/// A moment of 2026.
const NOON: i64 = 1_784_462_400_123_456_789;

/// A sink of its own, without a deck.
struct Alone {
    sink: Box<dyn Sink>,
    runtime: tokio::runtime::Runtime,
    _home: tempfile::TempDir,
}

impl Alone {
    fn new(url: &str, table: &str) -> Alone {
        let home = tempfile::tempdir().unwrap();
        let sink = sink(home.path(), url, table);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut alone = Alone { sink, runtime, _home: home };
        let opened = alone.runtime.block_on(alone.sink.open(TAPE));
        assert_eq!(opened.unwrap(), Opened::NoMark);
        alone
    }

    fn write(&mut self, records: &[Record], late: bool) -> Result<(), SinkError> {
        self.runtime.block_on(self.sink.write(&Batch {
            tape: TAPE,
            records,
            mark: None,
            late,
            parted: &BTreeSet::new(),
        }))
    }

    fn check(&mut self) -> anyhow::Result<Vec<String>> {
        self.runtime.block_on(self.sink.check())
    }

    /// Writes what is taken; gives back what was refused, and why.
    fn refused(&mut self, records: &[Record]) -> Vec<(usize, String)> {
        match self.write(records, false) {
            Ok(()) => Vec::new(),
            Err(SinkError::Refused(refusal)) => {
                assert!(refusal.rest_stored);
                refusal.rejects.into_iter().map(|reject| (reject.index, reject.words)).collect()
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn sink(dir: &Path, url: &str, table: &str) -> Box<dyn Sink> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut keys: toml::Table = table.parse().unwrap();
    keys.insert("url".to_owned(), url.into());
    let table = KindTable { name: "questdb".into(), kind: "questdb".into(), table: keys };
    tapedeck::sinks::build(&table, dir).unwrap().1
}

/// A deck that takes points over HTTP and delivers them.
struct Desk {
    home: tempfile::TempDir,
    http: SocketAddr,
    sink: String,
}

impl Desk {
    fn new(sink: &str) -> Desk {
        let http = free_address();
        Desk { home: tempfile::tempdir().unwrap(), http, sink: sink.to_owned() }
    }

    fn start(&self) -> Deck {
        let config = format!(
            "[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n[sink.questdb]\nkind = \"questdb\"\nbatch_wait = \"20ms\"\nevents = [\"point\"]\n{}",
            self.http, self.sink
        );
        Deck::start(self.home.path(), &config)
    }

    /// Sends lines until the deck has them on its tape.
    fn post(&self, lines: &str) {
        until("the points to be recorded", || (self.try_post(lines) == "204").then_some(()));
    }

    fn try_post(&self, lines: &str) -> String {
        let url = format!("http://{}/write?db=any", self.http);
        let curl = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-", &url];
        let mut curl = Command::new("curl").args(curl).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        curl.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap()
    }

    /// `tapedeck ARGS` with its answer as JSON.
    fn ask(&self, args: &[&str]) -> Value {
        let config = self.home.path().join("tapedeck.toml");
        let out = tapedeck().args(args).arg("-c").arg(config).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"))
    }
}

fn lines(measurement: &str, from: i64, count: i64) -> String {
    (from..from + count).map(|n| format!("{measurement},host=a v={n}i {}\n", NOON + n)).collect()
}

fn detail(deck: &Deck, key: &str) -> u64 {
    let status = deck.status();
    let sink = status.services.iter().find(|service| service.name == "questdb");
    sink.and_then(|sink| sink.detail.get(key)?.as_u64()).unwrap_or_default()
}

fn state(deck: &Deck) -> String {
    let status = deck.status();
    let sink = status.services.iter().find(|service| service.name == "questdb");
    sink.map(|sink| sink.state.clone()).unwrap_or_default()
}

/// Rows of a table, whatever is in it: the server writes control characters into JSON as they are. None: there is no such table.
pub(crate) fn dataset(server: &Questdb, sql: &str) -> Option<(Vec<String>, Vec<Vec<Value>>)> {
    let reply = server.exec(sql);
    if reply.status != 200 {
        return None;
    }
    let body: String =
        reply.body.chars().map(|c| if c < ' ' { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect();
    let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{sql}: {error}: {body}"));
    let columns = answer["columns"].as_array().into_iter().flatten();
    let names = columns.map(|column| column["name"].as_str().unwrap_or_default().to_owned()).collect();
    let rows = answer["dataset"].as_array().cloned().unwrap_or_default();
    Some((names, rows.into_iter().map(|row| row.as_array().cloned().unwrap_or_default()).collect()))
}

/// The first value of a statement, once the server has applied what it was sent.
fn value(server: &Questdb, sql: &str) -> Value {
    dataset(server, sql).and_then(|(_, rows)| rows.first()?.first().cloned()).unwrap_or_default()
}

/// Waits until a table shows all that was sent to it.
pub(crate) fn applied(server: &Questdb, table: &str) {
    let sql =
        format!("SELECT writerTxn = sequencerTxn, suspended, errorMessage FROM wal_tables() WHERE name = '{table}'");
    until(&format!("`{table}` to show what was sent"), || {
        let (_, rows) = dataset(server, &sql)?;
        assert!(rows.first()?[1] == false, "{table}: {rows:?}");
        (rows[0][0] == true).then_some(())
    });
}

fn record(seq: u64, symbol: &str, body: Body) -> Record {
    let ts = UnixNanos(NOON + i64::try_from(seq).unwrap());
    let event = Event {
        source: "kraken-spot".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        ts_event: Some(ts),
        ts_recv: UnixNanos(ts.0 + 5_000_000),
        flags: Flags::NONE,
        origin: None,
        body,
    };
    Record { seq, event }
}

fn trade(seq: u64, price: &str) -> Record {
    let (price, size) = (price.parse().unwrap(), "0.5".parse().unwrap());
    record(seq, "BTC/USD", Body::Trade(Trade { price, size, side: None, id: Some(seq.to_string().into()) }))
}

fn point(seq: u64, name: &str, tags: &[(&str, &str)], fields: &[(&str, tapedeck_market::Value)]) -> Record {
    let tags = tags.iter().map(|(name, value)| (SmolStr::from(*name), SmolStr::from(*value))).collect();
    let fields = fields.iter().map(|(name, value)| (SmolStr::from(*name), value.clone())).collect();
    record(seq, "", Body::Point(Box::new(Point { name: name.into(), tags, fields })))
}
