//! `--symbols`, `--symbols-file`, `--symbols-from-db`: what to subscribe, in place of what the config says.

use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::exit::End;
use crate::config::{KindTable, Loaded};
use crate::sources::listed::{self, Entry};

/// Kinds of sources with the key that lists what they subscribe.
const KEYS: [(&str, &str); 5] = [
    ("binance", "symbols"),
    ("betfair", "markets"),
    ("kite", "instruments"),
    ("kraken", "pairs"),
    ("oanda", "instruments"),
];
/// The key of a query that names symbols, in a table of kind `kite`.
const QUERY: &str = "symbols_from_db";

/// What to subscribe.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(super) struct Symbols {
    /// Subscribe these in place of the config's, for its one source of a venue (or the one that is named)
    #[arg(long, value_name = "SYMBOL", num_args = 1.., value_delimiter = ',')]
    symbols: Vec<String>,
    /// The same from a file: text (one a line), .csv, .json or .yaml
    #[arg(long, value_name = "FILE")]
    symbols_file: Option<PathBuf>,
    /// Only those that the source's query `symbols_from_db` gives
    #[arg(long)]
    symbols_from_db: bool,
}

impl Symbols {
    /// The global options with these symbols in the place of the config's. `only` narrows down which source is meant.
    ///
    /// # Errors
    /// It is not clear which source is meant, there are no symbols, or the source has no query.
    pub(super) fn put_into(&self, global: &Global, only: &[String]) -> anyhow::Result<Global> {
        let mut global = global.clone();
        if self.symbols.is_empty() && self.symbols_file.is_none() && !self.symbols_from_db {
            return Ok(global);
        }
        let loaded = global.load()?;
        let (source, key) = target(&loaded, only)?;
        if self.symbols_from_db && !source.table.contains_key(QUERY) {
            let help = match source.kind.as_str() {
                "kite" => ": give it one, such as \"SELECT symbol FROM watchlist\"",
                _ => ", which only sources of kind `kite` have",
            };
            return Err(End::Usage(format!("[source.{}] has no {QUERY}{help}", source.name)).into());
        }
        let names: Vec<String> = match &self.symbols_file {
            Some(path) => listed::file(path)?.into_iter().map(written).collect(),
            None => self.symbols.clone(),
        };
        let table = format!("source.{}", source.name);
        let list: toml::Value = names.into_iter().map(toml::Value::String).collect::<Vec<_>>().into();
        global.set.push(format!("{table}.{key}={list}"));
        // An empty text is how a table says "none", also where the environment names one.
        let query = (!self.symbols_from_db).then_some(QUERY);
        for other in ["instruments_file"].into_iter().chain(query).filter(|other| source.table.contains_key(*other)) {
            global.set.push(format!("{table}.{other}=\"\""));
        }
        Ok(global)
    }
}

fn written(entry: Entry) -> String {
    match entry.exchange {
        Some(exchange) if !entry.name.contains(':') => format!("{exchange}:{}", entry.name),
        _ => entry.name,
    }
}

/// The one source that is meant, with the key of its list.
fn target<'a>(loaded: &'a Loaded, only: &[String]) -> anyhow::Result<(&'a KindTable, &'static str)> {
    let wanted = |source: &&KindTable| only.is_empty() || only.iter().any(|name| *name == source.name);
    let known = loaded.config.sources.iter().filter(wanted).filter_map(|source| {
        let (_, key) = KEYS.iter().find(|(kind, _)| *kind == source.kind)?;
        Some((source, *key))
    });
    let known: Vec<_> = known.collect();
    match known.as_slice() {
        [one] => Ok(*one),
        [] => Err(End::Usage("no source of the config takes symbols".to_owned()).into()),
        several => {
            let names: Vec<&str> = several.iter().map(|(source, _)| source.name.as_str()).collect();
            let said = format!("symbols of which source? There are {}; name one", names.join(", "));
            Err(End::Usage(said).into())
        }
    }
}
