//! Whether each stream still lives, judged by its own rhythm: pings of the connection prove nothing about one symbol on it.
//! A stream that fell silent is asked for again alone, and is whole again with its next message.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;
use tapedeck_market::SmolStr;

use super::{BOOK, QUOTE, TRADE};
use crate::sources::liveness::Rhythm;

/// Symbol and channel.
pub(super) type Key = (SmolStr, SmolStr);

/// The streams of a table; what is known of them outlives a session.
#[derive(Debug, Default)]
pub(super) struct Watch {
    streams: HashMap<Key, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    rhythm: Rhythm,
    silent: bool,
}

impl Watch {
    /// A session begins; whether the stream is open with it. One that had fallen silent is not until it speaks.
    pub(super) fn begin(&mut self, key: &Key, now: Instant) -> bool {
        let stream = self.streams.entry(key.clone()).or_default();
        stream.rhythm.resumed(now);
        !stream.silent
    }

    /// Whether nothing comes of it.
    pub(super) fn is_silent(&self, key: &Key) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.silent)
    }

    /// A message came; whether that ends a silence.
    pub(super) fn heard(&mut self, key: &Key, now: Instant) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        if stream.silent {
            stream.rhythm.resumed(now);
        } else {
            stream.rhythm.heard(now);
        }
        std::mem::take(&mut stream.silent)
    }

    /// Streams that have just fallen silent, and for how long.
    pub(super) fn look(&mut self, now: Instant) -> Vec<(Key, Duration)> {
        let speaking = self.streams.iter_mut().filter(|(_, stream)| !stream.silent);
        let mut fallen: Vec<_> = speaking
            .filter_map(|(key, stream)| {
                let silence = stream.rhythm.stalled(now)?;
                stream.silent = true;
                Some((key.clone(), silence))
            })
            .collect();
        fallen.sort();
        fallen
    }
}

/// A stream in the venue's words.
pub(super) fn stream(symbol: &str, channel: &SmolStr) -> String {
    let kind = [(TRADE, "trade"), (QUOTE, "bookTicker"), (BOOK, "depth@100ms")];
    let kind = kind.iter().find(|(name, _)| name == channel).map_or("", |(_, kind)| kind);
    format!("{}@{kind}", symbol.to_ascii_lowercase())
}

/// Asks for streams anew, whatever the venue thinks it sends.
pub(super) fn again(keys: &[(Key, Duration)]) -> [String; 2] {
    let streams: Vec<String> = keys.iter().map(|((symbol, channel), _)| stream(symbol, channel)).collect();
    ["UNSUBSCRIBE", "SUBSCRIBE"].map(|method| json!({ "method": method, "params": streams, "id": 1 }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_falls_silent_is_found_alone_and_whole_again_when_it_speaks() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let [trade, quote] = [TRADE, QUOTE].map(|channel| (SmolStr::new("BTCUSDT"), channel));
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(watch.begin(&trade, start) && watch.begin(&quote, start));
        for ms in (0..60_000).step_by(100) {
            assert!(!watch.heard(&trade, at(ms)) && !watch.heard(&quote, at(ms)));
        }
        for ms in (60_000..69_000).step_by(100) {
            watch.heard(&quote, at(ms));
        }
        assert_eq!(watch.look(at(69_000)), []);
        let fallen = watch.look(at(70_000));
        assert_eq!(fallen, [(trade.clone(), Duration::from_millis(10_100))], "the other one speaks");
        assert_eq!(again(&fallen)[1], r#"{"id":1,"method":"SUBSCRIBE","params":["btcusdt@trade"]}"#);
        assert!(watch.look(at(71_000)).is_empty(), "it is said once");
        assert!(!watch.begin(&trade, at(71_000)) && watch.begin(&quote, at(71_000)), "nor is it open with a session");
        assert!(watch.heard(&trade, at(72_000)) && !watch.heard(&trade, at(72_100)) && !watch.is_silent(&trade));
        assert_eq!(watch.look(at(80_000)), [], "and that was no rhythm");
    }
}
