//! `[source.NAME]` with `kind = "betfair"`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::Secret;
use crate::config::units::Interval;
use crate::sources::net::is_loopback;

/// Markets of one subscription: the venue refuses more.
pub(super) const MARKETS: usize = 200;

/// `[source.NAME]` with `kind = "betfair"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Ids of markets, e.g. `1.241629436`; at most 200. Default: none.
    #[serde(default)]
    pub markets: Vec<String>,
    /// Ids of events: a match, a meeting. Default: any.
    #[serde(default)]
    pub events: Vec<String>,
    /// Ids of kinds of events: `1` is soccer, `2` tennis, `7` horse racing. Default: any.
    #[serde(default)]
    pub event_types: Vec<String>,
    /// Kinds of markets, e.g. `WIN`, `MATCH_ODDS`. Default: any.
    #[serde(default)]
    pub market_types: Vec<String>,
    /// Countries by two letters, e.g. `GB`. Default: any.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Places of horse races, e.g. `Kempton`. Default: any.
    #[serde(default)]
    pub venues: Vec<String>,
    /// `ODDS`, `ASIAN_HANDICAP_DOUBLE_LINE` … Default: any.
    #[serde(default)]
    pub betting_types: Vec<String>,
    /// Kinds of races, e.g. `Flat`, `Hurdle`. Default: any.
    #[serde(default)]
    pub race_types: Vec<String>,
    /// Only markets with a starting price, or only those without. Default: any.
    #[serde(default)]
    pub bsp: Option<bool>,
    /// Only markets that will be in play, or only those that will not. Default: any.
    #[serde(default)]
    pub in_play: Option<bool>,
    /// What to record: `odds` (runners of markets) and `orders` (own ones). Default: `["odds", "orders"]`.
    #[serde(default = "channels")]
    pub channels: Vec<ChannelName>,
    /// What the venue is asked to send of a market. Default: everything but `EX_BEST_OFFERS_DISP`.
    #[serde(default = "fields")]
    pub fields: Vec<Field>,
    /// Best levels a side, 1 to 10. Default: 10.
    #[serde(default = "ladder_levels")]
    pub ladder_levels: u8,
    /// How long the venue may gather changes, up to `120s`; `0s` is every change. Default: `0s`.
    #[serde(default)]
    pub conflate: Interval,
    /// How often the venue says that it is there, `500ms` to `5s`. Default: `5s`.
    #[serde(default = "heartbeat")]
    pub heartbeat: Interval,
    /// How often the login is renewed. The venue ends one after 20 minutes (Italy, Spain) to 24 hours. Default: `10m`.
    #[serde(default = "keep_alive")]
    pub keep_alive: Interval,
    /// Application key. Default: none; `BETFAIR_APP_KEY` fills it.
    #[serde(default)]
    pub app_key: Option<Secret>,
    /// Name of the account. Default: none; `BETFAIR_USERNAME` fills it.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password. Default: none; `BETFAIR_PASSWORD` fills it.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Certificate (PEM) that the account knows: logs in without a browser's ways. Default: none; `BETFAIR_CERT_FILE` fills it.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM). Default: none; `BETFAIR_KEY_FILE` fills it.
    #[serde(default)]
    pub cert_key_file: Option<PathBuf>,
    /// Keep each line as it came, beside its events. Default: `false`.
    #[serde(default)]
    pub keep_raw: bool,
    /// Where the stream is: `tls://HOST:PORT`, or `tcp://` on this machine. Default: `tls://stream-api.betfair.com:443`.
    #[serde(default = "url")]
    pub url: String,
    /// Another host in place of the venue's for logging in. Default: `https://identitysso.betfair.com`, with a certificate
    /// `https://identitysso-cert.betfair.com`.
    #[serde(default)]
    pub login_url: Option<String>,
    /// PEM file of the authorities to trust in place of the system's. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// A channel as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    Odds,
    Orders,
}

/// What the venue sends of a market, in its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Field {
    /// Best levels: `batb`, `batl`.
    ExBestOffers,
    /// The same with what other markets would match: `bdatb`, `bdatl`.
    ExBestOffersDisp,
    /// Whole ladders: `atb`, `atl`.
    ExAllOffers,
    /// What was traded at each price: `trd`.
    ExTraded,
    /// How much was traded: `tv`.
    ExTradedVol,
    /// Last price: `ltp`.
    ExLtp,
    /// Definitions.
    ExMarketDef,
    /// Ladders of the starting price: `spb`, `spl`.
    SpTraded,
    /// Where the starting price will be: `spn`, `spf`.
    SpProjected,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Field::ExBestOffers => "EX_BEST_OFFERS",
            Field::ExBestOffersDisp => "EX_BEST_OFFERS_DISP",
            Field::ExAllOffers => "EX_ALL_OFFERS",
            Field::ExTraded => "EX_TRADED",
            Field::ExTradedVol => "EX_TRADED_VOL",
            Field::ExLtp => "EX_LTP",
            Field::ExMarketDef => "EX_MARKET_DEF",
            Field::SpTraded => "SP_TRADED",
            Field::SpProjected => "SP_PROJECTED",
        }
    }
}

fn channels() -> Vec<ChannelName> {
    vec![ChannelName::Odds, ChannelName::Orders]
}

fn fields() -> Vec<Field> {
    vec![
        Field::ExBestOffers,
        Field::ExAllOffers,
        Field::ExTraded,
        Field::ExTradedVol,
        Field::ExLtp,
        Field::ExMarketDef,
        Field::SpTraded,
        Field::SpProjected,
    ]
}

fn ladder_levels() -> u8 {
    10
}

fn heartbeat() -> Interval {
    Interval(Duration::from_secs(5))
}

fn keep_alive() -> Interval {
    Interval(Duration::from_secs(600))
}

fn url() -> String {
    "tls://stream-api.betfair.com:443".to_owned()
}

/// Where the stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Config {
    /// Reads the table and checks what a type cannot say.
    ///
    /// # Errors
    /// Names the key, its value and what it may be.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        ensure!(!config.channels.is_empty(), "channels is empty");
        if config.records(ChannelName::Odds) {
            let any = !config.market_filter().is_empty();
            ensure!(
                any,
                "name `markets`, or what they have in common: `events`, `event_types`, `market_types`, `countries` …"
            );
            ensure!(!config.fields.is_empty(), "fields is empty");
        }
        for id in &config.markets {
            let known = id.split_once('.').is_some_and(|(exchange, number)| {
                !exchange.is_empty()
                    && !number.is_empty()
                    && (exchange.to_owned() + number).bytes().all(|b| b.is_ascii_digit())
            });
            ensure!(known, "markets: `{id}` is no id such as 1.241629436");
        }
        let many = config.markets.len();
        ensure!(
            many <= MARKETS,
            "markets: {many} of them, and the venue takes {MARKETS} a connection; make a second table"
        );
        ensure!((1..=10).contains(&config.ladder_levels), "ladder_levels = {} is not 1 to 10", config.ladder_levels);
        let conflate = config.conflate.0;
        ensure!(conflate <= Duration::from_secs(120), "conflate = \"{}\" is more than 120s", config.conflate);
        let heartbeat = config.heartbeat.0;
        let beats = (Duration::from_millis(500)..=Duration::from_secs(5)).contains(&heartbeat);
        ensure!(beats, "heartbeat = \"{}\" is not 500ms to 5s", config.heartbeat);
        ensure!(
            config.keep_alive.0 >= Duration::from_secs(1),
            "keep_alive = \"{}\" is less than 1s",
            config.keep_alive
        );
        let both = config.cert_file.is_some() == config.cert_key_file.is_some();
        ensure!(both, "cert_file and cert_key_file belong together");
        for (key, secret) in [("app_key", &config.app_key), ("password", &config.password)] {
            let plain = secret
                .as_ref()
                .is_none_or(|s| !s.expose().is_empty() && !s.expose().bytes().any(|b| b.is_ascii_control()));
            ensure!(plain, "{key} holds what none holds: copy it again");
        }
        config.address()?;
        if let Some(url) = &config.login_url {
            ensure!(url.starts_with("https://") || url.starts_with("http://"), "login_url must begin with https://");
            ensure!(
                url.starts_with("https://") || is_loopback(url),
                "login_url: a password goes to no other machine unless it begins with https://"
            );
        }
        Ok(config)
    }

    #[must_use]
    pub fn records(&self, channel: ChannelName) -> bool {
        self.channels.contains(&channel)
    }

    pub(super) fn address(&self) -> anyhow::Result<Address> {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        ensure!(scheme == "tls" || scheme == "tcp", "url must begin with tls://");
        let parts =
            rest.trim_end_matches('/').rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty()) else {
            anyhow::bail!("url = {:?} is no tls://HOST:PORT", self.url);
        };
        let here = is_loopback(&format!("http://{host}"));
        ensure!(scheme == "tls" || here, "url: a login goes to no other machine unless it begins with tls://");
        Ok(Address { tls: scheme == "tls", host: host.trim_matches(['[', ']']).to_owned(), port })
    }

    /// The venue's filter of markets.
    pub(super) fn market_filter(&self) -> Map<String, Value> {
        let lists = [
            ("marketIds", &self.markets),
            ("eventIds", &self.events),
            ("eventTypeIds", &self.event_types),
            ("marketTypes", &self.market_types),
            ("countryCodes", &self.countries),
            ("venues", &self.venues),
            ("bettingTypes", &self.betting_types),
            ("raceTypes", &self.race_types),
        ];
        let lists =
            lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key.to_owned(), json!(list)));
        let flags = [("bspMarket", self.bsp), ("turnInPlayEnabled", self.in_play)];
        let flags = flags.into_iter().filter_map(|(key, flag)| Some((key.to_owned(), json!(flag?))));
        lists.chain(flags).collect()
    }

    /// What is asked for: the same today and tomorrow, or the venue cannot go on where it was.
    pub(super) fn subscription(&self, channel: ChannelName) -> Map<String, Value> {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name()).collect();
        let asked = match channel {
            ChannelName::Odds => json!({
                "op": "marketSubscription",
                "marketFilter": self.market_filter(),
                "marketDataFilter": { "fields": names, "ladderLevels": self.ladder_levels },
            }),
            ChannelName::Orders => json!({
                "op": "orderSubscription",
                "orderFilter": { "includeOverallPosition": true },
            }),
        };
        let mut asked = match asked {
            Value::Object(asked) => asked,
            _ => Map::new(),
        };
        // Not named, the venue chooses.
        asked.insert("conflateMs".to_owned(), json!(self.conflate.0.as_millis() as u64));
        asked.insert("heartbeatMs".to_owned(), json!(self.heartbeat.0.as_millis() as u64));
        asked.insert("segmentationEnabled".to_owned(), json!(true));
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::from_table(text.parse().expect("toml"))
    }

    #[test]
    fn a_wrong_table_is_refused_by_name_and_shows_no_secret() {
        let many = format!("markets = [{}]", (0..201).map(|n| format!("'1.{n}'")).collect::<Vec<_>>().join(","));
        for (text, says) in [
            ("", "name `markets`, or what they have in common"),
            ("markets = ['EUR_USD']", "`EUR_USD` is no id"),
            (many.as_str(), "201 of them, and the venue takes 200"),
            ("markets = ['1.2']\nchannels = []", "channels is empty"),
            ("markets = ['1.2']\nladder_levels = 11", "not 1 to 10"),
            ("markets = ['1.2']\nheartbeat = '10s'", "not 500ms to 5s"),
            ("markets = ['1.2']\nconflate = '3m'", "more than 120s"),
            ("markets = ['1.2']\nurl = 'https://stream.example:443'", "url must begin with tls://"),
            ("markets = ['1.2']\nurl = 'tcp://stream.example:443'", "url: a login goes to no other machine"),
            ("markets = ['1.2']\nurl = 'tls://stream.example'", "is no tls://HOST:PORT"),
            (
                "markets = ['1.2']\nlogin_url = 'http://stream.example'",
                "login_url: a password goes to no other machine",
            ),
            ("markets = ['1.2']\npassword = \"top\\nsecret\"", "password holds"),
            ("markets = ['1.2']\ncert_file = 'x'", "belong together"),
            ("markets = ['1.2']\nfields = ['EX_MOON']", "unknown variant `EX_MOON`"),
            ("market = ['1.2']", "unknown field `market`"),
        ] {
            let error = format!("{:#}", read(text).expect_err(text));
            assert!(error.contains(says) && !error.contains("secret"), "{text}: {error}");
        }
        assert!(read("channels = ['orders']").is_ok(), "own orders are of every market");
    }

    #[test]
    fn what_is_asked_for_names_everything_that_the_venue_would_choose() {
        let config = read("markets = ['1.2']\nevent_types = ['7']\nbsp = true").expect("valid");
        let asked = serde_json::to_string(&config.subscription(ChannelName::Odds)).expect("JSON");
        for part in [
            r#""marketFilter":{"bspMarket":true,"eventTypeIds":["7"],"marketIds":["1.2"]}"#,
            r#""conflateMs":0"#,
            r#""heartbeatMs":5000"#,
            r#""segmentationEnabled":true"#,
            r#""ladderLevels":10"#,
            r#""EX_BEST_OFFERS""#,
        ] {
            assert!(asked.contains(part), "{asked}");
        }
        assert!(!asked.contains("DISP"), "{asked}");
        let address = |url: &str| read(&format!("markets = ['1.2']\nurl = '{url}'")).unwrap().address().unwrap();
        assert_eq!(address("tcp://[::1]:9"), Address { tls: false, host: "::1".into(), port: 9 });
        assert_eq!(address("tls://stream-api-integration.betfair.com:443").host, "stream-api-integration.betfair.com");
    }
}
