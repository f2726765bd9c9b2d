//! Which ids of trades and posts are on the tape: each at most once, however often the venue resends its history.

use std::collections::{HashSet, VecDeque};

use tapedeck_market::SmolStr;

/// Separate runs of ids that are remembered. Above it the lowest is forgotten: an id recorded twice is
/// harmless beside one that is taken for known and lost.
const RUNS: usize = 256;
/// Ids that are no numbers are remembered only this far back.
const NAMES: usize = 1_024;

/// The ids of one symbol.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Inclusive, ascending, not touching each other.
    runs: Vec<(u64, u64)>,
    names: HashSet<SmolStr>,
    order: VecDeque<SmolStr>,
}

impl Seen {
    /// Notes the id; `false` when it was there already.
    pub(crate) fn insert(&mut self, id: &SmolStr) -> bool {
        match id.parse() {
            Ok(number) => self.insert_number(number),
            Err(_) => self.insert_name(id),
        }
    }

    fn insert_number(&mut self, id: u64) -> bool {
        if let Some(last) = self.runs.last_mut()
            && last.1.checked_add(1) == Some(id)
        {
            last.1 = id;
            return true;
        }
        let at = self.runs.partition_point(|run| run.1 < id);
        if self.runs.get(at).is_some_and(|run| run.0 <= id) {
            return false;
        }
        let joins_below = at > 0 && self.runs[at - 1].1.checked_add(1) == Some(id);
        let joins_above = self.runs.get(at).is_some_and(|run| id.checked_add(1) == Some(run.0));
        match (joins_below, joins_above) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = id,
            (false, true) => self.runs[at].0 = id,
            (false, false) => self.runs.insert(at, (id, id)),
        }
        if self.runs.len() > RUNS {
            self.runs.remove(0);
        }
        true
    }

    /// As [`Seen::insert`], of ids that do not count up one by one, whatever they look like.
    pub(super) fn insert_name(&mut self, id: &SmolStr) -> bool {
        if !self.names.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id.clone());
        if self.order.len() > NAMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        true
    }

    pub(crate) fn contains(&self, id: &SmolStr) -> bool {
        match id.parse() {
            Ok(number) => self.covers(number, number),
            Err(_) => self.contains_name(id),
        }
    }

    pub(super) fn contains_name(&self, id: &SmolStr) -> bool {
        self.names.contains(id)
    }

    /// The highest number seen.
    pub(super) fn last(&self) -> Option<u64> {
        self.runs.last().map(|run| run.1)
    }

    /// Whether every id from `from` to `to` is there.
    pub(super) fn covers(&self, from: u64, to: u64) -> bool {
        self.runs.iter().rev().any(|run| run.0 <= from && to <= run.1)
    }

    /// `1-17,19-40` and, behind a bar, the names, oldest first.
    pub(super) fn to_text(&self) -> String {
        let runs: Vec<String> = self.runs.iter().map(|(from, to)| format!("{from}-{to}")).collect();
        let names: Vec<&str> = self.order.iter().map(SmolStr::as_str).collect();
        format!("{}|{}", runs.join(","), names.join("\u{1}"))
    }

    /// Adds what [`Seen::to_text`] wrote; what it did not write is ignored.
    pub(super) fn extend_from_text(&mut self, text: &str) {
        let (runs, names) = text.split_once('|').unwrap_or((text, ""));
        let read = runs
            .split(',')
            .filter_map(|run| run.split_once('-'))
            .filter_map(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)))
            .filter(|(from, to)| from <= to);
        // The id of the last trade may be known already: a checkpoint has that trade too.
        self.runs.extend(read);
        self.runs.sort_unstable();
        self.runs.dedup_by(|next, run| {
            let touches = next.0 <= run.1.saturating_add(1);
            if touches {
                run.1 = run.1.max(next.1);
            }
            touches
        });
        while self.runs.len() > RUNS {
            self.runs.remove(0);
        }
        for name in names.split('\u{1}').filter(|name| !name.is_empty()) {
            self.insert_name(&SmolStr::new(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_new_exactly_once(ids in prop::collection::vec(0_u64..200, 0..400)) {
            let mut seen = Seen::default();
            let mut oracle = HashSet::new();
            for id in ids {
                prop_assert_eq!(seen.insert(&SmolStr::new(id.to_string())), oracle.insert(id), "id {}", id);
            }
            prop_assert_eq!(seen.last(), oracle.iter().max().copied());
            let mut read = Seen::default();
            read.extend_from_text(&seen.to_text());
            prop_assert_eq!(read, seen);
        }
    }

    #[test]
    fn what_a_text_says_is_added_to_what_is_known() {
        let mut seen = Seen::default();
        seen.insert_number(407);
        seen.extend_from_text("1-17,390-407,409-410|");
        seen.insert_number(408);
        assert_eq!(seen.to_text(), "1-17,390-410|");
    }

    #[test]
    fn names_are_remembered_for_a_while_and_survive_the_text() {
        let mut seen = Seen::default();
        for n in 0..NAMES + 10 {
            assert!(seen.insert(&SmolStr::new(format!("T{n}"))));
        }
        assert!(!seen.insert(&SmolStr::new("T500")));
        assert!(seen.insert(&SmolStr::new("T3")), "the oldest are forgotten");
        let mut read = Seen::default();
        read.extend_from_text(&seen.to_text());
        assert!(!read.insert(&SmolStr::new("T600")));
    }

    #[test]
    fn many_holes_cost_no_more_than_the_bound() {
        let mut seen = Seen::default();
        for id in (0..100_000_u64).step_by(2) {
            seen.insert(&SmolStr::new(id.to_string()));
        }
        assert!(seen.runs.len() <= RUNS);
        assert!(seen.insert(&SmolStr::new("99999")), "a recent hole can still be filled");
    }
}
