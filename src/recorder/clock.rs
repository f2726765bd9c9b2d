//! The wall clock's quality: steps against the monotonic clock.

use std::time::Instant;

use tapedeck_market::UnixNanos;

/// Smaller moves between two looks are slewing, not a step.
const STEP_NS: i64 = 50_000_000;

/// Compares the wall clock with the monotonic one.
#[derive(Debug)]
pub(super) struct ClockWatch {
    started: Instant,
    started_wall: UnixNanos,
    offset_ns: i64,
}

impl ClockWatch {
    pub(super) fn start() -> Self {
        ClockWatch { started: Instant::now(), started_wall: UnixNanos::now(), offset_ns: 0 }
    }

    /// How far the wall clock moved since the last look beyond the time that passed, when that is a step.
    pub(super) fn check(&mut self) -> Option<i64> {
        let elapsed_ns = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.look(elapsed_ns, UnixNanos::now())
    }

    fn look(&mut self, elapsed_ns: i64, wall: UnixNanos) -> Option<i64> {
        let offset_ns = wall.0 - self.started_wall.0 - elapsed_ns;
        let moved = offset_ns - self.offset_ns;
        self.offset_ns = offset_ns;
        (moved.abs() >= STEP_NS).then_some(moved)
    }

    /// Wall clock minus monotonic clock since start.
    pub(super) fn offset_ns(&self) -> i64 {
        self.offset_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_slewing_never() {
        let mut clock = ClockWatch::start();
        let start = clock.started_wall.0;
        let second = 1_000_000_000;
        assert_eq!(
            clock.look(second, UnixNanos(start + second + 400_000)),
            None,
            "half a millisecond a second is slewing"
        );
        assert_eq!(clock.look(2 * second, UnixNanos(start + 5 * second + 400_000)), Some(3 * second));
        assert_eq!(clock.look(3 * second, UnixNanos(start + 6 * second + 400_000)), None, "told already");
        assert_eq!(clock.look(4 * second, UnixNanos(start + 7 * second - 2 * second + 400_000)), Some(-2 * second));
    }
}
