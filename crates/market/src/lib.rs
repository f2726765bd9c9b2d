//! What an event is.
//!
//! The product's vocabulary: exact decimals, instants, events, order books, and their one
//! encoding for tape and bus ([`wire`]). No I/O, no clock, no async: everything here is a
//! function of its arguments.

pub mod book;
mod decimal;
mod event;
mod gap;
pub mod odds;
#[cfg(feature = "strategy")]
pub mod strategy;
mod time;
pub mod wire;

pub use book::Book;
pub use decimal::{Decimal, DecimalError, Price, Size, Sum};
pub use event::*;
pub use gap::{Gap, GapCause, GapState};
pub use smol_str::SmolStr;
pub use time::UnixNanos;
pub use uuid::Uuid;
