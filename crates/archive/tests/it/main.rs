//! Tests of the archive, through its public face.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod crash;
mod days;
mod docs;
mod follow;
mod kill;
#[path = "../../benches/market.rs"]
mod market;
mod model;
mod python;
mod rig;
mod rows;
mod size;
#[path = "../../../../tests/it/skipped.rs"]
mod skipped;
