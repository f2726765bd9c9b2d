//! What is kept: a server of the config, or the deck. How it stands in the table, when it is ready, what ends it for good.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::compose::Container;
use super::phases::Supervisor;
use super::ready;
use super::table::{Compose, DECK, Entry, Kind, Table, means};
use crate::cli::exit;
use crate::config::{Config, NamedServer, Server, Stop};
use crate::control::{self, Request};
use crate::supervise;

/// A server that says nothing of when it is ready has this long to fail.
const SETTLED: Duration = Duration::from_millis(500);
/// Between two questions whether it is ready: the first, and the longest.
const ASK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// What is kept.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are a handful of them")]
pub(super) enum Spec {
    Server(NamedServer),
    Deck(Deck),
}

/// `tapedeck run` as a child.
#[derive(Clone, Debug)]
pub(super) struct Deck {
    /// Behind the program's name.
    pub(super) args: Vec<OsString>,
    /// The tape's folder.
    pub(super) dir: PathBuf,
    /// From its start until it answers: it may have a long tape to recover.
    pub(super) limit: Duration,
    /// All of its stages together.
    pub(super) grace: Duration,
}

impl Spec {
    /// Whether an entry is of this, with these settings.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        entry.name == self.name() && entry.settings == self.settings()
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Spec::Server(named) => &named.name,
            Spec::Deck(_) => DECK,
        }
    }

    /// Changes with what it is started with.
    pub(super) fn settings(&self) -> String {
        match self {
            Spec::Server(named) => settings_of(&named.server),
            Spec::Deck(deck) => print_of(&format!("{:?}", deck.args)),
        }
    }

    pub(super) fn entry(&self, order: u32, table: &Table) -> Entry {
        let (kind, command) = match self {
            Spec::Server(NamedServer { name, server }) => match &server.compose {
                Some(file) => {
                    (Kind::Compose, format!("docker compose -f {} up {}", file.display(), service_of(name, server)))
                }
                None if server.command.is_empty() => (Kind::Outside, String::new()),
                None => (Kind::Server, crate::config::secret::mask_urls(&server.command.join(" "))),
            },
            Spec::Deck(deck) => {
                let args: Vec<_> = deck.args.iter().map(|arg| arg.to_string_lossy()).collect();
                (Kind::Deck, crate::config::secret::mask_urls(&format!("tapedeck {}", args.join(" "))))
            }
        };
        let compose = match self {
            Spec::Server(NamedServer { name, server }) => server.compose.as_ref().map(|file| Compose {
                file: file.clone(),
                service: service_of(name, server).to_owned(),
                dir: absolute(server.dir.as_deref().unwrap_or(Path::new("."))),
            }),
            Spec::Deck(_) => None,
        };
        let (stop, grace) = self.stop();
        Entry {
            name: self.name().to_owned(),
            kind,
            command,
            order,
            stop: stop.to_string(),
            grace_ms: grace.as_millis() as u64,
            log: table.log_of(self.name()),
            settings: self.settings(),
            compose,
            ..Entry::default()
        }
    }

    pub(super) fn stop(&self) -> (Stop, Duration) {
        match self {
            Spec::Server(named) => (named.server.stop.clone(), named.server.grace.0),
            Spec::Deck(deck) => (Stop::default(), deck.grace),
        }
    }

    pub(super) fn limit(&self) -> Duration {
        match self {
            Spec::Server(named) => named.server.limit.0,
            Spec::Deck(deck) => deck.limit,
        }
    }

    pub(super) fn dir(&self) -> Option<&Path> {
        match self {
            Spec::Server(named) => named.server.dir.as_deref(),
            Spec::Deck(_) => None,
        }
    }

    /// Whether an exit code says that another start cannot help.
    pub(super) fn gives_up(&self, code: i32) -> bool {
        match self {
            Spec::Server(named) => named.server.hopeless.contains(&code),
            Spec::Deck(_) => [exit::USAGE, exit::LOCKED].map(i32::from).contains(&code),
        }
    }

    /// How often it may be started again, and in which time.
    pub(super) fn ceiling(&self) -> (u32, Duration) {
        let server = Server::default();
        let server = if let Spec::Server(named) = self { &named.server } else { &server };
        (server.restarts, server.within.0)
    }

    /// Somebody else listens where it would.
    pub(super) fn taken(&self) -> Option<String> {
        let Spec::Server(NamedServer { server, .. }) = self else { return None };
        let address = server.ready.as_ref().filter(|_| server.compose.is_none())?.address()?;
        match crate::bus::check_port(address.ip(), address.port()) {
            Err((_, Some(holder))) => Some(format!("port {} is taken by {holder}", address.port())),
            _ => None,
        }
    }

    /// Returns when it is ready; `last` is why it was not, the last time.
    pub(super) async fn until_ready(&self, begun: Instant, pid: Option<u32>, last: &mut String) {
        let mut waits = supervise::waits_between(ASK.0, ASK.1);
        loop {
            match self.ask(pid).await {
                Ok(()) => break,
                Err(why) => *last = why,
            }
            tokio::time::sleep(waits.next().unwrap_or(ASK.1).min(ASK.1)).await;
        }
        let silent =
            matches!(self, Spec::Server(named) if named.server.ready.is_none() && named.server.compose.is_none());
        if silent {
            tokio::time::sleep(SETTLED.saturating_sub(begun.elapsed())).await;
        }
    }

    /// Whether it is ready; if not, why. `pid`: of the deck that is meant.
    pub(super) async fn ask(&self, pid: Option<u32>) -> Result<(), String> {
        match self {
            Spec::Server(NamedServer { name, server }) => match (&server.ready, &server.compose) {
                (Some(ready), _) => ready::ask(ready, server.dir.as_deref()).await,
                (None, Some(path)) => {
                    let container = Container::new(path, service_of(name, server), server.dir.as_deref());
                    match container.state().await {
                        Ok(Some(health)) if matches!(health.as_str(), "" | "healthy") => Ok(()),
                        Ok(Some(health)) => Err(format!("its container is {health}")),
                        Ok(None) => Err("its container does not run".to_owned()),
                        Err(error) => Err(format!("{error:#}")),
                    }
                }
                (None, None) => Ok(()),
            },
            Spec::Deck(deck) => match control::ask(&deck.dir, &Request::Status).await {
                // Another deck on this tape is not this one.
                Ok(Some(status)) if status["pid"].as_u64() == pid.map(u64::from) => Ok(()),
                Ok(Some(status)) => Err(format!("another deck answers, pid {}", status["pid"])),
                Ok(None) => Err("it does not answer yet".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            },
        }
    }
}

/// How the servers of a config differ from those that a supervisor was started with: some words for each. `names`: only these;
/// empty, or `servers`: all.
pub(crate) fn changes(config: &Config, said: &Supervisor, names: &[String]) -> Vec<String> {
    // An earlier version did not say.
    let Some(kept) = &said.servers else { return Vec::new() };
    let wanted = |name: &str| names.is_empty() || means(names, name);
    let servers = config.servers.iter().filter(|named| wanted(&named.name));
    let changed = servers.filter_map(|named| match kept.get(named.name.as_str()) {
        None => Some(format!("[server.{}] is new", named.name)),
        Some(settings) if *settings != settings_of(&named.server) => {
            Some(format!("[server.{}] has changed", named.name))
        }
        Some(_) => None,
    });
    let is_gone = |name: &str| config.servers.iter().all(|named| named.name != name);
    let gone = kept.keys().filter(|name| wanted(name) && is_gone(name));
    changed.chain(gone.map(|name| format!("[server.{name}] is gone"))).collect()
}

/// Changes with what a server is started with.
pub(super) fn settings_of(server: &Server) -> String {
    // A table came out of TOML, so it goes back into it.
    print_of(&toml::to_string(server).unwrap_or_default())
}

/// Of secrets, too: it stands in files of their owner alone.
fn print_of(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

/// One that the system cannot tell stays as it is.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

pub(super) fn service_of<'a>(name: &'a str, server: &'a Server) -> &'a str {
    server.service.as_deref().unwrap_or(name)
}
