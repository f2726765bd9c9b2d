//! `ohlc(symbol, interval [, from [, to]])`: candles of the trades of one symbol, as a table.
//!
//! ```sql
//! select * from ohlc('BTC/USD', '1m', '2026-07-19', '2026-07-20') order by start
//! ```
//!
//! A view over `trades`: half-open buckets on the venue's time, first and last in the order of the tape. They
//! are computed from what is stored; the table `candles` has those that were recorded, with their flags.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions::datetime::expr_fn::date_bin;
use datafusion::functions_aggregate::expr_fn::{count, first_value, last_value, max, min, sum};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, col, lit};
use datafusion::prelude::SessionContext;

/// What the wire can carry of a decimal: 28 digits, 10 of them behind the point, as in the tables.
const DECIMAL: DataType = DataType::Decimal128(28, 10);
/// A division takes fourteen more digits than its result shows: 38 of them would not do for a busy minute.
const NOTIONAL: DataType = DataType::Decimal256(76, 20);
const TOTAL: DataType = DataType::Decimal256(76, 10);
const INSTANT: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

#[derive(Debug)]
pub(super) struct Ohlc {
    trades: Arc<dyn TableProvider>,
}

impl Ohlc {
    /// Over the table `trades`, if there is one.
    pub(super) fn over(context: &SessionContext) -> Result<Option<Self>> {
        let schema = context.catalog(crate::engine::CATALOG).and_then(|catalog| catalog.schema(crate::engine::SCHEMA));
        let Some(schema) = schema else { return Ok(None) };
        // The schema is in memory: the answer is there at once.
        let trades = futures_util::FutureExt::now_or_never(schema.table("trades")).transpose()?.flatten();
        Ok(trades.map(|trades| Ohlc { trades }))
    }
}

#[async_trait]
impl TableFunctionImpl for Ohlc {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        const USAGE: &str = "write ohlc('BTC/USD', '1m'), with the first moment and the end after it if wanted";
        let (symbol, interval, bounds) = match args.exprs() {
            [symbol, interval, bounds @ ..] if bounds.len() <= 2 => (symbol, interval, bounds),
            _ => return plan_err!("{USAGE}"),
        };
        let Expr::Literal(ScalarValue::Utf8(Some(interval)), _) = interval else { return plan_err!("{USAGE}") };
        let width = cast(lit(spelled_out(interval)), DataType::Interval(IntervalUnit::MonthDayNano));
        let at = coalesce(vec![col("ts_event"), col("ts_recv")]);
        let mut filter = col("symbol").eq(symbol.clone());
        for (bound, later) in bounds.iter().zip([true, false]) {
            let bound = cast(bound.clone(), INSTANT);
            let within = |time: Expr| if later { time.gt_eq(bound.clone()) } else { time.lt(bound.clone()) };
            // In this form a file is left out by the least and greatest value of either column.
            let untold = col("ts_event").is_null().and(within(col("ts_recv")));
            filter = filter.and(within(col("ts_event")).or(untold));
        }
        let seq = || vec![col("seq").sort(true, true)];
        let notional = sum(cast(col("price"), DECIMAL) * cast(col("size"), DECIMAL));
        let plan = LogicalPlanBuilder::scan("trades", provider_as_source(Arc::clone(&self.trades)), None)?
            .filter(filter)?
            .aggregate(
                vec![date_bin(width, at, lit(ScalarValue::TimestampNanosecond(Some(0), None))).alias("start")],
                vec![
                    first_value(col("price"), seq()).alias("open"),
                    max(col("price")).alias("high"),
                    min(col("price")).alias("low"),
                    last_value(col("price"), seq()).alias("close"),
                    sum(col("size")).alias("total"),
                    notional.alias("notional"),
                    count(lit(1)).alias("trades"),
                ],
            )?
            .project(vec![
                col("start"),
                col("open"),
                col("high"),
                col("low"),
                col("close"),
                cast(col("total"), DECIMAL).alias("volume"),
                cast(cast(col("notional"), NOTIONAL) / cast(col("total"), TOTAL), DECIMAL).alias("vwap"),
                col("trades"),
            ])?
            .build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

/// `1m` as people write it in the config, in PostgreSQL's words; its own words as they are.
fn spelled_out(interval: &str) -> String {
    let unit = match interval.as_bytes().last() {
        Some(b's') => "seconds",
        Some(b'm') => "minutes",
        Some(b'h') => "hours",
        Some(b'd') => "days",
        _ => return interval.to_owned(),
    };
    let number = &interval[..interval.len() - 1];
    if number.is_empty() || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return interval.to_owned();
    }
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_short_or_in_words() {
        for (short, long) in [("1m", "1 minutes"), ("15s", "15 seconds"), ("1 minute", "1 minute"), ("s", "s")] {
            assert_eq!(spelled_out(short), long);
        }
    }
}
