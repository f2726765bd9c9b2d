//! Errors as PostgreSQL's clients know them: a severity, five characters, a sentence.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use pgwire::error::{ErrorInfo, PgWireError};

use crate::engine::Failed;
use crate::guard::Refused;

pub(super) fn error(sqlstate: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), sqlstate.to_owned(), message.into())))
}

/// The connection ends with it.
pub(super) fn fatal(sqlstate: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), sqlstate.to_owned(), message.into())))
}

impl From<Refused> for PgWireError {
    fn from(refused: Refused) -> Self {
        error(refused.sqlstate, refused.message)
    }
}

impl From<Failed> for PgWireError {
    fn from(failed: Failed) -> Self {
        let sqlstate = match &failed {
            Failed::Cancelled | Failed::TimedOut => "57014",
            Failed::Panicked(_) => "XX000",
            Failed::Refused(refused) => refused.sqlstate,
            Failed::Query(cause) => sqlstate(cause),
        };
        let mut message = failed.to_string();
        if let Failed::Query(cause) = &failed {
            message = cause.strip_backtrace();
        }
        error(sqlstate, message)
    }
}

fn sqlstate(cause: &DataFusionError) -> &'static str {
    match cause {
        DataFusionError::SQL(..) => "42601",
        DataFusionError::SchemaError(cause, _) => match cause.as_ref() {
            SchemaError::AmbiguousReference { .. } => "42702",
            SchemaError::FieldNotFound { .. } => "42703",
            _ => "42701",
        },
        DataFusionError::Plan(message) if message.contains("not found") && message.contains("table") => "42P01",
        DataFusionError::Plan(message) if message.starts_with("Invalid function") => "42883",
        DataFusionError::Plan(message) if is_write(message) => "25006",
        DataFusionError::Plan(_) => "42000",
        DataFusionError::NotImplemented(_) => "0A000",
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => "22000",
        DataFusionError::Context(_, cause) | DataFusionError::Diagnostic(_, cause) => sqlstate(cause),
        DataFusionError::Shared(cause) => sqlstate(cause),
        DataFusionError::Collection(causes) => causes.first().map_or("XX000", sqlstate),
        _ => "XX000",
    }
}

/// The words of the plan's own read-only check.
fn is_write(message: &str) -> bool {
    ["DDL not supported", "DML not supported", "Statement not supported"].iter().any(|words| message.starts_with(words))
}
