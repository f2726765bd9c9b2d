//! Standard output: tables for a terminal, plain lines for a pipe, JSON when asked.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use rustix::event::{PollFd, PollFlags};
use serde::Serialize;

/// Whoever read our output is gone: time to end, quietly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the output")]
pub struct Closed;

/// Standard output, buffered; not locked, because a screen may draw on it too.
#[derive(Debug)]
pub struct Out {
    to: BufWriter<Stdout>,
    terminal: bool,
    color: bool,
}

/// How a line of a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    Good,
    /// Works, but should be known.
    Warn,
    Bad,
    /// Cannot be told here.
    Unknown,
}

impl Out {
    #[must_use]
    pub fn new(color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Out { to: BufWriter::new(io::stdout()), terminal, color: color && terminal }
    }

    /// Whether a person is looking.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// # Errors
    /// [`Closed`], or the output cannot be written.
    pub fn line(&mut self, line: impl Display) -> anyhow::Result<()> {
        self.raw(format!("{line}\n").as_bytes())
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// [`Closed`], or the output cannot be written.
    pub fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        told(self.to.write_all(bytes))
    }

    /// One value, laid out for a person where there is one, else on one line.
    ///
    /// # Errors
    /// [`Closed`], or the output cannot be written.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = if self.terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.line(text?)
    }

    /// Rows under headings on a terminal; tabs between the cells, and no headings, for a pipe.
    /// A heading that ends in a space stands over numbers, which are aligned right.
    ///
    /// # Errors
    /// [`Closed`], or the output cannot be written.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        if !self.terminal {
            return rows.iter().try_for_each(|row| self.line(row.join("\t")));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings.iter().map(|heading| heading.trim_end()));
        table.add_rows(rows.iter().cloned());
        for (column, heading) in table.column_iter_mut().zip(headings) {
            column.set_padding((0, 2));
            if heading.ends_with(' ') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines: Vec<String> = table.lines().collect();
        lines.iter().try_for_each(|line| self.line(line.trim_end()))
    }

    /// `✓`, `!`, `✗` or `?`, in its colour.
    #[must_use]
    pub fn mark(&self, mark: Mark) -> String {
        let (sign, color) = match mark {
            Mark::Good => ("✓", 32),
            Mark::Warn => ("!", 33),
            Mark::Bad => ("✗", 31),
            Mark::Unknown => ("?", 36),
        };
        if self.color { format!("\x1b[{color}m{sign}\x1b[0m") } else { sign.to_owned() }
    }

    /// # Errors
    /// [`Closed`], or the output cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        told(self.to.flush())
    }
}

/// From now on the process ends, quietly, when whoever reads its output goes, and not only when it next has something
/// to say: a tape may be silent for hours. Nothing is printed any more, so there is nothing to lose.
///
/// # Errors
/// No thread can be started.
pub fn end_with_reader() -> anyhow::Result<()> {
    let watch = || {
        let stdout = io::stdout();
        loop {
            // No event is asked for: an end is told unasked, and a file has none.
            let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
            match rustix::event::poll(&mut watched, None) {
                Ok(_) if watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
                    std::process::exit(i32::from(super::exit::OK));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if watched[0].revents().contains(PollFlags::NVAL) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("output".into()).spawn(watch).context("watching the output")?;
    Ok(())
}

fn told(written: io::Result<()>) -> anyhow::Result<()> {
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Closed.into(),
        _ => anyhow::Error::new(error).context("writing the output"),
    })
}
