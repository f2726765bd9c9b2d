//! `tapedeck bus`: the bus as a child process. The deck starts it; it is no verb for people.

use crate::bus::{self, Task};
use crate::child;
use crate::cli::Global;

const EXAMPLES: &str = "\
Examples:
  tapedeck bus        started by the deck, which hands it its config on standard input; people write [bus] and `tapedeck run`";

/// The bus, as a child process of the deck
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

impl Args {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let inherited = child::inherit::<Task>()?;
        let _logs = crate::logs::start(&crate::logs::Options {
            level: global.level("info"),
            format: crate::config::LogFormat::Json,
            dir: None,
            per_service: false,
            color: false,
        })?;
        bus::serve(&inherited.config, &inherited.stop)
    }
}
