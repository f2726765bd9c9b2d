//! Candles as a part of the deck.

use async_trait::async_trait;
use serde_json::{Map, Value};
use tapedeck_market::{Event, UnixNanos};
use tokio_util::sync::CancellationToken;

use super::before::Before;
use super::maker::{CANDLES, Maker, Recipe};
use crate::config::units::show_duration;
use crate::derive::{self, Derived, Past};
use crate::service::{Desk, Holds, Service, ServiceKind, Setup, Stage, section_of};

/// `[candles]`
pub const KIND: ServiceKind = ServiceKind {
    name: CANDLES,
    stage: Stage::Derive,
    holds: Holds::Everything,
    section: |config| section_of(config.candles.as_ref()),
    build,
};

fn build(setup: &Setup) -> anyhow::Result<Box<dyn Service>> {
    let table = setup.config.candles.clone().unwrap_or_default();
    let recipe = table.recipe().map_err(|(key, error)| anyhow::anyhow!("[candles] {key}: {error}"))?;
    Ok(Box::new(Candles { recipe }))
}

struct Candles {
    recipe: Recipe,
}

#[async_trait]
impl Service for Candles {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let recipe = self.recipe.clone();
        derive::run_apart(desk, stop, move || Making::new(recipe)).await
    }
}

/// A maker, and what it has said in an earlier life.
#[derive(Debug)]
pub(super) struct Making {
    recipe: Recipe,
    maker: Maker,
    before: Before,
}

impl Making {
    pub(super) fn new(recipe: Recipe) -> Self {
        Making { maker: Maker::new(recipe.clone()), recipe, before: Before::default() }
    }
}

impl Derived for Making {
    fn resume(&mut self, state: &[u8]) -> Option<u64> {
        let (maker, seq) = Maker::resume(self.recipe.clone(), state)?;
        self.maker = maker;
        Some(seq)
    }

    fn state(&self, seq: u64) -> Vec<u8> {
        self.maker.state(seq)
    }

    fn checkpoint(&mut self, event: &Event) {
        self.maker.checkpoint(event);
    }

    fn record(&mut self, seq: u64, event: &Event, past: &mut dyn Past) -> anyhow::Result<()> {
        self.maker.record(seq, event, past)
    }

    fn hole(&mut self, from: UnixNanos, to: UnixNanos) {
        self.maker.hole(from, to);
    }

    fn pause(&mut self, seq: u64, past: &mut dyn Past) -> anyhow::Result<()> {
        self.maker.pause(seq, past)
    }

    fn take(&mut self, now: UnixNanos) -> Vec<Event> {
        if self.maker.has_said() { self.maker.take_said(now) } else { Vec::new() }
    }

    fn due(&self) -> Option<UnixNanos> {
        self.maker.due()
    }

    fn time(&self, now: UnixNanos) -> Event {
        derive::time_event(CANDLES, now)
    }

    fn saw(&mut self, output: &Event) {
        self.before.saw(output);
    }

    fn fresh(&mut self, output: Event) -> Option<Event> {
        self.before.fresh(output)
    }

    fn caught_up(&mut self) -> Vec<Event> {
        let (differing, last) = std::mem::take(&mut self.before).settle();
        for ((venue, symbol, interval_ns, start), revision) in last {
            self.maker.stated_as(&venue, &symbol, interval_ns, start, revision);
        }
        differing
    }

    fn show(&self) -> Map<String, Value> {
        let (counts, passed) = self.maker.counts();
        let open = self.maker.open_by_interval().into_iter().map(|(interval_ns, open)| {
            let interval = std::time::Duration::from_nanos(interval_ns.unsigned_abs());
            (format!("open_{}", show_duration(interval)), Value::from(open))
        });
        [
            ("instruments", self.maker.instruments() as u64),
            ("open", self.maker.open() as u64),
            ("ticks", counts.ticks),
            ("emitted", counts.stated),
            ("revised", counts.revised),
            ("unrevisable", counts.unrevisable),
            ("late_ticks", counts.late),
            ("outside_session", counts.outside),
            ("absurd_times", passed.absurd),
            ("unusable_ticks", passed.unusable + passed.beyond + counts.unfit + counts.ahead),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .chain(open)
        .collect()
    }
}
