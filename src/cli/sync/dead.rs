//! `tapedeck sync dead`: what was refused, and why.

use super::{Set, Tables};
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::sync::state::State;

/// List what was refused, and why; a good version that comes takes its place
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tables: Tables,
    /// At most so many of each table
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Print JSON, a line each
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let set = Set::load(global)?;
        let Some(state) = State::look(&set.folder)? else {
            return Err(End::Absent("nothing was synced yet".to_owned()).into());
        };
        let mut rows = Vec::new();
        for table in state.tables()? {
            if !self.tables.names.is_empty() && !self.tables.names.contains(&table.name) {
                continue;
            }
            for letter in state.letters(&table.name, self.limit)? {
                if self.json {
                    out.line(serde_json::json!({ "table": table.name, "letter": letter }))?;
                } else {
                    rows.push(vec![table.name.clone(), letter.key, letter.reason]);
                }
            }
        }
        if !self.json {
            out.table(&["TABLE", "ROW", "REASON"], &rows)?;
        }
        out.flush()
    }
}
