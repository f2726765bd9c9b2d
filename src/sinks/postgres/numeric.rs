//! PostgreSQL's `numeric` in its binary form: groups of four digits, from the first that is not zero.
//!
//! ```text
//! i16 groups · i16 weight of the first, in groups before the point · u16 sign · i16 digits behind the point · groups
//! ```
//!
//! The number of digits behind the point is kept, so that `62807.0` comes back as it was printed.

use tapedeck_market::{Decimal, Sum};

const NEGATIVE: u16 = 0x4000;
/// 39 digits before or behind the point, and as many zeros as a scale of 255 asks for.
const GROUPS_MAX: usize = 80;

/// Appends a decimal, without its length.
pub(super) fn put_decimal(out: &mut Vec<u8>, value: Decimal) {
    let mut groups = [0_i16; GROUPS_MAX];
    let mut len = 0;
    let mut rest = value.mantissa().unsigned_abs();
    let odd = u32::from(value.scale()) % 4;
    if odd > 0 {
        let unit = 10_u64.pow(odd);
        groups[len] = ((rest % unit) * 10_u64.pow(4 - odd)) as i16;
        rest /= unit;
        len += 1;
    }
    while rest > 0 {
        groups[len] = (rest % 10_000) as i16;
        rest /= 10_000;
        len += 1;
    }
    put(out, &groups[..len], value.mantissa() < 0, value.scale());
}

/// Appends a total, without its length.
pub(super) fn put_sum(out: &mut Vec<u8>, value: Sum) {
    let mut groups = [0_i16; GROUPS_MAX];
    let mut len = 0;
    let mut rest = value.mantissa.unsigned_abs();
    let odd = u32::from(value.scale) % 4;
    if odd > 0 {
        let unit = 10_u128.pow(odd);
        groups[len] = ((rest % unit) * 10_u128.pow(4 - odd)) as i16;
        rest /= unit;
        len += 1;
    }
    while rest > 0 {
        groups[len] = (rest % 10_000) as i16;
        rest /= 10_000;
        len += 1;
    }
    put(out, &groups[..len], value.mantissa < 0, value.scale);
}

/// `groups` from the last behind the point on; what is beyond them is zero.
fn put(out: &mut Vec<u8>, groups: &[i16], negative: bool, scale: u8) {
    let behind = usize::from(scale).div_ceil(4);
    let last = groups.iter().position(|group| *group != 0).unwrap_or(groups.len());
    let first = groups.iter().rposition(|group| *group != 0).map_or(last, |at| at + 1);
    let digits = &groups[last..first];
    let weight = if digits.is_empty() { 0 } else { first as i16 - behind as i16 - 1 };
    out.extend((digits.len() as i16).to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend((if negative && !digits.is_empty() { NEGATIVE } else { 0 }).to_be_bytes());
    out.extend(i16::from(scale).to_be_bytes());
    for group in digits.iter().rev() {
        out.extend(group.to_be_bytes());
    }
}

/// The number in its digits; `None` where it is none of ours: too long, NaN or infinite.
pub(super) fn sum_of(bytes: &[u8]) -> Option<Sum> {
    let word = |nth: usize| Some(i16::from_be_bytes(bytes.get(nth * 2..nth * 2 + 2)?.try_into().ok()?));
    let (groups, weight, sign, scale) = (word(0)?, word(1)?, word(2)? as u16, word(3)?);
    let (groups, scale) = (usize::try_from(groups).ok()?, u8::try_from(scale).ok()?);
    if sign != 0 && sign != NEGATIVE {
        return None;
    }
    // Digits behind the point that the scale leaves out: zeros at the end of the last group.
    let behind = 4 * (groups as i32 - i32::from(weight) - 1);
    let over = behind - i32::from(scale);
    let mut mantissa = 0_i128;
    for nth in 0..groups {
        let group = i128::from(word(4 + nth)?);
        // That group alone, and not the whole: 38 digits leave no room for zeros.
        let zeros = if nth + 1 == groups { u32::try_from(over.clamp(0, 4)).ok()? } else { 0 };
        mantissa = mantissa.checked_mul(10_i128.pow(4 - zeros))?.checked_add(exact(group, 10_i128.pow(zeros))?)?;
    }
    if mantissa != 0 && over != over.clamp(0, 4) {
        mantissa = mantissa.checked_mul(10_i128.checked_pow(u32::try_from(-over).ok()?)?)?;
    }
    Some(Sum { mantissa: if sign == NEGATIVE { -mantissa } else { mantissa }, scale })
}

/// As [`sum_of`], where it has 18 digits at most.
pub(super) fn decimal_of(bytes: &[u8]) -> Option<Decimal> {
    let Sum { mantissa, scale } = sum_of(bytes)?;
    Decimal::new(i64::try_from(mantissa).ok()?, scale)
}

fn exact(mantissa: i128, unit: i128) -> Option<i128> {
    (mantissa % unit == 0).then(|| mantissa / unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(value: Decimal) -> Option<Decimal> {
        let mut bytes = Vec::new();
        put_decimal(&mut bytes, value);
        decimal_of(&bytes)
    }

    #[test]
    fn the_bytes_are_those_of_the_server() {
        // As `select numeric_send(x)` prints them.
        for (text, hex) in [
            ("0", "0000000000000000"),
            ("0.00", "0000000000000002"),
            ("62807.0", "00020001000000010006 0af7"),
            ("-0.00000001", "0001fffe400000080001"),
            ("12345678.9", "000300010000000104d2162e2328"),
            ("10000", "00010001000000000001"),
        ] {
            let mut bytes = Vec::new();
            put_decimal(&mut bytes, text.parse().unwrap());
            let shown: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(shown, hex.replace(' ', ""), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_decimal_comes_back_with_its_digits(mantissa in -999_999_999_999_999_999_i64..=999_999_999_999_999_999, scale in 0_u8..=18) {
            let value = Decimal::new(mantissa, scale).unwrap();
            let read = decimal(value).unwrap();
            prop_assert!(read.same_digits(value), "{} became {}", value, read);
        }

        #[test]
        fn a_total_comes_back_with_its_digits(mantissa in -i128::MAX..=i128::MAX, scale in 0_u8..=36) {
            let value = Sum { mantissa, scale };
            let mut bytes = Vec::new();
            put_sum(&mut bytes, value);
            let read = sum_of(&bytes).unwrap();
            prop_assert_eq!((read.mantissa, read.scale), (mantissa, scale));
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = sum_of(&bytes);
        }
    }
}
