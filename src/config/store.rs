//! `[store]`: the tape as Parquet files and as SQL tables.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::types::Listen;
use super::units::{ByteSize, Interval, parse_bytes, parse_duration};

/// What can be kept for a time of its own: the three policies, and the tables.
pub const KEPT: [&str; 19] = [
    "default",
    "high_frequency",
    "long_term",
    "trades",
    "quotes",
    "tickers",
    "books",
    "candles",
    "odds",
    "orders",
    "posts",
    "points",
    "synthetics",
    "instruments",
    "positions",
    "status",
    "gaps",
    "tape",
    "raw",
];
/// How much of the archive may stay, in place of how long.
const BYTES: &str = "bytes";
const DAY: Duration = Duration::from_secs(86_400);
const FOR_EVER: &str = "forever";

/// `[store]`: the tape as Parquet files and as SQL tables. The section switches it on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Folder of the Parquet files. Default: "archive" in the tape's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// How long days are kept: a time for everything ("90d", "forever"), or a table of times by policy (default 30d,
    /// high_frequency 7d for books, long_term 365d for candles, orders, gaps and the like) or by table, and `bytes`
    /// for how much there may be at most. Default: these three policies.
    #[serde(skip_serializing_if = "KeepDays::is_default")]
    pub keep: KeepDays,
    /// Address of the SQL server (PostgreSQL's protocol), or "off". Default: "127.0.0.1:5433".
    pub sql_listen: Listen,
    /// Allow an address that others on the network can reach without encryption. Default: false.
    pub insecure: bool,
    /// Certificate chain (PEM): connections must be encrypted then. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Run behind everything else on the machine, in the idle scheduling class: a query never slows the recorder, and waits
    /// where the machine is busy with other things. Default: true.
    pub idle: bool,
    /// What all queries together may hold in memory. Default: "512 MiB".
    pub memory: ByteSize,
    /// What they may write to disk beyond that. Default: "1 GiB".
    pub spill: ByteSize,
    /// How long a statement may take. Default: "30s".
    pub timeout: Interval,
    /// Statements that run at once; the next one waits. Default: 4.
    pub statements: u16,
    /// Connections at once. Default: 100.
    pub connections: u16,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            dir: None,
            keep: KeepDays::default(),
            sql_listen: Listen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 5433))),
            insecure: false,
            tls_cert: None,
            tls_key: None,
            idle: true,
            memory: ByteSize(512 << 20),
            spill: ByteSize(1 << 30),
            timeout: Interval(Duration::from_secs(30)),
            statements: 4,
            connections: 100,
        }
    }
}

impl Store {
    /// The archive's folder, of a deck whose tape is in `dir`.
    #[must_use]
    pub fn folder(&self, dir: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| dir.join("archive"))
    }

    /// What is wrong although every value is fine by itself: the key, and the words.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Some(("tls_cert", "goes together with tls_key".to_owned()));
        }
        if let Listen::At(addr) = self.sql_listen
            && !addr.ip().is_loopback()
            && self.tls_cert.is_none()
            && !self.insecure
        {
            let said = format!(
                "{addr} can be reached by others: give tls_cert and tls_key, or say `insecure = true` in [store]"
            );
            return Some(("sql_listen", said));
        }
        let least = |key, found: u64, least: u64| (found < least).then(|| (key, format!("must be at least {least}")));
        least("statements", self.statements.into(), 1)
            .or_else(|| least("connections", self.connections.into(), 1))
            .or_else(|| (self.memory.0 < 16 << 20).then(|| ("memory", "must be at least 16 MiB".to_owned())))
            .or_else(|| self.timeout.0.is_zero().then(|| ("timeout", "must be longer than nothing".to_owned())))
    }
}

/// Days by policy or table, `None` for ever; and the most bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepDays {
    pub days: BTreeMap<String, Option<u32>>,
    pub bytes: Option<u64>,
}

impl KeepDays {
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == KeepDays::default()
    }
}

fn days(text: &str) -> Result<Option<u32>, String> {
    if text == FOR_EVER {
        return Ok(None);
    }
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    let days = time.as_secs() / DAY.as_secs();
    if days == 0 || time.as_secs() % DAY.as_secs() != 0 {
        return Err(format!("`{text}` is not a number of days: the archive keeps or removes whole days"));
    }
    u32::try_from(days).map(Some).map_err(|_| format!("`{text}` is too long: say \"{FOR_EVER}\""))
}

impl<'de> Deserialize<'de> for KeepDays {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = KeepDays;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time (\"90d\", \"forever\") or a table of them ({ trades = \"90d\" })")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeepDays, E> {
                let days = days(text).map_err(E::custom)?;
                let policies = KEPT[..3].iter().map(|policy| ((*policy).to_owned(), days)).collect();
                Ok(KeepDays { days: policies, bytes: None })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<KeepDays, A::Error> {
                let mut keep = KeepDays::default();
                while let Some((name, text)) = map.next_entry::<String, String>()? {
                    if name == BYTES {
                        keep.bytes = Some(parse_bytes(&text).map_err(de::Error::custom)?);
                    } else if KEPT.contains(&name.as_str()) {
                        keep.days.insert(name, days(&text).map_err(de::Error::custom)?);
                    } else {
                        let near = super::suggest::nearest(&name, KEPT).map(|near| format!(", did you mean `{near}`?"));
                        let near = near.unwrap_or_default();
                        return Err(de::Error::custom(format!("`{name}` is neither a policy nor a table{near}")));
                    }
                }
                Ok(keep)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for KeepDays {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |days: &Option<u32>| days.map_or_else(|| FOR_EVER.to_owned(), |days| format!("{days}d"));
        let days = self.days.iter().map(|(name, days)| (name.clone(), text(days)));
        let bytes = self.bytes.map(|bytes| (BYTES.to_owned(), ByteSize(bytes).to_string()));
        serializer.collect_map(days.chain(bytes))
    }
}

impl JsonSchema for KeepDays {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "KeepDays".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let time = serde_json::json!({ "type": "string", "examples": ["90d", "forever"] });
        let names = KEPT.iter().chain([&BYTES]).map(|name| ((*name).to_owned(), time.clone()));
        let names: serde_json::Map<String, serde_json::Value> = names.collect();
        json_schema!({
            "anyOf": [time, { "type": "object", "additionalProperties": false, "properties": names }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Store, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn an_empty_section_has_the_documented_defaults() {
        let store = parsed("").unwrap();
        assert_eq!(store, Store::default());
        assert_eq!(store.folder(Path::new("/x")), Path::new("/x/archive"));
        assert_eq!(store.problem(), None);
    }

    #[test]
    fn days_are_kept_by_policy_and_table() {
        let keep = |text: &str| parsed(text).map(|store| store.keep.days.into_iter().collect::<Vec<_>>());
        let all = |days| Ok(KEPT[..3].iter().map(|name| ((*name).to_owned(), days)).collect::<Vec<_>>());
        assert_eq!(keep("keep = \"90d\""), all(Some(90)));
        assert_eq!(keep("keep = \"forever\""), all(None));
        assert_eq!(
            keep("keep = { candles = \"forever\", books = \"2d\" }"),
            Ok(vec![("books".to_owned(), Some(2)), ("candles".to_owned(), None)])
        );
        assert_eq!(parsed("keep = { bytes = \"50 GB\" }").unwrap().keep.bytes, Some(50_000_000_000));
        for (text, said) in [
            ("keep = { trade = \"3d\" }", "did you mean `trades`"),
            ("keep = \"12h\"", "whole days"),
            ("keep = { trades = \"a week\" }", "is no duration"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let shown = toml::to_string(&parsed("keep = { candles = \"forever\", books = \"2d\" }").unwrap()).unwrap();
        assert_eq!(parsed(&shown).unwrap().keep.days.len(), 2, "{shown}");
    }

    #[test]
    fn an_open_address_needs_encryption_or_a_word() {
        let problem = |text: &str| parsed(text).unwrap().problem().map(|(key, _)| key);
        assert_eq!(problem("sql_listen = \"0.0.0.0:5433\""), Some("sql_listen"));
        assert_eq!(problem("sql_listen = \"0.0.0.0:5433\"\ninsecure = true"), None);
        assert_eq!(problem("sql_listen = \"0.0.0.0:5433\"\ntls_cert = \"a\"\ntls_key = \"b\""), None);
        assert_eq!(problem("tls_cert = \"a\""), Some("tls_cert"));
        assert_eq!(problem("statements = 0"), Some("statements"));
    }
}
