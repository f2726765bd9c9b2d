//! `tapedeck gaps`: the ledger of what is known to be missing.

use std::collections::BTreeMap;

use serde::Serialize;
use tapedeck_market::{Body, Gap, GapState, SmolStr, UnixNanos};
use tapedeck_tape::{Hole, Item, Start};

use crate::cli::Global;
use crate::cli::out::Out;
use crate::cli::reading::{self, Filter, Where};
use crate::config::units::show_duration;

const EXAMPLES: &str = "\
Examples:
  tapedeck gaps                          every gap on the tape
  tapedeck gaps --open                   what is missing right now
  tapedeck gaps --since 1d --symbol BTC/USD
  tapedeck gaps --json";

/// List the gaps: what is known to be missing, since when, and why
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Only gaps that are not over
    #[arg(long)]
    open: bool,
    /// Only gaps that were not over by then: a time, or how long ago (1d)
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    since: Option<UnixNanos>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Where,
}

/// A gap as the ledger has it last.
#[derive(Clone, Debug, Serialize)]
struct Line {
    id: u64,
    /// Record that says so.
    seq: u64,
    source: SmolStr,
    venue: SmolStr,
    symbol: SmolStr,
    channel: SmolStr,
    cause: &'static str,
    state: &'static str,
    /// Nanoseconds, our clock.
    from: i64,
    to: Option<i64>,
    missing: Option<u64>,
    detail: SmolStr,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let (gaps, holes) = self.read(global)?;
        if self.json {
            for gap in &gaps {
                out.line(serde_json::to_string(gap)?)?;
            }
        } else if gaps.is_empty() && out.is_terminal() {
            out.line("no gaps")?;
        } else {
            let rows: Vec<Vec<String>> = gaps.iter().map(row).collect();
            let headings =
                ["ID ", "STATE", "CAUSE", "SOURCE", "SYMBOL", "CHANNEL", "FROM", "TO", "FOR ", "MISSING ", "DETAIL"];
            out.table(&headings, &rows)?;
        }
        out.flush()?;
        // Not a gap of a feed, but missing all the same: said where it cannot spoil the list.
        for hole in holes {
            tracing::warn!(from_seq = hole.from_seq, to_seq = hole.to_seq, "records of the tape cannot be read");
        }
        Ok(())
    }

    /// The last word on each gap, in the order they began, and the holes of the tape itself.
    fn read(&self, global: &Global) -> anyhow::Result<(Vec<Line>, Vec<Hole>)> {
        let mut reader = reading::reader(&self.place.dir(global)?, Start::Begin)?;
        let end = reader.durable_seq();
        let mut ledger: BTreeMap<u64, Line> = BTreeMap::new();
        let mut holes = Vec::new();
        // Open gaps are in the checkpoint too: retention may have taken the record that opened one.
        let mut checkpointed = false;
        while reader.seq() <= end {
            match reader.next()? {
                None => break,
                Some(Item::Hole(hole)) => holes.push(hole),
                Some(Item::Record(record)) => {
                    let event = reading::event(&record);
                    if let Body::Gap(gap) = &event.body
                        && self.filter.wants(&event.source, &event.symbol)
                    {
                        ledger.insert(gap.id, line(record.seq, &event, gap));
                    }
                }
            }
            if !checkpointed {
                checkpointed = true;
                for payload in reader.checkpoint() {
                    let Ok(event) = tapedeck_market::wire::decode(payload) else { continue };
                    if let Body::Gap(gap) = &event.body
                        && self.filter.wants(&event.source, &event.symbol)
                    {
                        ledger.entry(gap.id).or_insert_with(|| line(0, &event, gap));
                    }
                }
            }
        }
        let wanted = |line: &Line| {
            let open = line.to.is_none();
            (!self.open || open) && self.since.is_none_or(|since| line.to.is_none_or(|to| to >= since.0))
        };
        let mut gaps: Vec<Line> = ledger.into_values().filter(wanted).collect();
        gaps.sort_by_key(|gap| (gap.from, gap.id));
        Ok((gaps, holes))
    }
}

fn line(seq: u64, event: &tapedeck_market::Event, gap: &Gap) -> Line {
    Line {
        id: gap.id,
        seq,
        source: event.source.clone(),
        venue: event.venue.clone(),
        symbol: event.symbol.clone(),
        channel: gap.channel.clone(),
        cause: gap.cause.name(),
        state: gap.state.name(),
        from: gap.from.0,
        to: gap.to.filter(|_| gap.state != GapState::Open).map(|to| to.0),
        missing: gap.missing,
        detail: gap.detail.clone(),
    }
}

fn row(gap: &Line) -> Vec<String> {
    let seconds = |ns: i64| {
        let text = UnixNanos(ns).to_string();
        text.get(..19).unwrap_or(&text).to_owned()
    };
    let until = gap.to.map_or_else(UnixNanos::now, UnixNanos);
    let span = until.saturating_since(UnixNanos(gap.from));
    // People do not read microseconds of an outage.
    let span = std::time::Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let all = |text: &SmolStr| if text.is_empty() { "*".to_owned() } else { text.to_string() };
    vec![
        gap.id.to_string(),
        gap.state.to_owned(),
        gap.cause.to_owned(),
        gap.source.to_string(),
        all(&gap.symbol),
        all(&gap.channel),
        seconds(gap.from),
        gap.to.map_or_else(|| "-".to_owned(), seconds),
        show_duration(span),
        gap.missing.map_or_else(|| "-".to_owned(), |missing| missing.to_string()),
        gap.detail.to_string(),
    ]
}
