//! The comparison: the tape once in sums, the store in sums, and what differs once more, row by row.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tapedeck_market::{Kind, Record, SmolStr, UnixNanos, Uuid, wire};
use tapedeck_tape::storage::{Disk, Storage};
use tapedeck_tape::{Item, Reader, Start, cursors};

use super::books::Books as Sums;
use super::rows::{Expected, compare};
use super::{Amount, Audit, Cell, Row, Series};
use crate::config::KindTable;
use crate::control;
use crate::sinks::books::{Books, whole};
use crate::sinks::delivery::{Begin, Delivery};
use crate::sinks::progress::Progress as Delivered;
use crate::sinks::{Batch, Fate, Opened, Refusal, Reject, Sink, SinkError, dead, dead_letters_folder};

/// Differences that are named; the others are counted.
const NAMED: usize = 10_000;
/// Series and minutes that the store alone knows and that are looked into.
const STRANGERS: usize = 1_000;
/// Records of one request of a repair.
const REPAIR_RECORDS: usize = 1_000;
const HOUR_MINUTES: i64 = 60;
/// Records between two words about the progress.
const TELL_EVERY: u64 = 100_000;

/// What is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    /// Only records received from then on; `None`: from where the sink begins.
    pub from: Option<UnixNanos>,
    /// And before then.
    pub to: Option<UnixNanos>,
    /// What is missing or differs is delivered again.
    pub repair: bool,
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

    fn add(&mut self, difference: Difference) {
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
struct Stretch {
    dir: std::path::PathBuf,
    tape: Uuid,
    delivery: Delivery,
    delivered: Delivered,
    /// Levels of the books that the store keeps in place of their changes.
    books: Option<usize>,
    dead: BTreeSet<u64>,
    start: Start,
    from: Option<UnixNanos>,
    to: Option<UnixNanos>,
    seqs: RangeInclusive<u64>,
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
    };
    let mut found = pass(&mut stretch, &mut *sink, scope.repair.then_some(mark.as_slice()), tell).await?;
    if scope.repair && found.repaired > 0 {
        let (repaired, refused) = (found.repaired, found.refused);
        found = pass(&mut stretch, &mut *sink, None, tell).await?;
        (found.repaired, found.refused) = (repaired, refused);
    }
    Ok(found)
}

async fn pass(
    stretch: &mut Stretch,
    sink: &mut dyn Sink,
    repair: Option<&[u8]>,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Outcome> {
    let mut found = Outcome { dead: 0, ..Outcome::default() };
    let books = expected(stretch, audit(sink)?, &mut found, tell)?;
    let (mut differing, strangers) = differing(stretch, &books, audit(sink)?, &mut found, tell).await?;
    look(stretch, &books, &mut differing, sink, repair, &mut found, tell).await?;
    let ours = |seq: u64| stretch.is_expected(seq);
    for cell in strangers.iter().take(STRANGERS) {
        let held = ask(audit(sink)?.rows(stretch.tape, cell).await)?;
        let compared = compare(Vec::new(), held, ours);
        found.foreign += compared.foreign;
        compared.differences.into_iter().for_each(|difference| found.add(difference));
    }
    Ok(found)
}

fn audit(sink: &mut dyn Sink) -> anyhow::Result<&mut dyn Audit> {
    sink.audit().context("this sink cannot say what it holds")
}

fn ask<T>(answer: Result<T, SinkError>) -> anyhow::Result<T> {
    answer.map_err(|error| anyhow::anyhow!("{error}")).context("asking the store")
}

impl Stretch {
    /// Whether the record of that seq was delivered, if it is one for this sink.
    fn is_expected(&self, seq: u64) -> bool {
        self.seqs.contains(&seq) && self.delivered.has(seq) && !self.dead.contains(&seq)
    }

    /// Hands out the records of the stretch that should be in the store.
    fn each(
        &mut self,
        found: &mut Outcome,
        mut each: impl FnMut(Record) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let open = |start| Reader::open(Arc::new(Disk), &self.dir, start);
        let mut reader = open(self.start).context("reading the tape")?;
        let begin = reader.seq();
        let books = self.books.map(|levels| Books::before(levels, open(Start::Segment(begin))?, begin));
        let mut books = books.transpose().context("reading the books of the tape")?;
        let end = reader.durable_seq();
        let mut first = None;
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
            // Clocks step: a record of before may stand behind one of after.
            if self.from.is_some_and(|from| ts_recv < from.0) || self.to.is_some_and(|to| ts_recv >= to.0) {
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
        self.seqs = found.first_seq..=found.last_seq;
        Ok(())
    }
}

/// Sums of what should be there.
fn expected(
    stretch: &mut Stretch,
    audit: &mut dyn Audit,
    found: &mut Outcome,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Sums> {
    let (mut books, mut rows, mut records) = (Sums::default(), Vec::new(), 0);
    let (tape, mut count) = (stretch.tape, 0);
    stretch.each(found, |record| {
        rows.clear();
        audit.expect(tape, &record, &mut rows);
        rows.iter().for_each(|row| books.add(row));
        count += rows.len() as u64;
        records += 1;
        if records % TELL_EVERY == 0 {
            tell(Progress::Reading(records));
        }
        Ok(true)
    })?;
    (found.rows, found.sums) = (count, books.len() as u64);
    Ok(books)
}

/// The cells whose sums differ, and those that only the store knows.
async fn differing(
    stretch: &Stretch,
    books: &Sums,
    audit: &mut dyn Audit,
    found: &mut Outcome,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<(HashMap<Cell, Pending>, Vec<Cell>)> {
    let hours = books.hours();
    let (all, mut done) = (hours.values().map(|hours| hours.len() as u64).sum(), 0);
    let (mut differing, mut strangers) = (HashMap::new(), Vec::new());
    for (table, hours) in &hours {
        for from in hours {
            let to = from.saturating_add(HOUR_MINUTES);
            tell(Progress::Asking(done, all));
            done += 1;
            let mut held: HashMap<Cell, Amount> = HashMap::new();
            for (cell, amount) in ask(audit.totals(stretch.tape, table, *from..to).await)? {
                held.entry(cell).or_default().add(amount);
            }
            for cell in books.of(table, *from, to) {
                let tally = books.get(&cell).unwrap_or_default();
                let there = held.remove(&cell).unwrap_or_default();
                if !tally.amount.is_like(&there) {
                    differing.insert(cell, Pending { left: tally.rows, empty: there.values == 0, rows: Vec::new() });
                }
            }
            let room = STRANGERS.saturating_sub(strangers.len());
            found.foreign += held.len().saturating_sub(room) as u64;
            strangers.extend(held.into_keys().take(room));
        }
    }
    Ok((differing, strangers))
}

/// A cell that is looked into: its rows come with the tape.
#[derive(Debug)]
struct Pending {
    left: u64,
    /// The store has nothing of it.
    empty: bool,
    rows: Vec<Expected>,
}

/// Row by row, each cell as soon as all its records were read; delivers again, when told to.
async fn look(
    stretch: &mut Stretch,
    books: &Sums,
    differing: &mut HashMap<Cell, Pending>,
    sink: &mut dyn Sink,
    repair: Option<&[u8]>,
    found: &mut Outcome,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<()> {
    let all = differing.len() as u64;
    let mut from = stretch.start;
    while !differing.is_empty() {
        tell(Progress::Looking(all - differing.len() as u64, all));
        let (cells, next) = gather(stretch, from, audit(sink)?, differing)?;
        if cells.is_empty() {
            anyhow::ensure!(books.len() > 0, "the tape changed under the comparison");
            break;
        }
        from = next;
        let (mut again, mut wrong, mut places) = (BTreeSet::new(), Vec::new(), HashMap::new());
        for (cell, Pending { empty, rows, .. }) in cells {
            // Of one place all go again, in their order: the newer may not tell all that the older did.
            let mut shared: HashMap<(i64, u64), Vec<u64>> = HashMap::new();
            rows.iter().for_each(|(seq, row)| shared.entry((row.time, row.apart)).or_default().push(*seq));
            let held = if empty { Vec::new() } else { ask(audit(sink)?.rows(stretch.tape, &cell).await)? };
            let compared = compare(rows, held, |seq| stretch.is_expected(seq));
            found.collisions += compared.collisions.len() as u64;
            let room = NAMED.saturating_sub(found.collided.len());
            found.collided.extend(compared.collisions.into_iter().take(room));
            found.foreign += compared.foreign;
            wrong.extend(compared.wrong);
            for difference in compared.differences {
                let mends = matches!(difference.what, What::Missing | What::Different) && repair.is_some();
                let place = shared.iter().find(|(_, seqs)| mends && seqs.last() == difference.seq.as_ref());
                if let Some((place, seqs)) = place {
                    again.extend(seqs);
                    places.entry(cell.series.clone()).or_insert_with(HashSet::new).insert(*place);
                }
                found.add(difference);
            }
        }
        if let Some(mark) = repair {
            audit(sink)?.make_way(wrong);
            deliver(stretch, sink, &again, mark, found).await?;
            if sink.times().is_some() && !places.is_empty() {
                give_back(stretch, sink, &places, mark).await?;
            }
        }
    }
    Ok(())
}

/// What is recorded behind the stretch at those places, by a running deck too, takes them again: sent once more, until there is
/// nothing further.
async fn give_back(
    stretch: &Stretch,
    sink: &mut dyn Sink,
    places: &HashMap<Series, HashSet<(i64, u64)>>,
    mark: &[u8],
) -> anyhow::Result<()> {
    let mut from = stretch.seqs.end() + 1;
    loop {
        let mut behind = Stretch {
            dir: stretch.dir.clone(),
            delivery: stretch.delivery.clone(),
            delivered: Delivered::up_to(u64::MAX),
            dead: stretch.dead.clone(),
            start: Start::Seq(from),
            from: None,
            to: None,
            seqs: 0..=0,
            ..*stretch
        };
        let (mut records, mut rows) = (Vec::new(), Vec::new());
        let (tape, audit) = (stretch.tape, audit(sink)?);
        behind.each(&mut Outcome::default(), |record| {
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

/// Reads on until some cells are whole; returns them, and where to read on.
fn gather(
    stretch: &mut Stretch,
    from: Start,
    audit: &mut dyn Audit,
    differing: &mut HashMap<Cell, Pending>,
) -> anyhow::Result<(Vec<(Cell, Pending)>, Start)> {
    const CELLS: usize = 500;
    let (mut whole, mut rows, mut next) = (Vec::new(), Vec::new(), from);
    let (tape, begin) = (stretch.tape, std::mem::replace(&mut stretch.start, from));
    let seqs = stretch.seqs.clone();
    let done = stretch.each(&mut Outcome::default(), |record| {
        rows.clear();
        audit.expect(tape, &record, &mut rows);
        next = Start::Seq(record.seq + 1);
        for row in rows.drain(..) {
            let cell = row.cell();
            let Some(pending) = differing.get_mut(&cell) else { continue };
            pending.rows.push((record.seq, row));
            pending.left = pending.left.saturating_sub(1);
            if pending.left == 0
                && let Some(pending) = differing.remove(&cell)
            {
                whole.push((cell, pending));
            }
        }
        Ok(whole.len() < CELLS)
    });
    (stretch.start, stretch.seqs) = (begin, seqs);
    done?;
    Ok((whole, next))
}

/// Delivers those records again, as the pump would.
async fn deliver(
    stretch: &mut Stretch,
    sink: &mut dyn Sink,
    seqs: &BTreeSet<u64>,
    mark: &[u8],
    found: &mut Outcome,
) -> anyhow::Result<()> {
    let mut left = seqs.iter().copied().peekable();
    while let Some(first) = left.peek().copied() {
        let mut records = Vec::new();
        let begin = std::mem::replace(&mut stretch.start, Start::Seq(first));
        let all = stretch.seqs.clone();
        let read = stretch.each(&mut Outcome::default(), |record| {
            if left.peek() == Some(&record.seq) {
                left.next();
                records.push(record);
            }
            Ok(left.peek().is_some() && records.len() < REPAIR_RECORDS)
        });
        (stretch.start, stretch.seqs) = (begin, all);
        read?;
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
