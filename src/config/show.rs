//! The effective config: every value with its origin, secrets hidden.

use serde::Serialize;
use toml::{Table, Value};

use super::load::Loaded;
use super::schema::Node;
use super::secret::{HIDDEN, looks_secret, mask_urls};
use super::tree::Origin;

/// One value of the effective config.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// The table, e.g. `source.kraken`.
    pub table: String,
    pub key: String,
    pub value: serde_json::Value,
    /// Where it came from: `tapedeck.toml:7`, `--set`, `environment INFLUXDB_HOST`, `default` …
    pub from: String,
}

impl Shown {
    /// The value as TOML spells it.
    #[must_use]
    pub fn toml(&self) -> String {
        Value::try_from(&self.value).map_or_else(|_| self.value.to_string(), |value| value.to_string())
    }
}

/// Every value that holds, in the order of the sections.
#[must_use]
pub fn show(loaded: &Loaded) -> Vec<Shown> {
    let config = &loaded.config;
    let mut shown = Vec::new();
    let mut section = |name: &str, values: Result<Value, toml::ser::Error>| {
        if let Ok(Value::Table(values)) = values {
            add(loaded, &[name], &values, &mut shown);
        }
    };
    section("tape", Value::try_from(&config.tape));
    section("log", Value::try_from(&config.log));
    section("http", Value::try_from(&config.http));
    section("deck", Value::try_from(&config.deck));
    if let Some(candles) = &config.candles {
        section("candles", Value::try_from(candles));
    }
    if let Some(synthetic) = &config.synthetic {
        section("synthetic", Value::try_from(synthetic));
    }
    if let Some(bus) = &config.bus {
        section("bus", Value::try_from(bus));
    }
    if let Some(store) = &config.store {
        section("store", Value::try_from(store));
    }
    if let Some(sync) = &config.sync {
        add_nested(loaded, &mut vec!["sync"], &sync.table, &mut shown);
    }
    if let Some(heartbeat) = &config.heartbeat {
        add_nested(loaded, &mut vec!["heartbeat"], &heartbeat.table, &mut shown);
    }
    if let Some(alerts) = &config.alerts {
        add_nested(loaded, &mut vec!["alert"], &alerts.table, &mut shown);
    }
    if let Some(grafana) = &config.grafana {
        add_nested(loaded, &mut vec!["grafana"], &grafana.table, &mut shown);
    }
    for one in &config.servers {
        if let Ok(Value::Table(values)) = Value::try_from(&one.server) {
            add_nested(loaded, &mut vec!["server", &one.name], &values, &mut shown);
        }
    }
    for (stage, named) in [("source", &config.sources), ("sink", &config.sinks)] {
        for one in named {
            let mut values = one.table.clone();
            values.insert("kind".to_owned(), Value::String(one.kind.to_string()));
            add_defaults(stage, &one.kind, &mut values);
            add(loaded, &[stage, &one.name], &values, &mut shown);
        }
    }
    shown
}

/// What a kind would assume for the keys nobody gave, as far as its schema says.
fn add_defaults(stage: &str, kind: &str, values: &mut Table) {
    let Some(node) = Node::kind(stage, kind) else { return };
    for key in node.keys() {
        let default = node.child(key).and_then(Node::default).filter(|default| !default.is_null());
        if let Some(default) = default.and_then(|default| Value::try_from(default).ok()) {
            values.entry(key).or_insert(default);
        }
    }
}

/// A table and the tables in it, each under its own name.
fn add_nested<'a>(loaded: &Loaded, path: &mut Vec<&'a str>, values: &'a Table, shown: &mut Vec<Shown>) {
    let plain = values.iter().filter(|(_, value)| !value.is_table());
    add(loaded, path, &plain.map(|(key, value)| (key.clone(), value.clone())).collect(), shown);
    for (key, value) in values {
        if let Some(inner) = value.as_table() {
            path.push(key);
            add_nested(loaded, path, inner, shown);
            path.pop();
        }
    }
}

fn add(loaded: &Loaded, table: &[&str], values: &Table, shown: &mut Vec<Shown>) {
    for (key, value) in values {
        let path: Vec<&str> = table.iter().copied().chain([key.as_str()]).collect();
        let origin = loaded.tree.own_origin(&path).unwrap_or(&Origin::Default);
        let hide = looks_secret(key) || Node::at(&loaded.tree, &path).is_some_and(|node| node.is_secret(key));
        let value = if hide { HIDDEN.into() } else { masked(serde_json::to_value(value).unwrap_or_default()) };
        shown.push(Shown { table: header(table), key: key.clone(), value, from: origin.to_string() });
    }
}

/// A value without the secrets of the URLs in it.
fn masked(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::String(text) => mask_urls(&text).into(),
        serde_json::Value::Array(values) => values.into_iter().map(masked).collect(),
        // A table within a list or on one line: its keys have no line of their own here.
        serde_json::Value::Object(fields) => {
            let hide = |key: &str, value| if looks_secret(key) { HIDDEN.into() } else { masked(value) };
            fields.into_iter().map(|(key, value)| (key.clone(), hide(&key, value))).collect()
        }
        other => other,
    }
}

/// A table's name as its header spells it.
fn header(table: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let spelled = table.iter().map(|key| if key.chars().all(plain) { (*key).to_owned() } else { format!("{key:?}") });
    spelled.collect::<Vec<_>>().join(".")
}
