//! Missed messages and last values, on request: a ROUTER on a thread of its own, with readers of its own.
//!
//! ```text
//! asks      [topic, from_seq, to_seq] · [topic, from_seq, to_seq, id] · ["last", topic] · ["last", topic, id]
//! answers   [topic, payload] …  as they were published, in order, then
//!           ["end", {topic, from_seq, to_seq, count, id?, next?, first?}]   or   ["error", {error, id?}]
//! ```
//!
//! An answer is made by reading the tape through the same engine that published it (`answer.rs`). Several answers are given in
//! turns; one whose asker does not take it is put aside while its queue is full, and given up in the end. Publishing knows
//! nothing of all this.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use serde::Deserialize;
use tapedeck_market::SmolStr;

use super::answer::Answer;
use super::engine::Manner;
use super::form::{Encoder, Val};
use super::keys::Keys;
use super::publisher::{Last, bind, prepare};
use super::registry;
use crate::config::Bus;

/// Answers given in turns.
const AT_ONCE: usize = 8;
/// Requests that wait for their turn; one more is refused.
const WAITING_MAX: usize = 256;
/// Messages in libzmq's queue for one asker.
const ASKER_QUEUE: i32 = 2_000;
/// How often the thread looks whether it shall end.
const LOOK_MS: i64 = 100;

/// The thread that answers; it ends when this is dropped.
pub(super) struct Requests {
    stop: Arc<AtomicBool>,
    pub(super) counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) given_up: AtomicU64,
}

/// What the thread answers from.
pub(super) struct Sources {
    pub(super) bus: Arc<Bus>,
    pub(super) dir: PathBuf,
    pub(super) encoder: Encoder,
    pub(super) last: Last,
}

impl Requests {
    /// Binds the port and starts the thread.
    pub(super) fn start(context: &zmq::Context, keys: Option<&Keys>, sources: Sources) -> anyhow::Result<Requests> {
        let socket = context.socket(zmq::ROUTER).context("making a socket")?;
        let server = keys.map(Keys::server).transpose()?.flatten();
        prepare(&socket, server.as_ref().map(|pair| pair.secret.as_str())).context("making a socket")?;
        // Without it an answer to a full queue would be dropped in silence.
        socket.set_router_mandatory(true).context("making a socket")?;
        socket.set_sndhwm(ASKER_QUEUE).context("making a socket")?;
        bind(&socket, &sources.bus, registry::moved(&sources.bus, registry::REQUESTS))?;
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let mut desk = Desk { socket, sources, counts: counts.clone(), waiting: VecDeque::new(), answers: Vec::new() };
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("bus-requests".into())
                .spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        desk.turn();
                    }
                })
                .context("starting a thread")?
        };
        Ok(Requests { stop, counts, thread: Some(thread) })
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What an asker calls its request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    UInt(u64),
    Int(i64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Range { topic: String, from: u64, to: u64 },
    Last { topic: String },
}

/// Reads a request; total on any bytes.
fn parse(frame: &[u8]) -> Result<(Asked, Option<Id>), String> {
    const SHAPE: &str = "ask with [topic, from_seq, to_seq], or [\"last\", topic]; a fourth or third value is an id";
    let no = |_| SHAPE.to_owned();
    let last: Result<(String, String), _> = rmp_serde::from_slice(frame);
    if let Ok((word, topic)) = last {
        return if word == "last" { Ok((Asked::Last { topic }, None)) } else { Err(SHAPE.to_owned()) };
    }
    let last: Result<(String, String, Id), _> = rmp_serde::from_slice(frame);
    if let Ok((word, topic, id)) = last {
        return if word == "last" { Ok((Asked::Last { topic }, Some(id))) } else { Err(SHAPE.to_owned()) };
    }
    let range: Result<(String, u64, u64), _> = rmp_serde::from_slice(frame);
    let (topic, from, to, id) = match range {
        Ok((topic, from, to)) => (topic, from, to, None),
        Err(_) => {
            let (topic, from, to, id): (String, u64, u64, Id) = rmp_serde::from_slice(frame).map_err(no)?;
            (topic, from, to, Some(id))
        }
    };
    Ok((Asked::Range { topic, from, to }, id))
}

struct Request {
    asker: Vec<u8>,
    asked: Asked,
    id: Option<Id>,
}

/// The thread's state.
struct Desk {
    socket: zmq::Socket,
    sources: Sources,
    counts: Arc<Counts>,
    waiting: VecDeque<Request>,
    answers: Vec<Answer>,
}

impl Desk {
    /// Takes what was asked, and goes on with each answer for a while.
    fn turn(&mut self) {
        let idle = self.answers.is_empty() && self.waiting.is_empty();
        let blocked = self.answers.iter().all(|answer| answer.blocked_since.is_some());
        let wait = if idle { LOOK_MS } else { i64::from(blocked) };
        if self.socket.poll(zmq::POLLIN, wait).is_ok_and(|ready| ready > 0) {
            self.take();
        }
        while self.answers.len() < AT_ONCE
            && let Some(request) = self.waiting.pop_front()
        {
            self.begin(request);
        }
        let (socket, counts) = (&self.socket, &self.counts);
        self.answers.retain_mut(|answer| {
            match answer.go_on(socket, counts) {
                Ok(done) => !done,
                Err(error) => {
                    // The asker has gone, or the tape cannot be read.
                    counts.given_up.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(topic = answer.topic.as_str(), error = format!("{error:#}"), "request given up");
                    false
                }
            }
        });
    }

    fn take(&mut self) {
        for _ in 0..WAITING_MAX {
            let Ok(frames) = self.socket.recv_multipart(zmq::DONTWAIT) else { return };
            // A REQ puts an empty frame in front of its question; a DEALER asks with one frame.
            let (Some(asker), Some(frame)) = (frames.first(), frames.get(1..).and_then(<[_]>::last)) else { continue };
            self.counts.requests.fetch_add(1, Ordering::Relaxed);
            match parse(frame) {
                Ok((_, id)) if self.waiting.len() >= WAITING_MAX => {
                    self.refuse(asker, id.as_ref(), "too many requests wait: ask again later");
                }
                Ok((asked, id)) => self.waiting.push_back(Request { asker: asker.clone(), asked, id }),
                Err(error) => self.refuse(asker, None, &error),
            }
        }
    }

    fn begin(&mut self, request: Request) {
        let Request { asker, asked, id } = request;
        let name = match &asked {
            Asked::Range { topic, .. } | Asked::Last { topic } => topic.as_str(),
        };
        let topic = registry::topic_of(name);
        if !registry::is_topic(topic) || !Manner::of(&self.sources.bus, topic).enabled {
            return self.refuse(
                &asker,
                id.as_ref(),
                &format!("there is no topic `{name}`: `tapedeck ports` lists them"),
            );
        }
        let begun = match asked.clone() {
            Asked::Last { .. } => Ok(Answer::of_last(&self.sources, asker.clone(), name, id.clone())),
            Asked::Range { from, to, .. } if from > to || from == 0 => {
                let error =
                    format!("from {from} to {to} is no range of seqs: they begin with 1 and both ends belong to it");
                return self.refuse(&asker, id.as_ref(), &error);
            }
            Asked::Range { from, to, .. } => Answer::of_range(&self.sources, asker.clone(), name, id.clone(), from, to),
        };
        match begun {
            Ok(answer) => self.answers.push(answer),
            Err(error) => {
                tracing::warn!(topic = name, error = format!("{error:#}"), "request cannot be answered");
                self.refuse(&asker, id.as_ref(), "the tape cannot be read");
            }
        }
    }

    fn refuse(&self, asker: &[u8], id: Option<&Id>, error: &str) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        let mut fields = vec![(SmolStr::new_static("error"), Val::Text(error.into()))];
        fields.extend(id.map(shown));
        // An asker that is gone, or takes nothing, is not told.
        let _ = send(&self.socket, asker, b"error", &Encoder::map(&fields));
    }
}

pub(super) fn shown(id: &Id) -> (SmolStr, Val) {
    let value = match id {
        Id::UInt(id) => Val::UInt(*id),
        Id::Int(id) => Val::Int(*id),
        Id::Text(id) => Val::Text(id.into()),
    };
    (SmolStr::new_static("id"), value)
}

/// Sends a message of an answer; says whether it fitted into the asker's queue.
pub(super) fn send(socket: &zmq::Socket, asker: &[u8], head: &[u8], payload: &[u8]) -> anyhow::Result<bool> {
    match socket.send(asker, zmq::SNDMORE | zmq::DONTWAIT) {
        Ok(()) => {}
        Err(zmq::Error::EAGAIN) => return Ok(false),
        Err(error) => anyhow::bail!("{error}"),
    }
    // The queue had room for the first frame, and a message is never cut.
    socket.send(head, zmq::SNDMORE | zmq::DONTWAIT).map_err(|error| anyhow::anyhow!("{error}"))?;
    socket.send(payload, zmq::DONTWAIT).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_a_range_or_last_with_or_without_an_id() {
        let packed = |value: serde_json::Value| rmp_serde::to_vec(&value).unwrap();
        let range = Asked::Range { topic: "gap".into(), from: 3, to: 9 };
        assert_eq!(parse(&packed(serde_json::json!(["gap", 3, 9]))), Ok((range.clone(), None)));
        assert_eq!(parse(&packed(serde_json::json!(["gap", 3, 9, "x"]))), Ok((range, Some(Id::Text("x".into())))));
        let last = Asked::Last { topic: "gap".into() };
        assert_eq!(parse(&packed(serde_json::json!(["last", "gap"]))), Ok((last.clone(), None)));
        assert_eq!(parse(&packed(serde_json::json!(["last", "gap", 7]))), Ok((last, Some(Id::UInt(7)))));
        for bad in [serde_json::json!(["gap"]), serde_json::json!({}), serde_json::json!(["gap", -1, 3])] {
            assert!(parse(&packed(bad.clone())).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
