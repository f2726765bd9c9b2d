//! `tapedeck cursors`: how far each reader of the tape has come.

use std::path::Path;

use serde::Serialize;
use tapedeck_tape::{Start, cursors};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Where};
use crate::control::{self, Request};

const EXAMPLES: &str = "\
Examples:
  tapedeck cursors list
  tapedeck cursors list --json
  tapedeck cursors drop old-sink         forget a reader that is gone for good";

/// List or forget the cursors of the tape's readers
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List each reader, its place, and how far it is behind
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Where,
    },
    /// Forget readers: the next one of that name starts anew
    Drop {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        place: Where,
    },
}

/// One reader's place.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// The last record it is done with.
    seq: u64,
    /// Records behind the durable end.
    lag: u64,
    /// Bytes of state it keeps with it.
    state_bytes: usize,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        match self.what {
            What::List { json, place } => list(&place.dir(global)?, json, out),
            What::Drop { names, place } => forget(&place.dir(global)?, &names, out),
        }
    }
}

fn list(dir: &Path, json: bool, out: &mut Out) -> anyhow::Result<()> {
    let end = reading::reader(dir, Start::End)?.durable_seq();
    let lines: Vec<Line> = cursors::list(&*reading::disk(), dir)?
        .into_iter()
        .map(|cursor| Line {
            lag: end.saturating_sub(cursor.seq),
            name: cursor.name,
            seq: cursor.seq,
            state_bytes: cursor.state_bytes,
        })
        .collect();
    if json {
        return out.json(&lines);
    }
    if lines.is_empty() && out.is_terminal() {
        return out.line("no cursors: no reader has kept a place on this tape");
    }
    let rows: Vec<Vec<String>> = lines
        .into_iter()
        .map(|line| vec![line.name, line.seq.to_string(), line.lag.to_string(), line.state_bytes.to_string()])
        .collect();
    out.table(&["NAME", "SEQ ", "BEHIND ", "STATE BYTES "], &rows)
}

fn forget(dir: &Path, names: &[String], out: &mut Out) -> anyhow::Result<()> {
    reading::reader(dir, Start::End)?;
    // A running deck holds its cursors open and would go on writing to a file that is gone.
    let deck = super::block_on(async { control::ask(dir, &Request::Status).await })?;
    if deck.is_some() {
        return Err(End::Busy("a deck is running on this tape: stop it first".to_owned()).into());
    }
    let mut missing = Vec::new();
    for name in names {
        if cursors::drop(&*reading::disk(), dir, name)? {
            out.line(format!("dropped {name}"))?;
        } else {
            missing.push(name.as_str());
        }
    }
    out.flush()?;
    match missing.as_slice() {
        [] => Ok(()),
        names => Err(End::Absent(format!("there is no cursor {}", names.join(", "))).into()),
    }
}
