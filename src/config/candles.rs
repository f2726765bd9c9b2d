//! `[candles]`: which candles are made, and how.

use std::time::Duration;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tapedeck_market::CandleInput;

use super::globs::Globs;
use super::units::{Interval, show_duration};
use crate::candles::{Anchor, Recipe, Selection};

/// The shortest and the longest candle.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Intervals at once: each costs every tick its time.
const INTERVALS_AT_MOST: usize = 32;
/// Beyond an hour nothing is late any more, it is history.
const LATENESS_MAX: Duration = Duration::from_secs(3_600);

/// `[candles]`: candles of everything that is traded, made while it is recorded. The table being there switches them on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Candles {
    /// Lengths, from "1s" to "1d". Default: ["1m", "5m", "1h"].
    pub intervals: Vec<Interval>,
    /// What they are made of: "trades", or of quotes the "bid", the "ask" or the "mid" of both. Default: "trades".
    pub input: Input,
    /// Where the buckets of a day begin: "utc", a time of day somewhere ("09:15 Asia/Kolkata"), or a session with its
    /// end and days ("09:15-15:30 Asia/Kolkata Mon-Fri"): what is outside of a session makes no candle. Default: "utc".
    pub anchor: String,
    /// Days without a session, as dates ("2026-01-26"). Default: none.
    pub holidays: Vec<String>,
    /// How long a candle waits for late ticks after its end; what comes later revises it. Default: "2s".
    pub lateness: Interval,
    /// Only these sources; `*` stands for any text. Default: all.
    pub sources: Globs,
    /// Only these symbols, in the venue's spelling. Default: all.
    pub symbols: Globs,
    /// Venues whose ticker stands for trades: last price, and the difference of the day's running volume. Default: ["kite"].
    pub cumulative: Globs,
}

impl Default for Candles {
    fn default() -> Self {
        Candles {
            intervals: [60, 300, 3_600].map(|secs| Interval(Duration::from_secs(secs))).to_vec(),
            input: Input::Trades,
            anchor: "utc".to_owned(),
            holidays: Vec::new(),
            lateness: Interval(Duration::from_secs(2)),
            sources: Globs::default(),
            symbols: Globs::default(),
            cumulative: Globs(vec!["kite".to_owned()]),
        }
    }
}

/// What candles are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Input {
    #[default]
    Trades,
    Bid,
    Ask,
    Mid,
}

impl Candles {
    /// The recipe that the table asks for.
    ///
    /// # Errors
    /// The key that is wrong, and what to write instead.
    pub fn recipe(&self) -> Result<Recipe, (&'static str, String)> {
        let intervals_ns = self.intervals_ns()?;
        if self.lateness.0 > LATENESS_MAX {
            let text = show_duration(self.lateness.0);
            return Err((
                "lateness",
                format!("{text} is too long: at most 1h, and what comes later revises its candle"),
            ));
        }
        let anchor: Anchor = self.anchor.parse().map_err(|error| ("anchor", error))?;
        let mut holidays = Vec::new();
        for text in &self.holidays {
            let date: Date =
                text.parse().map_err(|_| ("holidays", format!("`{text}` is no date: write it as \"2026-01-26\"")))?;
            holidays.push(date);
        }
        Ok(Recipe {
            intervals_ns,
            input: match self.input {
                Input::Trades => CandleInput::Trades,
                Input::Bid => CandleInput::Bid,
                Input::Ask => CandleInput::Ask,
                Input::Mid => CandleInput::Mid,
            },
            anchor: anchor.without(holidays),
            lateness_ns: nanos(self.lateness.0),
            selection: Selection {
                sources: self.sources.clone(),
                symbols: self.symbols.clone(),
                cumulative: self.cumulative.clone(),
            },
        })
    }

    fn intervals_ns(&self) -> Result<Vec<i64>, (&'static str, String)> {
        let refuse = |text: String| Err(("intervals", text));
        if self.intervals.is_empty() {
            return refuse("is empty: write [\"1m\"], or leave the table [candles] out".to_owned());
        }
        if self.intervals.len() > INTERVALS_AT_MOST {
            return refuse(format!("has more than {INTERVALS_AT_MOST} intervals"));
        }
        let mut all: Vec<i64> = Vec::new();
        for Interval(interval) in &self.intervals {
            let text = show_duration(*interval);
            if *interval < INTERVAL_MIN || *interval > INTERVAL_MAX {
                return refuse(format!("{text} is no length of a candle: from 1s to 1d"));
            }
            if interval.subsec_nanos() != 0 {
                return refuse(format!("{text} is no length of a candle: whole seconds only"));
            }
            if all.contains(&nanos(*interval)) {
                return refuse(format!("{text} stands there twice"));
            }
            all.push(nanos(*interval));
        }
        all.sort_unstable();
        Ok(all)
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (&'static str, String) {
        toml::from_str::<Candles>(text).unwrap().recipe().unwrap_err()
    }

    #[test]
    fn the_defaults_make_candles() {
        let recipe = Candles::default().recipe().unwrap();
        assert_eq!(recipe.intervals_ns, [60, 300, 3_600].map(|secs| secs * 1_000_000_000));
        assert_eq!(recipe.lateness_ns, 2_000_000_000);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_key_and_what_to_write() {
        for (text, key, part) in [
            ("intervals = []", "intervals", "leave the table"),
            ("intervals = ['500ms']", "intervals", "from 1s to 1d"),
            ("intervals = ['25h']", "intervals", "from 1s to 1d"),
            ("intervals = ['1500ms']", "intervals", "whole seconds"),
            ("intervals = ['60s', '1m']", "intervals", "twice"),
            ("lateness = '2h'", "lateness", "at most 1h"),
            ("anchor = '9:15'", "anchor", "Asia/Kolkata"),
            ("anchor = '09:15 Asia/Calcuta'", "anchor", "no time zone"),
            ("holidays = ['26 January']", "holidays", "2026-01-26"),
        ] {
            let (found, error) = refused(text);
            assert_eq!(found, key, "{text}: {error}");
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let globs = Globs(vec!["BTC/*".into(), "*-PERP".into(), "ETH/USD".into()]);
        for text in ["BTC/USD", "SOL-PERP", "ETH/USD"] {
            assert!(globs.fit(text), "{text}");
        }
        for text in ["ETH/USDT", "XBTC/USD", "PERP"] {
            assert!(!globs.fit(text), "{text}");
        }
        assert!(Globs::default().fit("anything") && !Globs::default().name("anything"));
    }
}
