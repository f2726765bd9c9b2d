//! The sync, on real servers.

mod source;
mod target;
mod whole;
