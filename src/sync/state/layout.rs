//! The tables of the file.

use anyhow::bail;
use rusqlite::Connection;

/// Layout of the file.
const VERSION: i64 = 3;

const LAYOUT: &str = "
CREATE TABLE tables (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, mark TEXT, shape INTEGER,
    seen INTEGER NOT NULL DEFAULT 0, sent INTEGER NOT NULL DEFAULT 0, unchanged INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0, synced INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0, rehearsed INTEGER, busy_ms INTEGER NOT NULL DEFAULT 0,
    newest_ns INTEGER, last_ns INTEGER, looked_ns INTEGER, trouble TEXT
);
CREATE TABLE sent (
    tbl INTEGER NOT NULL, id TEXT NOT NULL, time_ns INTEGER NOT NULL, digest INTEGER NOT NULL,
    -- 1: the source has it no more; 2: the source has what was refused.
    gone INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (tbl, id)
) WITHOUT ROWID;
CREATE INDEX sent_by_time ON sent (tbl, time_ns, id);
CREATE TABLE dead (
    tbl INTEGER NOT NULL, id TEXT NOT NULL, time_ns INTEGER NOT NULL, key TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL,
    document TEXT, at_ns INTEGER NOT NULL, PRIMARY KEY (tbl, id)
) WITHOUT ROWID;
CREATE INDEX dead_by_time ON dead (tbl, time_ns, id);
";

/// What the second layout has beside the first: between whom a table stands, how far a look under way is, and what was sent
/// without an answer so far.
const SECOND: &str = "
ALTER TABLE tables ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE tables ADD COLUMN target TEXT NOT NULL DEFAULT '';
ALTER TABLE tables ADD COLUMN birth TEXT;
ALTER TABLE tables ADD COLUMN doubled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tables ADD COLUMN polls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tables ADD COLUMN good_ns INTEGER;
ALTER TABLE tables ADD COLUMN way TEXT;
ALTER TABLE tables ADD COLUMN at_span INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tables ADD COLUMN at_ns INTEGER;
ALTER TABLE tables ADD COLUMN at_rows INTEGER NOT NULL DEFAULT 0;
CREATE TABLE flying (tbl INTEGER NOT NULL, id TEXT NOT NULL, digest INTEGER NOT NULL, PRIMARY KEY (tbl, id)) WITHOUT ROWID;
";

/// What the third has beside it: what ids are made of, and before which time rows are left out that were never sent.
const THIRD: &str = "
ALTER TABLE tables ADD COLUMN key TEXT;
ALTER TABLE tables ADD COLUMN floor_ns INTEGER;
";

/// Makes what is missing.
///
/// # Errors
/// The file cannot be written, or a newer version has written it.
pub(super) fn make(db: &Connection) -> anyhow::Result<()> {
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let missing = match version {
        0 => [LAYOUT, SECOND, THIRD].concat(),
        1 => [SECOND, THIRD].concat(),
        2 => THIRD.to_owned(),
        VERSION => return Ok(()),
        other => bail!("its layout is {other}, this version knows {VERSION}: it was written by a newer one"),
    };
    Ok(db.execute_batch(&format!("BEGIN; {missing} PRAGMA user_version = {VERSION}; COMMIT;"))?)
}
