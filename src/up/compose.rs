//! A service of a compose file, by `docker compose`. Its volumes are never touched.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::running::End;
use super::table::Compose;

/// How often it is looked at: each look starts a process.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What `docker` may take for an answer beyond what it was told to wait.
const ANSWER: Duration = Duration::from_secs(30);

/// There is no `docker` on this machine.
#[derive(Debug, thiserror::Error)]
#[error("there is no `docker` here")]
pub(super) struct NoDocker;

#[derive(Clone, Debug)]
pub(super) struct Container {
    file: PathBuf,
    service: String,
    dir: Option<PathBuf>,
}

impl Container {
    pub(super) fn new(file: &Path, service: &str, dir: Option<&Path>) -> Container {
        Container { file: file.to_owned(), service: service.to_owned(), dir: dir.map(Path::to_owned) }
    }

    /// The one that an entry of the table is of.
    pub(super) fn of(compose: &Compose) -> Container {
        Container::new(&compose.file, &compose.service, Some(compose.dir.as_path()))
    }

    /// Starts it, or finds it running. Images may have to be fetched first.
    pub(super) async fn start(&self, log: &File, limit: Duration) -> anyhow::Result<()> {
        let mut command = self.compose(&["up", "--detach"]);
        command.arg(&self.service).stdout(log.try_clone()?).stderr(log.try_clone()?);
        let out = run(command, limit).await?;
        anyhow::ensure!(
            out.status.success(),
            "docker compose up {}: {}",
            self.service,
            crate::child::describe(out.status)
        );
        Ok(())
    }

    /// Waits until it does not run any more. Cancel safe.
    pub(super) async fn ended(&self) -> End {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // A daemon that does not answer says nothing about the container.
            if let Ok(None) = self.state().await {
                return End { how: "its container does not run any more".to_owned(), code: None };
            }
        }
    }

    /// What compose says of a container that runs: its health, empty where it has no check. `None`: it does not run.
    pub(super) async fn state(&self) -> anyhow::Result<Option<String>> {
        let mut command = self.compose(&["ps", "--status", "running", "--format", "json"]);
        command.arg(&self.service).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = run(command, ANSWER).await?;
        anyhow::ensure!(out.status.success(), "docker compose ps: {}", String::from_utf8_lossy(&out.stderr).trim());
        Ok(health_of(&String::from_utf8_lossy(&out.stdout)))
    }

    /// Stops it. It and its volumes stay.
    pub(super) async fn stop(&self, grace: Duration) -> anyhow::Result<()> {
        let seconds = grace.as_secs().max(1).to_string();
        let mut command = self.compose(&["stop", "--timeout", &seconds]);
        command.arg(&self.service).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = run(command, grace + ANSWER).await?;
        anyhow::ensure!(out.status.success(), "docker compose stop: {}", String::from_utf8_lossy(&out.stderr).trim());
        Ok(())
    }

    fn compose(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("docker");
        command.args(["compose", "--file"]).arg(&self.file).args(args).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }
}

async fn run(mut command: tokio::process::Command, limit: Duration) -> anyhow::Result<Output> {
    let child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(NoDocker.into()),
        child => child.context("starting docker")?,
    };
    let out = tokio::time::timeout(limit, child.wait_with_output()).await;
    out.with_context(|| format!("docker took longer than {} s", limit.as_secs()))?.context("waiting for docker")
}

/// Older versions of compose print one list, newer ones an object a line.
fn health_of(said: &str) -> Option<String> {
    let values = serde_json::Deserializer::from_str(said).into_iter::<serde_json::Value>().map_while(Result::ok);
    let mut containers = values.flat_map(|value| match value {
        serde_json::Value::Array(several) => several,
        one => vec![one],
    });
    let health = |container: serde_json::Value| container["Health"].as_str().unwrap_or_default().to_owned();
    containers.next().map(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_runs_is_known_in_both_ways_of_writing_it() {
        let health = |said: &str| health_of(said);
        assert_eq!(health("{\"Name\":\"a\",\"Health\":\"healthy\"}\n"), Some("healthy".to_owned()));
        assert_eq!(health("[{\"Name\":\"a\",\"Health\":\"\"}]"), Some(String::new()));
        assert_eq!(health("[]\n"), None);
        assert_eq!(health(""), None);
        assert_eq!(health("no JSON"), None);
    }
}
