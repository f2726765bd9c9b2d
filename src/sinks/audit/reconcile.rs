//! The comparison: the tape in sums, the store in sums, and what differs once more, row by row; as many hours at once as have room.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tapedeck_market::{Kind, Record, SmolStr, UnixNanos, Uuid, wire};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Item, Reader, Start, cursors};

use super::books::{Books as Sums, CELLS, Places};
use super::window::{Window, expected, expected_again};
use super::{Audit, Row};
use crate::config::KindTable;
use crate::control;
use crate::sinks::books::{Books, whole};
use crate::sinks::delivery::{Begin, Delivery};
use crate::sinks::progress::Progress as Delivered;
use crate::sinks::{Opened, Sink, SinkError, dead, dead_letters_folder};

/// Differences that are named; the others are counted.
pub(super) const NAMED: usize = 10_000;
/// Series and minutes that the store alone knows and that are looked into.
const STRANGERS: usize = 1_000;

/// What is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    /// Only records received from then on; `None`: from where the sink begins.
    pub from: Option<UnixNanos>,
    /// And before then.
    pub to: Option<UnixNanos>,
    /// What is missing or differs is delivered again.
    pub repair: bool,
    /// Rows are compared where the sums are the same, too: a text is in no sum.
    pub every_row: bool,
    /// The store is asked for the rows of these records and for nothing beside them: for few records of a store that holds many.
    pub only_these: bool,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The store does not have it.
    Missing,
    /// It has other values.
    Different,
    /// It has a row of one of these records in a place where it should not be.
    Extra,
}

/// A row that is not as the tape says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    pub what: What,
    pub seq: Option<u64>,
    pub table: SmolStr,
    /// Tags of its series, as `name=value`, with commas between.
    pub series: String,
    /// ns since the epoch, in the store.
    pub time: i64,
    pub detail: String,
}

impl Difference {
    pub(super) fn of(what: What, seq: Option<u64>, row: &Row, detail: String) -> Difference {
        let tags: Vec<String> = row.series.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Difference { what, seq, table: row.series.table.clone(), series: tags.join(","), time: row.time, detail }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// The records that were looked at.
    pub first_seq: u64,
    pub last_seq: u64,
    /// Rows that should be in the store.
    pub rows: u64,
    /// Sums of a series and minute that were compared.
    pub sums: u64,
    pub missing: u64,
    pub different: u64,
    pub extra: u64,
    /// Rows that later ones have taken the place of: the store keeps one for a series and time, and cannot tell them apart.
    pub collisions: u64,
    /// Some of them: the seqs of both records.
    pub collided: Vec<(u64, u64)>,
    /// Rows among these that are not of this stretch of the tape.
    pub foreign: u64,
    /// Sums that the store alone has, of a series and minute, and that were not looked into: there were too many.
    pub unlooked: u64,
    /// Dead letters: not expected there.
    pub dead: u64,
    /// Not delivered yet: not expected there.
    pub behind: u64,
    /// Records that the tape cannot give any more.
    pub unreadable: u64,
    /// Records delivered again.
    pub repaired: u64,
    /// Of them, those that the store refused.
    pub refused: u64,
    /// The first of the differences.
    pub differences: Vec<Difference>,
}

impl Outcome {
    /// Whether the store holds what the tape says.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing + self.different + self.extra == 0
    }

    pub(super) fn add(&mut self, difference: Difference) {
        match difference.what {
            What::Missing => self.missing += 1,
            What::Different => self.different += 1,
            What::Extra => self.extra += 1,
        }
        if self.differences.len() < NAMED {
            self.differences.push(difference);
        }
    }
}

/// Where a comparison is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Reading the tape, so many records so far.
    Reading(u64),
    /// Asking the store for sums, of so many tables' hours so many done.
    Asking(u64, u64),
    /// Looking into what differs, of so many sums so many done.
    Looking(u64, u64),
}

/// Which records are compared.
pub(super) struct Stretch {
    pub dir: std::path::PathBuf,
    pub tape: Uuid,
    pub delivery: Delivery,
    pub delivered: Delivered,
    /// Levels of the books that the store keeps in place of their changes.
    pub books: Option<usize>,
    pub dead: BTreeSet<u64>,
    pub start: Start,
    pub from: Option<UnixNanos>,
    pub to: Option<UnixNanos>,
    pub seqs: RangeInclusive<u64>,
    /// Those among them that were received before or after, in their order: sources do not wait for each other, and clocks step.
    pub left_out: Vec<RangeInclusive<u64>>,
    /// All are compared row by row, whatever the sums say.
    pub every_row: bool,
    /// Without sums, and without looking for what is beside them.
    pub only_these: bool,
    /// Series and minutes that are compared at once.
    pub cells: usize,
}

/// Compares a sink's store with the tape; with `repair`, delivers again what is missing or differs, and compares anew.
///
/// # Errors
/// The tape cannot be read, the store not be asked, or its kind does not say what it holds.
pub async fn reconcile(
    table: &KindTable,
    dir: &Path,
    scope: &Scope,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Outcome> {
    let (delivery, mut sink) = crate::sinks::build(table, dir)?;
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let tape = tapedeck_tape::tools::id(&storage, dir).context("reading the tape's id")?;
    anyhow::ensure!(sink.audit().is_some(), "a sink of kind `{}` cannot say what it holds", table.kind);
    let kept = cursors::read(&*storage, dir, &table.name).context("reading the cursor")?;
    let kept = kept.filter(|kept| kept.tape_id == tape).map(|kept| kept.state).unwrap_or_default();
    let opened = match sink.open(tape).await {
        // The pump will deliver again what it confirmed lately. What is there until then is what is asked.
        Err(SinkError::Rewind { .. }) => Opened::NoMark,
        opened => opened.map_err(|error| anyhow::anyhow!("{error}")).context("opening the store")?,
    };
    if scope.repair && !matches!(opened, Opened::NoMark) {
        let running = control::ask(dir, &control::Request::Status).await.is_ok_and(|answer| answer.is_some());
        anyhow::ensure!(!running, "this store keeps a mark, which the running deck moves: stop the deck to repair");
        let narrow = scope.from.is_some() || scope.to.is_some();
        let lost = matches!(opened, Opened::Empty) && narrow;
        anyhow::ensure!(!lost, "this store knows nothing of the tape: repair it without --from and --to");
    }
    // The store's own word counts more than the cursor.
    let mark = if let Opened::Mark(mark) = opened { mark } else { kept };
    let delivered = Delivered::decode(&mark).unwrap_or_default();
    let from = match (scope.from, delivery.start) {
        (Some(from), _) => Some(from),
        (None, Begin::Begin) => None,
        (None, Begin::At(time)) => Some(time),
        (None, Begin::Now) => {
            anyhow::bail!("this sink began in the middle of the tape (`start = \"now\"`): say --from")
        }
    };
    let letters = dead::open_keys(&dead_letters_folder(dir, &table.name))?;
    let mut stretch = Stretch {
        dir: dir.to_owned(),
        tape,
        books: sink.books().filter(|_| delivery.events.fit(Kind::BOOK.name())),
        delivery,
        delivered,
        dead: letters.filter(|(of, _)| *of == tape).map(|(_, seq)| seq).collect(),
        start: from.map_or(Start::Begin, |from| Start::Time(from.0)),
        from,
        to: scope.to,
        seqs: 0..=0,
        left_out: Vec::new(),
        every_row: scope.every_row,
        only_these: scope.only_these,
        cells: CELLS,
    };
    let mut found = pass(&mut stretch, &mut *sink, scope.repair.then_some(mark.as_slice()), tell).await?;
    if scope.repair && found.repaired > 0 {
        let (repaired, refused) = (found.repaired, found.refused);
        found = pass(&mut stretch, &mut *sink, None, tell).await?;
        (found.repaired, found.refused) = (repaired, refused);
    }
    Ok(found)
}

pub(super) async fn pass(
    stretch: &mut Stretch,
    sink: &mut dyn Sink,
    repair: Option<&[u8]>,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Outcome> {
    let (mut found, mut places) = (Outcome::default(), Places::default());
    let mut sums = Sums::from(i64::MIN, stretch.cells);
    expected(stretch, audit(sink)?, &mut sums, &mut places, &mut found, tell)?;
    let (mut asked, mut strangers) = (0, STRANGERS);
    loop {
        found.sums += sums.len() as u64;
        let place = places.of(sums.begin(), sums.until());
        let mut window = Window { stretch, sums: &sums, place, asked, strangers };
        let mut differing = window.differing(audit(sink)?, places.len() as u64, &mut found, tell).await?;
        window.look(&mut differing, sink, repair, &mut found, tell).await?;
        (asked, strangers) = (window.asked, window.strangers);
        let Some(from) = sums.until() else { return Ok(found) };
        sums = Sums::from(from, stretch.cells);
        expected_again(stretch, audit(sink)?, &mut sums, &places)?;
    }
}

pub(super) fn audit(sink: &mut dyn Sink) -> anyhow::Result<&mut dyn Audit> {
    sink.audit().context("this sink cannot say what it holds")
}

pub(super) fn ask<T>(answer: Result<T, SinkError>) -> anyhow::Result<T> {
    answer.map_err(|error| anyhow::anyhow!("{error}")).context("asking the store")
}

impl Stretch {
    /// Whether the record of that seq was delivered, if it is one for this sink.
    pub(super) fn is_expected(&self, seq: u64) -> bool {
        let behind = self.left_out.partition_point(|range| *range.end() < seq);
        let left_out = self.left_out.get(behind).is_some_and(|range| range.contains(&seq));
        self.seqs.contains(&seq) && !left_out && self.delivered.has(seq) && !self.dead.contains(&seq)
    }

    /// Hands out the records of the stretch that should be in the store, from a place on; returns the seqs that lie between them and
    /// are of another time.
    pub(super) fn each(
        &self,
        from: Start,
        found: &mut Outcome,
        mut each: impl FnMut(Record) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Vec<RangeInclusive<u64>>> {
        let open = |start| Reader::open(Arc::new(Disk), &self.dir, start);
        let mut reader = open(from).context("reading the tape")?;
        let begin = reader.seq();
        let books = self.books.map(|levels| Books::before(levels, open(Start::Segment(begin))?, begin));
        let mut books = books.transpose().context("reading the books of the tape")?;
        let end = reader.durable_seq();
        let (mut first, mut left_out) = (None, Vec::<RangeInclusive<u64>>::new());
        (found.dead, found.behind, found.unreadable) = (0, 0, 0);
        while reader.seq() <= end {
            let (seq, ts_recv, event) = match reader.next().context("reading the tape")? {
                None => break,
                Some(Item::Hole(hole)) => {
                    books.iter_mut().for_each(Books::forget_all);
                    found.unreadable += hole.to_seq - hole.from_seq + 1;
                    continue;
                }
                Some(Item::Record(raw)) => (raw.seq, raw.ts_recv, wire::decode(raw.payload)),
            };
            let event = event.map(|event| whole(event, &mut books));
            // A record of before may stand behind one of after.
            if self.from.is_some_and(|from| ts_recv < from.0) || self.to.is_some_and(|to| ts_recv >= to.0) {
                match left_out.last_mut() {
                    Some(range) if range.end() + 1 == seq => *range = *range.start()..=seq,
                    _ if first.is_some() => left_out.push(seq..=seq),
                    _ => {}
                }
                continue;
            }
            first.get_or_insert(seq);
            (found.first_seq, found.last_seq) = (first.unwrap_or(seq), seq);
            let Ok(event) = event else {
                found.unreadable += 1;
                continue;
            };
            let Some(event) = event.filter(|event| self.delivery.wants(event)) else { continue };
            if !self.delivered.has(seq) {
                found.behind += 1;
            } else if self.dead.contains(&seq) {
                found.dead += 1;
            } else if !each(Record { seq, event })? {
                break;
            }
        }
        Ok(left_out)
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
