//! What a store will never take: kept as dead letters, and sent again or given up when somebody asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tapedeck_market::Record;

use super::{Next, Piece, Running};
use crate::service::Asked;
use crate::sinks::dead::Entries;
use crate::sinks::retry::{self, Deed};
use crate::sinks::{Fate, Reject, SinkError};

/// How often it is told that records are not delivered because they are too old.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl Running<'_> {
    /// Turns records into dead letters, durably, and takes them out of the batch; those of which only a part is one stay in it.
    pub(super) async fn bury(&mut self, piece: &mut Piece, mut rejects: Vec<Reject>) -> anyhow::Result<Next> {
        rejects.retain(|reject| reject.index < piece.records.len());
        rejects.sort_by_key(|reject| reject.index);
        rejects.dedup_by_key(|reject| reject.index);
        anyhow::ensure!(!rejects.is_empty(), "the sink refused records and did not say which");
        for reject in rejects.iter_mut().filter(|reject| reject.fate == Fate::Part) {
            // It was sent without that part already.
            if !piece.parted.insert(piece.records[reject.index].seq) {
                reject.fate = Fate::Letter;
            }
        }
        self.count_expired(&rejects);
        let refused = rejects.iter().filter(|reject| reject.fate != Fate::Expired);
        let refused: Vec<(&Record, &str, Fate)> =
            refused.map(|reject| (&piece.records[reject.index], reject.words.as_str(), reject.fate)).collect();
        if let Some((first, words, _)) = refused.first() {
            let entries = Arc::new(Entries::of(self.tape, refused.iter().copied())?);
            loop {
                match self.add_letters(entries.clone()).await {
                    Ok(()) => break,
                    Err(error) => match self.failed(SinkError::Unavailable(error)).await? {
                        Next::Go => {}
                        next => return Ok(next),
                    },
                }
            }
            tracing::warn!(sink = %self.name, seq = first.seq, symbol = %first.event.symbol, refused = refused.len(), words, "refused by the store: kept as dead letters, see `tapedeck deadletter list`");
            self.counts.refused += refused.len() as u64;
        }
        for reject in rejects.iter().rev().filter(|reject| reject.fate != Fate::Part) {
            piece.records.remove(reject.index);
        }
        Ok(Next::Go)
    }

    /// Counts what the store would have forgotten, and says so now and then: of a backlog it may be all.
    fn count_expired(&mut self, rejects: &[Reject]) {
        let mut expired = rejects.iter().filter(|reject| reject.fate == Fate::Expired);
        let Some(first) = expired.next() else { return };
        self.counts.expired += 1 + expired.count() as u64;
        let (told, at) = self.expired_told.unzip();
        if at.is_none_or(|at: Instant| at.elapsed() >= TELL_EVERY) {
            let expired = self.counts.expired - told.unwrap_or(0);
            tracing::warn!(sink = %self.name, expired, words = first.words, "older than the store keeps: not delivered, and no dead letters");
            self.expired_told = Some((self.counts.expired, Instant::now()));
        }
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
