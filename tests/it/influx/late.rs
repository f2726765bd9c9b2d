//! What comes late, from a backlog, as a dead letter or by a repair, does not take the place of what is newer.

use std::path::Path;

use tapedeck::config::KindTable;
use tapedeck::sinks::{self, Batch, Sink};
use tapedeck_market::{Candle, CandleFlags, CandleInput, Event, Flags, Record, UnixNanos, Uuid};

use super::*;
use crate::reconcile::{counts, reconcile};
use crate::servers::fresh_name;

/// Points that are old when the store comes back: far more than a few requests take.
const BACKLOG: i64 = 60_000;

/// A deck whose store is away while points come, and comes back: while the backlog is delivered, some of its points are
/// corrected. Returns what the store has of them in the end.
fn corrected(desk: &Desk, deck: &Deck, come_back: &dyn Fn(), ask: &dyn Fn(&str) -> Option<Value>) {
    for from in (0..BACKLOG).step_by(5_000) {
        desk.post(&lines("m", from, 5_000));
    }
    until("the outage", || state(deck).starts_with("unavailable").then_some(()));
    // What waited for longer than ten seconds is behind.
    let first = first_recv(&desk.home.path().join("tape"));
    until("the backlog to be old", || {
        (UnixNanos::now().saturating_since(first) > std::time::Duration::from_secs(10)).then_some(())
    });
    come_back();
    let behind = |deck: &Deck| deck.log().contains("what is new is delivered beside the backlog");
    until("what is new to overtake", || behind(deck).then_some(()));
    let of = BACKLOG - 200;
    let better: String =
        (of..BACKLOG).map(|n| format!("m,host=a v={} {}\n", n * 1_000, 1_700_000_000_000_000_000 + n)).collect();
    desk.post(&better);
    until("all to be delivered", || is_done(deck).then_some(()));
    assert!(deck.log().contains("what overtook it is looked at again"), "it did overtake: {}", deck.log());
    let want = (0..of).sum::<i64>() + (of..BACKLOG).sum::<i64>() * 1_000;
    let found = until("an answer", || ask("SELECT COUNT(v), SUM(v) FROM m"));
    let row = &found["series"][0]["values"][0];
    assert_eq!((row[1].as_i64(), row[2].as_f64()), (Some(BACKLOG), Some(want as f64)), "{}", deck.log());
}

/// When the first record of a tape was received.
fn first_recv(tape: &Path) -> UnixNanos {
    let disk = std::sync::Arc::new(tapedeck_tape::storage::Disk);
    let mut reader = tapedeck_tape::Reader::open(disk, tape, tapedeck_tape::Start::Begin).unwrap();
    match reader.next().unwrap() {
        Some(tapedeck_tape::Item::Record(record)) => UnixNanos(record.ts_recv),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_point_that_was_corrected_while_a_backlog_drains_stays_corrected() {
    let Some(server) = Influx1::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"late\"\nbatch = 50", server.url()));
    server.query("", "CREATE DATABASE late");
    server.stop();
    let deck = desk.start();
    corrected(&desk, &deck, &|| server.restart(), &|statement| Some(server.query("late", statement)));
    deck.stop();
    let (code, found) = reconcile(&desk.home.path().join("tapedeck.toml"), "influx", &[]);
    assert_eq!((code, counts(&found)), (0, [0, 0, 0, 200]), "{found}");
}

#[test]
fn the_same_with_a_server_of_2_x() {
    let Some(server) = Influx2::private() else { return };
    let bucket = server.fresh_database();
    let (org, token, url) = (server.org().to_owned(), server.token().to_owned(), server.url().to_owned());
    let desk = Desk::new(&format!(
        "url = \"{url}\"\ndatabase = \"{bucket}\"\norg = \"{org}\"\ntoken = \"{token}\"\nbatch = 50"
    ));
    server.stop();
    let deck = desk.start();
    corrected(&desk, &deck, &|| server.restart(), &|statement| Some(server.query(&bucket, statement)));
    deck.stop();
}

#[test]
fn a_dead_letter_does_not_take_the_place_of_another_value() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the first points", || (detail(&deck, "delivered") >= 10).then_some(()));
    let at = |n: i64| 1_700_000_000_000_000_000 + n;
    desk.post(&format!(
        "m,host=a v=\"one\" {}\nm,host=a v=\"two\" {}\nm,host=a v=\"two\" {}\n",
        at(100),
        at(200),
        at(300)
    ));
    until("the dead letters", || (detail(&deck, "dead_letters") == 3).then_some(()));
    query(server.url(), &database, "DROP MEASUREMENT m", &["-XPOST"]);
    // Newer words on the first of them, the same on the second.
    desk.post(&format!("m,host=a v=\"newer\" {}\nm,host=a v=\"two\" {}\n", at(100), at(200)));
    until("the newer points", || (detail(&deck, "lag_records") == 0).then_some(()));
    let again = desk.deadletter(&["retry", "influx", "--json"]);
    assert_eq!((&again["delivered"], again["refused"].as_array().map(Vec::len)), (&2.into(), Some(1)), "{again}");
    let words = again["refused"][0]["words"].as_str().unwrap();
    assert!(words.starts_with("`v` of this series and time is Text(\"newer\")"), "{words}");
    let found = rows(server.url(), &database, "SELECT v FROM m");
    let values: Vec<&str> = found.iter().map(|row| row[1].as_str().unwrap()).collect();
    assert_eq!(values, ["newer", "two", "two"]);
    deck.stop();
}

#[test]
fn a_repair_of_an_old_stretch_does_not_undo_what_came_behind_it() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    let deck = desk.start();
    let at = 1_700_000_000_000_000_000_i64;
    // The first says more than the second, which corrects it.
    desk.post(&format!("m,host=a v=1,w=5 {at}\nm,host=b v=1 {at}\n"));
    until("the first points", || (detail(&deck, "delivered") >= 2).then_some(()));
    let between = UnixNanos::now();
    desk.post(&format!("m,host=a v=2 {at}\nm,host=a v=3 {at}\n"));
    until("the correction", || (detail(&deck, "delivered") >= 4 && is_done(&deck)).then_some(()));
    deck.stop();
    let config = desk.home.path().join("tapedeck.toml");
    let held = || rows(server.url(), &database, "SELECT v, w FROM m WHERE host = 'a'");
    let _ = reconcile(&config, "influx", &["--to", &between.to_string(), "--repair"]);
    assert_eq!((&held()[0][1], &held()[0][2]), (&3.into(), &5.into()), "{:?}", held());
    query(server.url(), &database, "DROP SERIES FROM m WHERE host = 'a'", &["-XPOST"]);
    let (code, found) = reconcile(&config, "influx", &["--repair"]);
    assert_eq!((code, counts(&found)), (0, [0, 0, 0, 2]), "{found}");
    assert_eq!((&held()[0][1], &held()[0][2]), (&3.into(), &5.into()), "{:?}", held());
}

fn candle(seq: u64, symbol: &str, start: i64, revision: u32, close: &str) -> Record {
    let price = |text: &str| tapedeck_market::Price(text.parse().unwrap());
    let body = Body::Candle(Box::new(Candle {
        interval_ns: 60_000_000_000,
        start: UnixNanos(start),
        open: price("1"),
        high: price("9"),
        low: price("1"),
        close: price(close),
        volume: None,
        vwap: None,
        trades: None,
        flags: CandleFlags::COMPLETE,
        revision,
        input: CandleInput::Trades,
    }));
    let event = Event {
        source: "candles".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        ts_event: Some(UnixNanos(start)),
        ts_recv: UnixNanos(start + 60_000_000_000),
        flags: Flags::NONE,
        origin: None,
        body,
    };
    Record { seq, event }
}

fn an_older_candle_stays_behind(url: &str, more: &str, ask: &dyn Fn() -> Value) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let table = format!("url = \"{url}\"\n{more}").parse().unwrap();
    let table = KindTable { name: "influx".into(), kind: "influx".into(), table };
    let mut sink: Box<dyn Sink> = sinks::build(&table, Path::new("/nonexistent")).unwrap().1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tape = Uuid::from_u128(7);
    runtime.block_on(sink.open(tape)).unwrap();
    let mut write = |records: &[Record], late: bool| {
        runtime
            .block_on(sink.write(&Batch {
                tape,
                records,
                mark: None,
                late,
                parted: &std::collections::BTreeSet::new(),
            }))
            .unwrap();
    };
    let minute = 1_700_000_040_000_000_000_i64;
    write(&[candle(50, "a,b \"c\"", minute, 2, "5"), candle(51, "X", minute, 0, "7")], false);
    write(
        &[
            candle(10, "a,b \"c\"", minute, 1, "4"),
            candle(11, "X", minute, 0, "6"),
            candle(12, "X", minute + 60_000_000_000, 0, "8"),
        ],
        true,
    );
    let closes = |answer: Value| {
        let mut closes: Vec<String> = Vec::new();
        for series in answer["series"].as_array().unwrap() {
            closes.extend(series["values"].as_array().unwrap().iter().map(|row| row[1].to_string()));
        }
        closes
    };
    assert_eq!(closes(ask()), ["7", "8", "5"], "what is older is left out, what is missing is written");
    write(&[candle(60, "X", minute, 1, "9")], true);
    assert_eq!(closes(ask()), ["9", "8", "5"], "a newer one that comes late is written");
}

#[test]
fn an_older_revision_of_a_candle_that_comes_late_is_left_out() {
    let Some(server) = Influx1::shared() else { return };
    let statement = "SELECT close FROM candle GROUP BY instrument";
    let database = server.fresh_database();
    an_older_candle_stays_behind(server.url(), &format!("database = \"{database}\""), &|| {
        server.query(&database, statement)
    });
    // Where candles have a policy of their own.
    let database = fresh_name("it_late");
    server.query("", &format!("CREATE DATABASE {database}"));
    server.query("", &format!("CREATE RETENTION POLICY long_term ON {database} DURATION INF REPLICATION 1"));
    an_older_candle_stays_behind(server.url(), &format!("database = \"{database}\""), &|| {
        server.query(&database, &format!("SELECT close FROM {database}.long_term.candle GROUP BY instrument"))
    });
}

#[test]
fn an_older_revision_of_a_candle_that_comes_late_to_2_x_is_left_out() {
    let Some(server) = Influx2::shared() else { return };
    let bucket = server.fresh_database();
    let more = format!("database = \"{bucket}\"\norg = \"{}\"\ntoken = \"{}\"", server.org(), server.token());
    let ask = || server.query(&bucket, "SELECT close FROM candle GROUP BY instrument");
    an_older_candle_stays_behind(server.url(), &more, &ask);
}
