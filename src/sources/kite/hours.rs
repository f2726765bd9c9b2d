//! When an exchange trades: only then is silence strange.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::civil::Date;
use tapedeck_market::{SmolStr, UnixNanos};

use crate::candles::{Anchor, Calendar};

const DAY_NS: i64 = 86_400_000_000_000;
/// Sessions of the venue's exchanges, without what precedes and follows them.
const SESSIONS: [(&str, &str); 7] = [
    ("NSE", "09:15-15:30 Asia/Kolkata Mon-Fri"),
    ("BSE", "09:15-15:30 Asia/Kolkata Mon-Fri"),
    ("NFO", "09:15-15:30 Asia/Kolkata Mon-Fri"),
    ("BFO", "09:15-15:30 Asia/Kolkata Mon-Fri"),
    ("CDS", "09:00-17:00 Asia/Kolkata Mon-Fri"),
    ("BCD", "09:00-17:00 Asia/Kolkata Mon-Fri"),
    ("MCX", "09:00-23:30 Asia/Kolkata Mon-Fri"),
];

/// The sessions of each exchange.
#[derive(Clone, Debug)]
pub struct Hours {
    exchanges: BTreeMap<SmolStr, (SmolStr, Vec<Calendar>)>,
}

impl Hours {
    /// The usual sessions, with those of the config in their place, and days on which nobody trades.
    ///
    /// # Errors
    /// Names a session or a day that is none.
    pub fn new(sessions: &BTreeMap<String, String>, holidays: &[String]) -> anyhow::Result<Hours> {
        let days = holidays
            .iter()
            .map(|day| day.parse::<Date>().with_context(|| format!("holidays: `{day}` is no day such as 2026-01-26")));
        let days: Vec<Date> = days.collect::<anyhow::Result<_>>()?;
        let usual = SESSIONS.iter().map(|(exchange, session)| (*exchange, *session));
        let own = sessions.iter().map(|(exchange, session)| (exchange.as_str(), session.as_str()));
        let mut exchanges = BTreeMap::new();
        for (exchange, session) in usual.chain(own) {
            // With a break in between: `09:00-11:30,12:30-15:30 Asia/Tokyo Mon-Fri`.
            let (ranges, rest) = session.split_once(' ').unwrap_or((session, ""));
            let calendar = |range: &str| {
                let anchor: Anchor = format!("{range} {rest}").trim_end().parse()?;
                Ok(Calendar::new(anchor.without(days.iter().copied())))
            };
            let calendars: Result<Vec<Calendar>, String> = ranges.split(',').map(calendar).collect();
            let calendars = calendars.map_err(|why| anyhow::anyhow!("sessions: {exchange}: {why}"))?;
            exchanges.insert(SmolStr::new(exchange.to_ascii_uppercase()), (SmolStr::new(session), calendars));
        }
        Ok(Hours { exchanges })
    }

    /// Whether an exchange trades at that moment; of one whose sessions are not known nobody can say so.
    pub fn is_open(&mut self, exchange: &str, at: UnixNanos) -> bool {
        let Some((_, calendars)) = self.exchanges.get_mut(exchange) else { return false };
        calendars.iter_mut().any(|part| part.day(at.0).is_some_and(|day| day.bucket(at.0, DAY_NS).is_some()))
    }

    /// The session of an exchange, as it is written.
    #[must_use]
    pub fn session(&self, exchange: &str) -> Option<SmolStr> {
        self.exchanges.get(exchange).map(|(text, _)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sources::liveness::Rhythm;

    fn at(text: &str) -> UnixNanos {
        let time: jiff::Timestamp = text.parse().expect("a time");
        UnixNanos(i64::try_from(time.as_nanosecond()).expect("in range"))
    }

    #[test]
    fn an_exchange_is_open_in_its_session_and_on_no_holiday() {
        let own = [("mcx".to_owned(), "09:00-23:55 Asia/Kolkata Mon-Fri".to_owned())].into();
        let mut hours = Hours::new(&own, &["2026-01-26".to_owned()]).expect("valid");
        for (exchange, time, open) in [
            ("NSE", "2026-01-23T09:15:00+05:30", true),
            ("NSE", "2026-01-23T09:14:59+05:30", false),
            ("NSE", "2026-01-23T15:29:59+05:30", true),
            ("NSE", "2026-01-23T15:30:00+05:30", false),
            ("NSE", "2026-01-24T12:00:00+05:30", false),
            ("NSE", "2026-01-26T12:00:00+05:30", false),
            ("NSE", "2026-01-27T12:00:00+05:30", true),
            ("MCX", "2026-01-23T23:54:00+05:30", true),
            ("CDS", "2026-01-23T16:59:00+05:30", true),
            ("MOON", "2026-01-23T12:00:00+05:30", false),
        ] {
            assert_eq!(hours.is_open(exchange, at(time)), open, "{exchange} {time}");
        }
        assert!(Hours::new(&[("NSE".to_owned(), "always".to_owned())].into(), &[]).is_err());
        assert!(Hours::new(&BTreeMap::new(), &["26.1.2026".to_owned()]).is_err());
    }

    const BEGAN_SECS: u64 = 1_767_225_600;
    const DAY_SECS: u64 = 86_400;

    /// Lives through a year, second by second while the exchange may trade and minute by minute at night. A symbol speaks
    /// after this wait, in seconds, of a random number; from `silent_from` on (seconds of the day, on each 40th day) it does not, until that is found.
    /// Returns how long after the moment when it should have spoken each silence was found, and how many there were.
    fn live_through_a_year(wait: impl Fn(f64) -> u64, silent_from: u64) -> (Vec<u64>, usize) {
        // Tokyo, 00:00 to 06:30 UTC, with a lunch break.
        let sessions = [("TYO".to_owned(), "09:00-11:30,12:30-15:30 Asia/Tokyo Mon-Fri".to_owned())].into();
        let holidays = ["2026-01-12", "2026-05-04", "2026-05-05", "2026-12-31"].map(str::to_owned);
        let mut hours = Hours::new(&sessions, &holidays).expect("valid");
        let (mut rhythm, began) = (Rhythm::default(), Instant::now());
        let (mut found, mut silences) = (Vec::new(), 0);
        let (mut silent_since, mut silent_day, mut next, mut state) = (None, None, 0_u64, 7_u64);
        let mut second = 0;
        while second < 365 * DAY_SECS {
            let now = began + Duration::from_secs(second);
            let wall = UnixNanos::from_secs(i64::try_from(BEGAN_SECS + second).expect("small"));
            let of_day = second % DAY_SECS;
            let open = of_day < 7 * 3_600 && hours.is_open("TYO", wall);
            // From now on it should speak, and does not: while closed, from the opening on.
            let day = second / DAY_SECS;
            let stricken = day % 40 == 20 && of_day >= silent_from && of_day < silent_from + 7_200;
            if open && stricken && silent_day != Some(day) {
                (silent_since, silent_day) = (Some(second), Some(day));
                silences += 1;
            }
            if open && silent_since.is_none() && second >= next {
                rhythm.heard(now);
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let uniform = ((state >> 11) as f64 / (1_u64 << 53) as f64).max(1e-12);
                next = second + wait(uniform).max(1);
            }
            if let Some(silence) = rhythm.stalled_while(open, now) {
                let since = silent_since.take();
                let since =
                    since.unwrap_or_else(|| panic!("an alarm at {wall} after {silence:?}, and nothing was wrong"));
                found.push(second - since);
                rhythm.resumed(now);
            }
            // Looked at all the time, as a session does, where it may matter.
            let night = (7 * 3_600..DAY_SECS - 60).contains(&of_day);
            second += if night { 60 } else { 1 };
        }
        (found, silences)
    }

    #[test]
    fn in_a_year_every_silence_of_a_lively_symbol_is_found_and_no_closed_hour_alarms() {
        // In the morning, in the afternoon, and when it does not come back from lunch or from the night.
        for silent_from in [3_600, 5 * 3_600, 9_000, 0] {
            let (found, silences) = live_through_a_year(|uniform| (-uniform.ln()) as u64, silent_from);
            assert!(silences >= 5, "{silences}");
            assert_eq!(found.len(), silences, "at {silent_from}: {found:?}");
            // Random waits of a mean second: one in a thousand is longer than 7 s, and 12 s are seen now and then.
            assert!(found.iter().all(|secs| *secs <= 30), "at {silent_from}: {found:?}");
        }
    }

    #[test]
    fn in_a_year_every_silence_of_a_regular_symbol_is_found_ten_seconds_after_it_should_have_spoken() {
        for (every, silent_from) in [(1, 0), (9, 5 * 3_600)] {
            let (found, silences) = live_through_a_year(|_| every, silent_from);
            assert!(silences >= 5 && found.len() == silences, "{every} at {silent_from}: {silences}, {found:?}");
            assert!(found.iter().all(|secs| *secs <= every + 11), "{every} at {silent_from}: {found:?}");
        }
    }

    #[test]
    fn in_a_year_a_quiet_symbol_gives_no_false_alarm_and_is_found_later() {
        let (found, silences) = live_through_a_year(|uniform| (-20.0 * uniform.ln()) as u64, 5_400);
        assert!(silences >= 5 && found.len() + 1 >= silences, "{silences}: {found:?}");
    }
}
