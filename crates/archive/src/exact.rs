//! Numbers in columns of a fixed scale, without rounding any.
//!
//! A decimal column is `Decimal128(28, 10)`. Whatever has at most ten digits behind the point fits (18 digits and ten zeros
//! are 28). A number with more, and a total of more than 18 digits before the point, is NULL there, and stands with all its
//! digits in the column `exact`, as JSON: `{"price":"0.00000000001"}`, `{"bids[3].size":"…"}`.

use tapedeck_market::{Decimal, Sum};

pub(crate) const PRECISION: u8 = 28;
pub(crate) const SCALE: i8 = 10;
const PLACES: u8 = SCALE as u8;
const LIMIT: i128 = 10_i128.pow(PRECISION as u32);

/// The number in units of 10^-10; `None` when that is not exact or too long.
#[inline]
pub(crate) fn fit_decimal(value: Decimal) -> Option<i128> {
    let scale = value.scale();
    if scale <= PLACES {
        // 18 digits and ten: it always fits.
        return Some(i128::from(value.mantissa()) * POW10[usize::from(PLACES - scale)]);
    }
    fit(i128::from(value.mantissa()), scale)
}

pub(crate) fn fit_sum(value: Sum) -> Option<i128> {
    fit(value.mantissa, value.scale)
}

const POW10: [i128; 11] = {
    let mut powers = [1; 11];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

fn fit(mantissa: i128, scale: u8) -> Option<i128> {
    let units = if scale <= PLACES {
        mantissa.checked_mul(POW10[usize::from(PLACES - scale)])?
    } else {
        match 10_i128.checked_pow(u32::from(scale - PLACES)) {
            Some(unit) if mantissa % unit == 0 => mantissa / unit,
            Some(_) => return None,
            None if mantissa == 0 => 0,
            None => return None,
        }
    };
    (units.unsigned_abs() < LIMIT.unsigned_abs()).then_some(units)
}

/// The decimal that a column holds, with the fewest digits; `None` when it is none of ours.
pub(crate) fn decimal_of(units: i128) -> Option<Decimal> {
    let (mantissa, scale) = shortest(units);
    Decimal::new(i64::try_from(mantissa).ok()?, scale)
}

pub(crate) fn sum_of(units: i128) -> Sum {
    let (mantissa, scale) = shortest(units);
    Sum { mantissa, scale }
}

/// A total from its text.
pub(crate) fn parse_sum(text: &str) -> Option<Sum> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(fraction) {
        return None;
    }
    let mantissa = format!("{whole}{fraction}").parse().ok()?;
    Some(Sum { mantissa, scale: u8::try_from(fraction.len()).ok()? })
}

fn shortest(mut units: i128) -> (i128, u8) {
    let mut scale = PLACES;
    while scale > 0 && units % 10 == 0 {
        units /= 10;
        scale -= 1;
    }
    (units, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fits_exactly_or_not_at_all() {
        let of = |text: &str| text.parse::<Decimal>().unwrap();
        for (text, units) in [
            ("0", Some(0)),
            ("62807.0", Some(628_070_000_000_000)),
            ("-0.0000000001", Some(-1)),
            ("0.00000000010", Some(1)),
            ("0.00000000011", None),
            ("0.000000000000000001", None),
            ("999999999999999999", Some(9_999_999_999_999_999_990_000_000_000)),
            ("-999999999999999999", Some(-9_999_999_999_999_999_990_000_000_000)),
        ] {
            assert_eq!(fit_decimal(of(text)), units, "{text}");
            if let Some(units) = units {
                assert_eq!(decimal_of(units), Some(of(text)), "{text}");
            }
        }
    }

    #[test]
    fn a_total_fits_exactly_or_not_at_all() {
        for (mantissa, scale, units) in [
            (10_i128.pow(28) - 1, 10, Some(10_i128.pow(28) - 1)),
            (10_i128.pow(28), 10, None),
            (10_i128.pow(28) * 10, 11, None),
            (i128::MAX, 0, None),
            (i128::MIN, 38, None),
            (0, 255, Some(0)),
            (70, 11, Some(7)),
            (71, 11, None),
        ] {
            assert_eq!(fit_sum(Sum { mantissa, scale }), units, "{mantissa} {scale}");
        }
        for text in ["0", "-1.50", "170141183460469231731687303715884105727", "0.00000000000000000000000000001"] {
            assert_eq!(parse_sum(text).unwrap().to_string(), text);
        }
        assert_eq!(parse_sum("1e5"), None);
        assert_eq!(parse_sum("-"), None);
    }
}
