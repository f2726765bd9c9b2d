//! A deck whose metrics a real Prometheus reads: a venue that makes faults, a store, candles.

use serde_json::Value;
use tapedeck_testkit::kraken::{FakeKraken, Fault, Garbage, Handle, Target};

use super::Filled;
use crate::deck::source;
use crate::servers::asking::ask;
use crate::servers::{Influx1, Options, Prometheus};
use crate::support::{Deck, free_port};

pub(super) struct Metered {
    pub(super) prometheus: Prometheus,
    pub(super) filled: Filled,
}

/// A venue for it.
pub(super) async fn venue() -> Handle {
    FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(200).start().await.unwrap()
}

impl Metered {
    /// `grafana`: the table's further keys. `None`: a server cannot be had here.
    pub(super) fn start(venue: &Handle, grafana: &str) -> Option<Metered> {
        let influx = Influx1::shared()?;
        let port = free_port();
        let target = format!("target=127.0.0.1:{port}");
        let rules = concat!("rules=", env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/tapedeck.rules.yml");
        let prometheus = Prometheus::private_with(&Options { settings: &[&target, rules], ..Options::default() })?;
        let home = tempfile::tempdir().unwrap();
        let config = format!(
            "[http]\nlisten = '127.0.0.1:{port}'\n[candles]\nintervals = ['1s']\n[sink.influx]\nkind = 'influx'\nurl = '{}'\n\
             database = '{}'\nbatch_wait = '20ms'\n[grafana]\nprometheus = '{}'\n{grafana}\n{}",
            influx.url(),
            influx.fresh_database(),
            prometheus.url(),
            source(venue)
        );
        let deck = Deck::start(home.path(), &config);
        deck.until("a live source", |status| status.sources.iter().any(|source| source.live >= 6));
        let any = Target { symbol: "*".into(), channel: None };
        venue.inject(Fault::Garbage(Garbage::NotJson));
        venue.inject(Fault::Corrupt { target: any, times: 1 });
        deck.until("a reject", |status| status.sources[0].rejects > 0);
        venue.inject(Fault::Cut { mid_frame: false });
        let config = home.path().join("tapedeck.toml");
        Some(Metered { prometheus, filled: Filled { home, deck, config } })
    }

    /// The values that a query has over the last minute, by series; one that is no number is none.
    pub(super) fn values(&self, query: &str) -> Vec<Vec<f64>> {
        let words: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let range = format!("query_range?query={words}&start={}&end={now}&step=1", now - 60);
        let answer = self.asked(&range);
        let series = answer["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}"));
        let number = |value: &Value| value[1].as_str().unwrap().parse().ok().filter(|number: &f64| number.is_finite());
        let numbers = |one: &Value| one["values"].as_array().unwrap().iter().filter_map(number).collect::<Vec<f64>>();
        series.iter().map(numbers).filter(|numbers| !numbers.is_empty()).collect()
    }

    /// `data` of an answer of Prometheus's API.
    pub(super) fn asked(&self, path: &str) -> Value {
        let patience = std::time::Duration::from_secs(60);
        let reply = ask(self.prometheus.port(), "GET", &format!("/api/v1/{path}"), &[], "", patience).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        answer["data"].clone()
    }
}
