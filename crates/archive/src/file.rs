//! One Parquet file: rows of one table and one day, sorted, compressed, with statistics.
//!
//! - Rows are sorted by symbol, then by seq (points by name first): one instrument's rows lie together, so that a query for
//!   it skips the rest by the statistics of row groups and pages, and so that prices stand next to prices like them.
//! - seq and the instants are delta-encoded, ids share their prefixes, names are dictionaries; zstd goes over all of it.
//! - The footer's key-value metadata says `tapedeck.symbols` (a JSON list, when they are few), `tapedeck.tape` and
//!   `tapedeck.range` (`from-to`).

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use tapedeck_market::{SmolStr, Uuid};

use crate::disk::Disk;
use crate::error::Error;
use crate::rows::schema;
use tapedeck_tables::Table;

pub(crate) const ROW_GROUP_ROWS: usize = 131_072;
/// Higher levels of zstd cost twice the time for a hundredth of the bytes.
const ZSTD_LEVEL: i32 = 3;
/// More symbols than this are not listed in the footer.
const SYMBOLS_MAX: usize = 256;
const SYMBOLS_KEY: &str = "tapedeck.symbols";
const TAPE_KEY: &str = "tapedeck.tape";
const RANGE_KEY: &str = "tapedeck.range";
/// Where a footer usually ends.
const FOOTER_BYTES: usize = 64 * 1024;
/// Rows that are read at a time.
const READ_ROWS: usize = 32_768;

/// What a footer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub rows: u64,
    pub plain_bytes: u64,
    pub ts_recv: Option<(i64, i64)>,
    pub ts_event: Option<(i64, i64)>,
    pub symbols: Option<Vec<SmolStr>>,
}

/// Rows of a table as the bytes of one of the archive's files; `(from, to)` are the seqs that it covers.
///
/// # Errors
/// [`Error::Parquet`]; none is expected.
pub fn to_parquet(table: Table, batches: &[RecordBatch], tape_id: Uuid, range: (u64, u64)) -> Result<Vec<u8>, Error> {
    let encoded = encode(table, batches, tape_id, range);
    encoded.map(|(bytes, _)| bytes).map_err(Error::parquet("encoding", Path::new(table.name())))
}

/// Rows as a file's bytes.
///
/// # Errors
/// What arrow or parquet say; none is expected.
pub(crate) fn encode(
    table: Table,
    batches: &[RecordBatch],
    tape_id: Uuid,
    (from_seq, to_seq): (u64, u64),
) -> Result<(Vec<u8>, Facts), ParquetError> {
    let rows = sorted(table, batches)?;
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, schema(table), Some(properties(table, true)))?;
    writer.write(&rows)?;
    writer.append_key_value_metadata(tape_metadata(tape_id));
    writer.append_key_value_metadata(say(RANGE_KEY, format!("{from_seq}-{to_seq}")));
    let symbols = symbols(&rows);
    if symbols.len() <= SYMBOLS_MAX {
        let json = serde_json::to_string(&symbols).unwrap_or_default();
        writer.append_key_value_metadata(say(SYMBOLS_KEY, json));
    }
    let metadata = writer.finish()?;
    drop(writer);
    Ok((out, facts(&metadata)))
}

fn say(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value) }
}

/// Says in a footer which tape the rows are of.
pub(crate) fn tape_metadata(tape_id: Uuid) -> KeyValue {
    say(TAPE_KEY, tape_id.to_string())
}

/// What a file's footer says; only that part of the file is read.
pub(crate) fn facts_of(disk: &dyn Disk, path: &Path) -> Result<(Facts, u64), Error> {
    let action = "reading the footer of";
    let mut reader = ParquetMetaDataReader::new();
    let mut len = FOOTER_BYTES;
    loop {
        let (end, whole) = disk.read_end(path, len).map_err(Error::io("reading", path))?;
        match reader.try_parse_sized(&end, whole) {
            Ok(()) => {
                let metadata = reader.finish().map_err(Error::parquet(action, path))?;
                return Ok((facts(&metadata), whole));
            }
            Err(ParquetError::NeedMoreData(needed)) if needed > len && (end.len() as u64) < whole => len = needed,
            Err(error) => return Err(Error::parquet(action, path)(error)),
        }
    }
}

/// A file's rows, with the columns that this version has.
pub(crate) fn decode(table: Table, path: &Path, bytes: Bytes) -> Result<Vec<RecordBatch>, Error> {
    let action = "reading";
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(|builder| builder.with_batch_size(READ_ROWS).build())
        .map_err(Error::parquet(action, path))?;
    let mut batches = Vec::new();
    for batch in reader {
        let batch = batch.map_err(Error::parquet(action, path))?;
        batches.push(aligned(table, &batch).ok_or_else(|| Error::NotOurs {
            what: format!("{} has columns that this version does not know", path.display()),
        })?);
    }
    Ok(batches)
}

/// Gives a batch of an older version the columns that have come since; `None` when it has others than ours.
fn aligned(table: Table, batch: &RecordBatch) -> Option<RecordBatch> {
    let schema = schema(table);
    let known = |name: &str| schema.field_with_name(name).is_ok();
    if !batch.schema().fields().iter().all(|field| known(field.name())) {
        return None;
    }
    let column = |field: &arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => (column.data_type() == field.data_type()).then(|| Arc::clone(column)),
        None => Some(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns: Option<Vec<ArrayRef>> = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(Arc::clone(&schema), columns?).ok()
}

/// All rows as one batch, in the order of a file.
pub(crate) fn sorted(table: Table, batches: &[RecordBatch]) -> Result<RecordBatch, ParquetError> {
    let schema: SchemaRef = schema(table);
    let rows = match batches {
        [one] => one.clone(),
        many => concat_batches(&schema, many)?,
    };
    let first = table.sorted_first_by().map(|name| ranks(&rows, name)).unwrap_or_default();
    let symbol = ranks(&rows, "symbol");
    let seqs = rows.column_by_name("seq").and_then(|seqs| seqs.as_primitive_opt::<Int64Type>());
    let seq = |row: usize| seqs.map_or(0, |seqs: &Int64Array| seqs.value(row));
    let rank = |ranks: &[u32], row: usize| ranks.get(row).copied().unwrap_or_default();
    let mut order: Vec<(u32, u32, i64, u32)> =
        (0..rows.num_rows()).map(|row| (rank(&first, row), rank(&symbol, row), seq(row), row as u32)).collect();
    if order.is_sorted() {
        return Ok(rows);
    }
    order.sort_unstable();
    let order = UInt32Array::from_iter_values(order.into_iter().map(|(.., row)| row));
    Ok(take_record_batch(&rows, &order)?)
}

/// Each row's place among the sorted words of a dictionary column.
fn ranks(rows: &RecordBatch, name: &str) -> Vec<u32> {
    let Some(words) = rows.column_by_name(name).and_then(|words| words.as_dictionary_opt::<Int32Type>()) else {
        return Vec::new();
    };
    let Some(values) = words.values().as_string_opt::<i32>() else { return Vec::new() };
    let mut distinct: Vec<&str> = values.iter().flatten().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let ranks: Vec<u32> = values
        .iter()
        .map(|value| value.map_or(0, |value| distinct.binary_search(&value).map_or(0, |at| at as u32 + 1)))
        .collect();
    words.keys().iter().map(|key| key.and_then(|key| ranks.get(key as usize).copied()).unwrap_or_default()).collect()
}

/// The symbols of sorted rows, in order.
fn symbols(rows: &RecordBatch) -> Vec<SmolStr> {
    let words = rows.column_by_name("symbol").and_then(|words| words.as_dictionary_opt::<Int32Type>());
    let Some(words) = words else { return Vec::new() };
    let Some(values) = words.values().as_string_opt::<i32>() else { return Vec::new() };
    let mut used = vec![false; values.len()];
    for key in words.keys().iter().flatten() {
        used[key as usize] = true;
    }
    let mut symbols: Vec<SmolStr> =
        values.iter().zip(used).filter(|(_, used)| *used).filter_map(|(value, _)| value.map(SmolStr::from)).collect();
    symbols.sort_unstable();
    symbols.dedup();
    symbols
}

/// How files of a table are written; `sorted` when their rows are in the order of [`sorted`].
pub(crate) fn properties(table: Table, sorted: bool) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("tapedeck ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page);
    let schema = schema(table);
    for field in schema.fields() {
        builder = encoded(builder, field.name(), field.data_type());
    }
    if sorted && table.sorted_first_by().is_none() {
        let sorting = |name: &str| {
            let column_idx = schema.index_of(name).ok()? as i32;
            Some(SortingColumn { column_idx, descending: false, nulls_first: false })
        };
        builder = builder.set_sorting_columns(["symbol", "seq"].into_iter().map(sorting).collect());
    }
    builder.build()
}

/// How a column's values are laid out before compression.
fn encoded(builder: WriterPropertiesBuilder, name: &str, data_type: &DataType) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(name);
    let encoding = match (name, data_type) {
        ("seq" | "ts_event" | "ts_recv", _) => Encoding::DELTA_BINARY_PACKED,
        ("id", DataType::Utf8) => Encoding::DELTA_BYTE_ARRAY,
        _ => return builder,
    };
    builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding)
}

fn facts(metadata: &ParquetMetaData) -> Facts {
    let descr = metadata.file_metadata().schema_descr();
    let span = |name: &str| {
        let nth = (0..descr.num_columns()).find(|nth| descr.column(*nth).path().string() == name)?;
        let bounds = metadata.row_groups().iter().filter_map(|group| match group.column(nth).statistics()? {
            Statistics::Int64(stats) => Some((*stats.min_opt()?, *stats.max_opt()?)),
            _ => None,
        });
        bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    };
    let pairs = metadata.file_metadata().key_value_metadata();
    let symbols = pairs.into_iter().flatten().find(|pair| pair.key == SYMBOLS_KEY).and_then(|pair| pair.value.as_ref());
    let symbols: Option<Vec<String>> = symbols.and_then(|json| serde_json::from_str(json).ok());
    Facts {
        rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default(),
        plain_bytes: metadata
            .row_groups()
            .iter()
            .map(|group| u64::try_from(group.total_byte_size()).unwrap_or(0))
            .sum(),
        ts_recv: span("ts_recv"),
        ts_event: span("ts_event"),
        symbols: symbols.map(|symbols| symbols.into_iter().map(SmolStr::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::*;

    use super::*;
    use crate::disk::RealDisk;
    use crate::rows::{batch, records};

    const TAPE: Uuid = Uuid::from_u128(7);

    fn trade(seq: u64, symbol: &str, ns: i64) -> Record {
        let body = Body::Trade(Trade {
            price: "62807.10".parse().unwrap(),
            size: "0.00000001".parse().unwrap(),
            side: Some(Side::Buy),
            id: Some(seq.to_string().into()),
        });
        let event = Event {
            source: "kraken-spot".into(),
            venue: "kraken".into(),
            symbol: symbol.into(),
            ts_event: Some(UnixNanos(ns - 5)),
            ts_recv: UnixNanos(ns),
            flags: Flags::NONE,
            origin: None,
            body,
        };
        Record { seq, event }
    }

    #[test]
    fn a_file_is_sorted_says_what_is_in_it_and_gives_it_back() {
        let given = [trade(1, "XBT/EUR", 70), trade(2, "ADA/USD", 90), trade(3, "XBT/EUR", 80)];
        let batches = [batch(Table::Trades, TAPE, &given[..2]), batch(Table::Trades, TAPE, &given[2..])];
        let (bytes, facts) = encode(Table::Trades, &batches, TAPE, (1, 3)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, &bytes).unwrap();
        let (path, bytes) = (path.as_path(), Bytes::from(bytes));
        assert_eq!(facts_of(&RealDisk, path).unwrap(), (facts.clone(), bytes.len() as u64));
        assert_eq!((facts.rows, facts.ts_recv, facts.ts_event), (3, Some((70, 90)), Some((65, 85))));
        assert_eq!(facts.symbols, Some(vec!["ADA/USD".into(), "XBT/EUR".into()]));
        let read = decode(Table::Trades, path, bytes).unwrap();
        let read: Vec<Record> = read.iter().flat_map(|batch| records(Table::Trades, batch).unwrap()).collect();
        assert_eq!(read, [given[1].clone(), given[0].clone(), given[2].clone()]);
    }

    #[test]
    fn a_file_of_before_a_column_was_added_is_still_read() {
        let batch = batch(Table::Trades, TAPE, &[trade(1, "A", 1)]);
        let older: Vec<usize> =
            (0..batch.num_columns()).filter(|nth| batch.schema().field(*nth).name() != "id").collect();
        let older = batch.project(&older).unwrap();
        let read = aligned(Table::Trades, &older).unwrap();
        let read = records(Table::Trades, &read).unwrap();
        assert!(matches!(&read[0].event.body, Body::Trade(trade) if trade.id.is_none()));
        assert!(aligned(Table::Quotes, &batch).is_none(), "unknown columns are not dropped");
    }

    #[test]
    fn a_footer_longer_than_the_first_reading_is_read_whole() {
        let symbols = (0..250).map(|nth| trade(nth + 1, &format!("{nth:->700}"), 1));
        let rows = batch(Table::Trades, TAPE, &symbols.collect::<Vec<_>>());
        let (bytes, facts) = encode(Table::Trades, &[rows], TAPE, (1, 250)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(facts_of(&RealDisk, &path).unwrap().0, facts);
        assert_eq!(facts.symbols.map(|symbols| symbols.len()), Some(250));
    }

    #[test]
    fn damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for damaged in [&b""[..], b"PAR1", b"PAR1 no PAR1", b"\xff\xff\xff\x7fPAR1", b"PAR1\xff\xff\xff\xffPAR1"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(facts_of(&RealDisk, &path).is_err(), "{damaged:?}");
        }
        assert!(decode(Table::Trades, Path::new("x"), Bytes::new()).is_err());
    }
}
