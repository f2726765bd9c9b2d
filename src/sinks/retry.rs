//! Dead letters sent again, or given up: by a running pump, or by a verb while no deck runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tapedeck_market::{Record, SmolStr, Uuid, wire};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Cursor, Reader, Start};

use super::dead::{self, Letter, Letters};
use super::progress::Progress;
use super::{Batch, Fate, Opened, Refusal, Reject, Sink, SinkError, build};
use crate::config::KindTable;

/// Letters of one order in memory, and how long one may take: the rest is asked for again.
const LETTERS: usize = 1_000;
const LETTERS_BYTES: usize = 4 << 20;
const LONGEST: Duration = Duration::from_secs(4);

/// What is to be done with dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub deed: Deed,
    /// Only these; none: all of them.
    pub seqs: Vec<u64>,
    /// Only those behind this place: where the answer before ended.
    pub after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Send them again; what the store takes is a dead letter no more.
    Retry,
    /// Give them up.
    Drop,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub delivered: u64,
    pub dropped: u64,
    /// Refused again: they stay, with the words of the first refusal.
    pub refused: Vec<Again>,
    /// Written by a later version of this program: they stay.
    pub unreadable: u64,
    /// There may be more, behind this place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<u64>,
}

/// A letter that was refused once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    pub seq: u64,
    pub words: String,
}

impl Done {
    /// Adds what was done after it.
    pub fn add(&mut self, more: Done) {
        self.delivered += more.delivered;
        self.dropped += more.dropped;
        self.refused.extend(more.refused);
        self.unreadable += more.unreadable;
        self.next = more.next;
    }
}

/// The letters of an order, as many as are done at once, and whether there may be more. Reads the disk.
pub(super) fn chosen(dir: &Path, order: &Order) -> anyhow::Result<(Vec<(u64, Letter)>, bool)> {
    let (mut chosen, mut bytes, mut more) = (Vec::new(), 0, false);
    dead::for_each(dir, order.after, |place, letter| {
        if !order.seqs.is_empty() && !order.seqs.contains(&letter.seq) {
            return true;
        }
        if chosen.len() >= LETTERS || bytes >= LETTERS_BYTES {
            more = true;
            return false;
        }
        bytes += letter.payload.len();
        chosen.push((place, letter));
        true
    })?;
    Ok((chosen, more))
}

/// Does one order's worth. The store is told nothing of its own mark but what `mark` says.
///
/// # Errors
/// What the store said, or that the letters cannot be written. What was done until then is done.
pub(super) async fn carry_out(
    sink: &mut dyn Sink,
    letters: Letters,
    tape: Uuid,
    mark: &[u8],
    order: &Order,
) -> (Letters, Result<Done, SinkError>) {
    let dir = letters.dir().to_owned();
    let wanted = order.clone();
    let (mut letters, mut done) = (letters, Done::default());
    let failed = |error: anyhow::Error| SinkError::Unavailable(error);
    let chosen = match tokio::task::spawn_blocking(move || chosen(&dir, &wanted)).await {
        Ok(chosen) => chosen,
        Err(error) => return (letters, Err(failed(error.into()))),
    };
    let (chosen, more) = match chosen {
        Ok(chosen) => chosen,
        Err(error) => return (letters, Err(failed(error))),
    };
    done.next = chosen.last().filter(|_| more).map(|(place, _)| *place);
    let (mut closed, mut trouble) = (Vec::new(), None);
    let (began, mut open_for, last) = (Instant::now(), tape, chosen.len());
    for (nth, (place, letter)) in chosen.into_iter().enumerate() {
        if order.deed == Deed::Drop {
            closed.push((letter.tape, letter.seq));
            continue;
        }
        // The mark of another tape stays as it is: nothing of that one is delivered here but its letter.
        let mark = (letter.tape == tape).then_some(mark);
        match again(sink, &letter, &mut open_for, mark).await {
            Ok(Sent::Taken) => closed.push((letter.tape, letter.seq)),
            Ok(Sent::Refused(words)) => done.refused.push(Again { seq: letter.seq, words: dead::clean(&words) }),
            Ok(Sent::Unreadable) => done.unreadable += 1,
            Err(error) => {
                trouble = Some(error);
                break;
            }
        }
        if began.elapsed() >= LONGEST && nth + 1 < last {
            done.next = Some(place);
            break;
        }
    }
    if open_for != tape && trouble.is_none() {
        trouble = sink.open(tape).await.err();
    }
    let (count, delivered) = (closed.len() as u64, order.deed == Deed::Retry);
    if delivered {
        done.delivered = count
    } else {
        done.dropped = count
    }
    let writing = tokio::task::spawn_blocking(move || {
        let written = letters.close(&closed, delivered);
        (letters, written)
    });
    let written = match writing.await {
        Ok((back, written)) => {
            letters = back;
            written
        }
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    match (trouble, written) {
        (Some(error), _) => (letters, Err(error)),
        (None, Err(error)) => (letters, Err(failed(error))),
        (None, Ok(())) => (letters, Ok(done)),
    }
}

/// What became of one letter.
enum Sent {
    Taken,
    Refused(String),
    Unreadable,
}

async fn again(
    sink: &mut dyn Sink,
    letter: &Letter,
    open_for: &mut Uuid,
    mark: Option<&[u8]>,
) -> Result<Sent, SinkError> {
    let Ok(event) = wire::decode(&letter.payload) else { return Ok(Sent::Unreadable) };
    if letter.tape != *open_for {
        *open_for = letter.tape;
        sink.open(letter.tape).await?;
    }
    // One at a time: what is refused says so by itself.
    let record = [Record { seq: letter.seq, event }];
    if let Some(words) = sink.would_replace(&record[0]).await? {
        return Ok(Sent::Refused(words));
    }
    let (mut parted, mut lacking) = (BTreeSet::new(), None);
    loop {
        match sink.write(&Batch { tape: letter.tape, records: &record, mark, late: true, parted: &parted }).await {
            // What of it is there now is no reason to forget what is not.
            Ok(()) => return Ok(lacking.map_or(Sent::Taken, Sent::Refused)),
            Err(SinkError::BatchRefused(words) | SinkError::TooMuch(words)) => return Ok(Sent::Refused(words)),
            Err(SinkError::Refused(Refusal { rejects, .. })) => {
                let reject = rejects.into_iter().next().unwrap_or_else(|| Reject::new(0, "refused"));
                if reject.fate != Fate::Part || !parted.insert(letter.seq) {
                    return Ok(Sent::Refused(reject.words));
                }
                lacking = Some(reject.words);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Carries an order out while no deck runs, to its end.
///
/// # Errors
/// The store cannot be reached, or the letters not be read or written. What was done until then is done.
pub async fn without_deck(table: &KindTable, dir: &Path, mut order: Order) -> anyhow::Result<Done> {
    let (delivery, mut sink) = build(table, dir)?;
    let mut mark = mark_of(dir, &table.name)?;
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let tape = tapedeck_tape::tools::id(&storage, dir).context("reading the tape's id")?;
    let mut letters = Letters::of(dir, &table.name, delivery.dead_letters.0)?;
    let mut all = Done::default();
    if letters.open() > 0 && order.deed == Deed::Retry {
        match sink.open(tape).await {
            // That it wants records again is the deck's affair, when it runs.
            Ok(Opened::NoMark) | Err(SinkError::Rewind { .. }) => {}
            // A store that was restored, or emptied, knows better than the cursor what it has: the deck fills the rest.
            Ok(Opened::Mark(known)) => mark = known,
            Ok(Opened::Empty) => mark = Progress::default().encode(),
            Err(error) => return Err(anyhow::anyhow!("{error}").context("opening the store")),
        }
    }
    loop {
        let (back, done) = carry_out(&mut *sink, letters, tape, &mark, &order).await;
        letters = back;
        all.add(done.map_err(|error| anyhow::anyhow!("{error}")).context("sending dead letters again")?);
        match all.next {
            Some(next) => order.after = next,
            None => return Ok(all),
        }
    }
}

/// What the sink's own cursor says, so that a store that keeps a mark keeps that one.
fn mark_of(dir: &Path, sink: &SmolStr) -> anyhow::Result<Vec<u8>> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let tape = tapedeck_tape::tools::id(&storage, dir).context("reading the tape's id")?;
    let end = Reader::open(storage.clone(), dir, Start::End).context("reading the tape")?.durable_seq();
    Ok(Cursor::open(&*storage, dir, sink, tape, end).context("reading the cursor")?.state().to_vec())
}
