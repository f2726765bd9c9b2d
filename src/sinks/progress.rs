//! What of the tape a store has: everything up to a seq, and ranges above it.
//!
//! While a backlog drains, what is new goes to the store beside it, so that being behind delays nothing that is live. What is
//! delivered is then not one number but a set of ranges.
//!
//! ```text
//! 1 ───────────── low          done          done
//! ███████████████████░░░░░░░░░░█████░░░░░░░░░█████─ ─ ─►
//!                     hole           hole         live
//! ```
//!
//! As bytes: version 1 · u8 whether anything was sent · u64 low · u16 number of ranges · (u64 from, u64 to) each; little endian.

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 1 + 8 + 2;
const RANGE_BYTES: usize = 16;
/// More holes than that, and what is live waits for the backlog.
pub(super) const RANGES_MAX: usize = 64;

/// Which seqs are delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The store has confirmed a record, not only been passed over: a store that knows of none has lost some.
    pub sent: bool,
    low: u64,
    /// Sorted, not touching each other nor `low`.
    done: Vec<(u64, u64)>,
}

impl Progress {
    /// Everything up to that seq.
    pub(super) fn up_to(low: u64) -> Self {
        Progress { sent: false, low, done: Vec::new() }
    }

    /// Everything up to here is delivered.
    pub(super) fn low(&self) -> u64 {
        self.low
    }

    /// Nothing above here is delivered.
    pub(super) fn high(&self) -> u64 {
        self.done.last().map_or(self.low, |(_, to)| *to)
    }

    /// Whether that seq is delivered.
    pub(super) fn has(&self, seq: u64) -> bool {
        seq <= self.low || self.done.iter().any(|(from, to)| (*from..=*to).contains(&seq))
    }

    /// The first range below that seq that is not delivered.
    pub(super) fn first_missing_below(&self, seq: u64) -> Option<(u64, u64)> {
        let end = self.done.first().map_or(seq, |(from, _)| seq.min(*from));
        (self.low + 1 < end).then(|| (self.low + 1, end - 1))
    }

    /// Whether what is live may be delivered beside one more backlog.
    pub(super) fn may_split(&self) -> bool {
        self.done.len() < RANGES_MAX
    }

    /// How many seqs up to `end` are not delivered.
    pub(super) fn missing(&self, end: u64) -> u64 {
        let above: u64 = self.done.iter().map(|(from, to)| to - from + 1).sum();
        end.saturating_sub(self.low).saturating_sub(above)
    }

    /// `from..=to` is delivered.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if to < from {
            return;
        }
        self.done.push((from, to));
        self.done.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.done.len());
        for (from, to) in self.done.drain(..) {
            match merged.last_mut() {
                Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
                _ if from <= self.low.saturating_add(1) => self.low = self.low.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged.retain(|(_, to)| *to > self.low);
        self.done = merged;
    }

    /// Nothing from that seq on is delivered any more.
    pub(super) fn forget_from(&mut self, seq: u64) {
        let last = seq.saturating_sub(1);
        self.low = self.low.min(last);
        self.done.retain_mut(|(from, to)| {
            *to = (*to).min(last);
            from <= to
        });
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + RANGE_BYTES * self.done.len());
        bytes.push(VERSION);
        bytes.push(u8::from(self.sent));
        bytes.extend(self.low.to_le_bytes());
        bytes.extend((self.done.len() as u16).to_le_bytes());
        for (from, to) in &self.done {
            bytes.extend(from.to_le_bytes());
            bytes.extend(to.to_le_bytes());
        }
        bytes
    }

    /// `None`: these bytes are no progress.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if *bytes.first()? != VERSION {
            return None;
        }
        let ranges = u16::from_le_bytes(bytes.get(10..12)?.try_into().ok()?);
        let mut progress = Progress { sent: *bytes.get(1)? != 0, ..Progress::up_to(u64_at(2)?) };
        if bytes.len() != HEAD_BYTES + RANGE_BYTES * usize::from(ranges) {
            return None;
        }
        for nth in 0..usize::from(ranges) {
            let at = HEAD_BYTES + RANGE_BYTES * nth;
            progress.add(u64_at(at)?, u64_at(at + 8)?);
        }
        Some(progress)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_that_was_added(
            low in 0_u64..20,
            steps in prop::collection::vec((any::<bool>(), 1_u64..80, 0_u64..12), 0..40),
        ) {
            let mut progress = Progress { sent: low % 2 == 0, ..Progress::up_to(low) };
            let mut naive: std::collections::BTreeSet<u64> = (1..=low).collect();
            for (add, from, len) in steps {
                if add {
                    progress.add(from, from + len);
                    naive.extend(from..=from + len);
                } else if len == 0 {
                    progress.forget_from(from);
                    naive.retain(|seq| *seq < from);
                }
                for seq in 1..100 {
                    prop_assert_eq!(progress.has(seq), naive.contains(&seq), "seq {}: {:?}", seq, &progress);
                }
                prop_assert_eq!(progress.missing(100), 100 - naive.len() as u64);
                prop_assert_eq!(progress.high(), naive.last().copied().unwrap_or(0));
                let first = (1..60).find(|seq| !naive.contains(seq));
                prop_assert_eq!(progress.first_missing_below(60).map(|(from, _)| from), first);
                if let Some((from, to)) = progress.first_missing_below(60) {
                    prop_assert!(from <= to && (from..=to).all(|seq| !naive.contains(&seq)));
                    prop_assert!(to == 59 || naive.contains(&(to + 1)));
                }
                let encoded = progress.encode();
                prop_assert_eq!(Progress::decode(&encoded), Some(progress.clone()));
            }
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Progress::decode(&bytes);
        }
    }
}
