//! Whether each market still lives, judged by its own rhythm while it is open: heartbeats prove nothing about one market.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tapedeck_market::{Body, SmolStr};

use super::{ChangeType, Changes};
use crate::sources::liveness::Rhythm;

/// Markets that are looked after at most; a subscription has 200.
const MARKETS: usize = 10_000;

/// The markets of a subscription; what is known of them outlives a session.
#[derive(Debug, Default)]
pub(super) struct Pulses(HashMap<SmolStr, Pulse>);

#[derive(Debug, Default)]
struct Pulse {
    rhythm: Rhythm,
    /// By its definition, in play or not; one that is suspended says nothing, and of one without a definition nobody knows.
    open: bool,
}

impl Pulses {
    /// Takes a message.
    pub(super) fn take(&mut self, changes: &Changes, now: Instant) {
        // The beginning of a subscription is an answer, and says nothing about a market.
        let answer = matches!(changes.change_type, ChangeType::SubImage | ChangeType::ResubDelta);
        if answer {
            self.excuse(now);
        }
        let mut last = None;
        for event in &changes.events {
            let known = last == Some(&event.symbol);
            last = Some(&event.symbol);
            let definition = if let Body::Instrument(it) = &event.body { it.status.as_deref() } else { None };
            if known && definition.is_none() {
                continue;
            }
            if self.0.len() >= MARKETS && !self.0.contains_key(&event.symbol) {
                self.0.clear();
            }
            let pulse = self.0.entry(event.symbol.clone()).or_default();
            if let Some(status) = definition {
                let open = status == "OPEN";
                if open != pulse.open {
                    pulse.open = open;
                    pulse.rhythm.resumed(now);
                }
            }
            if !known && !answer {
                pulse.rhythm.heard(now);
            }
        }
        for head in changes.heads.iter().filter(|head| head.closed) {
            self.0.remove(&head.market);
        }
    }

    /// Nobody listened until now.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.0.values_mut().for_each(|pulse| pulse.rhythm.resumed(now));
    }

    /// Markets that have fallen silent, and for how long.
    pub(super) fn silent(&mut self, now: Instant) -> Vec<(SmolStr, Duration)> {
        let silent = self.0.iter_mut().filter_map(|(market, pulse)| {
            let silence = pulse.rhythm.stalled_while(pulse.open, now)?;
            Some((market.clone(), silence))
        });
        let mut silent: Vec<_> = silent.collect();
        silent.sort();
        silent
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::UnixNanos;

    use super::*;
    use crate::sources::betfair::line::{Ctx, Message, parse};

    fn message(text: &str) -> Changes {
        let ctx = Ctx { source: "b".into(), venue: "betfair".into() };
        match parse(text.as_bytes(), UnixNanos(1_743_511_672_980_000_000), &ctx).expect("a line") {
            Message::Markets(changes) => changes,
            other => panic!("{other:?}"),
        }
    }

    fn definition(status: &str) -> Changes {
        message(&format!(
            r#"{{"op":"mcm","mc":[{{"id":"1.2","marketDefinition":{{"version":1,"status":"{status}"}}}}]}}"#
        ))
    }

    #[test]
    fn an_open_market_that_falls_silent_is_found_whatever_beats_and_a_suspended_one_is_left_alone() {
        let (mut pulses, start) = (Pulses::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let tick = message(r#"{"op":"mcm","mc":[{"id":"1.2","rc":[{"id":7,"ltp":2.5}]}]}"#);
        let beat = message(r#"{"op":"mcm","ct":"HEARTBEAT","clk":"A"}"#);
        let speak = |pulses: &mut Pulses, from: u64, to: u64, what: &Changes| {
            let mut found = Vec::new();
            for ms in (from..to).step_by(100) {
                pulses.take(what, at(ms));
                found.extend(pulses.silent(at(ms)).into_iter().map(|(market, _)| (market, ms)));
            }
            found
        };
        assert!(speak(&mut pulses, 0, 60_000, &tick).is_empty());
        assert!(speak(&mut pulses, 60_000, 200_000, &beat).is_empty(), "nobody knows whether it is open");
        pulses.take(&definition("OPEN"), at(200_000));
        assert!(speak(&mut pulses, 200_100, 260_000, &tick).is_empty());
        assert_eq!(speak(&mut pulses, 260_000, 275_000, &beat), [(SmolStr::new("1.2"), 270_000)]);
        assert!(speak(&mut pulses, 275_000, 335_000, &tick).is_empty());
        pulses.take(&definition("SUSPENDED"), at(335_000));
        assert!(speak(&mut pulses, 335_000, 900_000, &beat).is_empty());
        pulses.take(&definition("CLOSED"), at(900_000));
        assert!(pulses.0.is_empty(), "nothing more will come of it");
    }
}
