//! `[synthetic]`: EUR/USD derived through crypto.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tapedeck_market::Decimal;

use super::globs::Globs;
use super::units::{Interval, show_duration};
use crate::synthetic::{Bounds, Depth, Recipe};

/// Beyond a day a price is no quote any more.
const MAX_AGE_MAX: Duration = Duration::from_secs(86_400);

/// `[synthetic]`: EUR/USD through every coin that is quoted in both currencies. The table being there switches it on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Synthetic {
    /// The venue whose pairs are taken. Default: "kraken".
    pub venue: String,
    /// Only of these sources; `*` stands for any text. Default: all.
    pub sources: Globs,
    /// Only these pairs, in the venue's spelling, such as ["BTC/*", "ETH/*"]. Default: all in USD or EUR.
    pub symbols: Globs,
    /// Two prices of times further apart make no quote, and two such quotes are not compared. Default: "1m".
    pub max_age: Interval,
    /// A quote with a bid or ask below is not sent. Default: "1".
    pub min: String,
    /// A quote with a bid or ask above is not sent. Default: "2".
    pub max: String,
    /// When the depth is sent, whose prices are those of books: "spread" (while one of its spreads is below zero, as the
    /// original did), "always" or "never". Default: "spread".
    pub depth: When,
}

impl Default for Synthetic {
    fn default() -> Self {
        Synthetic {
            venue: "kraken".to_owned(),
            sources: Globs::default(),
            symbols: Globs::default(),
            max_age: Interval(Duration::from_secs(60)),
            min: "1".to_owned(),
            max: "2".to_owned(),
            depth: When::Spread,
        }
    }
}

/// When the depth is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum When {
    #[default]
    Spread,
    Always,
    Never,
}

impl Synthetic {
    /// The recipe that the table asks for.
    ///
    /// # Errors
    /// The key that is wrong, and what to write instead.
    pub fn recipe(&self) -> Result<Recipe, (&'static str, String)> {
        if self.max_age.0.is_zero() || self.max_age.0 > MAX_AGE_MAX {
            let text = show_duration(self.max_age.0);
            return Err(("max_age", format!("{text} is no age of a price: above 0, at most 1d")));
        }
        let (min, max) = (bound("min", &self.min)?, bound("max", &self.max)?);
        if min > max {
            return Err(("min", format!("{min} is above `max`, which is {max}")));
        }
        Ok(Recipe {
            venue: self.venue.as_str().into(),
            sources: self.sources.clone(),
            symbols: self.symbols.clone(),
            bounds: Bounds { max_age_ns: i64::try_from(self.max_age.0.as_nanos()).unwrap_or(i64::MAX), min, max },
            depth: match self.depth {
                When::Spread => Depth::Spread,
                When::Always => Depth::Always,
                When::Never => Depth::Never,
            },
        })
    }
}

fn bound(key: &'static str, text: &str) -> Result<Decimal, (&'static str, String)> {
    let decimal: Option<Decimal> = text.parse().ok();
    // What is compared with it has eighteen digits of its own.
    let usable = decimal.filter(|it| it.mantissa() > 0 && it.mantissa() < 1_000_000_000 && it.scale() <= 9);
    usable.ok_or_else(|| (key, format!("`{text}` is no rate: write it as \"1.05\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_originals() {
        let recipe = Synthetic::default().recipe().unwrap();
        assert_eq!((recipe.venue.as_str(), recipe.depth), ("kraken", Depth::Spread));
        assert_eq!((recipe.bounds.min.to_string(), recipe.bounds.max.to_string()), ("1".into(), "2".into()));
        assert_eq!(recipe.bounds.max_age_ns, 60_000_000_000);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_key_and_what_to_write() {
        for (text, key, part) in [
            ("max_age = '0s'", "max_age", "at most 1d"),
            ("max_age = '25h'", "max_age", "at most 1d"),
            ("min = 'one'", "min", "\"1.05\""),
            ("min = '0'", "min", "\"1.05\""),
            ("max = '-1'", "max", "\"1.05\""),
            ("max = '1.0000000001'", "max", "\"1.05\""),
            ("min = '1.3'\nmax = '1.1'", "min", "above `max`, which is 1.1"),
        ] {
            let (found, error) = toml::from_str::<Synthetic>(text).unwrap().recipe().unwrap_err();
            assert_eq!(found, key, "{text}: {error}");
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
