//! What a test asks a store, by the store's own HTTP: small and blocking, and none of the program's code.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Influx1, Influx2, PocketBase, Questdb};

/// A status and a body.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Influx1 {
    /// `POST /write` of lines with times in nanoseconds.
    pub(crate) fn write(&self, database: &str, lines: &str) -> Reply {
        post(self.port(), &format!("/write?db={database}"), &[], lines)
    }

    /// The answer to InfluxQL; an error in it fails the test.
    pub(crate) fn query(&self, database: &str, query: &str) -> Value {
        influxql(self.port(), database, query, &[])
    }
}

impl Influx2 {
    /// `POST /api/v2/write` of lines with times in nanoseconds.
    pub(crate) fn write(&self, bucket: &str, lines: &str) -> Reply {
        let path = format!("/api/v2/write?org={}&bucket={bucket}", self.org());
        post(self.port(), &path, &[("Authorization", &self.authorization())], lines)
    }

    /// The answer to InfluxQL; an error in it fails the test.
    pub(crate) fn query(&self, bucket: &str, query: &str) -> Value {
        influxql(self.port(), bucket, query, &[("Authorization", &self.authorization())])
    }

    /// The header of that name.
    pub(crate) fn authorization(&self) -> String {
        format!("Token {}", self.token())
    }
}

impl Questdb {
    /// `POST /write` of lines with times in nanoseconds.
    pub(crate) fn write(&self, lines: &str) -> Reply {
        post(self.port(), "/write?precision=n", &[], lines)
    }

    /// The rows of a statement; an error fails the test. After a write: QuestDB applies it a moment later.
    pub(crate) fn query(&self, sql: &str) -> Value {
        let reply = self.exec(sql);
        assert_eq!(reply.status, 200, "{sql}: {}", reply.body);
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        answer["dataset"].clone()
    }

    /// `GET /exec`, whatever it says.
    pub(crate) fn exec(&self, sql: &str) -> Reply {
        let query: String = form_urlencoded::byte_serialize(sql.as_bytes()).collect();
        ask(self.port(), "GET", &format!("/exec?query={query}"), &[], "", Duration::from_secs(60)).unwrap()
    }
}

impl PocketBase {
    /// As its superuser, with a login of its own; `null` is no body. An answer that is no success fails the test.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.send(method, path, body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {reply:?}");
        serde_json::from_str(&reply.body).unwrap_or_default()
    }

    /// As `call`, whatever it says.
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let who = json!({"identity": self.email(), "password": self.password()});
        let login = post(self.port(), "/api/collections/_superusers/auth-with-password", &[JSON], &who.to_string());
        let login: Value = serde_json::from_str(&login.body).unwrap();
        let token = login["token"].as_str().unwrap_or_else(|| panic!("{login}"));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [JSON, ("Authorization", token)];
        ask(self.port(), method, path, &headers, &body, Duration::from_secs(60)).unwrap()
    }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(crate) fn influxql(port: u16, database: &str, query: &str, headers: &[(&str, &str)]) -> Value {
    let words: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let path = format!("/query?db={database}&epoch=ns&q={words}");
    // Counting a day's points takes its time.
    let reply = ask(port, "POST", &path, headers, "", Duration::from_secs(900)).unwrap();
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let failed = answer["error"].is_string() || answer["results"][0]["error"].is_string();
    assert!(reply.status == 200 && !failed, "{query}: {reply:?}");
    answer["results"][0].clone()
}

pub(crate) fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    ask(port, "POST", path, headers, body, Duration::from_secs(60)).unwrap()
}

/// One request on a connection of its own. It blocks, and may be called from async tests, too.
pub(crate) fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    patience: Duration,
) -> reqwest::Result<Reply> {
    let asking = async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(patience).build()?;
        let mut request =
            client.request(method.parse().unwrap(), format!("http://127.0.0.1:{port}{path}")).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.send().await?;
        Ok::<_, reqwest::Error>(Reply { status: reply.status().as_u16(), body: reply.text().await? })
    };
    // On a thread of its own: a runtime is neither entered nor dropped within another.
    let asked = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asking);
    std::thread::scope(|scope| scope.spawn(asked).join().unwrap())
}
