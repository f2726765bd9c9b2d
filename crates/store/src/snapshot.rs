//! What a statement sees: one cut through archive and tape.
//!
//! ```text
//! Snapshot ── trades ── files [ /…/trades/date=2026-07-19/…parquet, rows, min and max a column ]
//!          │         └─ tail  [ record batches of what is not in a file yet ]
//!          ├─ quotes …
//! ```
//!
//! Invariant: files and tail of one snapshot never overlap and leave nothing out between them. Whoever
//! archives swaps both in one step, so that a row is in exactly one of them at any moment.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;

/// Where snapshots come from: the archiver of a running store, or a folder opened for one query.
pub trait Source: Debug + Send + Sync + 'static {
    /// The tables with their columns, in the order they are listed.
    fn tables(&self) -> Vec<(&'static str, SchemaRef)>;

    /// The newest cut. Cheap: it is taken once a statement.
    fn snapshot(&self) -> Arc<Snapshot>;
}

/// One cut through every table.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub tables: BTreeMap<&'static str, Table>,
    /// What must live as long as its files are read.
    pub held: Option<Held>,
}

/// Anything: it is only kept.
#[derive(Clone)]
pub struct Held(pub Arc<dyn Any + Send + Sync>);

impl Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// One table of a cut.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub files: Arc<Vec<File>>,
    pub tail: Arc<Vec<RecordBatch>>,
}

/// One Parquet file of a table.
#[derive(Clone, Debug)]
pub struct File {
    /// Absolute.
    pub path: PathBuf,
    pub len_bytes: u64,
    /// Rows, exactly; and the least and greatest value of the columns for which they are known.
    pub statistics: Arc<Statistics>,
    /// Every symbol in it, where they are few enough to be known.
    pub symbols: Option<HashSet<String>>,
}

impl Snapshot {
    #[must_use]
    pub fn table(&self, name: &str) -> Table {
        self.tables.get(name).cloned().unwrap_or_default()
    }
}
