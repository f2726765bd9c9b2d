//! A ceiling on functions whose result may be far larger than what they are given.
//!
//! The engine counts what operators hold, not what a scalar function makes: `repeat('a', 1500000000)` alone
//! would take gigabytes. What a call is going to make is known from its arguments, and refused before.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// One value: no text or list of market data is near it.
const VALUE_BYTES: u64 = 1 << 20;
/// All values of one batch together.
const BATCH_BYTES: u64 = 64 << 20;

/// How much a call makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Measure {
    /// (text, times)
    Repeat,
    /// (text, characters, …)
    Pad,
    /// (text, from, to): at worst each byte becomes `to`
    Replace,
    /// (element, times)
    Elements,
    /// (start, stop, step) of integers
    Span,
}

pub(super) const MEASURED: [(&str, Measure); 9] = [
    ("repeat", Measure::Repeat),
    ("lpad", Measure::Pad),
    ("rpad", Measure::Pad),
    ("replace", Measure::Replace),
    ("regexp_replace", Measure::Replace),
    ("array_repeat", Measure::Elements),
    ("array_resize", Measure::Elements),
    ("generate_series", Measure::Span),
    ("range", Measure::Span),
];

/// Another function, with the ceiling.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Capped {
    inner: Arc<ScalarUDF>,
    measure: Measure,
}

impl Capped {
    pub(super) fn new(inner: Arc<ScalarUDF>, measure: Measure) -> Self {
        Capped { inner, measure }
    }

    fn check(&self, args: &[ColumnarValue]) -> Result<()> {
        let columns = ColumnarValue::values_to_arrays(args)?;
        let rows = columns.first().map_or(0, arrow::array::Array::len);
        let column = |at: usize| columns.get(at);
        let mut sum: u64 = 0;
        let sizes = match self.measure {
            Measure::Repeat => product(lengths(column(0)), numbers(column(1)), rows),
            Measure::Pad => product(Some(constant(4, rows)), numbers(column(1)), rows),
            Measure::Replace => product(lengths(column(0)), lengths(column(2)), rows),
            Measure::Elements => product(Some(constant(16, rows)), numbers(column(1)), rows),
            Measure::Span => span(numbers(column(0)), numbers(column(1)), numbers(column(2)), rows),
        };
        for size in sizes {
            sum = sum.saturating_add(size);
            if size > VALUE_BYTES || sum > BATCH_BYTES {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "{}() would make {} bytes, and at most {VALUE_BYTES} a value and {BATCH_BYTES} a batch are allowed",
                    self.inner.name(),
                    sum.max(size)
                )));
            }
        }
        Ok(())
    }
}

fn constant(value: i64, rows: usize) -> Int64Array {
    Int64Array::from_value(value, rows)
}

fn numbers(column: Option<&ArrayRef>) -> Option<Int64Array> {
    let column = cast(column?, &DataType::Int64).ok()?;
    Some(column.as_primitive::<Int64Type>().clone())
}

/// Bytes of each text.
fn lengths(column: Option<&ArrayRef>) -> Option<Int64Array> {
    let text = cast(column?, &DataType::LargeUtf8).ok()?;
    let text = text.as_string::<i64>();
    let length = |text: Option<&str>| text.map(|text| i64::try_from(text.len()).unwrap_or(i64::MAX));
    Some(text.iter().map(length).collect())
}

fn product(one: Option<Int64Array>, other: Option<Int64Array>, rows: usize) -> Vec<u64> {
    let at = |column: &Option<Int64Array>, row: usize| match column {
        Some(column) if column.is_null(row) => 0,
        Some(column) => u64::try_from(column.value(row)).unwrap_or(0),
        None => 1,
    };
    (0..rows).map(|row| at(&one, row).saturating_mul(at(&other, row))).collect()
}

fn span(start: Option<Int64Array>, stop: Option<Int64Array>, step: Option<Int64Array>, rows: usize) -> Vec<u64> {
    // One argument is the end of a range that begins at zero.
    let (start, stop) = if stop.is_some() { (start, stop) } else { (None, start) };
    let Some(stop) = stop else { return Vec::new() };
    let at = |column: &Option<Int64Array>, row: usize, default: i64| match column {
        Some(column) if !column.is_null(row) => column.value(row),
        _ => default,
    };
    (0..rows)
        .map(|row| {
            let distance = at(&start, row, 0).abs_diff(stop.value(row));
            (distance / at(&step, row, 1).unsigned_abs().max(1)).saturating_mul(8)
        })
        .collect()
}

impl ScalarUDFImpl for Capped {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args.args)?;
        self.inner.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_makes_is_known_before_it_is_made() {
        let texts: Option<Int64Array> = Some(vec![3, 1].into());
        let times: Option<Int64Array> = Some(vec![Some(1_500_000_000), None].into());
        assert_eq!(product(texts, times, 2), [4_500_000_000, 0]);
        assert_eq!(product(None, Some(vec![-4].into()), 1), [0]);
        let (start, stop): (Option<Int64Array>, Option<Int64Array>) = (Some(vec![1].into()), Some(vec![101].into()));
        assert_eq!(span(start.clone(), stop, None, 1), [800]);
        assert_eq!(span(start, None, None, 1), [8]);
    }
}
