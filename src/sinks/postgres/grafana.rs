//! A Grafana's data source for a PostgreSQL.

use std::net::IpAddr;

use tokio_postgres::config::{Host, SslMode};

use super::Postgres;
use super::dsn::{Target, Tls};
use super::layout::quoted;
use crate::config::Secret;
use crate::sinks::grafana::{Asks, Source};

const PORT: u16 = 5432;

impl Postgres {
    pub(super) fn data_source(&self) -> Option<(Source, Asks)> {
        let config = &self.target.config;
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => config.get_hostaddrs().first()?.to_string(),
        };
        let port = config.get_ports().first().copied().unwrap_or(PORT);
        let user = config.get_user().map(str::to_owned);
        // As libpq has it: a database is called like its user unless one is named.
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default().to_owned();
        let password = config.get_password().and_then(|bytes| std::str::from_utf8(bytes).ok()).map(Secret::new);
        let ssl = encryption(&self.target, &host);
        let mut source = Source::postgres(format!("{host}:{port}"), user, password, &database, ssl);
        if let Some(root) = self.target.root.as_ref().filter(|root| root.as_os_str() != "system") {
            source.settings["tlsConfigurationMethod"] = "file-path".into();
            source.settings["sslRootCertFile"] = root.display().to_string().into();
        }
        let schema = format!("{}.", quoted(&self.config.schema));
        Some((source, Asks::Sql { schema, count: "jsonb_array_length" }))
    }
}

/// Grafana's word for it. It cannot try both, so what is only preferred is wanted across a network and not on this machine.
fn encryption(target: &Target, host: &str) -> &'static str {
    let here = host == "localhost" || host.starts_with('/') || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match (target.config.get_ssl_mode(), target.tls) {
        (SslMode::Disable, _) => "disable",
        (_, Tls::Full) => "verify-full",
        (_, Tls::Chain) => "verify-ca",
        (SslMode::Prefer, Tls::Any) if here => "disable",
        _ => "require",
    }
}
