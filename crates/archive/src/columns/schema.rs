//! Names and types of the columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields as ArrowFields, TimeUnit};
use tapedeck_market::{Decimal, Leg, SmolStr, Sum, UnixNanos};

use super::{Column, Columns, Rung, Shape};
use crate::exact::{PRECISION, SCALE};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Decimal,
    Int,
    Float,
    Flag,
    Time,
    Text,
    Word,
    Bytes,
    Texts,
    Floats,
    Rungs(Shape),
    Legs,
}

impl Holds {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Holds::Decimal => DECIMAL,
            Holds::Int => DataType::Int64,
            Holds::Float => DataType::Float64,
            Holds::Flag => DataType::Boolean,
            Holds::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Holds::Text => DataType::Utf8,
            Holds::Word => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Holds::Bytes => DataType::Binary,
            Holds::Texts => DataType::List(item(DataType::Utf8)),
            Holds::Floats => DataType::List(item(DataType::Float64)),
            Holds::Rungs(shape) => DataType::List(item(DataType::Struct(rung_fields(shape)))),
            Holds::Legs => DataType::List(item(DataType::Struct(leg_fields()))),
        }
    }
}

pub(crate) const DECIMAL: DataType = DataType::Decimal128(PRECISION, SCALE);

/// The decimals of a leg, in the order of its columns.
pub(crate) const LEG_DECIMALS: [&str; 6] = ["bid", "ask", "leg_bid", "leg_bid_size", "leg_ask", "leg_ask_size"];

pub(crate) fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, true))
}

pub(crate) fn rung_fields(shape: Shape) -> ArrowFields {
    let mut fields = vec![Field::new("price", DECIMAL.clone(), true), Field::new("size", DECIMAL.clone(), true)];
    match shape {
        Shape::Plain => {}
        Shape::Counted => fields.push(Field::new("orders", DataType::Int64, true)),
        Shape::Numbered => fields.insert(0, Field::new("level", DataType::Int64, true)),
    }
    fields.into()
}

pub(crate) fn leg_fields() -> ArrowFields {
    let decimals = LEG_DECIMALS.map(|name| Field::new(name, DECIMAL.clone(), true));
    std::iter::once(Field::new("instrument", DataType::Utf8, true)).chain(decimals).collect()
}

/// Collects the columns that a table's function names.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub columns: Vec<(Column, Holds)>,
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
