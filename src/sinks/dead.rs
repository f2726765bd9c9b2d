//! What a store refused for good: a tape of its own beside the tape, one for each sink.
//!
//! ```text
//! <dir>/deadletter/<sink>/: each payload is a positional MessagePack of
//!   version 1 · what (0 a letter, 1 delivered later, 2 dropped) · tape id · seq · when, ns · the store's words · the record
//! ```
//!
//! Nothing is ever removed from the middle: what was delivered later, or dropped, is said by a further entry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tapedeck_market::{Record, UnixNanos, Uuid, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Allocation, Entry, Item, Log, Options, Reader, Retention, Start};

/// Segments are small, because they are removed whole.
const SEGMENT_BYTES: u64 = 4 << 20;
/// The store's words are cut here: an error may quote the whole line, and a line may have megabytes.
const WORDS_CHARS: usize = 1_000;

/// A record that a store refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub tape: Uuid,
    pub seq: u64,
    /// When it was refused.
    pub at: UnixNanos,
    /// The store's words.
    pub words: String,
    /// The record, as it lies on the tape.
    pub payload: Vec<u8>,
}

/// How an entry is written; the order of its fields is the format.
#[derive(Debug, Serialize, Deserialize)]
struct Written<'a> {
    version: u8,
    what: u8,
    tape: [u8; 16],
    seq: u64,
    at: i64,
    words: &'a str,
    #[serde(with = "serde_bytes")]
    payload: &'a [u8],
}

const LETTER: u8 = 0;
const DELIVERED: u8 = 1;
const DROPPED: u8 = 2;

/// The folder of a sink's dead letters.
#[must_use]
pub fn folder(dir: &Path, sink: &str) -> PathBuf {
    dir.join("deadletter").join(sink)
}

/// The dead letters of a sink, held open by whoever may write them.
#[derive(Debug)]
pub struct Letters {
    dir: PathBuf,
    keep_bytes: u64,
    /// Opened by the first letter: most sinks never have one.
    log: Option<Log>,
    /// Letters that are neither delivered nor dropped.
    open: u64,
}

impl Letters {
    /// Counts what is there; writes nothing.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn of(dir: &Path, sink: &str, keep_bytes: u64) -> anyhow::Result<Letters> {
        let dir = folder(dir, sink);
        let open = list(&dir)?.len() as u64;
        Ok(Letters { dir, keep_bytes, log: None, open })
    }

    /// How many are neither delivered nor dropped.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Adds letters, durably.
    ///
    /// # Errors
    /// They cannot be written: the records must not count as done.
    pub fn add(&mut self, tape: Uuid, refused: &[(&Record, &str)]) -> anyhow::Result<()> {
        let at = UnixNanos::now().0;
        let entry = |(record, words): &(&Record, &str)| {
            let (words, payload) = (clean(words), encoded(record));
            let tape = *tape.as_bytes();
            let entry =
                Written { version: 1, what: LETTER, tape, seq: record.seq, at, words: &words, payload: &payload };
            rmp_serde::to_vec(&entry)
        };
        let payloads: Vec<Vec<u8>> = refused.iter().map(entry).collect::<Result<_, _>>()?;
        self.append(at, &payloads)?;
        self.open += payloads.len() as u64;
        Ok(())
    }

    /// Says of letters that they were delivered after all, or that nobody wants them.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn close(&mut self, letters: &[(Uuid, u64)], delivered: bool) -> anyhow::Result<()> {
        let at = UnixNanos::now().0;
        let what = if delivered { DELIVERED } else { DROPPED };
        let entries = letters.iter().map(|(tape, seq)| Written {
            version: 1,
            what,
            tape: *tape.as_bytes(),
            seq: *seq,
            at,
            words: "",
            payload: &[],
        });
        let payloads: Vec<Vec<u8>> = entries.map(|entry| rmp_serde::to_vec(&entry)).collect::<Result<_, _>>()?;
        self.append(at, &payloads)?;
        self.open = self.open.saturating_sub(payloads.len() as u64);
        Ok(())
    }

    fn append(&mut self, at: i64, payloads: &[Vec<u8>]) -> anyhow::Result<()> {
        if payloads.is_empty() {
            return Ok(());
        }
        let words = || format!("writing dead letters to {}", self.dir.display());
        let log = match &mut self.log {
            Some(log) => log,
            None => {
                std::fs::create_dir_all(&self.dir).with_context(words)?;
                let options =
                    Options { segment_bytes: SEGMENT_BYTES, allocation: Allocation::None, ..Options::default() };
                self.log.insert(Log::open(Arc::new(Disk), &self.dir, options).with_context(words)?.0)
            }
        };
        let entries: Vec<Entry<'_>> = payloads.iter().map(|payload| Entry { ts_recv: at, payload }).collect();
        let written = log.append(&entries, &mut Vec::new).and_then(|_| log.sync());
        if let Err(error) = written {
            // A log that failed is opened anew, which finds out what is there.
            self.log = None;
            return Err(error).with_context(|| format!("writing dead letters to {}", self.dir.display()));
        }
        let keep = Retention { keep_bytes: Some(self.keep_bytes), ..Retention::default() };
        log.retain(&keep, at).context("removing the oldest dead letters")?;
        Ok(())
    }
}

/// The letters in a folder that are neither delivered nor dropped, in the order of their refusal. Safe beside a running deck.
///
/// # Errors
/// The folder cannot be read.
pub fn list(dir: &Path) -> anyhow::Result<Vec<Letter>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut reader = match Reader::open(Arc::new(Disk), dir, Start::Begin) {
        Err(tapedeck_tape::Error::NoTape { .. }) => return Ok(Vec::new()),
        opened => opened.with_context(|| format!("reading dead letters in {}", dir.display()))?,
    };
    let mut letters: BTreeMap<(Uuid, u64), (u64, Letter)> = BTreeMap::new();
    while let Some(item) = reader.next().with_context(|| format!("reading dead letters in {}", dir.display()))? {
        let Item::Record(raw) = item else { continue };
        // An entry of a later version is none of ours.
        let Ok(entry) = rmp_serde::from_slice::<Written<'_>>(raw.payload) else { continue };
        let key = (Uuid::from_bytes(entry.tape), entry.seq);
        if entry.what == LETTER {
            let letter = Letter {
                tape: key.0,
                seq: entry.seq,
                at: UnixNanos(entry.at),
                words: entry.words.to_owned(),
                payload: entry.payload.to_owned(),
            };
            letters.insert(key, (raw.seq, letter));
        } else {
            letters.remove(&key);
        }
    }
    let mut letters: Vec<(u64, Letter)> = letters.into_values().collect();
    letters.sort_by_key(|(place, _)| *place);
    Ok(letters.into_iter().map(|(_, letter)| letter).collect())
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::encode(&record.event, &mut payload);
    payload
}

/// Words of a store as they may be shown: one line, of bounded length.
fn clean(words: &str) -> String {
    let mut line: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS).collect();
    if words.chars().nth(WORDS_CHARS).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use tapedeck_market::{Body, Event, Flags, Status};

    use super::*;

    fn record(seq: u64) -> Record {
        let event = Event {
            source: "s".into(),
            venue: "v".into(),
            symbol: "x".into(),
            ts_event: None,
            ts_recv: UnixNanos(1),
            flags: Flags::NONE,
            origin: None,
            body: Body::Status(Status::default()),
        };
        Record { seq, event }
    }

    #[test]
    fn letters_stay_until_they_are_delivered_or_dropped() {
        let home = tempfile::tempdir().unwrap();
        let tape = Uuid::from_u128(7);
        let mut letters = Letters::of(home.path(), "influx", 1 << 20).unwrap();
        assert!(!folder(home.path(), "influx").exists(), "nothing is made for a sink without letters");
        let long = "x".repeat(5_000) + "\n";
        letters.add(tape, &[(&record(1), "bad\nline"), (&record(2), &long), (&record(3), "c")]).unwrap();
        letters.close(&[(tape, 1)], true).unwrap();
        letters.close(&[(tape, 3)], false).unwrap();
        assert_eq!(letters.open(), 1);
        drop(letters);

        let again = Letters::of(home.path(), "influx", 1 << 20).unwrap();
        assert_eq!(again.open(), 1);
        let left = list(&folder(home.path(), "influx")).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].seq, left[0].tape), (2, tape));
        assert_eq!(left[0].words.chars().count(), 1_001);
        assert_eq!(wire::decode(&left[0].payload).unwrap(), record(2).event);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let home = tempfile::tempdir().unwrap();
        let mut letters = Letters::of(home.path(), "s", 6 << 20).unwrap();
        let words = "w".repeat(1_000);
        for round in 0..30_u64 {
            let records: Vec<Record> = (0..1_000).map(|n| record(round * 1_000 + n + 1)).collect();
            let refused: Vec<(&Record, &str)> = records.iter().map(|record| (record, words.as_str())).collect();
            letters.add(Uuid::nil(), &refused).unwrap();
        }
        let left = list(&folder(home.path(), "s")).unwrap();
        assert!(left.len() < 20_000, "{} letters of 1 kB in 6 MiB", left.len());
        assert_eq!(left.last().map(|letter| letter.seq), Some(30_000));
    }
}
