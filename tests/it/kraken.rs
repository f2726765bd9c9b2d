//! Kraken: recorded frames through the parsers and books, then a fake venue through a session.

mod live;
mod recordings;
