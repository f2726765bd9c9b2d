//! What lies between source and target, with both in memory.

mod edges;

use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{How, Pass, Shop, Since, Table};
use crate::sync::mapping::Settings;
use crate::sync::memory::{DAY_NS, Memory, Rows, UNWANTED};
use crate::sync::state::{Ends, State};
use crate::sync::verify::{self, Verified};
use crate::sync::{By, Trouble};

struct Rig {
    folder: tempfile::TempDir,
    source: Rows,
    target: Arc<Memory>,
    table: Table,
    shop: Shop,
    settings: Settings,
}

impl Rig {
    fn new(settings: &str) -> Rig {
        let settings: Settings = toml::from_str(settings).expect("settings");
        let folder = tempfile::tempdir().expect("a folder");
        let target = Arc::new(Memory::default());
        let shop = shop(folder.path(), &target);
        Rig { folder, source: Rows::default(), target, table: Table::new("t", settings.clone()), shop, settings }
    }

    /// As after a crash: what is in memory is gone.
    fn restart(&mut self) {
        self.shop.state = Arc::new(Mutex::new(State::look(self.folder.path()).expect("readable").expect("there")));
        self.shop = shop(self.folder.path(), &self.target);
        self.table = Table::new("t", self.settings.clone());
    }

    async fn look(&mut self, how: How) -> Result<Pass, Trouble> {
        self.table.pass(&mut self.source, &self.shop, Path::new(""), how).await
    }

    async fn pass(&mut self) -> Pass {
        self.look(How::default()).await.expect("a look")
    }

    async fn verify(&mut self, repair: bool) -> Verified {
        let how = verify::How { repair, alone: true, ..verify::How::default() };
        verify::verify(&mut self.table, &mut self.source, &self.shop, Path::new(""), how).await.expect("compared")
    }

    fn fill(&self, days: i64, each: i64) {
        let mut table = self.source.0.lock().unwrap();
        for day in 0..days {
            for n in 0..each {
                table.put(day * DAY_NS + n * 1_000, "PKN", n as f64 + 0.5);
            }
        }
    }

    fn writes(&self) -> u64 {
        std::mem::take(&mut self.target.writes.lock().unwrap())
    }
}

fn shop(folder: &Path, target: &Arc<Memory>) -> Shop {
    let state = State::open(folder).expect("ours");
    Shop {
        state: Arc::new(Mutex::new(state)),
        target: target.clone(),
        ends: Ends { source: "rows".into(), target: "memory".into() },
        told: Arc::new(|_, _, _| {}),
        stop: CancellationToken::new(),
    }
}

#[tokio::test]
async fn a_first_look_writes_everything_and_a_second_nothing() {
    let mut rig = Rig::new("");
    rig.fill(3, 1_000);
    let first = rig.pass().await;
    assert_eq!((first.by, first.figures.sent, rig.writes()), (By::Beginning, 3_000, 3_000));
    let second = rig.pass().await;
    assert_eq!((second.by, second.figures.seen, rig.writes()), (By::Gate, 0, 0));
    rig.source.0.lock().unwrap().touch();
    let third = rig.pass().await;
    assert_eq!((third.figures.seen, third.figures.unchanged, rig.writes()), (3_000, 3_000, 0));
    rig.source.0.lock().unwrap().put(DAY_NS, "PKN", 7.25);
    let fourth = rig.pass().await;
    assert_eq!((fourth.figures.seen, fourth.figures.sent, rig.writes()), (1, 1, 1));
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn the_mark_stays_where_it_was_when_either_side_goes_away_in_the_middle() {
    let mut rig = Rig::new("");
    rig.fill(2, 1_500);
    *rig.target.breaks_after.lock().unwrap() = Some(400);
    assert_eq!(rig.look(How::default()).await.expect_err("away").text, "the target went away");
    rig.source.0.lock().unwrap().breaks_after = Some(3);
    assert_eq!(rig.look(How::default()).await.expect_err("away").text, "the source went away");
    rig.restart();
    let pass = rig.pass().await;
    assert_eq!(pass.by, By::Beginning);
    assert!(pass.figures.seen <= 1_000, "what was settled is not read again: {:?}", pass.figures);
    assert_eq!(rig.writes(), 3_000);
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_and_the_counts_add_up() {
    let mut rig = Rig::new("rules = [{ positive = [\"price\"] }]");
    rig.fill(1, 100);
    {
        let mut table = rig.source.0.lock().unwrap();
        table.put(5, "BAD", -1.0);
        table.put(6, "BAD", UNWANTED);
        table.put(7, "BAD", f64::INFINITY);
    }
    let pass = rig.pass().await;
    assert_eq!((pass.figures.seen, pass.figures.sent, pass.failed), (103, 100, 3));
    {
        let state = rig.shop.state.lock().unwrap();
        let shown = &state.tables().expect("asked")[0];
        assert_eq!((shown.synced, shown.failed), (100, 3));
        let letters = state.letters("t", 9).expect("asked");
        let reasons: Vec<String> = letters.into_iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, ["price is not above 0: -1", "price: unwanted", "price is not above 0: inf"]);
    }
    rig.source.0.lock().unwrap().put(5, "BAD", 1.0);
    assert_eq!(rig.pass().await.figures.sent, 1);
    assert_eq!(rig.shop.state.lock().unwrap().tables().expect("asked")[0].failed, 2);
}

#[tokio::test]
async fn what_is_gone_is_kept_unless_a_mirror_was_asked_for_and_rehearsed() {
    let mut rig = Rig::new("");
    rig.fill(2, 10);
    rig.pass().await;
    rig.source.0.lock().unwrap().remove(0, "PKN");
    assert_eq!(rig.pass().await.gone, 1);
    assert_eq!(rig.target.kept.lock().unwrap().len(), 20);
    assert_eq!(rig.shop.state.lock().unwrap().tables().expect("asked")[0].gone, 1);
    // It comes back.
    rig.source.0.lock().unwrap().put(0, "PKN", 0.5);
    rig.pass().await;
    assert_eq!(rig.shop.state.lock().unwrap().tables().expect("asked")[0].gone, 0);

    rig.settings.mirror = true;
    rig.restart();
    rig.source.0.lock().unwrap().remove(1_000, "PKN");
    let pass = rig.pass().await;
    assert!(pass.notes[0].contains("tapedeck sync run --dry-run --table t"), "{:?}", pass.notes);
    assert_eq!(rig.target.kept.lock().unwrap().len(), 20);
    rig.look(How { dry: true, ..How::default() }).await.expect("a rehearsal");
    assert_eq!(rig.target.kept.lock().unwrap().len(), 20);
    let pass = rig.pass().await;
    assert_eq!((pass.figures.removed, rig.target.kept.lock().unwrap().len()), (1, 19));
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn a_dry_run_a_limit_and_a_start_from_now_leave_what_they_should() {
    let mut rig = Rig::new("");
    rig.fill(1, 1_000);
    let dry = rig.look(How { dry: true, ..How::default() }).await.expect("a look");
    assert_eq!((dry.figures.sent, rig.writes()), (1_000, 0));
    let some = rig.look(How { limit: Some(30), ..How::default() }).await.expect("a look");
    assert_eq!((some.figures.sent, some.cut, rig.writes()), (30, true, 30));
    let rest = rig.pass().await;
    assert_eq!((rest.figures.seen, rest.figures.sent), (970, 970), "it goes on behind them");

    let mut rig = Rig::new("");
    rig.fill(1, 100);
    rig.look(How { from: Some(Since::Now), ..How::default() }).await.expect("a look");
    rig.source.0.lock().unwrap().put(DAY_NS, "PKN", 1.0);
    assert_eq!((rig.pass().await.figures.sent, rig.writes()), (1, 1));
}

#[tokio::test]
async fn a_mapping_that_changed_is_mapped_again_and_only_what_differs_is_written() {
    let mut rig = Rig::new("[columns]\nts = \"ts\"\nprice = \"price\"");
    rig.fill(1, 50);
    rig.pass().await;
    rig.writes();
    rig.settings = toml::from_str("[columns]\nts = \"ts\"\nprice = \"price\"\nlabel = { expr = \"price > 25.0 ? 'high' : 'low'\", as = \"text\" }")
        .expect("settings");
    rig.restart();
    let pass = rig.pass().await;
    assert_eq!((pass.figures.seen, rig.writes()), (50, 50));
    rig.settings.batch = Some(7);
    rig.restart();
    assert_eq!((rig.pass().await.figures.seen, rig.writes()), (0, 0));
}

#[tokio::test]
async fn verify_names_what_differs_and_repair_puts_it_right() {
    let mut rig = Rig::new("");
    rig.fill(3, 400);
    rig.pass().await;
    let (gone, changed) = {
        let mut kept = rig.target.kept.lock().unwrap();
        let mut ids: Vec<_> = kept.keys().cloned().collect();
        ids.sort();
        kept.remove(&ids[0]);
        kept.get_mut(&ids[1]).expect("there").insert("price".into(), json!(99.0));
        let copy = kept[&ids[2]].clone();
        kept.insert("somebodyelses00".into(), copy);
        (ids[0].clone(), ids[1].clone())
    };
    let found = rig.verify(false).await;
    assert_eq!((found.missing, found.different, found.surplus, found.is_same()), (1, 1, 1, false));
    let named = |id: &str| found.differences.iter().find(|difference| difference.id == id).expect("named");
    assert_eq!(
        (named(&gone).what, named(&changed).fields.as_slice()),
        (verify::What::Missing, &["price".to_owned()][..])
    );
    // Both sides day by day: which of the three it is, is seen before records are named.
    assert_eq!(found.days.len(), 3);
    assert_eq!(found.days.iter().map(|day| day.source_records).sum::<u64>(), 1_200);
    assert_eq!(found.days.iter().map(|day| day.target_records).sum::<u64>(), 1_200, "one less, one more");
    assert_eq!(found.days[0].day.as_deref(), Some("1970-01-01"));
    assert!(found.days.iter().any(|day| !day.is_same()));
    let repaired = rig.verify(true).await;
    assert_eq!(repaired.repaired, 2);
    let after = rig.verify(false).await;
    assert_eq!((after.missing, after.different, after.surplus), (0, 0, 1), "what others wrote is theirs");
}

/// Many rows of one instant, some refused: each run takes as many as it may, and none twice.
#[tokio::test]
async fn a_limit_is_exact_and_the_next_run_goes_on_behind_it() {
    let mut rig = Rig::new("rules = [{ positive = [\"price\"] }]");
    {
        let mut table = rig.source.0.lock().unwrap();
        for n in 0..95 {
            table.put(n / 40 * 1_000, &format!("S{n:02}"), if n % 10 == 7 { -1.0 } else { n as f64 + 100.0 });
        }
    }
    let (mut sent, mut failed) = (0, 0);
    for _ in 0..9 {
        let pass = rig.look(How { limit: Some(10), ..How::default() }).await.expect("a look");
        assert_eq!((pass.figures.seen, pass.cut), (10, true));
        (sent, failed) = (sent + pass.figures.sent, failed + pass.failed);
        rig.restart();
    }
    let last = rig.look(How { limit: Some(10), ..How::default() }).await.expect("a look");
    assert_eq!((last.figures.seen, last.cut), (5, false));
    assert_eq!((sent + last.figures.sent, failed + last.failed, rig.writes()), (86, 9, 86));
    assert_eq!(rig.pass().await.by, By::Gate, "and then it is done");
    assert!(rig.verify(false).await.is_same());
}

/// It was read up to somewhere when it ended; meanwhile rows change that were read, and such that were not.
#[tokio::test]
async fn a_look_that_broke_off_goes_on_and_what_happened_meanwhile_follows() {
    let mut rig = Rig::new("mirror = true");
    rig.look(How { dry: true, ..How::default() }).await.expect("rehearsed");
    rig.fill(3, 1_500);
    rig.look(How { limit: Some(2_000), ..How::default() }).await.expect("a look");
    {
        let mut table = rig.source.0.lock().unwrap();
        table.put(0, "PKN", 777.0);
        table.put(2 * DAY_NS, "PKN", 888.0);
        table.put(5, "LATE", 1.0);
    }
    rig.restart();
    let pass = rig.pass().await;
    assert_eq!(pass.figures.seen, 2_500 + 3, "the rest, and what is new since");
    assert_eq!(rig.writes(), 4_500 + 2, "the one that was changed before it was read is sent once");
    assert!(rig.verify(false).await.is_same());
    rig.source.0.lock().unwrap().remove(0, "PKN");
    rig.look(How { limit: Some(1_600), ..How::default() }).await.expect("a look");
    rig.restart();
    assert_eq!(rig.pass().await.gone, 0, "found gone in the first half");
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn an_answer_that_is_lost_is_looked_for_before_anything_is_sent_again() {
    let mut rig = Rig::new("");
    rig.fill(1, 500);
    *rig.target.mute.lock().unwrap() = true;
    assert_eq!(rig.look(How::default()).await.expect_err("no answer").text, "no answer");
    assert_eq!(rig.writes(), 500);
    rig.source.0.lock().unwrap().put(3_000, "PKN", 77.0);
    rig.restart();
    let pass = rig.pass().await;
    assert_eq!(rig.writes(), 1, "but that which says something else now");
    assert_eq!(pass.figures.sent, 500, "all of them were sent, by us");
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn rows_of_equal_keys_are_counted_and_told_and_the_last_is_there() {
    let mut rig = Rig::new("key = [\"ts\"]");
    rig.fill(1, 3);
    {
        let mut table = rig.source.0.lock().unwrap();
        table.put(0, "TWO", 8.0);
        table.put(0, "ZZZ", 9.0);
    }
    let pass = rig.pass().await;
    assert_eq!((pass.figures.seen, pass.figures.sent, pass.figures.doubled, pass.synced()), (5, 3, 2, 3));
    assert!(pass.notes[0].starts_with("2 rows have the key of another row"), "{:?}", pass.notes);
    assert_eq!(rig.shop.state.lock().unwrap().tables().expect("asked")[0].total.doubled, 2);
    rig.writes();
    rig.source.0.lock().unwrap().touch();
    assert_eq!((rig.pass().await.figures.sent, rig.writes()), (0, 0), "the same one wins each time");

    // A key without the time: rows of any time may have it.
    let mut rig = Rig::new("key = [\"symbol\"]");
    rig.fill(3, 1_000);
    let pass = rig.pass().await;
    assert_eq!((pass.figures.seen, pass.figures.doubled, pass.synced()), (3_000, 2_999, 1));
    assert_eq!(rig.target.kept.lock().unwrap().len(), 1);
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn another_target_or_a_collection_made_anew_gets_everything_and_a_rehearsal_changes_nothing() {
    let mut rig = Rig::new("");
    rig.fill(1, 40);
    rig.pass().await;
    assert_eq!(rig.writes(), 40);

    let other = Arc::new(Memory::default());
    let here = rig.shop.clone();
    (rig.shop.target, rig.shop.ends.target) = (other.clone(), "elsewhere".into());
    rig.table = Table::new("t", rig.settings.clone());
    let dry = rig.look(How { dry: true, ..How::default() }).await.expect("a rehearsal");
    assert!(dry.notes[0].contains("a run would begin anew: it went to memory before"), "{:?}", dry.notes);
    rig.shop = here.clone();
    rig.table = Table::new("t", rig.settings.clone());
    assert_eq!((rig.pass().await.by, rig.writes()), (By::Gate, 0), "it was a rehearsal");

    (rig.shop.target, rig.shop.ends.target) = (other.clone(), "elsewhere".into());
    rig.table = Table::new("t", rig.settings.clone());
    let pass = rig.pass().await;
    assert!(pass.notes[0].contains("it went to memory before"), "{:?}", pass.notes);
    assert_eq!((pass.figures.sent, other.kept.lock().unwrap().len()), (40, 40));

    other.kept.lock().unwrap().clear();
    *other.birth.lock().unwrap() = "later".into();
    rig.source.0.lock().unwrap().put(DAY_NS, "PKN", 1.0);
    rig.table = Table::new("t", rig.settings.clone());
    let pass = rig.pass().await;
    assert!(pass.notes[0].contains("was made anew (later)"), "{:?}", pass.notes);
    assert_eq!(other.kept.lock().unwrap().len(), 41);
    assert!(rig.verify(false).await.is_same());

    rig.shop.ends.source = "another".into();
    rig.table = Table::new("t", rig.settings.clone());
    let pass = rig.pass().await;
    assert!(pass.notes[0].contains("it came from rows before"), "{:?}", pass.notes);
    assert_eq!((pass.figures.seen, pass.figures.sent), (41, 0), "read again, and there already");
}

#[derive(Clone, Debug)]
enum Step {
    Put(i64, u8, i8),
    Remove(i64, u8),
    Touch,
    Look,
    SourceBreaks(usize),
    TargetBreaks(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let time = || (0i64..4, 0i64..3).prop_map(|(day, n)| day * DAY_NS + n * 1_000);
    prop_oneof![
        6 => (time(), 0u8..3, -2i8..20).prop_map(|(time, symbol, price)| Step::Put(time, symbol, price)),
        2 => (time(), 0u8..3).prop_map(|(time, symbol)| Step::Remove(time, symbol)),
        1 => Just(Step::Touch),
        4 => Just(Step::Look),
        1 => (0usize..2).prop_map(Step::SourceBreaks),
        1 => (0usize..6).prop_map(Step::TargetBreaks),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order, a look that ends well leaves both sides the same.
    #[test]
    fn after_a_look_that_ends_well_both_sides_are_the_same(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut rig = Rig::new("mirror = true\nrules = [{ positive = [\"price\"] }]");
            rig.look(How { dry: true, ..How::default() }).await.expect("rehearsed");
            for step in steps {
                match step {
                    Step::Put(time, symbol, price) => {
                        rig.source.0.lock().unwrap().put(time, &symbol.to_string(), f64::from(price));
                    }
                    Step::Remove(time, symbol) => rig.source.0.lock().unwrap().remove(time, &symbol.to_string()),
                    Step::Touch => rig.source.0.lock().unwrap().touch(),
                    Step::Look => drop(rig.look(How::default()).await),
                    Step::SourceBreaks(after) => rig.source.0.lock().unwrap().breaks_after = Some(after),
                    Step::TargetBreaks(after) => *rig.target.breaks_after.lock().unwrap() = Some(after),
                    Step::Restart => rig.restart(),
                }
            }
            rig.source.0.lock().unwrap().breaks_after = None;
            *rig.target.breaks_after.lock().unwrap() = None;
            rig.pass().await;
            // What was good once and then refused is left in its last good form.
            let wanted: Vec<f64> = rig.source.0.lock().unwrap().rows.values().copied().collect();
            let bad = wanted.iter().filter(|price| **price <= 0.0 || **price == UNWANTED).count() as u64;
            {
                let state = rig.shop.state.lock().unwrap();
                let shown = &state.tables().expect("asked")[0];
                assert_eq!((shown.synced, shown.failed), (wanted.len() as u64 - bad, bad));
                let counted = state.counted();
                assert_eq!((shown.synced as i64, shown.failed as i64, shown.gone as i64), counted);
            }
            let found = rig.verify(false).await;
            assert_eq!(found.surplus, 0, "{:?}", found.differences);
            // What the target refuses is missing there, or there in an older form; nothing else is.
            let refused = wanted.iter().filter(|price| **price == UNWANTED).count() as u64;
            assert_eq!(found.missing + found.different, refused, "{:?}", found.differences);
        });
    }
}
