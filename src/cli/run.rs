//! `tapedeck run`: the deck in the foreground.

use std::io::IsTerminal as _;
use std::sync::Arc;

use crate::cli::Global;
use crate::cli::out::Out;
use crate::cli::symbols::Symbols;
use crate::config::units::Interval;
use crate::config::{Loaded, Log};
use crate::deck::{self, Plan, RunOptions};
use crate::logs::Logs;
use crate::recorder::Summary;
use crate::screen;

const EXAMPLES: &str = "\
Examples:
  tapedeck run                              record what ./tapedeck.toml says, until Ctrl-C
  tapedeck run -c desk.toml --only kraken   only this source; the others' gaps stay open
  tapedeck run --for 10m                    stop by itself
  tapedeck run --set tape.mode=each
  tapedeck run --only kite --symbols NSE:INFY NSE:TCS

Ctrl-C or SIGTERM stops in order: sources, recorder, servers. A second one ends at once; what was
acknowledged is on the tape all the same. SIGHUP reads the config again and restarts only the sources
whose table changed.";

/// Record, in the foreground, until a signal
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these sources and services (candles, synthetic, bus, store), by the name of their table
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Stop by itself after this time, such as 10s or 2h
    #[arg(long = "for", value_name = "TIME")]
    run_for: Option<Interval>,
    #[command(flatten)]
    symbols: Symbols,
    /// No live screen, also on a terminal
    #[arg(long)]
    plain: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let global = &self.symbols.put_into(global, &self.only)?;
        let loaded = global.load()?;
        let plan = Plan::of(&loaded, &self.only)?;
        let logs = global.start_logs(&loaded)?;
        let dir = plan.dir.clone();
        let options = RunOptions {
            run_for: self.run_for.map(|time| time.0),
            reload: Some(reloader(global.clone(), self.only.clone(), &loaded, logs)),
            screen: !self.plain && std::io::stderr().is_terminal(),
        };
        let summary = crate::cli::block_on(deck::run(plan, options))?;
        said(out, &summary, &dir)
    }
}

/// Reads the config again; what cannot change while the recorder runs is refused by name.
fn reloader(
    global: Global,
    only: Vec<String>,
    before: &Loaded,
    logs: Logs,
) -> Arc<dyn Fn() -> anyhow::Result<Plan> + Send + Sync> {
    let before = before.config.clone();
    Arc::new(move || {
        let loaded = global.load()?;
        let now = &loaded.config;
        let same_log = Log { level: before.log.level.clone(), ..now.log.clone() } == before.log;
        for (same, what) in [
            (now.tape == before.tape, "[tape]"),
            (now.http == before.http, "[http]"),
            (now.deck == before.deck, "[deck]"),
            (same_log, "[log], more than its level,"),
        ] {
            anyhow::ensure!(same, "{what} changed: that needs a restart of the deck");
        }
        let plan = Plan::of(&loaded, &only)?;
        logs.set_level(&global.level(&now.log.level))?;
        Ok(plan)
    })
}

/// What was recorded, and where it is.
pub(super) fn said(out: &mut Out, summary: &Summary, dir: &std::path::Path) -> anyhow::Result<()> {
    out.line(format!(
        "recorded {} events ({}) as seq {} to {} in {}",
        summary.events,
        screen::bytes(summary.bytes),
        summary.first_seq,
        summary.last_seq,
        dir.display(),
    ))?;
    if summary.gaps_opened > 0 {
        out.line(format!("{} gaps were opened: tapedeck gaps", summary.gaps_opened))?;
    }
    if summary.duplicates > 0 {
        out.line(format!("{} trades were on the tape already and not recorded again", summary.duplicates))?;
    }
    Ok(())
}
