//! What a service manager is told: that the deck records, how it is, that it lives, and that it ends.
//!
//! systemd's protocol, `sd_notify(3)`; without `NOTIFY_SOCKET` nothing is sent. The watchdog is fed only while the recorder
//! takes its turns: a deck whose tape stands still is begun anew by its unit.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::http::StatusOf;
use crate::status::Status;

/// How often the words about it are renewed.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Tells of a deck whose tape is open, until it stops.
pub(crate) async fn run(status: StatusOf, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return stop.cancelled().await;
    }
    send(&[NotifyState::Ready]);
    let watched = sd_notify::watchdog_enabled();
    // Half of what is allowed, as the protocol advises.
    let every = watched.map_or(TELL_EVERY, |limit| (limit / 2).min(TELL_EVERY));
    loop {
        let status = status();
        send(&[NotifyState::Status(&words(&status))]);
        if watched.is_some() && status.hung().is_none() {
            send(&[NotifyState::Watchdog]);
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Tells that the deck is on its way out.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    // A manager that does not listen is no trouble of the recorder's.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = %error, "the service manager was not told");
    }
}

/// How it is, in a line of `systemctl status`.
fn words(status: &Status) -> String {
    let tables = status.sources.iter().filter(|source| !source.name.contains('/'));
    let (mut count, mut live) = (0, 0);
    for source in tables {
        count += 1;
        live += usize::from(source.live > 0);
    }
    let gaps = if status.gaps_open == 1 { "1 gap".to_owned() } else { format!("{} gaps", status.gaps_open) };
    let full = if status.tape.full { "; the disk is full" } else { "" };
    format!("{} events, {:.0}/s; {live} of {count} sources deliver; {gaps} open{full}", status.events, status.rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Source;

    #[test]
    fn a_line_says_what_is_recorded_and_what_is_wrong() {
        let source = |name: &str, live| Source { name: name.into(), live, ..Source::default() };
        let mut status = Status { events: 1_200, rate: 99.6, gaps_open: 1, ..Status::default() };
        status.sources = vec![source("kraken", 4), source("kraken/2", 4), source("oanda", 0)];
        assert_eq!(words(&status), "1200 events, 100/s; 1 of 2 sources deliver; 1 gap open");
        status.tape.full = true;
        assert!(words(&status).ends_with("; the disk is full"), "{}", words(&status));
    }
}
