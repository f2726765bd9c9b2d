//! Read-only: which statements there are at all, decided on the parsed text.
//!
//! The list names what is allowed; whatever is not on it is refused, also what a later version of the parser
//! learns. The plan of what passes is looked at once more ([`crate::engine`]): neither trusts the other.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DeclareType, Query, Reset, Select, Set, SetExpr, Statement, TableFactor, Visit, Visitor,
};

/// How a statement is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// By the engine, with rows.
    Run,
    Declare,
    Fetch,
    Close,
    Set,
    Show,
    Begin,
    Commit,
    Rollback,
    RollbackTo,
    Deallocate,
    /// With nothing but this word: it has no meaning where nothing can be changed.
    Nothing(&'static str),
}

/// A statement that is not answered, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub sqlstate: &'static str,
    pub message: String,
}

impl Refused {
    fn read_only(what: &str) -> Self {
        Refused { sqlstate: "25006", message: format!("cannot execute {what}: this database is read-only") }
    }

    fn unsupported(what: &str) -> Self {
        Refused { sqlstate: "0A000", message: what.to_owned() }
    }
}

/// Says how to answer a statement.
///
/// # Errors
/// It is refused.
pub fn check(statement: &Statement) -> Result<Verb, Refused> {
    match statement {
        Statement::Query(query) => only_reads(query).map(|()| Verb::Run),
        Statement::Explain { statement, .. } => match check(statement)? {
            Verb::Run => Ok(Verb::Run),
            _ => Err(Refused::read_only("EXPLAIN of anything but a query")),
        },
        Statement::ShowTables { .. } | Statement::ShowColumns { .. } | Statement::ExplainTable { .. } => Ok(Verb::Run),
        Statement::ShowVariable { .. } => Ok(Verb::Show),
        Statement::Declare { stmts } => {
            for declare in stmts {
                match (&declare.declare_type, &declare.for_query) {
                    (Some(DeclareType::Cursor), Some(query)) => only_reads(query)?,
                    _ => return Err(Refused::unsupported("only DECLARE … CURSOR FOR a query is supported")),
                }
            }
            Ok(Verb::Declare)
        }
        Statement::Fetch { into: None, .. } => Ok(Verb::Fetch),
        Statement::Close { .. } => Ok(Verb::Close),
        Statement::Set(set) => settable(set).map(|()| Verb::Set),
        Statement::Reset(reset) => match &reset.reset {
            Reset::ConfigurationParameter(name) => setting(&name.to_string()).map(|()| Verb::Nothing("RESET")),
            Reset::ALL => Ok(Verb::Nothing("RESET")),
        },
        Statement::StartTransaction { .. } => Ok(Verb::Begin),
        Statement::Commit { .. } => Ok(Verb::Commit),
        Statement::Rollback { savepoint: None, .. } => Ok(Verb::Rollback),
        Statement::Rollback { savepoint: Some(_), .. } => Ok(Verb::RollbackTo),
        Statement::Savepoint { .. } => Ok(Verb::Nothing("SAVEPOINT")),
        Statement::ReleaseSavepoint { .. } => Ok(Verb::Nothing("RELEASE")),
        Statement::Discard { .. } => Ok(Verb::Nothing("DISCARD ALL")),
        Statement::Deallocate { .. } => Ok(Verb::Deallocate),
        Statement::UNLISTEN { .. } => Ok(Verb::Nothing("UNLISTEN")),
        other => Err(Refused::read_only(&first_words(other))),
    }
}

/// The beginning of a statement, as its error names it.
fn first_words(statement: &Statement) -> String {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    words.join(" ")
}

/// Names that may be set: any but the engine's own.
fn settable(set: &Set) -> Result<(), Refused> {
    match set {
        Set::SingleAssignment { variable, .. } => setting(&variable.to_string()),
        Set::ParenthesizedAssignments { variables, .. } => {
            variables.iter().try_for_each(|name| setting(&name.to_string()))
        }
        Set::MultipleAssignments { assignments } => {
            assignments.iter().try_for_each(|one| setting(&one.name.to_string()))
        }
        Set::SetTimeZone { .. } | Set::SetNames { .. } | Set::SetTransaction { .. } => Ok(()),
        Set::SetSessionAuthorization(_) | Set::SetRole { .. } => {
            Err(Refused { sqlstate: "42501", message: "there is one role, and it cannot be changed".to_owned() })
        }
        _ => Err(Refused::unsupported("this form of SET is not supported")),
    }
}

fn setting(name: &str) -> Result<(), Refused> {
    let plain: String = name.chars().filter(|c| !matches!(c, '"' | '\'' | '`' | ' ')).collect();
    let plain = plain.to_ascii_lowercase();
    if plain.split('.').next() == Some("datafusion") {
        return Err(Refused { sqlstate: "42501", message: format!("permission denied to set parameter \"{plain}\"") });
    }
    Ok(())
}

/// A query, all the way down: no writes in it, and nothing that would be silently ignored.
fn only_reads(query: &Query) -> Result<(), Refused> {
    match query.visit(&mut Reads) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(refused),
    }
}

struct Reads;

impl Visitor for Reads {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        if !query.locks.is_empty() {
            return ControlFlow::Break(Refused::read_only("SELECT FOR UPDATE or FOR SHARE"));
        }
        body(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        if select.into.is_some() {
            return ControlFlow::Break(Refused::read_only("SELECT INTO"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refused> {
        let sampled = match factor {
            TableFactor::Table { sample, .. } | TableFactor::Derived { sample, .. } => sample.is_some(),
            _ => false,
        };
        if sampled {
            // It parses, and the engine would answer with all rows.
            return ControlFlow::Break(Refused::unsupported("TABLESAMPLE is not supported"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Refused> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            other => ControlFlow::Break(Refused::read_only(&first_words(other))),
        }
    }
}

fn body(expr: &SetExpr) -> ControlFlow<Refused> {
    match expr {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => {
            body(left)?;
            body(right)
        }
        SetExpr::Insert(other) | SetExpr::Update(other) | SetExpr::Delete(other) | SetExpr::Merge(other) => {
            ControlFlow::Break(Refused::read_only(&first_words(other)))
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::*;

    fn checked(sql: &str) -> Result<Verb, Refused> {
        let statements = PostgresCompatibilityParser::new().parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        check(&statements[0])
    }

    #[test]
    fn what_reads_is_answered() {
        for (sql, verb) in [
            ("select 1", Verb::Run),
            ("with t as (select 1 as x) select * from t union all select 2", Verb::Run),
            ("values (1), (2)", Verb::Run),
            ("explain analyze select 1", Verb::Run),
            ("show tables", Verb::Run),
            ("show server_version", Verb::Show),
            ("declare c cursor for select 1", Verb::Declare),
            ("fetch forward 10 from c", Verb::Fetch),
            ("close all", Verb::Close),
            ("set application_name = 'x'", Verb::Set),
            ("set session characteristics as transaction read only", Verb::Set),
            ("begin", Verb::Begin),
            ("savepoint a", Verb::Nothing("SAVEPOINT")),
            ("rollback to savepoint a", Verb::RollbackTo),
            ("release savepoint a", Verb::Nothing("RELEASE")),
            ("discard all", Verb::Nothing("DISCARD ALL")),
            ("reset all", Verb::Nothing("RESET")),
            ("deallocate all", Verb::Deallocate),
            ("unlisten *", Verb::Nothing("UNLISTEN")),
        ] {
            assert_eq!(checked(sql), Ok(verb), "{sql}");
        }
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (sql, sqlstate) in [
            ("select * from trades tablesample bernoulli (10)", "0A000"),
            ("select * from (select * from trades tablesample system (1)) t", "0A000"),
            ("select * from trades for update", "25006"),
            ("select 1 where exists (select 1 from trades for share)", "25006"),
            ("set datafusion.execution.batch_size = 1", "42501"),
            ("set \"datafusion.execution.batch_size\" = 1", "42501"),
            ("SET DataFusion.Runtime.Memory_Limit = '100G'", "42501"),
            ("set session datafusion.execution.batch_size = 1", "42501"),
            ("reset datafusion.execution.batch_size", "42501"),
            ("set role postgres", "42501"),
        ] {
            assert_eq!(checked(sql).map_err(|refused| refused.sqlstate), Err(sqlstate), "{sql}");
        }
    }
}
