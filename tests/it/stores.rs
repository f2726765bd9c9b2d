//! The kill test over the whole deck: venue, tape, real servers. Deck and servers are killed in turn; in the end each store
//! holds what the tape says, which `tapedeck reconcile` finds out.
//!
//! `TAPEDECK_STORE_CYCLES` says how often, `TAPEDECK_KILL_SEED` repeats a run.

use std::time::Duration;

use rustix::process::Signal;
use tapedeck_testkit::kraken::FakeKraken;

use crate::deck::{blocking, source};
use crate::kill::{Dice, number, seed};
use crate::reconcile::{counts, reconcile};
use crate::servers::{Influx1, Postgres, Questdb, Server};
use crate::support::{Deck, until};

/// The deck is killed so long after its start, at most: it falls into start, recovery, open stores and delivery alike.
const LATEST_KILL: Duration = Duration::from_millis(2_500);
const SINKS: [&str; 3] = ["influx", "pg", "quest"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_holds_what_the_tape_says_however_deck_and_servers_are_killed() {
    let (Some(influx), Some(postgres), Some(quest)) = (Influx1::private(), Postgres::private(), Questdb::private())
    else {
        return;
    };
    let ci = std::env::var_os("TAPEDECK_REQUIRE_ALL").is_some();
    let cycles = number("TAPEDECK_STORE_CYCLES").unwrap_or(if ci { 25 } else { 6 });
    let seed = seed();
    eprintln!("kill test over stores: {cycles} cycles");
    let venue =
        FakeKraken::builder().pairs(["BTC/USD", "ETH/USD", "ETH/BTC"]).seed(seed).rate(500).start().await.unwrap();
    let venue_table = source(&venue);
    blocking(move || {
        let mut dice = Dice(seed);
        let home = tempfile::tempdir().unwrap();
        let database = postgres.fresh_database();
        let config = format!(
            "{venue_table}[candles]\nintervals = [\"1s\"]\n\
             [sink.influx]\nkind = \"influx\"\nbatch_wait = \"20ms\"\nurl = \"{}\"\ndatabase = \"{}\"\n\
             [sink.pg]\nkind = \"postgres\"\nbatch_wait = \"20ms\"\ndsn = \"{}\"\n\
             [sink.quest]\nkind = \"questdb\"\nbatch_wait = \"20ms\"\nurl = \"{}\"\n",
            influx.url(),
            influx.fresh_database(),
            database.dsn,
            quest.url()
        );
        let mut deck = Deck::start(home.path(), &config);
        let servers: [&Server; 3] = [&influx, &postgres, &quest];
        for cycle in 0..cycles {
            std::thread::sleep(LATEST_KILL.mul_f64(dice.fraction()));
            match dice.below(6) {
                one @ 0..3 => servers[one as usize].kill(),
                3 => servers.iter().for_each(|server| server.kill()),
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(200).mul_f64(dice.fraction()));
            deck.signal(Signal::KILL);
            deck.wait();
            for server in servers {
                if dice.below(4) > 0 || cycle % 5 == 4 {
                    server.restart();
                }
            }
            deck = Deck::start(home.path(), &config);
        }
        servers.iter().for_each(|server| server.restart());
        // A deck that is started sees at once which server is another one than before.
        deck.signal(Signal::KILL);
        deck.wait();
        deck = Deck::start(home.path(), &config);
        until("everything to be delivered", || {
            let status = deck.status();
            let done = |name: &&str| {
                let sink = status.services.iter().find(|service| service.name == *name)?;
                let left = sink.detail.get("lag_records")?.as_u64()? + sink.detail.get("backlog_records")?.as_u64()?;
                (sink.state == "running" && left < 1_000).then_some(())
            };
            SINKS.iter().all(|name| done(name).is_some()).then_some(())
        });
        deck.stop();
        for sink in SINKS {
            let (code, found) = reconcile(&home.path().join("tapedeck.toml"), sink, &[]);
            assert_eq!((code, counts(&found)), (0, [0; 4]), "{sink}, seed {seed}: {found}");
            assert_eq!((found["behind"].as_u64(), found["dead"].as_u64()), (Some(0), Some(0)), "{sink}: {found}");
            assert!(found["rows"].as_u64().unwrap() > 1_000, "{sink}: {found}");
        }
    })
    .await;
}
