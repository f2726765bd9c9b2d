//! Betfair: recordings and single lines through the parser, then a fake venue through the sessions, then whole decks.

mod deck;
mod files;
mod lines;
mod live;
pub(crate) mod recorded;
