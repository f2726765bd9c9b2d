//! Whether the recorder's thread still turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beats once a second, also while a full disk is waited for. A disk that does not answer stops it.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    /// Since `begun`, ms.
    last_ms: AtomicU64,
}

impl Pulse {
    pub(super) fn start() -> Self {
        Pulse { begun: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    pub(super) fn beat(&self) {
        self.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Since the last beat.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
