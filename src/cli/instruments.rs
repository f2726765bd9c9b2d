//! `tapedeck instruments` and `tapedeck resolve`: what the tape knows of instruments and their names.

use std::path::Path;

use serde::Serialize;
use tapedeck_market::{Kind, SmolStr, UnixNanos, wire};
use tapedeck_tape::{Item, Start};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Where};
use crate::registry::{Entry, Key, Registry, base_term};

const EXAMPLES: &str = "\
Examples:
  tapedeck instruments                    of every venue
  tapedeck instruments --venue kite --json
  tapedeck instruments --history          also what was so earlier, with its time";

const RESOLVE_EXAMPLES: &str = "\
Examples:
  tapedeck resolve XBT/USD                kraken  BTC/USD
  tapedeck resolve 408065                 kite    NSE:INFY
  tapedeck resolve kraken:BTC/USD --json  of one venue
  tapedeck resolve INFY --at 2026-01-05   what the name meant then";

/// List the instruments that the tape knows, with their other names
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only of this venue
    #[arg(long, value_name = "VENUE")]
    venue: Option<String>,
    /// Also what was so earlier
    #[arg(long)]
    history: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// Say which instrument a name means: symbol, alias, token
#[derive(Debug, clap::Args)]
#[command(after_help = RESOLVE_EXAMPLES)]
pub(super) struct Resolve {
    /// A name in any spelling; `VENUE:NAME` means one venue's
    text: String,
    /// What it meant then: a time, or how long ago (30d)
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    at: Option<UnixNanos>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// An instrument, for programs.
#[derive(Debug, Serialize)]
struct Line<'a> {
    venue: &'a str,
    symbol: &'a str,
    source: &'a str,
    /// How the name led here.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<SmolStr>,
    since: String,
    until: Option<String>,
    base: Option<&'a str>,
    quote: Option<&'a str>,
    /// As the predecessors split the name, for their tags.
    legacy_base: Option<SmolStr>,
    legacy_term: Option<SmolStr>,
    status: Option<&'a str>,
    aliases: serde_json::Map<String, serde_json::Value>,
    price_precision: Option<u8>,
    size_precision: Option<u8>,
    price_increment: Option<String>,
    size_increment: Option<String>,
    session: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn new(key: &'a Key, entry: &'a Entry, by: Option<SmolStr>) -> Line<'a> {
        let Entry { source, since, until, instrument } = entry;
        let (legacy_base, legacy_term) = base_term(key).unzip();
        let aliases = instrument.aliases.iter().map(|(scheme, text)| (scheme.to_string(), text.as_str().into()));
        Line {
            venue: &key.0,
            symbol: &key.1,
            source,
            by,
            since: since.to_string(),
            until: until.map(|until| until.to_string()),
            base: instrument.base.as_deref(),
            quote: instrument.quote.as_deref(),
            legacy_base,
            legacy_term,
            status: instrument.status.as_deref(),
            aliases: aliases.collect(),
            price_precision: instrument.price_precision,
            size_precision: instrument.size_precision,
            price_increment: instrument.price_increment.map(|increment| increment.to_string()),
            size_increment: instrument.size_increment.map(|increment| increment.to_string()),
            session: instrument.session.as_deref(),
        }
    }

    fn row(&self) -> Vec<String> {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let aliases: Vec<String> = self
            .aliases
            .iter()
            .map(|(scheme, alias)| format!("{scheme}={}", alias.as_str().unwrap_or_default()))
            .collect();
        vec![
            self.venue.to_owned(),
            self.symbol.to_owned(),
            text(self.base),
            text(self.quote),
            text(self.status),
            short(&self.since),
            self.until.as_deref().map(short).unwrap_or_default(),
            aliases.join(" "),
        ]
    }
}

const HEADINGS: [&str; 8] = ["VENUE", "SYMBOL", "BASE", "QUOTE", "STATUS", "SINCE", "UNTIL", "OTHER NAMES"];

/// To the second.
fn short(time: &str) -> String {
    time.get(..19).unwrap_or(time).to_owned()
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let registry = read(&self.place.dir(global)?, self.history)?;
        let wanted = |key: &Key| self.venue.as_ref().is_none_or(|venue| *venue == key.0);
        let lines: Vec<Line<'_>> = registry
            .all()
            .filter(|(key, _)| wanted(key))
            .flat_map(|(key, entries)| {
                let shown = if self.history { entries } else { &entries[entries.len().saturating_sub(1)..] };
                shown.iter().map(move |entry| Line::new(key, entry, None))
            })
            .collect();
        if self.json {
            return lines.iter().try_for_each(|line| out.line(serde_json::to_string(line)?));
        }
        if lines.is_empty() {
            return Err(
                End::Absent("no instruments on this tape: they come with a source's first session".to_owned()).into()
            );
        }
        out.table(&HEADINGS, &lines.iter().map(Line::row).collect::<Vec<_>>())
    }
}

impl Resolve {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let registry = read(&self.place.dir(global)?, self.at.is_some())?;
        let found = registry.resolve(&self.text, self.at.unwrap_or_else(UnixNanos::now));
        if found.is_empty() {
            let near = registry.nearest(&self.text).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let at = self.at.map(|at| format!(" at {at}")).unwrap_or_default();
            return Err(End::Absent(format!("nothing on this tape is called `{}`{at}{near}", self.text)).into());
        }
        let lines: Vec<Line<'_>> =
            found.iter().map(|found| Line::new(found.key, found.entry, Some(found.by.clone()))).collect();
        if self.json {
            return out.json(&lines);
        }
        out.table(&HEADINGS, &lines.iter().map(Line::row).collect::<Vec<_>>())
    }
}

/// The instruments of a tape: what is known now stands in the last checkpoint and behind it; `all`: from the beginning.
fn read(dir: &Path, all: bool) -> anyhow::Result<Registry> {
    let mut reader = reading::reader(dir, if all { Start::Begin } else { Start::Checkpoint })?;
    let end = reader.durable_seq();
    let (mut registry, mut begun) = (Registry::default(), false);
    let take = |registry: &mut Registry, payload: &[u8]| {
        if wire::kind(payload) == Ok(Kind::INSTRUMENT)
            && let Ok(event) = wire::decode(payload)
        {
            registry.take(&event);
        }
    };
    let mut behind = Vec::new();
    while reader.seq() <= end {
        match reader.next()? {
            None => break,
            Some(Item::Record(record)) if wire::kind(record.payload) == Ok(Kind::INSTRUMENT) => {
                behind.push(record.payload.to_vec());
            }
            Some(_) => {}
        }
        if !std::mem::replace(&mut begun, true) {
            reader.checkpoint().iter().for_each(|payload| take(&mut registry, payload));
        }
        behind.drain(..).for_each(|payload| take(&mut registry, &payload));
    }
    if !begun {
        reader.checkpoint().iter().for_each(|payload| take(&mut registry, payload));
    }
    Ok(registry)
}
