//! The plan brought to a running Grafana over HTTP. Doing it twice changes nothing; what somebody has changed since is put right.

mod rules;

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use super::config::Config;
use super::plan::{Change, Plan, Wanted};
use crate::config::Secret;
use crate::sinks::http;

/// A list of dashboards, or one with all its panels.
const ANSWER_BYTES: usize = 16 << 20;
const FOLDER: &str = "tapedeck";
/// The most that Grafana lists at once.
const FOLDERS: u32 = 1000;
/// Every Grafana has this one at first.
const FIRST_USER: &str = "admin";
/// Between two looks at a server that is starting.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A Grafana.
#[derive(Debug)]
pub(super) struct Api {
    http: reqwest::Client,
    base: Url,
    login: Login,
    /// Only said, not done.
    dry: bool,
}

#[derive(Debug)]
enum Login {
    Token(Secret),
    Password(String, Secret),
    None,
}

/// What a Grafana has of the plan.
#[derive(Debug, Default, serde::Serialize)]
pub struct State {
    pub version: String,
    /// Whether it let us look, which takes a login.
    pub asked: bool,
    /// Names of data sources that are missing or different.
    pub sources: Vec<String>,
    /// Data sources that Grafana cannot reach, with its words.
    pub unreachable: Vec<(String, String)>,
    /// Dashboards that are missing or different.
    pub dashboards: Vec<String>,
    /// Alert rules that are missing or different.
    pub alerts: Vec<String>,
    /// Why these were not looked at.
    pub alerts_unseen: Option<String>,
}

impl Api {
    /// # Errors
    /// The table is wrong.
    pub(super) fn of(config: &Config, dry: bool) -> anyhow::Result<Api> {
        let login = match (&config.token, &config.password) {
            (Some(token), _) => Login::Token(token.clone()),
            (None, Some(password)) => {
                Login::Password(config.username.clone().unwrap_or_else(|| FIRST_USER.to_owned()), password.clone())
            }
            (None, None) => Login::None,
        };
        let http = http::client(config.timeout.0, config.verify_tls, config.ca_file.as_deref())?;
        Ok(Api { http, base: config.base()?, login, dry })
    }

    /// Waits until it answers; its version.
    ///
    /// # Errors
    /// It does not, within that time.
    pub(super) async fn ready(&self, within: Duration) -> anyhow::Result<String> {
        let began = Instant::now();
        loop {
            let error = match self.ask(Method::GET, "api/health", None).await {
                Ok((status, answer)) if status.is_success() && answer["database"] == "ok" => {
                    return Ok(answer["version"].as_str().unwrap_or("unknown").to_owned());
                }
                Ok((status, answer)) => anyhow::anyhow!("it answers {status}: {}", words(&answer)),
                Err(error) => error,
            };
            if began.elapsed() >= within {
                let waited =
                    if within.is_zero() { String::new() } else { format!(" within {} s", within.as_secs_f64()) };
                let words = format!("no Grafana at {}{waited}: start it, or set [grafana] url", self.base);
                return Err(error.context(words));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Makes the data sources that are missing, and puts right those that differ. One of that name is used as it is known there.
    ///
    /// # Errors
    /// Grafana does not let us; what was done until then stays.
    pub(super) async fn sources(&self, plan: &mut Plan) -> anyhow::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut renamed = Vec::new();
        for wanted in &mut plan.sources {
            let (change, uid) = self.source(wanted).await.with_context(|| format!("data source {}", wanted.name))?;
            if uid != wanted.uid {
                renamed.push((std::mem::replace(&mut wanted.uid, uid.clone()), uid));
            }
            changes.push(change);
        }
        plan.point_to(&renamed);
        Ok(changes)
    }

    async fn source(&self, wanted: &Wanted) -> anyhow::Result<(Change, String)> {
        let found = self.source_of_name(&wanted.name).await?;
        let change = |uid: &str, state, note: &str| Change {
            what: "datasource",
            uid: uid.to_owned(),
            name: wanted.name.clone(),
            state,
            note: note.to_owned(),
        };
        let mut body = wanted.source.shown(&wanted.uid, &wanted.name);
        body["secureJsonData"] = wanted.source.secrets();
        let Some(found) = found else {
            if !self.dry {
                self.order(Method::POST, "api/datasources", &body).await?;
            }
            return Ok((change(&wanted.uid, "created", &self.health(&wanted.uid).await), wanted.uid.clone()));
        };
        let uid = found["uid"].as_str().unwrap_or(&wanted.uid).to_owned();
        if !is_of_kind(&found, wanted.source.kind) {
            bail!(
                "there is one of that name, of kind {}: rename it there, or remove it",
                found["type"].as_str().unwrap_or("unknown")
            );
        }
        let drift = self.differs(wanted, &found);
        if drift.is_empty() {
            return Ok((change(&uid, "unchanged", &self.health(&uid).await), uid));
        }
        if found["readOnly"] == true {
            bail!(
                "it differs in {} and comes from a file: change it there, or set [grafana] to = \"files\"",
                drift.join(", ")
            );
        }
        body["uid"] = json!(uid);
        body["type"] = found["type"].clone();
        // Whether it is the one for new panels was somebody's decision.
        body["isDefault"] = found["isDefault"].clone();
        if !self.dry {
            self.order(Method::PUT, &format!("api/datasources/uid/{uid}"), &body).await?;
        }
        let mut note = format!("was different in {}", drift.join(", "));
        let health = self.health(&uid).await;
        if !health.is_empty() {
            note = format!("{note}; {health}");
        }
        Ok((change(&uid, "updated", &note), uid))
    }

    /// Lets the plan's dashboards refer to the data sources that are there.
    ///
    /// # Errors
    /// One is missing, or Grafana does not let us ask.
    pub(super) async fn known(&self, plan: &mut Plan) -> anyhow::Result<Vec<Change>> {
        let mut renamed = Vec::new();
        for wanted in &plan.sources {
            let found = self.source_of_name(&wanted.name).await?;
            let found = found.with_context(|| {
                format!("there is no data source {}: tapedeck grafana datasource --to api makes it", wanted.name)
            })?;
            renamed.push((wanted.uid.clone(), found["uid"].as_str().unwrap_or_default().to_owned()));
        }
        plan.point_to(&renamed);
        Ok(Vec::new())
    }

    async fn source_of_name(&self, name: &str) -> anyhow::Result<Option<Json>> {
        let (status, answer) = self.ask(Method::GET, &format!("api/datasources/name/{}", encoded(name)), None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            status => Err(self.refused(status, &answer)),
        }
    }

    /// In which of its settings a data source is not as wanted; what is not ours to say may be anything.
    fn differs(&self, wanted: &Wanted, found: &Json) -> Vec<String> {
        let shown = wanted.source.shown(&wanted.uid, &wanted.name);
        let mut drift: Vec<String> = ["url", "access", "user", "database"]
            .into_iter()
            .filter(|key| shown.get(*key).is_some_and(|value| found.get(*key) != Some(value)))
            .map(str::to_owned)
            .collect();
        let settings = wanted.source.settings.as_object().into_iter().flatten();
        drift.extend(
            settings.filter(|(key, value)| found["jsonData"].get(key) != Some(value)).map(|(key, _)| key.clone()),
        );
        let secrets = wanted.source.secrets.iter().map(|(key, _)| *key);
        drift.extend(secrets.filter(|key| found["secureJsonFields"][*key] != true).map(str::to_owned));
        drift
    }

    /// What Grafana says when it tries a data source: nothing where that went well, or where it cannot.
    async fn health(&self, uid: &str) -> String {
        if self.dry {
            return String::new();
        }
        match self.ask(Method::GET, &format!("api/datasources/uid/{uid}/health"), None).await {
            Ok((status, answer)) if !status.is_success() && status != StatusCode::NOT_FOUND => {
                format!("Grafana cannot use it: {}", words(&answer))
            }
            _ => String::new(),
        }
    }

    /// The folder for dashboards and alert rules: ours, or one of that title that is there, else it is made. With its uid.
    ///
    /// # Errors
    /// Grafana does not let us.
    pub(super) async fn folder(&self, title: &str) -> anyhow::Result<Change> {
        self.folder_of(title).await.context("folder")
    }

    async fn folder_of(&self, title: &str) -> anyhow::Result<Change> {
        let change = |uid: &str, state| Change {
            what: "folder",
            uid: uid.to_owned(),
            name: title.to_owned(),
            state,
            note: String::new(),
        };
        let (status, found) = self.ask(Method::GET, &format!("api/folders/{FOLDER}"), None).await?;
        match status {
            // An editor may not ask for one that is not there.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {}
            status if !status.is_success() => return Err(self.refused(status, &found)),
            _ if found["title"] == title => return Ok(change(FOLDER, "unchanged")),
            _ => {
                if !self.dry {
                    let body = json!({ "title": title, "overwrite": true });
                    self.order(Method::PUT, &format!("api/folders/{FOLDER}"), &body).await?;
                }
                return Ok(change(FOLDER, "updated"));
            }
        }
        let (status, all) = self.ask(Method::GET, &format!("api/folders?limit={FOLDERS}"), None).await?;
        if !status.is_success() {
            return Err(self.refused(status, &all));
        }
        let theirs = all.as_array().into_iter().flatten().find(|one| one["title"] == title);
        if let Some(uid) = theirs.and_then(|one| one["uid"].as_str()) {
            return Ok(change(uid, "unchanged"));
        }
        if !self.dry {
            self.order(Method::POST, "api/folders", &json!({ "uid": FOLDER, "title": title })).await?;
        }
        Ok(change(FOLDER, "created"))
    }

    /// Makes the dashboards that are missing, and puts right those that differ.
    ///
    /// # Errors
    /// Grafana does not let us; what was done until then stays.
    pub(super) async fn dashboards(&self, plan: &Plan, folder: &str) -> anyhow::Result<Vec<Change>> {
        let mut changes = Vec::new();
        for board in &plan.dashboards {
            let uid = board["uid"].as_str().unwrap_or_default().to_owned();
            let name = board["title"].as_str().unwrap_or_default().to_owned();
            let state = self.dashboard(board, &uid, folder).await.with_context(|| format!("dashboard {uid}"))?;
            changes.push(Change { what: "dashboard", uid, name, state, note: String::new() });
        }
        Ok(changes)
    }

    async fn dashboard(&self, board: &Json, uid: &str, folder: &str) -> anyhow::Result<&'static str> {
        let (state, from_a_file) = self.compared(board, uid, folder).await?;
        if state == "updated" && from_a_file {
            bail!("it differs, and comes from a file: change it there, or set [grafana] to = \"files\"");
        }
        if state != "unchanged" && !self.dry {
            let body = json!({ "dashboard": board, "folderUid": folder, "overwrite": true, "message": "tapedeck grafana setup" });
            self.order(Method::POST, "api/dashboards/db", &body).await?;
        }
        Ok(state)
    }

    /// What has to become of a dashboard, and whether the one that is there comes from a file.
    async fn compared(&self, board: &Json, uid: &str, folder: &str) -> anyhow::Result<(&'static str, bool)> {
        let Some(found) = self.dashboard_of(uid).await? else { return Ok(("created", false)) };
        let meta = &found["meta"];
        let elsewhere = meta["folderUid"].as_str().is_some_and(|there| there != folder);
        let state = if same(board, &found["dashboard"]) && !elsewhere { "unchanged" } else { "updated" };
        Ok((state, meta["provisioned"] == true))
    }

    async fn dashboard_of(&self, uid: &str) -> anyhow::Result<Option<Json>> {
        let (status, answer) = self.ask(Method::GET, &format!("api/dashboards/uid/{uid}"), None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            status => Err(self.refused(status, &answer)),
        }
    }

    /// What of the plan is there, and whether Grafana reaches its data sources; changes nothing.
    ///
    /// # Errors
    /// It does not answer, or does not let us ask.
    pub(super) async fn look(&self, plan: &mut Plan) -> anyhow::Result<State> {
        let version = self.ready(Duration::ZERO).await?;
        if matches!(self.login, Login::None) {
            return Ok(State { version, ..State::default() });
        }
        let mut state = State { version, asked: true, ..State::default() };
        let mut renamed = Vec::new();
        for wanted in &plan.sources {
            let Some(found) = self.source_of_name(&wanted.name).await? else {
                state.sources.push(format!("{} is missing", wanted.name));
                continue;
            };
            let drift = self.differs(wanted, &found);
            if !drift.is_empty() {
                state.sources.push(format!("{} differs in {}", wanted.name, drift.join(", ")));
            }
            let uid = found["uid"].as_str().unwrap_or_default().to_owned();
            let health = self.health(&uid).await;
            if !health.is_empty() {
                state.unreachable.push((wanted.name.clone(), health));
            }
            renamed.push((wanted.uid.clone(), uid));
        }
        plan.point_to(&renamed);
        let folder = self.folder(&plan.folder).await?.uid;
        for board in &plan.dashboards {
            let uid = board["uid"].as_str().unwrap_or_default();
            match self.compared(board, uid, &folder).await?.0 {
                "unchanged" => {}
                "created" => state.dashboards.push(format!("{uid} is missing")),
                _ => state.dashboards.push(format!("{uid} differs")),
            }
        }
        match self.rules(plan, &folder).await {
            Ok(changes) => changes.into_iter().for_each(|change| match change.state {
                "unchanged" => {}
                "created" => state.alerts.push(format!("the group {} is missing", change.uid)),
                "left out" => state.alerts_unseen = Some(change.note),
                _ => state.alerts.push(change.note),
            }),
            Err(error) => state.alerts.push(format!("{error:#}")),
        }
        Ok(state)
    }

    async fn order(&self, method: Method, path: &str, body: &Json) -> anyhow::Result<Json> {
        let (status, answer) = self.ask(method, path, Some(body)).await?;
        if status.is_success() { Ok(answer) } else { Err(self.refused(status, &answer)) }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> anyhow::Result<(StatusCode, Json)> {
        sent(self.request(method, path, body)).await
    }

    fn request(&self, method: Method, path: &str, body: Option<&Json>) -> RequestBuilder {
        let url = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        let mut request: RequestBuilder = self.http.request(method, url);
        request = match &self.login {
            Login::Token(token) => request.bearer_auth(token.expose()),
            Login::Password(user, password) => request.basic_auth(user, Some(password.expose())),
            Login::None => request,
        };
        match body {
            Some(body) => request.json(body),
            None => request,
        }
    }

    fn refused(&self, status: StatusCode, answer: &Json) -> anyhow::Error {
        let help = match (status, &self.login) {
            (StatusCode::UNAUTHORIZED, Login::None) => "; set [grafana] token, or username and password",
            (StatusCode::UNAUTHORIZED, _) => "; the token or password in [grafana] is not known there",
            (StatusCode::FORBIDDEN, _) => {
                "; a service account needs the role Admin to make data sources, and Editor to make dashboards"
            }
            _ => "",
        };
        anyhow::anyhow!("Grafana answers {status}: {}{help}", words(answer))
    }
}

async fn sent(request: RequestBuilder) -> anyhow::Result<(StatusCode, Json)> {
    let answer =
        http::exchange(request, ANSWER_BYTES).await.map_err(|error| anyhow::Error::new(error.without_url()))?;
    Ok((answer.status, serde_json::from_str(&answer.text).unwrap_or(Json::String(answer.text))))
}

/// Whether a data source is of that kind: newer Grafanas call some by a longer name, and know the short one.
fn is_of_kind(found: &Json, kind: &str) -> bool {
    found["type"] == kind || (kind == "postgres" && found["type"] == "grafana-postgresql-datasource")
}

/// What an answer says in words.
fn words(answer: &Json) -> String {
    let said = answer["message"].as_str().or(answer.as_str()).unwrap_or_default();
    said.chars().take(300).collect()
}

/// Whether a dashboard is the wanted one: what Grafana keeps of its own beside it does not count.
fn same(wanted: &Json, found: &Json) -> bool {
    const ITS_OWN: [&str; 2] = ["id", "version"];
    let members = wanted.as_object().into_iter().flatten();
    members.filter(|(key, _)| !ITS_OWN.contains(&key.as_str())).all(|(key, value)| found.get(key) == Some(value))
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
