//! How a Grafana asks a store: the data source, and the language of its questions.

use serde_json::{Map, Value as Json, json};
use tapedeck_market::Kind;

use crate::config::Secret;

/// The language of a store's questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// InfluxDB 1.x.
    InfluxQl(Places),
    /// InfluxDB 2.x.
    Flux(Places),
    /// A PostgreSQL, or what speaks its protocol. `schema` stands before the name of a table, with its dot; `count` counts the
    /// elements of a list.
    Sql { schema: String, count: &'static str },
}

/// Where an InfluxDB keeps which kind of event: a policy of 1.x, a bucket of 2.x.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// What is not named below goes there; empty where no name is needed.
    pub usual: String,
    pub by_kind: Vec<(Kind, String)>,
}

impl Places {
    pub(crate) fn of(&self, kind: Kind) -> &str {
        self.by_kind.iter().find(|(one, _)| *one == kind).map_or(&self.usual, |(_, place)| place)
    }
}

/// A data source, but for its uid and name, which the plan gives.
#[derive(Clone, Debug)]
pub struct Source {
    /// As Grafana calls the kind.
    pub kind: &'static str,
    pub url: String,
    pub user: Option<String>,
    pub database: Option<String>,
    /// `jsonData`.
    pub settings: Json,
    /// `secureJsonData`.
    pub secrets: Vec<(&'static str, Secret)>,
    /// Whether it is what a new panel asks.
    pub is_default: bool,
}

impl Source {
    /// A Prometheus.
    pub(crate) fn prometheus(url: String) -> Source {
        let settings = json!({ "httpMethod": "POST" });
        Source { kind: "prometheus", url, user: None, database: None, settings, secrets: Vec::new(), is_default: false }
    }

    /// A PostgreSQL, at `host:port`, with Grafana's word for how it is encrypted.
    pub(crate) fn postgres(
        address: String,
        user: Option<String>,
        password: Option<Secret>,
        database: &str,
        ssl: &str,
    ) -> Source {
        Source {
            kind: "postgres",
            url: address,
            user,
            database: Some(database.to_owned()),
            settings: json!({ "database": database, "sslmode": ssl, "postgresVersion": 1500, "timescaledb": false }),
            secrets: password.map(|password| ("password", password)).into_iter().collect(),
            is_default: false,
        }
    }

    /// As the HTTP API takes it, without its secrets.
    pub(crate) fn shown(&self, uid: &str, name: &str) -> Json {
        let mut all = json!({
            "uid": uid, "name": name, "type": self.kind, "access": "proxy", "url": self.url,
            "jsonData": self.settings, "isDefault": self.is_default,
        });
        for (key, value) in [("user", &self.user), ("database", &self.database)] {
            if let Some(value) = value {
                all[key] = json!(value);
            }
        }
        all
    }

    /// `secureJsonData`.
    pub(crate) fn secrets(&self) -> Json {
        self.secrets
            .iter()
            .map(|(key, secret)| ((*key).to_owned(), json!(secret.expose())))
            .collect::<Map<_, _>>()
            .into()
    }
}
