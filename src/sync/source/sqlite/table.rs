//! A table of the file: its columns, and its rows in pages.
//!
//! A statement that stands open keeps others from writing. So rows are found first (their times and numbers), put in order, and
//! then taken one by one; between two of them everybody may write. What has no row numbers (a view, a table `WITHOUT ROWID`) is
//! read in one go.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Statement};
use tapedeck_market::SmolStr;

use super::file::{self, trouble};
use super::values;
use crate::sync::source::missing::no_such_table;
use crate::sync::source::{Span, sums};
use crate::sync::{Column, Row, Schema, Trouble, Type, Value};

/// Rows of a question: some milliseconds, for which a writer waits.
const PAGE: i64 = 4_096;

#[derive(Debug)]
pub(super) struct Table {
    /// Quoted.
    name: String,
    /// What the number of a row is called; none of its columns is.
    number: Option<&'static str>,
    pub schema: Schema,
}

impl Table {
    /// Looks a table up, whatever its case.
    ///
    /// # Errors
    /// There is none of that name, or the file cannot be read.
    pub(super) fn find(db: &Connection, wanted: &str) -> Result<Table, Trouble> {
        let there = file::tables(db)?;
        let Some(name) = there.iter().find(|name| name.eq_ignore_ascii_case(wanted)) else {
            return Err(no_such_table(wanted, &there));
        };
        let mut asked = db.prepare("SELECT name, type, pk FROM pragma_table_info(?1)").map_err(|e| trouble(&e))?;
        let column = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)? > 0));
        let columns = asked.query_map([name], column).map_err(|e| trouble(&e))?;
        let columns: Vec<(String, String, bool)> = columns.collect::<Result<_, _>>().map_err(|e| trouble(&e))?;
        let kinds: Vec<(String, Type)> =
            columns.iter().map(|(name, declared, _)| (name.clone(), values::kind(declared))).collect();
        let time = values::time_column(&kinds);
        let column = |(at, (name, declared, key)): (usize, (String, String, bool))| Column {
            name: SmolStr::from(name),
            kind: if Some(at) == time { Type::Time { nanos: true } } else { values::kind(&declared) },
            native: declared.into(),
            upsert_key: key,
        };
        let schema = Schema { columns: columns.into_iter().enumerate().map(column).collect(), time };
        let name = quoted(name);
        let free = |number: &&&str| !schema.columns.iter().any(|column| column.name.eq_ignore_ascii_case(number));
        let number = ["rowid", "_rowid_", "oid"].iter().find(free).copied();
        let number = number.filter(|number| db.prepare(&format!("SELECT {number} FROM {name} LIMIT 0")).is_ok());
        Ok(Table { name, number, schema })
    }

    /// With the columns that a caller knows.
    pub(super) fn with(self, schema: Schema) -> Table {
        Table { schema, ..self }
    }

    /// Time of the newest row.
    ///
    /// # Errors
    /// As of [`Table::find`].
    pub(super) fn newest(&self, db: &Connection) -> Result<Option<i64>, Trouble> {
        let mut newest = None;
        self.times(db, |_, time_ns| newest = newest.max(time_ns))?;
        Ok(newest)
    }

    /// Hands on time and digest of every row.
    ///
    /// # Errors
    /// As of [`Table::find`].
    pub(super) fn each(&self, db: &Connection, mut take: impl FnMut(Option<i64>, u64)) -> Result<(), Trouble> {
        let time = self.schema.time;
        let mut bytes = Vec::new();
        self.scan(db, &self.list(), &mut |row, first| {
            bytes.clear();
            for at in 0..self.schema.columns.len() {
                write(row.get_ref(first + at)?, &mut bytes);
            }
            let time_ns = time.and_then(|at| values::time_ns(row.get_ref(first + at).ok()?));
            take(time_ns, sums::digest(std::iter::once(Some(bytes.as_slice()))));
            Ok(true)
        })
    }

    /// Hands on number and time of every row.
    ///
    /// # Errors
    /// As of [`Table::find`].
    pub(super) fn times(&self, db: &Connection, mut take: impl FnMut(i64, Option<i64>)) -> Result<(), Trouble> {
        let time = self.schema.time.and_then(|at| self.schema.columns.get(at));
        let list = time.map_or_else(|| "NULL".to_owned(), |column| quoted(&column.name));
        self.scan(db, &list, &mut |row, first| {
            let number = if first > 0 { row.get(0)? } else { 0 };
            take(number, values::time_ns(row.get_ref(first)?));
            Ok(true)
        })
    }

    /// Hands on rows of a stretch, in order of time, until that is enough for the taker.
    ///
    /// # Errors
    /// As of [`Table::find`].
    pub(super) fn rows(
        &self,
        db: &Connection,
        span: Span,
        limit: u64,
        mut take: impl FnMut(Row) -> bool,
    ) -> Result<(), Trouble> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let Some(number) = self.number else { return self.rows_at_once(db, span, limit, take) };
        let mut found: Vec<(Option<i64>, i64)> = Vec::new();
        self.times(db, |number, time_ns| {
            if within(span, time_ns) {
                found.push((time_ns, number));
            }
        })?;
        found.sort_unstable();
        let sql = format!("SELECT {} FROM {} WHERE {number} = ?1", self.list(), self.name);
        let mut asked = db.prepare(&sql).map_err(|e| trouble(&e))?;
        for (_, number) in found.into_iter().take(limit) {
            let row = asked.query_row([number], |row| self.values(row, 0)).optional();
            // One that is gone meanwhile is news of the next look.
            if let Some(row) = row.map_err(|e| trouble(&e))?
                && !take(row)
            {
                break;
            }
        }
        Ok(())
    }

    fn rows_at_once(
        &self,
        db: &Connection,
        span: Span,
        limit: usize,
        mut take: impl FnMut(Row) -> bool,
    ) -> Result<(), Trouble> {
        let order = self.schema.time.map_or(String::new(), |at| format!(" ORDER BY {}", at + 1));
        let sql = format!("SELECT {} FROM {}{order}", self.list(), self.name);
        let mut asked = db.prepare(&sql).map_err(|e| trouble(&e))?;
        let mut left = limit;
        run(&mut asked, [], &mut |row| {
            let time_ns = self.schema.time.and_then(|at| values::time_ns(row.get_ref(at).ok()?));
            if left > 0 && within(span, time_ns) {
                left -= 1;
                return Ok(take(self.values(row, 0)?));
            }
            Ok(left > 0)
        })
        .map(|_| ())
    }

    fn values(&self, row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Row> {
        let columns = self.schema.columns.iter().enumerate();
        columns.map(|(at, column)| Ok::<Value, _>(values::value(row.get_ref(first + at)?, column.kind))).collect()
    }

    fn list(&self) -> String {
        let names: Vec<String> = self.schema.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    /// Hands on every row, and where its listed columns begin: the number comes first, where there is one.
    fn scan(
        &self,
        db: &Connection,
        list: &str,
        take: &mut impl FnMut(&rusqlite::Row<'_>, usize) -> rusqlite::Result<bool>,
    ) -> Result<(), Trouble> {
        let Some(number) = self.number else {
            let mut asked = db.prepare(&format!("SELECT {list} FROM {}", self.name)).map_err(|e| trouble(&e))?;
            return run(&mut asked, [], &mut |row| take(row, 0)).map(|_| ());
        };
        let (name, mut last) = (&self.name, None);
        loop {
            let after = last.map_or(String::new(), |last: i64| format!(" WHERE {number} > {last}"));
            let sql = format!("SELECT {number}, {list} FROM {name}{after} ORDER BY {number} LIMIT {PAGE}");
            let mut asked = db.prepare(&sql).map_err(|e| trouble(&e))?;
            let rows = run(&mut asked, [], &mut |row| {
                last = Some(row.get(0)?);
                take(row, 1)
            })?;
            if rows < PAGE {
                return Ok(());
            }
        }
    }
}

/// Hands on the rows of a statement until that is enough; how many there were.
fn run(
    asked: &mut Statement<'_>,
    params: impl rusqlite::Params,
    take: &mut impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<bool>,
) -> Result<i64, Trouble> {
    let mut rows = asked.query(params).map_err(|e| trouble(&e))?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(|e| trouble(&e))? {
        count += 1;
        if !take(row).map_err(|e| trouble(&e))? {
            break;
        }
    }
    Ok(count)
}

/// Whether a row lies in a stretch; one without a time lies before all others.
pub(super) fn within(span: Span, time_ns: Option<i64>) -> bool {
    let time_ns = time_ns.unwrap_or(i64::MIN);
    span.from_ns.is_none_or(|from| from <= time_ns) && span.to_ns.is_none_or(|to| time_ns < to)
}

fn write(value: ValueRef<'_>, out: &mut Vec<u8>) {
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => (1, &number.to_le_bytes()),
        ValueRef::Real(number) => (2, &number.to_bits().to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
