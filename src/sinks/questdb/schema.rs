//! Tables: made with the keys that make writing twice harmless, and looked at before anything is written to one.
//!
//! ```text
//! CREATE TABLE "trades" ("ts" TIMESTAMP_NS, "instrument" SYMBOL, "seq" LONG, … , "exact" VARCHAR, "guard" DECIMAL(1,0))
//!   TIMESTAMP("ts") PARTITION BY DAY WAL DEDUP UPSERT KEYS("ts", "instrument", "seq", "tape_id")
//! ```
//!
//! A table that is not there when lines arrive is made by the server itself, without keys and with other types: every row would
//! then be there as often as it was sent. It makes no decimal columns, though, and refuses a line with one: that is what
//! `guard` is for, which stands in every line and is always 0.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::anyhow;
use serde_json::Value;
use tapedeck_tables::{Holds, Table};

use super::client::Client;
use super::config::Numbers;
use super::names::folded;
use crate::sinks::SinkError;

pub(super) const TS: &str = "ts";
pub(super) const INSTRUMENT: &str = "instrument";
pub(super) const INTERVAL: &str = "interval";
pub(super) const EXACT: &str = "exact";
pub(super) const GUARD: &str = "guard";

/// Digits of a decimal column, and those behind the point.
pub(super) const PRECISION: u8 = 28;
pub(super) const SCALE: u8 = 10;

/// Type of a column, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Symbol,
    Varchar,
    Text,
    Long,
    Double,
    Decimal(u8, u8),
    Boolean,
    Nanos,
    Other(String),
}

impl Type {
    fn parse(text: &str) -> Type {
        let decimal = || {
            let (precision, scale) = text.strip_prefix("DECIMAL(")?.strip_suffix(')')?.split_once(',')?;
            Some(Type::Decimal(precision.trim().parse().ok()?, scale.trim().parse().ok()?))
        };
        match text {
            "SYMBOL" => Type::Symbol,
            "VARCHAR" => Type::Varchar,
            "STRING" => Type::Text,
            "LONG" => Type::Long,
            "DOUBLE" => Type::Double,
            "BOOLEAN" => Type::Boolean,
            "TIMESTAMP_NS" => Type::Nanos,
            _ => decimal().unwrap_or_else(|| Type::Other(text.to_owned())),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Type::Symbol | Type::Varchar | Type::Text)
    }

    /// Whether what is meant for the one type can be written to this one.
    fn serves(&self, wanted: &Type) -> bool {
        match (wanted, self) {
            (Type::Symbol | Type::Varchar | Type::Text, have) => have.is_text(),
            (Type::Decimal(..) | Type::Double, Type::Double) => true,
            (Type::Double, Type::Decimal(..)) => true,
            (Type::Decimal(digits, scale), Type::Decimal(have, behind)) => {
                behind >= scale && have - behind >= digits - scale
            }
            (wanted, have) => wanted == have,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Symbol => f.write_str("SYMBOL"),
            Type::Varchar => f.write_str("VARCHAR"),
            Type::Text => f.write_str("STRING"),
            Type::Long => f.write_str("LONG"),
            Type::Double => f.write_str("DOUBLE"),
            Type::Decimal(precision, scale) => write!(f, "DECIMAL({precision},{scale})"),
            Type::Boolean => f.write_str("BOOLEAN"),
            Type::Nanos => f.write_str("TIMESTAMP_NS"),
            Type::Other(text) => f.write_str(text),
        }
    }
}

/// A table as it should be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub name: String,
    pub columns: Vec<(String, Type)>,
    pub keys: &'static [&'static str],
}

/// The identity of a row. A candle is stated again under the same one, so that the newer statement takes its place.
const KEYS: &[&str] = &[TS, INSTRUMENT, "seq", "tape_id"];
const CANDLE_KEYS: &[&str] = &[TS, INSTRUMENT, INTERVAL, "input"];
const POINT_KEYS: &[&str] = &[TS, "seq", "tape_id"];

impl Wanted {
    /// The table of a kind of event.
    pub(super) fn of(table: Table, prefix: &str, numbers: Numbers) -> Wanted {
        let mut columns = vec![(TS.to_owned(), Type::Nanos), (INSTRUMENT.to_owned(), Type::Symbol)];
        if table == Table::Candles {
            columns.push((INTERVAL.to_owned(), Type::Symbol));
        }
        let own = tapedeck_tables::columns(table);
        columns.extend(own.into_iter().map(|((name, _), holds)| (name.to_owned(), type_of(holds, numbers))));
        columns.extend(last());
        let keys = if table == Table::Candles { CANDLE_KEYS } else { KEYS };
        Wanted { name: format!("{prefix}{}", table.name()), columns, keys }
    }

    /// The table of points of a measurement; its own columns go before the last two.
    pub(super) fn points(name: String, own: impl Iterator<Item = (String, Type)>) -> Wanted {
        let mut columns: Vec<(String, Type)> =
            [(TS, Type::Nanos), ("seq", Type::Long), ("tape_id", Type::Symbol), ("ts_recv", Type::Nanos)]
                .map(|(name, of)| (name.to_owned(), of))
                .into();
        columns.extend(own);
        columns.extend(last());
        Wanted { name, columns, keys: POINT_KEYS }
    }

    fn create(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(name, of)| format!("\"{name}\" {of}")).collect();
        let keys: Vec<String> = self.keys.iter().map(|key| format!("\"{key}\"")).collect();
        format!(
            "CREATE TABLE IF NOT EXISTS \"{}\" ({}) TIMESTAMP(\"{TS}\") PARTITION BY DAY WAL DEDUP UPSERT KEYS({})",
            self.name,
            columns.join(", "),
            keys.join(", ")
        )
    }
}

fn last() -> [(String, Type); 2] {
    [(EXACT.to_owned(), Type::Varchar), (GUARD.to_owned(), Type::Decimal(1, 0))]
}

fn type_of(holds: Holds, numbers: Numbers) -> Type {
    match holds {
        Holds::Decimal if numbers == Numbers::Decimal => Type::Decimal(PRECISION, SCALE),
        Holds::Decimal | Holds::Float => Type::Double,
        Holds::Int => Type::Long,
        Holds::Flag => Type::Boolean,
        Holds::Time => Type::Nanos,
        Holds::Word | Holds::Uuid => Type::Symbol,
        _ => Type::Varchar,
    }
}

/// A table as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// As the server spells it.
    pub name: String,
    /// Another one after it was dropped and made again.
    id: i64,
    /// By [`folded`] name: the name as it is spelled there, and the type.
    pub columns: BTreeMap<String, (String, Type)>,
    keys: Vec<String>,
    timestamp: String,
    wal: bool,
    by_day: bool,
    /// It was being made when the server was killed: it has no log and no row.
    half_made: bool,
}

impl Known {
    pub(super) fn type_of(&self, column: &str) -> Option<&Type> {
        self.columns.get(&folded(column)).map(|(_, of)| of)
    }

    fn lacks<'w>(&self, wanted: &'w Wanted) -> impl Iterator<Item = &'w (String, Type)> {
        wanted.columns.iter().filter(|(name, _)| self.type_of(name).is_none())
    }

    /// Why it cannot take our rows, and what to do.
    pub(super) fn trouble(&self, wanted: &Wanted) -> Option<String> {
        let name = &self.name;
        let other = "rename it, or give this sink a `prefix`";
        if self.timestamp != TS {
            return Some(format!(
                "table `{name}` has `{}` as its designated timestamp, not `{TS}`: {other}",
                self.timestamp
            ));
        }
        if !self.wal || !self.by_day {
            let fix = format!("ALTER TABLE \"{name}\" SET TYPE WAL, then restart the server");
            let what = if self.by_day { format!("has no WAL: {fix}") } else { "is not partitioned by day".to_owned() };
            return Some(format!("table `{name}` {what}; or {other}"));
        }
        let missing: Vec<&str> =
            wanted.keys.iter().filter(|key| !self.keys.iter().any(|have| have == *key)).copied().collect();
        // Of a column that is missing, the server would say the same less plainly.
        let there = missing.iter().all(|key| self.type_of(key).is_some());
        if !missing.is_empty() {
            let keys = wanted.keys.join(", ");
            let fix = format!("ALTER TABLE \"{name}\" DEDUP ENABLE UPSERT KEYS({keys})");
            let fix = if there { format!("{fix}, or {other}") } else { other.to_owned() };
            return Some(format!(
                "table `{name}` does not tell rows apart by {keys}, so that what is sent twice is there twice: {fix}"
            ));
        }
        let wrong = wanted.columns.iter().find_map(|(column, wanted)| {
            self.type_of(column).filter(|have| !have.serves(wanted)).map(|have| (column, wanted, have))
        });
        let (column, wanted, have) = wrong?;
        Some(format!("table `{name}`: column `{column}` is {have}, it must be {wanted}: {other}"))
    }
}

/// What is there under that name, in any spelling.
///
/// # Errors
/// The server is away, or refuses us.
pub(super) async fn look(client: &Client, name: &str) -> Result<Option<Known>, SinkError> {
    let sql = format!(
        "SELECT id, table_name, designatedTimestamp, walEnabled, partitionBy, table_row_count, wal_txn \
         FROM tables() WHERE lower(table_name) = lower('{name}')"
    );
    let rows = client.rows(&sql).await?;
    let Some([id, Value::String(spelled), timestamp, wal, by, count, txn]) = rows.first().map(Vec::as_slice) else {
        return Ok(None);
    };
    let wal = *wal == Value::Bool(true);
    let half_made = wal && *count == 0 && txn.is_null() && {
        let sql = format!("SELECT name FROM wal_tables() WHERE name = '{spelled}'");
        client.rows(&sql).await?.is_empty()
    };
    let mut known = Known {
        name: spelled.clone(),
        id: id.as_i64().unwrap_or_default(),
        columns: BTreeMap::new(),
        keys: Vec::new(),
        timestamp: timestamp.as_str().unwrap_or_default().to_owned(),
        wal,
        by_day: by == "DAY",
        half_made,
    };
    let sql = format!("SELECT \"column\", type, upsertKey FROM table_columns('{spelled}')");
    for row in client.rows(&sql).await? {
        let [Value::String(column), Value::String(of), key] = row.as_slice() else { continue };
        if *key == Value::Bool(true) {
            known.keys.push(column.clone());
        }
        known.columns.insert(folded(column), (column.clone(), Type::parse(of)));
    }
    Ok(Some(known))
}

/// Makes what is missing of a table, and says what it is now.
///
/// # Errors
/// [`SinkError::Waiting`]: it cannot take our rows, with what to do about it.
pub(super) async fn ensure(client: &Client, wanted: &Wanted) -> Result<Known, SinkError> {
    let mut known = look(client, &wanted.name).await?;
    if let Some(half) = known.take_if(|known| known.half_made) {
        tracing::warn!(
            table = half.name,
            "table removed that was half made when the server was killed, to be made again"
        );
        // It removes it, and says that it was not there.
        let _ = client.rows(&format!("DROP TABLE \"{}\"", half.name)).await;
    }
    if known.is_none() {
        client.rows(&wanted.create()).await?;
        tracing::info!(table = wanted.name, "table made");
        known = look(client, &wanted.name).await?;
    }
    let Some(mut known) = known else {
        // Somebody removed it at once.
        return Err(SinkError::Unavailable(anyhow!("table `{}` was made and is not there", wanted.name)));
    };
    if let Some(words) = known.trouble(wanted) {
        return Err(SinkError::Waiting(anyhow!(words)));
    }
    // A statement each: the server takes no more for a table with a WAL.
    let lacking: Vec<(String, Type)> = known.lacks(wanted).cloned().collect();
    for (column, of) in lacking {
        client.rows(&format!("ALTER TABLE \"{}\" ADD COLUMN IF NOT EXISTS \"{column}\" {of}", known.name)).await?;
        tracing::info!(table = known.name, column, "column added");
        known.columns.insert(folded(&column), (column, of));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(wanted: &Wanted) -> Known {
        let columns = wanted.columns.iter().map(|(name, of)| (folded(name), (name.clone(), of.clone()))).collect();
        let keys = wanted.keys.iter().map(|key| (*key).to_owned()).collect();
        let (name, timestamp) = (wanted.name.clone(), TS.to_owned());
        Known { name, id: 1, columns, keys, timestamp, wal: true, by_day: true, half_made: false }
    }

    #[test]
    fn a_table_that_cannot_serve_says_why_and_what_to_do() {
        let wanted = Wanted::of(Table::Trades, "", Numbers::Decimal);
        let good = known(&wanted);
        assert_eq!(good.trouble(&wanted), None);
        let mut double = good.clone();
        double.columns.insert("price".to_owned(), ("price".to_owned(), Type::Double));
        double.columns.remove("side");
        assert_eq!(double.trouble(&wanted), None);
        assert_eq!(double.lacks(&wanted).map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["side"]);
        type Spoil = fn(&mut Known);
        let cases: [(Spoil, &str); 6] = [
            (|it| it.timestamp = "timestamp".to_owned(), "designated timestamp, not `ts`"),
            (|it| it.wal = false, "SET TYPE WAL"),
            (|it| it.by_day = false, "not partitioned by day"),
            (|it| it.keys = vec![TS.to_owned()], "DEDUP ENABLE UPSERT KEYS(ts, instrument, seq, tape_id)"),
            (
                |it| drop(it.columns.insert("seq".to_owned(), ("seq".to_owned(), Type::Other("INT".to_owned())))),
                "column `seq` is INT, it must be LONG",
            ),
            (
                |it| drop(it.columns.insert("price".to_owned(), ("price".to_owned(), Type::Decimal(18, 9)))),
                "column `price` is DECIMAL(18,9), it must be DECIMAL(28,10)",
            ),
        ];
        for (spoil, words) in cases {
            let mut bad = good.clone();
            spoil(&mut bad);
            let said = bad.trouble(&wanted).unwrap();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn names_of_our_own_need_nothing_but_quotes() {
        for table in Table::ALL {
            let wanted = Wanted::of(table, "", Numbers::Decimal);
            assert!(super::super::names::is_table(&wanted.name));
            let mut names: Vec<String> = wanted.columns.iter().map(|(name, _)| folded(name)).collect();
            assert!(
                wanted
                    .columns
                    .iter()
                    .all(|(name, _)| super::super::names::is_column(name) && !name.contains([' ', '=']))
            );
            names.sort();
            names.dedup();
            assert_eq!(names.len(), wanted.columns.len(), "{table}");
            // The server closes the connection for a longer one.
            assert!(wanted.create().len() < 8_000);
        }
        assert_eq!(Type::parse("DECIMAL(28,10)"), Type::Decimal(28, 10));
        assert_eq!(Type::parse("DOUBLE[][]").to_string(), "DOUBLE[][]");
    }
}
