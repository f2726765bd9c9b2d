//! A source and a target in memory, for tests of what lies between: they fail when told to, and count.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;
use tapedeck_market::SmolStr;
use tokio::sync::mpsc;

use super::mapping::{Mode, Wanted as Field};
use super::source::{Day, Mark, News, Source, Span, Wanted};
use super::target::{Asked, Change, Found, Ready, Target, Written};
use super::{By, Class, Column, Id, Row, Schema, Trouble, Type, Value};

/// The time of a row that no nanoseconds can say.
pub(super) const FAR_NS: i64 = i64::MAX;
pub(super) const DAY_NS: i64 = 86_400_000_000_000;

/// Rows by time and symbol, with a log of what was touched.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub rows: BTreeMap<(i64, String), f64>,
    /// Stretches touched, and whether rows were taken away.
    pub log: Vec<(Span, bool)>,
    /// Chunks after which reading breaks, once.
    pub breaks_after: Option<usize>,
    /// Other columns than the usual ones.
    pub schema: Option<Schema>,
    columns_changed: bool,
}

impl Table {
    /// Rows are told apart by these columns from now on; without a clock they come in no order.
    pub(super) fn alter(&mut self, key: &[&str], clock: bool) {
        self.schema = Some(columns(key, clock.then_some(0)));
        self.columns_changed = true;
    }

    pub(super) fn put(&mut self, time_ns: i64, symbol: &str, price: f64) {
        self.rows.insert((time_ns, symbol.to_owned()), price);
        self.log.push((Span { from_ns: Some(time_ns), to_ns: time_ns.checked_add(1) }, false));
    }

    pub(super) fn remove(&mut self, time_ns: i64, symbol: &str) {
        self.rows.remove(&(time_ns, symbol.to_owned()));
        self.log.push((Span::default(), true));
    }

    /// Something happened, nobody knows where.
    pub(super) fn touch(&mut self) {
        self.log.push((Span::default(), false));
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Rows(pub Arc<Mutex<Table>>);

/// The columns of a table whose rows are told apart by these, and that may go by no clock.
fn columns(key: &[&str], time: Option<usize>) -> Schema {
    let column =
        |name: &str, kind| Column { name: name.into(), kind, native: "".into(), upsert_key: key.contains(&name) };
    let columns =
        [column("ts", Type::Time { nanos: false }), column("symbol", Type::Text), column("price", Type::Double)];
    Schema { columns: columns.into(), time }
}

pub(super) fn schema() -> Schema {
    columns(&["ts", "symbol"], Some(0))
}

#[async_trait]
impl Source for Rows {
    async fn hello(&mut self) -> Result<String, Trouble> {
        Ok("memory".into())
    }

    async fn tables(&mut self) -> Result<Vec<String>, Trouble> {
        Ok(vec!["t".into()])
    }

    async fn schema(&mut self, _: &str) -> Result<Schema, Trouble> {
        Ok(self.0.lock().unwrap().schema.clone().unwrap_or_else(schema))
    }

    async fn news(&mut self, _: &str, mark: Option<&Mark>) -> Result<News, Trouble> {
        let mut table = self.0.lock().unwrap();
        let columns = std::mem::take(&mut table.columns_changed);
        let mark_now = Mark(json!(table.log.len()));
        let Some(mark) = mark else {
            let spans = vec![Span::default()];
            return Ok(News { spans, mark: mark_now, by: By::Beginning, removed: false, columns: false });
        };
        let new = &table.log[mark.0.as_u64().unwrap() as usize..];
        let removed = new.iter().any(|(_, removed)| *removed);
        let mut spans: Vec<Span> = new.iter().map(|(span, _)| *span).collect();
        spans.sort();
        spans.dedup();
        if spans.contains(&Span::default()) {
            spans = vec![Span::default()];
        }
        let by = if spans.is_empty() { By::Gate } else { By::Log };
        Ok(News { spans, mark: mark_now, by, removed, columns })
    }

    async fn rows(&mut self, wanted: &Wanted<'_>, out: mpsc::Sender<Vec<Row>>) -> Result<u64, Trouble> {
        let within: Vec<Row> = {
            let table = self.0.lock().unwrap();
            let (from, to) = (wanted.span.from_ns.unwrap_or(i64::MIN), wanted.span.to_ns.unwrap_or(i64::MAX));
            let rows = table.rows.iter().filter(|((time, _), _)| *time >= from && (*time < to || to == i64::MAX));
            let row = |((time, symbol), price): (&(i64, String), &f64)| {
                // As the real one gives a time that is too far away.
                let time =
                    if *time == FAR_NS { Value::Text("9999-12-31T00:00:00Z".into()) } else { Value::Time(*time) };
                vec![time, Value::Text(symbol.clone()), Value::Double(*price)]
            };
            let mut rows: Vec<_> = rows.collect();
            if wanted.schema.time.is_none() {
                rows.sort_by(|one, other| one.0.1.cmp(&other.0.1));
            }
            rows.into_iter().map(row).take(wanted.limit.unwrap_or(u64::MAX) as usize).collect()
        };
        for (n, chunk) in within.chunks(700).enumerate() {
            let breaks = {
                let mut table = self.0.lock().unwrap();
                table.breaks_after.is_some_and(|after| n >= after).then(|| table.breaks_after.take()).is_some()
            };
            if breaks {
                return Err(Trouble::new(Class::Connection, "the source went away"));
            }
            if out.send(chunk.to_vec()).await.is_err() {
                break;
            }
        }
        Ok(within.len() as u64)
    }

    async fn days(&mut self, _: &str, _: Span) -> Result<Vec<Day>, Trouble> {
        let table = self.0.lock().unwrap();
        let mut days = BTreeMap::new();
        for (time, _) in table.rows.keys() {
            *days.entry(time.div_euclid(DAY_NS) * DAY_NS).or_insert(0) += 1;
        }
        Ok(days.into_iter().map(|(start_ns, rows)| Day { start_ns, rows }).collect())
    }
}

/// Documents by id.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub kept: Mutex<HashMap<SmolStr, serde_json::Map<String, serde_json::Value>>>,
    pub writes: Mutex<u64>,
    /// Changes after which it breaks, once.
    pub breaks_after: Mutex<Option<usize>>,
    /// It writes all, and its answer is lost, once.
    pub mute: Mutex<bool>,
    pub birth: Mutex<String>,
    /// It refuses to let go of anything.
    pub holds_on: Mutex<bool>,
}

/// A price that this target refuses.
pub(super) const UNWANTED: f64 = 13.0;

#[async_trait]
impl Target for Memory {
    async fn ready(&self, _: &str, _: &[Field]) -> Result<Ready, Trouble> {
        Ok(Ready { birth: Some(self.birth.lock().unwrap().clone()), ..Ready::default() })
    }

    async fn find(&self, _: &str, _: &[Field], ids: &[Id]) -> Result<Vec<Found>, Trouble> {
        let kept = self.kept.lock().unwrap();
        let found = |id: &Id| Some(Found { id: id.as_str().into(), body: kept.get(id.as_str())?.clone() });
        Ok(ids.iter().filter_map(found).collect())
    }

    async fn write(&self, _: &str, changes: &[Change], _: Mode) -> Written {
        let mut written = Written::default();
        for (n, change) in changes.iter().enumerate() {
            let mut breaks = self.breaks_after.lock().unwrap();
            if breaks.is_some_and(|after| n >= after) {
                *breaks = None;
                written.trouble = Some(Trouble::new(Class::Connection, "the target went away"));
                return written;
            }
            *self.writes.lock().unwrap() += 1;
            let mut kept = self.kept.lock().unwrap();
            match change {
                Change::Put(document) if document.body["price"].as_f64() == Some(UNWANTED) => {
                    written.refused.push((n, "price: unwanted".into()));
                }
                Change::Put(document) => {
                    kept.insert(document.id.as_str().into(), document.body.clone());
                }
                Change::Delete(_) if *self.holds_on.lock().unwrap() => {
                    written.refused.push((n, "something needs it".into()));
                }
                Change::Delete(id) => {
                    kept.remove(id.as_str());
                }
            }
            written.done += 1;
        }
        if std::mem::take(&mut *self.mute.lock().unwrap()) {
            let trouble = Some(Trouble::new(Class::Connection, "no answer"));
            return Written { trouble, ..Written::default() };
        }
        written
    }

    async fn read(&self, asked: &Asked<'_>, after: Option<&SmolStr>, most: usize) -> Result<Vec<Found>, Trouble> {
        let text = |ns: Option<i64>| ns.map(|ns| super::mapping::time_text(ns, false));
        let kept = self.kept.lock().unwrap();
        let mut found: Vec<Found> = kept
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| *id > after))
            .filter(|(_, body)| {
                let Some((field, _, span)) = &asked.time else { return true };
                let at = body[*field].as_str().unwrap_or_default();
                text(span.from_ns).is_none_or(|from| at >= from.as_str())
                    && text(span.to_ns).is_none_or(|to| at < to.as_str())
            })
            .map(|(id, body)| Found { id: id.clone(), body: body.clone() })
            .collect();
        found.sort_by(|one, other| one.id.cmp(&other.id));
        found.truncate(most);
        Ok(found)
    }
}
