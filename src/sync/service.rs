//! The sync beside a deck: the same tables, followed for as long as the deck runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tapedeck_market::UnixNanos;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::following::Following;
use super::pass::How;
use super::state::TableState;
use crate::service::{Desk, Holds, Service, ServiceKind, Setup, Stage};

/// How often its figures are shown anew.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// `[sync]`, unless it says `deck = false`. It reads another database, so the tape waits for nothing of it.
pub const KIND: ServiceKind = ServiceKind {
    name: "sync",
    stage: Stage::Serve,
    holds: Holds::Nothing,
    section: |config| {
        let table = &config.sync.as_ref()?.table;
        // One that names alone have made has no tables.
        let any = table.get("table").and_then(toml::Value::as_table).is_some_and(|tables| !tables.is_empty());
        let on = any && table.get("deck").and_then(toml::Value::as_bool).unwrap_or(true);
        on.then(|| table.clone().into())
    },
    build,
};

fn build(setup: &Setup) -> anyhow::Result<Box<dyn Service>> {
    let table = setup.config.sync.as_ref().map(|sync| sync.table.clone()).unwrap_or_default();
    let config = Config::from_table(table).context("[sync]")?;
    let folder = config.folder(&setup.dir);
    Ok(Box::new(Synced { config, folder }))
}

struct Synced {
    config: Config,
    folder: PathBuf,
}

#[async_trait]
impl Service for Synced {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let following = Following::new(self.config.clone(), self.folder.clone(), PathBuf::new())?;
        desk.shown.set_state("running");
        let tables = self.config.table.clone().into_iter().collect();
        let showing = async {
            loop {
                show(&following, desk);
                tokio::time::sleep(SHOW_EVERY).await;
            }
        };
        tokio::select! {
            done = following.run(tables, How::default(), stop) => done,
            () = showing => Ok(()),
        }
    }
}

fn show(following: &Following, desk: &Desk) {
    let tables = following.shown.tables();
    let waiting = tables.iter().find(|(_, said)| said["state"] == "waiting");
    desk.shown.set_state(match waiting {
        Some((table, said)) => format!("waiting: {table}: {}", said["trouble"].as_str().unwrap_or_default()),
        None => "running".to_owned(),
    });
    if let Some(states) = following.states() {
        let now = UnixNanos::now();
        let figures = |table: &TableState| {
            json!({
                "synced": table.synced, "failed": table.failed, "gone": table.gone, "processed": table.total.seen,
                "sent": table.total.sent, "lag_seconds": table.lag_seconds(now), "records_per_second": table.rate(),
                "success_ratio": table.success_ratio(), "trouble": table.trouble,
            })
        };
        let by_table: Map<String, Value> = states.iter().map(|table| (table.name.clone(), figures(table))).collect();
        desk.shown.set("by_table", by_table);
    }
    if let Some(figures) = following.figures() {
        desk.shown.set("tables", tables.len());
        desk.shown.set("processed", figures.processed);
        desk.shown.set("synced", figures.synced);
        desk.shown.set("failed", figures.failed);
        desk.shown.set("gone", figures.gone);
    }
}
