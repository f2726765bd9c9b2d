//! Alert rules as Grafana's files have them, made of the rules for Prometheus: one list of conditions for both.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::boards::shortened;

/// The rules for Prometheus, which have tests of their own.
const RULES: &str = include_str!("../../deploy/prometheus/tapedeck.rules.yml");

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

/// The groups, asking that data source.
pub(super) fn groups(prometheus: &str, folder: &str) -> Vec<Json> {
    let Ok(file) = serde_saphyr::from_str::<File>(RULES) else {
        debug_assert!(false, "the rules are ours, and tested");
        return Vec::new();
    };
    let group = |group: &Group| {
        let rules: Vec<Json> = group.rules.iter().map(|rule| rule.json(prometheus)).collect();
        json!({ "orgId": 1, "name": group.name, "folder": folder, "interval": "30s", "rules": rules })
    };
    file.groups.iter().map(group).collect()
}

impl Rule {
    /// A condition of Prometheus has a series where it is met, whose value may be anything: here it becomes 1.
    fn json(&self, prometheus: &str) -> Json {
        let range = json!({ "from": 600, "to": 0 });
        let asked = json!({
            "refId": "A", "relativeTimeRange": range, "datasourceUid": prometheus,
            "model": { "refId": "A", "expr": format!("({}) * 0 + 1", self.expr.trim()), "instant": true, "range": false },
        });
        let met = json!({
            "refId": "B", "relativeTimeRange": range, "datasourceUid": "__expr__",
            "model": { "refId": "B", "type": "threshold", "expression": "A",
                "conditions": [{ "evaluator": { "type": "gt", "params": [0] } }] },
        });
        json!({
            "uid": shortened(&format!("tapedeck-{}", self.alert)), "title": self.alert, "condition": "B",
            "data": [asked, met], "for": self.holds.as_deref().unwrap_or("0s"),
            "noDataState": "OK", "execErrState": "Error", "labels": self.labels, "annotations": self.annotations,
        })
    }
}
