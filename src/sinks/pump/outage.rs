//! A store that fails, is away, or is back and has less than was delivered.

use std::time::Duration;

use anyhow::Context as _;
use tapedeck_market::UnixNanos;
use tapedeck_tape::Start;

use super::{LONGEST_WAIT, Next, Running, first_from};
use crate::sinks::delivery::Begin;
use crate::sinks::progress::Progress;
use crate::sinks::{Opened, SinkError};

impl Running<'_> {
    /// What follows a failure that is not about records: waits, and opens the store again.
    pub(super) async fn failed(&mut self, error: SinkError) -> anyhow::Result<Next> {
        self.counts.failures += 1;
        if let SinkError::Rewind { by, cause } = error {
            return self.rewind(by, &cause);
        }
        self.told(&error);
        if let Next::Leave = self.pause().await {
            return Ok(Next::Leave);
        }
        self.open(false).await
    }

    fn told(&self, error: &SinkError) {
        let state = match error {
            SinkError::Waiting(_) => format!("waiting: {error}"),
            _ => format!("unavailable: {error}"),
        };
        if self.desk.shown.state() != state {
            tracing::warn!(sink = %self.name, error = %error, "store unavailable, trying again; its records wait on the tape");
        }
        self.desk.shown.set_state(state);
    }

    /// Waits before the next try; progress is committed and shown meanwhile.
    async fn pause(&mut self) -> Next {
        let wait = self.waits.next().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        if let Err(error) = self.commit().await {
            tracing::warn!(sink = %self.name, error = format!("{error:#}"), "the cursor cannot be written");
        }
        let until = tokio::time::Instant::now() + wait;
        loop {
            self.desk.shown.set("retry_in_ms", until.duration_since(tokio::time::Instant::now()).as_millis() as u64);
            self.show();
            let next = (tokio::time::Instant::now() + Duration::from_secs(1)).min(until);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.stop.cancelled() => return Next::Leave,
                Some(asked) = self.asked.recv() => self.answer_away(asked).await,
            }
            if tokio::time::Instant::now() >= until {
                self.desk.shown.set("retry_in_ms", 0);
                return Next::Go;
            }
        }
    }

    /// Opens the store, again and again until it answers, and takes over what it says of itself.
    pub(super) async fn open(&mut self, first: bool) -> anyhow::Result<Next> {
        loop {
            let opened = tokio::select! {
                opened = self.sink.open(self.tape) => opened,
                () = self.stop.cancelled() => return Ok(Next::Leave),
            };
            match opened {
                Ok(opened) => {
                    if self.desk.shown.state() != "running" {
                        tracing::info!(sink = %self.name, missing = self.progress.missing(self.desk.tape.seq()), "store is there");
                    }
                    self.desk.shown.set_state("running");
                    return self.take_mark(opened, first);
                }
                Err(SinkError::Rewind { by, cause }) => {
                    self.desk.shown.set_state("running");
                    return self.rewind(by, &cause);
                }
                Err(error) => {
                    self.counts.failures += 1;
                    self.told(&error);
                    if let Next::Leave = self.pause().await {
                        return Ok(Next::Leave);
                    }
                }
            }
        }
    }

    fn take_mark(&mut self, opened: Opened, first: bool) -> anyhow::Result<Next> {
        self.keeps_mark = opened != Opened::NoMark;
        let known = match opened {
            Opened::NoMark => return Ok(Next::Go),
            Opened::Mark(bytes) => match Progress::decode(&bytes) {
                Some(progress) => progress,
                None => {
                    tracing::warn!(sink = %self.name, "the store's mark cannot be read, the cursor counts");
                    return Ok(Next::Go);
                }
            },
            Opened::Empty if !self.progress.sent => return Ok(Next::Go),
            Opened::Empty => {
                tracing::warn!(sink = %self.name, "the store knows nothing of this tape although records were delivered: everything is delivered again");
                match self.delivery.start {
                    // What was recorded before is as little wanted as it was then, and nobody knows any more when that was.
                    Begin::Now => return Ok(Next::Go),
                    start => {
                        let first = first_from(self.desk, start.start()).context("finding the start")?;
                        Progress::up_to(first - 1)
                    }
                }
            }
        };
        if known == self.progress {
            return Ok(Next::Go);
        }
        tracing::info!(sink = %self.name, seq = known.low(), cursor = self.progress.low(), "the store's own mark counts");
        self.progress = known;
        self.live_from = self.live_from.max(self.progress.high() + 1);
        Ok(if first { Next::Go } else { Next::Anew })
    }

    /// Counts what was recorded in the last `by` as not delivered.
    fn rewind(&mut self, by: Duration, cause: &str) -> anyhow::Result<Next> {
        let since = UnixNanos::now() - by;
        let seq = first_from(self.desk, Start::Time(since.0)).context("finding where to begin again")?;
        tracing::warn!(sink = %self.name, cause, from_seq = seq, "delivering again what was confirmed lately");
        self.counts.rewinds += 1;
        self.progress.forget_from(seq);
        self.live_from = self.progress.high() + 1;
        Ok(Next::Anew)
    }

    pub(super) async fn tend(&mut self) -> anyhow::Result<Next> {
        match self.sink.tend().await {
            Ok(()) => Ok(Next::Go),
            Err(SinkError::Refused(_) | SinkError::BatchRefused(_) | SinkError::TooMuch(_)) => Ok(Next::Go),
            Err(error) => self.failed(error).await,
        }
    }
}
