//! Servers that are killed, tables that are suspended, removed, or somebody else's, and what the server refuses.

use rustix::process::Signal;
use serde_json::json;

use super::*;
use crate::servers::{Options, fresh_name};

#[test]
fn what_the_server_refuses_is_told_in_its_words_and_the_rest_is_stored() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("refused_");
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
    let int = |n: u64| tapedeck_market::Value::Int(i64::try_from(n).unwrap());
    let text = || tapedeck_market::Value::Text("high".into());
    assert_eq!(alone.refused(&[point(1, "cpu", &[], &[("v", int(1))])]), []);
    // Alone, side by side, at the ends; a line break within a text moves no number of a line.
    let bad = |seq: u64| [2, 500, 501, 502, 900, 1_001].contains(&seq) || seq.is_multiple_of(97);
    let batch: Vec<Record> = (2..=1_001)
        .map(|seq| {
            let v = if bad(seq) { text() } else { int(seq) };
            point(seq, "cpu", &[("host", "a\nb")], &[("v", v)])
        })
        .chain([trade(2_000, "1.5")])
        .collect();
    let refused = alone.refused(&batch);
    let want: Vec<usize> = (2..=1_001).filter(|seq| bad(*seq)).map(|seq| usize::try_from(seq).unwrap() - 2).collect();
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), want);
    for (_, words) in &refused {
        assert!(words.contains("cast error from protocol type: STRING to column type: LONG"), "{words}");
        assert!(words.contains("(errorId ") && !words.contains("failed to parse"), "{words}");
    }
    // What it would store as something else is refused by us.
    let flag = point(3_000, "cpu", &[], &[("v", tapedeck_market::Value::Bool(true))]);
    let [(0, words)] = &alone.refused(&[flag])[..] else { panic!() };
    assert!(words.contains("is LONG: the flag would be changed to fit"), "{words}");
    let mut old = trade(4_000, "1.5");
    (old.event.ts_event, old.event.ts_recv) = (None, UnixNanos(-1));
    let [(0, words)] = &alone.refused(&[old])[..] else { panic!() };
    assert!(words.contains("before 1970"), "{words}");

    let (cpu, trades) = (format!("{prefix}cpu"), format!("{prefix}trades"));
    applied(server, &cpu);
    applied(server, &trades);
    let count = 1 + 1_000 - want.len();
    let found = server.query(&format!("SELECT count(), count_distinct(seq) FROM \"{cpu}\" WHERE v = seq"));
    assert_eq!(found, json!([[count, count]]));
    assert_eq!(server.query(&format!("SELECT count() FROM \"{trades}\"")), json!([[1]]));
}

#[test]
fn a_column_or_table_that_is_removed_meanwhile_is_made_again() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("gone_");
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
    let table = format!("{prefix}trades");
    let mut write = |seq: u64| loop {
        match alone.write(&[trade(seq, "1.5")], false) {
            Ok(()) => return,
            // The pump waits and opens the store again; a column that was just removed is not at once seen to be.
            Err(SinkError::Unavailable(error)) => {
                assert!(error.to_string().contains("decimal columns cannot be created"), "{error:#}");
                alone.runtime.block_on(alone.sink.open(TAPE)).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    };
    write(1);
    for column in ["price", "guard", "side", "ts_recv"] {
        applied(server, &table);
        server.query(&format!("ALTER TABLE \"{table}\" DROP COLUMN {column}"));
        write(2);
    }
    applied(server, &table);
    let found = server.query(&format!("SELECT seq, price, guard, ts_recv::long FROM \"{table}\" WHERE seq = 2"));
    assert_eq!(found, json!([[2, "1.5000000000", "0", NOON + 2 + 5_000_000]]));

    server.query(&format!("DROP TABLE \"{table}\""));
    write(3);
    write(3);
    applied(server, &table);
    let sql = format!("SELECT dedup, designatedTimestamp, table_row_count FROM tables() WHERE table_name = '{table}'");
    until("one row in the new table", || (server.query(&sql) == json!([[true, "ts", 1]])).then_some(()));
}

#[test]
fn a_table_of_somebody_else_is_told_with_what_to_do_and_left_alone() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("theirs_");
    let table = format!("{prefix}trades");
    let made = |sql: &str| {
        server.query(&format!("DROP TABLE IF EXISTS \"{table}\""));
        server.query(&format!("CREATE TABLE \"{table}\" {sql}"));
    };
    for (sql, words) in [
        (
            "(timestamp TIMESTAMP, price DOUBLE) TIMESTAMP(timestamp) PARTITION BY DAY WAL",
            "designated timestamp, not `ts`",
        ),
        ("(ts TIMESTAMP_NS, price DOUBLE) TIMESTAMP(ts) PARTITION BY DAY BYPASS WAL", "SET TYPE WAL"),
        ("(ts TIMESTAMP_NS, price DOUBLE) TIMESTAMP(ts) PARTITION BY HOUR WAL", "not partitioned by day"),
        (
            "(ts TIMESTAMP_NS, instrument SYMBOL, seq LONG, tape_id SYMBOL) TIMESTAMP(ts) PARTITION BY DAY WAL",
            "DEDUP ENABLE UPSERT KEYS(ts, instrument, seq, tape_id)",
        ),
        (
            "(ts TIMESTAMP_NS, instrument SYMBOL, seq LONG, tape_id SYMBOL, price INT) TIMESTAMP(ts) PARTITION BY DAY \
             WAL DEDUP UPSERT KEYS(ts, instrument, seq, tape_id)",
            "column `price` is INT, it must be DECIMAL(28,10)",
        ),
    ] {
        made(sql);
        let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
        let Err(SinkError::Waiting(error)) = alone.write(&[trade(1, "1.5")], false) else { panic!("{sql}") };
        let error = error.to_string();
        assert!(error.contains(words) && error.contains(&format!("table `{table}`")), "{error}");
        assert!(error.contains("`prefix`"), "{error}");
        assert_eq!(alone.check().unwrap_err().to_string(), error);
    }
    // What only lacks columns gets them; what calculates in doubles may.
    made(
        "(ts TIMESTAMP_NS, instrument SYMBOL, seq LONG, tape_id SYMBOL, price DOUBLE, mine VARCHAR) TIMESTAMP(ts) \
         PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, instrument, seq, tape_id)",
    );
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
    assert_eq!(alone.refused(&[trade(1, "123456789.123456789")]), []);
    applied(server, &table);
    // What it prints of a double are 16 digits.
    let near = "abs(price - 123456789.123456789) < 0.0000001";
    let found = server.query(&format!("SELECT {near}, exact, size, mine FROM \"{table}\""));
    assert_eq!(found, json!([[true, "{\"price\":\"123456789.123456789\"}", "0.5000000000", null]]));
}

#[test]
fn check_says_what_it_found_one_thing_after_the_other() {
    let Some(server) = Questdb::shared() else { return };
    let prefix = fresh_name("check_");
    let mut alone = Alone::new(server.url(), &format!("prefix = \"{prefix}\""));
    assert_eq!(alone.refused(&[trade(1, "1.5")]), []);
    let found = alone.check().unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("QuestDB 9.") && found[0].ends_with(" answers"), "{found:?}");
    assert!(found[1].starts_with("it asks for no password; ") && found[1].contains(" tables: "), "{found:?}");
    assert_eq!(found[2], "a row written and read back");
    let left = format!("SELECT count() FROM tables() WHERE table_name LIKE '{prefix}tapedeck_check%'");
    assert_eq!(server.query(&left), json!([[0]]), "nothing is left behind");
    let closed = free_address();
    let home = tempfile::tempdir().unwrap();
    let mut away = sink(home.path(), &format!("http://{closed}"), "");
    let error = format!("{:#}", alone.runtime.block_on(away.check()).unwrap_err());
    assert!(error.starts_with("connecting: "), "{error}");
}

#[test]
fn points_reach_the_server_once_although_it_and_the_deck_are_killed() {
    let Some(server) = Questdb::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"", server.url()));
    let mut deck = desk.start();
    // What was never confirmed need not come again.
    let confirmed = |deck: &Deck| until("something to be delivered", || (detail(deck, "delivered") > 0).then_some(()));
    for round in 0..20 {
        match round {
            4 => {
                confirmed(&deck);
                server.kill();
            }
            9 => server.restart(),
            6 | 13 => {
                deck.signal(Signal::KILL);
                deck.wait();
                deck = desk.start();
            }
            15 => {
                confirmed(&deck);
                server.kill();
                server.restart();
            }
            _ => {}
        }
        desk.post(&lines("m", round * 100, 100));
    }
    let count = "SELECT count(), count_distinct(seq), sum(v), count_distinct(ts) FROM m";
    let want = json!([2_000, 2_000, (0..2_000).sum::<i64>(), 2_000]);
    until("all points, each once", || {
        let (_, rows) = dataset(&server, count)?;
        (json!(rows.first()?) == want).then_some(())
    });
    until("the restart to be seen", || {
        (detail(&deck, "rewinds") >= 1 && detail(&deck, "lag_records") == 0).then_some(())
    });
    applied(&server, "m");
    assert_eq!(json!(dataset(&server, count).unwrap().1[0]), want, "and still once after they were delivered again");
    deck.stop();
}

#[test]
fn a_table_that_was_half_made_when_the_server_was_killed_is_made_again() {
    let Some(server) = Questdb::private() else { return };
    let mut alone = Alone::new(server.url(), "");
    assert_eq!(alone.refused(&[trade(1, "1.5")]), []);
    applied(&server, "trades");
    let made = server.query("SHOW CREATE TABLE trades")[0][0].as_str().unwrap().to_owned();
    server.query("DROP TABLE trades");
    server.query(&made);
    server.kill();
    // As it is found when that happens at the wrong moment: columns, and no log.
    for entry in std::fs::read_dir(server.folder().join("db")).unwrap() {
        let folder = entry.unwrap().path();
        if folder.file_name().unwrap().to_str().unwrap().starts_with("trades~") && folder.is_dir() {
            let _ = std::fs::remove_dir_all(folder.join("txn_seq"));
        }
    }
    server.restart();
    let told = "SELECT table_row_count, wal_txn FROM tables() WHERE table_name = 'trades'";
    assert_eq!(server.query(told), json!([[0, null]]));
    // Its connections are those of before; and it is told to deliver again.
    until("it to be opened", || alone.runtime.block_on(alone.sink.open(TAPE)).ok());
    assert_eq!(alone.refused(&[trade(2, "2.5")]), []);
    applied(&server, "trades");
    assert_eq!(server.query("SELECT seq, price FROM trades"), json!([[2, "2.5000000000"]]));
}

#[test]
fn what_a_restarted_server_has_lost_is_delivered_again() {
    let Some(server) = Questdb::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 500));
    until("the points", || (value(&server, "SELECT count() FROM m") == 500).then_some(()));
    // As after a loss of power: what was confirmed is not there when the server is back.
    let lose = || server.query("ALTER TABLE m DROP PARTITION LIST '2026-07-19'");
    lose();
    until("them to be gone", || (value(&server, "SELECT count() FROM m") == 0).then_some(()));
    desk.post(&lines("m", 500, 1));
    until("only what is new to be there", || (value(&server, "SELECT count() FROM m") == 1).then_some(()));
    server.kill();
    server.restart();
    until("all of it again", || (value(&server, "SELECT count() FROM m") == 501).then_some(()));
    until("the rewind to be told", || (detail(&deck, "rewinds") == 1).then_some(()));
    assert!(deck.log().contains("the server was restarted"), "{}", deck.log());

    // The same while the deck is down: what it knew is kept.
    until("what is known to be kept", || {
        let kept = std::fs::read_to_string(desk.home.path().join("tape/questdb/questdb.json")).ok()?;
        let kept: Value = serde_json::from_str(&kept).ok()?;
        let now = value(&server, "SELECT pg_postmaster_start_time()");
        (kept["server"] == now).then_some(())
    });
    deck.stop();
    lose();
    server.kill();
    server.restart();
    let deck = desk.start();
    until("all of it once more", || (value(&server, "SELECT count() FROM m") == 501).then_some(()));
    until("the rewind to be told", || (detail(&deck, "rewinds") == 1).then_some(()));
    deck.stop();
}

#[test]
fn a_suspended_table_is_shown_and_goes_on_when_it_is_resumed() {
    let Some(server) = Questdb::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 100));
    until("the points", || (value(&server, "SELECT count() FROM m") == 100).then_some(()));
    let suspend = || server.query("ALTER TABLE m SUSPEND WAL WITH 28, 'no space on device'");
    suspend();
    let shown = until("it to be shown", || Some(state(&deck)).filter(|state| state.starts_with("waiting: ")));
    assert!(shown.contains("table `m` is suspended: DISK FULL: no space on device"), "{shown}");
    assert!(shown.contains("ALTER TABLE \"m\" RESUME WAL") && shown.contains("resume = true"), "{shown}");
    desk.post(&lines("m", 100, 100));
    assert_eq!(value(&server, "SELECT count() FROM m"), 100);
    server.query("ALTER TABLE m RESUME WAL");
    until("the rest", || (value(&server, "SELECT count() FROM m") == 200).then_some(()));
    until("all to be well", || (state(&deck) == "running").then_some(()));
    until("the rewind to be told", || (detail(&deck, "rewinds") == 1).then_some(()));
    deck.stop();

    let desk = Desk { sink: format!("{}\nresume = true", desk.sink), ..desk };
    suspend();
    let deck = desk.start();
    desk.post(&lines("m", 200, 100));
    until("it to be resumed, and the rest", || (value(&server, "SELECT count() FROM m") == 300).then_some(()));
    until("all to be well", || (state(&deck) == "running").then_some(()));
    deck.stop();
}

#[test]
fn a_wrong_password_is_told_plainly_and_a_right_one_needs_no_restart_of_the_recording() {
    let options = Options { settings: &["http.user=desk", "http.password=right-pw"], ..Options::default() };
    let Some(server) = Questdb::private_with(&options) else { return };
    let desk = Desk::new(&format!("url = \"{}\"\nusername = \"desk\"\npassword = \"wrong-pw\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    let shown = until("the refusal", || Some(state(&deck)).filter(|state| state.starts_with("waiting: refused (401")));
    assert!(!shown.contains("wrong-pw") && !deck.log().contains("wrong-pw"), "{shown}");
    assert_eq!(deck.status().sources[0].state, "live", "the recording goes on");
    let config = std::fs::read_to_string(&deck.config).unwrap().replace("wrong-pw", "right-pw");
    std::fs::write(&deck.config, config).unwrap();
    deck.signal(Signal::HUP);
    until("the points", || (detail(&deck, "delivered") >= 10).then_some(()));
    deck.stop();
    let found = desk.ask(&["check", "questdb", "--json"]);
    assert!(found.to_string().contains("user `desk` is let in"), "{found}");
}
