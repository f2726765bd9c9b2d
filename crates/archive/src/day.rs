//! Days, in UTC.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan as _;
use jiff::civil::Date;

const DAY_NS: i64 = 86_400_000_000_000;

/// A day in UTC, counted from 1970-01-01. Prints as `2026-07-19`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// The day that an instant is in.
    #[must_use]
    pub const fn of(ns: i64) -> Day {
        // 106,752 days either way.
        Day(ns.div_euclid(DAY_NS) as i32)
    }

    /// Its first nanosecond.
    #[must_use]
    pub fn start_ns(self) -> i64 {
        i64::from(self.0).saturating_mul(DAY_NS)
    }
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(i64::from(self.0).days()) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

/// Not a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is written as 2026-07-19")]
pub struct NotADay;

impl FromStr for Day {
    type Err = NotADay;
    fn from_str(text: &str) -> Result<Self, NotADay> {
        let date: Date = text.parse().map_err(|_| NotADay)?;
        let days = (date - EPOCH).get_days();
        let day = Day(days);
        // One spelling a day: it is the name of a folder.
        if day.to_string() == text { Ok(day) } else { Err(NotADay) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        for (ns, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (1_784_505_599_999_999_999, "2026-07-19"),
            (1_784_505_600_000_000_000, "2026-07-20"),
            (i64::MIN, "1677-09-21"),
            (i64::MAX, "2262-04-11"),
        ] {
            assert_eq!(Day::of(ns).to_string(), text);
            assert_eq!(text.parse(), Ok(Day::of(ns)));
        }
        assert_eq!(Day::of(Day(20_000).start_ns()), Day(20_000));
        for text in ["2026-7-19", "2026-02-30", "", "x", "20260719"] {
            assert_eq!(text.parse::<Day>(), Err(NotADay), "{text}");
        }
    }
}
