//! The same through a real Grafana: files and API, and every panel by way of its `/api/ds/query`. `make test-all` builds it.

use serde_json::{Value, json};

use super::panels::{picked, queries, with_variables};
use super::{Filled, read_boards, write_files};
use crate::servers::asking::ask;
use crate::servers::{Grafana, Influx1, Influx2, Postgres};
use crate::store::store_is_built;
use crate::support::{free_port, tapedeck, until};

pub(super) struct Web<'a>(pub(super) &'a Grafana);

impl Web<'_> {
    pub(super) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let login = "Basic YWRtaW46dGFwZWRlY2stcGFzc3dvcmQ=";
        // As its pages do, which leave no mark of a program on a rule.
        let by_hand = ("X-Disable-Provenance", "true");
        let headers = [("Authorization", login), ("Content-Type", "application/json"), by_hand];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = ask(self.0.port(), method, path, &headers, &body, std::time::Duration::from_secs(60)).unwrap();
        (reply.status, serde_json::from_str(&reply.body).unwrap_or(Value::String(reply.body)))
    }

    /// Rows of a query, by way of its data source; what went wrong, too. A row without any value is none.
    pub(super) fn rows(&self, target: &Value) -> Result<Vec<String>, String> {
        let mut query = target.clone();
        query["intervalMs"] = json!(10_000);
        query["maxDataPoints"] = json!(500);
        query["refId"] = json!("A");
        let body = json!({ "from": "now-1h", "to": "now", "queries": [query] });
        let (status, answer) = self.ask("POST", "/api/ds/query", &body);
        let result = &answer["results"]["A"];
        if status != 200 || !result["error"].is_null() {
            return Err(format!("{status}: {answer}"));
        }
        let mut rows = Vec::new();
        for frame in result["frames"].as_array().into_iter().flatten() {
            let columns: Vec<&Vec<Value>> =
                frame["data"]["values"].as_array().into_iter().flatten().filter_map(Value::as_array).collect();
            let is_value =
                |row: usize| columns.len() == 1 || columns.iter().skip(1).any(|column| !column[row].is_null());
            for row in (0..columns.first().map_or(0, |column| column.len())).filter(|row| is_value(*row)) {
                let cells = columns.iter().map(|column| match &column[row] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                rows.push(cells.collect::<Vec<_>>().join("|"));
            }
        }
        Ok(rows)
    }
}

#[test]
fn every_panels_query_has_rows_by_way_of_a_real_grafana() {
    let Some(grafana) = Grafana::shared() else { return };
    let (Some(influx), Some(postgres)) = (Influx1::shared(), Postgres::shared()) else { return };
    if !store_is_built() {
        return;
    }
    let (bucket, database, sql_port) = (influx.fresh_database(), postgres.fresh_database(), free_port());
    let mut sinks = format!(
        "[sink.influx]\nkind = 'influx'\nurl = '{}'\ndatabase = '{bucket}'\n[sink.pg]\nkind = 'postgres'\ndsn = '{}'\n\
         [store]\nsql_listen = '127.0.0.1:{sql_port}'\nidle = false\n",
        influx.url(),
        database.dsn
    );
    if let Some(two) = Influx2::shared() {
        sinks += &format!(
            "[sink.flux]\nkind = 'influx'\nurl = '{}'\ndatabase = '{}'\norg = '{}'\ntoken = '{}'\n",
            two.url(),
            two.fresh_database(),
            two.org(),
            two.token()
        );
    }
    let to = format!("to = 'api'\nurl = '{}'\nusername = 'admin'\npassword = 'tapedeck-password'\n", grafana.url());
    let filled = Filled::start(&sinks, &to);
    let made = filled.run(&["grafana", "setup", "--json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = changes(&made.stdout);
    let notes: Vec<&Value> = made.iter().filter(|one| one.get("note").is_some()).collect();
    assert!(notes.is_empty(), "{notes:?}");
    let again = filled.run(&["grafana", "setup", "--json"]);
    for change in changes(&again.stdout) {
        assert_eq!(change["state"], "unchanged", "{change}");
    }
    let web = Web(grafana);
    let mut wrong = Vec::new();
    let uids: Vec<String> = made
        .iter()
        .filter(|one| one["what"] == "dashboard")
        .map(|one| one["uid"].as_str().unwrap().to_owned())
        .collect();
    for uid in &uids {
        let board = web.ask("GET", &format!("/api/dashboards/uid/{uid}"), &Value::Null).1["dashboard"].clone();
        let source = board["panels"][0]["datasource"].clone();
        let variables = |query: &str| -> Vec<String> {
            let target = match source["type"].as_str().unwrap() {
                "influxdb" => {
                    json!({ "datasource": source, "query": query, "rawQuery": true, "resultFormat": "table" })
                }
                _ => json!({ "datasource": source, "rawSql": query, "format": "table" }),
            };
            let rows = until("values to pick", || web.rows(&target).ok().filter(|rows| !rows.is_empty()));
            rows.iter().map(|row| row.rsplit('|').next().unwrap().to_owned()).collect()
        };
        let picked = picked(&board, variables);
        for (title, mut target) in queries(&board) {
            let key = if target["rawSql"].is_string() { "rawSql" } else { "query" };
            target[key] = json!(with_variables(target[key].as_str().unwrap(), &picked));
            // A mark of InfluxDB 1.x is asked as a table by the pages.
            if title.starts_with("mark") && key == "query" {
                target["rawQuery"] = json!(true);
                target["resultFormat"] = json!("table");
            }
            match web.rows(&target) {
                Ok(rows) if !rows.is_empty() => {}
                found => wrong.push(format!("{uid}: {title}: {found:?}: {}", target[key])),
            }
        }
    }
    assert!(uids.len() >= 3 * 18, "{uids:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_real_grafana_takes_the_files() {
    let Some(grafana) = Grafana::private() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("tapedeck.toml");
    let text = "[source.kraken]\nkind = 'kraken'\npairs = ['BTC/USD']\n[sink.pg]\nkind = 'postgres'\n\
                dsn = 'postgres://u:p@127.0.0.1:1/d'\n[grafana]\nprometheus = 'http://127.0.0.1:9'\n";
    // Its own folder: provisioning and dashboards are found there.
    write_files(&config, text, grafana.folder());
    grafana.stop();
    grafana.restart();
    let web = Web(&grafana);
    for board in read_boards(grafana.folder()) {
        let path = format!("/api/dashboards/uid/{}", board["uid"].as_str().unwrap());
        until("the dashboards of the files", || {
            let (status, board) = web.ask("GET", &path, &Value::Null);
            (status == 200 && board["meta"]["provisioned"] == true).then_some(())
        });
    }
    let (_, source) = web.ask("GET", "/api/datasources/uid/tapedeck-pg", &Value::Null);
    assert_eq!(source["url"], "127.0.0.1:1", "{source}");
    assert_eq!(source["secureJsonFields"]["password"], true, "{source}");
    let (_, rules) = web.ask("GET", "/api/v1/provisioning/alert-rules", &Value::Null);
    let rules = rules.as_array().unwrap();
    assert!(rules.len() >= 12, "{rules:?}");
    let (_, rule) = web.ask("GET", "/api/v1/provisioning/alert-rules/tapedeck-TapedeckFeedSilent", &Value::Null);
    assert_eq!(rule["provenance"], "file", "{rule}");
    // As it is written: what stands twice for Grafana elsewhere does not here.
    assert_eq!(rule["annotations"]["summary"], "{{ $labels.source }}: nothing for {{ $values.A.Value }} s", "{rule}");
    assert_eq!(rule["data"][1]["model"]["expression"], "is_number($A)", "{rule}");
    let (_, group) = web.ask(
        "GET",
        &format!("/api/v1/provisioning/folder/{}/rule-groups/tapedeck", rule["folderUID"].as_str().unwrap()),
        &Value::Null,
    );
    assert_eq!(group["interval"], 30, "{group}");
    // What came by files is as the config wants it, and is found so by the API.
    let text = format!("{text}url = '{}'\nusername = 'admin'\npassword = 'tapedeck-password'\n", grafana.url());
    std::fs::write(&config, text).unwrap();
    let out = tapedeck().args(["grafana", "dashboards", "--to", "api", "--json", "-c"]).arg(&config).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for change in changes(&out.stdout) {
        assert_eq!(change["state"], "unchanged", "{change}");
    }
}

/// What a run with `--json` did.
pub(super) fn changes(out: &[u8]) -> Vec<Value> {
    let said: Value = serde_json::from_slice(out).unwrap();
    said["changes"].as_array().unwrap().clone()
}
