//! Whether a subscription still lives: judged each for itself, by its own rhythm.
//!
//! A socket that beats proves nothing about one symbol on it, and a symbol that is silent may just be
//! quiet. What is known is how it behaved before:
//!
//! - **Patience.** A subscription is stalled ten seconds after the 99.9th percentile of its own silences, all of the last
//!   one to two hours ([`WINDOW`]). Where its silences spread, that is not enough: of random arrivals, one silence in
//!   a thousand is longer than this percentile, each day, for ever. So their spread is measured, and five times
//!   the step from one decade of rarity to the next is waited beyond it: one silence in a hundred million.
//!   And no silence is strange that is not twice as long as the longest known one.
//! - **Evidence.** It must have spoken sixteen times, and flowed for three times as long as that silence; for a steady flow,
//!   never silent for two seconds, five seconds are enough. A burst says nothing about the next minute, so a
//!   quiet pair after a burst, or any pair just after the start, is left alone.
//! - **Learning.** Each alarm counts as a silence seen, so that a market falling asleep alarms at ten
//!   seconds, thirty, ninety … and not every ten.
//! - **Debt.** An acked subscription owes its snapshot, and an asked one its ack, within [`ANSWER`].
//!
//! A pair that ticks ten times a second and falls silent is found after ten seconds; one that speaks
//! every nine seconds after nineteen; one that speaks at random, each four seconds in the mean, after a minute and
//! a quarter; and one that spoke twice today is left alone.
//!
//! Pure: the caller hands in the time, so that tests own it.

use std::time::{Duration, Instant};

/// Without any bytes for this long a socket is dead: venues beat every one to five seconds.
pub const DEAD: Duration = Duration::from_secs(10);
/// An ack, or the snapshot after it, comes within milliseconds; after this it does not come.
pub const ANSWER: Duration = Duration::from_secs(10);
/// No silence shorter than this is a stall.
pub const FLOOR: Duration = Duration::from_secs(10);
/// Found so long after the time when it should have spoken, at the latest where its silences do not spread.
const GRACE: Duration = Duration::from_secs(10);
/// Decades of rarity beyond the 99.9th percentile that a silence must be in to be strange.
const DECADES: u32 = 5;
/// No silence is strange below this many times the longest known one.
const LONGER: u32 = 2;
/// What was silent between words less often has no rhythm.
const ENOUGH: u64 = 15;
/// The history must be this many times the silence.
const FACTOR: u32 = 3;
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
    silences: Silences,
    longest: Duration,
}

impl Rhythm {
    /// Data came (not a snapshot: that is an answer, and says nothing about the market).
    #[inline]
    pub fn heard(&mut self, now: Instant) {
        let before = self.last.replace(now);
        let window = self.window(now);
        if let Some(before) = before {
            let silence = now.saturating_duration_since(before);
            window.silences.add(silence);
            window.longest = window.longest.max(silence);
        }
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
        let begun = self.windows[1].or(self.windows[0])?.begun;
        let flowed = last.saturating_duration_since(begun);
        let longest = self.windows.iter().flatten().map(|window| window.longest).max().unwrap_or_default();
        let known_enough = flowed >= silence * FACTOR || (longest <= STEADY && flowed >= STEADY_KNOWN);
        if silence < longest * LONGER || !known_enough || silence < self.patience(longest)? {
            return None;
        }
        Some(silence)
    }

    /// The silence that is strange for it; `None` without a rhythm.
    fn patience(&self, longest: Duration) -> Option<Duration> {
        let windows = || self.windows.iter().flatten().map(|window| &window.silences);
        let count: u64 = windows().map(Silences::count).sum();
        if count < ENOUGH {
            return None;
        }
        let at = |per_mille| Silences::quantile(windows(), count, per_mille).min(longest);
        let (half, tenth, hundredth, thousandth) = (at(500), at(900), at(990), at(999));
        // From one in two to one in ten is 0.7 of a decade.
        let step = (thousandth - hundredth).max(hundredth - tenth).max((tenth - half) * 10 / 7);
        Some(thousandth + GRACE.max(step * DECADES))
    }

    /// The silence was looked into: only one three times as long is strange.
    pub fn known(&mut self, now: Instant, silence: Duration) {
        self.window(now).longest = silence * FACTOR / LONGER;
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
        self.windows[0].get_or_insert(Window { begun: now, silences: Silences::default(), longest: Duration::ZERO })
    }
}

/// How often a subscription was silent for how long: counts by length, four to an octave.
#[derive(Clone, Copy, Debug)]
struct Silences([u16; Silences::LENGTHS]);

impl Default for Silences {
    fn default() -> Silences {
        Silences([0; Silences::LENGTHS])
    }
}

impl Silences {
    /// The shortest length that is told from none.
    const UNIT_MS: u64 = 16;
    /// Up to 2^20 units, four and a half hours: more than two windows hold.
    const LENGTHS: usize = 76;

    #[inline]
    fn add(&mut self, silence: Duration) {
        let units = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX) / Self::UNIT_MS;
        let place = match units {
            0..4 => units as usize,
            _ => {
                let octave = units.ilog2();
                (octave as usize - 1) * 4 + (units >> (octave - 2) & 3) as usize
            }
        };
        let count = &mut self.0[place.min(Self::LENGTHS - 1)];
        *count += 1;
        // Only shares matter.
        if *count == u16::MAX {
            self.0.iter_mut().for_each(|count| *count /= 2);
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// Where a length begins.
    fn length(place: usize) -> Duration {
        let units = match place {
            0..4 => place as u64,
            _ => (4 + place as u64 % 4) << (place / 4 - 1),
        };
        Duration::from_millis(units * Self::UNIT_MS)
    }

    /// The length that so many of a thousand do not exceed, of these `count`.
    fn quantile<'a>(all: impl Iterator<Item = &'a Silences> + Clone, count: u64, per_mille: u64) -> Duration {
        let (mut below, wanted) = (0_u64, count as f64 * per_mille as f64 / 1_000.0);
        for place in 0..Self::LENGTHS {
            let here: u64 = all.clone().map(|silences| u64::from(silences.0[place])).sum();
            if here > 0 && (below + here) as f64 >= wanted {
                let (from, to) = (Self::length(place), Self::length(place + 1));
                return from + (to - from).mul_f64(((wanted - below as f64) / here as f64).clamp(0.0, 1.0));
            }
            below += here;
        }
        Self::length(Self::LENGTHS)
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
        assert_eq!(first_alarm(&mut rhythm, &clock, 60_000, 100_000), Some(70_000));
    }

    #[test]
    fn a_steady_flow_is_known_after_five_seconds() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for ms in (0..6_000).step_by(300) {
            rhythm.heard(clock.at(ms));
        }
        assert_eq!(first_alarm(&mut rhythm, &clock, 6_000, 60_000), Some(16_000));
    }

    #[test]
    fn a_pair_that_speaks_every_nine_seconds_is_left_alone_and_found_ten_seconds_after_it_should_have_spoken() {
        let (clock, mut rhythm) = (Clock(Instant::now()), Rhythm::default());
        for ms in (0..8 * 3_600_000).step_by(100) {
            if ms % 9_000 == 0 {
                rhythm.heard(clock.at(ms));
            }
            assert_eq!(rhythm.stalled(clock.at(ms)), None, "at {ms} ms");
        }
        assert_eq!(
            first_alarm(&mut rhythm, &clock, 8 * 3_600_000, 9 * 3_600_000),
            Some(8 * 3_600_000 - 9_000 + 19_000)
        );
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

    /// Random waits in milliseconds, of this mean, from a fixed sequence.
    fn waits(mean_ms: f64) -> impl FnMut() -> u64 {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((state >> 11) as f64 / (1_u64 << 53) as f64).max(1e-12);
            (-mean_ms * uniform.ln()) as u64
        }
    }

    #[test]
    fn irregular_trading_is_never_stalled_and_its_end_is_found_by_its_own_spread() {
        // Of mean 4 s, the longest of a day is beyond 40 s; one in a thousand is longer than 28 s.
        let (clock, mut rhythm, mut wait) = (Clock(Instant::now()), Rhythm::default(), waits(4_000.0));
        let mut ms = 0;
        while ms < 24 * 3_600_000 {
            let wait_ms = wait();
            assert_eq!(first_alarm(&mut rhythm, &clock, ms, ms + wait_ms), None, "{wait_ms} ms of silence at {ms} ms");
            ms += wait_ms;
            rhythm.heard(clock.at(ms));
        }
        let found = first_alarm(&mut rhythm, &clock, ms, ms + 3_600_000).expect("found") - ms;
        assert!((50_000..110_000).contains(&found), "{found}");
    }

    #[test]
    fn lengths_of_silences_are_kept_to_a_fifth() {
        let length = |place| Silences::length(place).as_millis();
        assert_eq!([0, 1, 3, 4, 5, 7, 8, 9, 12].map(length), [0, 16, 48, 64, 80, 112, 128, 160, 256]);
        for ms in (0..20_000).chain((20_000..20_000_000).step_by(977)) {
            let mut silences = Silences::default();
            silences.add(Duration::from_millis(ms));
            let place = silences.0.iter().position(|count| *count == 1).expect("counted");
            let (from, to) = (length(place) as u64, length(place + 1) as u64);
            assert!(from <= ms && (ms < to || place + 1 == Silences::LENGTHS), "{ms}: {from} to {to}");
        }
        let mut silences = Silences::default();
        for ms in 0..1_000 {
            silences.add(Duration::from_millis(ms));
        }
        for (per_mille, ms) in [(500, 500), (900, 900), (990, 990), (999, 999)] {
            let found = Silences::quantile([&silences].into_iter(), silences.count(), per_mille).as_millis();
            assert!(found.abs_diff(ms) <= 25, "{per_mille}: {found}");
        }
    }

    #[test]
    fn a_flow_too_fast_for_the_counts_keeps_its_shares() {
        let mut silences = Silences::default();
        for n in 0..1_000_000 {
            silences.add(Duration::from_millis(if n % 100 == 0 { 3_000 } else { 5 }));
        }
        let at = |per_mille| Silences::quantile([&silences].into_iter(), silences.count(), per_mille).as_millis();
        assert!(at(980) < 20 && (2_500..3_600).contains(&at(999)), "{} {}", at(980), at(999));
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
        assert!((2..=7).contains(&alarms.len()), "{alarms:?}");
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
