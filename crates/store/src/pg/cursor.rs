//! `DECLARE`, `FETCH` and `CLOSE`: cursors, whose rows stay where they are until they are fetched.
//!
//! A row is written in the form that its `FETCH` asks for: a client declares in text and fetches in binary. Beside
//! each cursor lies a portal of its name, without rows, so that `Describe` can tell the columns whenever a client asks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{CloseCursor, Declare, FetchDirection, Ident, Statement, ValueWithSpan};
use futures_util::stream;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::StoredStatement;
use pgwire::api::store::{MemPortalStore, PortalStore as _};
use pgwire::error::PgWireResult;
use tokio_util::sync::CancellationToken;

use super::errors::error;
use super::planner::{Planned, Planner};
use super::rows::{self, BatchRows};
use crate::engine::{Rows, Until};
use crate::guard::Verb;

pub(super) type Store = MemPortalStore<Planned>;

/// How long a cursor may stand open: it holds memory of the engine.
const LIFE: Duration = Duration::from_secs(600);

/// The end of a query whose rows are fetched in portions.
pub(super) fn long_until() -> Until {
    Until { cancelled: CancellationToken::new(), deadline: Instant::now() + LIFE }
}

/// The open cursors of a connection, by name.
#[derive(Default)]
pub(super) struct Cursors(Mutex<HashMap<String, Arc<Cursor>>>);

pub(super) struct Cursor {
    schema: SchemaRef,
    /// `DECLARE … BINARY`: binary, whatever a `FETCH` asks for.
    binary: bool,
    /// `WITH HOLD`: it outlives its transaction.
    hold: bool,
    left: tokio::sync::Mutex<Left>,
}

/// What was not fetched yet.
struct Left {
    rows: Rows,
    batch: Option<RecordBatch>,
    over: bool,
}

impl Cursors {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Cursor>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens cursors; `bound` is the plan of the first with its parameters in place, where there were any.
    pub(super) async fn declare(
        &self,
        planner: &Planner,
        store: &Store,
        declares: &[Declare],
        mut bound: Option<LogicalPlan>,
    ) -> PgWireResult<Response> {
        for declare in declares {
            let (Some(name), Some(query)) = (declare.names.first(), &declare.for_query) else {
                return Err(error("42601", "DECLARE needs a name and a query"));
            };
            let taken = || error("42P03", format!("cursor \"{}\" already exists", name.value));
            if self.lock().contains_key(&name.value) {
                return Err(taken());
            }
            let plan = match bound.take() {
                Some(plan) => plan,
                None => planner.plan(&Statement::Query(query.clone()), Verb::Run).await?,
            };
            let schema = Arc::clone(plan.schema().inner());
            let (binary, hold) = (declare.binary == Some(true), declare.hold == Some(true));
            let fields = Arc::new(rows::fields(&schema, &asked(binary, &Format::UnifiedText))?);
            let rows = planner.session.run(plan, long_until()).await?;
            let left = tokio::sync::Mutex::new(Left { rows, batch: None, over: false });
            match self.lock().entry(name.value.clone()) {
                Entry::Occupied(_) => return Err(taken()),
                Entry::Vacant(free) => {
                    free.insert(Arc::new(Cursor { schema, binary, hold, left }));
                }
            }
            let statement = StoredStatement::new(name.value.clone(), (query.to_string(), None), Vec::new());
            let portal = Portal::new_cursor(name.value.clone(), Arc::new(statement));
            portal.start(QueryResponse::new(fields, stream::empty())).await;
            store.put_portal(Arc::new(portal));
        }
        Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
    }

    fn find(&self, name: &Ident) -> PgWireResult<Arc<Cursor>> {
        let found = self.lock().get(&name.value).cloned();
        found.ok_or_else(|| error("34000", format!("cursor \"{}\" does not exist", name.value)))
    }

    /// The columns that a `FETCH` in this form answers with.
    pub(super) fn columns(&self, name: &Ident, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
        let cursor = self.find(name)?;
        rows::fields(&cursor.schema, &asked(cursor.binary, format))
    }

    /// The next rows, sent as the client takes them: none is kept here.
    pub(super) fn fetch(
        &self,
        name: &Ident,
        direction: &FetchDirection,
        format: &Format,
        until: Until,
    ) -> PgWireResult<Response> {
        let most = match direction {
            FetchDirection::Next | FetchDirection::Forward { limit: None } => 1,
            FetchDirection::Forward { limit: Some(limit) } | FetchDirection::Count { limit } => count(limit)?,
            FetchDirection::All | FetchDirection::ForwardAll => usize::MAX,
            _ => return Err(error("55000", "cursor can only scan forward")),
        };
        let cursor = self.find(name)?;
        let fields = Arc::new(rows::fields(&cursor.schema, &asked(cursor.binary, format))?);
        let fetching =
            Fetching { cursor, fields: Arc::clone(&fields), most, until, ready: Box::new(std::iter::empty()) };
        let rows = stream::unfold(Some(fetching), |fetching| async {
            let mut fetching = fetching?;
            let row = fetching.next().await?;
            // After an error there is nothing more.
            let on = row.is_ok().then_some(fetching);
            Some((row, on))
        });
        let mut response = QueryResponse::new(fields, rows);
        response.set_command_tag("FETCH");
        Ok(Response::Query(response))
    }

    pub(super) fn close(&self, store: &Store, cursor: &CloseCursor) -> PgWireResult<Response> {
        match cursor {
            CloseCursor::All => self.end(store, |_| true),
            CloseCursor::Specific { name } => {
                self.find(name)?;
                self.lock().remove(&name.value);
                store.rm_portal(&name.value);
            }
        }
        Ok(Response::Execution(Tag::new("CLOSE CURSOR")))
    }

    /// A transaction ends, and with it what it declared without `WITH HOLD`.
    pub(super) fn transaction_ends(&self, store: &Store) {
        self.end(store, |cursor| !cursor.hold);
    }

    fn end(&self, store: &Store, which: impl Fn(&Cursor) -> bool) {
        self.lock().retain(|name, cursor| {
            let ends = which(cursor);
            if ends {
                store.rm_portal(name);
            }
            !ends
        });
    }
}

/// One `FETCH`.
struct Fetching {
    cursor: Arc<Cursor>,
    fields: Arc<Vec<FieldInfo>>,
    /// Rows that it may still take of the cursor.
    most: usize,
    until: Until,
    ready: BatchRows,
}

impl Fetching {
    async fn next(&mut self) -> Option<PgWireResult<pgwire::messages::data::DataRow>> {
        loop {
            if let Some(row) = self.ready.next() {
                return Some(row);
            }
            if self.most == 0 {
                return None;
            }
            let taken = tokio::select! {
                taken = self.cursor.take(self.most) => taken?,
                over = self.until.over() => return Some(Err(over.into())),
            };
            match taken {
                Ok(rows) => {
                    self.most -= rows.num_rows();
                    self.ready = rows::encoded(&self.fields, rows);
                }
                Err(failed) => return Some(Err(failed)),
            }
        }
    }
}

impl Cursor {
    /// Some of the next rows, at most so many. Cancel safe: what is not returned is not taken.
    async fn take(&self, most: usize) -> Option<PgWireResult<RecordBatch>> {
        let mut left = self.left.lock().await;
        while !left.over {
            if let Some(batch) = left.batch.take().filter(|batch| batch.num_rows() > 0) {
                let count = most.min(batch.num_rows());
                let taken = batch.slice(0, count);
                left.batch = Some(batch.slice(count, batch.num_rows() - count));
                return Some(Ok(taken));
            }
            match left.rows.next().await {
                Some(Ok(batch)) => left.batch = Some(batch),
                Some(Err(failed)) => {
                    left.over = true;
                    return Some(Err(failed.into()));
                }
                None => left.over = true,
            }
        }
        None
    }
}

/// The form that rows are written in.
fn asked(binary: bool, format: &Format) -> Format {
    if binary { Format::UnifiedBinary } else { format.clone() }
}

/// The columns of a portal that was read in part, or of the one beside a cursor.
pub(super) async fn columns_of_portal(portal: &Portal<Planned>) -> Option<Arc<Vec<FieldInfo>>> {
    match &*portal.state().lock().await {
        PortalExecutionState::Suspended(response) => Some(response.row_schema()),
        PortalExecutionState::Initial | PortalExecutionState::Finished => None,
    }
}

fn count(limit: &ValueWithSpan) -> PgWireResult<usize> {
    limit.to_string().parse().map_err(|_| error("42601", format!("FETCH takes a number of rows, not {limit}")))
}
