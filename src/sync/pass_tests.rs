//! What lies between source and target, with both in memory.

use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::mapping::Settings;
use super::memory::{DAY_NS, Memory, Rows, UNWANTED};
use super::pass::{How, Pass, Shop, Table};
use super::state::State;
use super::verify::{self, Verified};
use super::{By, Trouble};

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
        let how = verify::How { repair };
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
    assert!(pass.figures.unchanged > 400, "what was confirmed is not sent again");
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
    assert_eq!(rig.pass().await.figures.sent, 970);

    let mut rig = Rig::new("");
    rig.fill(1, 100);
    rig.look(How { from_now: true, ..How::default() }).await.expect("a look");
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
    let repaired = rig.verify(true).await;
    assert_eq!(repaired.repaired, 2);
    let after = rig.verify(false).await;
    assert_eq!((after.missing, after.different, after.surplus), (0, 0, 1), "what others wrote is theirs");
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
