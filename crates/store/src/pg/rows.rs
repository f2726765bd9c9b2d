//! Rows for the wire, made as they are sent.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion::logical_expr::LogicalPlan;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use futures_util::Stream;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldInfo, QueryResponse};
use pgwire::error::PgWireResult;
use pgwire::messages::data::DataRow;
use pgwire::types::format::FormatOptions;

use super::errors::error;
use crate::engine::{Rows, Session, Until};

pub(super) type BatchRows = Box<dyn Iterator<Item = PgWireResult<DataRow>> + Send>;

/// Runs a plan, and answers with its rows.
pub(super) async fn respond(
    session: &Session,
    plan: LogicalPlan,
    format: &Format,
    options: FormatOptions,
    until: Until,
) -> PgWireResult<QueryResponse> {
    let schema = plan.schema().as_arrow();
    let fields = Arc::new(arrow_schema_to_pg_fields(schema, &whole(format, schema)?, Some(Arc::new(options)))?);
    let rows = session.run(plan, until).await?;
    Ok(QueryResponse::new(Arc::clone(&fields), stream(rows, fields)))
}

/// The columns of rows that are written in this form.
pub(super) fn fields(schema: &Schema, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    arrow_schema_to_pg_fields(schema, &whole(format, schema)?, None)
}

/// A form for each column: the library takes for granted that a client named as many as there are.
pub(super) fn whole(format: &Format, schema: &Schema) -> PgWireResult<Format> {
    let columns = schema.fields().len();
    match format {
        Format::Individual(codes) if codes.len() != columns => Err(error(
            "08P01",
            format!("bind message has {} result formats but query has {columns} columns", codes.len()),
        )),
        format => Ok(format.clone()),
    }
}

/// The rows of a batch, one after the other.
pub(super) fn encoded(fields: &Arc<Vec<FieldInfo>>, batch: RecordBatch) -> BatchRows {
    Box::new(encode_recordbatch(Arc::clone(fields), batch))
}

fn stream(rows: Rows, fields: Arc<Vec<FieldInfo>>) -> impl Stream<Item = PgWireResult<DataRow>> + Send {
    let batch: BatchRows = Box::new(std::iter::empty());
    futures_util::stream::unfold(Some((rows, batch, fields)), |state| async {
        let (mut rows, mut batch, fields) = state?;
        loop {
            match batch.next() {
                Some(Ok(row)) => return Some((Ok(row), Some((rows, batch, fields)))),
                // After an error there is nothing more, and the query ends here.
                Some(Err(error)) => return Some((Err(error), None)),
                None => {}
            }
            match rows.next().await? {
                Ok(next) => batch = encoded(&fields, next),
                Err(error) => return Some((Err(error.into()), None)),
            }
        }
    })
}
