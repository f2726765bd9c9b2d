//! `[source.NAME]` with `kind = "zmq"`, and how a topic of one's own becomes an event.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use super::value::Unit;
use crate::config::Secret;

/// Bytes of a key in ZeroMQ's text form.
const KEY_CHARS: usize = 40;
/// Messages that may wait at libzmq while the recorder is behind.
const HIGH_WATER: u32 = 100_000;
const ENDPOINTS: usize = 64;

/// `[source.NAME]` with `kind = "zmq"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses of publishers, e.g. `["tcp://127.0.0.1:5558"]`: each is connected, and connected again. No default.
    pub connect: Vec<String>,
    /// What to subscribe: a list of topics (`["kraken_tick", "oanda_tick"]`), or a table `[source.NAME.topics.TOPIC]`
    /// for each, which says how topics that tapedeck does not know are read. Default: everything.
    #[serde(default)]
    pub topics: Topics,
    /// What becomes of a map on a topic that is neither known nor described: `point` or `reject`. Default: `point`.
    #[serde(default)]
    pub unknown: Unknown,
    /// Venue of points and of what says none itself. Default: `zmq`.
    #[serde(default = "venue")]
    pub venue: String,
    /// Messages that may wait before they are lost at the publisher. Default: 100000.
    #[serde(default = "high_water")]
    pub high_water: u32,
    /// Public key of the publishers (40 characters), where they encrypt with CURVE. Default: none.
    #[serde(default)]
    pub server_key: Option<String>,
    /// Public key of this source, where the publishers admit only known ones. Default: made at start.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Its secret key. Default: made at start.
    #[serde(default)]
    pub secret_key: Option<Secret>,
}

/// A list, or a table of descriptions.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Topics {
    List(Vec<String>),
    Table(BTreeMap<String, Mapping>),
}

impl Default for Topics {
    fn default() -> Self {
        Topics::List(Vec::new())
    }
}

/// What becomes of a topic that nobody described.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Unknown {
    #[default]
    Point,
    Reject,
}

/// `[source.NAME.topics.TOPIC]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Mapping {
    /// What the message becomes: `point`, `quote`, `trade`, `ticker`, or `skip`. Default: what the topic is known
    /// to carry, else `point`.
    pub body: Option<BodyName>,
    /// Venue of the events. Default: that of the source.
    pub venue: Option<String>,
    /// Name of the point. Default: the topic.
    pub name: Option<String>,
    /// Names of the fields of a text or a list, in order; `""` leaves one out. Default: none.
    pub columns: Vec<String>,
    /// What separates the fields of a text. Default: the character 0x01.
    pub separator: Option<char>,
    /// New names of fields: `bid = "b"` takes the field `b` as `bid`. Default: names stay.
    pub fields: BTreeMap<String, String>,
    /// Types of fields of a point: `int`, `decimal`, `float`, `bool`, `text`. Default: as they came.
    pub types: BTreeMap<String, Type>,
    /// Fields that become tags of the point. Default: the symbol's.
    pub tags: Vec<String>,
    /// Fields with a fixed value, where the message has none of that name. Default: none.
    pub constants: BTreeMap<String, Constant>,
    /// Fields to leave out. Default: none.
    pub skip: Vec<String>,
    /// Field with the venue's time. Default: `timestamp`, `time` or `ts`, where it is one.
    pub time: Option<String>,
    /// Unit of a time that is a number: `s`, `ms`, `us`, `ns`, or `auto`, by its size. Default: `auto`.
    pub time_unit: Unit,
    /// Field with the symbol. Default: `instrument`, `symbol` or `pair`.
    pub symbol: Option<String>,
}

/// What a message becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum BodyName {
    Point,
    Quote,
    Trade,
    Ticker,
    Skip,
}

/// A fixed value.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Constant {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// Type of a field of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Type {
    Int,
    Decimal,
    Float,
    Bool,
    Text,
}

fn venue() -> String {
    "zmq".to_owned()
}

fn high_water() -> u32 {
    HIGH_WATER
}

impl Config {
    /// Reads the table and checks what a type cannot say.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        ensure!(!config.connect.is_empty(), "connect is empty: name at least one publisher, `tcp://HOST:PORT`");
        ensure!(config.connect.len() <= ENDPOINTS, "connect names more than {ENDPOINTS} publishers");
        for address in &config.connect {
            check_address(address)?;
        }
        for topic in config.names() {
            let fits = !topic.is_empty() && topic.len() <= 256 && !topic.contains(|c: char| c.is_control() || c == ' ');
            ensure!(fits, "topics: `{topic}` is no topic; leave `topics` out for everything");
        }
        ensure!(config.high_water > 0, "high_water is 0, which would let messages pile up without end");
        ensure!(!config.venue.is_empty() && config.venue.len() <= 64, "venue is empty or too long");
        for (name, key) in [("server_key", &config.server_key), ("public_key", &config.public_key)] {
            if let Some(key) = key {
                ensure!(key.len() == KEY_CHARS, "{name} has {} characters, a key has {KEY_CHARS}", key.len());
            }
        }
        if let Some(key) = &config.secret_key {
            ensure!(key.expose().len() == KEY_CHARS, "secret_key has not {KEY_CHARS} characters");
            ensure!(config.public_key.is_some(), "secret_key needs its public_key");
        }
        ensure!(
            config.public_key.is_none() || config.secret_key.is_some(),
            "public_key needs its secret_key; leave both out and a pair is made at start"
        );
        if config.server_key.is_none() && config.public_key.is_some() {
            bail!("server_key is missing: the keys of this source are of no use without that of the publishers");
        }
        Ok(config)
    }

    /// The topics that are wanted; none: all.
    pub fn names(&self) -> Vec<&str> {
        match &self.topics {
            Topics::List(names) => names.iter().map(String::as_str).collect(),
            Topics::Table(mappings) => mappings.keys().map(String::as_str).collect(),
        }
    }

    /// How the config describes a topic.
    #[must_use]
    pub fn mapping(&self, topic: &str) -> Option<&Mapping> {
        match &self.topics {
            Topics::Table(mappings) => mappings.get(topic),
            Topics::List(_) => None,
        }
    }
}

fn check_address(address: &str) -> anyhow::Result<()> {
    if let Some(path) = address.strip_prefix("ipc://") {
        ensure!(!path.is_empty(), "connect: `{address}` names no file");
        return Ok(());
    }
    let Some(place) = address.strip_prefix("tcp://") else {
        bail!("connect: `{address}` must begin with tcp:// or ipc://");
    };
    let port = place.rsplit_once(':').filter(|(host, _)| !host.is_empty() && *host != "*");
    ensure!(
        port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)),
        "connect: `{address}` must name a host and a port, as in tcp://127.0.0.1:5558"
    );
    Ok(())
}

/// Host and port of a TCP address.
#[must_use]
pub fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.strip_prefix("tcp://")?.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::from_table(text.parse().expect("toml"))
    }

    #[test]
    fn topics_are_a_list_or_a_table_of_descriptions() {
        let config = read("connect = ['tcp://127.0.0.1:5558']\ntopics = ['kraken_tick']").expect("valid");
        assert_eq!(config.names(), ["kraken_tick"]);
        let config =
            read("connect = ['tcp://[::1]:5600']\n[topics.my_topic]\nbody = 'trade'\nfields = { price = 'p' }")
                .expect("valid");
        assert_eq!(
            (config.names(), config.mapping("my_topic").and_then(|m| m.body)),
            (vec!["my_topic"], Some(BodyName::Trade))
        );
        assert!(read("connect = ['tcp://h:1']").expect("valid").names().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("connect = []", "connect is empty"),
            ("connect = ['127.0.0.1:5558']", "must begin with tcp://"),
            ("connect = ['tcp://127.0.0.1']", "must name a host and a port"),
            ("connect = ['tcp://*:5558']", "must name a host and a port"),
            ("connect = ['tcp://h:0']", "must name a host and a port"),
            ("connect = ['tcp://h:1']\ntopics = ['']", "`` is no topic"),
            ("connect = ['tcp://h:1']\ntopics = ['a b']", "`a b` is no topic"),
            ("connect = ['tcp://h:1']\nhigh_water = 0", "high_water is 0"),
            ("connect = ['tcp://h:1']\nserver_key = 'x'", "server_key has 1 characters"),
        ] {
            let error = read(text).expect_err(text);
            assert!(format!("{error:#}").contains(says), "{text}: {error:#}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(host_and_port("tcp://127.0.0.1:5558"), Some(("127.0.0.1", 5558)));
        assert_eq!(host_and_port("tcp://[::1]:5558"), Some(("::1", 5558)));
        assert_eq!(host_and_port("ipc:///tmp/x"), None);
    }
}
