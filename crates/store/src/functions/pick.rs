//! `first(value, order)` and `last(value, order)`: the value of the row that comes first or last by `order`.
//!
//! Short for `first_value(value ORDER BY order)`, which they become while the statement is planned.

use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Expr, Signature, Volatility};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Pick {
    last: bool,
    signature: Signature,
}

impl Pick {
    pub(super) fn first() -> Self {
        Pick { last: false, signature: Signature::any(2, Volatility::Immutable) }
    }

    pub(super) fn last() -> Self {
        Pick { last: true, ..Pick::first() }
    }
}

impl AggregateUDFImpl for Pick {
    fn name(&self) -> &str {
        if self.last { "last" } else { "first" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value, _] => Ok(value.clone()),
            _ => plan_err!("{} takes a value and what to order by", self.name()),
        }
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        internal_err!("{} was not rewritten", self.name())
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let into = if self.last { last_value_udaf() } else { first_value_udaf() };
        Some(Box::new(move |call: AggregateFunction, _| {
            let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = call.params;
            let mut args = args.into_iter();
            let (Some(value), Some(order)) = (args.next(), args.next()) else {
                return plan_err!("first and last take a value and what to order by");
            };
            let mut sort = vec![order.sort(true, true)];
            sort.extend(order_by);
            Ok(Expr::AggregateFunction(AggregateFunction::new_udf(
                std::sync::Arc::clone(&into),
                vec![value],
                distinct,
                filter,
                sort,
                null_treatment,
            )))
        }))
    }
}
