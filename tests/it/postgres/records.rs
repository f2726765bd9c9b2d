//! What is written is read back as it was, once.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use tapedeck::sinks::postgres::Table;
use tapedeck::sinks::{Opened, SinkError};

use tapedeck_market::{Body, Origin, Point, Post, Record, UnixNanos, Uuid, Value, strategy};

use super::{DAY, DAY_NS, Desk, TAPE, counted, event, trade, trades};
use crate::servers::Postgres;
use crate::support::until;

#[test]
fn every_body_is_read_back_as_it_was() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::opened(&database.dsn, "");
    let mut runner = TestRunner::deterministic();
    let mut records: Vec<Record> = (1..=1_200)
        .map(|seq| {
            let mut event = strategy::event().new_tree(&mut runner).unwrap().current();
            // Three days, and every nanosecond of them.
            event.ts_recv = UnixNanos(DAY + event.ts_recv.0.rem_euclid(3 * DAY_NS));
            Record { seq, event }
        })
        .collect();
    // What cannot be stored is named, record by record; nothing else is refused.
    if let Err(SinkError::Refused(refusal)) = desk.try_write(&records, b"0") {
        assert!(!refusal.rest_stored);
        for reject in refusal.rejects.iter().rev() {
            let record = records.remove(reject.index);
            let known = ["holds a NUL character", "is larger than a signed 64-bit number"];
            assert!(known.iter().any(|words| reject.words.contains(words)), "{}: {record:?}", reject.words);
        }
    }
    assert!(records.len() > 400, "{} records are left", records.len());
    desk.write(&records, b"1");
    let mut read: Vec<(Uuid, Record)> = Vec::new();
    for table in Table::ALL {
        let all = desk.ask(async |store| store.records(table, UnixNanos(DAY), UnixNanos(DAY + 3 * DAY_NS)).await);
        assert!(all.is_empty() || all.iter().all(|(_, record)| Table::of(&record.event.body) == table));
        let wanted = records.iter().filter(|record| Table::of(&record.event.body) == table).count();
        assert_eq!(all.len(), wanted, "{table}");
        assert!(wanted > 5, "{table}: {wanted}");
        read.extend(all);
    }
    let found: std::collections::HashMap<(Uuid, u64), Record> =
        read.into_iter().map(|(tape, record)| ((tape, record.seq), record)).collect();
    for record in &records {
        let identity = record.event.origin.map_or((TAPE, record.seq), |origin| (origin.tape, origin.seq));
        let found = found.get(&identity).unwrap_or_else(|| panic!("lost: {record:?}"));
        // Digit for digit, and NaN too.
        let text = |record: &Record| format!("{:?}", record.event);
        let (found, wanted) = (text(found), text(record));
        let same = found.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
        let around = |text: &str| {
            String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(200)..]).chars().take(400).collect::<String>()
        };
        assert!(found == wanted, "{}\nwas written as {}", around(&found), around(&wanted));
    }
}

#[test]
fn a_batch_that_comes_again_whole_or_in_part_is_stored_once() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::opened(&database.dsn, "");
    desk.write(&trades(1, 1_000), b"a");
    assert_eq!(counted(server, &database), "1000|1000");
    desk.write(&trades(1, 1_000), b"b");
    desk.write(&trades(501, 1_000), b"c");
    desk.write(&trades(1_501, 500), b"d");
    desk.write(&trades(1_901, 200), b"e");
    assert_eq!(counted(server, &database), "2100|2100");
}

#[test]
fn the_mark_is_that_of_the_rows_and_nobody_moves_it_beside_us() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::new(&database.dsn, "");
    assert_eq!(desk.open().unwrap(), Opened::Empty);
    desk.write(&trades(1, 10), b"ten");
    assert_eq!(desk.open().unwrap(), Opened::Mark(b"ten".to_vec()));
    // Another deck, or a transaction of ours that the server had kept, was faster.
    let mut other = Desk::new(&database.dsn, "");
    assert_eq!(other.open().unwrap(), Opened::Mark(b"ten".to_vec()));
    other.write(&trades(11, 10), b"twenty");
    let error = desk.try_write(&trades(11, 10), b"twenty").unwrap_err();
    assert!(matches!(error, SinkError::Unavailable(_)), "{error:?}");
    assert_eq!(desk.open().unwrap(), Opened::Mark(b"twenty".to_vec()));
    desk.write(&trades(21, 10), b"thirty");
    assert_eq!(counted(server, &database), "30|30");
}

#[test]
fn a_record_is_the_one_it_was_first_however_it_comes() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::opened(&database.dsn, "");
    let mut relayed = trade(77, DAY);
    relayed.event.origin = Some(Origin { tape: Uuid::from_u128(7), seq: 1 });
    let mut first = relayed.clone();
    first.seq = 99;
    desk.write(&[relayed], b"a");
    desk.write(&[first], b"b");
    assert_eq!(
        server.psql(&database.dsn, "SELECT tape_id, seq FROM tapedeck.trades"),
        format!("{}|1", Uuid::from_u128(7))
    );
}

#[test]
fn days_have_their_partitions_and_the_default_one_stays_empty() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let psql = |sql: &str| server.psql(&database.dsn, sql);
    let mut desk = Desk::opened(&database.dsn, "");
    // An old backlog, over midnight.
    let records: Vec<Record> =
        (0..10).map(|n| trade(n + 1, DAY - DAY_NS / 2 + i64::try_from(n).unwrap() * DAY_NS)).collect();
    desk.write(&records, b"a");
    let parts = "SELECT tableoid::regclass, count(*) FROM tapedeck.trades GROUP BY 1 ORDER BY 1";
    assert_eq!(psql(parts).lines().next(), Some("tapedeck.trades_20251120|1"));
    assert_eq!(psql(parts).lines().count(), 10, "{}", psql(parts));
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades_default"), "0");

    // Those of the next days are there before they are needed.
    desk.tend().unwrap();
    let today = UnixNanos::now().0.div_euclid(DAY_NS);
    let named = |day: i64| {
        let time = UnixNanos(day * DAY_NS).to_string();
        format!("trades_{}", time[..10].replace('-', ""))
    };
    let tables = psql("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'");
    for day in today..=today + 2 {
        assert!(tables.lines().any(|line| line == named(day)), "{}: {tables}", named(day));
    }

    // Rows that somebody put into the default partition go along when their day is made.
    psql(
        "INSERT INTO tapedeck.trades (seq, tape_id, ts_recv, source) SELECT 5, gen_random_uuid(), '2024-02-29 12:00+00', 'mine'",
    );
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades_default"), "1");
    desk.write(&[trade(100, 1_709_208_000_000_000_000)], b"b");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades_default"), "0");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades_20240229"), "2");

    // A month that a person made is as good as its days; a day that was detached and kept is made under another name.
    psql(
        "CREATE TABLE tapedeck.may PARTITION OF tapedeck.trades FOR VALUES FROM ('2023-05-01 00:00+00') TO ('2023-06-01 00:00+00')",
    );
    psql("ALTER TABLE tapedeck.trades DETACH PARTITION tapedeck.trades_20240229");
    desk.tend().unwrap();
    desk.write(&[trade(101, 1_684_108_800_000_000_000), trade(102, 1_709_208_000_000_000_000)], b"c");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.may"), "1");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades_20240229_2"), "1");

    // One that takes a part of a day: the rest of that day finds its place all the same.
    psql(
        "CREATE TABLE tapedeck.shift PARTITION OF tapedeck.trades FOR VALUES FROM ('2022-05-01 06:00+00') TO ('2022-05-02 06:00+00')",
    );
    let hour = 3_600_000_000_000;
    let may = 1_651_363_200_000_000_000;
    let around: Vec<Record> =
        (0..4).map(|n| trade(110 + n, may + (1 + 12 * i64::try_from(n).unwrap()) * hour)).collect();
    desk.open().unwrap();
    desk.write(&around, b"c2");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.shift"), "2", "13:00 and 01:00");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades_default"), "2", "01:00, and 13:00 of the next day");
    let note = desk.sink.note().unwrap_or_default();
    assert!(note.contains("\"shift\" takes a part of a day"), "{note}");
    desk.write(&around, b"c3");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades WHERE seq >= 110"), "4", "each once");
    psql("DROP TABLE tapedeck.shift");
    desk.open().unwrap();
    assert_eq!(desk.sink.note(), None);
    desk.write(&[trade(120, may + 5 * hour)], b"c4");
    assert_eq!(psql("SELECT count(*) FROM tapedeck.trades_default"), "1", "the first day has its partition again");

    // Somebody reads for long: what needs no new partition is not held up, what needs one is away until then.
    let mut reader = std::process::Command::new("psql")
        .args(["-X", "-q", "-d", &database.dsn])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(
        reader.stdin.as_mut().unwrap(),
        b"BEGIN; SELECT count(*) FROM tapedeck.trades \\g /dev/null\n",
    )
    .unwrap();
    until("the reader", || {
        (psql("SELECT count(*) FROM pg_locks WHERE relation = 'tapedeck.trades_default'::regclass") == "1")
            .then_some(())
    });
    desk.tend().unwrap();
    desk.write(&[trade(103, DAY)], b"d");
    let error = desk.try_write(&[trade(104, DAY - 20 * DAY_NS)], b"e").unwrap_err();
    assert!(matches!(&error, SinkError::Unavailable(words) if words.to_string().contains("55P03")), "{error}");
    drop(reader.stdin.take());
    reader.wait().unwrap();
    desk.write(&[trade(104, DAY - 20 * DAY_NS)], b"e");
}

#[test]
fn hostile_texts_are_read_back_equal_or_refused_with_a_reason() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::opened(&database.dsn, "");
    let long = "é🙂".repeat(11_000);
    let hostile = [
        "it's, \"quoted\" \\ and\nbroken\r\n\t",
        "'); DROP TABLE tapedeck.trades; --",
        "\\.\n\\N",
        "\u{1}\u{7f}\u{feff}\u{202e}",
        "🙂👩\u{200d}🚀",
        "\\u0000",
        &long,
    ];
    let mut records = Vec::new();
    for (text, seq) in hostile.iter().zip(1_u64..) {
        let point = Point {
            name: (*text).into(),
            tags: vec![((*text).into(), (*text).into()), ("twice".into(), "1".into()), ("twice".into(), "2".into())],
            fields: vec![((*text).into(), Value::Text((*text).into())), ("nan".into(), Value::Float(f64::NAN))],
        };
        let mut point = event(DAY, Body::Point(Box::new(point)));
        point.symbol = (*text).into();
        records.push(Record { seq: seq * 2 - 1, event: point });
        let post = Post { text: (*text).into(), topics: vec![(*text).into()], ..Post::default() };
        records.push(Record { seq: seq * 2, event: event(DAY, Body::Post(Box::new(post))) });
    }
    desk.write(&records, b"a");
    for table in [Table::Points, Table::Posts] {
        let read = desk.ask(async |store| store.records(table, UnixNanos(DAY), UnixNanos(DAY + 1)).await);
        let wanted: Vec<String> = records
            .iter()
            .filter(|record| Table::of(&record.event.body) == table)
            .map(|record| format!("{record:?}"))
            .collect();
        let read: Vec<String> = read.into_iter().map(|(_, record)| format!("{record:?}")).collect();
        assert_eq!(read, wanted, "{table}");
    }
    assert_eq!(
        server.psql(&database.dsn, "SELECT count(*) FROM tapedeck.points WHERE tags->>'twice' = '2'"),
        "7",
        "JSON can be asked"
    );

    let nul = |seq, at: usize| {
        let mut record = trade(seq, DAY);
        match at {
            0 => record.event.symbol = "a\0b".into(),
            1 => {
                record.event.body = Body::Point(Box::new(Point {
                    name: "p".into(),
                    tags: vec![("k".into(), "\0".into())],
                    fields: Vec::new(),
                }))
            }
            _ => {
                record.event.body = Body::Status(tapedeck_market::Status {
                    detail: vec![("\0".into(), "".into())],
                    ..Default::default()
                })
            }
        }
        record
    };
    let batch = [trade(100, DAY), nul(101, 0), nul(102, 1), trade(103, DAY), nul(104, 2)];
    let Err(SinkError::Refused(refusal)) = desk.try_write(&batch, b"b") else { panic!("a NUL was taken") };
    assert_eq!(refusal.rejects.iter().map(|reject| reject.index).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(refusal.rejects.iter().all(|reject| reject.words.contains("NUL")), "{refusal:?}");
    assert_eq!(server.psql(&database.dsn, "SELECT count(*) FROM tapedeck.trades"), "0", "nothing of that batch");
}

#[test]
fn a_store_says_what_it_finds_and_is_left_as_it_was() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut desk = Desk::new(&database.dsn.replace("postgresql://", "postgresql+psycopg2://"), "");
    let found = desk.check().unwrap();
    assert!(found[0].starts_with("PostgreSQL 15") && found[0].contains("`postgres`"), "{found:?}");
    assert!(found[1].starts_with("databases: ") && found[1].contains(&database.name), "{found:?}");
    let works = ["schema `tapedeck` is there", "written and read back"];
    assert_eq!(found[2..], works);
    assert_eq!(server.psql(&database.dsn, "SELECT count(*) FROM tapedeck.status"), "0");
    assert_eq!(server.psql(&database.dsn, "SELECT count(*) FROM tapedeck.cursors"), "0");
    assert_eq!(desk.check().unwrap()[2..], works, "and again");
}

#[test]
fn symbols_are_the_first_column_of_a_query() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    server.psql(&database.dsn, "CREATE TABLE listed (symbol text, since date); INSERT INTO listed VALUES ('TCS', now()), ('IN''FY', now()), (NULL, now())");
    let ask = |query: &str| {
        let asked = tapedeck::sinks::postgres::symbols(&database.dsn, query);
        runtime.block_on(asked).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(ask("SELECT symbol FROM listed ORDER BY 1").unwrap(), ["IN'FY", "TCS"]);
    assert!(ask("SELECT nothing FROM listed").unwrap_err().contains("column \"nothing\" does not exist (42703)"));
    assert!(ask("SELECT 1").unwrap_err().contains("the first column must be text"));
}
