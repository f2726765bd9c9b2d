//! Values out of columns.

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    StructArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use tapedeck_market::{Decimal, Leg, Price, Size, SmolStr, Sum, UnixNanos};
use tapedeck_tables::{Column, Columns, LEG_DECIMALS, Rung, Shape, json};

use crate::exact::{decimal_of, parse_sum, sum_of};

/// Reads one row after another.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    columns: &'a [ArrayRef],
    row: usize,
    at: usize,
    unfit: Vec<(SmolStr, SmolStr)>,
}

impl<'a> Reading<'a> {
    /// `batch` has the columns of the schema, in its order.
    pub(crate) fn new(batch: &'a RecordBatch) -> Reading<'a> {
        Reading { columns: batch.columns(), row: 0, at: 0, unfit: Vec::new() }
    }

    /// Stands before the first column of a row.
    pub(crate) fn start(&mut self, row: usize) {
        self.row = row;
        self.at = 0;
        self.unfit.clear();
        let exact = self.columns.last().and_then(|column| text_at(column, row));
        if let Some(exact) = exact {
            self.unfit = json::parse_texts(&exact);
        }
    }

    fn next(&mut self) -> Option<&'a ArrayRef> {
        let column = self.columns.get(self.at);
        self.at += 1;
        column.filter(|column| column.is_valid(self.row))
    }

    fn unfit(&self, name: &str) -> Option<&str> {
        self.unfit.iter().find(|(at, _)| at == name).map(|(_, text)| text.as_str())
    }

    fn number(&self, column: &Decimal128Array, row: usize, name: &str) -> Option<Decimal> {
        if column.is_valid(row) {
            decimal_of(column.value(row))
        } else {
            self.unfit(name).and_then(|text| text.parse().ok())
        }
    }

    fn list(&mut self) -> Option<ArrayRef> {
        let row = self.row;
        self.next()?.as_list_opt::<i32>().map(|list| list.value(row))
    }
}

/// A text of a plain or dictionary column.
fn text_at(column: &ArrayRef, row: usize) -> Option<SmolStr> {
    if column.is_null(row) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(texts.value(row).into());
    }
    if let Some(texts) = column.as_string_view_opt() {
        return Some(texts.value(row).into());
    }
    let words = column.as_dictionary_opt::<Int32Type>()?;
    let values = words.values().as_string_opt::<i32>()?;
    Some(values.value(usize::try_from(words.keys().value(row)).ok()?).into())
}

impl Columns for Reading<'_> {
    fn sum(&mut self, column: Column, _: Option<Sum>) -> Option<Sum> {
        let row = self.row;
        match self.next().and_then(|numbers| numbers.as_primitive_opt::<Decimal128Type>()) {
            Some(numbers) => Some(sum_of(numbers.value(row))),
            None => self.unfit(column.0).and_then(parse_sum),
        }
    }

    fn decimal(&mut self, column: Column, _: Option<Decimal>) -> Option<Decimal> {
        let row = self.row;
        match self.next().and_then(|numbers| numbers.as_primitive_opt::<Decimal128Type>()) {
            Some(numbers) => decimal_of(numbers.value(row)),
            None => self.unfit(column.0).and_then(|text| text.parse().ok()),
        }
    }

    fn count(&mut self, column: Column, _: Option<u64>) -> Option<u64> {
        match self.int(column, None) {
            Some(count) => u64::try_from(count).ok(),
            None => self.unfit(column.0).and_then(|text| text.parse().ok()),
        }
    }

    fn int(&mut self, _: Column, _: Option<i64>) -> Option<i64> {
        let row = self.row;
        self.next()?.as_primitive_opt::<Int64Type>().map(|ints: &Int64Array| ints.value(row))
    }

    fn float(&mut self, _: Column, _: Option<f64>) -> Option<f64> {
        let row = self.row;
        self.next()?.as_primitive_opt::<Float64Type>().map(|floats: &Float64Array| floats.value(row))
    }

    fn flag(&mut self, _: Column, _: Option<bool>) -> Option<bool> {
        let row = self.row;
        self.next()?.as_boolean_opt().map(|flags: &BooleanArray| flags.value(row))
    }

    fn time(&mut self, _: Column, _: Option<UnixNanos>) -> Option<UnixNanos> {
        let row = self.row;
        let times: Option<&TimestampNanosecondArray> = self.next()?.as_primitive_opt::<TimestampNanosecondType>();
        times.map(|times| UnixNanos(times.value(row)))
    }

    fn text(&mut self, _: Column, _: Option<&str>) -> Option<SmolStr> {
        let row = self.row;
        text_at(self.next()?, row)
    }

    fn word(&mut self, column: Column, _: Option<&str>) -> Option<SmolStr> {
        self.text(column, None)
    }

    fn bytes(&mut self, _: Column, _: &[u8]) -> Vec<u8> {
        let row = self.row;
        let Some(column) = self.next() else { return Vec::new() };
        column.as_binary_opt::<i32>().map(|frames| frames.value(row).to_vec()).unwrap_or_default()
    }

    fn texts(&mut self, _: Column, _: &mut dyn Iterator<Item = SmolStr>) -> Vec<SmolStr> {
        let list = self.list();
        let texts: Option<&StringArray> = list.as_ref().and_then(|list| list.as_string_opt());
        texts.map(|texts| texts.iter().flatten().map(SmolStr::from).collect()).unwrap_or_default()
    }

    fn floats(&mut self, _: Column, _: &mut dyn Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        let list = self.list();
        let floats: Option<&Float64Array> = list.as_ref().and_then(|list| list.as_primitive_opt::<Float64Type>());
        floats.map(|floats| floats.iter().collect()).unwrap_or_default()
    }

    fn rungs(&mut self, column: Column, _: Shape, _: &mut dyn ExactSizeIterator<Item = Rung>) -> Vec<Rung> {
        let Some(list) = self.list() else { return Vec::new() };
        let Some(rungs) = list.as_struct_opt() else { return Vec::new() };
        let (Some(prices), Some(sizes)) = (decimals(rungs, "price"), decimals(rungs, "size")) else {
            return Vec::new();
        };
        let ints = |name| rungs.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (levels, orders) = (ints("level"), ints("orders"));
        let int = |column: Option<&Int64Array>, row: usize| {
            column.filter(|ints| ints.is_valid(row)).and_then(|ints| u32::try_from(ints.value(row)).ok())
        };
        let name = |nth: usize, part: &str| format!("{}[{nth}].{part}", column.0);
        (0..rungs.len())
            .map(|nth| Rung {
                level: int(levels, nth).unwrap_or_default(),
                price: Price(self.number(prices, nth, &name(nth, "price")).unwrap_or_default()),
                size: Size(self.number(sizes, nth, &name(nth, "size")).unwrap_or_default()),
                orders: int(orders, nth),
            })
            .collect()
    }

    fn legs(&mut self, column: Column, _: &[Leg]) -> Vec<Leg> {
        let Some(list) = self.list() else { return Vec::new() };
        let Some(legs) = list.as_struct_opt() else { return Vec::new() };
        let leg = |nth: usize| {
            let number = |part: &str| self.number(decimals(legs, part)?, nth, &format!("{}[{nth}].{part}", column.0));
            let [bid, ask, leg_bid, leg_bid_size, leg_ask, leg_ask_size] = LEG_DECIMALS.map(number);
            let instrument = legs.column_by_name("instrument").and_then(|column| text_at(column, nth));
            Leg {
                instrument: instrument.unwrap_or_default(),
                bid: bid.map(Price),
                ask: ask.map(Price),
                leg_bid: leg_bid.map(Price),
                leg_bid_size: leg_bid_size.map(Size),
                leg_ask: leg_ask.map(Price),
                leg_ask_size: leg_ask_size.map(Size),
            }
        };
        (0..legs.len()).map(leg).collect()
    }
}

fn decimals<'a>(of: &'a StructArray, name: &str) -> Option<&'a Decimal128Array> {
    of.column_by_name(name)?.as_primitive_opt::<Decimal128Type>()
}
