//! The definition of a market as an instrument: a few fields that everybody asks for, and all of it beside them.

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Instrument, SmolStr};

use super::value::{Word, whole};

/// What a definition says.
pub(super) struct Read {
    pub(super) instrument: Instrument,
    pub(super) version: Option<i64>,
    pub(super) closed: bool,
    /// It could not be read, and is only kept.
    pub(super) odd: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    status: Option<Word>,
    event_id: Option<Word>,
    event_type_id: Option<Word>,
    event_name: Option<Word>,
    name: Option<Word>,
    market_type: Option<Word>,
    venue: Option<Word>,
    country_code: Option<Word>,
    market_time: Option<Word>,
}

/// A definition that is not as expected is kept as it came: its prices are worth no less.
pub(super) fn read(raw: &RawValue) -> Read {
    let read = serde_json::from_str::<Definition<'_>>(raw.get());
    let odd = read.is_err();
    let definition = read.unwrap_or_default();
    let status = definition.status.map(|word| word.0);
    let names = [
        ("name", definition.name),
        ("event", definition.event_id),
        ("event_name", definition.event_name),
        ("event_type", definition.event_type_id),
        ("market_type", definition.market_type),
        ("venue", definition.venue),
        ("country", definition.country_code),
        ("market_time", definition.market_time),
    ];
    let aliases = names.into_iter().filter_map(|(scheme, word)| Some((SmolStr::new_static(scheme), word?.0)));
    let closed = status.as_deref() == Some("CLOSED");
    let instrument =
        Instrument { aliases: aliases.collect(), status, raw: Some(SmolStr::new(raw.get())), ..Instrument::default() };
    Read { instrument, version: definition.version.and_then(whole), closed, odd }
}
