//! The comparison of a real tape with a store in memory: what it finds is the same in one window and in many.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use tapedeck_market::{Body, Event, Flags, Trade, Value};
use tapedeck_tape::{Allocation, Entry, Log, Options};

use super::super::{Amount, Cell, Second, Series, minute_of};
use super::*;
use crate::sinks::Batch;

const HOUR_NS: i64 = 3_600_000_000_000;
/// 2023-11-14 22:00 UTC.
const BEGIN: i64 = 1_699_999_200_000_000_000;
const HOURS: i64 = 60;
/// A record each two minutes.
const RECORDS: i64 = HOURS * 30;

/// Rows by record, and how often it was asked what.
#[derive(Default)]
struct Store {
    rows: Vec<Row>,
    expected: u64,
    totals: u64,
    asked: u64,
    /// Rows that it gave.
    given: usize,
}

fn row_of(record: &Record) -> Row {
    let Body::Trade(trade) = &record.event.body else { unreachable!("only trades are recorded") };
    let fields: BTreeMap<SmolStr, Value> = [("price".into(), Value::Decimal(trade.price.0))].into();
    let series = Series { table: "trades".into(), tags: vec![("symbol".into(), record.event.symbol.clone())] };
    let (time, seq) = (record.event.ts_event.unwrap_or(record.event.ts_recv).0, Some(record.seq));
    let amount = Amount::of(seq, &fields);
    Row { series, time, apart: record.seq, seq, fields, amount, second: Second::Collides }
}

#[async_trait]
impl Audit for Store {
    fn expect(&mut self, _: Uuid, record: &Record, rows: &mut Vec<Row>) {
        self.expected += 1;
        rows.push(row_of(record));
    }

    async fn totals(&mut self, _: Uuid, table: &str, minutes: Range<i64>) -> Result<Vec<(Cell, Amount)>, SinkError> {
        self.totals += 1;
        let within = |row: &&Row| row.series.table == table && minutes.contains(&minute_of(row.time));
        Ok(self.rows.iter().filter(within).map(|row| (row.cell(), row.amount)).collect())
    }

    async fn rows(
        &mut self,
        _: Uuid,
        table: &str,
        tags: &[(SmolStr, SmolStr)],
        times: Range<i64>,
    ) -> Result<Vec<Row>, SinkError> {
        self.asked += 1;
        let has = |row: &&Row| tags.iter().all(|tag| row.series.tags.contains(tag));
        let wanted = |row: &&Row| row.series.table == table && has(row) && times.contains(&row.time);
        let found: Vec<Row> = self.rows.iter().filter(wanted).cloned().collect();
        self.given += found.len();
        Ok(found)
    }
}

#[async_trait]
impl Sink for Store {
    async fn open(&mut self, _: Uuid) -> Result<Opened, SinkError> {
        Ok(Opened::NoMark)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        for record in batch.records {
            let row = row_of(record);
            self.rows.retain(|held| held.apart != row.apart || held.time != row.time);
            self.rows.push(row);
        }
        Ok(())
    }

    async fn check(&mut self) -> anyhow::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn audit(&mut self) -> Option<&mut dyn Audit> {
        Some(self)
    }
}

/// A tape of many hours, of which some records bear a time of hours before.
fn tape(dir: &Path) -> Vec<Record> {
    recorded(dir, |n| {
        let late = if n % 97 == 0 { 5 * HOUR_NS } else { 0 };
        (["A", "B", "C"][(n % 3) as usize].to_owned(), BEGIN + n * HOUR_NS / 30, late)
    })
}

/// Of each record its symbol, when it was received, and by how much the venue's time is before that.
fn recorded(dir: &Path, of: impl Fn(i64) -> (String, i64, i64)) -> Vec<Record> {
    let options = Options { allocation: Allocation::None, ..Options::default() };
    let (mut log, _) = Log::open(Arc::new(Disk), dir, options).unwrap();
    let records: Vec<Record> = (0..RECORDS)
        .map(|n| {
            let (symbol, ts_recv, late) = of(n);
            let ts_recv = UnixNanos(ts_recv);
            let price = (n + 1).to_string().parse().unwrap();
            let event = Event {
                source: "s".into(),
                venue: "v".into(),
                symbol: symbol.into(),
                ts_event: Some(UnixNanos(ts_recv.0 - late)),
                ts_recv,
                flags: Flags::NONE,
                origin: None,
                body: Body::Trade(Trade { price, size: "1".parse().unwrap(), side: None, id: None }),
            };
            Record { seq: n.unsigned_abs() + 1, event }
        })
        .collect();
    for record in &records {
        let mut payload = Vec::new();
        wire::encode(&record.event, &mut payload);
        log.append(&[Entry { ts_recv: record.event.ts_recv.0, payload: &payload }], &mut Vec::new).unwrap();
    }
    log.commit().unwrap();
    records
}

/// A store that lost some rows, changed some, and has one twice.
fn damaged(records: &[Record]) -> Store {
    let mut rows: Vec<Row> = records.iter().filter(|record| record.seq % 400 != 7).map(row_of).collect();
    for row in rows.iter_mut().filter(|row| row.apart % 500 == 3) {
        row.fields.insert("price".into(), Value::Float(0.5));
        row.amount = Amount::of(row.seq, &row.fields);
    }
    let mut again = rows[1_000].clone();
    // A minute in which there is nothing of that symbol, in an hour in which there is.
    again.time += 60_000_000_000;
    rows.push(again);
    Store { rows, ..Store::default() }
}

async fn compared(dir: &Path, store: &mut Store, cells: usize, repair: bool, every_row: bool) -> Outcome {
    let mut stretch = Stretch { every_row, cells, ..stretch(dir) };
    let mark: Option<&[u8]> = if repair { Some(&[]) } else { None };
    let mut found = pass(&mut stretch, store, mark, &mut |_| {}).await.unwrap();
    found.differences.sort_by_key(|one| (one.seq, one.time));
    found
}

/// The whole of a tape.
fn stretch(dir: &Path) -> Stretch {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    Stretch {
        dir: dir.to_owned(),
        tape: tapedeck_tape::tools::id(&storage, dir).unwrap(),
        delivery: Delivery::default(),
        delivered: Delivered::up_to(RECORDS.unsigned_abs()),
        books: None,
        dead: BTreeSet::new(),
        start: Start::Begin,
        from: None,
        to: None,
        seqs: 0..=0,
        left_out: Vec::new(),
        every_row: false,
        only_these: false,
        cells: CELLS,
    }
}

/// A busy deck's last seconds, of minutes and hours that hold very much more.
#[tokio::test]
async fn of_a_few_records_no_more_is_asked_for_than_their_seconds() {
    let home = tempfile::tempdir().unwrap();
    let records = tape(home.path());
    let mut store = Store { rows: records.iter().map(row_of).collect(), ..Store::default() };
    // A hundred more in each minute, of records that are not asked about.
    for row in store.rows.clone() {
        store.rows.extend((1..=100).map(|n| Row {
            time: row.time + n * 500_000_000,
            seq: None,
            apart: (n as u64) << 40,
            ..row.clone()
        }));
    }
    let last = records.len() - 10;
    let from = Some(records[last].event.ts_recv);
    let mut only = Stretch { from, only_these: true, ..stretch(home.path()) };
    let found = pass(&mut only, &mut store, None, &mut |_| {}).await.unwrap();
    assert!(found.is_clean() && found.rows == 10, "{found:?}");
    assert!(store.totals == 0 && store.given <= 2 * 10, "{} sums, {} rows", store.totals, store.given);
    store.rows.retain(|row| row.seq != Some(records[last + 3].seq));
    let found = pass(&mut only, &mut store, None, &mut |_| {}).await.unwrap();
    assert_eq!((found.missing, found.different, found.extra), (1, 0, 0), "{found:?}");
}

/// Five venues have more series than a store could be asked about one by one.
#[tokio::test]
async fn of_few_records_of_very_many_series_a_store_is_asked_by_seconds_and_not_by_series() {
    let home = tempfile::tempdir().unwrap();
    // 600 symbols in two seconds, on both sides of a minute; each hundredth is of the minute before.
    let records = recorded(home.path(), |n| {
        let late = if n % 100 == 0 { 60_000_000_000 } else { 0 };
        (format!("S{}", n % 600), BEGIN + 59_000_000_000 + n * 2_000_000_000 / RECORDS, late)
    });
    let mut store = Store { rows: records.iter().map(row_of).collect(), ..Store::default() };
    let mut only = Stretch { only_these: true, ..stretch(home.path()) };
    let found = pass(&mut only, &mut store, None, &mut |_| {}).await.unwrap();
    assert!(found.is_clean() && found.rows == RECORDS.unsigned_abs(), "{found:?}");
    // Both runs of seconds, once for each few hundred cells that were read whole.
    assert!(store.asked <= 8, "{} questions, {} rows", store.asked, store.given);
    let lost = store.rows.iter().position(|row| row.seq == Some(700)).unwrap();
    let mut moved = store.rows.remove(lost);
    moved.time += 1_000_000;
    store.rows.push(moved);
    let found = pass(&mut only, &mut store, None, &mut |_| {}).await.unwrap();
    assert_eq!((found.missing, found.different, found.extra), (1, 0, 1), "{found:?}");
}

/// Each source reads the clock for itself, and then waits for its turn.
#[tokio::test]
async fn what_was_received_before_and_written_after_is_neither_expected_nor_too_much() {
    let home = tempfile::tempdir().unwrap();
    // A record each millisecond, of two symbols; each fifth was received three before its place on the tape.
    let records = recorded(home.path(), |n| {
        let turn = if n % 5 == 0 { 3 } else { 0 };
        (["A", "B"][(n % 2) as usize].to_owned(), BEGIN + (n - turn) * 1_000_000, 0)
    });
    let mut store = Store { rows: records.iter().map(row_of).collect(), ..Store::default() };
    let part =
        |from: i64, to: i64| (Some(UnixNanos(BEGIN + from * 1_000_000)), Some(UnixNanos(BEGIN + to * 1_000_000)));
    for (begin, only_these) in [(98, true), (98, false), (99, true), (102, false)] {
        let (from, to) = part(begin, 300 + begin);
        let mut some = Stretch { from, to, only_these, every_row: true, ..stretch(home.path()) };
        let found = pass(&mut some, &mut store, None, &mut |_| {}).await.unwrap();
        assert!(found.is_clean() && found.rows == 300, "{begin}, {only_these}: {found:?}");
        assert!(!some.left_out.is_empty(), "nothing lies between them");
    }
    // And what is too much is found all the same.
    let lost = store.rows.iter().position(|row| row.seq == Some(200)).unwrap();
    store.rows[lost].time += 500;
    let (from, to) = part(99, 399);
    let mut some = Stretch { from, to, only_these: true, ..stretch(home.path()) };
    let found = pass(&mut some, &mut store, None, &mut |_| {}).await.unwrap();
    assert_eq!((found.missing, found.different, found.extra), (1, 0, 1), "{found:?}");
}

#[tokio::test]
async fn a_comparison_in_many_windows_finds_what_one_finds_and_reads_the_tape_few_times() {
    let home = tempfile::tempdir().unwrap();
    let records = tape(home.path());
    let (mut one, mut many) = (damaged(&records), damaged(&records));
    let whole = compared(home.path(), &mut one, usize::MAX, false, false).await;
    // 30 of an hour: some three hours at once.
    let windows = compared(home.path(), &mut many, 100, false, false).await;
    assert_eq!(windows, whole);
    assert_eq!((whole.missing, whole.different, whole.extra), (5, 4, 1), "{whole:?}");
    // 17 late ones share the minute of another.
    assert_eq!((whole.rows, whole.sums), (RECORDS.unsigned_abs(), RECORDS.unsigned_abs() - 17));
    assert_eq!(many.totals, one.totals, "each hour is asked for once");
    // Once for the places of all, once for the sums, and where something differs; late ones make stretches overlap.
    let (count, once) = (RECORDS.unsigned_abs(), one.expected);
    assert!((count..=2 * count).contains(&once), "{once} for {count}");
    assert!(many.expected <= 8 * count, "{} for {count} records", many.expected);
}

#[tokio::test]
async fn what_differs_in_any_window_is_delivered_again() {
    let home = tempfile::tempdir().unwrap();
    let records = tape(home.path());
    let mut store = Store::default();
    let lost = compared(home.path(), &mut store, 100, true, false).await;
    assert_eq!((lost.missing, lost.repaired), (RECORDS.unsigned_abs(), RECORDS.unsigned_abs()));
    assert_eq!(store.rows.len(), records.len());
    assert!(compared(home.path(), &mut store, 100, false, false).await.is_clean());
}

#[tokio::test]
async fn a_value_that_no_sum_tells_is_found_where_every_row_is_compared() {
    let home = tempfile::tempdir().unwrap();
    let records = tape(home.path());
    let mut store = Store { rows: records.iter().map(row_of).collect(), ..Store::default() };
    // The sum stays as it was, as it would for a text.
    store.rows[900].fields.insert("price".into(), Value::Float(0.5));
    assert!(compared(home.path(), &mut store, 100, false, false).await.is_clean());
    let found = compared(home.path(), &mut store, 100, false, true).await;
    assert_eq!((found.different, found.differences[0].seq), (1, Some(901)), "{found:?}");
}

#[tokio::test]
async fn what_the_store_alone_knows_and_nobody_looked_into_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let records = tape(home.path());
    let mut store = Store { rows: records.iter().map(row_of).collect(), ..Store::default() };
    for n in 0..1_500_u64 {
        let mut stranger = store.rows[(n % 1_000) as usize].clone();
        stranger.series.tags[0].1 = format!("other{n}").into();
        (stranger.seq, stranger.apart) = (None, 1_000_000 + n);
        store.rows.push(stranger);
    }
    let found = compared(home.path(), &mut store, 100, false, false).await;
    assert_eq!((found.is_clean(), found.foreign, found.unlooked), (true, 1_000, 500), "{found:?}");
}
