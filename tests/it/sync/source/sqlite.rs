//! A SQLite file as the source: what its values are, what is new, and others who write to it meanwhile.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tapedeck::sync::{Class, Day, Type};

use super::*;

/// A file with what a statement makes of it.
struct File {
    home: tempfile::TempDir,
    db: Connection,
}

impl File {
    fn new(sql: &str) -> File {
        let home = tempfile::tempdir().unwrap();
        let db = Connection::open(home.path().join("market.db")).unwrap();
        db.execute_batch(sql).unwrap();
        File { home, db }
    }

    fn run(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn config(&self) -> Config {
        Config::new(format!("sqlite:{}", self.home.path().join("market.db").display()))
    }

    fn asked(&self) -> Asked {
        Asked::with(self.config())
    }

    /// As if what was written lay some seconds back, so that the file's time alone tells what comes.
    fn aged(&self) {
        for name in ["market.db", "market.db-wal"] {
            let path = self.home.path().join(name);
            if let Ok(file) = std::fs::File::options().append(true).open(path) {
                let then = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(60);
                file.set_modified(then).unwrap();
            }
        }
    }
}

const NOON: i64 = 1_767_268_800_000_000_000;
const DAY: i64 = 86_400_000_000_000;

/// As the predecessor made it.
const STOCKS: &str =
    "CREATE TABLE wig80_historical (ts TEXT, symbol TEXT, open REAL, volume INTEGER, PRIMARY KEY (ts, symbol))";

#[test]
fn values_come_by_what_they_are_and_by_what_their_column_is() {
    let file = File::new(
        "CREATE TABLE t (ts DATETIME, i INTEGER, b BOOLEAN, r REAL, d DECIMAL(10,2), s TEXT, j JSON, x BLOB, any);
         INSERT INTO t VALUES ('2026-01-01 12:00:00.000000001', 9007199254740993, 1, 0.1, '12.30', 'zażółć', '[1,{\"a\":null}]', x'00ff', NULL);
         INSERT INTO t VALUES (1767268801, 'word', 2, 9e999, 5, NULL, 'no json', 'text', x'01');
         INSERT INTO t VALUES ('soon', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1.5)",
    );
    let mut asked = file.asked();
    let schema = asked.schema("T");
    let time = Type::Time { nanos: true };
    let kinds: Vec<Type> = schema.columns.iter().map(|column| column.kind).collect();
    use Type::{Bool, Decimal, Double, Int, Json, Text};
    assert_eq!(kinds, [time, Int, Bool, Double, Decimal, Text, Json, Text, Text]);
    assert_eq!((schema.time, schema.columns[4].native.as_str()), (Some(0), "DECIMAL(10,2)"));
    let rows = asked.rows("t", Span::default());
    let text = |text: &str| Value::Text(text.into());
    // Rows without a time come first.
    assert_eq!((&rows[0][0], &rows[0][8]), (&text("soon"), &Value::Double(1.5)));
    let first = &rows[1];
    assert_eq!(
        first[..4],
        [Value::Time(NOON + 1), Value::Int(9_007_199_254_740_993), Value::Bool(true), Value::Double(0.1)]
    );
    // SQLite itself has made a number of the text: 12.30 is a double there.
    assert_eq!(first[4..6], [Value::Double(12.3), text("zażółć")]);
    assert_eq!(first[6..], [Value::Json("[1,{\"a\":null}]".into()), text("AP8="), Value::Null]);
    let second = &rows[2];
    assert_eq!(
        second[..5],
        [
            Value::Time(NOON + 1_000_000_000),
            text("word"),
            Value::Int(2),
            Value::Double(f64::INFINITY),
            Value::Decimal("5".into())
        ]
    );
    assert_eq!(second[5..], [Value::Null, text("no json"), text("text"), text("AQ==")]);
}

#[test]
fn rows_come_in_order_of_time_however_it_is_written_and_only_those_of_the_stretch() {
    let file = File::new("CREATE TABLE t (ts TEXT, n INTEGER)");
    file.run("INSERT INTO t VALUES ('2026-01-03', 3), ('2026-01-01T12:00:00+02:00', 1), ('1767312000', 2), ('2026-01-05 01:00', 5), ('2026-01-04T00:00:00Z', 4)");
    let mut asked = file.asked();
    let numbers = |rows: Vec<Row>| -> Vec<Value> { rows.into_iter().map(|mut row| row.remove(1)).collect() };
    assert_eq!(numbers(asked.rows("t", Span::default())), (1..6).map(Value::Int).collect::<Vec<_>>());
    let midnight = NOON - DAY / 2;
    let span = Span { from_ns: Some(midnight + DAY), to_ns: Some(midnight + 3 * DAY) };
    assert_eq!(numbers(asked.rows("t", span)), [Value::Int(2), Value::Int(3)]);
    assert_eq!(numbers(asked.try_rows("t", Span::default(), Some(2)).unwrap()), [Value::Int(1), Value::Int(2)]);
    let days = asked.runtime.block_on(asked.source.days("t", span)).unwrap();
    assert_eq!(days, [1, 2].map(|day| Day { start_ns: midnight + day * DAY, rows: 1 }));
}

#[test]
fn everything_that_happens_to_a_table_is_followed_in_either_journal() {
    for journal in ["DELETE", "WAL"] {
        let file = File::new(&format!(
            "PRAGMA journal_mode = {journal}; CREATE TABLE t (ts TEXT, k TEXT, v); CREATE TABLE other (a)"
        ));
        let mut followed = Followed::with(file.asked(), "t");
        assert_eq!(followed.same().by, By::Beginning);
        let steps = [
            "INSERT INTO t VALUES ('2026-01-01', 'a', 1), ('2026-01-02', 'a', 2), ('2026-01-03 10:00', 'a', 3)",
            "INSERT INTO t VALUES ('2026-01-03 12:00', 'b', 4)",
            "INSERT INTO t VALUES ('2025-06-01', 'late', 5)",
            "UPDATE t SET v = 'changed' WHERE k = 'late'",
            "DELETE FROM t WHERE v = 2",
            "VACUUM",
            "ALTER TABLE t ADD COLUMN w",
            "UPDATE t SET w = 1 WHERE k = 'b'",
            "DROP TABLE t; CREATE TABLE t (ts TEXT, k TEXT, v)",
            "INSERT INTO t VALUES ('2026-01-01', 'new', 1)",
        ];
        for step in steps {
            file.run(step);
            followed.same();
            assert_eq!(followed.same().spans, [], "{journal}: after {step}: once is enough");
            file.aged();
            followed.same();
        }
        file.aged();
        followed.same();
        assert_eq!(followed.same().by, By::Gate, "{journal}");
        file.run("INSERT INTO other VALUES (1)");
        let news = followed.same();
        assert_eq!((news.by, news.spans.len()), (By::Days, 0), "another table has changed");
    }
}

#[test]
fn only_what_differs_is_read_again() {
    let file = File::new(STOCKS);
    file.run(
        "WITH RECURSIVE days(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM days WHERE n < 364)
         INSERT INTO wig80_historical SELECT date('2025-01-01', n || ' days'), 'PKN', 60.5 + n, 1000 * n FROM days",
    );
    let mut asked = file.asked();
    let first = asked.news("wig80_historical", None).unwrap();
    assert_eq!(
        (first.by, first.spans.as_slice(), first.removed, first.columns),
        (By::Beginning, &[Span::default()][..], false, true)
    );
    file.run("UPDATE wig80_historical SET volume = 1 WHERE ts = '2025-03-01'");
    let news = asked.news("wig80_historical", Some(&first.mark)).unwrap();
    let start = 1_740_787_200_000_000_000;
    let span = Span { from_ns: Some(start), to_ns: Some(start + DAY) };
    assert_eq!((news.by, news.spans.as_slice(), news.removed, news.columns), (By::Days, &[span][..], true, false));
    let rows = asked.rows("wig80_historical", span);
    assert_eq!(rows, [vec![Value::Time(start), Value::Text("PKN".into()), Value::Double(119.5), Value::Int(1)]]);
    let schema = asked.schema("wig80_historical");
    let keys: Vec<bool> = schema.columns.iter().map(|column| column.upsert_key).collect();
    assert_eq!(keys, [true, true, false, false]);
}

#[test]
fn views_tables_without_row_numbers_and_odd_names_are_read_too() {
    let file = File::new(
        "CREATE TABLE \"a \"\"b\"\" 'c'; --\" (\"select\" TEXT, rowid TEXT, _rowid_ TEXT, ts TEXT);
         INSERT INTO \"a \"\"b\"\" 'c'; --\" VALUES ('x', 'y', 'z', '2026-01-02'), ('u', 'v', 'w', '2026-01-01');
         CREATE TABLE bare (k TEXT PRIMARY KEY, ts TEXT) WITHOUT ROWID; INSERT INTO bare VALUES ('a', '2026-01-02'), ('b', '2026-01-01');
         CREATE VIEW seen AS SELECT k, ts FROM bare; CREATE TABLE flat (v INTEGER); INSERT INTO flat VALUES (2), (1)",
    );
    let mut asked = file.asked();
    let names = asked.runtime.block_on(asked.source.tables()).unwrap();
    assert_eq!(names, ["a \"b\" 'c'; --", "bare", "flat", "seen"]);
    let texts = |rows: &[Row]| -> Vec<Value> { rows.iter().map(|row| row[0].clone()).collect() };
    let text = |text: &str| Value::Text(text.into());
    assert_eq!(texts(&asked.rows(&names[0], Span::default())), [text("u"), text("x")]);
    let first_day = Span { from_ns: None, to_ns: Some(NOON) };
    for table in ["bare", "seen"] {
        assert_eq!(texts(&asked.rows(table, Span::default())), [text("b"), text("a")]);
        assert_eq!(texts(&asked.rows(table, first_day)), [text("b")]);
        assert_eq!(asked.try_rows(table, Span::default(), Some(1)).unwrap().len(), 1);
    }
    let first = asked.news("flat", None).unwrap();
    assert_eq!(texts(&asked.rows("flat", Span::default())), [Value::Int(2), Value::Int(1)]);
    file.run("UPDATE flat SET v = 3 WHERE v = 2");
    let news = asked.news("flat", Some(&first.mark)).unwrap();
    assert_eq!((news.spans, news.removed), (vec![Span::default()], true));
}

#[test]
fn a_file_that_is_away_locked_or_none_is_told() {
    let file = File::new(STOCKS);
    let told = |asked: &mut Asked, table: &str| asked.news(table, None).unwrap_err();
    let trouble = told(&mut file.asked(), "wig80_historica");
    assert_eq!(
        (trouble.class, trouble.to_string().as_str()),
        (Class::Setup, "there is no table `wig80_historica`; is `wig80_historical` meant?")
    );
    let at = |path: &Path| Asked::with(Config::new(format!("sqlite:{}", path.display())));
    let trouble = told(&mut at(&file.home.path().join("other.db")), "t");
    assert!(trouble.class == Class::Setup && trouble.text.contains("there is no file"), "{trouble}");
    let text = file.home.path().join("text.db");
    std::fs::write(&text, "this is text, and long enough to be taken for a header of something else ".repeat(20))
        .unwrap();
    let trouble = told(&mut at(&text), "t");
    assert!(trouble.class == Class::Setup && trouble.text.contains("file is not a database"), "{trouble}");
    let mut asked = file.asked();
    let hello = asked.runtime.block_on(asked.source.hello()).unwrap();
    assert!(hello.starts_with("SQLite 3."), "{hello}");

    // Locked: waited for, and told when it takes too long.
    let mut config = file.config();
    config.timeout.0 = Duration::from_millis(50);
    file.run("BEGIN EXCLUSIVE");
    let trouble = told(&mut Asked::with(config), "wig80_historical");
    assert!(trouble.class == Class::Server && trouble.to_string().contains("another program has locked"), "{trouble}");
    let waiting = file.config();
    let waiter = std::thread::spawn(move || Asked::with(waiting).news("wig80_historical", None));
    assert!(!waiter.is_finished());
    file.run("INSERT INTO wig80_historical VALUES ('2026-01-01', 'PKN', 1, 1); COMMIT");
    assert_eq!(waiter.join().unwrap().unwrap().by, By::Beginning);
}

#[test]
fn nobody_is_locked_out_while_rows_wait_for_the_target() {
    let file = File::new("CREATE TABLE t (ts INTEGER, k INTEGER)");
    file.run(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 50000)
         INSERT INTO t SELECT 1767268800 + x, x FROM n",
    );
    // Long enough for a page, and not for one who holds on to the file.
    file.db.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut asked = file.asked();
    let schema = asked.schema("t");
    let sent = asked.runtime.block_on(async {
        let (out, mut from) = mpsc::channel::<Vec<Row>>(1);
        let wanted = Wanted { table: "t", schema: &schema, span: Span::default(), limit: None };
        let take = async {
            assert_eq!(from.recv().await.unwrap().len(), 2_048);
            // The second one is there and the third is waited with: nothing is read.
            crate::support::until_async("the next chunk to wait", || !from.is_empty()).await;
            file.run("INSERT INTO t VALUES (1, 0)");
            let mut rows = 2_048;
            while let Some(chunk) = from.recv().await {
                rows += chunk.len();
            }
            rows
        };
        let (sent, taken) = tokio::join!(asked.source.rows(&wanted, out), take);
        assert_eq!(sent.unwrap(), taken as u64);
        taken
    });
    assert_eq!(sent, 50_000);
}
