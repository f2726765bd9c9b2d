//! Every panel, variable and mark is asked of the real store behind it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Filled, STREAMS, write_files};
use crate::servers::asking::influxql;
use crate::servers::{Influx1, Postgres};
use crate::skipped::skipped;
use crate::store::{psql_is_there, store_is_built};
use crate::support::{free_port, until};

/// What a person has picked: values by the variable's name.
pub(super) type Picked = BTreeMap<String, Vec<String>>;

/// Puts in what Grafana's pages put into a query before it leaves the browser.
pub(super) fn with_variables(query: &str, picked: &Picked) -> String {
    let mut text = query.to_owned();
    for (name, values) in picked {
        let regex = values.iter().map(|value| regex_escaped(value)).collect::<Vec<_>>().join("|");
        let regex = if values.len() == 1 { regex } else { format!("({regex})") };
        let sql = values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect::<Vec<_>>().join(",");
        text = text
            .replace(&format!("${{{name}:regex}}"), &regex)
            .replace(&format!("${{{name}:sqlstring}}"), &sql)
            .replace(&format!("${{{name}:csv}}"), &values.join(","));
    }
    assert!(!text.contains("${"), "a variable that nothing was put in for: {text}");
    text
}

fn regex_escaped(text: &str) -> String {
    let escaped = |c: char| if "\\^$.*+?()[]{}|/".contains(c) { format!("\\{c}") } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// Puts in what Grafana's back end does for InfluxQL.
fn influxql_of(query: &str) -> String {
    query.replace("$timeFilter", "time >= now() - 1h and time <= now()").replace("$__interval", "10s")
}

/// And for SQL.
fn sql_of(query: &str) -> String {
    let mut text = query.replace(", $__interval)", ", '10s')");
    for (macro_name, write) in [
        ("$__timeGroupAlias", group as fn(&str) -> String),
        ("$__timeFilter", |column| format!("{column} BETWEEN now() - interval '1 hour' AND now()")),
    ] {
        while let Some(at) = text.find(macro_name) {
            let open = at + macro_name.len();
            let close = open + text[open..].find(')').unwrap();
            let inside = text[open + 1..close].to_owned();
            text.replace_range(at..=close, &write(&inside));
        }
    }
    assert!(!text.contains("$__"), "a macro that nothing was put in for: {text}");
    text
}

fn group(inside: &str) -> String {
    let column = inside.split(',').next().unwrap();
    format!("floor(extract(epoch from {column})/10)*10 AS \"time\"")
}

/// The values of all variables of a dashboard: all of those that may be many, else the first.
pub(super) fn picked(board: &Value, mut ask: impl FnMut(&str) -> Vec<String>) -> Picked {
    let mut all = Picked::new();
    for variable in board["templating"]["list"].as_array().unwrap() {
        if variable["type"] != "query" {
            continue;
        }
        let name = variable["name"].as_str().unwrap();
        let mut values = ask(&with_variables(variable["query"].as_str().unwrap(), &all));
        assert!(!values.is_empty(), "{}: nothing to pick for {name}", board["uid"]);
        if variable["multi"] != true {
            values.truncate(1);
        }
        all.insert(name.to_owned(), values);
    }
    all
}

/// Each query of a dashboard with what it stands in: panels, then marks.
pub(super) fn queries(board: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            all.push((panel["title"].as_str().unwrap().to_owned(), target.clone()));
        }
    }
    for mark in board["annotations"]["list"].as_array().unwrap().iter().skip(1) {
        let target = if mark["target"].is_object() { &mark["target"] } else { mark };
        all.push((format!("mark {}", mark["name"]), target.clone()));
    }
    all
}

fn uid_of(source: &Value) -> &str {
    source["uid"].as_str().unwrap()
}

#[test]
fn every_panels_query_has_rows_on_the_real_store() {
    let (Some(influx), Some(postgres)) = (Influx1::shared(), Postgres::shared()) else { return };
    if !store_is_built() || !psql_is_there() {
        return;
    }
    let (bucket, database, sql_port) = (influx.fresh_database(), postgres.fresh_database(), free_port());
    let filled = Filled::start(
        &format!(
            "[sink.influx]\nkind = 'influx'\nurl = '{}'\ndatabase = '{bucket}'\n[sink.pg]\nkind = 'postgres'\ndsn = '{}'\n\
             [store]\nsql_listen = '127.0.0.1:{sql_port}'\nidle = false\n",
            influx.url(),
            database.dsn
        ),
        "",
    );
    let password = std::fs::read_to_string(filled.deck.dir.join("sql.password")).unwrap();
    let own = format!("postgresql://tapedeck:{}@127.0.0.1:{sql_port}/tapedeck", password.trim());
    // Files and tail of the deck's own SQL.
    until("candles in the deck's own SQL", || {
        (postgres.psql(&own, "select count(*) from candles").parse::<u64>().unwrap() > 5).then_some(())
    });
    let boards = filled.boards();
    let uids: BTreeSet<&str> = boards.iter().map(|board| board["uid"].as_str().unwrap()).collect();
    for stream in STREAMS.into_iter().chain(["candles", "data_quality"]) {
        for suffix in ["", "-pg", "-store"] {
            assert!(uids.contains(format!("{stream}{suffix}").as_str()), "{stream}{suffix}: {uids:?}");
        }
    }
    let ask = |source: &str, query: &str| -> Vec<String> {
        match source {
            "tapedeck-influx" => rows_of_influx(influx, &bucket, &influxql_of(query)),
            "tapedeck-pg" => lines(&postgres.psql(&database.dsn, &sql_of(query))),
            _ => lines(&postgres.psql(&own, &sql_of(query))),
        }
    };
    let mut empty = Vec::new();
    for board in &boards {
        let source = uid_of(&board["panels"][0]["datasource"]).to_owned();
        let picked = picked(board, |query| ask(&source, query).iter().map(|row| last_cell(row)).collect());
        for (title, target) in queries(board) {
            assert_eq!(uid_of(&target["datasource"]), source, "{}: {title}", board["uid"]);
            let query = target["query"].as_str().or(target["rawSql"].as_str()).unwrap();
            let query = with_variables(query, &picked);
            if ask(&source, &query).is_empty() {
                empty.push(format!("{}: {title}: {query}", board["uid"]));
            }
        }
    }
    assert!(empty.is_empty(), "{empty:#?}");
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// A variable's value: the second column, where there is one.
fn last_cell(row: &str) -> String {
    row.rsplit('|').next().unwrap().to_owned()
}

fn rows_of_influx(influx: &Influx1, database: &str, query: &str) -> Vec<String> {
    let answer = influxql(influx.port(), database, query, &[]);
    let series = answer["series"].as_array().cloned().unwrap_or_default();
    let rows = series.iter().flat_map(|one| one["values"].as_array().cloned().unwrap_or_default());
    // A row without any value is none.
    rows.filter(|row| row.as_array().unwrap().iter().skip(1).any(|cell| !cell.is_null()))
        .map(|row| row.as_array().unwrap().iter().map(text_of).collect::<Vec<_>>().join("|"))
        .collect()
}

fn text_of(cell: &Value) -> String {
    cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)
}

#[test]
fn dashboards_keep_to_the_schema_that_is_published() {
    let Some(python) = crate::support::python() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("tapedeck.toml");
    // PostgreSQL need not run for this: it is not asked where it keeps what.
    let text = format!(
        "[sink.pg]\nkind = 'postgres'\ndsn = 'postgres://u:p@127.0.0.1/d'\n[source.points]\nkind = 'http'\n[candles]\n\
         [grafana]\nprometheus = 'http://127.0.0.1:9090'\nstreams = {STREAMS:?}\n"
    );
    let dir = home.path().join("g");
    write_files(&config, &text, &dir);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/grafana/schema.py");
    let out = std::process::Command::new(python).arg(script).arg(dir.join("dashboards/tapedeck")).output().unwrap();
    if out.status.code() == Some(3) {
        skipped(&String::from_utf8_lossy(&out.stderr));
        return;
    }
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let count: usize = String::from_utf8_lossy(&out.stdout).trim().parse().unwrap();
    assert_eq!(count, STREAMS.len() + 3, "dashboards that were looked at");
}
