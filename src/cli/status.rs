//! `tapedeck status`: how a deck is doing, or what lies in its folder when none runs.

use crate::cli::Global;
use crate::cli::out::Out;
use crate::cli::reading::{Where, nothing_there};
use crate::control::{self, Request};
use crate::logs::redact_text;
use crate::screen::{self, bytes};
use crate::status::{self, Status};
use crate::up::{Entry, Table};

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
        let mut status: Status = match answer {
            Some(value) => serde_json::from_value(value)?,
            None => {
                let mut status = status::at_rest(dir);
                status.tape.mode = global.load().map_or("unknown", |loaded| loaded.config.tape.mode.name()).to_owned();
                status
            }
        };
        let table = Table::of(dir);
        status.supervisor = table.is_held().then(|| table.supervisor()).flatten();
        // What a killed supervisor left running is shown too; what it left in the table and is gone is not.
        status.processes = table.list();
        status.processes.retain(|entry| status.supervisor.is_some() || lives(entry));
        status.processes.iter_mut().for_each(|entry| entry.stop = redact_text(&entry.stop));
        if !status.running && status.tape.segments == 0 && status.processes.is_empty() {
            return Err(nothing_there(dir, "status"));
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
    if let Some(supervisor) = &status.supervisor {
        let stage = format!("{:?}", supervisor.stage).to_lowercase();
        out.line(format!("supervisor since {}, pid {}: {stage}", supervisor.started, supervisor.identity.pid))?;
    } else if !status.processes.is_empty() {
        out.line("NO SUPERVISOR: what runs is not started again; tapedeck up takes it over, tapedeck down ends it")?;
    }
    for entry in &status.processes {
        out.line(process(entry))?;
    }
    for line in screen::summary(status) {
        out.line(line)?;
    }
    for reader in &status.readers {
        out.line(format!("reader {:<20} at seq {}  {}", reader.name, reader.seq, status.lag_words(reader)))?;
    }
    if status.rss_bytes > 0 {
        out.line(format!("memory {}", bytes(status.rss_bytes)))?;
    }
    Ok(())
}

/// A line of the process table.
fn process(entry: &Entry) -> String {
    let mut line = format!("{:<16} {:<13}", entry.name, entry.state.name());
    if let Some(identity) = entry.identity.as_ref().filter(|_| lives(entry)) {
        line.push_str(&format!("  pid {}", identity.pid));
        if let Some((memory, busy)) = identity.used() {
            line.push_str(&format!("  {}  cpu {:.1} s", bytes(memory), busy.as_secs_f64()));
        }
    }
    if !entry.since.is_empty() {
        line.push_str(&format!("  since {}", entry.since));
    }
    line.push_str(&format!("  {} restarts", entry.restarts));
    if !entry.detail.is_empty() {
        line.push_str(&format!("  {}", entry.detail));
    }
    line
}

fn lives(entry: &Entry) -> bool {
    entry.identity.as_ref().is_some_and(crate::up::process::Identity::lives)
}
