//! Sync, source and target are killed at random while rows come, are replaced and corrected; in the end both sides say the same.
//!
//! `TAPEDECK_SYNC_CYCLES` says how often, `TAPEDECK_KILL_SEED` repeats a run.

use std::process::Stdio;
use std::time::Duration;

use super::Rig;
use crate::kill::{Dice, number, seed};
use crate::support::until;

const TABLE: &str = "[sync.table.ticks]\nrules = [{ positive = [\"price\"] }]\n";
const BEGIN_NS: u64 = 1_767_312_000_000_000_000;
const STEP_NS: u64 = 60_000_000_000;
const LATEST_KILL: Duration = Duration::from_millis(1_500);

#[test]
fn both_sides_are_the_same_however_sync_and_servers_are_killed() {
    let Some(rig) = Rig::new(TABLE) else { return };
    let ci = std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some();
    let cycles = number("TAPEDECK_SYNC_CYCLES").unwrap_or(if ci { 20 } else { 5 });
    let seed = seed();
    eprintln!("kill test of the sync: {cycles} cycles");
    let mut dice = Dice(seed);
    rig.run(
        "CREATE TABLE ticks (ts TIMESTAMP, symbol SYMBOL, price DOUBLE) TIMESTAMP(ts) PARTITION BY DAY WAL \
         DEDUP UPSERT KEYS(ts, symbol)",
    );
    rig.sync(&["init"]);
    let (mut newest, mut bad) = (0, 0);
    for cycle in 0..cycles {
        let mut lines = String::new();
        for _ in 0..300 {
            newest += 1;
            let n = if dice.below(5) == 0 { dice.below(newest) } else { newest };
            let price = 1 + dice.below(900);
            lines.push_str(&format!("ticks,symbol=S{} price={price}.25 {}\n", n % 4, BEGIN_NS + n * STEP_NS));
        }
        // Of a symbol of its own, so that nothing good takes its place.
        for _ in 0..dice.below(3) {
            bad += 1;
            lines.push_str(&format!("ticks,symbol=BAD price=-1 {}\n", BEGIN_NS + bad * STEP_NS));
        }
        rig.write(&lines);
        if cycle % 5 == 4 {
            rig.run(&format!("UPDATE ticks SET price = price + 1 WHERE symbol = 'S{}'", dice.below(4)));
        }
        let mut sync = rig.command(&["watch"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(LATEST_KILL.mul_f64(dice.fraction()));
        let killed = dice.below(5);
        if matches!(killed, 0 | 2) {
            rig.quest.kill();
        }
        if matches!(killed, 1 | 2) {
            rig.pocket.kill();
        }
        std::thread::sleep(Duration::from_millis(300).mul_f64(dice.fraction()));
        sync.kill().unwrap();
        sync.wait().unwrap();
        if matches!(killed, 0 | 2) {
            rig.quest.restart();
        }
        if matches!(killed, 1 | 2) {
            rig.pocket.restart();
        }
    }
    until("a run that ends well", || rig.try_sync(&["run"]).status.success().then_some(()));
    let found = rig.json(&["verify"]);
    assert_eq!(found["same"], true, "{found}");
    assert_eq!(found["tables"][0]["refused"], bad, "{found}");
    let dead = rig.sync(&["dead", "--json", "--limit", "100000"]);
    assert_eq!(dead.lines().count() as u64, bad, "no dead letters but the bad ones");
}
