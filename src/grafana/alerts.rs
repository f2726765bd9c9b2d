//! Alert rules as Grafana has them, made of the rules for Prometheus: one list of conditions for both.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::boards::shortened;

/// The rules for Prometheus, which have tests of their own.
const RULES: &str = include_str!("../../deploy/prometheus/tapedeck.rules.yml");
/// How often Grafana looks at the conditions.
pub(super) const EVERY_S: u64 = 30;

#[derive(Debug, Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(default, rename = "for")]
    holds: Option<String>,
    #[serde(default)]
    labels: Json,
    #[serde(default)]
    annotations: Json,
}

/// Rules that Grafana looks at together.
#[derive(Debug)]
pub struct RuleGroup {
    pub name: String,
    /// What its files and its API have in common.
    pub rules: Vec<Json>,
}

impl RuleGroup {
    /// As its files have it. Of what is written there Grafana takes annotations and queries literally, and looks for variables
    /// of its environment in the rest.
    pub(super) fn in_file(&self, folder: &str) -> Json {
        let folder = folder.replace('$', "$$");
        json!({
            "orgId": 1, "name": self.name, "folder": folder, "interval": format!("{EVERY_S}s"), "rules": self.rules,
        })
    }

    /// Puts the uids of data sources as they are known there in the place of ours.
    pub(super) fn point_to(&mut self, renamed: &[(String, String)]) {
        let asked = self.rules.iter_mut().filter_map(|rule| rule["data"].as_array_mut()).flatten();
        for query in asked {
            if let Some((_, there)) = renamed.iter().find(|(ours, _)| query["datasourceUid"] == **ours) {
                query["datasourceUid"] = json!(there);
            }
        }
    }
}

/// The groups, asking that data source.
pub(super) fn groups(prometheus: &str) -> Vec<RuleGroup> {
    let Ok(file) = serde_saphyr::from_str::<File>(RULES) else {
        debug_assert!(false, "the rules are ours, and tested");
        return Vec::new();
    };
    let group = |group: Group| RuleGroup {
        rules: group.rules.iter().map(|rule| rule.json(prometheus)).collect(),
        name: group.name,
    };
    file.groups.into_iter().map(group).collect()
}

impl Rule {
    /// A condition of Prometheus has a series where it is met, whose value may be anything, 0 as well.
    fn json(&self, prometheus: &str) -> Json {
        let range = json!({ "from": 600, "to": 0 });
        let asked = json!({
            "refId": "A", "relativeTimeRange": range, "datasourceUid": prometheus,
            "model": { "refId": "A", "expr": self.expr.trim(), "instant": true, "range": false },
        });
        let met = json!({
            "refId": "B", "relativeTimeRange": range, "datasourceUid": "__expr__",
            "model": { "refId": "B", "type": "math", "expression": "is_number($A)" },
        });
        json!({
            "uid": shortened(&format!("tapedeck-{}", self.alert)), "title": self.alert, "condition": "B",
            "data": [asked, met], "for": self.holds.as_deref().unwrap_or("0s"),
            "noDataState": "OK", "execErrState": "Error", "labels": self.labels, "annotations": told(&self.annotations),
        })
    }
}

/// What a rule says, in Grafana's words: its `$value` is a text about all queries.
fn told(annotations: &Json) -> Json {
    let texts = annotations.as_object().into_iter().flatten();
    let told = texts.map(|(name, text)| {
        let text = text.as_str().unwrap_or_default().replace("$value", "$values.A.Value");
        (name.clone(), Json::String(text))
    });
    told.collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_for_prometheus_becomes_one_of_grafana() {
        let all = groups("p");
        let rules: Vec<&Json> = all.iter().flat_map(|group| &group.rules).collect();
        assert_eq!(rules.len(), RULES.matches("- alert: ").count());
        for rule in rules {
            assert!(rule["uid"].as_str().is_some_and(|uid| uid.starts_with("tapedeck-") && uid.len() <= 40), "{rule}");
            let summary = rule["annotations"]["summary"].as_str().unwrap();
            assert!(!summary.contains("$value ") && !summary.contains("$$"), "{summary}");
            // A value of another query would be 1 wherever the condition holds.
            assert_eq!(summary.matches("$value").count(), summary.matches("$values.A.Value").count(), "{summary}");
        }
    }

    #[test]
    fn rules_ask_the_data_source_that_is_there() {
        let mut all = groups("ours");
        all[0].point_to(&[("ours".to_owned(), "theirs".to_owned())]);
        for rule in &all[0].rules {
            assert_eq!(rule["data"][0]["datasourceUid"], "theirs");
            assert_eq!(rule["data"][1]["datasourceUid"], "__expr__");
        }
    }
}
