//! The bus as a subscriber hears it: per topic count, rate, last message, what cannot be read, holes in the chain.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use tapedeck_market::UnixNanos;
use tapedeck_tape::{Item, Start};

use crate::bus::listen::{Access, Heard, Topic, listen};
use crate::bus::{Task, registry};
use crate::cli::reading;
use crate::cli::verdict::Verdict;
use crate::config::units::{about_bytes, show_duration};
use crate::config::{Bus, Config};
use crate::status::{Source, Status};

use super::market;

/// How long one listens, and from when on silence is a fault.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) time: Duration,
    pub(super) quiet: Duration,
    pub(super) names: Vec<String>,
}

/// Listens, and judges what was heard. Blocking.
pub(super) fn look(config: &Config, status: Option<&Status>, manner: &Manner) -> Vec<Verdict> {
    let Some(bus) = &config.bus else {
        return vec![Verdict::waits("bus", "the config has no [bus]", "write [bus] into the config to publish")];
    };
    let access = match access(config, bus) {
        Ok(access) => access,
        Err(error) => return vec![Verdict::bad("bus", format!("{error:#}"), "tapedeck keys")],
    };
    let host = if bus.listen.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { bus.listen };
    let wanted = |name: &str| manner.names.is_empty() || manner.names.iter().any(|wanted| wanted == name);
    let done = |heard: &Heard| {
        let expected = heard.known.keys().filter(|name| wanted(name) && flows(name).is_some());
        let mut expected = expected.peekable();
        heard.dead_ports().is_empty()
            && expected.peek().is_some()
            && expected.all(|name| heard.topics.get(name).is_some_and(|topic| topic.messages > 1))
            && manner.names.iter().all(|name| heard.topics.contains_key(name))
    };
    let heard = match listen(bus, host, access.as_ref(), manner.time, done) {
        Ok(heard) => heard,
        Err(error) => return vec![Verdict::bad("bus", format!("{error:#}"), "tapedeck ports")],
    };
    let mut verdicts = vec![of_bus(&heard, bus, status)];
    if heard.dead_ports().len() == heard.ports.len() {
        // One fault, not one a topic.
        return verdicts;
    }
    let mut names: Vec<&String> = heard.known.keys().chain(heard.topics.keys()).collect();
    names.extend(&manner.names);
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| wanted(name)) {
        match heard.topics.get(name.as_str()) {
            Some(topic) => verdicts.push(of_topic(name, topic)),
            None => verdicts.push(of_silence(name, heard.known.get(name.as_str()).copied(), config, status, manner)),
        }
    }
    verdicts
}

/// The keys of a bus that asks for them: those that lie in the deck's own folder.
fn access(config: &Config, bus: &Bus) -> anyhow::Result<Option<Access>> {
    let task = Task { dir: config.tape.dir.clone(), bus: bus.clone() };
    let Some(keys) = task.keys() else { return Ok(None) };
    let Some(own) = keys.server()? else {
        anyhow::bail!("the bus asks for keys, and there are none in {}", config.tape.dir.display())
    };
    Ok(Some(Access { server: own.public.clone(), own }))
}

fn of_bus(heard: &Heard, bus: &Bus, status: Option<&Status>) -> Verdict {
    let dead = heard.dead_ports();
    let all = heard.ports.len();
    let verdict = if dead.len() == all {
        let state = status.and_then(|status| status.services.iter().find(|service| service.name == "bus"));
        let text = match (status, state) {
            (None, _) => "nothing is published: no deck runs here".to_owned(),
            (_, Some(service)) => {
                format!("nothing is published, not even a heartbeat; the deck says: {}", service.state)
            }
            (_, None) => "nothing is published: the deck that runs has no bus".to_owned(),
        };
        let next = match status {
            None => "tapedeck up",
            Some(_) => "tapedeck logs bus; tapedeck restart bus",
        };
        Verdict::bad("bus", text, next)
    } else if dead.is_empty() {
        Verdict::good("bus", format!("{all} ports of {} with their heartbeat", bus.listen))
    } else {
        let list: Vec<String> = dead.iter().map(u16::to_string).collect();
        let text = format!("no heartbeat on {} of {all} ports: {}", dead.len(), list.join(", "));
        Verdict::bad("bus", text, "tapedeck ports says who has them")
    };
    verdict.figure("ports", all).figure("silent_ports", dead)
}

fn of_topic(name: &str, topic: &Topic) -> Verdict {
    let what = format!("topic.{name}");
    let rate = topic.rate();
    let shown = rate.map(|rate| format!(", {rate:.1}/s")).unwrap_or_default();
    let mut text = format!("{} messages{shown}, {}", topic.messages, about_bytes(topic.bytes));
    let age = topic.age().map(|age| age.as_secs_f64());
    if let Some(age) = age {
        text.push_str(&format!(", last {age:.1} s ago"));
    }
    if let Some(seq) = topic.last_seq {
        text.push_str(&format!(", last seq {seq}"));
    }
    let verdict = if topic.undecodable > 0 {
        let text = format!("{text}; {} of them cannot be read in the form that the config says", topic.undecodable);
        Verdict::bad(
            what,
            text,
            format!("tapedeck tap {name}; does something else publish on this port? tapedeck ports"),
        )
    } else if topic.holes > 0 {
        let (from, to) = topic.hole.unwrap_or_default();
        let text = format!("{text}; {} holes in the chain, the last one within seqs {from} to {to}", topic.holes);
        let next = "messages were dropped on the way: ask the bus for them (docs/bus.md), and raise [bus] high_water if it goes on";
        Verdict::bad(what, text, next)
    } else {
        Verdict::good(what, text)
    };
    let verdict = verdict.figure("messages", topic.messages).figure("rate", rate).figure("age_s", age);
    let verdict = verdict.figure("last_seq", topic.last_seq);
    verdict.figure("undecodable", topic.undecodable).figure("holes", topic.holes)
}

/// A topic on which nothing came.
fn of_silence(name: &str, seq: Option<u64>, config: &Config, status: Option<&Status>, manner: &Manner) -> Verdict {
    let what = format!("topic.{name}");
    let time = show_duration(manner.time);
    let Some(seq) = seq else {
        let text = format!("nothing in {time}, and nothing was ever published under this name");
        return Verdict::bad(what, text, "tapedeck ports lists the topics; is its source in the config?");
    };
    let age = age_of(&config.tape.dir, seq);
    let ago = age
        .map(|age| format!("the last one {} ago", people(age)))
        .unwrap_or_else(|| format!("the last one is record {seq}"));
    let text = format!("nothing in {time}; {ago}");
    let Some(venue) = flows(name) else {
        return Verdict::good(what, format!("{text} (comes when there is something to say)")).figure("last_seq", seq);
    };
    let sources: Vec<&Source> = status
        .iter()
        .flat_map(|status| &status.sources)
        .filter(|source| source.venue == venue && (source.events > 0 || !source.name.contains('/')))
        .collect();
    let silent = age.is_none_or(|age| age >= manner.quiet);
    let verdict = if let Some(source) = sources.iter().find(|source| source.state.starts_with("waiting")) {
        Verdict::waits(
            what,
            format!("{text}; source.{} is {}", source.name, source.state),
            format!("tapedeck check {}", source.name),
        )
    } else if market::is_closed(config, venue, UnixNanos::now()) {
        Verdict::waits(what, format!("{text}; the market is closed"), "")
    } else if let Some(source) = sources.iter().find(|source| source.state != "live") {
        let next = format!("tapedeck check {}; tapedeck logs {}", source.name, source.name);
        Verdict::bad(what, format!("{text}; source.{} is {}", source.name, source.state), next)
    } else if let Some(source) = sources.iter().find(|source| source.gaps_open > 0) {
        let text = format!("{text}; source.{} has {} open gaps", source.name, source.gaps_open);
        Verdict::bad(what, text, format!("tapedeck gaps --open --source {}", source.name))
    } else if silent && !may_be_quiet(name) {
        let name = sources.first().map_or(venue, |source| source.name.as_str());
        Verdict::bad(
            what,
            text,
            format!("tapedeck check {name}; tapedeck restart {name}; --silence says what is too long"),
        )
    } else {
        Verdict::warn(what, format!("{text}: quiet"), "")
    };
    verdict.figure("last_seq", seq).figure("age_s", age.map(|age| age.as_secs_f64()))
}

/// The venue whose data flows on a topic all the time; `None` where messages come when there is something to say.
fn flows(topic: &str) -> Option<&str> {
    match registry::topic_of(topic) {
        "kraken_tick" | "kr_depth" => Some("kraken"),
        "oanda_tick" => Some("oanda"),
        "kite_tick" => Some("kite"),
        "betfair_stream" => Some("betfair"),
        "twitter_sentiment" => Some("x"),
        other => other
            .strip_prefix("trade.")
            .or_else(|| other.strip_prefix("tick."))
            .or_else(|| other.strip_prefix("depth.")),
    }
}

/// Nobody can tell the silence of people, or of a race that is over, from a fault.
fn may_be_quiet(topic: &str) -> bool {
    matches!(registry::topic_of(topic), "betfair_stream" | "twitter_sentiment") || topic.starts_with("trade.")
}

/// How long ago a record was received; `None`: it cannot be read here.
fn age_of(dir: &Path, seq: u64) -> Option<Duration> {
    let mut reader = reading::reader(dir, Start::Seq(seq)).ok()?;
    match reader.next().ok()?? {
        Item::Record(record) => Some(UnixNanos::now().saturating_since(UnixNanos(record.ts_recv))),
        Item::Hole(_) => None,
    }
}

fn people(age: Duration) -> String {
    show_duration(Duration::from_secs(age.as_secs().max(1)))
}
