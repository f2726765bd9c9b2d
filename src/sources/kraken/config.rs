//! `[source.NAME]` with `kind = "kraken"`.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use super::books::Policy;
use crate::config::Secret;
use crate::config::units::Interval;
use crate::sources::net::is_loopback;

const PUBLIC: &str = "wss://ws.kraken.com/v2";
const PRIVATE: &str = "wss://ws-auth.kraken.com/v2";
const REST: &str = "https://api.kraken.com";
/// What the venue offers; anything else is refused there, not rounded.
const DEPTHS: [u32; 5] = [10, 25, 100, 500, 1_000];
const OHLC_MINUTES: [u64; 9] = [1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600];
/// The venue answers faster polls from its cache, and counts them.
const SHORTEST_POLL: Duration = Duration::from_millis(250);

/// `[source.NAME]` with `kind = "kraken"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Pairs in any of Kraken's spellings (`BTC/USD`, `XBT/USD`, `XXBTZUSD`), or patterns with `*`; `["*"]` is every
    /// pair, followed as the venue lists and delists. No default.
    pub pairs: Vec<String>,
    /// What to record of each pair: `trade`, `ticker`, `book`, `ohlc`; `executions` are the own orders, with a key.
    /// Default: `["trade", "ticker", "book"]`, without `book` where `pairs` has a pattern.
    #[serde(default)]
    pub channels: Option<Vec<ChannelName>>,
    /// Levels a side of each book: 10, 25, 100, 500 or 1000. Default: 10.
    #[serde(default = "book_depth")]
    pub book_depth: u32,
    /// Lengths of the venue's own candles, e.g. `["1m", "1h"]`, for the channel `ohlc`. Default: `["1m"]`.
    #[serde(default = "ohlc_intervals")]
    pub ohlc_intervals: Vec<Interval>,
    /// Where tickers come from: `v2` (the socket) or `rest` (polled, with today and 24 h apart, whole lots and
    /// counts: all of the predecessors' twenty fields). Default: `v2`.
    #[serde(default)]
    pub ticker: TickerFrom,
    /// Fill the ledger's holes from the venue's past trades while the deck runs. Default: `false`.
    #[serde(default)]
    pub repair: bool,
    /// Wait between two requests for the past; the venue counts them. Default: `1s`.
    #[serde(default = "repair_pace")]
    pub repair_pace: Interval,
    /// Wait between two polls of `ticker = "rest"`. Default: `1s`.
    #[serde(default = "poll")]
    pub poll: Interval,
    /// What a book does that disagrees with the venue's checksum: `strict` (dropped, marked, subscribed again),
    /// `warn` or `off`. Default: `strict`.
    #[serde(default)]
    pub checksum: Policy,
    /// Keep each frame as it came, beside its events. Default: `false`.
    #[serde(default)]
    pub keep_raw: bool,
    /// Public WebSocket v2. Default: `wss://ws.kraken.com/v2`.
    #[serde(default = "public_url")]
    pub url: String,
    /// WebSocket v2 of own orders. Default: `wss://ws-auth.kraken.com/v2`, or `url` where that is not Kraken's.
    #[serde(default)]
    pub private_url: Option<String>,
    /// REST. Default: `https://api.kraken.com`, or the host of `url` where that is not Kraken's.
    #[serde(default)]
    pub rest_url: Option<String>,
    /// Key with the permission to query orders, for `executions`. Default: none; `KRAKEN_API_KEY` fills it.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// Its private key, in base64. Default: none; `KRAKEN_API_SECRET` fills it.
    #[serde(default)]
    pub api_secret: Option<Secret>,
}

/// A channel as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    /// Always subscribed, as are `status` and `heartbeat`; may be named.
    Instrument,
    Trade,
    Ticker,
    Book,
    Ohlc,
    Executions,
}

/// Where tickers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TickerFrom {
    #[default]
    V2,
    Rest,
}

fn book_depth() -> u32 {
    DEPTHS[0]
}

fn ohlc_intervals() -> Vec<Interval> {
    vec![Interval(Duration::from_secs(60))]
}

fn repair_pace() -> Interval {
    Interval(Duration::from_secs(1))
}

fn poll() -> Interval {
    Interval(Duration::from_secs(1))
}

fn public_url() -> String {
    PUBLIC.to_owned()
}

impl Config {
    /// Reads the table and checks what a type cannot say.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        ensure!(!config.pairs.is_empty(), "pairs is empty: name at least one, or `[\"*\"]` for all");
        for pair in &config.pairs {
            ensure!(!pair.trim().is_empty() && !pair.contains(char::is_control), "pairs: `{pair}` is no pair");
        }
        ensure!(
            DEPTHS.contains(&config.book_depth),
            "book_depth = {} is not offered by the venue: 10, 25, 100, 500 or 1000",
            config.book_depth
        );
        ensure!(!config.channels().is_empty(), "channels is empty");
        for interval in &config.ohlc_intervals {
            minutes(*interval)?;
        }
        ensure!(config.poll.0 >= SHORTEST_POLL, "poll is shorter than {} ms", SHORTEST_POLL.as_millis());
        for (key, url) in [("url", Some(&config.url)), ("private_url", config.private_url.as_ref())] {
            let known = url.is_none_or(|url| url.starts_with("wss://") || url.starts_with("ws://"));
            ensure!(known, "{key} must begin with wss:// or ws://");
        }
        if let Some(url) = &config.rest_url {
            ensure!(url.starts_with("https://") || url.starts_with("http://"), "rest_url must begin with https://");
        }
        if config.api_key.is_some() || config.api_secret.is_some() {
            for (key, scheme, url) in
                [("private_url", "wss", config.private_url()), ("rest_url", "https", &config.rest_url())]
            {
                ensure!(
                    url.starts_with(&format!("{scheme}://")) || is_loopback(url),
                    "{key}: with an API key it must begin with {scheme}://, except for this machine itself"
                );
            }
        }
        Ok(config)
    }

    /// The channels that are recorded.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelName> {
        use ChannelName::{Book, Ticker, Trade};
        match &self.channels {
            Some(channels) => channels.clone(),
            None if self.pairs.iter().any(|pair| pair.contains('*')) => vec![Trade, Ticker],
            None => vec![Trade, Ticker, Book],
        }
    }

    #[must_use]
    pub fn records(&self, channel: ChannelName) -> bool {
        self.channels().contains(&channel)
    }

    /// Whether tickers have a session of their own.
    #[must_use]
    pub(super) fn polls_tickers(&self) -> bool {
        self.ticker == TickerFrom::Rest && self.records(ChannelName::Ticker)
    }

    /// Candle lengths in minutes, as the venue counts them.
    #[must_use]
    pub fn ohlc_minutes(&self) -> Vec<u32> {
        self.ohlc_intervals.iter().filter_map(|interval| minutes(*interval).ok()).collect()
    }

    #[must_use]
    pub fn private_url(&self) -> &str {
        match &self.private_url {
            Some(url) => url,
            None if self.url == PUBLIC => PRIVATE,
            None => &self.url,
        }
    }

    /// Base of REST addresses, without a slash at the end.
    #[must_use]
    pub fn rest_url(&self) -> String {
        match &self.rest_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if self.url == PUBLIC => REST.to_owned(),
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

fn minutes(interval: Interval) -> anyhow::Result<u32> {
    let seconds = interval.0.as_secs();
    if interval.0.subsec_nanos() != 0 || !seconds.is_multiple_of(60) || !OHLC_MINUTES.contains(&(seconds / 60)) {
        bail!("ohlc_intervals: {interval} is not offered by the venue: 1m, 5m, 15m, 30m, 1h, 4h, 1d, 7d or 15d");
    }
    u32::try_from(seconds / 60).context("ohlc_intervals")
}

/// Whether a pattern, in which `*` stands for any text, covers a symbol.
#[must_use]
pub(super) fn covers(pattern: &str, symbol: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == symbol;
    };
    let Some(rest) = symbol.strip_prefix(head) else {
        return false;
    };
    // Each `*` takes as little as it can; the last one takes the rest.
    (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| covers(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::from_table(text.parse().expect("toml"))
    }

    #[test]
    fn books_of_all_pairs_are_recorded_only_when_asked_for() {
        use ChannelName::{Book, Ticker, Trade};
        assert_eq!(read("pairs = ['BTC/USD']").expect("valid").channels(), [Trade, Ticker, Book]);
        assert_eq!(read("pairs = ['*']").expect("valid").channels(), [Trade, Ticker]);
        assert_eq!(read("pairs = ['*']\nchannels = ['book']").expect("valid").channels(), [Book]);
    }

    #[test]
    fn another_host_is_never_mixed_with_the_real_one() {
        let config = read("pairs = ['A/B']\nurl = 'ws://127.0.0.1:7000/v2'").expect("valid");
        assert_eq!(
            (config.private_url(), config.rest_url().as_str()),
            ("ws://127.0.0.1:7000/v2", "http://127.0.0.1:7000")
        );
        let config = read("pairs = ['A/B']").expect("valid");
        assert_eq!((config.private_url(), config.rest_url().as_str()), (PRIVATE, REST));
    }

    #[test]
    fn what_the_venue_does_not_offer_is_refused_by_name() {
        for (text, says) in [
            ("pairs = []", "pairs is empty"),
            ("pairs = ['A/B']\nbook_depth = 50", "book_depth = 50"),
            ("pairs = ['A/B']\nohlc_intervals = ['2m']", "2m"),
            ("pairs = ['A/B']\nurl = 'http://x'", "url must begin"),
            ("pairs = ['A/B']\npair = 'x'", "unknown field `pair`"),
            ("pairs = ['A/B']\npoll = '1ms'", "poll is shorter"),
        ] {
            let error = format!("{:#}", read(text).expect_err(text));
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_goes_over_the_wire_encrypted_or_not_at_all() {
        let with_key = |text: &str| read(&format!("pairs = ['A/B']\napi_key = 'k'\napi_secret = 's'\n{text}"));
        for text in [
            "",
            "url = 'ws://127.0.0.1:7000/v2'",
            "url = 'ws://[::1]:7000/v2'",
            "url = 'ws://localhost:7000/v2'",
            "url = 'wss://proxy.example/v2'",
        ] {
            assert!(with_key(text).is_ok(), "{text}: {:?}", with_key(text).err());
        }
        for (text, says) in [
            ("rest_url = 'http://api.kraken.com'", "rest_url: with an API key"),
            ("url = 'ws://proxy.example/v2'", "private_url: with an API key"),
            ("private_url = 'ws://127.0.0.1.evil.example/v2'", "private_url: with an API key"),
            ("private_url = 'ws://localhost@evil.example/v2'", "private_url: with an API key"),
        ] {
            let error = format!("{:#}", with_key(text).expect_err(text));
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(read("pairs = ['A/B']\nurl = 'ws://proxy.example/v2'").is_ok(), "without a key nothing is given away");
    }

    #[test]
    fn patterns_cover_what_they_say() {
        for (pattern, symbol, covered) in [
            ("*", "BTC/USD", true),
            ("*/USD", "BTC/USD", true),
            ("*/USD", "BTC/USDT", false),
            ("BTC/*", "BTC/USDT", true),
            ("B*C/*D", "BTC/USD", true),
            ("BTC/USD", "BTC/USD", true),
            ("BTC/USD", "BTC/USDT", false),
        ] {
            assert_eq!(covers(pattern, symbol), covered, "{pattern} {symbol}");
        }
    }
}
