//! Tables of a QuestDB (or a SQLite file) kept the same in a PocketBase.
//!
//! ```text
//! source ─► what is new ─► rows ─► mapping, rules ─► documents ─► changed since last sent? ─► batches ─► confirmed ─► state
//!                                     └─ against a rule ─► dead letters ◄─ refused by the target ─┘
//! ```
//!
//! It is no reader of the tape: the source's own log says what is new. Everything else is as for any reader: the mark
//! of a table moves only after the target has confirmed what lies before it, writing the same twice changes nothing, and what can
//! never be written is kept with its reason. Marks, what was sent, and the dead letters lie in one folder under one lock.

pub mod collection;
pub mod config;
pub mod document;
pub mod following;
pub mod json;
pub mod mapping;
#[cfg(test)]
mod memory;
pub mod pass;
pub mod paused;
pub mod pocketbase;
pub mod presets;
pub mod service;
pub mod source;
pub mod state;
pub mod target;
pub mod trouble;
pub mod value;
pub mod verify;
pub mod watch;
pub mod writer;

pub use document::{Digest, Document, Id};
pub use mapping::{Mapping, Refused};
pub use source::{By, Day, Mark, News, Source, Span, Wanted};
pub use trouble::{Class, Trouble};
pub use value::{Column, Row, Schema, Type, Value};
