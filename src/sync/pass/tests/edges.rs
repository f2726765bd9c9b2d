//! Tables and wishes that are not as most are.

use super::*;
use crate::sync::memory::FAR_NS;

impl Rig {
    fn put(&self, time_ns: i64, symbol: &str, price: f64) {
        self.source.0.lock().unwrap().put(time_ns, symbol, price);
    }

    fn kept(&self) -> usize {
        self.target.kept.lock().unwrap().len()
    }

    fn gone(&self) -> u64 {
        self.shop.state.lock().unwrap().tables().expect("asked")[0].gone
    }
}

fn days_ago(days: i64) -> i64 {
    (tapedeck_market::UnixNanos::now().0 / DAY_NS - days) * DAY_NS + 1_000
}

#[tokio::test]
async fn a_row_whose_time_is_too_far_away_makes_nothing_else_look_gone() {
    let mut rig = Rig::new("mirror = true");
    rig.look(How { dry: true, ..How::default() }).await.expect("rehearsed");
    rig.fill(3, 40);
    rig.pass().await;
    rig.put(FAR_NS, "PKN", 1.0);
    rig.source.0.lock().unwrap().remove(DAY_NS, "PKN");
    let pass = rig.pass().await;
    assert_eq!(
        (pass.gone, pass.figures.removed, pass.failed),
        (1, 1, 1),
        "that one row, and a dead letter for the far one"
    );
    assert_eq!(rig.kept(), 119);
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn a_table_without_a_clock_of_its_own_is_judged_as_a_whole() {
    let mut rig = Rig::new("time = \"ts\"\nkey = [\"ts\", \"symbol\"]\nmirror = true");
    rig.source.0.lock().unwrap().alter(&[], false);
    rig.look(How { dry: true, ..How::default() }).await.expect("rehearsed");
    for (day, symbol) in [(0, "A"), (1, "B"), (0, "C"), (1, "D"), (0, "E")] {
        rig.put(day * DAY_NS + 1_000, symbol, 1.0);
    }
    rig.pass().await;
    rig.source.0.lock().unwrap().remove(DAY_NS + 1_000, "B");
    let pass = rig.pass().await;
    assert_eq!((pass.gone, rig.kept()), (1, 4));
}

#[tokio::test]
async fn another_order_of_the_key_is_the_same_key_and_another_key_is_told_before_anything_is_written() {
    let mut rig = Rig::new("key = [\"ts\", \"symbol\"]");
    rig.fill(1, 20);
    rig.pass().await;
    rig.writes();
    rig.settings.key.reverse();
    rig.restart();
    rig.pass().await;
    assert_eq!(rig.writes(), 0);

    rig.settings.key = vec!["symbol".into()];
    rig.restart();
    let trouble = rig.look(How::default()).await.expect_err("other ids");
    assert!(trouble.text.contains("its key is (symbol) now, and was (ts, symbol)"), "{trouble}");
    assert!(trouble.to_string().contains("tapedeck sync init"), "{trouble}");
    assert_eq!((rig.writes(), rig.kept()), (0, 20));
    // As the collection is taken away and made anew.
    rig.target.kept.lock().unwrap().clear();
    "later".clone_into(&mut rig.target.birth.lock().unwrap());
    rig.pass().await;
    assert_eq!(rig.kept(), 1, "of each symbol the last");

    // The source's own keys are the key where none is named.
    let mut rig = Rig::new("");
    rig.fill(1, 20);
    rig.pass().await;
    rig.source.0.lock().unwrap().alter(&["ts", "symbol", "price"], true);
    rig.put(1_000, "PKN", 3.0);
    let trouble = rig.look(How::default()).await.expect_err("other ids");
    assert!(trouble.text.contains("(ts, symbol, price)"), "{trouble}");
}

#[tokio::test]
async fn a_row_that_was_replaced_under_another_key_leaves_nothing_behind() {
    let mut rig = Rig::new("key = [\"ts\", \"symbol\", \"price\"]");
    rig.fill(2, 10);
    rig.pass().await;
    rig.put(DAY_NS, "PKN", 77.0);
    rig.pass().await;
    assert_eq!((rig.kept(), rig.gone()), (21, 1), "the one that was there before is known to be gone");
}

#[tokio::test]
async fn what_is_older_than_is_kept_is_wanted_by_nobody_until_more_is_kept() {
    let mut rig = Rig::new("keep = \"30d\"");
    for day in [100, 60, 10, 1] {
        rig.put(days_ago(day), "PKN", 1.0);
    }
    rig.pass().await;
    assert_eq!(rig.kept(), 2);
    let found = rig.verify(true).await;
    assert_eq!((found.missing, found.repaired, found.is_same(), rig.kept()), (0, 0, true, 2));
    rig.settings.keep = toml::from_str::<Settings>("keep = \"90d\"").expect("settings").keep;
    rig.restart();
    rig.pass().await;
    assert_eq!(rig.kept(), 3);
    rig.settings.keep = toml::from_str::<Settings>("keep = \"5d\"").expect("settings").keep;
    rig.restart();
    assert_eq!((rig.pass().await.figures.removed, rig.kept()), (2, 1));
    assert!(rig.verify(false).await.is_same());
}

#[tokio::test]
async fn what_was_left_out_at_the_start_stays_out_however_often_all_is_read_until_it_is_asked_for() {
    let mut rig = Rig::new("");
    rig.fill(2, 100);
    rig.look(How { from: Some(Since::Now), ..How::default() }).await.expect("a look");
    rig.put(2 * DAY_NS, "PKN", 1.0);
    rig.put(5, "LATE", 2.0);
    assert_eq!(rig.pass().await.figures.sent, 2, "late rows were written since");
    rig.source.0.lock().unwrap().touch();
    rig.settings.rules = toml::from_str::<Settings>("rules = [{ positive = [\"price\"] }]").expect("settings").rules;
    rig.restart();
    let all = rig.pass().await;
    assert_eq!((all.figures.seen, all.figures.sent, rig.kept()), (202, 0, 2));
    let found = rig.verify(true).await;
    assert_eq!((found.missing, found.is_same(), rig.kept()), (0, true, 2));
    rig.look(How { from: Some(Since::Beginning), ..How::default() }).await.expect("a look");
    assert_eq!(rig.kept(), 202);
}

#[tokio::test]
async fn a_late_row_of_a_key_without_a_clock_does_not_take_the_newer_ones_place() {
    let mut rig = Rig::new("key = [\"symbol\"]");
    rig.put(DAY_NS + 11_000, "PKN", 11.0);
    rig.pass().await;
    rig.put(DAY_NS + 10_000, "PKN", 10.0);
    rig.pass().await;
    let price = |rig: &Rig| rig.target.kept.lock().unwrap().values().next().and_then(|body| body["price"].as_f64());
    assert_eq!(price(&rig), Some(11.0));
    assert!(rig.verify(false).await.is_same());
    rig.source.0.lock().unwrap().remove(DAY_NS + 11_000, "PKN");
    rig.pass().await;
    assert_eq!(price(&rig), Some(10.0), "now it is the newest");
}

#[tokio::test]
async fn what_the_target_does_not_let_go_of_is_told_and_tried_again() {
    let mut rig = Rig::new("mirror = true");
    rig.fill(2, 10);
    rig.pass().await;
    rig.look(How { dry: true, ..How::default() }).await.expect("rehearsed");
    rig.source.0.lock().unwrap().remove(DAY_NS, "PKN");
    *rig.target.holds_on.lock().unwrap() = true;
    let pass = rig.pass().await;
    assert_eq!((pass.figures.removed, rig.kept(), rig.gone()), (0, 20, 1));
    assert!(pass.notes.iter().any(|note| note.contains("something needs it")), "{:?}", pass.notes);
    *rig.target.holds_on.lock().unwrap() = false;
    assert_eq!((rig.pass().await.figures.removed, rig.kept(), rig.gone()), (1, 19, 0));
}

#[tokio::test]
async fn verify_tells_what_is_gone_from_what_somebody_else_has_written() {
    let mut rig = Rig::new("");
    rig.fill(2, 10);
    rig.pass().await;
    // Without a word in the log, as rows go that are too old.
    rig.source.0.lock().unwrap().rows.remove(&(DAY_NS, "PKN".to_owned()));
    let copy = rig.target.kept.lock().unwrap().values().next().expect("one").clone();
    rig.target.kept.lock().unwrap().insert("somebodyelses00".into(), copy);
    let found = rig.verify(false).await;
    assert_eq!((found.gone, found.surplus, found.missing), (1, 1, 0));
    assert_eq!(rig.gone(), 1, "and a mirror would take it away");
}
