//! Partitions: one a UTC day of `ts_recv`, made ahead, and on demand for older records; the default one stays empty.
//!
//! Where a partition of somebody else takes a part of a day, the day has none of its own: its rows go by way of the table, into that one
//! or the default one.
//!
//! A partition is made beside its table and attached: that waits for nobody who reads, as long as the default one is empty.

use std::collections::HashMap;

use tapedeck_market::UnixNanos;
use tapedeck_tables::Table;
use tokio_postgres::Client;

use super::failure;
use super::layout::{self, DAY_US, Day};
use crate::sinks::SinkError;

/// How many days after today have their partitions.
const AHEAD: i64 = 2;
/// Names that are tried for a day: somebody may have detached the partition and kept it.
const NAMES: u32 = 10;
/// Nobody is held up for longer by a partition that is being made, nor is the delivery by somebody who reads.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// The partitions that there are.
#[derive(Debug, Default)]
pub(super) struct Days {
    /// By table; one that cannot have partitions is not in it.
    of: HashMap<Table, Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    all: Vec<Part>,
    /// The one that takes what no other does.
    default: Option<String>,
}

/// A partition: its name for statements, and what it takes, µs since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    from_us: i64,
    to_us: i64,
}

impl Days {
    pub(super) async fn read(client: &Client, schema: &str) -> Result<Days, SinkError> {
        let sql = "SELECT p.relname::text, n.nspname::text, c.relname::text, pg_get_expr(c.relpartbound, c.oid) \
             FROM pg_class p LEFT JOIN pg_inherits i ON i.inhparent = p.oid LEFT JOIN pg_class c ON c.oid = i.inhrelid \
             LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE p.relkind = 'p' AND p.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)";
        let rows = client.query(sql, &[&schema]).await;
        let rows = rows.map_err(|error| failure::of_opening(&error, "looking at the partitions"))?;
        let mut days = Days::default();
        for row in rows {
            let Ok(table) = row.get::<_, String>(0).parse::<Table>() else { continue };
            let parts = days.of.entry(table).or_default();
            let (schema, name, bound): (Option<String>, Option<String>, Option<String>) =
                (row.get(1), row.get(2), row.get(3));
            let (Some(schema), Some(name), Some(bound)) = (schema, name, bound) else { continue };
            let name = layout::full(&schema, &name);
            match bounds(&bound) {
                Some((from_us, to_us)) => parts.all.push(Part { name, from_us, to_us }),
                None => parts.default = Some(name),
            }
        }
        Ok(days)
    }

    /// Where the rows of a day go: a partition, or a table that has none. `None`: the partition must be made first.
    pub(super) fn target(&self, schema: &str, table: Table, day: Day) -> Option<String> {
        match self.of.get(&table) {
            None => Some(layout::full(schema, table.name())),
            Some(parts) => match parts.all.iter().find(|part| part.takes(day)) {
                Some(part) => Some(part.name.clone()),
                None => parts.all.iter().any(|part| part.cuts(day)).then(|| layout::full(schema, table.name())),
            },
        }
    }

    /// A partition that is shorter than the days that it takes a part of.
    pub(super) fn note(&self) -> Option<String> {
        let short = self.of.values().flat_map(|parts| &parts.all).filter(|part| part.is_short());
        let name = short.map(|part| part.name.as_str()).min()?;
        Some(format!(
            "partition {name} takes a part of a day: what else there is of that day goes to the default partition"
        ))
    }

    /// Makes what is missing of today and the days after it, for the tables that are in use. What cannot be made now is made
    /// again in a moment, or with the first record of its day.
    pub(super) async fn make_ahead(&mut self, client: &Client, schema: &str) {
        if let Err(error) = self.make_days(client, schema).await {
            tracing::debug!(error = %error, "no partitions made ahead");
        }
    }

    async fn make_days(&mut self, client: &Client, schema: &str) -> Result<(), SinkError> {
        let today = Day::of(UnixNanos::now());
        let used: Vec<Table> =
            self.of.iter().filter(|(_, parts)| !parts.all.is_empty()).map(|(table, _)| *table).collect();
        for table in used {
            for day in (0..=AHEAD).map(|days| Day(today.0 + days)) {
                self.make(client, schema, table, day).await?;
            }
        }
        Ok(())
    }

    /// Makes the partition of a day, unless it is there.
    pub(super) async fn make(
        &mut self,
        client: &Client,
        schema: &str,
        table: Table,
        day: Day,
    ) -> Result<(), SinkError> {
        for nth in 1..=NAMES {
            if self.target(schema, table, day).is_some() {
                return Ok(());
            }
            let suffix = if nth == 1 { String::new() } else { format!("_{nth}") };
            let name = layout::full(schema, &format!("{}_{}{suffix}", table.name(), day.compact()));
            let default = self.of.get(&table).and_then(|parts| parts.default.as_deref());
            let done = client.batch_execute(&make(schema, table, day, &name, default)).await;
            if let Err(error) = done {
                let undone = client.batch_execute("ROLLBACK").await;
                undone.map_err(|error| failure::of_opening(&error, "making a partition"))?;
                if !failure::is_made_already(&error) {
                    return Err(failure::of_opening(&error, "making a partition"));
                }
                // Made by another deck meanwhile: looked at again.
                if nth == NAMES {
                    return Err(SinkError::Unavailable(anyhow::anyhow!("making {name}: {}", failure::words(&error))));
                }
            }
            *self = Days::read(client, schema).await?;
        }
        Ok(())
    }
}

impl Part {
    fn takes(&self, day: Day) -> bool {
        self.from_us <= day.start_us() && day.next().start_us() <= self.to_us
    }

    /// Whether it takes a part of a day, and not all of it.
    fn cuts(&self, day: Day) -> bool {
        !self.takes(day) && self.from_us < day.next().start_us() && day.start_us() < self.to_us
    }

    fn is_short(&self) -> bool {
        let within = |time_us: i64| time_us.rem_euclid(DAY_US) != 0 && time_us != i64::MIN && time_us != i64::MAX;
        within(self.from_us) || within(self.to_us)
    }
}

/// One transaction: what the default partition holds of that day goes along.
fn make(schema: &str, table: Table, day: Day, name: &str, default: Option<&str>) -> String {
    let parent = layout::full(schema, table.name());
    let (from, to) = (format!("'{} 00:00:00+00'", day.date()), format!("'{} 00:00:00+00'", day.next().date()));
    let columns = layout::names(table);
    let moved = default.map_or_else(String::new, |default| {
        format!(
            "WITH moved AS (DELETE FROM {default} WHERE ts_recv >= {from} AND ts_recv < {to} RETURNING {columns}) \
             INSERT INTO {name} ({columns}) SELECT {columns} FROM moved;"
        )
    });
    format!(
        "BEGIN; {LOCK_TIMEOUT}; CREATE TABLE {name} (LIKE {parent} INCLUDING ALL); {moved} \
         ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to}); COMMIT"
    )
}

/// `FOR VALUES FROM ('2026-11-21 00:00:00+00') TO (MAXVALUE)` in µs; `None` for the default partition.
fn bounds(text: &str) -> Option<(i64, i64)> {
    let (from, to) = text.strip_prefix("FOR VALUES FROM (")?.strip_suffix(')')?.split_once(") TO (")?;
    Some((bound(from)?, bound(to)?))
}

fn bound(text: &str) -> Option<i64> {
    match text {
        "MINVALUE" => Some(i64::MIN),
        "MAXVALUE" => Some(i64::MAX),
        quoted => quoted.trim_matches('\'').parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_the_server_prints_them() {
        let day = Day::of(UnixNanos(1_763_683_200_000_000_000));
        let part = |text: &str| {
            let (from_us, to_us) = bounds(text).unwrap();
            Part { name: String::new(), from_us, to_us }
        };
        assert!(part("FOR VALUES FROM ('2025-11-21 00:00:00+00') TO ('2025-11-22 00:00:00+00')").takes(day));
        assert!(
            part("FOR VALUES FROM ('2025-11-01 00:00:00+00') TO ('2025-12-01 00:00:00+00')").takes(day),
            "a month is as good"
        );
        assert!(part("FOR VALUES FROM (MINVALUE) TO (MAXVALUE)").takes(day));
        assert!(
            !part("FOR VALUES FROM ('2025-11-21 06:00:00+00') TO ('2025-11-22 06:00:00+00')").takes(day),
            "half a day is not"
        );
        let shifted = part("FOR VALUES FROM ('2025-11-21 06:00:00+00') TO ('2025-11-22 06:00:00+00')");
        let cut = |days: i64| shifted.cuts(Day(day.0 + days));
        assert_eq!([cut(-1), cut(0), cut(1), cut(2)], [false, true, true, false]);
        assert!(shifted.is_short() && !part("FOR VALUES FROM (MINVALUE) TO ('2025-11-22 00:00:00+00')").is_short());
        assert_eq!(bounds("DEFAULT"), None);
    }
}
