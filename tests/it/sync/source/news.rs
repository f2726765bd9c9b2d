//! What the news of a table are after each thing that can happen to it; the copy that is kept by them is the table.

use super::*;
use crate::servers::Options;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

fn span(from_s: i64, to_s: i64, more_ns: i64) -> Span {
    Span { from_ns: Some(from_s * SECOND), to_ns: Some(to_s * SECOND + more_ns) }
}

/// Rows of seconds, one a second, of one key.
fn insert(server: &Questdb, table: &str, seconds: std::ops::Range<i64>, key: &str, v: i64) {
    let rows: Vec<String> = seconds.map(|s| format!("({}, '{key}', {v})", s * 1_000_000)).collect();
    run(server, &format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
}

#[track_caller]
fn is(news: &News, by: By, spans: &[Span], removed: bool, columns: bool) {
    assert_eq!((news.by, news.spans.as_slice(), news.removed, news.columns), (by, spans, removed, columns));
}

const ALL: [Span; 1] = [Span { from_ns: None, to_ns: None }];

/// The copy after each step, whatever way the news come.
fn goes_through_everything(server: &Questdb, table: &str, mut followed: Followed) {
    let steps = [
        "INSERT INTO {t} VALUES (1000000, 'a', 1), (86400000000, 'b', 2), (172800000000, 'a', 3)",
        "INSERT INTO {t} VALUES (172801000000, 'c', 4)",
        "INSERT INTO {t} VALUES (5000000, 'late', 5)",
        "UPDATE {t} SET v = 77 WHERE k = 'b'",
        "UPDATE {t} SET v = 78 WHERE k = 'nobody'",
        "ALTER TABLE {t} ADD COLUMN w INT",
        "INSERT INTO {t} VALUES (6000000, 'd', 6, 7)",
        "ALTER TABLE {t} RENAME COLUMN w TO u",
        "ALTER TABLE {t} ALTER COLUMN u TYPE VARCHAR",
        "ALTER TABLE {t} DROP COLUMN u",
        "ALTER TABLE {t} DROP PARTITION LIST '1970-01-02'",
        "INSERT INTO {t} VALUES (172802000000, 'e', 8), (7000000, 'f', 9)",
        "TRUNCATE TABLE {t}",
        "INSERT INTO {t} VALUES (172803000000, 'g', 10)",
    ];
    assert_eq!(followed.same().by, By::Beginning);
    for step in steps {
        run(server, &step.replace("{t}", table));
        followed.look();
        followed.compare();
        assert_eq!(followed.same().spans, [], "after {step}: once is enough");
    }
}

#[test]
fn rows_are_read_again_where_the_log_says_and_nowhere_else() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, DAYS);
    let mut followed = Followed::new(server, &table);
    is(&followed.same(), By::Beginning, &ALL, false, true);
    is(&followed.same(), By::Gate, &[], false, false);
    insert(server, &table, 0..100, "a", 1);
    is(&followed.same(), By::Log, &[span(0, 99, 1_000)], false, false);
    assert_eq!(followed.read, 100);
    // Late rows, and some that touch each other.
    insert(server, &table, 86_400..86_500, "a", 1);
    insert(server, &table, 200..210, "a", 1);
    insert(server, &table, 205..220, "b", 1);
    is(&followed.same(), By::Log, &[span(200, 219, 1_000), span(86_400, 86_499, 1_000)], false, false);
    assert_eq!(followed.read, 125);
    is(&followed.same(), By::Gate, &[], false, false);
}

#[test]
fn rows_that_replace_others_and_rows_that_come_twice_are_followed() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, "PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, k)");
    let mut followed = Followed::new(server, &table);
    insert(server, &table, 400..700, "a", 1);
    is(&followed.same(), By::Beginning, &ALL, false, true);
    insert(server, &table, 500..510, "a", 2);
    is(&followed.same(), By::Log, &[span(500, 509, 1_000)], false, false);
    assert_eq!((followed.read, followed.copy.len()), (10, 300));
    insert(server, &table, 500..510, "a", 2);
    is(&followed.same(), By::Log, &[span(500, 509, 1_000)], false, false);
    run(server, &format!("ALTER TABLE {table} DEDUP DISABLE"));
    assert_eq!(followed.same().spans, []);
}

#[test]
fn what_rewrites_or_removes_rows_makes_everything_read_again() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, DAYS);
    let mut followed = Followed::new(server, &table);
    for day in 0..3 {
        insert(server, &table, day * 86_400..day * 86_400 + 10, "a", day);
    }
    followed.same();
    for (deed, rows) in [
        ("UPDATE {t} SET v = 99 WHERE v = 1", 30),
        ("ALTER TABLE {t} DROP PARTITION LIST '1970-01-02'", 20),
        ("TRUNCATE TABLE {t}", 0),
    ] {
        run(server, &deed.replace("{t}", &table));
        is(&followed.same(), By::LogWithoutRange, &ALL, true, false);
        assert_eq!(followed.copy.len(), rows, "{deed}");
    }
}

#[test]
fn columns_that_come_need_no_reading_and_those_that_go_or_change_do() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, DAYS);
    let mut followed = Followed::new(server, &table);
    insert(server, &table, 0..10, "a", 1);
    followed.same();
    run(server, &format!("ALTER TABLE {table} ADD COLUMN w INT"));
    let news = followed.look();
    is(&news, By::Log, &[], false, true);
    run(server, &format!("INSERT INTO {table} VALUES (20000000, 'a', 1, 5)"));
    is(&followed.look(), By::Log, &[span(20, 20, 1_000)], false, false);
    for deed in ["RENAME COLUMN w TO u", "ALTER COLUMN u TYPE LONG", "DROP COLUMN u"] {
        run(server, &format!("ALTER TABLE {table} {deed}"));
        is(&followed.same(), By::LogWithoutRange, &ALL, true, true);
        is(&followed.same(), By::Gate, &[], false, false);
    }
}

#[test]
fn nanoseconds_are_followed_although_the_log_cuts_them() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("source");
    run(
        server,
        &format!("CREATE TABLE {table} (ts TIMESTAMP_NS, k SYMBOL, v LONG) TIMESTAMP(ts) PARTITION BY HOUR WAL"),
    );
    let mut followed = Followed::new(server, &table);
    followed.same();
    run(server, &format!("INSERT INTO {table} VALUES (1767225600123456789, 'a', 1), (1767225600123999999, 'b', 2)"));
    let cut = Span { from_ns: Some(1_767_225_600_123_456_000), to_ns: Some(1_767_225_600_124_000_000) };
    is(&followed.same(), By::Log, &[cut], false, false);
    assert_eq!(followed.copy.len(), 2);
    assert_eq!(followed.copy.keys().next().unwrap().0, 1_767_225_600_123_456_789);
    let within = Span { from_ns: Some(1_767_225_600_123_456_790), to_ns: Some(1_767_225_600_123_999_999) };
    assert_eq!(followed.asked.rows(&table, within), Vec::<Row>::new());
}

#[test]
fn a_table_dropped_and_made_anew_or_put_back_is_another_one() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, DAYS);
    let mut followed = Followed::new(server, &table);
    insert(server, &table, 0..10, "a", 1);
    followed.same();
    run(server, &format!("DROP TABLE {table}"));
    let trouble = followed.asked.news(&table, followed.mark.as_ref()).unwrap_err();
    assert!(trouble.text.contains("there is no table"), "{trouble}");
    run(server, &format!("CREATE TABLE {table} (ts TIMESTAMP, k SYMBOL, v LONG) TIMESTAMP(ts) {DAYS}"));
    insert(server, &table, 5..6, "b", 1);
    is(&followed.same(), By::Beginning, &ALL, true, true);
    assert_eq!(followed.copy.len(), 1);
    // A mark of a log that was longer, or that had another transaction there.
    let mark = followed.mark.clone().unwrap();
    for (key, value) in [("txn", 1_000), ("at_us", 1)] {
        let mut other = mark.clone();
        other.0["at"]["txn"][key] = value.into();
        insert(server, &table, 7..8, "b", 1);
        let news = followed.asked.news(&table, Some(&other)).unwrap();
        is(&news, By::Beginning, &ALL, true, true);
    }
    // What is none of ours is no mark.
    let news = followed.asked.news(&table, Some(&Mark("nonsense".into()))).unwrap();
    is(&news, By::Beginning, &ALL, true, true);
}

#[test]
fn a_renamed_table_is_told_by_its_new_name() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, DAYS);
    let mut followed = Followed::new(server, &table);
    insert(server, &table, 0..10, "a", 1);
    followed.same();
    let other = fresh_name("renamed");
    run(server, &format!("RENAME TABLE {table} TO {other}"));
    let trouble = followed.asked.news(&table, followed.mark.as_ref()).unwrap_err();
    assert_eq!(trouble.to_string(), format!("there is no table `{table}`; it is called `{other}` now"));
    followed.table = other.clone();
    is(&followed.same(), By::Log, &[], false, false);
    insert(server, &other, 10..20, "a", 1);
    is(&followed.same(), By::Log, &[span(10, 19, 1_000)], false, false);
}

#[test]
fn everything_in_turn_is_followed_with_ranges() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, DAYS);
    let followed = Followed::new(server, &table);
    goes_through_everything(server, &table, followed);
}

/// A server whose logs tell no ranges: its own default.
fn without_ranges() -> Option<Questdb> {
    let settings = ["cairo.default.sequencer.part.txn.count=0"];
    Questdb::private_with(&Options { settings: &settings, ..Options::default() })
}

fn at_once(server: &Questdb) -> Config {
    let mut config = Config::new(server.dsn());
    config.sum_every.0 = std::time::Duration::ZERO;
    config
}

#[test]
fn everything_in_turn_is_followed_without_ranges_and_without_a_log() {
    let Some(server) = without_ranges() else { return };
    for rest in [DAYS, "PARTITION BY DAY BYPASS WAL"] {
        let table = made(&server, rest);
        let followed = Followed::with(Asked::with(at_once(&server)), &table);
        goes_through_everything(&server, &table, followed);
    }
}

#[test]
fn without_ranges_the_newest_rows_are_read_each_time_and_the_others_when_it_is_time() {
    let Some(server) = without_ranges() else { return };
    let table = made(&server, DAYS);
    for day in 0..4 {
        insert(&server, &table, day * 86_400..day * 86_400 + 10, "a", day);
    }
    let mut config = Config::new(server.dsn());
    config.overlap.0 = std::time::Duration::from_secs(5);
    let mut followed = Followed::with(Asked::with(config), &table);
    is(&followed.same(), By::Beginning, &ALL, false, true);
    insert(&server, &table, 4 * 86_400..4 * 86_400 + 3, "b", 7);
    let since = Span { from_ns: Some(3 * DAY + 4 * SECOND), to_ns: None };
    is(&followed.same(), By::Days, &[since], false, false);
    // An old row is corrected: not seen among the newest.
    insert(&server, &table, 15..16, "late", 8);
    let since = Span { from_ns: Some(4 * DAY - 3 * SECOND), to_ns: None };
    is(&followed.look(), By::Days, &[since], false, false);
    is(&followed.look(), By::Gate, &[], false, false);
    // It is time: the day is found, and the newest hours that were read already.
    let mut later = followed.mark.clone().unwrap();
    later.0["sums"]["at_ms"] = 0.into();
    followed.mark = Some(later);
    let news = followed.same();
    let day = Span { from_ns: Some(0), to_ns: Some(DAY) };
    let hour = Span { from_ns: Some(4 * DAY), to_ns: Some(4 * DAY + 3_600 * SECOND) };
    is(&news, By::Days, &[day, hour], true, false);
    is(&followed.same(), By::Gate, &[], false, false);
}

#[test]
fn a_table_without_a_clock_is_read_again_whole_when_it_has_changed() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("flat");
    run(server, &format!("CREATE TABLE {table} (k SYMBOL, v LONG)"));
    run(server, &format!("INSERT INTO {table} VALUES ('a', 1), ('b', 2)"));
    let mut asked = Asked::with(at_once(server));
    let first = asked.news(&table, None).unwrap();
    is(&first, By::Beginning, &ALL, false, true);
    let still = asked.news(&table, Some(&first.mark)).unwrap();
    is(&still, By::Gate, &[], false, false);
    run(server, &format!("UPDATE {table} SET v = 3 WHERE k = 'a'"));
    let news = asked.news(&table, Some(&first.mark)).unwrap();
    is(&news, By::Days, &ALL, true, false);
    assert_eq!(asked.rows(&table, Span::default())[0][1], Value::Int(3));
    is(&asked.news(&table, Some(&news.mark)).unwrap(), By::Gate, &[], false, false);
    let days = asked.runtime.block_on(asked.source.days(&table, Span::default())).unwrap();
    assert_eq!(days, [tapedeck::sync::Day { start_ns: 0, rows: 2 }]);
}

#[test]
fn where_parts_of_the_log_are_gone_everything_is_read_again() {
    let settings = ["cairo.default.sequencer.part.txn.count=5", "cairo.wal.purge.interval=100"];
    let Some(server) = Questdb::private_with(&Options { settings: &settings, ..Options::default() }) else { return };
    let table = made(&server, DAYS);
    let mut followed = Followed::new(&server, &table);
    insert(&server, &table, 0..1, "a", 0);
    followed.same();
    for n in 1..23 {
        insert(&server, &table, n..n + 1, "a", n);
    }
    let oldest = format!("SELECT min(sequencerTxn) FROM wal_transactions('{table}')");
    until("parts to be purged", || {
        // Also when no row is left, or the server stumbles over the part that it has just removed.
        let reply = server.exec(&oldest);
        (!reply.body.contains("[[1]]") && !reply.body.contains("[[2]]")).then_some(())
    });
    is(&followed.same(), By::Days, &ALL, true, false);
    assert_eq!(followed.copy.len(), 23);
    insert(&server, &table, 30..31, "a", 0);
    is(&followed.same(), By::Log, &[span(30, 30, 1_000)], false, false);
}

#[test]
fn rows_that_grow_too_old_leave_no_news_and_are_missed_by_the_counts_of_days() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, "PARTITION BY DAY TTL 2 DAYS WAL");
    let mut followed = Followed::new(server, &table);
    insert(server, &table, 0..10, "a", 1);
    followed.same();
    let late = 30 * 86_400;
    insert(server, &table, late..late + 5, "a", 2);
    until("the first day to be gone", || {
        (server.query(&format!("SELECT count() FROM {table}"))[0][0] == 5).then_some(())
    });
    is(&followed.look(), By::Log, &[span(late, late + 4, 1_000)], false, false);
    assert_eq!(followed.copy.len(), 15, "the copy keeps what the table has let go");
    let days = followed.asked.runtime.block_on(followed.asked.source.days(&table, Span::default())).unwrap();
    assert_eq!(days, [tapedeck::sync::Day { start_ns: late * SECOND, rows: 5 }]);
}

#[test]
fn of_one_changed_row_in_a_million_one_row_is_read() {
    let Some(server) = Questdb::shared() else { return };
    let table = fresh_name("large");
    let made = "SELECT timestamp_sequence(0, 1000000L) ts, rnd_symbol('a', 'b') k, x v FROM long_sequence(1000000)";
    run(server, &format!("CREATE TABLE {table} AS ({made}) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts)"));
    let mut asked = Asked::new(server);
    let first = asked.news(&table, None).unwrap();
    insert(server, &table, 500_000..500_001, "c", -1);
    let news = asked.news(&table, Some(&first.mark)).unwrap();
    is(&news, By::Log, &[span(500_000, 500_000, 1_000)], false, false);
    let rows = asked.rows(&table, news.spans[0]);
    assert_eq!((rows.len(), &rows[0][2]), (1, &Value::Int(-1)));
    let days = asked.runtime.block_on(asked.source.days(&table, Span::default())).unwrap();
    assert_eq!(days.iter().map(|day| day.rows).sum::<u64>(), 1_000_000);
    assert_eq!((days.len(), days[0].rows), (12, 86_400));
}

#[test]
fn a_materialized_view_is_followed_and_a_view_is_refused() {
    let Some(server) = Questdb::shared() else { return };
    let table = made(server, "PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, k)");
    let (kept, view) = (fresh_name("kept"), fresh_name("view"));
    let hours = format!("SELECT ts, k, sum(v) v FROM {table} SAMPLE BY 1h");
    run(server, &format!("CREATE MATERIALIZED VIEW {kept} AS ({hours}) PARTITION BY DAY"));
    let mut followed = Followed::new(server, &kept);
    followed.same();
    for (second, sum, hours) in [(10, 7, 1), (20, 14, 1), (3_700, 21, 2)] {
        insert(server, &table, second..second + 1, "a", 7);
        let all = format!("SELECT sum(v), count() FROM {kept}");
        let wanted = serde_json::json!([[sum, hours]]);
        until("the view to be refreshed", || (server.query(&all) == wanted).then_some(()));
        applied(server);
        followed.same();
    }
    assert_eq!(followed.copy.len(), 2);
    run(server, &format!("CREATE VIEW {view} AS ({hours})"));
    let trouble = followed.asked.news(&view, None).unwrap_err();
    assert!(trouble.to_string().contains(&format!("`{view}` is a view")), "{trouble}");
    let names = followed.asked.runtime.block_on(followed.asked.source.tables()).unwrap();
    assert!(names.contains(&kept) && !names.contains(&view), "{names:?}");
}
