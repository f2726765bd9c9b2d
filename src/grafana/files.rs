//! The plan as files that Grafana reads at its start, and dashboards while it runs.
//!
//! ```text
//! DIR/provisioning/datasources/tapedeck.yaml      for the group of its folder only: it has passwords in it
//! DIR/provisioning/dashboards/tapedeck.yaml       names the folder below
//! DIR/provisioning/alerting/tapedeck.yaml
//! DIR/dashboards/tapedeck/*.json
//! ```

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value as Json, json};

use super::plan::{Change, Plan, Wanted};

/// A folder for Grafana.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Only said, not done.
    dry: bool,
}

const PRIVATE: u32 = 0o640;
const PUBLIC: u32 = 0o644;

impl Files {
    /// # Errors
    /// The folder cannot be named from the root.
    pub(super) fn in_folder(dir: &Path, dry: bool) -> anyhow::Result<Files> {
        let dir = std::path::absolute(dir).with_context(|| format!("dir: {}", dir.display()))?;
        Ok(Files { dir, dry })
    }

    /// Writes the data sources.
    ///
    /// # Errors
    /// A file cannot be written; it is then as it was.
    pub(super) fn sources(&self, plan: &Plan) -> anyhow::Result<Vec<Change>> {
        let whole: Vec<Json> = plan
            .sources
            .iter()
            .map(|wanted| {
                let mut source = wanted.source.shown(&wanted.uid, &wanted.name);
                source["secureJsonData"] = wanted.source.secrets();
                source["editable"] = json!(false);
                escaped(source)
            })
            .collect();
        let path = self.dir.join("provisioning/datasources/tapedeck.yaml");
        let state =
            self.write(&path, &yaml(&json!({ "apiVersion": 1, "prune": true, "datasources": whole }))?, PRIVATE)?;
        let change = |wanted: &Wanted| Change {
            what: "datasource",
            uid: wanted.uid.clone(),
            name: wanted.name.clone(),
            state,
            note: path.display().to_string(),
        };
        Ok(plan.sources.iter().map(change).collect())
    }

    /// Writes the dashboards, where Grafana finds them, and the alert rules; dashboards of ours that are no longer wanted go.
    ///
    /// # Errors
    /// A file cannot be written; it is then as it was.
    pub(super) fn dashboards(&self, plan: &Plan) -> anyhow::Result<Vec<Change>> {
        let folder = self.dir.join("dashboards/tapedeck");
        let mut changes = Vec::new();
        for board in &plan.dashboards {
            let (uid, name) = (text(board, "uid"), text(board, "title"));
            let path = folder.join(format!("{uid}.json"));
            let state = self.write(&path, &format!("{:#}\n", board), PUBLIC)?;
            changes.push(Change { what: "dashboard", uid, name, state, note: path.display().to_string() });
        }
        self.remove_others(&folder, &mut changes)?;
        let provider = json!({
            "apiVersion": 1,
            "providers": [{ "name": "tapedeck", "folder": escaped(json!(plan.folder)), "type": "file", "allowUiUpdates": false,
                "updateIntervalSeconds": 10, "options": { "path": escaped(json!(folder.display().to_string())) } }],
        });
        self.write(&self.dir.join("provisioning/dashboards/tapedeck.yaml"), &yaml(&provider)?, PUBLIC)?;
        let path = self.dir.join("provisioning/alerting/tapedeck.yaml");
        if !plan.alerts.is_empty() {
            let groups: Vec<Json> = plan.alerts.iter().map(|group| group.in_file(&plan.folder)).collect();
            let rules = json!({ "apiVersion": 1, "groups": groups });
            let state = self.write(&path, &yaml(&rules)?, PUBLIC)?;
            let note = path.display().to_string();
            changes.push(Change {
                what: "alerts",
                uid: "tapedeck".to_owned(),
                name: "alert rules".to_owned(),
                state,
                note,
            });
        }
        Ok(changes)
    }

    fn remove_others(&self, folder: &Path, changes: &mut Vec<Change>) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(uid) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let is_ours = path.extension().is_some_and(|ending| ending == "json");
            if !is_ours || changes.iter().any(|change| change.uid == uid) {
                continue;
            }
            let change = Change {
                what: "dashboard",
                uid: uid.to_owned(),
                name: uid.to_owned(),
                state: "removed",
                note: "nothing in the config is shown there any more".to_owned(),
            };
            if !self.dry {
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
            changes.push(change);
        }
        Ok(())
    }

    /// Replaces a file as a whole, if it differs. What others may not read belongs to the group of its folder, which is
    /// Grafana's where a package made it.
    fn write(&self, path: &Path, text: &str, mode: u32) -> anyhow::Result<&'static str> {
        let state = match fs::read(path) {
            Ok(found) if found == text.as_bytes() => return Ok("unchanged"),
            Ok(_) => "updated",
            Err(_) => "created",
        };
        if self.dry {
            return Ok(state);
        }
        let what = || format!("writing {}", path.display());
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder).with_context(what)?;
        let group = fs::metadata(folder).with_context(what)?.gid();
        let new = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE)
            .open(&new)
            .with_context(what)?;
        // Not ours to give unless we are root or of that group: then its owner must be who runs Grafana.
        let _ = fchown(&file, None, Some(group));
        file.set_permissions(fs::Permissions::from_mode(mode)).with_context(what)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(what)?;
        fs::rename(&new, path).with_context(what)?;
        Ok(state)
    }
}

fn text(board: &Json, key: &str) -> String {
    board[key].as_str().unwrap_or_default().to_owned()
}

/// JSON is YAML, too, and has no rules of its own for what must be quoted.
fn yaml(value: &Json) -> anyhow::Result<String> {
    Ok(format!(
        "# Written by `tapedeck grafana setup`, and written over by it.\n{}\n",
        serde_json::to_string_pretty(value)?
    ))
}

/// Grafana puts variables of its environment into these files: a dollar sign stands twice.
fn escaped(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(text.replace('$', "$$")),
        Json::Array(list) => list.into_iter().map(escaped).collect(),
        Json::Object(map) => {
            map.into_iter().map(|(key, value)| (key, escaped(value))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other,
    }
}
