//! Whether the server still has what it has confirmed.
//!
//! Its 204 says that lines are in its log, not that they are on a disk: after a restart what was confirmed last may be gone, and
//! of a table that was suspended somebody may have left out a part. Both are seen here, and answered by delivering again.
//!
//! ```text
//! <dir>/questdb/NAME.json   {"server": when it was started, "from_ns": the oldest record that may have to be delivered again}
//! ```
//!
//! What is delivered again is counted in deliveries, not in the age of records: a backlog of yesterday is delivered in minutes.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tapedeck_market::UnixNanos;

use super::client::Client;
use crate::sinks::SinkError;

/// Deliveries are kept apart to this: what is delivered in the same while goes again together.
const STEP_NS: i64 = 1_000_000_000;

/// A table that the server applies no more writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspended {
    pub table: String,
    pub why: String,
}

impl Suspended {
    /// The statement that ends it.
    pub(super) fn statement(&self) -> String {
        format!("ALTER TABLE \"{}\" RESUME WAL", self.table)
    }
}

#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    rewind: Duration,
    resume: bool,
    /// When the server was started, as it says; its identity.
    server: Option<String>,
    /// Somebody must deliver again, for this reason.
    owed: Option<String>,
    suspended: bool,
    recent: Recent,
    saved: Option<Saved>,
    /// What was owed is on its way, and not yet certain to be: the next run must find it owed again.
    hold: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    server: String,
    from_ns: Option<i64>,
}

impl Watch {
    /// Takes over what was known when the sink ran last.
    pub(super) fn of(dir: &Path, name: &str, rewind: Duration, resume: bool) -> Watch {
        let path = dir.join("questdb").join(format!("{name}.json"));
        let saved: Option<Saved> = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut recent = Recent::default();
        if let Some(from_ns) = saved.as_ref().and_then(|saved| saved.from_ns) {
            recent.add(UnixNanos::now(), UnixNanos(from_ns), rewind);
        }
        let server = saved.as_ref().map(|saved| saved.server.clone());
        Watch { path, rewind, resume, server, owed: None, suspended: false, recent, saved, hold: false }
    }

    /// Records of that time and later were confirmed. What the next run must know of it is kept at once, the rest now and then.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn confirmed(&mut self, oldest: UnixNanos) -> anyhow::Result<()> {
        self.recent.add(UnixNanos::now(), oldest, self.rewind);
        let known = self.saved.as_ref().and_then(|saved| saved.from_ns);
        if self.hold || known.is_some_and(|from_ns| from_ns <= oldest.0) { Ok(()) } else { self.save() }
    }

    /// Looks at the server; `is_ours` tells our tables from others.
    ///
    /// # Errors
    /// [`SinkError::Waiting`]: a table of ours is suspended. [`SinkError::Rewind`]: it was, or the server was started anew.
    pub(super) async fn look(&mut self, client: &Client, is_ours: impl Fn(&str) -> bool) -> Result<(), SinkError> {
        let server = client.value("SELECT pg_postmaster_start_time()").await?;
        if self.server.as_ref().is_some_and(|known| *known != server) {
            self.owed = Some("the server was restarted, and its answers do not mean durable".to_owned());
        }
        self.server = Some(server);
        let suspended: Vec<Suspended> = suspended(client).await?.into_iter().filter(|it| is_ours(&it.table)).collect();
        if let Some(first) = suspended.first() {
            self.suspended = true;
            return Err(self.tell(client, first, suspended.len()).await);
        }
        if std::mem::take(&mut self.suspended) {
            self.owed = Some("a suspended table goes on".to_owned());
        }
        match (self.owed.take(), self.recent.oldest()) {
            (Some(cause), Some(oldest)) => {
                self.hold = true;
                let by = UnixNanos::now().saturating_since(oldest) + Duration::from_nanos(STEP_NS.unsigned_abs());
                Err(SinkError::Rewind { by, cause })
            }
            _ => Ok(()),
        }
    }

    async fn tell(&self, client: &Client, first: &Suspended, count: usize) -> SinkError {
        let Suspended { table, why } = first;
        let others = if count > 1 { format!(" ({} more)", count - 1) } else { String::new() };
        if !self.resume {
            let statement = first.statement();
            let help = format!("after its cause is mended run `{statement}`, or set `resume = true`");
            return SinkError::Waiting(anyhow!("table `{table}` is suspended{others}: {why}; {help}"));
        }
        let done = match client.rows(&first.statement()).await {
            Ok(_) => "it is told to go on".to_owned(),
            Err(error) => format!("it does not go on: {error}"),
        };
        tracing::warn!(table, why, done, "the server had suspended a table");
        SinkError::Waiting(anyhow!("table `{table}` is suspended{others}: {why}; {done}"))
    }

    /// Keeps what is known for the next run. Called when a look has found nothing, seconds after what was owed was said: the pump
    /// has kept it by then.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn keep(&mut self) -> anyhow::Result<()> {
        self.hold = false;
        self.save()
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let Some(server) = self.server.clone() else { return Ok(()) };
        let now = Saved { server, from_ns: self.recent.oldest().map(|oldest| oldest.0) };
        if self.saved.as_ref() == Some(&now) {
            return Ok(());
        }
        let what = || format!("writing {}", self.path.display());
        let (folder, next) = (self.path.parent().unwrap_or(Path::new(".")), self.path.with_extension("new"));
        std::fs::create_dir_all(folder).with_context(what)?;
        std::fs::write(&next, serde_json::to_vec(&now)?).with_context(what)?;
        std::fs::rename(&next, &self.path).with_context(what)?;
        self.saved = Some(now);
        Ok(())
    }
}

/// The tables that are suspended.
///
/// # Errors
/// The server is away, or refuses us.
pub(super) async fn suspended(client: &Client) -> Result<Vec<Suspended>, SinkError> {
    let rows = client.rows("SELECT name, errorTag, errorMessage FROM wal_tables() WHERE suspended = true").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
    let table = |row: &Vec<Value>| {
        let [table, tag, message] = row.as_slice() else { return None };
        let why: Vec<String> = [text(tag), text(message)].into_iter().filter(|it| !it.is_empty()).collect();
        let why = if why.is_empty() { "the server does not say why".to_owned() } else { why.join(": ") };
        Some(Suspended { table: text(table), why })
    };
    Ok(rows.iter().filter_map(table).collect())
}

/// The oldest records of the deliveries of a while.
#[derive(Debug, Default)]
struct Recent {
    /// When it was delivered, and the oldest of it.
    steps: VecDeque<(UnixNanos, UnixNanos)>,
}

impl Recent {
    fn add(&mut self, now: UnixNanos, oldest: UnixNanos, keep: Duration) {
        match self.steps.back_mut() {
            Some((since, known)) if now.0.saturating_sub(since.0) < STEP_NS => *known = (*known).min(oldest),
            _ => self.steps.push_back((now, oldest)),
        }
        // While nothing is delivered, nothing grows old.
        while self.steps.front().is_some_and(|(then, _)| now.saturating_since(*then) > keep) {
            self.steps.pop_front();
        }
    }

    fn oldest(&self) -> Option<UnixNanos> {
        self.steps.iter().map(|(_, oldest)| *oldest).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_delivered_lately_counts_however_old_it_was() {
        let mut recent = Recent::default();
        let at = |s: i64| UnixNanos(s * 1_000_000_000);
        let keep = Duration::from_secs(600);
        assert_eq!(recent.oldest(), None);
        recent.add(at(10_000), at(50), keep);
        recent.add(at(10_000), at(40), keep);
        recent.add(at(10_001), at(9_000), keep);
        assert_eq!(recent.oldest(), Some(at(40)));
        for second in 10_002..10_602 {
            recent.add(at(second), at(second - 1), keep);
        }
        assert_eq!(recent.oldest(), Some(at(9_000)), "the backlog is safe, what came next is not yet");
        recent.add(at(10_602), at(10_602), keep);
        assert_eq!(recent.oldest(), Some(at(10_001)));
        assert!(recent.steps.len() <= 602, "{}", recent.steps.len());
    }
}
