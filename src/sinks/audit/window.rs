//! A window of hours: sums of the tape beside those of the store, and the rows where they differ.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::{Range, RangeInclusive};

use tapedeck_market::{SmolStr, Uuid};
use tapedeck_tape::Start;

use super::books::{Books as Sums, Key, Places, Tally};
use super::reconcile::{NAMED, Stretch, ask, audit};
use super::repair::{deliver, give_back};
use super::rows::{Expected, compare};
use super::{Amount, Audit, Cell, Outcome, Progress, Row, Series, What};
use crate::sinks::Sink;

/// Records between two words about the progress.
const TELL_EVERY: u64 = 100_000;
const HOUR_MINUTES: i64 = 60;
const SECOND_NS: i64 = 1_000_000_000;

/// Sums of what should be there, of the first window; of the others, where it lies.
pub(super) fn expected(
    stretch: &mut Stretch,
    audit: &mut dyn Audit,
    sums: &mut Sums,
    places: &mut Places,
    found: &mut Outcome,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<()> {
    let (mut rows, mut records) = (Vec::new(), 0);
    let (tape, mut count) = (stretch.tape, 0);
    let left_out = stretch.each(stretch.start, found, |record| {
        rows.clear();
        audit.expect(tape, &record, &mut rows);
        for row in &rows {
            sums.add(row);
            places.add(row, record.seq);
        }
        count += rows.len() as u64;
        records += 1;
        if records % TELL_EVERY == 0 {
            tell(Progress::Reading(records));
        }
        Ok(true)
    })?;
    found.rows = count;
    stretch.seqs = found.first_seq..=found.last_seq;
    stretch.left_out = left_out;
    Ok(())
}

/// The same of a further window.
pub(super) fn expected_again(
    stretch: &Stretch,
    audit: &mut dyn Audit,
    sums: &mut Sums,
    places: &Places,
) -> anyhow::Result<()> {
    let Some((first, mut last)) = places.of(sums.begin(), None) else { return Ok(()) };
    let (mut rows, mut until) = (Vec::new(), None);
    stretch.each(Start::Seq(first), &mut Outcome::default(), |record| {
        if record.seq > last {
            return Ok(false);
        }
        rows.clear();
        audit.expect(stretch.tape, &record, &mut rows);
        rows.iter().for_each(|row| sums.add(row));
        // A full window ends sooner.
        if sums.until() != until {
            until = sums.until();
            last = places.of(sums.begin(), until).map_or(last, |(_, last)| last);
        }
        Ok(true)
    })?;
    Ok(())
}

/// The rows of a cell, where the tags are not all that a series has.
async fn rows_of(audit: &mut dyn Audit, tape: Uuid, cell: &Cell) -> anyhow::Result<Vec<Row>> {
    let Series { table, tags } = &cell.series;
    let mut rows = ask(audit.rows(tape, table, tags, cell.times()).await)?;
    rows.retain(|row| row.series == cell.series);
    Ok(rows)
}

/// The rows of all these cells in the seconds of what is expected: a question for a table and a run of seconds, whatever the cells.
async fn rows_beside(
    audit: &mut dyn Audit,
    tape: Uuid,
    cells: &[(Cell, Pending)],
) -> anyhow::Result<HashMap<Cell, Vec<Row>>> {
    let mut seconds: BTreeMap<&SmolStr, BTreeSet<i64>> = BTreeMap::new();
    for (cell, pending) in cells {
        let of_rows = pending.rows.iter().map(|(_, row)| row.time.div_euclid(SECOND_NS));
        seconds.entry(&cell.series.table).or_default().extend(of_rows);
    }
    let mut held: HashMap<Cell, Vec<Row>> = cells.iter().map(|(cell, _)| (cell.clone(), Vec::new())).collect();
    for (table, seconds) in seconds {
        for times in runs(&seconds) {
            for row in ask(audit.rows(tape, table, &[], times).await)? {
                if let Some(rows) = held.get_mut(&row.cell()) {
                    rows.push(row);
                }
            }
        }
    }
    Ok(held)
}

/// Spans of time, ns, in which these seconds lie, close to each other.
fn runs(seconds: &BTreeSet<i64>) -> Vec<Range<i64>> {
    const APART: i64 = 5;
    let mut runs: Vec<Range<i64>> = Vec::new();
    for second in seconds {
        match runs.last_mut() {
            Some(run) if second.saturating_sub(run.end) < APART => run.end = second.saturating_add(1),
            _ => runs.push(*second..second.saturating_add(1)),
        }
    }
    let ns = |second: i64| second.saturating_mul(SECOND_NS);
    runs.into_iter().map(|run| ns(run.start)..ns(run.end)).collect()
}

/// The hours that are compared at once.
pub(super) struct Window<'a> {
    pub stretch: &'a Stretch,
    pub sums: &'a Sums,
    /// The first and the last seq that have a row in it.
    pub place: Option<(u64, u64)>,
    /// Hours of which the store was asked, of this window and those before.
    pub asked: u64,
    /// So many cells that the store alone knows may still be looked into.
    pub strangers: usize,
}

/// A cell that is looked into: its rows come with the tape.
#[derive(Debug)]
pub(super) struct Pending {
    left: u64,
    /// The store has nothing of it.
    empty: bool,
    rows: Vec<Expected>,
}

impl Window<'_> {
    /// The cells whose sums differ. Those that only the store knows are looked into at once.
    pub(super) async fn differing(
        &mut self,
        audit: &mut dyn Audit,
        hours: u64,
        found: &mut Outcome,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> anyhow::Result<HashMap<Key, Pending>> {
        let (stretch, sums, mut differing) = (self.stretch, self.sums, HashMap::new());
        for (hour, tables) in sums.hours() {
            tell(Progress::Asking(self.asked, hours));
            self.asked += 1;
            for (table, cells) in tables {
                if stretch.only_these {
                    let pending = |tally: Tally| Pending { left: tally.rows, empty: false, rows: Vec::new() };
                    differing.extend(cells.into_iter().map(|(key, tally)| (key, pending(tally))));
                    continue;
                }
                let mut held: HashMap<Cell, Amount> = HashMap::new();
                let to = hour.saturating_add(HOUR_MINUTES);
                for (cell, amount) in ask(audit.totals(stretch.tape, table, hour..to).await)? {
                    held.entry(cell).or_default().add(amount);
                }
                for (key, tally) in cells {
                    let there = held.remove(&sums.cell(key)).unwrap_or_default();
                    if stretch.every_row || !tally.amount.is_like(&there) {
                        let empty = there.values == 0;
                        differing.insert(key, Pending { left: tally.rows, empty, rows: Vec::new() });
                    }
                }
                let looked = held.len().min(self.strangers);
                self.strangers -= looked;
                found.unlooked += (held.len() - looked) as u64;
                for cell in held.into_keys().take(looked) {
                    let rows = rows_of(audit, stretch.tape, &cell).await?;
                    let compared = compare(Vec::new(), rows, |seq| stretch.is_expected(seq));
                    found.foreign += compared.foreign;
                    compared.differences.into_iter().for_each(|difference| found.add(difference));
                }
            }
        }
        Ok(differing)
    }

    /// Row by row, each cell as soon as all its records were read; delivers again, when told to.
    pub(super) async fn look(
        &self,
        differing: &mut HashMap<Key, Pending>,
        sink: &mut dyn Sink,
        repair: Option<&[u8]>,
        found: &mut Outcome,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> anyhow::Result<()> {
        let stretch = self.stretch;
        let all = differing.len() as u64;
        let Some((mut from, to)) = self.place else { return Ok(()) };
        while !differing.is_empty() {
            tell(Progress::Looking(all - differing.len() as u64, all));
            let (cells, next) = self.gather(from..=to, audit(sink)?, differing)?;
            if cells.is_empty() {
                break;
            }
            from = next;
            let (mut again, mut wrong, mut places) = (BTreeSet::new(), Vec::new(), HashMap::new());
            let mut beside = match stretch.only_these {
                true => rows_beside(audit(sink)?, stretch.tape, &cells).await?,
                false => HashMap::new(),
            };
            for (cell, Pending { empty, rows, .. }) in cells {
                // Of one place all go again, in their order: the newer may not tell all that the older did.
                let mut shared: HashMap<(i64, u64), Vec<u64>> = HashMap::new();
                rows.iter().for_each(|(seq, row)| shared.entry((row.time, row.apart)).or_default().push(*seq));
                let held = match beside.remove(&cell) {
                    Some(held) => held,
                    None if empty => Vec::new(),
                    None => rows_of(audit(sink)?, stretch.tape, &cell).await?,
                };
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

    /// Reads on until some cells are whole; returns them, and where to read on.
    fn gather(
        &self,
        seqs: RangeInclusive<u64>,
        audit: &mut dyn Audit,
        differing: &mut HashMap<Key, Pending>,
    ) -> anyhow::Result<(Vec<(Cell, Pending)>, u64)> {
        const CELLS: usize = 500;
        let (mut whole, mut rows, mut next) = (Vec::new(), Vec::new(), *seqs.start());
        self.stretch.each(Start::Seq(next), &mut Outcome::default(), |record| {
            if record.seq > *seqs.end() {
                return Ok(false);
            }
            rows.clear();
            audit.expect(self.stretch.tape, &record, &mut rows);
            next = record.seq + 1;
            for row in rows.drain(..) {
                let Some(key) = self.sums.key(&row) else { continue };
                let Some(pending) = differing.get_mut(&key) else { continue };
                pending.rows.push((record.seq, row));
                pending.left = pending.left.saturating_sub(1);
                if pending.left == 0
                    && let Some(pending) = differing.remove(&key)
                {
                    whole.push((self.sums.cell(key), pending));
                }
            }
            Ok(whole.len() < CELLS)
        })?;
        Ok((whole, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_close_to_each_other_are_one_run() {
        let ns = |seconds: &[i64]| -> Vec<(i64, i64)> {
            let runs = runs(&seconds.iter().copied().collect());
            runs.iter().map(|run| (run.start / SECOND_NS, run.end / SECOND_NS)).collect()
        };
        assert_eq!(ns(&[]), []);
        assert_eq!(ns(&[7]), [(7, 8)]);
        assert_eq!(ns(&[-1, 0, 5, 11, 100]), [(-1, 6), (11, 12), (100, 101)]);
        assert_eq!(runs(&BTreeSet::from([i64::MAX])).len(), 1, "a time that no second holds");
    }
}
