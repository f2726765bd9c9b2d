//! Whether a subscription still lives: judged each for itself, by its own rhythm.
//!
//! A socket that beats proves nothing about one symbol on it, and a symbol that is silent may just be
//! quiet. What is known is how it behaved before:
//!
//! - **Patience.** A subscription is stalled when it has been silent for ten seconds, for three times its longest silence,
//!   and for so long that thirty messages are missing by its own mean rate: all of the last one to two hours ([`WINDOW`]).
//! - **Evidence.** It must have flowed for three times as long as that silence; for a steady flow, never silent
//!   for two seconds, five seconds are enough. A burst says nothing about the next minute, so a
//!   quiet pair after a burst, or any pair just after the start, is left alone.
//! - **Learning.** Each alarm counts as a silence seen, so that a market falling asleep alarms at ten
//!   seconds, thirty, ninety … and not every ten.
//! - **Debt.** An acked subscription owes its snapshot, and an asked one its ack, within [`ANSWER`].
//!
//! A pair that ticks ten times a second and falls silent is found after ten seconds; one that speaks
//! every nine seconds is left alone for four and a half minutes, and one that spoke twice today for ever.
//!
//! Pure: the caller hands in the time, so that tests own it.

use std::time::{Duration, Instant};

/// Without any bytes for this long a socket is dead: venues beat every one to five seconds.
pub const DEAD: Duration = Duration::from_secs(10);
/// An ack, or the snapshot after it, comes within milliseconds; after this it does not come.
pub const ANSWER: Duration = Duration::from_secs(10);
/// No silence shorter than this is a stall.
pub const FLOOR: Duration = Duration::from_secs(10);
/// A silence is strange at this many times the longest known one; the history must be as many times the silence.
const FACTOR: u32 = 3;
/// Messages that must be missing: of random arrivals, one silence in e^30 lasts that long.
const MISSING: u32 = 30;
/// A flow without a longer silence than this is steady …
const STEADY: Duration = Duration::from_secs(2);
/// … and known after this.
const STEADY_KNOWN: Duration = Duration::from_secs(5);
/// Rhythm is remembered for one to two of these.
pub const WINDOW: Duration = Duration::from_secs(3_600);

/// The rhythm of one subscription.
#[derive(Clone, Debug, Default)]
pub struct Rhythm {
    last: Option<Instant>,
    /// This window and the one before.
    windows: [Option<Window>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Window {
    begun: Instant,
    messages: u32,
    longest: Duration,
}

impl Rhythm {
    /// Data came (not a snapshot: that is an answer, and says nothing about the market).
    #[inline]
    pub fn heard(&mut self, now: Instant) {
        let silence = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let window = self.window(now);
        window.messages = window.messages.saturating_add(1);
        window.longest = window.longest.max(silence);
        self.last = Some(now);
    }

    /// The subscription is whole again after an interruption that was not its own silence: what is
    /// known of it stays, as if it had ended now.
    pub fn resumed(&mut self, now: Instant) {
        if let Some(last) = self.last {
            let interruption = now.saturating_duration_since(last);
            self.windows.iter_mut().flatten().for_each(|window| window.begun += interruption);
            self.last = Some(now);
        }
    }

    /// For how long it has been silent, when that is stranger than anything known of it. Each alarm is learned from.
    pub fn stalled(&mut self, now: Instant) -> Option<Duration> {
        let silence = self.silent(now)?;
        self.known(now, silence);
        Some(silence)
    }

    /// As [`Rhythm::stalled`], but nothing is learned: for whoever first looks into it, and says so by [`Rhythm::known`].
    #[must_use]
    pub fn silent(&self, now: Instant) -> Option<Duration> {
        let last = self.last?;
        let silence = now.saturating_duration_since(last);
        if silence < FLOOR {
            return None;
        }
        let known = |window: &Option<Window>| window.map(|window| (window.begun, window.messages, window.longest));
        let (begun, messages, longest) = match (known(&self.windows[0])?, known(&self.windows[1])) {
            (this, None) => this,
            (this, Some(before)) => (before.0, before.1.saturating_add(this.1), before.2.max(this.2)),
        };
        let flowed = last.saturating_duration_since(begun);
        let missing = silence.as_secs_f64() * f64::from(messages) / flowed.as_secs_f64().max(f64::MIN_POSITIVE);
        let known_enough = flowed >= silence * FACTOR || (longest <= STEADY && flowed >= STEADY_KNOWN);
        if silence < longest * FACTOR || missing < f64::from(MISSING) || !known_enough {
            return None;
        }
        Some(silence)
    }

    /// The silence was looked into: only a longer one is strange.
    pub fn known(&mut self, now: Instant, silence: Duration) {
        self.window(now).longest = silence;
    }

    /// As [`Rhythm::stalled`] of a market that may be closed: then silence is none, and what is known stays.
    pub fn stalled_while(&mut self, open: bool, now: Instant) -> Option<Duration> {
        if open {
            return self.stalled(now);
        }
        self.resumed(now);
        None
    }

    fn window(&mut self, now: Instant) -> &mut Window {
        if self.windows[0].is_some_and(|window| now.saturating_duration_since(window.begun) >= WINDOW) {
            self.windows[1] = self.windows[0].take();
        }
        self.windows[0].get_or_insert(Window { begun: now, messages: 0, longest: Duration::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Virtual time: milliseconds since a start.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Instant {
            self.0 + Duration::from_millis(ms)
        }
    }

    /// Looks every 100 ms from `from_ms` to `to_ms`; the moment of the first alarm.
    fn first_alarm(rhythm: &mut Rhythm, clock: &Clock, from_ms: u64, to_ms: u64) -> Option<u64> {
        (from_ms..to_ms).step_by(100).find(|&ms| rhythm.stalled(clock.at(ms)).is_some())
    }

    #[test]
    fn a_symbol_that_ticked_ten_times_a_second_is_stalled_after_ten_seconds() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for ms in (0..60_000).step_by(100) {
            rhythm.heard(clock.at(ms));
            assert_eq!(rhythm.stalled(clock.at(ms)), None, "at {ms} ms");
        }
        assert_eq!(first_alarm(&mut rhythm, &clock, 60_000, 100_000), Some(69_900));
    }

    #[test]
    fn a_steady_flow_is_known_after_five_seconds() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for ms in (0..6_000).step_by(300) {
            rhythm.heard(clock.at(ms));
        }
        assert_eq!(first_alarm(&mut rhythm, &clock, 6_000, 60_000), Some(15_700));
    }

    #[test]
    fn a_pair_that_speaks_every_nine_seconds_is_never_stalled() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for ms in (0..8 * 3_600_000).step_by(100) {
            if ms % 9_000 == 0 {
                rhythm.heard(clock.at(ms));
            }
            assert_eq!(rhythm.stalled(clock.at(ms)), None, "at {ms} ms");
        }
    }

    #[test]
    fn a_burst_on_a_quiet_pair_is_no_promise() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for minute in 0_u64..5 {
            let from_ms = minute * 60_000;
            assert_eq!(first_alarm(&mut rhythm, &clock, from_ms.saturating_sub(55_000), from_ms), None);
            for ms in (from_ms..from_ms + 4_000).step_by(10) {
                rhythm.heard(clock.at(ms));
            }
        }
    }

    #[test]
    fn silence_from_the_start_is_no_stall() {
        let mut rhythm = Rhythm::default();
        let clock = Clock(Instant::now());
        assert_eq!(first_alarm(&mut rhythm, &clock, 0, 3_600_000), None);
        rhythm.heard(clock.at(0));
        assert_eq!(first_alarm(&mut rhythm, &clock, 0, 3_600_000), None, "one word is no rhythm");
    }

    #[test]
    fn irregular_trading_is_never_stalled() {
        // Exponential waits of mean 4 s from a fixed sequence: the longest of a day is beyond 40 s.
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        let (mut ms, mut state) = (0_u64, 0x9E37_79B9_7F4A_7C15_u64);
        while ms < 24 * 3_600_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((state >> 11) as f64 / (1_u64 << 53) as f64).max(1e-12);
            let wait_ms = (-4_000.0 * uniform.ln()) as u64;
            assert_eq!(first_alarm(&mut rhythm, &clock, ms, ms + wait_ms), None, "{wait_ms} ms of silence at {ms} ms");
            ms += wait_ms;
            rhythm.heard(clock.at(ms));
        }
    }

    #[test]
    fn a_market_that_falls_asleep_alarms_ever_more_rarely() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for ms in (0..3_000_000).step_by(100) {
            rhythm.heard(clock.at(ms));
        }
        let mut alarms = Vec::new();
        for ms in (3_000_000..3_000_000 + 3_600_000).step_by(100) {
            if rhythm.stalled(clock.at(ms)).is_some() {
                alarms.push(ms);
                rhythm.resumed(clock.at(ms));
            }
        }
        assert!((2..=6).contains(&alarms.len()), "{alarms:?}");
    }

    #[test]
    fn an_interruption_is_not_learned_as_a_silence() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for ms in (0..60_000).step_by(100) {
            rhythm.heard(clock.at(ms));
        }
        rhythm.resumed(clock.at(600_000));
        rhythm.heard(clock.at(600_100));
        assert!(rhythm.stalled(clock.at(611_000)).is_some(), "and what was known of it still counts");
    }
}
