//! The gap ledger, read back from the tape.
//!
//! Every segment begins with the gaps that were open then, and a gap's kind stands in front of its body: whoever asks
//! for what is open reads the last segment alone, whoever asks for a day reads from that day's first segment on, and
//! what is no gap is never decoded.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tapedeck_market::{Body, Event, Gap, GapCause, GapState, Kind, SmolStr, UnixNanos, wire};
use tapedeck_tape::{Hole, Item, RawRecord, Reader, Start};

use crate::cli::reading::{self, Filter};

/// A gap as the ledger has it last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct Line {
    pub(in crate::cli) id: u64,
    /// Record that says so; 0 when only a checkpoint knows of it.
    pub(in crate::cli) seq: u64,
    pub(in crate::cli) source: SmolStr,
    pub(in crate::cli) venue: SmolStr,
    pub(in crate::cli) symbol: SmolStr,
    pub(in crate::cli) channel: SmolStr,
    pub(in crate::cli) cause: &'static str,
    pub(in crate::cli) state: &'static str,
    /// Nanoseconds since 1970.
    pub(in crate::cli) from: i64,
    pub(in crate::cli) to: Option<i64>,
    pub(in crate::cli) missing: Option<u64>,
    pub(in crate::cli) detail: SmolStr,
}

/// Which gaps are wanted.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Wanted {
    pub(in crate::cli) filter: Filter,
    pub(in crate::cli) causes: Vec<GapCause>,
    /// Only open, or only others.
    pub(in crate::cli) open: Option<bool>,
    pub(in crate::cli) since: Option<UnixNanos>,
    pub(in crate::cli) until: Option<UnixNanos>,
}

impl Wanted {
    /// Whether a gap is of a source, symbol and cause that is wanted: what does not change as long as it lasts.
    fn may_want(&self, event: &Event, gap: &Gap) -> bool {
        let cause = self.causes.is_empty() || self.causes.contains(&gap.cause);
        cause && self.filter.wants(&event.source, &event.symbol)
    }

    pub(in crate::cli) fn wants(&self, line: &Line) -> bool {
        let open = self.open.is_none_or(|open| open == line.is_open());
        let since = self.since.is_none_or(|since| line.to.is_none_or(|to| to >= since.0));
        open && since && self.until.is_none_or(|until| line.from <= until.0)
    }
}

impl Line {
    fn new(seq: u64, event: &Event, gap: &Gap) -> Line {
        Line {
            id: gap.id,
            seq,
            source: event.source.clone(),
            venue: event.venue.clone(),
            symbol: event.symbol.clone(),
            channel: gap.channel.clone(),
            cause: gap.cause.name(),
            state: gap.state.name(),
            from: gap.from.0,
            to: gap.to.filter(|_| gap.state != GapState::Open).map(|to| to.0),
            missing: gap.missing,
            detail: gap.detail.clone(),
        }
    }

    pub(in crate::cli) fn is_open(&self) -> bool {
        self.state == GapState::Open.name()
    }
}

/// The last word on each gap.
#[derive(Debug, Default)]
pub(in crate::cli) struct Ledger {
    lines: BTreeMap<u64, Line>,
    /// Records of the tape itself that cannot be read.
    pub(in crate::cli) holes: Vec<Hole>,
}

impl Ledger {
    /// Reads up to the durable end; the reader then stands behind it.
    pub(in crate::cli) fn read(dir: &Path, wanted: &Wanted) -> anyhow::Result<(Ledger, Reader)> {
        let mut reader = match (wanted.open, wanted.since) {
            (Some(true), _) => reading::reader(dir, Start::Checkpoint)?,
            (_, Some(since)) => {
                // From the beginning of the segment that the time lies in: its checkpoint has what was open.
                let first = reading::reader(dir, Start::Time(since.0))?.seq();
                reading::reader(dir, Start::Seq(first))?
            }
            _ => reading::reader(dir, Start::Begin)?,
        };
        let end = reader.durable_seq();
        let mut ledger = Ledger::default();
        let mut checkpointed = false;
        while reader.seq() <= end {
            match reader.next()? {
                None => break,
                Some(Item::Hole(hole)) => ledger.holes.push(hole),
                Some(Item::Record(record)) => drop(ledger.take(&record, wanted)),
            }
            if !checkpointed {
                checkpointed = true;
                ledger.take_checkpoint(reader.checkpoint(), wanted);
            }
        }
        if !checkpointed {
            ledger.take_checkpoint(reader.checkpoint(), wanted);
        }
        Ok((ledger, reader))
    }

    /// Takes a record, if it is of a gap that may be wanted.
    pub(in crate::cli) fn take(&mut self, record: &RawRecord<'_>, wanted: &Wanted) -> Option<&Line> {
        let line = line(record.seq, record.payload, wanted)?;
        let id = line.id;
        self.lines.insert(id, line);
        self.lines.get(&id)
    }

    fn take_checkpoint(&mut self, payloads: &[Vec<u8>], wanted: &Wanted) {
        for line in payloads.iter().filter_map(|payload| line(0, payload, wanted)) {
            self.lines.entry(line.id).or_insert(line);
        }
    }

    /// The gaps that are wanted, in the order they began.
    pub(in crate::cli) fn gaps(&self, wanted: &Wanted) -> Vec<Line> {
        let mut gaps: Vec<Line> = self.lines.values().filter(|line| wanted.wants(line)).cloned().collect();
        gaps.sort_by_key(|gap| (gap.from, gap.id));
        gaps
    }
}

fn line(seq: u64, payload: &[u8], wanted: &Wanted) -> Option<Line> {
    if wire::kind(payload) != Ok(Kind::GAP) {
        return None;
    }
    let event = wire::decode(payload).ok()?;
    match &event.body {
        Body::Gap(gap) if wanted.may_want(&event, gap) => Some(Line::new(seq, &event, gap)),
        _ => None,
    }
}

/// What the gaps of a symbol, or of a source as a whole, cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in crate::cli) struct Total {
    pub(in crate::cli) source: SmolStr,
    /// Empty: what concerns all of the source.
    pub(in crate::cli) symbol: SmolStr,
    pub(in crate::cli) gaps: u64,
    pub(in crate::cli) open: u64,
    /// Time in which something of it was missing, in nanoseconds: what overlaps counts once.
    pub(in crate::cli) lost_ns: u64,
    /// Events known to be missing, where the venue numbers them: what a gap without numbers lost is not in it.
    pub(in crate::cli) missing: u64,
    pub(in crate::cli) causes: BTreeMap<&'static str, u64>,
}

/// Totals by source and symbol, of the time that is wanted; open gaps last until `now`.
pub(in crate::cli) fn totals(gaps: &[Line], wanted: &Wanted, now: UnixNanos) -> Vec<Total> {
    let mut by_symbol: BTreeMap<(&SmolStr, &SmolStr), Vec<&Line>> = BTreeMap::new();
    for gap in gaps {
        by_symbol.entry((&gap.source, &gap.symbol)).or_default().push(gap);
    }
    let first = wanted.since.map_or(i64::MIN, |since| since.0);
    let last = wanted.until.map_or(now.0, |until| until.0.min(now.0));
    let total = |((source, symbol), gaps): ((&SmolStr, &SmolStr), Vec<&Line>)| {
        let mut total = Total { source: source.clone(), symbol: symbol.clone(), ..Total::default() };
        // In the order they began, as they come.
        let mut lost_until = first;
        for gap in gaps {
            total.gaps += 1;
            total.open += u64::from(gap.is_open());
            total.missing = total.missing.saturating_add(gap.missing.unwrap_or(0));
            *total.causes.entry(gap.cause).or_default() += 1;
            let (from, to) = (gap.from.max(lost_until), gap.to.unwrap_or(now.0).min(last));
            total.lost_ns += u64::try_from(to.saturating_sub(from)).unwrap_or(0);
            lost_until = lost_until.max(to);
        }
        total
    };
    by_symbol.into_iter().map(total).collect()
}

impl Total {
    pub(in crate::cli) fn lost(&self) -> Duration {
        Duration::from_nanos(self.lost_ns)
    }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Flags, Raw};
    use tapedeck_tape::{Allocation, Entry, Log, Options};

    use super::*;

    fn gap(symbol: &str, channel: &str, from: i64, to: Option<i64>, missing: Option<u64>) -> Line {
        Line {
            id: 1,
            seq: 1,
            source: "k".into(),
            venue: "kraken".into(),
            symbol: symbol.into(),
            channel: channel.into(),
            cause: "down",
            state: if to.is_some() { "closed" } else { "open" },
            from,
            to,
            missing,
            detail: "".into(),
        }
    }

    /// A record a second; three gaps, of which the second stays open; each segment begins with what is open then.
    fn tape_of_several_segments(dir: &Path) -> usize {
        let options = Options { allocation: Allocation::Inline, segment_bytes: 64 * 1024, ..Options::default() };
        let (mut log, _) = Log::open(reading::disk(), dir, options).unwrap();
        let mut open: BTreeMap<u64, Event> = BTreeMap::new();
        for second in 0..2_000 {
            let body = match second {
                10 => gap_of(1, GapState::Open, 10),
                20 => gap_of(2, GapState::Open, 20),
                30 => gap_of(3, GapState::Open, 30),
                40 => gap_of(3, GapState::Closed, 30),
                1_500 => gap_of(1, GapState::Closed, 10),
                _ => Body::Raw(Raw { format: "text".into(), frame: vec![0; 100] }),
            };
            let event = event_of(second, body);
            let mut payload = Vec::new();
            wire::encode(&event, &mut payload);
            let entry = Entry { ts_recv: event.ts_recv.0, payload: &payload };
            log.append(&[entry], &mut || {
                let encoded = |event: &Event| {
                    let mut payload = Vec::new();
                    wire::encode(event, &mut payload);
                    payload
                };
                open.values().map(encoded).collect()
            })
            .unwrap();
            if let Body::Gap(gap) = &event.body {
                match gap.state {
                    GapState::Open => drop(open.insert(gap.id, event.clone())),
                    _ => drop(open.remove(&gap.id)),
                }
            }
        }
        log.close().unwrap();
        std::fs::read_dir(dir)
            .unwrap()
            .filter(|file| file.as_ref().unwrap().path().extension() == Some("seg".as_ref()))
            .count()
    }

    fn gap_of(id: u64, state: GapState, from: i64) -> Body {
        let to = (state == GapState::Closed).then(|| UnixNanos::from_secs(1_000_000_000 + from + 1));
        Body::Gap(Box::new(Gap {
            id,
            state,
            cause: GapCause::Session,
            channel: "trade".into(),
            from: UnixNanos::from_secs(1_000_000_000 + from),
            to,
            missing: None,
            detail: "".into(),
        }))
    }

    fn event_of(second: i64, body: Body) -> Event {
        Event {
            source: "k".into(),
            venue: "kraken".into(),
            symbol: "A".into(),
            ts_event: None,
            ts_recv: UnixNanos::from_secs(1_000_000_000 + second),
            flags: Flags::NONE,
            origin: None,
            body,
        }
    }

    #[test]
    fn a_later_beginning_misses_no_gap_that_was_open_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(tape_of_several_segments(dir.path()) > 3, "several segments");
        let list = |wanted: Wanted| -> Vec<(u64, u64, bool)> {
            let (ledger, _) = Ledger::read(dir.path(), &wanted).unwrap();
            assert_eq!(ledger.holes, []);
            ledger.gaps(&wanted).iter().map(|gap| (gap.id, gap.seq, gap.is_open())).collect()
        };
        let since = |second: i64| Some(UnixNanos::from_secs(1_000_000_000 + second));
        assert_eq!(list(Wanted::default()), [(1, 1_501, false), (2, 21, true), (3, 41, false)]);
        let open = Wanted { open: Some(true), ..Wanted::default() };
        assert_eq!(list(open.clone()), [(2, 0, true)], "known from the last checkpoint alone");
        assert_eq!(
            list(Wanted { since: since(1_400), ..Wanted::default() }),
            [(2, 0, true)],
            "the first was over by then"
        );
        assert_eq!(list(Wanted { since: since(35), ..Wanted::default() }), [(2, 21, true)]);
        assert_eq!(list(Wanted { since: since(31), ..Wanted::default() }), [(2, 21, true), (3, 41, false)]);
        assert_eq!(list(Wanted { until: since(15), ..Wanted::default() }), [(1, 1_501, false)]);
        let other = Wanted { causes: vec![GapCause::Down], ..open };
        assert_eq!(list(other), []);
    }

    #[test]
    fn time_that_several_gaps_of_a_symbol_share_is_lost_once() {
        let gaps = [
            gap("A", "trade", 10, Some(20), Some(3)),
            gap("A", "book", 12, Some(30), None),
            gap("A", "trade", 15, Some(18), Some(4)),
            gap("A", "ticker", 40, Some(41), None),
            gap("A", "trade", 90, None, None),
            gap("B", "trade", 50, Some(60), None),
        ];
        let all = totals(&gaps, &Wanted::default(), UnixNanos(100));
        let of = |symbol: &str| all.iter().find(|total| total.symbol == symbol).unwrap().clone();
        assert_eq!((of("A").gaps, of("A").open, of("A").lost_ns, of("A").missing), (5, 1, 20 + 1 + 10, 7));
        assert_eq!((of("B").lost_ns, of("B").causes), (10, BTreeMap::from([("down", 1)])));
        let part = Wanted { since: Some(UnixNanos(25)), until: Some(UnixNanos(95)), ..Wanted::default() };
        let gaps: Vec<Line> = gaps.into_iter().filter(|line| part.wants(line)).collect();
        let lost: Vec<u64> = totals(&gaps, &part, UnixNanos(100)).iter().map(|total| total.lost_ns).collect();
        assert_eq!(lost, [5 + 1 + 5, 10], "no more than lies in the time that was asked for");
    }
}
