//! The venue's list of instruments: fetched once a day, kept as a file, and searched for what is wanted.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tapedeck_market::{Decimal, SmolStr, UnixNanos};
use tokio::sync::Mutex;

use super::rest::Rest;
use super::symbols::Instrument;
use super::text::IST_SECS;
use crate::config::suggest::nearest;

/// A hundred thousand instruments are about nine MiB.
pub(super) const LIST_BYTES: usize = 128 << 20;
/// Names that are looked for a resemblance, at most: each costs a search of the whole list.
const NEAREST: usize = 10;

/// An instrument of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub token: u32,
    /// `NSE:INFY`
    pub symbol: SmolStr,
    pub exchange: SmolStr,
    pub name: Option<SmolStr>,
    pub tick_size: Option<Decimal>,
    pub lot_size: Option<Decimal>,
    /// `EQ`, `FUT`, `CE` …
    pub kind: Option<SmolStr>,
    pub expiry: Option<SmolStr>,
}

#[derive(Deserialize)]
struct Row<'a> {
    instrument_token: u32,
    tradingsymbol: &'a str,
    #[serde(default)]
    name: &'a str,
    #[serde(default)]
    expiry: &'a str,
    #[serde(default)]
    tick_size: &'a str,
    #[serde(default)]
    lot_size: &'a str,
    #[serde(default)]
    instrument_type: &'a str,
    exchange: &'a str,
}

/// What the list says of the wanted instruments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// In the order in which they are wanted; `None` for a token that the list does not have.
    pub tokens: Vec<(u32, Option<Listed>)>,
    /// Names that the list does not have, with the nearest that it has.
    pub unknown: Vec<String>,
}

/// Finds the wanted instruments in the list's text. Rows that are none are stepped over.
///
/// # Errors
/// It has no such columns.
pub fn resolve(csv: &[u8], wanted: &[Instrument]) -> anyhow::Result<Resolved> {
    let mut found: HashMap<&Instrument, Listed> = HashMap::new();
    let names: HashMap<(&str, &str), &Instrument> = wanted
        .iter()
        .filter_map(|one| match one {
            Instrument::Name { exchange, symbol } => Some(((exchange.as_str(), symbol.as_str()), one)),
            Instrument::Token(_) => None,
        })
        .collect();
    let tokens: HashMap<u32, &Instrument> = wanted
        .iter()
        .filter_map(|one| match one {
            Instrument::Token(token) => Some((*token, one)),
            Instrument::Name { .. } => None,
        })
        .collect();
    each(csv, |row| {
        for one in [names.get(&(row.exchange, row.tradingsymbol)), tokens.get(&row.instrument_token)]
            .into_iter()
            .flatten()
            .copied()
        {
            found.entry(one).or_insert_with(|| listed(&row));
        }
    })?;
    let mut resolved = Resolved::default();
    let mut seen = HashSet::new();
    for one in wanted {
        let (token, listed) = match (one, found.get(one)) {
            (_, Some(listed)) => (listed.token, Some(listed.clone())),
            (Instrument::Token(token), None) => (*token, None),
            (Instrument::Name { exchange, symbol }, None) => {
                let near = (resolved.unknown.len() < NEAREST).then(|| near(csv, exchange, symbol)).flatten();
                resolved.unknown.push(match near {
                    Some(near) => format!("{one} (did you mean {exchange}:{near}?)"),
                    None => one.to_string(),
                });
                continue;
            }
        };
        if seen.insert(token) {
            resolved.tokens.push((token, listed));
        }
    }
    Ok(resolved)
}

fn each(csv: &[u8], mut row: impl FnMut(Row<'_>)) -> anyhow::Result<()> {
    let mut rows = csv::ReaderBuilder::new().flexible(true).from_reader(csv);
    let head = rows.byte_headers().context("reading the list of instruments")?.clone();
    let has = |name: &str| head.iter().any(|own| own == name.as_bytes());
    ensure!(
        has("instrument_token") && has("tradingsymbol") && has("exchange"),
        "the list of instruments has other columns than the venue's"
    );
    let mut record = csv::ByteRecord::new();
    while rows.read_byte_record(&mut record).context("reading the list of instruments")? {
        if let Ok(read) = record.deserialize(Some(&head)) {
            row(read);
        }
    }
    Ok(())
}

fn listed(row: &Row<'_>) -> Listed {
    let text = |text: &str| (!text.is_empty()).then(|| SmolStr::new(text));
    let number = |text: &str| text.parse::<Decimal>().ok().filter(|number| !number.is_zero());
    Listed {
        token: row.instrument_token,
        symbol: SmolStr::new(format!("{}:{}", row.exchange, row.tradingsymbol)),
        exchange: row.exchange.into(),
        name: text(row.name),
        tick_size: number(row.tick_size),
        lot_size: number(row.lot_size),
        kind: text(row.instrument_type),
        expiry: text(row.expiry),
    }
}

fn near(csv: &[u8], exchange: &str, symbol: &str) -> Option<String> {
    let mut names = Vec::new();
    let of_exchange = |row: Row<'_>| {
        if row.exchange == exchange {
            names.push(row.tradingsymbol.to_owned());
        }
    };
    each(csv, of_exchange).ok()?;
    nearest(symbol, names.iter().map(String::as_str)).map(str::to_owned)
}

/// The list as a file of its day in a folder; all connections of a table share it.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// What the files of this venue begin with: another host has another list.
    begins: String,
    turn: Mutex<()>,
}

impl Cache {
    #[must_use]
    pub fn new(dir: &Path, rest_url: &str) -> Cache {
        let host = rest_url.split_once("://").map_or(rest_url, |(_, host)| host);
        let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        Cache { folder: dir.join("kite"), begins: format!("instruments-{host}-"), turn: Mutex::new(()) }
    }

    /// The list of the day, from the file or from the venue; of an earlier day where the venue does not answer.
    ///
    /// # Errors
    /// There is none of any day.
    pub(super) async fn list(&self, rest: &Rest, now: UnixNanos) -> anyhow::Result<Vec<u8>> {
        // One of several connections fetches it, the others find the file.
        let _turn = self.turn.lock().await;
        let today = self.folder.join(format!("{}{}.csv", self.begins, day(now)));
        if let Ok(list) = read(&today) {
            return Ok(list);
        }
        match rest.instruments().await {
            Ok(list) => {
                resolve(&list, &[])?;
                if let Err(error) = self.keep(&today, &list) {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the list of instruments cannot be kept, and is fetched again next time");
                }
                Ok(list)
            }
            Err(error) => {
                let Some((path, list)) = self.newest().and_then(|path| Some((path.clone(), read(&path).ok()?))) else {
                    return Err(error);
                };
                let (error, path) = (format!("{error:#}"), path.display().to_string());
                tracing::warn!(error, path, "no list of instruments from the venue, taking that of an earlier day");
                Ok(list)
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&self.begins) && name.ends_with(".csv")
        });
        let mut files: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
        files.sort();
        files
    }

    fn newest(&self) -> Option<PathBuf> {
        self.files().pop()
    }

    /// Writes the list whole or not at all, and removes those of other days.
    fn keep(&self, path: &Path, list: &[u8]) -> anyhow::Result<()> {
        let failed = || format!("writing {}", path.display());
        std::fs::create_dir_all(&self.folder).with_context(failed)?;
        let new = path.with_extension("new");
        std::fs::write(&new, list).with_context(failed)?;
        std::fs::rename(&new, path).with_context(failed)?;
        for old in self.files().into_iter().filter(|old| old != path) {
            // One that stays is no harm.
            let _ = std::fs::remove_file(old);
        }
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut list = Vec::new();
    std::fs::File::open(path)?.take(LIST_BYTES as u64).read_to_end(&mut list)?;
    Ok(list)
}

/// The date in India.
fn day(now: UnixNanos) -> String {
    let here = jiff::Timestamp::from_second(now.0.div_euclid(1_000_000_000) + IST_SECS);
    here.map_or_else(|_| "unknown".to_owned(), |here| here.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
}
