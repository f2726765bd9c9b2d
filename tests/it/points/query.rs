//! `/query`: answered here, passed on, or told that there is nobody to ask.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::desk::{Answer, Desk};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_are_created_and_shown_in_the_servers_form() {
    let desk = Desk::open("").await;
    let query = async |q: &str| desk.post("/query", format!("q={q}").as_bytes(), &[]).await.json();
    let databases = json!({ "name": "databases", "columns": ["name"] });
    assert_eq!(query("SHOW DATABASES").await, json!({ "results": [{ "statement_id": 0, "series": [databases] }] }));
    assert_eq!(query("CREATE DATABASE \"tick\"").await, json!({ "results": [{ "statement_id": 0 }] }));
    assert_eq!(desk.post("/write?db=other", b"m f=1", &[]).await.status, 204);
    let databases = json!({ "name": "databases", "columns": ["name"], "values": [["other"], ["tick"]] });
    assert_eq!(query("SHOW DATABASES").await["results"][0]["series"][0], databases);
    let policies = &query("SHOW RETENTION POLICIES ON tick").await["results"][0]["series"][0]["values"][0];
    assert_eq!(policies[0], "autogen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_influxdb_a_query_says_so_as_a_server_says_what_is_wrong() {
    let desk = Desk::open("").await;
    let answer = desk.post("/query", b"q=CREATE DATABASE x; SELECT * FROM m", &[]).await;
    assert_eq!(answer.status, 200);
    let results = &answer.json()["results"];
    assert_eq!(results[0], json!({ "statement_id": 0 }));
    let error = results[1]["error"].as_str().unwrap();
    assert!(error.contains("no InfluxDB behind it") && error.contains("influx = "), "{error}");
    let answer = desk.post("/query", b"", &[]).await;
    assert_eq!((answer.status, answer.error()), (400, "missing required parameter \"q\"".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_queries_go_to_the_influxdb_behind_with_its_own_password() {
    let (influx, asked) = influx();
    let config = format!(
        "influx = 'http://{influx}'\ninflux_user = 'reader'\ninflux_password = 'r'\nuser = 'me'\npassword = 'mine'"
    );
    let desk = Desk::open(&config).await;
    let path = "/query?db=tick&epoch=ms&u=me&p=mine&q=SELECT%20*%20FROM%20m";
    let answer = Answer::of(desk.addr, "GET", path, "localhost", b"", &[]).await;
    assert_eq!((answer.status, answer.body.contains("from behind")), (200, true), "{answer:?}");
    let answer = desk.post("/query?u=me&p=mine", b"q=DROP SERIES FROM m&db=tick", &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = desk.post("/query?u=me&p=mine", b"q=SHOW DATABASES", &[]).await;
    assert!(!answer.body.contains("from behind"), "answered here: {answer:?}");
    let asked = asked.lock().unwrap().clone();
    let [get, post] = asked.as_slice() else { panic!("{asked:#?}") };
    assert!(get.starts_with("GET /query?db=tick&epoch=ms&q=SELECT+*+FROM+m HTTP/1.1"), "{get}");
    assert!(post.starts_with("POST /query HTTP/1.1") && post.ends_with("q=DROP+SERIES+FROM+m&db=tick"), "{post}");
    for request in [get, post] {
        assert!(
            request.to_lowercase().contains("authorization: basic cmvhzgvyonI=".to_lowercase().as_str()),
            "{request}"
        );
        assert!(!request.contains("mine"), "our password went on: {request}");
    }
}

/// Who asks nobody and has a password of its own would hand it to everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_deck_lends_its_password_for_reading_only() {
    let (influx, asked) = influx();
    let lent = format!("influx = 'http://{influx}'\ninflux_user = 'admin'\ninflux_password = 'r'");
    let desk = Desk::open(&lent).await;
    assert_eq!(desk.post("/query", b"q=SELECT * FROM m&db=tick", &[]).await.status, 200);
    for refused in ["/query?q=DROP%20DATABASE%20tick", "/query?db=tick"] {
        let answer = desk.post(refused, b"q=SELECT * INTO n FROM m", &[]).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.error().contains("set `user` and `password`"), "{answer:?}");
    }
    assert_eq!(asked.lock().unwrap().len(), 1, "nothing of it went on");
    // Without one the other server asks who it is.
    let desk = Desk::open(&format!("influx = 'http://{influx}'")).await;
    assert_eq!(desk.post("/query", b"q=DROP SERIES FROM m&db=tick", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_influxdb_that_is_away_is_named_and_writing_goes_on() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let desk = Desk::open(&format!("influx = 'http://user:secret@{addr}'")).await;
    let answer = desk.post("/query", b"q=SELECT 1", &[]).await;
    assert_eq!(answer.status, 502);
    assert!(answer.error().contains("does not answer") && !answer.body.contains("secret"), "{answer:?}");
    assert_eq!(desk.post("/write?db=d", b"m f=1", &[]).await.status, 204);
}

/// Somebody who answers each request with the same, and keeps what he was asked.
fn influx() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            loop {
                let len = stream.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..len]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let told = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= told.unwrap_or(0) {
                    break;
                }
            }
            kept.lock().unwrap().push(String::from_utf8(request).unwrap());
            let body = "{\"results\":[{\"statement_id\":0,\"x\":\"from behind\"}]}";
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    (addr, asked)
}
