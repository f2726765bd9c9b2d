//! A recording of more than one range of the archive and more than one answer of the bus: asked in SQL, by the Python
//! client, by polars and DuckDB on the files, and over the bus.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value as Json;
use tapedeck_market::{Body, Event, Flags, Side, Trade, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Entry, Log, Options};

use crate::store::{is_ready, store_is_built};
use crate::support::{Deck, free_offset, free_port, python, records, until};

/// Records in the files of one range, as docs/archive.md says.
const RANGE: u64 = 100_000;
/// Messages in one answer of the bus, as docs/bus.md says.
const ANSWER: u64 = 100_000;
/// More than either, so that there is a tail, and a second answer.
const TRADES: u64 = 120_000;
/// 2026-07-19T12:00:00Z
const NOON: i64 = 1_784_462_400_000_000_000;

/// The trade at a seq: two symbols, ten a second, prices and sizes with as many digits as they like.
fn trade(seq: u64) -> Event {
    // A walk that a linear congruence decides, the same each time.
    let noise = seq.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 33;
    let price = match seq % 2 {
        0 => format!("{}.{:01}", 62_000 + noise % 500, noise % 10),
        _ => format!("{}.{:02}", 3_000 + noise % 90, noise % 100),
    };
    let body = Body::Trade(Trade {
        price: price.parse().unwrap(),
        size: format!("{}.{:08}", noise % 3, noise % 99_999_999 + 1).parse().unwrap(),
        side: Some(if noise.is_multiple_of(3) { Side::Sell } else { Side::Buy }),
        id: Some(seq.to_string().into()),
    });
    let at = NOON + i64::try_from(seq).unwrap() * 100_000_000;
    Event {
        source: "kraken".into(),
        venue: "kraken".into(),
        symbol: if seq.is_multiple_of(2) { "BTC/USD".into() } else { "ETH/USD".into() },
        ts_event: Some(UnixNanos(at)),
        ts_recv: UnixNanos(at + 3_000_017),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

/// A tape of `TRADES` trades.
fn recording(dir: &Path) {
    record(dir, TRADES, trade);
}

/// A tape as a deck left it.
fn record(dir: &Path, count: u64, event: impl Fn(u64) -> Event) {
    let (mut log, _) = Log::open(Arc::new(Disk), dir, Options::default()).unwrap();
    let mut payload = Vec::new();
    for seq in 1..=count {
        payload.clear();
        let event = event(seq);
        wire::encode(&event, &mut payload);
        log.append(&[Entry { ts_recv: event.ts_recv.0, payload: &payload }], &mut Vec::new).unwrap();
    }
    assert_eq!(log.commit().unwrap(), count);
    log.close().unwrap();
}

struct Desk {
    home: tempfile::TempDir,
    python: PathBuf,
    http: u16,
    sql: u16,
    offset: u16,
    config: String,
}

impl Desk {
    /// On a recording; `None` where there is no Python, and the test says that it skips.
    fn open(rest: &str) -> Option<Desk> {
        let desk = Desk::without_recording(rest)?;
        recording(&desk.tape());
        Some(desk)
    }

    fn without_recording(rest: &str) -> Option<Desk> {
        let python = python()?;
        let home = tempfile::tempdir().unwrap();
        let (http, sql, offset) = (free_port(), free_port(), free_offset());
        let config = format!(
            "[http]\nlisten = \"127.0.0.1:{http}\"\n[source.points]\nkind = \"http\"\nsymbol_tags = [\"instrument\"]\n{}",
            rest.replace("SQL_PORT", &sql.to_string()).replace("OFFSET", &offset.to_string()),
        );
        Some(Desk { home, python, http, sql, offset, config })
    }

    fn tape(&self) -> PathBuf {
        self.home.path().join("tape")
    }

    fn start(&self) -> Deck {
        Deck::start(self.home.path(), &self.config)
    }

    /// A script of tests/python with the client in its path, and the deck where the environment says.
    fn script(&self, name: &str, args: &[&str]) -> Output {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
        Command::new(&self.python)
            .arg("-B")
            .arg(repo.join("tests/python").join(name))
            .args(args)
            .env("PYTHONPATH", repo.join("clients/python"))
            .env("TAPEDECK_SQL", format!("127.0.0.1:{}", self.sql))
            .env("TAPEDECK_DIR", self.tape())
            .env("TAPEDECK_URL", format!("http://127.0.0.1:{}", self.http))
            .output()
            .unwrap()
    }
}

/// What a script printed last, or the end of the test with all that it said.
fn said(out: &Output, deck: Option<&Deck>) -> Json {
    let text = String::from_utf8_lossy(&out.stdout);
    let log = deck.map(Deck::log).unwrap_or_default();
    assert!(out.status.success(), "{text}{}\n{log}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or(Json::Null)
}

const STORE: &str = "[store]\nsql_listen = \"127.0.0.1:SQL_PORT\"\nidle = false\nkeep = \"forever\"\n";

#[test]
fn the_python_client_reads_history_and_writes_points_of_a_real_deck() {
    if !store_is_built() {
        return;
    }
    let Some(desk) = Desk::open(&format!("[candles]\nintervals = [\"1m\"]\n{STORE}")) else { return };
    let deck = desk.start();
    deck.until("SQL", |status| status.services.iter().any(is_ready));
    let out = desk.script("client_history.py", &[&TRADES.to_string()]);
    let written = said(&out, Some(&deck));
    deck.stop();
    // What `write`, `flush(force=True)` and the examples said is on the tape, is.
    let mut on_tape: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for record in records(&desk.tape()) {
        if let Body::Point(point) = &record.event.body {
            *on_tape.entry(point.name.to_string()).or_default() += 1;
        }
    }
    assert_eq!(serde_json::to_value(on_tape).unwrap(), written["points"]);
}

#[test]
fn polars_and_duckdb_on_the_files_agree_with_tapedeck_query() {
    if !store_is_built() {
        return;
    }
    let Some(desk) = Desk::open(STORE) else { return };
    let deck = desk.start();
    let archived = |status: &tapedeck::status::Status| {
        let store = status.services.iter().find(|service| service.name == "store");
        store.and_then(|store| store.detail.get("archived_seq")?.as_u64())
    };
    // The first range is in files, and the rest in the tail: `query` reads both, and a reader of the folder the first.
    deck.until("the first range in files", |status| archived(status).is_some_and(|seq| seq >= RANGE));
    let program = env!("CARGO_BIN_EXE_tapedeck");
    let out = desk.script("archive_agrees.py", &[program, desk.tape().to_str().unwrap(), &TRADES.to_string()]);
    let compared = said(&out, Some(&deck));
    assert!(compared["rows"].as_u64().is_some_and(|rows| rows >= RANGE), "{compared}");
    assert!(compared["candles"].as_u64().is_some_and(|candles| candles > 300), "{compared}");
    deck.stop();
}

#[test]
fn an_answer_of_the_bus_that_is_cut_says_so_and_the_client_goes_on() {
    let Some(desk) = Desk::without_recording("[bus]\nport_offset = OFFSET\n") else { return };
    let deck = desk.start();
    deck.until("the bus", |status| {
        status.services.iter().any(|service| service.name == "bus" && service.state == "running")
    });
    let out = desk.script("client_cut.py", &[&desk.offset.to_string(), &TRADES.to_string()]);
    let heard = said(&out, Some(&deck));
    let answers = serde_json::json!([[ANSWER, true], [TRADES - ANSWER, false]]);
    assert_eq!(heard["answers"], answers, "how many, and whether there are more");
    assert_eq!(heard["resumed"], serde_json::json!([TRADES, 0, 0]), "replayed, lost, twice");
    deck.stop();
}

/// What `tests/python/sql_clients.py` asks for is a tape of these trades; the same script runs against the engine alone.
#[test]
fn the_clients_that_people_have_read_a_real_deck() {
    if !store_is_built() {
        return;
    }
    let Some(desk) = Desk::without_recording(STORE) else { return };
    let of_script = |seq: u64| {
        let price = 62_000 + seq % 1_000 + if seq.is_multiple_of(2) { 7 } else { 0 };
        let at = NOON + i64::try_from(seq).unwrap() * 10_000_000;
        let body = Body::Trade(Trade {
            price: format!("{price}.{:02}", seq % 100).parse().unwrap(),
            size: format!("0.{:08}", seq + 1).parse().unwrap(),
            side: Some(if seq.is_multiple_of(3) { Side::Sell } else { Side::Buy }),
            id: Some(seq.to_string().into()),
        });
        let symbol = ["BTC/USD", "ETH/USD", "ADA/USD", "SOL/USD"][usize::try_from(seq % 4).unwrap()].into();
        Event { symbol, ts_event: Some(UnixNanos(at - 1_000_001)), ts_recv: UnixNanos(at), body, ..trade(seq) }
    };
    record(&desk.tape(), 4_000, of_script);
    let deck = desk.start();
    deck.until("SQL", |status| status.services.iter().any(is_ready));
    let password = std::fs::read_to_string(desk.tape().join("sql.password")).unwrap();
    let out = desk.script("sql_clients.py", &["127.0.0.1", &desk.sql.to_string(), password.trim(), "4000"]);
    said(&out, Some(&deck));
    assert_eq!(String::from_utf8_lossy(&out.stdout).matches(": ok").count(), 4, "{out:?}");
    deck.stop();
}

/// A pipe is no terminal: a long export says now and then how far it is, and nothing that was there is lost.
#[test]
fn an_export_tells_how_it_goes_and_overwrites_nothing_that_it_was_not_told_to() {
    if !store_is_built() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (tape, file) = (home.path().join("tape"), home.path().join("trades.parquet"));
    recording(&tape);
    let export = |more: &[&str]| {
        let mut command = crate::support::tapedeck();
        command.args(["export", "trades", "--dir"]).arg(&tape).arg("--out").arg(&file).args(more).output().unwrap()
    };
    std::fs::write(&file, "mine").unwrap();
    let refused = export(&[]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{words}");
    assert!(words.contains("trades.parquet exists already") && words.contains("--force"), "{words}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    let done = export(&["--force"]);
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{words}");
    assert!(words.contains(&format!("{TRADES} rows")) && words.contains("trades.parquet"), "{words}");
    assert!(!words.contains('\u{1b}') && !words.contains('\r'), "plain lines: {words:?}");
    assert_eq!(&std::fs::read(&file).unwrap()[..4], b"PAR1");

    // An export that fails leaves what was there, and nothing beside it.
    let mut command = crate::support::tapedeck();
    command.args(["query", "select cast(symbol as bigint) from trades", "--force", "--format", "csv", "--dir"]);
    let failed = command.arg(&tape).arg("--out").arg(&file).output().unwrap();
    assert!(!failed.status.success() && failed.stderr.starts_with(b"tapedeck-store: "), "{failed:?}");
    assert_eq!(&std::fs::read(&file).unwrap()[..4], b"PAR1");
    let mut names: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["tape", "trades.parquet"]);

    // While it is written there is no file of that name.
    std::fs::remove_file(&file).unwrap();
    let mut child = crate::support::tapedeck();
    child.args(["export", "trades", "--dir"]).arg(&tape).arg("--out").arg(&file);
    let mut child = child.stderr(std::process::Stdio::null()).spawn().unwrap();
    until("its end", || {
        let ended = child.try_wait().unwrap();
        if let Ok(bytes) = std::fs::read(&file) {
            assert_eq!(&bytes[bytes.len() - 4..], b"PAR1", "whole when it appears");
        }
        ended
    });
    assert!(file.exists());
}
