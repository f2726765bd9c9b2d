//! Nothing can be written, no file can be reached, and the engine cannot be set, on any path.

use tapedeck_store::limits::Limits;
use tokio_postgres::Client;

use crate::support::{Growing, PASSWORD, serve, until};

/// Every attempt, and what a client must hear: a class of SQLSTATE.
const ATTEMPTS: &[(&str, &str)] = &[
    // rows
    ("insert into trades (seq) values (1)", "25006"),
    ("insert into trades select * from trades", "25006"),
    ("update trades set price = 1", "25006"),
    ("delete from trades", "25006"),
    ("truncate trades", "25006"),
    ("truncate table trades", "25006"),
    ("merge into trades t using quotes q on t.seq = q.seq when matched then delete", "25006"),
    ("with gone as (delete from trades returning *) select * from gone", "25006"),
    ("with new as (insert into trades (seq) values (1) returning *) select * from new", "25006"),
    ("with new as (update trades set price = 1 returning *) select * from new", "25006"),
    // tables and the rest of a catalogue
    ("create table mine (a int)", "25006"),
    ("create table mine as select * from trades", "25006"),
    ("create temporary table mine as select 1", "25006"),
    ("create view mine as select 1", "25006"),
    ("create or replace view trades as select 1", "25006"),
    ("create schema mine", "25006"),
    ("create database mine", "25006"),
    ("create index on trades (seq)", "25006"),
    ("create function f() returns int language sql as 'select 1'", "25006"),
    ("create role mine", "25006"),
    ("create extension file_fdw", "25006"),
    ("alter table trades add column x int", "25006"),
    ("alter role tapedeck superuser", "25006"),
    ("drop table trades", "25006"),
    ("drop view trades", "25006"),
    ("drop schema public cascade", "25006"),
    ("drop function repeat", "25006"),
    ("select * into mine from trades", "25006"),
    ("grant all on trades to public", "25006"),
    ("comment on table trades is 'x'", "25006"),
    ("vacuum", "25006"),
    ("analyze trades", "25006"),
    ("lock table trades", "25006"),
    ("select * from trades for update", "25006"),
    // files and programs
    ("copy trades to '/tmp/tapedeck-refused.csv'", "25006"),
    ("copy (select 1) to '/tmp/tapedeck-refused.csv'", "25006"),
    ("copy trades from '/etc/passwd'", "25006"),
    ("copy (select 1) to program 'id'", "25006"),
    ("copy (select 1) to stdout", "25006"),
    ("create external table mine stored as csv location '/etc/passwd'", "42"),
    ("select * from '/etc/passwd'", "42"),
    ("select * from \"/etc/passwd\"", "42"),
    ("select * from read_csv('/etc/passwd')", "42"),
    ("select * from read_parquet('/tmp/x.parquet')", "42"),
    ("select pg_read_file('/etc/passwd')", "42"),
    ("select pg_ls_dir('/')", "42"),
    ("select lo_import('/etc/passwd')", "42"),
    // around the corner
    ("explain analyze insert into trades (seq) values (1)", "25006"),
    ("explain analyze copy trades to '/tmp/tapedeck-refused.csv'", "25006"),
    ("explain create table mine as select 1", "25006"),
    ("prepare p as insert into trades (seq) values (1)", "25006"),
    ("execute p", "25006"),
    ("declare c cursor for insert into trades (seq) values (1)", "25006"),
    ("call f()", "25006"),
    ("do 'begin end'", "42601"),
    ("load 'x'", "25006"),
    ("notify x", "25006"),
    // the engine
    ("set datafusion.runtime.memory_limit = '100G'", "42501"),
    ("set datafusion.execution.target_partitions = 100", "42501"),
    ("set \"datafusion\".\"execution\".\"batch_size\" = 1", "42501"),
    ("SET DATAFUSION.CATALOG.LOCATION = '/etc'", "42501"),
    ("set local datafusion.execution.batch_size = 1", "42501"),
    ("reset datafusion.execution.batch_size", "42501"),
    ("set session authorization postgres", "42501"),
    ("set role postgres", "42501"),
    ("alter system set work_mem = 1", "42601"),
    // what would be ignored
    ("select * from trades tablesample bernoulli (10)", "0A000"),
];

fn heard(outcome: Result<impl Sized, tokio_postgres::Error>, sql: &str) -> String {
    let error = outcome.err().unwrap_or_else(|| panic!("answered: {sql}"));
    error.code().unwrap_or_else(|| panic!("{sql}: {error:?}")).code().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attempt_is_refused_by_both_protocols_and_changes_nothing() {
    let server = serve(Growing::with(1, 100), Limits::default()).await;
    let client = server.connect().await;
    assert!(ATTEMPTS.len() >= 45);
    for (sql, wanted) in ATTEMPTS {
        let simple = heard(client.batch_execute(sql).await, sql);
        assert!(simple.starts_with(wanted), "{sql}: {simple}");
        let extended = heard(client.query(*sql, &[]).await, sql);
        assert!(extended.starts_with(wanted), "{sql}: {extended} (extended)");
        // In company, too, and not only as the first of several.
        let among = heard(client.batch_execute(&format!("select 1; {sql}")).await, sql);
        assert!(among.starts_with(wanted), "{sql}: {among} (second)");
    }
    let count: i64 = client.query_one("select count(*) from trades", &[]).await.unwrap().get(0);
    assert_eq!(count, 200);
    assert!(!std::path::Path::new("/tmp/tapedeck-refused.csv").exists());
    let tables = client.query("select table_name from information_schema.tables where table_name = 'mine'", &[]).await;
    assert!(tables.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_the_password() {
    let server = serve(Growing::with(1, 10), Limits::default()).await;
    for password in ["wrong", "''", "a-password-of-tests2"] {
        let error = server.try_connect(password).await.err().unwrap_or_else(|| panic!("{password} was let in"));
        assert!(error.as_db_error().is_none_or(|error| error.code().code() == "28P01"), "{error:?}");
    }
    let others = server.config(PASSWORD).replace("user=tapedeck", "user=postgres");
    let error = tokio_postgres::connect(&others, tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(error.code().map(|code| code.code()), Some("28P01"));
    let elsewhere = server.config(PASSWORD).replace("dbname=tapedeck", "dbname=template1");
    let error = tokio_postgres::connect(&elsewhere, tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(error.code().map(|code| code.code()), Some("3D000"));
    assert!(server.connect().await.query_one("select 1::int", &[]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_before_the_password_are_not_answered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = serve(Growing::with(1, 10), Limits::default()).await;
    let startup = b"\0\x03\0\0user\0tapedeck\0database\0tapedeck\0\0";
    let mut hello = u32::try_from(startup.len() + 4).unwrap().to_be_bytes().to_vec();
    hello.extend(startup);
    let query = b"Q\0\0\0\x1cselect seq from trades;;\0";
    // A mechanism that does not exist, an answer that is none, a query in place of an answer.
    let bad_mechanism = b"p\0\0\0\x12NO-SUCH\0\0\0\0\0";
    let bad_answer = b"p\0\0\0\x05x";
    for wrong in [bad_mechanism.as_slice(), bad_answer, b""] {
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let mut said = hello.clone();
        said.extend_from_slice(wrong);
        for _ in 0..3 {
            said.extend_from_slice(query);
        }
        socket.write_all(&said).await.unwrap();
        let _ = socket.shutdown().await;
        let mut heard = Vec::new();
        // A reset is as good as an end.
        let _ = socket.read_to_end(&mut heard).await;
        assert_eq!(rows_in(&heard), 0, "{wrong:?}: {heard:?}");
    }
}

/// Counts the messages that are rows.
fn rows_in(mut bytes: &[u8]) -> usize {
    let mut rows = 0;
    while let [kind, a, b, c, d, ..] = bytes {
        rows += usize::from(*kind == b'D');
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1;
        bytes = bytes.get(len..).unwrap_or_default();
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_too_many_hears_so_and_the_next_finds_a_place() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = serve(Growing::with(1, 10), limits).await;
    let first = server.connect().await;
    let _second = server.connect().await;
    let error = server.try_connect(PASSWORD).await.err().unwrap();
    assert_eq!(error.code().map(|code| code.code()), Some("53300"), "{error:?}");
    // A cancel finds its way in all the same; it needs no place.
    first.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
    drop(first);
    until("a place", async || server.try_connect(PASSWORD).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_connection_sets_no_other_sees() {
    let server = serve(Growing::with(1, 10), Limits::default()).await;
    let (one, other) = (server.connect().await, server.connect().await);
    one.batch_execute("set application_name = 'one'; set statement_timeout = '5s'").await.unwrap();
    let shown = async |client: &Client, name: &str| {
        let rows = client.simple_query(&format!("show {name}")).await.unwrap();
        rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    };
    assert_eq!(shown(&one, "application_name").await.as_deref(), Some("one"));
    assert_eq!(shown(&one, "statement_timeout").await.as_deref(), Some("5000ms"));
    assert_eq!(shown(&other, "statement_timeout").await.as_deref(), Some("30000ms"));
    assert_ne!(shown(&other, "application_name").await.as_deref(), Some("one"));
    assert_eq!(shown(&one, "transaction_read_only").await.as_deref(), Some("on"));
    let error = one.batch_execute("set timezone = 'Asia/Kolkata'").await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("0A000"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_too_deep_is_refused_and_the_server_lives() {
    let server = serve(Growing::with(1, 10), Limits::default()).await;
    let client = server.connect().await;
    for statement in [
        format!("select 1{}", "+1".repeat(1_000)),
        format!("select 1 where 1=1{}", " or 1=2".repeat(1_500)),
        format!("select 1{}", " union all select 1".repeat(1_000)),
        format!("select {}1{}", "(".repeat(1_000), ")".repeat(1_000)),
        format!("select 1{}", "+1".repeat(400_000)),
    ] {
        let error = client.simple_query(&statement).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("54001"), "{error:?}");
        let error = client.prepare(&statement).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("54001"), "{error:?}");
    }
    let deep = format!("select count(*) from trades where seq = 0{}", " or seq = 1".repeat(120));
    client.simple_query(&deep).await.unwrap();
    client.simple_query("select 1").await.unwrap();
}

#[test]
fn an_open_address_needs_encryption_or_a_word() {
    let options =
        |insecure| tapedeck_store::pg::Options { listen: "0.0.0.0:0".parse().unwrap(), certificate: None, insecure };
    let error = options(false).check().unwrap_err().to_string();
    assert!(error.contains("insecure = true"), "{error}");
    options(true).check().unwrap();
}
