//! What is known to be missing: the records of the gap ledger.

use crate::{SmolStr, UnixNanos};

/// Known missing data: opened by one record, closed by another with the same id.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Unique on this tape.
    pub id: u64,
    pub state: GapState,
    pub cause: GapCause,
    /// What was being received, e.g. `book`; empty = everything of the symbol.
    pub channel: SmolStr,
    /// The last moment at which the feed was known to be whole, by the earlier of our clock and the venue's: nothing
    /// that is missing is of an earlier time.
    pub from: UnixNanos,
    /// Receive time of the ack or snapshot that ended it; `None` while open.
    pub to: Option<UnixNanos>,
    /// Events known to be missing, where the venue numbers them.
    pub missing: Option<u64>,
    /// In words, for people.
    pub detail: SmolStr,
}

/// Where a gap stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapState {
    Open,
    Closed,
    /// Everything missing was fetched afterwards.
    Repaired,
    /// The venue has no history for it.
    Unrepairable,
}

impl GapState {
    pub const NAMES: [(GapState, &'static str); 4] = [
        (GapState::Open, "open"),
        (GapState::Closed, "closed"),
        (GapState::Repaired, "repaired"),
        (GapState::Unrepairable, "unrepairable"),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(state, _)| *state == self).map_or("open", |(_, name)| name)
    }
}

/// Why data is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The connection was lost or refused.
    Session,
    /// The subscription fell silent on a live connection.
    Stall,
    /// The book no longer matched the venue's checksum.
    Checksum,
    /// A hole in the venue's numbering.
    Sequence,
    /// Dropped here, by a stated policy.
    Drop,
    /// The recorder was not running.
    Down,
    /// A reader was overrun by retention.
    Overrun,
    /// The disk was full or failed.
    Disk,
}

impl GapCause {
    pub const NAMES: [(GapCause, &'static str); 8] = [
        (GapCause::Session, "session"),
        (GapCause::Stall, "stall"),
        (GapCause::Checksum, "checksum"),
        (GapCause::Sequence, "sequence"),
        (GapCause::Drop, "drop"),
        (GapCause::Down, "down"),
        (GapCause::Overrun, "overrun"),
        (GapCause::Disk, "disk"),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(cause, _)| *cause == self).map_or("session", |(_, name)| name)
    }
}
