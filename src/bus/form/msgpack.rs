//! Fields as a MessagePack map.

use rmp::encode;
use tapedeck_market::SmolStr;

use super::Val;

/// Appends a map. Writing into a vector does not fail, so its results say nothing.
pub(super) fn put_map(fields: &[(SmolStr, Val)], floats: bool, out: &mut Vec<u8>) {
    let _ = encode::write_map_len(out, len(fields.len()));
    for (name, value) in fields {
        let _ = encode::write_str(out, name);
        put(value, floats, out);
    }
}

pub(super) fn put(value: &Val, floats: bool, out: &mut Vec<u8>) {
    match value {
        Val::Nil => drop(encode::write_nil(out)),
        Val::Int(value) => drop(encode::write_sint(out, *value)),
        Val::UInt(value) => drop(encode::write_uint(out, *value)),
        Val::Float(value) => drop(encode::write_f64(out, *value)),
        Val::Dec(value) if floats => drop(encode::write_f64(out, value.to_f64())),
        Val::Dec(value) => drop(encode::write_str(out, &value.to_string())),
        // 38 digits: the nearest double is found by the text.
        Val::Sum(value) if floats => drop(encode::write_f64(out, value.to_string().parse().unwrap_or(f64::NAN))),
        Val::Sum(value) => drop(encode::write_str(out, &value.to_string())),
        Val::Bool(value) => drop(encode::write_bool(out, *value)),
        Val::Text(value) => drop(encode::write_str(out, value)),
        Val::List(values) => {
            let _ = encode::write_array_len(out, len(values.len()));
            values.iter().for_each(|value| put(value, floats, out));
        }
        Val::Map(fields) => put_map(fields, floats, out),
    }
}

pub(super) fn put_bin(bytes: &[u8], out: &mut Vec<u8>) {
    let _ = encode::write_bin(out, bytes);
}

/// Fields, levels and values of one event: the tape bounds a record far below this.
fn len(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
