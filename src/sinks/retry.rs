//! Dead letters sent again, or given up, while no deck runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tapedeck_market::{Record, SmolStr, Uuid, wire};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Cursor, Reader, Start};

use super::dead::{self, Letter, Letters};
use super::{Batch, Refusal, Sink, SinkError, build};
use crate::config::KindTable;

/// What became of letters that were sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Retried {
    pub delivered: u64,
    /// Refused again: they stay, with the words of the first refusal.
    pub refused: Vec<Again>,
    /// Written by a later version of this program: they stay.
    pub unreadable: u64,
}

/// A letter that was refused once more.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Again {
    pub seq: u64,
    pub words: String,
}

/// Sends letters of a sink again, oldest first; those that the store takes now are no dead letters any more.
///
/// # Errors
/// The store cannot be reached, or the letters not be read or written. What was delivered until then is closed.
pub async fn retry(table: &KindTable, dir: &Path, wanted: impl Fn(&Letter) -> bool) -> anyhow::Result<Retried> {
    let (delivery, mut sink) = build(table, dir)?;
    let letters: Vec<Letter> = dead::list(&dead::folder(dir, &table.name))?.into_iter().filter(wanted).collect();
    let mut done = Retried::default();
    let Some(first) = letters.first() else { return Ok(done) };
    let mark = mark_of(dir, &table.name)?;
    let mut kept = Letters::of(dir, &table.name, delivery.dead_letters.0)?;
    let mut tape = first.tape;
    sink.open(tape).await.map_err(|error| anyhow::anyhow!("{error}")).context("opening the store")?;
    for letter in &letters {
        let Ok(event) = wire::decode(&letter.payload) else {
            done.unreadable += 1;
            continue;
        };
        if letter.tape != tape {
            tape = letter.tape;
            sink.open(tape).await.map_err(|error| anyhow::anyhow!("{error}")).context("opening the store")?;
        }
        // One at a time: what is refused says so by itself.
        let record = [Record { seq: letter.seq, event }];
        match send(&mut *sink, tape, &record, &mark).await? {
            None => {
                kept.close(&[(tape, letter.seq)], true)?;
                done.delivered += 1;
            }
            Some(words) => done.refused.push(Again { seq: letter.seq, words }),
        }
    }
    Ok(done)
}

/// Gives letters of a sink up; says how many.
///
/// # Errors
/// The letters cannot be read or written.
pub fn give_up(sink: &str, dir: &Path, keep_bytes: u64, wanted: impl Fn(&Letter) -> bool) -> anyhow::Result<u64> {
    let letters = dead::list(&dead::folder(dir, sink))?;
    let these: Vec<(Uuid, u64)> =
        letters.iter().filter(|letter| wanted(letter)).map(|letter| (letter.tape, letter.seq)).collect();
    Letters::of(dir, sink, keep_bytes)?.close(&these, false)?;
    Ok(these.len() as u64)
}

/// The store's words if it refuses the record again.
async fn send(sink: &mut dyn Sink, tape: Uuid, record: &[Record], mark: &[u8]) -> anyhow::Result<Option<String>> {
    match sink.write(&Batch { tape, records: record, mark, late: true }).await {
        Ok(()) => Ok(None),
        Err(SinkError::BatchRefused(words) | SinkError::TooMuch(words)) => Ok(Some(words)),
        Err(SinkError::Refused(Refusal { rejects, .. })) => {
            Ok(Some(rejects.into_iter().next().map_or_else(|| "refused".to_owned(), |reject| reject.words)))
        }
        Err(error) => Err(anyhow::anyhow!("{error}").context("writing to the store")),
    }
}

/// What the sink's own cursor says, so that a store that keeps a mark keeps that one.
fn mark_of(dir: &Path, sink: &SmolStr) -> anyhow::Result<Vec<u8>> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let tape = tapedeck_tape::tools::id(&storage, dir).context("reading the tape's id")?;
    let end = Reader::open(storage.clone(), dir, Start::End).context("reading the tape")?.durable_seq();
    Ok(Cursor::open(&*storage, dir, sink, tape, end).context("reading the cursor")?.state().to_vec())
}
