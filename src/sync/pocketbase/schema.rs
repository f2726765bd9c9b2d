//! What a collection must be like, and what it lacks. It is made, and added to; nothing here drops, renames or retypes anything.

use std::fmt;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::Client;
use crate::sync::{Class, Trouble};

/// What a field holds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Text,
    Number,
    Bool,
    Json,
    Date,
}

impl Kind {
    /// The server's own word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Number => "number",
            Kind::Bool => "bool",
            Kind::Json => "json",
            Kind::Date => "date",
        }
    }
}

/// A field that documents have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    /// Whether the server is to refuse a blank one; for it 0 and false are blank, too.
    pub required: bool,
    /// Of a text, the most characters; the server's own default is 5,000.
    pub max: Option<u64>,
}

/// Who may do what without being a superuser: `None` nobody, an empty text everybody, else a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub list: Option<String>,
    pub view: Option<String>,
    pub create: Option<String>,
    pub update: Option<String>,
    pub delete: Option<String>,
}

/// A collection as it must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    pub name: String,
    pub fields: Vec<Field>,
    /// Fields of the natural key: there must be a unique index on them.
    pub key: Vec<String>,
    /// The field of time, which reading by days wants an index on.
    pub time: Option<String>,
    /// Of a collection that is made; those of one that is there are its owner's.
    pub rules: Rules,
}

/// In what way a collection is not as it must be, and what to do: a sentence of its own when it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub collection: String,
    pub lack: Lack,
}

/// What is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    Collection,
    /// It is a view or holds accounts.
    Base {
        there: String,
    },
    /// Ids of ours do not fit the rule of its field `id`.
    Id {
        rule: String,
    },
    Field {
        name: String,
        kind: Kind,
    },
    Kind {
        name: String,
        wanted: Kind,
        there: String,
    },
    /// A field that must not be blank, and that no document has.
    Blank {
        name: String,
    },
    /// No unique index on the key.
    UniqueIndex {
        key: Vec<String>,
    },
    /// An index under which documents of different keys exclude each other.
    OtherIndex {
        fields: Vec<String>,
    },
    /// No index that begins with the time.
    TimeIndex {
        field: String,
    },
}

impl Difference {
    /// Whether [`Client::amend`] mends it.
    #[must_use]
    pub fn can_be_added(&self) -> bool {
        matches!(self.lack, Lack::Collection | Lack::Field { .. } | Lack::UniqueIndex { .. } | Lack::TimeIndex { .. })
    }

    /// Whether documents would be lost, refused or damaged; the rest is only slower or less safe.
    #[must_use]
    pub fn forbids_writing(&self) -> bool {
        !matches!(self.lack, Lack::UniqueIndex { .. } | Lack::TimeIndex { .. } | Lack::OtherIndex { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.collection;
        let init = "`tapedeck sync init` adds it";
        match &self.lack {
            Lack::Collection => write!(f, "there is no collection `{name}`; `tapedeck sync init` makes it"),
            Lack::Base { there } => {
                write!(f, "`{name}` is a collection of type {there}, which takes no documents; name another one")
            }
            Lack::Id { rule } => write!(
                f,
                "ids of 15 characters of 0-9 and a-z do not fit the rule of `{name}.id` ({rule}); set it back to \
                 min 15, max 15, ^[a-z0-9]+$"
            ),
            Lack::Field { name: field, kind } => write!(
                f,
                "`{name}` has no field `{field}` ({}), and would drop it without a word; {init}",
                kind.as_str()
            ),
            Lack::Kind { name: field, wanted, there } => write!(
                f,
                "`{name}.{field}` is of type {there}, not {}; change the mapping, or rename the field there by hand",
                wanted.as_str()
            ),
            Lack::Blank { name: field } => write!(
                f,
                "`{name}.{field}` must not be blank there, and the mapping does not fill it; map a column or a constant \
                 to it, or make it optional there"
            ),
            Lack::UniqueIndex { key } => write!(
                f,
                "`{name}` has no unique index on its key ({}), so that somebody else may add a second record; {init}",
                key.join(", ")
            ),
            Lack::OtherIndex { fields } => write!(
                f,
                "`{name}` has a unique index on ({}), under which documents of different keys exclude each other; remove \
                 that index there, or take its fields as the key",
                fields.join(", ")
            ),
            Lack::TimeIndex { field } => write!(
                f,
                "`{name}` has no index that begins with `{field}`, so that reading a day back reads all of it; {init}"
            ),
        }
    }
}

impl Client {
    /// In what the collection differs from what it must be; nothing where it is right.
    ///
    /// # Errors
    /// The server is away, or does not accept who we are: only superusers may look at schemas.
    pub async fn compare(&self, wanted: &Collection) -> Result<Vec<Difference>, Trouble> {
        check_names(wanted)?;
        let there = self.collection(&wanted.name).await?;
        let lacks = there.as_ref().map_or_else(|| vec![Lack::Collection], |there| lacks(wanted, there));
        Ok(lacks.into_iter().map(|lack| Difference { collection: wanted.name.clone(), lack }).collect())
    }

    /// Makes the collection, or adds to it the fields and indexes that are missing; what is there stays as it is. What it cannot
    /// mend is given back.
    ///
    /// # Errors
    /// As of [`Client::compare`]; [`Class::Setup`]: the server does not want it, as when two records have one key.
    pub async fn amend(&self, wanted: &Collection) -> Result<Vec<Difference>, Trouble> {
        let found = self.compare(wanted).await?;
        let what = format!("making collection {}", wanted.name);
        if found.iter().any(|difference| difference.lack == Lack::Collection) {
            self.put(Method::POST, "collections", &made(wanted), &what).await?;
        } else if found.iter().any(Difference::can_be_added) {
            let there = self.collection(&wanted.name).await?;
            let there = there.ok_or_else(|| Trouble::new(Class::Setup, format!("{what}: it is gone again")))?;
            let (fields, indexes) = added(wanted, &there, &found);
            let what = format!("adding to collection {}", wanted.name);
            if let Some(fields) = fields {
                // Not by PATCH, which drops the fields that it is not told of: one that somebody adds meanwhile stays this way.
                let collection = json!({"id": there["id"], "name": wanted.name, "type": "base", "fields": fields});
                let body = json!({"collections": [collection], "deleteMissing": false});
                self.put(Method::PUT, "collections/import", &body, &what).await?;
            }
            if let Some(indexes) = indexes {
                // Not by the import: after one that failed for an index the server shows that index, and believes in it.
                let body = json!({ "indexes": indexes });
                self.put(Method::PATCH, &format!("collections/{}", wanted.name), &body, &what).await?;
            }
        }
        self.compare(wanted).await
    }

    /// When a collection was made.
    ///
    /// # Errors
    /// As of [`Client::compare`].
    pub async fn born(&self, name: &str) -> Result<Option<String>, Trouble> {
        let there = self.collection(name).await?;
        Ok(there.and_then(|there| there["created"].as_str().map(str::to_owned)))
    }

    /// As the server has it; `None`: there is none. From the list, because a single one is shown out of its memory, which
    /// a change that failed may have left wrong.
    async fn collection(&self, name: &str) -> Result<Option<Value>, Trouble> {
        let what = format!("reading the schema of collection {name}");
        let mut listed = self.get(&format!("collections?skipTotal=1&filter=name%3D'{name}'"), &what).await?;
        let found = listed["items"].as_array_mut().map(std::mem::take);
        let found =
            found.ok_or_else(|| Trouble::new(Class::Setup, format!("{what}: there is no list in the answer")))?;
        Ok(found.into_iter().find(|collection| collection["name"] == name))
    }
}

/// Names become part of addresses and statements.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name.len() <= 200
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_names(wanted: &Collection) -> Result<(), Trouble> {
    let names = wanted.fields.iter().map(|field| &field.name).chain(&wanted.key).chain(&wanted.time);
    for name in names.chain([&wanted.name]) {
        if !is_name(name) {
            let said = format!("`{name}` can be no name of a collection or field there");
            return Err(Trouble::new(Class::Setup, said).fix("use letters, digits and _, a letter first"));
        }
    }
    Ok(())
}

fn lacks(wanted: &Collection, there: &Value) -> Vec<Lack> {
    let kind = there["type"].as_str().unwrap_or_default();
    if kind != "base" {
        return vec![Lack::Base { there: kind.to_owned() }];
    }
    let fields: Vec<&Value> = there["fields"].as_array().map(|fields| fields.iter().collect()).unwrap_or_default();
    let named = |name: &str| fields.iter().find(|field| field["name"] == name);
    let mut lacks: Vec<Lack> =
        named("id").and_then(|id| id_rule(id)).map(|rule| Lack::Id { rule }).into_iter().collect();
    for field in &wanted.fields {
        match named(&field.name).map(|found| found["type"].as_str().unwrap_or_default()) {
            None => lacks.push(Lack::Field { name: field.name.clone(), kind: field.kind }),
            Some(there) if !fits(field.kind, there) => {
                lacks.push(Lack::Kind { name: field.name.clone(), wanted: field.kind, there: there.to_owned() });
            }
            Some(_) => {}
        }
    }
    for field in &fields {
        let name = field["name"].as_str().unwrap_or_default();
        let ours = name == "id" || wanted.fields.iter().any(|wanted| wanted.name == name);
        if field["required"] == true && field["type"] != "autodate" && !ours {
            lacks.push(Lack::Blank { name: name.to_owned() });
        }
    }
    let indexes: Vec<Index> = there["indexes"].as_array().into_iter().flatten().filter_map(Index::of).collect();
    let is_key = |index: &Index| index.unique && same(&index.fields, &wanted.key);
    if !wanted.key.is_empty() && !indexes.iter().any(is_key) {
        lacks.push(Lack::UniqueIndex { key: wanted.key.clone() });
    }
    for index in indexes.iter().filter(|index| index.unique && !wanted.key.is_empty()) {
        if !wanted.key.iter().all(|name| index.fields.contains(name)) {
            lacks.push(Lack::OtherIndex { fields: index.fields.clone() });
        }
    }
    if let Some(time) = &wanted.time
        && !indexes.iter().any(|index| index.fields.first() == Some(time))
        && !lacks_key_index_by(wanted, time, &lacks)
    {
        lacks.push(Lack::TimeIndex { field: time.clone() });
    }
    lacks
}

/// Whether the index on the key is still to be made, and will begin with the time.
fn lacks_key_index_by(wanted: &Collection, time: &str, lacks: &[Lack]) -> bool {
    wanted.key.first().is_some_and(|first| first == time)
        && lacks.iter().any(|lack| matches!(lack, Lack::UniqueIndex { .. }))
}

/// An editor is a text with a toolbar, and texts that are e-mails or addresses are checked by their field.
fn fits(wanted: Kind, there: &str) -> bool {
    wanted.as_str() == there || wanted == Kind::Text && matches!(there, "editor" | "select" | "email" | "url")
}

/// The rule of its field `id`, where ours do not fit it.
fn id_rule(id: &Value) -> Option<String> {
    let (min, max) = (id["min"].as_u64().unwrap_or(0), id["max"].as_u64().unwrap_or(0));
    let pattern = id["pattern"].as_str().unwrap_or_default();
    let fits = min <= 15 && (max == 0 || max >= 15) && ["", "^[a-z0-9]+$"].contains(&pattern);
    (!fits).then(|| format!("min {min}, max {max}, {pattern}"))
}

fn same(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|name| other.contains(name))
}

/// What an index is on, of the statement that made it.
#[derive(Debug, PartialEq)]
struct Index {
    unique: bool,
    fields: Vec<String>,
}

impl Index {
    /// `None`: one on a part of the records, or on expressions, which says nothing about ours.
    fn of(statement: &Value) -> Option<Index> {
        let (before, rest) = statement.as_str()?.split_once('(')?;
        let (fields, after) = rest.rsplit_once(')')?;
        if after.to_ascii_uppercase().contains("WHERE") || fields.contains(['(', ')']) {
            return None;
        }
        let unique = before.to_ascii_uppercase().split_whitespace().nth(1) == Some("UNIQUE");
        let mut names = Vec::new();
        for field in fields.split(',') {
            let mut words = field.split_whitespace();
            let name = words.next()?.trim_matches(['`', '"', '[', ']', '\'']);
            // `symbol COLLATE NOCASE` is not about our keys, which are told apart by case.
            if words.any(|word| !["ASC", "DESC"].contains(&word.to_ascii_uppercase().as_str())) {
                return None;
            }
            names.push(name.to_owned());
        }
        Some(Index { unique, fields: names })
    }
}

fn made(wanted: &Collection) -> Value {
    let fields: Vec<Value> = wanted.fields.iter().map(field).collect();
    let mut indexes = Vec::new();
    if !wanted.key.is_empty() {
        indexes.push(key_index(wanted));
    }
    if let Some(time) = wanted.time.as_ref().filter(|time| wanted.key.first() != Some(*time)) {
        indexes.push(time_index(wanted, time));
    }
    let rules = &wanted.rules;
    json!({
        "name": wanted.name, "type": "base", "fields": fields, "indexes": indexes,
        "listRule": rules.list, "viewRule": rules.view, "createRule": rules.create, "updateRule": rules.update,
        "deleteRule": rules.delete,
    })
}

/// Fields as they are there and those that are missing; indexes likewise. `None`: none is missing.
fn added(wanted: &Collection, there: &Value, found: &[Difference]) -> (Option<Vec<Value>>, Option<Vec<Value>>) {
    let all = |name: &str| there[name].as_array().cloned().unwrap_or_default();
    let (mut fields, mut indexes) = (all("fields"), all("indexes"));
    // One of another key has the usual name.
    let usual = format!("`{}`", key_index_name(wanted));
    let is_taken = indexes.iter().any(|index| index.as_str().is_some_and(|index| index.contains(&usual)));
    let had = (fields.len(), indexes.len());
    for difference in found {
        match &difference.lack {
            Lack::Field { name, .. } => fields.extend(wanted.fields.iter().filter(|f| f.name == *name).map(field)),
            Lack::UniqueIndex { .. } => {
                let index = key_index(wanted);
                let other = format!("`{}_{}`", key_index_name(wanted), wanted.key.join("_"));
                indexes.push(if is_taken { index.replacen(&usual, &other, 1) } else { index }.into());
            }
            Lack::TimeIndex { field } => indexes.push(time_index(wanted, field).into()),
            _ => {}
        }
    }
    let (more_fields, more_indexes) = (fields.len() > had.0, indexes.len() > had.1);
    (more_fields.then_some(fields), more_indexes.then_some(indexes))
}

fn field(field: &Field) -> Value {
    let mut made = json!({"name": field.name, "type": field.kind.as_str(), "required": field.required});
    if let Some(max) = field.max.filter(|_| field.kind == Kind::Text) {
        made["max"] = max.into();
    }
    made
}

// Names of indexes are common to the whole database there.

fn key_index_name(wanted: &Collection) -> String {
    format!("idx_{}_key", wanted.name)
}

fn key_index(wanted: &Collection) -> String {
    let fields: Vec<String> = wanted.key.iter().map(|name| format!("`{name}`")).collect();
    format!("CREATE UNIQUE INDEX `{}` ON `{}` ({})", key_index_name(wanted), wanted.name, fields.join(", "))
}

fn time_index(wanted: &Collection, time: &str) -> String {
    format!("CREATE INDEX `idx_{0}_{time}` ON `{0}` (`{time}`)", wanted.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(statement: &str) -> Option<(bool, Vec<String>)> {
        Index::of(&statement.into()).map(|index| (index.unique, index.fields))
    }

    #[test]
    fn indexes_are_read_as_people_write_them_and_partial_ones_do_not_count() {
        let on = |unique: bool, fields: &[&str]| Some((unique, fields.iter().map(|&name| name.to_owned()).collect()));
        assert_eq!(index("CREATE UNIQUE INDEX `i` ON `c` (`a`, `b`)"), on(true, &["a", "b"]));
        assert_eq!(index("create unique index i on c(a desc,\n  \"b\")"), on(true, &["a", "b"]));
        assert_eq!(index("CREATE INDEX i ON c ([a])"), on(false, &["a"]));
        for none in [
            "",
            "CREATE UNIQUE INDEX i ON c (a) WHERE a != ''",
            "CREATE UNIQUE INDEX i ON c (lower(a))",
            "CREATE UNIQUE INDEX i ON c (a COLLATE NOCASE)",
            "(",
        ] {
            assert_eq!(index(none), None, "{none}");
        }
    }

    #[test]
    fn names_that_could_end_a_statement_or_an_address_are_none() {
        assert!(["a", "_b1", "stock_data"].into_iter().all(is_name));
        assert!(!["", "1a", "a b", "a/b", "a`", "ż", "a-b", &"x".repeat(201)].into_iter().any(is_name));
    }
}
