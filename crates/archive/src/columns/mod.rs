//! The columns of a table, each stated once.
//!
//! A table is one function over [`Columns`] (`bodies.rs`): it names every field of a body in the order of the columns, with a
//! sentence about it. Three things walk that function: [`schema::Fields`] collects names and types, [`write::Writing`]
//! appends the values it is given, [`read::Reading`] gives back those of a row. So schema, writer and reader cannot disagree,
//! and a field added to a body does not compile until it has a column.

use tapedeck_market::{Decimal, Leg, Price, Size, SmolStr, Sum, UnixNanos};

pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod write;

/// Name of a column, and what it holds.
pub(crate) type Column = (&'static str, &'static str);

/// One level of a book or ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rung {
    pub level: u32,
    pub price: Price,
    pub size: Size,
    pub orders: Option<u32>,
}

/// Which fields a list of rungs has beside price and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    /// `orders` behind them.
    Counted,
    /// `level` before them.
    Numbered,
}

/// One row, column after column. Writers ignore what they return; readers ignore what they are given.
pub(crate) trait Columns {
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
