//! Tests of what an event is, through its public face.

mod book;
mod decimal;
mod golden;
mod kraken;
#[path = "../../../../tests/it/skipped.rs"]
mod skipped;
mod wire;
