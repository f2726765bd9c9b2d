//! How long the venue is left alone after a session, by its own four rules.
//!
//! | a session ended by | the next one begins |
//! |---|---|
//! | the venue, in order, after a healthy life | at once |
//! | the network | after 250 ms, and 250 ms more each time, up to 16 s |
//! | an HTTP error, or an end soon after the beginning | after 5 s, doubled each time, up to 320 s |
//! | 429, or another connection of this token | after 60 s, doubled each time, up to 16 min, and never before the time that the venue names |

use std::time::Duration;

/// A stream that was open this long was healthy: three keep-alives. Above it reconnecting at once stays below the
/// fifty connections in fifteen minutes that the venue allows.
const HEALTHY: Duration = Duration::from_secs(60);
const NETWORK_STEP: Duration = Duration::from_millis(250);
const NETWORK_MOST: Duration = Duration::from_secs(16);
const HTTP_FIRST: Duration = Duration::from_secs(5);
const HTTP_MOST: Duration = Duration::from_secs(320);
const LIMIT_FIRST: Duration = Duration::from_secs(60);
/// The venue counts over fifteen minutes.
const LIMIT_MOST: Duration = Duration::from_secs(960);

/// How a session ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) tier: Tier,
    pub(super) error: anyhow::Error,
}

/// Which rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// The venue ended the stream, as it does now and then.
    Ordinary,
    Network,
    Http,
    /// With the wait that the venue asks for, where it does.
    Limit(Option<Duration>),
}

impl Tier {
    pub(super) fn end(self, error: impl Into<anyhow::Error>) -> End {
        End { tier: self, error: error.into() }
    }
}

/// The recorder has stopped: how long to wait no longer matters.
impl From<crate::intake::Stopped> for End {
    fn from(stopped: crate::intake::Stopped) -> End {
        Tier::Network.end(stopped)
    }
}

/// Failures since the last healthy session, by rule.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    network: u32,
    http: u32,
    limit: u32,
    /// Ends that were soon.
    soon: bool,
}

impl Pauses {
    /// The wait after a session whose stream was open for `lived`.
    pub(super) fn after(&mut self, end: &End, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            *self = Pauses::default();
        }
        match end.tier {
            Tier::Ordinary if !self.soon => {
                self.soon = true;
                Duration::ZERO
            }
            Tier::Network => {
                self.network = self.network.saturating_add(1);
                NETWORK_STEP.saturating_mul(self.network).min(NETWORK_MOST)
            }
            Tier::Ordinary | Tier::Http => doubled(HTTP_FIRST, &mut self.http).min(HTTP_MOST),
            Tier::Limit(asked) => doubled(LIMIT_FIRST, &mut self.limit).max(asked.unwrap_or_default()).min(LIMIT_MOST),
        }
    }
}

fn doubled(first: Duration, times: &mut u32) -> Duration {
    let wait = first.saturating_mul(2_u32.saturating_pow(*times));
    *times = times.saturating_add(1);
    wait
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn waits(pauses: &mut Pauses, tier: Tier, times: usize) -> Vec<u64> {
        let mut wait = || pauses.after(&tier.end(anyhow!("x")), SOON).as_millis();
        (0..times).map(|_| u64::try_from(wait()).unwrap()).collect()
    }

    #[test]
    fn each_kind_of_trouble_has_its_own_growing_wait_with_a_ceiling() {
        let mut pauses = Pauses::default();
        let network = waits(&mut pauses, Tier::Network, 70);
        assert_eq!((network[0], network[1], network[63], network[69]), (250, 500, 16_000, 16_000));
        let http = waits(&mut pauses, Tier::Http, 40);
        assert_eq!(http[..8], [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 320_000]);
        assert_eq!(http[39], 320_000);
        let limit = waits(&mut pauses, Tier::Limit(None), 40);
        assert_eq!(limit[..6], [60_000, 120_000, 240_000, 480_000, 960_000, 960_000]);
        assert_eq!(limit[39], 960_000);
    }

    #[test]
    fn the_venue_is_never_asked_before_the_time_it_names_nor_kept_waiting_for_ever() {
        let mut pauses = Pauses::default();
        let asked = |secs| Tier::Limit(Some(Duration::from_secs(secs)));
        assert_eq!(waits(&mut pauses, asked(500), 1), [500_000]);
        assert_eq!(waits(&mut pauses, asked(1), 1), [120_000]);
        assert_eq!(waits(&mut pauses, asked(u64::MAX), 1), [960_000]);
    }

    #[test]
    fn an_ordinary_end_is_followed_at_once_but_never_in_a_loop() {
        let mut pauses = Pauses::default();
        assert_eq!(waits(&mut pauses, Tier::Ordinary, 4), [0, 5_000, 10_000, 20_000]);
        let end = Tier::Ordinary.end(anyhow!("x"));
        assert_eq!(pauses.after(&end, HEALTHY), Duration::ZERO, "it was healthy in between");
        assert_eq!(pauses.after(&end, HEALTHY), Duration::ZERO);
        assert_eq!(pauses.after(&end, SOON), HTTP_FIRST);
    }
}
