//! The way from the web server to the source that takes points.
//!
//! ```text
//! POST /write ─► http ─► Inlet ─► Door ─► bounded queue ─► source (kind = "http") ─► Outlet ─► recorder ─► durable ─► 204
//! ```
//!
//! The deck makes one inlet and hands it to both: to the server, which asks it for the door at each request, and, in its
//! [`Outlet`](crate::intake::Outlet), to the source, which opens the door for the length of its session. No session (the
//! disk is full, the deck is stopping), no door, and the server says "later".

use std::sync::{Arc, Mutex, PoisonError};

use crate::sources::http::Door;

/// Shared by the web server, the sources and the deck; one a deck.
#[derive(Clone, Debug, Default)]
pub struct Inlet(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// A source that takes points is in the config.
    wanted: bool,
    stopping: bool,
    door: Option<Arc<Door>>,
}

/// What the inlet leads to at this moment.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The config has no such source.
    Nobody,
    /// It has one, but it records nothing now.
    Away,
    Open(Arc<Door>),
}

/// Another source holds the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another source of kind `http` takes the points of this deck")]
pub struct Taken;

impl Inlet {
    #[must_use]
    pub fn reach(&self) -> Reach {
        let state = self.state();
        match &state.door {
            Some(door) if !state.stopping => Reach::Open(door.clone()),
            _ if state.wanted || state.stopping => Reach::Away,
            _ => Reach::Nobody,
        }
    }

    /// Says whether the config has a source that takes points.
    pub fn set_wanted(&self, wanted: bool) {
        self.state().wanted = wanted;
    }

    /// From now on nothing is taken any more: what still asks may ask the next deck.
    pub fn set_stopping(&self) {
        self.state().stopping = true;
    }

    /// Opens the door until the answer is dropped.
    ///
    /// # Errors
    /// [`Taken`]: it is open already.
    pub fn open(&self, door: Arc<Door>) -> Result<Opened, Taken> {
        let mut state = self.state();
        if state.door.is_some() {
            return Err(Taken);
        }
        state.door = Some(door);
        Ok(Opened(self.clone()))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the door when it is dropped.
#[derive(Debug)]
pub struct Opened(Inlet);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.state().door = None;
    }
}
