//! How long things take, as a distribution: counts in fixed buckets, which add up over time and over decks.

use std::time::Duration;

/// Upper bounds of the buckets, in seconds: from a disk's sync to a store that was away for a night. What took longer is
/// in one more bucket.
pub const BOUNDS_S: [f64; 22] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 1_800.0, 7_200.0, 43_200.0,
];

/// Times by bucket, since the process began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    counts: [u64; BOUNDS_S.len() + 1],
    sum: Duration,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.counts[BOUNDS_S.partition_point(|bound| *bound < seconds)] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Each bucket's upper bound, and how many times fell into it and no lower one.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS_S.iter().copied().chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_holds_it() {
        let mut times = Times::default();
        for us in [0, 100, 101, 250, 1_000_000, u64::from(u32::MAX) * 1_000_000] {
            times.add(Duration::from_micros(us));
        }
        let filled: Vec<(f64, u64)> = times.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.0001, 2), (0.000_25, 2), (1.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((times.count(), times.sum().as_micros() % 1_000_000), (6, 451));
        assert!(BOUNDS_S.is_sorted());
    }
}
