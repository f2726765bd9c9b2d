//! Our tables in PostgreSQL: the columns that SQL over the archive has too, under the same names.
//!
//! A time is a `timestamptz`, which knows microseconds; the nanoseconds below stand beside it, NULL when there are none.

use std::sync::OnceLock;

use tapedeck_market::UnixNanos;
use tapedeck_tables::{Holds, Policy, Table, columns};

/// A column, as the server names its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    pub type_name: &'static str,
}

/// Columns that identify a row; they are never NULL.
const KEY: &str = "ts_recv, tape_id, seq";
const CANDLE_KEY: &str = "venue, symbol, interval_ns, input, start";

/// What the columns of a table are, in the order in which rows are written.
pub(super) fn of(table: Table) -> &'static [Column] {
    static COLUMNS: [OnceLock<Vec<Column>>; Table::COUNT] = [const { OnceLock::new() }; Table::COUNT];
    COLUMNS[table.index()].get_or_init(|| {
        let mut all = Vec::new();
        for ((name, _), holds) in columns(table) {
            all.push(Column { name: name.to_owned(), type_name: type_name(holds) });
            if holds == Holds::Time {
                all.push(Column { name: format!("{name}_ns"), type_name: "smallint" });
            }
        }
        all
    })
}

fn type_name(holds: Holds) -> &'static str {
    match holds {
        Holds::Decimal => "numeric",
        Holds::Int => "bigint",
        Holds::Float => "double precision",
        Holds::Flag => "boolean",
        Holds::Time => "timestamp with time zone",
        Holds::Text | Holds::Word => "text",
        Holds::Uuid => "uuid",
        // As text: its order, and a name that occurs twice, would be lost in `jsonb`.
        Holds::Json => "json",
        Holds::JsonToAsk | Holds::Rungs(_) | Holds::Legs => "jsonb",
        Holds::Bytes => "bytea",
        Holds::Texts => "text[]",
        Holds::Floats => "double precision[]",
    }
}

/// Whether a table has a partition a day. What is kept for long and comes seldom does not need it.
pub(super) fn is_daily(table: Table) -> bool {
    table.policy() != Policy::LongTerm
}

/// The columns that identify a row of a table.
pub(super) fn key(table: Table) -> &'static str {
    if table == Table::Candles { CANDLE_KEY } else { KEY }
}

/// The names of a table's columns for a statement.
pub(super) fn names(table: Table) -> String {
    of(table).iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
}

/// What makes a table.
pub(super) fn create(schema: &str, table: Table) -> String {
    let key_columns: Vec<&str> = key(table).split(", ").collect();
    let mut columns: Vec<String> = of(table)
        .iter()
        .map(|column| {
            let required = ["ts_recv", "tape_id", "seq"].contains(&column.name.as_str());
            let required = required || key_columns.contains(&column.name.as_str());
            format!("{} {}{}", quoted(&column.name), column.type_name, if required { " NOT NULL" } else { "" })
        })
        .collect();
    columns.push(format!("PRIMARY KEY ({})", key(table)));
    let name = full(schema, table.name());
    let comment = table.doc().replace('\'', "''");
    let daily = if is_daily(table) { " PARTITION BY RANGE (ts_recv)" } else { "" };
    let mut sql =
        format!("CREATE TABLE {name} ({}){daily};\nCOMMENT ON TABLE {name} IS '{comment}';\n", columns.join(", "));
    if is_daily(table) {
        sql.push_str(&create_default(schema, table));
    }
    sql
}

/// What makes the partition that takes what no other does: it stays empty, and no row is ever without a place.
pub(super) fn create_default(schema: &str, table: Table) -> String {
    let default = full(schema, &format!("{}_default", table.name()));
    format!("CREATE TABLE {default} PARTITION OF {} DEFAULT;\n", full(schema, table.name()))
}

/// A name as an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name in a schema, as identifiers.
pub(super) fn full(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// A UTC day, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(pub i64);

pub(super) const DAY_US: i64 = 86_400_000_000;

impl Day {
    pub(super) fn of(time: UnixNanos) -> Day {
        Day(time.0.div_euclid(DAY_US * 1_000))
    }

    /// Its beginning, µs since 1970.
    pub(super) fn start_us(self) -> i64 {
        self.0.saturating_mul(DAY_US)
    }

    /// `20261121`
    pub(super) fn compact(self) -> String {
        self.date().replace('-', "")
    }

    /// `2026-11-21`
    pub(super) fn date(self) -> String {
        let time = jiff::Timestamp::from_microsecond(self.start_us()).unwrap_or_default();
        time.strftime("%Y-%m-%d").to_string()
    }

    pub(super) fn next(self) -> Day {
        Day(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named_by_their_date() {
        let day = Day::of(UnixNanos(1_763_683_199_999_999_999));
        assert_eq!((day.date().as_str(), day.compact().as_str()), ("2025-11-20", "20251120"));
        assert_eq!(day.next().date(), "2025-11-21");
        assert_eq!(Day::of(UnixNanos(-1)).date(), "1969-12-31");
    }

    #[test]
    fn a_table_says_its_columns_key_and_partitions() {
        let trades = create("a\"b", Table::Trades);
        assert!(
            trades
                .starts_with("CREATE TABLE \"a\"\"b\".\"trades\" (\"seq\" bigint NOT NULL, \"tape_id\" uuid NOT NULL")
        );
        for part in
            ["\"ts_event_ns\" smallint", "\"price\" numeric", "PRIMARY KEY (ts_recv, tape_id, seq)", "trades_default"]
        {
            assert!(trades.contains(part), "{part}: {trades}");
        }
        assert!(!create("s", Table::Orders).contains("PARTITION"));
        for table in Table::ALL {
            let mut names: Vec<&str> = of(table).iter().map(|column| column.name.as_str()).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{table} has a name twice");
            assert!(names.iter().all(|name| name.len() <= 63));
        }
    }
}
