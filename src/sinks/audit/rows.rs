//! The rows of one cell, expected and held, compared.

use std::collections::BTreeMap;

use tapedeck_market::Value;

use super::{Difference, Row, Second, What, is_same};

/// What comes of comparing the rows of a cell.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub differences: Vec<Difference>,
    /// Rows that other records' rows have taken the place of: seqs of both.
    pub collisions: Vec<(u64, u64)>,
    /// Rows of the store with other values, and the seqs of the records whose place they take.
    pub wrong: Vec<(u64, Row)>,
    /// Rows of the store that are not of these records, and cannot be told to be.
    pub foreign: u64,
}

/// A row with the seq of its record.
pub(super) type Expected = (u64, Row);

/// Compares; of held rows, `is_ours` says whether the record of that seq should have made one.
pub(super) fn compare(expected: Vec<Expected>, held: Vec<Row>, is_ours: impl Fn(u64) -> bool) -> Compared {
    let mut compared = Compared::default();
    let mut places: BTreeMap<(i64, u64), Expected> = BTreeMap::new();
    for (seq, row) in expected {
        let place = (row.time, row.apart);
        match places.remove(&place) {
            None => drop(places.insert(place, (seq, row))),
            Some((before, mut old)) => {
                if row.second == Second::Collides {
                    compared.collisions.push((before, seq));
                }
                if row.second == Second::Replaces {
                    old.fields.clear();
                }
                // As the stores do: what the newer row does not tell stays.
                old.fields.extend(row.fields);
                old.seq = row.seq;
                places.insert(place, (seq, old));
            }
        }
    }
    for row in held {
        match places.remove(&(row.time, row.apart)) {
            // Of a record that was delivered after the comparison began, or that it leaves out: newer, and right.
            Some((seq, _)) if row.seq.is_some_and(|held| held > seq && !is_ours(held)) => compared.foreign += 1,
            Some((seq, expected)) => {
                if let Some(detail) = difference(&expected, &row) {
                    compared.differences.push(Difference::of(What::Different, Some(seq), &row, detail));
                    compared.wrong.push((seq, row));
                }
            }
            None => match row.seq.filter(|seq| is_ours(*seq)) {
                Some(seq) => {
                    let detail = "the tape says it is not there".to_owned();
                    compared.differences.push(Difference::of(What::Extra, Some(seq), &row, detail));
                }
                None => compared.foreign += 1,
            },
        }
    }
    let missing = places.into_values().map(|(seq, row)| Difference::of(What::Missing, Some(seq), &row, String::new()));
    compared.differences.extend(missing);
    compared
}

/// The first field that differs, with both values.
fn difference(expected: &Row, held: &Row) -> Option<String> {
    for (name, value) in &expected.fields {
        match held.fields.get(name) {
            Some(found) if is_same(value, found) => {}
            Some(found) => return Some(format!("{name}: {} there, {} on the tape", show(found), show(value))),
            None => return Some(format!("{name}: not there, {} on the tape", show(value))),
        }
    }
    let unknown = held.fields.iter().find(|(name, _)| !expected.fields.contains_key(*name));
    unknown.map(|(name, value)| format!("{name}: {} there, not on the tape", show(value)))
}

fn show(value: &Value) -> String {
    const SHOWN: usize = 80;
    let text = match value {
        Value::Int(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Text(value) => format!("{value:?}"),
    };
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use tapedeck_market::SmolStr;

    use super::super::{Amount, Series};
    use super::*;

    fn row_of(time: i64, seq: Option<u64>, fields: BTreeMap<SmolStr, Value>) -> Row {
        let amount = Amount::of(seq, &fields);
        Row { series: Series::default(), time, apart: 0, seq, fields, amount, second: Second::Collides }
    }

    fn row(time: i64, seq: u64, bid: &str) -> Row {
        let fields = [("bid".into(), Value::Decimal(bid.parse().unwrap())), ("seq".into(), Value::UInt(seq))];
        row_of(time, Some(seq), fields.into())
    }

    fn held(time: i64, seq: i64, bid: f64) -> Row {
        let fields = [("bid".into(), Value::Float(bid)), ("seq".into(), Value::Int(seq))];
        row_of(time, u64::try_from(seq).ok(), fields.into())
    }

    fn told(compared: &Compared) -> Vec<(What, Option<u64>)> {
        compared.differences.iter().map(|difference| (difference.what, difference.seq)).collect()
    }

    #[test]
    fn the_same_rows_in_another_type_are_the_same() {
        let expected = vec![(1, row(10, 1, "1.10")), (2, row(20, 2, "105000.20"))];
        let found = compare(expected, vec![held(20, 2, 105_000.2), held(10, 1, 1.1)], |_| true);
        assert_eq!((told(&found), found.foreign, found.collisions), (vec![], 0, vec![]));
    }

    #[test]
    fn each_kind_of_difference_is_named_with_its_record() {
        let expected = vec![(1, row(10, 1, "1")), (2, row(20, 2, "2")), (3, row(30, 3, "3"))];
        let there = vec![held(10, 1, 1.0), held(20, 2, 2.5), held(40, 4, 4.0), held(50, 99, 9.0)];
        let found = compare(expected, there, |seq| seq < 10);
        assert_eq!(told(&found), [(What::Different, Some(2)), (What::Extra, Some(4)), (What::Missing, Some(3))]);
        assert_eq!(found.differences[0].detail, "bid: 2.5 there, 2 on the tape");
        assert_eq!(found.foreign, 1, "another tape's");
    }

    #[test]
    fn what_a_later_row_took_the_place_of_is_named_unless_that_is_the_plan() {
        let found = compare(vec![(1, row(10, 1, "1")), (2, row(10, 2, "2"))], vec![held(10, 2, 2.0)], |_| true);
        assert_eq!((told(&found), found.collisions), (vec![], vec![(1, 2)]));
        let found = compare(vec![(1, row(10, 1, "1"))], vec![held(10, 7, 7.0)], |seq| seq < 5);
        assert_eq!((told(&found), found.foreign), (vec![], 1), "a newer one must not be replaced by this");
        let revised = Row { second: Second::Revises, ..row(10, 2, "2") };
        let found = compare(vec![(1, row(10, 1, "1")), (2, revised)], vec![held(10, 2, 2.0)], |_| true);
        assert_eq!((told(&found), found.collisions), (vec![], vec![]));
    }
}
