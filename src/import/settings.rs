//! Settings of an InfluxDB as the database services read them: JSON, or YAML below `influxdb`.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::draft::Draft;
use super::keys::{self, Keys};
use crate::config::names::Form;

const SINK: &str = "sink.influx";

/// Their key, ours, and how it is written; a password has no form.
pub(super) const KEYS: &[(&str, &str, Option<Form>)] = &[
    ("host", "host", Some(Form::Text)),
    ("port", "port", Some(Form::Number)),
    ("username", "username", Some(Form::Text)),
    ("user", "username", Some(Form::Text)),
    ("password", "password", None),
    ("database", "database", Some(Form::Text)),
    ("ssl", "tls", Some(Form::Flag)),
    ("verify_ssl", "verify_tls", Some(Form::Flag)),
    ("timeout", "timeout", Some(Form::Seconds)),
    ("batch_size", "batch", Some(Form::Number)),
    ("write_consistency", "consistency", Some(Form::Text)),
    ("consistency", "consistency", Some(Form::Text)),
    ("retention_policy", "retention_policy", Some(Form::Text)),
];

pub(super) fn read(path: &Path, text: &str, draft: &mut Draft) -> anyhow::Result<()> {
    let value = keys::value_of(path, text).context("it is neither JSON nor YAML")?;
    anyhow::ensure!(value.is_object(), "it is no table of settings");
    let below = if value.get("influxdb").is_some_and(Value::is_object) { "influxdb." } else { "" };
    let mut keys = Keys::of(&value);
    draft.kind("sink", "influx", "influx");
    for (theirs, ours, form) in KEYS {
        take(&mut keys, &format!("{below}{theirs}"), ours, *form, draft);
    }
    let rest: Vec<String> = keys.rest().map(str::to_owned).collect();
    for key in rest {
        let reason = match key.strip_prefix(below).and_then(|key| key.split(['.', '[']).next()) {
            Some("services" | "tick" | "ohlc" | "depth" | "sentiment" | "orders") if key.contains('.') => {
                "all services write to one database by one sink; a further [sink.NAME] with `events` and `database` sends some elsewhere"
            }
            Some("precision" | "time_precision") => "times are written to the nanosecond",
            Some("pool_size" | "max_connections") => "one connection is enough: what waits, waits on the tape",
            Some("retries" | "max_retries" | "retry_delay") => {
                "a store that is away is tried for ever, with growing waits; the tape keeps what it missed"
            }
            _ => "no setting of an InfluxDB has this name",
        };
        draft.leave(&key, reason);
    }
    Ok(())
}

/// Takes a key of their InfluxDB settings, if it is there.
pub(super) fn take(keys: &mut Keys, theirs: &str, ours: &str, form: Option<Form>, draft: &mut Draft) {
    let Some(value) = keys.take(theirs) else { return };
    let raw = match keys::single(&value) {
        Ok(raw) => raw,
        Err(reason) => return draft.leave(theirs, reason),
    };
    let Some(form) = form else { return draft.secret(SINK, ours, &raw, theirs) };
    match form.read(&raw) {
        Ok(value) => draft.set(SINK, ours, value, theirs),
        Err(expected) => draft.leave(theirs, format!("is not {expected}")),
    }
}
