//! `tapedeck reconcile` on real stores: rows taken out, changed and put in behind its back are found, named and mended.

use std::path::Path;

use serde_json::Value;
use tapedeck_market::{Body, Event, Flags, Point, Record, Trade, UnixNanos, Value as Number};
use tapedeck_testkit::kraken::FakeKraken;

use crate::deck::{blocking, source};
use crate::hostile::write;
use crate::influx::Desk;
use crate::servers::{Influx1, Postgres, Questdb, fresh_name};
use crate::support::{Deck, free_address, records, tapedeck, until};

/// Exit code and what it found.
pub(crate) fn reconcile(config: &Path, sink: &str, more: &[&str]) -> (i32, Value) {
    let out = tapedeck().args(["reconcile", sink, "--json"]).args(more).arg("-c").arg(config).output().unwrap();
    let found = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"));
    (out.status.code().unwrap(), found)
}

/// Missing, different, too many, collisions.
pub(crate) fn counts(found: &Value) -> [u64; 4] {
    ["missing", "different", "extra", "collisions"].map(|key| found[key].as_u64().unwrap())
}

fn delivered(deck: &Deck, sink: &str) -> bool {
    let status = deck.status();
    let sink = status.services.iter().find(|service| service.name == sink);
    sink.and_then(|sink| sink.detail.get("lag_records")?.as_u64()) == Some(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_influxdb_lost_or_changed_is_found_and_delivered_again() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(400).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let home = tempfile::tempdir().unwrap();
        let sink = format!(
            "[candles]\nintervals = [\"1s\"]\n[sink.influx]\nkind = \"influx\"\nbatch_wait = \"20ms\"\nurl = \"{}\"\ndatabase = \"{database}\"\n",
            server.url()
        );
        let deck = Deck::start(home.path(), &format!("{venue_table}{sink}"));
        let config = home.path().join("tapedeck.toml");
        deck.until("events", |status| status.events > 3_000);
        let (code, live) = reconcile(&config, "influx", &[]);
        assert_eq!((code, counts(&live)), (0, [0; 4]), "beside a deck that delivers: {live}");
        deck.stop();
        let (code, clean) = reconcile(&config, "influx", &[]);
        assert_eq!((code, counts(&clean)), (0, [0; 4]), "{clean}");
        assert!(clean["rows"].as_u64().unwrap() > 3_000 && clean["behind"] == 0, "{clean}");

        let trades: Vec<_> = records(&home.path().join("tape"))
            .into_iter()
            .filter(|record| matches!(record.event.body, Body::Trade(_)))
            .collect();
        let row = |nth: usize| {
            let seq = trades[nth].seq;
            let statement = format!("SELECT * FROM kraken_trade WHERE seq = {seq} GROUP BY *");
            let found = server.query(&database, &statement)["series"][0].clone();
            let time = found["values"][0][0].as_i64().unwrap_or_else(|| panic!("{seq}: {found}"));
            let tags: Vec<String> = (found["tags"].as_object().unwrap().iter())
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
                .collect();
            (seq, time, format!("kraken_trade,{}", tags.join(",")))
        };
        let (gone, other) = (row(3), row(7));
        server.query(&database, &format!("DELETE FROM kraken_trade WHERE time = {}", gone.1));
        server.write(&database, &format!("{} price=1.5 {}\n", other.2, other.1));
        let extra = other.1 + 333_000;
        server.write(&database, &format!("{} price=2,seq={}i {extra}\n", other.2, other.0));

        let (code, found) = reconcile(&config, "influx", &[]);
        assert_eq!((code, counts(&found)), (1, [1, 1, 1, 0]), "{found}");
        let named = |what: &str| {
            let all = found["differences"].as_array().unwrap();
            all.iter().find(|one| one["what"] == what).unwrap_or_else(|| panic!("{what}: {found}")).clone()
        };
        assert_eq!(named("missing")["seq"], gone.0);
        assert_eq!((&named("different")["seq"], named("extra")["seq"].as_u64()), (&other.0.into(), Some(other.0)));
        assert!(named("different")["detail"].as_str().unwrap().starts_with("price: 1.5 there, "), "{found}");

        let (code, mended) = reconcile(&config, "influx", &["--repair"]);
        assert_eq!((code, counts(&mended), &mended["repaired"]), (1, [0, 0, 1, 0], &2.into()), "{mended}");
        server.query(&database, &format!("DELETE FROM kraken_trade WHERE time = {extra}"));
        let (code, clean) = reconcile(&config, "influx", &[]);
        assert_eq!((code, counts(&clean)), (0, [0; 4]), "{clean}");

        server.query("", &format!("DROP DATABASE \"{database}\""));
        let (code, empty) = reconcile(&config, "influx", &["--repair"]);
        assert_eq!((code, counts(&empty)), (0, [0; 4]), "a store that lost everything: {empty}");
        assert!(empty["repaired"].as_u64().unwrap() > 1_000, "{empty}");
    })
    .await;
}

/// Of what a policy lets go, a shard holds some for a while: neither that nor its absence is a difference.
#[test]
fn rows_that_a_policy_no_longer_keeps_are_no_difference() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    server.query("", &format!("CREATE RETENTION POLICY kept ON {database} DURATION 80h REPLICATION 1 DEFAULT"));
    let home = tempfile::tempdir().unwrap();
    let (minute, now) = (60_000_000_000, UnixNanos::now().0);
    // From 46 to 36 hours ago, one a minute.
    let records: Vec<Record> = (0..600_i64)
        .map(|n| {
            let time = UnixNanos(now - (46 * 60 - n) * minute);
            let event = Event {
                source: "test".into(),
                venue: "test".into(),
                symbol: "X".into(),
                ts_event: Some(time),
                ts_recv: time,
                flags: Flags::NONE,
                origin: None,
                body: Body::Trade(Trade {
                    price: "1.5".parse().unwrap(),
                    size: "1".parse().unwrap(),
                    side: None,
                    id: None,
                }),
            };
            Record { seq: n.unsigned_abs() + 1, event }
        })
        .collect();
    write(&home.path().join("tape"), &records);
    let sink = format!("kind = \"influx\"\nurl = \"{}\"\ndatabase = \"{database}\"", server.url());
    let door = format!("[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n", free_address());
    let deck = Deck::start(home.path(), &format!("{door}[sink.influx]\nevents = [\"trade\"]\n{sink}\n"));
    let count = || server.query(&database, "SELECT COUNT(price) FROM test_trade")["series"][0]["values"][0][1].as_u64();
    until("all of them", || (count() == Some(600) && delivered(&deck, "influx")).then_some(()));
    deck.stop();
    let config = home.path().join("tapedeck.toml");
    let (code, clean) = reconcile(&config, "influx", &[]);
    assert_eq!((code, counts(&clean), &clean["rows"]), (0, [0; 4], &600.into()), "{clean}");
    server.query("", &format!("ALTER RETENTION POLICY kept ON {database} DURATION 42h SHARD DURATION 24h"));
    let (code, shorter) = reconcile(&config, "influx", &[]);
    assert_eq!((code, counts(&shorter)), (0, [0; 4]), "{shorter}");
    let rows = shorter["rows"].as_u64().unwrap();
    assert!((295..=301).contains(&rows), "those of the last 41 hours: {shorter}");
    assert_eq!(shorter["foreign"], 0, "{shorter}");
}

#[test]
fn points_of_one_time_that_a_store_cannot_keep_apart_are_named() {
    let Some(server) = Influx1::shared() else { return };
    let database = server.fresh_database();
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"{database}\"", server.url()));
    let deck = desk.start();
    let at = 1_700_000_000_000_000_000_i64;
    desk.post(&format!("m,host=a v=1 {at}\nm,host=a v=2 {at}\nm,host=b v=3 {at}\n"));
    until("the points to be delivered", || delivered(&deck, "influx").then_some(()));
    deck.stop();
    let (code, found) = reconcile(&desk.home.path().join("tapedeck.toml"), "influx", &[]);
    assert_eq!((code, counts(&found)), (0, [0, 0, 0, 1]), "{found}");
    let pair = &found["collided"][0];
    assert_eq!(pair[1].as_u64().unwrap(), pair[0].as_u64().unwrap() + 1, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_postgresql_lost_or_changed_is_found_and_delivered_again() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(400).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let home = tempfile::tempdir().unwrap();
        let sink = format!(
            "[candles]\nintervals = [\"1s\"]\n[sink.pg]\nkind = \"postgres\"\nbatch_wait = \"20ms\"\ndsn = \"{}\"\n",
            database.dsn
        );
        let deck = Deck::start(home.path(), &format!("{venue_table}{sink}"));
        let config = home.path().join("tapedeck.toml");
        deck.until("events", |status| status.events > 3_000);
        let (code, live) = reconcile(&config, "pg", &[]);
        assert_eq!((code, counts(&live)), (0, [0; 4]), "beside a deck that delivers: {live}");
        let beside = tapedeck().args(["reconcile", "pg", "--repair", "-c"]).arg(&config).output().unwrap();
        assert!(String::from_utf8_lossy(&beside.stderr).contains("stop the deck to repair"), "{beside:?}");
        deck.stop();
        let (code, clean) = reconcile(&config, "pg", &[]);
        assert_eq!((code, counts(&clean)), (0, [0; 4]), "{clean}");
        assert!(clean["rows"].as_u64().unwrap() > 3_000 && clean["behind"] == 0, "{clean}");

        let sql = |sql: &str| server.psql(&database.dsn, sql);
        let seq = |nth: usize| {
            let found = sql(&format!("SELECT seq FROM tapedeck.trades ORDER BY seq OFFSET {nth} LIMIT 1"));
            found.trim().parse::<u64>().unwrap_or_else(|_| panic!("{found}"))
        };
        let (gone, other) = (seq(3), seq(7));
        sql(&format!("DELETE FROM tapedeck.trades WHERE seq = {gone}"));
        sql(&format!("UPDATE tapedeck.trades SET price = price + 1 WHERE seq = {other}"));
        sql("UPDATE tapedeck.candles SET close = 1 WHERE seq = (SELECT max(seq) FROM tapedeck.candles)");
        let (code, found) = reconcile(&config, "pg", &[]);
        assert_eq!((code, counts(&found)), (1, [1, 2, 0, 0]), "{found}");
        let named = |table: &str, what: &str| {
            let all = found["differences"].as_array().unwrap().clone();
            all.into_iter()
                .find(|one| one["what"] == what && one["table"] == table)
                .unwrap_or_else(|| panic!("{found}"))
        };
        assert_eq!(
            (&named("trades", "missing")["seq"], &named("trades", "different")["seq"]),
            (&gone.into(), &other.into())
        );
        assert!(named("candles", "different")["detail"].as_str().unwrap().starts_with("close: "), "{found}");

        // A row is replaced in one step: what cannot be written again is not removed either.
        let held = || sql(&format!("SELECT price FROM tapedeck.trades WHERE seq = {other}"));
        let wrong = held();
        sql(&format!("ALTER TABLE tapedeck.trades ADD CONSTRAINT no CHECK (seq <> {other}) NOT VALID"));
        let (code, refused) = reconcile(&config, "pg", &["--repair"]);
        assert_eq!((code, counts(&refused), &refused["refused"]), (1, [0, 1, 0, 0], &1.into()), "{refused}");
        assert_eq!(held(), wrong);
        sql("ALTER TABLE tapedeck.trades DROP CONSTRAINT no");
        let (code, mended) = reconcile(&config, "pg", &["--repair"]);
        assert_eq!((code, counts(&mended), &mended["repaired"]), (0, [0; 4], &1.into()), "{mended}");
        sql("TRUNCATE tapedeck.trades, tapedeck.tickers, tapedeck.candles");
        let (code, empty) = reconcile(&config, "pg", &["--repair"]);
        assert_eq!((code, counts(&empty)), (0, [0; 4]), "a store that lost everything: {empty}");
        assert!(empty["repaired"].as_u64().unwrap() > 1_000, "{empty}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_questdb_lost_or_changed_is_found_and_delivered_again() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("rec");
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(400).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let home = tempfile::tempdir().unwrap();
        let sink = format!(
            "[candles]\nintervals = [\"1s\"]\n[sink.quest]\nkind = \"questdb\"\nbatch_wait = \"20ms\"\nurl = \"{}\"\nprefix = \"{prefix}\"\n",
            server.url()
        );
        let deck = Deck::start(home.path(), &format!("{venue_table}{sink}"));
        let config = home.path().join("tapedeck.toml");
        deck.until("events", |status| status.events > 3_000);
        deck.stop();
        let (code, clean) = reconcile(&config, "quest", &[]);
        assert_eq!((code, counts(&clean)), (0, [0; 4]), "{clean}");
        assert!(clean["rows"].as_u64().unwrap() > 3_000 && clean["behind"] == 0, "{clean}");

        let other = server.query(&format!("SELECT max(seq) FROM \"{prefix}trades\""))[0][0].as_u64().unwrap();
        server.query(&format!("UPDATE \"{prefix}trades\" SET price = price * 2 WHERE seq = {other}"));
        let changed = || {
            let (code, found) = reconcile(&config, "quest", &[]);
            (code == 1).then_some(found)
        };
        let found = until("the change to be applied", changed);
        assert_eq!(counts(&found), [0, 1, 0, 0], "{found}");
        assert_eq!(found["differences"][0]["seq"], other, "{found}");
        let (code, mended) = reconcile(&config, "quest", &["--repair"]);
        assert_eq!((code, counts(&mended), &mended["repaired"]), (0, [0; 4], &1.into()), "{mended}");
        server.query(&format!("TRUNCATE TABLE \"{prefix}trades\""));
        let (code, empty) = reconcile(&config, "quest", &["--repair"]);
        assert_eq!((code, counts(&empty)), (0, [0; 4]), "a table that lost everything: {empty}");
        assert!(empty["repaired"].as_u64().unwrap() > 300, "{empty}");
    })
    .await;
}

#[test]
fn what_a_questdb_holds_beside_its_columns_and_tables_is_no_difference() {
    let Some(server) = Questdb::shared() else { return };
    let (home, prefix) = (tempfile::tempdir().unwrap(), fresh_name("beside"));
    let trade = |price: &str| {
        Body::Trade(Trade { price: price.parse().unwrap(), size: "1".parse().unwrap(), side: None, id: None })
    };
    let point = |name: &str| {
        Body::Point(Box::new(Point { name: name.into(), tags: Vec::new(), fields: vec![("v".into(), Number::Int(1))] }))
    };
    // More digits than a column has, and names that differ by case alone.
    let bodies = [trade("1.5"), trade("0.000000000001"), trade("2.5"), point("cpu"), point("CPU"), point("a\nb")];
    let records: Vec<Record> = (1_u64..)
        .zip(bodies)
        .map(|(seq, body)| {
            let time = UnixNanos(1_784_462_400_123_456_789 + i64::try_from(seq).unwrap());
            let event = Event {
                source: "test".into(),
                venue: "test".into(),
                symbol: "X".into(),
                ts_event: Some(time),
                ts_recv: time,
                flags: Flags::NONE,
                origin: None,
                body,
            };
            Record { seq, event }
        })
        .collect();
    write(&home.path().join("tape"), &records);
    let sink = format!("kind = \"questdb\"\nurl = \"{}\"\nprefix = \"{prefix}\"", server.url());
    let door = format!("[http]\nlisten = \"{}\"\n[source.points]\nkind = \"http\"\n", free_address());
    let deck = Deck::start(home.path(), &format!("{door}[sink.quest]\nevents = [\"trade\", \"point\"]\n{sink}\n"));
    until("all to be delivered", || delivered(&deck, "quest").then_some(()));
    deck.stop();
    let config = home.path().join("tapedeck.toml");
    let (code, clean) = reconcile(&config, "quest", &[]);
    assert_eq!((code, counts(&clean), &clean["rows"]), (0, [0; 4], &4.into()), "{clean}");
    assert_eq!(server.query(&format!("SELECT count() FROM \"{prefix}points\"")), serde_json::json!([[2]]));
    server.query(&format!("UPDATE \"{prefix}trades\" SET price = 9 WHERE seq = 3"));
    until("the change to be found", || (counts(&reconcile(&config, "quest", &[]).1) == [0, 1, 0, 0]).then_some(()));
}
