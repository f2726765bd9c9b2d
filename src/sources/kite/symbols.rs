//! Which instruments are wanted: from the config, from a file, or from a database.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, ensure};
use tapedeck_market::SmolStr;

use super::config::Named;
use crate::sources::listed;

/// An instrument as people name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Instrument {
    Token(u32),
    Name { exchange: SmolStr, symbol: SmolStr },
}

impl fmt::Display for Instrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instrument::Token(token) => write!(f, "{token}"),
            Instrument::Name { exchange, symbol } => write!(f, "{exchange}:{symbol}"),
        }
    }
}

/// Reads `NSE:INFY`, `INFY` (of `exchange`) or `408065`.
///
/// # Errors
/// It is none of these.
pub fn instrument(text: &str, exchange: &str) -> anyhow::Result<Instrument> {
    let text = text.trim();
    if let Ok(token) = text.parse() {
        return Ok(Instrument::Token(token));
    }
    let (exchange, symbol) = text.split_once(':').unwrap_or((exchange, text));
    let (exchange, symbol) = (exchange.trim().to_ascii_uppercase(), symbol.trim().to_ascii_uppercase());
    let whole = |text: &str| !text.is_empty() && text.len() <= 64 && !text.contains(char::is_control);
    ensure!(whole(&exchange) && whole(&symbol), "`{text}` is no instrument such as NSE:INFY or 408065");
    Ok(Instrument::Name { exchange: exchange.into(), symbol: symbol.into() })
}

/// What the config names.
///
/// # Errors
/// A name is none.
pub(super) fn configured(named: &[Named], exchange: &str) -> anyhow::Result<Vec<Instrument>> {
    let one = |named: &Named| match named {
        Named::Token(token) => Ok(Instrument::Token(*token)),
        Named::Name(name) => instrument(name, exchange).context("instruments"),
    };
    named.iter().map(one).collect()
}

/// What a file names.
///
/// # Errors
/// It cannot be read, or a name is none.
pub(super) fn file(path: &Path, exchange: &str) -> anyhow::Result<Vec<Instrument>> {
    let one = |entry: listed::Entry| instrument(&entry.name, entry.exchange.as_deref().unwrap_or(exchange));
    let read = || listed::file(path)?.into_iter().map(one).collect();
    let named: anyhow::Result<_> = read();
    named.with_context(|| format!("instruments of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_file_are_of_its_exchange_or_of_the_table_s() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("a.csv");
        std::fs::write(&path, "symbol,exchange\ninfy,\nTCS,BSE\n408065,\n").expect("written");
        let named = file(&path, "NSE").expect("names");
        assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), ["NSE:INFY", "BSE:TCS", "408065"]);
        std::fs::write(&path, "symbol\nNSE:\n").expect("written");
        let error = format!("{:#}", file(&path, "NSE").expect_err("no name"));
        assert!(error.contains("a.csv") && error.contains("`NSE:` is no instrument"), "{error}");
    }
}
