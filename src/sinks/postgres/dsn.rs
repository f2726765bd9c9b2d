//! Where the server is: a URL as libpq or SQLAlchemy writes it, or `key=value` pairs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio_postgres::config::SslMode;

/// The server answers a connection within this, or it counts as away.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection whose other end is gone is found out after so long without an answer to its packets.
const GONE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(60);

/// How it is written.
const HELP: &str = "write it as in postgres://user:password@host:5432/database";

/// What libpq understands and what changes nothing here: encodings, and protocols that are not spoken.
const PASSED_OVER: [&str; 7] = [
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "krbsrvname",
    "sslcompression",
    "sslsni",
    "async_fallback",
];

/// A server, and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub config: tokio_postgres::Config,
    pub tls: Tls,
    /// File of the certificates that are trusted; `system`: those of this machine.
    pub root: Option<PathBuf>,
}

/// How much of the server's certificate must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Nothing: encrypted where the server can, or must.
    Any,
    /// Its chain.
    Chain,
    /// Chain and name.
    Full,
}

impl Target {
    pub(crate) fn parse(dsn: &str) -> anyhow::Result<Target> {
        let dsn = dsn.trim();
        let (text, ours) = match dsn.split_once("://") {
            Some((scheme, rest)) => of_url(scheme, rest)?,
            None => of_pairs(dsn)?,
        };
        let mut config: tokio_postgres::Config =
            text.parse().map_err(anyhow::Error::new).with_context(|| format!("dsn: {HELP}"))?;
        ensure!(!config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty(), "dsn: names no host: {HELP}");
        let mut root = None;
        let mut mode = None;
        for (key, value) in ours {
            match key.as_str() {
                "sslmode" => mode = Some(value),
                _ => root = Some(PathBuf::from(value)),
            }
        }
        // As libpq has it: with a file of trusted certificates, to require encryption is to verify the chain.
        let (ssl, tls) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Tls::Any),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Tls::Any),
            Some("require") if root.is_none() => (SslMode::Require, Tls::Any),
            Some("require" | "verify-ca") => (SslMode::Require, Tls::Chain),
            Some("verify-full") => (SslMode::Require, Tls::Full),
            Some(other) => {
                bail!("dsn: there is no sslmode `{other}`: disable, prefer, require, verify-ca or verify-full")
            }
        };
        config.ssl_mode(ssl);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(GONE);
        }
        if config.get_keepalives_idle() > IDLE {
            config.keepalives_idle(IDLE);
        }
        Ok(Target { config, tls, root })
    }

    /// For people: no secrets.
    pub(crate) fn shown(&self) -> String {
        use tokio_postgres::config::Host;
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self.config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}")
    }
}

/// A text for the library, and what it does not understand: `sslmode` and `sslrootcert`.
type Parted = (String, Vec<(String, String)>);

fn is_ours(key: &str) -> bool {
    matches!(key, "sslmode" | "sslrootcert")
}

fn of_url(scheme: &str, rest: &str) -> anyhow::Result<Parted> {
    // SQLAlchemy names its driver in the scheme: postgresql+psycopg2.
    let plain = scheme.split_once('+').map_or(scheme, |(scheme, _)| scheme);
    ensure!(matches!(plain, "postgres" | "postgresql"), "dsn: `{scheme}://` is no PostgreSQL: {HELP}");
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut ours = Vec::new();
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if is_ours(key) {
            // A plus is a plus here, not a space.
            let decoded =
                form_urlencoded::parse(value.replace('+', "%2B").as_bytes()).next().map(|(text, _)| text.into_owned());
            ours.push((key.to_owned(), decoded.unwrap_or_default()));
        } else if !PASSED_OVER.contains(&key) {
            kept.push(pair);
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok((format!("postgresql://{before}{query}"), ours))
}

fn of_pairs(text: &str) -> anyhow::Result<Parted> {
    let mut ours = Vec::new();
    let mut kept = String::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').with_context(|| format!("dsn: {HELP}"))?;
        let (value, after) = value(after.trim_start()).context("dsn: a quote is not closed")?;
        let key = key.trim();
        if is_ours(key) {
            ours.push((key.to_owned(), value));
        } else if !PASSED_OVER.contains(&key) {
            let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
            kept.push_str(&format!("{key}='{escaped}' "));
        }
        rest = after.trim_start();
    }
    Ok((kept, ours))
}

/// A value and what follows it; `None`: its quote is not closed.
fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut chars = text.char_indices().skip(usize::from(quoted));
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Some((value, &text[at..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    fn parsed(dsn: &str) -> Target {
        Target::parse(dsn).unwrap_or_else(|error| panic!("{dsn}: {error:#}"))
    }

    #[test]
    fn every_way_to_write_it_is_understood() {
        for dsn in [
            "postgres://me:p%40ss@db:5433/market?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
            "postgresql+psycopg2://me:p%40ss@db:5433/market?sslrootcert=/etc/ca.pem&client_encoding=utf8&sslmode=verify-full",
            "host=db port=5433 user=me password='p@ss' dbname=market sslmode=verify-full sslrootcert = /etc/ca.pem",
        ] {
            let target = parsed(dsn);
            assert_eq!(target.config.get_hosts(), [Host::Tcp("db".into())], "{dsn}");
            assert_eq!(target.config.get_ports(), [5433]);
            assert_eq!((target.config.get_user(), target.config.get_dbname()), (Some("me"), Some("market")));
            assert_eq!(target.config.get_password(), Some(&b"p@ss"[..]));
            assert_eq!((target.tls, target.root), (Tls::Full, Some("/etc/ca.pem".into())));
            assert_eq!(target.config.get_ssl_mode(), SslMode::Require);
        }
        let target = parsed("host=h password='it''s' user=a\\'b".replace("''", "\\'").as_str());
        assert_eq!(target.config.get_password(), Some(&b"it's"[..]));
        assert_eq!(target.config.get_user(), Some("a'b"));
        assert_eq!(parsed("postgres://h/d").config.get_ssl_mode(), SslMode::Prefer);
        assert_eq!(parsed("postgres://h/d?sslmode=disable").config.get_ssl_mode(), SslMode::Disable);
        assert_eq!(parsed("postgres://h/d?sslmode=require&sslrootcert=x").tls, Tls::Chain);
        assert_eq!(parsed("postgres://h:1/d?application_name=x").shown(), "h:1");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (dsn, words) in [
            ("mysql://u:hunter2@h/d", "`mysql://` is no PostgreSQL"),
            ("hunter2", "write it as in"),
            ("user=me password=hunter2", "names no host"),
            ("host=h password='hunter2", "a quote is not closed"),
            ("postgres://u:hunter2@h/d?sslmode=sure", "there is no sslmode `sure`"),
            ("postgres://u:hunter2@h/d?nonsense=1", "nonsense"),
            ("postgres://u:hunter2@h:port/d", "port"),
        ] {
            let error = format!("{:#}", Target::parse(dsn).unwrap_err());
            assert!(error.contains(words) && !error.contains("hunter2"), "{dsn}: {error}");
        }
    }
}
