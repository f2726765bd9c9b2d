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

pub(super) const DAY_NS: i64 = 86_400_000_000_000;

/// Rows by time and symbol, with a log of what was touched.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub rows: BTreeMap<(i64, String), f64>,
    /// Stretches touched, and whether rows were taken away.
    pub log: Vec<(Span, bool)>,
    /// Chunks after which reading breaks, once.
    pub breaks_after: Option<usize>,
}

impl Table {
    pub(super) fn put(&mut self, time_ns: i64, symbol: &str, price: f64) {
        self.rows.insert((time_ns, symbol.to_owned()), price);
        self.log.push((Span { from_ns: Some(time_ns), to_ns: Some(time_ns + 1) }, false));
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

pub(super) fn schema() -> Schema {
    let column = |name: &str, kind, key| Column { name: name.into(), kind, native: "".into(), upsert_key: key };
    let columns = [
        column("ts", Type::Time { nanos: false }, true),
        column("symbol", Type::Text, true),
        column("price", Type::Double, false),
    ];
    Schema { columns: columns.into(), time: Some(0) }
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
        Ok(schema())
    }

    async fn news(&mut self, _: &str, mark: Option<&Mark>) -> Result<News, Trouble> {
        let table = self.0.lock().unwrap();
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
        Ok(News { spans, mark: mark_now, by, removed, columns: false })
    }

    async fn rows(&mut self, wanted: &Wanted<'_>, out: mpsc::Sender<Vec<Row>>) -> Result<u64, Trouble> {
        let within: Vec<Row> = {
            let table = self.0.lock().unwrap();
            let (from, to) = (wanted.span.from_ns.unwrap_or(i64::MIN), wanted.span.to_ns.unwrap_or(i64::MAX));
            let rows = table.rows.iter().filter(|((time, _), _)| (from..to).contains(time));
            let row = |((time, symbol), price): (&(i64, String), &f64)| {
                vec![Value::Time(*time), Value::Text(symbol.clone()), Value::Double(*price)]
            };
            rows.map(row).take(wanted.limit.unwrap_or(u64::MAX) as usize).collect()
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
