//! What the fake knows of its markets: enough to say all of one, or what changed of it since.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Ladders whose rungs are known by their price; the others by their level.
const BY_PRICE: [&str; 5] = ["atb", "atl", "trd", "spb", "spl"];
const BY_LEVEL: [&str; 4] = ["batb", "batl", "bdatb", "bdatl"];

/// A market, each part with the number of the message that changed it last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Market {
    definition: Option<(Value, u64)>,
    volume: Option<(Value, u64)>,
    runners: BTreeMap<(i64, String), Runner>,
    /// When it began anew.
    begun: u64,
}

#[derive(Clone, Debug, Default)]
struct Runner {
    handicap: Option<Value>,
    /// By ladder and key; a rung of size zero is remembered, because somebody may have missed that it went.
    ladders: BTreeMap<&'static str, BTreeMap<String, (Value, u64)>>,
    last: BTreeMap<String, (Value, u64)>,
}

impl Market {
    /// Applies a change as the venue's clients have to.
    pub(crate) fn apply(&mut self, change: &Value, seq: u64) {
        if change["img"] == true {
            *self = Market { begun: seq, ..Market::default() };
        }
        if let Some(definition) = change.get("marketDefinition") {
            self.definition = Some((definition.clone(), seq));
        }
        if let Some(volume) = change.get("tv") {
            self.volume = Some((volume.clone(), seq));
        }
        for change in change["rc"].as_array().into_iter().flatten() {
            let Some(id) = change["id"].as_i64() else { continue };
            let handicap = change.get("hc").cloned();
            let key = handicap.as_ref().and_then(Value::as_f64).unwrap_or_default();
            let runner = self.runners.entry((id, key.to_string())).or_default();
            runner.handicap = handicap.or(runner.handicap.take());
            runner.apply(change, seq);
        }
    }

    pub(crate) fn definition(&self) -> Option<&Value> {
        self.definition.as_ref().map(|(definition, _)| definition)
    }

    /// What changed since a message, as the venue says it: all of it where it began anew. `None`: nothing did.
    pub(crate) fn since(&self, id: &str, seq: u64, fields: &dyn Fn(&str) -> bool) -> Option<Value> {
        let image = seq < self.begun || seq == 0;
        let since = if image { 0 } else { seq };
        let newer =
            |part: &Option<(Value, u64)>| part.clone().filter(|(_, at)| image || *at > since).map(|(value, _)| value);
        let mut change = Map::new();
        change.insert("id".into(), json!(id));
        if let Some(definition) = newer(&self.definition).filter(|_| fields("marketDefinition")) {
            change.insert("marketDefinition".into(), definition);
        }
        let runners: Vec<Value> =
            self.runners.iter().filter_map(|((id, _), runner)| runner.since(*id, since, image, fields)).collect();
        if !runners.is_empty() {
            change.insert("rc".into(), json!(runners));
        }
        if image {
            change.insert("img".into(), json!(true));
        }
        if let Some(volume) = newer(&self.volume).filter(|_| fields("tv")) {
            change.insert("tv".into(), volume);
        }
        (change.len() > 1).then_some(Value::Object(change))
    }

    /// The ladders as text, a runner a line, numbers as the shortest that mean the same.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for ((id, handicap), runner) in &self.runners {
            text.push_str(&format!("{id} {handicap}"));
            for name in BY_PRICE.into_iter().chain(BY_LEVEL) {
                let mut rungs: Vec<Vec<f64>> =
                    runner.ladders.get(name).into_iter().flatten().filter_map(|(_, (rung, _))| numbers(rung)).collect();
                rungs.sort_by(|a, b| a[0].total_cmp(&b[0]));
                text.push_str(&format!(" {name}{rungs:?}"));
            }
            let last = |name: &str| runner.last.get(name).and_then(|(value, _)| value.as_f64());
            text.push_str(&format!(" ltp {:?} tv {:?}\n", last("ltp"), last("tv")));
        }
        text
    }
}

/// The numbers of a rung that is there.
fn numbers(rung: &Value) -> Option<Vec<f64>> {
    let numbers: Vec<f64> = rung.as_array()?.iter().filter_map(Value::as_f64).collect();
    numbers.last().is_some_and(|size| *size != 0.0).then_some(numbers)
}

impl Runner {
    fn apply(&mut self, change: &Value, seq: u64) {
        for name in BY_PRICE.into_iter().chain(BY_LEVEL) {
            for rung in change[name].as_array().into_iter().flatten() {
                let key = rung[0].as_f64().unwrap_or_default().to_string();
                self.ladders.entry(name).or_default().insert(key, (rung.clone(), seq));
            }
        }
        for name in ["ltp", "tv", "spn", "spf"] {
            if let Some(value) = change.get(name) {
                self.last.insert(name.to_owned(), (value.clone(), seq));
            }
        }
    }

    fn since(&self, id: i64, seq: u64, image: bool, fields: &dyn Fn(&str) -> bool) -> Option<Value> {
        let mut change = Map::new();
        for (name, ladder) in self.ladders.iter().filter(|(name, _)| fields(name)) {
            let rungs = ladder.values().filter(|(rung, at)| if image { numbers(rung).is_some() } else { *at > seq });
            let rungs: Vec<Value> = rungs.map(|(rung, _)| rung.clone()).collect();
            if !rungs.is_empty() {
                change.insert((*name).to_owned(), json!(rungs));
            }
        }
        for (name, (value, at)) in self.last.iter().filter(|(name, _)| fields(name)) {
            if image || *at > seq {
                change.insert(name.clone(), value.clone());
            }
        }
        if change.is_empty() && !image {
            return None;
        }
        change.insert("id".into(), json!(id));
        if let Some(handicap) = &self.handicap {
            change.insert("hc".into(), handicap.clone());
        }
        Some(Value::Object(change))
    }
}
