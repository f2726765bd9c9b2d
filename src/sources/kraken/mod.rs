//! Kraken: WebSocket v2, REST beside it, and the old v1 array format of recordings.

#[cfg(test)]
mod agreement;
pub mod books;
pub mod message;
pub mod names;
pub mod parse;
mod private;
mod scan;
pub mod v1;
