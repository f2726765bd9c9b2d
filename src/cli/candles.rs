//! `tapedeck candles`: the candles of an instrument, as they stand on the tape or made anew of its records.

use std::collections::BTreeMap;

use serde::Serialize;
use tapedeck_market::{Candle, Event, SmolStr, UnixNanos};
use tapedeck_tape::{Item, Start};

use crate::candles::{Maker, Recipe, candle_of};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Where};
use crate::cli::{retention, stores};
use crate::config::units::{Interval, parse_duration, show_duration};
use crate::config::{Candles, Globs};
use crate::derive::TapePast;
use crate::sinks::{self, Question};

const EXAMPLES: &str = "\
Examples:
  tapedeck candles BTC/USD 1m                     as they stand on the tape, the last word on each
  tapedeck candles BTC/USD 1m --from 1h           of the last hour
  tapedeck candles BTC/USD 1h --json              one object a line
  tapedeck candles BTC/USD 15m --compute          make them now, of the ticks on the tape
  tapedeck candles EUR_USD 1m --compute --set candles.input=mid
  tapedeck candles BTC/USD 1m --sink influx       those that a store holds
  tapedeck candles --counts --sink postgres       how many it holds, of each instrument and interval

Flags: complete, partial (recording began or ended inside it), gap (something is missing), revised, backfilled.";

/// Print the candles of an instrument
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Symbol in the venue's spelling
    #[arg(required_unless_present = "counts")]
    symbol: Option<String>,
    /// Length of the candles: 1s … 1d
    #[arg(required_unless_present = "counts", value_parser = parse_duration)]
    interval: Option<std::time::Duration>,
    /// First start: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    from: Option<UnixNanos>,
    /// Starts before this
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    to: Option<UnixNanos>,
    /// Only of this venue, where several have the symbol
    #[arg(long, value_name = "VENUE")]
    venue: Option<String>,
    /// Make them of the ticks on the tape, as `[candles]` says, whether or not the deck made any
    #[arg(long)]
    compute: bool,
    /// Those that this sink's store holds, by the name of its table: the newest week of minutes, if it is more
    #[arg(long, value_name = "NAME", conflicts_with_all = ["compute", "all", "dir"])]
    sink: Option<String>,
    /// How many candles the store holds, of each instrument and interval, and from when to when
    #[arg(long, requires = "sink", conflicts_with_all = ["symbol", "interval", "from", "to"])]
    counts: bool,
    /// Every statement, not only the last one on each candle
    #[arg(long)]
    all: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// A statement, by what it is about.
type Key = (i64, SmolStr, u32);

/// A candle in JSON: numbers are texts with the digits they have.
#[derive(Debug, Serialize)]
struct Line<'a> {
    venue: &'a str,
    symbol: &'a str,
    interval_ns: i64,
    start: i64,
    open: String,
    high: String,
    low: String,
    close: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vwap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trades: Option<u64>,
    flags: Vec<&'static str>,
    revision: u32,
    input: &'static str,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        if let Some(sink) = &self.sink {
            return self.stored(sink, global, out);
        }
        let found = if self.compute { self.compute(global)? } else { self.read(global)? };
        if found.is_empty() {
            let text = format!("no {} candles of {}", show_duration(self.interval()), self.symbol());
            return Err(End::Absent(format!("{text}: {}", self.hint(global)?)).into());
        }
        if self.json {
            for ((start, venue, _), candle) in &found {
                out.line(serde_json::to_string(&self.line(*start, venue, candle))?)?;
            }
        } else {
            let rows: Vec<Vec<String>> = found.iter().map(|((start, ..), candle)| row(*start, candle)).collect();
            let headings =
                ["START", "OPEN ", "HIGH ", "LOW ", "CLOSE ", "VOLUME ", "VWAP ", "TRADES ", "REV ", "FLAGS"];
            out.table(&headings, &rows)?;
        }
        out.flush()
    }

    /// What to do where there are none.
    fn hint(&self, global: &Global) -> anyhow::Result<String> {
        if self.compute {
            return Ok("are there ticks of it? See `tapedeck tail`; quotes need --set candles.input=mid".to_owned());
        }
        let candles = global.load()?.config.candles;
        let made = candles.is_some_and(|table| table.intervals.contains(&Interval(self.interval())));
        Ok(if made {
            "none was made yet, or the name is another: see `tapedeck kinds`; --compute makes them now".to_owned()
        } else {
            let interval = show_duration(self.interval());
            format!("the deck makes them when [candles] has \"{interval}\" in `intervals`; --compute makes them now")
        })
    }

    /// Given, unless numbers are asked for.
    fn symbol(&self) -> &str {
        self.symbol.as_deref().unwrap_or_default()
    }

    fn interval(&self) -> std::time::Duration {
        self.interval.unwrap_or_default()
    }

    /// What a store holds.
    fn stored(&self, sink: &str, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let config = global.load()?.config;
        let table = stores::named(&config, sink)?;
        let (_, mut store) = sinks::build(table, &config.tape.dir)?;
        let question = if self.counts {
            Question::CandleCounts
        } else {
            Question::Candles {
                symbol: self.symbol().to_owned(),
                interval: self.interval(),
                from: self.from,
                to: self.to,
            }
        };
        let mut found = super::block_on(store.ask(&question))?;
        found.rows.retain(|row| self.venue.as_deref().is_none_or(|venue| row[0] == venue));
        if found.rows.is_empty() {
            let which = if self.counts {
                "candles".to_owned()
            } else {
                format!("{} candles of {}", show_duration(self.interval()), self.symbol())
            };
            return Err(End::Absent(format!("[sink.{sink}] has no {which}")).into());
        }
        if self.json {
            return found.objects().iter().try_for_each(|one| out.line(serde_json::to_string(one)?));
        }
        retention::print(&found, out)
    }

    /// What stands on the tape.
    fn read(&self, global: &Global) -> anyhow::Result<BTreeMap<Key, Candle>> {
        // A candle is written after it began, so its start is early enough to read from.
        let start = self.from.map_or(Start::Begin, |from| Start::Time(from.0));
        let mut reader = reading::reader(&self.place.dir(global)?, start)?;
        let end = reader.durable_seq();
        let mut found = BTreeMap::new();
        while reader.seq() <= end
            && let Some(item) = reader.next()?
        {
            if let Item::Record(record) = item {
                self.keep(&reading::event(&record), &mut found);
            }
        }
        Ok(found)
    }

    /// What the records of the tape make.
    fn compute(&self, global: &Global) -> anyhow::Result<BTreeMap<Key, Candle>> {
        let config = global.load()?.config.candles.unwrap_or_default();
        let table = Candles {
            intervals: vec![Interval(self.interval())],
            symbols: Globs(vec![self.symbol().replace('*', "")]),
            sources: Globs::default(),
            ..config
        };
        let recipe: Recipe = table.recipe().map_err(|(key, error)| anyhow::anyhow!("{key}: {error}"))?;
        let dir = self.place.dir(global)?;
        let mut maker = Maker::new(recipe);
        let mut past = TapePast { dir: dir.clone(), tail: None };
        let mut reader = reading::reader(&dir, Start::Begin)?;
        let end = reader.durable_seq();
        let mut found = BTreeMap::new();
        let mut last = (0, UnixNanos::EPOCH);
        let mut hole = false;
        while reader.seq() <= end
            && let Some(item) = reader.next()?
        {
            let Item::Record(record) = item else {
                hole = true;
                continue;
            };
            let event = reading::event(&record);
            if std::mem::take(&mut hole) {
                maker.hole(last.1, event.ts_recv);
            }
            last = (record.seq, event.ts_recv);
            maker.record(record.seq, &event, &mut past)?;
            if maker.has_said() {
                maker.take_said(UnixNanos::EPOCH).iter().for_each(|event| self.keep(event, &mut found));
            }
        }
        maker.pause(last.0, &mut past)?;
        maker.take_said(UnixNanos::EPOCH).iter().for_each(|event| self.keep(event, &mut found));
        Ok(found)
    }

    /// Keeps a wanted statement, in place of those before it.
    fn keep(&self, event: &Event, found: &mut BTreeMap<Key, Candle>) {
        let Some(candle) = candle_of(event) else { return };
        let wanted = event.symbol == self.symbol()
            && self.venue.as_deref().is_none_or(|venue| event.venue == venue)
            && i128::from(candle.interval_ns) == self.interval().as_nanos() as i128
            && self.from.is_none_or(|from| candle.start >= from)
            && self.to.is_none_or(|to| candle.start < to);
        if !wanted {
            return;
        }
        let revision = if self.all { candle.revision } else { 0 };
        let key = (candle.start.0, event.venue.clone(), revision);
        if found.get(&key).is_none_or(|known| known.revision <= candle.revision) {
            found.insert(key, candle.clone());
        }
    }

    fn line<'a>(&'a self, start: i64, venue: &'a str, candle: &Candle) -> Line<'a> {
        Line {
            venue,
            symbol: self.symbol(),
            interval_ns: candle.interval_ns,
            start,
            open: candle.open.to_string(),
            high: candle.high.to_string(),
            low: candle.low.to_string(),
            close: candle.close.to_string(),
            volume: candle.volume.map(|volume| volume.to_string()),
            vwap: candle.vwap.map(|vwap| vwap.to_string()),
            trades: candle.trades,
            flags: candle.flags.names().collect(),
            revision: candle.revision,
            input: candle.input.name(),
        }
    }
}

fn row(start: i64, candle: &Candle) -> Vec<String> {
    let start = UnixNanos(start).to_string();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    vec![
        start.get(..19).unwrap_or(&start).to_owned(),
        candle.open.to_string(),
        candle.high.to_string(),
        candle.low.to_string(),
        candle.close.to_string(),
        or_dash(candle.volume.map(|volume| volume.to_string())),
        or_dash(candle.vwap.map(|vwap| vwap.to_string())),
        or_dash(candle.trades.map(|trades| trades.to_string())),
        candle.revision.to_string(),
        candle.flags.names().collect::<Vec<_>>().join(","),
    ]
}
