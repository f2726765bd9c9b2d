//! The ledger's holes, filled from what the venues still tell of the past.
//!
//! ```text
//! tape ─► ledger: holes that are over, and are neither repaired nor given up
//!            │ oldest first, a while after the feed went on
//!            ▼
//!         filler ◄──► history (of the venue: paced, page by page)
//!            │ events flagged `backfilled` · where to go on, or the hole's last word        one append a page
//!            ▼
//!         recorder, which leaves out the trades that are on the tape
//! ```
//!
//! Invariants:
//! - The hole's last word stands in the append of the last events that fill it: a crash repeats a page, and no more.
//! - What is said is true: `repaired` when everything that the numbering names came; else `unrepairable`, with the reason.
//! - A venue that is away costs time. One that has nothing, or nothing like it, costs nobody else anything.

mod filler;
mod ledger;
mod service;

pub use filler::{Filler, Step};
pub use ledger::{Ledger, Noted};
pub use service::{Figures, KIND, Task, fill};
