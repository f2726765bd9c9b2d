//! `NAME=value`: the names that every predecessor knew, one table of which is [`OLD_NAMES`].

use std::path::Path;

use super::draft::Draft;
use crate::config::fits;
use crate::config::names::{OLD_NAMES, OldName, Target};
use crate::config::schema::Node;
use crate::config::tree::Tree;

/// Why a name has no meaning here; `*` stands for any text, and the first that fits counts.
const REASONS: &[(&str, &str)] = &[
    ("TAPEDECK__*", "is ours already: leave it in the environment or in `.env`, it overrides the file"),
    ("KOTAK_*", "there is no source for Kotak Neo: docs/new-venue.md says how one is made"),
    ("PYTHON*", "nothing here runs in Python"),
    ("VIRTUAL_ENV*", "nothing here runs in Python"),
    ("COMPOSE_*", "is docker compose's own: it reads it as before"),
    ("DOCKER_*", "is Docker's own: it reads it as before"),
    ("GF_*", "is Grafana's own: it reads it as before"),
    (
        "INFLUXDB_ADMIN_*",
        "the sink's own login makes database and policies: give it the right, or let an administrator do it",
    ),
    ("*DEBUG*", "how much is logged is LOG_LEVEL, `[log] level` or -v"),
    ("TZ", "times are UTC everywhere; sessions and candles name their zone in the config"),
];
const UNKNOWN: &str = "no setting has this name";

pub(super) fn read(text: &str, draft: &mut Draft) -> anyhow::Result<()> {
    for (name, raw) in pairs(text, draft) {
        match OLD_NAMES.iter().find(|row| row.name == name) {
            Some(row) => take(row, &raw, draft),
            None => {
                let reason = REASONS.iter().find(|(pattern, _)| fits(pattern, &name)).map_or(UNKNOWN, |(_, why)| *why);
                draft.leave(&name, reason);
            }
        }
    }
    Ok(())
}

/// The names and values of a file; a line that cannot be read is left, by its number.
fn pairs(text: &str, draft: &mut Draft) -> Vec<(String, String)> {
    let text = text.trim_start_matches('\u{feff}');
    if let Ok(whole) = dotenvy::from_read_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>() {
        return whole;
    }
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        // What stands there may be a secret: only its place is told.
        match dotenvy::from_read_iter(line.as_bytes()).collect::<Result<Vec<_>, _>>() {
            Ok(pairs) => found.extend(pairs),
            Err(_) => draft.leave(&format!("line {}", at + 1), "cannot be read as NAME=value"),
        }
    }
    found
}

fn take(row: &OldName, raw: &str, draft: &mut Draft) {
    if raw.trim().is_empty() {
        return draft.leave(row.name, "is empty, which means not set");
    }
    if !is_known(row.table, row.key) {
        let reason = format!("is for {} {}, which this version does not have", row.table.describe(), row.key);
        return draft.leave(row.name, reason);
    }
    let path = match row.table {
        Target::Section(section) => section.to_owned(),
        Target::Part { section, part } => {
            draft.make(section);
            format!("{section}.{part}")
        }
        Target::Kind { stage, kind } => {
            draft.kind(stage, kind, kind);
            format!("{stage}.{kind}")
        }
    };
    let is_plain_dsn =
        row.key == "dsn" && crate::config::secret::secrets_of_urls(raw).is_empty() && !raw.contains("password");
    if row.secret && !is_plain_dsn {
        return draft.secret(&path, row.key, raw, row.name);
    }
    if row.name == "INSTRUMENTS_FILE" && !Path::new(raw).exists() {
        return draft.leave(
            row.name,
            format!("there is no file {raw} here: name it as {path}.{}, or name instruments", row.key),
        );
    }
    match row.form.read(raw) {
        Ok(value) => draft.set(&path, row.key, value, row.name),
        Err(expected) => draft.leave(row.name, format!("is not {expected}")),
    }
}

/// Whether this version has such a key.
fn is_known(table: Target, key: &str) -> bool {
    let node = match table {
        Target::Section(section) => Node::at(&Tree::default(), &[section]),
        Target::Part { section, part } => Node::at(&Tree::default(), &[section, part]),
        Target::Kind { stage, kind } => Node::kind(stage, kind),
    };
    node.and_then(|node| node.child(key)).is_some()
}
