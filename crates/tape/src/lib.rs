//! The tape: a durable, ordered, self-repairing log with a cursor per reader.
#![forbid(unsafe_code)]

mod alloc;
mod compress;
mod current;
mod cursor;
mod error;
mod folder;
mod log;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod reader;
mod recover;
mod retain;
mod scan;
mod segment;
pub mod storage;
mod tail;
#[cfg(test)]
mod tests;
pub mod tools;
mod wake;

pub use alloc::Allocation;
pub use cursor::{Cursor, MAX_STATE_BYTES, cursors};
pub use error::Error;
pub use log::{Entry, Log, Mode, Note, Opening, Options, TornTail, UnknownMode};
pub use reader::{Item, RawRecord, Reader, Start};
pub use retain::{Extent, Retained, Retention};
pub use scan::Hole;
pub use segment::{FORMAT_VERSION, MAX_PAYLOAD_BYTES, RecordKind};
pub use tail::{Durable, Tail, Woken};
