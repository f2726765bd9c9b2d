//! The sections of the config file, as types with their defaults.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tapedeck_market::SmolStr;

use super::bus::Bus;
use super::candles::Candles;
use super::server::{NamedServer, Server};
use super::store::Store;
use super::synthetic::Synthetic;
use super::units::{ByteSize, Interval, parse_bytes, parse_duration};

/// A config that was checked whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub tape: Tape,
    pub log: Log,
    pub http: Http,
    pub deck: Deck,
    /// Each is on when its section is there.
    pub candles: Option<Candles>,
    pub synthetic: Option<Synthetic>,
    pub bus: Option<Bus>,
    pub store: Option<Store>,
    /// `[sync]`, raw, because the sync owns it; secrets given by file are in it.
    pub sync: Option<KindTable>,
    /// `[heartbeat]`, raw likewise.
    pub heartbeat: Option<KindTable>,
    /// The tables of `[alert.NAME]`, raw likewise.
    pub alerts: Option<KindTable>,
    /// `[grafana]`, raw likewise.
    pub grafana: Option<KindTable>,
    /// In the order of the file.
    pub sources: Vec<KindTable>,
    /// In the order of the file.
    pub sinks: Vec<KindTable>,
    /// In the order of the file, which is that of their start.
    pub servers: Vec<NamedServer>,
}

/// `[source.NAME]` or `[sink.NAME]`: raw, because its kind owns it.
#[derive(Clone, PartialEq)]
pub struct KindTable {
    pub name: SmolStr,
    /// As in `kind = "kraken"`; a kind that exists.
    pub kind: SmolStr,
    /// Without `kind`; secrets given by file are in it.
    pub table: toml::Table,
}

/// Names only: the table may hold secrets.
impl fmt::Debug for KindTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.table.keys().collect();
        f.debug_struct("KindTable").field("name", &self.name).field("kind", &self.kind).field("keys", &keys).finish()
    }
}

/// The sections that are the program's own, for the schema.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct Sections {
    /// The tape: where and how events are written.
    tape: Option<Tape>,
    /// What is logged, and where.
    log: Option<Log>,
    /// The web server with metrics and health.
    http: Option<Http>,
    /// Starting and stopping.
    deck: Option<Deck>,
    /// Candles made of what is on the tape.
    candles: Option<Candles>,
    /// EUR/USD derived through crypto.
    synthetic: Option<Synthetic>,
    /// The tape for subscribers, over ZeroMQ.
    bus: Option<Bus>,
    /// The tape as Parquet files and as SQL tables.
    store: Option<Store>,
    /// Tables of a QuestDB or SQLite kept the same in a PocketBase.
    sync: Option<crate::sync::config::Config>,
    /// Signs of life over MQTT.
    heartbeat: Option<crate::heartbeat::Config>,
    /// When somebody is told, and how: one table each, `[alert.<name>]`.
    alert: Option<BTreeMap<String, crate::alerts::Rule>>,
    /// Data sources and dashboards for a Grafana.
    grafana: Option<crate::grafana::Config>,
    /// Processes beside the deck, for `tapedeck up`: one table each, `[server.<name>]`.
    server: Option<BTreeMap<String, Server>>,
}

/// `[tape]`: where and how events are written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tape {
    /// Folder of the tape, relative to where tapedeck is started. Default: "./tape".
    pub dir: PathBuf,
    /// When a record counts as written: "group" (one disk sync for all that arrive within half a
    /// millisecond), "each" (one for every frame) or "os" (when the system likes: a power cut may take up to 100 ms).
    /// Default: "group".
    pub mode: Mode,
    /// What is kept: an age ("30d"), a size ("50 GB"), or both ({ age = "30d", bytes = "50 GB" }).
    /// Nothing that a required reader has not read is ever removed. Default: everything.
    #[serde(skip_serializing_if = "Keep::is_everything")]
    pub keep: Keep,
    /// Size of one file of the tape. Default: "64 MiB".
    pub segment: ByteSize,
    /// When the disk is full: "stop" (close the sources until there is room), "drop_oldest" or "shed" (drop what arrives). Default: "stop".
    pub on_full: OnFull,
    /// Compress files of the tape once they are full. Default: false.
    pub compress: bool,
}

impl Default for Tape {
    fn default() -> Self {
        Tape {
            dir: PathBuf::from("./tape"),
            mode: Mode::Group,
            keep: Keep::default(),
            segment: ByteSize(64 << 20),
            on_full: OnFull::Stop,
            compress: false,
        }
    }
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Mode {
    #[default]
    Group,
    Each,
    Os,
}

impl Mode {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Group => "group",
            Mode::Each => "each",
            Mode::Os => "os",
        }
    }
}

/// What to do when the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnFull {
    #[default]
    Stop,
    DropOldest,
    Shed,
}

/// What is kept of the tape; both bounds hold when both are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    pub age: Option<Duration>,
    pub bytes: Option<u64>,
}

impl Keep {
    /// Nothing is ever removed.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Keep::default()
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> de::Visitor<'de> for Words {
            type Value = Keep;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an age such as \"30d\", a size such as \"50 GB\", or a table of age and bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keep, E> {
                if let Ok(age) = parse_duration(text) {
                    return Ok(Keep { age: Some(age), bytes: None });
                }
                let bytes = parse_bytes(text).map_err(|_| {
                    E::custom(format!("`{text}` is neither an age such as \"30d\" nor a size such as \"50 GB\""))
                })?;
                Ok(Keep { age: None, bytes: Some(bytes) })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Keep, A::Error> {
                let both = KeepTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Keep { age: both.age.map(|age| age.0), bytes: both.bytes.map(|bytes| bytes.0) })
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        KeepTable { age: self.age.map(Interval), bytes: self.bytes.map(ByteSize) }.serialize(serializer)
    }
}

impl JsonSchema for Keep {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Keep".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<KeepTable>();
        json_schema!({ "anyOf": [{ "type": "string", "examples": ["30d", "50 GB"] }, table] })
    }
}

/// `keep = { age = "30d", bytes = "50 GB" }`
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeepTable {
    /// Records received longer ago than this may go. Default: kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age: Option<Interval>,
    /// Above this size the oldest records may go. Default: any size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<ByteSize>,
}

/// `[log]`: what is logged, and where.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// "error", "warn", "info", "debug" or "trace"; or directives such as "info,tapedeck::sources=debug". Default: "info".
    pub level: String,
    /// "text" or "json", on the console and in files. Default: "text".
    pub format: LogFormat,
    /// Folder of the log files (10 MB each, five old ones kept), or "off". Default: "logs" in the tape's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// A file of its own for each source and sink, beside the common one. Default: false.
    pub per_service: bool,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".to_owned(), format: LogFormat::Text, dir: None, per_service: false }
    }
}

impl Log {
    /// Folder of the log files; `None` when there shall be none.
    #[must_use]
    pub fn folder(&self, tape_dir: &Path) -> Option<PathBuf> {
        match &self.dir {
            None => Some(tape_dir.join("logs")),
            Some(dir) if dir.as_os_str() == "off" => None,
            Some(dir) => Some(dir.clone()),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `[http]`: the web server with metrics and health.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port, or "off". Default: "127.0.0.1:7373".
    pub listen: Listen,
    /// Allow an address that others on the network can reach, although there is neither encryption nor a password. Default: false.
    pub insecure: bool,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    Off,
    At(SocketAddr),
}

impl Default for Listen {
    fn default() -> Self {
        Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7373))
    }
}

impl Listen {
    #[must_use]
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Listen::Off => None,
            Listen::At(addr) => Some(addr),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Off => f.write_str("off"),
            Listen::At(addr) => write!(f, "{addr}"),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(Listen::Off);
        }
        // No name service: what a config opens to the network must be readable from the config.
        let numeric = text.strip_prefix("localhost:").map_or_else(|| text.clone(), |port| format!("127.0.0.1:{port}"));
        numeric.parse().map(Listen::At).map_err(|_| {
            de::Error::custom(format!("`{text}` is no address: write \"127.0.0.1:7373\", \"[::1]:7373\" or \"off\""))
        })
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["127.0.0.1:7373", "off"] })
    }
}

/// `[deck]`: starting and stopping.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deck {
    /// How long each stage may take to stop (sources, recorder, readers) before it is ended. Default: "30s".
    pub grace: Interval,
    /// How long each phase of `tapedeck up` may take until all in it is ready; servers have a limit of their own. Default: "60s".
    pub limit: Interval,
    /// The longest wait before a source is connected again, or a service started again, that ended: waits double from 250 ms up to it, and begin anew for one that lived as long. Venues count connections over minutes. Default: "30s".
    pub longest_wait: Interval,
}

impl Default for Deck {
    fn default() -> Self {
        Deck {
            grace: Interval(Duration::from_secs(30)),
            limit: Interval(Duration::from_secs(60)),
            longest_wait: Interval(Duration::from_secs(30)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tape(text: &str) -> Result<Tape, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn keep_is_an_age_a_size_or_both() {
        let day = Duration::from_secs(86_400);
        let cases = [
            ("keep = '30d'", Keep { age: Some(30 * day), bytes: None }),
            ("keep = '50 GB'", Keep { age: None, bytes: Some(50_000_000_000) }),
            ("keep = { age = '1d', bytes = '1 GB' }", Keep { age: Some(day), bytes: Some(1_000_000_000) }),
            ("", Keep::default()),
        ];
        for (text, want) in cases {
            assert_eq!(tape(text).map(|tape| tape.keep), Ok(want), "{text}");
        }
        let error = tape("keep = '30 apples'").unwrap_err();
        assert_eq!(error, "`30 apples` is neither an age such as \"30d\" nor a size such as \"50 GB\"");
    }

    #[test]
    fn an_address_is_numeric_or_off() {
        let listen = |text: &str| toml::from_str::<Http>(&format!("listen = '{text}'")).map(|http| http.listen);
        assert_eq!(listen("off").unwrap(), Listen::Off);
        assert_eq!(listen("localhost:1").unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(listen("[::1]:7373").unwrap().to_string(), "[::1]:7373");
        assert!(listen("example.com:80").is_err());
    }

    #[test]
    fn a_table_of_a_kind_does_not_print_its_values() {
        let table = toml::toml! { api_secret = "hunter2" };
        let source = KindTable { name: "k".into(), kind: "kraken".into(), table };
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}
