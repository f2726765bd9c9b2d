//! A recorder without sources: for work that writes to a tape while no deck does.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tapedeck_market::SmolStr;
use tapedeck_tape::Tail;
use tokio::sync::mpsc;

use super::Plan;
use crate::intake::{Counters, Outlet, QUEUE_FRAMES};

/// Opens the tape as a deck does, lets `work` write, and closes the tape in order, however the work ended.
///
/// # Errors
/// The tape cannot be opened ([`tapedeck_tape::Error::Locked`] when a deck has it) or written; what the work failed with.
pub async fn alone<T>(
    plan: &Plan,
    name: SmolStr,
    work: impl AsyncFnOnce(Outlet, Arc<Tail>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let plan = plan.clone();
    let opened = tokio::task::spawn_blocking(move || super::open(&plan)).await.context("opening the tape")?;
    let (recorder, watches, _) = opened?;
    let (to_recorder, intake) = mpsc::channel(QUEUE_FRAMES);
    let recording = tokio::task::spawn_blocking(move || recorder.run(intake));
    let outlet = Outlet::new(name.clone(), name, to_recorder, Arc::new(Counters::default()), Arc::default());
    let worked = work(outlet, watches.tape.clone()).await;
    let recorded = recording.await.map_err(|error| anyhow!("the recorder failed: {error}"))?;
    let worked = worked?;
    recorded?;
    Ok(worked)
}
