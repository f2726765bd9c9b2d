//! `tapedeck backfill`: the ledger's holes, filled from the venue's past.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tapedeck_market::{SmolStr, UnixNanos};
use tapedeck_tape::{Item, Start};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading;
use crate::cli::work::Work;
use crate::config::{KindTable, Loaded};
use crate::control::{self, Request};
use crate::deck::{self, Plan};
use crate::repair::{self, Figures, Ledger, Noted, Task};
use crate::sources::history::Outlook;

/// How often a running deck is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  tapedeck backfill kraken --dry-run         which holes there are, and what can be had for each
  tapedeck backfill kraken                   fill them; may be stopped and started again
  tapedeck backfill kraken --from 2d --to 1d
  tapedeck backfill oanda --json

A running deck with `repair = true` in the source's table fills its holes by itself; this then shows how far it is.
What is fetched is recorded as ordinary events with the flag `backfilled`, and each hole becomes `repaired`, or
`unrepairable` with the reason: tapedeck gaps";

/// Fill the ledger's holes from the venue's own history
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The source, by the name of its table
    source: String,
    /// Only holes that were not over by then: a time, or how long ago (2d)
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    from: Option<UnixNanos>,
    /// Only holes that had begun by then: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = reading::moment)]
    to: Option<UnixNanos>,
    /// Say what would be asked for, and ask for nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A hole, for people and programs.
#[derive(Debug, Serialize)]
struct Line {
    id: u64,
    symbol: SmolStr,
    channel: SmolStr,
    cause: &'static str,
    from: String,
    to: Option<String>,
    missing: Option<u64>,
    fillable: bool,
    /// With what, or why not.
    with: &'static str,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    repaired: u64,
    unrepairable: u64,
    fetched: u64,
    left: u64,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let loaded = global.load()?;
        let source = source(&loaded, &self.source)?;
        let dir = loaded.config.tape.dir.clone();
        let task = Task::of(source, &dir).map_err(|error| End::Usage(format!("{error:#}")))?;
        let span = (self.from.unwrap_or(UnixNanos(i64::MIN)), self.to.unwrap_or(UnixNanos(i64::MAX)));
        if self.dry_run {
            return self.tell(&task, &dir, span, out);
        }
        let figures = crate::cli::block_on(work(&loaded, &task, &dir, span))?;
        let Figures { left, repaired, unrepairable, fetched } = figures;
        if self.json {
            out.json(&Done { repaired, unrepairable, fetched, left })?;
        } else {
            out.line(format!("{repaired} holes repaired with {fetched} events, {unrepairable} cannot be repaired"))?;
            if left > 0 {
                out.line(format!("{left} are left: start it again to go on"))?;
            }
        }
        out.flush()?;
        if left > 0 { Err(End::Found.into()) } else { Ok(()) }
    }

    fn tell(&self, task: &Task, dir: &Path, span: (UnixNanos, UnixNanos), out: &mut Out) -> anyhow::Result<()> {
        let mut ledger = Ledger::new(task.name.clone(), span);
        let mut reader = reading::reader(dir, Start::Begin)?;
        let end = reader.durable_seq();
        while reader.seq() <= end
            && let Some(item) = reader.next()?
        {
            if let Item::Record(record) = item {
                ledger.take_payload(record.seq, record.payload);
            }
        }
        let history = task.history()?;
        let line = |noted: &Noted| {
            let (gap, outlook) = (&noted.hole.gap, history.outlook(&noted.hole));
            let (fillable, with) = match outlook {
                Outlook::Fillable { with, .. } => (true, with),
                Outlook::Lost(why) => (false, why),
            };
            Line {
                id: gap.id,
                symbol: noted.hole.symbol.clone(),
                channel: gap.channel.clone(),
                cause: gap.cause.name(),
                from: gap.from.to_string(),
                to: gap.to.map(|to| to.to_string()),
                missing: gap.missing.or(noted.hole.ids()),
                fillable,
                with,
            }
        };
        let lines: Vec<Line> = ledger.over().map(line).collect();
        if self.json {
            return lines.iter().try_for_each(|line| out.line(serde_json::to_string(line)?));
        }
        if lines.is_empty() {
            return out.line("no holes to fill");
        }
        let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
        out.table(&["ID ", "SYMBOL", "CHANNEL", "CAUSE", "FROM", "TO", "MISSING ", "CAN BE FILLED"], &rows)
    }
}

fn row(line: &Line) -> Vec<String> {
    let with = if line.fillable { format!("yes: {}", line.with) } else { format!("no: {}", line.with) };
    vec![
        line.id.to_string(),
        line.symbol.to_string(),
        line.channel.to_string(),
        line.cause.to_owned(),
        line.from.clone(),
        line.to.clone().unwrap_or_default(),
        line.missing.map(|missing| missing.to_string()).unwrap_or_default(),
        with,
    ]
}

fn source<'a>(loaded: &'a Loaded, name: &str) -> anyhow::Result<&'a KindTable> {
    loaded.config.sources.iter().find(|source| source.name == name).ok_or_else(|| {
        let names: Vec<&str> = loaded.config.sources.iter().map(|source| source.name.as_str()).collect();
        let there = if names.is_empty() {
            "the config has none".to_owned()
        } else {
            format!("there are: {}", names.join(", "))
        };
        End::Usage(format!("there is no source `{name}`; {there}")).into()
    })
}

async fn work(loaded: &Loaded, task: &Task, dir: &Path, span: (UnixNanos, UnixNanos)) -> anyhow::Result<Figures> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = stop.clone();
    let _listening = tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stopped.cancel();
    });
    let mut bar = Work::new();
    let done = match control::ask(dir, &Request::Status).await? {
        Some(_) => watch(task, dir, &stop, &mut bar).await,
        None => {
            let plan = Plan::of(loaded, std::slice::from_ref(&task.name.to_string()))?;
            deck::alone(&plan, SmolStr::new_static("repair"), async |out, tape| {
                repair::fill(task, span, tape, &out, &stop, &mut |figures, state| tell(&mut bar, figures, state)).await
            })
            .await
        }
    };
    bar.end();
    done
}

fn tell(bar: &mut Work, figures: Figures, state: &str) {
    let done = figures.repaired + figures.unrepairable;
    bar.tell("holes", done, Some(done + figures.left));
    if !matches!(state, "idle" | "filling" | "reading the tape") {
        bar.say(state);
    }
}

/// The deck has the tape: it fills the holes itself, if it was told to.
async fn watch(task: &Task, dir: &Path, stop: &CancellationToken, bar: &mut Work) -> anyhow::Result<Figures> {
    loop {
        let status = control::ask(dir, &Request::Status).await?;
        let status: crate::status::Status = match status {
            Some(status) => serde_json::from_value(status)?,
            None => anyhow::bail!("the deck has stopped: start this again to go on without it"),
        };
        let figures = status.services.iter().find(|service| service.name == "repair").and_then(|service| {
            let own = service.detail.get(task.name.as_str())?;
            let number = |key: &str| own.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
            let state = own.get("state").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            let (left, repaired) = (number("left"), number("repaired"));
            let (unrepairable, fetched) = (number("unrepairable"), number("fetched"));
            Some((Figures { left, repaired, unrepairable, fetched }, state))
        });
        let Some((figures, state)) = figures else {
            let name = &task.name;
            anyhow::bail!(
                "the deck records on this tape and does not fill holes: set `repair = true` in [source.{name}] and send it SIGHUP, or stop it first"
            );
        };
        tell(bar, figures, &state);
        if (figures.left == 0 && state == "idle") || stop.is_cancelled() {
            return Ok(figures);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
