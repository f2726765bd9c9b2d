//! The tape: a durable, ordered, self-repairing log with a cursor per reader.
#![forbid(unsafe_code)]

pub mod storage;
