//! `tapedeck gaps`: the ledger of what is known to be missing.

pub(super) mod ledger;

use std::time::Duration;

use tapedeck_market::{GapCause, SmolStr, UnixNanos};
use tapedeck_tape::{Item, Reader};

use crate::cli::Global;
use crate::cli::out::{self, Out};
use crate::cli::reading::{self, Filter, Where};
use crate::config::suggest::nearest;
use crate::config::units::show_duration;
use ledger::{Ledger, Line, Total, Wanted, totals};

/// The reader is woken; this only bounds one wait.
const WAIT: Duration = Duration::from_secs(3_600);

const EXAMPLES: &str = "\
Examples:
  tapedeck gaps                          every gap on the tape
  tapedeck gaps --open                   what is missing right now
  tapedeck gaps --since 1d --symbol BTC/USD --cause session,down
  tapedeck gaps --totals --since 7d      how many, how long and how much, by symbol
  tapedeck gaps --follow --json          what is there, then each gap as it opens and closes";

/// List the gaps: what is known to be missing, since when, and why
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Only gaps that are not over
    #[arg(long, conflicts_with = "closed")]
    open: bool,
    /// Only gaps that are over
    #[arg(long)]
    closed: bool,
    /// Only these causes: session, stall, checksum, sequence, drop, down, overrun, disk
    #[arg(long, value_name = "CAUSE", value_delimiter = ',', value_parser = cause)]
    cause: Vec<GapCause>,
    /// Only gaps that were not over by then: a time, or how long ago (1d)
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    since: Option<UnixNanos>,
    /// Only gaps that had begun by then: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    until: Option<UnixNanos>,
    /// By source and symbol: number, time lost, events known to be missing
    #[arg(long, conflicts_with = "follow")]
    totals: bool,
    /// Go on: print each gap as it opens, and again as it closes
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let wanted = Wanted {
            filter: self.filter.clone(),
            causes: self.cause.clone(),
            open: (self.open || self.closed).then_some(self.open),
            since: self.since,
            until: self.until,
        };
        let (ledger, reader) = Ledger::read(&self.place.dir(global)?, &wanted)?;
        let gaps = ledger.gaps(&wanted);
        if self.totals {
            self.print_totals(&totals(&gaps, &wanted, UnixNanos::now()), out)?;
        } else {
            self.print(&gaps, out)?;
        }
        out.flush()?;
        // Not a gap of a feed, but missing all the same: said where it cannot spoil the list.
        for hole in &ledger.holes {
            tracing::warn!(from_seq = hole.from_seq, to_seq = hole.to_seq, "records of the tape cannot be read");
        }
        if self.follow { self.go_on(reader, ledger, &wanted, out) } else { Ok(()) }
    }

    fn print(&self, gaps: &[Line], out: &mut Out) -> anyhow::Result<()> {
        if self.json {
            return gaps.iter().try_for_each(|gap| out.line(serde_json::to_string(gap)?));
        }
        if gaps.is_empty() && out.is_terminal() {
            return out.line("no gaps");
        }
        let rows: Vec<Vec<String>> = gaps.iter().map(row).collect();
        let headings =
            ["ID ", "STATE", "CAUSE", "SOURCE", "SYMBOL", "CHANNEL", "FROM", "TO", "FOR ", "MISSING ", "DETAIL"];
        out.table(&headings, &rows)
    }

    fn print_totals(&self, totals: &[Total], out: &mut Out) -> anyhow::Result<()> {
        if self.json {
            return totals.iter().try_for_each(|total| out.line(serde_json::to_string(total)?));
        }
        if totals.is_empty() && out.is_terminal() {
            return out.line("no gaps");
        }
        let rows: Vec<Vec<String>> = totals.iter().map(row_of_total).collect();
        out.table(&["SOURCE", "SYMBOL", "GAPS ", "OPEN ", "LOST ", "MISSING ", "CAUSES"], &rows)
    }

    /// Prints the records of the ledger as they come, until nobody reads.
    fn go_on(&self, mut reader: Reader, mut ledger: Ledger, wanted: &Wanted, out: &mut Out) -> anyhow::Result<()> {
        out::end_with_reader()?;
        loop {
            match reader.next()? {
                Some(Item::Record(record)) => {
                    if let Some(line) = ledger.take(&record, wanted).filter(|line| wanted.wants(line)) {
                        let text = if self.json { serde_json::to_string(line)? } else { row(line).join("\t") };
                        out.line(text)?;
                    }
                }
                Some(Item::Hole(hole)) => {
                    tracing::warn!(
                        from_seq = hole.from_seq,
                        to_seq = hole.to_seq,
                        "records of the tape cannot be read"
                    );
                }
                None => {
                    out.flush()?;
                    reader.wait(WAIT)?;
                }
            }
        }
    }
}

fn cause(text: &str) -> Result<GapCause, String> {
    let known = GapCause::NAMES.iter().find(|(_, name)| *name == text).map(|(cause, _)| *cause);
    known.ok_or_else(|| {
        let names = GapCause::NAMES.map(|(_, name)| name);
        let near = nearest(text, names).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        format!("there is no such cause; {near}There are: {}", names.join(", "))
    })
}

fn row(gap: &Line) -> Vec<String> {
    let seconds = |ns: i64| {
        let text = UnixNanos(ns).to_string();
        text.get(..19).unwrap_or(&text).to_owned()
    };
    let until = gap.to.map_or_else(UnixNanos::now, UnixNanos);
    vec![
        gap.id.to_string(),
        gap.state.to_owned(),
        gap.cause.to_owned(),
        gap.source.to_string(),
        all_if_empty(&gap.symbol),
        all_if_empty(&gap.channel),
        seconds(gap.from),
        gap.to.map_or_else(|| "-".to_owned(), seconds),
        for_people(until.saturating_since(UnixNanos(gap.from))),
        gap.missing.map_or_else(|| "-".to_owned(), |missing| missing.to_string()),
        gap.detail.to_string(),
    ]
}

fn row_of_total(total: &Total) -> Vec<String> {
    let causes: Vec<String> = total.causes.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    vec![
        total.source.to_string(),
        all_if_empty(&total.symbol),
        total.gaps.to_string(),
        total.open.to_string(),
        for_people(total.lost()),
        total.missing.to_string(),
        causes.join(", "),
    ]
}

fn all_if_empty(text: &SmolStr) -> String {
    if text.is_empty() { "*".to_owned() } else { text.to_string() }
}

/// People do not read microseconds of an outage.
fn for_people(span: Duration) -> String {
    show_duration(Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}
