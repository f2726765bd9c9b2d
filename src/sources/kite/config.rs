//! `[source.NAME]` with `kind = "kite"`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;

use super::frame::Wanted;
use super::hours::Hours;
use super::segment::Divisors;
use super::symbols::{self, Instrument};
use crate::config::Secret;
use crate::sources::net::is_loopback;

const URL: &str = "wss://ws.kite.trade";
const REST: &str = "https://api.kite.trade";
/// Instruments that the venue sends over one connection.
pub(super) const A_CONNECTION: usize = 3_000;
/// Connections that it allows an application.
pub(super) const CONNECTIONS: usize = 3;

/// `[source.NAME]` with `kind = "kite"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names as `NSE:INFY` (or `INFY`, see `exchange`), or instrument tokens. At most 9,000, together with those of the
    /// file. Default: none.
    #[serde(default)]
    pub instruments: Vec<Named>,
    /// File with further names or tokens: text (one a line), `.csv` (the column `tradingsymbol`, `symbol`, `name` or
    /// `instrument_token`, and `exchange`), `.json` or `.yaml`. Default: none; `INSTRUMENTS_FILE` fills it.
    #[serde(default)]
    pub instruments_file: Option<PathBuf>,
    /// Query whose first column names further ones, as text, e.g. `"SELECT symbol FROM watchlist"`: asked before each
    /// connection; while the database is away, what it said last counts. Default: none.
    #[serde(default)]
    pub symbols_from_db: Option<String>,
    /// The PostgreSQL that is asked. Default: that of the first sink of kind `postgres`.
    #[serde(default)]
    pub symbols_dsn: Option<Secret>,
    /// The exchange of names that are written without one. Default: `NSE`.
    #[serde(default = "exchange")]
    pub exchange: String,
    /// What is asked for: `full` (with five levels of the book, open interest and the exchange's time), `quote` or
    /// `ltp` (the last price alone). Default: `full`.
    #[serde(default)]
    pub mode: Mode,
    /// Another mode for some instruments, e.g. `{ "NSE:NIFTY 50" = "ltp" }`. Default: none.
    #[serde(default)]
    pub modes: BTreeMap<String, Mode>,
    /// What to record: `ticker`, `quote` (best prices), `book` (five levels), `orders` (own orders).
    /// Default: all of them.
    #[serde(default = "channels")]
    pub channels: Vec<ChannelName>,
    /// Divisors of prices that differ from the venue's table, by segment (`nse`, `nfo`, `cds`, `bse`, `bfo`, `bcd`,
    /// `mcx`, `mcxsx`, `indices`, `nco`, or the number of another one), e.g. `{ nco = 100 }`. Default: none.
    #[serde(default)]
    pub divisors: BTreeMap<String, u32>,
    /// Sessions that differ from the usual ones, by exchange, e.g. `{ MCX = "09:00-23:55 Asia/Kolkata Mon-Fri" }`:
    /// outside of them silence is no stall. Default: none.
    #[serde(default)]
    pub sessions: BTreeMap<String, String>,
    /// Days without a session, e.g. `["2026-01-26"]`. Default: none.
    #[serde(default)]
    pub holidays: Vec<String>,
    /// Key of the application. Default: none; `KITE_API_KEY` fills it.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// Its secret, for `tapedeck login` alone. Default: none; `KITE_API_SECRET` fills it.
    #[serde(default)]
    pub api_secret: Option<Secret>,
    /// Access token of the day. A newer login by `tapedeck login` wins. Default: none; `KITE_ACCESS_TOKEN` fills it.
    #[serde(default)]
    pub access_token: Option<Secret>,
    /// Where `tapedeck login` keeps the access token. Default: `kite/NAME.login` in the tape's folder.
    #[serde(default)]
    pub login_file: Option<PathBuf>,
    /// Fill the ledger's holes with the venue's candles of a minute while the deck runs: it keeps no single ticks.
    /// Default: `false`.
    #[serde(default)]
    pub repair: bool,
    /// Keep each frame as it came, beside its events; the account in it as `***`. Default: `false`.
    #[serde(default)]
    pub keep_raw: bool,
    /// WebSocket. Default: `wss://ws.kite.trade`.
    #[serde(default = "url")]
    pub url: String,
    /// REST. Default: `https://api.kite.trade`, or the host of `url` where that is not Kite's.
    #[serde(default)]
    pub rest_url: Option<String>,
}

/// An instrument as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Named {
    Token(u32),
    Name(String),
}

/// What the venue sends of an instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Ltp,
    Quote,
    #[default]
    Full,
}

impl Mode {
    /// In the venue's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Ltp => "ltp",
            Mode::Quote => "quote",
            Mode::Full => "full",
        }
    }
}

/// A channel as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    Ticker,
    Quote,
    Book,
    Orders,
}

fn exchange() -> String {
    "NSE".to_owned()
}

fn channels() -> Vec<ChannelName> {
    vec![ChannelName::Ticker, ChannelName::Quote, ChannelName::Book, ChannelName::Orders]
}

fn url() -> String {
    URL.to_owned()
}

/// A table that was read and checked.
#[derive(Clone, Debug)]
pub struct Checked {
    pub config: Config,
    /// What the table and its file name, once each.
    pub instruments: Vec<Instrument>,
    modes: BTreeMap<Instrument, Mode>,
    pub divisors: Divisors,
    pub hours: Hours,
}

impl Checked {
    /// In which mode an instrument is asked for.
    #[must_use]
    pub fn mode(&self, instrument: &Instrument) -> Option<Mode> {
        self.modes.get(instrument).copied()
    }

    /// Connections that the table needs; what a database names may need all of them.
    #[must_use]
    pub(super) fn connections(&self) -> usize {
        match self.config.symbols_from_db {
            Some(_) => CONNECTIONS,
            None => self.instruments.len().div_ceil(A_CONNECTION),
        }
    }
}

impl Config {
    /// Reads the table, and the file that it names, and checks what a type cannot say.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Checked> {
        let mut config: Config = toml::Value::Table(table).try_into()?;
        config.symbols_from_db.take_if(|query| query.trim().is_empty());
        config.instruments_file.take_if(|path| path.as_os_str().is_empty());
        ensure!(!config.channels.is_empty(), "channels is empty");
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        ensure!(plain(&config.exchange), "exchange: `{}` is none such as NSE", config.exchange);
        for (key, secret) in
            [("api_key", &config.api_key), ("api_secret", &config.api_secret), ("access_token", &config.access_token)]
        {
            let whole = secret.as_ref().is_none_or(|secret| plain_secret(secret.expose()));
            ensure!(whole, "{key} holds what no key holds: copy it again");
        }
        for (key, url, schemes) in [
            ("url", Some(&config.url), ["wss://", "ws://"]),
            ("rest_url", config.rest_url.as_ref(), ["https://", "http://"]),
        ] {
            let Some(url) = url else { continue };
            ensure!(schemes.iter().any(|scheme| url.starts_with(scheme)), "{key} must begin with {}", schemes[0]);
            ensure!(!url.contains(['?', '#', '@']), "{key} is more than a host and a path");
            ensure!(
                url.starts_with(schemes[0]) || is_loopback(url),
                "{key}: a token goes to no other machine unless it begins with {}",
                schemes[0]
            );
        }
        let divisors = Divisors::with(&config.divisors)?;
        let hours = Hours::new(&config.sessions, &config.holidays)?;
        let mut instruments = symbols::configured(&config.instruments, &config.exchange)?;
        if let Some(path) = &config.instruments_file {
            instruments.extend(symbols::file(path, &config.exchange)?);
        }
        let from_db = config.symbols_from_db.is_some();
        ensure!(
            !from_db || config.symbols_dsn.is_some(),
            "symbols_from_db needs `symbols_dsn`, a sink of kind `postgres`, or PG_CONN_STR"
        );
        let instruments = once(instruments);
        ensure!(from_db || !instruments.is_empty(), "no instruments: name at least one, such as \"NSE:INFY\"");
        limited(&instruments)?;
        let mut modes = BTreeMap::new();
        for (name, mode) in &config.modes {
            let instrument = symbols::instrument(name, &config.exchange)?;
            ensure!(from_db || instruments.contains(&instrument), "modes: `{name}` is not among the instruments");
            modes.insert(instrument, *mode);
        }
        Ok(Checked { config, instruments, modes, divisors, hours })
    }

    #[must_use]
    pub fn records(&self, channel: ChannelName) -> bool {
        self.channels.contains(&channel)
    }

    /// What of a packet is wanted.
    #[must_use]
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            ticker: self.records(ChannelName::Ticker),
            quote: self.records(ChannelName::Quote),
            book: self.records(ChannelName::Book),
        }
    }

    /// Base of REST addresses, without a slash at the end.
    #[must_use]
    pub(crate) fn rest_url(&self) -> String {
        match &self.rest_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if self.url == URL => REST.to_owned(),
            // A fake venue or a proxy: never the real one by accident.
            None => {
                let http = self.url.replacen("ws", "http", 1);
                let host_at = http.find("://").map_or(0, |at| at + 3);
                let end = http[host_at..].find('/').map_or(http.len(), |at| host_at + at);
                http[..end].to_owned()
            }
        }
    }
}

/// Each one where it comes first.
pub(super) fn once(mut instruments: Vec<Instrument>) -> Vec<Instrument> {
    let mut seen = std::collections::HashSet::new();
    instruments.retain(|instrument| seen.insert(instrument.clone()));
    instruments
}

/// No more than the venue sends.
pub(super) fn limited(instruments: &[Instrument]) -> anyhow::Result<()> {
    ensure!(
        instruments.len() <= A_CONNECTION * CONNECTIONS,
        "{} instruments: the venue sends {A_CONNECTION} a connection over {CONNECTIONS} connections, {} in all",
        instruments.len(),
        A_CONNECTION * CONNECTIONS
    );
    Ok(())
}

/// What may stand in a header and in a URL as it is.
pub(super) fn plain_secret(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Checked> {
        Config::from_table(text.parse().expect("toml"))
    }

    #[test]
    fn another_host_is_never_mixed_with_the_real_one() {
        let rest = |text: &str| read(&format!("instruments = [408065]\n{text}")).expect(text).config.rest_url();
        assert_eq!(rest(""), REST);
        assert_eq!(rest("url = 'ws://127.0.0.1:7000/'"), "http://127.0.0.1:7000");
        assert_eq!(rest("rest_url = 'https://proxy.example/'"), "https://proxy.example");
    }

    #[test]
    fn a_wrong_table_is_refused_by_name_and_shows_no_secret() {
        for (text, says) in [
            ("instruments = []", "no instruments"),
            ("instruments = ['NSE:']", "`NSE:` is no instrument"),
            ("instruments = ['A']\nchannels = []", "channels is empty"),
            ("instruments = ['A']\nmode = 'half'", "unknown variant `half`"),
            ("instruments = ['A']\nmodes = { B = 'ltp' }", "modes: `B` is not among"),
            ("symbols_from_db = 'SELECT symbol FROM s'", "symbols_from_db needs `symbols_dsn`"),
            ("symbols_from_db = ' '\nsymbols_dsn = 'postgres://top@h/d'", "no instruments"),
            ("instruments = ['A']\ndivisors = { moon = 100 }", "`moon` is no segment"),
            ("instruments = ['A']\nholidays = ['soon']", "`soon` is no day"),
            ("instruments = ['A']\nsessions = { NSE = 'noon' }", "sessions: NSE"),
            ("instruments = ['A']\napi_key = 'top secret'", "api_key holds"),
            ("instruments = ['A']\naccess_token = 'top&secret'", "access_token holds"),
            ("instruments = ['A']\nurl = 'http://x'", "url must begin with wss://"),
            ("instruments = ['A']\nurl = 'ws://proxy.example'", "url: a token goes to no other machine"),
            ("instruments = ['A']\nrest_url = 'http://proxy.example'", "rest_url: a token goes to no other machine"),
            ("instrument = ['A']", "unknown field `instrument`"),
            ("instruments = ['A']\ninstruments_file = '/no/such/file.txt'", "/no/such/file.txt"),
        ] {
            let error = format!("{:#}", read(text).expect_err(text));
            assert!(error.contains(says) && !error.contains("top"), "{text}: {error}");
        }
    }

    #[test]
    fn more_instruments_than_the_venue_sends_are_an_error_before_the_start() {
        let table = |count: usize| {
            let tokens: Vec<String> = (1..=count).map(|number| (number * 256 + 1).to_string()).collect();
            format!("instruments = [{}]", tokens.join(","))
        };
        assert_eq!(read(&table(9_000)).expect("as many as there can be").instruments.len(), 9_000);
        let error = read(&table(9_001)).expect_err("one more").to_string();
        assert!(error.contains("9001 instruments") && error.contains("9000 in all"), "{error}");
        assert_eq!(
            read("instruments = ['INFY', 'NSE:INFY', 'infy', 408065, '408065']").expect("valid").instruments.len(),
            2
        );
    }
}
