//! What a Grafana should have: pure, from the config and what the stores say of themselves.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value as Json;

use super::alerts::{self, RuleGroup};
use super::board::Ref;
use super::boards::{self, Of, shortened};
use super::config::Config;
use super::stream::{self, Stream};
use crate::config::{Listen, Secret};
use crate::sinks;
use crate::sinks::grafana::{Asks, Source};

/// The name that the predecessors gave their only data source.
const FIRST_INFLUX: &str = "InfluxDB";
/// The deck's own SQL server, as a store.
const OWN: &str = "store";
const PROMETHEUS: &str = "prometheus";

/// A store that can be asked; the deck's own SQL server is one, too.
#[derive(Debug)]
struct Store {
    name: String,
    source: Source,
    asks: Asks,
}

/// Data sources, dashboards and alert rules.
#[derive(Debug)]
pub struct Plan {
    pub sources: Vec<Wanted>,
    pub dashboards: Vec<Json>,
    pub alerts: Vec<RuleGroup>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    pub folder: String,
}

/// A data source.
#[derive(Debug)]
pub struct Wanted {
    pub uid: String,
    pub name: String,
    pub source: Source,
}

/// What became of a data source or dashboard.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// `datasource`, `dashboard`, `folder` or `alerts`.
    pub what: &'static str,
    pub uid: String,
    pub name: String,
    /// `created`, `updated`, `unchanged`, `removed` or `left out`.
    pub state: &'static str,
    /// What a person should know of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Plan {
    /// Asks the stores of a config where they keep what, and makes the plan.
    ///
    /// # Errors
    /// A store cannot be asked.
    pub async fn of(config: &crate::config::Config) -> anyhow::Result<Plan> {
        let table = config.grafana.as_ref().map(|section| section.table.clone()).unwrap_or_default();
        let own = Config::from_table(table).context("[grafana]")?;
        let mut stores = Vec::new();
        let mut notes = Vec::new();
        for table in &config.sinks {
            let (_, mut sink) = sinks::build(table, &config.tape.dir)?;
            let found = sink.grafana().await;
            match found.with_context(|| format!("[sink.{}] must be asked where it keeps what", table.name))? {
                Some((source, asks)) => stores.push(Store { name: table.name.to_string(), source, asks }),
                None => {
                    notes.push(format!("[sink.{}]: Grafana's own data sources do not ask a {}", table.name, table.kind))
                }
            }
        }
        stores.extend(own_store(config).context("[store]")?);
        let streams = match own.streams.as_slice() {
            [] => stream::of(config),
            names => names.iter().filter_map(|name| stream::named(name)).collect(),
        };
        if own.prometheus.is_none() {
            notes.push(
                "no dashboard of the pipeline and no alerts: say [grafana] prometheus = \"http://…:9090\"".to_owned(),
            );
        }
        Ok(make(&own, stores, &streams, config.candles.is_some(), notes))
    }
}

impl Plan {
    /// Puts the uids of data sources as they are known there in the place of ours.
    pub(super) fn point_to(&mut self, renamed: &[(String, String)]) {
        self.dashboards.iter_mut().for_each(|board| point_to(board, renamed));
        self.alerts.iter_mut().for_each(|group| group.point_to(renamed));
    }
}

fn point_to(value: &mut Json, renamed: &[(String, String)]) {
    match value {
        Json::Object(map) => {
            if let Some(Json::Object(source)) = map.get_mut("datasource")
                && let Some(Json::String(uid)) = source.get_mut("uid")
                && let Some((_, there)) = renamed.iter().find(|(ours, _)| ours == uid)
            {
                uid.clone_from(there);
            }
            map.values_mut().for_each(|value| point_to(value, renamed));
        }
        Json::Array(list) => list.iter_mut().for_each(|value| point_to(value, renamed)),
        _ => {}
    }
}

/// The deck's SQL server.
fn own_store(config: &crate::config::Config) -> anyhow::Result<Option<Store>> {
    let Some(store) = &config.store else { return Ok(None) };
    let Listen::At(addr) = store.sql_listen else { return Ok(None) };
    let file = config.tape.dir.join("sql.password");
    let password = std::fs::read_to_string(&file).with_context(|| {
        format!("{} is made at the first start of the deck: start it once, or set sql_listen = \"off\"", file.display())
    })?;
    let ssl = if store.tls_cert.is_some() { "require" } else { "disable" };
    let password = Some(Secret::new(password.trim()));
    let source = Source::postgres(addr.to_string(), Some("tapedeck".to_owned()), password, "tapedeck", ssl);
    let asks = Asks::Sql { schema: String::new(), count: "cardinality" };
    Ok(Some(Store { name: OWN.to_owned(), source, asks }))
}

fn make(own: &Config, stores: Vec<Store>, streams: &[&Stream], candles: bool, notes: Vec<String>) -> Plan {
    let refresh = own.refresh.to_string();
    let mut plan =
        Plan { sources: Vec::new(), dashboards: Vec::new(), alerts: Vec::new(), notes, folder: own.folder.clone() };
    let mut taken = BTreeSet::new();
    for (nth, store) in stores.into_iter().enumerate() {
        let Store { name, mut source, asks } = store;
        source.url = own.seen(&name, source.url);
        let shown = match source.kind {
            "influxdb" if !taken.contains(FIRST_INFLUX) => FIRST_INFLUX.to_owned(),
            "influxdb" => format!("InfluxDB {name}"),
            _ if name == OWN => "tapedeck SQL".to_owned(),
            _ => format!("PostgreSQL {name}"),
        };
        taken.insert(shown.clone());
        let uid = shortened(&format!("tapedeck-{name}"));
        let of = Of {
            source: Ref { kind: source.kind, uid: uid.clone() },
            asks: &asks,
            suffix: if nth == 0 { "" } else { &name },
            refresh: &refresh,
        };
        plan.dashboards.extend(streams.iter().map(|stream| of.stream(stream)));
        if candles {
            plan.dashboards.push(of.candles());
        }
        plan.dashboards.push(of.quality());
        plan.sources.push(Wanted { uid, name: shown, source });
    }
    if let Some(url) = &own.prometheus {
        let source = Source::prometheus(own.seen(PROMETHEUS, url.clone()));
        let uid = format!("tapedeck-{PROMETHEUS}");
        plan.dashboards.push(boards::pipeline(Ref { kind: source.kind, uid: uid.clone() }, &refresh));
        plan.alerts = alerts::groups(&uid);
        plan.sources.push(Wanted { uid, name: "tapedeck metrics".to_owned(), source });
    }
    if let [first, ..] = plan.sources.as_mut_slice() {
        first.source.is_default = true;
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;
    use crate::sinks::grafana::Places;

    fn plan() -> Plan {
        let influx = |name: &str, asks: Asks| Store {
            name: name.to_owned(),
            source: Source {
                kind: "influxdb",
                url: "http://127.0.0.1:8086".to_owned(),
                user: None,
                database: None,
                settings: json!({}),
                secrets: Vec::new(),
                is_default: false,
            },
            asks,
        };
        let places = Places { usual: "b".to_owned(), ..Places::default() };
        let sql = Source::postgres("127.0.0.1:5432".to_owned(), None, None, "market", "disable");
        let stores = vec![
            influx("a", Asks::InfluxQl(Places::default())),
            influx("a name that is far longer than Grafana's uids may ever be", Asks::Flux(places)),
            Store { name: "pg".to_owned(), source: sql, asks: Asks::Sql { schema: "s.".to_owned(), count: "n" } },
        ];
        let own = Config::from_table("prometheus = 'http://127.0.0.1:9090'".parse().unwrap()).unwrap();
        let streams: Vec<&Stream> =
            ["kraken_tick", "betfair_stream"].iter().filter_map(|name| stream::named(name)).collect();
        make(&own, stores, &streams, true, Vec::new())
    }

    #[test]
    fn uids_are_short_and_different_and_panels_lie_beside_each_other() {
        let plan = plan();
        let mut uids: HashSet<&str> = plan.sources.iter().map(|wanted| wanted.uid.as_str()).collect();
        assert_eq!(uids.len(), 4);
        let sources = uids.clone();
        for board in &plan.dashboards {
            let uid = board["uid"].as_str().unwrap();
            assert!(uid.len() <= 40 && uids.insert(uid), "{uid}");
            let (mut cells, mut ids) = (HashSet::new(), HashSet::new());
            for panel in board["panels"].as_array().unwrap() {
                assert!(ids.insert(panel["id"].as_u64().unwrap()), "{uid}: {panel}");
                let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{uid}: {panel}");
                for x in at("x")..at("x") + at("w") {
                    for y in at("y")..at("y") + at("h") {
                        assert!(cells.insert((x, y)), "{uid}: a panel over another: {panel}");
                    }
                }
                let mut letters = HashSet::new();
                for target in panel["targets"].as_array().unwrap() {
                    assert!(letters.insert(target["refId"].as_str().unwrap()), "{uid}: {panel}");
                    assert!(sources.contains(target["datasource"]["uid"].as_str().unwrap()), "{uid}: {target}");
                }
                assert!(!letters.is_empty(), "{uid}: {panel}");
            }
        }
    }

    #[test]
    fn the_first_store_has_the_predecessors_names() {
        let plan = plan();
        let names: Vec<&str> = plan.sources.iter().map(|wanted| wanted.name.as_str()).collect();
        assert_eq!(names[0], "InfluxDB");
        assert!(plan.sources[0].source.is_default && !plan.sources[1].source.is_default);
        let titles: Vec<&str> = plan.dashboards.iter().filter_map(|board| board["title"].as_str()).collect();
        for title in ["KRAKEN_TICK Stream", "KRAKEN_TICK Stream (pg)", "Candles", "Data quality", "Pipeline"] {
            assert!(titles.contains(&title), "{titles:?}");
        }
    }
}
