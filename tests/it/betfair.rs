//! Betfair: recordings and single lines through the parser, then a fake venue through the sessions, then whole decks.

mod files;
mod lines;
pub(crate) mod recorded;
