//! What a query may take, so that the worst of them ends in an error and the recorder never notices.
//!
//! Three fences, one inside the other: the engine counts what its operators hold and spill; a statement has
//! a deadline and a place among few; and the process as a whole has a limit on its memory, because the engine
//! does not see scalar functions and the encoding for the wire.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use serde::Deserialize;
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

/// The limits of one store, as the deck says them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What the operators of all queries may hold together.
    pub memory_bytes: usize,
    /// What they may write to disk beyond that.
    pub spill_bytes: u64,
    /// How long a statement may take, until its last row is sent.
    pub timeout_ms: u64,
    /// Statements that run at once; the next waits, and its wait counts.
    pub statements: usize,
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory_bytes: 512 << 20, spill_bytes: 1 << 30, timeout_ms: 30_000, statements: 4, connections: 100 }
    }
}

impl Limits {
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// What the process takes besides the operators' memory: code, caches, batches on their way, the tape's tail.
const BESIDES_BYTES: u64 = 1 << 30;

/// Threads that run queries: one fewer than there are cores, so that a query never has all of them.
#[must_use]
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// Puts this process behind everything else on the machine. Threads started from now on inherit it.
///
/// What the system refuses is only logged: a store that runs as fast as the rest is still a store.
pub fn step_back() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let idle = thread_priority::set_thread_priority_and_policy(
        thread_priority::thread_native_id(),
        ThreadPriority::Min,
        policy,
    );
    if let Err(error) = idle {
        tracing::debug!(error = ?error, "the idle scheduling class was refused");
    }
    if let Err(error) = setpriority_process(None, 19) {
        tracing::debug!(error = %error, "a lower priority was refused");
    }
}

/// Ends the process rather than letting it take the machine's memory.
///
/// # Errors
/// The system refuses the limit.
pub fn cap_memory(limits: &Limits) -> anyhow::Result<()> {
    let most = BESIDES_BYTES + u64::try_from(limits.memory_bytes).unwrap_or(u64::MAX);
    let now = getrlimit(Resource::Data);
    let most = now.maximum.map_or(most, |hard| hard.min(most));
    setrlimit(Resource::Data, Rlimit { current: Some(most), maximum: Some(most) })
        .context("limiting the memory of the process")
}

/// The folder for spills, empty: what is left of an earlier run is nobody's.
///
/// # Errors
/// The folder cannot be emptied or made.
pub fn empty_spill_folder(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("emptying {}", dir.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}
