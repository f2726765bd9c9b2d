//! The keys of a file, each of which is taken once or left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// Deeper than any settings are; what lies below counts as one value.
const DEEPEST: usize = 16;

/// A file as a value: JSON where it begins like it, YAML where its name ends like it.
pub(super) fn value_of(path: &Path, text: &str) -> Option<Value> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if matches!(ending.as_str(), "yaml" | "yml") {
        return serde_saphyr::from_str(text).ok();
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with(['{', '[']) { serde_json::from_str(text).ok() } else { None }
}

/// Every value of a document by its path: `influxdb.host`, `publishers[0].port`. A list of plain values is one.
#[derive(Debug)]
pub(super) struct Keys {
    leaves: Vec<(String, Value)>,
    taken: BTreeSet<String>,
}

impl Keys {
    pub(super) fn of(value: &Value) -> Keys {
        let mut leaves = Vec::new();
        walk(value, String::new(), 0, &mut leaves);
        // `{"a.b": 1, "a": {"b": 2}}`: two values under one path, of which only the first would be seen.
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (path, _) in &mut leaves {
            let times = seen.entry(path.clone()).or_default();
            *times += 1;
            if *times > 1 {
                path.push_str(&format!(" ({times})"));
            }
        }
        Keys { leaves, taken: BTreeSet::new() }
    }

    /// Every path with its value, in the file's order.
    pub(super) fn every(self) -> Vec<(String, Value)> {
        self.leaves
    }

    /// The value of a key, which counts as taken from now on.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        let (_, value) = self.leaves.iter().find(|(known, _)| known == key)?;
        self.taken.insert(key.to_owned());
        Some(value.clone())
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.taken.remove(key);
                None
            }
        }
    }

    pub(super) fn number(&mut self, key: &str) -> Option<i64> {
        let number = match self.take(key)? {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_i64(),
        };
        if number.is_none() {
            self.taken.remove(key);
        }
        number
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let flag = self.take(key)?.as_bool();
        if flag.is_none() {
            self.taken.remove(key);
        }
        flag
    }

    /// Keys directly below a path, in the file's order.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (key, _) in &self.leaves {
            let Some(rest) = key.strip_prefix(path) else { continue };
            let (first, open) = match rest.strip_prefix('[') {
                Some(rest) => (rest.split(']').next().unwrap_or_default(), true),
                None => {
                    (rest.trim_start_matches('.').split(['.', '[']).next().unwrap_or_default(), rest.starts_with('.'))
                }
            };
            if open && !first.is_empty() && !found.iter().any(|known| known == first) {
                found.push(first.to_owned());
            }
        }
        found
    }

    /// What was not taken.
    pub(super) fn rest(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().map(|(key, _)| key.as_str()).filter(|key| !self.taken.contains(*key))
    }
}

/// A value that is one, as text; else why it is none.
pub(super) fn single(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) if text.is_empty() => Err("is empty, which means not set"),
        Value::String(text) => Ok(text.clone()),
        Value::Null => Err("is null, which means not set"),
        Value::Array(_) | Value::Object(_) => Err("is a list or a table where one value is meant"),
        value => Ok(value.to_string()),
    }
}

fn walk(value: &Value, path: String, depth: usize, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(object) if depth < DEEPEST && !object.is_empty() => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(value, path, depth + 1, leaves);
            }
        }
        Value::Array(list) if depth < DEEPEST && list.iter().any(|item| item.is_object() || item.is_array()) => {
            for (at, value) in list.iter().enumerate() {
                walk(value, format!("{path}[{at}]"), depth + 1, leaves);
            }
        }
        value => leaves.push((path, value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_a_path_and_what_is_not_taken_is_left() {
        let mut keys = Keys::of(&json!({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": "x"}, {"e": "y", "f": true}]}));
        assert_eq!(keys.below("d"), ["0", "1"]);
        assert_eq!(keys.below("a"), ["b", "c"]);
        assert_eq!(keys.below("d[1]"), ["e", "f"]);
        assert_eq!(keys.text("d[1].e").as_deref(), Some("y"));
        assert_eq!((keys.number("a.b"), keys.number("d[0].e"), keys.flag("d[1].f")), (Some(1), None, Some(true)));
        assert_eq!(keys.rest().collect::<Vec<_>>(), ["a.c", "d[0].e"], "what was no number is not taken");
    }

    #[test]
    fn two_values_under_one_path_are_two_keys() {
        let mut keys = Keys::of(&json!({"a.b": 1, "a": {"b": 2}}));
        let all = keys.rest().count();
        assert!(keys.number("a.b").is_some());
        assert_eq!((all, keys.rest().collect::<Vec<_>>()), (2, vec!["a.b (2)"]));
    }

    #[test]
    fn only_one_value_is_a_value() {
        for (value, is) in [
            (json!("x"), Some("x")),
            (json!(5), Some("5")),
            (json!(true), Some("true")),
            (json!(""), None),
            (json!(null), None),
            (json!([1]), None),
            (json!({}), None),
        ] {
            assert_eq!(single(&value).ok().as_deref(), is, "{value}");
        }
    }
}
