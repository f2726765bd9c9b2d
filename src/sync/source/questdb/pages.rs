//! Rows in pages, each a question of its own.
//!
//! One long answer would be simpler and as fast. But the target is far slower than the source: while it works, the answer would
//! stand open for minutes or hours, keep the server from giving away what it has replaced, and run into the server's
//! `query.timeout`. A page is taken whole, and nothing is open while it is worked on.
//!
//! The next page begins at the time where the last one ended, so rows that come or go meanwhile shift nothing:
//!
//! ```text
//! ts >= from … LIMIT n ─► n rows, the last at T ─► those at T are left for: ts >= T … LIMIT n
//!                         all of them at T      ─► this instant alone, by place: ts = T LIMIT n, 2n; then ts > T
//! ```

use tokio_postgres::Row;

use super::columns::{self, Reader};
use super::names::quoted;
use super::session::Session;
use crate::sync::{Schema, Span, Trouble};

/// Rows of a page: the overhead of a question is no more than a tenth of the time by then.
const MOST_ROWS: u64 = 16_384;
/// The first page, before anything is known of how large rows are.
const FIRST_ROWS: u64 = 64;
/// What a page may hold of answers.
const PAGE_BYTES: usize = 4 << 20;
/// A page is at most so many times larger than the one before.
const GROWTH: u64 = 4;

/// Where the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At a tick of the table's clock; `None`: at its beginning.
    From(Option<i64>),
    /// Within an instant that fills more than a page.
    Instant {
        tick: i64,
        offset: u64,
    },
    /// By place, in a table without a clock.
    Place(u64),
    End,
}

pub(super) struct Pages {
    list: String,
    table: String,
    /// Name and place of the designated timestamp.
    time: Option<(String, usize)>,
    /// The end, in ticks, exclusive.
    to: Option<i64>,
    at: At,
    rows: u64,
    page_bytes: usize,
}

impl Pages {
    /// Of a stretch of a table.
    pub(super) fn new(table: &str, schema: &Schema, reader: &Reader, span: Span) -> Pages {
        let tick_ns = columns::tick_ns(schema);
        let time = schema.time.and_then(|at| Some((quoted(&schema.columns.get(at)?.name), at)));
        let ticks = |ns: Option<i64>| ns.map(|ns| ceil(ns, tick_ns));
        let at = if time.is_some() { At::From(ticks(span.from_ns)) } else { At::Place(0) };
        Pages {
            list: reader.list.clone(),
            table: quoted(table),
            time,
            to: ticks(span.to_ns),
            at,
            rows: FIRST_ROWS,
            page_bytes: PAGE_BYTES,
        }
    }

    /// The next rows; `None`: that was all.
    ///
    /// # Errors
    /// As of [`Session::ask`]; asked again, it goes on where it was.
    pub(super) async fn next(&mut self, session: &mut Session) -> Result<Option<Vec<Row>>, Trouble> {
        loop {
            if self.at == At::End {
                return Ok(None);
            }
            let mut rows = session.ask(&self.statement()).await?;
            let full = rows.len() as u64 >= self.rows;
            self.at = self.after(&rows, full);
            if let (At::From(Some(tick)), Some((_, place)), true) = (self.at, &self.time, full) {
                rows.truncate(rows.partition_point(|row| columns::int(row, *place) < Some(tick)));
            }
            self.rows = self.fitting(&rows);
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
    }

    fn statement(&self) -> String {
        let (list, table, rows) = (&self.list, &self.table, self.rows);
        let Some((time, _)) = &self.time else {
            let from = if let At::Place(place) = self.at { place } else { 0 };
            return format!("SELECT {list} FROM {table} LIMIT {from}, {}", from + rows);
        };
        if let At::Instant { tick, offset } = self.at {
            return format!("SELECT {list} FROM {table} WHERE {time} = {tick} LIMIT {offset}, {}", offset + rows);
        }
        let from = if let At::From(tick) = self.at { tick } else { None };
        let bounds = between(time, from, self.to);
        format!("SELECT {list} FROM {table}{bounds} ORDER BY {time} LIMIT {rows}")
    }

    fn after(&self, rows: &[Row], full: bool) -> At {
        let tick = |row: Option<&Row>| columns::int(row?, self.time.as_ref()?.1);
        match self.at {
            At::Place(place) if full => At::Place(place + rows.len() as u64),
            At::Instant { tick, offset } if full => At::Instant { tick, offset: offset + rows.len() as u64 },
            At::Instant { tick, .. } => tick.checked_add(1).map_or(At::End, |next| At::From(Some(next))),
            At::From(_) if full => match (tick(rows.first()), tick(rows.last())) {
                (Some(first), Some(last)) if first == last => At::Instant { tick: last, offset: rows.len() as u64 },
                (_, last) => At::From(last),
            },
            _ => At::End,
        }
    }

    /// So many rows as fit, if the next ones are as large as the largest of these.
    fn fitting(&self, rows: &[Row]) -> u64 {
        let size = |row: &Row| (0..row.len()).map(|at| columns::raw(row, at).map_or(4, <[u8]>::len) + 8).sum::<usize>();
        let largest = rows.iter().map(size).max().unwrap_or(1).max(1);
        ((self.page_bytes / largest) as u64).clamp(1, MOST_ROWS).min(self.rows * GROWTH)
    }
}

/// The condition for rows of a stretch.
pub(super) fn bounds(time: &str, span: Span, tick_ns: i64) -> String {
    let ticks = |ns: Option<i64>| ns.map(|ns| ceil(ns, tick_ns));
    between(time, ticks(span.from_ns), ticks(span.to_ns))
}

fn between(time: &str, from: Option<i64>, to: Option<i64>) -> String {
    let bounds = [from.map(|from| format!("{time} >= {from}")), to.map(|to| format!("{time} < {to}"))];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) }
}

/// The first tick that is not before that moment.
fn ceil(ns: i64, tick_ns: i64) -> i64 {
    ns.div_euclid(tick_ns) + i64::from(ns.rem_euclid(tick_ns) != 0)
}
