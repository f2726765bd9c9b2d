//! PostgreSQL as a sink, against the real server: through the sink itself, and through a deck that is killed.

mod candles;
mod deck;
mod failures;
mod records;

use std::path::Path;

use tapedeck::config::KindTable;
use tapedeck::sinks::postgres::Store;
use tapedeck::sinks::{self, Batch, Opened, Sink, SinkError};
use tapedeck_market::{Body, Event, Flags, Record, Trade, UnixNanos, Uuid};

use crate::servers::{Database, Postgres};

/// 2025-11-21 00:00 UTC.
const DAY: i64 = 1_763_683_200_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;
const TAPE: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);

/// A sink without a pump.
struct Desk {
    table: KindTable,
    sink: Box<dyn Sink>,
    runtime: tokio::runtime::Runtime,
}

impl Desk {
    /// Its table has `more` beside the address.
    fn new(dsn: &str, more: &str) -> Desk {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = format!("dsn = {dsn:?}\n{more}");
        let table = KindTable { name: "pg".into(), kind: "postgres".into(), table: text.parse().unwrap() };
        let (_, sink) = sinks::build(&table, Path::new("/nonexistent")).unwrap_or_else(|error| panic!("{error:#}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Desk { table, sink, runtime }
    }

    fn opened(dsn: &str, more: &str) -> Desk {
        let mut desk = Desk::new(dsn, more);
        desk.open().unwrap();
        desk
    }

    fn open(&mut self) -> Result<Opened, SinkError> {
        self.runtime.block_on(self.sink.open(TAPE))
    }

    fn try_write(&mut self, records: &[Record], mark: &[u8]) -> Result<(), SinkError> {
        self.try_write_but(records, Some(mark), &[])
    }

    /// Of some a part is a dead letter already.
    fn try_write_but(&mut self, records: &[Record], mark: Option<&[u8]>, parted: &[u64]) -> Result<(), SinkError> {
        let parted = parted.iter().copied().collect();
        let batch = Batch { tape: TAPE, records, mark, late: false, parted: &parted };
        self.runtime.block_on(self.sink.write(&batch))
    }

    fn write(&mut self, records: &[Record], mark: &[u8]) {
        self.try_write(records, mark).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    }

    fn tend(&mut self) -> Result<(), SinkError> {
        self.runtime.block_on(self.sink.tend())
    }

    fn check(&mut self) -> Result<Vec<String>, String> {
        self.runtime.block_on(self.sink.check()).map_err(|error| format!("{error:#}"))
    }

    fn ask<T>(&self, ask: impl AsyncFnOnce(Store) -> anyhow::Result<T>) -> T {
        let answer = self.runtime.block_on(async { ask(Store::of(&self.table).await?).await });
        answer.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

fn event(ts_recv: i64, body: Body) -> Event {
    Event {
        source: "test".into(),
        venue: "kraken".into(),
        symbol: "BTC/USD".into(),
        ts_event: Some(UnixNanos(ts_recv - 1_001)),
        ts_recv: UnixNanos(ts_recv),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn trade(seq: u64, ts_recv: i64) -> Record {
    let body = Trade {
        price: tapedeck_market::Price("62807.10".parse().unwrap()),
        size: tapedeck_market::Size("0.00100000".parse().unwrap()),
        side: None,
        id: Some(seq.to_string().into()),
    };
    Record { seq, event: event(ts_recv, Body::Trade(body)) }
}

fn trades(from: u64, count: u64) -> Vec<Record> {
    (from..from + count).map(|seq| trade(seq, DAY + i64::try_from(seq).unwrap() * 1_001)).collect()
}

/// How many trades there are, and how many different ones.
fn counted(server: &Postgres, database: &Database) -> String {
    server.psql(&database.dsn, "SELECT count(*), count(DISTINCT seq) FROM tapedeck.trades")
}
