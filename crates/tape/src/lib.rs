//! The tape: a durable, ordered, self-repairing log with a cursor per reader.
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod storage;
