//! Cancelling: a client asks on a connection of its own, with the number and the secret of the other.
//!
//! Each statement gets a token of its own: a request that comes between two of them ends neither. One that comes
//! later ends what runs then, as with PostgreSQL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use pgwire::api::cancel::CancelHandler;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use tokio_util::sync::CancellationToken;

type Key = (i32, Bytes);

/// The connections that can be cancelled.
#[derive(Debug, Default)]
pub(super) struct Registry {
    connections: Mutex<HashMap<Key, Arc<Running>>>,
}

/// What a connection is at.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<CancellationToken>);

impl Running {
    /// A new statement begins.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        token
    }

    fn cancel(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }
}

/// Takes a connection out of the registry when it ends.
#[derive(Debug)]
pub(super) struct Registered {
    key: Key,
    registry: Arc<Registry>,
}

impl Registry {
    pub(super) fn register(self: &Arc<Self>, pid: i32, secret: &SecretKey, running: Arc<Running>) -> Registered {
        let key = (pid, secret.to_bytes());
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), running);
        Registered { key, registry: Arc::clone(self) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[async_trait]
impl CancelHandler for Registry {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let key = (request.pid, request.secret_key.to_bytes());
        let running = self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(running) = running {
            running.cancel();
        }
    }
}
