//! SQL over the archive and the tape: the engine, and the PostgreSQL wire protocol over it.
//!
//! ```text
//! archive (Parquet) ─┐
//!                    ├─► snapshot ─► table ─► engine ─► pg (127.0.0.1:5433) · query · export
//! tape (tail) ───────┘
//! ```
//!
//! A program of its own, `tapedeck-store`, because an engine of this size and a query of any size must never
//! slow, bloat or kill the recorder. It reads; it can change nothing.

pub mod archive;
mod depth;
pub mod engine;
pub mod functions;
pub mod guard;
pub mod limits;
mod new_file;
pub mod opened;
pub mod output;
pub mod password;
pub mod pg;
mod progress;
pub mod query;
mod quotient;
pub mod serve;
pub mod snapshot;
pub mod table;
mod yielding;
