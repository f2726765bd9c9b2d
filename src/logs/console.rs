//! The console: log lines on standard error, and below them, on a terminal, a few lines that stay.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// The lines that stay at the bottom, as they stand on the screen.
static PINNED: Mutex<Pinned> = Mutex::new(Pinned { text: String::new(), rows: 0 });

struct Pinned {
    text: String,
    /// Rows of the screen that the text takes.
    rows: usize,
}

/// Shows `text` below the log, in place of what was shown before. Without a terminal nothing is shown.
/// No line may be wider than the terminal.
pub fn pin(text: &str) {
    if !io::stderr().is_terminal() {
        return;
    }
    let mut pinned = PINNED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = erase(&pinned);
    pinned.text = text.trim_end_matches('\n').to_owned();
    pinned.rows = pinned.text.lines().count();
    out.extend_from_slice(draw(&pinned).as_bytes());
    // A console that is gone must not stop the recording.
    let _ = io::stderr().lock().write_all(&out);
}

/// Takes the lines away again.
pub fn unpin() {
    pin("");
}

fn erase(pinned: &Pinned) -> Vec<u8> {
    "\x1b[1A\x1b[2K".repeat(pinned.rows).into_bytes()
}

fn draw(pinned: &Pinned) -> String {
    if pinned.rows == 0 { String::new() } else { format!("{}\n", pinned.text) }
}

/// Standard error that knows of the pinned lines.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let pinned = PINNED.lock().unwrap_or_else(PoisonError::into_inner);
        let mut err = io::stderr().lock();
        if pinned.rows == 0 {
            err.write_all(line)?;
        } else {
            // One write, so that nothing flickers.
            let mut out = erase(&pinned);
            out.extend_from_slice(line);
            out.extend_from_slice(draw(&pinned).as_bytes());
            err.write_all(&out)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
