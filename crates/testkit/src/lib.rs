//! Fake venues: real servers on real sockets, with faults on demand.
//!
//! Nothing here is shared with the sources that are tested against it: not a parser, not a price
//! type, not a checksum. A mistake made twice in one way would otherwise look like agreement.

pub mod betfair;
pub mod binance;
mod http;
pub mod kite;
pub mod kraken;
mod lines;
pub mod oanda;
pub mod script;
mod serve;
mod talk;
mod ws;
pub mod x;

pub use betfair::FakeBetfair;
pub use binance::FakeBinance;
pub use kite::FakeKite;
pub use kraken::{FakeKraken, Handle};
pub use oanda::FakeOanda;
pub use x::FakeX;
