//! The archive: a tape's records as Parquet files that polars, DuckDB and Spark read, and as Arrow batches while they are new.
//!
//! - [`schema`], [`Rows`], [`batch`], [`records`]: the tables, one a kind of event, and records as rows of them.
//! - [`Archive`]: a reader of the tape that keeps the files and the newest rows; [`Snapshot`] is what a query reads.

mod archive;
mod archiver;
mod columns;
mod day;
pub mod disk;
mod error;
mod exact;
mod file;
mod folder;
mod house;
mod keep;
mod range;
mod rows;
mod snapshot;
mod stand_in;
mod status;
mod tail;

pub use archive::Archive;
pub use archiver::{Archiver, Options};
pub use day::{Day, NotADay};
pub use error::Error;
pub use file::to_parquet;
pub use house::{House, Tidied};
pub use keep::{Keep, UnknownKeep};
pub use rows::{Rows, SCHEMA_VERSION, batch, records, schema};
pub use snapshot::{ArchiveFile, Snapshot, Snapshots, TableView};
pub use status::Status;
pub use tapedeck_tables::{Policy, Table, UnknownTable};
