//! `tapedeck grafana`: data sources and dashboards for what is recorded.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::cli::Global;
use crate::cli::out::Out;
use crate::config::units::parse_duration;
use crate::grafana::{Done, Job, To, setup};

const EXAMPLES: &str = "\
Examples:
  tapedeck grafana setup --dir /etc/grafana     files; Grafana reads them at its start
  tapedeck grafana setup --to api               a running Grafana, by the token or password of [grafana]
  tapedeck grafana setup --to api --dry-run     what is missing or different there
  tapedeck grafana datasource
  tapedeck grafana dashboards --json";

/// Give a Grafana data sources and dashboards for what is recorded
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    /// How they get there, in place of [grafana] to
    #[arg(long, global = true)]
    to: Option<To>,
    /// Folder for files, in place of [grafana] dir
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// How long to wait for a Grafana that does not answer
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s", global = true)]
    wait: Duration,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum What {
    /// Data sources, dashboards and alert rules
    Setup,
    /// Data sources only: one for each store
    Datasource,
    /// Dashboards only: one for each stream, of candles, gaps and the pipeline
    Dashboards,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = global.load()?.config;
        let job = Job {
            sources: !matches!(self.what, What::Dashboards),
            dashboards: !matches!(self.what, What::Datasource),
            // Whoever names a folder means files.
            to: self.to.or(self.dir.is_some().then_some(To::Files)),
            dir: self.dir,
            dry: self.dry_run,
            wait: self.wait,
        };
        let done = super::block_on(setup(&config, &job))?;
        if self.json {
            return out.json(&json!({ "at": done.at, "changes": done.changes, "notes": done.notes }));
        }
        print(&done, job.dry, out)
    }
}

fn print(done: &Done, dry: bool, out: &mut Out) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = done
        .changes
        .iter()
        .map(|change| [change.what, &change.uid, &change.name, change.state, &change.note].map(str::to_owned).to_vec())
        .collect();
    out.table(&["WHAT", "UID", "NAME", if dry { "WOULD BE" } else { "IS" }, "NOTE"], &rows)?;
    if out.is_terminal() {
        for note in &done.notes {
            out.line(format!("note: {note}"))?;
        }
        if done.to == To::Files && done.changed() && !dry {
            out.line("Grafana reads data sources and alert rules at its start: restart it.")?;
        }
    }
    Ok(())
}
