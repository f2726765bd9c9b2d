//! Fields as a JSON object.

use std::io::Write as _;

use tapedeck_market::SmolStr;

use super::Val;

/// Appends an object. Writing into a vector does not fail.
pub(super) fn put_map(fields: &[(SmolStr, Val)], floats: bool, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put_text(name, out);
        out.push(b':');
        put(value, floats, out);
    }
    out.push(b'}');
}

pub(super) fn put(value: &Val, floats: bool, out: &mut Vec<u8>) {
    match value {
        Val::Nil => out.extend_from_slice(b"null"),
        Val::Int(value) => drop(write!(out, "{value}")),
        Val::UInt(value) => drop(write!(out, "{value}")),
        Val::Float(value) => put_float(*value, out),
        Val::Dec(value) if floats => put_float(value.to_f64(), out),
        Val::Dec(value) => drop(write!(out, "\"{value}\"")),
        Val::Sum(value) if floats => put_float(value.to_string().parse().unwrap_or(f64::NAN), out),
        Val::Sum(value) => drop(write!(out, "\"{value}\"")),
        Val::Bool(value) => drop(write!(out, "{value}")),
        Val::Text(value) => put_text(value, out),
        Val::List(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                put(value, floats, out);
            }
            out.push(b']');
        }
        Val::Map(fields) => put_map(fields, floats, out),
    }
}

/// The shortest text that is this double again; JSON has no word for what is not finite.
fn put_float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        let _ = write!(out, "{value:?}");
    } else {
        out.extend_from_slice(b"null");
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    // A text is always JSON.
    let _ = serde_json::to_writer(out, text);
}
