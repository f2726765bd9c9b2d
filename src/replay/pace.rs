//! When a record is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tapedeck_market::UnixNanos;
use tokio::time::Instant;

/// Slowest and fastest factor; faster is `max`.
const FACTORS: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
/// Later than this is never: no instant of the clock need be beyond it.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How fast the tape is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was recorded.
    Times(f64),
    /// As fast as it goes.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.trim_start_matches(['x', '×']).trim_end_matches(['x', '×']).parse() {
            Ok(times) if FACTORS.contains(&times) => Ok(Speed::Times(times)),
            _ => Err("write a factor from 0.001 to 1000000, such as 1 or 2.5, or `max`".to_owned()),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speed::Times(times) => write!(f, "×{times}"),
            Speed::Max => f.write_str("max"),
        }
    }
}

/// Tells when each record is due, by the waits between their receive times.
#[derive(Debug)]
pub struct Pace {
    speed: Speed,
    /// This moment of the clock is that place in the recording.
    base: (Instant, Duration),
    /// Place of the record that was asked about last: the sum of all waits before it.
    place: Duration,
    last: Option<UnixNanos>,
    paused: bool,
}

impl Pace {
    /// A pace that begins with the first record, whenever that is asked about.
    #[must_use]
    pub fn new(speed: Speed) -> Pace {
        Pace { speed, base: (Instant::now(), Duration::ZERO), place: Duration::ZERO, last: None, paused: false }
    }

    #[must_use]
    pub fn speed(&self) -> Speed {
        self.speed
    }

    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Goes on to the record of this receive time.
    pub fn go_on_to(&mut self, ts_recv: UnixNanos) {
        match self.last {
            // A clock that went back costs no wait, and neither does its way forward from there.
            Some(last) => self.place = self.place.saturating_add(ts_recv.saturating_since(last)),
            None => self.base = (Instant::now(), self.place),
        }
        self.last = Some(ts_recv);
    }

    /// When the record that the pace went on to is due; `None`: at once.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        if self.paused {
            return Some(Instant::now() + NEVER);
        }
        let Speed::Times(times) = self.speed else { return None };
        let (at, place) = self.base;
        let wait = Duration::try_from_secs_f64(self.place.saturating_sub(place).as_secs_f64() / times);
        Some(at + wait.unwrap_or(NEVER).min(NEVER))
    }

    /// Plays on from here at another speed.
    pub fn set_speed(&mut self, speed: Speed) {
        self.base = (Instant::now(), self.reached());
        self.speed = speed;
    }

    pub fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            // Before the flag turns: while paused the place stands still.
            self.base = (Instant::now(), self.reached());
            self.paused = paused;
        }
    }

    /// Forgets where it was: the next record is due at once.
    pub fn jump(&mut self) {
        self.last = None;
    }

    /// The place in the recording that the clock has reached, at most that of the record that is waited for.
    fn reached(&self) -> Duration {
        let (at, place) = self.base;
        let reached = match self.speed {
            Speed::Max => self.place,
            Speed::Times(_) if self.paused => place,
            Speed::Times(times) => {
                let since = Duration::try_from_secs_f64(at.elapsed().as_secs_f64() * times);
                place.saturating_add(since.unwrap_or(NEVER))
            }
        };
        reached.min(self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_those_of_the_recording_divided_by_the_speed() {
        for (times, waits_ms) in [(1.0, [0, 2_000, 3_000]), (4.0, [0, 500, 750]), (0.5, [0, 4_000, 6_000])] {
            let mut pace = Pace::new(Speed::Times(times));
            tokio::time::advance(Duration::from_secs(60)).await;
            let began = Instant::now();
            // The clock was set back before the last one: it goes on from there.
            for (ts, wait_ms) in [at(100), at(102), at(103)].into_iter().zip(waits_ms) {
                pace.go_on_to(ts);
                assert_eq!(pace.due().unwrap() - began, Duration::from_millis(wait_ms), "×{times}");
            }
            pace.go_on_to(at(50));
            assert_eq!(pace.due().unwrap() - began, Duration::from_millis(waits_ms[2]), "a step back costs no wait");
            pace.go_on_to(at(51));
            let wait = Duration::from_secs_f64(1.0 / times);
            assert_eq!(pace.due().unwrap() - began, Duration::from_millis(waits_ms[2]) + wait);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_and_another_speed_move_what_is_still_to_come() {
        let mut pace = Pace::new(Speed::Times(1.0));
        let began = Instant::now();
        pace.go_on_to(at(0));
        pace.go_on_to(at(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        pace.set_paused(true);
        tokio::time::advance(Duration::from_secs(100)).await;
        pace.set_paused(false);
        assert_eq!(pace.due().unwrap() - began, Duration::from_secs(110));
        tokio::time::advance(Duration::from_secs(2)).await;
        pace.set_speed(Speed::Times(2.0));
        assert_eq!(
            pace.due().unwrap() - Instant::now(),
            Duration::from_secs(2),
            "four seconds are left, at twice the speed"
        );
        pace.set_speed(Speed::Max);
        assert_eq!(pace.due(), None);
        pace.go_on_to(at(1_000));
        pace.set_speed(Speed::Times(1.0));
        pace.go_on_to(at(1_001));
        assert_eq!(pace.due().unwrap() - Instant::now(), Duration::from_secs(1));
        pace.jump();
        pace.go_on_to(at(5_000));
        assert_eq!(pace.due().unwrap(), Instant::now());
    }

    #[test]
    fn a_speed_is_a_factor_or_max() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        for text in ["10", "10x", "x10", "×10"] {
            assert_eq!(text.parse(), Ok(Speed::Times(10.0)), "{text}");
        }
        for text in ["0", "-1", "fast", "", "inf", "NaN", "1e9"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
