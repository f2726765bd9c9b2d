//! Alert rules of the fake, by Grafana's API for provisioning.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::fake::{Answer, Kept, Shared, not_found, refused};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/provisioning/alert-rules", get(rules).post(add))
        .route("/api/v1/provisioning/alert-rules/{uid}", get(rule).put(replace).delete(remove))
        .route("/api/v1/provisioning/folder/{folder}/rule-groups/{group}", get(group).put(set_pace))
}

/// Who may not, and a Grafana that has none.
fn kept_away(kept: &Kept, headers: &HeaderMap) -> Option<Answer> {
    let forbidden = |code: u16| {
        (StatusCode::from_u16(code).unwrap(), Json(json!({ "message": "You'll need additional permissions" })))
    };
    refused(headers).or_else(|| kept.rules_refused.map(forbidden))
}

/// Where a rule is from: the API, unless the header says that nobody shall ask.
fn provenance(headers: &HeaderMap) -> &'static str {
    if headers.contains_key("x-disable-provenance") { "" } else { "api" }
}

/// As Grafana keeps it: with members of its own.
fn kept_as(mut rule: Value, provenance: &str) -> Value {
    for query in rule["data"].as_array_mut().unwrap() {
        query["queryType"] = json!("");
        query["model"]["intervalMs"] = json!(1000);
        query["model"]["maxDataPoints"] = json!(43200);
    }
    rule["provenance"] = json!(provenance);
    rule["updated"] = json!("2026-01-01T00:00:00Z");
    if rule["isPaused"].is_null() {
        rule["isPaused"] = json!(false);
    }
    rule
}

async fn rules(State(kept): State<Shared>, headers: HeaderMap) -> Answer {
    let kept = kept.lock().unwrap();
    if let Some(answer) = kept_away(&kept, &headers) {
        return answer;
    }
    // The list does not say where a rule is from.
    let mut all: Vec<Value> = kept.rules.values().cloned().collect();
    all.iter_mut().for_each(|rule| rule["provenance"] = json!(""));
    (StatusCode::OK, Json(json!(all)))
}

async fn rule(State(kept): State<Shared>, Path(uid): Path<String>, headers: HeaderMap) -> Answer {
    let kept = kept.lock().unwrap();
    if let Some(answer) = kept_away(&kept, &headers) {
        return answer;
    }
    kept.rules.get(&uid).map_or_else(|| not_found("rule"), |rule| (StatusCode::OK, Json(rule.clone())))
}

async fn add(State(kept): State<Shared>, headers: HeaderMap, Json(rule): Json<Value>) -> Answer {
    let mut kept = kept.lock().unwrap();
    if let Some(answer) = kept_away(&kept, &headers) {
        return answer;
    }
    let uid = rule["uid"].as_str().unwrap().to_owned();
    if kept.rules.contains_key(&uid) || !kept.folders.iter().any(|one| one["uid"] == rule["folderUID"]) {
        return (StatusCode::BAD_REQUEST, Json(json!({ "message": "invalid alert rule" })));
    }
    // A group that is new is looked at once a minute.
    kept.paces.entry(rule["ruleGroup"].as_str().unwrap().to_owned()).or_insert(60);
    kept.writes.push(format!("rule {uid}"));
    kept.rules.insert(uid, kept_as(rule, provenance(&headers)));
    (StatusCode::CREATED, Json(json!({})))
}

async fn replace(
    State(kept): State<Shared>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    Json(rule): Json<Value>,
) -> Answer {
    let mut kept = kept.lock().unwrap();
    if let Some(answer) = kept_away(&kept, &headers) {
        return answer;
    }
    let Some(found) = kept.rules.get(&uid) else { return not_found("rule") };
    let (from, by) = (found["provenance"].as_str().unwrap().to_owned(), provenance(&headers));
    if from != by && !from.is_empty() {
        let message = format!("cannot change provenance from '{from}' to '{by}'");
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "message": message })));
    }
    kept.writes.push(format!("rule {uid}"));
    kept.rules.insert(uid, kept_as(rule, by));
    (StatusCode::OK, Json(json!({})))
}

async fn remove(State(kept): State<Shared>, Path(uid): Path<String>, headers: HeaderMap) -> Answer {
    let mut kept = kept.lock().unwrap();
    if let Some(answer) = kept_away(&kept, &headers) {
        return answer;
    }
    kept.writes.push(format!("no rule {uid}"));
    kept.rules.remove(&uid);
    (StatusCode::NO_CONTENT, Json(Value::Null))
}

async fn group(
    State(kept): State<Shared>,
    Path((folder, group)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let kept = kept.lock().unwrap();
    if let Some(answer) = kept_away(&kept, &headers) {
        return answer;
    }
    let of = |rule: &&Value| rule["folderUID"] == folder && rule["ruleGroup"] == group;
    let rules: Vec<&Value> = kept.rules.values().filter(of).collect();
    if rules.is_empty() {
        return not_found("rule group");
    }
    let whole = json!({ "title": group, "folderUid": folder, "interval": kept.paces[&group], "rules": rules });
    (StatusCode::OK, Json(whole))
}

async fn set_pace(
    State(kept): State<Shared>,
    Path((_, group)): Path<(String, String)>,
    headers: HeaderMap,
    Json(order): Json<Value>,
) -> Answer {
    let mut kept = kept.lock().unwrap();
    if let Some(answer) = kept_away(&kept, &headers) {
        return answer;
    }
    // With rules in it, it would be the whole group, and those of others would go.
    assert!(order["rules"].is_null(), "{order}");
    kept.writes.push(format!("pace of {group}"));
    kept.paces.insert(group, order["interval"].as_u64().unwrap());
    (StatusCode::OK, Json(order))
}
