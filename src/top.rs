//! `tapedeck top`: the deck, its servers, sources and readers on one screen.
//!
//! It reads what every shell can read, the control socket and the process table, and draws it twice a second. [`Model`] is
//! what is shown and what keys change, without a terminal; [`draw`] is how.

mod model;
mod view;

#[cfg(test)]
mod tests;

pub use model::{Deed, Key, Model, Seen};
pub use view::draw;
