//! How far the replay is: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::replay::Progress;

/// Lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "{prefix} {wide_bar:.cyan/dim} {pos}/{len} {msg}";

#[derive(Debug)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    lined: Instant,
    last: Option<Progress>,
}

impl Shown {
    /// `keys`: a person can steer it.
    pub(super) fn new(keys: bool) -> Shown {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            // The template is ours; a test draws it.
            bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
            if keys {
                bar.println("space pauses, ← → 10 s, + - speed, q ends");
            }
            bar
        });
        Shown { bar, lined: Instant::now(), last: None }
    }

    pub(super) fn tell(&mut self, progress: &Progress) {
        self.last = Some(*progress);
        let Some(bar) = &self.bar else {
            if self.lined.elapsed() >= LINE_EVERY {
                self.lined = Instant::now();
                eprintln!("tapedeck: {}", line(progress));
            }
            return;
        };
        let (position, length) = places(progress);
        bar.set_length(length);
        bar.set_position(position);
        bar.set_prefix(progress.ts_recv.to_string());
        bar.set_message(format!("{}{}", progress.speed, if progress.paused { ", paused" } else { "" }));
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.abandon();
        }
    }
}

/// Where it is, in records from the first of the range, and how many there are.
fn places(progress: &Progress) -> (u64, u64) {
    let length = (progress.last_seq + 1).saturating_sub(progress.first_seq);
    ((progress.seq + 1).saturating_sub(progress.first_seq).min(length), length)
}

fn line(progress: &Progress) -> String {
    let (position, length) = places(progress);
    let paused = if progress.paused { ", paused" } else { "" };
    format!("{} of {} records, at {}, {}{paused}", position, length, progress.ts_recv, progress.speed)
}

#[cfg(test)]
mod tests {
    use tapedeck_market::UnixNanos;

    use super::*;
    use crate::replay::Speed;

    #[test]
    fn the_bar_can_be_drawn_and_the_line_says_the_same() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
        let ts_recv = UnixNanos::from_secs(1_784_483_680);
        let progress = Progress {
            first_seq: 11,
            last_seq: 20,
            seq: 15,
            ts_recv,
            played: 3,
            speed: Speed::Times(2.0),
            paused: true,
        };
        assert_eq!(line(&progress), format!("5 of 10 records, at {ts_recv}, ×2, paused"));
        let empty = Progress { last_seq: 10, seq: 11, ..progress };
        assert_eq!(places(&empty), (0, 0));
    }
}
