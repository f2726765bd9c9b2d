//! The source and the web server without a deck: the test is the recorder.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tapedeck::http;
use tapedeck::inlet::Inlet;
use tapedeck::intake::{Counters, Intake, Outlet, Resume};
use tapedeck::sources::{self, Setup};
use tapedeck::status::Status;
use tapedeck_market::{Body, Event, SmolStr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Desk {
    pub(super) addr: SocketAddr,
    recorded: Arc<Mutex<Vec<Event>>>,
    counters: Arc<Counters>,
    held: tokio::sync::Mutex<mpsc::Receiver<oneshot::Sender<u64>>>,
    source: tokio::task::JoinHandle<()>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.source.abort();
    }
}

impl Desk {
    /// A recorder that writes at once.
    pub(super) async fn open(config: &str) -> Desk {
        Desk::with(config, true, Resume::default()).await
    }

    /// A recorder that writes when the test says so.
    pub(super) async fn slow(config: &str) -> Desk {
        Desk::with(config, false, Resume::default()).await
    }

    async fn with(config: &str, at_once: bool, resume: Resume) -> Desk {
        // As `main` does, for the client of the InfluxDB behind.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kind = sources::KINDS.iter().find(|kind| kind.name == "http").unwrap();
        let setup = Setup { name: "p".into(), table: config.parse().unwrap(), dir: std::env::temp_dir() };
        let mut session = (kind.build)(setup).unwrap().remove(0);
        let (to_recorder, mut intake) = mpsc::channel(64);
        let (inlet, counters) = (Inlet::default(), Arc::new(Counters::default()));
        let source = SmolStr::new_static("p");
        let out = Outlet::new(source, session.venue.clone(), to_recorder, counters.clone(), Arc::new(resume));
        let out = out.with_inlet(inlet.clone());
        let source = tokio::spawn(async move { drop(session.source.run(&out).await) });
        let recorded: Arc<Mutex<Vec<Event>>> = Arc::default();
        let (hold, held) = mpsc::channel(64);
        let tape = recorded.clone();
        tokio::spawn(async move {
            while let Some(message) = intake.recv().await {
                let Intake::Events { events, durable } = message else { continue };
                tape.lock().unwrap().extend(events);
                match durable {
                    Some(durable) if at_once => drop(durable.send(tape.lock().unwrap().len() as u64)),
                    // Positions are no part of what the test holds back.
                    Some(durable) => drop(hold.send(durable).await),
                    None => {}
                }
            }
        });
        let desk = Desk { addr: serve(inlet), recorded, counters, held: tokio::sync::Mutex::new(held), source };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while Answer::of(desk.addr, "GET", "/ping", "localhost", b"", &[]).await.status != 204 {
            assert!(tokio::time::Instant::now() < deadline, "the door does not open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        desk
    }

    pub(super) async fn post(&self, path: &str, body: &[u8], headers: &[&str]) -> Answer {
        self.to_host("localhost", path, body, headers).await
    }

    pub(super) async fn to_host(&self, host: &str, path: &str, body: &[u8], headers: &[&str]) -> Answer {
        Answer::of(self.addr, "POST", path, host, body, headers).await
    }

    /// A POST whose headers say all there is to say about its body.
    pub(super) async fn raw(&self, path: &str, body: &[u8], headers: &[&str]) -> Answer {
        Answer::raw(self.addr, "POST", path, "localhost", body, headers).await
    }

    /// A POST that is sent while the test goes on.
    pub(super) fn start(&self, path: &str, body: &[u8]) -> Pending {
        let (addr, path, body) = (self.addr, path.to_owned(), body.to_vec());
        Pending(tokio::spawn(async move { Answer::of(addr, "POST", &path, "localhost", &body, &[]).await }))
    }

    /// Whoever waits for the next append to be durable.
    pub(super) async fn next_durable(&self) -> oneshot::Sender<u64> {
        tokio::time::timeout(PATIENCE, self.held.lock().await.recv()).await.unwrap().unwrap()
    }

    pub(super) fn recorded(&self) -> Vec<Event> {
        self.recorded.lock().unwrap().clone()
    }

    pub(super) fn points(&self) -> Vec<Event> {
        self.recorded().into_iter().filter(|event| matches!(event.body, Body::Point(_))).collect()
    }

    /// Lines that were kept because they are no points.
    pub(super) fn rejected(&self) -> Vec<String> {
        let raw = |event: Event| match event.body {
            Body::Raw(raw) if raw.format == "rejected" => Some(String::from_utf8(raw.frame).unwrap()),
            _ => None,
        };
        self.recorded().into_iter().filter_map(raw).collect()
    }

    pub(super) fn reject_reasons(&self) -> Vec<(&'static str, u64)> {
        self.counters.reject_reasons.lock().unwrap().iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}

/// A request under way.
pub(super) struct Pending(tokio::task::JoinHandle<Answer>);

impl Pending {
    pub(super) async fn answer(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, &mut self.0).await.unwrap().unwrap()
    }

    pub(super) async fn answer_within_ms(&mut self, wait_ms: u64) -> Option<Answer> {
        tokio::time::timeout(Duration::from_millis(wait_ms), &mut self.0).await.ok().map(Result::unwrap)
    }
}

/// The deck's web server on a free port, until the test ends.
pub(super) fn serve(inlet: Inlet) -> SocketAddr {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let status: http::StatusOf = Arc::new(Status::default);
        http::serve(&listener, status, inlet, CancellationToken::new()).await.unwrap();
    });
    addr
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) async fn of(
        addr: SocketAddr,
        method: &str,
        path: &str,
        host: &str,
        body: &[u8],
        headers: &[&str],
    ) -> Answer {
        let len = format!("Content-Length: {}", body.len());
        Answer::raw(addr, method, path, host, body, &[headers, &[&len]].concat()).await
    }

    async fn raw(addr: SocketAddr, method: &str, path: &str, host: &str, body: &[u8], headers: &[&str]) -> Answer {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refused body may find the connection closed: the answer is what counts.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..len]);
        }
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error text of a 1.x answer.
    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}
