//! How a table is mapped, as it stands in the config.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Interval;

/// `[sync.table.NAME]`: one table of the source, one collection of the target.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A mapping that is ready: "wig80_historical", "ai_insights", "market_correlations" or "valuation_analysis". What else is
    /// said here goes before it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<super::super::presets::Preset>,
    /// Collection at the target. Default: the table's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// Columns that tell rows apart; the id of a document is made of them. Default: the table's DEDUP keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Column that is the time of a row. Default: the designated timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Fields at the target: a column's name, or a table of `from`, `lookup`, `value` or `expr`. Default: every column under
    /// its own name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Column>")]
    pub columns: BTreeMap<String, FieldSettings>,
    /// What a row must keep to; one that does not becomes a dead letter. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSettings>,
    /// Documents a request, at most: 200 or what the server allows, where that is less. Default: 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// How often to look for what is new. Default: that of `[sync]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Interval>,
    /// How a first load is written: "upsert" as all else, or "bulk" past the target's own checks, without events for its
    /// subscribers. Default: "upsert".
    pub mode: Mode,
    /// Take away at the target what is gone at the source; `tapedeck sync run --dry-run` shows what that would be. Default:
    /// false.
    pub mirror: bool,
    /// Take away at the target what is older, also where the source still has it. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Interval>,
}

/// How a first load is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Mode {
    #[default]
    Upsert,
    Bulk,
}

/// Where the value of a field comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FieldSettings {
    /// A column of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A CSV file with a header, in which `take` is looked up by `by`; relative to where tapedeck is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<PathBuf>,
    /// Column of the file that is compared with `from`. Default: the name of `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Column of the file whose value is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take: Option<String>,
    /// What is taken where the file has no such line. Default: the row is refused.
    #[serde(rename = "else", skip_serializing_if = "Option::is_none")]
    pub or_else: Option<String>,
    /// The same for every row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub value: Option<toml::Value>,
    /// Calculated from the columns in the Common Expression Language: "high - low".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    /// Form at the target: "text", "number", "integer", "bool", "json", "date" (to the millisecond) or "time" (text, exact).
    /// Default: by the column.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub form: Option<super::Kind>,
    /// What to do without a value: "refuse", "empty" (texts, dates, json), or "zero" where 0 is what is meant. Default: "empty"
    /// where the target can tell it from a value, else "refuse".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null: Option<Null>,
}

/// For the schema: how a field is written.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Column {
    /// The name of a column.
    Name(String),
    Field(FieldSettings),
}

impl<'de> Deserialize<'de> for FieldSettings {
    /// A text is the name of a column.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(default, deny_unknown_fields)]
        struct Whole {
            from: Option<String>,
            lookup: Option<PathBuf>,
            by: Option<String>,
            take: Option<String>,
            #[serde(rename = "else")]
            or_else: Option<String>,
            value: Option<toml::Value>,
            expr: Option<String>,
            #[serde(rename = "as")]
            form: Option<super::Kind>,
            null: Option<Null>,
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "the name of a column, or a table with `from`, `lookup`, `value` or `expr`")]
        enum Either {
            Column(String),
            Whole(Box<Whole>),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Column(name) => FieldSettings { from: Some(name), ..FieldSettings::default() },
            Either::Whole(whole) => {
                let Whole { from, lookup, by, take, or_else, value, expr, form, null } = *whole;
                FieldSettings { from, lookup, by, take, or_else, value, expr, form, null }
            }
        })
    }
}

/// What to do where there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Null {
    Refuse,
    Empty,
    Zero,
}

/// What a row must keep to: one of these, each for one or several columns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, untagged)]
#[schemars(untagged)]
pub enum RuleSettings {
    /// They have a value.
    Required { required: Vec<String> },
    /// They are numbers, or texts that are; infinities are not.
    Numeric { numeric: Vec<String> },
    /// They are above 0.
    Positive { positive: Vec<String> },
    /// They are 0 or above.
    NotNegative { not_negative: Vec<String> },
    /// They are times, or texts that are.
    Date { date: Vec<String> },
    /// Each of them, as text, matches the regular expression.
    Matches { matches: String, of: Vec<String> },
    /// An expression that is true of the row, such as "high >= low".
    That { that: String },
}

/// How a preset is overridden: what is said goes before what is ready.
impl Settings {
    /// The collection that a table of that name goes to.
    #[must_use]
    pub fn collection_of(&self, table: &str) -> String {
        self.collection.clone().unwrap_or_else(|| super::field::name_of(table))
    }

    #[must_use]
    pub fn over(self, ready: Settings) -> Settings {
        let or = |said: Vec<String>, ready: Vec<String>| if said.is_empty() { ready } else { said };
        let mut columns = ready.columns;
        columns.extend(self.columns);
        Settings {
            preset: self.preset,
            collection: self.collection.or(ready.collection),
            key: or(self.key, ready.key),
            time: self.time.or(ready.time),
            columns,
            rules: if self.rules.is_empty() { ready.rules } else { self.rules },
            batch: self.batch.or(ready.batch),
            poll: self.poll.or(ready.poll),
            mode: self.mode,
            mirror: self.mirror,
            keep: self.keep.or(ready.keep),
        }
    }

    /// What is wrong with it by itself, with its key.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.batch == Some(0) {
            return Some(("batch", "must be above 0".to_owned()));
        }
        if self.poll.is_some_and(|poll| poll.0 < Duration::from_millis(1)) {
            return Some(("poll", "must be 1ms or longer: each look is a question to the server".to_owned()));
        }
        None
    }
}
