use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::sync::Document;

/// A target as it behaves: batches are whole, the first at fault is named, or none.
#[derive(Default)]
struct Fake {
    room: usize,
    bytes: usize,
    /// These are refused.
    poison: BTreeSet<Id>,
    names_the_first: bool,
    /// Larger ones take too long; so many times.
    slow_over: usize,
    slow_for: Mutex<usize>,
    /// Larger ones are more than it allows, though it said otherwise.
    truth: Option<usize>,
    /// Requests that are answered; then it is away.
    lives: Option<usize>,
    unexplained: bool,
    there: Mutex<BTreeMap<Id, Value>>,
    requests: Mutex<Vec<usize>>,
}

impl Fake {
    fn new() -> Fake {
        Fake { room: 1000, bytes: 1 << 20, names_the_first: true, slow_over: usize::MAX, ..Fake::default() }
    }

    fn there(&self) -> BTreeMap<Id, Value> {
        self.there.lock().unwrap().clone()
    }

    fn requests(&self) -> Vec<usize> {
        self.requests.lock().unwrap().clone()
    }
}

#[async_trait]
impl Lane for &Fake {
    async fn room(&self, _collection: &str) -> Result<Room, Trouble> {
        Ok(Room { changes: self.room, bytes: self.bytes })
    }

    fn encode(&self, _collection: &str, change: &Change, out: &mut Vec<u8>) -> Encoded {
        let part = match change {
            Change::Put(document) if document.body.contains_key("never") => return Encoded::Refused("never".into()),
            Change::Put(document) => json!([document.id.as_str(), document.body]),
            Change::Delete(id) => json!([id.as_str()]),
        };
        out.extend_from_slice(part.to_string().as_bytes());
        Encoded::Shared
    }

    async fn send(&self, _collection: &str, parts: &[&[u8]]) -> Result<Verdict, Trouble> {
        let mut requests = self.requests.lock().unwrap();
        if self.lives.is_some_and(|lives| requests.len() >= lives) {
            return Err(Trouble::new(Class::Connection, "away"));
        }
        requests.push(parts.len());
        assert!(parts.len() <= self.room, "{} parts", parts.len());
        assert!(parts.iter().map(|part| part.len() + 1).sum::<usize>() <= self.bytes + 1, "too many bytes");
        let words = || "no".to_owned();
        if self.unexplained {
            return Ok(Verdict::Unexplained { words: words(), fix: "look" });
        }
        if let Some(most) = self.truth.filter(|most| parts.len() > *most) {
            return Ok(Verdict::TooMany { most });
        }
        let mut slow_for = self.slow_for.lock().unwrap();
        if parts.len() > self.slow_over && *slow_for > 0 {
            *slow_for -= 1;
            return Ok(Verdict::TooSlow { words: words() });
        }
        let mut there = self.there.lock().unwrap();
        let mut after = there.clone();
        for (place, part) in parts.iter().enumerate() {
            let part: Vec<Value> = serde_json::from_slice(part).unwrap();
            let id = Id::parse(part[0].as_str().unwrap()).unwrap();
            match part.get(1) {
                Some(_) if self.poison.contains(&id) => {
                    let place = self.names_the_first.then_some(place);
                    return Ok(Verdict::Refused { place, words: format!("poison {id}") });
                }
                Some(body) => _ = after.insert(id, body.clone()),
                None if after.remove(&id).is_some() => {}
                None => return Ok(Verdict::Missing { place, words: words() }),
            }
        }
        *there = after;
        Ok(Verdict::Stored)
    }
}

fn id(n: usize) -> Id {
    Id::of([n.to_string().as_str()])
}

fn put(n: usize, value: usize) -> Change {
    let body: Map<String, Value> = Map::from_iter([("n".to_owned(), value.into())]);
    Change::Put(Document { id: id(n), body, time_ns: 0 })
}

fn write(writer: &mut Writer<&Fake>, changes: &[Change]) -> Result<Written, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(writer.write("c", changes))
}

fn puts(range: std::ops::Range<usize>) -> Vec<Change> {
    range.map(|n| put(n, n)).collect()
}

#[test]
fn batches_are_as_large_as_both_sides_allow() {
    for (room, bytes, expected) in [(1000, 1 << 20, vec![200, 200, 50]), (90, 1 << 20, vec![90; 5])] {
        let fake = Fake { room, bytes, ..Fake::new() };
        let written = write(&mut Writer::new(&fake), &puts(0..450)).unwrap();
        assert_eq!((fake.requests(), written.confirmed(), fake.there().len()), (expected, 450, 450));
        assert_eq!(written.requests as usize, fake.requests().len());
    }
    let fake = Fake { bytes: 300, ..Fake::new() };
    assert_eq!(write(&mut Writer::new(&fake), &puts(0..100)).unwrap().confirmed(), 100);
    assert!(fake.requests().len() > 9, "{:?}", fake.requests());
}

#[test]
fn what_is_larger_than_the_target_takes_is_refused_here() {
    let fake = Fake { bytes: 60, ..Fake::new() };
    let mut long = puts(0..3);
    let Change::Put(document) = &mut long[1] else { panic!() };
    document.body.insert("text".into(), "x".repeat(100).into());
    let written = write(&mut Writer::new(&fake), &long).unwrap();
    let refused: Vec<_> = written.refused().collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].0 == 1 && refused[0].1.contains("more than the 60"), "{refused:?}");
    assert_eq!(fake.there().len(), 2);
}

#[test]
fn of_one_record_only_the_last_change_is_sent() {
    let fake = Fake::new();
    let changes = [put(1, 1), put(2, 1), Change::Delete(id(1)), put(2, 2), put(1, 3)];
    let written = write(&mut Writer::new(&fake), &changes).unwrap();
    let replaced = Fate::Replaced;
    assert_eq!(written.fates, [replaced.clone(), replaced.clone(), replaced, Fate::Confirmed, Fate::Confirmed]);
    assert_eq!(
        (fake.requests(), &fake.there()[&id(1)]["n"], &fake.there()[&id(2)]["n"]),
        (vec![2], &json!(3), &json!(2))
    );
}

#[test]
fn the_one_at_fault_is_found_and_the_others_are_there() {
    for names_the_first in [true, false] {
        let fake = Fake { poison: [id(70), id(199), id(0)].into(), names_the_first, ..Fake::new() };
        let written = write(&mut Writer::new(&fake), &puts(0..200)).unwrap();
        let refused: Vec<_> = written.refused().map(|(place, words)| (place, words.to_owned())).collect();
        let words = |n| format!("poison {}", id(n));
        assert_eq!(refused, [(0, words(0)), (70, words(70)), (199, words(199))]);
        assert_eq!((written.confirmed(), fake.there().len()), (197, 197));
        assert!(fake.requests().len() < 50, "{:?}", fake.requests());
    }
}

#[test]
fn one_that_is_refused_only_beside_others_is_not_refused() {
    let fake = Fake::new();
    let mut writer = Writer::new(&fake);
    write(&mut writer, &puts(0..4)).unwrap();
    // Gone already: as good as deleted.
    let written = write(&mut writer, &[Change::Delete(id(1)), Change::Delete(id(9)), put(8, 8), Change::Delete(id(2))]);
    assert_eq!(written.unwrap().confirmed(), 4);
    assert_eq!(fake.there().keys().copied().collect::<BTreeSet<_>>(), [id(0), id(3), id(8)].into());
}

#[test]
fn batches_that_take_too_long_are_halved_and_grow_again_after_a_while() {
    let fake = Fake { slow_over: 60, slow_for: Mutex::new(2), ..Fake::new() };
    let mut writer = Writer::new(&fake);
    assert_eq!(write(&mut writer, &puts(0..400)).unwrap().confirmed(), 400);
    assert_eq!(fake.requests()[..4], [200, 100, 50, 50]);
    assert_eq!(writer.size(), 50);
    write(&mut writer, &puts(0..4000)).unwrap();
    assert_eq!(writer.size(), 200, "{:?}", fake.requests());
}

#[test]
fn one_record_that_takes_too_long_is_the_targets_trouble_and_no_record_is_lost_for_it() {
    let fake = Fake { slow_over: 0, slow_for: Mutex::new(usize::MAX), ..Fake::new() };
    let broken = write(&mut Writer::new(&fake), &puts(0..10)).unwrap_err();
    assert_eq!(broken.trouble.class, Class::Server);
    assert!(broken.to_string().contains("raise their timeout"), "{broken}");
    assert_eq!(broken.written.fates, vec![Fate::Open; 10]);
}

#[test]
fn without_a_reason_no_record_is_at_fault() {
    let fake = Fake { unexplained: true, ..Fake::new() };
    let broken = write(&mut Writer::new(&fake), &puts(0..10)).unwrap_err();
    assert_eq!((broken.trouble.class, broken.written.fates), (Class::Server, vec![Fate::Open; 10]));
    assert_eq!(fake.requests(), [10, 5, 2, 1]);
}

#[test]
fn a_limit_that_was_lowered_meanwhile_is_learnt() {
    let fake = Fake { truth: Some(7), ..Fake::new() };
    let mut writer = Writer::new(&fake);
    assert_eq!(write(&mut writer, &puts(0..20)).unwrap().confirmed(), 20);
    assert_eq!((fake.requests(), writer.size()), (vec![20, 7, 7, 6], 7));
}

#[test]
fn when_it_breaks_off_what_was_confirmed_is_told() {
    let fake = Fake { lives: Some(2), ..Fake::new() };
    let broken = write(&mut Writer::new(&fake), &puts(0..450)).unwrap_err();
    assert_eq!((broken.trouble.class, broken.written.confirmed()), (Class::Connection, 400));
    assert!(broken.written.fates[400..].iter().all(|fate| *fate == Fate::Open));
    let none = write(&mut Writer::new(&fake), &[]).unwrap();
    assert_eq!((none.requests, none.fates.len()), (0, 0));
}

proptest! {
    /// Whatever is refused, slow, large or breaks off: what is told is what is there.
    #[test]
    fn what_is_told_is_what_is_there(
        changes in prop::collection::vec((0usize..40, 0usize..4), 0..120),
        poison in prop::collection::btree_set(0usize..40, 0..12),
        names_the_first in any::<bool>(),
        room in 1usize..60,
        bytes in 60usize..2000,
        slow in (1usize..40, 0usize..4),
        lives in prop::option::of(0usize..30),
    ) {
        let changes: Vec<Change> = changes.into_iter().map(|(n, value)| match value {
            0 => Change::Delete(id(n)),
            _ => put(n, value),
        }).collect();
        let poison: BTreeSet<Id> = poison.into_iter().map(id).collect();
        let fake = Fake {
            room, bytes, names_the_first, lives, poison: poison.clone(),
            slow_over: slow.0, slow_for: Mutex::new(slow.1), ..Fake::new()
        };
        let mut writer = Writer::new(&fake);
        let (written, broken) = match write(&mut writer, &changes) {
            Ok(written) => (written, false),
            Err(broken) => (broken.written, true),
        };
        let last: BTreeMap<Id, usize> = changes.iter().enumerate().map(|(place, change)| (change.id(), place)).collect();
        let there = fake.there();
        for (place, (change, fate)) in changes.iter().zip(&written.fates).enumerate() {
            let is_last = last[&change.id()] == place;
            prop_assert_eq!(*fate == Fate::Replaced, !is_last);
            match (fate, change) {
                (Fate::Confirmed, Change::Put(document)) => {
                    prop_assert_eq!(&there[&document.id], &Value::Object(document.body.clone()));
                }
                (Fate::Confirmed, Change::Delete(id)) => prop_assert!(!there.contains_key(id)),
                (Fate::Refused(_), change) => prop_assert!(poison.contains(&change.id())),
                (Fate::Open, _) => prop_assert!(broken),
                (Fate::Replaced, _) => {}
            }
        }
        // Sent again to one that lives, it comes to the same as if nothing had happened.
        let healthy = Fake { lives: None, there: Mutex::new(there), poison, ..Fake::new() };
        let again = write(&mut Writer::new(&healthy), &changes).unwrap();
        let expected = last.values().filter_map(|place| match &changes[*place] {
            Change::Put(document) if !healthy.poison.contains(&document.id) => Some(document.id),
            _ => None,
        }).collect::<BTreeSet<_>>();
        prop_assert_eq!(healthy.there().into_keys().collect::<BTreeSet<_>>(), expected);
        prop_assert!(again.fates.iter().all(|fate| *fate != Fate::Open));
    }
}
