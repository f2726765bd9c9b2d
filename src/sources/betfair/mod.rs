//! Betfair Exchange Stream: ladders of runners, definitions of markets, and own orders, over a stream of lines.

mod definition;
pub mod line;
pub mod markets;
mod order;
mod value;
