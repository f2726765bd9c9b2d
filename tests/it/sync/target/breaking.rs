//! The server is killed while it is written to.

use std::collections::BTreeSet;
use std::time::Duration;

use tapedeck::sync::writer::Fate;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn over_kills_nothing_confirmed_is_lost_and_nothing_is_there_twice() {
    let Some(server) = server().map(Arc::new) else { return };
    let client = client(&server);
    let name = made(&client).await;
    let changes = puts(0..12_000);
    let mut confirmed: BTreeSet<usize> = BTreeSet::new();
    let mut broken_off = 0;
    for kill in 0..8_u64 {
        let open: Vec<usize> = (0..changes.len()).filter(|n| !confirmed.contains(n)).collect();
        let chunk: Vec<Change> = open.iter().map(|n| changes[*n].clone()).collect();
        // At another place of a batch each time.
        let wait = Duration::from_millis(60 + 37 * kill);
        let killed = Arc::clone(&server);
        let killing = tokio::task::spawn_blocking(move || {
            std::thread::sleep(wait);
            killed.kill();
        });
        let written = match write(&client, &name, &chunk).await {
            Ok(written) => written,
            Err(broken) => {
                assert!(broken.trouble.class == Class::Connection && broken.trouble.passes(), "{broken:?}");
                broken_off += 1;
                broken.written
            }
        };
        killing.await.unwrap();
        tokio::task::block_in_place(|| server.restart());
        let done = open.iter().zip(&written.fates).filter(|(_, fate)| **fate == Fate::Confirmed);
        confirmed.extend(done.map(|(n, _)| *n));
        let there = there(&client, &name).await;
        for n in &confirmed {
            assert!(there.contains_key(changes[*n].id().as_str()), "{n} was confirmed, and is gone after kill {kill}");
        }
        // Of the batch in flight all is there, or nothing.
        assert!((there.len() - confirmed.len()).is_multiple_of(200), "{} of {}", there.len(), confirmed.len());
    }
    assert!(broken_off >= 4, "only {broken_off} of the kills came in the middle");
    assert_eq!(write(&client, &name, &changes).await.unwrap().confirmed(), changes.len());
    let all = there(&client, &name).await;
    assert_eq!(all.len(), changes.len());
    for n in 0..changes.len() {
        assert_eq!(all[document(n).id.as_str()], document(n).body);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_is_made_good_by_the_next_one() {
    let Some(server) = server() else { return };
    let client = client(&server);
    let name = made(&client).await;
    let changes = puts(0..3_000);
    let mut writer = Writer::new(Arc::clone(&client));
    let dropped = tokio::time::timeout(Duration::from_millis(150), writer.write(&name, &changes)).await;
    assert!(dropped.is_err(), "it was done within 150 ms");
    assert_eq!(writer.write(&name, &changes).await.unwrap().confirmed(), 3_000);
    assert_eq!(there(&client, &name).await.len(), 3_000);
}
