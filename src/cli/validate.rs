//! `tapedeck validate`: does everything that the config names really work?

use serde_json::json;

use crate::cli::Global;
use crate::cli::check::{self, Finding};
use crate::cli::exit::End;
use crate::cli::out::{Mark, Out};
use crate::cli::stores;
use crate::config::KindTable;

const EXAMPLES: &str = "\
Examples:
  tapedeck validate stores               every sink: connection, login, a write and its reading back
  tapedeck validate stores influx        one
  tapedeck validate stores --json";

/// Try what the config names: every store with a write and its reading back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Try every store: connection, credentials, what it holds, a write and its reading back
    #[command(alias = "influxdb")]
    Stores {
        /// Only these sinks, by the names of their tables
        names: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let config = global.load()?.config;
        let What::Stores { names, json: as_json } = self.what;
        let tables: Vec<&KindTable> = match names.as_slice() {
            [] => config.sinks.iter().collect(),
            names => names.iter().map(|name| stores::named(&config, name)).collect::<anyhow::Result<_>>()?,
        };
        if tables.is_empty() {
            return Err(End::Absent("the config has no sink".to_owned()).into());
        }
        let findings: Vec<Finding> = super::block_on(async { Ok(check::ask_stores(&tables, &config.tape.dir).await) })?;
        let bad = check::worst(&findings) == Mark::Bad;
        if as_json {
            out.json(&json!({ "ok": !bad, "findings": findings }))?;
        } else {
            check::print(&findings, out)?;
        }
        out.flush()?;
        if bad { Err(End::Found.into()) } else { Ok(()) }
    }
}
