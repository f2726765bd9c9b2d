//! Derived quotes as a part of the deck.

use std::collections::VecDeque;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tapedeck_market::{Body, Event, UnixNanos};
use tokio_util::sync::CancellationToken;

use super::maker::{Maker, Recipe, SYNTHETIC};
use super::said::mark;
use crate::derive::{self, Derived, Past};
use crate::service::{Desk, Holds, Service, ServiceKind, Setup, Stage, section_of};

/// `[synthetic]`
pub const KIND: ServiceKind = ServiceKind {
    name: SYNTHETIC,
    stage: Stage::Derive,
    holds: Holds::Everything,
    section: |config| section_of(config.synthetic.as_ref()),
    build,
};

fn build(setup: &Setup) -> anyhow::Result<Box<dyn Service>> {
    let table = setup.config.synthetic.clone().unwrap_or_default();
    let recipe = table.recipe().map_err(|(key, error)| anyhow::anyhow!("[synthetic] {key}: {error}"))?;
    Ok(Box::new(Synthetics { recipe }))
}

struct Synthetics {
    recipe: Recipe,
}

#[async_trait]
impl Service for Synthetics {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let recipe = self.recipe.clone();
        derive::run_apart(desk, stop, move || Making::new(recipe)).await
    }
}

/// A maker, and what it has said in an earlier life.
struct Making {
    maker: Maker,
    /// Outputs of an earlier life may lie ahead.
    again: bool,
    /// Whether each output that was taken lies ahead already. This is known when it is taken, and asked later: by then the
    /// one that lay ahead may have been read.
    there: VecDeque<bool>,
}

impl Making {
    fn new(recipe: Recipe) -> Self {
        Making { maker: Maker::new(recipe), again: true, there: VecDeque::new() }
    }
}

impl Derived for Making {
    fn resume(&mut self, state: &[u8]) -> Option<u64> {
        let (maker, seq) = Maker::resume(self.maker.recipe.clone(), state)?;
        self.maker = maker;
        Some(seq)
    }

    fn state(&self, seq: u64) -> Vec<u8> {
        self.maker.state(seq)
    }

    fn checkpoint(&mut self, event: &Event) {
        self.maker.checkpoint(event);
    }

    fn record(&mut self, _: u64, event: &Event, _: &mut dyn Past) -> anyhow::Result<()> {
        self.maker.record(event);
        Ok(())
    }

    fn hole(&mut self, _: UnixNanos, _: UnixNanos) {
        self.maker.hole();
    }

    fn pause(&mut self, _: u64, _: &mut dyn Past) -> anyhow::Result<()> {
        Ok(())
    }

    fn take(&mut self, now: UnixNanos) -> Vec<Event> {
        let said = self.maker.take_said(now);
        if self.again {
            self.there.extend(said.iter().map(|output| self.maker.ahead.is_there(mark(output))));
        }
        said
    }

    /// What is said is said of a record: time alone changes nothing.
    fn due(&self) -> Option<UnixNanos> {
        None
    }

    fn time(&self, now: UnixNanos) -> Event {
        derive::time_event(SYNTHETIC, now)
    }

    fn saw(&mut self, output: &Event) {
        if matches!(output.body, Body::Synthetic(_)) {
            self.maker.ahead.saw(mark(output));
        }
    }

    fn fresh(&mut self, output: Event) -> Option<Event> {
        let there = self.there.pop_front().unwrap_or(false);
        (!there).then_some(output)
    }

    fn caught_up(&mut self) -> Vec<Event> {
        self.again = false;
        self.maker.ahead.caught_up();
        Vec::new()
    }

    fn waits(&self) -> Option<String> {
        let [tick, depth] = self.maker.crosses();
        if tick.both + depth.both > 0 {
            return None;
        }
        let heard = if tick.alone.is_empty() { depth.alone } else { tick.alone };
        let heard = if heard.is_empty() { "none in either".to_owned() } else { format!("only {}", heard.join(", ")) };
        let venue = &self.maker.recipe.venue;
        Some(format!("no coin of {venue} with a price in USD and one in EUR ({heard})"))
    }

    fn show(&self) -> Map<String, Value> {
        let counts = self.maker.counts();
        let [tick, depth] = self.maker.crosses();
        [
            ("crosses", tick.both as u64),
            ("book_crosses", depth.both as u64),
            ("ticks", counts.ticks),
            ("depths", counts.depths),
            ("calm", counts.calm),
            ("held", counts.held),
            ("unchanged", counts.unchanged),
            ("stale", counts.stale),
            ("outside", counts.outside),
            ("unusable", counts.unfit),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Flags, Quote};

    use super::*;
    use crate::config;

    struct NoPast;

    impl Past for NoPast {
        fn read(&mut self, _: UnixNanos, _: u64, _: &mut dyn FnMut(u64, Option<&Event>)) -> anyhow::Result<UnixNanos> {
            Ok(UnixNanos::EPOCH)
        }
    }

    fn quote(second: i64, symbol: &str, price: &str) -> Event {
        let at = UnixNanos(1_767_607_200_000_000_000 + second * 1_000_000_000);
        let (bid, ask) = (price.parse().ok(), price.parse().ok());
        Event {
            source: "kraken".into(),
            venue: "kraken".into(),
            symbol: symbol.into(),
            ts_event: Some(at),
            ts_recv: at,
            flags: Flags::NONE,
            origin: None,
            body: Body::Quote(Quote { bid, ask, ..Quote::default() }),
        }
    }

    fn making() -> Making {
        Making::new(config::Synthetic::default().recipe().unwrap())
    }

    /// Reads records as one batch; what of it is new.
    fn batch(making: &mut Making, records: &[Event]) -> Vec<Event> {
        let mut made = Vec::new();
        for record in records {
            making.record(0, record, &mut NoPast).unwrap();
            made.extend(making.take(record.ts_recv));
        }
        made.into_iter().filter_map(|output| making.fresh(output)).collect()
    }

    /// Records of some seconds, each second's outputs behind those of the next one.
    fn tape() -> Vec<Event> {
        let mut first = making();
        let (mut tape, mut on_the_way) = (vec![quote(0, "BTC/EUR", "50000")], Vec::new());
        batch(&mut first, &tape);
        for second in 1..20 {
            let record = quote(second, "BTC/USD", &(55_000 + second % 3).to_string());
            let made = batch(&mut first, std::slice::from_ref(&record));
            tape.push(record);
            tape.append(&mut on_the_way);
            on_the_way = made;
        }
        tape.append(&mut on_the_way);
        tape
    }

    #[test]
    fn what_is_read_in_the_batch_in_which_it_is_made_again_is_known() {
        let tape = tape();
        let outputs = tape.iter().filter(|event| matches!(event.body, Body::Synthetic(_))).count();
        assert_eq!(outputs, 18);
        let mut second = making();
        tape.iter().filter(|event| event.flags.contains(Flags::DERIVED)).for_each(|output| second.saw(output));
        assert_eq!(batch(&mut second, &tape), []);
        assert!(second.there.is_empty() && second.maker.ahead == super::super::said::Ahead::default());
    }

    /// Killed behind any record, with the state of any moment before it, or with none.
    #[test]
    fn each_quote_is_said_once_wherever_the_crash_and_the_state_are() {
        let tape = tape();
        let is_output = |event: &&Event| event.flags.contains(Flags::DERIVED);
        for crash in 0..=tape.len() {
            for saved in 0..=crash {
                let mut first = making();
                batch(&mut first, &tape[..saved]);
                // A state is saved when everything said before it is on the tape.
                if tape[saved..crash].iter().filter(is_output).count() < first.maker.ahead.known as usize {
                    continue;
                }
                let mut second = making();
                let state = first.state(saved as u64);
                let from = second.resume(&state).unwrap() as usize;
                let mut lost = making();
                for (making, from) in [(&mut second, from), (&mut lost, 0)] {
                    tape[from..crash].iter().filter(is_output).for_each(|output| making.saw(output));
                    let mut new = batch(making, &tape[from..crash]);
                    making.caught_up();
                    // What was on its way at the crash is said now, and then the rest of the records.
                    let said: Vec<Event> = tape[..crash].iter().filter(is_output).cloned().collect();
                    let rest: Vec<Event> = tape[crash..].iter().filter(|event| !is_output(event)).cloned().collect();
                    new.extend(batch(making, &rest));
                    let all: Vec<u64> = said.iter().chain(&new).map(mark).collect();
                    let want: Vec<u64> = tape.iter().filter(is_output).map(mark).collect();
                    assert_eq!(all, want, "crash behind {crash}, state behind {from}");
                }
            }
        }
    }
}
