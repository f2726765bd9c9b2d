//! The quotient of two prices, exactly.

use std::cmp::Ordering;

use tapedeck_market::{Decimal, Price};

/// Digits behind the point of a derived price.
pub(super) const SCALE: u8 = 5;

/// A quotient that is not yet rounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    dividend: Decimal,
    divisor: Decimal,
}

impl Rate {
    /// `None`: a price that is not above zero is none.
    pub(super) fn of(dividend: Price, divisor: Price) -> Option<Rate> {
        let positive = |price: Price| price.0.mantissa() > 0;
        (positive(dividend) && positive(divisor)).then_some(Rate { dividend: dividend.0, divisor: divisor.0 })
    }

    /// To five decimals: to the nearest, ties to even, as Python rounds. `None`: more digits than a decimal has.
    pub(super) fn rounded(self) -> Option<Decimal> {
        let Rate { dividend, divisor } = self;
        let (above, below) = shifted(
            i128::from(dividend.mantissa()),
            i128::from(divisor.mantissa()),
            i32::from(divisor.scale()) + i32::from(SCALE) - i32::from(dividend.scale()),
        )?;
        let (whole, rest) = (above / below, above % below);
        let up = match (rest.checked_mul(2)?).cmp(&below) {
            Ordering::Less => 0,
            Ordering::Equal => whole & 1,
            Ordering::Greater => 1,
        };
        Decimal::new(i64::try_from(whole + up).ok()?, SCALE)
    }

    /// How it compares with a number, unrounded. `None`: too many digits.
    pub(super) fn cmp(self, number: Decimal) -> Option<Ordering> {
        let Rate { dividend, divisor } = self;
        let product = i128::from(number.mantissa()).checked_mul(i128::from(divisor.mantissa()))?;
        let places = i32::from(number.scale()) + i32::from(divisor.scale()) - i32::from(dividend.scale());
        let (above, below) = shifted(i128::from(dividend.mantissa()), product, places)?;
        Some(above.cmp(&below))
    }
}

/// Two numbers, the first times ten to that power, in whole numbers.
fn shifted(first: i128, second: i128, places: i32) -> Option<(i128, i128)> {
    let factor = 10_i128.checked_pow(places.unsigned_abs())?;
    if places >= 0 { Some((first.checked_mul(factor)?, second)) } else { Some((first, second.checked_mul(factor)?)) }
}

/// `more - less` of two prices of five decimals.
pub(super) fn difference(more: Decimal, less: Decimal) -> Option<Price> {
    debug_assert_eq!((more.scale(), less.scale()), (SCALE, SCALE), "both are derived");
    Decimal::new(more.mantissa() - less.mantissa(), SCALE).map(Price)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(dividend: &str, divisor: &str) -> Rate {
        Rate::of(dividend.parse().unwrap(), divisor.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_quotient_is_rounded_to_the_nearest_and_a_tie_to_even() {
        let rounded = |dividend, divisor| rate(dividend, divisor).rounded().map(|rate| rate.to_string());
        assert_eq!(rounded("52609.5", "48600.1").as_deref(), Some("1.08250"));
        assert_eq!(rounded("64525.0", "55421.0").as_deref(), Some("1.16427"));
        assert_eq!(rounded("1.081235", "1").as_deref(), Some("1.08124"), "a tie, and 3 is odd");
        assert_eq!(rounded("1.081245", "1").as_deref(), Some("1.08124"), "a tie, and 4 is even");
        assert_eq!(rounded("1.0812450001", "1").as_deref(), Some("1.08125"));
        assert_eq!(rounded("0.00000001", "0.0000000092").as_deref(), Some("1.08696"));
        assert_eq!(rounded("999999999999999999", "0.000001"), None, "more digits than there are");
        assert!(Rate::of("0.0".parse().unwrap(), "1".parse().unwrap()).is_none());
        assert!(Rate::of("1".parse().unwrap(), "-1".parse().unwrap()).is_none());
    }

    #[test]
    fn a_bound_is_held_against_the_unrounded_quotient() {
        let one: Decimal = "1".parse().unwrap();
        assert_eq!(rate("0.999996", "1").rounded().unwrap().to_string(), "1.00000");
        assert_eq!(rate("0.999996", "1").cmp(one), Some(Ordering::Less));
        assert_eq!(rate("48600.10", "48600.1").cmp(one), Some(Ordering::Equal));
    }

    proptest! {
        /// No other number of five decimals is nearer; of two that are as near it is the even one.
        #[test]
        fn the_rounded_quotient_is_the_nearest(
            a in 1_i64..1_000_000_000_000, b in 1_i64..1_000_000_000_000, a_scale in 0_u8..10, b_scale in 0_u8..10
        ) {
            let (dividend, divisor) = (Decimal::new(a, a_scale).unwrap(), Decimal::new(b, b_scale).unwrap());
            let Some(got) = Rate::of(Price(dividend), Price(divisor)).unwrap().rounded() else { return Ok(()) };
            // |a/b - got| <= 1/2 at the fifth decimal, in whole numbers: |2·a·10^(bs+5) - 2·got·b·10^as| <= b·10^as.
            let above = i128::from(a) * 10_i128.pow(u32::from(b_scale) + 5);
            let below = i128::from(b) * 10_i128.pow(u32::from(a_scale));
            let off = 2 * (above - i128::from(got.mantissa()) * below);
            prop_assert!(off.abs() <= below, "{} of {dividend} / {divisor}", got);
            prop_assert!(off.abs() < below || got.mantissa() % 2 == 0);
            // The original divided doubles: the same, but for what they cannot tell from a tie.
            let float = dividend.to_f64() / divisor.to_f64();
            if float < 100.0 && off.abs() < below - below / 1_000_000 {
                prop_assert_eq!(format!("{float:.5}"), got.to_string());
            }
        }
    }
}
