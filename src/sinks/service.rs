//! Each `[sink.NAME]` is a service of the deck: a pump around the sink of its kind.

use std::path::Path;

use anyhow::Context as _;
use async_trait::async_trait;
use tapedeck_market::SmolStr;
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::pump::Pump;
use super::{KINDS, Setup, Sink};
use crate::config::KindTable;
use crate::service::{Desk, Holds, Service, ServiceKind, Stage};

/// What all sinks are to the deck; which one it is says the name in [`crate::service::Setup`].
pub const KIND: ServiceKind = ServiceKind {
    name: "sink",
    stage: Stage::Serve,
    // Each table says for itself whether it holds anything back.
    holds: Holds::Nothing,
    section: |_| None,
    build: |setup| {
        let table = setup.config.sinks.iter().find(|sink| sink.name == setup.name);
        let table = table.with_context(|| format!("there is no [sink.{}]", setup.name))?;
        let (delivery, sink) = build(table, &setup.dir)?;
        Ok(Box::new(Delivering { pump: Some(Pump { name: setup.name.clone(), sink, delivery }) }))
    },
};

/// Checks the table of a sink and makes it; connects to nothing.
///
/// # Errors
/// What is wrong with the table, beginning with the key it is about.
pub fn build(table: &KindTable, dir: &Path) -> anyhow::Result<(Delivery, Box<dyn Sink>)> {
    let (delivery, own) = plan_of(table)?;
    let kind = KINDS.iter().find(|kind| kind.name == table.kind);
    let kind = kind.with_context(|| format!("there is no kind `{}`", table.kind))?;
    let setup = Setup { name: SmolStr::clone(&table.name), table: own, dir: dir.to_owned() };
    Ok((delivery, (kind.build)(setup)?))
}

/// The keys of the delivery, and those of the kind.
///
/// # Errors
/// A key of the delivery has a value that it cannot have.
pub fn plan_of(table: &KindTable) -> anyhow::Result<(Delivery, toml::Table)> {
    let mut own = table.table.clone();
    let delivery = Delivery::take(&mut own)?;
    Ok((delivery, own))
}

struct Delivering {
    /// Taken by the run: a service is made anew for each.
    pump: Option<Pump>,
}

#[async_trait]
impl Service for Delivering {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let pump = self.pump.take().context("a sink runs once")?;
        pump.run(desk, stop).await
    }
}
