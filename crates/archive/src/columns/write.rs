//! Values into columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Builder, DictionaryArray, Float64Builder, Int32Array,
    Int64Builder, ListArray, ListBuilder, StringArray, StringBuilder, StructArray, TimestampNanosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use tapedeck_market::{Decimal, Leg, SmolStr, Sum, UnixNanos};
use tapedeck_tables::{Column, Columns, Holds, LEG_DECIMALS, Rung, Shape, leg_decimals};

use super::schema::{item, leg_fields, rung_fields};
use crate::exact::{PRECISION, SCALE, fit_decimal, fit_sum};

/// A column that is being filled.
#[derive(Debug)]
pub(crate) enum Builder {
    Decimal(Decimal128Builder),
    Int(Int64Builder),
    Float(Float64Builder),
    Flag(BooleanBuilder),
    Time(TimestampNanosecondBuilder),
    Text(StringBuilder),
    Word(Words),
    Bytes(BinaryBuilder),
    Texts(ListBuilder<StringBuilder>),
    Floats(ListBuilder<Float64Builder>),
    Rungs(Box<Rungs>),
    Legs(Box<Legs>),
}

impl Builder {
    pub(crate) fn new(holds: Holds) -> Builder {
        match holds {
            Holds::Decimal => Builder::Decimal(decimals()),
            Holds::Int => Builder::Int(Int64Builder::new()),
            Holds::Float => Builder::Float(Float64Builder::new()),
            Holds::Flag => Builder::Flag(BooleanBuilder::new()),
            Holds::Time => Builder::Time(TimestampNanosecondBuilder::new()),
            Holds::Text | Holds::Json | Holds::JsonToAsk => Builder::Text(StringBuilder::new()),
            Holds::Word | Holds::Uuid => Builder::Word(Words::default()),
            Holds::Bytes => Builder::Bytes(BinaryBuilder::new()),
            Holds::Texts => Builder::Texts(ListBuilder::new(StringBuilder::new())),
            Holds::Floats => Builder::Floats(ListBuilder::new(Float64Builder::new())),
            Holds::Rungs(shape) => Builder::Rungs(Box::new(Rungs::new(shape))),
            Holds::Legs => Builder::Legs(Box::default()),
        }
    }

    /// What was appended since the last call.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Decimal(builder) => Arc::new(builder.finish()),
            Builder::Int(builder) => Arc::new(builder.finish()),
            Builder::Float(builder) => Arc::new(builder.finish()),
            Builder::Flag(builder) => Arc::new(builder.finish()),
            Builder::Time(builder) => Arc::new(builder.finish()),
            Builder::Text(builder) => Arc::new(builder.finish()),
            Builder::Word(words) => words.finish(),
            Builder::Bytes(builder) => Arc::new(builder.finish()),
            Builder::Texts(builder) => Arc::new(builder.finish()),
            Builder::Floats(builder) => Arc::new(builder.finish()),
            Builder::Rungs(rungs) => rungs.finish(),
            Builder::Legs(legs) => legs.finish(),
        }
    }

    /// Forgets the words met so far: names from outside must not gather for ever.
    pub(crate) fn forget_words(&mut self) {
        if let Builder::Word(words) = self {
            *words = Words::default();
        }
    }
}

fn decimals() -> Decimal128Builder {
    Decimal128Builder::new().with_data_type(arrow::datatypes::DataType::Decimal128(PRECISION, SCALE))
}

/// A dictionary that outlives a batch: the same few names come again and again.
#[derive(Debug, Default)]
pub(crate) struct Words {
    keys: Vec<Option<i32>>,
    index: HashMap<SmolStr, i32>,
    values: Vec<SmolStr>,
    last: Option<(SmolStr, i32)>,
    /// The values as an array, while no new one has come.
    array: Option<Arc<StringArray>>,
}

impl Words {
    #[inline]
    fn push(&mut self, word: &str) {
        let key = match &self.last {
            Some((last, key)) if last == word => *key,
            _ => self.look_up(word),
        };
        self.keys.push(Some(key));
    }

    fn look_up(&mut self, word: &str) -> i32 {
        let key = match self.index.get(word) {
            Some(key) => *key,
            None => {
                let key = self.values.len() as i32;
                self.values.push(word.into());
                self.index.insert(word.into(), key);
                self.array = None;
                key
            }
        };
        self.last = Some((self.values[key as usize].clone(), key));
        key
    }

    fn finish(&mut self) -> ArrayRef {
        let values = self.array.get_or_insert_with(|| Arc::new(StringArray::from_iter_values(&self.values)));
        let keys = Int32Array::from(std::mem::take(&mut self.keys));
        Arc::new(DictionaryArray::new(keys, Arc::clone(values) as ArrayRef))
    }
}

/// A list of levels a row.
#[derive(Debug)]
pub(crate) struct Rungs {
    shape: Shape,
    ends: Vec<i32>,
    level: Int64Builder,
    price: Decimal128Builder,
    size: Decimal128Builder,
    orders: Int64Builder,
}

impl Rungs {
    fn new(shape: Shape) -> Rungs {
        Rungs {
            shape,
            ends: vec![0],
            level: Int64Builder::new(),
            price: decimals(),
            size: decimals(),
            orders: Int64Builder::new(),
        }
    }

    fn push(&mut self, rung: &Rung) {
        match self.shape {
            Shape::Plain => {}
            Shape::Counted => self.orders.append_option(rung.orders.map(i64::from)),
            Shape::Numbered => self.level.append_value(i64::from(rung.level)),
        }
        self.price.append_option(fit_decimal(rung.price.0));
        self.size.append_option(fit_decimal(rung.size.0));
    }

    fn end_row(&mut self) {
        self.ends.push(self.price.len_i32());
    }

    fn finish(&mut self) -> ArrayRef {
        let (price, size): (ArrayRef, ArrayRef) = (Arc::new(self.price.finish()), Arc::new(self.size.finish()));
        let columns = match self.shape {
            Shape::Plain => vec![price, size],
            Shape::Counted => vec![price, size, Arc::new(self.orders.finish())],
            Shape::Numbered => vec![Arc::new(self.level.finish()), price, size],
        };
        list(&mut self.ends, StructArray::new(rung_fields(self.shape), columns, None))
    }
}

/// A list of legs a row.
#[derive(Debug)]
pub(crate) struct Legs {
    ends: Vec<i32>,
    instrument: StringBuilder,
    decimals: [Decimal128Builder; 6],
}

impl Default for Legs {
    fn default() -> Self {
        Legs { ends: vec![0], instrument: StringBuilder::new(), decimals: std::array::from_fn(|_| decimals()) }
    }
}

impl Legs {
    fn finish(&mut self) -> ArrayRef {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.instrument.finish())];
        columns.extend(self.decimals.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        list(&mut self.ends, StructArray::new(leg_fields(), columns, None))
    }
}

fn list(ends: &mut Vec<i32>, values: StructArray) -> ArrayRef {
    let ends = std::mem::replace(ends, vec![0]);
    let field = item(values.data_type().clone());
    let nulls: Option<NullBuffer> = None;
    Arc::new(ListArray::new(field, OffsetBuffer::new(ScalarBuffer::from(ends)), Arc::new(values), nulls))
}

trait Length {
    fn len_i32(&self) -> i32;
}

impl Length for Decimal128Builder {
    /// A batch has far fewer levels than 2^31: rows and bytes of a range are bounded.
    fn len_i32(&self) -> i32 {
        arrow::array::ArrayBuilder::len(self) as i32
    }
}

/// Numbers of a row that no column holds exactly: where they belong, and their text.
pub(crate) type Unfit = Vec<(String, String)>;

/// Appends one row.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    columns: std::slice::IterMut<'a, Builder>,
    unfit: &'a mut Unfit,
}

/// Takes the next column, which the schema made with this type.
macro_rules! next {
    ($self:ident, $variant:ident) => {
        match $self.columns.next() {
            Some(Builder::$variant(builder)) => Some(builder),
            other => {
                debug_assert!(false, "column is {other:?}");
                None
            }
        }
    };
}

impl<'a> Writing<'a> {
    pub(crate) fn new(columns: &'a mut [Builder], unfit: &'a mut Unfit) -> Writing<'a> {
        Writing { columns: columns.iter_mut(), unfit }
    }

    #[inline]
    fn number(&mut self, column: Column, units: Option<i128>, text: impl FnOnce() -> Option<String>) {
        if units.is_none()
            && let Some(text) = text()
        {
            self.unfit.push((column.0.to_owned(), text));
        }
        if let Some(builder) = next!(self, Decimal) {
            builder.append_option(units);
        }
    }
}

impl Columns for Writing<'_> {
    fn sum(&mut self, column: Column, value: Option<Sum>) -> Option<Sum> {
        self.number(column, value.and_then(fit_sum), || value.map(|value| value.to_string()));
        None
    }

    #[inline]
    fn decimal(&mut self, column: Column, value: Option<Decimal>) -> Option<Decimal> {
        self.number(column, value.and_then(fit_decimal), || value.map(|value| value.to_string()));
        None
    }

    fn count(&mut self, column: Column, value: Option<u64>) -> Option<u64> {
        let fits = value.and_then(|value| i64::try_from(value).ok());
        if let (Some(value), None) = (value, fits) {
            self.unfit.push((column.0.to_owned(), value.to_string()));
        }
        self.int(column, fits);
        None
    }

    #[inline]
    fn int(&mut self, _: Column, value: Option<i64>) -> Option<i64> {
        if let Some(builder) = next!(self, Int) {
            builder.append_option(value);
        }
        None
    }

    fn float(&mut self, _: Column, value: Option<f64>) -> Option<f64> {
        if let Some(builder) = next!(self, Float) {
            builder.append_option(value);
        }
        None
    }

    fn flag(&mut self, _: Column, value: Option<bool>) -> Option<bool> {
        if let Some(builder) = next!(self, Flag) {
            builder.append_option(value);
        }
        None
    }

    #[inline]
    fn time(&mut self, _: Column, value: Option<UnixNanos>) -> Option<UnixNanos> {
        if let Some(builder) = next!(self, Time) {
            builder.append_option(value.map(|time| time.0));
        }
        None
    }

    #[inline]
    fn text(&mut self, _: Column, value: Option<&str>) -> Option<SmolStr> {
        if let Some(builder) = next!(self, Text) {
            builder.append_option(value);
        }
        None
    }

    #[inline]
    fn word(&mut self, _: Column, value: Option<&str>) -> Option<SmolStr> {
        if let Some(words) = next!(self, Word) {
            match value {
                Some(word) => words.push(word),
                None => words.keys.push(None),
            }
        }
        None
    }

    fn bytes(&mut self, _: Column, value: &[u8]) -> Vec<u8> {
        if let Some(builder) = next!(self, Bytes) {
            builder.append_value(value);
        }
        Vec::new()
    }

    fn texts(&mut self, _: Column, value: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr> {
        if let Some(builder) = next!(self, Texts) {
            for text in value {
                builder.values().append_value(text);
            }
            builder.append(true);
        }
        Vec::new()
    }

    fn floats(&mut self, _: Column, value: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        if let Some(builder) = next!(self, Floats) {
            for float in value {
                builder.values().append_option(float);
            }
            builder.append(true);
        }
        Vec::new()
    }

    fn rungs(&mut self, column: Column, _: Shape, value: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung> {
        let Some(rungs) = next!(self, Rungs) else { return Vec::new() };
        for (nth, rung) in value.enumerate() {
            rungs.push(&rung);
            for (name, number) in [("price", rung.price.0), ("size", rung.size.0)] {
                if fit_decimal(number).is_none() {
                    self.unfit.push((format!("{}[{nth}].{name}", column.0), number.to_string()));
                }
            }
        }
        rungs.end_row();
        Vec::new()
    }

    fn legs(&mut self, column: Column, value: &[Leg]) -> Vec<Leg> {
        let Some(legs) = next!(self, Legs) else { return Vec::new() };
        for (nth, leg) in value.iter().enumerate() {
            legs.instrument.append_value(&leg.instrument);
            for (at, number) in leg_decimals(leg).into_iter().enumerate() {
                let units = number.and_then(fit_decimal);
                legs.decimals[at].append_option(units);
                if let (Some(number), None) = (number, units) {
                    self.unfit.push((format!("{}[{nth}].{}", column.0, LEG_DECIMALS[at]), number.to_string()));
                }
            }
        }
        legs.ends.push(legs.decimals[0].len_i32());
        Vec::new()
    }
}
