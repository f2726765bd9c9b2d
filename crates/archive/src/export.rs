//! A selection of the tape as one file.
//!
//! One table a file, in the order of the tape. The file appears whole, under its name, when it is complete.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::csv::WriterBuilder;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, Schema, TimestampNanosecondType,
};
use parquet::arrow::ArrowWriter;
use tapedeck_market::{Event, Record, Uuid, wire};
use tapedeck_tape::storage::Storage;
use tapedeck_tape::{Item, Reader, Start, tools};

use crate::error::Error;
use crate::exact::sum_of;
use crate::file::properties;
use crate::rows::Rows;
use crate::table::Table;

/// Rows that are written at a time.
const BATCH_ROWS: usize = 8192;
/// Records are received in order, but for steps of the clock: reading ends when they are later than asked by more than this.
const CLOCK_STEP_NS: i64 = 86_400_000_000_000;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Parquet,
    /// With a header; lists are JSON texts.
    Csv,
    /// A JSON object a line: decimals as texts, times in nanoseconds, what is NULL is absent.
    Json,
}

impl Format {
    pub const NAMES: [(Format, &'static str); 3] =
        [(Format::Parquet, "parquet"), (Format::Csv, "csv"), (Format::Json, "json")];
}

/// A word that is not a [`Format`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{text}`: parquet, csv or json")]
pub struct UnknownFormat {
    pub text: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let known = Format::NAMES.into_iter().find(|(_, name)| *name == text);
        known.map(|(format, _)| format).ok_or_else(|| UnknownFormat { text: text.to_owned() })
    }
}

/// Which records are wanted.
pub struct Selection<'a> {
    pub table: Table,
    /// Received at or after this, ns.
    pub from_ns: Option<i64>,
    /// Received before this, ns.
    pub to_ns: Option<i64>,
    pub wants: &'a dyn Fn(&Event) -> bool,
}

impl std::fmt::Debug for Selection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selection").field("table", &self.table).finish_non_exhaustive()
    }
}

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The seq that was read last, of those from `first_seq` to `last_seq`.
    pub seq: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub rows: u64,
    /// Records in holes of the tape: they cannot be read.
    pub missing: u64,
    /// Numbers that went to `exact`.
    pub inexact: u64,
}

/// Writes what is durable now of a selection to `out`, which is replaced. `progress` is called now and then; when it answers
/// `false`, the export ends and leaves nothing behind.
///
/// # Errors
/// [`Error::Tape`], [`Error::Io`], [`Error::Parquet`]; [`Error::Stopped`] when `progress` asked for it.
pub fn export(
    storage: &Arc<dyn Storage>,
    tape_dir: &Path,
    selection: &Selection<'_>,
    (out, format): (&Path, Format),
    progress: &mut dyn FnMut(&Exported) -> bool,
) -> Result<Exported, Error> {
    let partial = partial_path(out);
    let done = write(storage, tape_dir, selection, (&partial, format), progress);
    let done = done.and_then(|exported| {
        fs::rename(&partial, out).map_err(Error::io("renaming", &partial))?;
        Ok(exported)
    });
    if done.is_err() {
        let _ = fs::remove_file(&partial);
    }
    done
}

fn write(
    storage: &Arc<dyn Storage>,
    tape_dir: &Path,
    selection: &Selection<'_>,
    (path, format): (&Path, Format),
    progress: &mut dyn FnMut(&Exported) -> bool,
) -> Result<Exported, Error> {
    let tape_id = tools::id(storage, tape_dir)?;
    let start = selection.from_ns.map_or(Start::Begin, Start::Time);
    let mut reader = Reader::open(Arc::clone(storage), tape_dir, start)?;
    let mut exported =
        Exported { first_seq: reader.seq(), last_seq: reader.durable_seq(), seq: reader.seq(), ..Exported::default() };
    let mut rows = Rows::new(selection.table, tape_id);
    let mut sink = Sink::create(path, format, selection.table, tape_id)?;
    while exported.seq < exported.last_seq || reader.seq() <= exported.last_seq {
        match reader.next()? {
            None => break,
            Some(Item::Hole(hole)) => {
                exported.seq = hole.to_seq;
                exported.missing += hole.to_seq - hole.from_seq + 1;
            }
            Some(Item::Record(raw)) => {
                exported.seq = raw.seq;
                if raw.seq > exported.last_seq {
                    break;
                }
                if selection.to_ns.is_some_and(|to| raw.ts_recv.saturating_sub(CLOCK_STEP_NS) > to) {
                    break;
                }
                // What cannot be decoded is in the table `raw` only.
                let Ok(event) = wire::decode(raw.payload) else { continue };
                let ts_recv = event.ts_recv.0;
                let in_time = selection.from_ns.is_none_or(|from| ts_recv >= from)
                    && selection.to_ns.is_none_or(|to| ts_recv < to);
                if in_time && Table::of(&event.body) == selection.table && (selection.wants)(&event) {
                    rows.push(&Record { seq: raw.seq, event });
                }
            }
        }
        if rows.len() >= BATCH_ROWS {
            exported.rows += rows.len() as u64;
            sink.put(&rows.finish())?;
        }
        if exported.seq.is_multiple_of(BATCH_ROWS as u64) && !progress(&exported) {
            return Err(Error::Stopped);
        }
    }
    exported.rows += rows.len() as u64;
    sink.put(&rows.finish())?;
    exported.inexact = rows.inexact();
    sink.end()?;
    progress(&exported);
    Ok(exported)
}

/// Where the file grows.
enum Sink {
    Parquet(PathBuf, Box<ArrowWriter<BufWriter<File>>>),
    Csv(PathBuf, Box<arrow::csv::Writer<BufWriter<File>>>),
    Json(PathBuf, BufWriter<File>),
}

impl Sink {
    fn create(path: &Path, format: Format, table: Table, tape_id: Uuid) -> Result<Sink, Error> {
        let file = BufWriter::new(File::create(path).map_err(Error::io("creating", path))?);
        let path_buf = path.to_path_buf();
        Ok(match format {
            Format::Parquet => {
                let mut writer = ArrowWriter::try_new(file, crate::rows::schema(table), Some(properties(table, false)))
                    .map_err(Error::parquet("beginning", path))?;
                writer.append_key_value_metadata(crate::file::tape_metadata(tape_id));
                Sink::Parquet(path_buf, Box::new(writer))
            }
            Format::Csv => Sink::Csv(path_buf, Box::new(WriterBuilder::new().with_header(true).build(file))),
            Format::Json => Sink::Json(path_buf, file),
        })
    }

    fn put(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        match self {
            Sink::Parquet(path, writer) => writer.write(batch).map_err(Error::parquet("writing", path)),
            Sink::Csv(path, writer) => {
                flat(batch).and_then(|batch| writer.write(&batch)).map_err(Error::parquet("writing", path))
            }
            Sink::Json(path, file) => {
                let mut line = String::new();
                for row in 0..batch.num_rows() {
                    line.clear();
                    put_row(batch, row, &mut line);
                    line.push('\n');
                    file.write_all(line.as_bytes()).map_err(Error::io("writing", path))?;
                }
                Ok(())
            }
        }
    }

    fn end(self) -> Result<(), Error> {
        let (path, file) = match self {
            Sink::Parquet(path, writer) => {
                let file = writer.into_inner().map_err(Error::parquet("ending", &path))?;
                (path, file)
            }
            Sink::Csv(path, writer) => (path, writer.into_inner()),
            Sink::Json(path, file) => (path, file),
        };
        let file = file.into_inner().map_err(|error| Error::io("writing", &path)(error.into_error()))?;
        file.sync_all().map_err(Error::io("syncing", &path))
    }
}

/// CSV has no lists: they become JSON texts.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if matches!(field.data_type(), DataType::List(_)) {
            let texts = (0..column.len()).map(|row| {
                let mut text = String::new();
                put_value(column, row, &mut text);
                text
            });
            columns.push(Arc::new(StringArray::from_iter_values(texts)));
            fields.push(Field::new(field.name(), DataType::Utf8, true));
        } else {
            columns.push(Arc::clone(column));
            fields.push(field.as_ref().clone());
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn put_row(batch: &RecordBatch, row: usize, out: &mut String) {
    out.push('{');
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if column.is_valid(row) {
            if out.len() > 1 {
                out.push(',');
            }
            put_text(field.name(), out);
            out.push(':');
            put_value(column, row, out);
        }
    }
    out.push('}');
}

/// A value as JSON. Types that no table has are null.
fn put_value(column: &ArrayRef, row: usize, out: &mut String) {
    if column.is_null(row) {
        out.push_str("null");
    } else if let Some(numbers) = column.as_primitive_opt::<Decimal128Type>() {
        put_text(&sum_of(numbers.value(row)).to_string(), out);
    } else if let Some(ints) = column.as_primitive_opt::<Int64Type>() {
        out.push_str(&ints.value(row).to_string());
    } else if let Some(times) = column.as_primitive_opt::<TimestampNanosecondType>() {
        out.push_str(&times.value(row).to_string());
    } else if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
        out.push_str(&serde_json::to_string(&floats.value(row)).unwrap_or_default());
    } else if let Some(flags) = column.as_boolean_opt() {
        out.push_str(if flags.value(row) { "true" } else { "false" });
    } else if let Some(texts) = column.as_string_opt::<i32>() {
        put_text(texts.value(row), out);
    } else if let Some(words) = column.as_dictionary_opt::<Int32Type>() {
        let key = usize::try_from(words.keys().value(row)).unwrap_or_default();
        put_value(words.values(), key, out);
    } else if let Some(frames) = column.as_binary_opt::<i32>() {
        let hex: String = frames.value(row).iter().map(|byte| format!("{byte:02x}")).collect();
        put_text(&hex, out);
    } else if let Some(list) = column.as_list_opt::<i32>() {
        put_list(&list.value(row), out);
    } else {
        out.push_str("null");
    }
}

fn put_list(items: &ArrayRef, out: &mut String) {
    out.push('[');
    for row in 0..items.len() {
        if row > 0 {
            out.push(',');
        }
        match items.as_struct_opt() {
            None => put_value(items, row, out),
            Some(of) => {
                out.push('{');
                for (nth, (name, column)) in of.column_names().into_iter().zip(of.columns()).enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    put_text(name, out);
                    out.push(':');
                    put_value(column, row, out);
                }
                out.push('}');
            }
        }
    }
    out.push(']');
}

fn put_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn partial_path(out: &Path) -> PathBuf {
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    out.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}
