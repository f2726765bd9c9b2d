//! From the tree to the types, and the checks that need more than one value.

use serde::de::DeserializeOwned;
use tapedeck_market::SmolStr;
use toml::{Table, Value};

use super::load::{Note, names};
use super::problem::Problem;
use super::schema::is_plain;
use super::server::{NamedServer, Server};
use super::store::Store;
use super::suggest::nearest;
use super::tree::Tree;
use super::types::{Config, KindTable, Listen};
use super::units::ByteSize;
use crate::supervise::SHORTEST_WAIT;

/// Bounds of one file of the tape: below, files are mostly headers; above, retention removes too much at once.
const SEGMENT_MIN: ByteSize = ByteSize(1 << 20);
const SEGMENT_MAX: ByteSize = ByteSize(4 << 30);
/// A name becomes a file name and a metrics label.
const NAME_CHARS: usize = 64;
/// Names of the deck, of phases and of the supervisor's own files.
const NOT_SERVERS: [&str; 6] = ["deck", "servers", "sources", "sinks", "supervisor", "up"];

/// The typed config; a section with a problem keeps its defaults.
pub(super) fn read(tree: &Tree, problems: &mut Vec<Problem>) -> Config {
    Config {
        tape: section(tree, "tape", problems),
        log: section(tree, "log", problems),
        http: section(tree, "http", problems),
        deck: section(tree, "deck", problems),
        candles: optional(tree, "candles", problems),
        synthetic: optional(tree, "synthetic", problems),
        bus: optional(tree, "bus", problems),
        store: optional(tree, "store", problems),
        sync: raw(tree, "sync"),
        heartbeat: raw(tree, "heartbeat"),
        alerts: raw(tree, "alert"),
        grafana: raw(tree, "grafana"),
        sources: named(tree, "source", problems),
        sinks: named(tree, "sink", problems),
        servers: servers(tree, problems),
    }
}

fn section<T: DeserializeOwned + Default>(tree: &Tree, name: &str, problems: &mut Vec<Problem>) -> T {
    let Some(Value::Table(table)) = tree.get(&[name]) else { return T::default() };
    // What is already known to be wrong with it would only be said again, in worse words.
    if problems.iter().any(|problem| problem.path.first().is_some_and(|first| first == name)) {
        return T::default();
    }
    match Value::Table(table.clone()).try_into() {
        Ok(section) => section,
        Err(error) => {
            problems.push(toml_problem(tree, &[name], &error));
            T::default()
        }
    }
}

/// A section that is on when it is there, empty or not.
fn optional<T: DeserializeOwned + Default>(tree: &Tree, name: &str, problems: &mut Vec<Problem>) -> Option<T> {
    tree.get(&[name]).map(|_| section(tree, name, problems))
}

/// A section as it stands: what it says is looked at by [`check`].
fn raw(tree: &Tree, name: &str) -> Option<KindTable> {
    let table = tree.get(&[name])?.as_table()?.clone();
    Some(KindTable { name: name.into(), kind: name.into(), table })
}

fn named(tree: &Tree, stage: &str, problems: &mut Vec<Problem>) -> Vec<KindTable> {
    let mut found = Vec::new();
    for name in names(tree, stage) {
        let Some(Value::Table(table)) = tree.get(&[stage, &name]) else { continue };
        let mut table: Table = table.clone();
        let Some(Value::String(kind)) = table.remove("kind") else { continue };
        if !is_name(&name) {
            let message = format!("`{name}` is no name for a {stage}");
            problems
                .push(tree.key_problem(&[stage, &name], message).help("letters, digits, `.`, `_` and `-`, at most 64"));
        }
        found.push(KindTable { name: SmolStr::new(name), kind: kind.into(), table });
    }
    found
}

/// The tables of `[server.NAME]`.
fn servers(tree: &Tree, problems: &mut Vec<Problem>) -> Vec<NamedServer> {
    let mut found = Vec::new();
    for name in names(tree, "server") {
        let path = ["server", name.as_str()];
        if !is_name(&name) {
            let message = format!("`{name}` is no name for a server");
            problems.push(tree.key_problem(&path, message).help("letters, digits, `.`, `_` and `-`, at most 64"));
        }
        if NOT_SERVERS.contains(&name.as_str()) {
            let message = format!("`{name}` is what `tapedeck up` calls something else: choose another name");
            problems.push(tree.key_problem(&path, message));
        }
        let Some(Value::Table(table)) = tree.get(&path) else {
            problems.push(tree.value_problem(&path, "is a value, not a table").help("write `[server.NAME]`"));
            continue;
        };
        let told = |problem: &Problem| problem.path.iter().take(2).map(String::as_str).eq(path);
        if problems.iter().any(told) {
            continue;
        }
        match Value::Table(table.clone()).try_into::<Server>() {
            Ok(server) => {
                if let Some((key, words)) = server.problem() {
                    problems.push(tree.value_problem(&[path[0], path[1], key], words));
                }
                found.push(NamedServer { name: SmolStr::new(&name), server });
            }
            Err(error) => problems.push(toml_problem(tree, &path, &error)),
        }
    }
    found
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= NAME_CHARS && name.chars().all(plain) && !name.starts_with('.')
}

/// What is wrong although every value is fine by itself.
pub(super) fn check(config: &Config, tree: &Tree, notes: &mut Vec<Note>, problems: &mut Vec<Problem>) {
    let segment = config.tape.segment;
    if segment < SEGMENT_MIN || segment > SEGMENT_MAX {
        let message = format!("{segment} is outside {SEGMENT_MIN} to {SEGMENT_MAX}");
        problems.push(tree.value_problem(&["tape", "segment"], message));
    }
    if config.tape.dir.as_os_str().is_empty() {
        problems.push(tree.value_problem(&["tape", "dir"], "is empty"));
    }
    if config.deck.grace.0.is_zero() {
        problems.push(tree.value_problem(&["deck", "grace"], "must be longer than nothing"));
    }
    if config.deck.limit.0.is_zero() {
        problems.push(tree.value_problem(&["deck", "limit"], "must be longer than nothing"));
    }
    if config.deck.longest_wait.0 < SHORTEST_WAIT {
        problems.push(tree.value_problem(&["deck", "longest_wait"], "must be 250ms or more: waits begin there"));
    }
    if let Err(error) = crate::logs::parse_level(&config.log.level) {
        let help = "write error, warn, info, debug or trace";
        problems.push(tree.value_problem(&["log", "level"], error.to_string()).help(help));
    }
    let points: Vec<&KindTable> =
        config.sources.iter().filter(|source| source.kind == crate::sources::http::KIND.name).collect();
    if let Some(second) = points.get(1) {
        let message = "the deck has one way in for points, and another source of kind `http` has it";
        let help = "keep one of them: `database_tag` and `venue_tag` tell its clients apart";
        problems.push(tree.key_problem(&["source", &second.name], message).help(help));
    }
    if let (Some(first), Listen::Off) = (points.first(), config.http.listen) {
        let message = "points come in by the port of [http], and that is off";
        let help = "set `[http] listen = \"127.0.0.1:7373\"`";
        problems.push(tree.key_problem(&["source", &first.name], message).help(help));
    }
    if let (Some(_), Listen::At(door)) = (points.first(), config.http.listen) {
        refuse_own_door(config, door, tree, problems);
    }
    if let Some(candles) = &config.candles
        && let Err((key, message)) = candles.recipe()
    {
        problems.push(tree.value_problem(&["candles", key], message));
    }
    if let Some(synthetic) = &config.synthetic
        && let Err((key, message)) = synthetic.recipe()
    {
        problems.push(tree.value_problem(&["synthetic", key], message));
    }
    if let Some(bus) = &config.bus {
        check_bus(bus, tree, notes, problems);
        refuse_own_bus(config, bus, tree, problems);
    }
    if let Some((key, problem)) = config.store.as_ref().and_then(Store::problem) {
        problems.push(tree.value_problem(&["store", key], problem));
    }
    check_raw(config, tree, problems);
    check_alerts(config, tree, problems);
    if config.heartbeat.as_ref().is_some_and(|section| !section.table.contains_key("broker")) {
        let text = "[heartbeat] names no `broker`: nothing is sent".to_owned();
        notes.push(Note { warn: false, text });
    }
    if let Listen::At(addr) = config.http.listen
        && !addr.ip().is_loopback()
    {
        if config.http.insecure {
            let open =
                points.iter().any(|source| !["token", "password"].iter().any(|key| source.table.contains_key(*key)));
            let able = if open { "read, and write points" } else { "read" };
            notes.push(Note {
                warn: true,
                text: format!(
                    "[http] listens on {addr} without encryption or password: anybody who reaches it can {able}"
                ),
            });
        } else {
            let message = format!("{addr} can be reached by others, and there is neither encryption nor a password");
            let help = "listen on 127.0.0.1, or say `insecure = true` in [http] if you trust everybody on that network";
            problems.push(tree.value_problem(&["http", "listen"], message).help(help));
        }
    }
}

/// Sections whose parts own them.
fn check_raw(config: &Config, tree: &Tree, problems: &mut Vec<Problem>) {
    // What is already known to be wrong with it would only be said again, in worse words.
    let told = |problems: &[Problem], name: &str| {
        problems.iter().any(|problem| problem.path.first().is_some_and(|first| first == name))
    };
    if let (Some(sync), false) = (&config.sync, told(problems, "sync"))
        && let Err(error) = crate::sync::config::Config::from_table(sync.table.clone())
    {
        problems.push(tree.key_problem(&["sync"], format!("{error:#}")));
    }
    if let (Some(section), false) = (&config.heartbeat, told(problems, "heartbeat"))
        && let Err(error) = crate::heartbeat::Config::from_table(section.table.clone())
    {
        problems.push(table_problem(tree, &["heartbeat"], &error));
    }
    if let (Some(section), false) = (&config.grafana, told(problems, "grafana"))
        && let Err(error) = crate::grafana::Config::from_table(section.table.clone())
    {
        problems.push(table_problem(tree, &["grafana"], &error));
    }
}

/// Rules that are wrong by themselves, and those that mean somebody whom the config does not have.
fn check_alerts(config: &Config, tree: &Tree, problems: &mut Vec<Problem>) {
    let Some(section) = &config.alerts else { return };
    if section.table.len() > crate::alerts::RULES {
        let message = format!("more than {} rules: one may be for all sources or sinks at once", crate::alerts::RULES);
        problems.push(tree.key_problem(&["alert"], message));
    }
    let sources: Vec<&str> = config.sources.iter().map(|one| one.name.as_str()).collect();
    let sinks: Vec<&str> = config.sinks.iter().map(|one| one.name.as_str()).chain(["sync"]).collect();
    let services = crate::service::SERVICES.iter().map(|kind| kind.name);
    let servers = config.servers.iter().map(|one| one.name.as_str());
    let services: Vec<&str> = services.chain(sinks.iter().copied()).chain(servers).collect();
    for (name, table) in &section.table {
        let path = ["alert", name.as_str()];
        if !is_name(name) {
            let message = format!("`{name}` is no name for an alert");
            problems.push(tree.key_problem(&path, message).help("letters, digits, `.`, `_` and `-`, at most 64"));
        }
        let Some(table) = table.as_table() else {
            problems.push(tree.value_problem(&path, "is a value, not a table").help("write `[alert.NAME]`"));
            continue;
        };
        let told = |problem: &Problem| problem.path.iter().take(2).map(String::as_str).eq(path);
        if problems.iter().any(told) {
            continue;
        }
        let rule = match crate::alerts::Rule::from_table(table.clone()) {
            Ok(rule) => rule,
            Err(error) => {
                problems.push(table_problem(tree, &path, &error));
                continue;
            }
        };
        if rule.service.as_deref() == Some(crate::up::DECK) && !services.contains(&crate::up::DECK) {
            let message = "never fires: it is the deck that looks at the rules, while it runs";
            let help = "a dead deck is told by the last will of `[heartbeat]` (`offline`), and by Prometheus' own `up`: \
                        `TapedeckDown` in deploy/prometheus/tapedeck.rules.yml";
            problems.push(tree.value_problem(&["alert", name, "service"], message).help(help));
            continue;
        }
        for (key, meant, known) in
            [("source", &rule.source, &sources), ("sink", &rule.sink, &sinks), ("service", &rule.service, &services)]
        {
            let Some(meant) = meant.as_deref().filter(|meant| !known.contains(meant)) else { continue };
            let help = match nearest(meant, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", known.join(", ")),
            };
            problems.push(tree.value_problem(&["alert", name, key], format!("there is no {key} `{meant}`")).help(help));
        }
    }
}

/// A sink that would deliver to the deck's own way in for points, which would record them to be delivered again.
fn refuse_own_door(config: &Config, door: std::net::SocketAddr, tree: &Tree, problems: &mut Vec<Problem>) {
    for sink in config.sinks.iter().filter(|sink| sink.kind == "influx") {
        let Some(url) = crate::sinks::address_of(sink) else { continue };
        let ip: Option<std::net::IpAddr> = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        let here = url.host_str() == Some("localhost") || ip.is_some_and(|ip| ip.is_loopback() || ip == door.ip());
        if here && url.port_or_known_default() == Some(door.port()) {
            let message = format!("{url} is the deck's own way in for points");
            let help = "name the InfluxDB itself, or give the deck another port: `[http] listen`";
            problems.push(tree.key_problem(&["sink", &sink.name], message).help(help));
        }
    }
}

/// A source that would record what this deck publishes, which the deck would publish again.
fn refuse_own_bus(config: &Config, bus: &super::Bus, tree: &Tree, problems: &mut Vec<Problem>) {
    let layout = crate::bus::registry::layout(bus);
    for source in config.sources.iter().filter(|source| source.kind == "zmq") {
        let connect = source.table.get("connect").and_then(Value::as_array).into_iter().flatten();
        for address in connect.filter_map(Value::as_str) {
            let Some((host, port)) = crate::sources::zmq::config::host_and_port(address) else { continue };
            let ip: Option<std::net::IpAddr> = host.parse().ok();
            let here = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback() || ip == bus.listen);
            let Some(topics) = layout.get(&port).filter(|_| here) else { continue };
            let message = format!("{address} is the bus of this very deck ({})", topics.join(", "));
            let help = "take it out, or move the bus out of the way of another publisher: `[bus] port_offset`";
            problems.push(tree.value_problem(&["source", &source.name, "connect"], message).help(help));
        }
    }
}

fn check_bus(bus: &super::Bus, tree: &Tree, notes: &mut Vec<Note>, problems: &mut Vec<Problem>) {
    for (below, message, help) in crate::bus::registry::problems(bus) {
        let path: Vec<&str> = std::iter::once("bus").chain(below.iter().map(String::as_str)).collect();
        problems.push(tree.value_problem(&path, message).help(help));
    }
    if !bus.listen.is_loopback() && bus.insecure {
        let text =
            format!("[bus] listens on {} without keys or encryption: anybody who reaches it can read", bus.listen);
        notes.push(Note { warn: true, text });
    }
}

/// What a kind said about its table, with the place of the key it was about.
pub(super) fn table_problem(tree: &Tree, table: &[&str], error: &anyhow::Error) -> Problem {
    if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<toml::de::Error>()) {
        return toml_problem(tree, table, error);
    }
    let text = format!("{error:#}");
    // Kinds begin with the key they mean, or name it in backquotes.
    let first = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
    let named = first.into_iter().chain(text.split('`').skip(1).step_by(2)).map(|word| {
        let path: Vec<&str> = table.iter().copied().chain([word]).collect();
        (tree.own_origin(&path).is_some(), word)
    });
    match named.into_iter().find(|(known, _)| *known) {
        Some((_, key)) => {
            let path: Vec<&str> = table.iter().copied().chain([key]).collect();
            let rest = text.strip_prefix(key).map(|rest| rest.trim_start_matches([':', ' ']).to_owned());
            tree.value_problem(&path, rest.unwrap_or_else(|| text.clone()))
        }
        None => tree.key_problem(table, text),
    }
}

fn toml_problem(tree: &Tree, table: &[&str], error: &toml::de::Error) -> Problem {
    let printed = error.to_string();
    // The error knows the key but says it only in its text, as a last line: in `a.b`
    let inner = printed.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).unwrap_or("");
    let path: Vec<&str> = table.iter().copied().chain(inner.split('.').filter(|key| !key.is_empty())).collect();
    let known = tree.own_origin(&path).is_some() && !inner.is_empty();
    let message =
        if known && is_plain(tree, &path) { error.message().to_owned() } else { without_value(error.message()) };
    tree.value_problem(&path, message)
}

/// `invalid type: string "hunter2", expected a list` without what may be a secret.
fn without_value(message: &str) -> String {
    let tells_value =
        ["invalid type", "invalid value", "unknown variant"].iter().any(|begin| message.starts_with(begin));
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if tells_value => format!("is not what is expected here: {expected}"),
        _ if tells_value => "is not what is expected here".to_owned(),
        _ => message.to_owned(),
    }
}
