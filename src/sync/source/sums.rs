//! What a table holds, in few numbers: rows and a sum of their digests, day by day. Pure.
//!
//! Where a source cannot say what changed, these numbers are kept beside the mark and made again later; days whose numbers
//! differ are read again. The newest two days are kept hour by hour, because that is where most changes are. The sum does not
//! depend on the order of rows; a digest has 64 bits of SHA-256 over all columns. So what goes unseen is a change of rows that
//! leaves count and sum equal: odds of 5e-20, and no values for which it is likely.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::Span;
use super::spans::Spans;

const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;

/// Start of each stretch, with its rows and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Sums(BTreeMap<i64, (u64, u64)>);

/// From which moment on hours are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Split(i64);

impl Split {
    /// For a table whose newest row is of that time.
    pub(super) fn of(newest_ns: i64) -> Split {
        Split(newest_ns.div_euclid(DAY_NS).saturating_mul(DAY_NS).saturating_sub(DAY_NS))
    }

    fn len(self, time_ns: i64) -> i64 {
        if time_ns >= self.0 { HOUR_NS } else { DAY_NS }
    }

    fn start(self, time_ns: i64) -> i64 {
        let len = self.len(time_ns);
        time_ns.div_euclid(len).saturating_mul(len)
    }

    fn span(self, start_ns: i64) -> Span {
        Span { from_ns: Some(start_ns), to_ns: start_ns.checked_add(self.len(start_ns)) }
    }
}

/// Sums as they are made: by the stretches of those that are known, so that they can be compared, and by new ones, to be kept.
#[derive(Debug)]
pub(super) struct Summing {
    split: Split,
    now: Sums,
    known: Option<(Split, Sums)>,
}

impl Summing {
    pub(super) fn new(newest_ns: Option<i64>, known: Option<Split>) -> Summing {
        let split = Split::of(newest_ns.unwrap_or_default());
        let known = known.filter(|known| *known != split).map(|known| (known, Sums::default()));
        Summing { split, now: Sums::default(), known }
    }

    /// Adds a row; one without a time belongs to the first day of all.
    pub(super) fn add(&mut self, time_ns: Option<i64>, digest: u64) {
        let time_ns = time_ns.unwrap_or(i64::MIN);
        self.now.add(self.split.start(time_ns), digest);
        if let Some((split, sums)) = &mut self.known {
            sums.add(split.start(time_ns), digest);
        }
    }

    /// Stretches in which the table differs from what was known of it.
    pub(super) fn changes(&self, known: &Sums, split: Split) -> Vec<Span> {
        let now = self.known.as_ref().map_or(&self.now, |(_, sums)| sums);
        let mut spans = Spans::default();
        let starts = known.0.keys().chain(now.0.keys());
        starts.filter(|start| known.0.get(start) != now.0.get(start)).for_each(|start| spans.add(split.span(*start)));
        spans.finish()
    }

    pub(super) fn finish(self) -> (Split, Sums) {
        (self.split, self.now)
    }
}

impl Sums {
    fn add(&mut self, start: i64, digest: u64) {
        let (rows, sum) = self.0.entry(start).or_default();
        *rows += 1;
        *sum = sum.wrapping_add(digest);
    }
}

/// The digest of a row, from its values as the source wrote them; `None` is NULL.
pub(super) fn digest<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> u64 {
    let mut context = Context::new(&SHA256);
    for value in values {
        // A length that no value has stands for NULL.
        context.update(&value.map_or(u64::MAX, |value| value.len() as u64).to_le_bytes());
        context.update(value.unwrap_or_default());
    }
    context.finish().as_ref()[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summed(rows: &BTreeMap<i64, Vec<u64>>, known: Option<Split>) -> Summing {
        let mut summing = Summing::new(rows.keys().next_back().copied(), known);
        rows.iter().flat_map(|(time, digests)| digests.iter().map(|digest| (*time, *digest))).for_each(
            |(time, digest)| {
                summing.add(Some(time), digest);
            },
        );
        summing
    }

    /// Rows by their time, over a week and a half.
    fn table() -> impl Strategy<Value = BTreeMap<i64, Vec<u64>>> {
        prop::collection::btree_map(0..11 * DAY_NS, prop::collection::vec(any::<u64>(), 1..3), 0..60)
    }

    proptest! {
        #[test]
        fn what_differs_lies_in_the_stretches_and_what_is_equal_is_not_read_again(
            before in table(),
            added in table(),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let (split, sums) = summed(&before, None).finish();
            let mut after = before.clone();
            for index in gone {
                if let Some(time) = after.keys().nth(index.index(before.len().max(1))).copied() {
                    after.remove(&time);
                }
            }
            for (time, digests) in added.iter().take(5) {
                after.entry(*time).or_default().extend(digests);
            }
            let summing = summed(&after, Some(split));
            let spans = summing.changes(&sums, split);
            let within = |time: i64| spans.iter().any(|span| span.from_ns.unwrap() <= time && time < span.to_ns.unwrap());
            for time in before.keys().chain(after.keys()) {
                prop_assert!(before.get(time) == after.get(time) || within(*time), "{}", time);
            }
            let next = summing.finish();
            let again = summed(&after, Some(next.0));
            prop_assert_eq!(again.changes(&next.1, next.0), []);
        }
    }

    #[test]
    fn a_digest_tells_null_from_nothing_and_one_column_from_the_next() {
        let rows: [&[Option<&[u8]>]; 5] =
            [&[None, None], &[Some(b""), None], &[Some(b"ab"), Some(b"c")], &[Some(b"a"), Some(b"bc")], &[None]];
        let digests: std::collections::BTreeSet<u64> = rows.iter().map(|row| digest(row.iter().copied())).collect();
        assert_eq!(digests.len(), rows.len());
    }
}
