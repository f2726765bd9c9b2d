//! Functions of ours: `time_bucket`, `first`, `last`, `ohlc`, what PostgreSQL's clients ask a server, and a
//! ceiling on those that make much of little.

mod capped;
mod ohlc;
mod pick;
mod server;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

pub use server::{SERVER_VERSION, SETTINGS, version};

/// Adds them to a context that has its tables and the standard functions.
pub(crate) fn register(context: &SessionContext) -> Result<()> {
    let date_bin = context.udf("date_bin")?;
    context.register_udf(date_bin.as_ref().clone().with_aliases(["time_bucket"]));
    context.register_udaf(AggregateUDF::from(pick::Pick::first()));
    context.register_udaf(AggregateUDF::from(pick::Pick::last()));
    if let Some(trades) = ohlc::Ohlc::over(context)? {
        context.register_udtf("ohlc", Arc::new(trades));
    }
    for (name, measure) in capped::MEASURED {
        if let Ok(inner) = context.udf(name) {
            context.register_udf(ScalarUDF::from(capped::Capped::new(inner, measure)));
        }
    }
    server::register(context);
    Ok(())
}
