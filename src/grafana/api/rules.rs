//! Alert rules by the API: each rule of ours, and how often its group is looked at. Rules of others in that group stay.

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use super::{Api, encoded, words};
use crate::grafana::alerts::{EVERY_S, RuleGroup};
use crate::grafana::plan::{Change, Plan};

const RULES: &str = "api/v1/provisioning/alert-rules";
/// With it a rule can be changed in Grafana's pages.
const EDITABLE: (&str, &str) = ("X-Disable-Provenance", "true");
const OURS: &str = "tapedeck-";
const BY_FILES: &str = "tapedeck grafana setup --to files brings them as files";

/// What became of the rules of a group.
#[derive(Debug, Default)]
struct Done {
    missing: Vec<String>,
    /// A line each.
    changed: Vec<String>,
}

impl Api {
    /// Makes the alert rules that are missing, puts right those that differ, and removes those of ours that are none any more.
    /// Where Grafana has no such API, or the login may not use it, the rules are left out, and that is said.
    ///
    /// # Errors
    /// Grafana does not take one; what was done until then stays.
    pub(in crate::grafana) async fn rules(&self, plan: &Plan, folder: &str) -> anyhow::Result<Vec<Change>> {
        if plan.alerts.is_empty() {
            return Ok(Vec::new());
        }
        let there = match self.rules_there().await? {
            Ok(there) => there,
            Err(why) => return Ok(vec![left_out(&why)]),
        };
        let mut changes = Vec::new();
        for group in &plan.alerts {
            match self.group(group, folder, &there).await {
                Ok(change) => changes.push(change),
                Err(error) if error.is::<Forbidden>() => changes.push(left_out(&format!("{error:#}"))),
                Err(error) => return Err(error.context(format!("alert rules {}", group.name))),
            }
        }
        Ok(changes)
    }

    /// All rules that there are, or why that cannot be known.
    async fn rules_there(&self) -> anyhow::Result<Result<Vec<Json>, String>> {
        let (status, answer) = self.ask(Method::GET, RULES, None).await?;
        Ok(match status {
            status if status.is_success() => {
                Ok(answer.as_array().cloned().context("the list of alert rules is none")?)
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                Err(format!("this Grafana has no API for them, being too old or its alerting switched off; {BY_FILES}"))
            }
            StatusCode::FORBIDDEN => Err(format!("{:#}", Forbidden(words(&answer)))),
            status => return Err(self.refused(status, &answer)),
        })
    }

    async fn group(&self, group: &RuleGroup, folder: &str, there: &[Json]) -> anyhow::Result<Change> {
        let mut done = Done::default();
        for rule in &group.rules {
            let mut wanted = rule.clone();
            wanted["folderUID"] = json!(folder);
            wanted["ruleGroup"] = json!(group.name);
            let found = there.iter().find(|one| one["uid"] == rule["uid"]);
            self.rule(&wanted, found, &mut done).await.with_context(|| format!("rule {}", rule["title"]))?;
        }
        for old in there.iter().filter(|one| is_ours_and_none(one, group, folder)) {
            let uid = old["uid"].as_str().unwrap_or_default();
            if !self.dry {
                self.write(Method::DELETE, &format!("{RULES}/{}", encoded(uid)), None, true).await?;
            }
            done.changed.push(format!("{} is no rule any more", old["title"].as_str().unwrap_or(uid)));
        }
        self.pace(group, folder, &mut done).await?;
        let state = match (done.missing.len(), done.changed.is_empty()) {
            (0, true) => "unchanged",
            (missing, _) if missing == group.rules.len() => "created",
            _ => "updated",
        };
        if state == "updated" && !done.missing.is_empty() {
            done.changed.push(format!("missing: {}", done.missing.join(", ")));
        }
        let note = if state == "updated" { done.changed.join("; ") } else { String::new() };
        Ok(Change { what: "alerts", uid: group.name.clone(), name: "alert rules".to_owned(), state, note })
    }

    async fn rule(&self, wanted: &Json, found: Option<&Json>, done: &mut Done) -> anyhow::Result<()> {
        let title = wanted["title"].as_str().unwrap_or_default();
        let Some(found) = found else {
            done.missing.push(title.to_owned());
            return if self.dry { Ok(()) } else { self.write(Method::POST, RULES, Some(wanted), true).await };
        };
        let members = wanted.as_object().into_iter().flatten();
        let drift: Vec<&str> =
            members.filter(|(key, value)| !covers(value, &found[*key])).map(|(key, _)| key.as_str()).collect();
        if drift.is_empty() {
            return Ok(());
        }
        let path = format!("{RULES}/{}", encoded(wanted["uid"].as_str().unwrap_or_default()));
        // The list does not say where a rule is from.
        let (_, whole) = self.ask(Method::GET, &path, None).await?;
        if whole["provenance"] == "file" {
            bail!(
                "it differs in {}, and comes from a file: change it there, or set [grafana] to = \"files\"",
                drift.join(", ")
            );
        }
        if !self.dry {
            // What others have said of it stays: whether it rests, further labels, whom it tells.
            let mut body = found.clone();
            lay_over(&mut body, wanted);
            self.write(Method::PUT, &path, Some(&body), whole["provenance"] != "api").await?;
        }
        done.changed.push(format!("{title} was different in {}", drift.join(", ")));
        Ok(())
    }

    /// How often Grafana looks at the group is no part of a rule.
    async fn pace(&self, group: &RuleGroup, folder: &str, done: &mut Done) -> anyhow::Result<()> {
        let path = format!("api/v1/provisioning/folder/{}/rule-groups/{}", encoded(folder), encoded(&group.name));
        let (status, found) = self.ask(Method::GET, &path, None).await?;
        if !status.is_success() {
            // In a dry run it may not be there yet.
            return if self.dry { Ok(()) } else { Err(self.refused(status, &found)) };
        }
        if found["interval"] == EVERY_S {
            return Ok(());
        }
        if done.missing.len() < group.rules.len() {
            done.changed.push(format!("was looked at every {} s", found["interval"]));
        }
        if self.dry {
            return Ok(());
        }
        // Without rules in it they stay as they are.
        let body = json!({ "title": group.name, "folderUid": folder, "interval": EVERY_S });
        self.write(Method::PUT, &path, Some(&body), true).await
    }

    async fn write(&self, method: Method, path: &str, body: Option<&Json>, editable: bool) -> anyhow::Result<()> {
        let mut request = self.request(method, path, body);
        if editable {
            request = request.header(EDITABLE.0, EDITABLE.1);
        }
        let (status, answer) = super::sent(request).await?;
        match status {
            StatusCode::FORBIDDEN => Err(Forbidden(words(&answer)).into()),
            status if status.is_success() => Ok(()),
            status => Err(self.refused(status, &answer)),
        }
    }
}

/// The login may not make alert rules.
#[derive(Debug, thiserror::Error)]
#[error("Grafana answers 403 Forbidden: {0}; alert rules need the role Admin, or {BY_FILES}")]
struct Forbidden(String);

fn left_out(why: &str) -> Change {
    Change {
        what: "alerts",
        uid: "tapedeck".to_owned(),
        name: "alert rules".to_owned(),
        state: "left out",
        note: format!("cannot be brought: {why}"),
    }
}

/// A rule that an earlier version had in this group.
fn is_ours_and_none(found: &Json, group: &RuleGroup, folder: &str) -> bool {
    found["folderUID"] == folder
        && found["ruleGroup"] == *group.name
        && found["uid"].as_str().is_some_and(|uid| uid.starts_with(OURS))
        && !group.rules.iter().any(|rule| rule["uid"] == found["uid"])
}

/// Whether all that is wanted is there; Grafana adds members of its own.
fn covers(wanted: &Json, found: &Json) -> bool {
    match (wanted, found) {
        (Json::Object(wanted), Json::Object(found)) => {
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|found| covers(value, found)))
        }
        (Json::Array(wanted), Json::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| covers(wanted, found))
        }
        (Json::Number(wanted), Json::Number(found)) => wanted.as_f64() == found.as_f64(),
        _ => wanted == found,
    }
}

fn lay_over(body: &mut Json, wanted: &Json) {
    match (body, wanted) {
        (Json::Object(body), Json::Object(wanted)) => {
            for (key, value) in wanted {
                lay_over(body.entry(key.clone()).or_insert(Json::Null), value);
            }
        }
        (body, wanted) => body.clone_from(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_added_is_no_difference_and_stays() {
        let wanted =
            json!({ "labels": { "severity": "page" }, "data": [{ "refId": "A", "model": { "expr": "x" } }], "n": 600 });
        let found = json!({
            "labels": { "severity": "page", "team": "night" }, "isPaused": true, "n": 600.0,
            "data": [{ "refId": "A", "model": { "expr": "x", "intervalMs": 1000 } }],
        });
        assert!(covers(&wanted, &found));
        for (pointer, other) in
            [("/labels/severity", json!("warn")), ("/data/0/model/expr", json!("y")), ("/data", json!([]))]
        {
            let mut changed = found.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            assert!(!covers(&wanted, &changed), "{pointer}");
            lay_over(&mut changed, &wanted);
            assert!(covers(&wanted, &changed), "{changed}");
            assert_eq!((&changed["isPaused"], &changed["labels"]["team"]), (&json!(true), &json!("night")));
        }
    }
}
