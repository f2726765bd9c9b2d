//! What the tape says should be in a store, in sums: of as many hours at once as have room.
//!
//! ```text
//! rows ─► hour before the window: done · hour of the window: added up · hour behind it: for later, [`Places`] says where it lies
//! ```
//!
//! A window is what there is room for: when it is full, its last hours are given up for the next one. The first goes over all of the
//! tape, and notes where the rows of each hour are; each further one reads that part alone. Of a tape that lies in the order of its
//! times hardly anything is read more than twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Amount, Cell, Row, Series, minute_of};

/// Series and minutes added up at once: about 50 MB of them, with their names.
pub(super) const CELLS: usize = 250_000;
/// Hours that are told apart: those of eleven years. Further ones are taken together with their neighbours.
const HOURS: usize = 100_000;
const HOUR_MINUTES: i64 = 60;

/// A series, by its number in a window, and a minute.
pub(super) type Key = (u32, i64);

/// Sums of the rows that should be there, in one window.
#[derive(Debug)]
pub(super) struct Books {
    most: usize,
    /// The window: hours, by their first minute.
    from: i64,
    until: Option<i64>,
    ids: HashMap<Arc<Series>, u32>,
    series: Vec<Arc<Series>>,
    hours: BTreeMap<i64, HashMap<Key, Tally>>,
    cells: usize,
}

/// Of one series and minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub amount: Amount,
    pub rows: u64,
}

/// Of an hour, the cells of each table.
type Hour<'a> = BTreeMap<&'a str, Vec<(Key, Tally)>>;

impl Books {
    /// A window that begins with that hour and has room for so many cells.
    pub(super) fn from(from: i64, most: usize) -> Books {
        let (ids, series, hours) = (HashMap::new(), Vec::new(), BTreeMap::new());
        Books { most, from, until: None, ids, series, hours, cells: 0 }
    }

    /// Where the next window begins, if there is one.
    pub(super) fn until(&self) -> Option<i64> {
        self.until
    }

    pub(super) fn begin(&self) -> i64 {
        self.from
    }

    /// Adds a row, if it is of an hour of the window.
    pub(super) fn add(&mut self, row: &Row) {
        let hour = hour_of(row);
        if hour < self.from || self.until.is_some_and(|until| hour >= until) {
            return;
        }
        let id = match self.ids.get(&row.series) {
            Some(id) => *id,
            None => {
                let (id, series) = (self.series.len() as u32, Arc::new(row.series.clone()));
                self.series.push(series.clone());
                self.ids.insert(series, id);
                id
            }
        };
        let hour = self.hours.entry(hour).or_default();
        let before = hour.len();
        let tally = hour.entry((id, minute_of(row.time))).or_default();
        tally.amount.add(row.amount);
        tally.rows += 1;
        self.cells += hour.len() - before;
        if self.cells > self.most {
            self.give_up();
        }
    }

    /// Leaves the last hours to the next window, until some room is free: each hour is whole in one window.
    fn give_up(&mut self) {
        while self.cells > self.most - self.most / 8 && self.hours.len() > 1 {
            let Some((hour, cells)) = self.hours.pop_last() else { return };
            self.cells -= cells.len();
            self.until = Some(hour);
        }
    }

    /// The number of a row's series, and its minute.
    pub(super) fn key(&self, row: &Row) -> Option<Key> {
        Some((*self.ids.get(&row.series)?, minute_of(row.time)))
    }

    pub(super) fn cell(&self, (id, minute): Key) -> Cell {
        Cell { series: Series::clone(&self.series[id as usize]), minute }
    }

    pub(super) fn len(&self) -> usize {
        self.cells
    }

    /// The hours of the window in which something should be, each with its cells by table.
    pub(super) fn hours(&self) -> impl Iterator<Item = (i64, Hour<'_>)> {
        self.hours.iter().map(|(hour, cells)| {
            let mut tables: BTreeMap<&str, Vec<(Key, Tally)>> = BTreeMap::new();
            for (key, tally) in cells {
                tables.entry(&self.series[key.0 as usize].table).or_default().push((*key, *tally));
            }
            (*hour, tables)
        })
    }
}

/// Where on the tape the rows of an hour are: the first and the last seq.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<i64, (u64, u64)>);

impl Places {
    pub(super) fn add(&mut self, row: &Row, seq: u64) {
        let hour = hour_of(row);
        let full = self.0.len() >= HOURS && !self.0.contains_key(&hour);
        let hour = match self.0.range(..hour).next_back().map(|(before, _)| *before) {
            Some(before) if full => before,
            _ => hour,
        };
        let (first, last) = self.0.entry(hour).or_insert((seq, seq));
        (*first, *last) = ((*first).min(seq), (*last).max(seq));
    }

    /// Of all hours of a window; `None`: there is none.
    pub(super) fn of(&self, from: i64, until: Option<i64>) -> Option<(u64, u64)> {
        // One before may stand for it, too.
        let from = self.0.range(..=from).next_back().map_or(from, |(hour, _)| *hour);
        let within = self.0.range(from..).take_while(|(hour, _)| until.is_none_or(|until| **hour < until));
        within.map(|(_, place)| *place).reduce(|(first, last), place| (first.min(place.0), last.max(place.1)))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The first minute of a row's hour.
fn hour_of(row: &Row) -> i64 {
    minute_of(row.time).div_euclid(HOUR_MINUTES) * HOUR_MINUTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::audit::Second;

    const HOUR_NS: i64 = 3_600_000_000_000;

    fn row(series: u64, hour: i64, minute: i64) -> Row {
        let tags = vec![("n".into(), series.to_string().into())];
        let series = Series { table: "t".into(), tags };
        let time = hour * HOUR_NS + minute * 60_000_000_000 + 1;
        let amount = Amount { values: 1, ..Amount::default() };
        Row { series, time, apart: 0, seq: None, fields: BTreeMap::new(), amount, second: Second::default() }
    }

    #[test]
    fn windows_have_every_hour_once_and_whole_and_no_more_than_there_is_room_for() {
        // Ten hours of 3 series and 4 minutes each: 12 cells an hour, all twice, the hours in no order.
        let hours = [4, 1, 9, 0, 3, 7, 2, 8, 6, 5_i64];
        let rows: Vec<Row> = (0..240)
            .map(|n: u64| {
                let hour = hours[(n % 120 / 12) as usize] - 3;
                row(n % 3, hour, (n % 12 / 3) as i64)
            })
            .collect();
        for most in [1, 12, 30, 50, 120, 1_000] {
            let (mut seen, mut from, mut windows) = (Vec::new(), i64::MIN, 0);
            loop {
                let (mut books, mut largest) = (Books::from(from, most), 0);
                for row in &rows {
                    books.add(row);
                    largest = largest.max(books.len());
                }
                assert!(largest <= most.max(12), "{largest} cells, and room for {most}");
                windows += 1;
                for (hour, tables) in books.hours() {
                    assert_eq!(tables.keys().copied().collect::<Vec<_>>(), ["t"]);
                    assert_eq!(tables["t"].iter().map(|(_, tally)| tally.rows).collect::<Vec<_>>(), [2; 12]);
                    seen.push(hour / 60 + 3);
                }
                match books.until() {
                    Some(until) => from = until,
                    None => break,
                }
            }
            assert_eq!(seen, (0..10).collect::<Vec<_>>(), "{most}");
            assert_eq!(windows == 1, most >= 120, "{windows} windows with room for {most}");
        }
    }

    #[test]
    fn the_places_of_hours_are_found_also_when_there_are_too_many_to_tell_apart() {
        let mut places = Places::default();
        for (seq, hour) in [(1, 5), (2, 6), (3, 5), (9, 6), (4, 7)] {
            places.add(&row(0, hour, 0), seq);
        }
        let of = |places: &Places, from: i64, until: Option<i64>| places.of(from * 60, until.map(|until| until * 60));
        assert_eq!(of(&places, 5, Some(6)), Some((1, 3)));
        assert_eq!(of(&places, 6, None), Some((2, 9)));
        assert_eq!(places.of(i64::MIN, None), Some((1, 9)));
        assert_eq!(of(&Places::default(), 1, None), None);

        let many = HOURS as i64 + 500;
        let mut places = Places::default();
        for hour in 0..many {
            places.add(&row(0, hour, 0), hour.unsigned_abs() + 1);
        }
        assert_eq!(places.len(), HOURS);
        for hour in [0, 7, many - 1] {
            let (first, last) = of(&places, hour, Some(hour + 1)).unwrap();
            assert!((first..=last).contains(&(hour.unsigned_abs() + 1)), "{hour}: {first} to {last}");
        }
    }
}
