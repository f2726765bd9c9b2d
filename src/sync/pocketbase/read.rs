//! What is there: pages by key, not by number, so that the last page costs what the first one does; and counts.

use std::collections::HashMap;

use form_urlencoded::Serializer;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::answer::Who;
use super::client::Client;
use super::schema::is_name;
use crate::sync::{Class, Id, Trouble, json};

/// The most that it gives at once.
const PER_PAGE: usize = 1_000;

/// In which order records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ids,
    /// By the range's field, then by ids; without a range by ids.
    Field,
}

/// Which records: by a field, from, inclusive, to, exclusive. Texts and dates as the records have them.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    pub field: String,
    pub from: Option<Value>,
    pub to: Option<Value>,
}

/// A record that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Not always one of ours.
    pub id: String,
    /// The fields that were asked for.
    pub body: Map<String, Value>,
}

/// Which fields, and those of them whose JSON is wanted as a document has it: see [`json`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    pub names: &'a [&'a str],
    pub exact: &'a [&'a str],
}

impl Fields<'_> {
    /// How they are asked for; `None`: all of them are, because the server picks fields out by way of doubles.
    fn asked(&self) -> Option<String> {
        self.exact.is_empty().then(|| [&["id"], self.names].concat().join(","))
    }
}

/// Some records, and where the next ones begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub records: Vec<Found>,
    /// `None`: these were the last.
    pub next: Option<Place>,
}

/// Behind one record, in the order in which they are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    id: String,
    /// Of the range's field.
    by: Option<Value>,
}

impl Place {
    /// Behind that id, in the order of ids.
    #[must_use]
    pub fn behind(id: &str) -> Place {
        Place { id: id.to_owned(), by: None }
    }
}

impl Client {
    /// One page of at most so many (1,000 are the most there are) of the records of a range, or of all, with those fields. Records
    /// that change meanwhile may be missed or come as they were; none comes twice.
    ///
    /// # Errors
    /// The server is away, does not accept who we are, or has no such collection or field.
    pub async fn page(
        &self,
        collection: &str,
        range: Option<&Range>,
        fields: &Fields<'_>,
        (order, most): (Order, usize),
        after: Option<&Place>,
    ) -> Result<Page, Trouble> {
        let what = format!("reading collection {collection}");
        check(collection, range, fields.names, &what)?;
        let by = range.filter(|_| order == Order::Field).map(|range| range.field.as_str());
        let most = most.clamp(1, PER_PAGE);
        let mut names = fields.names.to_vec();
        names.extend(by.filter(|by| !names.contains(by)));
        let fields_asked = Fields { names: &names, exact: fields.exact };
        let sort = by.map_or_else(|| "id".to_owned(), |by| format!("{by},id"));
        let mut filters = range.map(filter).unwrap_or_default();
        filters.extend(after.map(|place| behind(by, place)));
        let most_text = most.to_string();
        let mut pairs = vec![("perPage", most_text.as_str()), ("skipTotal", "1"), ("sort", &sort)];
        let wanted = fields_asked.asked();
        pairs.extend(wanted.as_deref().map(|wanted| ("fields", wanted)));
        let path = records(collection, &pairs, &filters);
        let mut last = None;
        let mut records = self.records(&path, &fields_asked, &what).await?;
        for Found { body, .. } in &mut records {
            last = by.map(|by| body.get(by).cloned().unwrap_or_default());
            if by.is_some_and(|by| !fields.names.contains(&by)) {
                body.remove(by.unwrap_or_default());
            }
        }
        let next = records.last().filter(|_| records.len() == most);
        let next = next.map(|record| Place { id: record.id.clone(), by: last });
        if next.is_none() {
            self.is_still_us(collection, &what).await?;
        }
        Ok(Page { records, next })
    }

    /// The records of these ids that there are.
    ///
    /// # Errors
    /// As of [`Client::page`].
    pub async fn by_ids(&self, collection: &str, fields: &Fields<'_>, ids: &[Id]) -> Result<Vec<Found>, Trouble> {
        let what = format!("looking up {} of collection {collection}", ids.len());
        check(collection, None, fields.names, &what)?;
        let (most, wanted) = (ids.len().to_string(), fields.asked());
        let filter = ids.iter().map(|id| format!("id='{id}'")).collect::<Vec<_>>().join("||");
        let mut pairs = vec![("perPage", most.as_str()), ("skipTotal", "1")];
        pairs.extend(wanted.as_deref().map(|wanted| ("fields", wanted)));
        self.records(&records(collection, &pairs, &[filter]), fields, &what).await
    }

    /// The records of an answer.
    async fn records(&self, path: &str, fields: &Fields<'_>, what: &str) -> Result<Vec<Found>, Trouble> {
        #[derive(Deserialize)]
        struct Items<'a> {
            #[serde(borrow)]
            items: Vec<HashMap<String, &'a RawValue>>,
        }
        let answer = self.text(path, what).await?;
        let Ok(Items { items }) = serde_json::from_str(&answer) else {
            return Err(Trouble::new(Class::Setup, format!("{what}: there are no items in the answer")));
        };
        let found = |item: HashMap<String, &RawValue>| {
            let id = serde_json::from_str(item.get("id")?.get()).ok()?;
            let value = |name: &&str| {
                let text = item.get(*name)?.get();
                let exact = || json::field(text).unwrap_or_else(|| text.into());
                let value = if fields.exact.contains(name) { exact() } else { serde_json::from_str(text).ok()? };
                Some(((*name).to_owned(), value))
            };
            Some(Found { id, body: fields.names.iter().filter_map(value).collect() })
        };
        Ok(items.into_iter().filter_map(found).collect())
    }

    /// How many records there are, in a range or at all.
    ///
    /// # Errors
    /// As of [`Client::page`].
    pub async fn count(&self, collection: &str, range: Option<&Range>) -> Result<u64, Trouble> {
        let what = format!("counting collection {collection}");
        check(collection, range, &[], &what)?;
        let path = records(collection, &[("perPage", "1"), ("fields", "id")], &range.map(filter).unwrap_or_default());
        let answer = self.get(&path, &what).await?;
        let count = answer["totalItems"].as_u64();
        let count =
            count.ok_or_else(|| Trouble::new(Class::Setup, format!("{what}: there is no number in the answer")))?;
        self.is_still_us(collection, &what).await?;
        Ok(count)
    }

    /// Whom it does not know it shows what the collection's rule leaves open, without an error: a login that was taken back must
    /// not look like records that are gone.
    async fn is_still_us(&self, collection: &str, what: &str) -> Result<(), Trouble> {
        if self.who() != Who::Nobody {
            self.get(&format!("collections/{collection}?fields=id"), what).await?;
        }
        Ok(())
    }
}

fn check(collection: &str, range: Option<&Range>, fields: &[&str], what: &str) -> Result<(), Trouble> {
    let mut names = fields.iter().copied().chain(range.map(|range| range.field.as_str())).chain([collection]);
    match names.find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => Err(Trouble::new(Class::Setup, format!("{what}: `{name}` can be no name there"))),
    }
}

fn records(collection: &str, pairs: &[(&str, &str)], filters: &[String]) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(pairs);
    if !filters.is_empty() {
        query.append_pair("filter", &filters.join(" && "));
    }
    format!("collections/{collection}/records?{}", query.finish())
}

fn filter(range: &Range) -> Vec<String> {
    let from = range.from.as_ref().map(|value| format!("{} >= {}", range.field, literal(value)));
    let to = range.to.as_ref().map(|value| format!("{} < {}", range.field, literal(value)));
    from.into_iter().chain(to).collect()
}

fn behind(by: Option<&str>, place: &Place) -> String {
    let id = literal(&Value::from(place.id.as_str()));
    match (by, &place.by) {
        (Some(by), Some(value)) => {
            let value = literal(value);
            format!("({by} > {value} || ({by} = {value} && id > {id}))")
        }
        _ => format!("id > {id}"),
    }
}

/// In the server's language of filters, whose texts end at a quote that is not behind a backslash.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        other => other.to_string(),
    }
}
