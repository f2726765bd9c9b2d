//! What a supervisor is asked, and by whom: `down`, `restart` and `up` over its socket, signals by the system.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::super::table::SERVERS;
use crate::control::{self, Response};

/// What a running supervisor is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Ask {
    /// Starts what is not running; without names everything.
    Up { names: Vec<String> },
    /// Ends these; without names everything, and itself.
    Down { names: Vec<String> },
    /// Ends and starts one.
    Restart { name: String },
}

/// Refuses names that are not kept, and passes on the rest.
pub(super) fn handler(asks: mpsc::Sender<Ask>, known: Vec<String>) -> control::Handler<Ask> {
    std::sync::Arc::new(move |ask| {
        let (asks, known) = (asks.clone(), known.clone());
        Box::pin(async move {
            let names: &[String] = match &ask {
                Ask::Up { names } | Ask::Down { names } => names,
                Ask::Restart { name } => std::slice::from_ref(name),
            };
            let strange = names.iter().find(|name| *name != SERVERS && !known.contains(name));
            if let Some(name) = strange {
                return Response::Error(format!(
                    "nothing called `{name}` is kept here; there are: {}",
                    known.join(", ")
                ));
            }
            match asks.try_send(ask) {
                Ok(()) => Response::Ok("done as asked".into()),
                Err(_) => Response::Error("busy with what was asked before".to_owned()),
            }
        })
    })
}

/// Returns when the end is asked for, by a signal or by `down`; what else is asked during a start is done by it anyway.
pub(super) async fn stop_asked(signals: &mut Signals, asked: &mut mpsc::Receiver<Ask>) {
    loop {
        tokio::select! {
            () = signals.stop() => return,
            ask = asked.recv() => match ask {
                Some(Ask::Down { names }) if names.is_empty() => return,
                Some(ask) => tracing::warn!(?ask, "not done: it is still starting"),
                None => return,
            },
        }
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
