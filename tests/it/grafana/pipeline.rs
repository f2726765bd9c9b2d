//! What is asked of Prometheus, asked of a real one that reads a running deck: panels and alert rules.

use serde_json::Value;

use super::metered::{Metered, venue};
use super::panels::queries;
use crate::deck::blocking;
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panels_query_has_values_on_a_real_prometheus_and_rules_fire() {
    let venue = venue().await;
    blocking(move || {
        let Some(metered) = Metered::start(&venue, "") else { return };
        let boards = metered.filled.boards();
        let asks_prometheus = |board: &&Value| board["panels"][0]["datasource"]["type"] == "prometheus";
        let boards: Vec<&Value> = boards.iter().filter(asks_prometheus).collect();
        let uids: Vec<&Value> = boards.iter().map(|board| &board["uid"]).collect();
        assert_eq!(uids, ["pipeline"], "dashboards that ask Prometheus");
        let asked = queries(boards[0]);
        assert!(asked.len() > 20, "{asked:?}");
        let stats: Vec<&Value> =
            boards[0]["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] == "stat").collect();
        for (title, target) in asked {
            // Four scrapes, as Grafana reckons it for one every 15 s.
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            assert!(!query.contains('$'), "{title}: a variable that nothing was put in for: {query}");
            let values = until(&format!("values of {title}: {query}"), || {
                Some(metered.values(&query)).filter(|values| !values.is_empty())
            });
            let is_stat = stats.iter().any(|panel| panel["title"] == *title);
            assert!(!is_stat || values.len() == 1, "{title}: a panel with one number: {values:?}");
        }
        let alert = |name: &str, state: &str| {
            until(&format!("{name} {state}"), || {
                let all = metered.asked("alerts")["alerts"].as_array().cloned().unwrap_or_default();
                all.into_iter().find(|one| one["labels"]["alertname"] == *name && one["state"] == *state)
            })
        };
        let broken = alert("TapedeckChecksumBreaks", "firing");
        assert_eq!(broken["labels"]["severity"], "warn", "{broken}");
        let said = broken["annotations"]["summary"].as_str().unwrap();
        assert!(
            said.starts_with("kraken: ") && said.ends_with(" books in 5 minutes that did not match the checksum"),
            "{said}"
        );
        let rules = until("all rules to be looked at", || {
            let rules = metered.asked("rules")["groups"][0]["rules"].as_array().cloned()?;
            rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
        });
        assert!(rules.len() >= 12, "{rules:?}");
        for rule in &rules {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
        metered.filled.deck.signal(rustix::process::Signal::KILL);
        alert("TapedeckDown", "pending");
    })
    .await;
}
