//! The clients that people have, each as people use it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tapedeck_store::limits::Limits;
use tapedeck_store::pg::{DATABASE, USER};

use crate::support::{Growing, PASSWORD, Served, serve, until};

fn repo() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A tool that is not there skips its test, or fails it where nothing may be skipped.
fn missing(what: &str, why: &str) {
    crate::skipped::skipped(&format!("no {what}: {why}"));
}

fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let find = || {
        let out = Command::new(repo().join("scripts/venv")).output().map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() { Ok(PathBuf::from(said(&out.stdout))) } else { Err(said(&out.stderr)) }
    };
    match PYTHON.get_or_init(find) {
        Ok(path) => Some(path.clone()),
        Err(why) => {
            missing("Python", why);
            None
        }
    }
}

fn psql(server: &Served) -> Option<Command> {
    if Command::new("psql").arg("--version").output().is_err() {
        missing("psql", "scripts/servers install postgres");
        return None;
    }
    let mut psql = Command::new("psql");
    psql.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "10").args(["-X", "-v", "ON_ERROR_STOP=1", "-h"]);
    psql.args([&server.address.ip().to_string(), "-p", &server.address.port().to_string(), "-U", USER, "-d", DATABASE]);
    Some(psql)
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_describes_reads_and_goes_through_transactions() {
    let server = serve(Growing::with(2, 1_000), Limits::default()).await;
    for (command, wanted) in [
        ("\\conninfo", "tapedeck"),
        ("\\dt", "trades"),
        ("\\d", "trades"),
        ("\\d trades", "price"),
        ("\\l", "market"),
        ("\\dn", "public"),
        ("\\dv", ""),
        ("select count(*) from trades", "3000"),
        ("begin; select 1; rollback", "ROLLBACK"),
        ("begin; savepoint a; release savepoint a; commit", "COMMIT"),
        ("select version()", "PostgreSQL 15.0"),
        ("select current_setting('search_path')", "public"),
        ("show server_version", "15.0"),
        (
            "declare c cursor for select seq from trades order by seq; fetch 2 from c; fetch forward 1 from c; close c",
            "3",
        ),
        ("select * from ohlc('BTC/USD', '1m') order by start limit 1", "2026-07-19 12:00:00"),
    ] {
        let Some(mut psql) = psql(&server) else { return };
        psql.args(["-c", command]);
        let out = output(psql).await;
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(
            out.status.success() && said.contains(wanted),
            "{command}: {said}{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_cancels_with_control_c() {
    let limits = Limits { statements: 1, timeout_ms: 600_000, ..Limits::default() };
    let server = serve(Growing::with(1, 20_000), limits).await;
    let Some(mut psql) = psql(&server) else { return };
    psql.args(["-c", "select count(*) from trades a, trades b, trades c where a.price + b.price > c.price"]);
    let child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the query to run", async || (server.engine.places_free() == 0).then_some(())).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let out = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("canceling statement due to user request"), "{said}");
    until("the place to be free", async || (server.engine.places_free() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_reads_with_psycopg_2_and_3_asyncpg_and_pandas() {
    let server = serve(Growing::with(3, 1_000), Limits::default()).await;
    let Some(python) = python() else { return };
    let mut script = Command::new(python);
    let address = server.address;
    script.arg(repo().join("tests/python/sql_clients.py"));
    script.args([&address.ip().to_string(), &address.port().to_string(), PASSWORD, "4000"]);
    let out = output(script).await;
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(said.matches(": ok").count(), 4, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_binds_prepares_and_takes_portions() {
    let server = serve(Growing::with(2, 1_000), Limits::default()).await;
    let mut client = server.connect().await;
    let row = client.query_one("select seq, symbol, price::text from trades where seq = $1", &[&5_i64]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (5_i64, "ETH/USD", "62005.0500000000"));
    let prepared = client.prepare("select count(*) from trades where symbol = $1").await.unwrap();
    for symbol in ["BTC/USD", "ETH/USD", "XRP/USD"] {
        let count: i64 = client.query_one(&prepared, &[&symbol]).await.unwrap().get(0);
        assert_eq!(count, if symbol == "XRP/USD" { 0 } else { 750 }, "{symbol}");
    }
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("select seq from trades order by seq").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    let (mut seqs, mut portions) = (Vec::new(), 0);
    loop {
        let rows = transaction.query_portal(&portal, 700).await.unwrap();
        if rows.is_empty() {
            break;
        }
        portions += 1;
        seqs.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(portions, 5);
    assert_eq!(seqs, (1..=3_000).collect::<Vec<i64>>());
    transaction.commit().await.unwrap();
    // A portion of any size costs what there is, not what was asked for.
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("select seq from trades limit 3").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, i32::MAX).await.unwrap().len(), 3);
    transaction.rollback().await.unwrap();
    client
        .batch_execute("declare c cursor for select 1; fetch 2147483647 from c; fetch all from c; close c")
        .await
        .unwrap();
}
