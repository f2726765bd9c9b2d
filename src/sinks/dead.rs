//! What a store refused for good: a tape of its own beside the tape, one for each sink.
//!
//! ```text
//! <dir>/deadletter/<sink>/: each payload is a positional MessagePack of
//!   version 1 · what (0 a letter, 1 delivered later, 2 dropped, 3 a letter of a part) · tape id · seq · when, ns · the store's words · the record
//! ```
//!
//! Nothing is ever removed from the middle: what was delivered later, or dropped, is said by a further entry. When they take more
//! than they may, the oldest go, which is counted and told.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tapedeck_market::{Record, UnixNanos, Uuid, wire};
use tapedeck_tape::storage::Disk;
use tapedeck_tape::{Allocation, Entry, Item, Log, Options, Reader, Retention, Start};

use super::Fate;

/// Segments are small, because they are removed whole.
const SEGMENT_BYTES: u64 = 4 << 20;
/// The store's words are cut here: an error may quote the whole line, and a line may have megabytes.
const WORDS_CHARS: usize = 1_000;
/// How often it is told that letters are lost: while a store refuses everything, they are with every few megabytes.
const TELL_EVERY: Duration = Duration::from_secs(60);

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
/// The record was delivered, but for what the words name.
const PART: u8 = 3;

/// The folder of a sink's dead letters.
#[must_use]
pub fn folder(dir: &Path, sink: &str) -> PathBuf {
    dir.join("deadletter").join(sink)
}

/// The dead letters of a sink, held open by whoever may write them.
#[derive(Debug)]
pub(super) struct Letters {
    dir: PathBuf,
    keep_bytes: u64,
    /// Opened by the first letter: most sinks never have one.
    log: Option<Log>,
    /// Letters that are neither delivered nor dropped.
    open: u64,
    /// Of such, how many went to make room since this was opened, and what of it was told when.
    lost: u64,
    told: Option<(u64, Instant)>,
}

impl Letters {
    /// Counts what is there; writes nothing.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn of(dir: &Path, sink: &str, keep_bytes: u64) -> anyhow::Result<Letters> {
        let dir = folder(dir, sink);
        let open = open_places(&dir, 0)?.len() as u64;
        Ok(Letters { dir, keep_bytes, log: None, open, lost: 0, told: None })
    }

    /// The folder that they lie in.
    #[must_use]
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many are neither delivered nor dropped.
    #[must_use]
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// How many went since this was opened, because there were too many, although nobody had dealt with them.
    #[must_use]
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Adds letters, durably: it waits for the disk.
    ///
    /// # Errors
    /// They cannot be written: the records must not count as done.
    pub(super) fn add(&mut self, letters: &Entries) -> anyhow::Result<()> {
        let left = self.append(letters.at, &letters.payloads)?;
        self.count(left, self.open + letters.payloads.len() as u64);
        Ok(())
    }

    /// Says of letters that they were delivered after all, or that nobody wants them.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn close(&mut self, letters: &[(Uuid, u64)], delivered: bool) -> anyhow::Result<()> {
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
        let left = self.append(at, &payloads)?;
        self.count(left, self.open.saturating_sub(payloads.len() as u64));
        Ok(())
    }

    /// Takes over how many there are: what was counted where the oldest had to go, else `now`.
    fn count(&mut self, left: Option<Left>, now: u64) {
        self.open = left.map_or(now, |left| left.open);
        self.lost += left.map_or(0, |left| left.lost);
        let known = self.told.map_or(0, |(told, _)| told);
        if self.lost > known && self.told.is_none_or(|(_, at)| at.elapsed() >= TELL_EVERY) {
            let lost = self.lost - known;
            tracing::warn!(dir = %self.dir.display(), lost, kept = self.open, "more dead letters than `dead_letters` lets be kept: the oldest are gone");
            self.told = Some((self.lost, Instant::now()));
        }
    }

    /// What is left, where the oldest had to go for it.
    fn append(&mut self, at: i64, payloads: &[Vec<u8>]) -> anyhow::Result<Option<Left>> {
        if payloads.is_empty() {
            return Ok(None);
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
        let removing = "removing the oldest dead letters";
        if log.extent().context(removing)?.bytes <= self.keep_bytes {
            return Ok(None);
        }
        let open = open_places(&self.dir, 0)?;
        let keep = Retention { keep_bytes: Some(self.keep_bytes), ..Retention::default() };
        let retained = log.retain(&keep, at).context(removing)?;
        let gone = |place: u64| retained.segments > 0 && place < retained.first_seq;
        let lost = open.values().filter(|open| gone(open.place)).count() as u64;
        Ok(Some(Left { open: open.len() as u64 - lost, lost }))
    }
}

/// Letters that nobody has dealt with, after the oldest went.
#[derive(Clone, Copy, Debug)]
struct Left {
    open: u64,
    lost: u64,
}

/// Letters that are to be written.
#[derive(Debug)]
pub(super) struct Entries {
    at: i64,
    payloads: Vec<Vec<u8>>,
}

impl Entries {
    /// Of records, with the store's words; those that are only counted have none.
    ///
    /// # Errors
    /// One cannot be encoded.
    pub(super) fn of<'a>(
        tape: Uuid,
        refused: impl Iterator<Item = (&'a Record, &'a str, Fate)>,
    ) -> anyhow::Result<Entries> {
        let at = UnixNanos::now().0;
        let mut payloads = Vec::new();
        for (record, words, fate) in refused {
            let what = match fate {
                Fate::Letter => LETTER,
                Fate::Part => PART,
                Fate::Expired => continue,
            };
            let (words, payload) = (clean(words), encoded(record));
            let tape = *tape.as_bytes();
            let entry = Written { version: 1, what, tape, seq: record.seq, at, words: &words, payload: &payload };
            payloads.push(rmp_serde::to_vec(&entry)?);
        }
        Ok(Entries { at, payloads })
    }
}

/// The letters in a folder that are neither delivered nor dropped, in the order of their refusal. Safe beside a running deck.
///
/// # Errors
/// The folder cannot be read.
pub fn list(dir: &Path) -> anyhow::Result<Vec<Letter>> {
    let mut letters = Vec::new();
    for_each(dir, 0, |_, letter| {
        letters.push(letter);
        true
    })?;
    Ok(letters)
}

/// Of which whole records there are letters that are neither delivered nor dropped. Safe beside a running deck.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn open_keys(dir: &Path) -> anyhow::Result<impl Iterator<Item = (Uuid, u64)> + use<>> {
    Ok(open_places(dir, 0)?.into_iter().filter(|(_, open)| open.whole).map(|(key, _)| key))
}

/// Shows the letters behind a place that are neither delivered nor dropped, one after the other, until `show` has enough.
/// Only one is in memory at a time.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn for_each(dir: &Path, after: u64, mut show: impl FnMut(u64, Letter) -> bool) -> anyhow::Result<()> {
    // What closes a letter stands behind it: before that place nothing is of interest.
    let open = open_places(dir, after)?;
    entries(dir, after, |place, entry| {
        let key = (Uuid::from_bytes(entry.tape), entry.seq);
        if open.get(&key).is_none_or(|open| open.place != place) {
            return true;
        }
        let letter = Letter {
            tape: key.0,
            seq: entry.seq,
            at: UnixNanos(entry.at),
            words: entry.words.to_owned(),
            payload: entry.payload.to_owned(),
        };
        show(place, letter)
    })
}

/// A letter that is neither delivered nor dropped.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Where its last entry lies.
    place: u64,
    /// Nothing of its record was delivered.
    whole: bool,
}

/// The letters behind a place that are neither delivered nor dropped. They themselves stay on the disk.
fn open_places(dir: &Path, after: u64) -> anyhow::Result<HashMap<(Uuid, u64), Open>> {
    let mut open = HashMap::new();
    entries(dir, after, |place, entry| {
        let key = (Uuid::from_bytes(entry.tape), entry.seq);
        if matches!(entry.what, LETTER | PART) {
            open.insert(key, Open { place, whole: entry.what == LETTER });
        } else {
            open.remove(&key);
        }
        true
    })?;
    Ok(open)
}

/// Reads entry by entry behind a place, with their places, until `show` has enough.
fn entries(dir: &Path, after: u64, mut show: impl FnMut(u64, &Written<'_>) -> bool) -> anyhow::Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    let reading = || format!("reading dead letters in {}", dir.display());
    let start = if after == 0 { Start::Begin } else { Start::Seq(after + 1) };
    let mut reader = match Reader::open(Arc::new(Disk), dir, start) {
        Err(tapedeck_tape::Error::NoTape { .. }) => return Ok(()),
        opened => opened.with_context(reading)?,
    };
    while let Some(item) = reader.next().with_context(reading)? {
        let Item::Record(raw) = item else { continue };
        // An entry of a later version is none of ours.
        let Ok(entry) = rmp_serde::from_slice::<Written<'_>>(raw.payload) else { continue };
        if !show(raw.seq, &entry) {
            break;
        }
    }
    Ok(())
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::encode(&record.event, &mut payload);
    payload
}

/// Words of a store as they may be shown: one line, of bounded length.
pub(super) fn clean(words: &str) -> String {
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

    fn entries_of(tape: Uuid, refused: &[(&Record, &str)]) -> Entries {
        Entries::of(tape, refused.iter().map(|(record, words)| (*record, *words, Fate::Letter))).unwrap()
    }

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
        let refused = [(&record(1), "bad\nline"), (&record(2), long.as_str()), (&record(3), "c")];
        letters.add(&entries_of(tape, &refused)).unwrap();
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
    fn letters_are_shown_in_order_from_a_place_on() {
        let home = tempfile::tempdir().unwrap();
        let mut letters = Letters::of(home.path(), "s", 1 << 20).unwrap();
        let records: Vec<Record> = (1..=5).map(record).collect();
        let refused: Vec<(&Record, &str)> = records.iter().map(|record| (record, "no")).collect();
        letters.add(&entries_of(Uuid::nil(), &refused)).unwrap();
        // Refused once more: it stands where it was refused last.
        letters.add(&entries_of(Uuid::nil(), &refused[1..2])).unwrap();
        letters.close(&[(Uuid::nil(), 4)], false).unwrap();
        let dir = folder(home.path(), "s");
        let (mut seen, mut places) = (Vec::new(), Vec::new());
        for_each(&dir, 0, |place, letter| {
            seen.push(letter.seq);
            places.push(place);
            seen.len() < 2
        })
        .unwrap();
        assert_eq!(seen, [1, 3], "no more than wanted");
        for_each(&dir, places[1], |_, letter| {
            seen.push(letter.seq);
            true
        })
        .unwrap();
        assert_eq!(seen, [1, 3, 5, 2]);
    }

    /// A thousand letters of a kilobyte.
    fn add_thousand(letters: &mut Letters, round: u64) -> Vec<Record> {
        let records: Vec<Record> = (0..1_000).map(|n| record(round * 1_000 + n + 1)).collect();
        let words = "w".repeat(1_000);
        let refused: Vec<(&Record, &str)> = records.iter().map(|record| (record, words.as_str())).collect();
        letters.add(&entries_of(Uuid::nil(), &refused)).unwrap();
        records
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let home = tempfile::tempdir().unwrap();
        let mut letters = Letters::of(home.path(), "s", 6 << 20).unwrap();
        for round in 0..30 {
            add_thousand(&mut letters, round);
        }
        let left = list(&folder(home.path(), "s")).unwrap();
        assert!(left.len() < 20_000, "{} letters of 1 kB in 6 MiB", left.len());
        assert_eq!(letters.open(), left.len() as u64, "what went is no longer open");
        assert_eq!(letters.lost(), 30_000 - left.len() as u64, "and is counted");
        assert_eq!(left.last().map(|letter| letter.seq), Some(30_000));
    }

    #[test]
    fn letters_that_were_dealt_with_are_not_lost_when_they_go() {
        let home = tempfile::tempdir().unwrap();
        let mut letters = Letters::of(home.path(), "s", 6 << 20).unwrap();
        for round in 0..30 {
            let records = add_thousand(&mut letters, round);
            let keys: Vec<(Uuid, u64)> = records.iter().map(|record| (Uuid::nil(), record.seq)).collect();
            letters.close(&keys, true).unwrap();
        }
        assert_eq!((letters.open(), letters.lost()), (0, 0));
    }

    #[test]
    fn a_letter_of_a_part_is_open_and_one_of_what_expired_is_none() {
        let home = tempfile::tempdir().unwrap();
        let mut letters = Letters::of(home.path(), "s", 1 << 20).unwrap();
        let records: Vec<Record> = (1..=3).map(record).collect();
        let fates = [Fate::Letter, Fate::Part, Fate::Expired];
        let refused = records.iter().zip(fates).map(|(record, fate)| (record, "no", fate));
        letters.add(&Entries::of(Uuid::nil(), refused).unwrap()).unwrap();
        let dir = folder(home.path(), "s");
        assert_eq!(letters.open(), 2);
        assert_eq!(list(&dir).unwrap().iter().map(|letter| letter.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(open_keys(&dir).unwrap().collect::<Vec<_>>(), [(Uuid::nil(), 1)], "the other was delivered");
        letters.close(&[(Uuid::nil(), 2)], true).unwrap();
        assert_eq!((letters.open(), list(&dir).unwrap().len()), (1, 1));
    }
}
