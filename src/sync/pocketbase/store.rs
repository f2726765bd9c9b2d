//! A PocketBase as the target that the engine knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tapedeck_market::SmolStr;

use super::answer::Who;
use super::client::{Client, is_too_large};
use super::read::{Fields, Order, Place, Range};
use super::schema::{Collection, Field, Kind};
use super::sql::Sql;
use crate::sync::mapping::{self, Mode, Wanted, date_text, time_text};
use crate::sync::target::{Asked, Change, Found, Ready, Target, Written};
use crate::sync::writer::{Broken, Fate, MOST, Writer};
use crate::sync::{Class, Id, Trouble};

/// Changes of a request by SQL: its 5,000 bytes are the limit that counts.
const STATEMENT_MOST: usize = 1_000;
/// Records asked for by their ids at once: the server takes filters of 3,500 characters.
const IDS_AT_ONCE: usize = 100;

/// The target of the sync.
#[derive(Debug)]
pub struct PocketBase {
    client: Arc<Client>,
    most: usize,
    pause: Duration,
    /// How much each collection takes at once, and what is known of its fields.
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    writer: Option<Writer<Arc<Client>>>,
    fields: Option<Vec<Field>>,
}

impl PocketBase {
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        PocketBase { client, most: MOST, pause: Duration::ZERO, known: Mutex::default() }
    }

    /// At most so many documents in a batch; the server may allow fewer.
    #[must_use]
    pub fn batches_of(mut self, most: usize) -> Self {
        self.most = most.clamp(1, MOST);
        self
    }

    /// Waits so long between two batches of a collection.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    fn with_known<T>(&self, collection: &str, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(collection.to_owned()).or_default())
    }

    /// Statements, where the fields are known that they name.
    fn statements(&self, collection: &str) -> Option<Sql> {
        let fields = self.with_known(collection, |known| known.fields.clone())?;
        Sql::new(Arc::clone(&self.client), fields).ok()
    }
}

#[async_trait]
impl Target for PocketBase {
    async fn ready(&self, collection: &str, fields: &[Wanted]) -> Result<Ready, Trouble> {
        let fields: Vec<Field> = fields.iter().map(field).collect();
        let wanted = Collection { name: collection.to_owned(), fields: fields.clone(), ..Collection::default() };
        let found = match self.client.compare(&wanted).await {
            Err(trouble) if trouble.class == Class::Authentication && self.client.who() == Who::Nobody => {
                let note = format!("whether `{collection}` has all fields cannot be seen without a login");
                return Ok(Ready { notes: vec![note], birth: None });
            }
            found => found?,
        };
        let (stops, notes): (Vec<_>, Vec<_>) = found.into_iter().partition(super::Difference::forbids_writing);
        if !stops.is_empty() {
            let said: Vec<String> = stops.iter().map(ToString::to_string).collect();
            return Err(Trouble::new(Class::Setup, said.join("; ")));
        }
        if !self.client.limits().await?.enabled {
            return Err(Trouble::new(Class::Setup, "batches are switched off there")
                .fix("`tapedeck sync init` offers to switch them on; or there: Settings, Application, Batch API"));
        }
        self.with_known(collection, |known| known.fields = Some(fields));
        let birth = self.client.born(collection).await?;
        Ok(Ready { notes: notes.iter().map(ToString::to_string).collect(), birth })
    }

    async fn write(&self, collection: &str, changes: &[Change], mode: Mode) -> Written {
        if mode == Mode::Bulk
            && let Some(statements) = self.statements(collection)
        {
            let mut writer = Writer::new(statements).batches_of(STATEMENT_MOST).pause(self.pause);
            return in_order(changes, writer.write(collection, changes).await);
        }
        let kept = self.with_known(collection, |known| known.writer.take());
        let fresh = || Writer::new(Arc::clone(&self.client)).batches_of(self.most).pause(self.pause);
        let mut writer = kept.unwrap_or_else(fresh);
        let written = in_order(changes, writer.write(collection, changes).await);
        self.with_known(collection, |known| known.writer = Some(writer));
        written
    }

    async fn read(&self, asked: &Asked<'_>, after: Option<&SmolStr>, most: usize) -> Result<Vec<Found>, Trouble> {
        let range = match asked.time {
            Some((field, kind, span)) => {
                let bound = |ns: Option<i64>| ns.map(|ns| bound(kind, ns)).transpose();
                let no = |()| Trouble::new(Class::Setup, format!("`{field}` is no time to read days by"));
                let (from, to) = (bound(span.from_ns).map_err(no)?, bound(span.to_ns).map_err(no)?);
                Some(Range { field: field.to_owned(), from, to })
            }
            None => None,
        };
        let (names, exact) = names(asked.fields);
        let fields = Fields { names: &names, exact: &exact };
        let after = after.map(|id| Place::behind(id));
        let mut most = most;
        let page = loop {
            let order = (Order::Ids, most);
            match self.client.page(asked.collection, range.as_ref(), &fields, order, after.as_ref()).await {
                Err(trouble) if most > 1 && is_too_large(&trouble) => most /= 2,
                page => break page?,
            }
        };
        Ok(page.records.into_iter().map(|found| Found { id: found.id.into(), body: found.body }).collect())
    }

    async fn find(&self, collection: &str, fields: &[Wanted], ids: &[Id]) -> Result<Vec<Found>, Trouble> {
        let (names, exact) = names(fields);
        let fields = Fields { names: &names, exact: &exact };
        let mut all = Vec::with_capacity(ids.len());
        let mut open: Vec<&[Id]> = ids.chunks(IDS_AT_ONCE).collect();
        while let Some(some) = open.pop() {
            match self.client.by_ids(collection, &fields, some).await {
                Err(trouble) if some.len() > 1 && is_too_large(&trouble) => {
                    let (one, other) = some.split_at(some.len() / 2);
                    open.extend([one, other]);
                }
                Err(trouble) if trouble.class == Class::Authentication && self.client.who() == Who::Nobody => {
                    return Ok(Vec::new());
                }
                found => all.extend(found?.into_iter().map(|found| Found { id: found.id.into(), body: found.body })),
            }
        }
        Ok(all)
    }
}

/// Names of fields, and of those that hold JSON.
fn names(fields: &[Wanted]) -> (Vec<&str>, Vec<&str>) {
    let exact = fields.iter().filter(|field| field.kind == mapping::Kind::Json);
    (fields.iter().map(|field| field.name.as_str()).collect(), exact.map(|field| field.name.as_str()).collect())
}

/// How the server keeps what a mapping makes.
pub(in crate::sync) fn field(wanted: &Wanted) -> Field {
    let kind = match wanted.kind {
        mapping::Kind::Number | mapping::Kind::Integer => Kind::Number,
        mapping::Kind::Text | mapping::Kind::Time { .. } => Kind::Text,
        mapping::Kind::Bool => Kind::Bool,
        mapping::Kind::Json => Kind::Json,
        mapping::Kind::Date => Kind::Date,
    };
    Field { name: wanted.name.to_string(), kind, required: false, max: None }
}

/// The first moment of a field of that kind that is not before `ns`.
fn bound(kind: mapping::Kind, ns: i64) -> Result<Value, ()> {
    let up_to = |unit: i64| {
        let rest = ns.rem_euclid(unit);
        if rest == 0 { ns } else { ns.saturating_add(unit - rest) }
    };
    match kind {
        mapping::Kind::Date => date_text(up_to(1_000_000)).map(Value::from).ok_or(()),
        mapping::Kind::Time { nanos: true } => Ok(time_text(ns, true).into()),
        mapping::Kind::Time { nanos: false } => Ok(time_text(up_to(1_000), false).into()),
        _ => Err(()),
    }
}

/// As far as everything is settled. A change that another one stands for is settled with that one, or what we remember of the record
/// would not be what is there.
fn in_order(changes: &[Change], result: Result<crate::sync::writer::Written, Broken>) -> Written {
    let (written, trouble) = match result {
        Ok(written) => (written, None),
        Err(broken) => (broken.written, Some(broken.trouble)),
    };
    let open: std::collections::HashSet<_> = changes
        .iter()
        .zip(&written.fates)
        .filter(|(_, fate)| **fate == Fate::Open)
        .map(|(change, _)| change.id())
        .collect();
    let done = changes.iter().position(|change| open.contains(&change.id())).unwrap_or(changes.len());
    let refused = written.refused().take_while(|(place, _)| *place < done);
    Written { done, refused: refused.map(|(place, words)| (place, words.to_owned())).collect(), trouble }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Document, Id};

    #[test]
    fn what_is_done_ends_before_the_first_record_that_is_not() {
        let put = |n: &str| Change::Put(Document { id: Id::of([n]), body: serde_json::Map::new(), time_ns: 0 });
        let changes = [put("a"), put("b"), put("c"), put("b"), put("d")];
        let refused = || Fate::Refused("no".into());
        let fates = vec![refused(), Fate::Replaced, Fate::Confirmed, Fate::Open, Fate::Open];
        let written = crate::sync::writer::Written { fates, ..Default::default() };
        let broken = Broken { written, trouble: Trouble::new(Class::Connection, "away") };
        let told = in_order(&changes, Err(broken));
        assert_eq!((told.done, told.refused, told.trouble.is_some()), (1, vec![(0, "no".to_owned())], true));
        let fates = vec![refused(), Fate::Replaced, Fate::Confirmed, refused(), Fate::Confirmed];
        let told = in_order(&changes, Ok(crate::sync::writer::Written { fates, ..Default::default() }));
        assert_eq!((told.done, told.refused.len(), told.trouble), (5, 2, None));
    }

    #[test]
    fn bounds_are_the_first_moment_that_the_field_can_say() {
        let of = |kind, ns| bound(kind, ns).unwrap();
        assert_eq!(of(mapping::Kind::Date, 1), "1970-01-01 00:00:00.001Z");
        assert_eq!(of(mapping::Kind::Date, -1), "1970-01-01 00:00:00.000Z");
        assert_eq!(of(mapping::Kind::Time { nanos: false }, 1_000), "1970-01-01T00:00:00.000001Z");
        assert_eq!(of(mapping::Kind::Time { nanos: false }, 1_001), "1970-01-01T00:00:00.000002Z");
        assert_eq!(of(mapping::Kind::Time { nanos: true }, 1_001), "1970-01-01T00:00:00.000001001Z");
        assert!(bound(mapping::Kind::Text, 0).is_err());
    }
}
