//! The predecessors' names: environment variables that old deployments already set.
//!
//! A name fills the missing key of the first table of its kind, and creates that table when there
//! is none. It never overrides the config file. A name whose table this version does not have yet is listed by `check`.

use std::net::IpAddr;

/// One name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldName {
    /// The environment variable.
    pub name: &'static str,
    pub table: Target,
    pub key: &'static str,
    pub form: Form,
    /// The value goes into no log and no listing.
    pub secret: bool,
}

/// The table that a name is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `[name]`
    Section(&'static str),
    /// `[section.part]`; a `[section]` is made where names lead to all that it needs.
    Part { section: &'static str, part: &'static str },
    /// The first `[stage.*]` table of that kind.
    Kind { stage: &'static str, kind: &'static str },
}

/// How the predecessors wrote a value, and so what must be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// A number, kept as one.
    Number,
    /// `true`, `yes`, `1`, `on` and their opposites.
    Flag,
    /// A bare number of seconds.
    Seconds,
    /// Bare minutes, several with commas: `5,15` becomes `["5m", "15m"]`.
    MinutesList,
    /// An address of this machine: `localhost` and `*` are understood, other names are not.
    Address,
    /// A file of SQLite, which the predecessor took for a QuestDB.
    SqliteFile,
    /// A port of QuestDB: that of its web server or of its line protocol means the one of PostgreSQL's protocol beside it.
    SqlPort,
    /// A host, to which the predecessor spoke with TLS unless told otherwise.
    Broker,
    /// Python's level words: `WARNING`, `CRITICAL`, `SUCCESS` …
    Level,
}

const fn text(name: &'static str, table: Target, key: &'static str) -> OldName {
    OldName { name, table, key, form: Form::Text, secret: false }
}

const fn secret(name: &'static str, table: Target, key: &'static str) -> OldName {
    OldName { name, table, key, form: Form::Text, secret: true }
}

const fn formed(name: &'static str, table: Target, key: &'static str, form: Form) -> OldName {
    OldName { name, table, key, form, secret: false }
}

const fn source(kind: &'static str) -> Target {
    Target::Kind { stage: "source", kind }
}

const fn sink(kind: &'static str) -> Target {
    Target::Kind { stage: "sink", kind }
}

const CANDLES: Target = Target::Section("candles");
const HEARTBEAT: Target = Target::Section("heartbeat");
const SYNC_SOURCE: Target = Target::Part { section: "sync", part: "source" };
const SYNC_TARGET: Target = Target::Part { section: "sync", part: "target" };
const GRAFANA: Target = Target::Section("grafana");
const LOG: Target = Target::Section("log");
const BUS: Target = Target::Section("bus");

/// Every name there is. Where two names mean one key the first that is set wins.
pub const OLD_NAMES: &[OldName] = &[
    formed("LOG_LEVEL", LOG, "level", Form::Level),
    text("LOG_DIR", LOG, "dir"),
    secret("KRAKEN_API_KEY", source("kraken"), "api_key"),
    secret("KRAKEN_API_SECRET", source("kraken"), "api_secret"),
    secret("OANDA_API_TOKEN", source("oanda"), "token"),
    secret("OANDA_ACCESS_TOKEN", source("oanda"), "token"),
    secret("OANDA_ACCOUNT_ID", source("oanda"), "account"),
    text("OANDA_ENVIRONMENT", source("oanda"), "environment"),
    secret("BINANCE_API_KEY", source("binance"), "api_key"),
    text("BETFAIR_USERNAME", source("betfair"), "username"),
    secret("BETFAIR_PASSWORD", source("betfair"), "password"),
    secret("BETFAIR_APP_KEY", source("betfair"), "app_key"),
    text("BETFAIR_CERT_FILE", source("betfair"), "cert_file"),
    text("BETFAIR_KEY_FILE", source("betfair"), "cert_key_file"),
    secret("KITE_API_KEY", source("kite"), "api_key"),
    secret("KITE_ACCESS_TOKEN", source("kite"), "access_token"),
    secret("KITE_API_SECRET", source("kite"), "api_secret"),
    text("INSTRUMENTS_FILE", source("kite"), "instruments_file"),
    secret("X_BEARER_TOKEN", source("x"), "bearer_token"),
    secret("TWITTER_BEARER_TOKEN", source("x"), "bearer_token"),
    formed("ZMQ_HOST", BUS, "listen", Form::Address),
    text("INFLUXDB_HOST", sink("influx"), "host"),
    text("INFLUX_HOST", sink("influx"), "host"),
    formed("INFLUXDB_PORT", sink("influx"), "port", Form::Number),
    text("INFLUXDB_USER", sink("influx"), "username"),
    secret("INFLUXDB_PASSWORD", sink("influx"), "password"),
    text("INFLUXDB_DB", sink("influx"), "database"),
    formed("INFLUXDB_BATCH_SIZE", sink("influx"), "batch", Form::Number),
    formed("INFLUXDB_TIMEOUT", sink("influx"), "timeout", Form::Seconds),
    formed("INFLUXDB_SSL", sink("influx"), "tls", Form::Flag),
    formed("INFLUXDB_VERIFY_SSL", sink("influx"), "verify_tls", Form::Flag),
    text("INFLUXDB_CONSISTENCY", sink("influx"), "consistency"),
    text("INFLUXDB_RETENTION", sink("influx"), "retention_policy"),
    secret("PG_CONN_STR", sink("postgres"), "dsn"),
    text("QUESTDB_HOST", sink("questdb"), "host"),
    formed("QUESTDB_PORT", sink("questdb"), "port", Form::Number),
    text("QUESTDB_USER", sink("questdb"), "username"),
    secret("QUESTDB_PASSWORD", sink("questdb"), "password"),
    formed("QUESTDB_PATH", SYNC_SOURCE, "url", Form::SqliteFile),
    text("QUESTDB_HOST", SYNC_SOURCE, "host"),
    formed("QUESTDB_PORT", SYNC_SOURCE, "port", Form::SqlPort),
    text("QUESTDB_USER", SYNC_SOURCE, "user"),
    secret("QUESTDB_PASSWORD", SYNC_SOURCE, "password"),
    formed("CANDLE_INTERVALS", CANDLES, "intervals", Form::MinutesList),
    text("CANDLE_TABLE_NAME", sink("postgres"), "candle_table"),
    formed("HEARTBEAT_INTERVAL", HEARTBEAT, "every", Form::Seconds),
    formed("MQTT_BROKER", HEARTBEAT, "broker", Form::Broker),
    formed("MQTT_PORT", HEARTBEAT, "port", Form::Number),
    text("MQTT_USERNAME", HEARTBEAT, "username"),
    secret("MQTT_PASSWORD", HEARTBEAT, "password"),
    formed("MQTT_USE_TLS", HEARTBEAT, "tls", Form::Flag),
    formed("MQTT_KEEPALIVE", HEARTBEAT, "keepalive", Form::Seconds),
    text("POCKETBASE_URL", SYNC_TARGET, "url"),
    text("ADMIN_EMAIL", SYNC_TARGET, "email"),
    secret("ADMIN_PASSWORD", SYNC_TARGET, "password"),
    text("POCKETBASE_ADMIN_EMAIL", SYNC_TARGET, "email"),
    secret("POCKETBASE_ADMIN_PASSWORD", SYNC_TARGET, "password"),
    text("GRAFANA_URL", GRAFANA, "url"),
    text("GRAFANA_USER", GRAFANA, "username"),
    secret("GRAFANA_PASSWORD", GRAFANA, "password"),
    secret("GRAFANA_API_KEY", GRAFANA, "token"),
];

impl Target {
    /// For people: `[log]`, `[sink.*] kind = "influx"`.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Target::Section(name) => format!("[{name}]"),
            Target::Part { section, part } => format!("[{section}.{part}]"),
            Target::Kind { stage, kind } => format!("[{stage}.*] kind = \"{kind}\""),
        }
    }
}

impl Form {
    /// The TOML value that the predecessors' text means.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn read(self, raw: &str) -> Result<toml::Value, &'static str> {
        let raw = raw.trim();
        match self {
            Form::Text => Ok(raw.into()),
            Form::Number => raw.parse::<i64>().map(Into::into).map_err(|_| "a whole number"),
            Form::SqlPort => match raw.parse::<u16>() {
                Ok(9000 | 9009) => Ok(8812.into()),
                Ok(port) => Ok(i64::from(port).into()),
                Err(_) => Err("a port"),
            },
            Form::Flag => match raw.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true.into()),
                "false" | "no" | "off" | "0" | "" => Ok(false.into()),
                _ => Err("true or false"),
            },
            // Written with its unit already: somebody moved on, and that is fine.
            Form::Seconds => with_unit(raw, "s").map(Into::into).ok_or("a number of seconds"),
            Form::MinutesList => raw
                .split(',')
                .map(|item| with_unit(item.trim(), "m").map(toml::Value::from))
                .collect::<Option<Vec<_>>>()
                .map(toml::Value::Array)
                .ok_or("minutes, several with commas: 5,15"),
            Form::Address => match raw {
                "localhost" => Ok("127.0.0.1".into()),
                "*" => Ok("0.0.0.0".into()),
                _ => raw.parse::<IpAddr>().map(|ip| ip.to_string().into()).map_err(|_| {
                    "an address of this machine: write 127.0.0.1, or none (to read the bus of another machine is `connect` of a source of kind zmq)"
                }),
            },
            Form::SqliteFile => Ok(format!("sqlite:{raw}").into()),
            Form::Broker if raw.contains("://") => Ok(raw.into()),
            Form::Broker => Ok(format!("mqtts://{raw}").into()),
            Form::Level => match raw.to_ascii_lowercase().as_str() {
                "notset" => Ok("trace".into()),
                "success" => Ok("info".into()),
                "warning" => Ok("warn".into()),
                "critical" | "fatal" => Ok("error".into()),
                level @ ("error" | "warn" | "info" | "debug" | "trace") => Ok(level.into()),
                _ => Err("DEBUG, INFO, WARNING or ERROR"),
            },
        }
    }
}

fn with_unit(raw: &str, unit: &str) -> Option<String> {
    let bare = !raw.is_empty() && raw.bytes().all(|b| b.is_ascii_digit());
    let text = if bare { format!("{raw}{unit}") } else { raw.to_owned() };
    super::units::parse_duration(&text).is_ok().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::Node;
    use crate::config::secret::looks_secret;
    use crate::config::tree::Tree;

    #[test]
    fn old_values_become_new_ones() {
        let cases = [
            (Form::MinutesList, "5,15", r#"["5m", "15m"]"#),
            (Form::MinutesList, " 5 ", r#"["5m"]"#),
            (Form::Seconds, "30", r#""30s""#),
            (Form::Seconds, "2m", r#""2m""#),
            (Form::Flag, "True", "true"),
            (Form::Flag, "0", "false"),
            (Form::Number, "8086", "8086"),
            (Form::SqlPort, "9000", "8812"),
            (Form::SqlPort, "8813", "8813"),
            (Form::Level, "WARNING", r#""warn""#),
            (Form::SqliteFile, "data/wig80.db", r#""sqlite:data/wig80.db""#),
            (Form::Broker, "x.hivemq.cloud", r#""mqtts://x.hivemq.cloud""#),
            (Form::Broker, "mqtt://lan", r#""mqtt://lan""#),
            (Form::Text, "host", r#""host""#),
            (Form::Address, "localhost", r#""127.0.0.1""#),
            (Form::Address, "*", r#""0.0.0.0""#),
            (Form::Address, "::1", r#""::1""#),
        ];
        for (form, raw, want) in cases {
            assert_eq!(form.read(raw).map(|value| value.to_string()), Ok(want.to_owned()), "{raw}");
        }
        for (form, raw) in [
            (Form::Number, "x"),
            (Form::Flag, "perhaps"),
            (Form::MinutesList, "5,"),
            (Form::Level, "loud"),
            (Form::Address, "publisher.lan"),
        ] {
            assert!(form.read(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn every_name_leads_to_a_key_of_a_kind_that_exists() {
        for row in OLD_NAMES {
            let node = match row.table {
                Target::Kind { stage, kind } => Node::kind(stage, kind),
                Target::Section(section) => Node::at(&Tree::default(), &[section]),
                Target::Part { section, part } => Node::at(&Tree::default(), &[section, part]),
            };
            assert!(node.and_then(|node| node.child(row.key)).is_some(), "{} leads nowhere: {}", row.name, row.key);
        }
    }

    #[test]
    fn no_name_stands_twice_and_secrets_are_marked() {
        for (n, row) in OLD_NAMES.iter().enumerate() {
            let same = |other: &&OldName| other.name == row.name && other.table == row.table;
            assert!(!OLD_NAMES[..n].iter().any(|other| same(&other)), "{} twice", row.name);
            assert!(row.secret || !looks_secret(row.name), "{} holds a secret", row.name);
        }
    }
}
