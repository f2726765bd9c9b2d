//! From text to plans, for the protocol's `Parse`: one statement, checked, with the types of its parameters.

use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, ParamValues, ToDFSchema as _};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Declare, Statement};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_postgres::DfSessionService;
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::ExtendedQueryHandler as _;
use pgwire::api::results::FieldInfo;
use pgwire::api::stmt::QueryParser;
use pgwire::api::{ClientInfo, Type};
use pgwire::error::PgWireResult;
use tokio_util::sync::CancellationToken;

use super::errors::error;
use super::{rows, setting};
use crate::engine::{Failed, Session};
use crate::guard::{self, Verb};

/// As the library's own service has it, so that its helpers take it.
pub(super) type Planned = (String, Option<(Statement, LogicalPlan)>);

/// Texts longer than this are no queries of people or of their tools.
const SQL_BYTES: usize = 1 << 20;

/// Where Grafana's editor looks for the search path, which the library's parser answers with nothing.
const GRAFANA_PATH: (&str, &str, &str) = ("SELECT CASE WHEN trim(s[i])", "',') s", "'public'");

pub(super) struct Planner {
    pub(super) session: Session,
    types: Arc<datafusion_postgres::Parser>,
}

impl Planner {
    pub(super) fn new(session: Session) -> Self {
        let service = DfSessionService::new_with_hooks(Arc::new(session.context().clone()), Vec::new());
        Planner { types: service.query_parser(), session }
    }

    /// The statements of a text.
    pub(super) fn parse(&self, sql: &str) -> PgWireResult<Vec<Statement>> {
        if sql.len() > SQL_BYTES {
            return Err(error("54000", format!("the statement is longer than {SQL_BYTES} bytes")));
        }
        let sql = with_public_path(sql);
        self.session.engine().parse(&sql).map_err(|cause| match cause {
            ParserError::RecursionLimitExceeded => {
                error("54001", "the statement is too deep: too many operators in a row, or brackets within brackets")
            }
            cause => error("42601", cause.to_string()),
        })
    }

    /// The plan of a statement that the guard lets through; one without rows for what the engine does not answer.
    pub(super) async fn plan(&self, statement: &Statement, verb: Verb) -> PgWireResult<LogicalPlan> {
        match (verb, statement) {
            (Verb::Run, _) => self.plan_query(statement).await,
            // The query's own plan: its parameters are bound like any other's.
            (Verb::Declare, Statement::Declare { stmts }) => match stmts.as_slice() {
                [Declare { for_query: Some(query), .. }] => self.plan_query(&Statement::Query(query.clone())).await,
                _ => Ok(without_rows(DFSchema::empty())),
            },
            (Verb::Show, _) => Ok(without_rows(setting::shown(statement).to_dfschema().map_err(Failed::from)?)),
            _ => Ok(without_rows(DFSchema::empty())),
        }
    }

    async fn plan_query(&self, query: &Statement) -> PgWireResult<LogicalPlan> {
        let until = self.session.engine().until(CancellationToken::new());
        tokio::select! {
            plan = self.session.plan(query) => Ok(plan?),
            over = until.over() => Err(over.into()),
        }
    }

    /// A plan with its parameters in place.
    pub(super) fn bind(&self, portal: &Portal<Planned>) -> PgWireResult<Option<(Statement, LogicalPlan)>> {
        let Some((statement, plan)) = &portal.statement.statement.1 else { return Ok(None) };
        let values = self.values(portal, plan)?;
        let plan = plan.clone().replace_params_with_values(&values).map_err(Failed::from)?;
        Ok(Some((statement.clone(), plan)))
    }

    fn values(&self, portal: &Portal<Planned>, plan: &LogicalPlan) -> PgWireResult<ParamValues> {
        let wire = self.types.get_parameter_types(&portal.statement.statement)?;
        let wire: Vec<Option<&Type>> = wire.iter().map(Some).collect();
        let inferred = parameters(plan).map_err(Failed::from)?;
        let inferred: Vec<Option<&DataType>> = inferred.iter().map(Option::as_ref).collect();
        deserialize_parameters_with_server_types(portal, &inferred, &wire)
    }
}

fn without_rows(schema: DFSchema) -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(schema) })
}

/// The types of `$1`, `$2` …, where the plan or a cast tells them.
fn parameters(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, DataFusionError> {
    let mut types = plan.get_parameter_types()?;
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Cast(cast) = expr
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    let told = types.entry(placeholder.id.clone()).or_default();
                    *told = told.take().or_else(|| Some(cast.field.data_type().clone()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let number = |id: &String| id.trim_start_matches('$').parse::<u32>().unwrap_or(u32::MAX);
    let mut types: Vec<(String, Option<DataType>)> = types.into_iter().collect();
    types.sort_by_key(|(id, _)| number(id));
    Ok(types.into_iter().map(|(_, data_type)| data_type).collect())
}

fn with_public_path(sql: &str) -> String {
    let (begins, ends, path) = GRAFANA_PATH;
    if !sql.contains("trim(s[i])") {
        return sql.to_owned();
    }
    let plain = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(from) = plain.find(begins) else { return sql.to_owned() };
    let Some(len) = plain[from..].find(ends) else { return sql.to_owned() };
    format!("{}{path}{}", &plain[..from], &plain[from + len + ends.len()..])
}

#[async_trait]
impl QueryParser for Planner {
    type Statement = Planned;

    async fn parse_sql<C>(&self, _client: &C, sql: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Planned>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = self.parse(sql)?;
        if statements.len() > 1 {
            return Err(error("42601", "cannot insert multiple commands into a prepared statement"));
        }
        let Some(statement) = statements.pop() else { return Ok(None) };
        let verb = guard::check(&statement)?;
        let plan = self.plan(&statement, verb).await?;
        Ok(Some((statement.to_string(), Some((statement, plan)))))
    }

    fn get_parameter_types(&self, planned: &Planned) -> PgWireResult<Vec<Type>> {
        self.types.get_parameter_types(planned)
    }

    fn get_result_schema(&self, planned: &Planned, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        match &planned.1 {
            // It opens the query and answers without rows.
            Some((Statement::Declare { .. }, _)) => Ok(Vec::new()),
            Some((_, plan)) => {
                let whole = format.map(|format| rows::whole(format, plan.schema().as_arrow())).transpose()?;
                self.types.get_result_schema(planned, whole.as_ref())
            }
            None => self.types.get_result_schema(planned, format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::with_public_path;

    #[test]
    fn the_search_path_of_grafana_is_public() {
        let sql = "SELECT x WHERE s IN (\n SELECT\n CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END\n \
            FROM generate_series(1, 2) as i, string_to_array(current_setting('search_path'),',') s)";
        assert_eq!(with_public_path(sql), "SELECT x WHERE s IN ( 'public')");
        assert_eq!(with_public_path("select  'a  b'"), "select  'a  b'");
    }
}
