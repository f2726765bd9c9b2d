//! Tape torture: whatever a disk, a power cut or a killer does, what was acknowledged is there, and nothing else is.
//!
//! ```text
//! rig.rs      a tape on the model, and what the outside world knows about it: the oracle
//! explore.rs  random lives, random disasters, a check after each; and the seeded bugs that it must find
//! cut.rs      a segment cut at every byte          flips.rs  every bit of a segment flipped
//! faults.rs   every storage call failed            disk.rs   real files: a full disk, two processes
//! regress.rs  what was found once, as short as it can be told
//! ```
//!
//! `TAPEDECK_TORTURE_SCALE` multiplies the number of random states, `TAPEDECK_TORTURE_SEED` moves them elsewhere.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod cut;
mod disk;
mod explore;
mod faults;
mod flips;
mod regress;
mod rig;
#[path = "../../../../tests/it/skipped.rs"]
mod skipped;

/// How many times more states than in an ordinary run.
fn scale() -> u64 {
    number_from("TAPEDECK_TORTURE_SCALE").unwrap_or(1)
}

/// Where random tests begin; printed with every finding.
fn seed() -> u64 {
    number_from("TAPEDECK_TORTURE_SEED").unwrap_or(1)
}

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text:?} is not a number")))
}
