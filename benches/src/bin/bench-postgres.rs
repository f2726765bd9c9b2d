//! Trades from a tape into a real PostgreSQL, by the sink as it is (binary COPY and its mark in one transaction, 5,000 rows each),
//! beside `psql \copy` of the same rows into a table with the same primary key in one transaction, and beside psycopg: COPY into a
//! temporary table and an upsert from there, 5,000 rows a transaction.

use std::cell::RefCell;
use std::path::Path;

use tapedeck_benches::stores::{Peer, Psql, Server, Tape};
use tapedeck_benches::{Run, probe, rounds};

const ROWS: u64 = 300_000;

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let tape = Tape::of(&home.path().join("tape"), ROWS)?;
    let rows = home.path().join("rows");
    tape.rows(&rows)?;
    let server = Server::start("postgres", &[])?;
    let dsn = server.fact("dsn");
    let table = format!("kind = \"postgres\"\ndsn = \"{dsn}\"\n");

    // The schema is made, and the peers' rows are those that are there.
    tape.deliver("first", &table)?;
    let mut psql = Psql::to(dsn)?;
    let (text, binary) = (home.path().join("trades.txt"), home.path().join("trades.bin"));
    psql.run("CREATE TABLE peer (LIKE tapedeck.trades INCLUDING ALL);")?;
    psql.run(&format!("\\copy (SELECT * FROM tapedeck.trades) TO '{}'", text.display()))?;
    psql.run(&format!("\\copy (SELECT * FROM tapedeck.trades) TO '{}' (FORMAT binary)", binary.display()))?;
    let tape_id = tape.id.to_string();
    let mut python = Peer::python("psycopg_upsert.py", &[&rows.to_string_lossy(), dsn, &tape_id])?;
    python.ask("ready")?;

    let ours = |round: usize| {
        fresh(dsn, "tapedeck.trades")?;
        let took = tape.deliver(&format!("ours{round}"), &table)?;
        check(dsn, "tapedeck.trades")?;
        Ok(took)
    };
    let psql = RefCell::new(psql);
    let copied = |file: &Path, format: &str| {
        fresh(dsn, "peer")?;
        let took = psql.borrow_mut().run(&format!("\\copy peer FROM '{}' (FORMAT {format})", file.display()))?;
        check(dsn, "peer")?;
        Ok(took)
    };
    let upsert = |_: usize| {
        fresh(dsn, "peer")?;
        let took = python.time("go")?;
        check(dsn, "peer")?;
        Ok(took)
    };
    let sides: &mut [(&str, Run<'_>)] = &mut [
        ("tapedeck", Box::new(ours)),
        ("psql \\copy, text", Box::new(|_| copied(&text, "text"))),
        ("psql \\copy, binary", Box::new(|_| copied(&binary, "binary"))),
        ("psycopg COPY + upsert", Box::new(upsert)),
    ];
    rounds("tape -> PostgreSQL", ROWS, sides)
}

/// An empty table, and a server that has nothing left to write.
fn fresh(dsn: &str, table: &str) -> anyhow::Result<()> {
    let mut psql = Psql::to(dsn)?;
    psql.run(&format!("TRUNCATE {table};"))?;
    psql.run("CHECKPOINT;").map(drop)
}

fn check(dsn: &str, table: &str) -> anyhow::Result<()> {
    let count = Psql::to(dsn)?.value(&format!("SELECT count(*) FROM {table};"))?;
    anyhow::ensure!(count == ROWS.to_string(), "{table} has {count} rows");
    Ok(())
}
