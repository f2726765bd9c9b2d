//! Kite: recorded packets against what the venue's own client makes of them, then a fake venue through sessions and decks.

mod deck;
mod frames;
mod live;
mod recorded;
mod symbols;
