//! What was acknowledged is on the tape, however the deck ends.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use tapedeck_market::{Body, Record, Value};

use crate::support::{Deck, free_port, records, tapedeck, until};

/// A deck that takes points, and its port.
pub(super) fn deck(home: &Path, more: &str) -> (Deck, u16) {
    let port = free_port();
    let config = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n\n[source.points]\nkind = \"http\"\n{more}");
    let deck = Deck::start(home, &config);
    until("the way in for points", || (send(port, "GET /ping", "")? == 204).then_some(()));
    (deck, port)
}

/// The status of an answer; `None` when there is none.
fn send(port: u16, what: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let len = body.len();
    let request =
        format!("{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(len @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..len]);
    }
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// The `id` of each point.
fn ids(records: &[Record]) -> Vec<u64> {
    let id = |record: &Record| match &record.event.body {
        Body::Point(point) => point.fields.iter().find(|(key, _)| key == "id").map(|(_, value)| match value {
            Value::UInt(id) => *id,
            other => panic!("{other:?}"),
        }),
        _ => None,
    };
    records.iter().filter_map(id).collect()
}

#[test]
fn every_point_that_was_acknowledged_is_on_the_tape_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let (deck, port) = deck(home.path(), "");
    let (next, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let acknowledged: Arc<Mutex<Vec<u64>>> = Arc::default();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (next, over, acknowledged) = (next.clone(), over.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let first = next.fetch_add(10, Ordering::Relaxed);
                    let lines: String = (first..first + 10).map(|id| format!("m,w={writer} id={id}u {id}\n")).collect();
                    if send(port, "POST /write?db=d", &lines) == Some(204) {
                        acknowledged.lock().unwrap().extend(first..first + 10);
                    }
                }
            })
        })
        .collect();
    until("some hundred points", || (acknowledged.lock().unwrap().len() > 500).then_some(()));
    deck.signal(Signal::KILL);
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    deck.wait();
    let acknowledged = acknowledged.lock().unwrap().clone();
    // Opening writes nothing that was not there: verify reads what the kill left.
    let dir = home.path().join("tape");
    let verified = tapedeck()
        .args(["tape", "verify", "--set"])
        .arg(format!("tape.dir={:?}", dir.to_str().unwrap()))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let on_tape: HashSet<u64> = ids(&records(&dir)).into_iter().collect();
    let missing: Vec<&u64> = acknowledged.iter().filter(|id| !on_tape.contains(id)).collect();
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged points are missing: {missing:?}",
        missing.len(),
        acknowledged.len()
    );
}

#[test]
fn databases_are_known_after_a_restart_and_the_time_without_a_deck_is_a_gap() {
    let home = tempfile::tempdir().unwrap();
    let (deck, port) = deck(home.path(), "");
    assert_eq!(send(port, "POST /query?q=CREATE+DATABASE+kept", ""), Some(200));
    assert_eq!(send(port, "POST /write?db=other", "m id=1u 5"), Some(204));
    deck.signal(Signal::KILL);
    deck.wait();
    let (deck, port) = self::deck(home.path(), "");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = "GET /query?q=SHOW+DATABASES HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("[[\"kept\"],[\"other\"]]"), "{answer}");
    let gaps = deck.until_closed(tapedeck_market::GapCause::Down, 1);
    assert_eq!(gaps[0].1.channel, "points");
    deck.stop();
}
