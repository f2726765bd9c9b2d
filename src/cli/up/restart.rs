//! `tapedeck restart`: one server, the deck, or one source or service inside it.

use std::path::Path;
use std::time::Duration;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::cli::reading::Where;
use crate::config::suggest::nearest;
use crate::control::{self, Request};
use crate::up::phases::PHASES;
use crate::up::{self, Ask, DECK, Entry, STARTING, Stage, State, Supervisor, Table};

const LOOK_EVERY: Duration = Duration::from_millis(20);

const EXAMPLES: &str = "\
Examples:
  tapedeck restart               the deck: it reads its config anew; servers stay
  tapedeck restart influx        [server.influx], [source.influx] or [sink.influx]
  tapedeck restart sink.influx   where a server has the same name
  tapedeck restart servers       all of them; the deck stays

A restart of the deck leaves a gap in the ledger, as every pause does; one of a source only its own. `tapedeck up` gives up
what has failed too often; this tries it again.";

/// End and start again one server, the deck, or a part of it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A server, `servers` for all of them, `deck`, or a source or service inside the deck
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
            let said = table.is_held().then(|| table.supervisor()).flatten();
            let inside = if part.is_none() && name != DECK { inside(&dir).await } else { Vec::new() };
            let is_inside = inside.iter().any(|one| one == name);
            if matches!(part, None | Some("server")) {
                let names = [name.to_owned()];
                let mut kept = if table.is_held() { table.list() } else { Vec::new() };
                let is_kept = |name: &str| said.as_ref().is_none_or(|said| said.keeps(name));
                kept.retain(|entry| up::means(&names, &entry.name) && is_kept(&entry.name));
                if !kept.is_empty() && is_inside {
                    let said = format!(
                        "both a server and a part of the deck are called `{name}`: say server.{name}, source.{name} or sink.{name}"
                    );
                    return Err(End::Usage(said).into());
                }
                if let Some(said) = said.as_ref().filter(|_| name != DECK && !is_inside) {
                    refuse_changes(global, &dir, said, &names)?;
                }
                if !kept.is_empty() {
                    return again(&table, name, &kept, out).await;
                }
            }
            if part != Some("server") && name != DECK && (is_inside || !PHASES.contains(&name)) {
                match control::ask(&dir, &Request::Restart { name: name.to_owned() }).await {
                    Ok(Some(done)) => return out.line(done.as_str().unwrap_or("restarted")),
                    Ok(None) => {}
                    Err(error) if is_inside || inside.is_empty() => return Err(error),
                    Err(_) => anyhow::bail!("nothing called `{name}` runs in the deck; {}", there_are(name, &inside)),
                }
            }
            if said.is_some_and(|said| said.stage == Stage::Starting) {
                anyhow::bail!("{STARTING}");
            }
            let known: Vec<String> = table.list().into_iter().map(|entry| entry.name).chain(inside).collect();
            if PHASES.contains(&name) && !known.is_empty() {
                let said = format!(
                    "`{name}` is a phase of the start, which is not restarted alone: say what of it; {}",
                    there_are(name, &known)
                );
                return Err(End::Usage(said).into());
            }
            let there = if known.is_empty() { "nothing is up".to_owned() } else { there_are(name, &known) };
            Err(End::Absent(format!("nothing called `{name}` runs in {}; {there}", dir.display())).into())
        })
    }
}

/// What may be said instead of a name that is not known.
fn there_are(name: &str, known: &[String]) -> String {
    let near = nearest(name, known.iter().map(String::as_str));
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    format!("{near}there are: {}", known.join(", "))
}

/// The names of sources and services of the deck that runs; none where it does not answer.
pub(super) async fn inside(dir: &Path) -> Vec<String> {
    let Ok(Some(status)) = control::ask(dir, &Request::Status).await else { return Vec::new() };
    let all = ["sources", "services"].iter().filter_map(|list| status[*list].as_array()).flatten();
    let mut names: Vec<String> = all.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    names.dedup();
    names
}

/// A config that cannot be read, or is of another tape, says nothing about what is kept here.
fn refuse_changes(global: &Global, dir: &Path, said: &Supervisor, names: &[String]) -> anyhow::Result<()> {
    match global.load() {
        Ok(loaded) if loaded.config.tape.dir == dir && said.identity.lives() => {
            super::refuse_changes(&loaded.config, said, names)
        }
        _ => Ok(()),
    }
}

/// Asks the supervisor, and waits for the next life of each to be ready.
async fn again(table: &Table, name: &str, before: &[Entry], out: &mut Out) -> anyhow::Result<()> {
    let asked = control::ask(table.dir(), &Ask::Restart { name: name.to_owned() }).await?;
    anyhow::ensure!(asked.is_some(), "the supervisor does not answer yet: try again in a moment");
    for before in before {
        let line = next_life(table, before).await?;
        out.line(line)?;
    }
    Ok(())
}

async fn next_life(table: &Table, before: &Entry) -> anyhow::Result<String> {
    let name = &before.name;
    loop {
        anyhow::ensure!(table.is_held(), "the supervisor has ended meanwhile");
        if let Some(now) = table.find(name).filter(|now| now.starts > before.starts) {
            match now.state {
                State::Running => {
                    let pid = now.identity.map(|identity| format!(", pid {}", identity.pid)).unwrap_or_default();
                    let took = now.ready_ms.unwrap_or(0) as f64 / 1e3;
                    return Ok(format!("{name} ready after {took:.1} s{pid}"));
                }
                State::Hopeless | State::Waiting => anyhow::bail!("{name} {}: tapedeck logs {name}", now.detail),
                State::Stopped => anyhow::bail!("{name} was ended meanwhile: `tapedeck up {name}` starts it again"),
                _ => {}
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
