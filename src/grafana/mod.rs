//! Grafana, filled from the config: a data source for each store, and dashboards of what is recorded.
//!
//! ```text
//!                      ┌ stores   data sources, and in which language each is asked
//! config, the stores ──┼ streams  what the sources record: a dashboard each
//!                      └ boards   panels of all of them ─► plan ─► files, or the HTTP API
//! ```
//!
//! The plan is JSON and knows no Grafana; files and API bring the same one.

mod alerts;
mod api;
mod ask;
mod board;
mod boards;
mod config;
mod files;
mod plan;
mod setup;
mod stream;

pub use api::State;
pub use config::{Config, To};
pub use plan::{Change, Plan};
pub use setup::{Done, Job, look, setup};
