//! Records become rows, and rows records.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use tapedeck_archive::{Rows, Table, batch, records, schema, to_parquet};
use tapedeck_market::strategy::event;
use tapedeck_market::*;

const TAPE: Uuid = Uuid::from_u128(7);

/// An event as the tape can have it: what is not text was read from it, so that enums are known.
fn numbered(events: Vec<Event>) -> Vec<Record> {
    events.into_iter().zip(1..).map(|(event, seq)| Record { seq, event }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_event_is_in_one_table_and_comes_back_from_its_file(events in proptest::collection::vec(event(), 1..30)) {
        let all = numbered(events);
        let mut back: Vec<Record> = Table::ALL.into_iter().flat_map(|table| through_a_file(table, &all)).collect();
        back.sort_by_key(|record| record.seq);
        prop_assert_eq!(back.len(), all.len());
        for (found, given) in back.iter().zip(&all) {
            prop_assert_eq!(by_value(found), by_value(given));
        }
    }
}

fn through_a_file(table: Table, all: &[Record]) -> Vec<Record> {
    let rows = batch(table, TAPE, all);
    assert_eq!(
        records(table, &rows).unwrap().iter().map(by_value).collect::<Vec<_>>(),
        all.iter().filter(|record| Table::of(&record.event.body) == table).map(by_value).collect::<Vec<_>>(),
        "not even a file is needed"
    );
    let file = Bytes::from(to_parquet(table, &[rows], TAPE, (1, all.len() as u64)).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.flat_map(|batch| records(table, &batch.unwrap()).unwrap()).collect()
}

/// Totals are equal by digits: trailing zeros, which a column does not keep, are cut.
fn by_value(record: &Record) -> Record {
    let mut record = record.clone();
    if let Body::Candle(candle) = &mut record.event.body
        && let Some(sum) = &mut candle.volume
    {
        while sum.scale > 0 && sum.mantissa % 10 == 0 {
            sum.mantissa /= 10;
            sum.scale -= 1;
        }
    }
    record
}

fn at(symbol: &str, body: Body) -> Event {
    Event {
        source: "kraken-spot".into(),
        venue: "kraken".into(),
        symbol: symbol.into(),
        ts_event: Some(UnixNanos(1_784_462_400_123_456_789)),
        ts_recv: UnixNanos(1_784_462_400_223_456_789),
        flags: Flags::NONE,
        origin: None,
        body,
    }
}

fn trade(price: &str, size: &str) -> Event {
    let id = Some("17".into());
    at("BTC/USD", Body::Trade(Trade { price: price.parse().unwrap(), size: size.parse().unwrap(), side: None, id }))
}

#[test]
fn a_number_that_does_not_fit_is_kept_as_text_and_counted() {
    let mut rows = Rows::new(Table::Trades, TAPE);
    for record in numbered(vec![trade("62807.0", "0.1"), trade("0.00000000001", "0.0000000001")]) {
        rows.push(&record);
    }
    assert_eq!(rows.inexact(), 1);
    let batch = rows.finish();
    let price = batch.column_by_name("price").unwrap().as_primitive::<Decimal128Type>();
    assert_eq!(price.value_as_string(0), "62807.0000000000");
    assert!(price.is_null(1), "nothing is rounded");
    let exact = batch.column_by_name("exact").unwrap().as_string::<i32>();
    assert!(exact.is_null(0));
    assert_eq!(exact.value(1), r#"{"price":"0.00000000001"}"#);
    let size = batch.column_by_name("size").unwrap().as_primitive::<Decimal128Type>();
    assert_eq!(size.value_as_string(1), "0.0000000001");
}

#[test]
fn times_have_no_zone_and_names_are_dictionaries() {
    for table in Table::ALL {
        let schema = schema(table);
        let of = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
        assert_eq!(of("seq"), DataType::Int64, "{table}");
        for name in ["ts_event", "ts_recv"] {
            assert_eq!(of(name), DataType::Timestamp(TimeUnit::Nanosecond, None), "{table}");
        }
        for name in ["tape_id", "source", "venue", "symbol"] {
            let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            assert_eq!(of(name), words, "{table} {name}");
        }
    }
}

#[test]
fn a_point_can_be_asked_for_its_fields() {
    let fields = vec![
        ("value".into(), Value::Decimal("1.50".parse().unwrap())),
        ("ok".into(), Value::Bool(true)),
        ("why".into(), Value::Text("a \"b\"".into())),
    ];
    let point = Point { name: "custom".into(), tags: vec![("host".into(), "a".into())], fields };
    let record = Record { seq: 1, event: at("", Body::Point(Box::new(point))) };
    let batch = batch(Table::Points, TAPE, [&record]);
    let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(text("fields"), r#"{"value":1.50,"ok":true,"why":"a \"b\""}"#);
    assert_eq!(text("tags"), r#"{"host":"a"}"#);
    assert_eq!(batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().value(0), 1.5);
    let numbers = batch.column_by_name("field_numbers").unwrap().as_list::<i32>().value(0);
    assert_eq!(numbers.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(1.5), Some(1.0), None]);
}

#[test]
fn a_batch_of_another_table_is_refused() {
    let record = Record { seq: 1, event: trade("1", "1") };
    let trades = batch(Table::Trades, TAPE, [&record]);
    assert!(records(Table::Quotes, &trades).is_err());
    assert_eq!(records(Table::Trades, &trades).unwrap(), [record]);
}
