//! `SET` and `SHOW`: what a client may say about itself, kept with its connection.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{Expr, Set, Statement};
use futures_util::{Sink, SinkExt as _};
use pgwire::api::ClientInfo;
use pgwire::api::Type;
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::ParameterStatus;

use super::errors::error;
use crate::functions::SETTINGS;

/// Where a connection keeps its own timeout, among its other settings.
const TIMEOUT: &str = "statement_timeout";

/// Settings whose change a client wants to be told, by the names it knows.
const REPORTED: [(&str, &str); 4] = [
    ("application_name", "application_name"),
    ("datestyle", "DateStyle"),
    ("intervalstyle", "IntervalStyle"),
    ("timezone", "TimeZone"),
];

/// How long the client lets a statement run, if it said so.
pub(super) fn timeout<C: ClientInfo>(client: &C) -> Option<Duration> {
    let text = client.metadata().get(TIMEOUT)?;
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().ok()?;
    let unit_ms: u64 = match text[digits.len()..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    (number > 0).then(|| Duration::from_millis(number.saturating_mul(unit_ms)))
}

/// Keeps what was set. The guard has seen it.
pub(super) async fn set<C>(client: &mut C, set: &Set) -> PgWireResult<Response>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let (name, value) = match set {
        Set::SingleAssignment { variable, values, .. } => {
            (variable.to_string().to_ascii_lowercase(), values.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        Set::SetTimeZone { value, .. } => ("timezone".to_owned(), plain(value)),
        _ => return Ok(Response::Execution(Tag::new("SET"))),
    };
    if name == "timezone"
        && !["utc", "gmt", "etc/utc", "zulu", "default"].contains(&value.to_ascii_lowercase().as_str())
    {
        // Instants have no zone here and are in UTC: to nod and go on would be a lie about every one of them.
        return Err(error("0A000", format!("time zone \"{value}\" is not supported: all times are in UTC")));
    }
    if let Some((_, reported)) = REPORTED.iter().find(|(known, _)| *known == name) {
        let status = ParameterStatus::new((*reported).to_owned(), value.clone());
        client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
    }
    client.metadata_mut().insert(name, value);
    Ok(Response::Execution(Tag::new("SET")))
}

fn plain(value: &Expr) -> String {
    let text = value.to_string();
    text.trim_matches(|quote| quote == '\'' || quote == '"').to_owned()
}

/// The setting that a `SHOW` asks for.
fn asked(statement: &Statement) -> String {
    let Statement::ShowVariable { variable } = statement else { return String::new() };
    let words: Vec<String> = variable.iter().map(|word| word.value.to_ascii_lowercase()).collect();
    match words.join(" ").as_str() {
        "time zone" => "timezone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        name => name.to_owned(),
    }
}

/// The columns of a `SHOW`.
pub(super) fn shown(statement: &Statement) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(asked(statement), DataType::Utf8, false)]))
}

pub(super) fn show<C: ClientInfo>(client: &C, statement: &Statement, most: Duration) -> PgWireResult<Response> {
    let name = asked(statement);
    let own = client.metadata().get(&name).cloned();
    let known = || SETTINGS.iter().find(|(setting, _)| *setting == name).map(|(_, value)| (*value).to_owned());
    let value = match name.as_str() {
        TIMEOUT => Some(format!("{}ms", timeout(client).map_or(most, |own| own.min(most)).as_millis())),
        "transaction_isolation" => Some("read committed".to_owned()),
        // These are not the client's to change, whatever it has set.
        "transaction_read_only" | "default_transaction_read_only" => Some("on".to_owned()),
        _ => own.or_else(known),
    };
    let Some(value) = value else {
        return Err(error("42704", format!("unrecognized configuration parameter \"{name}\"")));
    };
    let fields = Arc::new(vec![FieldInfo::new(name, None, None, Type::TEXT, FieldFormat::Text)]);
    let mut row = DataRowEncoder::new(Arc::clone(&fields));
    row.encode_field(&Some(value))?;
    let row = Ok(row.take_row());
    let mut response = QueryResponse::new(fields, futures_util::stream::iter([row]));
    response.set_command_tag("SHOW");
    Ok(Response::Query(response))
}
