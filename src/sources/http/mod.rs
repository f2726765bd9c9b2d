//! Points over HTTP: what InfluxDB's clients write, on the deck's own port.
//!
//! The source owns the config, the credentials and the way to the recorder; the routes are in `src/http/points`, and
//! reach it through the [`Door`] that a session opens. A request is answered 204 when all its points are durable.

mod config;
mod door;

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use tapedeck_market::{SmolStr, UnixNanos};
use tokio::sync::mpsc;

pub use self::config::Config;
pub use self::door::{BATCH_BYTES, Batch, Credentials, Door, Offer, Reject, Upstream};
use super::{Kind, Outlet, Session, Setup, Source, Waiting};

pub const KIND: Kind = Kind {
    name: "http",
    about: "Points that clients of InfluxDB write to the deck's own port, in line protocol",
    build,
    schema: || schemars::schema_for!(Config),
    history: None,
    reread: None,
};

/// Batches on their way from requests to the source. Each holds at most [`BATCH_BYTES`] of text.
const QUEUE_BATCHES: usize = 16;
/// What the ledger calls the one subscription: while it is not live, nothing could be written.
const CHANNEL: &str = "points";

fn build(setup: Setup) -> anyhow::Result<Vec<Session>> {
    let config = Config::from_table(setup.table)?;
    let venue = config.venue.clone();
    Ok(vec![Session { name: setup.name, venue, source: Box::new(Points { config }) }])
}

struct Points {
    config: Config,
}

#[async_trait]
impl Source for Points {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let (batches, mut queue) = mpsc::channel(QUEUE_BATCHES);
        let door = Arc::new(Door::new(&self.config, out, batches)?);
        let _open = out.inlet().open(door).map_err(|taken| Waiting(format!("{taken}: keep one of them")))?;
        out.live(SmolStr::default(), SmolStr::new_static(CHANNEL), UnixNanos::now()).await?;
        while let Some(Batch { events, bytes, ts_recv, rejects, durable }) = queue.recv().await {
            out.heard(ts_recv, bytes);
            for Reject { line, reason, words } in rejects {
                out.reject(&line, ts_recv, reason, &words).await?;
            }
            if !events.is_empty() {
                out.emit_telling(events, durable).await?;
            }
        }
        Ok(())
    }

    async fn check(&mut self) -> anyhow::Result<String> {
        let access = if self.config.credentials().is_open() { "no password" } else { "password or token" };
        let Some(upstream) = Upstream::of(&self.config)? else {
            return Ok(format!("points are taken on the port of [http] ({access}); no InfluxDB behind it"));
        };
        upstream.ping().await.context("asking the InfluxDB that `influx` names")?;
        Ok(format!("points are taken on the port of [http] ({access}); the InfluxDB behind it answers"))
    }
}
