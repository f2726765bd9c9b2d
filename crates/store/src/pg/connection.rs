//! One connection: the simple and the extended protocol over one session of the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::Statement;
use futures_util::{Sink, SinkExt as _};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_partial_query_response,
};
use pgwire::api::results::{DescribePortalResponse, DescribeStatementResponse, Response, Tag};
use pgwire::api::stmt::{QueryParser as _, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::Execute;
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;
use pgwire::types::format::FormatOptions;
use tokio_util::sync::CancellationToken;

use super::cancel::Running;
use super::cursor::{self, Cursors, Store};
use super::errors::{error, fatal};
use super::planner::{Planned, Planner};
use super::{rows, setting};
use crate::engine::Until;
use crate::guard::{self, Verb};

pub(super) struct Connection {
    pub(super) planner: Arc<Planner>,
    pub(super) running: Arc<Running>,
    pub(super) cursors: Cursors,
    pub(super) passed: Arc<AtomicBool>,
}

/// Whether the rows go to the client in one go, or some now and some later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Portions {
    One,
    Several,
}

impl Connection {
    /// Nothing is answered before the password was right, whatever state the library thinks it is in.
    fn authenticated(&self) -> PgWireResult<()> {
        if self.passed.load(Ordering::Acquire) { Ok(()) } else { Err(fatal("28000", "authentication comes first")) }
    }

    fn until<C: ClientInfo>(&self, client: &C, cancelled: CancellationToken) -> Until {
        let mut until = self.planner.session.engine().until(cancelled);
        if let Some(own) = setting::timeout(client) {
            until.deadline = until.deadline.min(std::time::Instant::now() + own);
        }
        until
    }

    /// Answers one statement. `plan` is there when it was prepared.
    async fn answer<C>(
        &self,
        client: &mut C,
        statement: &Statement,
        plan: Option<LogicalPlan>,
        format: &Format,
        portions: Portions,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let verb = guard::check(statement)?;
        let failed = client.transaction_status() == TransactionStatus::Error;
        if failed && !matches!(verb, Verb::Commit | Verb::Rollback) {
            return Err(error(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        let until = self.until(client, self.running.begin());
        Ok(match (verb, statement) {
            (Verb::Run, _) => {
                let plan = match plan {
                    Some(plan) => plan,
                    None => {
                        tokio::select! {
                            plan = self.planner.plan(statement, verb) => plan?,
                            over = until.over() => return Err(over.into()),
                        }
                    }
                };
                let options = FormatOptions::from_client_metadata(client.metadata());
                let rows_until = if portions == Portions::Several { cursor::long_until() } else { until.clone() };
                tokio::select! {
                    response = rows::respond(&self.planner.session, plan, format, options, rows_until) => {
                        Response::Query(response?)
                    }
                    over = until.over() => return Err(over.into()),
                }
            }
            (Verb::Declare, Statement::Declare { stmts }) => {
                tokio::select! {
                    declared = self.cursors.declare(&self.planner, store(client)?, stmts, plan) => declared?,
                    over = until.over() => return Err(over.into()),
                }
            }
            (Verb::Fetch, Statement::Fetch { name, direction, .. }) => {
                self.cursors.fetch(name, direction, format, until)?
            }
            (Verb::Close, Statement::Close { cursor }) => self.cursors.close(store(client)?, cursor)?,
            (Verb::Set, Statement::Set(set)) => setting::set(client, set).await?,
            (Verb::Show, _) => setting::show(client, statement, self.planner.session.engine().limits().timeout())?,
            (Verb::Begin, _) => Response::TransactionStart(Tag::new("BEGIN")),
            (Verb::Commit | Verb::Rollback, _) => {
                self.cursors.transaction_ends(store(client)?);
                let word = if verb == Verb::Commit && !failed { "COMMIT" } else { "ROLLBACK" };
                Response::TransactionEnd(Tag::new(word))
            }
            (Verb::RollbackTo, _) => Response::Execution(Tag::new("ROLLBACK")),
            (Verb::Deallocate, Statement::Deallocate { name, .. }) => {
                store(client)?.rm_statement(&name.value);
                Response::Execution(Tag::new("DEALLOCATE"))
            }
            (Verb::Nothing(tag), _) => Response::Execution(Tag::new(tag)),
            _ => return Err(error("XX000", "a statement was taken for another")),
        })
    }

    /// Going back to a savepoint mends a failed transaction: nothing was changed since, or ever.
    fn mend<C: ClientInfo>(&self, client: &mut C, statement: &Statement) {
        if client.transaction_status() == TransactionStatus::Error
            && matches!(guard::check(statement), Ok(Verb::RollbackTo))
        {
            client.set_transaction_status(TransactionStatus::Transaction);
        }
    }
}

/// The portals of a connection.
fn store<C>(client: &C) -> PgWireResult<&Store>
where
    C: ClientPortalStore,
    C::PortalStore: PortalStore,
{
    let any = client.portal_store().as_any().downcast_ref::<Store>();
    any.ok_or_else(|| error("XX000", "the portals of this connection are of another kind"))
}

#[async_trait]
impl SimpleQueryHandler for Connection {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.authenticated()?;
        if client.transaction_status() == TransactionStatus::Error
            && let Some(statement) = self.planner.parse(&query.query)?.first()
        {
            self.mend(client, statement);
        }
        self._on_query(client, query).await
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = self.planner.parse(query)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut responses = Vec::with_capacity(statements.len());
        for statement in &statements {
            match self.answer(client, statement, None, &Format::UnifiedText, Portions::One).await {
                Ok(response) => responses.push(response),
                // What came before it was answered: the client gets that first, as from PostgreSQL.
                Err(error) if !responses.is_empty() => {
                    responses.push(Response::Error(Box::new(error.into())));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Connection {
    type Statement = Planned;
    type QueryParser = Planner;

    fn query_parser(&self) -> Arc<Planner> {
        Arc::clone(&self.planner)
    }

    async fn on_parse<C>(&self, client: &mut C, message: pgwire::messages::extendedquery::Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Planned>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.authenticated()?;
        let name = message.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        match StoredStatement::parse(client, &message, self.query_parser()).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(&name),
        }
        let done = pgwire::messages::extendedquery::ParseComplete::new();
        client.send(PgWireBackendMessage::ParseComplete(done)).await?;
        Ok(())
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Planned>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.authenticated()?;
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        match &portal.statement.statement.1 {
            Some((statement, _)) => self.mend(client, statement),
            // The portal beside a cursor.
            None => return Err(error("55000", format!("the rows of cursor \"{name}\" are read with FETCH"))),
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let status = self.execute(client, &portal, usize::try_from(message.max_rows).unwrap_or(0)).await?;
        client.set_state(PgWireConnectionState::ReadyForQuery);
        client.set_transaction_status(status);
        Ok(())
    }

    async fn do_describe_statement<C>(
        &self,
        _client: &mut C,
        target: &StoredStatement<Planned>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Planned>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let told = self.planner.get_parameter_types(&target.statement)?;
        let of_client = |at: usize| target.parameter_types.get(at).cloned().flatten();
        let count = told.len().max(target.parameter_types.len());
        let unknown = pgwire::api::Type::UNKNOWN;
        let types = (0..count)
            .map(|at| of_client(at).or_else(|| told.get(at).cloned()).unwrap_or_else(|| unknown.clone()))
            .collect();
        let fields = match &target.statement.1 {
            Some((Statement::Fetch { name, .. }, _)) => self.cursors.columns(name, &Format::UnifiedText)?,
            _ => self.planner.get_result_schema(&target.statement, None)?,
        };
        Ok(DescribeStatementResponse::new(types, fields))
    }

    async fn do_describe_portal<C>(
        &self,
        _client: &mut C,
        target: &Portal<Planned>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Planned>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // A cursor that was declared, or a portal read in part: its columns are those of its rows.
        if let Some(fields) = cursor::columns_of_portal(target).await {
            return Ok(DescribePortalResponse::new(fields.as_ref().clone()));
        }
        if let Some((Statement::Fetch { name, .. }, _)) = &target.statement.statement.1 {
            return Ok(DescribePortalResponse::new(self.cursors.columns(name, &target.result_column_format)?));
        }
        let fields = self.planner.get_result_schema(&target.statement.statement, Some(&target.result_column_format))?;
        Ok(DescribePortalResponse::new(fields))
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Planned>, max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Planned>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some((statement, plan)) = self.planner.bind(portal)? else { return Ok(Response::EmptyQuery) };
        let portions = if max_rows == 0 { Portions::One } else { Portions::Several };
        self.answer(client, &statement, Some(plan), &portal.result_column_format, portions).await
    }
}

impl Connection {
    /// Executes a portal, or goes on with one: rows are sent as they come, at most `max_rows` of them.
    async fn execute<C>(
        &self,
        client: &mut C,
        portal: &Portal<Planned>,
        max_rows: usize,
    ) -> PgWireResult<TransactionStatus>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Planned>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let status = client.transaction_status();
        let state = portal.state();
        let suspended = std::mem::replace(&mut *state.lock().await, PortalExecutionState::Finished);
        let mut response = match suspended {
            PortalExecutionState::Suspended(response) => response,
            PortalExecutionState::Finished => {
                send_execution_response(client, Tag::new("SELECT").with_rows(0)).await?;
                return Ok(status);
            }
            PortalExecutionState::Initial => {
                match ExtendedQueryHandler::do_query(self, client, portal, max_rows).await? {
                    Response::Query(response) => response,
                    Response::Execution(tag) => {
                        send_execution_response(client, tag).await?;
                        return Ok(status);
                    }
                    Response::TransactionStart(tag) => {
                        send_execution_response(client, tag).await?;
                        return Ok(status.to_in_transaction_state());
                    }
                    Response::TransactionEnd(tag) => {
                        send_execution_response(client, tag).await?;
                        return Ok(status.to_idle_state());
                    }
                    Response::Error(info) => return Err(PgWireError::UserError(info)),
                    _ => {
                        client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                        return Ok(status);
                    }
                }
            }
        };
        if send_partial_query_response(client, &mut response, max_rows).await? {
            *state.lock().await = PortalExecutionState::Suspended(response);
        }
        Ok(status)
    }
}
