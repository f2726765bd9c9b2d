//! Ends that must not wait: of a deck whose stage hangs, of a reader that nobody reads.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::Signal;
use tapedeck_testkit::kraken::FakeKraken;

use crate::deck::{SmallDisk, blocking, fill, source};
use crate::support::{Deck, tapedeck, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_process_at_once_while_a_stage_hangs() {
    let home = tempfile::tempdir().unwrap();
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(5_000).start().await.unwrap();
    let Some(small) = SmallDisk::mount(&home.path().join("small"), "size=24m") else { return };
    // The grace is longer than the test: only the second signal can end it.
    let config =
        format!("[deck]\ngrace = \"10m\"\n\n[tape]\nsegment = \"4 MiB\"\n\n[log]\ndir = \"off\"\n\n{}", source(&venue));
    let (path, home) = (small.0.clone(), home.path().to_owned());
    blocking(move || {
        // The tape alone lies on the small disk: config and log must have room.
        std::fs::create_dir(path.join("tape")).unwrap();
        std::os::unix::fs::symlink(path.join("tape"), home.join("tape")).unwrap();
        let deck = Deck::start(&home, &config);
        deck.until("a live source", |status| status.sources.first().is_some_and(|source| source.live == 7));
        fill(&path.join("filler"));
        deck.until("the full disk", |status| status.tape.full);
        deck.signal(Signal::TERM);
        until("the first signal to be heard", || deck.log().contains("stopping").then_some(()));
        deck.signal(Signal::TERM);
        let log = deck.dir.with_extension("log");
        let (status, _) = deck.wait();
        assert_eq!(status.code(), Some(130), "{status}\n{}", std::fs::read_to_string(log).unwrap_or_default());
    })
    .await;
}

#[test]
fn a_reader_ends_when_nobody_reads_it_although_nothing_comes() {
    let home = tempfile::tempdir().unwrap();
    let demo = tapedeck().args(["demo", "--plain", "--for", "1s", "--rate", "100", "-q"]).current_dir(&home).output();
    assert!(demo.unwrap().status.success());
    for args in [&["tail", "--dir", "demo"][..], &["gaps", "--follow", "--dir", "demo"]] {
        let mut reader = tapedeck().args(args).current_dir(&home).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
        if args[0] == "tail" {
            assert!(!lines.next().unwrap().unwrap().is_empty());
        }
        drop(lines);
        let status = until("the end of the reader", || reader.try_wait().unwrap());
        assert!(status.success(), "{args:?}: {status}");
    }
}
