//! A decimal is exactly what JSON calls a number, if it fits; its text comes back, its double is the text's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tapedeck_market::{Decimal, DecimalError};

/// JSON's own opinion. White space is JSON, but no part of a number.
fn is_json_number(bytes: &[u8]) -> bool {
    let starts = bytes.first().is_some_and(|b| *b == b'-' || b.is_ascii_digit());
    let ends = bytes.last().is_some_and(u8::is_ascii_digit);
    starts && ends && serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

fuzz_target!(|bytes: &[u8]| {
    let parsed = Decimal::parse(bytes);
    let malformed = matches!(parsed, Err(DecimalError::Malformed { .. }));
    assert_eq!(!malformed, is_json_number(bytes), "{parsed:?}");
    let Ok(decimal) = parsed else { return };

    let text = decimal.to_string();
    let again: Decimal = text.parse().expect("its own text");
    assert!(again.same_digits(decimal), "{again} from {decimal}");
    assert_eq!(Decimal::new(decimal.mantissa(), decimal.scale()), Some(decimal));

    let double: f64 = std::str::from_utf8(bytes).expect("a number is ASCII").parse().expect("a number");
    assert_eq!(decimal.to_f64(), double);
});
