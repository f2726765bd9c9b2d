//! The store's tests: the engine over a store that grows, and the server with real clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod clients;
mod ending;
mod engine;
mod refused;
#[path = "../../../../tests/it/skipped.rs"]
mod skipped;
mod support;
