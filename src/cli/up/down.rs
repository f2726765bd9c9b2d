//! `tapedeck down`: everything that `up` started ends, in reverse order.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::follow::Follower;
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::Where;
use crate::control::{self, Request};
use crate::up::{self, Ask, Entry, SERVERS, State, Table};

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
                self.left_behind(&dir, &table).await?
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

    fn wants(&self, entry: &Entry) -> bool {
        self.names.is_empty() || up::means(&self.names, &entry.name)
    }

    /// Says what is about to end: some of it may take its whole grace.
    fn begin(&self, entries: &[Entry]) -> Follower {
        let follower = Follower::new(self.json);
        let running = entries.iter().rev().filter(|entry| self.wants(entry) && entry.may_run());
        let names: Vec<&str> = running.map(|entry| entry.name.as_str()).collect();
        if !names.is_empty() {
            follower.say(&format!("stopping {}", names.join(", ")));
        }
        follower
    }

    /// Ends what a supervisor left behind that is no more.
    async fn left_behind(&self, dir: &Path, table: &Table) -> anyhow::Result<Vec<String>> {
        let entries = table.list();
        let running = entries.iter().any(Entry::may_run);
        if !running && let Ok(Some(status)) = control::ask(dir, &Request::Status).await {
            let said = format!(
                "a deck that `up` did not start records in {}, pid {}: it is ended where it was started",
                dir.display(),
                status["pid"]
            );
            return Err(End::Busy(said).into());
        }
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let known: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        if let Some(name) = self.names.iter().find(|name| *name != SERVERS && !known.contains(&name.as_str())) {
            let said = format!(
                "nothing called `{name}` was left here by the supervisor, which is gone; there are: {}",
                known.join(", ")
            );
            return Err(End::Absent(said).into());
        }
        // Another one is at it.
        let Some(lock) = table.lock()? else { return Ok(Vec::new()) };
        let follower = self.begin(&entries);
        let ended = up::clean(table, &self.names, &lock).await;
        follower.clear();
        Ok(ended)
    }

    /// Ends the supervisor and all that it keeps.
    async fn all(&self, table: &Table) -> anyhow::Result<Vec<String>> {
        let follower = self.begin(&table.list());
        let before = table.supervisor();
        // One that does not answer, or is busy, understands a signal too.
        if !matches!(control::ask(table.dir(), &Ask::Down { names: Vec::new() }).await, Ok(Some(_)))
            && let Some(said) = &before
        {
            said.identity.signal(rustix::process::Signal::TERM);
        }
        while table.is_held() {
            show(&follower, table);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // The lock goes a moment before the process.
        let deadline = tokio::time::Instant::now() + LAST_MOMENT;
        while before.as_ref().is_some_and(|said| said.identity.lives()) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        follower.clear();
        let said = table.supervisor().unwrap_or_default();
        Ok(said.ended)
    }

    /// Ends some of what is kept.
    async fn some(&self, table: &Table) -> anyhow::Result<Vec<String>> {
        let before = table.list();
        let asked = control::ask(table.dir(), &Ask::Down { names: self.names.clone() }).await?;
        anyhow::ensure!(asked.is_some(), "the supervisor does not answer yet: try again in a moment");
        let follower = self.begin(&before);
        let said = table.supervisor().unwrap_or_default();
        loop {
            // What an earlier supervisor left and this one could not end is nobody's.
            let is_wanted = |entry: &Entry| self.wants(entry) && said.keeps(&entry.name);
            let entries: Vec<Entry> = table.list().into_iter().filter(is_wanted).collect();
            // One that was never started stands there when it was asked to end, and not before.
            let mut names = self.names.iter().filter(|name| *name != SERVERS);
            let all_there = names.all(|name| entries.iter().any(|entry| entry.name == *name));
            if all_there && entries.iter().all(|entry| entry.state == State::Stopped) {
                follower.clear();
                let how = |entry: &Entry| {
                    if entry.detail.is_empty() { "was not running".to_owned() } else { entry.detail.clone() }
                };
                return Ok(entries.iter().map(|entry| format!("{} {}", entry.name, how(entry))).collect());
            }
            anyhow::ensure!(
                table.is_held(),
                "the supervisor has ended meanwhile: tapedeck status says what still runs"
            );
            show(&follower, table);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What is being stopped just now, and how long it may take.
fn show(follower: &Follower, table: &Table) {
    if let Some(entry) = table.list().into_iter().find(|entry| entry.state == State::Stopping) {
        follower.works_at(format!("{} stops, within {} s at most", entry.name, entry.grace_ms as f64 / 1e3));
    }
}
