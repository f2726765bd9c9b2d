//! A server whose disk is full, or that may not be written to.

use super::*;
use crate::disk::SmallDisk;
use crate::servers::Options;

#[test]
fn a_full_disk_is_told_plainly_and_passes_by_itself() {
    let Some(disk) = SmallDisk::new("1g") else { return };
    let options = Options { dir: Some(disk.path()), ..Options::default() };
    let Some(server) = Questdb::private_with(&options) else { return };
    let desk = Desk::new(&format!("url = \"{}\"\nresume = true", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 1_000));
    deck.until("first points", |_| value(&server, "SELECT count() FROM m") == 1_000);
    let filler = disk.fill();
    let mut next = 1_000;
    let told = until("the full disk to be told", || {
        desk.post(&lines("m", next, 1_000));
        next += 1_000;
        Some(state(&deck)).filter(|state| state != "running")
    });
    let plain = ["No space left", "no space", "DISK FULL", "could not allocate", "errno=28", "[28]"];
    assert!(plain.iter().any(|words| told.contains(words)), "{told}");
    assert_eq!(deck.status().sources[0].state, "live", "the recording goes on");
    drop(filler);
    deck.until("all points", |_| value(&server, "SELECT count() FROM m") == next);
    until("all to be well", || (state(&deck) == "running" && detail(&deck, "lag_records") == 0).then_some(()));
    assert_eq!(detail(&deck, "dead_letters"), 0, "{}", deck.log());
    deck.stop();
    // The disk goes with the test.
    drop(server);
}

#[test]
fn a_server_that_is_read_only_is_told_plainly_and_passes_by_itself() {
    let Some(server) = Questdb::private() else { return };
    let desk = Desk::new(&format!("url = \"{}\"", server.url()));
    let deck = desk.start();
    desk.post(&lines("m", 0, 10));
    until("the first points", || (value(&server, "SELECT count() FROM m") == 10).then_some(()));
    let conf = server.folder().join("conf/server.conf");
    let before = std::fs::read_to_string(&conf).unwrap_or_default();
    std::fs::write(&conf, format!("{before}\nreadonly=true\n")).unwrap();
    server.restart();
    desk.post(&lines("m", 10, 10));
    deck.until("word of it", |_| state(&deck).contains("421 Misdirected Request: this instance cannot receive writes"));
    let told = state(&deck);
    assert_eq!(deck.status().sources[0].state, "live", "the recording goes on: {told}");
    std::fs::write(&conf, before).unwrap();
    server.restart();
    until("all points", || (value(&server, "SELECT count() FROM m") == 20).then_some(()));
    until("all to be well", || (state(&deck) == "running").then_some(()));
    assert_eq!(detail(&deck, "dead_letters"), 0, "{told}: {}", deck.log());
    deck.stop();
}
