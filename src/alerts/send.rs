//! One message to one webhook or command, within a limit.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::message::Message;
use super::rule::Rule;
use crate::child::describe;
use crate::sinks::http;

/// So much of what a command or a server says is told on.
const SAID_BYTES: u64 = 300;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Webhook,
    Command,
}

impl Target {
    pub(super) fn of(rule: &Rule) -> Vec<Target> {
        let webhook = rule.webhook.as_ref().map(|_| Target::Webhook);
        let command = (!rule.command.is_empty()).then_some(Target::Command);
        webhook.into_iter().chain(command).collect()
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Target::Webhook => "webhook",
            Target::Command => "command",
        }
    }
}

/// It was not taken, and another try would change nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Hopeless(pub(super) String);

/// Sends it once.
///
/// # Errors
/// It was not taken; [`Hopeless`], found by downcast, when it never will be.
pub(super) async fn send(rule: &Rule, target: Target, message: &Message) -> anyhow::Result<()> {
    match target {
        Target::Webhook => post(rule, message).await,
        Target::Command => run(rule, message).await,
    }
}

async fn post(rule: &Rule, message: &Message) -> anyhow::Result<()> {
    let url = rule.webhook.as_ref().context("no webhook")?;
    let client = http::client(rule.limit.0, true, rule.ca_file.as_deref())?;
    let sent = client.post(url.expose()).json(message).send().await;
    // The URL is a secret.
    let mut answer = sent.map_err(reqwest::Error::without_url).context("asking the webhook")?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut said = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        said.extend_from_slice(&chunk);
        if said.len() as u64 >= SAID_BYTES {
            break;
        }
    }
    said.truncate(SAID_BYTES as usize);
    let words = format!("the webhook answers {status}: {}", String::from_utf8_lossy(&said).trim());
    let later = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if status.is_client_error() && !later {
        return Err(Hopeless(words).into());
    }
    bail!("{words}")
}

/// Ends with everything that it started.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // What is gone needs no signal.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

async fn run(rule: &Rule, message: &Message) -> anyhow::Result<()> {
    let (program, arguments) = rule.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(message.variables()).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.map_err(|error| Hopeless(format!("the command {program} cannot be started: {error}")))?;
    let group = Group(child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)));
    let body = serde_json::to_vec(message).context("writing the message")?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            // Who does not read it does not want it.
            let _ = stdin.write_all(&body).await;
        }
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(SAID_BYTES).read_to_end(&mut said).await;
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        }
        said
    };
    let work = async {
        let talking = async { tokio::time::timeout(rule.limit.0, talk).await.unwrap_or_default() };
        tokio::join!(child.wait(), talking)
    };
    let limit = rule.limit.0 + Duration::from_millis(100);
    let Ok((status, said)) = tokio::time::timeout(limit, work).await else {
        bail!("the command {program} was not done within {} and was ended", rule.limit);
    };
    drop(group);
    let status = status.context("waiting for the command")?;
    if status.success() {
        return Ok(());
    }
    bail!("the command {program} {}: {}", describe(status), String::from_utf8_lossy(&said).trim())
}
