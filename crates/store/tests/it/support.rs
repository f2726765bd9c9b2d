//! A store that grows under the tests' hands, and servers over it.

use std::collections::BTreeMap;
use std::fs::File as DiskFile;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use parquet::arrow::ArrowWriter;
use tapedeck_archive::{Table as Kind, batch, schema};
use tapedeck_market::{Body, Event, Flags, Record, Side, Trade, UnixNanos, Uuid};
use tapedeck_store::engine::{Engine, Failed};
use tapedeck_store::limits::Limits;
use tapedeck_store::pg::{Options, Server};
use tapedeck_store::snapshot::{File, Snapshot, Source, Table};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

pub(crate) const PASSWORD: &str = "a-password-of-tests";
/// 2026-07-19T12:00:00Z
pub(crate) const NOON: i64 = 1_784_462_400_000_000_000;
const TAPE: Uuid = Uuid::from_u128(7);
const SYMBOLS: [&str; 4] = ["BTC/USD", "ETH/USD", "ADA/USD", "SOL/USD"];

/// The trade with a seq: everything of it follows from the seq. One each 10 ms.
pub(crate) fn trade(seq: u64) -> Record {
    let mut price = 62_000 + seq % 1_000;
    if seq.is_multiple_of(2) {
        price += 7;
    }
    let at = NOON + i64::try_from(seq).unwrap() * 10_000_000;
    let body = Body::Trade(Trade {
        price: format!("{price}.{:02}", seq % 100).parse().unwrap(),
        size: format!("0.{:08}", seq % 99_999_999 + 1).parse().unwrap(),
        side: Some(if seq.is_multiple_of(3) { Side::Sell } else { Side::Buy }),
        id: Some(seq.to_string().into()),
    });
    let event = Event {
        source: "kraken-spot".into(),
        venue: "kraken".into(),
        symbol: SYMBOLS[usize::try_from(seq % 4).unwrap()].into(),
        ts_event: Some(UnixNanos(at - 1_000_001)),
        ts_recv: UnixNanos(at),
        flags: Flags::NONE,
        origin: None,
        body,
    };
    Record { seq, event }
}

/// Trades in files and in a tail, as many as the test says.
#[derive(Debug)]
pub(crate) struct Growing {
    dir: TempDir,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seq: u64,
    files: Vec<File>,
    tail: Vec<RecordBatch>,
}

impl Growing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Growing { dir: tempfile::tempdir().unwrap(), state: Mutex::default() })
    }

    /// With `files` files of `rows` trades each, and as many in the tail.
    pub(crate) fn with(files: u64, rows: u64) -> Arc<Self> {
        let store = Growing::new();
        for _ in 0..files {
            store.grow(rows);
            store.publish();
        }
        store.grow(rows);
        store
    }

    /// New trades arrive.
    pub(crate) fn grow(&self, rows: u64) {
        let mut state = self.state.lock().unwrap();
        let records: Vec<Record> = (state.seq + 1..=state.seq + rows).map(trade).collect();
        state.seq += rows;
        state.tail.push(batch(Kind::Trades, TAPE, &records));
    }

    /// The tail becomes a file, in one step.
    pub(crate) fn publish(&self) {
        let (tail, seq) = {
            let state = self.state.lock().unwrap();
            (state.tail.clone(), state.seq)
        };
        let path = self.dir.path().join(format!("{seq}.parquet"));
        let mut writer = ArrowWriter::try_new(DiskFile::create(&path).unwrap(), schema(Kind::Trades), None).unwrap();
        tail.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
        let mut statistics = Statistics::new_unknown(&schema(Kind::Trades));
        statistics.num_rows = Precision::Exact(tail.iter().map(RecordBatch::num_rows).sum());
        let len_bytes = path.metadata().unwrap().len();
        let symbols = Some(SYMBOLS.map(str::to_owned).into());
        let mut state = self.state.lock().unwrap();
        state.files.push(File { path, len_bytes, statistics: Arc::new(statistics), symbols });
        state.tail.drain(..tail.len());
    }

    pub(crate) fn rows(&self) -> u64 {
        self.state.lock().unwrap().seq
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Source for Growing {
    fn tables(&self) -> Vec<(&'static str, SchemaRef)> {
        Kind::ALL.into_iter().map(|table| (table.name(), schema(table))).collect()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let state = self.state.lock().unwrap();
        let trades = Table { files: Arc::new(state.files.clone()), tail: Arc::new(state.tail.clone()) };
        Arc::new(Snapshot { tables: BTreeMap::from([("trades", trades)]), held: None })
    }
}

/// Threads for the queries of all tests, as the program has them.
fn workers() -> Handle {
    static WORKERS: OnceLock<Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    WORKERS.get_or_init(build).handle().clone()
}

pub(crate) fn engine(source: Arc<dyn Source>, limits: Limits) -> (Arc<Engine>, TempDir) {
    let spill = tempfile::tempdir().unwrap();
    (Arc::new(Engine::new(source, limits, spill.path(), workers()).unwrap()), spill)
}

/// Runs one statement in the engine itself.
pub(crate) async fn ask(engine: &Arc<Engine>, sql: &str) -> Result<Vec<RecordBatch>, Failed> {
    let session = engine.session();
    let plan = session.plan_text(sql).await?;
    session.run(plan, engine.until(CancellationToken::new())).await?.collect().await
}

/// The rows as `a|b;c|d`.
pub(crate) fn shown(batches: &[RecordBatch]) -> String {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let mut rows = Vec::new();
    for batch in batches {
        let options = FormatOptions::new();
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows.join(";")
}

/// A server over a store, until it is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Engine>,
    stop: CancellationToken,
    _spill: TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn serve(source: Arc<dyn Source>, limits: Limits) -> Served {
    let (engine, spill) = engine(source, limits);
    let options = Options { listen: "127.0.0.1:0".parse().unwrap(), certificate: None, insecure: false };
    let server = Server::bind(options, PASSWORD, Arc::clone(&engine)).await.unwrap();
    let address = server.address().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server.run(stop.clone()));
    Served { address, engine, stop, _spill: spill }
}

impl Served {
    pub(crate) fn config(&self, password: &str) -> String {
        let port = self.address.port();
        format!("host=127.0.0.1 port={port} user=tapedeck dbname=tapedeck password={password} connect_timeout=10")
    }

    pub(crate) async fn try_connect(&self, password: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.config(password), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) async fn connect(&self) -> Client {
        self.try_connect(PASSWORD).await.unwrap_or_else(|error| panic!("{error:?}"))
    }
}

/// Waits until something is so.
pub(crate) async fn until<T>(what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = is().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
