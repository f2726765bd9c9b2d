//! The records of a range, in order, those that are wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tapedeck_market::{Body, Event, Flags, Raw, Record, SmolStr, UnixNanos, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Item, Reader, Start};

/// Which part of the tape is played. The end is found when the range is opened: what is recorded later is no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: Start,
    /// The last record; `None`: what is durable now.
    pub until_seq: Option<u64>,
    /// Records received at or after this are no part of it.
    pub until_time: Option<UnixNanos>,
}

/// Says which events are played.
pub type Wanted = Box<dyn Fn(&Event) -> bool + Send>;

/// Reads a range of the tape.
pub struct Playback {
    dir: PathBuf,
    range: Range,
    reader: Reader,
    wanted: Wanted,
    first_seq: u64,
    last_seq: u64,
    /// Seqs that cannot be read.
    missing: u64,
}

impl std::fmt::Debug for Playback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Playback").field("dir", &self.dir).field("range", &self.range).finish_non_exhaustive()
    }
}

impl Playback {
    /// # Errors
    /// There is no tape, or it cannot be read.
    pub fn open(dir: &Path, range: Range, wanted: Wanted) -> anyhow::Result<Playback> {
        let reader = read(dir, range.from)?;
        let mut last_seq = range.until_seq.unwrap_or(u64::MAX).min(reader.durable_seq());
        if let Some(time) = range.until_time {
            last_seq = last_seq.min(seq_at(dir, Start::Time(time.0))?.saturating_sub(1));
        }
        let first_seq = seq_at(dir, range.from)?;
        Ok(Playback { dir: dir.to_owned(), range, reader, wanted, first_seq, last_seq, missing: 0 })
    }

    /// Seqs of the first and the last record of the range; the last is below the first when it is empty.
    #[must_use]
    pub fn bounds(&self) -> (u64, u64) {
        (self.first_seq, self.last_seq)
    }

    /// Seqs of the range that could not be read so far: damaged, or removed by retention.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// The next wanted record, flagged `replayed`. `None`: the range is played.
    ///
    /// # Errors
    /// The tape cannot be read.
    pub fn next_record(&mut self) -> anyhow::Result<Option<Record>> {
        while self.reader.seq() <= self.last_seq {
            let Some(item) = self.reader.next().context("reading the tape")? else { break };
            let record = match item {
                Item::Record(record) if record.seq > self.last_seq => break,
                Item::Record(record) => record,
                Item::Hole(hole) => {
                    let (from, to) = (hole.from_seq.max(self.first_seq), hole.to_seq.min(self.last_seq));
                    self.missing += (to + 1).saturating_sub(from);
                    continue;
                }
            };
            let mut event = decode(record.payload, UnixNanos(record.ts_recv));
            if (self.wanted)(&event) {
                event.flags = event.flags.with(Flags::REPLAYED);
                return Ok(Some(Record { seq: record.seq, event }));
            }
        }
        Ok(None)
    }

    /// Goes to the first record received at or after that time, or to the beginning of the range where that is later.
    ///
    /// # Errors
    /// The tape cannot be read.
    pub fn seek(&mut self, time: UnixNanos) -> anyhow::Result<()> {
        let wanted = seq_at(&self.dir, Start::Time(time.0))?;
        let start = if wanted <= self.first_seq { self.range.from } else { Start::Seq(wanted) };
        self.reader = read(&self.dir, start)?;
        Ok(())
    }

    /// The last `count` records before the place that is played next, wanted ones only, oldest first: what a target must
    /// know of the past to go on from here.
    ///
    /// # Errors
    /// The tape cannot be read.
    pub fn look_back(&self, count: u64, mut take: impl FnMut(&Record)) -> anyhow::Result<()> {
        let here = self.reader.seq().max(self.first_seq);
        let mut reader = read(&self.dir, Start::Seq(here.saturating_sub(count).max(1)))?;
        while reader.seq() < here {
            match reader.next().context("reading the tape")? {
                Some(Item::Record(record)) if record.seq < here => {
                    let event = decode(record.payload, UnixNanos(record.ts_recv));
                    if (self.wanted)(&event) {
                        take(&Record { seq: record.seq, event });
                    }
                }
                Some(Item::Hole(_)) => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// The next `count` records from here on, without going on to them.
    ///
    /// # Errors
    /// The tape cannot be read.
    pub fn look_ahead(&self, count: u64, mut take: impl FnMut(&Record)) -> anyhow::Result<()> {
        let mut ahead = Playback {
            dir: self.dir.clone(),
            range: self.range,
            reader: read(&self.dir, Start::Seq(self.reader.seq().max(self.first_seq)))?,
            wanted: Box::new(|_| true),
            first_seq: self.first_seq,
            last_seq: self.last_seq.min(self.reader.seq().max(self.first_seq).saturating_add(count)),
            missing: 0,
        };
        while let Some(record) = ahead.next_record()? {
            if (self.wanted)(&record.event) {
                take(&record);
            }
        }
        Ok(())
    }
}

fn read(dir: &Path, start: Start) -> anyhow::Result<Reader> {
    Reader::open(Arc::new(Disk), dir, start).with_context(|| format!("reading the tape in {}", dir.display()))
}

/// Seq of the first record from a start on; behind the last one where there is none.
fn seq_at(dir: &Path, start: Start) -> anyhow::Result<u64> {
    let mut reader = read(dir, start)?;
    let end = reader.durable_seq() + 1;
    while reader.seq() < end {
        match reader.next().context("reading the tape")? {
            Some(Item::Record(record)) => return Ok(record.seq),
            Some(Item::Hole(_)) => {}
            None => break,
        }
    }
    Ok(end)
}

/// What cannot be understood is played as it lies there.
fn decode(payload: &[u8], ts_recv: UnixNanos) -> Event {
    wire::decode(payload).unwrap_or_else(|_| Event {
        source: SmolStr::new_static("tapedeck"),
        venue: SmolStr::new_static("tapedeck"),
        symbol: SmolStr::default(),
        ts_event: None,
        ts_recv,
        flags: Flags::NONE,
        origin: None,
        body: Body::Raw(Raw { format: SmolStr::new_static("undecodable"), frame: payload.to_vec() }),
    })
}
