//! The part of Grafana's HTTP API that is used, in memory: what it is told it keeps, and what it keeps it tells.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "glsa_of_the_test";
/// `admin:grafana-hush`, as HTTP says it.
const LOGIN: &str = "Basic YWRtaW46Z3JhZmFuYS1odXNo";

#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// By name.
    pub(crate) sources: BTreeMap<String, Value>,
    /// By uid.
    pub(crate) dashboards: BTreeMap<String, Value>,
    pub(crate) folders: Vec<Value>,
    /// Alert rules by uid.
    pub(crate) rules: BTreeMap<String, Value>,
    /// How often a group is looked at, in seconds, by its name.
    pub(crate) paces: BTreeMap<String, u64>,
    /// What it answers to whoever asks for alert rules, in their place: 404 is an old one.
    pub(crate) rules_refused: Option<u16>,
    /// Requests that changed something.
    pub(crate) writes: Vec<String>,
}

pub(super) type Shared = Arc<Mutex<Kept>>;
pub(super) type Answer = (StatusCode, Json<Value>);

pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) kept: Shared,
}

impl Fake {
    pub(crate) async fn start() -> Fake {
        let kept = Shared::default();
        let app = Router::new()
            .route("/api/health", get(async || Json(json!({ "database": "ok", "version": "11.0.0" }))))
            .route("/api/datasources/name/{name}", get(source))
            .route("/api/datasources/uid/{uid}", put(replace_source))
            .route("/api/datasources/uid/{uid}/health", get(async || Json(json!({ "status": "OK" }))))
            .route("/api/datasources", post(add_source))
            .route("/api/folders", get(folders).post(add_folder))
            .route("/api/folders/{uid}", get(folder).put(rename_folder))
            .merge(super::fake_rules::routes())
            .route("/api/dashboards/uid/{uid}", get(dashboard))
            .route("/api/dashboards/db", post(add_dashboard))
            .with_state(kept.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Fake { url, kept }
    }
}

/// 401 for whoever brings neither the token nor the login.
pub(super) fn refused(headers: &HeaderMap) -> Option<Answer> {
    let brought = headers.get("authorization").and_then(|text| text.to_str().ok());
    let known = brought.is_some_and(|text| text == format!("Bearer {TOKEN}") || text == LOGIN);
    (!known).then(|| (StatusCode::UNAUTHORIZED, Json(json!({ "message": "Invalid API key" }))))
}

pub(super) fn not_found(what: &str) -> Answer {
    (StatusCode::NOT_FOUND, Json(json!({ "message": format!("{what} not found") })))
}

async fn source(State(kept): State<Shared>, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    match kept.lock().unwrap().sources.get(&name) {
        Some(source) => (StatusCode::OK, Json(source.clone())),
        None => not_found("Data source"),
    }
}

/// Secrets are kept, and never told again.
fn without_secrets(mut source: Value) -> Value {
    let secrets = source["secureJsonData"].take();
    let names = secrets.as_object().into_iter().flatten().map(|(name, _)| (name.clone(), json!(true)));
    source["secureJsonFields"] = names.collect::<serde_json::Map<_, _>>().into();
    source["readOnly"] = json!(false);
    source
}

async fn add_source(State(kept): State<Shared>, headers: HeaderMap, Json(source): Json<Value>) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    let name = source["name"].as_str().unwrap().to_owned();
    let mut kept = kept.lock().unwrap();
    if kept.sources.contains_key(&name) {
        return (StatusCode::CONFLICT, Json(json!({ "message": "data source with the same name already exists" })));
    }
    kept.writes.push(format!("POST {name}"));
    kept.sources.insert(name, without_secrets(source));
    (StatusCode::OK, Json(json!({ "message": "Datasource added" })))
}

async fn replace_source(
    State(kept): State<Shared>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    Json(source): Json<Value>,
) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    let mut kept = kept.lock().unwrap();
    let Some(name) = kept.sources.values().find(|one| one["uid"] == uid).map(|one| one["name"].clone()) else {
        return not_found("Data source");
    };
    kept.writes.push(format!("PUT {}", name.as_str().unwrap()));
    kept.sources.insert(name.as_str().unwrap().to_owned(), without_secrets(source));
    (StatusCode::OK, Json(json!({ "message": "Datasource updated" })))
}

async fn add_folder(State(kept): State<Shared>, headers: HeaderMap, Json(folder): Json<Value>) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    let mut kept = kept.lock().unwrap();
    if kept.folders.iter().any(|one| one["uid"] == folder["uid"] || one["title"] == folder["title"]) {
        return (StatusCode::PRECONDITION_FAILED, Json(json!({ "message": "it has been changed by someone else" })));
    }
    kept.writes.push(format!("folder {}", folder["title"]));
    kept.folders.push(folder);
    (StatusCode::OK, Json(json!({})))
}

async fn folders(State(kept): State<Shared>, headers: HeaderMap) -> Answer {
    refused(&headers).unwrap_or_else(|| (StatusCode::OK, Json(json!(kept.lock().unwrap().folders))))
}

async fn folder(State(kept): State<Shared>, Path(uid): Path<String>, headers: HeaderMap) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    match kept.lock().unwrap().folders.iter().find(|one| one["uid"] == uid) {
        Some(folder) => (StatusCode::OK, Json(folder.clone())),
        None => not_found("folder"),
    }
}

async fn rename_folder(
    State(kept): State<Shared>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    Json(order): Json<Value>,
) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    let mut kept = kept.lock().unwrap();
    kept.writes.push(format!("folder {}", order["title"]));
    let Some(folder) = kept.folders.iter_mut().find(|one| one["uid"] == uid) else { return not_found("folder") };
    folder["title"] = order["title"].clone();
    (StatusCode::OK, Json(folder.clone()))
}

async fn dashboard(State(kept): State<Shared>, Path(uid): Path<String>, headers: HeaderMap) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    match kept.lock().unwrap().dashboards.get(&uid) {
        Some(one) => {
            let meta = json!({ "provisioned": false, "folderUid": one["folder"] });
            (StatusCode::OK, Json(json!({ "dashboard": one["dashboard"], "meta": meta })))
        }
        None => not_found("Dashboard"),
    }
}

async fn add_dashboard(State(kept): State<Shared>, headers: HeaderMap, Json(order): Json<Value>) -> Answer {
    if let Some(answer) = refused(&headers) {
        return answer;
    }
    let mut board = order["dashboard"].clone();
    let uid = board["uid"].as_str().unwrap().to_owned();
    let mut kept = kept.lock().unwrap();
    if kept.dashboards.contains_key(&uid) && order["overwrite"] != true {
        return (StatusCode::PRECONDITION_FAILED, Json(json!({ "status": "name-exists" })));
    }
    board["id"] = json!(kept.dashboards.len() + 1);
    board["version"] = json!(7);
    kept.writes.push(format!("dashboard {uid}"));
    kept.dashboards.insert(uid, json!({ "dashboard": board, "folder": order["folderUid"] }));
    (StatusCode::OK, Json(json!({ "status": "success" })))
}
