//! What the parsers of all venues have in common: how an event is begun, and why a frame is refused.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tapedeck_market::{Body, Event, Flags, SmolStr, UnixNanos, is_absurd};

/// What every event of a session has in common.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// Name of the config table.
    pub source: SmolStr,
    pub venue: SmolStr,
}

impl Ctx {
    /// An event of the session; a venue time that must move no candle is flagged here.
    #[must_use]
    pub fn event(
        &self,
        symbol: SmolStr,
        ts_event: Option<UnixNanos>,
        ts_recv: UnixNanos,
        flags: Flags,
        body: Body,
    ) -> Event {
        let absurd = ts_event.is_some_and(|ts| is_absurd(ts, ts_recv));
        let flags = if absurd { flags.with(Flags::ABSURD_TIME) } else { flags };
        Event {
            source: self.source.clone(),
            venue: self.venue.clone(),
            symbol,
            ts_event,
            ts_recv,
            flags,
            origin: None,
            body,
        }
    }
}

/// Why a frame was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// A few words of ours, the same for every frame with this fault: counted by them.
    pub reason: &'static str,
    /// What exactly, with the offending text.
    pub detail: String,
}

impl ParseError {
    pub(super) fn new(reason: &'static str, detail: impl fmt::Display) -> ParseError {
        ParseError { reason, detail: detail.to_string() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for ParseError {}

/// What a frame is rejected for.
pub(super) mod reason {
    pub(in super::super) const NOT_JSON: &str = "not a message";
    pub(in super::super) const SHAPE: &str = "unexpected shape";
    pub(in super::super) const NUMBER: &str = "number refused";
}

/// The fields of an object in their order, values untouched.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The last field of that name, as JavaScript would have it.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// A field that is a text.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(|raw| serde_json::from_str::<Text<'a>>(raw.get()).ok()).map(|text| text.0)
    }

    /// A field that is an object.
    pub(super) fn object(&self, name: &str) -> Option<Fields<'a>> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The objects of a field that is a list; what else is in it is left out.
    pub(super) fn objects(&self, name: &str) -> impl Iterator<Item = Fields<'a>> {
        let list = self.get(name).and_then(|raw| serde_json::from_str::<Vec<&'a RawValue>>(raw.get()).ok());
        list.into_iter().flatten().filter_map(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// Names of the fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }
}

/// A text that stays where it is, unless it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((key.0, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Each).map(Fields)
    }
}

/// Text of a value, without the quotes where it has some.
pub(super) fn plain(raw: &RawValue) -> &str {
    let text = raw.get();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

pub(super) fn whole(raw: &RawValue) -> Option<u64> {
    plain(raw).parse().ok()
}
