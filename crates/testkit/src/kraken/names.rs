//! The venue's older names for a pair of the v2 spelling.

/// Names of `BTC/USD`: key `XXBTZUSD`, altname `XBTUSD`, wsname `XBT/USD`, base `XXBT`, quote `ZUSD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldNames {
    pub(crate) key: String,
    pub(crate) altname: String,
    pub(crate) wsname: String,
    pub(crate) base: String,
    pub(crate) quote: String,
}

/// Coins listed before the venue stopped to put an X before them.
const OLD_COINS: [&str; 11] = ["XBT", "ETH", "LTC", "XRP", "XDG", "XLM", "XMR", "ZEC", "ETC", "REP", "MLN"];
/// Currencies that carry a Z.
const OLD_MONEY: [&str; 6] = ["USD", "EUR", "GBP", "JPY", "CAD", "AUD"];

pub(crate) fn old_names(symbol: &str) -> OldNames {
    let (base, quote) = symbol.split_once('/').unwrap_or((symbol, ""));
    let (base, quote) = (short(base), short(quote));
    let (old_base, old_quote) = (long(base), long(quote));
    // The key is long only where the coin itself is old, and its quote too.
    let is_old = OLD_COINS.contains(&base) && base != "XDG" && old_quote != quote;
    let key = if is_old { format!("{old_base}{old_quote}") } else { format!("{base}{quote}") };
    OldNames {
        key,
        altname: format!("{base}{quote}"),
        wsname: format!("{base}/{quote}"),
        base: old_base,
        quote: old_quote,
    }
}

pub(crate) fn short(asset: &str) -> &str {
    match asset {
        "BTC" => "XBT",
        "DOGE" => "XDG",
        other => other,
    }
}

pub(crate) fn long(asset: &str) -> String {
    match asset {
        coin if OLD_COINS.contains(&coin) => format!("X{coin}"),
        money if OLD_MONEY.contains(&money) => format!("Z{money}"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_are_those_of_the_venue() {
        for (symbol, key, altname, wsname, base, quote) in [
            ("BTC/USD", "XXBTZUSD", "XBTUSD", "XBT/USD", "XXBT", "ZUSD"),
            ("ETH/BTC", "XETHXXBT", "ETHXBT", "ETH/XBT", "XETH", "XXBT"),
            ("DOGE/USD", "XDGUSD", "XDGUSD", "XDG/USD", "XXDG", "ZUSD"),
            ("BTC/USDT", "XBTUSDT", "XBTUSDT", "XBT/USDT", "XXBT", "USDT"),
            ("SOL/EUR", "SOLEUR", "SOLEUR", "SOL/EUR", "SOL", "ZEUR"),
        ] {
            let names = old_names(symbol);
            let got = (&*names.key, &*names.altname, &*names.wsname, &*names.base, &*names.quote);
            assert_eq!(got, (key, altname, wsname, base, quote), "{symbol}");
        }
    }
}
