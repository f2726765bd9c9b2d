//! The values of fields, and timestamps.

use tapedeck_market::{Decimal, Value};

use super::Fault;

pub(super) fn boolean(text: &[u8]) -> Result<bool, Fault> {
    match text {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok(true),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok(false),
        _ => Err(Fault::Boolean),
    }
}

/// `8i`, `18u`, or a float.
pub(super) fn number(text: &[u8]) -> Result<Value, Fault> {
    match text {
        [digits @ .., b'i'] => {
            let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
            let text = whole(unsigned, digits)?;
            text.parse().map(Value::Int).map_err(|_| Fault::IntegerRange { text: text.to_owned() })
        }
        [digits @ .., b'u'] => {
            let text = whole(digits, digits)?;
            text.parse().map(Value::UInt).map_err(|_| Fault::UnsignedRange { text: text.to_owned() })
        }
        text => float(text),
    }
}

/// The text of a whole number, if its digits are digits.
fn whole<'a>(digits: &[u8], text: &'a [u8]) -> Result<&'a str, Fault> {
    let digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits).ok_or(Fault::Number)
}

fn float(text: &[u8]) -> Result<Value, Fault> {
    let exponent_at = text.iter().position(|b| matches!(b, b'e' | b'E'));
    let mantissa = &text[..exponent_at.unwrap_or(text.len())];
    let unsigned = mantissa.strip_prefix(b"-").unwrap_or(mantissa);
    let points = unsigned.iter().filter(|&&b| b == b'.').count();
    let digits = unsigned.iter().filter(|b| b.is_ascii_digit()).count();
    let rest = text.get(mantissa.len()..).unwrap_or_default();
    let known = rest.iter().all(|b| b.is_ascii_digit() || matches!(b, b'e' | b'E' | b'+' | b'-' | b'.'));
    if digits == 0 || points > 1 || digits + points != unsigned.len() || !known {
        return Err(Fault::Number);
    }
    if let Ok(decimal) = Decimal::parse(&as_json(text, unsigned, rest)) {
        return Ok(Value::Decimal(decimal));
    }
    // More digits than a decimal holds: it was a double before it was text.
    let text = std::str::from_utf8(text).map_err(|_| Fault::Number)?;
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Float).ok_or(Fault::Float)
}

/// The number as JSON spells it: no zeros before the first digit, digits on both sides of a point.
fn as_json(text: &[u8], unsigned: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(text.len() + 1);
    if text[0] == b'-' {
        json.push(b'-');
    }
    let (whole, fraction) = match unsigned.iter().position(|&b| b == b'.') {
        Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
        None => (unsigned, &[][..]),
    };
    let first = whole.iter().position(|&b| b != b'0').unwrap_or(whole.len());
    json.extend_from_slice(if first == whole.len() { b"0" } else { &whole[first..] });
    if !fraction.is_empty() {
        json.push(b'.');
        json.extend_from_slice(fraction);
    }
    json.extend_from_slice(exponent);
    json
}

pub(super) fn timestamp(text: &[u8]) -> Result<i64, Fault> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let text = whole(digits, text).map_err(|_| Fault::Timestamp)?;
    text.parse().map_err(|_| Fault::TimestampRange { text: text.to_owned() })
}
