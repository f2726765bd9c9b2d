//! How far an export is: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Sorting comes before the first row: the bar moves meanwhile.
const TICK: Duration = Duration::from_millis(200);
const BAR: &str = "{spinner} {wide_bar:.cyan/dim} {human_pos}/{human_len} rows  {elapsed}";

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// The rows themselves go to a terminal, where nothing else belongs.
    quiet: bool,
    rows: u64,
    expected: u64,
    lined: Instant,
}

impl Progress {
    /// `quiet`: the rows themselves go to a terminal.
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // The template is ours; a test draws it.
            bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Progress { bar, quiet, rows: 0, expected: 0, lined: Instant::now() }
    }

    /// So many rows there will be.
    pub(crate) fn expect(&mut self, rows: u64) {
        self.expected = rows;
        if let Some(bar) = &self.bar {
            bar.set_length(rows);
        }
    }

    pub(crate) fn wrote(&mut self, rows: u64) {
        self.rows += rows;
        match &self.bar {
            Some(bar) => bar.set_position(self.rows),
            None if !self.quiet && self.lined.elapsed() >= LINE_EVERY => {
                self.lined = Instant::now();
                eprintln!("tapedeck: {} of {} rows", self.rows, self.expected);
            }
            None => {}
        }
    }

    /// Says what there is now.
    pub(crate) fn end(self, file: Option<&Path>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !self.quiet {
            eprintln!("tapedeck: {}", said(self.rows, file, self.bar.is_some()));
        }
    }
}

/// Grouped digits for people, plain ones for scripts.
fn said(rows: u64, file: Option<&Path>, person: bool) -> String {
    let rows = if person { HumanCount(rows).to_string() } else { rows.to_string() };
    let Some(file) = file else { return format!("{rows} rows") };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    format!("{rows} rows, {} in {}", HumanBytes(bytes), file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_can_be_drawn_and_the_last_line_says_what_there_is() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 2048]).unwrap();
        assert_eq!(said(1234, Some(file.path()), false), format!("1234 rows, 2.00 KiB in {}", file.path().display()));
        assert_eq!(said(1234, None, true), "1,234 rows");
    }
}
