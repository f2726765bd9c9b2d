//! The definition of a market as an instrument: a few fields that everybody asks for, and all of it beside them.

use serde::Deserialize;
use serde_json::value::RawValue;
use tapedeck_market::{Instrument, SmolStr};

use super::value::{Word, unquoted, whole};

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
    #[serde(borrow)]
    runners: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Runner<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    hc: Option<&'a RawValue>,
    /// Recorded files have it, the live stream does not.
    name: Option<Word>,
}

impl Runner<'_> {
    /// Its name, with the key that its prices have: the selection, and a handicap where it has one.
    fn alias(self) -> Option<(SmolStr, SmolStr)> {
        let (id, name) = (whole(self.id?)?, self.name?.0);
        let handicap = self.hc.map(unquoted).filter(|text| text.bytes().any(|b| matches!(b, b'1'..=b'9')));
        let key = handicap.map_or_else(|| format!("runner {id}"), |handicap| format!("runner {id} {handicap}"));
        Some((SmolStr::from(key), name))
    }
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
    // One that is odd costs its own names.
    let runners = definition.runners.and_then(|raw| serde_json::from_str::<Vec<Runner<'_>>>(raw.get()).ok());
    let aliases = aliases.chain(runners.into_iter().flatten().filter_map(Runner::alias));
    let closed = status.as_deref() == Some("CLOSED");
    let instrument =
        Instrument { aliases: aliases.collect(), status, raw: Some(SmolStr::new(raw.get())), ..Instrument::default() };
    Read { instrument, version: definition.version.and_then(whole), closed, odd }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_are_known_by_their_names_where_the_definition_has_some() {
        let text = r#"{"status":"OPEN","name":"Match Odds","runners":[{"id":7,"name":"Red Rum","sortPriority":1},
            {"id":8,"hc":-1.5,"name":"Home -1.5"},{"id":9,"hc":0},{"id":"x","name":"nobody"}]}"#;
        let raw: Box<RawValue> = serde_json::from_str(text).expect("JSON");
        let read = read(&raw);
        let aliases: Vec<(&str, &str)> =
            read.instrument.aliases.iter().map(|(scheme, name)| (scheme.as_str(), name.as_str())).collect();
        assert!(!read.odd);
        assert_eq!(aliases, [("name", "Match Odds"), ("runner 7", "Red Rum"), ("runner 8 -1.5", "Home -1.5")]);
    }
}
