//! The file: opened, looked at from outside, and what its errors mean.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};
use serde::{Deserialize, Serialize};

use crate::sync::{Class, Trouble};

/// A file that was written to so lately may be written to again without its time showing it.
const YOUNG: Duration = Duration::from_secs(2);

/// Size and time of the file and of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    file: Option<(u64, i64)>,
    log: Option<(u64, i64)>,
    /// It was written to a moment before.
    young: bool,
}

impl State {
    pub(super) fn of(path: &Path) -> State {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let (file, log) = (seen(path), seen(&PathBuf::from(log)));
        let newest = file.into_iter().chain(log).map(|(_, written_ns)| written_ns).max();
        let young = newest.is_none_or(|newest| now_ns().saturating_sub(newest) < YOUNG.as_nanos() as i64);
        State { file, log, young }
    }

    /// Whether nothing was written in between.
    pub(super) fn is_still(&self, now: &State) -> bool {
        !self.young && self.file == now.file && self.log == now.log
    }
}

fn seen(path: &Path) -> Option<(u64, i64)> {
    let about: Metadata = std::fs::metadata(path).ok()?;
    Some((about.len(), ns(about.modified().ok()?)))
}

fn now_ns() -> i64 {
    ns(SystemTime::now())
}

fn ns(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}

/// Opens it for reading.
///
/// # Errors
/// It is not there, or no file of SQLite's.
pub(super) fn open(path: &Path, patience: Duration) -> Result<Connection, Trouble> {
    if !path.is_file() {
        let text = format!("there is no file {}", path.display());
        return Err(Trouble::new(Class::Setup, text).fix("look at the source's `url`"));
    }
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let db = opened.map_err(|error| trouble(&error))?;
    db.busy_timeout(patience).map_err(|error| trouble(&error))?;
    Ok(db)
}

/// Names of tables and views.
///
/// # Errors
/// It cannot be read.
pub(super) fn tables(db: &Connection) -> Result<Vec<String>, Trouble> {
    let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut asked = db.prepare(sql).map_err(|error| trouble(&error))?;
    let names = asked.query_map([], |row| row.get(0)).map_err(|error| trouble(&error))?;
    names.collect::<Result<_, _>>().map_err(|error| trouble(&error))
}

/// What an error means.
pub(super) fn trouble(error: &Error) -> Trouble {
    let text = format!("reading SQLite: {error}");
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Trouble::new(Class::Server, text).fix("another program has locked the file for longer than `timeout`")
        }
        Some(ErrorCode::NotADatabase) => Trouble::new(Class::Setup, text).fix("look at the source's `url`"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            Trouble::new(Class::Setup, text)
                .fix("the file must be readable; where it has a `-wal` beside it, its folder must be writable")
        }
        Some(ErrorCode::DatabaseCorrupt) => Trouble::new(Class::Setup, text).fix("put a good copy in its place"),
        _ => Trouble::new(Class::Server, text),
    }
}
