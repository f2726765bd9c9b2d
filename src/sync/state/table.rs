//! A table's place in the file: between whom it stands, its mark, and what was seen of it last.

use std::fmt;

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use tapedeck_market::UnixNanos;

use super::{Number, State};
use crate::sync::Digest;
use crate::sync::mapping::KeyParts;
use crate::sync::source::Mark;

/// Between whom the tables stand: addresses without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub source: String,
    pub target: String,
}

/// Why what is remembered of a table is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anew {
    Collection { was: String },
    Target { was: String, is: String },
    Source { was: String, is: String },
}

impl fmt::Display for Anew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anew::Collection { was } => {
                write!(
                    f,
                    "it went to collection {was} before: what was sent there says nothing of this one, all rows are sent"
                )
            }
            Anew::Target { was, is } => {
                write!(f, "it went to {was} before: what was sent there says nothing of {is}, all rows are sent")
            }
            Anew::Source { was, is } => {
                write!(f, "it came from {was} before: the mark of that says nothing of {is}, all rows are read")
            }
        }
    }
}

/// A table as it was bound.
struct Bound {
    number: i64,
    collection: String,
    ends: Ends,
}

impl Bound {
    fn differs(&self, collection: &str, ends: &Ends) -> Option<Anew> {
        // Not known: of a version that did not note it.
        let other = |was: &str, is: &str| !was.is_empty() && was != is;
        if self.collection != collection {
            return Some(Anew::Collection { was: self.collection.clone() });
        }
        if other(&self.ends.target, &ends.target) {
            return Some(Anew::Target { was: self.ends.target.clone(), is: ends.target.clone() });
        }
        let is = || Anew::Source { was: self.ends.source.clone(), is: ends.source.clone() };
        other(&self.ends.source, &ends.source).then(is)
    }
}

impl State {
    fn bound(&self, name: &str) -> anyhow::Result<Option<Bound>> {
        let sql = "SELECT number, collection, source, target FROM tables WHERE name = ?1";
        let bound = self.db.query_row(sql, [name], |row| {
            let ends = Ends { source: row.get(2)?, target: row.get(3)? };
            Ok(Bound { number: row.get(0)?, collection: row.get(1)?, ends })
        });
        Ok(bound.optional()?)
    }

    /// Why a table would begin anew between those two; nothing is changed by asking.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn would_begin_anew(&self, name: &str, collection: &str, ends: &Ends) -> anyhow::Result<Option<Anew>> {
        Ok(self.bound(name)?.and_then(|bound| bound.differs(collection, ends)))
    }

    /// The table's place, made where it is new. With another collection or target than last time nothing of it was sent; with another
    /// source what was sent is still there, and no mark is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn table(&mut self, name: &str, collection: &str, ends: &Ends) -> anyhow::Result<(Number, Option<Anew>)> {
        let Some(bound) = self.bound(name)? else {
            self.db.execute(
                "INSERT INTO tables (name, collection, source, target) VALUES (?1, ?2, ?3, ?4)",
                [name, collection, &ends.source, &ends.target],
            )?;
            return Ok((Number(self.db.last_insert_rowid()), None));
        };
        let (number, anew) = (bound.number, bound.differs(collection, ends));
        let change = self.db.transaction()?;
        match &anew {
            Some(Anew::Collection { .. } | Anew::Target { .. }) => forget_all(&change, number)?,
            Some(Anew::Source { .. }) => {
                change.execute(
                    "UPDATE tables SET mark = NULL, way = NULL, rehearsed = NULL, floor_ns = NULL WHERE number = ?1",
                    [number],
                )?;
            }
            None => {}
        }
        change.execute(
            "UPDATE tables SET collection = ?2, source = ?3, target = ?4 WHERE number = ?1",
            params![number, collection, ends.source, ends.target],
        )?;
        change.commit()?;
        Ok((Number(number), anew))
    }

    /// Whether the collection is the one that we knew, by what the server says of when it was made; what is first heard is noted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_born(&mut self, table: Number, birth: &str) -> anyhow::Result<bool> {
        let sql = "SELECT birth FROM tables WHERE number = ?1";
        let known: Option<String> = self.db.query_row(sql, [table.0], |row| row.get(0))?;
        if known.is_none() {
            self.db.execute("UPDATE tables SET birth = ?2 WHERE number = ?1", params![table.0, birth])?;
        }
        Ok(known.is_none_or(|known| known == birth))
    }

    /// Forgets all that was sent to a collection: another one is in its place.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin_anew(&mut self, table: Number, birth: &str) -> anyhow::Result<()> {
        let change = self.db.transaction()?;
        forget_all(&change, table.0)?;
        change.execute("UPDATE tables SET birth = ?2 WHERE number = ?1", params![table.0, birth])?;
        change.commit()?;
        Ok(())
    }

    /// The mark of a table, and the shape of the mapping under which it was made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn mark(&self, table: Number) -> anyhow::Result<(Option<Mark>, Option<Digest>)> {
        let (mark, shape): (Option<String>, Option<i64>) =
            self.db.query_row("SELECT mark, shape FROM tables WHERE number = ?1", [table.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let mark = mark.map(|text| serde_json::from_str(&text)).transpose().context("a mark")?;
        Ok((mark, shape.map(|shape| Digest(shape as u64))))
    }

    /// Moves the mark: everything before it is at the target, or among the dead letters. No look is under way any more.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_mark(&mut self, table: Number, mark: &Mark, shape: Digest) -> anyhow::Result<()> {
        let text = serde_json::to_string(mark)?;
        self.db.execute(
            "UPDATE tables SET mark = ?2, shape = ?3, way = NULL, trouble = NULL WHERE number = ?1",
            params![table.0, text, shape.0 as i64],
        )?;
        Ok(())
    }

    /// What the ids of a table are made of; `None`: of nothing so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn key(&self, table: Number) -> anyhow::Result<Option<KeyParts>> {
        let sql = "SELECT key FROM tables WHERE number = ?1";
        let known: Option<String> = self.db.query_row(sql, [table.0], |row| row.get(0))?;
        known.map(|text| serde_json::from_str(&text)).transpose().context("a key")
    }

    /// Notes what ids are made of.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_key(&mut self, table: Number, key: &KeyParts) -> anyhow::Result<()> {
        let text = serde_json::to_string(key)?;
        self.db.execute("UPDATE tables SET key = ?2 WHERE number = ?1", params![table.0, text])?;
        Ok(())
    }

    /// Rows before that time are left out, unless they were sent once; `None`: none is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn floor(&self, table: Number) -> anyhow::Result<Option<i64>> {
        Ok(self.db.query_row("SELECT floor_ns FROM tables WHERE number = ?1", [table.0], |row| row.get(0))?)
    }

    /// Notes from when on rows are wanted; where that changes, all of it is to be read again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_floor(&mut self, table: Number, floor_ns: Option<i64>) -> anyhow::Result<()> {
        self.db.execute(
            "UPDATE tables SET floor_ns = ?2, mark = CASE WHEN floor_ns IS ?2 THEN mark END,
                 way = CASE WHEN floor_ns IS ?2 THEN way END WHERE number = ?1",
            params![table.0, floor_ns],
        )?;
        Ok(())
    }

    /// How many documents a mirror would take away when somebody last looked; `None`: nobody has.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rehearsed(&self, table: Number) -> anyhow::Result<Option<u64>> {
        let seen: Option<i64> =
            self.db.query_row("SELECT rehearsed FROM tables WHERE number = ?1", [table.0], |row| row.get(0))?;
        Ok(seen.map(i64::unsigned_abs))
    }

    /// Notes how many somebody has seen, or that it begins anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_rehearsed(&mut self, table: Number, seen: Option<u64>) -> anyhow::Result<()> {
        let seen = seen.map(|seen| i64::try_from(seen).unwrap_or(i64::MAX));
        self.db.execute("UPDATE tables SET rehearsed = ?2 WHERE number = ?1", params![table.0, seen])?;
        Ok(())
    }

    /// How many documents are at the target as the source has them, and how many the source has no more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn standing(&self, table: Number) -> anyhow::Result<(u64, u64)> {
        let counts = self.db.query_row("SELECT synced, gone FROM tables WHERE number = ?1", [table.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
        Ok((counts.0.unsigned_abs(), counts.1.unsigned_abs()))
    }

    /// Looks at a table, the last of them, and what went wrong with it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn looked(&mut self, table: Number, looks: u64, at: UnixNanos, trouble: Option<&str>) -> anyhow::Result<()> {
        self.db.execute(
            "UPDATE tables SET polls = polls + ?2, looked_ns = ?3, trouble = ?4,
                 good_ns = CASE WHEN ?4 IS NULL THEN ?3 ELSE good_ns END WHERE number = ?1",
            params![table.0, looks as i64, at.0, trouble],
        )?;
        Ok(())
    }
}

fn forget_all(db: &Connection, number: i64) -> rusqlite::Result<()> {
    for of in ["sent", "dead", "flying"] {
        db.execute(&format!("DELETE FROM {of} WHERE tbl = ?1"), [number])?;
    }
    db.execute(
        "UPDATE tables SET mark = NULL, shape = NULL, way = NULL, rehearsed = NULL, birth = NULL, key = NULL, synced = 0, failed = 0, gone = 0, newest_ns = NULL
         WHERE number = ?1",
        [number],
    )?;
    Ok(())
}
