//! What overtook a backlog takes its place again.
//!
//! ```text
//! backlog  ─── 1 ── 2 ── 3 ──┐                        a store that keeps one row for a time, and no word on which is newer,
//! live      10 ── 11 ── 12 ──┼─► 10 … 12 once more,   ends with what the tape says last
//!                            └── as far as they are of times of 1 … 3
//! ```
//!
//! While a backlog is delivered, later records go to the store beside it. Where such a record is of the same series and time as one
//! of the backlog, the older one comes last. So all that overtook a backlog counts as not delivered in the moment in which its
//! last record is, and is read once more, in the order of the tape; what is of none of the backlog's times is passed over. It is that
//! moment's commit which says so: a crash before or after it leaves nothing out.

use tapedeck_market::{Record, UnixNanos};

use super::progress::Progress;

/// The time under which a store keeps a record.
pub type TimeOf = fn(&Record) -> UnixNanos;

/// Times of records that were delivered after later ones: from the first to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times(Option<(UnixNanos, UnixNanos)>);

impl Times {
    /// Any: it is not known which.
    pub(super) const ALL: Times = Times(Some((UnixNanos(i64::MIN), UnixNanos(i64::MAX))));

    pub(super) fn add(&mut self, time: UnixNanos) {
        let (first, last) = self.0.unwrap_or((time, time));
        self.0 = Some((first.min(time), last.max(time)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn has(&self, time: UnixNanos) -> bool {
        self.0.is_some_and(|(first, last)| (first..=last).contains(&time))
    }
}

/// What was delivered before, and goes once more only as far as it is of those times.
#[derive(Clone, Debug)]
pub(super) struct Again {
    pub delivered: Progress,
    pub times: Times,
    pub time_of: TimeOf,
}

impl Again {
    /// Whether a record is where it should be already.
    pub(super) fn passes_over(&self, record: &Record) -> bool {
        self.delivered.has(record.seq) && !self.times.has((self.time_of)(record))
    }
}

/// Takes out of `after` what overtook a backlog that ends with `to`, and gives back what it was.
pub(super) fn give_back(after: &mut Progress, to: u64, late: &Times) -> Option<Progress> {
    if late.is_empty() || after.low() <= to {
        return None;
    }
    let delivered = after.clone();
    after.forget_from(to + 1);
    Some(delivered)
}
