//! `tapedeck book`: an order book as it stood at a moment, rebuilt from the tape.
//!
//! Each segment of the tape begins with a checkpoint that has every full book. From the one before the moment, the
//! changes up to it are applied. A gap of the book makes it unknown until the next snapshot: nothing is guessed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use tapedeck_market::{Body, Book, Event, GapState, Level, SmolStr, UnixNanos, wire};
use tapedeck_tape::{Item, Reader, Start};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Where};

/// What a gap of the book calls what is missing; an empty channel is everything.
const CHANNEL: &str = "book";

const EXAMPLES: &str = "\
Examples:
  tapedeck book BTC/USD                          as it is on the tape now
  tapedeck book BTC/USD --at 2026-07-19T17:54:39.5Z
  tapedeck book BTC/USD --at 10m --depth 5       ten minutes ago, five levels a side
  tapedeck book BTC/USD --json";

/// Rebuild an order book as it stood at a moment
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The symbol, in the venue's spelling
    #[arg(value_name = "SYMBOL")]
    symbol: String,
    /// The moment, by our clock: a time, or how long ago (10m); without it the newest book there is
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    at: Option<UnixNanos>,
    /// Levels a side
    #[arg(long, value_name = "N", default_value_t = 10)]
    depth: usize,
    /// Of this source, when several record the symbol
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// A book with what made it.
#[derive(Debug, Default)]
struct Known {
    book: Book,
    /// Set by a snapshot, taken away by a gap.
    whole: bool,
    seq: Option<u64>,
    ts_event: Option<UnixNanos>,
    ts_recv: UnixNanos,
    venue: SmolStr,
    /// Since when it is not known.
    gap: Option<UnixNanos>,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    source: &'a str,
    venue: &'a str,
    symbol: &'a str,
    /// The last record that went into it; absent when that was the checkpoint.
    seq: Option<u64>,
    ts_event: Option<i64>,
    ts_recv: i64,
    bids: Vec<[String; 2]>,
    asks: Vec<[String; 2]>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let books = self.rebuild(&self.place.dir(global)?)?;
        let symbol = &self.symbol;
        let mut wanted = books.iter().filter(|(source, _)| self.source.as_ref().is_none_or(|name| name == *source));
        let Some((source, known)) = wanted.next() else {
            let when = if self.at.is_some() { " at that time" } else { "" };
            return Err(End::Absent(format!("there is no book of `{symbol}`{when} on the tape")).into());
        };
        if wanted.next().is_some() {
            let names: Vec<&str> = books.keys().map(SmolStr::as_str).collect();
            let said = format!("several sources have a book of `{symbol}`: say --source {}", names.join(" or "));
            return Err(End::Usage(said).into());
        }
        if !known.whole {
            let since = known.gap.map(|gap| format!(" since {gap}")).unwrap_or_default();
            return Err(
                End::Absent(format!("the book of `{symbol}` is not known{since}: a gap, see `tapedeck gaps`")).into()
            );
        }
        if self.json { out.json(&self.shown(source, known)) } else { self.print(source, known, out) }
    }

    /// The books of the symbol by source, up to the moment.
    fn rebuild(&self, dir: &Path) -> anyhow::Result<BTreeMap<SmolStr, Known>> {
        let start = self.at.map_or(Start::Checkpoint, |at| Start::Time(at.0));
        // The reader stands at the beginning of the segment that holds the moment.
        let from = reading::reader(dir, start)?.seq();
        let from = if self.at.is_none() { Start::Checkpoint } else { Start::Seq(from) };
        let books = self.read(reading::reader(dir, from)?)?;
        if !books.is_empty() {
            return Ok(books);
        }
        // No checkpoint there, or a damaged one: all of the tape knows, if anything does.
        self.read(reading::reader(dir, Start::Begin)?)
    }

    fn read(&self, mut reader: Reader) -> anyhow::Result<BTreeMap<SmolStr, Known>> {
        let mut books = BTreeMap::new();
        let end = reader.durable_seq();
        let mut checkpointed = false;
        while reader.seq() <= end {
            let mut passed = false;
            let item = reader.next()?;
            let read = match item {
                None => break,
                // What was changed there is not known.
                Some(Item::Hole(_)) => {
                    books.values_mut().for_each(|known: &mut Known| known.whole = false);
                    None
                }
                Some(Item::Record(record)) => {
                    passed = self.at.is_some_and(|at| record.ts_recv > at.0);
                    (!passed).then(|| (record.seq, reading::event(&record)))
                }
            };
            if !checkpointed {
                checkpointed = true;
                for event in reader.checkpoint().iter().filter_map(|payload| wire::decode(payload).ok()) {
                    self.apply(None, event, &mut books);
                }
            }
            if let Some((seq, event)) = read {
                self.apply(Some(seq), event, &mut books);
            }
            if passed {
                break;
            }
        }
        Ok(books)
    }

    fn apply(&self, seq: Option<u64>, event: Event, books: &mut BTreeMap<SmolStr, Known>) {
        if event.symbol != self.symbol.as_str() {
            return;
        }
        match &event.body {
            Body::Book(update) => {
                let known = books.entry(event.source).or_default();
                if update.snapshot {
                    known.whole = true;
                    known.gap = None;
                }
                known.book.apply(update);
                (known.seq, known.ts_event, known.ts_recv, known.venue) =
                    (seq, event.ts_event, event.ts_recv, event.venue);
            }
            Body::Gap(gap) if gap.state == GapState::Open && (gap.channel.is_empty() || gap.channel == CHANNEL) => {
                if let Some(known) = books.get_mut(&event.source) {
                    known.whole = false;
                    known.gap = Some(gap.from);
                }
            }
            _ => {}
        }
    }

    fn shown<'a>(&'a self, source: &'a str, known: &'a Known) -> Shown<'a> {
        let side = |levels: &[Level]| {
            let level = |level: &Level| [level.price.to_string(), level.size.to_string()];
            levels.iter().take(self.depth).map(level).collect()
        };
        Shown {
            source,
            venue: &known.venue,
            symbol: &self.symbol,
            seq: known.seq,
            ts_event: known.ts_event.map(|ts| ts.0),
            ts_recv: known.ts_recv.0,
            bids: side(known.book.bids()),
            asks: side(known.book.asks()),
        }
    }

    fn print(&self, source: &str, known: &Known, out: &mut Out) -> anyhow::Result<()> {
        if out.is_terminal() {
            out.line(format!("{} of {source}, as of {}", self.symbol, known.ts_recv))?;
        }
        let (bids, asks) = (known.book.bids(), known.book.asks());
        let cell = |level: Option<&Level>| match level {
            Some(level) => [level.price.to_string(), level.size.to_string()],
            None => [String::new(), String::new()],
        };
        let rows: Vec<Vec<String>> = (0..bids.len().max(asks.len()).min(self.depth))
            .map(|at| {
                let ([bid, bid_size], [ask, ask_size]) = (cell(bids.get(at)), cell(asks.get(at)));
                vec![bid_size, bid, ask, ask_size]
            })
            .collect();
        out.table(&["BID SIZE ", "BID ", "ASK ", "ASK SIZE "], &rows)
    }
}
