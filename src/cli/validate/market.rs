//! Whether a venue's market is closed by its calendar: then silence is no fault.

use jiff::civil::Weekday;
use jiff::{Timestamp, tz::TimeZone};
use tapedeck_market::UnixNanos;

use crate::config::Config;
use crate::sources::kite;

/// From Friday 17:00 to Sunday 17:00 in New York nobody quotes currencies.
const FX_HOUR: i8 = 17;

/// Of all sources of the venue; one that may be open counts.
pub(super) fn is_closed(config: &Config, venue: &str, now: UnixNanos) -> bool {
    match venue {
        "oanda" => is_weekend_of_currencies(now),
        "kite" => {
            let mut tables = config.sources.iter().filter(|source| source.kind == kite::KIND.name).peekable();
            tables.peek().is_some() && tables.all(|source| kite::is_closed(&source.table, now))
        }
        _ => false,
    }
}

fn is_weekend_of_currencies(now: UnixNanos) -> bool {
    let Ok(now) = Timestamp::from_nanosecond(now.0.into()) else { return false };
    let Ok(zone) = TimeZone::get("America/New_York") else { return false };
    let local = now.to_zoned(zone);
    match local.weekday() {
        Weekday::Friday => local.hour() >= FX_HOUR,
        Weekday::Saturday => true,
        Weekday::Sunday => local.hour() < FX_HOUR,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_rest_from_friday_to_sunday_by_new_yorks_clock() {
        let at = |text: &str| {
            let time: Timestamp = text.parse().expect("a time");
            is_weekend_of_currencies(UnixNanos(i64::try_from(time.as_nanosecond()).expect("in range")))
        };
        assert!(!at("2026-11-20T21:59:00Z") && at("2026-11-20T22:00:00Z"), "winter");
        assert!(at("2026-11-21T12:00:00Z") && at("2026-11-22T21:59:00Z") && !at("2026-11-22T22:00:00Z"));
        assert!(!at("2026-07-17T20:59:00Z") && at("2026-07-17T21:00:00Z"), "summer");
    }

    #[test]
    fn kite_rests_when_the_exchanges_of_all_its_instruments_do() {
        let config = |text: &str| crate::config::parse_text(text).expect("valid");
        let nse = config("[source.kite]\nkind = 'kite'\ninstruments = ['INFY', 'MCX:GOLD26DECFUT']");
        let at = |text: &str| {
            let time: Timestamp = text.parse().expect("a time");
            UnixNanos(i64::try_from(time.as_nanosecond()).expect("in range"))
        };
        assert!(is_closed(&nse, "kite", at("2026-11-21T12:00:00+05:30")), "a Saturday");
        assert!(!is_closed(&nse, "kite", at("2026-11-20T12:00:00+05:30")));
        assert!(!is_closed(&nse, "kite", at("2026-11-20T20:00:00+05:30")), "MCX trades in the evening");
        let tokens = config("[source.kite]\nkind = 'kite'\ninstruments = [408065]");
        assert!(!is_closed(&tokens, "kite", at("2026-11-21T12:00:00+05:30")), "whose exchange nobody says");
        assert!(!is_closed(&nse, "kraken", at("2026-11-21T12:00:00+05:30")));
    }
}
