//! A deck that follows the tables beside its own work.

use tapedeck_testkit::kraken::FakeKraken;

use super::Rig;
use crate::deck::{blocking, source};
use crate::support::{Deck, free_address, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deck_follows_the_tables_and_nobody_else_does_meanwhile() {
    let venue = FakeKraken::builder().pairs(["BTC/USD", "ETH/USD"]).rate(20).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let http = free_address();
        let tables = format!("[sync.table.prices]\n{venue_table}[http]\nlisten = \"{http}\"\n");
        let Some(rig) = Rig::new(&tables) else { return };
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
        let text = until("the metrics", || {
            let text = crate::http::get(http.port(), "/metrics", "127.0.0.1", "");
            text.contains("tapedeck_sync_records{table=\"prices\",state=\"synced\"} 2").then_some(text)
        });
        for line in ["tapedeck_sync_sent_total{table=\"prices\"} 2", "tapedeck_sync_success_ratio{table=\"prices\"} 1"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.contains("tapedeck_sync_lag_seconds{table=\"prices\"} "), "{text}");
        let other = rig.try_sync(&["run"]);
        assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stderr));
        assert_eq!(rig.json(&["status"])["statistics"]["is_running"], true);
        deck.stop();
        rig.sync(&["run"]);
        rig.sync(&["verify"]);
    })
    .await;
}
