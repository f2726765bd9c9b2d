//! Instants.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub i64);

impl UnixNanos {
    pub const EPOCH: UnixNanos = UnixNanos(0);
    /// 2000-01-01T00:00:00Z: a venue time before it is absurd.
    pub const Y2K: UnixNanos = UnixNanos(946_684_800_000_000_000);

    /// The host's wall clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        UnixNanos(secs.saturating_mul(1_000_000_000))
    }

    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        UnixNanos(millis.saturating_mul(1_000_000))
    }

    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        UnixNanos(micros.saturating_mul(1_000))
    }

    /// `self - earlier`, zero when `earlier` is later.
    #[must_use]
    pub fn saturating_since(self, earlier: UnixNanos) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Parses an RFC 3339 instant as venues write it: `2026-07-19T17:54:39.753424Z`, with up to
    /// nine digits of fraction (further ones are cut) and `Z` or an offset such as `+05:30` or `+0530`.
    /// `None` for anything else.
    #[must_use]
    pub fn parse_rfc3339(text: &[u8]) -> Option<Self> {
        let (b, rest) = text.split_at_checked(19)?;
        if b[4] != b'-' || b[7] != b'-' || !matches!(b[10], b'T' | b't' | b' ') || b[13] != b':' || b[16] != b':' {
            return None;
        }
        let year = i64::from(two(b[0], b[1])?) * 100 + i64::from(two(b[2], b[3])?);
        let (month, day) = (two(b[5], b[6])?, two(b[8], b[9])?);
        let (hour, minute, second) = (two(b[11], b[12])?, two(b[14], b[15])?, two(b[17], b[18])?);
        if month == 0
            || month > 12
            || day == 0
            || day > days_in_month(year, month)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return None;
        }
        let (nanos, zone) = fraction(rest)?;
        let offset_s = offset(zone)?;
        let secs = days_from_civil(year, month, day) * 86_400
            + i64::from(hour) * 3_600
            + i64::from(minute) * 60
            + i64::from(second)
            - offset_s;
        secs.checked_mul(1_000_000_000)?.checked_add(nanos).map(UnixNanos)
    }

    /// Parses decimal seconds since the epoch as text, e.g. `1618678142.557535` (Kraken v1, Kite,
    /// OANDA `UNIX`), exactly: no float is involved. Digits below a nanosecond are cut.
    #[must_use]
    pub fn parse_epoch_secs(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let dot = digits.iter().position(|&b| b == b'.').unwrap_or(digits.len());
        let (whole, rest) = digits.split_at(dot);
        if whole.is_empty() {
            return None;
        }
        let mut secs = 0_i64;
        for &b in whole {
            secs = secs.checked_mul(10)?.checked_add(i64::from(digit(b)?))?;
        }
        let (nanos, end) = fraction(rest)?;
        if !end.is_empty() {
            return None;
        }
        let total = secs.checked_mul(1_000_000_000)?.checked_add(nanos)?;
        Some(UnixNanos(if negative { -total } else { total }))
    }
}

fn digit(b: u8) -> Option<u8> {
    b.is_ascii_digit().then(|| b - b'0')
}

fn two(a: u8, b: u8) -> Option<u8> {
    Some(digit(a)? * 10 + digit(b)?)
}

/// `.123456` → nanoseconds and what follows; no point: zero.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    let mut nanos = 0_i64;
    for place in 0..9 {
        nanos = nanos * 10 + text[..end].get(place).map_or(0, |b| i64::from(b - b'0'));
    }
    Some((nanos, &text[end..]))
}

/// `Z`, `+05:30`, `-0530` → seconds east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hh, mm) = match zone {
        b"Z" | b"z" => return Some(0),
        [sign, a, b, b':', c, d] | [sign, a, b, c, d] => (sign, two(*a, *b)?, two(*c, *d)?),
        _ => return None,
    };
    let secs = i64::from(hh) * 3_600 + i64::from(mm) * 60;
    match sign {
        b'+' if hh < 24 && mm < 60 => Some(secs),
        b'-' if hh < 24 && mm < 60 => Some(-secs),
        _ => None,
    }
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date (years are shifted to begin in March, so
/// that the leap day is the last of its year).
fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = i64::from(month);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// RFC 3339 in UTC with nanoseconds: `2026-07-19T17:54:39.753424000Z`.
impl fmt::Display for UnixNanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.div_euclid(1_000_000_000);
        let nanos = self.0.rem_euclid(1_000_000_000);
        let (year, month, day) = civil_from_days(secs.div_euclid(86_400));
        let s = secs.rem_euclid(86_400);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", s / 3_600, s / 60 % 60, s % 60)
    }
}

impl fmt::Debug for UnixNanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Add<Duration> for UnixNanos {
    type Output = UnixNanos;
    fn add(self, wait: Duration) -> UnixNanos {
        UnixNanos(self.0.saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for UnixNanos {
    type Output = UnixNanos;
    fn sub(self, wait: Duration) -> UnixNanos {
        UnixNanos(self.0.saturating_sub(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn venue_times_keep_their_nanoseconds() {
        let cases: &[(&str, &str)] = &[
            ("2026-07-19T17:54:39.753424Z", "2026-07-19T17:54:39.753424000Z"),
            ("2017-09-24T22:20:39.888097022Z", "2017-09-24T22:20:39.888097022Z"),
            ("2017-12-15T09:15:00+0530", "2017-12-15T03:45:00.000000000Z"),
            ("2024-02-29T00:00:00-05:00", "2024-02-29T05:00:00.000000000Z"),
            ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"),
            ("2026-01-05T10:00:00.1234567891Z", "2026-01-05T10:00:00.123456789Z"),
        ];
        for (text, want) in cases {
            let got = UnixNanos::parse_rfc3339(text.as_bytes()).map(|t| t.to_string());
            assert_eq!(got.as_deref(), Some(*want), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "2026-07-19",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-07-19T17:54:39",
            "2026-07-19T17:54:39.Z",
            "2026-07-19T25:54:39Z",
            "2026-07-19T17:54:39+99:00",
        ] {
            assert_eq!(UnixNanos::parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn epoch_seconds_are_exact() {
        assert_eq!(UnixNanos::parse_epoch_secs(b"1618678142.557535"), Some(UnixNanos(1_618_678_142_557_535_000)));
        assert_eq!(UnixNanos::parse_epoch_secs(b"1618678142"), Some(UnixNanos(1_618_678_142_000_000_000)));
        for text in ["", ".5", "1.", "1e9", "99999999999999999999"] {
            assert_eq!(UnixNanos::parse_epoch_secs(text.as_bytes()), None, "{text}");
        }
    }
}
