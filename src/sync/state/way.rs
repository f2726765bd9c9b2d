//! How far a look is that was not brought to its end: the next one goes on there.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Number, State};
use crate::sync::source::{By, Mark, Span};

/// A look under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// The mark once it is at its end. It was taken before anything was read: what happens meanwhile is news of the next look.
    pub mark: Mark,
    /// Shape of the mapping under which it goes on.
    pub shape: u64,
    pub spans: Vec<Span>,
    pub by: By,
    /// What is gone at the source is looked for.
    pub removed: bool,
    #[serde(skip)]
    pub at: Reached,
}

/// Up to where rows are settled: at the target, or among the dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Place of the stretch.
    pub span: usize,
    /// Time of the last row by the source's clock, the smallest number where that cannot be read; `None`: it has no clock, or none
    /// was read.
    pub time_ns: Option<i64>,
    /// Rows of that very time, of the whole stretch where there is no clock.
    pub rows: u64,
}

impl State {
    /// The look that was not brought to its end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn way(&self, table: Number) -> anyhow::Result<Option<Way>> {
        let sql = "SELECT way, at_span, at_ns, at_rows FROM tables WHERE number = ?1 AND way IS NOT NULL";
        let known = self.db.query_row(sql, [table.0], |row| {
            let at = Reached {
                span: usize::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
                time_ns: row.get(2)?,
                rows: row.get::<_, i64>(3)?.unsigned_abs(),
            };
            Ok((row.get::<_, String>(0)?, at))
        });
        // One that cannot be read is begun anew.
        Ok(known.optional()?.and_then(|(text, at)| Some(Way { at, ..serde_json::from_str(&text).ok()? })))
    }

    /// What a first load has still to read of a table: all of it, or what is left; `None`: its first load is done.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn first_load(&self, name: &str) -> anyhow::Result<Option<Span>> {
        let sql = "SELECT mark IS NOT NULL, at_ns FROM tables WHERE name = ?1";
        let known = self.db.query_row(sql, [name], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, Option<i64>>(1)?)));
        Ok(match known.optional()? {
            Some((true, _)) => None,
            Some((false, at)) => Some(Span { from_ns: at.filter(|at| *at > i64::MIN), to_ns: None }),
            None => Some(Span::default()),
        })
    }

    /// Notes that a look has begun.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_way(&mut self, table: Number, way: &Way) -> anyhow::Result<()> {
        self.db.execute(
            "UPDATE tables SET way = ?2, at_span = ?3, at_ns = ?4, at_rows = ?5 WHERE number = ?1",
            params![table.0, serde_json::to_string(way)?, way.at.span as i64, way.at.time_ns, way.at.rows as i64],
        )?;
        Ok(())
    }
}

/// Notes how far it is.
pub(super) fn reach(change: &Connection, table: Number, at: Reached) -> rusqlite::Result<()> {
    change.execute(
        "UPDATE tables SET at_span = ?2, at_ns = ?3, at_rows = ?4 WHERE number = ?1",
        params![table.0, at.span as i64, at.time_ns, at.rows as i64],
    )?;
    Ok(())
}
