//! Settings of the sync from QuestDB to PocketBase: JSON, YAML, or the constants and attributes of its Python file.

use std::path::Path;

use serde_json::Value;

use super::draft::Draft;
use super::keys::{self, Keys};
use crate::config::names::Form;
use crate::config::units::show_duration;

/// How a value of theirs is read.
#[derive(Clone, Copy, Debug)]
enum How {
    As(Form),
    /// Seconds, also with a point.
    Seconds,
    Secret,
}

/// Their key in small letters, the table, our key, how.
const KEYS: &[(&str, &str, &str, How)] = &[
    ("questdb_path", "sync.source", "url", How::As(Form::SqliteFile)),
    ("pocketbase_url", "sync.target", "url", How::As(Form::Text)),
    ("admin_email", "sync.target", "email", How::As(Form::Text)),
    ("pocketbase_admin_email", "sync.target", "email", How::As(Form::Text)),
    ("admin_password", "sync.target", "password", How::Secret),
    ("pocketbase_admin_password", "sync.target", "password", How::Secret),
    ("batch_size", "sync", "batch", How::As(Form::Number)),
    ("max_retries", "sync", "retries", How::As(Form::Number)),
    ("retry_delay", "sync", "retry", How::Seconds),
    ("max_concurrent_transfers", "sync", "concurrency", How::As(Form::Number)),
    ("poll_interval", "sync", "poll", How::Seconds),
];

fn row(name: &str) -> Option<&'static (&'static str, &'static str, &'static str, How)> {
    // `sync_service.batch_size = 2000`, `self.batch_size = 1000`
    let bare = name.rsplit('.').next().unwrap_or(name).trim().to_ascii_lowercase();
    KEYS.iter().find(|(theirs, ..)| *theirs == bare)
}

/// Whether a name of a Python file is one of the sync's.
pub(super) fn knows(name: &str) -> bool {
    row(name).is_some()
}

/// Whether a key can only be the sync's.
pub(super) fn tells(key: &str) -> bool {
    row(key).is_some_and(|(theirs, ..)| {
        theirs.contains("questdb") || theirs.contains("pocketbase") || theirs.starts_with("admin_")
    })
}

pub(super) fn read(path: &Path, text: &str, draft: &mut Draft) -> anyhow::Result<()> {
    let mut keys = match keys::value_of(path, text) {
        Some(value) => Keys::of(&value),
        None => Keys::of_pairs(assignments(text)),
    };
    let all: Vec<String> = keys.rest().map(str::to_owned).collect();
    anyhow::ensure!(all.iter().any(|key| knows(key)), "it holds none of the sync's settings, such as QUESTDB_PATH");
    draft.make("sync");
    for name in all {
        let Some((_, table, key, how)) = row(&name) else {
            draft.leave(&name, reason(&name));
            continue;
        };
        let Some(value) = keys.take(&name) else { continue };
        let raw = match &value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let read = match how {
            How::Secret => {
                draft.secret(table, key, &raw, &name);
                continue;
            }
            How::As(form) => form.read(&raw),
            How::Seconds => seconds(&raw).ok_or("a number of seconds"),
        };
        match read {
            Ok(value) => draft.set(table, key, value, &name),
            Err(expected) => draft.leave(&name, format!("is not {expected}")),
        }
    }
    Ok(())
}

fn seconds(raw: &str) -> Option<toml::Value> {
    let wait = std::time::Duration::try_from_secs_f64(raw.trim().parse().ok()?).ok()?;
    Some(show_duration(wait).into())
}

fn reason(key: &str) -> &'static str {
    let key = key.to_ascii_lowercase();
    if key.contains("compan") || key.contains("sector") {
        "names of companies come from a CSV file: `company_name = { from = \"symbol\", lookup = \"companies.csv\", take = \"name\" }`"
    } else if key.contains("log") {
        "logs are [log]: 10 MB a file, five old ones kept"
    } else if key.contains("smtp") || key.contains("alert") || key.contains("email") {
        "no mail is sent: alerts go by webhook or command"
    } else if key.contains("table") || key.contains("collection") {
        "tables are [sync.table.NAME], with the predecessor's four as presets"
    } else {
        "no setting of the sync has this name"
    }
}

/// `NAME = literal` of a Python file, at any depth: `QUESTDB_PATH = "x.db"`, `self.batch_size = 1000  # words`.
fn assignments(text: &str) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        // A default of a parameter has its type in between: `poll_interval: int = 60`.
        let name = name.split(':').next().unwrap_or_default().trim();
        if !knows(name) || found.iter().any(|(known, _)| known == name) {
            continue;
        }
        if let Some(value) = literal(value.trim()) {
            found.push((name.to_owned(), value));
        }
    }
    found
}

/// A text in quotes or a number at the beginning of a line.
fn literal(text: &str) -> Option<Value> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner = &text[1..];
        return inner.split_once(quote).map(|(inner, _)| inner.into());
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: serde_json::Number = text[..end].parse().ok()?;
    Some(Value::Number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_attributes_of_a_python_file_are_found() {
        let text = "QUESTDB_PATH = \"/x/y.db\"  # there\nPOCKETBASE_URL='http://h:1'\n    self.batch_size = 2000\n\
                    self.retry_delay = 0.5\ndef f(poll_interval: int = 60):\nmax_retries = many\nother = 5\n";
        let found = assignments(text);
        let shown: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            [
                "QUESTDB_PATH=\"/x/y.db\"",
                "POCKETBASE_URL=\"http://h:1\"",
                "self.batch_size=2000",
                "self.retry_delay=0.5"
            ]
        );
        assert_eq!(seconds("0.5").map(|value| value.to_string()).as_deref(), Some("\"500ms\""));
        assert!(seconds("-1").is_none() && seconds("soon").is_none());
    }
}
