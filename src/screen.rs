//! The live screen of an attached `demo` or `run`: what arrives, how fast, and what is wrong.
//!
//! A few lines below the log, drawn again twice a second; nothing is drawn when standard error is no
//! terminal. The last events are read from the tape itself, like any reader's.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tapedeck_market::wire;
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Reader, Start};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::StatusOf;
use crate::logs::console;
use crate::status::Status;

const REDRAW: Duration = Duration::from_millis(500);
/// Events shown.
const EVENTS: usize = 8;
/// Records read for one redraw: at high rates the screen skips, the tape does not.
const READ_AT_MOST: usize = 5_000;

/// Draws until `stop`, then leaves the last picture standing.
pub async fn run(dir: &Path, status: StatusOf, durable: watch::Receiver<u64>, stop: CancellationToken) {
    let mut events = Events::default();
    loop {
        let now = status();
        let (dir, durable) = (dir.to_owned(), *durable.borrow());
        let followed = tokio::task::spawn_blocking(move || {
            events.follow(&dir, durable);
            events
        });
        // A panic in there costs the list of the last events, once.
        events = followed.await.unwrap_or_default();
        pin(&picture(&now, &events.last));
        tokio::select! {
            () = tokio::time::sleep(REDRAW) => {}
            () = stop.cancelled() => break,
        }
    }
}

/// The last events of the tape.
#[derive(Default)]
struct Events {
    reader: Option<Reader>,
    last: VecDeque<String>,
}

impl Events {
    fn follow(&mut self, dir: &Path, durable: u64) {
        let behind = self.reader.as_ref().is_none_or(|reader| reader.seq() + READ_AT_MOST as u64 <= durable);
        if behind {
            let from = durable.saturating_sub(EVENTS as u64 * 4).max(1);
            self.reader = Reader::open(Arc::new(Disk), dir, Start::Seq(from)).ok();
        }
        let Some(reader) = &mut self.reader else { return };
        for _ in 0..READ_AT_MOST {
            match reader.next() {
                Ok(Some(Item::Record(record))) => {
                    if let Ok(event) = wire::decode(record.payload) {
                        if self.last.len() == EVENTS {
                            self.last.pop_front();
                        }
                        self.last.push_back(format!("{:>9}  {}", record.seq, crate::describe::describe(&event)));
                    }
                }
                Ok(Some(Item::Hole(_))) => {}
                Ok(None) => break,
                Err(_) => {
                    self.reader = None;
                    break;
                }
            }
        }
    }
}

fn picture(status: &Status, events: &VecDeque<String>) -> Vec<String> {
    let mut lines: Vec<String> = events.iter().cloned().collect();
    lines.push(String::new());
    lines.extend(summary(status));
    lines
}

/// The tape, its pace, and a line a source.
#[must_use]
pub fn summary(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    let tape = &status.tape;
    lines.push(format!(
        "tape {}  seq {}  {}  {}  mode {}  disk {} free",
        tape.dir,
        tape.last_seq,
        bytes(tape.bytes),
        count(tape.segments, "segment"),
        tape.mode,
        bytes(tape.disk_free_bytes),
    ));
    let mut line = format!(
        "{:.0} events/s  receive to durable p50 {} p99 {}  queue {}/{}  gaps open {}",
        status.rate,
        micros(status.latency.p50_us),
        micros(status.latency.p99_us),
        status.queue_frames,
        status.queue_limit,
        status.gaps_open,
    );
    if let Some(days) = tape.days_left {
        let _ = write!(line, "  {} a day, {days:.0} days left", bytes(tape.bytes_per_day.unwrap_or(0)));
    }
    if tape.full {
        line.push_str("  DISK FULL: nothing is recorded");
    }
    lines.push(line);
    if let Some(reader) = &tape.held_by {
        lines.push(format!(
            "RETENTION WAITS for reader {reader}: {} could go (`tapedeck cursors drop {reader}` gives it up)",
            bytes(tape.held_bytes)
        ));
    }
    for source in &status.sources {
        let age =
            source.last_heard_ms_ago.map_or_else(|| "never".to_owned(), |ms| format!("{:.1} s ago", ms as f64 / 1e3));
        lines.push(format!(
            "{:<16} {:<12} {} events  {}/{} live  {} gaps open  {} rejects  heard {age}",
            source.name,
            source.state,
            source.events,
            source.live,
            source.subscriptions,
            source.gaps_open,
            source.rejects,
        ));
    }
    for service in &status.services {
        let detail = service.detail.iter().filter(|(_, value)| value.is_string());
        let detail: String = detail.filter_map(|(_, value)| Some(format!("  {}", value.as_str()?))).collect();
        lines.push(format!("{:<16} {:<12}{detail}", service.name, service.state));
    }
    lines
}

/// Shows the lines below the log, each cut to the terminal's width.
fn pin(lines: &[String]) {
    let width = terminal_width();
    let cut = |line: &String| line.chars().filter(|c| !c.is_control()).take(width).collect::<String>();
    console::pin(&lines.iter().map(cut).collect::<Vec<_>>().join("\n"));
}

fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(100, |size| usize::from(size.ws_col).max(20))
}

fn micros(us: u64) -> String {
    if us >= 10_000 { format!("{} ms", us / 1_000) } else { format!("{:.2} ms", us as f64 / 1e3) }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// `1.4 GB`: decimal units, as disks are sold.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
