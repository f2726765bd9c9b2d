//! The fake OANDA as a client sees it, over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod rest;
mod simulate;
#[path = "../../../../tests/it/skipped.rs"]
mod skipped;
