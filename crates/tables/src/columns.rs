//! The columns of a table, each stated once.
//!
//! A table is one function over [`Columns`] (`bodies.rs`): it names every field of a body in the order of the columns, with a
//! sentence about it. Three kinds of things walk that function: [`columns`] collects names and types, a writer appends the
//! values it is given, a reader gives back those of a row. So schema, writer and reader cannot disagree, and a field added to
//! a body does not compile until it has a column.

use tapedeck_market::{Decimal, Leg, Price, Size, SmolStr, Sum, UnixNanos};

use crate::bodies;
use crate::table::Table;

/// Name of a column, and what it holds.
pub type Column = (&'static str, &'static str);

/// One level of a book or ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rung {
    pub level: u32,
    pub price: Price,
    pub size: Size,
    pub orders: Option<u32>,
}

/// Which fields a list of rungs has beside price and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    /// `orders` behind them.
    Counted,
    /// `level` before them.
    Numbered,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Decimal,
    /// A count, and what is wider than 32 bits.
    Int,
    Float,
    Flag,
    Time,
    Text,
    Word,
    Uuid,
    Json,
    JsonToAsk,
    Bytes,
    Texts,
    Floats,
    Rungs(Shape),
    Legs,
}

/// The columns of a table, in order.
#[must_use]
pub fn columns(table: Table) -> Vec<(Column, Holds)> {
    let mut fields = Fields::default();
    let prototype = bodies::prototype(table);
    bodies::row(&mut fields, table, "", prototype.seq, &prototype.event);
    fields.columns
}

/// The decimals of a leg, in the order of [`leg_decimals`].
pub const LEG_DECIMALS: [&str; 6] = ["bid", "ask", "leg_bid", "leg_bid_size", "leg_ask", "leg_ask_size"];

/// The decimals of a leg, as [`LEG_DECIMALS`] names them.
#[must_use]
pub fn leg_decimals(leg: &Leg) -> [Option<Decimal>; 6] {
    [
        leg.bid.map(|it| it.0),
        leg.ask.map(|it| it.0),
        leg.leg_bid.map(|it| it.0),
        leg.leg_bid_size.map(|it| it.0),
        leg.leg_ask.map(|it| it.0),
        leg.leg_ask_size.map(|it| it.0),
    ]
}

/// One row, column after column. Writers ignore what they return; readers ignore what they are given.
pub trait Columns {
    fn sum(&mut self, column: Column, value: Option<Sum>) -> Option<Sum>;
    fn decimal(&mut self, column: Column, value: Option<Decimal>) -> Option<Decimal>;
    /// What is beyond 63 bits goes to `exact`.
    fn count(&mut self, column: Column, value: Option<u64>) -> Option<u64>;
    fn int(&mut self, column: Column, value: Option<i64>) -> Option<i64>;
    fn float(&mut self, column: Column, value: Option<f64>) -> Option<f64>;
    fn flag(&mut self, column: Column, value: Option<bool>) -> Option<bool>;
    fn time(&mut self, column: Column, value: Option<UnixNanos>) -> Option<UnixNanos>;
    /// A text of many values.
    fn text(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr>;
    /// A text of few values: a dictionary.
    fn word(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr>;
    fn bytes(&mut self, column: Column, value: &[u8]) -> Vec<u8>;
    fn texts(&mut self, column: Column, value: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr>;
    fn floats(&mut self, column: Column, value: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>>;
    fn rungs(&mut self, column: Column, shape: Shape, value: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung>;
    fn legs(&mut self, column: Column, value: &[Leg]) -> Vec<Leg>;

    /// The id of a tape.
    fn uuid(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr> {
        self.word(column, value)
    }

    /// An object as JSON, in which order counts and a name may occur twice.
    fn json(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr> {
        self.text(column, value)
    }

    /// An object as JSON for queries: other columns of the same row hold it exactly.
    fn json_to_ask(&mut self, column: Column, value: Option<&str>) -> Option<SmolStr> {
        self.text(column, value)
    }

    fn price(&mut self, column: Column, value: Option<Price>) -> Option<Price> {
        self.decimal(column, value.map(|price| price.0)).map(Price)
    }

    fn size(&mut self, column: Column, value: Option<Size>) -> Option<Size> {
        self.decimal(column, value.map(|size| size.0)).map(Size)
    }

    fn u32(&mut self, column: Column, value: Option<u32>) -> Option<u32> {
        self.int(column, value.map(i64::from)).and_then(|value| u32::try_from(value).ok())
    }

    fn u8(&mut self, column: Column, value: Option<u8>) -> Option<u8> {
        self.int(column, value.map(i64::from)).and_then(|value| u8::try_from(value).ok())
    }
}

/// Collects the columns that a table's function names.
#[derive(Debug, Default)]
struct Fields {
    columns: Vec<(Column, Holds)>,
}

impl Fields {
    fn add(&mut self, column: Column, holds: Holds) {
        self.columns.push((column, holds));
    }
}

impl Columns for Fields {
    fn sum(&mut self, column: Column, value: Option<Sum>) -> Option<Sum> {
        self.add(column, Holds::Decimal);
        value
    }

    fn decimal(&mut self, column: Column, value: Option<Decimal>) -> Option<Decimal> {
        self.add(column, Holds::Decimal);
        value
    }

    fn count(&mut self, column: Column, value: Option<u64>) -> Option<u64> {
        self.add(column, Holds::Int);
        value
    }

    fn int(&mut self, column: Column, value: Option<i64>) -> Option<i64> {
        self.add(column, Holds::Int);
        value
    }

    fn float(&mut self, column: Column, value: Option<f64>) -> Option<f64> {
        self.add(column, Holds::Float);
        value
    }

    fn flag(&mut self, column: Column, value: Option<bool>) -> Option<bool> {
        self.add(column, Holds::Flag);
        value
    }

    fn time(&mut self, column: Column, value: Option<UnixNanos>) -> Option<UnixNanos> {
        self.add(column, Holds::Time);
        value
    }

    fn text(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.add(column, Holds::Text);
        None
    }

    fn word(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.add(column, Holds::Word);
        None
    }

    fn uuid(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.add(column, Holds::Uuid);
        None
    }

    fn json(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.add(column, Holds::Json);
        None
    }

    fn json_to_ask(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.add(column, Holds::JsonToAsk);
        None
    }

    fn bytes(&mut self, column: Column, _: &[u8]) -> Vec<u8> {
        self.add(column, Holds::Bytes);
        Vec::new()
    }

    fn texts(&mut self, column: Column, _: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr> {
        self.add(column, Holds::Texts);
        Vec::new()
    }

    fn floats(&mut self, column: Column, _: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        self.add(column, Holds::Floats);
        Vec::new()
    }

    fn rungs(&mut self, column: Column, shape: Shape, _: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung> {
        self.add(column, Holds::Rungs(shape));
        Vec::new()
    }

    fn legs(&mut self, column: Column, _: &[Leg]) -> Vec<Leg> {
        self.add(column, Holds::Legs);
        Vec::new()
    }
}
