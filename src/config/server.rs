//! `[server.NAME]`: a process beside the deck, started before it and ended after it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tapedeck_market::SmolStr;

use super::secret::Secret;
use super::units::Interval;

/// `[server.NAME]` of the config.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedServer {
    pub name: SmolStr,
    pub server: Server,
}

/// `[server.NAME]`: a process beside the deck that `tapedeck up` starts before it, and `down` ends after it. Without
/// `command` and `compose` somebody else runs it, and `up` only waits for it.
#[derive(Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The program and its arguments, such as ["influxd", "-config", "influxdb.conf"]. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A compose file, in place of `command`: `docker compose` runs the service. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compose: Option<PathBuf>,
    /// The service's name in the compose file. Default: the name of this table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// When it is ready: "tcp 127.0.0.1:8086", "http http://127.0.0.1:8086/ping" (any answer below 400) or "command pg_isready -p 5432"
    /// (exit code 0). Default: half a second after its start, if it still runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// What asks it to end: a signal for its process group ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"), or a command. Default: "SIGTERM".
    pub stop: Stop,
    /// Variables beside those of `tapedeck up`; their values are shown nowhere. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Secret>")]
    pub env: BTreeMap<String, String>,
    /// Where it is started. Default: where `tapedeck up` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The user that it runs as, where `tapedeck up` is root: PostgreSQL refuses root. Default: the user of `tapedeck up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long it may take from its start until it is ready. Default: "60s".
    pub limit: Interval,
    /// How long it may take to end before it is killed. Default: "30s".
    pub grace: Interval,
    /// How often it may be started again within `within` before it is given up. Default: 30.
    pub restarts: u32,
    /// The window in which `restarts` counts. Default: "10m".
    pub within: Interval,
    /// Exit codes with which it says that another start cannot help. Default: `[78]`, which is EX_CONFIG of sysexits.h.
    pub hopeless: Vec<i32>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            command: Vec::new(),
            compose: None,
            service: None,
            ready: None,
            stop: Stop::default(),
            env: BTreeMap::new(),
            dir: None,
            user: None,
            limit: Interval(Duration::from_secs(60)),
            grace: Interval(Duration::from_secs(30)),
            restarts: 30,
            within: Interval(Duration::from_secs(600)),
            hopeless: vec![78],
        }
    }
}

/// Without the values of its variables, which may be secret.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.env.keys().collect();
        f.debug_struct("Server")
            .field("program", &self.command.first())
            .field("compose", &self.compose)
            .field("ready", &self.ready)
            .field("env", &variables)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// What is wrong although every value is fine by itself: the key, and the words.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let blank = |text: &String| text.trim().is_empty();
        let compose = self.compose.is_some();
        [
            (!self.command.is_empty() && compose, "compose", "a server has a `command` or a `compose` file, not both"),
            (self.command.first().is_some_and(blank), "command", "the program has no name"),
            (self.service.is_some() && !compose, "service", "names a service of a `compose` file, and there is none"),
            (
                self.command.is_empty() && !compose && self.ready.is_none(),
                "ready",
                "a server without `command` and `compose` is only waited for: say by `ready` when it is there",
            ),
            (compose && self.user.is_some(), "user", "is for a `command`: the compose file says who runs its service"),
            (self.limit.0.is_zero(), "limit", "must be longer than nothing"),
            (self.grace.0.is_zero(), "grace", "must be longer than nothing"),
            (self.within.0.is_zero(), "within", "must be longer than nothing"),
        ]
        .into_iter()
        .find_map(|(wrong, key, words)| wrong.then_some((key, words)))
    }
}

/// How it is known that a server takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `host:port` takes connections.
    Tcp(String),
    /// The URL answers, and with no error.
    Http(String),
    /// The shell runs this and it ends with 0.
    Command(String),
}

impl Ready {
    /// The address that must be nobody else's when the server starts, where there is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let (host, port) = match self {
            Ready::Tcp(address) => {
                let (host, port) = address.rsplit_once(':')?;
                (host.to_owned(), port.parse().ok()?)
            }
            Ready::Http(url) => {
                let url: reqwest::Url = url.parse().ok()?;
                (url.host_str()?.to_owned(), url.port_or_known_default()?)
            }
            Ready::Command(_) => return None,
        };
        // Names of other machines are not asked for here: only what is bound on this one can be taken.
        let host = host.trim_matches(['[', ']']);
        let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        local.then(|| (host, port).to_socket_addrs().ok()?.next()).flatten()
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Tcp(address) => write!(f, "tcp {address}"),
            Ready::Http(url) => write!(f, "http {url}"),
            Ready::Command(command) => write!(f, "command {command}"),
        }
    }
}

impl std::str::FromStr for Ready {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let help = "write \"tcp 127.0.0.1:8086\", \"http http://127.0.0.1:8086/ping\" or \"command pg_isready\"";
        let text = text.trim();
        if text.starts_with("http://") || text.starts_with("https://") {
            return format!("http {text}").parse();
        }
        let (how, what) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let what = what.trim();
        match how {
            "tcp"
                if what
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) =>
            {
                Ok(Ready::Tcp(what.to_owned()))
            }
            "http" => match what.parse::<reqwest::Url>() {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                    Ok(Ready::Http(what.to_owned()))
                }
                _ => Err(format!("`{what}` is no URL: {help}")),
            },
            "command" if !what.is_empty() => Ok(Ready::Command(what.to_owned())),
            _ => Err(format!("`{text}` does not say when a server is ready: {help}")),
        }
    }
}

/// What asks a server to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Signal(Signal),
    /// By the shell.
    Command(String),
}

impl Default for Stop {
    fn default() -> Self {
        Stop::Signal(Signal::TERM)
    }
}

const SIGNALS: [(&str, Signal); 7] = [
    ("SIGTERM", Signal::TERM),
    ("SIGINT", Signal::INT),
    ("SIGQUIT", Signal::QUIT),
    ("SIGHUP", Signal::HUP),
    ("SIGUSR1", Signal::USR1),
    ("SIGUSR2", Signal::USR2),
    ("SIGKILL", Signal::KILL),
];

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Signal(signal) => {
                let name = SIGNALS.iter().find(|(_, known)| known == signal).map_or("SIGTERM", |(name, _)| *name);
                f.write_str(name)
            }
            Stop::Command(command) => f.write_str(command),
        }
    }
}

impl std::str::FromStr for Stop {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some((_, signal)) = SIGNALS.iter().find(|(name, _)| *name == text) {
            return Ok(Stop::Signal(*signal));
        }
        if text.is_empty() || text.starts_with("SIG") {
            let names = SIGNALS.map(|(name, _)| name).join(", ");
            return Err(format!("`{text}` is neither a signal ({names}) nor a command"));
        }
        Ok(Stop::Command(text.to_owned()))
    }
}

/// A value that is written as a text.
macro_rules! as_text {
    ($kind:ident, $($example:literal),+) => {
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $kind {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "examples": [$($example),+] })
            }
        }
    };
}

as_text!(Ready, "tcp 127.0.0.1:8086", "http http://127.0.0.1:8086/ping", "command pg_isready");
as_text!(Stop, "SIGTERM", "SIGINT");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_and_the_end_are_texts_that_come_back_as_written() {
        for text in ["tcp 127.0.0.1:8086", "http http://[::1]:9000/health", "command pg_isready -p 5432"] {
            assert_eq!(text.parse::<Ready>().unwrap().to_string(), text);
        }
        assert_eq!("https://a/b".parse::<Ready>().unwrap().to_string(), "http https://a/b");
        for text in ["", "tcp", "tcp 8086", "tcp a:b", "http ftp://a", "http", "command ", "soon"] {
            assert!(text.parse::<Ready>().is_err(), "{text:?}");
        }
        for text in ["SIGTERM", "SIGINT", "pg_ctl stop -D data"] {
            assert_eq!(text.parse::<Stop>().unwrap().to_string(), text);
        }
        assert!("SIGNOTHING".parse::<Stop>().is_err());
    }

    #[test]
    fn only_a_port_of_this_machine_can_be_taken() {
        let address = |text: &str| text.parse::<Ready>().unwrap().address().map(|address| address.port());
        assert_eq!(address("tcp 127.0.0.1:8086"), Some(8086));
        assert_eq!(address("http http://127.0.0.1/ping"), Some(80));
        assert_eq!(address("tcp db.example:5432"), None);
        assert_eq!(address("command true"), None);
    }

    #[test]
    fn values_of_variables_are_not_printed() {
        let server: Server = toml::from_str("command = ['x']\nenv = { ADMIN_PASSWORD = 'hunter2' }").unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
