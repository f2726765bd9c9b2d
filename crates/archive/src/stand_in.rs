//! Events of ours, in the place of records that cannot be read.

use tapedeck_market::{Body, Event, Flags, Raw, SmolStr, TapeEvent, TapeNote, UnixNanos};
use tapedeck_tape::Hole;

/// Format of a frame that could not be decoded.
const UNDECODABLE: &str = "undecodable";

/// A record that is not understood, kept as it is.
pub(crate) fn undecodable(payload: &[u8], ts_recv: UnixNanos) -> Event {
    own(ts_recv, Body::Raw(Raw { format: SmolStr::new_static(UNDECODABLE), frame: payload.to_vec() }))
}

/// A hole of the tape, in the place of its records.
pub(crate) fn missing(hole: Hole, ts_recv: UnixNanos) -> Event {
    let detail = SmolStr::new_static("these records cannot be read: damaged, or removed by retention");
    let (from_seq, to_seq) = (Some(hole.from_seq), Some(hole.to_seq));
    own(ts_recv, Body::Tape(Box::new(TapeNote { what: TapeEvent::Hole, from_seq, to_seq, bytes: 0, detail })))
}

/// An event of ours that is not on the tape.
fn own(ts_recv: UnixNanos, body: Body) -> Event {
    Event {
        source: SmolStr::new_static("tapedeck"),
        venue: SmolStr::new_static("tapedeck"),
        symbol: SmolStr::default(),
        ts_event: None,
        ts_recv,
        flags: Flags::DERIVED,
        origin: None,
        body,
    }
}
