//! What is read back from the tape before recording goes on.
//!
//! A checkpoint is written every few megabytes, and at an ordered stop: what lies behind it is little.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tapedeck_market::{SmolStr, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Reader, Start, Tail};

use super::state::State;

/// What was read back from the tape.
#[derive(Debug, Default)]
pub struct Restored {
    state: State,
    /// Payloads that were taken over, of the checkpoint and behind it.
    read: u64,
}

impl Restored {
    /// Reads the last checkpoint, and all behind it.
    ///
    /// # Errors
    /// The tape cannot be read.
    pub fn read_back(&mut self, dir: &Path, tail: Arc<Tail>) -> anyhow::Result<()> {
        let reader =
            Reader::open_with(Arc::new(Disk), dir, Start::Checkpoint, tail).context("reading the tape back")?;
        self.read(reader)
    }

    /// The same of a tape on which nobody records.
    ///
    /// # Errors
    /// The tape cannot be read, or there is none.
    pub fn of_tape(dir: &Path) -> anyhow::Result<Self> {
        let reader = Reader::open(Arc::new(Disk), dir, Start::Checkpoint).context("reading the tape back")?;
        let mut restored = Restored::default();
        restored.read(reader)?;
        Ok(restored)
    }

    pub(super) fn read(&mut self, mut reader: Reader) -> anyhow::Result<()> {
        for payload in reader.checkpoint() {
            self.apply(payload);
        }
        while let Some(item) = reader.next().context("reading the tape back")? {
            if let Item::Record(record) = item {
                self.apply(record.payload);
            }
        }
        Ok(())
    }

    /// Takes over one payload of the tape: of a checkpoint or of a record. What cannot be decoded
    /// is a record of a later version, and no state of ours.
    fn apply(&mut self, payload: &[u8]) {
        self.read += 1;
        if let Ok(event) = wire::decode(payload) {
            self.state.apply(&event, payload);
        }
    }

    pub(super) fn into_state(self) -> State {
        self.state
    }

    /// Payloads that had to be read.
    #[cfg(test)]
    pub(super) fn payloads_read(&self) -> u64 {
        self.read
    }

    /// Receive time of the last record, if there is any.
    #[must_use]
    pub fn last_recv(&self) -> Option<UnixNanos> {
        self.state.last_recv()
    }

    /// The highest trade id of each symbol of a source.
    #[must_use]
    pub fn last_trade_ids(&self, source: &str) -> HashMap<SmolStr, u64> {
        self.state.resume(source).last_trades.into_iter().map(|(symbol, (id, _))| (symbol, id)).collect()
    }

    /// Gaps that are open, of all sources.
    #[must_use]
    pub fn gaps_open(&self) -> usize {
        self.state.counts().values().map(|counts| counts.gaps_open).sum()
    }
}
