//! The SQL store beside the deck: finds the program `tapedeck-store`, runs it, and says how it is.
//!
//! Archive and SQL are a program of their own, because an engine of that size must never slow, bloat or kill the
//! recorder. Without it everything else works, and the status says what is missing and how to get it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::child::Child;
use crate::config::{Listen, Store};
use crate::service::{Desk, Holds, Service, ServiceKind, Stage, section_of};

/// The program, beside ours or in the search path.
pub const PROGRAM: &str = "tapedeck-store";
/// What to do when there is none.
pub const BUILD: &str = "cargo build --release -p tapedeck-store";
/// It may be built while the deck runs.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub const KIND: ServiceKind = ServiceKind {
    name: "store",
    stage: Stage::Serve,
    holds: Holds::OnceBegun,
    section: |config| section_of(config.store.as_ref()),
    build: |setup| {
        let config = setup.config.store.clone().unwrap_or_default();
        Ok(Box::new(SqlStore { config }))
    },
};

struct SqlStore {
    config: Store,
}

#[async_trait]
impl Service for SqlStore {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        let mut told = false;
        let program = loop {
            if let Some(program) = find() {
                break program;
            }
            desk.shown.set_state(format!("waiting: SQL: not built ({BUILD})"));
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("there is no {PROGRAM}: no archive and no SQL until it is built ({BUILD})");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        let config = told_to_child(&self.config, &desk.dir)?;
        let child = Child { program, args: vec![OsString::from("serve")], config };
        child.run(desk, stop).await
    }
}

/// The child's config, as `crates/store/src/serve.rs` reads it.
pub(crate) fn told_to_child(config: &Store, dir: &Path) -> anyhow::Result<Value> {
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("finding {}", path.display()));
    let listen = match config.sql_listen {
        Listen::Off => None,
        Listen::At(addr) => Some(addr.to_string()),
    };
    Ok(json!({
        "dir": absolute(dir)?,
        "archive": absolute(&config.folder(dir))?,
        "listen": listen,
        "idle": config.idle,
        "insecure": config.insecure,
        "tls_cert": config.tls_cert,
        "tls_key": config.tls_key,
        "keep": config.keep.days,
        "keep_bytes": config.keep.bytes,
        "limits": {
            "memory_bytes": config.memory.0,
            "spill_bytes": config.spill.0,
            "timeout_ms": u64::try_from(config.timeout.0.as_millis()).unwrap_or(u64::MAX),
            "statements": config.statements,
            "connections": config.connections,
        },
    }))
}

/// The store's program: in the folder of this one, else in the search path.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_path_buf));
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(beside.into_iter().chain(std::env::split_paths(&path)))
}

fn find_in(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let runs = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    folders.map(|folder| folder.join(PROGRAM)).find(runs)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_program_is_the_first_that_can_be_run() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let folders = || dirs.iter().map(|dir| dir.path().to_owned());
        assert_eq!(find_in(folders()), None);
        for dir in &dirs {
            fs::write(dir.path().join(PROGRAM), "").unwrap();
        }
        assert_eq!(find_in(folders()), None, "neither can be run");
        let second = dirs[1].path().join(PROGRAM);
        fs::set_permissions(&second, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in(folders()), Some(second));
    }

    #[test]
    fn the_child_is_told_absolute_paths_and_plain_numbers() {
        let told = told_to_child(&Store::default(), Path::new("tape")).unwrap();
        assert!(told["dir"].as_str().is_some_and(|dir| dir.starts_with('/') && dir.ends_with("/tape")), "{told}");
        assert!(told["archive"].as_str().is_some_and(|dir| dir.ends_with("/tape/archive")), "{told}");
        assert_eq!(told["listen"], "127.0.0.1:5433");
        assert_eq!(told["limits"]["memory_bytes"], 512 << 20);
        assert_eq!(told["limits"]["timeout_ms"], 30_000);
        let off = Store { sql_listen: Listen::Off, ..Store::default() };
        assert_eq!(told_to_child(&off, Path::new("tape")).unwrap()["listen"], Value::Null);
    }
}
