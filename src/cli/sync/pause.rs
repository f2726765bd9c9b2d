//! `tapedeck sync pause`: tables wait, and go on.

use super::{Set, Tables};
use crate::cli::Global;
use crate::cli::out::Out;
use crate::sync::paused::Paused;

/// Let tables wait, or go on; a running sync takes it up at its next look
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// Go on
    #[arg(long)]
    resume: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let set = Set::load(global)?;
        set.tables(&self.tables)?;
        let mut paused = Paused::read(&set.folder);
        match (self.tables.names.is_empty(), self.resume) {
            (true, true) => paused = Paused::default(),
            (true, false) => paused.all = true,
            (false, false) => paused.tables.extend(self.tables.names),
            (false, true) if paused.all => {
                paused.all = false;
                paused.tables.extend(set.config.table.keys().cloned());
                paused.tables.retain(|name| !self.tables.names.contains(name));
            }
            (false, true) => paused.tables.retain(|name| !self.tables.names.contains(name)),
        }
        paused.write(&set.folder)?;
        for name in set.config.table.keys() {
            out.line(format!("{name}: {}", if paused.holds(name) { "waits" } else { "is followed" }))?;
        }
        out.flush()
    }
}
