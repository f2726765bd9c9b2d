//! The plan, made and brought to where it is wanted.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::api::{Api, State};
use super::config::{Config, To};
use super::files::Files;
use super::plan::{Change, Plan};

/// What is to be brought there, and how.
#[derive(Clone, Debug)]
pub struct Job {
    pub sources: bool,
    pub dashboards: bool,
    /// In place of what the config says.
    pub to: Option<To>,
    pub dir: Option<PathBuf>,
    /// Only said, not done.
    pub dry: bool,
    /// How long a Grafana that does not answer is waited for.
    pub wait: Duration,
}

/// What was done.
#[derive(Debug)]
pub struct Done {
    /// The folder or address.
    pub at: String,
    pub to: To,
    pub changes: Vec<Change>,
    /// What was left out, and what is left to do.
    pub notes: Vec<String>,
}

impl Done {
    /// Whether anything was not as it should be.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changes.iter().any(|change| change.state != "unchanged")
    }
}

fn section(config: &crate::config::Config) -> anyhow::Result<Config> {
    let table = config.grafana.as_ref().map(|section| section.table.clone()).unwrap_or_default();
    Config::from_table(table).context("[grafana]")
}

/// Brings data sources and dashboards to Grafana.
///
/// # Errors
/// A store cannot be asked where it keeps what, a file cannot be written, Grafana is away or does not let us. What was done
/// until then stays; doing it again goes on from there.
pub async fn setup(config: &crate::config::Config, job: &Job) -> anyhow::Result<Done> {
    let own = section(config)?;
    let mut plan = Plan::of(config).await?;
    let notes = std::mem::take(&mut plan.notes);
    let to = job.to.unwrap_or(own.to);
    let mut changes = Vec::new();
    let at = match to {
        To::Files => {
            let dir = job.dir.as_ref().unwrap_or(&own.dir);
            let files = Files::in_folder(dir, job.dry)?;
            if job.sources {
                changes.extend(files.sources(&plan)?);
            }
            if job.dashboards {
                changes.extend(files.dashboards(&plan)?);
            }
            dir.display().to_string()
        }
        To::Api => {
            let api = Api::of(&own, job.dry)?;
            api.ready(job.wait).await?;
            // Also for dashboards alone: they must refer to the data sources by the uids that these have there.
            let found = if job.sources { api.sources(&mut plan).await? } else { api.known(&mut plan).await? };
            changes.extend(found);
            if job.dashboards {
                let folder = api.folder(&plan.folder).await?;
                changes.extend(api.dashboards(&plan, &folder.uid).await?);
                changes.extend(api.rules(&plan, &folder.uid).await?);
                changes.push(folder);
            }
            own.url.clone()
        }
    };
    let done = Done { at, to, changes, notes };
    Ok(done)
}

/// What a running Grafana has of it; changes nothing.
///
/// # Errors
/// It does not answer or does not let us ask, or a store cannot be asked where it keeps what.
pub async fn look(config: &crate::config::Config) -> anyhow::Result<State> {
    let own = section(config)?;
    let mut plan = Plan::of(config).await?;
    Api::of(&own, true)?.look(&mut plan).await
}
