//! The four spellings of a Kraken pair.
//!
//! ```text
//! REST key   XXBTZUSD      what the predecessors published
//! altname    XBTUSD
//! wsname     XBT/USD       WebSocket v1
//! symbol     BTC/USD       WebSocket v2: ours
//! ```
//!
//! The venue's asset list ([`Names`]) knows all of them. Without it a rule says what can be said
//! ([`modern`]); the venue refuses what it says wrongly, so no pair is recorded under another's name.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use tapedeck_market::SmolStr;

/// Assets whose REST name has a letter in front, from the days when X meant crypto and Z money.
const PREFIXED: [&str; 21] = [
    "XXBT", "XETH", "XLTC", "XXRP", "XXLM", "XXMR", "XZEC", "XETC", "XREP", "XXDG", "XMLN", "XICN", "XDAO", "XNMC",
    "XXVN", "ZUSD", "ZEUR", "ZGBP", "ZCAD", "ZJPY", "ZAUD",
];

/// Assets that others are quoted in, longer names first where one ends in another.
const QUOTES: [&str; 29] = [
    "PYUSD", "RLUSD", "EUROP", "ZUSD", "ZEUR", "ZGBP", "ZCAD", "ZJPY", "ZAUD", "XXBT", "XETH", "USDT", "USDC", "USDQ",
    "USDR", "EURQ", "EURR", "USD", "EUR", "GBP", "CAD", "JPY", "AUD", "CHF", "XBT", "BTC", "ETH", "DAI", "DOT",
];

/// Splits an old name into base and term exactly as the predecessors did, for their tags:
/// `XXBTZUSD` → (`XBT`, `USD`). `None` for what is shorter than four characters or not ASCII.
#[must_use]
pub fn split_base_term(name: &str) -> Option<(&str, &str)> {
    let len = name.len();
    if len < 4 || !name.is_ascii() {
        return None;
    }
    let bytes = name.as_bytes();
    let term = &name[len - 3..];
    let eight_with = |fourth: u8| len == 8 && bytes[0] == b'X' && bytes[4] == fourth;
    let base = if eight_with(b'Z') {
        &name[1..4]
    } else if len == 6 {
        &name[..3]
    } else if eight_with(b'X') {
        &name[1..4]
    } else if bytes[0] != b'X' && len > 4 && bytes[len - 4] == b'Z' {
        &name[..4]
    } else if name.starts_with("DASH") {
        "DASH"
    } else {
        &name[..len - 3]
    };
    Some((base, term))
}

/// The v2 symbol of any spelling, by rule: `XXBTZUSD`, `XBTUSD` and `XBT/USD` → `BTC/USD`.
/// `None` where no rule finds the quote; a name with a slash always has one.
#[must_use]
pub fn modern(name: &str) -> Option<SmolStr> {
    let (base, quote) = match name.split_once('/') {
        Some(sides) => sides,
        None => QUOTES.iter().find_map(|quote| {
            let base = name.strip_suffix(quote)?;
            // `XETH` ends ICXETH too, which is ICX in ETH: old quotes go with old bases, and with one exception.
            let old = !PREFIXED.contains(quote) || PREFIXED.contains(&base) || base == "USDT";
            (old && base.len() >= 2).then_some((base, *quote))
        })?,
    };
    Some(SmolStr::from_iter([modern_asset(base).as_ref(), "/", modern_asset(quote).as_ref()]))
}

/// The REST key of a v2 symbol, by rule: `BTC/USD` → `XXBTZUSD`, `ADA/USD` → `ADAUSD`. What is no pair stays as it is.
#[must_use]
pub fn rest_key(symbol: &str) -> SmolStr {
    let Some((base, quote)) = symbol.split_once('/') else { return SmolStr::new(symbol) };
    let (base, quote) = (old_asset(base), old_asset(quote));
    let prefixed = |asset: &str| PREFIXED.into_iter().find(|old| old[1..] == *asset);
    match (base, quote) {
        ("USDT", "USD") => SmolStr::new_static("USDTZUSD"),
        _ if LATER.contains(&(base, quote)) => SmolStr::from_iter([base, quote]),
        _ => match (prefixed(base), prefixed(quote)) {
            (Some(base), Some(quote)) => SmolStr::from_iter([base, quote]),
            _ => SmolStr::from_iter([base, quote]),
        },
    }
}

/// Pairs of old assets that were listed after the prefixes were given up.
const LATER: [(&str, &str); 16] = [
    ("AUD", "JPY"),
    ("AUD", "USD"),
    ("ETH", "AUD"),
    ("EUR", "AUD"),
    ("EUR", "CAD"),
    ("EUR", "GBP"),
    ("EUR", "JPY"),
    ("LTC", "AUD"),
    ("LTC", "ETH"),
    ("LTC", "GBP"),
    ("XBT", "AUD"),
    ("XDG", "EUR"),
    ("XDG", "USD"),
    ("XRP", "AUD"),
    ("XRP", "ETH"),
    ("XRP", "GBP"),
];

/// `BTC` → `XBT`.
fn old_asset(name: &str) -> &str {
    match name {
        "BTC" => "XBT",
        "DOGE" => "XDG",
        other => other,
    }
}

/// The v2 name of an asset: `XXBT` and `XBT` → `BTC`.
fn modern_asset(name: &str) -> Cow<'_, str> {
    let plain = if PREFIXED.contains(&name) { &name[1..] } else { name };
    match plain {
        "XBT" => Cow::Borrowed("BTC"),
        "XDG" => Cow::Borrowed("DOGE"),
        other => Cow::Borrowed(other),
    }
}

/// The venue's asset list.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_any: HashMap<SmolStr, SmolStr>,
    aliases: HashMap<SmolStr, Vec<(SmolStr, SmolStr)>>,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow)]
    altname: Option<Cow<'a, str>>,
    #[serde(borrow)]
    wsname: Option<Cow<'a, str>>,
    #[serde(borrow)]
    base: Option<Cow<'a, str>>,
    #[serde(borrow)]
    quote: Option<Cow<'a, str>>,
}

impl Names {
    /// Reads the `result` of REST `AssetPairs`.
    ///
    /// # Errors
    /// It is no object of objects.
    pub fn from_asset_pairs(result: &str) -> serde_json::Result<Names> {
        let pairs: HashMap<Cow<'_, str>, Pair<'_>> = serde_json::from_str(result)?;
        let mut names = Names::default();
        for (rest, pair) in &pairs {
            let symbol = match (&pair.wsname, &pair.base, &pair.quote) {
                (Some(wsname), ..) => modern(wsname),
                (None, Some(base), Some(quote)) => modern(&format!("{base}/{quote}")),
                _ => modern(rest),
            };
            // A dark pool (`XXBTZUSD.d`) shares its book's asset names but is another market, without a feed.
            if let Some(symbol) = symbol.filter(|_| !rest.ends_with(".d")) {
                names.add(&symbol, rest, pair);
            }
        }
        Ok(names)
    }

    fn add(&mut self, symbol: &SmolStr, rest: &str, pair: &Pair<'_>) {
        let spellings =
            [("rest", Some(rest)), ("altname", pair.altname.as_deref()), ("wsname", pair.wsname.as_deref())];
        let aliases: Vec<_> = spellings
            .into_iter()
            .filter_map(|(scheme, text)| text.map(|text| (SmolStr::new_static(scheme), SmolStr::new(text))))
            .collect();
        for (_, text) in &aliases {
            self.by_any.insert(text.clone(), symbol.clone());
        }
        self.aliases.insert(symbol.clone(), aliases);
    }

    /// The v2 symbol of any spelling: by the list, else by the rule, else as it is.
    #[must_use]
    pub fn symbol(&self, name: &str) -> SmolStr {
        match self.by_any.get(name) {
            Some(symbol) => symbol.clone(),
            None => modern(name).unwrap_or_else(|| SmolStr::new(name)),
        }
    }

    /// Whether the list has this spelling.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.by_any.contains_key(name) || self.aliases.contains_key(name)
    }

    /// The other spellings of a v2 symbol, as (scheme, text).
    #[must_use]
    pub fn aliases(&self, symbol: &str) -> &[(SmolStr, SmolStr)] {
        self.aliases.get(symbol).map_or(&[], Vec::as_slice)
    }

    /// Every v2 symbol of the list, in no order.
    pub fn symbols(&self) -> impl Iterator<Item = &SmolStr> {
        self.aliases.keys()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.aliases.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_and_term_are_split_as_the_predecessors_did() {
        for (name, base, term) in [
            ("XXBTZUSD", "XBT", "USD"),
            ("XETHZEUR", "ETH", "EUR"),
            ("XETHXXBT", "ETH", "XBT"),
            ("XBTUSD", "XBT", "USD"),
            ("EURUSD", "EUR", "USD"),
            ("USDTZUSD", "USDT", "USD"),
            ("DASHUSD", "DASH", "USD"),
            ("DASHXBT", "DASH", "XBT"),
            ("AAVEEUR", "AAVE", "EUR"),
            ("XTZUSD", "XTZ", "USD"),
            ("ZEUR", "Z", "EUR"),
        ] {
            assert_eq!(split_base_term(name), Some((base, term)), "{name}");
        }
        for name in ["", "USD", "€€€€"] {
            assert_eq!(split_base_term(name), None, "{name}");
        }
    }

    #[test]
    fn an_old_name_finds_its_symbol_without_the_asset_list() {
        for (name, symbol) in [
            ("XXBTZUSD", "BTC/USD"),
            ("XBTUSD", "BTC/USD"),
            ("XBT/USD", "BTC/USD"),
            ("BTC/USD", "BTC/USD"),
            ("XETHXXBT", "ETH/BTC"),
            ("XDGUSD", "DOGE/USD"),
            ("XXDGXXBT", "DOGE/BTC"),
            ("XBTUSDT", "BTC/USDT"),
            ("USDTZUSD", "USDT/USD"),
            ("DASHEUR", "DASH/EUR"),
            ("XTZETH", "XTZ/ETH"),
            ("ZEURZUSD", "EUR/USD"),
            ("ICXETH", "ICX/ETH"),
        ] {
            assert_eq!(modern(name).as_deref(), Some(symbol), "{name}");
        }
        assert_eq!(modern("NOSUCH"), None);
    }

    #[test]
    fn a_symbol_has_its_old_name_without_the_asset_list() {
        for (symbol, name) in [
            ("BTC/USD", "XXBTZUSD"),
            ("ETH/BTC", "XETHXXBT"),
            ("ADA/USD", "ADAUSD"),
            ("ADA/BTC", "ADAXBT"),
            ("DOGE/BTC", "XXDGXXBT"),
            ("DOGE/USD", "XDGUSD"),
            ("USDT/USD", "USDTZUSD"),
            ("EUR/USD", "ZEURZUSD"),
            ("EUR/GBP", "EURGBP"),
            ("BTC/AUD", "XBTAUD"),
            ("AUD/USD", "AUDUSD"),
            ("XLM/AUD", "XXLMZAUD"),
            ("EUR_USD", "EUR_USD"),
        ] {
            assert_eq!(rest_key(symbol), name, "{symbol}");
        }
    }

    #[test]
    fn the_asset_list_knows_every_spelling_and_no_dark_pool() {
        let names = Names::from_asset_pairs(
            r#"{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT\/USD","base":"XXBT","quote":"ZUSD"},
                "XXBTZUSD.d":{"altname":"XBTUSD.d","base":"XXBT","quote":"ZUSD"},
                "LUNA2USD":{"altname":"LUNA2USD","wsname":"LUNA2\/USD","base":"LUNA2","quote":"ZUSD"}}"#,
        )
        .expect("an asset list");
        for name in ["XXBTZUSD", "XBTUSD", "XBT/USD", "BTC/USD"] {
            assert_eq!(names.symbol(name), "BTC/USD", "{name}");
        }
        assert_eq!(names.symbol("LUNA2USD"), "LUNA2/USD");
        assert!(!names.knows("XBTUSD.d"));
        assert_eq!(names.aliases("BTC/USD").len(), 3);
    }
}
