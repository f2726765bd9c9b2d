//! The forms of a message: the same fields as a MessagePack map, as JSON, in Kraken's shape, as the predecessors' text,
//! or the event itself in the tape's encoding.
//!
//! Here, and only here, decimals become doubles: the subscribers' libraries know nothing else. `decimals = "text"` keeps
//! the venue's digits.

mod fields;
mod json;
mod kraken;
mod msgpack;
mod soh;

use tapedeck_market::{Event, SmolStr, UnixNanos, Uuid, wire};

use super::engine::{Content, Message, snapshot};
use crate::config::{Decimals, Form};
use fields::Fields;
pub(crate) use fields::Val;

/// What the encoders know of the tape, and memory that is used again for each message.
#[derive(Clone, Debug)]
pub struct Encoder {
    tape: Uuid,
    tape_text: SmolStr,
    /// Sent again from a recording.
    replayed: bool,
    fields: Fields,
    payload: Vec<u8>,
}

/// A message as it goes out: one frame where the topic is inside, else two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded<'a> {
    pub payload: &'a [u8],
    /// The payload begins with the topic and a space, and is the only frame.
    pub one_frame: bool,
}

impl Encoder {
    #[must_use]
    pub fn new(tape: Uuid, replayed: bool) -> Encoder {
        let tape_text = SmolStr::new(tape.to_string());
        Encoder { tape, tape_text, replayed, fields: Fields::default(), payload: Vec::new() }
    }

    /// Writes a message for a subscriber of `topic`, which is its own or an alias of it.
    #[must_use]
    pub fn encode(&mut self, message: &Message, topic: &str, form: Form, decimals: Decimals) -> Encoded<'_> {
        let Encoder { tape, tape_text, replayed, fields, payload } = self;
        payload.clear();
        let floats = decimals == Decimals::Float;
        match form {
            Form::Array => array(message, *tape, payload),
            Form::Soh => soh::put(message, topic, payload),
            Form::Map | Form::Json | Form::Kraken => {
                fields.clear();
                let own = form == Form::Kraken && kraken::put(message, fields);
                fields::head(message, tape_text, *replayed, fields);
                if !own {
                    fields::content(message, fields);
                }
                let put_map = if form == Form::Json { json::put_map } else { msgpack::put_map };
                put_map(fields.all(), floats, payload);
            }
        }
        Encoded { payload, one_frame: form == Form::Soh }
    }

    /// The end of an answer, a heartbeat: a map of these.
    #[must_use]
    pub(crate) fn map(fields: &[(SmolStr, Val)]) -> Vec<u8> {
        let mut out = Vec::new();
        msgpack::put_map(fields, true, &mut out);
        out
    }

    #[must_use]
    pub(crate) fn tape_text(&self) -> &SmolStr {
        &self.tape_text
    }
}

/// The event's own array, with `seq`, `prev` and the tape behind its ten fields: readers of events skip them.
fn array(message: &Message, tape: Uuid, out: &mut Vec<u8>) {
    let body = match &message.content {
        Content::Tick(ticker) => tapedeck_market::Body::Ticker(ticker.clone()),
        Content::Depth { bids, asks } => snapshot(bids, asks),
        Content::Body(body) => (**body).clone(),
    };
    let event = Event {
        source: message.source.clone(),
        venue: message.venue.clone(),
        symbol: message.symbol.clone(),
        ts_event: message.ts_event,
        ts_recv: message.ts_recv,
        flags: message.flags,
        origin: None,
        body,
    };
    wire::encode(&event, out);
    const EVENT: u8 = 0x90 | 10;
    const WITH_PLACE: u8 = 0x90 | 13;
    if let Some(head) = out.first_mut().filter(|head| **head == EVENT) {
        *head = WITH_PLACE;
        msgpack::put(&Val::UInt(message.seq), true, out);
        msgpack::put(&Val::UInt(message.prev), true, out);
        msgpack::put_bin(tape.as_bytes(), out);
    }
}

/// Seconds as a double, as the predecessors' publishers sent them.
fn seconds(instant: UnixNanos) -> f64 {
    instant.0 as f64 / 1e9
}

#[cfg(test)]
mod tests;
