//! How far long work is: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "{msg} {wide_bar:.cyan/dim} {human_pos}/{human_len} {per_sec} {eta}";
const COUNT: &str = "{msg} {human_pos} {per_sec}";

#[derive(Debug)]
pub(super) struct Work {
    bar: Option<ProgressBar>,
    began: Instant,
    lined: Instant,
    step: &'static str,
    /// What was said last of what holds it up.
    trouble: String,
}

impl Work {
    pub(super) fn new() -> Work {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()));
        Work { bar, began: Instant::now(), lined: Instant::now(), step: "", trouble: String::new() }
    }

    /// `all`: where it is known.
    pub(super) fn tell(&mut self, step: &'static str, done: u64, all: Option<u64>) {
        let Some(bar) = &self.bar else {
            if self.lined.elapsed() >= LINE_EVERY {
                self.lined = Instant::now();
                let of = all.map(|all| format!(" of {all}")).unwrap_or_default();
                eprintln!("tapedeck: {step}: {done}{of}{}", pace(done, all, self.began.elapsed()));
            }
            return;
        };
        if self.step != step {
            self.step = step;
            // The templates are ours; a test draws them.
            let template = if all.is_some() { BAR } else { COUNT };
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(step);
        }
        bar.set_length(all.unwrap_or(done));
        bar.set_position(done);
    }

    /// Says what holds it up, where that is news.
    pub(super) fn say(&mut self, trouble: &str) {
        if self.trouble != trouble {
            trouble.clone_into(&mut self.trouble);
            match &self.bar {
                Some(bar) => bar.println(format!("tapedeck: {trouble}; asked again")),
                None => eprintln!("tapedeck: {trouble}; asked again"),
            }
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How fast it goes, and how long that will take: `, 1250/s, 40 s left`.
fn pace(done: u64, all: Option<u64>, took: Duration) -> String {
    let rate = done as f64 / took.as_secs_f64().max(1e-3);
    let left = all.filter(|_| rate > 0.0).map(|all| all.saturating_sub(done) as f64 / rate);
    let left = left.map(|left| format!(", {left:.0} s left")).unwrap_or_default();
    format!(", {rate:.0}/s{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_says_how_long_is_left_where_the_end_is_known() {
        let took = Duration::from_secs(4);
        assert_eq!(pace(5_000, Some(55_000), took), ", 1250/s, 40 s left");
        assert_eq!(pace(5_000, None, took), ", 1250/s");
        assert_eq!(pace(0, Some(10), took), ", 0/s");
    }

    #[test]
    fn the_templates_can_be_drawn() {
        assert!([BAR, COUNT].iter().all(|template| ProgressStyle::with_template(template).is_ok()));
    }
}
