//! A CSV file in which the value of a column is looked up: companies and sectors by symbol.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::sync::Id;

/// Lines of a file; more is a table, not a lookup.
const LINES_MAX: usize = 1_000_000;

/// By what a file is known without being read: when it was written, and its length.
type Stamp = (std::time::SystemTime, u64);

/// The file, read.
#[derive(Debug)]
pub(super) struct Lookup {
    path: PathBuf,
    stamp: Option<Stamp>,
    values: HashMap<String, String>,
    or_else: Option<String>,
}

impl Lookup {
    /// # Errors
    /// It cannot be read, a column is missing, or one key has two values.
    pub(super) fn read(path: &Path, by: &str, take: &str, or_else: Option<String>) -> anyhow::Result<Self> {
        let shown = path.display();
        // Before it is read: what is written meanwhile is seen by the next look.
        let stamp = stamp(path);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(path)
            .with_context(|| format!("lookup: {shown} cannot be read"))?;
        let header = reader.headers().with_context(|| format!("lookup: {shown}"))?.clone();
        let place = |name: &str| {
            // A byte order mark is part of no name.
            let found = header.iter().position(|column| column.trim_start_matches('\u{feff}') == name);
            found.with_context(|| {
                format!(
                    "lookup: {shown} has no column `{name}`; it has {}",
                    header.iter().collect::<Vec<_>>().join(", ")
                )
            })
        };
        let (by, take) = (place(by)?, place(take)?);
        let mut values = HashMap::new();
        for line in reader.records() {
            let line = line.with_context(|| format!("lookup: {shown}"))?;
            let (Some(key), Some(value)) = (line.get(by), line.get(take)) else { continue };
            ensure!(values.len() < LINES_MAX, "lookup: {shown} has more than {LINES_MAX} lines");
            if let Some(other) = values.insert(key.to_owned(), value.to_owned())
                && other != value
            {
                anyhow::bail!("lookup: {shown} has both {other:?} and {value:?} for {key:?}");
            }
        }
        Ok(Lookup { path: path.to_owned(), stamp, values, or_else })
    }

    pub(super) fn has_changed(&self) -> bool {
        stamp(&self.path) != self.stamp
    }

    pub(super) fn find(&self, key: &str) -> Option<&str> {
        self.values.get(key).or(self.or_else.as_ref()).map(String::as_str)
    }

    /// Of what it says, whatever the order of its lines: another one where that has changed.
    pub(super) fn digest(&self) -> String {
        let mut lines: Vec<_> = self.values.iter().collect();
        lines.sort_unstable();
        let parts = lines.into_iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
        Id::of(parts.chain(self.or_else.as_deref())).to_string()
    }

    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}
