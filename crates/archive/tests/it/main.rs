//! Tests of the archive, through its public face.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod docs;
mod follow;
mod rig;
mod rows;
