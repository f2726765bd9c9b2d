//! How far long work is: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "{msg} {wide_bar:.cyan/dim} {human_pos}/{human_len}";
const COUNT: &str = "{msg} {human_pos}";

#[derive(Debug)]
pub(super) struct Work {
    bar: Option<ProgressBar>,
    lined: Instant,
    step: &'static str,
    /// What was said last of what holds it up.
    trouble: String,
}

impl Work {
    pub(super) fn new() -> Work {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()));
        Work { bar, lined: Instant::now(), step: "", trouble: String::new() }
    }

    /// `all`: where it is known.
    pub(super) fn tell(&mut self, step: &'static str, done: u64, all: Option<u64>) {
        let Some(bar) = &self.bar else {
            if self.lined.elapsed() >= LINE_EVERY {
                self.lined = Instant::now();
                let of = all.map(|all| format!(" of {all}")).unwrap_or_default();
                eprintln!("tapedeck: {step}: {done}{of}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_can_be_drawn() {
        assert!([BAR, COUNT].iter().all(|template| ProgressStyle::with_template(template).is_ok()));
    }
}
