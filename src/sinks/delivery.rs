//! The keys that every `[sink.NAME]` has beside those of its kind: what is delivered, from where on, in which pieces.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tapedeck_market::{Event, Kind, UnixNanos};
use tapedeck_tape::Start;

use crate::config::Globs;
use crate::config::units::{ByteSize, Interval, parse_instant};

/// What is delivered, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// Kinds of events to deliver, as in `tapedeck tail`; `*` stands for any text. Default: everything that the store has a place for.
    pub events: Globs,
    /// Sources to deliver, by the names of their tables. Default: all.
    pub sources: Globs,
    /// Symbols to deliver, in the venue's spelling. Default: all.
    pub symbols: Globs,
    /// Where a sink that is new begins: "begin", "now", or a time such as "2026-11-01T00:00:00Z". Default: "begin".
    pub start: Begin,
    /// Keep on the tape what this store has not confirmed, however long it is away. Default: true.
    pub required: bool,
    /// Most records of one request. Default: 5000.
    pub batch: u32,
    /// Most bytes of one request, as the records lie on the tape. Default: "1 MiB".
    pub batch_bytes: ByteSize,
    /// How long a record may wait for others to be sent with it. Default: "500ms".
    pub batch_wait: Interval,
    /// How much is kept of what the store refused, before the oldest goes. Default: "256 MiB".
    pub dead_letters: ByteSize,
}

impl Default for Delivery {
    fn default() -> Self {
        Delivery {
            events: Globs::default(),
            sources: Globs::default(),
            symbols: Globs::default(),
            start: Begin::Begin,
            required: true,
            batch: 5_000,
            batch_bytes: ByteSize(1 << 20),
            batch_wait: Interval(Duration::from_millis(500)),
            dead_letters: ByteSize(256 << 20),
        }
    }
}

/// The keys of [`Delivery`], to tell them from a kind's own.
const KEYS: [&str; 9] =
    ["events", "sources", "symbols", "start", "required", "batch", "batch_bytes", "batch_wait", "dead_letters"];

impl Delivery {
    /// Takes its keys out of a sink's table; the kind's own stay.
    ///
    /// # Errors
    /// A value that is none of its key.
    pub fn take(table: &mut toml::Table) -> anyhow::Result<Delivery> {
        let own: toml::Table = KEYS.iter().filter_map(|key| table.remove_entry(*key)).collect();
        let delivery: Delivery = toml::Value::Table(own).try_into()?;
        for pattern in &delivery.events.0 {
            let known = Kind::NAMES.iter().any(|(_, name)| crate::config::fits(pattern, name));
            anyhow::ensure!(known, "events: no kind of event is called `{pattern}`");
        }
        anyhow::ensure!(delivery.batch > 0, "batch: must be at least 1");
        anyhow::ensure!(delivery.batch_bytes.0 >= 1024, "batch_bytes: must be at least 1 KiB");
        Ok(delivery)
    }

    /// Whether an event goes to the store.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        self.events.fit(event.body.kind().name()) && self.sources.fit(&event.source) && self.symbols.fit(&event.symbol)
    }
}

/// Where a new reader begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    #[default]
    Begin,
    Now,
    At(UnixNanos),
}

impl Begin {
    #[must_use]
    pub fn start(self) -> Start {
        match self {
            Begin::Begin => Start::Begin,
            Begin::Now => Start::End,
            Begin::At(time) => Start::Time(time.0),
        }
    }
}

impl<'de> Deserialize<'de> for Begin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "begin" => Ok(Begin::Begin),
            "now" => Ok(Begin::Now),
            time => parse_instant(time).map(Begin::At).ok_or_else(|| {
                let help = "is neither \"begin\", \"now\" nor a time such as \"2026-11-01T00:00:00Z\"";
                de::Error::custom(format!("`{time}` {help}"))
            }),
        }
    }
}

impl Serialize for Begin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Begin::Begin => serializer.serialize_str("begin"),
            Begin::Now => serializer.serialize_str("now"),
            Begin::At(time) => serializer.collect_str(time),
        }
    }
}

impl JsonSchema for Begin {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Begin".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["begin", "now", "2026-11-01T00:00:00Z"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<(Delivery, toml::Table), String> {
        let mut table: toml::Table = toml::from_str(text).unwrap();
        Delivery::take(&mut table)
            .map(|delivery| (delivery, table))
            .map_err(|error| format!("{error:#}").trim().to_owned())
    }

    #[test]
    fn its_keys_are_taken_and_the_kinds_own_stay() {
        let (delivery, rest) =
            take("url = 'x'\nevents = ['trade']\nbatch = 7\nstart = '2026-11-01T00:00:00Z'").unwrap();
        assert_eq!((delivery.batch, delivery.events.0.len()), (7, 1));
        assert!(matches!(delivery.start, Begin::At(_)));
        assert_eq!(rest.keys().collect::<Vec<_>>(), ["url"]);
        let keys = schemars::schema_for!(Delivery).to_value()["properties"].as_object().unwrap().len();
        assert_eq!(keys, KEYS.len(), "every key of the struct is in the list");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, words) in [
            ("events = ['trades']", "no kind of event is called `trades`"),
            ("batch = 0", "at least 1"),
            ("start = 'yesterday'", "`yesterday` is neither"),
            ("batch_wait = 5", "which unit?"),
        ] {
            let error = take(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
