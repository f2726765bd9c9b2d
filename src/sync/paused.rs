//! Tables that wait because somebody said so: a small file beside the state, read before each look.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

const FILE: &str = "paused.json";

/// Who waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Every table, also such as come later.
    pub all: bool,
    pub tables: BTreeSet<String>,
}

impl Paused {
    /// What the file says; nobody waits where there is none, or none that can be read.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let text = std::fs::read(folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    #[must_use]
    pub fn holds(&self, table: &str) -> bool {
        self.all || self.tables.contains(table)
    }

    /// Puts it in place of what the file said.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let (path, new) = (folder.join(FILE), folder.join("paused.json.new"));
        std::fs::write(&new, serde_json::to_vec(self)?).with_context(|| format!("writing {}", new.display()))?;
        std::fs::rename(&new, &path).with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!Paused::read(folder.path()).holds("t"));
        let paused = Paused { all: false, tables: ["t".to_owned()].into() };
        paused.write(folder.path()).expect("written");
        assert_eq!(Paused::read(folder.path()), paused);
        assert!(paused.holds("t") && !paused.holds("u"));
        std::fs::write(folder.path().join(FILE), "{").expect("written");
        assert_eq!(Paused::read(folder.path()), Paused::default());
    }
}
