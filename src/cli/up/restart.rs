//! `tapedeck restart`: one server, the deck, or one source or service inside it.

use std::time::Duration;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::Where;
use crate::control::{self, Request};
use crate::up::{Ask, DECK, Entry, State, Table};

const LOOK_EVERY: Duration = Duration::from_millis(20);

const EXAMPLES: &str = "\
Examples:
  tapedeck restart               the deck: it reads its config anew; servers stay
  tapedeck restart influx        [server.influx], [source.influx] or [sink.influx]
  tapedeck restart sink.influx   where a server has the same name

A restart of the deck leaves a gap in the ledger, as every pause does; one of a source only its own. `tapedeck up` gives up
what has failed too often; this tries it again.";

/// End and start again one server, the deck, or a part of it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A server, `deck`, or a source or service inside the deck
    #[arg(default_value = DECK)]
    name: String,
    #[command(flatten)]
    place: Where,
}

impl Args {
    pub(crate) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let dir = self.place.dir(global)?;
        let table = Table::of(&dir);
        crate::cli::block_on(async {
            let (part, name) = match self.name.split_once('.') {
                Some((part @ ("server" | "source" | "sink"), name)) => (Some(part), name),
                _ => (None, self.name.as_str()),
            };
            let kept = table.is_held().then(|| table.find(name)).flatten();
            if let Some(entry) = kept.filter(|_| matches!(part, None | Some("server"))) {
                if part.is_none() && name != DECK && is_in_deck(&dir, name).await {
                    let said = format!(
                        "both a server and a part of the deck are called `{name}`: say server.{name}, source.{name} or sink.{name}"
                    );
                    return Err(End::Usage(said).into());
                }
                return again(&table, &entry, out).await;
            }
            if part != Some("server")
                && name != DECK
                && let Some(done) = control::ask(&dir, &Request::Restart { name: name.to_owned() }).await?
            {
                return out.line(done.as_str().unwrap_or("restarted"));
            }
            let known: Vec<String> = table.list().into_iter().map(|entry| entry.name).collect();
            let known =
                if known.is_empty() { "nothing is up".to_owned() } else { format!("there are: {}", known.join(", ")) };
            Err(End::Absent(format!("nothing called `{name}` runs in {}; {known}", dir.display())).into())
        })
    }
}

async fn is_in_deck(dir: &std::path::Path, name: &str) -> bool {
    let Ok(Some(status)) = control::ask(dir, &Request::Status).await else { return false };
    ["sources", "services"]
        .iter()
        .any(|list| status[*list].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name)))
}

/// Asks the supervisor, and waits for the next life to be ready.
async fn again(table: &Table, before: &Entry, out: &mut Out) -> anyhow::Result<()> {
    let name = &before.name;
    control::ask(table.dir(), &Ask::Restart { name: name.clone() }).await?;
    loop {
        anyhow::ensure!(table.is_held(), "the supervisor has ended meanwhile");
        if let Some(now) = table.find(name).filter(|now| now.starts > before.starts) {
            match now.state {
                State::Running => {
                    let pid = now.identity.map(|identity| format!(", pid {}", identity.pid)).unwrap_or_default();
                    let took = now.ready_ms.unwrap_or(0) as f64 / 1e3;
                    return out.line(format!("{name} ready after {took:.1} s{pid}"));
                }
                State::Hopeless | State::Waiting => anyhow::bail!("{name} {}: tapedeck logs {name}", now.detail),
                _ => {}
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
