//! Files that list what to subscribe: text, CSV, JSON or YAML, as people and other programs write them.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// A list of symbols is no larger than this.
const FILE_BYTES: u64 = 4 << 20;
/// Columns of a CSV, and keys of an object, that may name an instrument; the first that is there counts.
const COLUMNS: [&str; 6] = ["tradingsymbol", "trading_symbol", "symbol", "ticker", "name", "instrument_token"];

/// What one entry of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it is written: a name, a token, a pair.
    pub name: String,
    /// Where the entry says so beside the name.
    pub exchange: Option<String>,
}

impl Entry {
    fn plain(name: impl Into<String>) -> Entry {
        Entry { name: name.into(), exchange: None }
    }
}

/// Reads text with a name a line (`#` begins a comment), CSV with a head, JSON or YAML, told apart by the ending.
///
/// # Errors
/// It cannot be read, names nothing, or holds something else than names.
pub fn file(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        let read = file.take(FILE_BYTES + 1).read_to_string(&mut text)? as u64;
        ensure!(read <= FILE_BYTES, "it is larger than {} MiB", FILE_BYTES >> 20);
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let found = match ending.as_str() {
            "csv" => csv(&text)?,
            "json" => values(&serde_json::from_str(&text)?)?,
            "yaml" | "yml" => values(&serde_saphyr::from_str(&text)?)?,
            _ => lines(&text),
        };
        ensure!(!found.is_empty(), "it names no instrument");
        Ok(found)
    };
    read().with_context(|| format!("reading the instruments of {}", path.display()))
}

fn lines(text: &str) -> Vec<Entry> {
    let named = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    named.filter(|name| !name.is_empty()).map(Entry::plain).collect()
}

fn csv(text: &str) -> anyhow::Result<Vec<Entry>> {
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
        let exchange = exchange_at.and_then(|at| row.get(at)).filter(|own| !own.is_empty());
        found.push(Entry { name: name.to_owned(), exchange: exchange.map(str::to_owned) });
    }
    Ok(found)
}

/// A list of names, tokens or objects; or an object whose values, or one of whose values, is such a list.
fn values(value: &Value) -> anyhow::Result<Vec<Entry>> {
    let lists: Vec<&Vec<Value>> = match value {
        Value::Array(list) => vec![list],
        Value::Object(object) => object.values().filter_map(Value::as_array).collect(),
        _ => Vec::new(),
    };
    ensure!(!lists.is_empty(), "it holds no list");
    lists.into_iter().flatten().map(entry).collect()
}

fn entry(item: &Value) -> anyhow::Result<Entry> {
    let (name, exchange) = match item {
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
    Ok(Entry { name, exchange: exchange.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("written");
        Ok(file(&path)?.into_iter().map(|entry| (entry.name, entry.exchange)).collect())
    }

    #[test]
    fn a_file_of_each_kind_gives_the_same_names() {
        let want: Vec<_> = [("INFY", None), ("TCS", Some("BSE")), ("408065", None)]
            .map(|(name, exchange)| (name.to_owned(), exchange.map(str::to_owned)))
            .into();
        for (name, text) in [
            ("a.csv", "tradingsymbol,exchange\nINFY,\nTCS,BSE\n408065,\n"),
            ("a.csv", "note,symbol,exchange\n\"a, b\",INFY\nx,TCS,BSE\n\n,408065\n"),
            ("a.json", r#"["INFY", {"name": "TCS", "exchange": "BSE"}, 408065]"#),
            ("a.json", r#"{"symbols": [{"symbol": "INFY"}, {"tradingsymbol": "TCS", "exchange": "BSE"}, "408065"]}"#),
            ("a.yaml", "- INFY\n- {symbol: TCS, exchange: BSE} # a comment\n- 408065\n"),
            ("a.yml", "symbols:\n  - symbol: INFY\n  - tradingsymbol: TCS\n    exchange: BSE\n  - '408065'\n"),
        ] {
            assert_eq!(read(name, text).expect(text), want, "{name}: {text}");
        }
        let names: Vec<_> = read("a.txt", "# ours\ninfy\n\nBSE:TCS # and that\n408065\n").expect("text");
        assert_eq!(names.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["infy", "BSE:TCS", "408065"]);
    }

    #[test]
    fn what_names_nothing_says_so() {
        let nested = format!("a: {}", "[".repeat(10_000));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f]\n";
        for (name, text, says) in [
            ("a.txt", "# nothing\n", "names no instrument"),
            ("a.csv", "a,b\n1,2\n", "no column tradingsymbol"),
            ("a.json", "7", "no list"),
            ("a.json", "[{}]", "names no instrument"),
            ("a.yaml", "just: text\n", "no list"),
            ("a.yaml", "- [INFY]\n", "names no instrument"),
            ("a.yaml", nested.as_str(), "a.yaml"),
            ("a.yaml", bomb, "a.yaml"),
        ] {
            let error = format!("{:#}", read(name, text).expect_err(name));
            assert!(error.contains(says) && error.contains(name), "{error}");
        }
    }
}
