//! `tapedeck retention`: how long a store keeps what, and what it holds.

use serde_json::json;

use crate::cli::Global;
use crate::cli::out::Out;
use crate::cli::stores;
use crate::config::units::parse_duration;
use crate::sinks::Table;

const EXAMPLES: &str = "\
Examples:
  tapedeck retention create                 make the policies of the config, alter those that differ
  tapedeck retention list
  tapedeck retention stats --json           points of each policy and measurement, bytes on disk
  tapedeck retention cleanup                show what is older than its policy keeps
  tapedeck retention cleanup --yes          and remove it now
  tapedeck retention cleanup --older-than 30d --yes";

/// Make, alter and show the retention policies of a store
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    /// The sink, by the name of its table; without it the only one that has policies
    #[arg(long, value_name = "NAME", global = true)]
    sink: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum What {
    /// Make the policies that are missing, and alter those that differ from the config
    Create,
    /// List the policies that there are, and what goes to them
    List,
    /// Count what each policy holds
    Stats,
    /// Show what is older than its policy keeps; remove it with --yes
    Cleanup {
        /// And what is older than this, whatever its policy
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        older_than: Option<std::time::Duration>,
        /// Remove it
        #[arg(long)]
        yes: bool,
    },
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = global.load()?.config;
        let sink = self.sink.as_deref();
        let (_, mut sink) = stores::one(&config, sink, "retention policies", |sink| sink.retention().is_some())?;
        let Some(store) = sink.retention() else { return Ok(()) };
        let what = self.what;
        let found = super::block_on(async {
            match what {
                What::Create => store.create().await,
                What::List => store.list().await,
                What::Stats => store.stats().await,
                What::Cleanup { older_than, yes } => store.cleanup(older_than, yes).await,
            }
        })?;
        if self.json {
            return out.json(&json!(found.objects()));
        }
        if let (What::Cleanup { yes, .. }, true) = (what, out.is_terminal()) {
            let said = match (found.rows.is_empty(), yes) {
                (true, _) => "nothing is older than its policy keeps",
                (false, false) => "this would be removed with --yes:",
                (false, true) => "removed:",
            };
            out.line(said)?;
        }
        print(&found, out)
    }
}

/// Prints rows under their headings.
pub(super) fn print(table: &Table, out: &mut Out) -> anyhow::Result<()> {
    if table.rows.is_empty() {
        return Ok(());
    }
    let number = |at: usize| table.rows.iter().any(|row| row[at].is_number());
    let headings: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{}{}", name.to_uppercase(), if number(at) { " " } else { "" }))
        .collect();
    out.table(&headings.iter().map(String::as_str).collect::<Vec<_>>(), &table.cells())
}
