//! Stretches of time put together.

use super::Span;

/// More stretches than this are not kept apart: each is a question of its own.
const MOST: usize = 256;

/// Stretches in any order made apart from each other and in order. Never less than all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    all: Vec<Span>,
    /// How many of `all` are merged already.
    merged: usize,
}

impl Spans {
    pub(super) fn add(&mut self, span: Span) {
        self.all.push(span);
        // Now and then, so that a million of them do not have to be held.
        if self.all.len() >= 2 * self.merged.max(MOST) {
            self.merge();
        }
    }

    pub(super) fn finish(mut self) -> Vec<Span> {
        self.merge();
        self.all
    }

    fn merge(&mut self) {
        // `None` is before everything as a beginning, and after everything as an end.
        self.all.sort_unstable_by_key(|span| span.from_ns);
        let mut apart: Vec<Span> = Vec::new();
        for span in self.all.drain(..) {
            match apart.last_mut() {
                Some(last) if touches(*last, span) => last.to_ns = later(last.to_ns, span.to_ns),
                _ => apart.push(span),
            }
        }
        if apart.len() > MOST {
            apart = with_least_gaps_closed(apart);
        }
        self.merged = apart.len();
        self.all = apart;
    }
}

/// Whether a stretch that begins no earlier than another one begins within it or right behind it.
fn touches(first: Span, second: Span) -> bool {
    match (first.to_ns, second.from_ns) {
        (None, _) | (_, None) => true,
        (Some(end), Some(begin)) => begin <= end,
    }
}

fn later(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    Some(one?.max(other?))
}

/// As many as may be: those that lie closest to each other become one.
fn with_least_gaps_closed(apart: Vec<Span>) -> Vec<Span> {
    let gap = |pair: &[Span]| pair[1].from_ns.unwrap_or(i64::MIN).saturating_sub(pair[0].to_ns.unwrap_or(i64::MAX));
    let mut gaps: Vec<i64> = apart.windows(2).map(gap).collect();
    let close = apart.len() - MOST;
    let (_, limit, _) = gaps.select_nth_unstable(close - 1);
    let limit = *limit;
    let mut kept: Vec<Span> = Vec::new();
    for span in apart {
        match kept.last_mut() {
            Some(last) if gap(&[*last, span]) <= limit => last.to_ns = later(last.to_ns, span.to_ns),
            _ => kept.push(span),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finished(spans: &[Span]) -> Vec<Span> {
        let mut all = Spans::default();
        spans.iter().for_each(|span| all.add(*span));
        all.finish()
    }

    fn holds(spans: &[Span], moment: i64) -> bool {
        let before = |span: &Span| span.from_ns.is_none_or(|from| from <= moment);
        let after = |span: &Span| span.to_ns.is_none_or(|to| moment < to);
        spans.iter().any(|span| before(span) && after(span))
    }

    fn span() -> impl Strategy<Value = Span> {
        let end = |open: bool, ns: i64| (!open).then_some(ns);
        (0..2_000_i64, 1..20_i64, prop::bool::weighted(0.002), prop::bool::weighted(0.002))
            .prop_map(move |(from, len, first, last)| Span { from_ns: end(first, from), to_ns: end(last, from + len) })
    }

    proptest! {
        #[test]
        fn what_is_merged_holds_the_same_moments_is_apart_and_in_order(spans in prop::collection::vec(span(), 0..100)) {
            let merged = finished(&spans);
            for moment in -1..2_100 {
                prop_assert_eq!(holds(&merged, moment), holds(&spans, moment), "{}", moment);
            }
            for pair in merged.windows(2) {
                prop_assert!(pair[0].to_ns.unwrap() < pair[1].from_ns.unwrap(), "{pair:?}");
            }
        }

        #[test]
        fn of_very_many_none_is_lost_and_only_the_smallest_gaps_are_closed(
            froms in prop::collection::btree_set(0..1_000_000_i64, 300..2_000),
        ) {
            let spans: Vec<Span> = froms.iter().map(|from| Span { from_ns: Some(from * 10), to_ns: Some(from * 10 + 1) }).collect();
            let merged = finished(&spans);
            prop_assert!(merged.len() <= MOST, "{}", merged.len());
            for span in &spans {
                prop_assert!(holds(&merged, span.from_ns.unwrap()));
            }
        }
    }
}
