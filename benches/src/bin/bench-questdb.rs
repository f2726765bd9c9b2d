//! Trades from a tape into a real QuestDB, by the sink as it is, beside QuestDB's own client for Rust with rows that are ready,
//! into a table with the same columns and keys. Both send 5,000 rows a request and wait for its answer. The client's rows
//! (protocol 3, the first that knows decimals) go over a bare connection: less work than its own HTTP.

use std::time::{Duration, Instant};

use questdb::ingress::{Buffer, ColumnName, ProtocolVersion, TableName, TimestampNanos};
use tapedeck_benches::stores::{BATCH, Http, Psql, Server, Tape};
use tapedeck_benches::{Run, probe, rounds};
use tapedeck_market::{Body, Record, Side};

const ROWS: u64 = 600_000;
const SYMBOLS: [&str; 6] = ["instrument", "tape_id", "source", "venue", "symbol", "side"];

fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir_in(".")?;
    probe(home.path());
    let tape = Tape::of(&home.path().join("tape"), ROWS)?;
    // As a server is started by its users, and not by tests.
    let server = Server::start("questdb", &["heap=default"])?;
    let table = format!("kind = \"questdb\"\nurl = \"{}\"\n", server.fact("url"));
    // The table is made, and the peer's is like it.
    tape.deliver("first", &table)?;
    let mut psql = Psql::to(server.fact("dsn"))?;
    psql.run("CREATE TABLE peer (LIKE trades);")?;
    psql.run("ALTER TABLE peer DEDUP ENABLE UPSERT KEYS(ts, instrument, seq, tape_id);")?;
    let rows: Vec<Row> = tape.records.iter().filter_map(|record| Row::of(record, &tape)).collect();
    let ours = |round: usize| {
        fresh(server.fact("dsn"), "trades")?;
        let took = tape.deliver(&format!("ours{round}"), &table)?;
        settled(server.fact("dsn"), "trades", ROWS)?;
        Ok(took)
    };
    let theirs = |_: usize| {
        fresh(server.fact("dsn"), "peer")?;
        let mut http = Http::to(server.fact("url"))?;
        let mut buffer = Buffer::new(ProtocolVersion::V3);
        let begun = Instant::now();
        for rows in rows.chunks(BATCH) {
            for row in rows {
                row.put(&mut buffer)?;
            }
            let (status, text) = http.post("/write?precision=n", buffer.as_bytes())?;
            anyhow::ensure!(status == 204, "{status} {text}");
            buffer.clear();
        }
        let took = begun.elapsed();
        settled(server.fact("dsn"), "peer", ROWS)?;
        Ok(took)
    };
    let sides: &mut [(&str, Run<'_>)] = &mut [("tapedeck", Box::new(ours)), ("questdb-rs 7.2.1", Box::new(theirs))];
    rounds("tape -> QuestDB", ROWS, sides)
}

/// What the peer is given.
struct Row {
    symbols: [String; 6],
    seq: i64,
    ts_event: i64,
    ts_recv: i64,
    price: String,
    size: String,
    id: String,
}

impl Row {
    fn of(Record { seq, event }: &Record, tape: &Tape) -> Option<Row> {
        let Body::Trade(trade) = &event.body else { return None };
        let symbols = [
            format!("{}:{}", event.venue, event.symbol),
            tape.id.to_string(),
            event.source.to_string(),
            event.venue.to_string(),
            event.symbol.to_string(),
            trade.side.map_or("", Side::name).to_owned(),
        ];
        Some(Row {
            symbols,
            seq: i64::try_from(*seq).ok()?,
            ts_event: event.ts_event?.0,
            ts_recv: event.ts_recv.0,
            price: trade.price.to_string(),
            size: trade.size.to_string(),
            id: trade.id.as_deref()?.to_owned(),
        })
    }

    fn put(&self, buffer: &mut Buffer) -> anyhow::Result<()> {
        let column = ColumnName::new_unchecked;
        buffer.table(TableName::new_unchecked("peer"))?;
        for (name, value) in SYMBOLS.iter().zip(&self.symbols) {
            buffer.symbol(column(name), value)?;
        }
        buffer.column_i64(column("seq"), self.seq)?;
        buffer.column_ts(column("ts_event"), TimestampNanos::new(self.ts_event))?;
        buffer.column_ts(column("ts_recv"), TimestampNanos::new(self.ts_recv))?;
        buffer.column_i64(column("flags"), 0)?;
        buffer.column_dec(column("price"), self.price.as_str())?;
        buffer.column_dec(column("size"), self.size.as_str())?;
        buffer.column_str(column("id"), &self.id)?;
        Ok(buffer.at(TimestampNanos::new(self.ts_event))?)
    }
}

fn fresh(dsn: &str, table: &str) -> anyhow::Result<()> {
    Psql::to(dsn)?.run(&format!("TRUNCATE TABLE {table};"))?;
    settled(dsn, table, 0)
}

/// What was confirmed is applied later, by the server's own jobs: they must not fall into the other's time.
fn settled(dsn: &str, table: &str, rows: u64) -> anyhow::Result<()> {
    let mut psql = Psql::to(dsn)?;
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let count = psql.value(&format!("SELECT count() FROM {table};"))?;
        if count == rows.to_string() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < patience, "{table} has {count} rows and not {rows}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
