//! The share of a time in which nothing of a source was missing, from the ledger on the tape.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tapedeck_market::{Body, SmolStr, UnixNanos, wire};
use tapedeck_tape::{Item, Start};

use crate::cli::gaps::ledger::{Ledger, Line, Wanted};
use crate::cli::reading;

/// More records than this are not read for a look at the health of a deck.
const RECORDS: u64 = 20_000_000;

/// The times over which is told.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// What was missing on a tape, and when.
#[derive(Debug)]
pub(super) struct Availability {
    /// Of each source, in the order they begin.
    missing: BTreeMap<SmolStr, Vec<(i64, i64)>>,
    now: UnixNanos,
    /// Received first of all on the tape.
    first: UnixNanos,
    /// As far back as was read.
    since: UnixNanos,
    /// Sources of which nothing was recorded since then, and nothing is known to be missing.
    unheard: BTreeSet<SmolStr>,
}

impl Availability {
    /// Reads the ledger of the last day, or of the last hour where a day is too much to read. Without a deck everything is
    /// missing since the last record. Each of `sources` is looked for on the tape. `None`: there is no tape.
    ///
    /// # Errors
    /// The tape cannot be read.
    pub(super) fn of(dir: &Path, runs: bool, sources: &[SmolStr]) -> anyhow::Result<Option<Availability>> {
        let now = UnixNanos::now();
        let Some(first) = received(dir, Start::Begin)? else { return Ok(None) };
        let end = reading::reader(dir, Start::Begin)?.durable_seq();
        let before = |span: Duration| UnixNanos(now.0 - i64::try_from(span.as_nanos()).unwrap_or(0));
        let day_begins = reading::reader(dir, Start::Time(before(DAY).0))?.seq();
        let since = if end.saturating_sub(day_begins) > RECORDS { before(HOUR) } else { before(DAY) };
        let wanted = Wanted { since: Some(since), ..Wanted::default() };
        let (ledger, _) = Ledger::read(dir, &wanted)?;
        let mut missing = missing(&ledger.gaps(&wanted), now);
        let last = received(dir, Start::Seq(end))?;
        if let Some(last) = last.filter(|_| !runs) {
            missing.entry(SmolStr::default()).or_default().push((last.0, now.0));
        }
        // Of a deck that stopped before that time, everything is missing.
        let any = last.is_some_and(|last| last >= since);
        let doubtful = sources.iter().filter(|name| any && !missing.contains_key(*name)).cloned().collect();
        let unheard = unheard(dir, doubtful, since)?;
        Ok(Some(Availability { missing, now, first, since, unheard }))
    }

    /// Whether there is nothing of a source that a share could be of.
    pub(super) fn is_unheard(&self, source: &str) -> bool {
        self.unheard.contains(source)
    }

    /// Whether all of the tape was read.
    pub(super) fn is_of_all(&self) -> bool {
        self.since <= self.first
    }

    /// The share of the last `span` in which nothing of a source was missing; `None`: not so far back was read.
    pub(super) fn share(&self, source: &str, span: Duration) -> Option<f64> {
        let begin = self.now.0 - i64::try_from(span.as_nanos()).ok()?;
        if begin < self.since.0 {
            return None;
        }
        let begin = begin.max(self.first.0);
        let whole = self.now.0.saturating_sub(begin);
        if whole <= 0 {
            return Some(1.0);
        }
        // What concerns all of them stands under no name.
        let mut times: Vec<(i64, i64)> =
            ["", source].iter().filter_map(|name| self.missing.get(*name)).flatten().copied().collect();
        times.sort_unstable();
        let (mut lost, mut until) = (0, begin);
        for (from, to) in times {
            let (from, to) = (from.max(until), to.min(self.now.0));
            lost += (to - from).max(0);
            until = until.max(to);
        }
        Some(1.0 - lost as f64 / whole as f64)
    }

    /// Whether the tape is younger than that.
    pub(super) fn begins_within(&self, span: Duration) -> bool {
        self.now.saturating_since(self.first) < span
    }
}

/// By the table of the source: its sessions have names of their own behind a slash.
fn missing(gaps: &[Line], now: UnixNanos) -> BTreeMap<SmolStr, Vec<(i64, i64)>> {
    let mut missing: BTreeMap<SmolStr, Vec<(i64, i64)>> = BTreeMap::new();
    for gap in gaps {
        let table = gap.source.split('/').next().unwrap_or_default();
        missing.entry(table.into()).or_default().push((gap.from, gap.to.unwrap_or(now.0)));
    }
    missing
}

/// Those of the sources of which no event was received since then.
fn unheard(dir: &Path, mut sources: BTreeSet<SmolStr>, since: UnixNanos) -> anyhow::Result<BTreeSet<SmolStr>> {
    if sources.is_empty() {
        return Ok(sources);
    }
    let mut reader = reading::reader(dir, Start::Time(since.0))?;
    let end = reader.durable_seq();
    while !sources.is_empty() && reader.seq() <= end {
        match reader.next()? {
            None => break,
            Some(Item::Hole(_)) => {}
            Some(Item::Record(record)) => {
                if let Some(name) = sources.iter().find(|name| is_of(record.payload, name)).cloned() {
                    sources.remove(&name);
                }
            }
        }
    }
    Ok(sources)
}

/// Whether a record is an event that a source delivered. What says how the source is, or what is missing, is none.
fn is_of(payload: &[u8], source: &str) -> bool {
    // The source is the first thing that a record says: most are told apart by their first bytes.
    const BEFORE_IT_BYTES: usize = 16;
    let head = &payload[..payload.len().min(BEFORE_IT_BYTES + source.len())];
    if !head.windows(source.len().max(1)).any(|part| part == source.as_bytes()) {
        return false;
    }
    wire::decode(payload).is_ok_and(|event| {
        event.source.split('/').next() == Some(source)
            && !matches!(event.body, Body::Status(_) | Body::Gap(_) | Body::Tape(_))
    })
}

fn received(dir: &Path, start: Start) -> anyhow::Result<Option<UnixNanos>> {
    let mut reader = reading::reader(dir, start)?;
    Ok(match reader.next()? {
        Some(Item::Record(record)) => Some(UnixNanos(record.ts_recv)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_missing_once_and_before_the_tape_nothing_is() {
        let of = |times: &[(i64, i64)], all: &[(i64, i64)], first: i64| {
            let missing = [("k".into(), times.to_vec()), ("".into(), all.to_vec())].into();
            let (now, first, since) = (UnixNanos(1_000), UnixNanos(first), UnixNanos(0));
            Availability { missing, now, first, since, unheard: BTreeSet::new() }
        };
        let share = |availability: &Availability| availability.share("k", Duration::from_nanos(1_000));
        assert_eq!(share(&of(&[], &[], 0)), Some(1.0));
        assert_eq!(share(&of(&[(100, 300), (200, 250), (250, 400)], &[], 0)), Some(0.7));
        assert_eq!(share(&of(&[(900, 5_000)], &[(950, 1_000)], 0)), Some(0.9));
        assert_eq!(share(&of(&[(500, 750)], &[], 500)), Some(0.5), "of the half in which there was a tape");
        assert_eq!(of(&[], &[], 0).share("k", Duration::from_nanos(1_001)), None, "not so far back was read");
        assert_eq!(of(&[(0, 500)], &[], 0).share("other", Duration::from_nanos(1_000)), Some(1.0));
        assert!(of(&[], &[], 500).begins_within(Duration::from_nanos(501)));
    }
}
