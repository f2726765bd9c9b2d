//! A table as the server's own lists have it: the cheap gate, its columns, and why nothing arrives.

use tapedeck_market::SmolStr;

use super::columns::{self, flag, int, text};
use super::names;
use super::session::Session;
use crate::sync::source::missing::no_such_table;
use crate::sync::{Class, Column, Schema, Trouble};

/// What the server says of a table without looking into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub id: i64,
    /// As the server spells it.
    pub name: String,
    /// The server takes what is written to it, and applies nothing.
    pub suspended: bool,
    pub log: Log,
}

/// What tells that something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// A write-ahead log: the last transaction whose rows can be read.
    Wal { txn: i64 },
    /// None: rows, when they were last written, and the newest one's time.
    None { rows: Option<i64>, written: Option<i64>, last: Option<i64> },
}

impl Table {
    /// Looks a table up, whatever its case.
    ///
    /// # Errors
    /// As of [`Session::ask`]; [`Class::Setup`]: there is no such table.
    pub(super) async fn find(session: &mut Session, name: &str) -> Result<Table, Trouble> {
        let wanted = names::text(name);
        let rows = session.ask(&format!("{LIST} WHERE lower(table_name) = lower({wanted})")).await?;
        let Some(row) = rows.first() else { return Err(missing(session, name).await) };
        let own_name = text(row, 1).unwrap_or_default();
        if text(row, 8).as_deref() == Some(VIEW) {
            let trouble =
                Trouble::new(Class::Setup, format!("`{own_name}` is a view: nothing tells when its rows change"));
            return Err(trouble.fix("follow the table that it reads, or a materialized view"));
        }
        let mut suspended = flag(row, 7);
        let log = match (flag(row, 2), int(row, 3)) {
            (true, Some(txn)) => Log::Wal { txn },
            // The list does not have the transactions of a table that was suspended when the server was started.
            (true, None) => {
                let writer = writer(session, &own_name).await?;
                suspended |= writer.suspended;
                Log::Wal { txn: writer.txn }
            }
            (false, _) => Log::None { rows: int(row, 4), written: int(row, 5), last: int(row, 6) },
        };
        Ok(Table { id: int(row, 0).unwrap_or_default(), name: own_name, suspended, log })
    }

    /// Why no more comes, where the server has suspended the table; nothing else.
    ///
    /// # Errors
    /// [`Class::Setup`]: it is suspended; and as of [`Session::ask`].
    pub(super) async fn lives(&self, session: &mut Session) -> Result<(), Trouble> {
        if !self.suspended {
            return Ok(());
        }
        let writer = writer(session, &self.name).await?;
        if !writer.suspended {
            return Ok(());
        }
        let why = if writer.why.is_empty() { String::new() } else { format!(" ({})", writer.why) };
        let waiting = writer.sequenced - writer.txn;
        let text = format!("table `{}` is suspended{why}: {waiting} transactions wait", self.name);
        let fix = format!("after its cause is mended run `ALTER TABLE {} RESUME WAL`", names::quoted(&self.name));
        Err(Trouble::new(Class::Setup, text).fix(fix))
    }
}

const LIST: &str = "SELECT id, table_name, walEnabled, table_txn, table_row_count, \
                    table_last_write_timestamp::long, table_max_timestamp::long, table_suspended, table_type FROM tables()";

/// Type of a view that is computed when it is read.
const VIEW: &str = "V";

/// Names of all tables and materialized views that are not the server's own.
///
/// # Errors
/// As of [`Session::ask`].
pub(super) async fn names(session: &mut Session) -> Result<Vec<String>, Trouble> {
    let rows = session.ask("SELECT table_name, table_type FROM tables() ORDER BY table_name").await?;
    let stored = rows.iter().filter(|row| text(row, 1).as_deref() != Some(VIEW));
    let names = stored.filter_map(|row| text(row, 0));
    Ok(names.filter(|name| !name.starts_with("sys.") && !name.starts_with("telemetry")).collect())
}

/// The name of the table of that id.
///
/// # Errors
/// As of [`Session::ask`].
pub(super) async fn name_of(session: &mut Session, id: i64) -> Result<Option<String>, Trouble> {
    let rows = session.ask(&format!("SELECT table_name FROM tables() WHERE id = {id}")).await?;
    Ok(rows.first().and_then(|row| text(row, 0)))
}

/// Columns of a table.
///
/// # Errors
/// As of [`Session::ask`].
pub(super) async fn schema(session: &mut Session, table: &Table) -> Result<Schema, Trouble> {
    let sql =
        format!("SELECT \"column\", type, designated, upsertKey FROM table_columns({})", names::text(&table.name));
    let rows = session.ask(&sql).await?;
    let column = |row| {
        let native = text(row, 1).unwrap_or_default();
        let kind = columns::kind(&native);
        Column {
            name: SmolStr::from(text(row, 0).unwrap_or_default()),
            kind,
            native: native.into(),
            upsert_key: flag(row, 3),
        }
    };
    let time = rows.iter().position(|row| flag(row, 2));
    Ok(Schema { columns: rows.iter().map(column).collect(), time })
}

/// What has become of what was sent to a table.
#[derive(Debug)]
struct Writer {
    /// The last transaction that can be read.
    txn: i64,
    /// The last one that was taken.
    sequenced: i64,
    suspended: bool,
    why: String,
}

async fn writer(session: &mut Session, table: &str) -> Result<Writer, Trouble> {
    let sql = format!(
        "SELECT writerTxn, sequencerTxn, suspended, errorTag, errorMessage FROM wal_tables() WHERE name = {}",
        names::text(table)
    );
    let rows = session.ask(&sql).await?;
    let Some(row) = rows.first() else {
        return Err(Trouble::new(
            Class::Server,
            format!("table `{table}` is in one list of the server and not in another"),
        ));
    };
    let why: Vec<String> = [text(row, 3), text(row, 4)].into_iter().flatten().filter(|word| !word.is_empty()).collect();
    Ok(Writer {
        txn: int(row, 0).unwrap_or_default(),
        sequenced: int(row, 1).unwrap_or_default(),
        suspended: flag(row, 2),
        why: why.join(": "),
    })
}

/// That a table is not there, and which ones are.
async fn missing(session: &mut Session, table: &str) -> Trouble {
    // A server that was just started reads its tables one by one.
    match session.has(table).await {
        Ok(true) => return Trouble::new(Class::Server, format!("the server has not read table `{table}` yet")),
        Ok(false) => {}
        Err(trouble) => return trouble,
    }
    let there = match names(session).await {
        Ok(names) => names,
        Err(trouble) => return trouble,
    };
    no_such_table(table, &there)
}

/// Time of the first (`min`) or the last (`max`) row, ns since 1970; `None`: there is no row, or no clock.
pub(super) async fn edge(
    session: &mut Session,
    table: &Table,
    schema: &Schema,
    which: &str,
) -> Result<Option<i64>, Trouble> {
    let Some(time) = schema.time.and_then(|at| schema.columns.get(at)) else { return Ok(None) };
    let sql = format!("SELECT {which}({})::long FROM {}", names::quoted(&time.name), names::quoted(&table.name));
    let rows = session.ask(&sql).await?;
    let found = rows.first().and_then(|row| columns::int(row, 0));
    Ok(found.and_then(|found| found.checked_mul(columns::tick_ns(schema))))
}
