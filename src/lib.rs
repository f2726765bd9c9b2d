//! tapedeck: the flight recorder for live markets.
//!
//! The library behind the program of the same name, so that tests, benches and fuzz targets reach
//! its parts. `ARCHITECTURE.md` has the picture and the code map.

pub mod alerts;
pub mod bus;
pub mod candles;
pub mod child;
pub mod cli;
pub mod config;
pub mod control;
pub mod deck;
pub mod derive;
pub mod describe;
pub mod feed;
pub mod grafana;
pub mod heartbeat;
pub mod http;
pub mod import;
pub mod inlet;
pub mod intake;
pub mod json;
pub mod lineproto;
pub mod logs;
pub mod meter;
mod notify;
pub mod recorder;
pub mod registry;
pub mod renormalise;
pub mod repair;
pub mod replay;
pub mod screen;
pub mod service;
pub mod sinks;
pub mod sources;
pub mod status;
pub mod store;
pub mod supervise;
pub mod sync;
pub mod synthetic;
mod tls;
pub mod top;
pub mod up;
