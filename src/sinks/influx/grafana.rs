//! A Grafana's data source for an InfluxDB, and where its questions find which kind of event.

use anyhow::Context as _;
use serde_json::json;
use tapedeck_market::Kind;

use super::Influx;
use super::config::Version;
use crate::sinks::grafana::{Asks, Places, Source};

impl Influx {
    /// 3.x is asked over gRPC, which no question here is written for.
    pub(super) async fn data_source(&self) -> anyhow::Result<Option<(Source, Asks)>> {
        let config = &self.config;
        let places = match config.version {
            Version::V3 => return Ok(None),
            Version::V1 => self.places(str::to_owned, String::new()).await?,
            Version::V2 => self.places(|policy| self.client.bucket(Some(policy)), self.client.bucket(None)).await?,
        };
        let mut settings = json!({ "tlsSkipVerify": !config.verify_tls, "timeout": config.timeout.0.as_secs() });
        let mut secrets = Vec::new();
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read_to_string(file).with_context(|| format!("ca_file: reading {}", file.display()))?;
            settings["tlsAuthWithCACert"] = json!(true);
            secrets.push(("tlsCACert", crate::config::Secret::new(&pem)));
        }
        let asks = if config.version == Version::V1 {
            settings["dbName"] = json!(config.database);
            settings["httpMode"] = json!("POST");
            secrets.extend(config.password.clone().map(|password| ("password", password)));
            Asks::InfluxQl(places)
        } else {
            settings["version"] = json!("Flux");
            settings["organization"] = json!(config.org);
            settings["defaultBucket"] = json!(config.database);
            secrets.extend(config.token.clone().map(|token| ("token", token)));
            Asks::Flux(places)
        };
        let source = Source {
            kind: "influxdb",
            url: self.config.base()?.as_str().trim_end_matches('/').to_owned(),
            user: config.username.clone(),
            // Both places: which one counts depends on Grafana's version.
            database: (config.version == Version::V1).then(|| config.database.clone()),
            settings,
            secrets,
            is_default: false,
        };
        Ok(Some((source, asks)))
    }

    /// Where each kind of event goes, under the names that questions use.
    async fn places(&self, named: impl Fn(&str) -> String, usual: String) -> anyhow::Result<Places> {
        let found = self.found().await?;
        let by_kind = Kind::NAMES.iter().filter_map(|&(kind, _)| Some((kind, named(&self.route_name(kind, &found)?))));
        Ok(Places { usual, by_kind: by_kind.collect() })
    }
}
