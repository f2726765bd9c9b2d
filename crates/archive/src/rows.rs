//! Records as rows of Arrow batches, and back.

use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tapedeck_market::{Record, SmolStr, Uuid};
use tapedeck_tables::{Table, columns, json, prototype, row};

use crate::columns::read::Reading;
use crate::columns::schema::data_type;
use crate::columns::write::{Builder, Unfit, Writing};
use crate::error::Error;

/// Version of the schemas, in their metadata. It grows when a column changes its meaning, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// The last column of every table.
pub(crate) const EXACT: &str = "exact";
const EXACT_DOC: &str = "numbers that their columns cannot hold exactly, by column, as JSON; those columns are NULL";

/// The columns of a table. Each field's metadata has a `comment`, and the schema's own has `table`, `comment`, `version`.
#[must_use]
pub fn schema(table: Table) -> SchemaRef {
    static SCHEMAS: [OnceLock<SchemaRef>; Table::COUNT] = [const { OnceLock::new() }; Table::COUNT];
    Arc::clone(SCHEMAS[table.index()].get_or_init(|| Arc::new(make_schema(table))))
}

/// The rows of those records that belong to a table, in their order.
///
/// Reuse a [`Rows`] where there are many batches.
#[must_use]
pub fn batch<'a>(table: Table, tape_id: Uuid, records: impl IntoIterator<Item = &'a Record>) -> RecordBatch {
    let mut rows = Rows::new(table, tape_id);
    for record in records {
        if Table::of(&record.event.body) == table {
            rows.push(record);
        }
    }
    rows.finish()
}

/// The records of a batch that has the columns of [`schema`], in its order. Equal to what was written: decimals by value,
/// since a column has no trailing zeros.
///
/// # Errors
/// [`Error::NotOurs`] when the columns are others.
pub fn records(table: Table, batch: &RecordBatch) -> Result<Vec<Record>, Error> {
    if let Some(field) = misfit(table, batch) {
        return Err(Error::NotOurs { what: format!("a batch of {table} without a column `{field}` as it should be") });
    }
    let prototype = prototype(table);
    let mut reading = Reading::new(batch);
    let mut records = Vec::with_capacity(batch.num_rows());
    for nth in 0..batch.num_rows() {
        reading.start(nth);
        records.push(row(&mut reading, table, "", prototype.seq, &prototype.event));
    }
    Ok(records)
}

/// Builds batches of one table.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    tape_id: SmolStr,
    schema: SchemaRef,
    columns: Vec<Builder>,
    exact: StringBuilder,
    unfit: Unfit,
    len: usize,
    inexact: u64,
}

impl Rows {
    #[must_use]
    pub fn new(table: Table, tape_id: Uuid) -> Rows {
        Rows {
            table,
            tape_id: tape_id.to_string().into(),
            schema: schema(table),
            columns: columns(table).iter().map(|(_, holds)| Builder::new(*holds)).collect(),
            exact: StringBuilder::new(),
            unfit: Unfit::new(),
            len: 0,
            inexact: 0,
        }
    }

    #[must_use]
    pub fn table(&self) -> Table {
        self.table
    }

    /// Appends a record, which must be of this table.
    pub fn push(&mut self, record: &Record) {
        debug_assert_eq!(Table::of(&record.event.body), self.table);
        let mut writing = Writing::new(&mut self.columns, &mut self.unfit);
        row(&mut writing, self.table, &self.tape_id, record.seq, &record.event);
        if self.unfit.is_empty() {
            self.exact.append_null();
        } else {
            self.inexact += self.unfit.len() as u64;
            self.exact.append_value(json::texts(&self.unfit));
            self.unfit.clear();
        }
        self.len += 1;
    }

    /// Rows since the last [`Rows::finish`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers that went to `exact`, ever.
    #[must_use]
    pub fn inexact(&self) -> u64 {
        self.inexact
    }

    /// The rows since the last call.
    #[must_use]
    pub fn finish(&mut self) -> RecordBatch {
        self.len = 0;
        let mut arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Builder::finish).collect();
        arrays.push(Arc::new(self.exact.finish()));
        // The columns were made from the schema and get one value a row each.
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).unwrap_or_else(|error| {
            debug_assert!(false, "{error}");
            RecordBatch::new_empty(Arc::clone(&self.schema))
        })
    }

    /// Forgets the names met so far, which later batches would carry along.
    pub fn forget_words(&mut self) {
        self.columns.iter_mut().for_each(Builder::forget_words);
    }
}

fn make_schema(table: Table) -> Schema {
    let described = |name: &str, data_type, doc: &str| {
        let field = Field::new(name, data_type, true);
        if doc.is_empty() { field } else { field.with_metadata([("comment".to_owned(), doc.to_owned())].into()) }
    };
    let mut fields: Vec<Field> =
        columns(table).into_iter().map(|((name, doc), holds)| described(name, data_type(holds), doc)).collect();
    fields.push(described(EXACT, DataType::Utf8, EXACT_DOC));
    let metadata = [
        ("table".to_owned(), table.name().to_owned()),
        ("comment".to_owned(), table.doc().to_owned()),
        ("version".to_owned(), SCHEMA_VERSION.to_string()),
    ];
    Schema::new_with_metadata(fields, metadata.into())
}

/// The first column that a batch lacks or has otherwise.
fn misfit(table: Table, batch: &RecordBatch) -> Option<String> {
    let (schema, found) = (schema(table), batch.schema());
    let differs = |nth: usize, field: &Field| {
        found
            .fields()
            .get(nth)
            .is_none_or(|found| found.name() != field.name() || found.data_type() != field.data_type())
    };
    let mut fields = schema.fields().iter().enumerate();
    fields.find(|(nth, field)| differs(*nth, field)).map(|(_, field)| field.name().clone())
}
