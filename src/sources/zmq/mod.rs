//! Existing ZeroMQ publishers: what they send is recorded, in whichever of their forms.
//!
//! ```text
//! publishers ═► child process (SUB sockets, `feed.rs`) ─ records on its standard output ─► message ─► known ─┐
//!                                                                                     ▲ value       mapping ─┴► outlet
//! ```
//!
//! libzmq ends its process on internal assertions, so the sockets live in a child of this program: an
//! assertion costs a session, never the recording. Everything behind its pipe is pure.

pub mod config;
mod decode;
mod known;
mod mapping;
mod message;
mod session;
#[cfg(test)]
mod tests;
mod value;
pub mod wire;

use std::fmt;

use tapedeck_market::{Body, SmolStr, UnixNanos};

pub use self::config::Config;
use self::session::Zmq;
use super::{Kind, Session, Setup};

pub const KIND: Kind = Kind {
    name: "zmq",
    about: "existing ZeroMQ publishers: the predecessors' topics in all their forms, any other topic as points",
    build,
    schema: || schemars::schema_for!(Config),
    history: None,
    reread: None,
};

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config = Config::from_table(setup.table)?;
    let venue = SmolStr::new(&config.venue);
    let source = Box::new(Zmq::new(config, setup.dir));
    Ok(vec![Session { name: setup.name, venue, source }])
}

/// An event, as far as a message tells.
#[derive(Clone, Debug, PartialEq)]
struct Made {
    venue: SmolStr,
    symbol: SmolStr,
    ts_event: Option<UnixNanos>,
    body: Body,
}

/// Why a message, or a part of it, is not understood.
#[derive(Clone, Debug, PartialEq)]
struct Reject {
    /// Few words of ours: rejects are counted by them.
    reason: &'static str,
    text: String,
}

impl Reject {
    fn new(reason: &'static str, text: impl fmt::Display) -> Reject {
        Reject { reason, text: text.to_string() }
    }

    /// The same, with the part of the message that it is about.
    fn of(self, part: &str) -> Reject {
        Reject { text: format!("{}: {}", value::shorten(part), self.text), ..self }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An event as (venue, symbol, time, body).
pub type Tried = (SmolStr, SmolStr, Option<UnixNanos>, Body);

/// Reads one message as a source of this config would: for the fuzzer, and whoever wants to try a config.
/// Events, and the reasons of what was refused.
#[must_use]
pub fn try_message(config: &Config, frames: &[&[u8]]) -> (Vec<Tried>, Vec<&'static str>) {
    let decoded = decode::Decoder::new(config.clone(), None).decode(frames);
    let events = decoded.events.into_iter().map(|(made, _)| (made.venue, made.symbol, made.ts_event, made.body));
    (events.collect(), decoded.rejects.into_iter().map(|reject| reject.reason).collect())
}
