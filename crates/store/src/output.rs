//! Rows for people and for files: a table, CSV, JSON lines, Arrow, Parquet.

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use arrow::json;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Rows that a table shows: it must know all of them before it can print the first.
const TABLE_ROWS: usize = 10_000;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Csv,
    Json,
    Arrow,
    Parquet,
}

impl Format {
    pub const NAMES: [(Format, &'static str); 5] = [
        (Format::Table, "table"),
        (Format::Csv, "csv"),
        (Format::Json, "json"),
        (Format::Arrow, "arrow"),
        (Format::Parquet, "parquet"),
    ];

    /// Whether a terminal can show it.
    #[must_use]
    pub fn is_text(self) -> bool {
        !matches!(self, Format::Arrow | Format::Parquet)
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let known = Format::NAMES.iter().find(|(_, known)| *known == name).map(|(format, _)| *format);
        known.ok_or_else(|| format!("there is no format `{name}`; there are: table, csv, json, arrow, parquet"))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Format::NAMES.iter().find(|(format, _)| format == self).map_or("", |(_, name)| name))
    }
}

/// Writes batches in one format. Must be finished.
#[expect(clippy::large_enum_variant, reason = "there is one a query")]
pub enum Writer<W: Write + Send> {
    Table { out: W, schema: SchemaRef, batches: Vec<RecordBatch>, rows: usize, cut: bool },
    Csv(csv::Writer<W>),
    Json(json::LineDelimitedWriter<W>),
    Arrow(StreamWriter<W>),
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl<W: Write + Send> Writer<W> {
    /// # Errors
    /// The columns cannot be written in this format.
    pub fn new(format: Format, out: W, schema: &SchemaRef) -> anyhow::Result<Self> {
        let schema = Arc::clone(schema);
        Ok(match format {
            Format::Table => Writer::Table { out, schema, batches: Vec::new(), rows: 0, cut: false },
            Format::Csv => Writer::Csv(csv::WriterBuilder::new().with_header(true).build(out)),
            Format::Json => Writer::Json(json::WriterBuilder::new().with_explicit_nulls(false).build(out)),
            Format::Arrow => Writer::Arrow(StreamWriter::try_new(out, &schema).context("writing Arrow")?),
            Format::Parquet => {
                let level = ZstdLevel::try_new(3).context("choosing a level of compression")?;
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
                let writer = ArrowWriter::try_new(out, schema, Some(properties)).context("writing Parquet")?;
                Writer::Parquet(Box::new(writer))
            }
        })
    }

    /// # Errors
    /// The output cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Writer::Table { batches, rows, cut, .. } => {
                let room = TABLE_ROWS - *rows;
                *cut |= batch.num_rows() > room;
                let batch = batch.slice(0, batch.num_rows().min(room));
                *rows += batch.num_rows();
                batches.push(batch);
                Ok(())
            }
            Writer::Csv(writer) => writer.write(&flat(batch)?).context("writing CSV"),
            Writer::Json(writer) => writer.write(batch).context("writing JSON"),
            Writer::Arrow(writer) => writer.write(batch).context("writing Arrow"),
            Writer::Parquet(writer) => writer.write(batch).context("writing Parquet"),
        }
    }

    /// Whether further rows would not be shown.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Writer::Table { cut: true, .. })
    }

    /// Writes what is left, and says whether rows were left out.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(self) -> anyhow::Result<bool> {
        match self {
            Writer::Table { mut out, mut batches, cut, schema, .. } => {
                if batches.is_empty() {
                    batches.push(RecordBatch::new_empty(schema));
                }
                let options = FormatOptions::new().with_null("");
                let table = pretty_format_batches_with_options(&batches, &options).context("laying out the table")?;
                writeln!(out, "{table}").context("writing the table")?;
                return Ok(cut);
            }
            Writer::Csv(writer) => {
                writer.into_inner().flush().context("writing CSV")?;
            }
            Writer::Json(mut writer) => {
                writer.finish().context("writing JSON")?;
                writer.into_inner().flush().context("writing JSON")?;
            }
            Writer::Arrow(mut writer) => writer.finish().context("writing Arrow")?,
            Writer::Parquet(writer) => {
                writer.close().context("writing Parquet")?;
            }
        }
        Ok(false)
    }
}

/// Lists and structs as text: CSV has no place for them.
fn flat(batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    if !batch.schema().fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let options = FormatOptions::new();
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let formatter = ArrayFormatter::try_new(column, &options).context("writing a nested column")?;
        let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string()));
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        columns.push(Arc::new(texts.collect::<StringArray>()) as ArrayRef);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).context("writing a nested column")
}
