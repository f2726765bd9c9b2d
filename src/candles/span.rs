//! Where buckets begin and end: at UTC midnight, or at the start of a trading session somewhere.
//!
//! ```text
//! "utc"                                   every day from 00:00 UTC
//! "09:15 Asia/Kolkata"                    every day from 09:15 there, until 09:15 of the next day
//! "09:15-15:30 Asia/Kolkata Mon-Fri"      the same, but nothing outside of the session makes a candle
//! ```
//!
//! One rule for all of them: the buckets of a day are `[from + n × interval, from + (n + 1) × interval)`, and the last one is
//! cut where the day ends. A day ends at the end of its session, or where the next one begins: across a change of
//! daylight-saving time it has 23 or 25 hours, and so has its `1d` candle.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use tapedeck_market::UnixNanos;

const DAY_NS: i64 = 86_400_000_000_000;
/// Days that are remembered: what arrives late is of yesterday, not of every day there ever was.
const DAYS_KEPT: usize = 4;

/// Where the buckets of a day begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchor {
    /// As it was written.
    text: String,
    start: Time,
    /// `None`: where the next day begins.
    end: Option<Time>,
    zone: TimeZone,
    /// Monday first.
    days: [bool; 7],
    holidays: BTreeSet<Date>,
}

impl Default for Anchor {
    fn default() -> Self {
        Anchor {
            text: "utc".to_owned(),
            start: Time::midnight(),
            end: None,
            zone: TimeZone::UTC,
            days: [true; 7],
            holidays: BTreeSet::new(),
        }
    }
}

impl Anchor {
    /// The same, with days on which there is no session. Dates are those on which a session would begin.
    #[must_use]
    pub fn without(mut self, holidays: impl IntoIterator<Item = Date>) -> Self {
        self.holidays.extend(holidays);
        self
    }

    fn is_plain_utc(&self) -> bool {
        let midnight = self.start == Time::midnight() && self.end.is_none();
        midnight && self.zone == TimeZone::UTC && self.days == [true; 7] && self.holidays.is_empty()
    }

    /// The moment at which the day of that date begins.
    fn begins(&self, date: Date) -> Option<i64> {
        nanos(date.to_datetime(self.start), &self.zone)
    }

    /// The day that a moment belongs to.
    fn day_of(&self, ts: i64) -> Option<Day> {
        let here = Timestamp::from_nanosecond(i128::from(ts)).ok()?.to_zoned(self.zone.clone()).date();
        let mut date = here.checked_add(1.day()).ok()?;
        let mut from = self.begins(date)?;
        // A session may begin in the evening before, and a change of time may move it across midnight.
        while from > ts {
            date = date.yesterday().ok()?;
            from = self.begins(date)?;
        }
        let next = self.begins(date.tomorrow().ok()?)?;
        let close = match self.end {
            None => next,
            Some(end) => {
                let on = if end > self.start { date } else { date.tomorrow().ok()? };
                nanos(on.to_datetime(end), &self.zone)?.min(next)
            }
        };
        let trading = self.days[usize::from(date.weekday().to_monday_zero_offset().unsigned_abs())];
        let trading = trading && !self.holidays.contains(&date);
        Some(Day { from, next, close: if trading { close } else { from } })
    }
}

fn nanos(at: jiff::civil::DateTime, zone: &TimeZone) -> Option<i64> {
    i64::try_from(at.to_zoned(zone.clone()).ok()?.timestamp().as_nanosecond()).ok()
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Anchor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write \"utc\", \"09:15 Asia/Kolkata\" or \"09:15-15:30 Asia/Kolkata Mon-Fri\"";
        if text.eq_ignore_ascii_case("utc") {
            return Ok(Anchor { text: text.to_owned(), ..Anchor::default() });
        }
        let mut words = text.split_whitespace();
        let (Some(hours), Some(zone)) = (words.next(), words.next()) else {
            return Err(format!("`{text}` is no anchor: {FORM}"));
        };
        let time = |word: &str| {
            let hours_minutes = matches!(word.len(), 5 | 8).then(|| word.parse::<Time>().ok()).flatten();
            hours_minutes.ok_or_else(|| format!("`{word}` is no time of day: {FORM}"))
        };
        let (start, end) = match hours.split_once('-') {
            Some((start, end)) => (time(start)?, Some(time(end)?)),
            None => (time(hours)?, None),
        };
        let zone = TimeZone::get(zone).map_err(|_| {
            format!("`{zone}` is no time zone: write it as `Asia/Kolkata`, `America/New_York` or `UTC`")
        })?;
        let days = match words.next() {
            Some(days) => parse_days(days)?,
            None => [true; 7],
        };
        match words.next() {
            Some(more) => Err(format!("`{more}` is too much: {FORM}")),
            None => Ok(Anchor { text: text.to_owned(), start, end, zone, days, holidays: BTreeSet::new() }),
        }
    }
}

/// `Mon-Fri`, `Sun-Thu`, `Mon,Wed,Fri`.
fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (weekday(from)?, weekday(to)?);
        let mut day = from;
        loop {
            days[day] = true;
            if day == to {
                break;
            }
            day = (day + 1) % 7;
        }
    }
    Ok(days)
}

fn weekday(text: &str) -> Result<usize, String> {
    const NAMES: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let lower = text.to_ascii_lowercase();
    let found = NAMES.iter().position(|(name, _)| lower.starts_with(name));
    found.ok_or_else(|| format!("`{text}` is no day of the week: write `Mon-Fri` or `Mon,Wed,Fri`"))
}

/// A day of buckets. Without a session (a week-end, a holiday) it closes where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    pub(crate) from: i64,
    /// Where the next day begins.
    pub(crate) next: i64,
    close: i64,
}

impl Day {
    /// The bucket of a moment of this day; `None` outside of the session.
    pub(crate) fn bucket(&self, ts: i64, interval_ns: i64) -> Option<(i64, i64)> {
        if ts < self.from || ts >= self.close {
            return None;
        }
        if interval_ns >= DAY_NS {
            return Some((self.from, self.close));
        }
        let start = self.from + (ts - self.from) / interval_ns * interval_ns;
        Some((start, start.saturating_add(interval_ns).min(self.close)))
    }
}

/// An anchor with the days that were asked for last.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    anchor: Anchor,
    plain_utc: bool,
    recent: [Day; DAYS_KEPT],
    oldest: usize,
}

impl Calendar {
    pub(crate) fn new(anchor: Anchor) -> Self {
        let none = Day { from: i64::MAX, next: i64::MIN, close: i64::MIN };
        Calendar { plain_utc: anchor.is_plain_utc(), anchor, recent: [none; DAYS_KEPT], oldest: 0 }
    }

    /// The day that a moment belongs to; `None` at the ends of time.
    pub(crate) fn day(&mut self, ts: i64) -> Option<Day> {
        if self.plain_utc {
            let from = ts.checked_sub(ts.rem_euclid(DAY_NS))?;
            let next = from.checked_add(DAY_NS)?;
            return Some(Day { from, next, close: next });
        }
        if let Some(known) = self.recent.iter().find(|day| (day.from..day.next).contains(&ts)) {
            return Some(*known);
        }
        let day = self.anchor.day_of(ts)?;
        self.recent[self.oldest] = day;
        self.oldest = (self.oldest + 1) % DAYS_KEPT;
        Some(day)
    }

    /// The bucket of a moment; `None` outside of the session.
    #[cfg(test)]
    fn bucket(&mut self, ts: i64, interval_ns: i64) -> Option<(i64, i64)> {
        self.day(ts)?.bucket(ts, interval_ns)
    }
}

/// The bucket of a moment, for whoever asks once.
#[must_use]
pub fn bucket(anchor: &Anchor, ts: UnixNanos, interval_ns: i64) -> Option<(UnixNanos, UnixNanos)> {
    let (start, end) = Calendar::new(anchor.clone()).day(ts.0)?.bucket(ts.0, interval_ns)?;
    Some((UnixNanos(start), UnixNanos(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn at(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    fn bucket_of(anchor: &str, ts: &str, interval_ns: i64) -> Option<(String, String)> {
        let mut calendar = Calendar::new(anchor.parse().unwrap());
        let text = |ns: i64| Timestamp::from_nanosecond(i128::from(ns)).unwrap().to_string();
        calendar.bucket(at(ts), interval_ns).map(|(start, end)| (text(start), text(end)))
    }

    fn some(start: &str, end: &str) -> Option<(String, String)> {
        Some((start.to_owned(), end.to_owned()))
    }

    #[test]
    fn utc_buckets_begin_at_midnight() {
        assert_eq!(
            bucket_of("utc", "2026-01-05T10:07:59.999Z", HOUR / 12),
            some("2026-01-05T10:05:00Z", "2026-01-05T10:10:00Z")
        );
        // Seven hours do not divide a day: the last bucket is cut at midnight.
        assert_eq!(
            bucket_of("utc", "2026-01-05T23:00:00Z", 7 * HOUR),
            some("2026-01-05T21:00:00Z", "2026-01-06T00:00:00Z")
        );
        assert_eq!(
            bucket_of("utc", "1969-12-31T23:30:00Z", HOUR),
            some("1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z")
        );
        assert_eq!(
            bucket_of("00:00 UTC", "2026-01-05T23:00:00Z", 7 * HOUR),
            bucket_of("utc", "2026-01-05T23:00:00Z", 7 * HOUR)
        );
    }

    #[test]
    fn indian_hours_begin_at_a_quarter_past() {
        // 09:15 in Kolkata is 03:45 UTC.
        let anchor = "09:15-15:30 Asia/Kolkata Mon-Fri";
        assert_eq!(
            bucket_of(anchor, "2026-01-05T04:44:59Z", HOUR),
            some("2026-01-05T03:45:00Z", "2026-01-05T04:45:00Z")
        );
        // The last hour of the session has fifteen minutes.
        assert_eq!(
            bucket_of(anchor, "2026-01-05T09:59:59Z", HOUR),
            some("2026-01-05T09:45:00Z", "2026-01-05T10:00:00Z")
        );
        assert_eq!(bucket_of(anchor, "2026-01-05T10:00:00Z", HOUR), None, "after the session");
        assert_eq!(bucket_of(anchor, "2026-01-05T03:44:59Z", HOUR), None, "before the session");
        assert_eq!(bucket_of(anchor, "2026-01-04T04:44:59Z", HOUR), None, "a Sunday");
        let republic_day: Anchor = anchor.parse::<Anchor>().unwrap().without(["2026-01-26".parse::<Date>().unwrap()]);
        assert_eq!(Calendar::new(republic_day.clone()).bucket(at("2026-01-26T05:00:00Z"), HOUR), None, "a holiday");
        assert!(Calendar::new(republic_day).bucket(at("2026-01-27T05:00:00Z"), HOUR).is_some());
    }

    #[test]
    fn a_day_across_a_change_of_time_has_23_or_25_hours() {
        let anchor = "17:00 America/New_York";
        let day = 24 * HOUR;
        // Spring: 8 March 2026. The day that began on Saturday at 17:00 EST ends on Sunday at 17:00 EDT.
        assert_eq!(
            bucket_of(anchor, "2026-03-08T12:00:00Z", day),
            some("2026-03-07T22:00:00Z", "2026-03-08T21:00:00Z")
        );
        assert_eq!(
            bucket_of(anchor, "2026-11-01T21:30:00Z", day),
            some("2026-10-31T21:00:00Z", "2026-11-01T22:00:00Z")
        );
        // Seven hours four times do not reach the end of such a day: its last bucket is cut there.
        assert_eq!(
            bucket_of(anchor, "2026-11-01T19:30:00Z", 7 * HOUR),
            some("2026-11-01T18:00:00Z", "2026-11-01T22:00:00Z")
        );
        assert_eq!(
            bucket_of(anchor, "2026-03-09T12:00:00Z", HOUR),
            some("2026-03-09T12:00:00Z", "2026-03-09T13:00:00Z")
        );
    }

    #[test]
    fn a_session_may_cross_midnight() {
        let anchor = "18:00-17:00 America/Chicago Sun-Thu";
        assert_eq!(
            bucket_of(anchor, "2026-01-05T03:30:00Z", HOUR),
            some("2026-01-05T03:00:00Z", "2026-01-05T04:00:00Z"),
            "Sunday evening in Chicago"
        );
        assert_eq!(bucket_of(anchor, "2026-01-05T23:30:00Z", HOUR), None, "the pause at 17:30");
        assert_eq!(bucket_of(anchor, "2026-01-10T03:30:00Z", HOUR), None, "Friday evening");
    }

    #[test]
    fn what_is_no_anchor_says_what_to_write() {
        for text in
            ["", "09:15", "9 Asia/Kolkata", "09:15 Mars/Base", "09:15 UTC Fun", "09:15 UTC Mon extra", "25:00 UTC"]
        {
            let error = text.parse::<Anchor>().unwrap_err();
            assert!(error.contains("write") || error.contains("too much"), "{text}: {error}");
        }
    }
}
