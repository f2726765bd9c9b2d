//! The dialect of InfluxDB 3, against a server that knows its paths, parameters and token as they are documented, and no more: none
//! of that version can be had here.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::*;

const TOKEN: &str = "apiv3_secret-token";
/// A line with this is refused, as a conflict of types would be.
const BAD: &str = "v=\"text\"";

/// A request, as it came.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    query: String,
    authorization: Option<String>,
    body: String,
}

#[derive(Debug, Default)]
struct State {
    connections: u32,
    asked: Vec<Asked>,
    stored: Vec<String>,
}

#[derive(Clone, Debug)]
struct Third {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Third {
    fn start() -> Third {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let third = Third { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let serving = third.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { break };
                serving.state().connections += 1;
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(client));
            }
        });
        third
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests until the client has no more.
    fn serve(&self, mut client: TcpStream) {
        let mut bytes = Vec::new();
        while let Some(asked) = read(&mut client, &mut bytes) {
            let answer = self.answer(&asked);
            self.state().asked.push(asked);
            if client.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> String {
        if asked.authorization.as_deref() != Some(&format!("Bearer {TOKEN}")) {
            return reply("401 Unauthorized", "the request was not authenticated");
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/ping") => reply("200 OK", r#"{"version":"3.2.1","revision":"x"}"#),
            ("POST", "/api/v3/write_lp") => self.write(&asked.body),
            ("POST", "/query") => reply("200 OK", r#"{"results":[{"statement_id":0}]}"#),
            _ => reply("404 Not Found", ""),
        }
    }

    /// Good lines beside bad ones are stored: `accept_partial` is true where nothing is said.
    fn write(&self, body: &str) -> String {
        let (bad, good): (Vec<_>, Vec<_>) = body.lines().zip(1..).partition(|(line, _)| line.contains(BAD));
        self.state().stored.extend(good.iter().map(|(line, _)| (*line).to_owned()));
        if bad.is_empty() {
            return reply("204 No Content", "");
        }
        let data: Vec<Value> = bad
            .iter()
            .map(|(line, number)| {
                serde_json::json!({ "original_line": line, "line_number": number, "error_message": "invalid column type" })
            })
            .collect();
        let error = serde_json::json!({ "error": "partial write of line protocol occurred", "data": data });
        reply("400 Bad Request", &error.to_string())
    }

    fn writes(&self) -> Vec<Asked> {
        self.state().asked.iter().filter(|asked| asked.path == "/api/v3/write_lp").cloned().collect()
    }
}

fn read(client: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Asked> {
    let mut more = |bytes: &mut Vec<u8>| {
        let mut piece = [0; 16 << 10];
        let count = client.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        Some(())
    };
    let end = loop {
        match bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) => break end,
            None => more(bytes)?,
        }
    };
    let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
    let header = |name: &str| {
        let found =
            head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < length {
        more(bytes)?;
    }
    let mut words = head.lines().next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = String::from_utf8(bytes.drain(..length).collect()).unwrap();
    Some(Asked { method, path: path.to_owned(), query: query.to_owned(), authorization: header("authorization"), body })
}

fn reply(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nX-Influxdb-Version: 3.2.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn the_third_dialect_is_spoken_as_it_is_documented_over_few_connections() {
    let server = Third::start();
    let sink = |token: &str| {
        format!("url = \"http://127.0.0.1:{}\"\ndialect = 3\ndatabase = \"my tick\"\ntoken = \"{token}\"", server.port)
    };
    let desk = Desk::new(&sink(TOKEN));
    let deck = desk.start();
    // One after the other, so that each is a request.
    for n in 0..30 {
        desk.post(&lines("m", n * 10, 10));
        until("the points", || (server.state().stored.len() as i64 >= (n + 1) * 10).then_some(()));
    }
    let (writes, connections) = (server.writes(), server.state().connections);
    assert!(writes.len() >= 30, "{}", writes.len());
    assert!(connections <= 5, "{connections} connections for {} requests", writes.len());
    for asked in &writes {
        assert_eq!((asked.method.as_str(), asked.query.as_str()), ("POST", "db=my+tick&precision=nanosecond"));
    }
    let first = server.state().asked.first().cloned().unwrap();
    assert_eq!((first.method.as_str(), first.path.as_str()), ("GET", "/ping"), "nothing is sent before it answers");
    assert_eq!(server.state().stored[0], "m,host=a v=0 1700000000000000000");

    // A line that it names is a dead letter with its words, and the others are there.
    let bad = format!("m,host=a {BAD} 1700000000000005000\n");
    desk.post(&(lines("m", 300, 10) + &bad + &lines("m", 310, 10)));
    until("the dead letter", || (detail(&deck, "dead_letters") == 1 && is_done(&deck)).then_some(()));
    let stored: std::collections::BTreeSet<String> = server.state().stored.iter().cloned().collect();
    assert_eq!(stored.len(), 320);
    let letters = desk.deadletter(&["list", "--json"]);
    assert!(letters[0]["words"].as_str().unwrap().contains("invalid column type"), "{letters}");
    deck.stop();

    // The verbs: a check writes, a question is InfluxQL.
    let config = desk.home.path().join("tapedeck.toml");
    let run = |args: &[&str]| tapedeck().args(args).arg("-c").arg(&config).output().unwrap();
    let checked = run(&["validate", "stores"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("InfluxDB 3.2.1 answers"), "{checked:?}");
    assert!(server.state().stored.last().unwrap().starts_with("tapedeck_check,"), "{said}");
    let _ = run(&["latest"]);
    let asked = server.state().asked.last().cloned().unwrap();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/query"));
    assert!(asked.body.contains("db=my+tick") && asked.body.contains("epoch=ns"), "{asked:?}");

    std::fs::write(&config, std::fs::read_to_string(&config).unwrap().replace(TOKEN, "apiv3_wrong-token")).unwrap();
    let refused = run(&["validate", "stores"]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && said.contains("401"), "{refused:?}");
    assert!(!said.contains("wrong-token"), "{said}");
}
