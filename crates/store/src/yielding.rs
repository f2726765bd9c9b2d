//! Makes every plan stop when it is told to.
//!
//! Joins of DataFusion 55 do not yield (its issue 19358): while one runs, nothing else on that worker does,
//! neither a cancel nor a clock. The last rule of the optimizer puts a cooperative step around each of them.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// Wraps what may run for long without yielding.
#[derive(Debug)]
pub(crate) struct Yielding;

/// Operators that make many rows of few, besides the joins.
const OTHERS: [&str; 3] = ["RecursiveQueryExec", "UnnestExec", "LazyMemoryExec"];

impl PhysicalOptimizerRule for Yielding {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let name = node.name();
            if name.ends_with("JoinExec") || OTHERS.contains(&name) {
                Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>))
            } else {
                Ok(Transformed::no(node))
            }
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "yielding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
