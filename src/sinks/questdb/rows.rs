//! A record as a row of the table of its kind: the columns of `tapedeck-tables`, and a few of our own.
//!
//! ```text
//! ts   instrument   (interval)   seq tape_id ts_event ts_recv source venue symbol flags … the body's own …   exact   guard
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tapedeck_market::{Body, Decimal, Event, Leg, Record, SmolStr, Sum, UnixNanos, Uuid};
use tapedeck_tables::{Column, Columns, Holds, LEG_DECIMALS, Rung, Shape, Table, leg_decimals, row};

use super::line::{Line, NoLine, fits_decimal, fits_double};
use super::names;
use super::schema::{INSTRUMENT, INTERVAL, Known, Type};
use crate::config::units::show_duration;

/// The identity of a record: where it was first recorded.
pub(super) fn identity(tape: Uuid, record: &Record) -> (Uuid, u64) {
    record.event.origin.map_or((tape, record.seq), |origin| (origin.tape, origin.seq))
}

/// The time of a row: a candle's start, else the venue's clock where it told a possible time, else ours.
pub(super) fn time(event: &Event) -> UnixNanos {
    match &event.body {
        Body::Candle(candle) => candle.start,
        // Whoever sent it decided on its time.
        Body::Point(_) => event.ts_event.unwrap_or(event.ts_recv),
        _ => event.told().unwrap_or(event.ts_recv),
    }
}

/// Venue and symbol in one.
pub(super) fn instrument(event: &Event) -> String {
    format!("{}:{}", event.venue, event.symbol)
}

/// How the rows of a table are written.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    table: Table,
    /// The table's name, as a line begins.
    head: Vec<u8>,
    /// In the order of `tapedeck_tables::columns`.
    cells: Vec<Cell>,
}

#[derive(Clone, Debug)]
struct Cell {
    /// `,name=`
    key: Vec<u8>,
    /// Numbers are doubles there.
    double: bool,
    symbol: bool,
}

impl Layout {
    pub(super) fn of(table: Table, known: &Known) -> Layout {
        let mut head = Vec::new();
        names::escape(&known.name, &mut head);
        head.push(b' ');
        let cell = |((name, _), holds): (Column, Holds)| Cell {
            key: format!(",{name}=").into_bytes(),
            double: known.type_of(name) == Some(&Type::Double),
            symbol: matches!(holds, Holds::Word | Holds::Uuid),
        };
        Layout { table, head, cells: tapedeck_tables::columns(table).into_iter().map(cell).collect() }
    }

    /// Writes the line of a record; `tape` and `seq` are its identity.
    ///
    /// # Errors
    /// It cannot be stored as it is.
    pub(super) fn line(
        &self,
        text: &mut Vec<u8>,
        exact: &mut Vec<u8>,
        tape: &str,
        seq: u64,
        event: &Event,
    ) -> Result<(), NoLine> {
        let mut line = Line::begin(text, exact, &self.head);
        line.key(INSTRUMENT.as_bytes());
        line.key(b"=");
        line.symbol(INSTRUMENT, &instrument(event))?;
        if let Body::Candle(candle) = &event.body {
            line.key(b",");
            line.key(INTERVAL.as_bytes());
            line.key(b"=");
            line.symbol(INTERVAL, &interval(candle.interval_ns))?;
        }
        let mut writing = Writing { line, cells: self.cells.iter(), failed: None };
        row(&mut writing, self.table, tape, seq, event);
        let Writing { line, failed, .. } = writing;
        match failed {
            Some(error) => Err(error),
            None => line.end(time(event).0),
        }
    }
}

/// `1m`
pub(super) fn interval(interval_ns: i64) -> String {
    show_duration(std::time::Duration::from_nanos(interval_ns.unsigned_abs()))
}

/// Takes the values of a row; what is absent is NULL there, by not being in the line.
struct Writing<'a> {
    line: Line<'a>,
    cells: std::slice::Iter<'a, Cell>,
    failed: Option<NoLine>,
}

/// For the walk; more of them are never asked for than there are.
static NO_CELL: Cell = Cell { key: Vec::new(), double: false, symbol: false };

impl<'a> Writing<'a> {
    /// The next column, where it has a value.
    #[inline]
    fn next(&mut self) -> &'a Cell {
        let cell = self.cells.next();
        debug_assert!(cell.is_some(), "a column more than the table has");
        cell.unwrap_or(&NO_CELL)
    }

    fn put_int(&mut self, column: Column, cell: &Cell, value: i64) {
        // The server's own sign of NULL.
        if value == i64::MIN {
            return self.line.exact(column.0, value);
        }
        self.line.key(&cell.key);
        self.line.int(value);
    }

    fn put_text(&mut self, column: Column, cell: &Cell, value: &str) {
        self.line.key(&cell.key);
        let put = if cell.symbol { self.line.symbol(column.0, value) } else { self.line.text(column.0, value) };
        if let Err(error) = put {
            self.failed.get_or_insert(error);
        }
    }

    /// A list as JSON; an empty one is NULL.
    fn put_list(&mut self, column: Column, items: Vec<Value>) {
        let cell = self.next();
        if !items.is_empty() {
            self.put_text(column, cell, &Value::Array(items).to_string());
        }
    }
}

impl Columns for Writing<'_> {
    fn sum(&mut self, column: Column, value: Option<Sum>) -> Option<Sum> {
        let cell = self.next();
        let value = value?;
        if cell.double {
            self.line.key(&cell.key);
            self.line.number(value);
            if !fits_double(value.mantissa, value.scale) {
                self.line.exact(column.0, value);
            }
        } else if fits_decimal(value.mantissa, value.scale) {
            self.line.key(&cell.key);
            self.line.sum(value);
        } else {
            self.line.exact(column.0, value);
        }
        None
    }

    fn decimal(&mut self, column: Column, value: Option<Decimal>) -> Option<Decimal> {
        let cell = self.next();
        let value = value?;
        let mantissa = i128::from(value.mantissa());
        if cell.double {
            self.line.key(&cell.key);
            self.line.number(value);
            if !fits_double(mantissa, value.scale()) {
                self.line.exact(column.0, value);
            }
        } else if fits_decimal(mantissa, value.scale()) {
            self.line.key(&cell.key);
            self.line.decimal(value);
        } else {
            self.line.exact(column.0, value);
        }
        None
    }

    fn count(&mut self, column: Column, value: Option<u64>) -> Option<u64> {
        let cell = self.next();
        let value = value?;
        match i64::try_from(value) {
            Ok(value) => self.put_int(column, cell, value),
            Err(_) => self.line.exact(column.0, value),
        }
        None
    }

    fn int(&mut self, column: Column, value: Option<i64>) -> Option<i64> {
        let cell = self.next();
        self.put_int(column, cell, value?);
        None
    }

    fn float(&mut self, column: Column, value: Option<f64>) -> Option<f64> {
        let cell = self.next();
        let value = value?;
        if value.is_finite() {
            self.line.key(&cell.key);
            self.line.float(value);
        } else {
            self.line.exact(column.0, value);
        }
        None
    }

    fn flag(&mut self, _: Column, value: Option<bool>) -> Option<bool> {
        let cell = self.next();
        let value = value?;
        self.line.key(&cell.key);
        self.line.flag(value);
        None
    }

    fn time(&mut self, column: Column, value: Option<UnixNanos>) -> Option<UnixNanos> {
        let cell = self.next();
        let UnixNanos(value) = value?;
        if value == i64::MIN {
            self.line.exact(column.0, value);
        } else {
            self.line.key(&cell.key);
            self.line.nanos(value);
        }
        None
    }

    fn text(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr> {
        let cell = self.next();
        self.put_text(column, cell, value?);
        None
    }

    fn word(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr> {
        self.text(column, value)
    }

    fn bytes(&mut self, column: Column, value: &[u8]) -> Vec<u8> {
        let cell = self.next();
        self.put_text(column, cell, &BASE64.encode(value));
        Vec::new()
    }

    fn texts(&mut self, column: Column, value: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr> {
        self.put_list(column, value.map(|text| json!(text.as_str())).collect());
        Vec::new()
    }

    fn floats(&mut self, column: Column, value: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        self.put_list(column, value.map(|float| json!(float)).collect());
        Vec::new()
    }

    fn rungs(&mut self, column: Column, shape: Shape, value: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung> {
        let rung = |rung: Rung| match shape {
            Shape::Plain => json!([rung.price.to_string(), rung.size.to_string()]),
            Shape::Counted => json!([rung.price.to_string(), rung.size.to_string(), rung.orders]),
            Shape::Numbered => json!([rung.level, rung.price.to_string(), rung.size.to_string()]),
        };
        self.put_list(column, value.map(rung).collect());
        Vec::new()
    }

    fn legs(&mut self, column: Column, value: &[Leg]) -> Vec<Leg> {
        let leg = |leg: &Leg| {
            let mut object = serde_json::Map::new();
            object.insert("instrument".to_owned(), json!(leg.instrument.as_str()));
            for (name, value) in LEG_DECIMALS.iter().zip(leg_decimals(leg)) {
                object.extend(value.map(|value| ((*name).to_owned(), json!(value.to_string()))));
            }
            Value::Object(object)
        };
        self.put_list(column, value.iter().map(leg).collect());
        Vec::new()
    }
}
