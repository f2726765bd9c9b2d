//! Text of numbers and times, from integers only.
//!
//! A price is a count of ticks of `10^-decimals`: what the venue prints is that integer with a
//! point in it, and what it feeds to its checksum is the integer itself.

use std::time::{SystemTime, UNIX_EPOCH};

/// Length of [`push_time`]'s text.
pub(crate) const TIME_LEN: usize = 27;

/// Appends `units * 10^-decimals` with exactly that many decimals.
pub(crate) fn push_fixed(out: &mut Vec<u8>, units: i64, decimals: u8) {
    let mut digits = itoa::Buffer::new();
    let text = digits.format(units.unsigned_abs()).as_bytes();
    if units < 0 {
        out.push(b'-');
    }
    let decimals = usize::from(decimals);
    if decimals == 0 {
        out.extend_from_slice(text);
    } else if text.len() > decimals {
        let (whole, part) = text.split_at(text.len() - decimals);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(part);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + decimals - text.len(), b'0');
        out.extend_from_slice(text);
    }
}

pub(crate) fn fixed(units: i64, decimals: u8) -> String {
    let mut out = Vec::new();
    push_fixed(&mut out, units, decimals);
    String::from_utf8_lossy(&out).into_owned()
}

pub(crate) fn push_int(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `2026-07-19T17:54:39.753424Z`: cut, not rounded, to the venue's microseconds.
pub(crate) fn push_time(out: &mut Vec<u8>, unix_ns: i64) {
    let micros = unix_ns.div_euclid(1_000);
    let (secs, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut put = |value: i64, width: usize, end: u8| {
        let at = out.len();
        out.resize(at + width, b'0');
        let mut rest = value;
        for slot in out[at..].iter_mut().rev() {
            // A remainder of ten is one digit.
            *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        out.push(end);
    };
    put(year, 4, b'-');
    put(month, 2, b'-');
    put(day, 2, b'T');
    put(second / 3_600, 2, b':');
    put(second / 60 % 60, 2, b':');
    put(second % 60, 2, b'.');
    put(micros, 6, b'Z');
}

pub(crate) fn time(unix_ns: i64) -> String {
    let mut out = Vec::with_capacity(TIME_LEN);
    push_time(&mut out, unix_ns);
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads what [`push_time`] writes, with any number of decimals; `None` for anything else.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, part) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let secs = clock.next()?? * 3_600 + clock.next()?? * 60 + clock.next()??;
    let nanos: i64 = format!("{part:0<9}").get(..9)?.parse().ok()?;
    Some((days(year, month, day) * 86_400 + secs) * 1_000_000_000 + nanos)
}

/// Wall clock, ns since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Date of a count of days since 1970, after Howard Hinnant's `civil_from_days`.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_decimals() {
        for (units, decimals, want) in [
            (628_070, 1, "62807.0"),
            (0, 8, "0.00000000"),
            (35, 8, "0.00000035"),
            (100_000_000, 8, "1.00000000"),
            (-250, 2, "-2.50"),
            (7, 0, "7"),
        ] {
            assert_eq!(fixed(units, decimals), want);
        }
    }

    #[test]
    fn times_are_printed_as_the_venue_prints_them() {
        for text in ["2026-07-19T17:54:39.753424Z", "1970-01-01T00:00:00.000000Z", "2024-02-29T23:59:59.999999Z"] {
            assert_eq!(parse_time(text).map(time).as_deref(), Some(text));
        }
        assert_eq!(parse_time("yesterday"), None);
    }
}
