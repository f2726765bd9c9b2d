//! Many records a statement: `POST /api/sql`, several times as fast as batches, and past everything that the server does for a
//! record: validation, hooks, realtime, `autodate`. For a first load, where somebody asks for it.
//!
//! ```text
//! INSERT INTO "c" ("id","a","b") VALUES ('…','text',1.5),(…) ON CONFLICT("id") DO UPDATE SET "a"=excluded."a",…;
//! DELETE FROM "c" WHERE "id" IN ('…',…)
//! ```
//!
//! A statement has at most 5,000 bytes, and there is no way to give values apart from it. What writes it on its way into the
//! database takes `{:name}`, `{{name}}` and `[[name]]` for its own, inside texts, too: those go as hexadecimal digits.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::batch;
use super::client::Client;
use super::schema::{Field, Kind, is_name};
use crate::sync::target::Change;
use crate::sync::writer::{Encoded, Lane, Room, Verdict};
use crate::sync::{Class, Document, Trouble};

/// Bytes of a statement.
const STATEMENT: usize = 5_000;
/// How the database says that a record is at fault.
const AT_FAULT: [&str; 4] = ["UNIQUE constraint", "NOT NULL constraint", "CHECK constraint", "datatype mismatch"];
/// How it says that it cannot now.
const LATER: [&str; 4] = ["disk is full", "database is locked", "disk I/O error", "context deadline exceeded"];

/// Statements for one collection.
#[derive(Debug)]
pub struct Sql {
    client: Arc<Client>,
    fields: Vec<Field>,
}

impl Sql {
    /// Documents have those fields, and no others.
    ///
    /// # Errors
    /// The name of a field can be none there.
    pub fn new(client: Arc<Client>, fields: Vec<Field>) -> Result<Sql, Trouble> {
        let mut seen = HashSet::new();
        for Field { name, .. } in &fields {
            if !is_name(name) || name == "id" || !seen.insert(name) {
                return Err(Trouble::new(Class::Setup, format!("`{name}` can be no field of a document")));
            }
        }
        Ok(Sql { client, fields })
    }

    /// What stands around the values.
    fn around(&self, collection: &str) -> (String, String) {
        let names: String = self.fields.iter().map(|field| format!(",\"{}\"", field.name)).collect();
        let sets: Vec<String> =
            self.fields.iter().map(|field| format!("\"{0}\"=excluded.\"{0}\"", field.name)).collect();
        let then = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(",")) };
        (format!("INSERT INTO \"{collection}\" (\"id\"{names}) VALUES "), format!(" ON CONFLICT(\"id\") DO {then}"))
    }

    fn statement(&self, collection: &str, parts: &[&[u8]]) -> String {
        let join = |begin: u8| {
            let of_kind = parts.iter().filter(|part| part.first() == Some(&begin));
            of_kind.map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>().join(",")
        };
        let (puts, deletes) = (join(b'('), join(b'\''));
        let (head, tail) = self.around(collection);
        let mut statements = Vec::new();
        if !puts.is_empty() {
            statements.push(format!("{head}{puts}{tail}"));
        }
        if !deletes.is_empty() {
            statements.push(format!("DELETE FROM \"{collection}\" WHERE \"id\" IN ({deletes})"));
        }
        statements.join(";")
    }

    /// As the server itself would have it in its database. `Err`: why it cannot be had there, which batches would not say.
    fn values(&self, document: &Document) -> Result<String, String> {
        let mut values = format!("('{}'", document.id);
        for Field { name, kind, required, .. } in &self.fields {
            let value = document.body.get(name).unwrap_or(&Value::Null);
            let written = write(*kind, value).map_err(|why| format!("{name}: {why}"))?;
            if *required && BLANK.contains(&written.as_str()) {
                return Err(format!("{name}: Cannot be blank."));
            }
            values.push(',');
            values.push_str(&written);
        }
        if let Some(name) = document.body.keys().find(|name| self.fields.iter().all(|field| field.name != **name)) {
            return Err(format!("{name}: is no field that was spoken of"));
        }
        values.push(')');
        Ok(values)
    }
}

#[async_trait]
impl Lane for Sql {
    async fn room(&self, collection: &str) -> Result<Room, Trouble> {
        if !is_name(collection) {
            return Err(Trouble::new(Class::Setup, format!("`{collection}` can be no name of a collection")));
        }
        let (head, tail) = self.around(collection);
        let delete = collection.len() + 40;
        let bytes = STATEMENT.saturating_sub(head.len() + tail.len() + delete);
        Ok(Room { changes: usize::MAX, bytes })
    }

    fn encode(&self, collection: &str, change: &Change, out: &mut Vec<u8>) -> Encoded {
        let part = match change {
            Change::Put(document) => match self.values(document) {
                Ok(values) => values,
                Err(words) => return Encoded::Refused(words),
            },
            Change::Delete(id) => format!("'{id}'"),
        };
        let (head, tail) = self.around(collection);
        if head.len() + part.len() + tail.len() > STATEMENT {
            // Too long for a statement: it goes as a batch of one.
            batch::encode(collection, change, out);
            return Encoded::Alone;
        }
        out.extend_from_slice(part.as_bytes());
        Encoded::Shared
    }

    async fn send(&self, collection: &str, parts: &[&[u8]]) -> Result<Verdict, Trouble> {
        if let [part] = parts
            && part.starts_with(b"{")
        {
            return self.client.send(collection, parts).await;
        }
        let what = format!("writing {} to collection {collection} by SQL", parts.len());
        let query = json!({ "query": self.statement(collection, parts) });
        let body = bytes::Bytes::from(query.to_string());
        let answer = self.client.ask(Method::POST, "sql", &body, &what).await?;
        let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        if answer.status.is_success() && said["affectedRows"].is_i64() {
            return Ok(Verdict::Stored);
        }
        let words = super::answer::words(&said).unwrap_or_default();
        let has = |any: &[&str]| any.iter().any(|one| words.contains(one));
        if answer.status.as_u16() != 400 || words.is_empty() {
            return Err(self.client.trouble(&answer, &what));
        }
        if has(&AT_FAULT) {
            return Ok(Verdict::Refused { place: None, words });
        }
        if has(&LATER) {
            return Err(Trouble::new(Class::Server, format!("{what}: {words}")).fix("make room there, or wait"));
        }
        Err(Trouble::new(Class::Setup, format!("{what}: {words}")).fix("without `mode = \"bulk\"` batches are used"))
    }
}

/// How what its fields take for blank is written.
const BLANK: [&str; 5] = ["''", "0", "FALSE", "NULL", "CAST(X'' AS TEXT)"];

/// A value as the column of that field has it.
fn write(kind: Kind, value: &Value) -> Result<String, String> {
    match (kind, value) {
        (Kind::Text | Kind::Date, Value::Null) => Ok("''".to_owned()),
        (Kind::Number, Value::Null) => Ok("0".to_owned()),
        (Kind::Bool, Value::Null) => Ok("FALSE".to_owned()),
        (Kind::Json, Value::Null) => Ok("NULL".to_owned()),
        (Kind::Text, Value::String(text)) => Ok(quoted(text)),
        (Kind::Number, Value::Number(number)) => {
            // In 64 bits of a double, as the server reads it.
            let number = number.as_f64().filter(|number| number.is_finite()).ok_or("is no number that it can hold")?;
            Ok(Value::from(number).to_string())
        }
        (Kind::Bool, Value::Bool(flag)) => Ok(if *flag { "TRUE" } else { "FALSE" }.to_owned()),
        (Kind::Date, Value::String(text)) if text.is_empty() => Ok("''".to_owned()),
        (Kind::Date, Value::String(text)) => date(text).map(|date| quoted(&date)),
        (Kind::Json, value) => Ok(quoted(&json_text(value))),
        (kind, value) => Err(format!("`{value}` is no {}", kind.as_str())),
    }
}

/// JSON as the server itself makes it of a value: of a text that is JSON by the looks of it, that; else the text in quotes.
fn json_text(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let looks = text.starts_with(['{', '[', '"', '-']) || text.starts_with(|c: char| c.is_ascii_digit());
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if matches!(text.as_str(), "null" | "true" | "false") || looks && is_json() {
        text.clone()
    } else {
        value.to_string()
    }
}

/// `2026-01-02 03:04:05.678Z`, which is how the server writes what it understands; finer than milliseconds it cuts off.
fn date(text: &str) -> Result<String, String> {
    let time: Timestamp = text.parse().map_err(|_| format!("`{text}` is no date"))?;
    // Towards the past, also before 1970.
    let ms = i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).map_err(|_| format!("`{text}` is no date"))?;
    let time = Timestamp::from_millisecond(ms).map_err(|_| format!("`{text}` is no date"))?;
    Ok(time.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string())
}

/// A text in SQL.
fn quoted(text: &str) -> String {
    if text.contains(['{', '[', '\0']) {
        let digits: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        return format!("CAST(X'{digits}' AS TEXT)");
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_written_so_that_nothing_in_them_is_taken_for_sql() {
        assert_eq!(quoted("it's"), "'it''s'");
        assert_eq!(quoted("'; DROP TABLE c; --"), "'''; DROP TABLE c; --'");
        assert_eq!(quoted("{:a}"), "CAST(X'7B3A617D' AS TEXT)");
        assert!(!["{{a}}", "[[a]]", "a\0b"].into_iter().any(|text| quoted(text).contains(text)));
    }

    #[test]
    fn a_value_that_the_field_cannot_have_is_refused_and_not_made_zero() {
        assert_eq!(write(Kind::Number, &json!(1.5)), Ok("1.5".into()));
        assert_eq!(write(Kind::Number, &json!(7)), Ok("7.0".into()));
        assert_eq!(write(Kind::Date, &json!("2026-01-02T03:04:05.6789Z")), Ok("'2026-01-02 03:04:05.678Z'".into()));
        assert_eq!(write(Kind::Date, &json!("1969-12-31T23:59:59.9999Z")), Ok("'1969-12-31 23:59:59.999Z'".into()));
        assert_eq!(write(Kind::Json, &json!({"a": null})), Ok("CAST(X'7B2261223A6E756C6C7D' AS TEXT)".into()));
        assert_eq!(write(Kind::Text, &Value::Null), Ok("''".into()));
        for (kind, value, words) in [
            (Kind::Number, json!("abc"), "`\"abc\"` is no number"),
            (Kind::Date, json!("soon"), "`soon` is no date"),
            (Kind::Date, json!(5), "`5` is no date"),
            (Kind::Bool, json!("x"), "`\"x\"` is no bool"),
            (Kind::Text, json!(5), "`5` is no text"),
        ] {
            assert_eq!(write(kind, &value), Err(words.to_owned()));
        }
    }
}
