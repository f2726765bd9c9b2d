//! A topic of the user's own: fields named, typed, added and left out as the config says.
//!
//! ```text
//! payload ─► fields by name (maps flattened with `.`, lists by `columns`) ─► constants ─► renamed ─► skipped ─► body
//! ```

use tapedeck_market::{Body, Point, SmolStr, UnixNanos, Value};

use super::config::{BodyName, Constant, Mapping, Type};
use super::value::{Unit, Val, shorten};
use super::{Made, Reject, known};

/// Fields of one point.
const FIELDS: usize = 1_024;
/// Bytes of a text field.
const TEXT_BYTES: usize = 64 * 1024;

/// Reads a payload as the config describes it; `None`: to be left out.
pub(super) fn read(topic: &str, payload: &Val, mapping: &Mapping, venue: &SmolStr) -> Result<Option<Made>, Reject> {
    let body = mapping.body.unwrap_or(BodyName::Point);
    if body == BodyName::Skip {
        return Ok(None);
    }
    let mut fields = named(payload, mapping)?;
    for (key, value) in &mapping.constants {
        if !fields.iter().any(|(name, _)| name == key) {
            fields.push((SmolStr::new(key), constant(value)));
        }
    }
    for (new, old) in &mapping.fields {
        if let Some((name, _)) = fields.iter_mut().find(|(name, _)| name == old) {
            *name = SmolStr::new(new);
        }
    }
    fields.retain(|(name, _)| !mapping.skip.iter().any(|skip| skip == name));
    let ts_event = time(&mut fields, mapping)?;
    let symbol = symbol(&fields, mapping)?;
    let venue = mapping.venue.as_deref().map_or_else(|| venue.clone(), SmolStr::new);
    let body = match body {
        BodyName::Quote => Body::Quote(known::quote(&Val::Map(fields))?),
        BodyName::Trade => Body::Trade(known::trade(&Val::Map(fields))?),
        BodyName::Ticker => Body::Ticker(Box::new(known::ticker(&Val::Map(fields))?)),
        BodyName::Point | BodyName::Skip => Body::Point(Box::new(point(topic, fields, mapping)?)),
    };
    Ok(Some(Made { venue, symbol, ts_event, body }))
}

/// The fields of a payload by name.
fn named(payload: &Val, mapping: &Mapping) -> Result<Vec<(SmolStr, Val)>, Reject> {
    let mut fields = Vec::new();
    match payload {
        Val::Map(entries) => {
            for (key, value) in entries {
                flatten(key.clone(), value, &mut fields)?;
            }
        }
        Val::List(items) if !mapping.columns.is_empty() => {
            if items.len() != mapping.columns.len() {
                let said = format!("{} fields, where `columns` names {}", items.len(), mapping.columns.len());
                return Err(Reject::new("fields", said));
            }
            for (name, value) in mapping.columns.iter().zip(items).filter(|(name, _)| !name.is_empty()) {
                flatten(SmolStr::new(name), value, &mut fields)?;
            }
        }
        Val::List(_) => return Err(Reject::new("topic", "a list or text on a topic without `columns`")),
        scalar => fields.push((SmolStr::new_static("value"), scalar.clone())),
    }
    Ok(fields)
}

fn flatten(name: SmolStr, value: &Val, into: &mut Vec<(SmolStr, Val)>) -> Result<(), Reject> {
    match value {
        Val::Map(entries) => {
            for (key, value) in entries {
                flatten(SmolStr::from(format!("{name}.{key}")), value, into)?;
            }
        }
        Val::List(items) => {
            for (at, value) in items.iter().enumerate() {
                flatten(SmolStr::from(format!("{name}.{at}")), value, into)?;
            }
        }
        Val::Nil => {}
        scalar => {
            if into.len() >= FIELDS {
                return Err(Reject::new("fields", format!("more than {FIELDS} fields")));
            }
            if name.is_empty() || name.len() > 256 || name.contains(char::is_control) {
                return Err(Reject::new("fields", format!("`{}` is no name of a field", shorten(&name))));
            }
            into.push((name, scalar.clone()));
        }
    }
    Ok(())
}

fn constant(value: &Constant) -> Val {
    match value {
        Constant::Text(text) => Val::Text(SmolStr::new(text)),
        Constant::Int(n) => Val::Int(*n),
        Constant::Float(f) => Val::Float(*f),
        Constant::Bool(b) => Val::Bool(*b),
    }
}

/// Takes the time out of the fields. One that the config names must be an instant; a guess that is none stays a field.
fn time(fields: &mut Vec<(SmolStr, Val)>, mapping: &Mapping) -> Result<Option<UnixNanos>, Reject> {
    let at = |name: &str, fields: &[(SmolStr, Val)]| fields.iter().position(|(key, _)| key == name);
    if let Some(name) = &mapping.time {
        let Some(at) = at(name, fields) else { return Ok(None) };
        let (_, value) = fields.remove(at);
        return if value.is_absent() { Ok(None) } else { value.instant(mapping.time_unit).map(Some) };
    }
    for name in ["timestamp", "time", "ts"] {
        if let Some(at) = at(name, fields)
            && let Ok(instant) = fields[at].1.instant(mapping.time_unit)
            // `time: 7` is a duration or a counter, not the year 1970.
            && (mapping.time_unit != Unit::Auto || instant >= UnixNanos::Y2K)
        {
            fields.remove(at);
            return Ok(Some(instant));
        }
    }
    Ok(None)
}

fn symbol(fields: &[(SmolStr, Val)], mapping: &Mapping) -> Result<SmolStr, Reject> {
    let names = match &mapping.symbol {
        Some(name) => vec![name.as_str()],
        None => vec!["instrument", "symbol", "pair"],
    };
    let found = names.iter().find_map(|name| fields.iter().find(|(key, _)| key == name));
    let text = found.and_then(|(_, value)| value.text()).unwrap_or_default();
    if text.len() > 256 || text.contains(char::is_control) {
        return Err(Reject::new("symbol", format!("`{}` is no symbol", shorten(&text))));
    }
    Ok(text)
}

fn point(topic: &str, fields: Vec<(SmolStr, Val)>, mapping: &Mapping) -> Result<Point, Reject> {
    let is_tag = |name: &str| {
        mapping.tags.iter().any(|tag| tag == name)
            || mapping.symbol.as_deref() == Some(name)
            || (mapping.symbol.is_none() && matches!(name, "instrument" | "symbol" | "pair"))
    };
    let mut point =
        Point { name: SmolStr::new(mapping.name.as_deref().unwrap_or(topic)), tags: Vec::new(), fields: Vec::new() };
    for (name, value) in fields {
        if is_tag(&name) {
            let text = value.text().ok_or_else(|| Reject::new("fields", format!("{name}: bytes are no tag")))?;
            point.tags.push((name, text));
        } else {
            let typed = typed(&value, mapping.types.get(name.as_str()).copied()).map_err(|reject| reject.of(&name))?;
            point.fields.push((name, typed));
        }
    }
    if point.fields.is_empty() {
        return Err(Reject::new("fields", "a point without a field"));
    }
    Ok(point)
}

fn typed(value: &Val, wanted: Option<Type>) -> Result<Value, Reject> {
    let refuse = |what: &str| {
        Reject::new(
            "number",
            format!(
                "{} is no {what}",
                value.text().map_or_else(|| value.kind().to_owned(), |text| format!("`{}`", shorten(&text)))
            ),
        )
    };
    match wanted {
        Some(Type::Decimal) => value.decimal().map(Value::Decimal),
        Some(Type::Int) => match value {
            Val::Int(n) => Ok(Value::Int(*n)),
            Val::Bool(b) => Ok(Value::Int(i64::from(*b))),
            other => other
                .text()
                .and_then(|text| text.trim().parse().ok())
                .map(Value::Int)
                .ok_or_else(|| refuse("whole number")),
        },
        Some(Type::Float) => {
            let float = value.text().and_then(|text| text.trim().parse::<f64>().ok()).filter(|float| float.is_finite());
            float.map(Value::Float).ok_or_else(|| refuse("number"))
        }
        Some(Type::Bool) => match value.text().as_deref() {
            Some("true" | "True" | "1") => Ok(Value::Bool(true)),
            Some("false" | "False" | "0") => Ok(Value::Bool(false)),
            _ => Err(refuse("truth value")),
        },
        Some(Type::Text) => value.text().map(Value::Text).ok_or_else(|| refuse("text")),
        None => match value {
            Val::Int(n) => Ok(Value::Int(*n)),
            Val::UInt(n) => Ok(Value::UInt(*n)),
            Val::Float(f) if f.is_finite() => Ok(Value::Float(*f)),
            Val::Number(text) => match text.parse::<i64>() {
                Ok(n) => Ok(Value::Int(n)),
                Err(_) => value.decimal().map(Value::Decimal),
            },
            Val::Bool(b) => Ok(Value::Bool(*b)),
            Val::Text(text) if text.len() <= TEXT_BYTES => Ok(Value::Text(text.clone())),
            Val::Bytes(bytes) if bytes.len() <= TEXT_BYTES => {
                let text = std::str::from_utf8(bytes).map_err(|_| refuse("text"))?;
                Ok(Value::Text(SmolStr::new(text)))
            }
            _ => Err(refuse("number or text")),
        },
    }
}
