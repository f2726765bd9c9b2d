//! The bus: what is on the tape, published over ZeroMQ, and given again to whoever missed it.
//!
//! ```text
//! deck ── supervises ──► tapedeck bus (a process of its own: libzmq aborts on its own assertions)
//!                          thread of the sockets:   tape ─► engine ─► form ─► XPUB a port
//!                          thread of the requests:  ROUTER ─► tape ─► engine ─► form ─► asker
//!                          thread of the keys:      who may connect, where keys are asked for
//! ```
//!
//! - Publishing begins at the durable end and holds nothing back: the cursor `bus` says how far it was, and is not required.
//! - Every message has `seq`, its place on the tape, and `prev`, the seq before it on its topic. Both follow from the tape,
//!   also over a restart, so that a subscriber sees what it missed and can ask for it.
//! - What is sent is a function of the records (`engine.rs`), so an answer is byte for byte what was published.
//!
//! `docs/bus.md` is the protocol as a subscriber sees it.

mod answer;
mod engine;
mod form;
mod holder;
mod keys;
pub mod listen;
mod publisher;
pub mod registry;
mod requests;
mod server;
mod topic;
mod zap;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::child::Child;
use crate::config::Bus;
use crate::service::{Desk, Holds, Service, ServiceKind, Setup, Stage, section_of};
pub use answer::ANSWER_MAX;
pub use engine::{Content, Engine, Manner, Message};
pub use form::{Encoded, Encoder};
pub use holder::{Holder, check as check_port, holder_of};
pub use keys::{Keys, Pair};
pub use publisher::{Counts, HEARTBEAT, Publisher};
pub use server::serve;

/// The hidden verb of the child.
pub const VERB: &str = "bus";

/// The row of the bus in the table of services.
pub const KIND: ServiceKind = ServiceKind {
    name: "bus",
    stage: Stage::Serve,
    holds: Holds::Nothing,
    section: |config| section_of(config.bus.as_ref()),
    build: |setup| Ok(Box::new(BusService { task: Task::of(setup)? })),
};

/// What the child is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The deck's folder.
    pub dir: PathBuf,
    pub bus: Bus,
}

impl Task {
    fn of(setup: &Setup) -> anyhow::Result<Task> {
        Ok(Task { dir: setup.dir.clone(), bus: setup.config.bus.clone().unwrap_or_default() })
    }

    /// The keys, where they are asked for: on an address that others can reach.
    #[must_use]
    pub fn keys(&self) -> Option<Keys> {
        (!self.bus.listen.is_loopback() && !self.bus.insecure).then(|| Keys::of(&self.dir))
    }

    /// Whether the bus can start: every port is free, and there are keys where they are needed.
    ///
    /// # Errors
    /// Says what is in the way, and what mends it.
    pub fn check(&self) -> anyhow::Result<()> {
        let requests = registry::moved(&self.bus, registry::REQUESTS);
        for port in registry::layout(&self.bus).into_keys().chain([requests]) {
            match check_port(self.bus.listen, port) {
                Ok(()) => {}
                Err((_, Some(holder))) => return Err(taken(&self.bus, port, Some(&holder))),
                Err((error, None)) => {
                    return Err(anyhow::Error::new(error).context(format!("binding {}:{port}", self.bus.listen)));
                }
            }
        }
        if let Some(keys) = self.keys()
            && keys.server()?.is_none()
        {
            anyhow::bail!(
                "[bus] listens on {}, which others can reach, and there are no keys: `tapedeck keys new NAME` makes the \
                 deck's and a client's, or say `insecure = true` if everybody there may read everything",
                self.bus.listen
            );
        }
        Ok(())
    }
}

/// The refusal of a port, with who has it.
pub(crate) fn taken(bus: &Bus, port: u16, holder: Option<&Holder>) -> anyhow::Error {
    let topics = registry::layout(bus).remove(&port).unwrap_or_default().join(", ");
    let what = match topics.as_str() {
        "" if port == registry::moved(bus, registry::REQUESTS) => "requests".to_owned(),
        "" => "every topic".to_owned(),
        topics => topics.to_owned(),
    };
    let holder = holder.map_or_else(|| "another process".to_owned(), ToString::to_string);
    anyhow::anyhow!(
        "port {port} ({what}) is taken by {holder}: end it, or set `[bus.topics.NAME] port` or `[bus] port_offset`"
    )
}

/// The deck's side: watches over the child.
struct BusService {
    task: Task,
}

#[async_trait]
impl Service for BusService {
    async fn run(&mut self, desk: &Desk, stop: CancellationToken) -> anyhow::Result<()> {
        self.task.check()?;
        if !self.task.bus.listen.is_loopback() && self.task.bus.insecure {
            tracing::warn!(
                listen = %self.task.bus.listen,
                "the bus is open without keys or encryption: anybody who reaches this address can read everything"
            );
        }
        Child::of_this_program(&[VERB], &self.task)?.run(desk, stop).await
    }
}

/// A publisher of a recording, marked as such: the same topics and forms, on an address of its own.
///
/// The caller hands over records at the pace it likes with [`Publisher::publish`], calls [`Publisher::quiet`] while it
/// waits, [`Publisher::heartbeat`] once a second, and [`Publisher::finish`] at the end. Each map has `replayed = true`.
///
/// # Errors
/// A port is taken: the error names who has it.
pub fn replayer(bus: &Bus, tape: tapedeck_market::Uuid) -> anyhow::Result<Publisher> {
    Publisher::bind(Arc::new(bus.clone()), tape, None, true)
}

#[cfg(test)]
mod tests {
    /// The crate `zmq-sys` by itself would build 4.3.4 without CURVE: `crates/zeromq-src` is there to prevent it.
    #[test]
    fn libzmq_is_the_one_we_build_and_has_curve() {
        assert_eq!(zmq::version(), (4, 3, 5));
        assert_eq!(zmq::has("curve"), Some(true));
        let pair = zmq::CurveKeyPair::new().unwrap();
        assert_ne!(pair.public_key, pair.secret_key);
    }
}
