//! What runs by the clock: the market's steps, heartbeats, the script of faults.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::fault::Scheduled;
use super::hub::Hub;

/// Longest pause between looks at the clock.
const SLOWEST_TICK: Duration = Duration::from_millis(50);
const FASTEST_TICK: Duration = Duration::from_millis(1);
/// Messages per hold of the lock: some 2 ms.
const STEPS: u32 = 1_000;
/// A market that could not keep up forgets what is older than this, rather than to burst for ever.
const MOST_BEHIND: Duration = Duration::from_secs(1);

/// Lets the market live at `rate` messages a second, whether or not anybody listens. Never returns.
pub(crate) async fn live(hub: Arc<Mutex<Hub>>, rate: u32) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let tick = Duration::from_secs(1).div_f64(f64::from(rate)).clamp(FASTEST_TICK, SLOWEST_TICK);
    let mut clock = tokio::time::interval(tick);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let per_second = i64::from(rate);
    let most = i64::try_from(MOST_BEHIND.as_secs()).unwrap_or(1).saturating_mul(per_second).max(1);
    let (mut last, mut carry_ns, mut due) = (Instant::now(), 0_i128, 0_i64);
    loop {
        let now = clock.tick().await;
        // Whole messages, the remainder carried: the rate is exact over any span.
        carry_ns += i128::try_from((now - last).as_nanos()).unwrap_or(0) * i128::from(rate);
        last = now;
        due = (due + i64::try_from(carry_ns / 1_000_000_000).unwrap_or(most)).min(most);
        carry_ns %= 1_000_000_000;
        while due > 0 {
            {
                let mut hub = hub.lock().unwrap_or_else(PoisonError::into_inner);
                for _ in 0..STEPS.min(u32::try_from(due).unwrap_or(STEPS)) {
                    due -= i64::from(hub.step());
                    if due <= 0 {
                        break;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Once a second to everybody. Never returns.
pub(crate) async fn heartbeats(hub: Arc<Mutex<Hub>>) {
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    loop {
        clock.tick().await;
        hub.lock().unwrap_or_else(PoisonError::into_inner).heartbeat();
    }
}

/// Strikes with each fault at its time after the first subscription. Returns when none is left.
pub(crate) async fn script(hub: Arc<Mutex<Hub>>, faults: Vec<Scheduled>, stop: CancellationToken) {
    let inject = |fault| hub.lock().unwrap_or_else(PoisonError::into_inner).inject(fault);
    let (mut timed, mut now): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for Scheduled { at, every, fault } in faults {
        match at {
            None if every.is_none() && !fault.needs_a_connection() => now.push(fault),
            at => timed.push((at.or(every).unwrap_or_default(), every, fault)),
        }
    }
    now.into_iter().for_each(inject);
    if timed.is_empty() {
        return;
    }
    let begun = Arc::clone(&hub.lock().unwrap_or_else(PoisonError::into_inner).first_subscription);
    tokio::select! {
        () = begun.notified() => {}
        () = stop.cancelled() => return,
    }
    let begin = Instant::now();
    while let Some(next) = timed.iter().enumerate().min_by_key(|(_, (at, ..))| *at).map(|(n, _)| n) {
        tokio::select! {
            () = tokio::time::sleep_until(begin + timed[next].0) => {}
            () = stop.cancelled() => return,
        }
        let (at, every, fault) = timed.remove(next);
        if let Some(every) = every {
            timed.push((at + every.max(FASTEST_TICK), Some(every), fault.clone()));
        }
        inject(fault);
    }
}
