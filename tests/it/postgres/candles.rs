//! One row a candle, and the tables of Trading-V2.

use serde_json::Value;
use tapedeck::sinks::{Fate, SinkError};
use tapedeck_market::{Body, Candle, CandleFlags, CandleInput, Price, Record, Sum, UnixNanos};

use super::{Desk, event};
use crate::hostile::write;
use crate::reconcile::{counts, reconcile};
use crate::servers::{Database, Postgres};
use crate::support::{Deck, free_address, tapedeck, until};

const MINUTE_NS: i64 = 60_000_000_000;
/// 2026-11-20 09:15 in India.
const OPENING: i64 = 1_795_146_300_000_000_000;

fn candle(seq: u64, symbol: &str, minutes: i64, revision: u32, close: &str, volume: i128) -> Record {
    let price = |text: &str| Price(text.parse().unwrap());
    let candle = Candle {
        interval_ns: minutes * MINUTE_NS,
        start: UnixNanos(OPENING),
        open: price("100.05"),
        high: price("101.00"),
        low: price("99.95"),
        close: price(close),
        volume: Some(Sum { mantissa: volume, scale: 0 }),
        vwap: None,
        trades: Some(3),
        flags: CandleFlags::COMPLETE,
        revision,
        input: CandleInput::Trades,
    };
    let ts_recv = OPENING + minutes * MINUTE_NS + i64::try_from(seq).unwrap();
    let mut event = event(ts_recv, Body::Candle(Box::new(candle)));
    (event.venue, event.symbol, event.source) = ("kite".into(), symbol.into(), "candles".into());
    Record { seq, event }
}

fn database() -> Option<(&'static Postgres, Database)> {
    let server = Postgres::shared()?;
    Some((server, server.fresh_database()))
}

#[test]
fn the_newest_revision_of_a_candle_stays_whatever_the_order() {
    let Some((server, database)) = database() else { return };
    let mut desk = Desk::opened(&database.dsn, "");
    let rows = || server.psql(&database.dsn, "SELECT symbol, revision, close, seq FROM tapedeck.candles ORDER BY 1");
    // Three statements in one batch, the newest not the last.
    desk.write(
        &[candle(1, "A", 5, 0, "1.0", 10), candle(3, "A", 5, 2, "3.0", 30), candle(2, "A", 5, 1, "2.0", 20)],
        b"a",
    );
    assert_eq!(rows(), "A|2|3.0|3");
    // A backlog comes late: older ones change nothing, newer ones and others do.
    desk.write(&[candle(2, "A", 5, 1, "2.0", 20), candle(7, "B", 5, 0, "7.50", 1)], b"b");
    assert_eq!(rows(), "A|2|3.0|3\nB|0|7.50|7");
    desk.write(&[candle(9, "A", 5, 3, "4.0", 40), candle(8, "A", 15, 0, "8.0", 80)], b"c");
    assert_eq!(
        server.psql(&database.dsn, "SELECT count(*), sum(revision) FROM tapedeck.candles WHERE symbol = 'A'"),
        "2|3"
    );
    // The same again is the same.
    desk.write(&[candle(9, "A", 5, 3, "4.0", 40)], b"d");
    assert_eq!(
        server.psql(
            &database.dsn,
            "SELECT close FROM tapedeck.candles WHERE symbol = 'A' AND interval_ns = 300000000000"
        ),
        "4.0"
    );
}

#[test]
fn the_tables_of_trading_v2_are_written_as_they_are() {
    let Some((server, database)) = database() else { return };
    let psql = |sql: &str| server.psql(&database.dsn, sql);
    // As the old system's documents have it, without any key, and one with a key and other types.
    let old = "datetime TIMESTAMP, tradingsymbol VARCHAR, open NUMERIC, high NUMERIC, low NUMERIC, close NUMERIC, volume INTEGER";
    psql(&format!(
        "CREATE TABLE mine_5 ({old}); INSERT INTO mine_5 VALUES ('2026-11-20 09:15', 'TCS', 1, 1, 1, 1, 1), ('2026-11-19 09:15', 'TCS', 2, 2, 2, 2, 2)"
    ));
    psql(
        "CREATE TABLE merged_candles_15min (id serial, datetime timestamptz, tradingsymbol text, open numeric(10,2), high float8, low float8, close numeric, volume bigint, UNIQUE (datetime, tradingsymbol))",
    );
    let before =
        psql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'merged_candles_15min'::regclass");
    let mut desk = Desk::opened(&database.dsn, "candle_table = 'mine_5'");
    desk.write(
        &[
            candle(1, "TCS", 5, 0, "100.50", 3_000),
            candle(2, "TCS", 15, 0, "100.75", 9_000),
            candle(3, "INFY", 5, 0, "50.00", 7),
            candle(4, "TCS", 60, 0, "101.00", 36_000),
        ],
        b"a",
    );
    assert_eq!(
        psql("SELECT * FROM mine_5 ORDER BY datetime, tradingsymbol"),
        "2026-11-19 09:15:00|TCS|2|2|2|2|2\n2026-11-20 09:15:00|INFY|100.05|101.00|99.95|50.00|7\n2026-11-20 09:15:00|TCS|100.05|101.00|99.95|100.50|3000",
        "India's time, one row a candle, others untouched"
    );
    assert_eq!(
        psql("SET TimeZone = 'UTC'; SELECT datetime, tradingsymbol, open, high, close FROM merged_candles_15min"),
        "2026-11-20 03:45:00+00|TCS|100.05|101|100.75"
    );
    assert_eq!(
        psql("SELECT datetime, close, volume FROM merged_candles_60min"),
        "2026-11-20 09:15:00|101.00|36000",
        "made where there was none"
    );
    // A revision takes the place of the row, an old one does not.
    desk.write(
        &[
            candle(11, "TCS", 5, 1, "100.60", 3_100),
            candle(12, "TCS", 15, 1, "100.85", 9_100),
            candle(13, "TCS", 60, 1, "101.10", 1),
        ],
        b"b",
    );
    desk.write(&[candle(1, "TCS", 5, 0, "100.50", 3_000), candle(2, "TCS", 15, 0, "100.75", 9_000)], b"c");
    assert_eq!(
        psql("SELECT close, volume FROM mine_5 WHERE tradingsymbol = 'TCS' AND datetime > '2026-11-20'"),
        "100.60|3100"
    );
    assert_eq!(psql("SELECT close, volume FROM merged_candles_15min"), "100.85|9100");
    assert_eq!(psql("SELECT close, volume FROM merged_candles_60min"), "101.10|1");
    assert_eq!(
        psql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'merged_candles_15min'::regclass"),
        before
    );

    // What their columns would round or cannot hold is left out of them, and of nothing else.
    let mut fine = candle(21, "TCS", 15, 2, "100.85", 1);
    if let Body::Candle(candle) = &mut fine.event.body {
        candle.open = Price("100.055".parse().unwrap());
    }
    let batch = [candle(20, "TCS", 5, 2, "1.0", 3_000_000_000), fine, candle(22, "TCS", 60, 2, "1.0", 3_000_000_000)];
    let Err(SinkError::Refused(refusal)) = desk.try_write(&batch, b"d") else { panic!("taken") };
    assert_eq!(refusal.rejects.iter().map(|reject| reject.index).collect::<Vec<_>>(), [0, 1], "{refusal:?}");
    assert!(refusal.rejects.iter().all(|reject| reject.fate == Fate::Part), "{refusal:?}");
    assert_eq!(refusal.rejects[0].words, "`volume` 3000000000 does not fit mine_5.volume (integer)");
    assert!(refusal.rejects[1].words.contains("numeric(10,2)"), "{refusal:?}");
    desk.try_write_but(&batch, Some(b"e"), &[20, 21]).unwrap();
    assert_eq!(psql("SELECT volume FROM merged_candles_60min"), "3000000000");
    assert_eq!(
        psql("SELECT revision, volume FROM tapedeck.candles WHERE symbol = 'TCS' ORDER BY interval_ns"),
        "2|3000000000\n2|1\n2|3000000000"
    );
    assert_eq!(
        psql("SELECT close, volume FROM mine_5 WHERE tradingsymbol = 'TCS' AND datetime > '2026-11-20'"),
        "100.60|3100"
    );
    assert_eq!(psql("SELECT close, volume FROM merged_candles_15min"), "100.85|9100");
}

#[test]
fn a_candle_that_no_merged_table_can_hold_is_in_our_own_and_its_letter_can_be_sent_again() {
    let Some((server, database)) = database() else { return };
    let psql = |sql: &str| server.psql(&database.dsn, sql);
    // A name that is too long is found by the server alone; a part of a share, by us.
    psql(
        "CREATE TABLE merged_candles_5min (datetime timestamp, tradingsymbol varchar(3), open numeric, high numeric, low numeric, close numeric, volume integer, UNIQUE (tradingsymbol, datetime))",
    );
    let records: Vec<Record> = (1_u64..=40)
        .map(|seq| {
            let symbol = if seq % 10 == 0 { format!("LONG{seq}") } else { format!("S{seq}") };
            let mut record = candle(seq, &symbol, 5, 0, "100.5", 15);
            if let (Body::Candle(candle), true) = (&mut record.event.body, seq % 8 == 0) {
                candle.volume = Some(Sum { mantissa: 15, scale: 1 });
            }
            record
        })
        .collect();
    let misfits: Vec<u64> = (1..=40).filter(|seq| seq % 10 == 0 || seq % 8 == 0).collect();
    let home = tempfile::tempdir().unwrap();
    write(&home.path().join("tape"), &records);
    let config = format!(
        "[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n[sink.pg]\nkind = \"postgres\"\ndsn = \"{}\"\nevents = [\"candle\"]\nmerged_candles = [\"*\"]\n",
        free_address(),
        database.dsn
    );
    let deck = Deck::start(home.path(), &config);
    let figure = |key: &str| {
        let status = deck.status();
        let sink = status.services.into_iter().find(|service| service.name == "pg");
        sink.and_then(|sink| sink.detail.get(key)?.as_u64())
    };
    until("all candles", || {
        (psql("SELECT to_regclass('tapedeck.candles') IS NULL") == "f"
            && psql("SELECT count(*) FROM tapedeck.candles") == "40")
            .then_some(())
    });
    until("the letters", || {
        (figure("dead_letters") == Some(misfits.len() as u64) && figure("lag_records") == Some(0)).then_some(())
    });
    deck.stop();
    let merged = || psql("SELECT count(*) FROM merged_candles_5min");
    assert_eq!(merged(), (40 - misfits.len()).to_string());
    let path = home.path().join("tapedeck.toml");
    let deadletter = |args: &[&str]| -> Value {
        let out = tapedeck().arg("deadletter").args(args).arg("--json").arg("-c").arg(&path).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"))
    };
    let letters = deadletter(&["list"]);
    let mut named: Vec<(u64, String)> = (letters.as_array().unwrap().iter())
        .map(|letter| (letter["seq"].as_u64().unwrap(), letter["words"].as_str().unwrap().to_owned()))
        .collect();
    named.sort();
    assert_eq!(named.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), misfits);
    assert!(named[0].1.contains("is not whole, as merged_candles_5min.volume"), "{letters}");
    assert!(named[1].1.contains("its row in \"merged_candles_5min\"") && named[1].1.contains("too long"), "{letters}");
    let (code, found) = reconcile(&path, "pg", &[]);
    assert_eq!((code, counts(&found), &found["rows"]), (0, [0; 4], &40.into()), "our own table is whole: {found}");
    psql("UPDATE tapedeck.candles SET close = 1 WHERE seq = 8");
    let (_, mended) = reconcile(&path, "pg", &["--repair"]);
    assert_eq!((counts(&mended), &mended["repaired"]), ([0; 4], &1.into()), "{mended}");

    assert_eq!(deadletter(&["retry", "pg"])["delivered"], 0, "nothing was mended");
    psql("ALTER TABLE merged_candles_5min ALTER volume TYPE numeric, ALTER tradingsymbol TYPE text");
    assert_eq!(deadletter(&["retry", "pg"])["delivered"], misfits.len() as u64);
    assert_eq!((merged(), deadletter(&["list"])), ("40".to_owned(), Value::Array(Vec::new())));
}

#[test]
fn merged_tables_are_a_switch_by_venue_and_their_time_may_be_utc() {
    let Some((server, database)) = database() else { return };
    let tables =
        || server.psql(&database.dsn, "SELECT relname FROM pg_class WHERE relname LIKE 'merged%' AND relkind = 'r'");
    Desk::opened(&database.dsn, "").write(&[candle(1, "TCS", 5, 0, "1.0", 1)], b"a");
    assert_eq!(tables(), "");
    Desk::opened(&database.dsn, "merged_candles = ['kraken']").write(&[candle(2, "TCS", 5, 0, "1.0", 1)], b"b");
    assert_eq!(tables(), "");
    Desk::opened(&database.dsn, "merged_candles = ['ki*']\nmerged_time = 'UTC'")
        .write(&[candle(3, "TCS", 5, 0, "1.0", 1)], b"c");
    assert_eq!(tables(), "merged_candles_5min");
    assert_eq!(server.psql(&database.dsn, "SELECT datetime FROM merged_candles_5min"), "2026-11-20 03:45:00");
}

#[test]
fn a_table_that_is_no_candle_table_waits_for_a_person() {
    let Some((server, database)) = database() else { return };
    server.psql(&database.dsn, "CREATE TABLE t (datetime timestamp, tradingsymbol text)");
    let mut desk = Desk::opened(&database.dsn, "candle_table = 't'");
    let words = |desk: &mut Desk| match desk.try_write(&[candle(1, "A", 5, 0, "1.0", 1)], b"a") {
        Err(SinkError::Waiting(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(words(&mut desk).contains("t has no column `open`"));
    let more = "ALTER TABLE t ADD open numeric, ADD high numeric, ADD low numeric, ADD close numeric, ADD volume int";
    server.psql(&database.dsn, &format!("{more}, ADD who int NOT NULL"));
    desk.open().unwrap();
    assert!(words(&mut desk).contains("`who` that must not be NULL"));
    server.psql(&database.dsn, "ALTER TABLE t ALTER who SET DEFAULT 1");
    desk.open().unwrap();
    desk.write(&[candle(1, "A", 5, 0, "1.0", 1)], b"a");
    assert_eq!(server.psql(&database.dsn, "SELECT tradingsymbol, who FROM t"), "A|1");
}

#[test]
fn candles_are_asked_for_and_counted() {
    let Some((_, database)) = database() else { return };
    let mut desk = Desk::opened(&database.dsn, "");
    let (mut early, late) = (candle(1, "TCS", 5, 0, "1.10", 1), candle(2, "TCS", 5, 0, "2.0", 1));
    if let Body::Candle(candle) = &mut early.event.body {
        candle.start = UnixNanos(OPENING - 5 * MINUTE_NS);
    }
    desk.write(&[early, late, candle(3, "TCS", 15, 0, "3.0", 1)], b"a");
    let found = desk.ask(async |store| store.candles("TCS", 5 * MINUTE_NS, None, None, 10).await);
    let closes: Vec<String> = found.iter().map(|(_, candle)| candle.close.to_string()).collect();
    assert_eq!(closes, ["2.0", "1.10"], "newest first, digit for digit");
    let bounded = desk.ask(async |store| store.candles("TCS", 5 * MINUTE_NS, None, Some(UnixNanos(OPENING)), 10).await);
    assert_eq!(bounded.len(), 1);
    assert_eq!(desk.ask(async |store| store.candles("TCS", 5 * MINUTE_NS, None, None, 1).await).len(), 1);
    let counts = desk.ask(async |store| store.candle_counts().await);
    let shown: Vec<(i64, i64)> = counts.iter().map(|count| (count.interval_ns / MINUTE_NS, count.candles)).collect();
    assert_eq!(shown, [(5, 2), (15, 1)]);
    assert_eq!((counts[0].first, counts[0].last), (UnixNanos(OPENING - 5 * MINUTE_NS), UnixNanos(OPENING)));
}
