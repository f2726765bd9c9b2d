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
    exchanges: BTreeMap<SmolStr, (SmolStr, Calendar)>,
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
            let anchor: Anchor = session.parse().map_err(|why| anyhow::anyhow!("sessions: {exchange}: {why}"))?;
            let calendar = Calendar::new(anchor.without(days.iter().copied()));
            exchanges.insert(SmolStr::new(exchange.to_ascii_uppercase()), (SmolStr::new(session), calendar));
        }
        Ok(Hours { exchanges })
    }

    /// Whether an exchange trades at that moment; of one whose sessions are not known nobody can say so.
    pub fn is_open(&mut self, exchange: &str, at: UnixNanos) -> bool {
        let calendar = self.exchanges.get_mut(exchange).map(|(_, calendar)| calendar);
        let day = calendar.and_then(|calendar| calendar.day(at.0));
        day.is_some_and(|day| day.bucket(at.0, DAY_NS).is_some())
    }

    /// The session of an exchange, as it is written.
    #[must_use]
    pub fn session(&self, exchange: &str) -> Option<SmolStr> {
        self.exchanges.get(exchange).map(|(text, _)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
