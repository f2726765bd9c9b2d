//! `tapedeck deadletter`: what stores refused for good.

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use tapedeck_market::{UnixNanos, wire};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::stores::named;
use crate::config::Config;
use crate::control::{self, Request};
use crate::sinks::{self, Deed, Done, Letter, Order};

const EXAMPLES: &str = "\
Examples:
  tapedeck deadletter list                     of all sinks
  tapedeck deadletter list influx --json       of one, with the whole record
  tapedeck deadletter retry influx             send them again, after the store was mended
  tapedeck deadletter retry influx --seq 4711
  tapedeck deadletter drop influx --seq 4711   nobody wants it: it stays on the tape";

/// List, send again or give up what stores refused
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List what was refused, with the store's words
    List {
        /// Only of this sink, by the name of its table
        sink: Option<String>,
        /// Print JSON, with the record
        #[arg(long)]
        json: bool,
    },
    /// Send it again; what the store takes now is off the list
    Retry {
        /// The sink, by the name of its table
        sink: String,
        /// Only these records
        #[arg(long, value_delimiter = ',')]
        seq: Vec<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take it off the list. The records stay on the tape
    Drop {
        /// The sink, by the name of its table
        sink: String,
        /// Only these records
        #[arg(long, value_delimiter = ',', required_unless_present = "all")]
        seq: Vec<u64>,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// One letter, for JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    sink: &'a str,
    tape: String,
    seq: u64,
    at: String,
    words: &'a str,
    /// The record; nothing when a later version wrote it.
    record: Option<serde_json::Value>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = global.load()?.config;
        match self.what {
            What::List { sink, json } => list(&config, sink.as_deref(), json, out),
            What::Retry { sink, seq, json } => retry(&config, &sink, &seq, json, out),
            What::Drop { sink, seq, all, json } => give_up(&config, &sink, if all { &[] } else { &seq }, json, out),
        }
    }
}

fn list(config: &Config, only: Option<&str>, json: bool, out: &mut Out) -> anyhow::Result<()> {
    let tables = match only {
        Some(name) => vec![named(config, name)?],
        None => config.sinks.iter().collect(),
    };
    let mut letters: Vec<(&str, Letter)> = Vec::new();
    for table in tables {
        let of_one = sinks::dead_letters(&sinks::dead_letters_folder(&config.tape.dir, &table.name))?;
        letters.extend(of_one.into_iter().map(|letter| (table.name.as_str(), letter)));
    }
    if json {
        let lines: Vec<Line<'_>> = letters.iter().map(|(sink, letter)| line(sink, letter)).collect();
        return out.json(&lines);
    }
    if letters.is_empty() {
        return if out.is_terminal() { out.line("no dead letters: the stores took everything") } else { Ok(()) };
    }
    let rows: Vec<Vec<String>> = letters
        .iter()
        .map(|(sink, letter)| {
            let symbol = wire::decode(&letter.payload).map(|event| event.symbol.to_string()).unwrap_or_default();
            vec![(*sink).to_owned(), letter.seq.to_string(), time(letter.at), symbol, letter.words.clone()]
        })
        .collect();
    out.table(&["SINK", "SEQ ", "WHEN", "SYMBOL", "THE STORE'S WORDS"], &rows)
}

fn line<'a>(sink: &'a str, letter: &'a Letter) -> Line<'a> {
    let record = wire::decode(&letter.payload).ok().and_then(|event| {
        let mut text = Vec::new();
        crate::json::event_json(Some(letter.seq), &event, &mut text);
        serde_json::from_slice(&text).ok()
    });
    Line { sink, tape: letter.tape.to_string(), seq: letter.seq, at: time(letter.at), words: &letter.words, record }
}

fn time(at: UnixNanos) -> String {
    at.to_string()
}

fn retry(config: &Config, sink: &str, seqs: &[u64], json: bool, out: &mut Out) -> anyhow::Result<()> {
    let done = carry_out(config, sink, Deed::Retry, seqs)?;
    if json {
        out.json(&done)?;
    } else {
        out.line(format!("{} delivered, {} refused again", done.delivered, done.refused.len()))?;
        for again in &done.refused {
            out.line(format!("  {}: {}", again.seq, again.words))?;
        }
        if done.unreadable > 0 {
            out.line(format!("{} were written by a later version of tapedeck and stay", done.unreadable))?;
        }
    }
    out.flush()?;
    if done.refused.is_empty() && done.unreadable == 0 { Ok(()) } else { Err(End::Found.into()) }
}

/// Without seqs, all of them.
fn give_up(config: &Config, sink: &str, seqs: &[u64], json: bool, out: &mut Out) -> anyhow::Result<()> {
    let done = carry_out(config, sink, Deed::Drop, seqs)?;
    if done.dropped == 0 && !seqs.is_empty() {
        return Err(End::Absent("there is no such dead letter: see `tapedeck deadletter list`".to_owned()).into());
    }
    if json {
        return out.json(&json!({ "dropped": done.dropped }));
    }
    out.line(format!("dropped {}", done.dropped))
}

/// Seqs that are named in one request.
const SEQS: usize = 1_000;

/// By the deck that runs on the tape, which writes the letters itself; without one, here.
fn carry_out(config: &Config, sink: &str, deed: Deed, seqs: &[u64]) -> anyhow::Result<Done> {
    let (table, dir) = (named(config, sink)?, &config.tape.dir);
    let mut all = Done::default();
    let chunks: Vec<&[u64]> = if seqs.is_empty() { vec![&[]] } else { seqs.chunks(SEQS).collect() };
    super::block_on(async {
        for seqs in chunks {
            let mut order = Order { deed, seqs: seqs.to_vec(), after: 0 };
            loop {
                let request = Request::Letters { sink: sink.to_owned(), order: order.clone() };
                let Some(answer) = control::ask(dir, &request).await? else {
                    all.add(sinks::letters_without_deck(table, dir, order).await?);
                    break;
                };
                all.add(serde_json::from_value(answer).context("understanding the deck's answer")?);
                match all.next {
                    Some(next) => order.after = next,
                    None => break,
                }
            }
        }
        Ok(all)
    })
}
