//! What the tape says should be in a store, in sums.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Amount, Cell, Row, Series, minute_of};

/// Sums of the rows that should be there. Some fifty bytes a series and minute.
#[derive(Debug, Default)]
pub(super) struct Books {
    ids: HashMap<Series, u32>,
    series: Vec<Series>,
    cells: HashMap<(u32, i64), Tally>,
}

/// Of one series and minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub amount: Amount,
    pub rows: u64,
}

impl Books {
    pub(super) fn add(&mut self, row: &Row) {
        let id = match self.ids.get(&row.series) {
            Some(id) => *id,
            None => {
                let id = self.series.len() as u32;
                self.series.push(row.series.clone());
                self.ids.insert(row.series.clone(), id);
                id
            }
        };
        let tally = self.cells.entry((id, minute_of(row.time))).or_default();
        tally.amount.add(row.amount);
        tally.rows += 1;
    }

    pub(super) fn get(&self, cell: &Cell) -> Option<Tally> {
        self.cells.get(&(*self.ids.get(&cell.series)?, cell.minute)).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The hours of each table in which something should be, in minutes since the epoch.
    pub(super) fn hours(&self) -> BTreeMap<String, BTreeSet<i64>> {
        let mut hours: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for (id, minute) in self.cells.keys() {
            let table = &self.series[*id as usize].table;
            hours.entry(table.to_string()).or_default().insert(minute.div_euclid(60) * 60);
        }
        hours
    }

    /// The cells of a table in those minutes.
    pub(super) fn of(&self, table: &str, from: i64, to: i64) -> Vec<Cell> {
        let of = |(id, minute): &(u32, i64)| {
            let series = &self.series[*id as usize];
            let within = series.table == table && (from..to).contains(minute);
            within.then(|| Cell { series: series.clone(), minute: *minute })
        };
        self.cells.keys().filter_map(of).collect()
    }
}
