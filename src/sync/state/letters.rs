//! Dead letters: rows and documents that were refused.

use rusqlite::params;
use serde::Serialize;

use super::State;

/// A row or document that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Letter {
    pub id: String,
    /// As people know the row.
    pub key: String,
    /// What it breaks, in words that many rows share.
    pub rule: String,
    /// With the values, or in the target's words.
    pub reason: String,
    /// What was to be written, where it came so far.
    pub document: Option<String>,
    pub time_ns: i64,
    pub at_ns: i64,
}

impl State {
    /// Dead letters of a table, in order of time, at most so many.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn letters(&self, table: &str, most: u32) -> anyhow::Result<Vec<Letter>> {
        let mut all = self.db.prepare_cached(
            "SELECT id, key, rule, reason, document, time_ns, at_ns FROM dead
             WHERE tbl = (SELECT number FROM tables WHERE name = ?1) ORDER BY time_ns, id LIMIT ?2",
        )?;
        let rows = all.query_map(params![table, most], |row| {
            Ok(Letter {
                id: row.get(0)?,
                key: row.get(1)?,
                rule: row.get(2)?,
                reason: row.get(3)?,
                document: row.get(4)?,
                time_ns: row.get(5)?,
                at_ns: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Dead letters of a table by rule, most first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reasons(&self, table: &str) -> anyhow::Result<Vec<(String, u64)>> {
        let mut all = self.db.prepare_cached(
            "SELECT rule, count(*) FROM dead WHERE tbl = (SELECT number FROM tables WHERE name = ?1)
             GROUP BY rule ORDER BY 2 DESC, 1",
        )?;
        let rows = all.query_map([table], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
