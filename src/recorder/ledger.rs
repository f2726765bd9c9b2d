//! The gap ledger in numbers: what this process noted, by source and cause.

use std::collections::BTreeMap;
use std::time::Duration;

use tapedeck_market::{Event, Gap, GapState, SmolStr};

/// Gaps of one source and cause, noted by this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GapTotals {
    pub opened: u64,
    pub closed: u64,
    /// Of those that are closed, one after the other: an outage of three subscriptions counts three times.
    pub lost: Duration,
    /// Events known to be missing, where the venue numbers them, whether or not they came later.
    pub missing: u64,
}

/// Totals by source and the cause's name.
pub type GapsBySource = BTreeMap<(SmolStr, &'static str), GapTotals>;

/// Counts a record of the ledger.
pub(super) fn count(totals: &mut GapsBySource, event: &Event, gap: &Gap) {
    let totals = totals.entry((event.source.clone(), gap.cause.name())).or_default();
    match gap.state {
        GapState::Open => totals.opened += 1,
        GapState::Closed => {
            totals.closed += 1;
            totals.lost += gap.to.map_or(Duration::ZERO, |to| to.saturating_since(gap.from));
            totals.missing += gap.missing.unwrap_or(0);
        }
        GapState::Repaired | GapState::Unrepairable => {}
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Body, Flags, GapCause, UnixNanos};

    use super::*;

    #[test]
    fn gaps_are_counted_with_the_time_and_the_events_they_cost() {
        let at = UnixNanos::from_secs;
        let gap = |state, from, to: Option<i64>, missing| Gap {
            id: 1,
            state,
            cause: GapCause::Sequence,
            channel: "trade".into(),
            from: at(from),
            to: to.map(at),
            missing,
            detail: "".into(),
        };
        let mut totals = GapsBySource::new();
        for gap in [
            gap(GapState::Open, 10, None, None),
            gap(GapState::Closed, 10, Some(14), Some(3)),
            gap(GapState::Open, 20, None, None),
            gap(GapState::Closed, 20, Some(21), None),
            gap(GapState::Open, 30, None, None),
            gap(GapState::Repaired, 10, Some(40), Some(0)),
        ] {
            let event = Event {
                source: "k".into(),
                venue: "kraken".into(),
                symbol: "BTC/USD".into(),
                ts_event: None,
                ts_recv: at(50),
                flags: Flags::NONE,
                origin: None,
                body: Body::Gap(Box::new(gap.clone())),
            };
            count(&mut totals, &event, &gap);
        }
        let want = GapTotals { opened: 3, closed: 2, lost: Duration::from_secs(5), missing: 3 };
        assert_eq!(totals.into_iter().collect::<Vec<_>>(), [(("k".into(), "sequence"), want)]);
    }
}
