//! `tapedeck renormalise`: old raw frames through today's parsers, into a new tape.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;
use tapedeck_market::{Event, SmolStr, UnixNanos, wire};
use tapedeck_tape::{Item, Start};

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::{self, Where};
use crate::cli::work::Work;
use crate::config::Loaded;
use crate::deck::{self, Plan};
use crate::renormalise::{Difference, Outcome, Renormaliser};
use crate::sources::reread::Reread;
use crate::sources::{KINDS, Setup};

/// Records of one append to the new tape.
const AN_APPEND: usize = 512;

const EXAMPLES: &str = "\
Examples:
  tapedeck renormalise --out new                       the whole tape
  tapedeck renormalise --from 2026-01-05 --to 2026-01-06 --out new
  tapedeck renormalise --from 7d --out new --json      with the first differences, whole

The old tape stays as it is. Only sources that were recorded with `keep_raw = true` can be read again; frames that
were refused are kept always, and are tried as well.";

/// Read the raw frames of a tape again with today's parsers, into a new tape, and say what differs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder of the new tape; it must not hold one
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// From this receipt on: a time, or how long ago (7d)
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    from: Option<UnixNanos>,
    /// Up to this receipt: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    to: Option<UnixNanos>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// What came out, for programs.
#[derive(Debug, Serialize)]
struct Report {
    frames: u64,
    equal: u64,
    /// By kind, then `added`, `removed` or `changed`.
    changes: HashMap<&'static str, HashMap<&'static str, u64>>,
    /// Frames that were refused then, and are understood now.
    readable_now: u64,
    unreadable: u64,
    without_parser: u64,
    records: u64,
    tape: String,
    examples: Vec<Value>,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let loaded = global.load()?;
        let old = self.place.dir(global)?;
        ensure!(
            tapedeck_tape::tools::id(&reading::disk(), &self.out).is_err(),
            End::Usage(format!("{} holds a tape already: name another folder with --out", self.out.display()))
        );
        let plan = new_tape(&loaded, &self.out);
        let parsers = parsers(&loaded, &old)?;
        let span = (self.from.unwrap_or(UnixNanos(i64::MIN)), self.to.unwrap_or(UnixNanos(i64::MAX)));
        let (outcome, records) = super::block_on(work(&plan, &old, span, parsers))?;
        if self.json {
            return out.json(&report(&outcome, records, &self.out));
        }
        out.line(format!("{} frames read again, {} events as they were", outcome.frames, outcome.equal))?;
        for ((kind, change), count) in &outcome.changes {
            out.line(format!("{count} {kind} {change}"))?;
        }
        for (count, what) in [
            (outcome.readable_now, "frames could not be read then, and can be now"),
            (outcome.unreadable, "frames cannot be read today: what was made of them then is taken over"),
            (outcome.foreign, "frames of sources that this config does not have: taken over"),
        ] {
            if count > 0 {
                out.line(format!("{count} {what}"))?;
            }
        }
        for difference in &outcome.examples {
            out.line(told(difference))?;
        }
        out.line(format!("{records} records in {}", self.out.display()))
    }
}

/// A tape of the same make in another folder, without sources and readers.
fn new_tape(loaded: &Loaded, dir: &Path) -> Plan {
    let mut config = loaded.config.clone();
    config.sources.clear();
    config.sinks.clear();
    config.tape.dir = dir.to_owned();
    let mut plan = Plan::unchecked(&config, &[]);
    plan.services.clear();
    // It is a copy: what is old in it is wanted.
    plan.retention = tapedeck_tape::Retention::default();
    plan
}

fn parsers(loaded: &Loaded, dir: &Path) -> anyhow::Result<HashMap<SmolStr, Box<dyn Reread>>> {
    let mut parsers = HashMap::new();
    for source in &loaded.config.sources {
        let Some(reread) = KINDS.iter().find(|kind| kind.name == source.kind).and_then(|kind| kind.reread) else {
            continue;
        };
        let setup = Setup { name: source.name.clone(), table: source.table.clone(), dir: dir.to_owned() };
        parsers.insert(source.name.clone(), reread(setup).with_context(|| format!("[source.{}]", source.name))?);
    }
    let able: Vec<&str> = KINDS.iter().filter(|kind| kind.reread.is_some()).map(|kind| kind.name).collect();
    ensure!(
        !parsers.is_empty(),
        End::Usage(format!("the config has no source whose frames can be read again ({})", able.join(", ")))
    );
    Ok(parsers)
}

async fn work(
    plan: &Plan,
    old: &Path,
    (from, to): (UnixNanos, UnixNanos),
    parsers: HashMap<SmolStr, Box<dyn Reread>>,
) -> anyhow::Result<(Outcome, u64)> {
    deck::alone(plan, SmolStr::new_static("renormalise"), async |outlet, _| {
        let mut work = Renormaliser::new(parsers);
        // From the beginning: names, and trades that are recorded once, were said before the span.
        let mut reader = reading::reader(old, Start::Begin)?;
        let (end, mut bar) = (reader.durable_seq(), Work::new());
        let (mut append, mut records, mut begun): (Vec<Event>, u64, bool) = (Vec::new(), 0, false);
        while reader.seq() <= end {
            let Some(item) = reader.next()? else { break };
            let Item::Record(record) = item else { continue };
            let (seq, ts_recv) = (record.seq, UnixNanos(record.ts_recv));
            let event = wire::decode(record.payload);
            if !std::mem::replace(&mut begun, true) {
                let known = reader.checkpoint().iter().filter_map(|payload| wire::decode(payload).ok());
                known.for_each(|event| work.before(&event));
            }
            let Ok(event) = event else { continue };
            if ts_recv < from || ts_recv > to {
                work.before(&event);
                continue;
            }
            append.extend(work.take(seq, event));
            if append.len() >= AN_APPEND {
                records += append.len() as u64;
                outlet.emit(std::mem::take(&mut append)).await?;
                bar.tell("records", seq, Some(end));
            }
        }
        append.extend(work.finish());
        records += append.len() as u64;
        outlet.emit_durable(append).await?;
        bar.end();
        Ok((work.outcome().clone(), records))
    })
    .await
}

fn json(event: Option<&Event>) -> Value {
    let Some(event) = event else { return Value::Null };
    let mut text = Vec::new();
    crate::json::event_json(None, event, &mut text);
    serde_json::from_slice(&text).unwrap_or_default()
}

fn report(outcome: &Outcome, records: u64, tape: &Path) -> Report {
    let mut changes: HashMap<&'static str, HashMap<&'static str, u64>> = HashMap::new();
    for ((kind, change), count) in &outcome.changes {
        changes.entry(kind).or_default().insert(change, *count);
    }
    let example = |one: &Difference| serde_json::json!({ "seq": one.seq, "change": one.change.name(), "then": json(one.then.as_ref()), "now": json(one.now.as_ref()) });
    Report {
        frames: outcome.frames,
        equal: outcome.equal,
        changes,
        readable_now: outcome.readable_now,
        unreadable: outcome.unreadable,
        without_parser: outcome.foreign,
        records,
        tape: tape.display().to_string(),
        examples: outcome.examples.iter().map(example).collect(),
    }
}

fn told(difference: &Difference) -> String {
    let Difference { seq, change, then, now } = difference;
    let text = |event: &Option<Event>| event.as_ref().map(|event| json(Some(event)).to_string());
    match (text(then), text(now)) {
        (Some(then), Some(now)) => format!("  frame {seq}, {}: {then}\n       now {now}", change.name()),
        (one, other) => format!("  frame {seq}, {}: {}", change.name(), one.or(other).unwrap_or_default()),
    }
}
