//! Against a bus that is none: each port says what the test wants, so that single messages can be missing or broken.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tapedeck::bus::registry;
use tapedeck::config::Bus;

use super::{finding, validate, wrong};
use crate::support::free_offset;

/// What is published on 5558.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Whole,
    /// A message in ten is left out, and the next one names it.
    Holes,
    /// A message in ten is no MessagePack map.
    Garbage,
    /// Nothing but the heartbeat, which knows the topic.
    Nothing,
}

struct Fake {
    config: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _home: tempfile::TempDir,
}

impl Fake {
    /// `dead`: a port of the register on which nothing is said.
    fn start(says: Says, dead: Option<u16>) -> Fake {
        let home = tempfile::tempdir().unwrap();
        let offset = free_offset();
        let config = home.path().join("tapedeck.toml");
        let text = format!("[tape]\ndir = {:?}\n[bus]\nport_offset = {offset}\n", home.path().join("tape"));
        std::fs::write(&config, text).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let bus = Bus { port_offset: offset, ..Bus::default() };
        let context = zmq::Context::new();
        let mut sockets: BTreeMap<u16, zmq::Socket> = BTreeMap::new();
        for port in registry::layout(&bus).into_keys() {
            let socket = context.socket(zmq::PUB).unwrap();
            socket.set_linger(0).unwrap();
            socket.bind(&format!("tcp://127.0.0.1:{port}")).unwrap();
            if dead != Some(port - offset) {
                sockets.insert(port, socket);
            }
        }
        let ended = stop.clone();
        let thread = std::thread::spawn(move || {
            let tick = &sockets[&(5558 + offset)];
            let (mut seq, mut prev) = (0_u64, 0_u64);
            while !ended.load(Ordering::Relaxed) {
                seq += 1;
                let payload = rmp_serde::to_vec_named(&json!({ "seq": seq, "prev": prev, "bid": 1.5 })).unwrap();
                prev = seq;
                match says {
                    Says::Nothing => {}
                    Says::Holes if seq % 10 == 0 => {}
                    Says::Garbage if seq % 10 == 0 => tick.send_multipart(["kraken_tick", "\u{7f}none"], 0).unwrap(),
                    _ => tick.send_multipart([b"kraken_tick".to_vec(), payload], 0).unwrap(),
                }
                for socket in sockets.values() {
                    let beat = json!({ "tape": "t", "ts": 1, "last": { "kraken_tick": seq } });
                    socket.send_multipart([b"heartbeat".to_vec(), rmp_serde::to_vec_named(&beat).unwrap()], 0).unwrap();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Fake { config, stop, thread: Some(thread), _home: home }
    }

    /// As long as a busy machine may need to connect, where something is to be heard at all.
    fn listen(&self, time: &str) -> (Option<i32>, Value) {
        validate(&self.config, &["zmq", "--for", time])
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn a_whole_chain_is_well_and_looked_at_no_longer_than_needed() {
    let fake = Fake::start(Says::Whole, None);
    let (code, answer) = fake.listen("5m");
    assert_eq!((code, wrong(&answer)), (Some(0), vec![]), "{answer:#}");
    let figures = &finding(&answer, "topic.kraken_tick")["figures"];
    assert!(
        figures["messages"].as_u64() > Some(1) && figures["holes"] == 0 && figures["undecodable"] == 0,
        "{answer:#}"
    );
    assert_eq!(finding(&answer, "bus")["figures"]["silent_ports"], json!([]));
    // When the last message came: how long ago depends on the machine, that it is said does not.
    assert!(figures["age_s"].as_f64().is_some_and(|age| age >= 0.0), "{answer:#}");
    let text = finding(&answer, "topic.kraken_tick")["text"].as_str().unwrap().to_owned();
    let (_, last) = text.split_once(", last ").unwrap_or_else(|| panic!("{text}"));
    let (age, seq) = last.split_once(" s ago, last seq ").unwrap_or_else(|| panic!("{text}"));
    assert!(age.parse::<f64>().is_ok() && seq.parse::<u64>().is_ok(), "{text}");
}

#[test]
fn a_hole_in_prev_is_found_with_its_place() {
    let fake = Fake::start(Says::Holes, None);
    // Until a hole was among what was heard: the first seconds may go by with connecting.
    let alone = |(_, answer): &(_, Value)| wrong(answer) == ["topic.kraken_tick"];
    let (code, answer) = crate::support::until("a hole", || Some(fake.listen("3s")).filter(alone));
    assert_eq!(code, Some(1), "{answer:#}");
    let said = finding(&answer, "topic.kraken_tick");
    assert!(said["text"].as_str().unwrap().contains("holes in the chain"), "{answer:#}");
}

#[test]
fn what_cannot_be_read_is_counted() {
    let fake = Fake::start(Says::Garbage, None);
    let alone = |(_, answer): &(_, Value)| wrong(answer) == ["topic.kraken_tick"];
    let (_, answer) = crate::support::until("garbage", || Some(fake.listen("3s")).filter(alone));
    assert!(finding(&answer, "topic.kraken_tick")["figures"]["undecodable"].as_u64() > Some(0), "{answer:#}");
}

#[test]
fn a_silent_topic_and_a_dead_port_are_named() {
    let fake = Fake::start(Says::Nothing, Some(5562));
    let (code, answer) = crate::support::until("the heartbeats", || {
        Some(fake.listen("3s")).filter(|(_, answer)| wrong(answer).len() == 2)
    });
    assert_eq!((code, wrong(&answer)), (Some(1), vec!["bus", "topic.kraken_tick"]), "{answer:#}");
    assert!(finding(&answer, "bus")["text"].as_str().unwrap().contains("no heartbeat on 1 of"), "{answer:#}");
    let (code, answer) = validate(&fake.config, &["zmq", "oanda_tick", "--for", "1s"]);
    assert!(code == Some(1) && wrong(&answer).contains(&"topic.oanda_tick"), "{answer:#}");
}
