//! `tapedeck-store query`: one query over archive and tape, without a server, also while a deck runs.

use std::collections::HashSet;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use datafusion::sql::parser::Statement as Parsed;
use tapedeck_archive::Table as Kind;
use tapedeck_tape::storage::{Disk, Storage};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Failed, Until};
use crate::limits::Limits;
use crate::new_file::NewFile;
use crate::opened::{Opened, Place};
use crate::output::{Format, Writer};
use crate::progress::Progress;

/// A query that somebody waits for at a terminal has no deadline but theirs.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
/// More than in the server: this is the only query, and its process ends with it.
const MEMORY_BYTES: usize = 1 << 30;
const SPILL_BYTES: u64 = 16 << 30;

/// Ask in SQL
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the deck
    #[arg(long, value_name = "DIR", default_value = "./tape")]
    dir: PathBuf,
    /// Folder of the archive, when it is not `archive` in the deck's folder
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// How to print: table, csv, json (an object a line), arrow, parquet [default: table on a terminal, else csv]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Write here, and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long, requires = "out")]
    force: bool,
    /// Tell on standard error how far it is, and what was written
    #[arg(long)]
    progress: bool,
    /// The query; from standard input when it is `-`
    #[arg(value_name = "SQL")]
    sql: String,
}

/// # Errors
/// The query is wrong, or what it asks for cannot be read or written.
pub fn run(args: Args) -> anyhow::Result<()> {
    let sql = if args.sql == "-" { io::read_to_string(io::stdin()).context("reading the query")? } else { args.sql };
    let terminal = args.out.is_none() && io::stdout().is_terminal();
    let format = args.format.unwrap_or(if terminal { Format::Table } else { Format::Csv });
    if terminal && !format.is_text() {
        bail!("{format} is not for a terminal: say --out FILE");
    }
    // Removed at the end, and by the system should it come sooner.
    let temporary =
        tempfile::Builder::new().prefix("tapedeck-query-").tempdir().context("making a temporary folder")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let place = Place {
        archive: args.archive.unwrap_or_else(|| args.dir.join("archive")),
        tape: args.dir,
        temporary: temporary.path().to_owned(),
    };
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let source = Opened::read(&place, &storage, &tables_of(&sql))?;
    let limits = Limits { memory_bytes: MEMORY_BYTES, spill_bytes: SPILL_BYTES, ..Limits::default() };
    let engine = Arc::new(Engine::new(Arc::new(source), limits, temporary.path(), runtime.handle().clone())?);
    let mut progress = args.progress.then(|| Progress::new(terminal));
    let done = match &args.out {
        None => runtime.block_on(until_interrupted(answer(&engine, &sql, format, io::stdout(), progress.as_mut())))?,
        Some(path) => {
            let file = NewFile::of(path, args.force)?;
            let done = answer(&engine, &sql, format, file.as_file(), progress.as_mut());
            let done = runtime.block_on(until_interrupted(done))?;
            file.appear()?;
            done
        }
    };
    if let Some(progress) = progress {
        progress.end(args.out.as_deref());
    }
    if done == Shown::InPart {
        eprintln!("there are more rows than a table shows: say --format csv, or add a limit");
    }
    runtime.shutdown_background();
    Ok(())
}

/// Whether all rows were written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    InPart,
}

/// Ctrl-C ends it like an error, so that what was begun is removed.
async fn until_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn answer(
    engine: &Arc<Engine>,
    sql: &str,
    format: Format,
    out: impl Write + Send,
    mut progress: Option<&mut Progress>,
) -> anyhow::Result<Shown> {
    if let Some(progress) = &mut progress {
        progress.expect(count(engine, sql).await?);
    }
    let session = engine.session();
    let plan = session.plan_text(sql).await.map_err(plain)?;
    let schema = Arc::clone(plan.schema().inner());
    let until = Until { cancelled: CancellationToken::new(), deadline: Instant::now() + FOR_EVER };
    let mut rows = session.run(plan, until).await.map_err(plain)?;
    let mut writer = Writer::new(format, BufWriter::new(out), &schema)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(plain)?;
        writer.write(&batch)?;
        if let Some(progress) = &mut progress {
            progress.wrote(batch.num_rows() as u64);
        }
        if writer.is_full() {
            break;
        }
    }
    Ok(if writer.finish()? { Shown::InPart } else { Shown::Whole })
}

/// How many rows a query has: as a rule known from the files, or from one column.
async fn count(engine: &Arc<Engine>, sql: &str) -> anyhow::Result<u64> {
    let session = engine.session();
    let plan = session.plan_text(&format!("select count(*) from ({sql}) as counted")).await.map_err(plain)?;
    let until = Until { cancelled: CancellationToken::new(), deadline: Instant::now() + FOR_EVER };
    let batches = session.run(plan, until).await.map_err(plain)?.collect().await.map_err(plain)?;
    let counted = batches
        .iter()
        .find(|batch| batch.num_rows() > 0)
        .map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    Ok(counted.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0))
}

/// The engine's words without its own call stack.
fn plain(failed: Failed) -> anyhow::Error {
    match failed {
        Failed::Query(error) => anyhow::anyhow!("{}", error.strip_backtrace()),
        other => other.into(),
    }
}

/// The tables that a query names: others need not be read. What cannot be told is all of them.
fn tables_of(sql: &str) -> HashSet<Kind> {
    let all = || Kind::ALL.into_iter().collect();
    let parser = datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser::new();
    let Ok(statements) = crate::depth::check(sql).and_then(|()| parser.parse(sql)) else { return HashSet::new() };
    let mut tables = HashSet::new();
    for statement in statements {
        let parsed = Parsed::Statement(Box::new(statement));
        let Ok((named, _)) = datafusion::sql::resolve::resolve_table_references(&parsed, true) else { return all() };
        tables.extend(named.iter().filter_map(|name| name.table().parse::<Kind>().ok()));
        // `ohlc` is a function over them.
        if named.iter().any(|name| name.table() == "ohlc") {
            tables.insert(Kind::Trades);
        }
    }
    if sql.to_ascii_lowercase().contains("ohlc") {
        tables.insert(Kind::Trades);
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tables_that_are_named_are_read() {
        for (sql, tables) in [
            ("select 1", vec![]),
            ("select count(*) from trades", vec![Kind::Trades]),
            (
                "with t as (select * from quotes) select * from t join public.gaps using (symbol)",
                vec![Kind::Quotes, Kind::Gaps],
            ),
            ("select (select max(seq) from market.public.books)", vec![Kind::Books]),
            ("select * from ohlc('BTC/USD', '1m')", vec![Kind::Trades]),
            ("no sql", vec![]),
        ] {
            assert_eq!(tables_of(sql), tables.into_iter().collect(), "{sql}");
        }
    }
}
