//! The one integration-test binary: one module a feature.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod bus;
mod candles;
mod cli;
mod client;
mod config;
mod coverage;
mod deck;
mod demo;
mod disk;
mod ending;
mod events;
mod examples;
mod history;
mod hostile;
mod http;
mod influx;
mod kill;
mod kite;
mod kraken;
mod logs;
mod oanda;
mod outage;
mod points;
mod postgres;
mod questdb;
mod reconcile;
mod replay;
mod servers;
mod skipped;
mod store;
mod stores;
mod support;
mod synthetic;
mod tls;
mod zmq_source;
