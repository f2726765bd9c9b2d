//! The columns' types in Arrow.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields as ArrowFields, TimeUnit};
use tapedeck_tables::{Holds, LEG_DECIMALS, Shape};

use crate::exact::{PRECISION, SCALE};

/// The type of a column.
pub(crate) fn data_type(holds: Holds) -> DataType {
    match holds {
        Holds::Decimal => DECIMAL,
        Holds::Int => DataType::Int64,
        Holds::Float => DataType::Float64,
        Holds::Flag => DataType::Boolean,
        Holds::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
        Holds::Text | Holds::Json | Holds::JsonToAsk => DataType::Utf8,
        Holds::Word | Holds::Uuid => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        Holds::Bytes => DataType::Binary,
        Holds::Texts => DataType::List(item(DataType::Utf8)),
        Holds::Floats => DataType::List(item(DataType::Float64)),
        Holds::Rungs(shape) => DataType::List(item(DataType::Struct(rung_fields(shape)))),
        Holds::Legs => DataType::List(item(DataType::Struct(leg_fields()))),
    }
}

pub(crate) const DECIMAL: DataType = DataType::Decimal128(PRECISION, SCALE);

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
