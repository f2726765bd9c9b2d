//! What is missing or differs, delivered again.

use std::collections::{BTreeSet, HashMap, HashSet};

use tapedeck_market::{Record, Uuid};
use tapedeck_tape::Start;

use super::reconcile::{Stretch, audit};
use super::{Outcome, Row, Series};
use crate::sinks::progress::Progress as Delivered;
use crate::sinks::{Batch, Fate, Refusal, Reject, Sink, SinkError};

/// Records of one request of a repair.
const REPAIR_RECORDS: usize = 1_000;

/// What is recorded behind the stretch at those places, by a running deck too, takes them again: sent once more, until there is
/// nothing further.
pub(super) async fn give_back(
    stretch: &Stretch,
    sink: &mut dyn Sink,
    places: &HashMap<Series, HashSet<(i64, u64)>>,
    mark: &[u8],
) -> anyhow::Result<()> {
    let mut from = stretch.seqs.end() + 1;
    loop {
        let behind = Stretch {
            dir: stretch.dir.clone(),
            delivery: stretch.delivery.clone(),
            delivered: Delivered::up_to(u64::MAX),
            dead: stretch.dead.clone(),
            from: None,
            to: None,
            seqs: 0..=0,
            left_out: Vec::new(),
            ..*stretch
        };
        let (mut records, mut rows) = (Vec::new(), Vec::new());
        let (tape, audit) = (stretch.tape, audit(sink)?);
        behind.each(Start::Seq(from), &mut Outcome::default(), |record| {
            rows.clear();
            audit.expect(tape, &record, &mut rows);
            let taken = |row: &Row| places.get(&row.series).is_some_and(|of| of.contains(&(row.time, row.apart)));
            if rows.iter().any(taken) {
                from = record.seq + 1;
                records.push(record);
            }
            Ok(records.len() < REPAIR_RECORDS)
        })?;
        if records.is_empty() {
            return Ok(());
        }
        send(sink, stretch.tape, &records, mark).await?;
    }
}

/// Delivers those records again, as the pump would.
pub(super) async fn deliver(
    stretch: &Stretch,
    sink: &mut dyn Sink,
    seqs: &BTreeSet<u64>,
    mark: &[u8],
    found: &mut Outcome,
) -> anyhow::Result<()> {
    let mut left = seqs.iter().copied().peekable();
    while let Some(first) = left.peek().copied() {
        let mut records = Vec::new();
        stretch.each(Start::Seq(first), &mut Outcome::default(), |record| {
            if left.peek() == Some(&record.seq) {
                left.next();
                records.push(record);
            }
            Ok(left.peek().is_some() && records.len() < REPAIR_RECORDS)
        })?;
        anyhow::ensure!(!records.is_empty(), "record {first} is no longer on the tape");
        found.repaired += records.len() as u64;
        found.refused += send(sink, stretch.tape, &records, mark).await?;
    }
    Ok(())
}

/// Writes; what is refused is left out. Says how many were.
async fn send(sink: &mut dyn Sink, tape: Uuid, records: &[Record], mark: &[u8]) -> anyhow::Result<u64> {
    let mut parted = BTreeSet::new();
    let written = loop {
        match sink.write(&Batch { tape, records, mark: Some(mark), late: true, parted: &parted }).await {
            Err(SinkError::Refused(Refusal { rejects, .. }))
                if parts_of(&rejects, records).any(|seq| !parted.contains(&seq)) =>
            {
                parted.extend(parts_of(&rejects, records));
            }
            written => break written,
        }
    };
    match written {
        Ok(()) => Ok(0),
        Err(SinkError::Refused(Refusal { rejects, rest_stored: true })) => Ok(rejects.len() as u64),
        Err(SinkError::Refused(_) | SinkError::BatchRefused(_) | SinkError::TooMuch(_)) if records.len() > 1 => {
            let (one, other) = records.split_at(records.len() / 2);
            Ok(Box::pin(send(sink, tape, one, mark)).await? + Box::pin(send(sink, tape, other, mark)).await?)
        }
        Err(SinkError::Refused(_) | SinkError::BatchRefused(_) | SinkError::TooMuch(_)) => Ok(1),
        Err(error) => Err(anyhow::anyhow!("{error}").context("delivering again")),
    }
}

/// The records of which only a part was refused: the rest of each is wanted.
fn parts_of(rejects: &[Reject], records: &[Record]) -> impl Iterator<Item = u64> {
    let parts = rejects.iter().filter(|reject| reject.fate == Fate::Part);
    parts.filter_map(|reject| records.get(reject.index)).map(|record| record.seq)
}
