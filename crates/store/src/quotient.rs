//! Division of decimals, so that a ratio of two sums is a number and not an error.
//!
//! The engine divides decimals of 38 digits by moving the dividend's point as far as the divisor has places. With ten and
//! twenty places, as prices and products of them have, that overflows for amounts of a few thousand:
//! `sum(price * size) / sum(size)` is the average price everybody asks for. And `1 / price` would have four places.
//!
//! Here both sides get 76 digits for the division, and the quotient has eighteen places.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{ExprSchemable as _, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Digits and places of a quotient: as many before the point as a sum of products has.
const QUOTIENT: DataType = DataType::Decimal128(38, 18);
const WIDE: u8 = 76;

/// Divides decimals with room for the digits in between.
#[derive(Debug)]
pub(crate) struct WideDivision;

impl ExprPlanner for WideDivision {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>, DataFusionError> {
        if expr.op != BinaryOperator::Divide {
            return Ok(PlannerResult::Original(expr));
        }
        // A parameter has no type yet.
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let decimal = |side: &DataType| matches!(side, DataType::Decimal128(..));
        let (Some(left_places), Some(right_places)) = (places(&left), places(&right)) else {
            return Ok(PlannerResult::Original(expr));
        };
        if !decimal(&left) && !decimal(&right) {
            return Ok(PlannerResult::Original(expr));
        }
        let name = format!("{} / {}", expr.left.schema_name(), expr.right.schema_name());
        let left = cast(expr.left, DataType::Decimal256(WIDE, left_places.max(14)));
        let right = cast(expr.right, DataType::Decimal256(WIDE, right_places));
        Ok(PlannerResult::Planned(cast(left / right, QUOTIENT).alias(name)))
    }
}

/// Places behind the point of what can be divided exactly; `None` for what is no such number.
fn places(side: &DataType) -> Option<i8> {
    match side {
        DataType::Decimal128(_, places) => Some(*places),
        side if side.is_integer() => Some(0),
        _ => None,
    }
}
