//! A deck that follows the tables beside its own work.

use tapedeck_testkit::kraken::FakeKraken;

use super::Rig;
use crate::deck::{blocking, source};
use crate::support::{Deck, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_follows_the_tables_and_nobody_else_does_meanwhile() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(20).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let Some(rig) = Rig::new(&format!("[sync.table.prices]\n{venue_table}")) else { return };
        rig.run(
            "CREATE TABLE prices (ts TIMESTAMP, symbol SYMBOL, price DOUBLE) TIMESTAMP(ts) PARTITION BY DAY WAL \
             DEDUP UPSERT KEYS(ts, symbol)",
        );
        rig.sync(&["init"]);
        rig.write("prices,symbol=A price=1.5 1767312000000000000\n");
        let deck = Deck::run(&rig.config(), &rig.home.path().join("tape"), &[]);
        until("the first row", || (rig.count("prices") == 1).then_some(()));
        rig.write("prices,symbol=B price=2.5 1767312000000000000\n");
        until("the second row", || (rig.count("prices") == 2).then_some(()));
        let status = deck.until("its figures", |status| {
            status.services.iter().any(|one| one.name == "sync" && one.detail.get("synced") == Some(&2.into()))
        });
        assert!(status.services.iter().any(|one| one.name == "sync" && one.state == "running"), "{status:?}");
        let other = rig.try_sync(&["run"]);
        assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stderr));
        assert_eq!(rig.json(&["status"])["statistics"]["is_running"], true);
        deck.stop();
        rig.sync(&["run"]);
        rig.sync(&["verify"]);
    })
    .await;
}
