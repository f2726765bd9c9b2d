//! One connection, and a batch in one transaction on it.
//!
//! ```text
//! BEGIN ─ mark moved, if it is still the one we know ─ COPY a table and day ─ candles ─ COMMIT
//! ```
//!
//! The mark goes first: its row lock keeps a transaction of ours that the server still holds, after the connection was given
//! up, from doing the same beside us.

use std::collections::{HashMap, HashSet};

use anyhow::anyhow;
use bytes::Bytes;
use futures_util::SinkExt as _;
use tapedeck_market::{Record, Uuid};
use tapedeck_tables::Table;
use tokio::task::JoinSet;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Statement};

use super::candles::{self, Merged};
use super::config::Config;
use super::days::Days;
use super::dsn::Target;
use super::layout::{self, Day};
use super::{audit, failure, read, schema, tls};
use crate::sinks::SinkError;
use crate::sinks::audit::Row;

/// Statements kept prepared: a day's worth of tables, and no end of days.
const STATEMENTS: usize = 256;

/// Rows of one table and day.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub table: Table,
    pub day: Day,
    pub rows: Bytes,
    pub count: u64,
}

/// A batch, ready to be written.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub rows: Vec<Part>,
    pub candles: Option<candles::Batch>,
}

/// What may go wrong with a batch.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A row is there already.
    Duplicate(String),
    /// A merged table will never take a row; our own would.
    Merged(String),
    Sink(SinkError),
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Self {
        Trouble::Sink(error)
    }
}

/// A connection to a schema that is as it should be.
pub(super) struct Session {
    pub client: Client,
    /// Drives the connection; it ends with the session.
    _driver: JoinSet<()>,
    pub schema: String,
    sink: String,
    tape: Uuid,
    /// The mark as the server has it.
    mark: Option<Vec<u8>>,
    days: Days,
    statements: HashMap<String, Statement>,
    staged: HashSet<Table>,
    pub merged: HashMap<i64, Merged>,
}

/// Connects.
///
/// # Errors
/// The server is away, or refuses us.
pub(super) async fn connect(target: &Target, sink: &str) -> Result<(Client, JoinSet<()>), SinkError> {
    let tls = tls::connector(target).map_err(SinkError::Waiting)?;
    let mut config = target.config.clone();
    if config.get_application_name().is_none() {
        config.application_name(format!("tapedeck {sink}"));
    }
    let doing = format!("connecting to {}", target.shown());
    let connected = config.connect(tls).await;
    let (client, connection) = connected.map_err(|error| failure::of_opening(&error, &doing))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = failure::words(&error), "the connection to PostgreSQL ended");
        }
    });
    // The days of partitions are read in UTC.
    let zone = client.batch_execute("SET TimeZone = 'UTC'").await;
    zone.map_err(|error| failure::of_opening(&error, &doing))?;
    Ok((client, driver))
}

impl Session {
    /// Connects, makes or mends the schema, and reads what was delivered of that tape.
    pub(super) async fn open(config: &Config, target: &Target, sink: &str, tape: Uuid) -> Result<Session, SinkError> {
        let (client, driver) = connect(target, sink).await?;
        let read_only = client.query_one("SELECT current_setting('transaction_read_only')", &[]).await;
        let read_only = read_only.map_err(|error| failure::of_opening(&error, "asking for its state"))?;
        if read_only.get::<_, &str>(0) == "on" {
            return Err(SinkError::Unavailable(anyhow!("the database is read-only")));
        }
        schema::prepare(&client, &config.schema).await?;
        let mut days = Days::read(&client, &config.schema).await?;
        days.make_ahead(&client, &config.schema).await;
        let cursors = layout::full(&config.schema, "cursors");
        let sql = format!("SELECT mark FROM {cursors} WHERE sink = $1 AND tape_id = $2");
        let row = client.query_opt(&sql, &[&sink, &PgUuid(tape)]).await;
        let row = row.map_err(|error| failure::of_opening(&error, "reading the cursor"))?;
        Ok(Session {
            client,
            _driver: driver,
            schema: config.schema.clone(),
            sink: sink.to_owned(),
            tape,
            mark: row.map(|row| row.get(0)),
            days,
            statements: HashMap::new(),
            staged: HashSet::new(),
            merged: HashMap::new(),
        })
    }

    pub(super) fn mark(&self) -> Option<&Vec<u8>> {
        self.mark.as_ref()
    }

    /// What a person should know of it.
    pub(super) fn note(&self) -> Option<String> {
        self.days.note()
    }

    pub(super) fn tape(&self) -> Uuid {
        self.tape
    }

    /// Looks at the partitions again, and makes those of the next days.
    pub(super) async fn tend(&mut self) -> Result<(), SinkError> {
        self.days = Days::read(&self.client, &self.schema).await?;
        self.days.make_ahead(&self.client, &self.schema).await;
        Ok(())
    }

    /// Writes a batch, and moves the mark with it. After an error nothing of it is there.
    pub(super) async fn write(
        &mut self,
        parts: &Parts,
        doomed: &[&Row],
        mark: Option<&[u8]>,
        seq: Option<u64>,
        careful: bool,
    ) -> Result<u64, Trouble> {
        // Made before the transaction: they stay, whatever becomes of it.
        let mut targets = Vec::with_capacity(parts.rows.len());
        for part in &parts.rows {
            self.days.make(&self.client, &self.schema, part.table, part.day).await?;
            if careful {
                self.stage(part.table).await?;
            }
            let target = self.days.target(&self.schema, part.table, part.day);
            targets.push(target.unwrap_or_else(|| layout::full(&self.schema, part.table.name())));
        }
        if parts.candles.is_some() {
            self.stage(Table::Candles).await?;
        }
        self.begin(mark, seq).await?;
        audit::remove(self, doomed.iter().copied()).await?;
        let mut there = 0;
        for (part, target) in parts.rows.iter().zip(targets) {
            there += if careful { self.merge(part).await? } else { self.append(part, &target).await? };
        }
        if let Some(batch) = &parts.candles {
            let stage = stage_of(Table::Candles);
            self.copy(Table::Candles, &stage, batch.rows.clone()).await.map_err(refused)?;
            candles::write(self, batch).await?;
        }
        self.client.batch_execute("COMMIT").await.map_err(refused)?;
        if let Some(mark) = mark {
            self.mark = Some(mark.to_vec());
        }
        Ok(there)
    }

    /// Writes a batch, reads a table's row of it back, and undoes all of it.
    pub(super) async fn try_out(&mut self, parts: &Parts, table: Table) -> Result<Option<(Uuid, Record)>, SinkError> {
        let plain = |trouble| match trouble {
            Trouble::Sink(error) => error,
            Trouble::Duplicate(words) | Trouble::Merged(words) => SinkError::BatchRefused(words),
        };
        self.begin(Some(b""), None).await.map_err(plain)?;
        for part in &parts.rows {
            let target = layout::full(&self.schema, part.table.name());
            self.append(part, &target).await.map_err(plain)?;
        }
        let (columns, name) = (layout::names(table), layout::full(&self.schema, table.name()));
        let sql = format!("SELECT {columns} FROM {name} WHERE tape_id = $1");
        let row = self.client.query_opt(&sql, &[&PgUuid(self.tape)]).await;
        let row = row.map_err(|error| failure::of_opening(&error, "reading back"))?;
        self.rollback().await;
        Ok(row.and_then(|row| read::record(table, &row)))
    }

    /// Begins a transaction with the mark, if it moves, and with the seq of the last record, if there is one.
    async fn begin(&self, mark: Option<&[u8]>, seq: Option<u64>) -> Result<(), Trouble> {
        let Some(mark) = mark else { return self.client.batch_execute("BEGIN").await.map_err(refused) };
        let cursors = layout::full(&self.schema, "cursors");
        let tape = PgUuid(self.tape);
        let seq = seq.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX));
        let (text, uuid, bytea, bigint) = (Type::TEXT, Type::UUID, Type::BYTEA, Type::INT8);
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&self.sink, text), (&tape, uuid), (&mark, bytea.clone()), (&seq, bigint)];
        let sql = match &self.mark {
            Some(known) => {
                params.push((known, bytea));
                format!(
                    "UPDATE {cursors} SET mark = $3, seq = coalesce($4, seq), moved_at = now() WHERE sink = $1 AND tape_id = $2 AND mark = $5"
                )
            }
            None => format!(
                "INSERT INTO {cursors} (sink, tape_id, mark, seq) VALUES ($1, $2, $3, coalesce($4, 0)) ON CONFLICT DO NOTHING"
            ),
        };
        // Sent together: one way to the server and back.
        let (begun, moved) = tokio::join!(self.client.batch_execute("BEGIN"), self.client.execute_typed(&sql, &params));
        begun.map_err(refused)?;
        let moved = moved.map_err(refused)?;
        if moved != 1 {
            let words = "what was delivered changed meanwhile: it is read again";
            return Err(SinkError::Unavailable(anyhow!(words)).into());
        }
        Ok(())
    }

    /// The fast way: into the partition, where no row may be yet.
    async fn append(&mut self, part: &Part, target: &str) -> Result<u64, Trouble> {
        match self.copy(part.table, target, part.rows.clone()).await {
            Ok(()) => Ok(0),
            Err(error) if failure::is_duplicate(&error) => Err(Trouble::Duplicate(failure::words(&error))),
            Err(error) => Err(refused(error)),
        }
    }

    /// The careful way: rows that are there already stay as they are. Says how many these were.
    async fn merge(&mut self, part: &Part) -> Result<u64, Trouble> {
        let stage = stage_of(part.table);
        self.copy(part.table, &stage, part.rows.clone()).await.map_err(refused)?;
        let (name, columns) = (layout::full(&self.schema, part.table.name()), layout::names(part.table));
        let key = layout::key(part.table);
        // Of a day and table there may be one part in a batch: what is staged is this one.
        let sql =
            format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {stage} ON CONFLICT ({key}) DO NOTHING");
        let written = self.client.execute(&sql, &[]).await.map_err(refused)?;
        self.client.batch_execute(&format!("TRUNCATE {stage}")).await.map_err(refused)?;
        Ok(part.count.saturating_sub(written))
    }

    async fn copy(&mut self, table: Table, target: &str, rows: Bytes) -> Result<(), Error> {
        let statement = match self.statements.get(target) {
            Some(statement) => statement.clone(),
            None => {
                let sql = format!("COPY {target} ({}) FROM STDIN BINARY", layout::names(table));
                let statement = self.client.prepare(&sql).await?;
                if self.statements.len() >= STATEMENTS {
                    self.statements.clear();
                }
                self.statements.insert(target.to_owned(), statement.clone());
                statement
            }
        };
        let mut sink = std::pin::pin!(self.client.copy_in::<_, Bytes>(&statement).await?);
        // An error of the server shows at the end; one of the connection here.
        let sent = sink.send(rows).await;
        match sink.as_mut().finish().await {
            Ok(_) => sent,
            Err(error) => Err(error),
        }
    }

    /// A table of this session with the columns of one of ours, empty at the beginning of each transaction.
    async fn stage(&mut self, table: Table) -> Result<(), SinkError> {
        if self.staged.contains(&table) {
            return Ok(());
        }
        let (stage, name) = (stage_of(table), layout::full(&self.schema, table.name()));
        let sql = format!("CREATE TEMP TABLE {stage} (LIKE {name}) ON COMMIT DELETE ROWS");
        self.client
            .batch_execute(&sql)
            .await
            .map_err(|error| failure::of_opening(&error, "making a temporary table"))?;
        self.staged.insert(table);
        Ok(())
    }

    /// Undoes what was begun; `false`: the connection is of no use any more.
    pub(super) async fn rollback(&self) -> bool {
        !self.client.is_closed() && self.client.batch_execute("ROLLBACK").await.is_ok()
    }
}

pub(super) fn stage_of(table: Table) -> String {
    format!("pg_temp.{}", layout::quoted(&format!("tapedeck_{}", table.name())))
}

pub(super) fn refused(error: Error) -> Trouble {
    Trouble::Sink(failure::of(&error, "writing"))
}

/// A UUID as a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct PgUuid(pub Uuid);

impl ToSql for PgUuid {
    fn to_sql(
        &self,
        _: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(of: &tokio_postgres::types::Type) -> bool {
        *of == tokio_postgres::types::Type::UUID
    }

    tokio_postgres::types::to_sql_checked!();
}
