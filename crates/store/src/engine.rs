//! The SQL engine over a [`Source`]: what a session is, how a statement runs, and what it may take.
//!
//! ```text
//! connection's task ── plan ──► worker: optimise, scan, execute ──► [2 batches] ──► connection's task
//!        cancel, deadline, hang-up ──► drops the receiving end ──► the worker's task is aborted
//! ```
//!
//! Queries run on threads of their own, so that accepting, cancelling and counting time go on whatever an
//! operator does. Panics of operators are errors of the statement.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::common::config::Dialect;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry as _, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_postgres::auth::AuthManager;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::datafusion_pg_functions;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::functions;
use crate::guard::{self, Refused, Verb};
use crate::limits::{self, Limits};
use crate::quotient::WideDivision;
use crate::snapshot::Source;
use crate::table::{Pinned, StoreTable};
use crate::yielding::Yielding;

/// The catalogue and the schema that hold the tables.
pub const CATALOG: &str = "market";
pub const SCHEMA: &str = "public";

/// Batches between a worker and the connection: one on its way, one being made.
const BATCHES_AHEAD: usize = 2;

/// Shared by all sessions.
pub struct Engine {
    source: Arc<dyn Source>,
    base: SessionContext,
    places: Arc<Semaphore>,
    workers: Handle,
    limits: Limits,
    parser: PostgresCompatibilityParser,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("source", &self.source).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Ends its task when it is dropped.
#[derive(Debug)]
struct Aborted(tokio::task::JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a statement gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("canceling statement due to user request")]
    Cancelled,
    #[error("canceling statement due to statement timeout")]
    TimedOut,
    /// An operator panicked; the words are its own.
    #[error("the engine failed on this statement: {0}")]
    Panicked(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Query(#[from] DataFusionError),
}

/// When a statement ends although it is not done.
#[derive(Clone, Debug)]
pub struct Until {
    pub cancelled: CancellationToken,
    pub deadline: Instant,
}

impl Until {
    /// Waits for the end, and says which it was.
    ///
    /// Cancel safe.
    pub async fn over(&self) -> Failed {
        tokio::select! {
            () = self.cancelled.cancelled() => Failed::Cancelled,
            () = tokio::time::sleep_until(self.deadline.into()) => Failed::TimedOut,
        }
    }
}

impl Engine {
    /// An engine that runs its queries on `workers`, and spills into `spill`, which must be empty.
    ///
    /// # Errors
    /// The engine refuses its settings, or the catalogue cannot be made.
    pub fn new(source: Arc<dyn Source>, limits: Limits, spill: &Path, workers: Handle) -> anyhow::Result<Engine> {
        const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");
        let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory_bytes), CONSUMERS_NAMED);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_temp_file_path(spill)
            .with_max_temp_directory_size(limits.spill_bytes)
            .build_arc()?;
        let state = SessionStateBuilder::new()
            .with_config(config())
            .with_runtime_env(runtime)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(Yielding))
            .build();
        let mut base = SessionContext::new_with_state(state);
        base.register_expr_planner(Arc::new(WideDivision))?;
        for (table, schema) in source.tables() {
            base.register_table(table, Arc::new(StoreTable::new(table, schema, Arc::clone(&source))))?;
        }
        setup_pg_catalog(&base, CATALOG, Arc::new(AuthManager::new())).map_err(|error| *error)?;
        datafusion_pg_functions::register_all(&mut base);
        functions::register(&base)?;
        let places = Arc::new(Semaphore::new(limits.statements));
        Ok(Engine { source, base, places, workers, limits, parser: PostgresCompatibilityParser::new() })
    }

    /// The statements of a text, with what PostgreSQL's clients write put into words that the engine knows.
    ///
    /// # Errors
    /// It is no SQL, or deeper than what works on it can bear ([`ParserError::RecursionLimitExceeded`]).
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>, ParserError> {
        crate::depth::check(sql)?;
        self.parser.parse(sql)
    }

    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Places that no statement holds at this moment.
    #[must_use]
    pub fn places_free(&self) -> usize {
        self.places.available_permits()
    }

    /// A session of its own: what it sets, nobody else sees.
    #[must_use]
    pub fn session(self: &Arc<Self>) -> Session {
        let state = SessionStateBuilder::new_from_existing(self.base.state()).build();
        Session { context: SessionContext::new_with_state(state), engine: Arc::clone(self) }
    }

    /// Ends with the limits' timeout from now, or when `cancelled` says so.
    #[must_use]
    pub fn until(&self, cancelled: CancellationToken) -> Until {
        Until { cancelled, deadline: Instant::now() + self.limits.timeout() }
    }
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(true)
        .with_target_partitions(limits::workers());
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    // Otherwise `price = 2003.72319981` asks for the nearest float, and no row has it.
    options.sql_parser.parse_float_as_decimal = true;
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    config
}

/// One connection's view of the engine.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    engine: Arc<Engine>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.context.session_id()).finish_non_exhaustive()
    }
}

/// A statement whose rows are on their way.
#[derive(Debug)]
pub struct Rows {
    batches: mpsc::Receiver<Result<RecordBatch, Failed>>,
    until: Until,
    /// The statement ends when nobody wants its rows any more.
    _task: Aborted,
}

impl Session {
    #[must_use]
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Plans a text that is one query.
    ///
    /// # Errors
    /// It is not valid, or not a query, or several.
    pub async fn plan_text(&self, sql: &str) -> Result<LogicalPlan, Failed> {
        let statements = self.engine.parse(sql).map_err(|error| DataFusionError::SQL(Box::new(error), None))?;
        let [statement] = statements.as_slice() else {
            return Err(DataFusionError::Plan(format!("write one query, not {}", statements.len())).into());
        };
        match guard::check(statement)? {
            Verb::Run => self.plan(statement).await,
            _ => Err(DataFusionError::Plan("this is not a query: it has no rows".to_owned()).into()),
        }
    }

    /// Plans a statement and refuses a plan that would change anything.
    ///
    /// # Errors
    /// It is not valid, or not a query.
    pub async fn plan(&self, statement: &Statement) -> Result<LogicalPlan, Failed> {
        let parsed = datafusion::sql::parser::Statement::Statement(Box::new(statement.clone()));
        let state = self.context.state();
        let plan = survive(state.statement_to_plan(parsed)).await??;
        read_only().verify_plan(&plan)?;
        Ok(plan)
    }

    /// Starts a planned query. Returns when it is scheduled, with everything it reads fixed.
    ///
    /// # Errors
    /// It cannot be planned to the end, or [`Until`] came first.
    pub async fn run(&self, plan: LogicalPlan, until: Until) -> Result<Rows, Failed> {
        read_only().verify_plan(&plan)?;
        let (started, scheduled) = tokio::sync::oneshot::channel();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let work = Work {
            context: self.context.clone(),
            source: Arc::clone(&self.engine.source),
            places: Arc::clone(&self.engine.places),
            plan,
        };
        let ending = until.clone();
        let task = self.engine.workers.spawn(async move {
            tokio::select! {
                () = work.run(started, sender) => {}
                // The client hears of it from its own end; here it only frees the place.
                _ = ending.over() => {}
            }
        });
        let task = Aborted(task);
        tokio::select! {
            started = scheduled => match started {
                Ok(started) => started?,
                Err(_) => return Err(until.over().now_or_never().unwrap_or_else(gone)),
            },
            over = until.over() => return Err(over),
        }
        Ok(Rows { batches, until, _task: task })
    }
}

impl Rows {
    /// The next batch; `None` after the last.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, Failed>> {
        tokio::select! {
            biased;
            over = self.until.over() => Some(Err(over)),
            batch = self.batches.recv() => batch,
        }
    }

    /// All rows, for a caller who wants them at once.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, Failed> {
        let mut all = Vec::new();
        while let Some(batch) = self.next().await {
            all.push(batch?);
        }
        Ok(all)
    }
}

/// What a worker does for one statement.
struct Work {
    context: SessionContext,
    source: Arc<dyn Source>,
    places: Arc<Semaphore>,
    plan: LogicalPlan,
}

impl Work {
    async fn run(
        self,
        started: tokio::sync::oneshot::Sender<Result<(), Failed>>,
        sender: mpsc::Sender<Result<RecordBatch, Failed>>,
    ) {
        let Ok(mut place) = self.places.acquire().await else { return };
        let mut state = self.context.state();
        // One cut for all scans of the statement: two of them must agree, whatever is recorded meanwhile.
        state.config_mut().set_extension(Arc::new(Pinned(self.source.snapshot())));
        let executed = survive(async {
            let plan = state.create_physical_plan(&self.plan).await?;
            execute_stream(plan, state.task_ctx())
        });
        let mut stream = match executed.await.and_then(|result| result.map_err(Failed::from)) {
            Ok(stream) => stream,
            Err(error) => {
                // Nobody may be waiting any more.
                let _ = started.send(Err(error));
                return;
            }
        };
        if started.send(Ok(())).is_err() {
            return;
        }
        loop {
            let batch = match survive(stream.next()).await {
                Ok(None) => return,
                Ok(Some(batch)) => batch.map_err(Failed::from),
                Err(panicked) => Err(panicked),
            };
            let failed = batch.is_err();
            // A cursor that nobody fetches from, and a client that reads slowly, take no place from others.
            drop(place);
            if sender.send(batch).await.is_err() || failed {
                return;
            }
            place = match self.places.acquire().await {
                Ok(place) => place,
                Err(_) => return,
            };
        }
    }
}

/// What no statement may do, whatever its text looked like.
fn read_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// Turns a panic into an error of the statement.
async fn survive<T>(work: impl Future<Output = T>) -> Result<T, Failed> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| Failed::Panicked(words(panic.as_ref())))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

/// The worker's task is gone without a word: the store is stopping.
fn gone() -> Failed {
    Failed::Panicked("the store is stopping".to_owned())
}
