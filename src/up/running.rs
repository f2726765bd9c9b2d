//! One life of a process: started or taken over, watched, ended.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::compose::Container;
use super::process::Identity;
use super::ready;
use crate::child::describe;
use crate::config::{Server, Stop};

/// What is left of a process group after its leader gets so long to go by itself.
const REST: Duration = Duration::from_millis(500);
/// A killed process is gone when the kernel has cleaned up; one in a hung disk may never be.
const KILLED: Duration = Duration::from_secs(5);
/// An adopted process is looked at so often: one small read of /proc.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Something that runs.
pub(super) enum Running {
    Process(Process),
    Container(Container),
    /// Somebody else runs it.
    Outside,
}

/// A process of ours, or one that an earlier supervisor started.
pub(super) struct Process {
    pub(super) identity: Identity,
    held: Held,
}

enum Held {
    Child(Child),
    /// Not our child: its end is seen, and not how it ended.
    Adopted,
}

/// How a life ended that nobody asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) how: String,
    pub(super) code: Option<i32>,
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        End { how: describe(status), code: status.code().filter(|_| status.signal().is_none()) }
    }
}

impl Process {
    /// Starts it in a process group of its own, with what it says in `log`.
    pub(super) fn spawn(mut command: Command, log: File) -> anyhow::Result<Process> {
        let program = command.as_std().get_program().to_owned();
        let program = Path::new(&program).display();
        let again = log.try_clone().context("opening its log again")?;
        command.stdin(Stdio::null()).stdout(log).stderr(again).process_group(0);
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        let pid = child.id().context("it ended at once")?;
        // A child that nobody has asked for yet keeps its number, dead or alive.
        let identity = Identity::of(pid).unwrap_or(Identity { pid, ..Identity::default() });
        Ok(Process { identity, held: Held::Child(child) })
    }

    /// Takes over a process that an earlier supervisor started; `None`: it lives no more.
    pub(super) fn adopt(identity: &Identity) -> Option<Process> {
        identity.lives().then(|| Process { identity: identity.clone(), held: Held::Adopted })
    }

    /// Waits for its end. Cancel safe.
    async fn ended(&mut self) -> End {
        match &mut self.held {
            Held::Child(child) => match child.wait().await {
                Ok(status) => status.into(),
                Err(error) => End { how: format!("cannot be waited for: {error}"), code: None },
            },
            Held::Adopted => {
                while self.identity.lives() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                End { how: "ended; an earlier supervisor started it, so that nobody knows how".to_owned(), code: None }
            }
        }
    }
}

impl Running {
    pub(super) fn identity(&self) -> Option<&Identity> {
        match self {
            Running::Process(process) => Some(&process.identity),
            Running::Container(_) | Running::Outside => None,
        }
    }

    /// Waits for an end that nobody asked for. Cancel safe.
    pub(super) async fn ended(&mut self) -> End {
        match self {
            Running::Process(process) => {
                let end = process.ended().await;
                // What it started must not hold its port when it is started again.
                process.identity.sweep();
                end
            }
            Running::Container(container) => container.ended().await,
            Running::Outside => std::future::pending().await,
        }
    }

    /// Ends it: asks, waits, kills. Says how it went.
    pub(super) async fn stop(mut self, stop: &Stop, grace: Duration, dir: Option<&Path>) -> String {
        let begun = std::time::Instant::now();
        let seconds = |begun: std::time::Instant| format!("{:.1} s", begun.elapsed().as_secs_f64());
        match &mut self {
            Running::Outside => "left alone: somebody else runs it".to_owned(),
            Running::Container(container) => match container.stop(grace).await {
                Ok(()) => format!("stopped in {}", seconds(begun)),
                Err(error) => format!("not stopped: {error:#}"),
            },
            Running::Process(process) => {
                let identity = process.identity.clone();
                let asking = async {
                    match stop {
                        Stop::Signal(signal) => identity.signal(*signal),
                        Stop::Command(command) => {
                            if let Err(error) = ready::shell(command, dir).await {
                                tracing::warn!(error, "the command that should end it failed, SIGTERM instead");
                                identity.signal(Signal::TERM);
                            }
                        }
                    }
                    process.ended().await
                };
                let how = match tokio::time::timeout(grace, asking).await {
                    Ok(_) => format!("stopped in {}", seconds(begun)),
                    Err(_) => {
                        identity.signal(Signal::KILL);
                        match tokio::time::timeout(KILLED, process.ended()).await {
                            Ok(_) => format!("did not stop within {} s and was killed", grace.as_secs_f64()),
                            Err(_) => "was killed, and does not end: it hangs in the kernel".to_owned(),
                        }
                    }
                };
                let rest = async {
                    while !identity.group().is_empty() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                if tokio::time::timeout(REST, rest).await.is_err() {
                    identity.sweep();
                }
                how
            }
        }
    }
}

/// The command of a `[server.NAME]`.
pub(super) fn command_of(server: &Server) -> anyhow::Result<Command> {
    let (program, args) = server.command.split_first().context("it has no command")?;
    let mut command = Command::new(program);
    command.args(args).envs(&server.env);
    if let Some(dir) = &server.dir {
        command.current_dir(dir);
    }
    if let Some(name) = &server.user {
        let (uid, gid) = user(name).with_context(|| format!("there is no user `{name}` in /etc/passwd"))?;
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

fn user(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}
