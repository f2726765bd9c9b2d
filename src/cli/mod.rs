//! The command line: verbs, what they print, and how they end.
//!
//! Each verb is one file: its arguments, as people type them, and a `run` that loads the config
//! and hands over to the library. Results go to standard output, and only they; logs and errors go
//! to standard error. Every verb that lists something has `--json`.

mod alerts;
mod backfill;
mod book;
mod bus;
mod candles;
mod check;
mod config;
mod cursors;
mod deadletter;
mod demo;
mod doctor;
pub mod exit;
mod export;
mod feed;
mod gaps;
mod grafana;
mod health;
mod import;
mod init;
mod instruments;
mod keys;
mod kinds;
mod latest;
mod login;
mod manual;
pub mod out;
mod ports;
mod query;
mod reading;
mod reconcile;
mod renormalise;
mod replay;
mod retention;
mod run;
mod simulate;
mod status;
mod store;
mod stores;
mod symbols;
mod sync;
mod tail;
mod tap;
mod tape;
mod top;
mod up;
mod validate;
mod verdict;
mod work;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Loaded, Place};
use crate::logs::{self, Logs, redact};
use out::Out;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, nothing wrong
  1  it failed, or a check found something
  2  the command line or the config is wrong
  3  the tape is locked: another deck records on it
  4  there is nothing to work on: no tape in the folder, no deck running";

const EXAMPLES: &str = "\
Examples:
  tapedeck demo                       record a simulated market: no configuration, no network
  tapedeck init                       write a commented tapedeck.toml
  tapedeck check                      is everything right, and does every venue answer?
  tapedeck run                        record, until Ctrl-C
  tapedeck up                         the same in the background, with the servers it needs; tapedeck down ends it
  tapedeck tail                       see what arrives
  tapedeck gaps                       see what is missing
  tapedeck query \"select …\"           ask in SQL";

/// The flight recorder for live markets.
///
/// Writes everything that venues send to a local durable tape before anything else sees it, and
/// serves everything else from the tape.
#[derive(Debug, Parser)]
#[command(name = "tapedeck", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Config file; without it ./tapedeck.toml, then ~/.config/tapedeck/tapedeck.toml, then defaults
    #[arg(short, long, value_name = "FILE", global = true, help_heading = "For every verb")]
    config: Option<PathBuf>,
    /// Override one value of the config: a TOML value or a bare word; may be given several times
    #[arg(long, value_name = "KEY=VALUE", global = true, help_heading = "For every verb")]
    set: Vec<String>,
    /// Say more (twice: everything)
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = "For every verb")]
    verbose: u8,
    /// Say less (twice: only errors)
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = "For every verb")]
    quiet: u8,
    /// No colour, also on a terminal (as with the variable NO_COLOR)
    #[arg(long, global = true, help_heading = "For every verb")]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Args),
    Run(run::Args),
    #[command(visible_alias = "start")]
    Up(up::Args),
    #[command(visible_alias = "stop")]
    Down(up::down::Args),
    Restart(up::restart::Args),
    Logs(up::logs::Args),
    Top(top::Args),
    Status(status::Args),
    Alerts(alerts::Args),
    Init(init::Args),
    Import(import::Args),
    Check(check::Args),
    Health(health::Args),
    Login(login::Args),
    Tail(tail::Args),
    Replay(replay::Args),
    Gaps(gaps::Args),
    Backfill(backfill::Args),
    Candles(candles::Args),
    Latest(latest::Args),
    Instruments(instruments::Args),
    Resolve(instruments::Resolve),
    Book(book::Args),
    Query(query::Args),
    Export(export::Args),
    Renormalise(renormalise::Args),
    Cursors(cursors::Args),
    Deadletter(deadletter::Args),
    Reconcile(reconcile::Args),
    Retention(retention::Args),
    Grafana(grafana::Args),
    Validate(validate::Args),
    Store(store::Args),
    Sync(sync::Args),
    Tape(tape::Args),
    Ports(ports::Args),
    Keys(keys::Args),
    Tap(tap::Args),
    Simulate(simulate::Args),
    Kinds(kinds::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Feed(feed::Args),
    Completions(manual::Completions),
    Man(manual::Man),
    Version(manual::Version),
    #[command(hide = true)]
    Bus(bus::Args),
}

/// Whether that is a command line, without the program's name; for tests of documents.
///
/// # Errors
/// What is wrong with it.
pub fn parses(words: &[String]) -> Result<(), String> {
    let line = std::iter::once("tapedeck").chain(words.iter().map(String::as_str));
    match Cli::try_parse_from(line) {
        Ok(_) => Ok(()),
        // Help and version are ends, too.
        Err(error) if !error.use_stderr() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The whole program. Returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    // First of all: every TLS connection needs it, and it can be installed only once. An error
    // means that somebody (a test) was earlier, with the same one: there is no other in the tree.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no error; whether anybody reads it is not ours to know.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let done = run(cli);
    let code = exit::code(&done);
    if let Err(error) = &done
        && let Some(text) = exit::message(error)
    {
        let _ = logs::console::Stderr.write_all(&redact(format!("tapedeck: {text}\n").as_bytes()));
    }
    ExitCode::from(code)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let global = &cli.global;
    let mut out = Out::new(global.color());
    match cli.verb {
        Verb::Demo(args) => args.run(global, &mut out),
        Verb::Run(args) => args.run(global, &mut out),
        Verb::Up(args) => args.run(global, &mut out),
        Verb::Down(args) => args.run(global, &mut out),
        Verb::Restart(args) => args.run(global, &mut out),
        Verb::Logs(args) => args.run(global, &mut out),
        Verb::Top(args) => args.run(global),
        Verb::Status(args) => args.run(global, &mut out),
        Verb::Alerts(args) => args.run(global, &mut out),
        Verb::Init(args) => args.run(&mut out),
        Verb::Import(args) => args.run(&mut out),
        Verb::Check(args) => args.run(global, &mut out),
        Verb::Health(args) => args.run(global, &mut out),
        Verb::Login(args) => args.run(global, &mut out),
        Verb::Tail(args) => args.run(global, &mut out),
        Verb::Replay(args) => args.run(global, &mut out),
        Verb::Gaps(args) => args.run(global, &mut out),
        Verb::Backfill(args) => args.run(global, &mut out),
        Verb::Candles(args) => args.run(global, &mut out),
        Verb::Latest(args) => args.run(global, &mut out),
        Verb::Instruments(args) => args.run(global, &mut out),
        Verb::Resolve(args) => args.run(global, &mut out),
        Verb::Book(args) => args.run(global, &mut out),
        Verb::Query(args) => args.run(global, &mut out),
        Verb::Export(args) => args.run(global, &mut out),
        Verb::Renormalise(args) => args.run(global, &mut out),
        Verb::Cursors(args) => args.run(global, &mut out),
        Verb::Deadletter(args) => args.run(global, &mut out),
        Verb::Reconcile(args) => args.run(global, &mut out),
        Verb::Retention(args) => args.run(global, &mut out),
        Verb::Grafana(args) => args.run(global, &mut out),
        Verb::Validate(args) => args.run(global, &mut out),
        Verb::Store(args) => args.run(global),
        Verb::Sync(args) => args.run(global, &mut out),
        Verb::Tape(args) => args.run(global, &mut out),
        Verb::Ports(args) => args.run(global, &mut out),
        Verb::Keys(args) => args.run(global, &mut out),
        Verb::Tap(args) => args.run(global, &mut out),
        Verb::Bus(args) => args.run(global),
        Verb::Simulate(args) => args.run(global),
        Verb::Kinds(args) => args.run(&mut out),
        Verb::Config(args) => args.run(global, &mut out),
        Verb::Doctor(args) => args.run(global, &mut out),
        Verb::Feed(args) => args.run(),
        Verb::Completions(args) => args.run(&mut out),
        Verb::Man(args) => args.run(&mut out),
        Verb::Version(args) => args.run(&mut out),
    }?;
    out.flush()
}

impl Global {
    /// Where to look for the config.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { file: self.config.clone(), set: self.set.clone() }
    }

    /// Loads the config, and hides its secrets from all output from now on.
    ///
    /// # Errors
    /// Every problem of the config.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let loaded = crate::config::load(&self.place())?;
        loaded.secrets.iter().for_each(|secret| logs::hide(secret));
        Ok(loaded)
    }

    /// Starts the log of a verb that records: as the config says, console and files.
    ///
    /// # Errors
    /// The log's folder cannot be written.
    pub fn start_logs(&self, loaded: &Loaded) -> anyhow::Result<Logs> {
        let log = &loaded.config.log;
        logs::start(&logs::Options {
            level: self.level(&log.level),
            format: log.format,
            dir: log.folder(&loaded.config.tape.dir),
            per_service: log.per_service,
            color: self.color(),
        })
    }

    /// Starts the log of a verb that answers and ends: warnings, on the console.
    ///
    /// # Errors
    /// Logging was started before.
    pub fn start_quiet_logs(&self) -> anyhow::Result<Logs> {
        logs::start(&logs::Options {
            level: self.level("warn"),
            format: crate::config::LogFormat::Text,
            dir: None,
            per_service: false,
            color: self.color(),
        })
    }

    /// Whether colour is wanted, where there is a terminal.
    #[must_use]
    pub fn color(&self) -> bool {
        !self.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// `-v` and `-q` move the configured level up and down; without them it stays as it is.
    #[must_use]
    pub fn level(&self, configured: &str) -> String {
        const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        if self.verbose == self.quiet {
            return configured.to_owned();
        }
        // Filter directives have no place on this scale: they count as "info".
        let at = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(configured)).unwrap_or(2);
        let moved = at + usize::from(self.verbose);
        LEVELS[moved.saturating_sub(usize::from(self.quiet)).min(LEVELS.len() - 1)].to_owned()
    }
}

/// The command line as a value, for completions and the manual.
fn command() -> clap::Command {
    Cli::command()
}

/// Runs the async part of a verb.
///
/// # Errors
/// No runtime could be made, or what the verb says.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("tapedeck {}", verb.get_name())), "{} has no example", verb.get_name());
        }
    }

    #[test]
    fn the_level_moves_with_v_and_q() {
        let level = |args: &[&str], configured: &str| {
            let cli = Cli::try_parse_from([&["tapedeck", "kinds"], args].concat()).unwrap();
            cli.global.level(configured)
        };
        assert_eq!(level(&[], "info,tapedeck=trace"), "info,tapedeck=trace");
        assert_eq!(level(&["-v"], "info"), "debug");
        assert_eq!(level(&["-vvvv"], "info"), "trace");
        assert_eq!(level(&["-q"], "info"), "warn");
        assert_eq!(level(&["-qqqq"], "info"), "error");
    }
}
