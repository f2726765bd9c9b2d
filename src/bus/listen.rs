//! A subscriber that judges: what a bus publishes on each of its ports, how fast, and whether anything is missing.
//!
//! Every topic is heard on its own port. Each port's heartbeat, once a second, says that it is there and which topics it
//! has ever published: what is known and silent is so told from what was never there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::engine::Manner;
use super::keys::Pair;
use super::publisher::HEARTBEAT;
use super::registry;
use crate::config::{Bus, Form};

/// Looked at so often whether all is heard.
const LOOK_MS: i64 = 50;
/// Messages taken from one port before the next has its turn.
const TURN: usize = 10_000;
/// What may wait here: nothing is dropped on this side in the seconds that this takes.
const HIGH_WATER: i32 = 2_000_000;
/// A larger message is none of ours.
const FRAME_LIMIT: i64 = 64 << 20;

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub topics: BTreeMap<String, Topic>,
    pub ports: BTreeMap<u16, Port>,
    /// Topics that were ever published, with the last seq of each.
    pub known: BTreeMap<String, u64>,
}

/// One topic.
#[derive(Clone, Debug, Default)]
pub struct Topic {
    pub messages: u64,
    pub bytes: u64,
    /// Not of the form that the config says.
    pub undecodable: u64,
    /// Messages before which something was missing, and the seqs between which it lies, of the last of them.
    pub holes: u64,
    pub hole: Option<(u64, u64)>,
    pub last_seq: Option<u64>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// One port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    pub heartbeats: u64,
}

impl Topic {
    /// How long ago the last message came.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.last.map(|last| last.elapsed())
    }

    /// Messages a second, where there were two or more.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let span = self.last?.duration_since(self.first?).as_secs_f64();
        (span > 0.0).then(|| (self.messages - 1) as f64 / span)
    }
}

impl Heard {
    /// Ports on which nothing at all was heard.
    #[must_use]
    pub fn dead_ports(&self) -> Vec<u16> {
        self.ports.iter().filter(|(_, port)| port.heartbeats == 0).map(|(number, _)| *number).collect()
    }

    fn take(&mut self, bus: &Bus, port: u16, frames: &[Vec<u8>]) {
        let (topic, payload) = match frames {
            [topic, payload] => (topic.as_slice(), payload.as_slice()),
            [line] => match line.iter().position(|byte| *byte == b' ') {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (line.as_slice(), &[][..]),
            },
            _ => return,
        };
        let topic = String::from_utf8_lossy(topic).into_owned();
        if topic == HEARTBEAT {
            self.ports.entry(port).or_default().heartbeats += 1;
            self.note(payload);
            return;
        }
        // A greeting to whoever waits for its subscription.
        if payload.is_empty() {
            return;
        }
        let form = Manner::of(bus, registry::topic_of(&topic)).form;
        let now = Instant::now();
        let of = self.topics.entry(topic).or_default();
        of.messages += 1;
        of.bytes += payload.len() as u64;
        of.first.get_or_insert(now);
        of.last = Some(now);
        match places(form, frames.len(), payload) {
            Ok(Some((seq, prev))) => {
                if let Some(before) = of.last_seq.filter(|before| prev > *before) {
                    of.holes += 1;
                    of.hole = Some((before + 1, prev));
                }
                of.last_seq = Some(seq);
            }
            Ok(None) => {}
            Err(()) => of.undecodable += 1,
        }
    }

    fn note(&mut self, payload: &[u8]) {
        let Ok(Value::Object(beat)) = rmp_serde::from_slice::<Value>(payload) else { return };
        for (topic, seq) in beat.get("last").and_then(Value::as_object).into_iter().flatten() {
            let seq = seq.as_u64().unwrap_or(0);
            let known = self.known.entry(topic.clone()).or_default();
            *known = seq.max(*known);
        }
    }
}

/// Seq and prev of a message; `None`: its form carries none.
fn places(form: Form, frames: usize, payload: &[u8]) -> Result<Option<(u64, u64)>, ()> {
    #[derive(Deserialize)]
    struct Map {
        seq: u64,
        prev: u64,
    }
    match (form, frames) {
        (Form::Soh, 1) => Ok(None),
        (Form::Map | Form::Kraken, 2) => {
            rmp_serde::from_slice::<Map>(payload).map(|map| Some((map.seq, map.prev))).map_err(drop)
        }
        (Form::Json, 2) => serde_json::from_slice::<Map>(payload).map(|map| Some((map.seq, map.prev))).map_err(drop),
        (Form::Array, 2) => {
            // Ten fields of the event, seq, prev, and the tape.
            let fields: Vec<Field> = rmp_serde::from_slice(payload).map_err(drop)?;
            match fields.get(10..12) {
                Some([Field::Number(seq), Field::Number(prev)]) => Ok(Some((*seq, *prev))),
                _ => Err(()),
            }
        }
        _ => Err(()),
    }
}

/// A field of a positional message: a number, or something else.
#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Number(u64),
    Other(IgnoredAny),
}

/// Keys of a client, where the bus asks for them.
#[derive(Clone, Debug)]
pub struct Access {
    /// The deck's public key.
    pub server: String,
    pub own: Pair,
}

/// Listens to every port for `time`, or until `done`. Blocking.
///
/// # Errors
/// libzmq refuses an address or a key.
pub fn listen(
    bus: &Bus,
    host: IpAddr,
    access: Option<&Access>,
    time: Duration,
    done: impl Fn(&Heard) -> bool,
) -> anyhow::Result<Heard> {
    let context = zmq::Context::new();
    let mut heard = Heard::default();
    let mut sockets = Vec::new();
    for (port, entries) in registry::layout(bus) {
        let socket = open(&context, host, port, access)?;
        socket.set_subscribe(HEARTBEAT.as_bytes()).context("subscribing")?;
        for entry in entries.iter().filter(|entry| !entry.is_empty()) {
            // Second readings of a topic are the same messages once more.
            if registry::ports_of(bus, entry).first() == Some(&port) {
                socket.set_subscribe(entry.as_bytes()).context("subscribing")?;
                for name in registry::aliases_of(entry) {
                    socket.set_subscribe(name.as_bytes()).context("subscribing")?;
                }
            }
        }
        heard.ports.insert(port, Port::default());
        sockets.push((port, socket));
    }
    let end = Instant::now() + time;
    while Instant::now() < end && !done(&heard) {
        let mut items: Vec<zmq::PollItem<'_>> =
            sockets.iter().map(|(_, socket)| socket.as_poll_item(zmq::POLLIN)).collect();
        match zmq::poll(&mut items, LOOK_MS) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => return Err(error).context("listening"),
        }
        let ready: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
        for ((port, socket), _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            for _ in 0..TURN {
                match socket.recv_multipart(zmq::DONTWAIT) {
                    Ok(frames) => heard.take(bus, *port, &frames),
                    Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => break,
                    Err(error) => return Err(error).context("listening"),
                }
            }
        }
    }
    Ok(heard)
}

fn open(context: &zmq::Context, host: IpAddr, port: u16, access: Option<&Access>) -> anyhow::Result<zmq::Socket> {
    let made = || {
        let socket = context.socket(zmq::SUB)?;
        socket.set_linger(0)?;
        socket.set_rcvhwm(HIGH_WATER)?;
        socket.set_maxmsgsize(FRAME_LIMIT)?;
        socket.set_ipv6(host.is_ipv6())?;
        if let Some(access) = access {
            let decode = |key: &str| zmq::z85_decode(key).map_err(|error| anyhow::anyhow!("reading a key: {error}"));
            socket.set_curve_serverkey(&decode(&access.server)?)?;
            socket.set_curve_publickey(&decode(&access.own.public)?)?;
            socket.set_curve_secretkey(&decode(&access.own.secret)?)?;
        }
        socket.connect(&format!("tcp://{}", std::net::SocketAddr::new(host, port)))?;
        anyhow::Ok(socket)
    };
    made().with_context(|| format!("connecting to {host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BusTopic;

    fn message(seq: u64, prev: u64) -> Vec<u8> {
        rmp_serde::to_vec_named(&serde_json::json!({ "seq": seq, "prev": prev, "bid": 1.5 })).expect("encodes")
    }

    #[test]
    fn a_hole_in_the_chain_is_counted_with_its_place_and_nonsense_is_no_message() {
        let bus = Bus::default();
        let mut heard = Heard::default();
        let say = |heard: &mut Heard, payload: Vec<u8>| heard.take(&bus, 5558, &[b"kraken_tick".to_vec(), payload]);
        for (seq, prev) in [(4, 2), (7, 4), (9, 8), (10, 9)] {
            say(&mut heard, message(seq, prev));
        }
        for payload in [vec![], vec![0xc1], b"{}".to_vec(), message(11, 10)[..5].to_vec()] {
            say(&mut heard, payload);
        }
        let topic = &heard.topics["kraken_tick"];
        assert_eq!((topic.messages, topic.undecodable), (7, 3), "an empty one is a greeting");
        assert_eq!((topic.holes, topic.hole, topic.last_seq), (1, Some((8, 8)), Some(10)));
    }

    #[test]
    fn every_form_is_read_by_its_own_rules() {
        let mut bus = Bus::default();
        let array: Vec<u64> = (0..10).chain([21, 20, 0]).collect();
        for (form, payload, frames) in [
            (Form::Map, message(21, 20), 2),
            (Form::Kraken, message(21, 20), 2),
            (Form::Json, br#"{"seq":21,"prev":20}"#.to_vec(), 2),
            (Form::Array, rmp_serde::to_vec(&array).expect("encodes"), 2),
        ] {
            assert_eq!(places(form, frames, &payload), Ok(Some((21, 20))), "{form:?}");
            assert_eq!(places(form, 1, &payload), Err(()), "{form:?}");
            assert_eq!(places(form, 2, b"\xc1 none"), Err(()), "{form:?}");
        }
        bus.topics.insert("kraken_tick".into(), BusTopic { form: Form::Soh, ..BusTopic::default() });
        let mut heard = Heard::default();
        heard.take(&bus, 5558, &[b"kraken_tick XXBTZUSD\x011\x012".to_vec()]);
        assert_eq!((heard.topics["kraken_tick"].messages, heard.topics["kraken_tick"].undecodable), (1, 0));
    }

    #[test]
    fn a_heartbeat_says_that_a_port_is_there_and_what_was_ever_said() {
        let mut heard = Heard::default();
        heard.ports.insert(5558, Port::default());
        heard.ports.insert(5562, Port::default());
        let beat = serde_json::json!({ "tape": "t", "ts": 1, "last": { "kraken_tick": 7 } });
        heard.take(&Bus::default(), 5558, &[b"heartbeat".to_vec(), rmp_serde::to_vec_named(&beat).expect("encodes")]);
        assert_eq!(heard.dead_ports(), [5562]);
        assert_eq!(heard.known["kraken_tick"], 7);
        assert!(heard.topics.is_empty());
    }
}
