//! A tape with records, an archive beside it, and what is in both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tapedeck_archive::disk::{Disk, RealDisk};
use tapedeck_archive::{Archiver, Options, Snapshot, Table, records};
use tapedeck_market::*;
use tapedeck_tape::storage::{Disk as TapeDisk, Storage};
use tapedeck_tape::{Allocation, Entry, Item, Log, Reader, Start};

pub(crate) const NOON: i64 = 1_784_462_400_000_000_000;
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

pub(crate) struct Rig {
    pub dir: tempfile::TempDir,
    pub log: Log,
    pub options: Options,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let log = open_log(&dir.path().join("tape"));
        // Nothing happens by time, and everything is kept, unless a test says so.
        let options = Options {
            range_age: Duration::from_secs(3600),
            publish_every: Duration::ZERO,
            keep: tapedeck_archive::Keep::everything(),
            ..Options::default()
        };
        Rig { dir, log, options }
    }

    pub(crate) fn tape(&self) -> PathBuf {
        self.dir.path().join("tape")
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    pub(crate) fn record(&mut self, events: &[Event]) {
        append(&mut self.log, events);
    }

    pub(crate) fn archiver(&self) -> Archiver {
        self.archiver_on(Arc::new(RealDisk)).unwrap()
    }

    pub(crate) fn archiver_on(&self, disk: Arc<dyn Disk>) -> Result<Archiver, tapedeck_archive::Error> {
        let tail = Some(self.log.tail());
        Archiver::open(&storage(), &self.tape(), tail, disk, &self.archive(), self.options.clone())
    }

    /// Every record of the tape.
    pub(crate) fn on_tape(&self) -> Vec<Record> {
        read_tape(&self.tape())
    }
}

pub(crate) fn storage() -> Arc<dyn Storage> {
    Arc::new(TapeDisk)
}

pub(crate) fn open_log(dir: &Path) -> Log {
    let options =
        tapedeck_tape::Options { segment_bytes: 1 << 20, allocation: Allocation::Inline, ..Default::default() };
    Log::open(storage(), dir, options).unwrap().0
}

pub(crate) fn append(log: &mut Log, events: &[Event]) {
    let payloads: Vec<Vec<u8>> = events
        .iter()
        .map(|event| {
            let mut out = Vec::new();
            wire::encode(event, &mut out);
            out
        })
        .collect();
    let entries: Vec<Entry<'_>> =
        events.iter().zip(&payloads).map(|(event, payload)| Entry { ts_recv: event.ts_recv.0, payload }).collect();
    log.append(&entries, &mut Vec::new).unwrap();
    log.commit().unwrap();
}

pub(crate) fn read_tape(dir: &Path) -> Vec<Record> {
    let mut reader = Reader::open(storage(), dir, Start::Begin).unwrap();
    let mut records = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        let Item::Record(raw) = item else { panic!("a hole: {item:?}") };
        records.push(Record { seq: raw.seq, event: wire::decode(raw.payload).unwrap() });
    }
    records
}

/// The rows of a snapshot, files and tail, in the order of the tape.
pub(crate) fn in_snapshot(snapshot: &Snapshot) -> Vec<Record> {
    let mut found = Vec::new();
    for table in Table::ALL {
        let view = snapshot.table(table);
        for file in view.files.iter() {
            let rows = read_file(table, file.path());
            assert_eq!(rows.len() as u64, file.rows, "{file:?}");
            assert!(rows.iter().all(|row| (file.from_seq..=file.to_seq).contains(&row.seq)), "{file:?}");
            found.extend(rows);
        }
        found.extend(view.tail.iter().flat_map(|batch| records(table, batch).unwrap()));
    }
    found.sort_by_key(|record| record.seq);
    found
}

pub(crate) fn read_file(table: Table, path: &Path) -> Vec<Record> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    batches.iter().flat_map(|batch| records(table, batch).unwrap()).collect()
}

/// What a foreign reader finds: every Parquet file below the tables' folders, as (table, day, name).
pub(crate) fn listing(archive: &Path) -> Vec<(Table, String, String)> {
    let mut found = Vec::new();
    for table in Table::ALL {
        for day in names(&archive.join(table.name())) {
            found.extend(
                names(&archive.join(table.name()).join(&day)).into_iter().map(|name| (table, day.clone(), name)),
            );
        }
    }
    found
}

/// The same files' rows, in the order of the tape.
pub(crate) fn in_folder(archive: &Path) -> Vec<Record> {
    let mut found: Vec<Record> = listing(archive)
        .into_iter()
        .flat_map(|(table, day, name)| read_file(table, &archive.join(table.name()).join(day).join(name)))
        .collect();
    found.sort_by_key(|record| record.seq);
    found
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn event(symbol: &str, ts_recv: i64, body: Body) -> Event {
    Event {
        source: "kraken-spot".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        ts_event: Some(UnixNanos(ts_recv - 1_500_000)),
        ts_recv: UnixNanos(ts_recv),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

pub(crate) fn trade(nth: u64, ts_recv: i64) -> Event {
    let symbol = ["BTC/USD", "ETH/USD", "ADA/EUR"][nth as usize % 3];
    let body = Body::Trade(Trade {
        price: Price(Decimal::new(6_280_700 + nth as i64 % 991, 2).unwrap()),
        size: Size(Decimal::new(1 + nth as i64 * 7919 % 100_000, 8).unwrap()),
        side: Some(if nth.is_multiple_of(2) { Side::Buy } else { Side::Sell }),
        id: Some(nth.to_string().into()),
    });
    event(symbol, ts_recv, body)
}

pub(crate) fn quote(nth: u64, ts_recv: i64) -> Event {
    let bid = Some(Price(Decimal::new(6_280_700 + nth as i64 % 991, 2).unwrap()));
    event("EUR/USD", ts_recv, Body::Quote(Quote { bid, bid_size: None, ask: bid, ask_size: None }))
}

/// Trades and quotes in turn, a millisecond apart.
pub(crate) fn ticks(from: u64, count: u64, start_ns: i64) -> Vec<Event> {
    (from..from + count)
        .map(|nth| {
            let at = start_ns + (nth - from) as i64 * 1_000_000;
            if nth % 4 == 3 { quote(nth, at) } else { trade(nth, at) }
        })
        .collect()
}
