//! What the transaction log says happened to a table, as stretches of time. Pure.
//!
//! ```text
//! what was done                             walId  type  min, max   read again
//! rows written (late, replaced, the same)   ≥ 1     0    set        min ≤ ts < max + 1 µs: the log cuts to microseconds
//! UPDATE, TRUNCATE, partition dropped, …    ≥ 1    −1    NULL       all, and look for what is gone
//! column added                              −1      1    NULL       nothing: it is NULL in all rows that there are
//! column dropped, renamed, another type     −1      8…   NULL       all
//! table renamed, deduplication              −1   14–16   NULL       nothing
//! rows written, log without ranges (V1)     ≥ 1     0    NULL       the log cannot say
//! columns changed, log without ranges (V1)  −1      0    NULL       the log cannot say
//! ```

use crate::sync::Span;
use crate::sync::source::spans::Spans;

/// A row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub txn: i64,
    /// When it was committed, µs.
    pub at_us: Option<i64>,
    pub wal: i64,
    /// Oldest and newest timestamp, µs.
    pub min_us: Option<i64>,
    pub max_us: Option<i64>,
    pub deed: i64,
}

/// Where a mark stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub txn: i64,
    /// When that transaction was committed, µs; tells a log from another one that has got as far.
    pub at_us: Option<i64>,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Stretches to read again.
    Ranges(Vec<Span>),
    /// Something happened anywhere; rows may be gone.
    All,
    /// Parts of the log are gone, and nobody knows what they said.
    Hole,
    /// The log does not say where.
    NoRanges,
    /// It is not the log that the mark was made from.
    OtherLog,
}

/// The log since a mark, read row by row, in order, from the mark's own transaction on, if it is still there.
#[derive(Debug)]
pub(super) struct Reading {
    since: Place,
    next: i64,
    spans: Spans,
    all: bool,
    no_ranges: bool,
    hole: bool,
    other: bool,
    /// Columns came, went or changed.
    pub columns: bool,
    /// Where the new mark stands.
    pub place: Place,
}

/// Types of what changes columns or the table itself.
const ADD_COLUMN: i64 = 1;
const RENAME_TABLE: i64 = 14;
const DEDUP_ON: i64 = 15;
const DEDUP_OFF: i64 = 16;

const ROWS: i64 = 0;

impl Reading {
    pub(super) fn since(since: Place) -> Reading {
        Reading {
            since,
            next: since.txn.saturating_add(1),
            spans: Spans::default(),
            all: false,
            no_ranges: false,
            hole: false,
            other: false,
            columns: false,
            place: since,
        }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        if entry.txn == self.since.txn {
            self.other = self.since.at_us.is_some() && entry.at_us.is_some() && entry.at_us != self.since.at_us;
            return;
        }
        self.hole |= entry.txn != self.next;
        self.next = entry.txn.saturating_add(1);
        self.place = Place { txn: entry.txn, at_us: entry.at_us };
        match (entry.wal >= 0, entry.deed, entry.min_us.zip(entry.max_us)) {
            (true, ROWS, Some((min, max))) => match (ns(min), max.checked_add(1).and_then(ns)) {
                (Some(from), Some(to)) => self.spans.add(Span { from_ns: Some(from), to_ns: Some(to) }),
                _ => self.all = true,
            },
            (true, ROWS, None) => self.no_ranges = true,
            (false, RENAME_TABLE | DEDUP_ON | DEDUP_OFF, _) => {}
            (false, ADD_COLUMN, _) => self.columns = true,
            (false, ROWS, _) => (self.columns, self.no_ranges) = (true, true),
            (false, _, _) => (self.columns, self.all) = (true, true),
            (true, _, _) => self.all = true,
        }
    }

    /// What follows, when the log should have gone up to a transaction.
    pub(super) fn finish(self, upto: i64) -> Verdict {
        if self.other {
            Verdict::OtherLog
        } else if self.hole || self.next != upto.saturating_add(1) {
            Verdict::Hole
        } else if self.no_ranges {
            Verdict::NoRanges
        } else if self.all {
            Verdict::All
        } else {
            Verdict::Ranges(self.spans.finish())
        }
    }
}

fn ns(us: i64) -> Option<i64> {
    us.checked_mul(1_000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A table, the log of it, and what is done to it.
    #[derive(Debug, Default)]
    struct Model {
        rows: BTreeMap<i64, u32>,
        log: Vec<Entry>,
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Rows(Vec<(i64, u32)>),
        Update(u32),
        DropFrom(i64),
        AddColumn,
        DropColumn,
        Rename,
        Dedup(bool),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            8 => prop::collection::vec((0..500_i64, any::<u32>()), 1..10).prop_map(Deed::Rows),
            1 => any::<u32>().prop_map(Deed::Update),
            1 => (0..500_i64).prop_map(Deed::DropFrom),
            1 => Just(Deed::AddColumn),
            1 => Just(Deed::DropColumn),
            1 => Just(Deed::Rename),
            1 => any::<bool>().prop_map(Deed::Dedup),
        ]
    }

    impl Model {
        fn does(&mut self, deed: &Deed, ranges: bool) {
            let mut entry = Entry {
                txn: self.log.len() as i64 + 1,
                at_us: Some(self.log.len() as i64),
                wal: 1,
                min_us: None,
                max_us: None,
                deed: -1,
            };
            let table = |entry: &mut Entry, deed| (entry.wal, entry.deed) = (-1, if ranges { deed } else { 0 });
            match deed {
                Deed::Rows(rows) => {
                    self.rows.extend(rows.iter().copied());
                    entry.deed = 0;
                    if ranges {
                        // The table has nanoseconds; the log cuts them.
                        entry.min_us = rows.iter().map(|(at, _)| at / 10).min();
                        entry.max_us = rows.iter().map(|(at, _)| at / 10).max();
                    }
                }
                Deed::Update(value) => self.rows.values_mut().step_by(3).for_each(|row| *row = *value),
                Deed::DropFrom(at) => drop(self.rows.split_off(at)),
                Deed::AddColumn => table(&mut entry, 1),
                Deed::DropColumn => {
                    table(&mut entry, 8);
                    self.rows.values_mut().for_each(|row| *row &= !1);
                }
                Deed::Rename => table(&mut entry, 14),
                Deed::Dedup(on) => table(&mut entry, if *on { 15 } else { 16 }),
            }
            if !ranges && entry.wal > 0 {
                entry.deed = 0;
            }
            self.log.push(entry);
        }

        fn read(&self, since: Place, upto: i64, purged: usize) -> Reading {
            let mut reading = Reading::since(since);
            let kept = self.log.iter().skip(purged).filter(|entry| entry.txn >= since.txn && entry.txn <= upto);
            kept.for_each(|entry| reading.add(*entry));
            reading
        }
    }

    /// What is read again replaces what was known of it; times of the model are tenths of a microsecond.
    fn follow(copy: &mut BTreeMap<i64, u32>, model: &Model, verdict: &Verdict) {
        match verdict {
            Verdict::Ranges(spans) => {
                let within =
                    |at: &i64, span: &Span| span.from_ns.unwrap() <= at * 100 && at * 100 < span.to_ns.unwrap();
                let new = model.rows.iter().filter(|(at, _)| spans.iter().any(|span| within(at, span)));
                copy.extend(new.map(|(at, value)| (*at, *value)));
            }
            Verdict::All | Verdict::Hole | Verdict::NoRanges | Verdict::OtherLog => copy.clone_from(&model.rows),
        }
    }

    proptest! {
        #[test]
        fn a_copy_that_follows_the_verdicts_is_the_table(
            deeds in prop::collection::vec(deed(), 1..60),
            looks in prop::collection::vec(prop::bool::weighted(0.3), 60),
            ranges in prop::bool::weighted(0.9),
            part in 1..20_usize,
        ) {
            let (mut model, mut copy) = (Model::default(), BTreeMap::new());
            let mut mark = Place { txn: 0, at_us: None };
            for (deed, look) in deeds.iter().zip(looks) {
                model.does(deed, ranges);
                if !look {
                    continue;
                }
                // The server keeps the unfinished part, and perhaps one before it.
                let upto = model.log.len();
                let purged = (upto - 1) / part * part;
                let reading = model.read(mark, upto as i64, purged);
                let (place, columns) = (reading.place, reading.columns);
                let verdict = reading.finish(upto as i64);
                let missed = deeds[..upto].iter().skip(mark.txn as usize);
                let changed = missed.clone().any(|deed| matches!(deed, Deed::AddColumn | Deed::DropColumn));
                match &verdict {
                    Verdict::Hole => prop_assert!(purged > mark.txn as usize, "{} {}", purged, mark.txn),
                    Verdict::NoRanges => prop_assert!(!ranges),
                    Verdict::OtherLog => prop_assert!(false),
                    Verdict::All | Verdict::Ranges(_) => prop_assert!(!changed || columns),
                }
                follow(&mut copy, &model, &verdict);
                prop_assert_eq!(&copy, &model.rows, "{:?}", verdict);
                mark = Place { txn: upto as i64, at_us: place.at_us };
            }
        }

        #[test]
        fn any_log_at_all_is_read_without_a_panic(
            entries in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>()), 0..20),
            since in 0..i64::MAX,
        ) {
            let mut reading = Reading::since(Place { txn: since - 1, at_us: Some(1) });
            for (txn, wal, deed, min, max) in entries {
                let txn = txn.clamp(0, i64::MAX - 1);
                reading.add(Entry { txn, at_us: Some(txn), wal, min_us: Some(min), max_us: Some(max), deed });
            }
            let _ = reading.finish(since);
        }
    }

    #[test]
    fn another_log_that_has_got_as_far_is_told_by_the_time_of_its_transaction() {
        let entry = |txn, at| Entry { txn, at_us: Some(at), wal: 1, min_us: Some(5), max_us: Some(5), deed: 0 };
        let verdict = |known, at| {
            let mut reading = Reading::since(Place { txn: 7, at_us: known });
            [entry(7, at), entry(8, 900)].into_iter().for_each(|entry| reading.add(entry));
            reading.finish(8)
        };
        let span = Span { from_ns: Some(5_000), to_ns: Some(6_000) };
        assert_eq!(verdict(Some(800), 800), Verdict::Ranges(vec![span]));
        assert_eq!(verdict(None, 800), Verdict::Ranges(vec![span]));
        assert_eq!(verdict(Some(800), 801), Verdict::OtherLog);
    }
}
