//! `tapedeck check`: is the config right, can it record and serve here, does every venue answer, and every store?

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::alerts;
use crate::bus;
use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::{Mark, Out};
use crate::cli::symbols::Symbols;
use crate::config::{KindTable, Loaded, show};
use crate::control::{self, Request};
use crate::heartbeat;
use crate::logs::redact_text;
use crate::sinks;
use crate::sources::Session;
use crate::store;

/// A venue that says nothing for so long is not reachable; kinds give up earlier, in better words.
const PATIENCE: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  tapedeck check                 everything
  tapedeck check kraken          the config, and this one source or sink
  tapedeck check kite --symbols-file nifty.csv
  tapedeck check --offline       without asking venues and stores
  tapedeck check --json";

/// Check the config, the tape's folder, and that every venue and every store answers
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these sources and sinks, by the name of their table
    names: Vec<String>,
    #[command(flatten)]
    symbols: Symbols,
    /// Ask no venue and no store
    #[arg(long)]
    offline: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// What was looked at: `config`, `tape`, `source.kraken` …
    pub what: String,
    pub result: Mark,
    /// What was found, and if it is wrong, what to do.
    pub text: String,
}

impl Finding {
    pub(super) fn new(what: impl Into<String>, result: Mark, text: impl Into<String>) -> Self {
        Finding { what: what.into(), result, text: redact_text(&text.into()) }
    }
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        global.start_quiet_logs()?;
        let global = &self.symbols.put_into(global, &self.names)?;
        let loaded = global.load()?;
        let sessions = loaded.build(&self.names)?;
        if !self.json {
            origins(&loaded, out)?;
            out.flush()?;
        }
        let mut findings = config(&loaded);
        let venues = if self.offline { Vec::new() } else { sessions };
        let wanted = |name: &str| self.names.is_empty() || self.names.iter().any(|wanted| wanted == name);
        let stores: Vec<&KindTable> =
            loaded.config.sinks.iter().filter(|sink| !self.offline && wanted(&sink.name)).collect();
        let asks_broker = !self.offline && wanted(heartbeat::KIND.name);
        let (here, venues, stores, broker) = super::block_on(async {
            let mut here = vec![tape(&loaded.config.tape.dir), http(&loaded).await];
            here.extend(served(&loaded).await);
            let stores = ask_stores(&stores, &loaded.config.tape.dir);
            let (venues, stores, broker) = tokio::join!(ask(venues), stores, ask_broker(&loaded, asks_broker));
            Ok((here, venues, stores, broker))
        })?;
        findings.extend(alerts_of(&loaded));
        findings.extend(here);
        findings.extend(venues);
        findings.extend(stores);
        findings.extend(broker);
        if self.json {
            let found = serde_json::json!({ "ok": worst(&findings) != Mark::Bad, "findings": findings, "config": show(&loaded) });
            out.json(&found)?;
        } else {
            print(&findings, out)?;
        }
        out.flush()?;
        if worst(&findings) == Mark::Bad { Err(End::Found.into()) } else { Ok(()) }
    }
}

/// Prints one line a finding.
pub(super) fn print(findings: &[Finding], out: &mut Out) -> anyhow::Result<()> {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    findings.iter().try_for_each(|one| out.line(format!("{} {:<width$}  {}", out.mark(one.result), one.what, one.text)))
}

/// The worst of all results; what cannot be told is not bad.
pub(super) fn worst(findings: &[Finding]) -> Mark {
    let any = |mark| findings.iter().any(|finding| finding.result == mark);
    [Mark::Bad, Mark::Warn].into_iter().find(|mark| any(*mark)).unwrap_or(Mark::Good)
}

/// Where each value that is no default came from.
fn origins(loaded: &Loaded, out: &mut Out) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = show(loaded)
        .into_iter()
        .filter(|one| one.from != "default")
        .map(|one| vec![format!("{}.{}", one.table, one.key), one.toml(), one.from])
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.table(&["KEY", "VALUE", "FROM"], &rows)?;
    out.line("")
}

fn config(loaded: &Loaded) -> Vec<Finding> {
    let file = loaded.file.as_deref().map_or_else(|| "no file: defaults".to_owned(), |file| file.display().to_string());
    let mut findings = vec![Finding::new("config", Mark::Good, file)];
    findings.extend(loaded.notes.iter().map(|note| {
        let mark = if note.warn { Mark::Warn } else { Mark::Unknown };
        Finding::new("config", mark, note.text.clone())
    }));
    findings
}

/// Whether a tape can be written there, found out without writing one.
fn tape(dir: &Path) -> Finding {
    let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string();
    let bad = |text: String| Finding::new("tape", Mark::Bad, text);
    if dir.exists() && !dir.is_dir() {
        return bad(format!("{shown} is not a folder: set `[tape] dir` to another one"));
    }
    // The folder that is there, or the one that it will be made in.
    let Some(there) = dir
        .ancestors()
        .map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
        .find(|dir| dir.is_dir())
    else {
        return bad(format!("{shown}: no folder above it is there"));
    };
    if let Err(error) = rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        return bad(format!("{shown} cannot be written ({error}): give this user the folder, or set `[tape] dir`"));
    }
    match rustix::fs::statvfs(there) {
        Ok(disk) => {
            let free = crate::config::units::about_bytes(disk.f_bavail.saturating_mul(disk.f_frsize));
            Finding::new("tape", Mark::Good, format!("{shown}, {free} free"))
        }
        Err(error) => Finding::new("tape", Mark::Unknown, format!("{shown}: free space is not known ({error})")),
    }
}

/// Whether the web server's address is free, or held by the deck of this very tape.
pub(super) async fn http(loaded: &Loaded) -> Finding {
    let Some(addr) = loaded.config.http.listen.addr() else {
        return Finding::new("http", Mark::Good, "off");
    };
    match tokio::net::TcpListener::bind(addr).await {
        Ok(_) => Finding::new("http", Mark::Good, format!("{addr} is free")),
        Err(error) => {
            let ours = control::ask(&loaded.config.tape.dir, &Request::Status).await;
            if matches!(ours, Ok(Some(_))) {
                return Finding::new("http", Mark::Good, format!("{addr}, served by the deck that is running"));
            }
            let why = crate::http::taken(&error, addr.port()).unwrap_or_else(|| error.to_string());
            let text = format!("{addr}: {why}; set `[http] listen` to another address, or to \"off\"");
            Finding::new("http", Mark::Bad, text)
        }
    }
}

/// The bus and the SQL store, where the config has them: whether they could start, or are the running deck's.
pub(super) async fn served(loaded: &Loaded) -> Vec<Finding> {
    let config = &loaded.config;
    let (dir, mut findings) = (&config.tape.dir, Vec::new());
    let runs = async |name: &str| match control::ask(dir, &Request::Status).await {
        Ok(Some(answer)) => answer["services"].as_array().and_then(|services| {
            services.iter().find(|service| service["name"] == name)?["state"].as_str().map(str::to_owned)
        }),
        _ => None,
    };
    if let Some(bus) = &config.bus {
        findings.push(match runs("bus").await {
            Some(state) => of_the_deck("bus", &state),
            None => match (bus::Task { dir: dir.clone(), bus: bus.clone() }).check() {
                Ok(()) => Finding::new("bus", Mark::Good, format!("its ports on {} are free", bus.listen)),
                Err(error) => Finding::new("bus", Mark::Bad, format!("{error:#}")),
            },
        });
    }
    if let Some(table) = &config.store {
        findings.push(match (runs("store").await, store::find(), table.sql_listen.addr()) {
            (Some(state), ..) => of_the_deck("store", &state),
            (None, None, _) => {
                let text =
                    format!("{} is not built, so there is no archive and no SQL: {}", store::PROGRAM, store::BUILD);
                Finding::new("store", Mark::Warn, text)
            }
            (None, Some(program), None) => {
                Finding::new("store", Mark::Good, format!("{}, without SQL", program.display()))
            }
            (None, Some(program), Some(addr)) => match tokio::net::TcpListener::bind(addr).await {
                Ok(_) => Finding::new("store", Mark::Good, format!("{}, {addr} is free", program.display())),
                Err(error) => {
                    let text = format!("{addr}: {error}; set `[store] sql_listen` to another address, or to \"off\"");
                    Finding::new("store", Mark::Bad, text)
                }
            },
        });
    }
    findings
}

fn of_the_deck(what: &str, state: &str) -> Finding {
    let mark = if state == "running" { Mark::Good } else { Mark::Warn };
    Finding::new(what, mark, format!("of the deck that is running: {state}"))
}

/// Asks every venue at once, each for as long as it may take.
async fn ask(sessions: Vec<Session>) -> Vec<Finding> {
    let asked = sessions.into_iter().map(|mut session| async move {
        let what = format!("source.{}", session.name);
        match tokio::time::timeout(PATIENCE, session.source.check()).await {
            Ok(Ok(text)) => Finding::new(what, Mark::Good, text),
            Ok(Err(error)) => Finding::new(what, Mark::Bad, format!("{error:#}")),
            Err(_) => Finding::new(what, Mark::Bad, format!("no answer in {} s", PATIENCE.as_secs())),
        }
    });
    futures_util::future::join_all(asked).await
}

/// Whom each alert tells, and whether its command is there; nobody is called for it.
fn alerts_of(loaded: &Loaded) -> Vec<Finding> {
    let rules = alerts::rules(&loaded.config).unwrap_or_default();
    let finding = |(name, rule): (String, alerts::Rule)| {
        let what = format!("alert.{name}");
        match rule.command.first().filter(|program| !can_run(program)) {
            Some(program) => {
                Finding::new(what, Mark::Bad, format!("the command {program} is not there, or cannot be run"))
            }
            None => Finding::new(what, Mark::Good, format!("{} tells {}", rule.when.name(), rule.targets().join(", "))),
        }
    };
    rules.into_iter().map(finding).collect()
}

/// Whether a program is there: by its path, or in one of the folders of `PATH`.
fn can_run(program: &str) -> bool {
    let runs = |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return runs(Path::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| runs(&folder.join(program)))
}

/// Whether the broker of `[heartbeat]` takes its messages.
async fn ask_broker(loaded: &Loaded, wanted: bool) -> Option<Finding> {
    let section = loaded.config.heartbeat.as_ref().filter(|section| wanted && section.table.contains_key("broker"))?;
    let tried = async { heartbeat::check(&heartbeat::Config::from_table(section.table.clone())?).await };
    let what = heartbeat::KIND.name;
    Some(match tokio::time::timeout(PATIENCE, tried).await {
        Ok(Ok(text)) => Finding::new(what, Mark::Good, text),
        Ok(Err(error)) => Finding::new(what, Mark::Bad, format!("{error:#}")),
        Err(_) => Finding::new(what, Mark::Bad, format!("no answer in {} s", PATIENCE.as_secs())),
    })
}

/// Tries every store at once: connection, credentials, a write and its reading back. A finding for each thing found.
pub(super) async fn ask_stores(tables: &[&KindTable], dir: &Path) -> Vec<Finding> {
    let asked = tables.iter().map(|table| async move {
        let what = format!("sink.{}", table.name);
        let tried = async { sinks::build(table, dir)?.1.check().await };
        let one = |line: String| match line.strip_prefix(sinks::WARNING) {
            Some(words) => Finding::new(what.clone(), Mark::Warn, words),
            None => Finding::new(what.clone(), Mark::Good, line),
        };
        match tokio::time::timeout(PATIENCE, tried).await {
            Ok(Ok(found)) => found.into_iter().map(one).collect(),
            Ok(Err(error)) => vec![Finding::new(what, Mark::Bad, format!("{error:#}"))],
            Err(_) => vec![Finding::new(what, Mark::Bad, format!("no answer in {} s", PATIENCE.as_secs()))],
        }
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}
