//! Rows as they are there, to the last digit.

use tapedeck::sync::Type;

use super::*;

/// A type, what is written to it, and the value that it is; NULL by itself.
fn types() -> Vec<(&'static str, &'static str, Value, Value, Type)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let null = Value::Null;
    let hash = "0x01234567890abcdef01234567890abcdef01234567890abcdef01234567890ab";
    let decimal = "-12345678901234567890123456789012345678.12345678901234567890123456789012345678";
    let wide: &'static str = Box::leak(format!("'{decimal}'::decimal(76,38)").into_boxed_str());
    let date = Value::Time(1_767_229_323_004_000_000);
    let micros = Value::Time(1_767_229_323_000_001_000);
    let nanos = Value::Time(1_767_229_323_123_456_789);
    let time = Type::Time { nanos: false };
    vec![
        ("SYMBOL", "'Żółw'", text("Żółw"), null.clone(), Type::Text),
        ("STRING", "'a ''quoted'' \"text\"\n'", text("a 'quoted' \"text\"\n"), null.clone(), Type::Text),
        ("VARCHAR", "'🐢'", text("🐢"), null.clone(), Type::Text),
        ("CHAR", "'ż'", text("ż"), null.clone(), Type::Text),
        ("BOOLEAN", "true", Value::Bool(true), Value::Bool(false), Type::Bool),
        ("BYTE", "-128", Value::Int(-128), Value::Int(0), Type::Int),
        ("SHORT", "-32768", Value::Int(-32_768), Value::Int(0), Type::Int),
        ("INT", "-2147483647", Value::Int(-2_147_483_647), null.clone(), Type::Int),
        ("LONG", "9007199254740993", Value::Int(9_007_199_254_740_993), null.clone(), Type::Int),
        ("LONG256", hash, text(hash), null.clone(), Type::Text),
        ("FLOAT", "1.1", Value::Double(1.1), null.clone(), Type::Double),
        ("DOUBLE", "0.1", Value::Double(0.1), null.clone(), Type::Double),
        ("DOUBLE", "-1.7976931348623157E308", Value::Double(f64::MIN), null.clone(), Type::Double),
        ("DOUBLE", "4.9E-324", Value::Double(5e-324), null.clone(), Type::Double),
        ("DECIMAL(76,38)", wide, Value::Decimal(decimal.into()), null.clone(), Type::Decimal),
        ("DECIMAL(5,2)", "1.10m", Value::Decimal("1.10".into()), null.clone(), Type::Decimal),
        ("DATE", "'2026-01-01T01:02:03.004Z'", date, null.clone(), time),
        ("TIMESTAMP", "'2026-01-01T01:02:03.000001Z'", micros, null.clone(), time),
        ("TIMESTAMP_NS", "'2026-01-01T01:02:03.123456789Z'", nanos, null.clone(), Type::Time { nanos: true }),
        (
            "UUID",
            "'11111111-2222-3333-4444-55555555abcd'",
            text("11111111-2222-3333-4444-55555555abcd"),
            null.clone(),
            Type::Text,
        ),
        ("IPv4", "'1.2.3.4'", text("1.2.3.4"), null.clone(), Type::Text),
        ("GEOHASH(6c)", "#u33d8b", text("u33d8b"), null.clone(), Type::Text),
        ("GEOHASH(7b)", "##1010101", text("1010101"), null.clone(), Type::Text),
        ("DOUBLE[]", "ARRAY[1.0, null, 0.1]", Value::Json("[1.0,null,0.1]".into()), null.clone(), Type::Json),
        ("DOUBLE[][]", "ARRAY[[1.0, 2.0], [3.0, 4.0]]", Value::Json("[[1.0,2.0],[3.0,4.0]]".into()), null, Type::Json),
    ]
}

#[test]
fn every_type_comes_exactly_and_null_as_null() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("types");
    let columns: Vec<String> = types().iter().enumerate().map(|(at, row)| format!("c{at} {}", row.0)).collect();
    run(server, &format!("CREATE TABLE {table} (ts TIMESTAMP, {}) TIMESTAMP(ts) {DAYS}", columns.join(", ")));
    let values: Vec<&str> = types().iter().map(|row| row.1).collect();
    run(server, &format!("INSERT INTO {table} VALUES ('2026-01-01T00:00:00.000001Z', {})", values.join(", ")));
    run(server, &format!("INSERT INTO {table} (ts) VALUES ('2026-01-02')"));
    let mut asked = Asked::new(server);
    let schema = asked.schema(&table);
    let kinds: Vec<Type> = schema.columns.iter().skip(1).map(|column| column.kind).collect();
    assert_eq!(kinds, types().iter().map(|row| row.4).collect::<Vec<_>>());
    assert_eq!((schema.time, schema.columns[1].native.as_str()), (Some(0), "SYMBOL"));
    let rows = asked.rows(&table, Span::default());
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0][0], Value::Time(1_767_225_600_000_001_000));
    for (at, (native, written, value, null, _)) in types().into_iter().enumerate() {
        assert_eq!(rows[0][at + 1], value, "{native}: {written}");
        assert_eq!(rows[1][at + 1], null, "{native}");
    }
}

#[test]
fn what_the_server_takes_for_null_is_null_and_bytes_are_base64() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("types");
    run(
        server,
        &format!(
            "CREATE TABLE {table} AS (SELECT 0::timestamp ts, cast(NaN as DOUBLE) d, rnd_bin(5, 5, 0) b FROM long_sequence(1)) TIMESTAMP(ts) {DAYS}"
        ),
    );
    run(server, &format!("INSERT INTO {table} (ts, d) VALUES (1, 1e308 * 10)"));
    let rows = Asked::new(server).rows(&table, Span::default());
    assert_eq!((&rows[0][1], &rows[1][1], &rows[1][2]), (&Value::Null, &Value::Null, &Value::Null));
    let Value::Text(text) = &rows[0][2] else { panic!("{rows:?}") };
    let there = server.query(&format!("SELECT base64(b, 100) FROM {table} WHERE ts = 0"));
    assert_eq!(there[0][0], text.as_str());
}

#[test]
fn a_time_that_64_bits_of_nanoseconds_cannot_hold_is_no_time_and_ends_nothing() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("types");
    run(server, &format!("CREATE TABLE {table} (ts TIMESTAMP, t TIMESTAMP) TIMESTAMP(ts) {DAYS}"));
    run(server, &format!("INSERT INTO {table} VALUES (1, '3000-01-02T03:04:05.000006Z'), (2, '2026-01-01')"));
    let rows = Asked::new(server).rows(&table, Span::default());
    assert_eq!(rows[0][1], Value::Text("3000-01-02T03:04:05.000006Z".into()));
    assert_eq!(rows[1][1], Value::Time(1_767_225_600_000_000_000));
}

#[test]
fn names_that_are_words_of_sql_or_odd_are_names() {
    let Some(server) = Questdb::shared() else { return };
    let table = format!("{} Źdźbło-1.x", fresh_name("select"));
    let columns = ["batch", "order", "select", "limit", "desc", "a b", "ż"];
    let list: Vec<String> = columns.iter().map(|name| format!("\"{name}\" INT")).collect();
    run(
        server,
        &format!("CREATE TABLE \"{table}\" (\"from\" TIMESTAMP, {}) TIMESTAMP(\"from\") {DAYS}", list.join(", ")),
    );
    let mut asked = Asked::new(server);
    let first = asked.news(&table, None).unwrap();
    run(server, &format!("INSERT INTO \"{table}\" VALUES (1, 1, 2, 3, 4, 5, 6, 7)"));
    let news = asked.news(&table, Some(&first.mark)).unwrap();
    assert_eq!((news.by, news.spans.len()), (By::Log, 1));
    let rows = asked.rows(&table, news.spans[0]);
    assert_eq!(rows[0][1..], (1..8).map(Value::Int).collect::<Vec<_>>());
    let upper = table.to_uppercase();
    assert_eq!(asked.rows(&upper, news.spans[0]), rows, "names are the same in either case there");
    let days = asked.runtime.block_on(asked.source.days(&table, Span::default())).unwrap();
    assert_eq!(days, [tapedeck::sync::Day { start_ns: 0, rows: 1 }]);
    let names = asked.runtime.block_on(asked.source.tables()).unwrap();
    assert!(names.contains(&table), "{names:?}");
}

#[test]
fn keys_of_replacement_are_known() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, "PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, k)");
    let schema = Asked::new(server).schema(&table);
    let keys: Vec<bool> = schema.columns.iter().map(|column| column.upsert_key).collect();
    assert_eq!(keys, [true, true, false]);
}

#[test]
fn pages_lose_and_double_nothing_where_many_rows_are_of_one_instant() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("pages");
    // 70,000 rows: of each 20,000 the first 18,000 are of one instant, which is more than a page.
    run(
        server,
        &format!(
            "CREATE TABLE {table} AS (SELECT (CASE WHEN x % 20000 < 18000 THEN (x / 20000) * 20000 ELSE x END)::timestamp ts, x FROM long_sequence(70000)) \
             TIMESTAMP(ts) {DAYS}"
        ),
    );
    let mut asked = Asked::new(server);
    let all = asked.rows(&table, Span::default());
    let numbers = |rows: &[Row]| {
        let mut numbers: Vec<i64> =
            rows.iter().map(|row| if let Value::Int(x) = row[1] { x } else { panic!("{row:?}") }).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(&all), (1..=70_000).collect::<Vec<_>>());
    assert!(all.is_sorted_by_key(|row| if let Value::Time(at) = row[0] { at } else { i64::MIN }));
    // From and to within a microsecond: rows are at whole ones.
    let span = Span { from_ns: Some(19_000_001), to_ns: Some(40_000_001) };
    let some = asked.rows(&table, span);
    let expected: Vec<i64> = (1..=70_000)
        .filter(|x| {
            let at = if x % 20_000 < 18_000 { x / 20_000 * 20_000 } else { *x };
            (19_001..40_001).contains(&at)
        })
        .collect();
    assert_eq!(numbers(&some), expected);
    for limit in [0, 1, 511, 512, 513, 30_000, 90_000] {
        let rows = asked.try_rows(&table, Span::default(), Some(limit)).unwrap();
        assert_eq!(rows, all[..all.len().min(usize::try_from(limit).unwrap())], "{limit}");
    }
    let flat = fresh_name("flat");
    run(server, &format!("CREATE TABLE {flat} AS (SELECT x a, x FROM long_sequence(40000))"));
    assert_eq!(numbers(&asked.rows(&flat, Span::default())), (1..=40_000).collect::<Vec<_>>());
}

#[test]
fn nobody_listening_ends_the_reading_without_an_error() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("pages");
    run(
        server,
        &format!("CREATE TABLE {table} AS (SELECT x::timestamp ts, x FROM long_sequence(100000)) TIMESTAMP(ts) {DAYS}"),
    );
    let mut asked = Asked::new(server);
    let schema = asked.schema(&table);
    let sent = asked.runtime.block_on(async {
        let (out, mut from) = mpsc::channel(1);
        let wanted = Wanted { table: &table, schema: &schema, span: Span::default(), limit: None };
        let take = async {
            from.recv().await.unwrap();
            drop(from);
        };
        tokio::join!(asked.source.rows(&wanted, out), take).0.unwrap()
    });
    assert!((1..100_000).contains(&sent), "{sent}");
    assert_eq!(asked.rows(&table, Span::default()).len(), 100_000, "and the next question is answered");
}
