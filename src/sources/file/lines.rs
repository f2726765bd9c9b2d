//! Lines of a recording, read ahead in a thread of their own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use tapedeck_market::UnixNanos;
use tokio::sync::mpsc;

/// The largest line: the largest frame that a venue may send.
const LINE_BYTES: u64 = 16 << 20;
/// Lines on their way from the reading thread.
const LINES_AHEAD: usize = 256;
/// How often a followed file is looked at again.
const FOLLOW: Duration = Duration::from_millis(200);

/// A line of a file that holds a frame.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Receive time, where the line tells it.
    pub(super) received: Option<UnixNanos>,
    pub(super) frame: Vec<u8>,
}

/// How a file is packed, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    Plain,
    Gzip,
    Bzip2,
}

impl Packed {
    fn of(path: &Path) -> Packed {
        match path.extension() {
            Some(ending) if ending == "gz" => Packed::Gzip,
            Some(ending) if ending == "bz2" => Packed::Bzip2,
            _ => Packed::Plain,
        }
    }
}

/// Whether lines may be added to the file.
pub(super) fn is_plain(path: &Path) -> bool {
    Packed::of(path) == Packed::Plain
}

/// Reads a file in a thread of its own, a bounded number of lines ahead; the thread ends with the receiver.
pub(super) fn open(path: &Path, follow: bool) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Line>>> {
    let file = File::open(path).context("opening the recording")?;
    let (lines, reader) = mpsc::channel(LINES_AHEAD);
    let packed = Packed::of(path);
    tokio::task::spawn_blocking(move || {
        let mut input: Box<dyn BufRead> = match packed {
            Packed::Plain => Box::new(BufReader::new(file)),
            Packed::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(file))),
            Packed::Bzip2 => Box::new(BufReader::new(MultiBzDecoder::new(file))),
        };
        if let Err(error) = each_line(&mut *input, follow, &lines) {
            // Nobody listens any more: then it does not matter.
            let _ = lines.blocking_send(Err(error));
        }
    });
    Ok(reader)
}

fn each_line(input: &mut dyn BufRead, follow: bool, lines: &mpsc::Sender<anyhow::Result<Line>>) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let mut number = 1;
    loop {
        let room = LINE_BYTES - text.len() as u64;
        let len = (&mut *input).take(room).read_until(b'\n', &mut text).context("reading the recording")?;
        let whole = text.last() == Some(&b'\n');
        ensure!(whole || (text.len() as u64) < LINE_BYTES, "line {number} is longer than {} MiB", LINE_BYTES >> 20);
        if len == 0 && follow && !lines.is_closed() {
            std::thread::sleep(FOLLOW);
            continue;
        }
        // A last line without its end may still be being written.
        if !whole && follow {
            if lines.is_closed() {
                return Ok(());
            }
            continue;
        }
        if text.is_empty() {
            return Ok(());
        }
        if let Some(line) = frame_of(&text, number)
            && lines.blocking_send(Ok(line)).is_err()
        {
            return Ok(());
        }
        text.clear();
        number += 1;
    }
}

/// The frame of a line, if it holds one.
fn frame_of(text: &[u8], number: u64) -> Option<Line> {
    let text = text.trim_ascii();
    if matches!(text.first(), Some(b'{' | b'[')) {
        return Some(Line { number, received: None, frame: text.to_vec() });
    }
    let colon = text.windows(2).position(|pair| pair == b": ")?;
    let received = UnixNanos::parse_epoch_secs(&text[..colon])?;
    Some(Line { number, received: Some(received), frame: text[colon + 2..].to_vec() })
}
