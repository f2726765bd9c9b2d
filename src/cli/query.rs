//! `tapedeck query`: SQL over archive and tape, by the program beside this one.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::store;

const EXAMPLES: &str = "\
Examples:
  tapedeck query \"select symbol, count(*), last(price, seq) from trades group by symbol\"
  tapedeck query \"select * from ohlc('BTC/USD', '1m', '2026-07-19') order by start\"
  tapedeck query --format parquet --out trades.parquet \"select * from trades\"
  tapedeck query --json \"select * from gaps\"        one JSON object a line
  tapedeck query - < question.sql

Tables: trades, quotes, tickers, books, candles, odds, orders, posts, points, synthetics, instruments, positions,
status, gaps, tape, raw. It reads the archive and the tape themselves: no server is needed, and a deck may record.
docs/sql.md has columns, functions and clients.";

/// Ask in SQL what was recorded
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The query; from standard input when it is `-`
    #[arg(value_name = "SQL")]
    sql: String,
    #[command(flatten)]
    answer: Answer,
}

/// Where from and where to.
#[derive(Debug, clap::Args)]
pub(super) struct Answer {
    /// How to print: table, csv, json (an object a line), arrow, parquet; by default table on a terminal, else csv
    #[arg(long, value_name = "FORMAT", value_parser = ["table", "csv", "json", "arrow", "parquet"])]
    format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write to this file, and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long, requires = "out")]
    force: bool,
    /// Folder of the tape, in place of `[tape] dir`
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        self.answer.run(global, out, &self.sql, false)
    }
}

impl Answer {
    /// The file's ending says the format, where nothing else does; one that says nothing is refused, so that nobody
    /// finds CSV in a file of another name.
    pub(super) fn format_of_file(&mut self) -> Result<(), End> {
        if self.format.is_some() || self.json {
            return Ok(());
        }
        let ending = self.out.as_ref().and_then(|out| out.extension()).map(|ending| ending.to_string_lossy());
        self.format = match ending.as_deref() {
            None => None,
            Some("jsonl" | "ndjson") => Some("json".to_owned()),
            Some(ending @ ("csv" | "json" | "arrow" | "parquet")) => Some(ending.to_owned()),
            Some(other) => {
                let text =
                    format!("`.{other}` says no format: --format csv, json, arrow or parquet, or such an ending");
                return Err(End::Usage(text));
            }
        };
        Ok(())
    }

    /// Becomes the store's program. Returns only if that fails. `progress`: it tells how far it is.
    pub(super) fn run(mut self, global: &Global, out: &mut Out, sql: &str, progress: bool) -> anyhow::Result<()> {
        self.format_of_file()?;
        if let Some(file) = self.out.as_ref().filter(|file| !self.force && file.is_file()) {
            return Err(End::Usage(format!("{} exists already: --force writes over it", file.display())).into());
        }
        let config = global.load()?.config;
        let dir = self.dir.unwrap_or(config.tape.dir);
        let archive = config.store.unwrap_or_default().folder(&dir);
        let Some(program) = store::find() else {
            let (program, build) = (store::PROGRAM, store::BUILD);
            let said = format!("SQL needs the program {program}, which is not there: build it with `{build}`");
            return Err(End::Absent(said).into());
        };
        let mut command = Command::new(&program);
        command.arg("query").arg("--dir").arg(&dir).arg("--archive").arg(archive);
        if let Some(format) = if self.json { Some("json".to_owned()) } else { self.format } {
            command.arg("--format").arg(format);
        }
        if let Some(file) = &self.out {
            command.arg("--out").arg(file);
        }
        command.args(self.force.then_some("--force")).args(progress.then_some("--progress"));
        command.arg("--").arg(sql);
        out.flush()?;
        Err(command.exec()).with_context(|| format!("starting {}", program.display()))
    }
}
