//! `tapedeck up`: the deck in the background, with the processes beside it.

pub(super) mod down;
mod follow;
pub(super) mod logs;
pub(super) mod restart;

use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::sync::watch;

use crate::cli::Global;
use crate::cli::exit::{self, End};
use crate::cli::out::Out;
use crate::config::suggest::nearest;
use crate::config::units::parse_duration;
use crate::config::{Config, LogFormat};
use crate::control::{self, Request};
use crate::deck::Plan;
use crate::logs as logging;
use crate::service::SERVICES;
use crate::up::phases::PHASES;
use crate::up::{self, Ask, DECK, Job, SERVERS, Stage, Supervisor, Table};
use follow::Follower;

/// Between two looks at how far the supervisor is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A supervisor that has not begun by then has not started.
const BEGIN_WITHIN: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  tapedeck up                        servers, then the deck, in the background; returns when all is ready
  tapedeck up -c desk.toml --json
  tapedeck up influx                 only [server.influx]; a later `tapedeck up` starts the rest
  tapedeck up --only kraken,bus      the deck with these sources and services
  tapedeck up --keep                 what was started stays, even if a phase fails
  tapedeck up --foreground           the same, attached: for systemd and containers

The phases: servers, retention, sources (and what derives and serves), sinks, grafana, validation. A second `up` says that
it is up. Everything else: tapedeck status, top, logs, restart, down. A killed supervisor harms nothing: the deck records
on, and the next `up` takes it over.";

/// Start everything in the background, and wait until it is ready
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these: names of servers, `servers` for all of them, `deck`
    names: Vec<String>,
    /// Only these sources and services in the deck, by the name of their table
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Stay attached: progress and log here; Ctrl-C ends everything, and so does a deck that cannot be helped (exit code 1)
    #[arg(long)]
    foreground: bool,
    /// When a phase fails, leave running what was started, and go on with the next ones
    #[arg(long)]
    keep: bool,
    /// Do not try the stores at the end
    #[arg(long)]
    no_validate: bool,
    /// How long each phase may take, in place of `[deck] limit`
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    limit: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The supervisor itself: detached, progress in its file alone
    #[arg(long, hide = true)]
    supervise: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        let loaded = global.load()?;
        let config = loaded.config.clone();
        if !config.sources.is_empty() || config.servers.is_empty() {
            Plan::of(&loaded, &self.only)?;
        }
        names_are_known(&config, &self.names)?;
        let table = Table::of(&config.tape.dir);
        if self.supervise {
            // From here on it belongs to no terminal. An error means that it leads a session already.
            let _ = rustix::process::setsid();
        } else if table.is_held() {
            return super::block_on(self.already(&config, &table, out));
        }
        refuse_strange_deck(&config, &table)?;
        if self.supervise || self.foreground {
            let Some(lock) = table.lock()? else {
                return Err(End::Busy(format!("another supervisor holds {}", table.dir().display())).into());
            };
            start_log(global, &config, self.supervise)?;
            let (foreground, as_json, keep) = (self.foreground, self.json, self.keep);
            let job = self.job(global, loaded);
            let (tell, told) = watch::channel(Supervisor::default());
            return super::block_on(async {
                let printing = tokio::spawn(async move {
                    if foreground { follow::print_as_told(told, as_json, keep).await } else { Ok(()) }
                });
                let done = Box::pin(up::run(job, lock, tell)).await;
                printing.await.context("printing")??;
                done
            });
        }
        let child = self.spawn(global, &table)?;
        super::block_on(self.follow(&config, &table, child, out))
    }

    fn job(self, global: &Global, loaded: crate::config::Loaded) -> Job {
        let mut deck_args: Vec<OsString> = vec!["run".into(), "--plain".into()];
        deck_args.extend(said_again(global));
        for name in &self.only {
            deck_args.extend(["--only".into(), name.into()]);
        }
        Job {
            loaded,
            deck_args,
            names: self.names,
            keep: self.keep,
            validate: !self.no_validate,
            limit: self.limit,
            attached: self.foreground,
        }
    }

    /// Starts the supervisor, with what it says in its own log.
    fn spawn(&self, global: &Global, table: &Table) -> anyhow::Result<Child> {
        table.make()?;
        let (log, _) = up::log::open(&table.supervisor_log())?;
        let mut command = Command::new(crate::child::this_program()?);
        std::os::unix::process::CommandExt::arg0(&mut command, "tapedeck");
        command.args(["up", "--supervise"]).args(said_again(global)).args(&self.names);
        for name in &self.only {
            command.args(["--only", name]);
        }
        for (flag, given) in [("--keep", self.keep), ("--no-validate", self.no_validate)] {
            command.args(given.then_some(flag));
        }
        if let Some(limit) = self.limit {
            command.args(["--limit", &format!("{}ms", limit.as_millis())]);
        }
        let again = log.try_clone().context("opening the log again")?;
        command.stdin(Stdio::null()).stdout(log).stderr(again);
        command.spawn().context("starting the supervisor")
    }

    /// Prints how far it is, until it is up or has failed.
    async fn follow(self, config: &Config, table: &Table, mut child: Child, out: &mut Out) -> anyhow::Result<()> {
        let pid = child.id();
        let mut follower = Follower::new(self.json);
        let begun = std::time::Instant::now();
        let mut interrupted = false;
        loop {
            let ended = child.try_wait().context("asking for the supervisor")?;
            let said = table.supervisor().filter(|said| said.identity.pid == pid);
            if let Some(said) = &said {
                follower.show(said);
                let over = matches!(said.stage, Stage::Up) || (said.stage == Stage::Failed && self.keep);
                if over && ended.is_none() {
                    return self.over(table, said, follower, out);
                }
            }
            if let Some(status) = ended {
                if status.code() == Some(i32::from(exit::LOCKED)) && said.is_none() {
                    // Another `up` was faster.
                    return self.already(config, table, out).await;
                }
                return match said {
                    Some(said) if interrupted => {
                        follower.end(&said);
                        Err(End::Found.into())
                    }
                    Some(said) if said.trouble.is_some() => self.over(table, &said, follower, out),
                    Some(said) if said.stage == Stage::Down && status.success() => {
                        follower.end(&said);
                        anyhow::bail!("it was ended by `tapedeck down`, or by a signal, before it was up")
                    }
                    _ => {
                        let lines = up::log::last_lines(&table.supervisor_log(), 0, 8).join("\n  ");
                        anyhow::bail!("the supervisor {}:\n  {lines}", crate::child::describe(status));
                    }
                };
            }
            anyhow::ensure!(
                said.is_some() || begun.elapsed() < BEGIN_WITHIN,
                "the supervisor does not begin: see {}",
                table.supervisor_log().display()
            );
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = tokio::signal::ctrl_c(), if !interrupted => {
                    interrupted = true;
                    follower.say("interrupted: stopping what was started");
                    // One that does not answer is told by a signal.
                    if control::ask(table.dir(), &Ask::Down { names: Vec::new() }).await.is_err()
                        && let Some(said) = &said
                    {
                        said.identity.signal(rustix::process::Signal::TERM);
                    }
                }
            }
        }
    }

    fn over(&self, table: &Table, said: &Supervisor, follower: Follower, out: &mut Out) -> anyhow::Result<()> {
        follower.end(said);
        if self.json {
            out.json(&json!({ "ok": said.trouble.is_none(), "supervisor": said, "processes": table.list() }))?;
        } else if said.trouble.is_none() {
            follow::access(said, out)?;
        }
        out.flush()?;
        if let Some(trouble) = &said.trouble {
            if !self.json {
                follow::trouble(trouble, self.keep);
            }
            return Err(End::Found.into());
        }
        Ok(())
    }

    /// A supervisor has the folder: what is missing is started, and it is waited for.
    async fn already(self, config: &Config, table: &Table, out: &mut Out) -> anyhow::Result<()> {
        let mut follower = Follower::new(self.json);
        let mut said = table.supervisor().context("the supervisor has not written down yet how it is: ask again")?;
        if said.identity.lives() {
            refuse_changes(config, &said, &self.names)?;
        }
        let settled = said.stage;
        let missing = settled == Stage::Failed || !self.everything_runs(config, table);
        if matches!(settled, Stage::Up | Stage::Failed) && missing {
            follower.say("a supervisor runs: starting what does not");
            control::ask(table.dir(), &Ask::Up { names: self.names.clone() }).await?;
            // It answers first, and begins then.
            until(table, |said| said.stage != settled).await;
            said = table.supervisor().unwrap_or(said);
        } else {
            follower.quiet();
        }
        while matches!(said.stage, Stage::Starting | Stage::Stopping) && table.is_held() {
            follower.show(&said);
            tokio::time::sleep(LOOK_EVERY).await;
            said = table.supervisor().unwrap_or(said);
        }
        anyhow::ensure!(table.is_held(), "the supervisor that was here has ended meanwhile: say tapedeck up again");
        if !self.json && said.trouble.is_none() {
            out.line(format!("it is up, since {}, pid {}: tapedeck status", said.started, said.identity.pid))?;
        }
        self.over(table, &said, follower, out)
    }

    /// Whether all that is wanted is there already.
    fn everything_runs(&self, config: &Config, table: &Table) -> bool {
        let wanted = |name: &str| self.names.is_empty() || up::means(&self.names, name);
        let deck = (!config.sources.is_empty()).then_some(DECK);
        let mut all = config.servers.iter().map(|named| named.name.as_str()).chain(deck).filter(|name| wanted(name));
        let runs = |entry: up::Entry| matches!(entry.state, up::State::Running | up::State::Silent);
        all.all(|name| table.find(name).is_some_and(runs))
    }
}

/// Waits, not for ever, until the supervisor says so.
async fn until(table: &Table, wanted: impl Fn(&Supervisor) -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    while tokio::time::Instant::now() < deadline && !table.supervisor().is_some_and(|said| wanted(&said)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The options that hold for every verb, for a child of this program.
fn said_again(global: &Global) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    if let Some(config) = &global.config {
        args.extend(["-c".into(), config.into()]);
    }
    for set in &global.set {
        args.extend(["--set".into(), set.into()]);
    }
    args.extend((0..global.verbose).map(|_| "-v".into()));
    args.extend((0..global.quiet).map(|_| "-q".into()));
    args
}

/// On standard error, and only there: the deck's files are the deck's.
fn start_log(global: &Global, config: &Config, detached: bool) -> anyhow::Result<()> {
    let level = if detached { "info" } else { "warn" };
    logging::start(&logging::Options {
        level: global.level(level),
        format: if detached { config.log.format } else { LogFormat::Text },
        dir: None,
        per_service: false,
        color: global.color(),
    })?;
    Ok(())
}

/// Servers are kept as they were when the supervisor was started: what the config says otherwise since is not passed over in silence.
fn refuse_changes(config: &Config, said: &Supervisor, names: &[String]) -> anyhow::Result<()> {
    let changes = up::changes(config, said, names);
    anyhow::ensure!(
        changes.is_empty(),
        "{} since it was started: `tapedeck down` and `tapedeck up` take the new config (the pause is in the ledger)",
        changes.join(", ")
    );
    Ok(())
}

fn names_are_known(config: &Config, names: &[String]) -> anyhow::Result<()> {
    let known: Vec<&str> = config.servers.iter().map(|named| named.name.as_str()).chain([SERVERS, DECK]).collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            let named = PHASES.contains(&name.as_str()).then_some("phase of the start");
            let part = parts(config).contains(&name.as_str()).then_some("part of the deck");
            if let Some(what) = part.or(named) {
                let said = format!(
                    "`{name}` is a {what}, which is not started alone: `tapedeck up deck` starts all of the deck, `tapedeck up deck \
                     --only NAME` the deck with some of its parts, `tapedeck restart NAME` restarts one. Here may be named: {}",
                    known.join(", ")
                );
                return Err(End::Usage(said).into());
            }
            let near =
                nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let said = format!(
                "there is no [server.{name}]; {near}There are: {}; for parts of the deck: --only",
                known.join(", ")
            );
            return Err(End::Usage(said).into());
        }
    }
    Ok(())
}

/// The sources, sinks and services of the config, by name.
fn parts(config: &Config) -> Vec<&str> {
    let tables = config.sources.iter().chain(&config.sinks).map(|table| table.name.as_str());
    let services = SERVICES.iter().filter(|kind| (kind.section)(config).is_some()).map(|kind| kind.name);
    tables.chain(services).collect()
}

/// A deck that somebody runs by hand on this tape is not disturbed.
fn refuse_strange_deck(config: &Config, table: &Table) -> anyhow::Result<()> {
    let Some(status) = super::block_on(control::ask(&config.tape.dir, &Request::Status))? else { return Ok(()) };
    let pid = status["pid"].as_u64();
    let ours = table.find(DECK).and_then(|entry| entry.identity).map(|identity| u64::from(identity.pid));
    if pid == ours {
        return Ok(());
    }
    let pid = pid.unwrap_or(0);
    let said = format!(
        "a deck that `up` did not start records in {} (pid {pid}): end it first, kill -TERM {pid}",
        config.tape.dir.display()
    );
    Err(End::Busy(said).into())
}
