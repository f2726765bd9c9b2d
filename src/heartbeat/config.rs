//! `[heartbeat]`: which broker, and what it is told.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Secret;
use crate::config::units::Interval;

/// Where brokers listen, without and with TLS.
const PORT: u16 = 1_883;
const TLS_PORT: u16 = 8_883;
/// The protocol counts them in 16 bits.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(u16::MAX as u64);

/// `[heartbeat]`: signs of life over MQTT.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The broker: a host, or `mqtt://host:port`, or `mqtts://host:port` with TLS. Default: none, and nothing is sent.
    #[serde(default)]
    pub broker: Option<String>,
    /// Default: as `broker` says, else 8883 with TLS and 1883 without.
    #[serde(default)]
    pub port: Option<u16>,
    /// Whether to encrypt. Default: as `broker` says, else when the port is 8883.
    #[serde(default)]
    pub tls: Option<bool>,
    /// Certificates to trust in place of the machine's own, PEM. Default: the machine's own.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Default: none.
    #[serde(default)]
    pub username: Option<String>,
    /// Default: none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Version of MQTT: "3.1.1", which every broker speaks, or "5". Default: "3.1.1".
    #[serde(default)]
    pub protocol: Protocol,
    /// Name under which the broker knows this deck; two of one name cut each other off. Default: "tapedeck-" and the tape's id.
    #[serde(default)]
    pub client_id: Option<String>,
    /// What all topics begin with. Default: "tapedeck/" and the host's name.
    #[serde(default)]
    pub topic: Option<String>,
    /// How often. Default: "30s".
    #[serde(default = "every")]
    pub every: Interval,
    /// How often the broker hears from us at least; one and a half of it is when a frozen deck is called offline. Default: "15s".
    #[serde(default = "keepalive")]
    pub keepalive: Interval,
    /// The predecessor's topic, "heartbeat/data_feed", with its payload beside ours. Default: not sent.
    #[serde(default)]
    pub legacy_topic: Option<String>,
    /// What that payload says as `broker`. Default: "Kite (Zerodha)".
    #[serde(default = "legacy_broker")]
    pub legacy_broker: String,
    /// Tell Home Assistant which sensors there are. Default: false.
    #[serde(default)]
    pub discovery: bool,
    /// Where Home Assistant looks for that. Default: "homeassistant".
    #[serde(default = "discovery_prefix")]
    pub discovery_prefix: String,
}

fn every() -> Interval {
    Interval(Duration::from_secs(30))
}

fn keepalive() -> Interval {
    Interval(Duration::from_secs(15))
}

fn legacy_broker() -> String {
    "Kite (Zerodha)".to_owned()
}

fn discovery_prefix() -> String {
    "homeassistant".to_owned()
}

/// A version of MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Protocol {
    #[default]
    #[serde(rename = "3.1.1")]
    V4,
    #[serde(rename = "5")]
    V5,
}

impl Protocol {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::V4 => "3.1.1",
            Protocol::V5 => "5",
        }
    }
}

/// A broker, and how to speak with it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub ca_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub protocol: Protocol,
    pub keepalive: Duration,
    pub topic: String,
    client_id: Option<String>,
}

impl Config {
    /// Reads and checks the section.
    ///
    /// # Errors
    /// What is wrong, beginning with the key.
    pub fn from_table(table: toml::Table) -> anyhow::Result<Config> {
        let config: Config = toml::Value::Table(table).try_into()?;
        ensure!(config.every.0 >= Duration::from_secs(1), "every: must be 1s or longer");
        let keepalive = config.keepalive.0;
        ensure!(keepalive >= Duration::from_secs(1) && keepalive <= LONGEST_KEEPALIVE, "keepalive: must be 1s to 18h");
        if let Some(topic) = &config.legacy_topic {
            is_topic("legacy_topic", topic)?;
        }
        is_topic("discovery_prefix", &config.discovery_prefix)?;
        ensure!(
            config.password.is_none() || config.username.is_some() || config.protocol == Protocol::V5,
            "password: goes with a `username`"
        );
        config.target()?;
        Ok(config)
    }

    /// Whom to connect to; `None` without a broker.
    pub(super) fn target(&self) -> anyhow::Result<Option<Target>> {
        let Some(text) = &self.broker else { return Ok(None) };
        let (scheme, rest) = match text.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (Some(false), rest),
            Some(("mqtts" | "ssl" | "tls", rest)) => (Some(true), rest),
            Some((other, _)) => bail!("broker: `{other}` is not spoken: write mqtt://host or mqtts://host"),
            None => (None, text.as_str()),
        };
        let rest = rest.trim_end_matches('/');
        ensure!(!rest.contains('@'), "broker: name and password have keys of their own: `username`, `password_file`");
        let (host, said) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':')),
            // More than one colon: an address of IPv6 without a port.
            None => match rest.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (rest, None),
            },
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        ensure!(!host.is_empty() && host.chars().all(fits), "broker: `{rest}` is no host");
        let said = said.map(|port| port.parse().with_context(|| format!("broker: `{port}` is no port"))).transpose()?;
        let port = self.port.or(said);
        let tls = self.tls.or(scheme).unwrap_or(port == Some(TLS_PORT));
        let topic = self.topic.clone().unwrap_or_else(|| format!("tapedeck/{}", host_name()));
        is_topic("topic", &topic)?;
        Ok(Some(Target {
            host: host.to_owned(),
            port: port.unwrap_or(if tls { TLS_PORT } else { PORT }),
            tls,
            ca_file: self.ca_file.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            protocol: self.protocol,
            keepalive: self.keepalive.0,
            topic,
            client_id: self.client_id.clone(),
        }))
    }
}

impl Target {
    /// `mqtts://host:8883`
    pub(super) fn shown(&self) -> String {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{}{close}:{}", self.host, self.port)
    }

    /// The same after a restart, so that the broker gives up the old connection when the new one comes.
    pub(super) fn client_id(&self, tape: &str) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("tapedeck-{}", &tape[..tape.len().min(8)]))
    }
}

/// A topic to write to: no wildcards, and not the broker's own.
fn is_topic(key: &str, topic: &str) -> anyhow::Result<()> {
    let bad = topic.is_empty() || topic.len() > 256 || topic.starts_with('$') || topic.ends_with('/');
    let odd = topic.contains(['+', '#']) || topic.chars().any(char::is_control);
    ensure!(!bad && !odd, "{key}: `{topic}` is no topic to write to: it has no `+` and no `#`, and no `/` at its end");
    Ok(())
}

/// This machine's name as a level of a topic.
pub(crate) fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let fits = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
    let name: String = name.chars().map(fits).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<String, String> {
        let config = toml::from_str::<toml::Table>(text).unwrap();
        let config = Config::from_table(config).map_err(|error| format!("{error:#}"))?;
        Ok(config.target().unwrap().unwrap().shown())
    }

    #[test]
    fn a_broker_is_a_host_or_a_url_and_the_keys_beside_it_win() {
        for (text, shown) in [
            ("broker = 'lan'", "mqtt://lan:1883"),
            ("broker = 'lan:1884'", "mqtt://lan:1884"),
            ("broker = 'lan'\nport = 8883", "mqtts://lan:8883"),
            ("broker = 'lan'\ntls = true", "mqtts://lan:8883"),
            ("broker = 'lan'\nport = 8883\ntls = false", "mqtt://lan:8883"),
            ("broker = 'mqtts://lan/'", "mqtts://lan:8883"),
            ("broker = 'mqtts://lan:1'", "mqtts://lan:1"),
            ("broker = 'mqtts://lan'\ntls = false", "mqtt://lan:1883"),
            ("broker = '[::1]:2'", "mqtt://[::1]:2"),
            ("broker = '::1'", "mqtt://[::1]:1883"),
        ] {
            assert_eq!(target(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        for (text, key) in [
            ("broker = 'ws://lan'", "broker: "),
            ("broker = 'mqtt://me:pw@lan'", "broker: "),
            ("broker = 'lan:many'", "broker: "),
            ("broker = ''", "broker: "),
            ("broker = 'lan'\ntopic = 'a/#'", "topic: "),
            ("broker = 'lan'\ntopic = 'a/'", "topic: "),
            ("broker = 'lan'\nlegacy_topic = '$SYS'", "legacy_topic: "),
            ("broker = 'lan'\nevery = '10ms'", "every: "),
            ("broker = 'lan'\nkeepalive = '1d'", "keepalive: "),
            ("broker = 'lan'\npassword = 'x'", "password: "),
        ] {
            let error = target(text).unwrap_err();
            assert!(error.starts_with(key), "{text}: {error}");
            assert!(!error.contains("pw"), "{error}");
        }
    }
}
