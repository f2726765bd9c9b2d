//! Whatever happens to a table is followed, or told as the rules say.

use serde_json::json;

use super::Rig;
use crate::support::until;

const TABLE: &str = "[sync.table.prices]\nmirror = true\n";
const DAY_NS: u64 = 86_400_000_000_000;
/// 2026-01-02.
const BEGIN_NS: u64 = 1_767_312_000_000_000_000;

/// Ten symbols on each of five days.
fn rig(tables: &str) -> Option<Rig> {
    let rig = Rig::new(tables)?;
    rig.run(
        "CREATE TABLE prices (ts TIMESTAMP, symbol SYMBOL, price DOUBLE) TIMESTAMP(ts) PARTITION BY DAY WAL \
         DEDUP UPSERT KEYS(ts, symbol)",
    );
    let row = |n: u64| format!("prices,symbol=S{} price={n}.5 {}\n", n % 10, BEGIN_NS + n / 10 * DAY_NS);
    rig.write(&(0..50).map(row).collect::<String>());
    rig.sync(&["init"]);
    rig.sync(&["run", "--dry-run"]);
    rig.sync(&["run"]);
    rig.sync(&["verify"]);
    assert_eq!(rig.count("prices"), 50);
    Some(rig)
}

/// One look, after which both sides are the same: rows read, and sent.
#[track_caller]
fn look(rig: &Rig) -> (u64, u64) {
    let said = rig.json(&["run"]);
    let prices = &said["collections"]["prices"];
    rig.sync(&["verify"]);
    (prices["total"].as_u64().unwrap(), prices["sent"].as_u64().unwrap())
}

#[test]
fn late_rows_replaced_rows_and_updates_arrive_and_nothing_else_is_written() {
    let Some(rig) = rig(TABLE) else { return };
    rig.write(&format!("prices,symbol=LATE price=1.25 {}\n", BEGIN_NS - 30 * DAY_NS));
    assert_eq!(look(&rig), (1, 1), "only the dirty range is read");
    rig.write(&format!("prices,symbol=S1 price=99.25 {BEGIN_NS}\n"));
    assert_eq!(look(&rig).1, 1);
    rig.write(&format!("prices,symbol=S1 price=99.25 {BEGIN_NS}\n"));
    assert_eq!(look(&rig).1, 0, "the same again is no change");
    rig.run("UPDATE prices SET price = price + 1 WHERE symbol = 'S3'");
    assert_eq!(look(&rig), (51, 5));
}

#[test]
fn a_new_column_is_asked_for_and_then_filled() {
    let Some(rig) = rig(TABLE) else { return };
    rig.run("ALTER TABLE prices ADD COLUMN venue VARCHAR");
    rig.write(&format!("prices,symbol=S1 price=7.0,venue=\"GPW\" {BEGIN_NS}\n"));
    let refused = rig.try_sync(&["run"]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && said.contains("venue") && said.contains("tapedeck sync init"), "{said}");
    rig.sync(&["init"]);
    assert_eq!(look(&rig).1, 50, "each document has a field more");
    assert_eq!(rig.records("prices", "venue='GPW'").len(), 1);
}

#[test]
fn what_is_taken_away_there_is_taken_away_here_only_where_a_mirror_was_asked_for() {
    let Some(rig) = rig(TABLE) else { return };
    rig.run("ALTER TABLE prices DROP PARTITION LIST '2026-01-02'");
    let said = rig.json(&["run"]);
    assert_eq!(said["collections"]["prices"]["taken_away"], 10, "{said}");
    assert_eq!(rig.count("prices"), 40);
    rig.sync(&["verify"]);

    rig.configure("[sync.table.prices]\n");
    rig.run("TRUNCATE TABLE prices");
    let said = rig.json(&["run"]);
    assert_eq!(said["collections"]["prices"]["gone"], 40, "{said}");
    assert_eq!(rig.count("prices"), 40, "kept");
    let differs = rig.try_sync(&["verify", "--json"]);
    assert!(differs.status.success(), "what is kept by the rules is no difference");
    let found: serde_json::Value = serde_json::from_slice(&differs.stdout).unwrap();
    assert_eq!((&found["tables"][0]["surplus"], &found["tables"][0]["gone"]), (&0.into(), &40.into()));
    assert_eq!(rig.json(&["status"])["tables"][0]["gone"], 40);
}

/// QuestDB lets its oldest days go by itself, and writes nothing of it into the log that is followed.
#[test]
fn what_is_too_old_for_the_source_is_gone_there_and_here_as_the_rules_say() {
    let Some(rig) = rig(TABLE) else { return };
    rig.run("ALTER TABLE prices SET TTL 2 DAYS");
    // Newer by a week than anything: all before it is too old now.
    rig.write(&format!("prices,symbol=NEW price=1.5 {}\n", BEGIN_NS + 12 * DAY_NS));
    until("the old days to be gone there", || (rig.rows("prices") == 1).then_some(()));
    let said = rig.json(&["run"]);
    assert_eq!(said["collections"]["prices"]["taken_away"], 50, "{said}");
    assert_eq!(rig.count("prices"), 1);
    rig.sync(&["verify"]);

    // Without a mirror they stay, and are told apart.
    rig.configure("[sync.table.prices]\n");
    rig.write(&format!("prices,symbol=NEWER price=1.5 {}\n", BEGIN_NS + 24 * DAY_NS));
    until("the old day to be gone there", || (rig.rows("prices") == 1).then_some(()));
    let said = rig.json(&["run"]);
    assert_eq!(
        (&said["collections"]["prices"]["gone"], &said["collections"]["prices"]["sent"]),
        (&1.into(), &1.into()),
        "{said}"
    );
    assert_eq!(rig.count("prices"), 2);
    rig.sync(&["verify"]);
}

#[test]
fn verify_finds_what_somebody_changed_at_the_target_and_repairs_it() {
    let Some(rig) = rig(TABLE) else { return };
    let records = rig.records("prices", "symbol='S1'");
    let path = |n: usize| format!("/api/collections/prices/records/{}", records[n]["id"].as_str().unwrap());
    rig.pocket.call("PATCH", &path(0), &json!({"price": 0}));
    rig.pocket.call("DELETE", &path(1), &json!(null));
    let output = rig.try_sync(&["verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("different in price") && said.contains("missing") && said.contains("symbol=\"S1\""),
        "{said}"
    );
    rig.sync(&["verify", "--repair"]);
    rig.sync(&["verify"]);
    assert_eq!(rig.count("prices"), 50);
}

/// One document a symbol, whatever the day: its row of today is as good as the one that was too old.
#[test]
fn what_is_too_old_is_not_gone_where_a_later_row_has_the_same_key() {
    let tables = "[sync.table.prices]\nmirror = true\nkey = [\"symbol\"]\ncolumns = { symbol = \"symbol\", price = \"price\" }\n";
    let Some(rig) = Rig::new(tables) else { return };
    rig.run("CREATE TABLE prices (ts TIMESTAMP, symbol SYMBOL, price DOUBLE) TIMESTAMP(ts) PARTITION BY DAY TTL 2 DAYS WAL DEDUP UPSERT KEYS(ts, symbol)");
    let row =
        |day: u64, price: &str| rig.write(&format!("prices,symbol=S price={price} {}\n", BEGIN_NS + day * DAY_NS));
    row(0, "5.0");
    rig.sync(&["init"]);
    rig.sync(&["run", "--dry-run"]);
    rig.sync(&["run"]);
    row(1, "5.0");
    rig.sync(&["run"]);
    rig.write(&format!("prices,symbol=T price=1.5 {}\n", BEGIN_NS + 3 * DAY_NS));
    until("the first day to be gone there", || (rig.rows("prices") == 2).then_some(()));
    let said = rig.json(&["run"]);
    assert_eq!(said["collections"]["prices"]["taken_away"], 0, "{said}");
    assert_eq!(rig.count("prices"), 2);
}
