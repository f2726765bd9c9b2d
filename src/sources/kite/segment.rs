//! What a token says of its instrument: the segment, and with it how many digits a price has.

use std::collections::BTreeMap;

use tapedeck_market::{Decimal, Price};

/// Segments by number, with the divisor of their prices: the last byte of a token is the number.
pub(super) const SEGMENTS: [(u8, &str, u32); 10] = [
    (1, "nse", 100),
    (2, "nfo", 100),
    (3, "cds", 10_000_000),
    (4, "bse", 100),
    (5, "bfo", 100),
    (6, "bcd", 10_000),
    (7, "mcx", 100),
    (8, "mcxsx", 100),
    (9, "indices", 100),
    (12, "nco", 10_000),
];
/// The segment of indices, which have no book and no volume.
const INDICES: u32 = 9;
/// Of a segment that nobody told us about.
const USUAL_SCALE: u8 = 2;

/// Digits behind the point of each segment's prices.
#[derive(Clone, Debug)]
pub struct Divisors {
    scales: [Option<u8>; 256],
}

impl Default for Divisors {
    fn default() -> Self {
        let mut scales = [None; 256];
        for (number, _, divisor) in SEGMENTS {
            scales[usize::from(number)] = scale(divisor);
        }
        Divisors { scales }
    }
}

impl Divisors {
    /// The venue's table with changes: by a segment's name or number.
    ///
    /// # Errors
    /// Names a segment that is none, or a divisor that is no power of ten.
    pub fn with(changes: &BTreeMap<String, u32>) -> anyhow::Result<Divisors> {
        let mut divisors = Divisors::default();
        for (segment, divisor) in changes {
            let known = SEGMENTS.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(segment));
            let number = known.map(|(number, ..)| *number).or_else(|| segment.parse().ok());
            let names = SEGMENTS.map(|(_, name, _)| name).join(", ");
            let number = number.ok_or_else(|| {
                anyhow::anyhow!(
                    "divisors: `{segment}` is no segment: {names}, or its number (the last byte of a token)"
                )
            })?;
            let scale = scale(*divisor).ok_or_else(|| {
                anyhow::anyhow!("divisors: {segment} = {divisor} is no power of ten from 1 to 1000000000")
            })?;
            divisors.scales[usize::from(number)] = Some(scale);
        }
        Ok(divisors)
    }

    /// Digits behind the point of a token's prices, and whether its segment is known.
    #[inline]
    pub(super) fn scale(&self, token: u32) -> (u8, bool) {
        match self.scales[(token & 0xff) as usize] {
            Some(scale) => (scale, true),
            None => (USUAL_SCALE, false),
        }
    }
}

/// Whether a token is an index'.
pub(super) fn is_index(token: u32) -> bool {
    token & 0xff == INDICES
}

fn scale(divisor: u32) -> Option<u8> {
    (0..=9).find(|&digits| 10_u32.pow(u32::from(digits)) == divisor)
}

/// A price of so many units of the last digit.
#[inline]
pub(super) fn price(units: i64, scale: u8) -> Option<Price> {
    Decimal::new(units, scale).map(Price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_venues_and_can_be_changed() {
        let table = Divisors::default();
        assert_eq!(table.scale(408_065), (2, true));
        assert_eq!(table.scale(0x0103), (7, true));
        assert_eq!(table.scale(0x0106), (4, true));
        assert_eq!(table.scale(0x010c), (4, true));
        assert_eq!(table.scale(0x01ee), (2, false));
        let changes = [("NCO".to_owned(), 100), ("238".to_owned(), 1_000)].into();
        let table = Divisors::with(&changes).expect("valid");
        assert_eq!((table.scale(0x010c), table.scale(0x01ee)), ((2, true), (3, true)));
    }

    #[test]
    fn what_is_no_segment_or_no_divisor_is_refused() {
        for (segment, divisor, says) in
            [("moon", 100, "`moon` is no segment"), ("300", 100, "`300` is no segment"), ("nse", 99, "nse = 99")]
        {
            let error = Divisors::with(&[(segment.to_owned(), divisor)].into()).expect_err(segment).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
