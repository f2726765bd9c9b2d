//! `tapedeck down`: everything that `up` started ends, in reverse order.

use std::time::Duration;

use serde_json::json;

use super::follow::Follower;
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::Where;
use crate::control::{self, Request};
use crate::up::{self, Ask, State, Table};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a supervisor that has let go of its folder may take to be gone.
const LAST_MOMENT: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  tapedeck down                end the deck, then the servers, in reverse order
  tapedeck down influx         end only [server.influx]; `tapedeck up influx` starts it again
  tapedeck down servers
  tapedeck down --json

What does not end within its grace (30 s; `[server.NAME] grace`, `[deck] grace`) is killed. No data and no volume is ever
removed: what a sink still had to deliver waits on the tape. It works also when the supervisor was killed.";

/// End what `up` started, in reverse order
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only these: names of servers, `servers` for all of them, `deck`
    names: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(crate) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let dir = self.place.dir(global)?;
        let table = Table::of(&dir);
        crate::cli::block_on(async {
            let ended = if !table.is_held() {
                let running =
                    table.list().iter().any(|entry| entry.identity.as_ref().is_some_and(|identity| identity.lives()));
                if !running && let Ok(Some(status)) = control::ask(&dir, &Request::Status).await {
                    let said = format!(
                        "a deck that `up` did not start records in {}, pid {}: it is ended where it was started",
                        dir.display(),
                        status["pid"]
                    );
                    return Err(End::Busy(said).into());
                }
                match table.lock()? {
                    Some(lock) if running => up::clean(&table, &lock).await,
                    _ => Vec::new(),
                }
            } else if self.names.is_empty() {
                self.all(&table).await?
            } else {
                self.some(&table).await?
            };
            if self.json {
                out.json(&json!({ "ended": ended }))?;
            } else if ended.is_empty() {
                out.line(format!("nothing is up in {}", dir.display()))?;
            } else {
                ended.iter().try_for_each(|line| out.line(line))?;
            }
            out.flush()
        })
    }

    /// Ends the supervisor and all that it keeps.
    async fn all(&self, table: &Table) -> anyhow::Result<Vec<String>> {
        let mut follower = Follower::new(self.json);
        follower.quiet();
        let before = table.supervisor();
        // One that does not answer, or is busy, understands a signal too.
        if !matches!(control::ask(table.dir(), &Ask::Down { names: Vec::new() }).await, Ok(Some(_)))
            && let Some(said) = &before
        {
            said.identity.signal(rustix::process::Signal::TERM);
        }
        while table.is_held() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // The lock goes a moment before the process.
        let deadline = tokio::time::Instant::now() + LAST_MOMENT;
        while before.as_ref().is_some_and(|said| said.identity.lives()) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let said = table.supervisor().unwrap_or_default();
        Ok(said.ended)
    }

    /// Ends some of what is kept.
    async fn some(&self, table: &Table) -> anyhow::Result<Vec<String>> {
        control::ask(table.dir(), &Ask::Down { names: self.names.clone() }).await?;
        let wanted =
            |name: &str| self.names.iter().any(|wanted| wanted == name || (wanted == up::SERVERS && name != up::DECK));
        loop {
            let entries: Vec<up::Entry> = table.list().into_iter().filter(|entry| wanted(&entry.name)).collect();
            if entries.iter().all(|entry| entry.state == State::Stopped) {
                let how = |entry: &up::Entry| {
                    if entry.detail.is_empty() { "was not running".to_owned() } else { entry.detail.clone() }
                };
                return Ok(entries.iter().map(|entry| format!("{} {}", entry.name, how(entry))).collect());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
