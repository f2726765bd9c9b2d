//! Disk space: retention, a full disk, and what is left out when space runs short.
//!
//! A full disk loses nothing that was acknowledged: the recorder waits, by the configured policy, and what was
//! missed meanwhile is a gap of every subscription.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use tapedeck_market::{GapCause, SmolStr, TapeEvent, TapeNote, UnixNanos};
use tapedeck_tape::storage::Disk;

use super::state::SHED_CHANNELS;
use super::{OnFull, Recorder};
use crate::status;

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);

impl Recorder {
    /// Returns when an append may succeed again.
    pub(super) fn wait_for_space(&mut self) -> anyhow::Result<()> {
        let since = self.state.last_recv().unwrap_or_else(UnixNanos::now);
        if self.settings.on_full == OnFull::DropOldest && self.drop_oldest() {
            return Ok(());
        }
        if self.disk_gap_since.is_none() {
            tracing::error!(dir = %self.settings.dir.display(), "disk full, recording waits for space");
            self.disk_gap_since = Some(since);
            self.view.full = true;
            self.view.shedding = self.settings.on_full == OnFull::Shed;
            self.publish.full.send_replace(true);
            self.publish_view();
        }
        // What was appended before must not wait for the disk to have space again.
        match self.log.commit() {
            Ok(durable) => self.confirm(durable),
            Err(tapedeck_tape::Error::Full { .. }) => {}
            Err(error) => return Err(error).context("syncing the tape"),
        }
        if self.settings.give_up.load(Ordering::Relaxed) {
            anyhow::bail!("the disk is full: what was not yet written is not recorded");
        }
        // What is older than it must be kept makes room first.
        self.retain();
        self.look_at_folder();
        self.publish_view();
        std::thread::sleep(FULL_RETRY);
        self.pulse.beat();
        Ok(())
    }

    /// What the view says of the folder. Nothing of it is worth more than a word when it fails: it is looked at again in a second.
    pub(super) fn look_at_folder(&mut self) {
        match self.log.extent() {
            Ok(extent) => self.view.extent = extent,
            Err(error) => tracing::debug!(error = format!("{:#}", anyhow::Error::new(error)), "measuring the tape"),
        }
        let dir = &self.settings.dir;
        if let Some(free) = status::disk_free_bytes(dir) {
            self.view.disk_free_bytes = free;
        }
        if let Ok(cursors) = tapedeck_tape::cursors::list(&Disk, dir) {
            self.view.readers = cursors.into_iter().map(|cursor| (cursor.name.into(), cursor.seq)).collect();
        }
    }

    /// Lets old segments go. A failure costs space, nothing else: it is tried again.
    pub(super) fn retain(&mut self) {
        match self.log.retain(&self.settings.retention, UnixNanos::now().0) {
            Ok(retained) => {
                if retained.segments > 0 {
                    tracing::info!(
                        segments = retained.segments,
                        bytes = retained.bytes,
                        first_seq = retained.first_seq,
                        "old segments removed"
                    );
                }
                let held = retained.held_by.map(|reader| (SmolStr::new(reader), retained.held_bytes));
                if let (Some((reader, bytes)), None) = (&held, &self.view.held) {
                    tracing::warn!(%reader, bytes, "the tape keeps what could go: a reader has not been there");
                }
                self.view.held = held;
            }
            Err(error) => tracing::warn!(error = format!("{:#}", anyhow::Error::new(error)), "removing old segments"),
        }
    }

    /// Makes room by giving up the oldest segment; `false` when there is none that may go.
    fn drop_oldest(&mut self) -> bool {
        match self.log.drop_oldest(&self.settings.retention) {
            Ok(dropped) if dropped.segments > 0 => {
                tracing::warn!(
                    bytes = dropped.bytes,
                    first_seq = dropped.first_seq,
                    "disk full, oldest segment removed"
                );
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(error = format!("{:#}", anyhow::Error::new(error)), "making room on a full disk");
                false
            }
        }
    }

    /// After a full disk: every subscription has missed something.
    pub(super) fn resume_after_full(&mut self) -> anyhow::Result<()> {
        let Some(since) = self.disk_gap_since.take() else { return Ok(()) };
        tracing::info!("disk has space again, recording goes on");
        self.note(TapeNote {
            what: TapeEvent::Full,
            from_seq: None,
            to_seq: None,
            bytes: 0,
            detail: SmolStr::new(format!("nothing was recorded since {since}")),
        })?;
        let sources: Vec<_> = self.state.sources().map(|(name, venue)| (name.clone(), venue.clone())).collect();
        for (source, venue) in sources {
            let these = self.state.subscriptions(&source, None, None, true);
            let since = self.state.whole_until(&source, since);
            self.open_gaps(source, venue, these, GapCause::Disk, since, &SmolStr::new_static("the disk was full"))?;
        }
        self.view.full = false;
        self.publish.full.send_replace(false);
        self.ledger_changed = true;
        Ok(())
    }

    /// With `on_full = "shed"`: begins to leave out depth when space runs short, and ends it with twice as much.
    pub(super) fn shed_or_not(&mut self) -> anyhow::Result<()> {
        if self.settings.on_full != OnFull::Shed {
            return Ok(());
        }
        let free = self.view.disk_free_bytes;
        let low = self.settings.shed_below;
        if !self.view.shedding && free < low {
            self.view.shedding = true;
            tracing::error!(
                free_bytes = free,
                "disk space is short: books, tickers and raw frames are no longer recorded"
            );
            let since = self.state.last_recv().unwrap_or_else(UnixNanos::now);
            let sources: Vec<_> = self.state.sources().map(|(name, venue)| (name.clone(), venue.clone())).collect();
            for (source, venue) in sources {
                let since = self.state.whole_until(&source, since);
                let mut these = Vec::new();
                for channel in SHED_CHANNELS {
                    these.extend(self.state.subscriptions(&source, None, Some(&SmolStr::new_static(channel)), true));
                }
                let detail = SmolStr::new_static("left out: disk space is short");
                self.open_gaps(source, venue, these, GapCause::Drop, since, &detail)?;
            }
        } else if self.view.shedding && !self.view.full && free > low.saturating_mul(2) {
            self.view.shedding = false;
            tracing::info!(free_bytes = free, "disk has space again: everything is recorded");
            // The gaps end when the sources have subscribed anew and sent their snapshots: they are closed
            // as by a full disk, and let go on at the next look.
            self.publish.full.send_replace(true);
            self.restart_sources = true;
        }
        Ok(())
    }
}
