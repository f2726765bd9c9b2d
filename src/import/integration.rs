//! `integration_config.json`: the central file of the integrated system, with two publishers and two subscribers or five
//! and three.

use std::path::Path;

use anyhow::Context as _;
use toml::Value;

use super::draft::Draft;
use super::keys::{self, Keys};
use super::settings;
use crate::bus::registry;
use crate::config::Bus;
use crate::config::fits;

/// What a topic of theirs is made of here: topic, kind of source, channels.
const TOPICS: &[(&str, &str, &[&str])] = &[
    ("kraken_tick", "kraken", &["ticker", "trade"]),
    ("kr_depth", "kraken", &["book"]),
    ("kraken_orders", "kraken", &["executions"]),
    ("oanda_tick", "oanda", &["quote"]),
    ("oanda_orders", "oanda", &["transactions"]),
    ("betfair_stream", "betfair", &["odds"]),
    ("twitter_sentiment", "x", &[]),
    ("kite_tick", "kite", &["ticker", "quote"]),
    ("kr_eurusd_tick", "kraken", &["ticker", "trade"]),
    ("kr_eurusd_depth", "kraken", &["book"]),
];

/// The measurements that an `influx` sink writes by itself.
const MEASUREMENTS: [&str; 6] =
    ["kraken_tick", "kraken_depth", "kraken_orders", "oanda_tick", "betfair_stream", "twitter_sentiment"];

/// Why a key has no meaning here; `*` stands for any text, and the first that fits counts.
const REASONS: &[(&str, &str)] = &[
    ("system.name", "is a name and nothing else: no code read it"),
    ("system.version", "is a name and nothing else: no code read it"),
    ("system.pid_dir", "the process table lies in the tape's folder, for every shell to read: `tapedeck status`"),
    ("system.socket_dir", "the control socket lies in the tape's folder"),
    ("docker.services.*.container_name", "is the compose file's to say"),
    ("docker.services.*.image", "is the compose file's to say"),
    ("docker.services.*.port", "is said by `ready` of the server, and by the sink"),
    (
        "docker.services.*provisioning",
        "data source and dashboards are made by `tapedeck grafana`, which needs no files of yours",
    ),
    (
        "docker.services.grafana.admin_*",
        "is Grafana's own login: `tapedeck grafana` is given it when it is asked to work",
    ),
    ("docker.*", "the compose file says it"),
    (
        "influxdb.admin_*",
        "the sink's own login makes database and policies: give it the right, or let an administrator run `tapedeck retention create`",
    ),
    ("influxdb.*", "no setting of an InfluxDB has this name"),
    ("publishers*.module", "is Python code, which does not run here"),
    ("publishers*.class", "is Python code, which does not run here"),
    ("subscribers*.module", "is Python code, which does not run here"),
    ("subscribers*.class", "is Python code, which does not run here"),
    ("subscribers*.port", "a subscriber listens on no port; nothing ever did there (`tapedeck ports` keeps it free)"),
    ("*.description", "is a description and nothing else"),
    ("publishers*", "belongs to a publisher that nothing here stands for"),
    (
        "startup_sequence.*wait_seconds",
        "no phase waits for a number of seconds: it waits until the one before is ready",
    ),
    (
        "startup_sequence.*",
        "the order follows from what needs what, and is fixed: servers, retention, sources, sinks, Grafana, validation (no code read this)",
    ),
    ("validation.message_timeout", "is how long one looks: `tapedeck validate zmq --for 10s`"),
    (
        "validation.*",
        "`tapedeck validate` takes from this config what there has to be: topics, sinks, dashboards (no code read this)",
    ),
    ("urls.*", "follows from host and port of each part: `tapedeck up` prints them (no code read this)"),
    ("graceful_shutdown.signal_handlers", "SIGINT and SIGTERM end a deck in order, always"),
    (
        "graceful_shutdown.stop_sequence",
        "the order of the stop is that of the data, and fixed: sources first, so that nothing that was recorded stays undelivered",
    ),
    ("*", "no setting has this name"),
];

pub(super) fn read(text: &str, draft: &mut Draft) -> anyhow::Result<()> {
    let value = keys::value_of(Path::new("integration.json"), text).context("it is no JSON")?;
    let mut keys = Keys::of(&value);
    let keys = &mut keys;
    publishers(keys, draft);
    influx(keys, draft);
    subscribers(keys, draft);
    system(keys, draft);
    docker(keys, draft);
    if let Some(seconds) = keys.number("graceful_shutdown.timeout_seconds") {
        draft.set("deck", "grace", format!("{seconds}s"), "graceful_shutdown.timeout_seconds");
    }
    let rest: Vec<String> = keys.rest().map(str::to_owned).collect();
    for key in rest {
        let reason = REASONS.iter().find(|(pattern, _)| fits(pattern, &key)).map_or("", |(_, why)| *why);
        draft.leave(&key, reason);
    }
    Ok(())
}

/// Each publisher is a part of a source, and a topic of the bus.
fn publishers(keys: &mut Keys, draft: &mut Draft) {
    let mut channels: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut orders = false;
    for at in keys.below("publishers") {
        let key = |name: &str| format!("publishers[{at}].{name}");
        let name = keys.text(&key("name")).unwrap_or_default();
        let topic = keys.text(&key("topic")).unwrap_or_else(|| name.clone());
        let known = [topic.as_str(), name.as_str()]
            .into_iter()
            .find_map(|said| TOPICS.iter().find(|(known, ..)| *known == registry::topic_of(said)));
        let Some((ours, kind, wanted)) = known else {
            draft.leave(
                &key("name"),
                format!("no source here publishes `{topic}`: a publisher of your own is read by `kind = \"zmq\"`"),
            );
            draft.leave(&key("topic"), "see its name");
            continue;
        };
        draft.make("bus");
        let path = format!("bus.topics.{ours}");
        if keys.flag(&key("enabled")) == Some(false) {
            draft.set(&path, "enabled", false, &key("enabled"));
            for part in ["name", "topic"] {
                if keys.take(&key(part)).is_some() {
                    draft.took(&key(part), &path, "");
                }
            }
            continue;
        }
        if keys.take(&key("enabled")).is_some_and(|value| !value.is_boolean()) {
            draft.leave(&key("enabled"), "is neither true nor false: the publisher counts as enabled");
        } else if keys.flag(&key("enabled")).is_some() {
            draft.took(&key("enabled"), &format!("source.{kind}"), "");
        }
        for part in ["name", "topic"] {
            if keys.take(&key(part)).is_some() {
                draft.took(&key(part), &format!("source.{kind}"), "");
            }
        }
        if topic != *ours {
            draft.comment("bus", &format!("`{topic}` is published beside `{ours}`, its own name."));
            draft.default("bus", "aliases", true, "");
        }
        if let Some(port) = keys.number(&key("port")) {
            let usual = registry::ports_of(&Bus::default(), ours);
            if usual.iter().any(|usual| i64::from(*usual) == port) {
                draft.took(&key("port"), &path, "");
            } else {
                draft.set(&path, "port", port, &key("port"));
            }
        }
        orders |= wanted.contains(&"executions");
        if ours.starts_with("kr_eurusd") {
            draft.make("synthetic");
            draft.comment("synthetic", "EUR/USD through every coin that is recorded in both currencies.");
        }
        match channels.iter_mut().find(|(known, _)| known == kind) {
            Some((_, of)) => {
                of.extend(wanted.iter().filter(|channel| !of.contains(channel)).copied().collect::<Vec<_>>())
            }
            None => channels.push((kind, wanted.to_vec())),
        }
    }
    for (kind, of) in channels {
        draft.source(kind);
        let path = format!("source.{kind}");
        if kind == "kraken" && orders {
            draft.comment(
                &path,
                "`executions` are own orders: they wait for KRAKEN_API_KEY and KRAKEN_API_SECRET, the rest does not.",
            );
        }
        if let Some(words) = credentials(kind) {
            draft.comment(&path, words);
        }
        if !of.is_empty() {
            let list: Vec<Value> = of.into_iter().map(Value::from).collect();
            draft.default(&path, "channels", list, "");
        }
    }
}

/// What a source waits for, which their file does not have.
fn credentials(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "oanda" => "Waits for OANDA_ACCESS_TOKEN and OANDA_ACCOUNT_ID; all else runs without.",
        "betfair" => "Waits for BETFAIR_APP_KEY, BETFAIR_USERNAME and BETFAIR_PASSWORD; all else runs without.",
        "x" => "Waits for X_BEARER_TOKEN; all else runs without.",
        "kite" => "Waits for KITE_API_KEY and KITE_ACCESS_TOKEN (`tapedeck login kite`); all else runs without.",
        _ => return None,
    })
}

fn influx(keys: &mut Keys, draft: &mut Draft) {
    if keys.below("influxdb").is_empty() {
        return;
    }
    draft.kind("sink", "influx", "influx");
    for (theirs, ours, form) in settings::KEYS {
        settings::take(keys, &format!("influxdb.{theirs}"), ours, *form, draft);
    }
    for name in keys.below("influxdb.retention_policies") {
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !plain {
            continue;
        }
        let from = |key: &str| format!("influxdb.retention_policies.{name}.{key}");
        let path = format!("sink.influx.policies.{name}");
        for (theirs, ours) in [("duration", "duration"), ("shard_duration", "shard")] {
            if let Some(text) = keys.text(&from(theirs)) {
                // Their word for ever.
                let text = if text.eq_ignore_ascii_case("inf") { "0s".to_owned() } else { text };
                draft.set(&path, ours, text, &from(theirs));
            }
        }
        if let Some(copies) = keys.number(&from("replication")) {
            draft.set(&path, "replication", copies, &from("replication"));
        }
        let events: &[&str] = match name.as_str() {
            "default" => &["quote", "ticker", "trade", "odds", "synthetic"],
            "high_frequency" => &["book"],
            "long_term" => &["candle"],
            _ => &[],
        };
        if !events.is_empty() {
            let list: Vec<Value> = events.iter().map(|event| Value::from(*event)).collect();
            draft.default(&path, "events", list, "What goes there; theirs got nothing but `default`.");
        }
        if let Some(default) = keys.flag(&from("default")) {
            draft.set(&path, "default", default, &from("default"));
        }
    }
    for name in keys.below("influxdb.measurements") {
        let of = |part: &str| format!("influxdb.measurements.{name}.{part}");
        let known = MEASUREMENTS.contains(&name.as_str());
        for part in ["fields", "tags"] {
            if keys.take(&of(part)).is_none() {
                continue;
            }
            if known {
                draft.took(&of(part), "sink.influx", "");
            } else {
                draft.leave(
                    &of(part),
                    "no venue here writes this measurement: a point of that name does (docs/points.md)",
                );
            }
        }
    }
}

/// Each subscriber is the sink, which reads the tape in place of a socket.
fn subscribers(keys: &mut Keys, draft: &mut Draft) {
    for at in keys.below("subscribers") {
        let key = |name: &str| format!("subscribers[{at}].{name}");
        let enabled = keys.flag(&key("enabled"));
        let measurement = keys.text(&key("influxdb_measurement")).or_else(|| keys.text(&key("subscribe_to")));
        if enabled == Some(false) {
            draft.leave(&key("enabled"), "is off: what it would have stored is stored all the same; `events` and `sources` of the sink leave things out");
        } else if enabled.is_some() {
            draft.took(&key("enabled"), "sink.influx", "");
        }
        if measurement.is_some() {
            draft.kind("sink", "influx", "influx");
        }
        for name in ["name", "subscribe_to", "influxdb_measurement"] {
            if keys.take(&key(name)).is_some() {
                draft.took(&key(name), "sink.influx", "");
            }
        }
        let host = keys.text(&key("publisher_host")).unwrap_or_default();
        let port = keys.number(&key("publisher_port")).map_or_else(|| "PORT".to_owned(), |port| port.to_string());
        let reason = if matches!(host.as_str(), "" | "localhost" | "127.0.0.1" | "::1") {
            "the sink reads the tape, not a socket: nothing is lost on the way".to_owned()
        } else {
            format!(
                "that publisher is on another machine: to record it here, too, add [source.NAME] with `kind = \"zmq\"` and \
                 `connect = [\"tcp://{host}:{port}\"]`"
            )
        };
        for name in ["publisher_host", "publisher_port"] {
            if keys.take(&key(name)).is_some() {
                draft.leave(&key(name), reason.clone());
            }
        }
    }
}

fn system(keys: &mut Keys, draft: &mut Draft) {
    if let Some(dir) = keys.text("system.log_dir") {
        draft.set("log", "dir", dir, "system.log_dir");
        draft.default("log", "per_service", true, "A file for each service, as before.");
    }
    if let Some(host) = keys.text("system.localhost") {
        match crate::config::names::Form::Address.read(&host) {
            Ok(value) => draft.set("bus", "listen", value, "system.localhost"),
            Err(expected) => draft.leave("system.localhost", format!("is not {expected}")),
        }
    }
}

/// External processes. Without the compose file beside us they are somebody else's, and only shown.
fn docker(keys: &mut Keys, draft: &mut Draft) {
    let compose = keys.text("docker.compose_file");
    let is_here = compose.as_ref().is_some_and(|file| Path::new(file).is_file());
    let mut composed = false;
    for name in keys.below("docker.services") {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !plain {
            continue;
        }
        let from = |key: &str| format!("docker.services.{name}.{key}");
        let path = format!("server.{name}");
        if let Some(compose) = &compose {
            draft.set(&path, "compose", compose.as_str(), "docker.compose_file");
        }
        composed |= compose.is_some();
        if let Some(url) = keys.text(&from("health_check_url")) {
            draft.set(&path, "ready", format!("http {url}"), &from("health_check_url"));
        }
        if let Some(seconds) = keys.number(&from("wait_timeout")) {
            draft.set(&path, "limit", format!("{seconds}s"), &from("wait_timeout"));
        }
        if !is_here {
            let file = compose.as_deref().unwrap_or("docker-compose.yml");
            let why = format!(
                "There is no {file} here: whoever runs this server goes on doing so. With the file, take the `#`s away, and \
                 `tapedeck up` starts it, waits for it and ends it."
            );
            draft.switch_off(&path, &why);
        }
    }
    if compose.is_some() && !composed {
        draft.leave("docker.compose_file", "no service of it is named below `docker.services`");
    }
    grafana(keys, draft);
}

fn grafana(keys: &mut Keys, draft: &mut Draft) {
    let Some(url) = keys.text("urls.grafana_ui") else { return };
    draft.set("grafana", "url", url, "urls.grafana_ui");
    draft.default(
        "grafana",
        "to",
        "api",
        "Over HTTP, as before; \"files\" writes a folder that Grafana reads at its start.",
    );
    if let Some(user) = keys.text("docker.services.grafana.admin_user") {
        draft.set("grafana", "username", user, "docker.services.grafana.admin_user");
    }
    if let Some(password) = keys.text("docker.services.grafana.admin_password") {
        draft.secret("grafana", "password", &password, "docker.services.grafana.admin_password");
    }
}
