//! From the frames of a message to events: pure, total, and with a reason for what it refuses.

use std::collections::HashMap;

use tapedeck_market::{Body, Origin, Quote, SmolStr, UnixNanos, Uuid};

use super::config::{BodyName, Config, Mapping, Unknown};
use super::known::{self, Known};
use super::message::{self, SOH};
use super::value::Val;
use super::{Made, Reject, mapping};

/// Instruments whose last tick is remembered, to know the twin of one.
const INSTRUMENTS: usize = 10_000;

/// What a message turned out to be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Decoded {
    /// Empty where the message has none.
    pub topic: SmolStr,
    pub events: Vec<(Made, Option<Origin>)>,
    pub rejects: Vec<Reject>,
    /// It comes from the bus of this very tape.
    pub own: bool,
}

/// Decodes messages; what it remembers is only what was said last.
#[derive(Debug)]
pub(super) struct Decoder {
    config: Config,
    venue: SmolStr,
    own_tape: Option<Uuid>,
    /// The last OANDA tick of an instrument, and whether it came on the topic of its own name.
    last: HashMap<SmolStr, (Option<UnixNanos>, Quote, bool)>,
}

impl Decoder {
    pub(super) fn new(config: Config, own_tape: Option<Uuid>) -> Decoder {
        let venue = SmolStr::new(&config.venue);
        Decoder { config, venue, own_tape, last: HashMap::new() }
    }

    /// Reads one message.
    pub(super) fn decode(&mut self, frames: &[&[u8]]) -> Decoded {
        let mut decoded = Decoded::default();
        if let Err(reject) = self.read(frames, &mut decoded) {
            decoded.rejects.push(reject);
        }
        decoded
    }

    fn read(&mut self, frames: &[&[u8]], decoded: &mut Decoded) -> Result<(), Reject> {
        let (topic, bytes) = message::split(frames)?;
        if let Some(topic) = &topic {
            decoded.topic = topic.clone();
            // A subscription is a prefix: longer neighbours come along and were not asked for.
            if *topic != "heartbeat" && !self.wants(topic) {
                return Ok(());
            }
        }
        let separator = topic.as_deref().and_then(|topic| self.config.mapping(topic)?.separator).unwrap_or(SOH);
        let payload = message::payload(bytes, separator)?;
        let origin = self.origin(&payload);
        if let Some(origin) = origin
            && Some(origin.tape) == self.own_tape
        {
            decoded.own = true;
            return Ok(());
        }
        // The beat of another deck's bus has a tape and no seq.
        let Some(topic) = topic.or_else(|| without_topic(&payload)) else {
            return Err(Reject::new("topic", "a body without a topic, and not one of Kraken's"));
        };
        if decoded.topic.is_empty() {
            decoded.topic = topic.clone();
            if !self.wants(&topic) {
                return Ok(());
            }
        }
        let origin = origin.filter(|origin| origin.seq > 0);
        let described = self.config.mapping(&topic).cloned();
        for made in self.of_topic(&topic, &payload, described.as_ref()) {
            match made {
                Ok(made) if self.is_twin(&topic, &made) => {}
                Ok(made) => decoded.events.push((made, origin)),
                Err(reject) => decoded.rejects.push(reject),
            }
        }
        Ok(())
    }

    fn wants(&self, topic: &str) -> bool {
        let names = self.config.names();
        names.is_empty() || names.contains(&topic)
    }

    fn of_topic(&self, topic: &str, payload: &Val, described: Option<&Mapping>) -> Vec<Result<Made, Reject>> {
        let known = Known::of(topic);
        if let Some(mapping) = described.filter(|mapping| mapping.body.is_some() || known.is_none()) {
            return mapping::read(topic, payload, mapping, &self.venue).transpose().into_iter().collect();
        }
        if let Some(known) = known {
            let mut made = known.read(topic, payload);
            // A known body of another venue, as the config says.
            if let Some(venue) = described.and_then(|mapping| mapping.venue.as_deref()) {
                made.iter_mut().flatten().for_each(|made| made.venue = SmolStr::new(venue));
            }
            return made;
        }
        if let Some(made) = known::twin(topic, payload) {
            return vec![made];
        }
        match payload {
            Val::Map(_) if self.config.unknown == Unknown::Point => {
                let mapping = Mapping { body: Some(BodyName::Point), ..Mapping::default() };
                mapping::read(topic, payload, &mapping, &self.venue).transpose().into_iter().collect()
            }
            _ => vec![Err(Reject::new(
                "topic",
                format!("nobody described the topic {topic}: [source.NAME.topics.{topic}]"),
            ))],
        }
    }

    /// The record that a deck's message stands for; seq 0 for its heartbeat.
    fn origin(&self, payload: &Val) -> Option<Origin> {
        let tape = Uuid::parse_str(&payload.get("tape")?.text()?).ok()?;
        Some(Origin { tape, seq: payload.get("seq").and_then(Val::count).unwrap_or(0) })
    }

    /// Whether this tick was recorded a moment ago, under its other topic.
    fn is_twin(&mut self, topic: &str, made: &Made) -> bool {
        let Body::Quote(quote) = &made.body else { return false };
        if made.venue != "oanda" {
            return false;
        }
        let own_name = *topic == made.symbol;
        if let Some((ts_event, last, was_own_name)) = self.last.get(&made.symbol)
            && *was_own_name != own_name
            && *ts_event == made.ts_event
            && last == quote
        {
            return true;
        }
        if self.last.len() < INSTRUMENTS || self.last.contains_key(&made.symbol) {
            self.last.insert(made.symbol.clone(), (made.ts_event, quote.clone(), own_name));
        }
        false
    }
}

/// The topic of a body that was sent without one.
fn without_topic(payload: &Val) -> Option<SmolStr> {
    let Some(Val::Map(pairs)) = payload.get("result") else {
        return payload.get("error").map(|_| SmolStr::new_static("kraken_tick"));
    };
    let is_depth = pairs.first().is_some_and(|(_, pair)| pair.get("asks").is_some());
    Some(SmolStr::new_static(if is_depth { "kr_depth" } else { "kraken_tick" }))
}
