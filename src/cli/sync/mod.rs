//! `tapedeck sync`: tables of a QuestDB or SQLite kept the same in a PocketBase.

mod check;
mod dead;
mod init;
mod pause;
mod run;
mod status;
mod usage;
mod verify;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::cli::out::Out;
use crate::config::Loaded;
use crate::sync::config::{Config, Manner};
use crate::sync::following;
use crate::sync::mapping::Settings;
use crate::sync::pass::{self, Progress, Shop, Table};
use crate::sync::pocketbase::Client;
use crate::sync::state::{State, Taken};
use crate::sync::watch::Open;

const EXAMPLES: &str = "\
Examples:
  tapedeck sync check                    do both servers answer, and are the collections as they must be?
  tapedeck sync init                     make the collections, and add what they lack; nothing is ever dropped
  tapedeck sync run                      bring everything over that is new, and end
  tapedeck sync run --dry-run            say what that would write and take away
  tapedeck sync watch                    follow the tables until Ctrl-C
  tapedeck sync verify --repair          compare record by record, and put right what differs
  tapedeck sync status                   how far each table is, and what was refused";

/// Keep tables of a QuestDB or SQLite the same in a PocketBase
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(init::Args),
    Check(check::Args),
    Run(run::Args),
    Watch(watch::Args),
    Pause(pause::Args),
    Verify(verify::Args),
    Status(status::Args),
    Dead(dead::Args),
}

impl Args {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> anyhow::Result<()> {
        match self.verb {
            Verb::Init(args) => args.run(global, out),
            Verb::Check(args) => args.run(global, out),
            Verb::Run(args) => args.run(global, out),
            Verb::Watch(args) => args.run(global, out),
            Verb::Pause(args) => args.run(global, out),
            Verb::Verify(args) => args.run(global, out),
            Verb::Status(args) => args.run(global, out),
            Verb::Dead(args) => args.run(global, out),
        }
    }
}

/// `--table`, as most of these verbs take it.
#[derive(Clone, Debug, Default, clap::Args)]
struct Tables {
    /// Only these tables; may be given several times
    #[arg(long = "table", value_name = "TABLE")]
    names: Vec<String>,
}

/// `--from`, of the verbs that bring rows over.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Since {
    Now,
    Beginning,
}

impl From<Since> for pass::Since {
    fn from(since: Since) -> Self {
        match since {
            Since::Now => pass::Since::Now,
            Since::Beginning => pass::Since::Beginning,
        }
    }
}

/// `[sync]` of the config, read.
struct Set {
    config: Config,
    manner: Manner,
    folder: PathBuf,
    /// Where tapedeck was started: files of lookups are relative to it, as the tape's folder is.
    base: PathBuf,
}

impl Set {
    fn load(global: &Global) -> anyhow::Result<Set> {
        Set::of(&global.load()?)
    }

    fn of(loaded: &Loaded) -> anyhow::Result<Set> {
        let Some(sync) = &loaded.config.sync else {
            let file = loaded.file.as_ref().map_or_else(|| "the config".to_owned(), |file| file.display().to_string());
            let text = format!("there is no [sync] in {file}; docs/sync.md has one to begin with");
            return Err(End::Usage(text).into());
        };
        let config = Config::from_table(sync.table.clone()).context("[sync]")?;
        Ok(Set {
            manner: config.manner(),
            folder: config.folder(&loaded.config.tape.dir),
            base: PathBuf::new(),
            config,
        })
    }

    /// The tables that are meant, in the order of their names.
    fn tables(&self, wanted: &Tables) -> anyhow::Result<Vec<(String, Settings)>> {
        for name in &wanted.names {
            if !self.config.table.contains_key(name) {
                let known: Vec<&str> = self.config.table.keys().map(String::as_str).collect();
                let text = format!("there is no [sync.table.{name}]; there are: {}", known.join(", "));
                return Err(End::Usage(text).into());
            }
        }
        if self.config.table.is_empty() {
            let text = "[sync] has no tables: write [sync.table.NAME], or let `tapedeck sync init --table NAME` do it";
            return Err(End::Usage(text.to_owned()).into());
        }
        let all = self.config.table.iter();
        let meant = all.filter(|(name, _)| wanted.names.is_empty() || wanted.names.contains(name));
        Ok(meant.map(|(name, settings)| (name.clone(), settings.clone())).collect())
    }

    fn open(&self) -> Open {
        let source = self.config.source.clone();
        Arc::new(move || source.open())
    }

    fn client(&self) -> anyhow::Result<Arc<Client>> {
        Ok(Arc::new(Client::new(&self.config.target).context("[sync.target]")?))
    }

    /// Opens the state for writing, and makes what each table needs of it.
    fn shops(&self, told: Progress, stop: CancellationToken) -> anyhow::Result<impl Fn(&Settings) -> Shop + use<>> {
        let state = Arc::new(Mutex::new(State::open(&self.folder).map_err(busy)?));
        let (client, manner) = (self.client()?, self.manner);
        let ends = self.config.ends(&client);
        Ok(move |settings: &Settings| Shop {
            state: state.clone(),
            target: Arc::new(following::target(&client, &manner, settings)),
            ends: ends.clone(),
            told: told.clone(),
            stop: stop.clone(),
        })
    }

    fn table(&self, name: &str, settings: &Settings) -> Table {
        Table::new(name, settings.clone())
    }
}

fn busy(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Taken>() {
        let text = format!("{error:#}: a deck, or another `tapedeck sync`; `tapedeck sync status` shows how far it is");
        return End::Busy(text).into();
    }
    error
}

/// Ends at Ctrl-C or SIGTERM.
fn stop_at_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}
