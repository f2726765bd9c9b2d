//! `tapedeck tail`: the tape, line by line, as it grows.

use std::collections::VecDeque;
use std::time::Duration;

use tapedeck_market::{Event, Kind, UnixNanos};
use tapedeck_tape::{Item, Reader, Start, Woken};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Filter, From, Until, Where};
use crate::describe::describe;
use crate::json::event_json;

/// The reader is woken; this only bounds one wait.
const WAIT: Duration = Duration::from_secs(3_600);
/// Events shown before following, when nothing else is said.
const LAST: usize = 10;
/// Records looked back on to find the last events that are wanted: a moment's work.
const LOOK_BACK: u64 = 100_000;

const EXAMPLES: &str = "\
Examples:
  tapedeck tail                                  the last events, then what comes
  tapedeck tail --symbol BTC/USD --kind trade
  tapedeck tail --json --from begin --until now  everything, once
  tapedeck tail --from 10m                       what came in the last ten minutes, and what comes
  tapedeck tail --from 2026-07-19T17:54:00Z --count 100

Lines of kind `tape` with what = `hole` stand where records cannot be read.";

/// Print events of the tape, and follow it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Begin here: a seq, `begin`, `now`, a time, or how long ago (10m)
    #[arg(long, value_name = "PLACE", conflicts_with = "last")]
    from: Option<From>,
    /// End with this record, or with what is there `now`; without it the tape is followed
    #[arg(long, value_name = "SEQ|now")]
    until: Option<Until>,
    /// Begin with the last N events that are wanted
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// End after N events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    /// Only these kinds: trade, quote, ticker, book, candle, gap, status …
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = reading::kind)]
    kind: Vec<Kind>,
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let dir = self.place.dir(global)?;
        // Without a beginning: all of it when it has an end, else the last lines, as `tail -f` does.
        let start = match (self.from, self.last, self.until) {
            (Some(from), ..) => from.start(),
            (None, None, Some(_)) => Start::Begin,
            (None, ..) => Start::Seq(reading::reader(&dir, Start::End)?.seq().saturating_sub(LOOK_BACK).max(1)),
        };
        let mut reader = reading::reader(&dir, start)?;
        let until = match self.until {
            Some(Until::Now) => Some(reader.durable_seq()),
            Some(Until::Seq(seq)) => Some(seq),
            None => None,
        };
        let looks_back = self.from.is_none() && !matches!(start, Start::Begin);
        let printed = if looks_back { self.look_back(&mut reader, until, out)? } else { 0 };
        if until.is_none() {
            crate::cli::out::end_with_reader()?;
        }
        self.follow(&mut reader, until, printed, out)
    }

    /// Prints the last events up to the durable end; says how many.
    fn look_back(&self, reader: &mut Reader, until: Option<u64>, out: &mut Out) -> anyhow::Result<u64> {
        let last = self.last.unwrap_or(LAST);
        let mut lines: VecDeque<Vec<u8>> = VecDeque::new();
        let end = reader.durable_seq().min(until.unwrap_or(u64::MAX));
        let mut begun = false;
        while reader.seq() <= end {
            let Some(item) = reader.next()? else { break };
            let line = match item {
                Item::Record(record) => {
                    begun = true;
                    let event = reading::event(&record);
                    self.wants(&event).then(|| self.line(Some(record.seq), &event))
                }
                // What was removed before the first record that is there was not asked for.
                Item::Hole(hole) => begun.then(|| self.line(None, &reading::hole(hole, UnixNanos::now()))),
            };
            lines.extend(line);
            if lines.len() > last {
                lines.pop_front();
            }
        }
        for line in &lines {
            out.raw(line)?;
        }
        Ok(lines.len() as u64)
    }

    /// Prints what is there and what comes, until told to end.
    fn follow(&self, reader: &mut Reader, until: Option<u64>, printed: u64, out: &mut Out) -> anyhow::Result<()> {
        let mut left = self.count.unwrap_or(u64::MAX).saturating_sub(printed);
        let mut ts_recv = UnixNanos::now();
        let end = until.unwrap_or(u64::MAX);
        while left > 0 && reader.seq() <= end {
            match reader.next()? {
                Some(Item::Record(record)) if record.seq > end => break,
                Some(Item::Record(record)) => {
                    ts_recv = UnixNanos(record.ts_recv);
                    let event = reading::event(&record);
                    if self.wants(&event) {
                        out.raw(&self.line(Some(record.seq), &event))?;
                        left -= 1;
                    }
                }
                Some(Item::Hole(hole)) => out.raw(&self.line(None, &reading::hole(hole, ts_recv)))?,
                None => {
                    out.flush()?;
                    // Whoever names an end wants to hear that it will not come; a follower waits for the next deck.
                    if until.is_some() && reader.wait(Duration::ZERO)? == Woken::WriterGone {
                        let last = reader.seq() - 1;
                        let text = format!("the tape ends at {last} and no deck records: {end} will not come");
                        return Err(End::Absent(text).into());
                    }
                    reader.wait(WAIT)?;
                }
            }
        }
        out.flush()
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = self.kind.is_empty() || self.kind.contains(&event.body.kind());
        kind && self.filter.wants(&event.source, &event.symbol)
    }

    fn line(&self, seq: Option<u64>, event: &Event) -> Vec<u8> {
        let mut line = Vec::new();
        if self.json {
            event_json(seq, event, &mut line);
        } else {
            let seq = seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
            line = format!("{seq:>9} {}", describe(event)).into_bytes();
        }
        line.push(b'\n');
        line
    }
}
