//! `tapedeck status`: how a deck is doing, or what lies in its folder when none runs.

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::Where;
use crate::control::{self, Request};
use crate::screen::{self, bytes};
use crate::status::{self, Status};

const EXAMPLES: &str = "\
Examples:
  tapedeck status
  tapedeck status --json | jq .tape.days_left

Without a running deck the tape, its open gaps and its cursors are shown, and `running` is false.";

/// Show how the deck is doing: rates, latencies, sources, readers, disk
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let dir = &self.place.dir(global)?;
        let answer = crate::cli::block_on(control::ask(dir, &Request::Status))?;
        let status: Status = match answer {
            Some(value) => serde_json::from_value(value)?,
            None => {
                let mut status = status::at_rest(dir);
                status.tape.mode = global.load().map_or("unknown", |loaded| loaded.config.tape.mode.name()).to_owned();
                status
            }
        };
        if !status.running && status.tape.segments == 0 {
            return Err(
                End::Absent(format!("no tape in {} and no deck runs there: tapedeck run", dir.display())).into()
            );
        }
        if self.json {
            return out.json(&status);
        }
        shown(out, &status)
    }
}

fn shown(out: &mut Out, status: &Status) -> anyhow::Result<()> {
    if status.running {
        out.line(format!(
            "running since {} ({} s), pid {}, version {}",
            status.started, status.uptime_s, status.pid, status.version
        ))?;
    } else {
        out.line("not running")?;
    }
    for line in screen::summary(status) {
        out.line(line)?;
    }
    for reader in &status.readers {
        out.line(format!("reader {:<20} at seq {}  {} records behind", reader.name, reader.seq, reader.lag_records))?;
    }
    if status.rss_bytes > 0 {
        out.line(format!("memory {}", bytes(status.rss_bytes)))?;
    }
    Ok(())
}
