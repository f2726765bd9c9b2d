//! A server whose disk is full, or may not be written to.

use super::*;
use crate::disk::{ReadOnly, SmallDisk};

const DAY_NS: i64 = 86_400_000_000_000;

/// Points of a day, with texts that do not shrink.
fn large(day: i64, count: i64) -> String {
    let text = |n: i64| {
        let mut state = n.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        });
        words.take(64).collect::<String>()
    };
    let at = 1_700_000_000_000_000_000 + day * DAY_NS;
    (0..count).map(|n| format!("m,host=a v={n},text=\"{}\" {}\n", text(day * 10_000 + n), at + n)).collect()
}

fn count(server: &Influx1) -> Option<i64> {
    server.query("disk", "SELECT COUNT(v) FROM m")["series"][0]["values"][0][1].as_i64()
}

#[test]
fn a_full_disk_is_told_plainly_and_passes_by_itself() {
    let Some(disk) = SmallDisk::new("64m") else { return };
    let options = Options { dir: Some(disk.path()), ..Options::default() };
    let Some(server) = Influx1::private_with(&options) else { return };
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"disk\"", server.url()));
    let deck = desk.start();
    desk.post(&large(0, 1_000));
    until("the first points", || (count(&server)? == 1_000).then_some(()));
    let filler = disk.fill();
    let mut day = 0;
    let told = until("the full disk to be told", || {
        day += 1;
        desk.post(&large(day, 1_000));
        Some(state(&deck)).filter(|state| state.starts_with("unavailable: "))
    });
    assert!(told.contains("no space left on device"), "{told}");
    assert_eq!(deck.status().sources[0].state, "live", "the recording goes on");
    drop(filler);
    disk.resize("256m");
    // This one's log stays closed after a write that failed, until it is started anew; the deck is not.
    server.restart();
    let all = (day + 1) * 1_000;
    deck.until("end of it", |_| is_done(&deck));
    assert_eq!(detail(&deck, "dead_letters"), 0, "{}", deck.log());
    assert_eq!(count(&server), Some(all), "{}\n{}", deck.log(), server.log());
    deck.stop();
    // The disk goes with the test.
    drop(server);
}

#[test]
fn a_data_folder_that_may_not_be_written_to_is_told_plainly_and_passes_by_itself() {
    let Some(server) = Influx1::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"\ndatabase = \"disk\"", server.url()));
    let deck = desk.start();
    desk.post(&large(0, 100));
    // Which makes the database.
    until("the store to be open", || (state(&deck) == "running").then_some(()));
    until("the first points", || (count(&server)? == 100).then_some(()));
    let Some(read_only) = ReadOnly::of(server.folder()) else { return };
    // Of another week: a shard of their own, which cannot be made.
    desk.post(&large(30, 100));
    let told = until("it to be told", || Some(state(&deck)).filter(|state| state.starts_with("unavailable: ")));
    assert!(told.contains("read-only file system"), "{told}");
    assert_eq!(deck.status().sources[0].state, "live", "the recording goes on");
    drop(read_only);
    until("all points", || (count(&server)? == 200).then_some(()));
    until("all to be well", || is_done(&deck).then_some(()));
    assert_eq!(detail(&deck, "dead_letters"), 0, "{}", deck.log());
    deck.stop();
}
