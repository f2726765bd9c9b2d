//! `DECLARE`, `FETCH` and `CLOSE`: cursors, whose rows stay where they are until they are fetched.
//!
//! A cursor is a portal whose state is always `Suspended`, also after its last row, so that `Describe` can
//! tell its columns whenever a client asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{CloseCursor, Declare, FetchDirection, Ident, Statement, ValueWithSpan};
use futures_util::StreamExt as _;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::StoredStatement;
use pgwire::api::store::{MemPortalStore, PortalStore as _};
use pgwire::error::PgWireResult;
use pgwire::types::format::FormatOptions;
use tokio_util::sync::CancellationToken;

use super::errors::error;
use super::planner::{Planned, Planner};
use super::rows;
use crate::engine::Until;
use crate::guard::Verb;

pub(super) type Store = MemPortalStore<Planned>;

/// How long a cursor may stand open: it holds memory of the engine.
const LIFE: Duration = Duration::from_secs(600);

/// The end of a query whose rows are fetched in portions.
pub(super) fn long_until() -> Until {
    Until { cancelled: CancellationToken::new(), deadline: Instant::now() + LIFE }
}

/// Opens cursors; `bound` is the plan of the first with its parameters in place, where there were any.
pub(super) async fn declare(
    planner: &Planner,
    store: &Store,
    declares: &[Declare],
    mut bound: Option<LogicalPlan>,
) -> PgWireResult<Response> {
    for declare in declares {
        let (Some(name), Some(query)) = (declare.names.first(), &declare.for_query) else {
            return Err(error("42601", "DECLARE needs a name and a query"));
        };
        let plan = match bound.take() {
            Some(plan) => plan,
            None => planner.plan(&Statement::Query(query.clone()), Verb::Run).await?,
        };
        let format = if declare.binary == Some(true) { Format::UnifiedBinary } else { Format::UnifiedText };
        let mut response =
            rows::respond(&planner.session, plan, &format, FormatOptions::default(), long_until()).await?;
        response.data_rows = response.data_rows.fuse().boxed();
        let statement = StoredStatement::new(name.value.clone(), (query.to_string(), None), Vec::new());
        let portal = Portal::new_cursor(name.value.clone(), Arc::new(statement));
        portal.start(response).await;
        store.put_portal(Arc::new(portal));
    }
    Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
}

/// The columns of an open cursor or of a portal that is being read.
pub(super) async fn columns(portal: &Portal<Planned>) -> Option<Arc<Vec<FieldInfo>>> {
    match &*portal.state().lock().await {
        PortalExecutionState::Suspended(response) => Some(response.row_schema()),
        PortalExecutionState::Initial | PortalExecutionState::Finished => None,
    }
}

/// The cursor that a `FETCH` reads.
pub(super) fn find(store: &Store, name: &Ident) -> PgWireResult<Arc<Portal<Planned>>> {
    let portal = store.get_portal(&name.value).and_then(|entry| entry.value().cloned());
    portal.ok_or_else(|| error("34000", format!("cursor \"{}\" does not exist", name.value)))
}

/// The next rows, sent as the client takes them: none is kept here.
pub(super) async fn fetch(
    store: &Store,
    name: &Ident,
    direction: &FetchDirection,
    until: Until,
) -> PgWireResult<Response> {
    let most = match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Some(1),
        FetchDirection::Forward { limit: Some(limit) } | FetchDirection::Count { limit } => Some(count(limit)?),
        FetchDirection::All | FetchDirection::ForwardAll => None,
        _ => return Err(error("55000", "cursor can only scan forward")),
    };
    let portal = find(store, name)?;
    let Some(fields) = columns(&portal).await else {
        return Err(error("34000", format!("cursor \"{}\" is not open", name.value)));
    };
    let state = portal.state();
    let rows = futures_util::stream::unfold((state, most, until), |(state, left, until)| async move {
        if left == Some(0) {
            return None;
        }
        let row = {
            let mut locked = state.lock().await;
            let PortalExecutionState::Suspended(response) = &mut *locked else { return None };
            tokio::select! {
                row = response.data_rows.next() => row?,
                over = until.over() => Err(over.into()),
            }
        };
        let left = if row.is_err() { Some(0) } else { left.map(|left: u64| left - 1) };
        Some((row, (state, left, until)))
    });
    let mut response = QueryResponse::new(fields, rows);
    response.set_command_tag("FETCH");
    Ok(Response::Query(response))
}

fn count(limit: &ValueWithSpan) -> PgWireResult<u64> {
    limit.to_string().parse().map_err(|_| error("42601", format!("FETCH takes a number of rows, not {limit}")))
}

pub(super) fn close(store: &Store, cursor: &CloseCursor) -> Response {
    match cursor {
        CloseCursor::All => store.clear_portals(),
        CloseCursor::Specific { name } => store.rm_portal(&name.value),
    }
    Response::Execution(Tag::new("CLOSE CURSOR"))
}
