//! What a supervisor is asked, and by whom: `down`, `restart` and `up` over its socket, signals by the system.

use std::collections::VecDeque;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::super::phases::{Stage, Supervisor};
use super::super::table::SERVERS;
use crate::control::{self, Response};

/// What an order is told that has to wait for the end of a start.
pub const STARTING: &str =
    "it is still starting: try again when `tapedeck up` is through, or end it all with `tapedeck down`";

/// What a running supervisor is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Ask {
    /// Starts what is not running; without names everything.
    Up { names: Vec<String> },
    /// Ends these; without names everything, and itself.
    Down { names: Vec<String> },
    /// Ends and starts one, or `servers`.
    Restart { name: String },
}

/// Refuses names that are not kept, and what a start has no ear for, and passes on the rest.
pub(super) fn handler(
    asks: mpsc::Sender<Ask>,
    told: watch::Receiver<Supervisor>,
    known: Vec<String>,
) -> control::Handler<Ask> {
    std::sync::Arc::new(move |ask| {
        let (asks, known) = (asks.clone(), known.clone());
        let stage = told.borrow().stage;
        Box::pin(async move {
            let names: &[String] = match &ask {
                Ask::Up { names } | Ask::Down { names } => names,
                Ask::Restart { name } => std::slice::from_ref(name),
            };
            let strange = names.iter().find(|name| *name != SERVERS && !known.contains(name));
            if let Some(name) = strange {
                return Response::Error(format!(
                    "nothing called `{name}` is kept here; there are: {}. A part of the deck is restarted by `tapedeck restart NAME`, \
                     started and ended with all of it: `tapedeck up deck`, `tapedeck down deck`",
                    known.join(", ")
                ));
            }
            let some = match &ask {
                Ask::Down { names } => !names.is_empty(),
                Ask::Restart { .. } => true,
                Ask::Up { .. } => false,
            };
            match stage {
                Stage::Starting if some => return Response::Error(STARTING.to_owned()),
                Stage::Stopping | Stage::Down if some => {
                    return Response::Error("it is ending: `tapedeck up` starts it again".to_owned());
                }
                _ => {}
            }
            match asks.try_send(ask) {
                Ok(()) => Response::Ok("done as asked".into()),
                Err(_) => Response::Error("busy with what was asked before".to_owned()),
            }
        })
    })
}

/// Returns when the end is asked for, by a signal or by `down`. What else comes was asked in the moment before the start, and is
/// kept for `later`.
pub(super) async fn stop_asked(signals: &mut Signals, asked: &mut mpsc::Receiver<Ask>, later: &mut VecDeque<Ask>) {
    loop {
        tokio::select! {
            () = signals.stop() => return,
            ask = asked.recv() => match ask {
                Some(Ask::Down { names }) if names.is_empty() => return,
                Some(ask) => later.push_back(ask),
                None => return,
            },
        }
    }
}

/// What was kept comes first. Cancel safe.
pub(super) async fn next_ask(asked: &mut mpsc::Receiver<Ask>, later: &mut VecDeque<Ask>) -> Option<Ask> {
    match later.pop_front() {
        Some(ask) => Some(ask),
        None => asked.recv().await,
    }
}

pub(super) struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Signals {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    /// A terminal that went away is no reason to stop.
    pub(super) async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.int.recv() => return,
                _ = self.term.recv() => return,
                _ = self.hup.recv() => {}
            }
        }
    }
}
