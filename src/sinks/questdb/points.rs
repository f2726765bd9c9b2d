//! Points: a table of its own for each measurement, tags and fields as its columns.
//!
//! | | column |
//! |---|---|
//! | tag, text field, flag (`true`, `false`) | SYMBOL for tags and flags, VARCHAR for texts |
//! | whole number | LONG |
//! | other number | DOUBLE, and in `exact` with its digits where a double does not keep them |
//!
//! A flag is a text because the server's own flags know no NULL: a point without that field would read as `false`. The type of a column
//! that is there counts. A point that such a table cannot hold as it is (names that the server does not take, names that differ
//! by case alone, a name twice) goes to the table `points`, where names are values.

use std::collections::{BTreeMap, BTreeSet};

use tapedeck_market::{Decimal, Point, Record, SmolStr, UnixNanos, Value};
use tapedeck_tables::Table;

use super::line::{Line, NoLine, fits_decimal, fits_double};
use super::names::{self, folded};
use super::rows::time;
use super::schema::{EXACT, GUARD, Known, PRECISION, SCALE, TS, Type, Wanted};

/// Most columns of one table: a client that makes up names must not make files without end.
const COLUMNS_MAX: usize = 500;
/// Columns of ours.
const OWN: [&str; 6] = [TS, "seq", "tape_id", "ts_recv", EXACT, GUARD];
/// What a double counts up to, one by one.
const WHOLE_MAX: u64 = 1 << 53;

/// The table of a point, unless only `points` can hold it.
pub(super) fn table_of(point: &Point, prefix: &str) -> Option<String> {
    let name = format!("{prefix}{}", point.name);
    let taken = Table::ALL.iter().any(|table| folded(&point.name) == table.name());
    let mut seen = BTreeSet::new();
    let fits = |column: &SmolStr| {
        let folded = folded(column);
        names::is_column(column) && !OWN.contains(&folded.as_str())
    };
    let columns = || point.tags.iter().map(|(name, _)| name).chain(point.fields.iter().map(|(name, _)| name));
    let whole = !taken && names::is_table(&name) && columns().all(fits);
    (whole && columns().all(|column| seen.insert(folded(column)))).then_some(name)
}

/// A table that holds all these points.
pub(super) fn wanted<'a>(name: String, points: impl Iterator<Item = &'a Point>) -> Wanted {
    let mut seen = BTreeSet::new();
    let mut columns = Vec::new();
    for point in points {
        let tags = point.tags.iter().map(|(name, _)| (name, Type::Symbol));
        let fields = point.fields.iter().map(|(name, value)| (name, type_of(value)));
        for (column, of) in tags.chain(fields) {
            if seen.insert(folded(column)) {
                columns.push((column.to_string(), of));
            }
        }
    }
    Wanted::points(name, columns.into_iter())
}

fn type_of(value: &Value) -> Type {
    match value {
        Value::Int(_) | Value::UInt(_) => Type::Long,
        Value::Decimal(_) | Value::Float(_) => Type::Double,
        Value::Bool(_) => Type::Symbol,
        Value::Text(_) => Type::Varchar,
    }
}

/// Those columns that the table of points must have and does not; the types of the others are a matter of each point.
pub(super) fn lacking(wanted: &Wanted, known: Option<&Known>) -> Wanted {
    let there = |column: &str| known.is_some_and(|known| known.type_of(column).is_some());
    let columns =
        wanted.columns.iter().filter(|(column, _)| OWN.contains(&column.as_str()) || !there(column)).cloned().collect();
    Wanted { columns, ..wanted.clone() }
}

/// Whether the table would hold too many columns with these.
pub(super) fn too_many(wanted: &Wanted, known: Option<&Known>) -> bool {
    let there = known.map_or(0, |known| known.columns.len());
    let new = wanted.columns.iter().filter(|(column, _)| known.is_none_or(|it| it.type_of(column).is_none())).count();
    there.max(OWN.len()) + new > COLUMNS_MAX
}

/// How the points of a table are written.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    known: &'a Known,
    head: Vec<u8>,
    /// Keys by name, as they stand in a line.
    keys: BTreeMap<SmolStr, Vec<u8>>,
}

impl<'a> Layout<'a> {
    pub(super) fn of(known: &'a Known) -> Layout<'a> {
        let mut head = Vec::new();
        names::escape(&known.name, &mut head);
        head.push(b' ');
        Layout { known, head, keys: BTreeMap::new() }
    }

    /// Whether each of its names is spelled as it is there.
    pub(super) fn is_spelled_alike(&self, point: &Point) -> bool {
        let mut columns = point.tags.iter().map(|(name, _)| name).chain(point.fields.iter().map(|(name, _)| name));
        columns.all(|column| self.known.columns.get(&folded(column)).is_some_and(|(spelled, _)| spelled == column))
    }

    /// Writes the line of a point; `tape` and `seq` are its identity.
    ///
    /// # Errors
    /// It cannot be stored as it is.
    pub(super) fn line(
        &mut self,
        text: &mut Vec<u8>,
        exact: &mut Vec<u8>,
        tape: &str,
        seq: u64,
        record: &Record,
        point: &Point,
    ) -> Result<(), NoLine> {
        let mut line = Line::begin(text, exact, &self.head);
        line.key(b"seq=");
        match i64::try_from(seq) {
            Ok(seq) => line.int(seq),
            Err(_) => {
                return Err(NoLine::Changed("seq".into(), self.known.name.clone(), Type::Long, "a seq beyond 63 bits"));
            }
        }
        line.key(b",tape_id=");
        line.symbol("tape_id", tape)?;
        let UnixNanos(ts_recv) = record.event.ts_recv;
        line.key(b",ts_recv=");
        line.nanos(ts_recv);
        for (column, value) in &point.tags {
            let of = self.type_of(column);
            if !of.is_text() {
                return Err(self.changed(column, of, "the tag"));
            }
            line.key(self.key(column));
            if *of == Type::Symbol { line.symbol(column, value)? } else { line.text(column, value)? }
        }
        for (column, value) in &point.fields {
            self.field(&mut line, column, value)?;
        }
        line.end(time(&record.event).0)
    }

    /// A value that its column cannot hold is sent nevertheless where the server refuses it in its own words; where it would
    /// change it, it is refused here.
    fn field(&mut self, line: &mut Line<'_>, column: &SmolStr, value: &Value) -> Result<(), NoLine> {
        let known = self.known;
        let of = known.type_of(column).unwrap_or(&Type::Varchar);
        match (value, of) {
            (Value::Text(text), Type::Symbol) => {
                line.key(self.key(column));
                line.symbol(column, text)?;
            }
            (Value::Text(text), _) if !matches!(of, Type::Decimal(..) | Type::Other(_)) => {
                line.key(self.key(column));
                line.text(column, text)?;
            }
            (Value::Text(_), _) => return Err(self.changed(column, of, "the text")),
            (Value::Bool(flag), Type::Symbol) => {
                line.key(self.key(column));
                line.symbol(column, if *flag { "true" } else { "false" })?;
            }
            (Value::Bool(flag), Type::Boolean | Type::Varchar | Type::Text | Type::Decimal(..)) => {
                line.key(self.key(column));
                line.flag(*flag);
            }
            (Value::Bool(_), _) => return Err(self.changed(column, of, "the flag")),
            (_, Type::Symbol | Type::Nanos | Type::Other(_)) => return Err(self.changed(column, of, "the number")),
            (Value::Int(int), _) => self.whole(line, column, of, i128::from(*int)),
            (Value::UInt(int), _) => self.whole(line, column, of, i128::from(*int)),
            (Value::Decimal(decimal), _) => self.decimal(line, column, of, *decimal),
            (Value::Float(float), Type::Decimal(..)) if float.is_finite() => {
                return Err(self.changed(column, of, "the double"));
            }
            (Value::Float(float), _) if !float.is_finite() => line.exact(column, float),
            (Value::Float(float), _) => {
                line.key(self.key(column));
                line.float(*float);
            }
        }
        Ok(())
    }

    fn whole(&mut self, line: &mut Line<'_>, column: &SmolStr, of: &Type, int: i128) {
        match (of, i64::try_from(int)) {
            // Its own sign of NULL, and what it has no type for.
            (_, Err(_) | Ok(i64::MIN)) => line.exact(column, int),
            (Type::Decimal(precision, scale), Ok(int)) if !fits(i128::from(int), 0, *precision, *scale) => {
                line.exact(column, int);
            }
            (_, Ok(int)) => {
                line.key(self.key(column));
                line.int(int);
                if *of == Type::Double && int.unsigned_abs() > WHOLE_MAX {
                    line.exact(column, int);
                }
            }
        }
    }

    fn decimal(&mut self, line: &mut Line<'_>, column: &SmolStr, of: &Type, decimal: Decimal) {
        let mantissa = i128::from(decimal.mantissa());
        match of {
            Type::Decimal(precision, scale) if fits(mantissa, decimal.scale(), *precision, *scale) => {
                line.key(self.key(column));
                line.decimal(decimal);
            }
            Type::Decimal(..) => line.exact(column, decimal),
            of => {
                line.key(self.key(column));
                line.number(decimal);
                if *of == Type::Double && !fits_double(mantissa, decimal.scale()) {
                    line.exact(column, decimal);
                }
            }
        }
    }

    fn type_of(&self, column: &str) -> &'a Type {
        self.known.type_of(column).unwrap_or(&Type::Varchar)
    }

    fn key(&mut self, column: &SmolStr) -> &[u8] {
        self.keys.entry(column.clone()).or_insert_with(|| {
            let mut key = vec![b','];
            names::escape(column, &mut key);
            key.push(b'=');
            key
        })
    }

    fn changed(&self, column: &str, of: &Type, what: &'static str) -> NoLine {
        NoLine::Changed(column.to_owned(), self.known.name.clone(), of.clone(), what)
    }
}

fn fits(mantissa: i128, scale: u8, precision: u8, behind: u8) -> bool {
    // Ours; of others only what is certain.
    if (precision, behind) == (PRECISION, SCALE) {
        fits_decimal(mantissa, scale)
    } else {
        mantissa == 0 && behind >= scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, tags: &[&str], fields: &[&str]) -> Point {
        Point {
            name: name.into(),
            tags: tags.iter().map(|name| (SmolStr::from(*name), "x".into())).collect(),
            fields: fields.iter().map(|name| (SmolStr::from(*name), Value::Int(1))).collect(),
        }
    }

    #[test]
    fn what_a_table_of_its_own_cannot_hold_as_it_is_has_none() {
        assert_eq!(table_of(&point("cpu", &["host"], &["v"]), "td_"), Some("td_cpu".to_owned()));
        for bad in [
            point("", &[], &["v"]),
            point("trades", &[], &["v"]),
            point("Trades", &[], &["v"]),
            point("a\nb", &[], &["v"]),
            point("cpu", &["v"], &["v"]),
            point("cpu", &["V"], &["v"]),
            point("cpu", &["seq"], &["v"]),
            point("cpu", &[], &["TS"]),
            point("cpu", &[], &["a.b"]),
            point("cpu", &[], &[""]),
        ] {
            assert_eq!(table_of(&bad, ""), None, "{bad:?}");
        }
    }
}
