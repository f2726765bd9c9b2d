//! Which instruments are wanted: from the config, or from a file of any of the usual kinds.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tapedeck_market::SmolStr;

use super::config::Named;

/// A list of symbols is no larger than this.
const FILE_BYTES: u64 = 4 << 20;
/// Columns of a CSV, and keys of a JSON object, that may name an instrument; the first that is there counts.
const COLUMNS: [&str; 6] = ["tradingsymbol", "trading_symbol", "symbol", "ticker", "name", "instrument_token"];

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

/// What a file names: text with a name or token a line (`#` begins a comment), CSV with a head, or JSON.
///
/// # Errors
/// It cannot be read, or a name is none.
pub fn file(path: &Path, exchange: &str) -> anyhow::Result<Vec<Instrument>> {
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        let read = file.take(FILE_BYTES + 1).read_to_string(&mut text)? as u64;
        ensure!(read <= FILE_BYTES, "it is larger than {} MiB", FILE_BYTES >> 20);
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let found = match ending.as_str() {
            "csv" => csv(&text, exchange)?,
            "json" => json(&text, exchange)?,
            "yaml" | "yml" => bail!("YAML is not read: write it as .txt, .csv or .json"),
            _ => lines(&text, exchange)?,
        };
        ensure!(!found.is_empty(), "it names no instrument");
        Ok(found)
    };
    read().with_context(|| format!("reading the instruments of {}", path.display()))
}

fn lines(text: &str, exchange: &str) -> anyhow::Result<Vec<Instrument>> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or("").trim()));
    let named = lines.filter(|(_, line)| !line.is_empty());
    named.map(|(at, line)| instrument(line, exchange).with_context(|| format!("line {at}"))).collect()
}

fn csv(text: &str, exchange: &str) -> anyhow::Result<Vec<Instrument>> {
    let mut rows = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let head = rows.headers().context("reading its head")?.clone();
    let column = |name: &str| head.iter().position(|own| own.eq_ignore_ascii_case(name));
    let Some(at) = COLUMNS.iter().find_map(|name| column(name)) else {
        bail!("its first line names no column {}", COLUMNS.join(", "));
    };
    let exchange_at = column("exchange");
    let mut found = Vec::new();
    for row in rows.records() {
        let row = row.context("reading a row")?;
        let Some(name) = row.get(at).filter(|name| !name.is_empty()) else { continue };
        let own = exchange_at.and_then(|at| row.get(at)).filter(|own| !own.is_empty());
        found.push(instrument(name, own.unwrap_or(exchange))?);
    }
    Ok(found)
}

/// A list of names, tokens or objects; or an object whose values, or one of whose values, is such a list.
fn json(text: &str, exchange: &str) -> anyhow::Result<Vec<Instrument>> {
    let value: Value = serde_json::from_str(text)?;
    let mut found = Vec::new();
    let lists: Vec<&Vec<Value>> = match &value {
        Value::Array(list) => vec![list],
        Value::Object(object) => object.values().filter_map(Value::as_array).collect(),
        _ => Vec::new(),
    };
    ensure!(!lists.is_empty(), "it holds no list");
    for item in lists.into_iter().flatten() {
        let (name, own) = match item {
            Value::Object(object) => {
                let name = COLUMNS.iter().find_map(|key| object.get(*key));
                (name, object.get("exchange").and_then(Value::as_str))
            }
            plain => (Some(plain), None),
        };
        let name = match name {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => bail!("`{item}` names no instrument"),
        };
        found.push(instrument(&name, own.unwrap_or(exchange))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> anyhow::Result<Vec<String>> {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("written");
        Ok(file(&path, "NSE")?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_of_each_kind_gives_the_same_names() {
        let want = ["NSE:INFY", "BSE:TCS", "408065"];
        for (name, text) in [
            ("a.txt", "# ours\ninfy\n\nBSE:TCS # and that\n408065\n"),
            ("a.csv", "tradingsymbol,exchange\nINFY,\nTCS,BSE\n408065,NSE\n"),
            ("a.csv", "note,symbol\n\"a, b\",INFY\nx,BSE:TCS\n\n,408065\n"),
            ("a.json", r#"["INFY", "BSE:TCS", 408065]"#),
            ("a.json", r#"{"symbols": [{"symbol": "INFY"}, {"tradingsymbol": "TCS", "exchange": "BSE"}, "408065"]}"#),
        ] {
            assert_eq!(read(name, text).expect(text), want, "{name}: {text}");
        }
    }

    #[test]
    fn what_names_nothing_says_so() {
        for (name, text, says) in [
            ("a.txt", "# nothing\n", "names no instrument"),
            ("a.txt", "NSE:\n", "line 1"),
            ("a.csv", "a,b\n1,2\n", "no column tradingsymbol"),
            ("a.json", "7", "no list"),
            ("a.json", "[{}]", "names no instrument"),
            ("a.yaml", "- INFY", "YAML is not read"),
        ] {
            let error = format!("{:#}", read(name, text).expect_err(text));
            assert!(error.contains(says) && error.contains(name), "{error}");
        }
    }
}
