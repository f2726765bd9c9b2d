//! A row becomes a document, or is refused with the reason: pure, total on any row.
//!
//! ```text
//! row ─► rules on columns ─► fields (column, lookup, constant, expression) ─► exact form of each kind ─► Document
//! ```

mod expression;
mod field;
mod lookup;
mod rule;
mod settings;

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use tapedeck_market::SmolStr;

use super::{Document, Id, Schema, Type, Value};
use field::Field;
pub use field::{Kind, Wanted, date_text, instant_of, time_text};
use rule::Rule;
pub use settings::{FieldSettings, Mode, Null, RuleSettings, Settings};

/// How the rows of one table become documents of one collection.
#[derive(Debug)]
pub struct Mapping {
    pub collection: SmolStr,
    key: Vec<(SmolStr, usize)>,
    /// Places of the key's columns in the order of the table: an id says nothing of the order in which they were named.
    key_places: Vec<usize>,
    time: Option<usize>,
    /// Field that holds the time of a row at the target, and its kind.
    time_field: Option<(SmolStr, Kind)>,
    fields: Vec<(SmolStr, Field)>,
    rules: Vec<Rule>,
    columns: Schema,
    /// Whether any part is written as an expression.
    calculates: bool,
}

/// What the ids of a table are made of, in the order of its columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts {
    pub columns: Vec<String>,
    /// Fields that are copies of those; `None`: not all of them have one.
    pub fields: Option<Vec<String>>,
}

impl KeyParts {
    /// Whether the same row has the same id by both.
    #[must_use]
    pub fn is_same(&self, other: &KeyParts) -> bool {
        self.columns == other.columns || (self.fields.is_some() && self.fields == other.fields)
    }
}

/// A row that becomes no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// In few words, the same for all rows that break the same rule: what is counted.
    pub rule: String,
    /// With the values.
    pub reason: String,
}

impl Mapping {
    /// For a table of these columns; files of lookups are read relative to `base`.
    ///
    /// # Errors
    /// A column that the table does not have, no key, a file that cannot be read, an expression that is none: with what to do.
    pub fn new(table: &str, settings: &Settings, schema: &Schema, base: &Path) -> anyhow::Result<Self> {
        let place = |name: &str| {
            schema.place(name).with_context(|| {
                let known: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
                format!("table `{table}` has no column `{name}`; it has {}", known.join(", "))
            })
        };
        let time = match &settings.time {
            Some(name) => Some(place(name)?),
            None => schema.time,
        };
        let mut key: Vec<SmolStr> = settings.key.iter().map(SmolStr::new).collect();
        if key.is_empty() {
            key = schema.columns.iter().filter(|column| column.upsert_key).map(|column| column.name.clone()).collect();
        }
        anyhow::ensure!(
            !key.is_empty(),
            "table `{table}` has no key: name the columns that tell its rows apart, as in `key = [\"ts\", \"symbol\"]`"
        );
        let key = key.into_iter().map(|name| place(&name).map(|at| (name, at))).collect::<anyhow::Result<Vec<_>>>()?;
        let mut fields = Vec::new();
        if settings.columns.is_empty() {
            for (at, column) in schema.columns.iter().enumerate() {
                let name = SmolStr::new(field::name_of(&column.name));
                fields.push((name, Field::column(at, column.kind, &FieldSettings::default())?));
            }
        }
        for (name, settings) in &settings.columns {
            anyhow::ensure!(field::is_name(name), "`{name}` is no name for a field: letters, digits and `_`, not `id`");
            let field = Field::new(settings, schema, &place, base).with_context(|| format!("field `{name}`"))?;
            fields.push((SmolStr::new(name), field));
        }
        let time_field = time.and_then(|time| {
            let is_time = |kind| matches!(kind, Kind::Date | Kind::Time { .. });
            let found = fields.iter().find(|(_, field)| field.reads(time) && is_time(field.kind()));
            found.map(|(name, field)| (name.clone(), field.kind()))
        });
        let mut rules = Vec::new();
        for (n, settings) in settings.rules.iter().enumerate() {
            rules.extend(Rule::new(settings, &place).with_context(|| format!("rule {}", n + 1))?);
        }
        let calculates = fields.iter().any(|(_, field)| field.calculates()) || rules.iter().any(Rule::calculates);
        let collection = settings.collection_of(table);
        let columns = schema.clone();
        let mut key_places: Vec<usize> = key.iter().map(|(_, at)| *at).collect();
        key_places.sort_unstable();
        Ok(Mapping {
            collection: collection.into(),
            key,
            key_places,
            time,
            time_field,
            fields,
            rules,
            columns,
            calculates,
        })
    }

    /// What the collection must have.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        let wanted = |(name, field): &(SmolStr, Field)| Wanted { name: name.clone(), kind: field.kind() };
        self.fields.iter().map(wanted).collect()
    }

    /// Fields that are copies of the key's columns, where all of them have one: a unique index there says what the id says.
    #[must_use]
    pub fn key_fields(&self) -> Option<Vec<SmolStr>> {
        let of = |(_, at): &(SmolStr, usize)| {
            self.fields.iter().find(|(_, field)| field.copies(*at)).map(|(name, _)| name.clone())
        };
        self.key.iter().map(of).collect()
    }

    /// The field that holds a row's time at the target, by which days are read back there.
    #[must_use]
    pub fn time_field(&self) -> Option<(&str, Kind)> {
        self.time_field.as_ref().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The document of a row.
    ///
    /// # Errors
    /// A rule that it breaks, or a value that the target could not hold as it is.
    pub fn document(&self, row: &[Value]) -> Result<Document, Refused> {
        let context = self.calculates.then(|| expression::context(&self.columns, row));
        let context = context.as_ref();
        for rule in &self.rules {
            rule.judge(row, context)?;
        }
        let id = self.id_of(row).ok_or_else(|| {
            let absent = |(_, at): &&(SmolStr, usize)| row.get(*at).is_none_or(|value| *value == Value::Null);
            let name = self.key.iter().find(absent).map_or("key", |(name, _)| name.as_str());
            Refused {
                rule: format!("{name} has no value and is part of the key"),
                reason: format!("{name} has no value and is part of the key: {}", self.key_shown(row)),
            }
        })?;
        let mut body = Map::new();
        for (name, field) in &self.fields {
            body.insert(name.to_string(), field.value(name, row, context)?);
        }
        Ok(Document { id, body, time_ns: self.time_of(row) })
    }

    /// The id of a row; `None` where a part of its key has no value.
    #[must_use]
    pub fn id_of(&self, row: &[Value]) -> Option<Id> {
        let parts: Option<Vec<String>> =
            self.key_places.iter().map(|at| row.get(*at).and_then(field::key_text)).collect();
        parts.map(|parts| Id::of(parts.iter().map(String::as_str)))
    }

    /// Whether a row's time is read by another column than the source goes by, which may go by none.
    #[must_use]
    pub fn has_another_clock(&self) -> bool {
        self.time != self.columns.time
    }

    /// Whether rows have a time at all.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// What ids are made of: the same columns, or the same fields of the target where columns were renamed, make the same ids.
    #[must_use]
    pub fn made_of(&self) -> KeyParts {
        let columns = self.key_places.iter().map(|at| self.columns.columns[*at].name.to_string()).collect();
        let field = |at: &usize| {
            let found = self.fields.iter().find(|(_, field)| field.copies(*at));
            found.map(|(name, _)| name.to_string())
        };
        KeyParts { columns, fields: self.key_places.iter().map(field).collect() }
    }

    /// Whether a row may be replaced at the source by one of another key: the table tells rows apart by fewer columns.
    #[must_use]
    pub fn is_finer_than_source(&self) -> bool {
        let upserts = |at: &usize| self.columns.columns[*at].upsert_key;
        self.columns.columns.iter().any(|column| column.upsert_key) && !self.key_places.iter().all(upserts)
    }

    /// Whether the files of lookups are other ones than those that were read.
    #[must_use]
    pub fn lookups_changed(&self) -> bool {
        self.fields.iter().any(|(_, field)| field.lookup_changed())
    }

    /// Whether rows of different times, by the source's clock, have different keys.
    #[must_use]
    pub fn key_has_clock(&self) -> bool {
        self.columns.time.is_some_and(|time| self.key.iter().any(|(_, at)| *at == time))
    }

    /// Names of columns that come over in no field by themselves.
    #[must_use]
    pub fn left_out(&self) -> Vec<&str> {
        let columns = self.columns.columns.iter().enumerate();
        let out = columns.filter(|(at, _)| !self.fields.iter().any(|(_, field)| field.takes(*at)));
        out.map(|(_, column)| column.name.as_str()).collect()
    }

    /// What the files of lookups say, in few characters each.
    #[must_use]
    pub fn lookups(&self) -> Vec<String> {
        self.fields.iter().filter_map(|(_, field)| field.lookup()).collect()
    }

    /// The columns it was made for.
    #[must_use]
    pub fn columns(&self) -> &Schema {
        &self.columns
    }

    /// Time of a row, 0 where it has none.
    #[must_use]
    pub fn time_of(&self, row: &[Value]) -> i64 {
        match self.time.and_then(|at| row.get(at)) {
            Some(Value::Time(ns)) => *ns,
            _ => 0,
        }
    }

    /// All of a row for people, short.
    #[must_use]
    pub fn row_shown(&self, row: &[Value]) -> String {
        let part = |(column, value): (&super::Column, &Value)| format!("{}={}", column.name, shown(value));
        self.columns.columns.iter().zip(row).map(part).collect::<Vec<_>>().join(" ")
    }

    /// The key of a row as people know it: `symbol=PKN ts=2026-01-02T00:00:00Z`.
    #[must_use]
    pub fn key_shown(&self, row: &[Value]) -> String {
        let part = |(name, at): &(SmolStr, usize)| format!("{name}={}", shown(row.get(*at).unwrap_or(&Value::Null)));
        self.key.iter().map(part).collect::<Vec<_>>().join(" ")
    }
}

/// A value for people, short.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Decimal(text) => text.clone(),
        Value::Text(text) => {
            let short: String = text.chars().take(60).collect();
            format!("{short:?}")
        }
        Value::Time(ns) => field::time_text(*ns, true),
        Value::Json(text) => text.chars().take(60).collect(),
    }
}

/// What a column of a source becomes where nothing else is said.
#[must_use]
pub fn usual(kind: Type) -> Kind {
    match kind {
        Type::Bool => Kind::Bool,
        Type::Int | Type::Double => Kind::Number,
        Type::Decimal | Type::Text => Kind::Text,
        Type::Time { nanos } => Kind::Time { nanos },
        Type::Json => Kind::Json,
    }
}

#[cfg(test)]
mod tests;
