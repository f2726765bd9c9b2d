//! X: lines through the parser, then a fake venue through the sessions, then whole decks.

mod deck;
mod lines;
mod live;
