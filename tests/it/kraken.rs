//! Kraken: recorded frames through the parsers and books, then a fake venue through a session.

pub(crate) mod desk;
mod files;
mod goldens;
mod listing;
mod live;
pub(crate) mod recordings;
mod venue;
