//! Servers that are away, refuse us, hang, die, or have suspended a table: what is said, and that it goes on afterwards.

use std::time::{Duration, Instant};

use tapedeck::sync::Class;

use super::*;

fn trouble<T: std::fmt::Debug>(result: Result<T, Trouble>, class: Class, words: &[&str]) {
    let trouble = result.unwrap_err();
    let text = trouble.to_string();
    assert_eq!(trouble.class, class, "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn who_it_is_and_what_is_wrong_with_who_we_are_or_what_we_want_is_said() {
    let Some(server) = Questdb::shared() else { return };
    let mut asked = Asked::new(server);
    let hello = asked.runtime.block_on(asked.source.hello()).unwrap();
    assert_eq!(hello, format!("QuestDB {}", server.version()));
    let table = made(server, DAYS);
    trouble(
        asked.news(&format!("{table}x"), None),
        Class::Setup,
        &["there is no table", &format!("is `{table}` meant?")],
    );
    trouble(
        asked.news("nothing like that", None),
        Class::Setup,
        &["there is no table `nothing like that`; there are `"],
    );
    for hostile in ["'; DROP TABLE x; --", "\"; DROP TABLE x", "a' OR '1'='1", ""] {
        trouble(asked.news(hostile, None), Class::Setup, &["there is no table"]);
    }
    let wrong = server.dsn().replace("quest@", "secret-4711@");
    let mut asked = Asked::with(Config::new(&wrong));
    let error = asked.news(&table, None).unwrap_err();
    assert!(!error.to_string().contains("4711"), "{error}");
    trouble(Err::<(), _>(error), Class::Authentication, &["invalid username/password", "look at user and password"]);
}

#[test]
fn a_server_that_is_not_there_is_away() {
    let address = crate::support::free_address();
    let mut asked = Asked::with(Config::new(format!("postgresql://admin:quest@{address}/qdb")));
    trouble(asked.news("t", None), Class::Connection, &["connecting to 127.0.0.1:", "refused"]);
}

#[test]
fn addresses_that_are_none_are_refused_before_anything_starts() {
    for (url, words) in [
        ("http://127.0.0.1:9000", "that is QuestDB's web port"),
        ("mysql://x", "url: write it as in postgresql://"),
        ("", "url: write it as in"),
        ("postgresql://admin:hunter2@h:port/qdb", "url: "),
        ("postgresql://h/qdb?sslmode=sure", "url: there is no sslmode `sure`"),
    ] {
        let error = format!("{:#}", Config::new(url).open().map(|_| ()).unwrap_err());
        assert!(error.starts_with(words) || error.contains(words), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(Config::new("postgresql://127.0.0.1").open().is_ok());
    let read = |text: &str| toml::from_str::<Config>(text).map_err(|error| error.to_string());
    assert_eq!(read("url = 'x'\noverlap = '5m'").unwrap().overlap.0, Duration::from_secs(300));
    assert!(read("url = 'x'\ntimeouts = '5m'").unwrap_err().contains("unknown field `timeouts`"));
}

#[test]
fn a_server_that_was_restarted_or_killed_is_asked_again_and_nothing_is_missed() {
    let Some(server) = Questdb::private() else { return };
    let table = made(&server, DAYS);
    let mut followed = Followed::new(&server, &table);
    let insert = |n: i64| run(&server, &format!("INSERT INTO {table} VALUES ({}, 'a', {n})", n * 1_000_000));
    insert(1);
    assert_eq!(followed.same().by, By::Beginning);
    server.restart();
    assert_eq!(followed.same().by, By::Gate, "on a connection that has ended");
    insert(2);
    assert_eq!((followed.same().by, followed.read), (By::Log, 1));
    insert(3);
    server.kill();
    trouble(followed.asked.news(&table, followed.mark.as_ref()), Class::Connection, &["127.0.0.1"]);
    server.restart();
    applied(&server);
    assert_eq!((followed.same().by, followed.read), (By::Log, 1), "not more than the row before the kill");
    server.kill();
    server.restart();
    assert_eq!(followed.same().by, By::Gate);
}

#[test]
fn a_server_that_hangs_is_away_after_the_timeout_and_back_when_it_goes_on() {
    let Some(server) = Questdb::private() else { return };
    let table = made(&server, DAYS);
    let mut config = Config::new(server.dsn());
    config.timeout.0 = Duration::from_secs(2);
    let mut followed = Followed::with(Asked::with(config), &table);
    run(&server, &format!("INSERT INTO {table} VALUES (1, 'a', 1)"));
    followed.same();
    server.pause();
    let since = Instant::now();
    trouble(followed.asked.news(&table, followed.mark.as_ref()), Class::Connection, &["no answer"]);
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    server.resume();
    until("an answer", || followed.asked.news(&table, followed.mark.as_ref()).ok());
    assert_eq!(followed.same().by, By::Gate);
}

#[test]
fn a_suspended_table_gives_what_it_has_and_then_says_how_to_resume_it() {
    let Some(server) = Questdb::private() else { return };
    let table = made(&server, DAYS);
    let mut followed = Followed::new(&server, &table);
    run(&server, &format!("INSERT INTO {table} VALUES (1, 'a', 1)"));
    followed.same();
    run(&server, &format!("INSERT INTO {table} VALUES (2, 'a', 2)"));
    run(&server, &format!("ALTER TABLE {table} SUSPEND WAL WITH 28, 'no room'"));
    run(&server, &format!("INSERT INTO {table} VALUES (3, 'a', 3)"));
    assert_eq!((followed.same().by, followed.copy.len()), (By::Log, 2), "what was applied before");
    let words = ["is suspended", "no room", &format!("ALTER TABLE \"{table}\" RESUME WAL")];
    trouble(followed.asked.news(&table, followed.mark.as_ref()), Class::Setup, &words);
    run(&server, &format!("ALTER TABLE \"{table}\" RESUME WAL"));
    assert_eq!((followed.same().by, followed.copy.len()), (By::Log, 3));
}

#[test]
fn a_server_that_gives_up_on_a_long_question_is_told_with_its_setting() {
    let settings = ["query.timeout=1ms"];
    let options = crate::servers::Options { settings: &settings, ..Default::default() };
    let Some(server) = Questdb::private_with(&options) else { return };
    let table = fresh_name("long");
    let sql = format!(
        "CREATE TABLE {table} AS (SELECT x::timestamp ts, x k FROM long_sequence(3000000)) TIMESTAMP(ts) {DAYS}"
    );
    // The server gives up on this one, too, now and then.
    until("the table to be made", || {
        (server.exec(&sql).status == 200 || server.exec(&format!("SHOW COLUMNS FROM {table}")).status == 200)
            .then_some(())
    });
    applied(&server);
    let mut asked = Asked::new(&server);
    let told = until("a question that took too long", || {
        asked.runtime.block_on(asked.source.days(&table, Span::default())).err()
    });
    trouble(Err::<(), _>(told), Class::Server, &["timeout, query aborted", "`query.timeout`"]);
}
