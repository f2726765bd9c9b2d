//! Candles that tell the truth: built on venue time from the records of the tape, each with what is known of it.
//!
//! ```text
//! tape ─► feed (which record is a tick, of which instrument) ─► engine (open candles) ─► recorder ─► tape
//!                     ▲                                            │ a tick for a bucket that has closed
//!                     └──────────── past: the tape, read again ◄───┘
//! ```
//!
//! Invariants:
//! - What is said is a function of the records: at any batching and from any restart the same candles come out. The wall
//!   clock only asks for a record to be written when nothing else carries the time on; that record is on the tape too.
//! - (instrument, interval, start, revision) is stated once; the highest revision holds.
//! - No sum goes through a float; what does not fit is left out, never wrong.

mod bar;
mod before;
mod engine;
mod feed;
mod maker;
mod rebuild;
mod service;
mod slot;
mod span;
mod state;

pub use bar::Bar;
pub use engine::{Counts, Engine, Said, Settings};
pub(crate) use feed::concerns;
pub use feed::{Passed, Selection};
pub use maker::{CANDLES, Maker, Recipe, UNREVISABLE, candle_of};
pub use rebuild::{Rebuild, Wanted};
pub use service::KIND;
pub use slot::Tick;
pub(crate) use span::Calendar;
pub use span::{Anchor, bucket};
