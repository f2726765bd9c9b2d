//! What a store will never take: kept as dead letters, and sent again or given up when somebody asks.

use std::sync::Arc;

use anyhow::Context as _;
use tapedeck_market::Record;

use super::{Next, Running};
use crate::service::Asked;
use crate::sinks::SinkError;
use crate::sinks::dead::Entries;
use crate::sinks::retry::{self, Deed};

impl Running<'_> {
    /// Turns records into dead letters, durably, and takes them out of the batch.
    pub(super) async fn bury(
        &mut self,
        records: &mut Vec<Record>,
        mut rejects: Vec<(usize, String)>,
    ) -> anyhow::Result<Next> {
        rejects.retain(|(index, _)| *index < records.len());
        rejects.sort_by_key(|(index, _)| *index);
        rejects.dedup_by_key(|(index, _)| *index);
        anyhow::ensure!(!rejects.is_empty(), "the sink refused records and did not say which");
        let refused: Vec<(&Record, &str)> =
            rejects.iter().map(|(index, words)| (&records[*index], words.as_str())).collect();
        let entries = Arc::new(Entries::of(self.tape, &refused)?);
        loop {
            match self.add_letters(entries.clone()).await {
                Ok(()) => break,
                Err(error) => match self.failed(SinkError::Unavailable(error)).await? {
                    Next::Go => {}
                    next => return Ok(next),
                },
            }
        }
        let (index, words) = &rejects[0];
        let first = &records[*index];
        tracing::warn!(sink = %self.name, seq = first.seq, symbol = %first.event.symbol, refused = rejects.len(), words, "refused by the store: kept as dead letters, see `tapedeck deadletter list`");
        self.counts.refused += rejects.len() as u64;
        for (index, _) in rejects.iter().rev() {
            records.remove(*index);
        }
        Ok(Next::Go)
    }

    /// Writes dead letters, which waits for the disk.
    async fn add_letters(&mut self, entries: Arc<Entries>) -> anyhow::Result<()> {
        let mut letters = self.letters.take().context("the dead letters are not there")?;
        let writing = tokio::task::spawn_blocking(move || {
            let written = letters.add(&entries);
            (letters, written)
        });
        let (letters, written) = writing.await.context("writing dead letters")?;
        self.letters = Some(letters);
        written
    }

    /// Does with dead letters what the running deck is asked to.
    pub(super) async fn answer(&mut self, asked: Asked) -> anyhow::Result<Next> {
        let letters = self.letters.take().context("the dead letters are not there")?;
        let mut progress = self.progress.clone();
        progress.sent = true;
        let mark = progress.encode();
        let (letters, done) = retry::carry_out(&mut *self.sink, letters, self.tape, &mark, &asked.order).await;
        self.letters = Some(letters);
        if let Ok(done) = &done {
            tracing::info!(sink = %self.name, delivered = done.delivered, dropped = done.dropped, refused = done.refused.len(), "dead letters looked at again");
        }
        self.show();
        // Whoever asked may have gone.
        let _ = asked.reply.send(done.as_ref().map(Clone::clone).map_err(ToString::to_string));
        match done {
            Ok(_) => Ok(Next::Go),
            Err(error) => self.failed(error).await,
        }
    }

    /// The same while the store is away: letters can be given up, and not be sent.
    pub(super) async fn answer_away(&mut self, asked: Asked) {
        let state = self.desk.shown.state();
        let done = match (asked.order.deed, self.letters.take()) {
            (Deed::Drop, Some(letters)) => {
                let (letters, done) = retry::carry_out(&mut *self.sink, letters, self.tape, &[], &asked.order).await;
                self.letters = Some(letters);
                done.map_err(|error| error.to_string())
            }
            (_, letters) => {
                self.letters = letters;
                Err(format!("the store cannot be reached now: {state}"))
            }
        };
        self.show();
        let _ = asked.reply.send(done);
    }
}
