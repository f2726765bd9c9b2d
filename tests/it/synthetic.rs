//! EUR/USD through crypto: against a naive implementation, on the wire, across kills and gaps.

mod deck;
mod naive;
mod random;
mod wire;

use tapedeck::config::Synthetic;
use tapedeck::synthetic::{Maker, Recipe, SYNTHETIC};
use tapedeck_market::{Body, Event, Flags, Record, UnixNanos};

fn recipe(table: &str) -> Recipe {
    toml::from_str::<Synthetic>(table).unwrap().recipe().unwrap()
}

/// What a quote says; when it was written down is none of it.
fn said(event: &Event) -> Event {
    Event { ts_recv: UnixNanos::EPOCH, flags: Flags::DERIVED, ..event.clone() }
}

/// The quotes on a tape, in order.
fn on_tape(records: &[Record]) -> Vec<Event> {
    let is_quote = |event: &Event| event.source == SYNTHETIC && matches!(event.body, Body::Synthetic(_));
    records.iter().filter(|record| is_quote(&record.event)).map(|record| said(&record.event)).collect()
}

/// What an uninterrupted run says of these.
fn made<'a>(recipe: &Recipe, events: impl IntoIterator<Item = &'a Event>) -> Vec<Event> {
    let mut maker = Maker::new(recipe.clone());
    let mut all = Vec::new();
    for event in events {
        maker.record(event);
        all.extend(maker.take_said(event.ts_recv).iter().map(said));
    }
    all
}
