//! What the gap ledger says of one subscription, and whether it can be true.

use std::time::Duration;

use tapedeck_market::{Event, Gap, GapCause, GapState, UnixNanos};

/// The venue stamps the executions of one step nanoseconds apart and cuts its stamps to microseconds.
pub(super) const TOLERANCE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// When the venue said that it delivers.
    acks: Vec<UnixNanos>,
    /// Gaps that were open since the last record: they excuse what is missing before the next.
    gaps: Vec<Gap>,
    /// Venue time of the last record.
    last: Option<UnixNanos>,
}

impl Ledger {
    /// The venue acknowledged the subscription, or sent its snapshot where that is what counts.
    pub(super) fn acked(&mut self, at: UnixNanos) {
        self.acks.push(at);
    }

    /// The next record of the ledger; `newest` is the highest venue time on the tape before it.
    pub(super) fn note(
        &mut self,
        seq: u64,
        event: &Event,
        gap: &Gap,
        newest: Option<UnixNanos>,
    ) -> Result<(), &'static str> {
        match gap.state {
            GapState::Open => self.open(seq, event, gap, newest),
            GapState::Closed => self.close(event, gap),
            GapState::Repaired | GapState::Unrepairable => Err("nothing was repaired"),
        }
    }

    fn open(&mut self, seq: u64, event: &Event, gap: &Gap, newest: Option<UnixNanos>) -> Result<(), &'static str> {
        if gap.id != seq {
            return Err("the id of a gap is the seq that opens it");
        }
        // A hole that is over when it is found may lie inside a longer gap.
        if gap.cause != GapCause::Sequence && self.open_gap().is_some() {
            return Err("opened while one is open");
        }
        if gap.from > event.ts_recv || gap.to.is_some() {
            return Err("begins after it was opened, or ends before");
        }
        // An outage is of the whole session, the rest of this subscription alone.
        let whole_at = match gap.cause {
            GapCause::Down | GapCause::Session | GapCause::Disk => newest,
            _ => self.last,
        };
        if whole_at.is_some_and(|at| gap.from < at - TOLERANCE) {
            return Err("begins before what stands on the tape in front of it");
        }
        self.gaps.push(gap.clone());
        Ok(())
    }

    fn close(&mut self, event: &Event, gap: &Gap) -> Result<(), &'static str> {
        let opened = self.gaps.iter_mut().find(|opened| opened.id == gap.id && opened.to.is_none());
        let Some(opened) = opened else { return Err("closed without being open") };
        if (opened.from, opened.cause) != (gap.from, gap.cause) {
            return Err("closed as another gap than was opened");
        }
        let Some(to) = gap.to.filter(|to| *to == event.ts_recv && *to >= gap.from) else {
            return Err("does not end where it was closed");
        };
        *opened = gap.clone();
        let acked = self.acks.iter().any(|at| (gap.from..=to).contains(at));
        if gap.cause != GapCause::Sequence && !acked {
            return Err("closed without an ack or snapshot");
        }
        Ok(())
    }

    /// A record of the subscription; `ids_missing` says how many trade ids it passes over.
    pub(super) fn met(
        &mut self,
        ts_recv: UnixNanos,
        at: UnixNanos,
        ids_missing: Option<u64>,
    ) -> Result<(), &'static str> {
        for gap in &self.gaps {
            match (gap.cause, gap.to) {
                // A book that broke is recorded on, as it comes.
                (GapCause::Down | GapCause::Session, None) => return Err("recorded while its gap is open"),
                (_, Some(to)) if to > ts_recv => return Err("its gap ends only after it"),
                _ => {}
            }
        }
        let hole = self.gaps.iter().rfind(|gap| gap.cause == GapCause::Sequence);
        if let Some(count) = ids_missing
            && hole.and_then(|hole| hole.missing).unwrap_or(0) != count
        {
            return Err("the ledger tells another number of missing trade ids");
        }
        self.gaps.retain(|gap| gap.to.is_none());
        self.last = Some(at);
        Ok(())
    }

    /// Whether something of that venue time may be missing.
    pub(super) fn excuses(&self, at: UnixNanos) -> bool {
        self.gaps.iter().any(|gap| gap.from - TOLERANCE <= at && gap.to.is_none_or(|to| at <= to))
    }

    pub(super) fn excuses_in_words(&self) -> String {
        if self.gaps.is_empty() { "none since the last record".to_owned() } else { format!("{:?}", self.gaps) }
    }

    pub(super) fn open_gap(&self) -> Option<&Gap> {
        self.gaps.iter().find(|gap| gap.to.is_none())
    }

    /// Whether a record stands behind the last gap.
    pub(super) fn flows(&self) -> bool {
        self.gaps.is_empty()
    }
}
